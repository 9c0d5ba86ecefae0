"""What peers may fetch from us by its hash, chunk by chunk, and where it comes from.

Four sources, asked in this order: the values that we are just offering to storers, long values in
our store, pages of topics (`snapshots`), and a `ContentSource` that the program around the node may
have given it. What was fetched a moment ago is kept at hand in blocks of 64 KiB, so that the next
chunk of it costs no look anywhere; but not for long, since what is withdrawn or expired is to go.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from kademlia_node.core.contact import Contact
from kademlia_node.core.message import Chunk, Chunked
from kademlia_node.settings import CHUNK_BYTES, VALUE_BYTES_MAX

BLOCK_BYTES: Final = VALUE_BYTES_MAX
CHUNKS_PER_BLOCK: Final = BLOCK_BYTES // CHUNK_BYTES
OnChunk = Callable[[Contact, int], None]
"""Told who fetches which chunk of an offered value."""
Load = Callable[[bytes, int], Awaitable[bytes | None]]
"""(content hash, offset) -> the block at this offset, if there is one."""


class ContentSource(Protocol):
    """Content that a node serves but does not store, such as the files that a program shares."""

    async def read(self, content: bytes, offset: int, length: int) -> bytes | None:
        """Bytes of a content; fewer than `length`, or none, at its end.

        Args:
            content: SHA-256 of the whole.
            offset: of the first byte, a multiple of 65,536.
            length: how many at most: 65,536.

        Returns:
            None if this source does not have the content.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Block:
    """At most 64 KiB of a content, and since when they are at hand (seconds of the loop)."""

    content: bytes
    since: float


class Contents:
    """All contents of one node.

    Args:
        cache_bytes: how much is kept at hand.
        age_s: for how long.
    """

    def __init__(self, cache_bytes: int, *, age_s: float) -> None:
        self._cache_bytes = cache_bytes
        self._age_s = age_s
        self._clock = asyncio.get_running_loop().time
        self._loaders: list[Load] = []
        self._blocks: OrderedDict[tuple[bytes, int], _Block] = OrderedDict()
        self._held_bytes = 0
        self._loading: dict[tuple[bytes, int], asyncio.Future[bytes]] = {}
        self._offers: dict[bytes, tuple[bytes, list[OnChunk]]] = {}

    def load_from(self, *loaders: Load) -> None:
        """Have these asked, in this order, after those that were named before."""
        self._loaders += loaders

    # --- Filling ----------------------------------------------------------------------------------

    def offer(self, value_hash: bytes, value: bytes, *, on_chunk: OnChunk) -> None:
        """Have a value ready until `withdraw`, and tell who fetches what of it."""
        self._offers.setdefault(value_hash, (value, []))[1].append(on_chunk)

    def withdraw(self, value_hash: bytes, *, on_chunk: OnChunk) -> None:
        """This offer is over; another one of the same value may go on."""
        listeners = self._offers[value_hash][1]
        listeners.remove(on_chunk)
        if not listeners:
            del self._offers[value_hash]

    def keep(self, content: bytes) -> bytes:
        """Keep a content of at most 64 KiB at hand for a while; returns its hash."""
        assert len(content) <= BLOCK_BYTES
        content_hash = hashlib.sha256(content).digest()
        self._keep_block((content_hash, 0), content)
        return content_hash

    def _keep_block(self, place: tuple[bytes, int], block: bytes) -> None:
        self._forget(place)
        self._blocks[place] = _Block(block, self._clock())
        self._held_bytes += len(block)
        while self._held_bytes > self._cache_bytes:
            self._forget(next(iter(self._blocks)))

    def _forget(self, place: tuple[bytes, int]) -> None:
        if (block := self._blocks.pop(place, None)) is not None:
            self._held_bytes -= len(block.content)

    # --- Giving -----------------------------------------------------------------------------------

    def at_hand(self, asker: Contact, request: Chunk) -> Chunked | None:
        """The answer, if it can be given at once."""
        if offered := self._offers.get(request.content):
            value, listeners = offered
            for on_chunk in listeners:
                on_chunk(asker, request.index)
            return _chunk_of(value, request.index)
        number, index = divmod(request.index, CHUNKS_PER_BLOCK)
        block = self._block((request.content, number))
        return None if block is None else _chunk_of(block, index)

    def is_near(self, request: Chunk) -> bool:
        """Whether `chunk` answers without a look of its own: it is here, or looked for already."""
        place = request.content, request.index // CHUNKS_PER_BLOCK
        return place in self._loading or self._block(place) is not None

    async def chunk(self, request: Chunk) -> Chunked:
        """The answer, wherever it has to be found."""
        number, index = divmod(request.index, CHUNKS_PER_BLOCK)
        place = (request.content, number)
        block = self._block(place)  # it may have come since `at_hand`
        if block is None and (loading := self._loading.get(place)) is not None:
            block = await loading
        elif block is None:
            block = await self._load_for_all(place)
        return _chunk_of(block, index)

    def _block(self, place: tuple[bytes, int]) -> bytes | None:
        """A block at hand that is not too old."""
        block = self._blocks.get(place)
        if block is None:
            return None
        if self._clock() - block.since >= self._age_s:
            self._forget(place)
            return None
        self._blocks.move_to_end(place)
        return block.content

    async def _load_for_all(self, place: tuple[bytes, int]) -> bytes:
        """Look for a block, on behalf of everybody who asks for a chunk of it meanwhile."""
        loading = self._loading[place] = asyncio.get_running_loop().create_future()
        block = b""
        try:
            block = await self._load(place[0], place[1] * BLOCK_BYTES)
        finally:
            del self._loading[place]
            loading.set_result(block)
        if block:
            self._keep_block(place, block)
        return block

    async def _load(self, content: bytes, offset: int) -> bytes:
        for load in self._loaders:
            if block := await load(content, offset):
                return block
        return b""


def _chunk_of(block: bytes, index: int) -> Chunked:
    data = block[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
    return Chunked(data or None)
