"""Handing out long values: storers fetch them from the writer, are asked again, and replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from kademlia_node.core.contact import Address
from kademlia_node.core.key import blob_key
from kademlia_node.core.message import (
    ErrorCode,
    Refused,
    Request,
    Response,
    Store,
    Stored,
    StoreStatus,
)
from kademlia_node.core.record import Reason
from kademlia_node.errors import Conflict, NotStored
from kademlia_node.node.deposit import IDLE_MAX, TOO_FAR_MAX
from kademlia_node.node.node import Node
from kademlia_node.settings import CHUNK_BYTES, VALUE_BYTES_MAX, Settings
from tests.node.network import (
    HOUR,
    PRIVATE,
    WALKING,
    Neighbourhood,
    Puppet,
    commons_entry,
    nearest,
)

COPIES = PRIVATE.copies
CALM = Settings(  # writes alone are heard
    liveness_s=HOUR, check_every_s=HOUR, look_again_s=HOUR, republish="never"
)
CHUNKS = VALUE_BYTES_MAX // CHUNK_BYTES
LONGEST = Random(9).randbytes(VALUE_BYTES_MAX)


async def count(nodes: Sequence[Node], name: str) -> int:
    """A counter, summed over these nodes."""
    return sum([(await node.status()).counters.get(name, 0) for node in nodes])


async def client_and_puppets(here: Neighbourhood, count: int = 8) -> tuple[Node, list[Puppet]]:
    """A writer that stores nothing itself, among puppets that do as they should so far."""
    puppets = await here.grow_puppets(count)
    return await here.start(server=False), puppets


# --- Who gets it ------------------------------------------------------------------------------


async def test_a_blob_of_64_kib_is_fetched_by_each_of_its_holders() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(12)
        client = await here.start(server=False)
        receipt = await client.put(LONGEST)
        true = {node.id for node in nearest(receipt.key, nodes)[:COPIES]}
        assert {contact.id for contact in receipt.replicas} == true
        assert await here.holders(receipt.key) == true
        assert receipt.refused == {}
        assert await count([client], "served_Chunk") == COPIES * CHUNKS
        assert await count(nodes, "offers_fetched") == COPIES


async def test_a_name_of_64_kib_is_read_by_everybody() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(6)
        await nodes[0].set("colour", LONGEST)
        assert [await node.get("colour") for node in nodes] == [LONGEST] * 6


async def test_a_replica_that_is_the_writer_needs_no_chunks() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        receipt = await node.put(LONGEST)
        assert [contact.id for contact in receipt.replicas] == [node.id]
        assert await node.get(receipt.key) == LONGEST
        assert await count([node], "served_Chunk") == 0


@pytest.mark.parametrize(("loss", "seed"), [(0.05, 1), (0.05, 2), (0.05, 3), (0.1, 4)])
async def test_lost_packets_leave_no_holder_out(loss: float, seed: int) -> None:
    async with Neighbourhood(seed=seed) as here:
        await here.grow(8)
        client = await here.start(server=False)
        here.sim.loss = loss
        receipt = await client.put(LONGEST)
        assert len(receipt.replicas) >= COPIES
        assert {contact.id for contact in receipt.replicas} <= await here.holders(receipt.key)


async def test_the_same_long_blob_put_again_costs_headers_only() -> None:
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(6)
        client = await here.start(server=False)
        receipt = await client.put(LONGEST)
        chunks, sent = await count([client], "served_Chunk"), here.sim.sent.size_bytes
        await asyncio.sleep(60)
        again = await client.put(LONGEST)
        assert again.expires >= receipt.expires + 60
        assert await count([client], "served_Chunk") == chunks
        assert here.sim.sent.size_bytes - sent < 10_000
        (record,) = await here.held(nearest(receipt.key, here.nodes[:6])[0], receipt.key)
        assert record.header.expires == again.expires


async def test_one_value_may_be_written_twice_at_once() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(6)
        receipts = await asyncio.gather(
            nodes[0].put(LONGEST), nodes[0].set("colour", LONGEST), nodes[1].put(LONGEST)
        )
        assert [len(receipt.replicas) for receipt in receipts] == [COPIES] * 3
        for receipt in receipts:
            holders = {contact.id for contact in receipt.replicas}
            assert holders <= await here.holders(receipt.key)


async def test_who_was_not_waited_for_gets_it_all_the_same() -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        client = await here.start(server=False)
        receipt = await client.put(LONGEST, acks=1)
        assert 1 <= len(receipt.replicas) < COPIES
        await asyncio.sleep(10)
        assert len(await here.holders(receipt.key)) == COPIES


async def test_a_cancelled_put_is_finished_behind_the_back_of_whoever_gave_it_up() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(8)
        client = await here.start(server=False)
        putting = asyncio.create_task(client.put(LONGEST))
        while not await count(nodes, "served_Store"):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.1)
        putting.cancel()
        await asyncio.wait([putting])
        assert await count(nodes, "offers_fetched") == 0
        await asyncio.sleep(10)
        assert await count(nodes, "offers_fetched") == COPIES


async def test_a_lost_update_of_a_long_value_is_a_conflict() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(6)
        first = await nodes[0].set("colour", LONGEST)
        second = await nodes[1].set("colour", LONGEST[::-1], expect_seq=first.seq)
        with pytest.raises(Conflict) as conflict:
            await nodes[2].set("colour", LONGEST[1:], expect_seq=first.seq)
        assert conflict.value.current is not None
        assert conflict.value.current.header.seq == second.seq
        assert await nodes[3].get("colour") == LONGEST[::-1]


# --- Who does not take it ---------------------------------------------------------------------


class StoreScript:
    """A puppet's answer to its first `times` STOREs; after that it does as it should."""

    def __init__(self, stored: Stored | Refused, *, times: int = 1000) -> None:
        self._stored = stored
        self._times = times
        self.asked: list[Store] = []

    def __call__(self, request: Request) -> Response | None:
        if not isinstance(request, Store):
            return None
        self.asked.append(request)
        return self._stored if len(self.asked) <= self._times else None


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (Stored(StoreStatus.BUSY), "busy"),
        (Stored(StoreStatus.QUOTA), "quota"),
        (Stored(StoreStatus.BAD, reason=Reason.EXPIRED), "bad: expired"),
        (Stored(StoreStatus.BAD, reason=99), "bad"),
        (Refused(ErrorCode.BUSY, "silent"), "refused: silent"),
    ],
)
async def test_who_refuses_a_long_value_is_named_with_the_reason_and_replaced(
    stored: Stored | Refused, reason: str
) -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        refuser = nearest(blob_key(LONGEST), puppets)[0]
        refuser.answer = StoreScript(stored)
        receipt = await client.put(LONGEST)
        assert {contact.id: why for contact, why in receipt.refused.items()} == {refuser.id: reason}
        assert len(receipt.replicas) == COPIES
        assert len(await here.holders(receipt.key)) == COPIES


