"""Which event loop runs the node: uvloop where it is installed, else asyncio's own.

Refuses to know what runs on it. The entry points (daemon, verbs, examples) call `run` once; a
program that embeds a node brings its own loop, and simulations use `sim.clock`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop
except ImportError:  # not on Windows, and no necessity anywhere
    from asyncio import new_event_loop

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a fresh loop and return its result, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
