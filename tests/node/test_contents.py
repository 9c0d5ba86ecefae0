"""What is served by its hash: offered values, values of the store, topic pages, outside content."""

from __future__ import annotations

import asyncio
import hashlib
from random import Random

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.message import Chunk, Chunked, Ping, Pong
from kademlia_node.errors import PeerRefused
from kademlia_node.node.contents import BLOCK_BYTES, CHUNKS_PER_BLOCK, Contents
from kademlia_node.settings import CHUNK_BYTES, Settings
from tests.node.network import SUITE, Neighbourhood

ASKER = Contact(Identity.generate(Random(5), suite=SUITE).public_key, Address("8.8.8.8", 4000))
VALUE = Random(6).randbytes(2 * CHUNK_BYTES + 10)
HASH = hashlib.sha256(VALUE).digest()
ABSENT = Chunked(None)
AGE_S = 60.0


def contents_of(cache_bytes: int) -> Contents:
    return Contents(cache_bytes, age_s=AGE_S)


def content_of(size: int, *, seed: int = 7) -> tuple[bytes, bytes]:
    """Some content and its hash."""
    content = Random(seed).randbytes(size)
    return content, hashlib.sha256(content).digest()


class Source:
    """A `ContentSource` that has one content and notes what it is asked for."""

    def __init__(self, content: bytes, *, seek_s: float | None = None) -> None:
        self._content = content
        self._hash = hashlib.sha256(content).digest()
        self._seek_s = seek_s
        self.reads: list[tuple[bytes, int]] = []
        self.broken = False
        self.emptied = False

    async def read(self, content: bytes, offset: int, length: int) -> bytes | None:
        self.reads.append((content, offset))
        if self._seek_s is not None:
            await asyncio.sleep(self._seek_s)
        if self.broken:
            raise OSError("the disk is gone")
        if self.emptied or content != self._hash:
            return None
        return self._content[offset : offset + length]

    async def load(self, content: bytes, offset: int) -> bytes | None:
        return await self.read(content, offset, BLOCK_BYTES)


async def whole(contents: Contents, content_hash: bytes) -> bytes:
    """All chunks up to the first that is not there, each from where it is."""
    chunks: list[bytes] = []
    while True:
        request = Chunk(content_hash, len(chunks))
        chunk = contents.at_hand(ASKER, request) or await contents.chunk(request)
        if chunk.data is None:
            return b"".join(chunks)
        chunks.append(chunk.data)


# --- At hand ----------------------------------------------------------------------------------


async def test_what_is_kept_comes_in_chunks_of_1024_bytes_and_ends_where_it_ends() -> None:
    contents = contents_of(BLOCK_BYTES)
    assert contents.keep(VALUE) == HASH
    chunks = [contents.at_hand(ASKER, Chunk(HASH, index)) for index in range(4)]
    parts = VALUE[:1024], VALUE[1024:2048], VALUE[2048:]
    assert chunks == [*map(Chunked, parts), ABSENT]


async def test_unknown_content_is_not_at_hand_and_nowhere_else() -> None:
    contents = contents_of(BLOCK_BYTES)
    assert contents.at_hand(ASKER, Chunk(HASH, 0)) is None
    assert await contents.chunk(Chunk(HASH, 0)) == ABSENT


async def test_whoever_offers_a_value_is_told_who_fetches_what() -> None:
    contents = contents_of(BLOCK_BYTES)
    told: list[tuple[Contact, int]] = []

    def on_chunk(asker: Contact, index: int) -> None:
        told.append((asker, index))

    contents.offer(HASH, VALUE, on_chunk=on_chunk)
    assert contents.at_hand(ASKER, Chunk(HASH, 2)) == Chunked(VALUE[2048:])
    assert contents.at_hand(ASKER, Chunk(HASH, 3)) == ABSENT
    assert told == [(ASKER, 2), (ASKER, 3)]


