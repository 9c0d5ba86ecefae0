"""Settings that cannot work are refused when they are made."""

import pytest

from kademlia_node.settings import EXPIRY_DEFAULT_S, Settings


@pytest.mark.parametrize(
    "wrong",
    [{"renew_after_s": float(EXPIRY_DEFAULT_S)}, {"k": 0}, {"paths": 0}, {"reads": 0}],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"renew_after_s|at least 1"):
        Settings(**wrong)  # type: ignore[arg-type]
