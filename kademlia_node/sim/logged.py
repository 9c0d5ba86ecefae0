"""Errors that a node logs instead of raising, caught while a simulation runs.

What a disk that was told to fail brings about is expected, and left out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kademlia_node.errors import SetupError


class _Errors(logging.Handler):
    """Keeps a line for each."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not _is_expected(error):
            self.lines.append(f"{record.getMessage()}: {error!r}")


def _is_expected(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_expected, error.exceptions))
    return isinstance(error, SetupError)


@contextmanager
def no_errors_logged() -> Iterator[Sequence[str]]:
    """Collect the errors logged within the block; nothing of what nodes log is shown meanwhile."""
    handler, log = _Errors(), logging.getLogger("kademlia_node")
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield handler.lines
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
