"""Handing out: what a write costs, who gets the record, and when its writer is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kademlia_node.core.contact import Address
from kademlia_node.core.key import Key, blob_key
from kademlia_node.core.message import Request, Response, Store, Stored, StoreStatus
from kademlia_node.core.network import Network
from kademlia_node.errors import NotAgreed, NotStored, PartlyStored
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import Trace
from kademlia_node.settings import Settings
from kademlia_node.sim.latency import LatencyModel, LogNormalLatency
from tests.node.network import (
    HOUR,
    PRIVATE,
    SILENCE,
    WALKING,
    Neighbourhood,
    contact_of,
    nearest,
)

COPIES = PRIVATE.copies
LONG = bytes(range(256)) * 100


def now() -> float:
    return asyncio.get_running_loop().time()


def cost(trace: Trace) -> tuple[int, int]:
    """Requests and round trips."""
    return trace.requests, trace.round_trips


def ids(nodes: Sequence[Node]) -> set[bytes]:
    return {node.id for node in nodes}


async def served(nodes: Sequence[Node], verb: str) -> int:
    """How many requests of a kind these nodes have answered."""
    return sum([(await node.status()).counters.get(f"served_{verb}", 0) for node in nodes])


def delays(slow: Sequence[Node], *, seconds: float) -> LatencyModel:
    addresses = {node.address for node in slow}

    def latency(source: Address, destination: Address) -> float:
        return seconds if addresses & {source, destination} else 0.05

    return latency


def refuse_stores(request: Request) -> Response | None:
    return Stored(StoreStatus.QUOTA) if isinstance(request, Store) else None


def ignore_stores(request: Request) -> Response | None:
    return SILENCE if isinstance(request, Store) else None


# --- What it costs ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"red", LONG], ids=["short", "long"])
async def test_writing_a_known_record_again_asks_its_replicas_and_nobody_the_way(
    value: bytes,
) -> None:
    async with Neighbourhood() as here:
        await here.grow(15)
        writer = await here.start(server=False, settings=WALKING)
        first = await writer.set("colour", b"blue")
        assert first.trace.requests > COPIES
        assert first.trace.round_trips >= 2
        asked = await served(here.nodes, "FindNode")
        second = await writer.set("colour", value)
        assert {c.id for c in second.replicas} == ids(nearest(first.key, here.nodes[:-1])[:COPIES])
        assert await served(here.nodes, "FindNode") == asked
        assert second.trace.round_trips == 1
        if value is not LONG:  # else those that fetch it are asked once more
            assert second.trace.requests == COPIES


async def test_another_entry_of_a_topic_goes_to_those_who_took_the_first() -> None:
    async with Neighbourhood() as here:
        await here.grow(15)
        writer = await here.start(server=False, settings=WALKING)
        first = await writer.announce("weather", b"rain", slot="today")
        asked = await served(here.nodes, "FindNode")
        second = await writer.announce("weather", b"sun", slot="tomorrow")
        assert {c.id for c in second.replicas} == ids(nearest(first.key, here.nodes[:-1])[:COPIES])
        assert await served(here.nodes, "FindNode") == asked
        assert cost(second.trace) == (COPIES, 1)


async def test_a_blob_put_again_costs_one_round_trip() -> None:
    async with Neighbourhood() as here:
        await here.grow(15)
        writer = await here.start(server=False, settings=WALKING)
        for value in (b"blob", LONG):
            await writer.put(value)
            assert cost((await writer.put(value)).trace) == (COPIES, 1)


async def test_whoever_knows_everybody_near_a_key_writes_without_a_walk() -> None:
    async with Neighbourhood() as here:
        servers = await here.grow(15)
        writer = await here.start(server=False)
        asked = await served(servers, "FindNode")
        for number in range(20):
            receipt = await writer.put(b"value %d" % number)
            assert ids(nearest(receipt.key, servers)[:COPIES]) <= await here.holders(receipt.key)
            assert receipt.trace.round_trips in {1, 2}  # 2: where chance made them too dense
        assert (await served(servers, "FindNode") - asked) / 20 < 5  # a walk asks all 15


async def test_one_whom_a_writer_does_not_know_is_named_by_those_who_do() -> None:
    """However far it is down the list of those who should hold it."""
    async with Neighbourhood(Network.private(bytes(32), copies=20)) as here:
        servers = await here.grow(40)
        writer = await here.start(server=False)
        for number in range(6):
            value = b"value %d" % number
            unknown = nearest(blob_key(value), servers)[3 * number]
            writer._active.state.table.remove(unknown.id)  # noqa: SLF001
            receipt = await writer.put(value)
            await asyncio.sleep(3)  # it may be one more than was waited for
            assert unknown.id in await here.holders(receipt.key)


async def test_a_storer_that_has_to_be_called_first_is_given_the_time_for_it() -> None:
    async with Neighbourhood() as here:
        servers = await here.grow(12)
        writer = await here.start(server=False)
        key = blob_key(b"blob")
        slow = nearest(key, servers)[0]
        exchange = writer._active.state.exchange  # noqa: SLF001
        session = exchange.sessions.sending(contact_of(slow))
        assert session is not None
        exchange.sessions.drop(session)
        here.sim.latency = delays([slow], seconds=0.125)
        assert (await writer.put(b"blob")).trace.requests == COPIES


@pytest.mark.parametrize("others", [0, 5])
async def test_whoever_has_no_room_for_it_has_the_writer_keep_it_if_that_is_next(
    others: int,
) -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(COPIES + 1 + others)
        key = blob_key(b"blob")
        *full, next_one = nearest(key, puppets)[: COPIES + 1]
        for puppet in full:
            puppet.answer = refuse_stores
        async with asyncio.timeout(60):
            await next_one.put(b"blob")
        assert next_one.id in await here.holders(key)


async def test_whoever_knows_few_of_all_nodes_walks() -> None:
    """Else whoever fills its small table near a key would be given all copies."""
    small = Settings(k=4, far_buckets=(4,), near_bucket=4, neighbourhood_s=0)
    async with Neighbourhood(settings=small) as here:
        await here.grow(40)
        await asyncio.sleep(600)
        for number in range(10):
            assert (await here.nodes[7].put(b"value %d" % number)).trace.steps


async def test_a_writer_too_far_from_a_key_keeps_nothing_where_nobody_would_look() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(40)
        *others, farthest = nearest(blob_key(b"blob"), puppets)
        for puppet in others:
            puppet.answer = refuse_stores
        with pytest.raises(NotStored):
            await farthest.put(b"blob")


async def test_a_server_that_is_a_replica_asks_only_the_others() -> None:
    async with Neighbourhood() as here:
        await here.grow(15)
        writer = nearest(here.nodes[0].key_of("colour"), here.nodes)[0]
        await writer.set("colour", b"blue")
        again = await writer.set("colour", b"red")
        assert cost(again.trace) == (COPIES - 1, 1)
        assert len(again.replicas) == COPIES


async def test_who_answered_first_is_not_all_who_is_known() -> None:
    """Where the region is wide, the fast ones alone would send the next write on a walk."""
    async with Neighbourhood() as here:
        await here.grow(25)
        writer = await here.start(server=False)
        await asyncio.sleep(360)
        assert (await writer.status()).network_size is not None
        for name in "abcdefgh":
            key = writer.key_of(name)
            here.sim.latency = delays(nearest(key, here.nodes)[:2], seconds=0.15)
            await writer.set(name, b"blue")
            await asyncio.sleep(5)
            again = await writer.set(name, b"red")
            assert again.trace.steps == []
            await asyncio.sleep(5)
            assert ids(nearest(key, here.nodes[:-1])[:COPIES]) <= await here.holders(key)


async def test_a_replica_that_died_is_replaced_by_the_next_nearest() -> None:
    async with Neighbourhood() as here:
        await here.grow(12)
        writer = await here.start(server=False)
        first = await writer.set("colour", b"blue")
        by_distance = nearest(first.key, here.nodes[:-1])
        here.sim.unplug(by_distance[0].address)
        second = await writer.set("colour", b"red")
        assert second.trace.steps != []
        assert {c.id for c in second.replicas} == ids(by_distance[1 : COPIES + 1])
        await asyncio.sleep(HOUR)  # until the tables of the others have dropped it
        third = await writer.set("colour", b"green")
        assert cost(third.trace) == (COPIES, 1)


async def test_a_nearer_node_that_joined_gets_the_next_version() -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        writer = await here.start(server=False)
        first = await writer.set("colour", b"blue")
        old = nearest(first.key, here.nodes[:8])[:COPIES]
        while True:
            newcomer = await here.start()
            if newcomer in nearest(first.key, [*old, newcomer])[:COPIES]:
                break
        second = await writer.set("colour", b"red")
        servers = [node for node in here.nodes if node is not writer]
        closest = ids(nearest(first.key, servers)[:COPIES])
        assert closest <= {contact.id for contact in second.replicas}
        for node in servers:
            if node.id in closest:
                (record,) = await here.held(node, first.key)
                assert record.value == b"red"


# --- When the writer is told ------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"blob", LONG], ids=["short", "long"])
async def test_one_ack_returns_early_and_the_others_get_it_all_the_same(value: bytes) -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        writer = await here.start(server=False, settings=WALKING)
        warm = await writer.put(value + b"?")  # sessions and round trips are known now
        assert len(warm.replicas) == COPIES
        key = Key.parse(str((await here.nodes[0].put(value)).key))
        replicas = nearest(key, here.nodes[:8])[:COPIES]
        await writer.put(value)
        here.sim.latency = delays(replicas[1:], seconds=0.6)
        started = now()
        receipt = await writer.put(value, acks=1)
        assert now() - started < 0.5
        assert {contact.id for contact in receipt.replicas} == {replicas[0].id}


async def test_what_returned_early_reaches_every_replica() -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        writer = await here.start(server=False, settings=WALKING)
        here.sim.latency = LogNormalLatency(1)
        for value in (b"blob", LONG):
            receipt = await writer.put(value, acks=1)
            assert len(receipt.replicas) == 1
            await asyncio.sleep(10)
            true = ids(nearest(receipt.key, here.nodes[:8])[:COPIES])
            assert true <= await here.holders(receipt.key)
            assert cost((await writer.put(value)).trace) == (COPIES, 1)  # all are known


async def test_too_few_acks_raise_with_what_was_achieved_and_it_is_kept_alive() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(4)
        writer = await here.start(server=False)
        for puppet in puppets[1:]:
            puppet.answer = refuse_stores
        with pytest.raises(PartlyStored, match="fewer than 2 acknowledged it: 1 replica") as raised:
            await writer.set("colour", b"blue", acks=2)
        receipt = raised.value.receipt
        assert [contact.id for contact in receipt.replicas] == [puppets[0].id]
        assert {c.id: why for c, why in receipt.refused.items()} == dict.fromkeys(
            ids(puppets[1:]), "quota"
        )
        assert raised.value.acks == 2
        assert (await writer.status()).publications == 1
        assert await writer.get("colour") == b"blue"


async def test_nobody_is_not_partly() -> None:
    async with Neighbourhood() as here:
        (puppet,) = await here.grow_puppets(1)
        writer = await here.start(server=False)
        puppet.answer = refuse_stores
        with pytest.raises(NotStored) as raised:
            await writer.put(b"blob", acks=2)
        assert not isinstance(raised.value, PartlyStored)
        assert (await writer.status()).publications == 0


@pytest.mark.parametrize("verb", ["put", "set", "announce"])
async def test_more_acks_than_there_are_nodes_is_partly_stored(verb: str) -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        writes = {
            "put": lambda: alice.put(b"blob", acks=3),
            "set": lambda: alice.set("colour", b"blue", acks=3),
            "announce": lambda: alice.announce("cars", b"mine", acks=3),
        }
        with pytest.raises(PartlyStored) as raised:
            await writes[verb]()
        assert {c.id for c in raised.value.receipt.replicas} == ids(here.nodes)
        assert await here.holders(raised.value.receipt.key) == ids(here.nodes)
        assert (await alice.status()).publications == 1


async def test_more_acks_than_copies_take_spares() -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        writer = await here.start(server=False)
        for _ in range(2):
            receipt = await writer.set("colour", b"blue", acks=COPIES)
            assert len(receipt.replicas) == COPIES


async def test_a_put_that_is_cancelled_while_it_is_handed_out_ends_its_offer() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(3)
        writer = await here.start(server=False)
        for puppet in puppets:
            puppet.answer = ignore_stores
        writing = asyncio.create_task(writer.put(LONG))
        await asyncio.sleep(1)
        writing.cancel()
        await asyncio.wait([writing])
        assert writing.cancelled()
        assert (await writer.status()).publications == 0
        for puppet in puppets:
            puppet.answer = lambda _: None
        assert len((await writer.put(LONG)).replicas) == 3


async def test_fewer_holders_than_a_read_demands_are_told() -> None:
    async with Neighbourhood() as here:
        await here.grow(4)
        reader = await here.start(server=False)
        await here.nodes[0].set("colour", b"blue")
        assert await reader.get("colour", reads=3) == b"blue"
        with pytest.raises(NotAgreed, match="fewer than 4 holders") as raised:
            await reader.get("colour", reads=4)
        assert raised.value.record.value == b"blue"
        assert raised.value.trace.steps
        assert await reader.get("colour") == b"blue"


async def test_a_withdrawal_waits_for_the_acks_it_is_told_to() -> None:
    async with Neighbourhood() as here:
        await here.grow(2)
        await here.nodes[0].set("colour", b"blue")
        with pytest.raises(PartlyStored) as raised:
            await here.nodes[0].withdraw("colour", acks=3)
        assert len(raised.value.receipt.replicas) == 2
