"""Errors that a node logs instead of raising, caught while a simulation runs.

What a disk that was told to fail brings about is expected, and left out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from kademlia_node.errors import SetupError

LOGGERS: Final = ("kademlia_node", "asyncio")  # the loop logs what a callback has raised


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
    handler, logs = _Errors(), [logging.getLogger(name) for name in LOGGERS]
    before = [log.propagate for log in logs]
    for log in logs:
        log.propagate = False
        log.addHandler(handler)
    try:
        yield handler.lines
    finally:
        for log, propagate in zip(logs, before, strict=True):
            log.removeHandler(handler)
            log.propagate = propagate
