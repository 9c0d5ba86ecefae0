"""Reading: what counts as found, whom a reader believes, and how topics come together."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from kademlia_node.core.contact import Address
from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Key, topic_key
from kademlia_node.core.message import FindValue, Item, Request, Response, Store, Stored, Values
from kademlia_node.core.message import StoreStatus as Status
from kademlia_node.core.record import Header, Record, make_topic_entry
from kademlia_node.errors import NotFound
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import StepOutcome, TopicEntry
from kademlia_node.settings import Settings
from kademlia_node.store.memory import MemoryStore
from tests.node.network import (
    DAY,
    HOUR,
    PRIVATE,
    SILENCE,
    Neighbourhood,
    Stranger,
    collect,
    commons_entry,
    nearest,
)


def topic_entry(
    author: Identity, topic: Key, value: bytes, *, seq: int = 1, expires: float, slot: bytes = b""
) -> Record:
    return make_topic_entry(
        author.signing,
        topic.digest,
        slot=slot,
        value=value,
        seq=seq,
        expires=int(expires),
        network_tag=PRIVATE.tag,
    )


async def store(stranger: Stranger, node: Node, record: Record) -> None:
    """Have one node hold a record, and no other."""
    stored = await stranger.ask(node, Store(record.key, record.header, record.value))
    assert isinstance(stored, Stored)
    assert stored.status is Status.OK


def showing(*records: tuple[Header, bytes]) -> Values:
    return Values((), len(records), None, tuple(Item(header, value) for header, value in records))


# --- Found or not -----------------------------------------------------------------------------


async def test_a_blob_is_found_from_everywhere() -> None:
    async with Neighbourhood() as here:
        await here.grow(12)
        receipt = await here.nodes[3].put(b"blob")
        for node in here.nodes:
            assert await node.get(receipt.key) == b"blob"


async def test_what_we_hold_ourselves_is_found_without_asking() -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        receipt = await alice.put(b"blob")
        record, trace = await alice.get_record(receipt.key)
        assert record is not None
        assert record.value == b"blob"
        assert trace.steps == []


class OneByOneStore(MemoryStore):
    """Counts how often all that is under a key is read."""

    reads = 0

    async def get(self, key: bytes, **options: Any) -> list[Record]:
        self.reads += 1
        return await super().get(key, **options)


async def test_a_look_into_our_own_store_takes_one_record_whatever_else_is_there() -> None:
    async with Neighbourhood() as here:
        identity = here.new_identity()
        store = OneByOneStore(identity.id, settings=Settings())
        node = await here.start(identity=identity, store=store)
        blob, _ = await node.put(b"value"), await node.set("colour", b"blue")
        store.reads = 0
        assert await node.get(blob.key) == b"value"
        assert await node.get("colour") == b"blue"
        assert store.reads == 0


async def test_a_miss_tells_who_was_asked_and_what_they_said() -> None:
    async with Neighbourhood() as here:
        reader, dead, *_ = await here.grow(5)
        here.sim.unplug(dead.address)
        with pytest.raises(NotFound, match="colour was not found: asked") as raised:
            await reader.get("colour")
        trace = raised.value.trace
        assert {step.contact.id for step in trace.steps} == {n.id for n in here.nodes[1:]}
        assert {s.contact.id for s in trace.steps if s.outcome is StepOutcome.SILENT} == {dead.id}
        assert trace.count(StepOutcome.CLOSER) == 3
        assert trace.target == reader.key_of("colour").digest
        assert "3 closer, 1 silent" in trace.summary()
        assert 0.1 < trace.duration_s < 2.6


async def test_a_miss_of_a_node_alone_says_that_nobody_is_known() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        with pytest.raises(NotFound, match="no peer is known to ask"):
            await node.get("colour")


@pytest.mark.parametrize("default", [None, b"", b"grey"])
async def test_a_default_stands_in_for_a_miss(default: bytes | None) -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        assert await alice.get("colour", default=default) == default


async def test_a_blob_takes_one_answer_and_an_entry_three() -> None:
    async with Neighbourhood(settings=Settings(paths=2, parallel=1)) as here:
        await here.grow(16)
        reader = await here.start(server=False)
        blob, named = await here.nodes[0].put(b"blob"), await here.nodes[0].set("colour", b"blue")
        _, trace = await reader.get_record(blob.key)
        assert trace.count(StepOutcome.VALUE) == 1
        _, trace = await reader.get_record("colour")
        assert trace.count(StepOutcome.VALUE) == 3
        assert len({s.path for s in trace.steps if s.outcome is StepOutcome.VALUE}) == 2
        assert len(named.replicas) == 3


async def test_the_latest_version_wins_though_the_nearest_holder_missed_it() -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        first = await here.nodes[0].set("colour", b"blue")
        _, *others = nearest(first.key, here.nodes)[:3]
        newer = commons_entry("colour", b"red", seq=first.seq + 1, expires=first.expires)
        stranger = await here.stranger()
        for node in others:
            await store(stranger, node, newer)
        for node in here.nodes:
            assert await node.get("colour") == b"red"


async def test_a_renewal_that_missed_a_holder_is_the_same_version() -> None:
    async with Neighbourhood() as here:
        await here.grow(4)
        first = await here.nodes[0].set("colour", b"blue")
        renewed = commons_entry("colour", b"blue", seq=first.seq, expires=first.expires + HOUR)
        stored = await (await here.stranger()).ask(
            nearest(first.key, here.nodes)[0], Store(renewed.key, renewed.header, renewed.value)
        )
        assert stored == Stored(Status.HAVE, None, getattr(stored, "contacts", ()))
        record, trace = await here.nodes[3].get_record("colour")
        assert record is not None
        assert record.header.expires == first.expires + HOUR
        assert trace.count(StepOutcome.VALUE) >= 2


# --- Whom to believe --------------------------------------------------------------------------


async def test_expired_is_by_the_clock_of_the_reader() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        early = await here.start(wall=lambda: here.sim.wall() + 3 * DAY, server=False)
        blob = await alice.put(b"blob")
        await alice.set("colour", b"blue")
        assert await bob.get("colour") == b"blue"
        assert await early.get("colour", default=None) is None
        assert await early.get(blob.key, default=None) is None
        assert (await early.status()).counters["bad_record_reader_expired"] >= 2


async def test_one_expired_entry_does_not_hide_its_neighbours() -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        await alice.announce("cars", b"alive")
        short = topic_entry(
            here.new_identity(), topic_key(b"cars"), b"dying", expires=here.sim.wall() + 60
        )
        await store(await here.stranger(), alice, short)
        early = await here.start(wall=lambda: here.sim.wall() + 120, server=False)
        assert [e.value for e in await collect(early.find("cars"))] == [b"alive"]
        assert {e.value for e in await collect(alice.find("cars"))} == {b"alive", b"dying"}


@pytest.mark.parametrize(
    ("lie", "counted"),
    [
        ("another value", "bad_record_reader_wrong_value"),
        ("another value, header and all", "bad_record_reader_bad_signature"),
        ("signed by somebody else", "bad_record_reader_wrong_key"),
        ("no value", "bad_record_reader_wrong_length"),
    ],
)
async def test_a_liar_is_never_believed_and_is_found_out(lie: str, counted: str) -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(10)
        reader = await here.start(server=False)
        receipt = await puppets[0].set("colour", b"blue")
        true, _ = await puppets[0].get_record("colour")
        assert true is not None
        newer = commons_entry("colour", b"red", seq=receipt.seq + 1, expires=receipt.expires)
        red = hashlib.sha256(b"red").digest()
        other = here.new_identity()
        shown = {
            "another value": showing((true.header, b"bleu")),
            "another value, header and all": showing(
                (replace(true.header, seq=receipt.seq + 1, length=3, value_hash=red), b"red")
            ),
            "signed by somebody else": showing(
                (replace(newer.header, author=other.public_key), b"red")
            ),
            "no value": Values((), 1, None, (Item(newer.header, None),)),
        }[lie]
        liars = nearest(receipt.key, puppets)[:5]
        for liar in liars:
            liar.answer = lambda request: shown if isinstance(request, FindValue) else None
        record, trace = await reader.get_record("colour")
        assert record is None
        assert {s.contact.id for s in trace.steps if s.outcome is StepOutcome.BAD} == {
            liar.id for liar in liars
        }
        assert (await reader.status()).counters[counted] == 5
        assert await puppets[0].get("colour", default=None) in {None, b"blue"}
        liars[1].answer = lambda _: None
        assert await reader.get("colour") == b"blue"


async def test_a_squatter_under_the_key_of_an_entry_does_not_hide_it() -> None:
    """Anyone can sign topic entries under any key; an entry's key proves more."""
    async with Neighbourhood() as here:
        await here.grow(5)
        key = here.nodes[0].key_of("colour")
        stranger = await here.stranger()
        for number in range(8):
            squatter = topic_entry(
                here.new_identity(), key, bytes(640), seq=number, expires=here.sim.wall() + DAY
            )
            for node in here.nodes:
                await stranger.ask(node, Store(squatter.key, squatter.header, squatter.value))
        assert len(await here.holders(key)) >= 3
        assert await here.nodes[4].get("colour", default=None) is None
        await here.nodes[0].set("colour", b"blue")
        for node in here.nodes:
            assert await node.get("colour") == b"blue"


