"""What the example of a private network tells people to type, typed; and what it refuses."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from examples import private_network
from tests.sessions import typed

ROOT = Path(__file__).parents[2]


@pytest.mark.net
def test_the_commands_of_the_example_run_and_a_stranger_is_not_let_in(tmp_path: Path) -> None:
    assert private_network.__doc__ is not None
    blocks = re.findall(r"^(?:    .*\n|\n)+", private_network.__doc__, re.MULTILINE)
    session = "\n".join(textwrap.dedent(block) for block in blocks)
    assert "private_network.py get" in session
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    stdout, stderr = typed(session, at=tmp_path, within_s=90, PYTHONPATH=str(ROOT))
    stored, *answers = stdout.splitlines()
    assert "2" in stored
    assert answers == ["blue", "exit code 1", "exit code 1"]
    missed, stranger = stderr.splitlines()
    assert "size" in missed
    assert "does not answer" in stranger


@pytest.mark.parametrize(
    ("secret", "invite", "said"),
    [
        (None, "127.0.0.1:1", "openssl rand -hex 32"),
        ("no digits", "127.0.0.1:1", "hexadecimal"),
        ("00" * 31, "127.0.0.1:1", "64 hexadecimal digits"),
        ("00" * 32, "nowhere", "HOST:PORT"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    tmp_path: Path, secret: str | None, invite: str, said: str
) -> None:
    file = tmp_path / "secret"
    if secret is not None:
        file.write_text(secret)
        file.chmod(0o600)
    for words in (["get", invite, "n"], ["set", invite, "n", "v"], ["serve", "--join", invite]):
        ended = CliRunner().invoke(private_network.main, [*words, "--secret-file", str(file)])
        assert isinstance(ended.exception, SystemExit)
        assert said in ended.stderr
        assert ended.stdout == ""
