"""Fetching: where a result is put. Its name comes from others, so little of it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

NAME_BYTES_MAX: Final = 180  # leaves room for what is appended while it is not whole
FORBIDDEN: Final = frozenset('/\\:*?"<>|')
NAMELESS: Final = "download"


def safe_name(path: str) -> str:
    """A file name made of the last part of a path: nothing hidden, no separator, no control."""
    last = path.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c if c.isprintable() and c not in FORBIDDEN else "_" for c in last)
    kept = kept.strip(" .")
    stem, dot, ending = kept.rpartition(".")
    ending = dot + ending if 0 < len(ending.encode()) <= 16 and stem else ""
    stem = kept.removesuffix(ending) if ending else kept
    room = NAME_BYTES_MAX - len(ending.encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + ending or NAMELESS


def target_of(name: str, output: Path | None) -> tuple[Path, bool]:
    """Where a result goes, and whether it may replace what is there: only what the user named."""
    if output is not None and not output.is_dir():
        return output, True
    return (output or Path()) / safe_name(name), False