async def test_one_who_says_too_far_is_replaced_and_costs_no_copy() -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        far = nearest(blob_key(LONGEST), puppets)[0]
        far.answer = StoreScript(Stored(StoreStatus.TOO_FAR))
        receipt = await client.put(LONGEST)
        assert list(receipt.refused.values()) == ["too far"]
        assert len(receipt.replicas) == COPIES


async def test_the_nearest_cannot_shut_out_a_record_by_saying_too_far() -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        for liar in nearest(blob_key(LONGEST), puppets)[:COPIES]:
            liar.answer = StoreScript(Stored(StoreStatus.TOO_FAR))
        receipt = await client.put(LONGEST)
        assert len(receipt.replicas) == COPIES


async def test_where_several_spares_are_too_far_nobody_farther_is_asked() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(14)
        client = await here.start(server=False, settings=WALKING)
        for puppet in puppets:
            puppet.answer = StoreScript(Stored(StoreStatus.TOO_FAR))
        with pytest.raises(NotStored) as raised:
            await client.put(LONGEST)
        assert COPIES + TOO_FAR_MAX <= len(raised.value.receipt.refused) < len(puppets) - 3


async def test_who_says_need_and_fetches_nothing_is_replaced_after_a_silence() -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        refuser = nearest(blob_key(LONGEST), puppets)[0]
        script = refuser.answer = StoreScript(Stored(StoreStatus.NEED))
        receipt = await client.put(LONGEST)
        assert len(receipt.replicas) == COPIES
        assert receipt.trace.duration_s < 2 * Settings().offer_silence_s
        await asyncio.sleep(60)
        assert len(script.asked) == IDLE_MAX + 1


