"""When an offer asks again: all is fetched, or nothing for a while, or chunks got lost."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from random import Random

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.message import Chunk
from kademlia_node.node.contents import Contents
from kademlia_node.node.offer import FETCHERS_MAX, Offer
from kademlia_node.settings import CHUNK_BYTES
from tests.node.network import SUITE

VALUE = Random(1).randbytes(2 * CHUNK_BYTES + 1)  # three chunks
HASH = hashlib.sha256(VALUE).digest()
SILENCE_S = 3.0
SOON_S = 0.5


def contact(number: int) -> Contact:
    public_key = Identity.generate(Random(number), suite=SUITE).public_key
    return Contact(public_key, Address("8.8.8.8", 4000 + number))


STORER, OTHER = contact(0), contact(1)


class Writer:
    """An offer, who fetches of it, and the moments at which it wants to ask again."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.contents = Contents(0, age_s=60.0)
        self.offer = Offer(self.contents, HASH, VALUE, silence_s=SILENCE_S, loop=self.loop)
        self.asked: list[tuple[Contact, float]] = []

    def needs(self, storer: Contact = STORER) -> None:
        self.offer.expect(storer, self._asks(storer), soon_s=SOON_S)

    def _asks(self, storer: Contact) -> Callable[[], None]:
        return lambda: self.asked.append((storer, round(self.loop.time(), 6)))

    def fetches(self, *indices: int, storer: Contact = STORER) -> None:
        for index in indices:
            assert self.contents.at_hand(storer, Chunk(HASH, index)) is not None


async def test_who_has_fetched_every_chunk_is_asked_at_once() -> None:
    writer = Writer()
    writer.needs()
    await asyncio.sleep(1)
    writer.fetches(1, 0)
    await asyncio.sleep(1)
    assert writer.asked == []
    writer.fetches(2)
    assert writer.asked == []  # not before the chunk has been answered
    await asyncio.sleep(10)
    assert writer.asked == [(STORER, 2.0)]


async def test_who_falls_silent_is_asked_when_it_has_been_so_for_a_while() -> None:
    writer = Writer()
    writer.needs()
    await asyncio.sleep(1)
    writer.fetches(0)
    await asyncio.sleep(1.5)
    writer.fetches(1)
    await asyncio.sleep(20)
    [(storer, when)] = writer.asked
    assert storer == STORER
    assert 2.5 + SILENCE_S <= when <= 2.5 + 2 * SILENCE_S


async def test_who_never_begins_is_asked_after_a_while() -> None:
    writer = Writer()
    writer.needs()
    await asyncio.sleep(20)
    assert writer.asked == [(STORER, SILENCE_S)]


async def test_who_needs_it_still_after_fetching_everything_is_asked_again_soon() -> None:
    writer = Writer()
    writer.needs()
    writer.fetches(0, 1, 2)
    await asyncio.sleep(0)
    writer.needs()
    await asyncio.sleep(20)
    assert writer.asked == [(STORER, 0.0), (STORER, SOON_S)]


async def test_a_lost_chunk_that_is_fetched_again_is_reason_to_ask_at_once() -> None:
    writer = Writer()
    writer.needs()
    writer.fetches(0, 1, 2)
    await asyncio.sleep(0)
    writer.needs()
    await asyncio.sleep(0.1)
    writer.fetches(1, 1)
    await asyncio.sleep(20)
    assert writer.asked == [(STORER, 0.0), (STORER, 0.1)]


async def test_chunks_fetched_before_its_word_came_count() -> None:
    writer = Writer()
    writer.fetches(0, 1)
    writer.needs()
    writer.fetches(2)
    await asyncio.sleep(20)
    assert writer.asked == [(STORER, 0.0)]


async def test_each_storer_is_waited_for_by_itself() -> None:
    writer = Writer()
    writer.needs()
    writer.needs(OTHER)
    await asyncio.sleep(1)
    writer.fetches(0, 1, 2, storer=OTHER)
    await asyncio.sleep(20)
    assert writer.asked == [(OTHER, 1.0), (STORER, SILENCE_S)]


async def test_an_offer_that_is_over_asks_nobody_and_serves_nobody() -> None:
    writer = Writer()
    writer.needs()
    writer.fetches(0, storer=OTHER)
    writer.offer.close()
    await asyncio.sleep(20)
    assert writer.asked == []
    assert writer.contents.at_hand(STORER, Chunk(HASH, 0)) is None


def crowd(count: int) -> Iterable[Contact]:
    return (contact(number) for number in range(2, 2 + count))


async def test_a_crowd_of_strangers_that_fetch_does_not_keep_a_storer_out() -> None:
    writer = Writer()
    for stranger in crowd(FETCHERS_MAX + 1):
        writer.fetches(0, storer=stranger)
    writer.fetches(0)  # one too many to be noted
    writer.needs()
    writer.fetches(1, 2)
    await asyncio.sleep(0)
    assert writer.asked == []
    writer.fetches(0)
    await asyncio.sleep(0)
    assert writer.asked == [(STORER, 0.0)]
