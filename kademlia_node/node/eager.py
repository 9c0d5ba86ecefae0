"""Doing at once what need not wait, and the rest in a task: most answers are at hand.

A task costs more than to look into a table of memory, and each answer that is at hand would have
one. (Python 3.12 has eager tasks; this is the little of them that we need, in all versions.)
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def begin(work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T] | None:
    """Run a coroutine up to the first thing it waits for.

    Until then it runs in whatever task runs now, so it must not ask which that is, as
    `asyncio.timeout` does.

    Returns:
        What is left of it, for a task to run; None if it has ended.

    Raises:
        Exception: what it raised until then.
    """
    try:
        awaited = work.send(None)
    except StopIteration:
        return None
    return _finish(work, awaited)


async def _finish(work: Coroutine[Any, Any, T], awaited: Any) -> T:
    return await _rest(work, awaited)


@coroutine
def _rest(work: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """Hand on what it waits for, and back what comes of that, as `yield from` would."""
    try:
        while True:
            try:
                came = yield awaited
            except BaseException as error:  # noqa: BLE001 - a task that is cancelled, too
                awaited = work.throw(error)
            else:
                awaited = work.send(came)
    except StopIteration as ended:
        result: T = ended.value
        return result
