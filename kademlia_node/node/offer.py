"""An offer: one long value that storers were told of, and now fetch from us by CHUNK.

A storer does not say when it has everything, so it is asked again by the same STORE: at once when
it has fetched every chunk, or when it has fetched nothing for a while. This knows neither the STORE
nor what is answered to it: it tells when the time has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.node.contents import Contents
from kademlia_node.settings import CHUNK_BYTES

LOOKS_MAX: Final = 20  # silences long in which it may fetch before it is asked all the same
FETCHERS_MAX: Final = 128  # anybody may fetch; this is more than a put asks


@dataclass(slots=True, eq=False)
class _Fetcher:
    """One storer: the chunks it has not fetched yet, and whom to tell when it is time to ask."""

    missing: set[int]
    heard: bool = False  # since the timer was set
    looks: int = 0
    told: Callable[[], None] | None = None
    left_before: int = 0  # how many were missing when it last said that it needs the value
    timer: asyncio.TimerHandle | None = None


class Offer:
    """Ready until `close`. One to two `silence_s` without a chunk, and it is time to ask, too."""

    def __init__(
        self,
        contents: Contents,
        value_hash: bytes,
        value: bytes,
        *,
        silence_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._contents = contents
        self._value_hash = value_hash
        self._count = -(-len(value) // CHUNK_BYTES)
        self._silence_s = silence_s
        self._loop = loop
        self._fetchers: dict[Contact, _Fetcher] = {}
        contents.offer(value_hash, value, on_chunk=self._on_chunk)

    def close(self) -> None:
        """Nobody is to fetch it from us any more."""
        self._contents.withdraw(self._value_hash, on_chunk=self._on_chunk)
        for fetcher in self._fetchers.values():
            if fetcher.timer is not None:
                fetcher.timer.cancel()

    def expect(self, storer: Contact, told: Callable[[], None], *, soon_s: float) -> None:
        """This storer said that it needs the value; `told` is called when to ask it again.

        Where it has fetched everything, some chunks were lost on their way: then after `soon_s`.
        """
        fetcher = self._fetchers.get(storer)
        if fetcher is None:
            fetcher = self._fetchers[storer] = _Fetcher(set(range(self._count)))
        fetcher.heard, fetcher.told, fetcher.left_before = False, told, len(fetcher.missing)
        self._wait(fetcher, self._silence_s if fetcher.missing else soon_s)

    def has_got_on(self, storer: Contact) -> bool:
        """Whether it has fetched anything since it last said that it needs the value, or all."""
        fetcher = self._fetchers[storer]
        return len(fetcher.missing) < fetcher.left_before or not fetcher.missing

    def _on_chunk(self, asker: Contact, index: int) -> None:
        fetcher = self._fetchers.get(asker)
        if fetcher is None:  # its NEED was lost, or comes later than its first CHUNK
            if len(self._fetchers) >= FETCHERS_MAX:
                return
            fetcher = self._fetchers[asker] = _Fetcher(set(range(self._count)))
        if index in fetcher.missing:  # who fetches the same again and again does not get on
            fetcher.heard = True
            fetcher.missing.discard(index)
        if not fetcher.missing and fetcher.told:
            self._loop.call_soon(self._tell, fetcher)  # behind the chunk that is being answered

    def _wait(self, fetcher: _Fetcher, pause_s: float) -> None:
        if fetcher.timer is not None:
            fetcher.timer.cancel()
        fetcher.timer = self._loop.call_later(pause_s, self._look, fetcher)

    def _look(self, fetcher: _Fetcher) -> None:
        heard, fetcher.heard = fetcher.heard, False
        fetcher.looks += 1
        if heard and fetcher.missing and fetcher.looks < LOOKS_MAX:
            self._wait(fetcher, self._silence_s)
        else:
            self._tell(fetcher)

    def _tell(self, fetcher: _Fetcher) -> None:
        told, fetcher.told = fetcher.told, None
        if fetcher.timer is not None:
            fetcher.timer.cancel()
            fetcher.timer = None
        if told is not None:
            told()