async def test_only_a_blob_is_read_by_its_key() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        named = await node.set("colour", b"blue")
        with pytest.raises(ValueError, match="only a blob"):
            await node.get(named.key)


# --- Topics -----------------------------------------------------------------------------------


async def test_a_topic_is_the_union_of_what_its_authors_announce() -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        authors = here.nodes[::2]
        for node in authors:
            await node.announce("cars", node.id)
        for node in here.nodes:
            found = await collect(node.find("cars"))
            assert {e.value: e.author for e in found} == {a.id: a.public_key for a in authors}


async def test_the_holders_of_a_crowded_topic_tell_different_entries() -> None:
    """More than one packet holds; to page through all of them is for a later version."""
    async with Neighbourhood() as here:
        await here.grow(12)
        for node in here.nodes:
            await node.announce("cars", node.id)
        holder = nearest(topic_key(b"cars"), here.nodes)[0]
        reader = await here.start(server=False)
        stranger = await here.stranger()
        answer = await stranger.ask(holder, FindValue(topic_key(b"cars").digest))
        assert isinstance(answer, Values)
        assert len(answer.items) < answer.count == 12
        found = await collect(reader.find("cars"))
        assert len(answer.items) < len(found) <= 12
        assert {e.value for e in found} <= {node.id for node in here.nodes}


