"""The end of a daemon: nothing new is begun, and what is under way has a while to finish.

One `Drain` for all the sockets of a daemon. Refuses to know why it ends. It is driven by `serving`
around each request, by `begin` when no more are to come, and by `finish`, which waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Drain:
    """Counts the requests under way.

    Attributes:
        begun: Whether new ones are refused.
    """

    def __init__(self) -> None:
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._left = asyncio.Event()
        self.begun = False

    @contextmanager
    def serving(self) -> Iterator[None]:
        """A request is under way for the length of the block."""
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def begin(self) -> None:
        """From now on new requests are to be refused."""
        self.begun = True

    async def finish(self, *, within_s: float) -> None:
        """Begin, and wait until nothing is under way, or for so many seconds."""
        self.begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()

    def on_left(self) -> None:
        """The node has left the network: the daemon has nothing more to do."""
        self._left.set()

    async def left_within(self, seconds: float) -> bool:
        """Wait for that, for so many seconds at most; whether it has come to it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._left.wait()
        return self._left.is_set()
