from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cli.commands import Two
from tests.daemon.running import daemon, through


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with (
        daemon(tmp_path / "a") as a,
        daemon(tmp_path / "b", bootstrap=through(a)) as b,
    ):
        yield Two(tmp_path, [a, b])


@pytest.fixture(params=["daemon", "bootstrap"])
def way(request: pytest.FixtureRequest, two: Two, tmp_path: Path) -> tuple[str, ...]:
    """Both ways to a node: through the daemon b, or by joining through the daemon a."""
    if request.param == "daemon":
        return two.b
    return ("--bootstrap", two.address, "--folder", str(tmp_path / "own"))
