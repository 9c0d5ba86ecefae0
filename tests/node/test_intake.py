"""Long values that are offered to a node: what it fetches, from whom, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Key, Kind, entry_key
from kademlia_node.core.message import (
    Chunk,
    Chunked,
    ErrorCode,
    Ping,
    Pong,
    Refused,
    Request,
    Response,
    Store,
    Stored,
    StoreStatus,
)
from kademlia_node.core.record import Reason, Record, make_blob, make_entry
from kademlia_node.errors import SetupError
from kademlia_node.node.node import Node
from kademlia_node.settings import CHUNK_BYTES, INLINE_BYTES_MAX, VALUE_BYTES_MAX, Settings
from kademlia_node.store.base import Answer
from kademlia_node.store.memory import MemoryStore
from tests.node.network import DAY, SUITE, Neighbourhood, Stranger

AUTHOR = Identity.generate(Random(7), suite=SUITE)
LONGEST = Random(8).randbytes(VALUE_BYTES_MAX)
NEED = Stored(StoreStatus.NEED)
HAVE = Stored(StoreStatus.HAVE)


def entry(
    here: Neighbourhood, value: bytes = LONGEST, *, slot: bytes = b"slot", seq: int = 1
) -> Record:
    return make_entry(
        AUTHOR.signing,
        slot,
        value=value,
        seq=seq,
        expires=int(here.sim.wall() + DAY),
        network_tag=here.network.tag,
    )


def entries(here: Neighbourhood, count: int) -> list[Record]:
    return [entry(here, slot=b"%d" % number) for number in range(count)]


class Writer:
    """A stranger that offers records and gives their values as a test says."""

    def __init__(self, stranger: Stranger, *records: Record) -> None:
        self.values = {record.header.value_hash: record.value for record in records}
        self.asked: list[int] = []
        self.answer: Callable[[Chunk], Response | None] = self.truth
        self.contact = stranger.contact
        self._stranger = stranger
        stranger.answer = self._serve

    async def offer(self, node: Node, record: Record, *, expect_seq: int | None = None) -> Stored:
        offered = Store(record.key, record.header, None, expect_seq)
        stored = await self._stranger.ask(node, offered)
        assert isinstance(stored, Stored)
        return replace(stored, contacts=())

    def truth(self, request: Chunk) -> Response:
        start = request.index * CHUNK_BYTES
        return Chunked(self.values[request.content][start : start + CHUNK_BYTES] or None)

    def _serve(self, request: Request) -> Response | None:
        if not isinstance(request, Chunk):
            return Pong()
        self.asked.append(request.index)
        return self.answer(request)


async def writer_of(here: Neighbourhood, *records: Record, host: str = "") -> Writer:
    return Writer(await here.stranger(host=host), *records)


async def held(here: Neighbourhood, node: Node, record: Record) -> list[Record]:
    return await here.held(node, Key(record.header.kind, record.key))


async def counter(node: Node, name: str) -> int:
    return (await node.status()).counters.get(name, 0)


# --- What is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [INLINE_BYTES_MAX + 1, CHUNK_BYTES, VALUE_BYTES_MAX])
@pytest.mark.parametrize("kind", [Kind.BLOB, Kind.ENTRY])
async def test_an_offered_value_is_fetched_and_then_had(kind: Kind, length: int) -> None:
    async with Neighbourhood() as here:
        node, value = await here.start(), LONGEST[:length]
        blob = make_blob(value, expires=int(here.sim.wall() + DAY))
        record = blob if kind is Kind.BLOB else entry(here, value)
        writer = await writer_of(here, record)
        assert await writer.offer(node, record) == NEED
        assert await held(here, node, record) == []
        await asyncio.sleep(5)
        assert await writer.offer(node, record) == HAVE
        assert await held(here, node, record) == [record]
        assert sorted(writer.asked) == list(range(-(-length // CHUNK_BYTES)))
        assert await counter(node, "offers_fetched") == 1


@pytest.mark.parametrize("seed", range(3))
async def test_lost_packets_cost_time_only(seed: int) -> None:
    async with Neighbourhood(seed=seed) as here:
        node, record = await here.start(), entry(here)
        writer = await writer_of(here, record)
        here.sim.loss = 0.05
        await writer.offer(node, record)
        await asyncio.sleep(30)
        assert await held(here, node, record) == [record]


async def test_one_writer_who_offers_twice_is_asked_once() -> None:
    async with Neighbourhood() as here:
        node, record = await here.start(), entry(here)
        writer = await writer_of(here, record)
        assert [await writer.offer(node, record) for _ in range(2)] == [NEED, NEED]
        await asyncio.sleep(5)
        assert len(writer.asked) == 64
        assert await writer.offer(node, record) == HAVE


async def test_a_writer_that_gives_nothing_does_not_keep_out_another() -> None:
    async with Neighbourhood() as here:
        node, record = await here.start(), entry(here)
        mute, true = [await writer_of(here, record) for _ in range(2)]
        mute.answer = lambda _: None
        assert await mute.offer(node, record) == NEED
        assert await true.offer(node, record) == NEED
        await asyncio.sleep(2)
        assert await true.offer(node, record) == HAVE


class SlowStore(MemoryStore):
    """Weighs an offer for a while."""

    async def offer(self, key: bytes, *args: Any, **options: Any) -> Answer:
        await asyncio.sleep(0.5)
        return await super().offer(key, *args, **options)


async def test_two_offers_that_are_weighed_at_once_are_fetched_once() -> None:
    async with Neighbourhood() as here:
        identity = here.new_identity()
        store = SlowStore(identity.id, settings=Settings())
        node, record = await here.start(identity=identity, store=store), entry(here)
        writer = await writer_of(here, record)
        answers = await asyncio.gather(*(writer.offer(node, record) for _ in range(2)))
        assert answers == [NEED, NEED]
        await asyncio.sleep(5)
        assert len(writer.asked) == 64


async def test_a_longer_life_of_a_long_record_costs_its_header_only() -> None:
    async with Neighbourhood() as here:
        node, record = await here.start(), entry(here)
        writer = await writer_of(here, record)
        await writer.offer(node, record)
        await asyncio.sleep(5)
        sent = here.sim.sent.size_bytes
        longer = entry(here)  # five seconds later
        assert await writer.offer(node, longer) == HAVE
        await asyncio.sleep(5)
        assert await held(here, node, record) == [longer]
        assert here.sim.sent.size_bytes - sent < 700


async def test_a_blob_lives_48_hours_from_receipt_whoever_asks_for_more() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        blob = make_blob(LONGEST, expires=int(here.sim.wall() + 10 * DAY))
        writer = await writer_of(here, blob)
        await writer.offer(node, blob)
        await asyncio.sleep(5)
        (kept,) = await held(here, node, blob)
        assert kept.header.expires <= here.sim.wall() + 2 * DAY


# --- What is refused before a byte is fetched --------------------------------------------------


async def test_an_unexpected_seq_is_refused_before_a_byte_is_fetched() -> None:
    async with Neighbourhood() as here:
        node, record = await here.start(), entry(here)
        writer = await writer_of(here, record)
        refused = await writer.offer(node, record, expect_seq=7)
        assert refused == Stored(StoreStatus.CAS)
        await asyncio.sleep(5)
        assert writer.asked == []
        assert await writer.offer(node, record, expect_seq=0) == NEED


async def test_an_older_version_is_refused_before_a_byte_is_fetched() -> None:
    async with Neighbourhood() as here:
        node, newer = await here.start(), entry(here, seq=2)
        older = entry(here, LONGEST[::-1])
        writer = await writer_of(here, newer, older)
        await writer.offer(node, newer)
        await asyncio.sleep(5)
        assert await writer.offer(node, older) == Stored(StoreStatus.OLD, newer.header)
        await asyncio.sleep(5)
        assert len(writer.asked) == 64


async def test_what_is_over_quota_is_refused_before_a_byte_is_fetched() -> None:
    async with Neighbourhood(settings=Settings(store_bytes_max=200_000)) as here:
        node, record = await here.start(), entry(here)
        writer = await writer_of(here, record)
        assert await writer.offer(node, record) == Stored(StoreStatus.QUOTA)
        await asyncio.sleep(5)
        assert writer.asked == []


async def test_offers_of_one_public_prefix_are_charged_to_it() -> None:
    async with Neighbourhood(settings=Settings(store_bytes_max=300_000)) as here:
        node = await here.start()
        blobs = [
            make_blob(bytes([number]) * VALUE_BYTES_MAX, expires=int(here.sim.wall() + DAY))
            for number in range(2)
        ]
        writer = await writer_of(here, *blobs, host="8.8.8.8")
        neighbour = await writer_of(here, *blobs, host="192.168.1.8")
        assert await writer.offer(node, blobs[0]) == NEED
        await asyncio.sleep(5)
        assert await writer.offer(node, blobs[1]) == Stored(StoreStatus.QUOTA)
        assert await neighbour.offer(node, blobs[1]) == NEED


BAD: dict[str, tuple[Reason, dict[str, Any]]] = {
    "forged": (Reason.BAD_SIGNATURE, {"seq": 2}),
    "re-dated": (Reason.BAD_SIGNATURE, {"expires": int(1.7e9 + 2 * DAY)}),
    "of another length": (Reason.BAD_SIGNATURE, {"length": VALUE_BYTES_MAX - 1}),
    "oversized": (Reason.TOO_LARGE, {"length": VALUE_BYTES_MAX + 1}),
    "short enough to be in its STORE": (Reason.BAD_SIGNATURE, {"length": INLINE_BYTES_MAX}),
}


@pytest.mark.parametrize("fault", BAD)
async def test_a_bad_header_never_leads_to_a_chunk_request(fault: str) -> None:
    reason, changes = BAD[fault]
    async with Neighbourhood() as here:
        node, true = await here.start(), entry(here)
        false = replace(true, header=replace(true.header, **changes))
        writer = await writer_of(here, true)
        received: list[bytes] = []
        here.sim.taps.append(
            lambda _from, to, datagram: (
                received.append(datagram) if to == writer.contact.address else None
            )
        )
        assert await writer.offer(node, false) == Stored(StoreStatus.BAD, reason=reason)
        answers = len(received)
        await asyncio.sleep(10)
        assert len(received) == answers
        assert writer.asked == []
        assert await counter(node, f"bad_record_storer_{reason.name.lower()}") == 1


async def test_a_short_value_has_to_come_with_its_header() -> None:
    async with Neighbourhood() as here:
        node, record = await here.start(), entry(here, bytes(INLINE_BYTES_MAX))
        writer = await writer_of(here, record)
        refused = await writer.offer(node, record)
        assert refused == Stored(StoreStatus.BAD, reason=Reason.WRONG_LENGTH)
        await asyncio.sleep(5)
        assert writer.asked == []


# --- Writers that do not keep their word -------------------------------------------------------


def other_byte(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize(
    "falsify", [other_byte, lambda data: data[:-1], lambda _: b""], ids=["byte", "short", "empty"]
)
async def test_a_writer_that_gives_something_else_is_counted_and_nothing_is_kept(
    falsify: Callable[[bytes], bytes],
) -> None:
    async with Neighbourhood() as here:
        node, record = await here.start(), entry(here)
        writer = await writer_of(here, record)

        def lie(request: Chunk) -> Response:
            told = writer.truth(request)
            assert isinstance(told, Chunked)
            return Chunked(falsify(told.data or b"")) if request.index == 50 else told

        writer.answer = lie
        await writer.offer(node, record)
        await asyncio.sleep(10)
        assert await held(here, node, record) == []
        assert await counter(node, "bad_record_storer_wrong_value") == 1
        writer.answer = writer.truth
        assert await writer.offer(node, record) == NEED
        await asyncio.sleep(10)
        assert await held(here, node, record) == [record]


async def test_a_blob_under_a_key_that_is_not_its_own_is_not_kept() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        blob = make_blob(LONGEST, expires=int(here.sim.wall() + DAY))
        false = replace(blob, key=entry_key(AUTHOR.public_key, b"").digest)
        writer = await writer_of(here, blob)
        assert await writer.offer(node, false) == NEED
        await asyncio.sleep(10)
        assert (await node.status()).records == 0
        assert await counter(node, "bad_record_storer_wrong_value") == 1


@pytest.mark.parametrize("how", ["lacks", "silent"])
async def test_a_writer_that_stops_half_way_leaves_nothing_behind(how: str) -> None:
    async with Neighbourhood() as here:
        node, record = await here.start(), entry(here)
        writer = await writer_of(here, record)

        def half(request: Chunk) -> Response:
            if request.index < 30:
                return writer.truth(request)
            if how == "silent":
                here.sim.unplug(writer.contact.address)
            return Chunked(None)

        writer.answer = half
        await writer.offer(node, record)
        await asyncio.sleep(30)
        assert (await node.status()).records == 0
        assert await counter(node, "offers_not_fetched") == 1
        assert await (await here.stranger()).ask(node, Ping()) == Pong()
        another = await writer_of(here, record)
        assert await another.offer(node, record) == NEED
        await asyncio.sleep(10)
        assert await held(here, node, record) == [record]


# --- Limits -----------------------------------------------------------------------------------


BUSY = Stored(StoreStatus.BUSY)


@pytest.mark.parametrize(
    ("settings", "writers", "taken"),
    [
        (Settings(pulls_max=3), 5, 3),
        (Settings(pulls_per_peer_max=2), 1, 2),
    ],
    ids=["in all", "of one writer"],
)
async def test_beyond_the_limit_offers_are_refused_and_room_comes_again(
    settings: Settings, writers: int, taken: int
) -> None:
    async with Neighbourhood(settings=settings) as here:
        node, records = await here.start(), entries(here, 5)
        crowd = [await writer_of(here, *records) for _ in range(writers)]
        for writer in crowd:
            await writer.offer(node, entry(here, b""))  # sessions are open now

        async def offer_all() -> list[Stored]:
            return [
                await crowd[number % writers].offer(node, record)
                for number, record in enumerate(records)
            ]

        for writer in crowd:
            writer.answer = lambda _: Refused(ErrorCode.BUSY, "later")  # and it is not yet later
        assert await offer_all() == [NEED] * taken + [BUSY] * (5 - taken)
        assert await offer_all() == [NEED] * taken + [BUSY] * (5 - taken)
        for writer in crowd:
            writer.answer = writer.truth
        await asyncio.sleep(30)
        for _ in range(5):
            await offer_all()
            await asyncio.sleep(10)
        assert await offer_all() == [HAVE] * 5


@pytest.mark.parametrize(("host", "taken"), [("9.9.9.", 3), ("192.168.1.", 5)])
async def test_one_public_subnet_cannot_take_all_the_room_but_neighbours_may(
    host: str, taken: int
) -> None:
    """A review had eight clients of one host hold all that a node fetches."""
    async with Neighbourhood(settings=Settings(pulls_per_prefix_max=3)) as here:
        node, records = await here.start(), entries(here, 6)
        crowd = [await writer_of(here, *records, host=f"{host}{n}") for n in range(5)]
        for writer in crowd:
            writer.answer = lambda _: Refused(ErrorCode.BUSY, "later")
            await writer.offer(node, entry(here, b""))  # sessions are open now
        stored = [await crowd[n].offer(node, records[n]) for n in range(5)]
        assert stored == [NEED] * taken + [BUSY] * (5 - taken)
        other = await writer_of(here, *records, host="8.8.8.8")
        assert await other.offer(node, records[5]) == NEED
        await asyncio.sleep(60)  # and given up
        assert await crowd[4].offer(node, records[4]) == NEED


class BrokenStore(MemoryStore):
    """Fails when something is put."""

    async def put(self, record: Record, **options: Any) -> Answer:
        raise SetupError("the disk is gone")


async def test_a_store_that_fails_does_not_end_the_node(caplog: pytest.LogCaptureFixture) -> None:
    async with Neighbourhood() as here:
        store = BrokenStore(bytes(32), settings=Settings())
        node, record = await here.start(store=store), entry(here)
        writer = await writer_of(here, record)
        assert await writer.offer(node, record) == NEED
        await asyncio.sleep(10)
        assert await writer.offer(node, record) == NEED  # no trace of the first attempt
        assert await counter(node, "serving_failed") == 1
        await asyncio.sleep(10)
    assert "the disk is gone" in caplog.text


async def test_a_node_may_stop_while_it_fetches() -> None:
    async with Neighbourhood() as here:
        node, record = await here.start(), entry(here)
        writer = await writer_of(here, record)
        await writer.offer(node, record)
        await asyncio.sleep(0.2)
        assert 0 < len(writer.asked) < 64
        await node.stop()
        asked = len(writer.asked)
        await asyncio.sleep(30)
        assert len(writer.asked) <= asked + 8