async def test_one_author_has_an_entry_per_slot() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        await alice.announce("cars", b"old", slot="one")
        await alice.announce("cars", b"second", slot="two")
        receipt = await alice.announce("cars", b"new", slot="one")
        found = await collect(bob.find("cars"))
        assert {(e.slot, e.value) for e in found} == {(b"one", b"new"), (b"two", b"second")}
        first = next(e for e in found if e.slot == b"one")
        assert first == TopicEntry(
            alice.public_key, b"one", b"new", seq=receipt.seq, expires=receipt.expires
        )


async def test_what_was_withdrawn_is_not_found() -> None:
    async with Neighbourhood() as here:
        alice, bob, carol = await here.grow(3)
        await alice.announce("cars", b"hers")
        await bob.announce("cars", b"his")
        await alice.withdraw(topic="cars")
        assert [e.value for e in await collect(carol.find("cars"))] == [b"his"]


async def test_nobody_announced_anything() -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        assert await collect(alice.find("cars")) == []


async def test_a_newer_version_comes_again_and_entries_do_not_wait_for_the_slow() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(4)
        reader = await here.start(server=False)
        topic, expires = topic_key(b"cars"), here.sim.wall() + DAY
        xavier, yvonne = here.new_identity(), here.new_identity()
        x1 = topic_entry(xavier, topic, b"x1", seq=1, expires=expires)
        x2 = topic_entry(xavier, topic, b"x2", seq=2, expires=expires)
        y1 = topic_entry(yvonne, topic, b"y1", seq=1, expires=expires)
        shown = [[x1], [x1], [x1, y1], [x2, y1]]
        for puppet, records in zip(puppets, shown, strict=True):
            values = showing(*((record.header, record.value) for record in records))
            puppet.answer = lambda request, values=values: (  # type: ignore[misc]
                values if isinstance(request, FindValue) else None
            )
        slow = puppets[3].address

        def latency(source: Address, destination: Address) -> float:
            return 0.4 if slow in {source, destination} else 0.05

        here.sim.latency = latency
        loop = asyncio.get_running_loop()
        started = loop.time()
        found = [(e.value, loop.time() - started) async for e in reader.find("cars")]
        assert sorted(value for value, _ in found[:2]) == [b"x1", b"y1"]
        assert [value for value, _ in found[2:]] == [b"x2"]
        assert all(after < 0.2 for _, after in found[:2])
        assert found[2][1] > 0.8


async def test_a_find_ends_though_the_last_to_be_asked_is_silent() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(3)
        await puppets[0].announce("cars", b"one")
        puppets[1].answer = lambda request: SILENCE if isinstance(request, FindValue) else None
        reader = await here.start(server=False)
        async with asyncio.timeout(10):
            assert [e.value for e in await collect(reader.find("cars"))] == [b"one"]


async def test_a_find_that_is_left_early_asks_no_further() -> None:
    async with Neighbourhood(settings=Settings(paths=1, parallel=1)) as here:
        puppets = await here.grow_puppets(12)
        reader = await here.start(server=False)
        topic, asked = topic_key(b"cars"), 0

        def another_entry(request: Request) -> Response | None:
            """No two holders agree, so there is always more to ask."""
            nonlocal asked
            if not isinstance(request, FindValue):
                return None
            asked += 1
            one = topic_entry(here.new_identity(), topic, b"x", expires=here.sim.wall() + DAY)
            return showing((one.header, one.value))

        for puppet in puppets:
            puppet.answer = another_entry
        found = reader.find("cars")
        assert (await anext(found)).value == b"x"
        await found.aclose()
        assert asked == 3
        await asyncio.sleep(10)
        assert asked == 4  # it was on its way


def hold_nothing(request: Request) -> Response | None:
    return showing() if isinstance(request, FindValue) else None


async def test_who_holds_nothing_says_nothing_about_versions() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(6)
        receipt = await puppets[0].set("colour", b"blue")
        for puppet in nearest(receipt.key, puppets)[:2]:
            puppet.answer = hold_nothing
        for puppet in puppets:
            assert await puppet.get("colour") == b"blue"
