"""Secrets in files: whose they are, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from kademlia_node import SetupError, read_secret
from kademlia_node.secret import parse_secret, read_private


def a_file(folder: Path, *, text: str = "5e" * 32, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def test_a_secret_is_read_from_the_file_of_its_owner(tmp_path: Path) -> None:
    assert read_secret(a_file(tmp_path, text="5E" * 32 + "\n")) == b"\x5e" * 32


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("5e" * 32, 0o640, "chmod 600"),
        ("5e" * 32, 0o604, "chmod 600"),
        ("5e" * 31, 0o600, "64 hexadecimal digits"),
        ("no" * 32, 0o600, "64 hexadecimal digits"),
        ("\u00fc" * 64, 0o600, "64 hexadecimal digits"),
    ],
)
def test_what_is_no_secret_is_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    with pytest.raises(SetupError, match=said) as refused:
        read_secret(a_file(tmp_path, text=text, mode=mode))
    assert text not in str(refused.value)


def test_a_file_that_is_not_there_is_no_secret_but_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="openssl rand -hex 32"):
        read_secret(tmp_path / "none")
    assert read_private(tmp_path / "none") is None
    with pytest.raises(SetupError, match="cannot read"):
        read_private(tmp_path)


def test_a_secret_is_64_hexadecimal_digits() -> None:
    assert parse_secret("0a" * 32) == b"\x0a" * 32
    for text in ("", "0a" * 31, "0a" * 33, "0g" * 32, "0a " * 32, "\uff10" * 64):
        with pytest.raises(ValueError, match="64 hexadecimal digits") as refused:
            parse_secret(text)
        assert not text or text not in str(refused.value)