async def test_two_offers_of_one_value_end_one_by_one() -> None:
    contents = contents_of(BLOCK_BYTES)
    told: list[str] = []

    def first(_asker: Contact, _index: int) -> None:
        told.append("first")

    def second(_asker: Contact, _index: int) -> None:
        told.append("second")

    for listener in (first, second):
        contents.offer(HASH, VALUE, on_chunk=listener)
    contents.at_hand(ASKER, Chunk(HASH, 0))
    contents.withdraw(HASH, on_chunk=first)
    contents.at_hand(ASKER, Chunk(HASH, 0))
    assert told == ["first", "second", "second"]
    contents.withdraw(HASH, on_chunk=second)
    assert contents.at_hand(ASKER, Chunk(HASH, 0)) is None


async def test_the_cache_keeps_to_its_size_and_forgets_what_was_longest_unused() -> None:
    contents = contents_of(3 * 1000)
    hashes = [contents.keep(bytes([number]) * 1000) for number in range(3)]
    assert contents.at_hand(ASKER, Chunk(hashes[0], 0)) is not None
    contents.keep(bytes([2]) * 1000)  # again: it takes no more room
    hashes.append(contents.keep(bytes([3]) * 1000))
    kept = [contents.at_hand(ASKER, Chunk(one, 0)) is not None for one in hashes]
    assert kept == [True, False, True, True]


async def test_what_is_larger_than_the_cache_is_served_and_not_kept() -> None:
    content, content_hash = content_of(5000)
    source = Source(content)
    contents = contents_of(4999)
    contents.load_from(source.load)
    assert await whole(contents, content_hash) == content
    assert len(source.reads) == 6  # five chunks, and that there is no sixth


# --- From elsewhere ---------------------------------------------------------------------------


async def test_loaders_are_asked_in_turn_until_one_has_the_content() -> None:
    nothing, source, never = Source(b""), Source(VALUE), Source(VALUE)
    contents = contents_of(BLOCK_BYTES)
    contents.load_from(nothing.load, source.load)
    contents.load_from(never.load)
    assert await whole(contents, HASH) == VALUE
    assert (nothing.reads, source.reads, never.reads) == ([(HASH, 0)], [(HASH, 0)], [])


async def test_long_content_is_read_in_blocks_of_64_kib() -> None:
    content, content_hash = content_of(2 * BLOCK_BYTES + 1)
    source = Source(content)
    contents = contents_of(4 * BLOCK_BYTES)
    contents.load_from(source.load)
    assert await whole(contents, content_hash) == content
    assert [offset for _, offset in source.reads] == [0, BLOCK_BYTES, 2 * BLOCK_BYTES]
    beyond = Chunk(content_hash, 3 * CHUNKS_PER_BLOCK)
    assert await contents.chunk(beyond) == ABSENT


@pytest.mark.parametrize("seek_s", [None, 0.1])
async def test_chunks_asked_for_at_once_cost_one_read(seek_s: float | None) -> None:
    content, content_hash = content_of(8 * CHUNK_BYTES)
    source = Source(content, seek_s=seek_s)
    contents = contents_of(BLOCK_BYTES)
    contents.load_from(source.load)
    chunks = await asyncio.gather(*(contents.chunk(Chunk(content_hash, n)) for n in range(8)))
    assert b"".join(chunk.data or b"" for chunk in chunks) == content
    assert source.reads == [(content_hash, 0)]


async def test_what_was_not_found_is_looked_for_again() -> None:
    source = Source(VALUE)
    contents = contents_of(BLOCK_BYTES)
    assert await contents.chunk(Chunk(HASH, 0)) == ABSENT
    contents.load_from(source.load)
    assert await contents.chunk(Chunk(HASH, 0)) == Chunked(VALUE[:1024])


async def test_a_source_that_fails_leaves_nobody_waiting_and_is_asked_again() -> None:
    source = Source(VALUE, seek_s=0.1)
    contents = contents_of(BLOCK_BYTES)
    contents.load_from(source.load)
    source.broken = True
    asking = [contents.chunk(Chunk(HASH, index)) for index in range(3)]
    first, *others = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(first, OSError)
    assert others == [ABSENT, ABSENT]
    source.broken = False
    assert await contents.chunk(Chunk(HASH, 0)) == Chunked(VALUE[:1024])


