"""Secrets in files: for the eyes of their owner alone. That of a private network has 64 hex digits.

    network = Network.private(read_secret(Path("secret")))

Made by `openssl rand -hex 32`, under a umask of 077. What a message says never repeats a secret.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from kademlia_node.errors import SetupError

FILE_BYTES_MAX: Final = 4096  # of a key, a secret or a token: each is one short line
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: Path) -> bytes:
    """The 32 bytes that make a member of a private network.

    Raises:
        SetupError: there is no such file, it cannot be read, others can read it, or it holds
            something else.
    """
    text = read_private(path)
    if text is None:
        raise SetupError(f"no {path}: make one with  (umask 077; openssl rand -hex 32 > {path})")
    try:
        return parse_secret(text.strip())
    except ValueError as error:
        raise SetupError(f"the secret in {path} cannot be used: {error}") from None


def read_private(path: Path) -> str | None:
    """The text of a file that nobody but its owner may read; None if there is none.

    Raises:
        SetupError: it cannot be read, or others can read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(FILE_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from error
    if mode & OTHERS:
        raise SetupError(f"{path} is open to others: close it with  chmod 600 {path}")
    return content.decode("ascii", "replace")


def parse_secret(text: str) -> bytes:
    """32 bytes from 64 hexadecimal digits; raises ValueError, which does not repeat the text."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise ValueError("64 hexadecimal digits are expected")
    return bytes.fromhex(text)