async def test_who_fetches_nothing_is_named_with_the_reason() -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        for puppet in puppets:
            puppet.answer = StoreScript(Stored(StoreStatus.NEED))
        with pytest.raises(NotStored) as raised:
            await client.put(LONGEST)
        assert set(raised.value.receipt.refused.values()) == {"did not fetch the value"}


async def test_who_begins_late_is_asked_again() -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        forgetful = nearest(blob_key(LONGEST), puppets)[0]
        forgetful.answer = StoreScript(Stored(StoreStatus.NEED), times=1)
        receipt = await client.put(LONGEST)
        await asyncio.sleep(10)
        assert forgetful.id in await here.holders(receipt.key)
        assert receipt.refused == {}


async def test_who_says_need_to_a_short_value_does_not_take_it() -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        refuser = nearest(blob_key(b"short"), puppets)[0]
        script = refuser.answer = StoreScript(Stored(StoreStatus.NEED))
        receipt = await client.put(b"short")
        assert len(script.asked) == 1
        assert list(receipt.refused.values()) == ["did not fetch the value"]
        assert len(receipt.replicas) == COPIES


async def test_who_vanishes_while_it_fetches_is_replaced() -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        vanishing = nearest(blob_key(LONGEST), puppets)[0]
        fetched = 0

        def watch(source: Address, _to: Address, _datagram: bytes) -> None:
            nonlocal fetched
            fetched += source == vanishing.address and begun
            if fetched == 20:
                here.sim.unplug(vanishing.address)

        begun = False
        here.sim.taps.append(watch)

        def begin(request: Request) -> None:
            nonlocal begun
            begun = begun or isinstance(request, Store)

        vanishing.answer = begin
        receipt = await client.put(LONGEST)
        assert fetched >= 20
        assert {contact.id: why for contact, why in receipt.refused.items()} == {
            vanishing.id: "silent"
        }
        assert len(await here.holders(receipt.key)) == COPIES


# --- What refusals prove ----------------------------------------------------------------------


async def test_a_header_of_something_else_proves_no_newer_version() -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        other = commons_entry("other", b"theirs", seq=2**50, expires=here.sim.wall() + HOUR)
        key = client.key_of("colour")
        nearest(key, puppets)[0].answer = StoreScript(Stored(StoreStatus.OLD, other.header))
        receipt = await client.set("colour", LONGEST)
        assert list(receipt.refused.values()) == ["old"]
        assert len(receipt.replicas) == COPIES
        assert await count([client], "bad_record_writer_wrong_key") == 0


async def test_a_forged_newer_version_is_counted_and_proves_nothing() -> None:
    async with Neighbourhood() as here:
        client, puppets = await client_and_puppets(here)
        true = commons_entry("colour", b"theirs", seq=1, expires=here.sim.wall() + HOUR)
        seq = int(here.sim.wall() + HOUR) * 1_000_000
        forged = Stored(StoreStatus.OLD, replace(true.header, seq=seq))
        nearest(client.key_of("colour"), puppets)[0].answer = StoreScript(forged)
        receipt = await client.set("colour", LONGEST)
        assert receipt.seq < seq
        assert await count([client], "bad_record_writer_bad_signature") == 1
        assert await client.get("colour") == LONGEST