async def test_a_block_at_hand_is_looked_for_again_after_a_while() -> None:
    source = Source(VALUE)
    contents = contents_of(BLOCK_BYTES)
    contents.load_from(source.load)
    assert await contents.chunk(Chunk(HASH, 0)) == Chunked(VALUE[:1024])
    await asyncio.sleep(AGE_S - 1)
    assert contents.at_hand(ASKER, Chunk(HASH, 1)) == Chunked(VALUE[1024:2048])
    await asyncio.sleep(1)
    assert contents.at_hand(ASKER, Chunk(HASH, 1)) is None
    assert await contents.chunk(Chunk(HASH, 1)) == Chunked(VALUE[1024:2048])
    assert len(source.reads) == 2
    await asyncio.sleep(AGE_S)
    source.emptied = True
    assert await contents.chunk(Chunk(HASH, 1)) == ABSENT


async def test_what_has_become_too_old_takes_no_room() -> None:
    contents = contents_of(2000)
    old, new = contents.keep(bytes(1500)), bytes([1]) * 500
    await asyncio.sleep(AGE_S)
    assert contents.at_hand(ASKER, Chunk(old, 0)) is None
    kept = [contents.keep(bytes([n]) * 1000) for n in (2, 3)]
    assert all(contents.at_hand(ASKER, Chunk(one, 0)) for one in kept)
    contents.keep(new)
    assert contents.at_hand(ASKER, Chunk(kept[0], 0)) is None


async def test_content_that_is_being_looked_for_is_near() -> None:
    source = Source(VALUE, seek_s=0.1)
    contents = contents_of(BLOCK_BYTES)
    contents.load_from(source.load)
    assert not contents.is_near(Chunk(HASH, 0))
    asking = asyncio.create_task(contents.chunk(Chunk(HASH, 0)))
    await asyncio.sleep(0.05)
    assert contents.is_near(Chunk(HASH, 1))
    assert not contents.is_near(Chunk(HASH, CHUNKS_PER_BLOCK))
    await asking
    assert contents.is_near(Chunk(HASH, 1))


# --- Through a node ---------------------------------------------------------------------------


async def test_a_node_serves_content_that_it_does_not_store() -> None:
    content, content_hash = content_of(BLOCK_BYTES + 100)
    async with Neighbourhood() as here:
        node = await here.start(content=Source(content))
        stranger = await here.stranger()
        last = await stranger.ask(node, Chunk(content_hash, CHUNKS_PER_BLOCK))
        assert last == Chunked(content[-100:])
        assert await stranger.ask(node, Chunk(HASH, 0)) == ABSENT


async def test_a_source_that_fails_does_not_end_the_node(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(VALUE)
    source.broken = True
    async with Neighbourhood() as here:
        node = await here.start(content=source)
        stranger = await here.stranger()
        with pytest.raises(PeerRefused, match="something is wrong here"):
            await stranger.ask(node, Chunk(HASH, 0))
        assert await stranger.ask(node, Ping()) == Pong()
        assert (await node.status()).counters["serving_failed"] == 1
    assert "the disk is gone" in caplog.text


async def test_a_value_that_was_withdrawn_is_soon_no_longer_served() -> None:
    """A review found it served for weeks, for as long as somebody asked now and then."""
    async with Neighbourhood() as here:
        nodes = await here.grow(3)
        await nodes[0].set("colour", VALUE)
        stranger = await here.stranger()
        assert await stranger.ask(nodes[1], Chunk(HASH, 0)) == Chunked(VALUE[:1024])
        await nodes[0].withdraw("colour")
        await asyncio.sleep(Settings().contents_age_s)
        assert await stranger.ask(nodes[1], Chunk(HASH, 0)) == ABSENT
