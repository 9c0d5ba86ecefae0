"""Read repair: who lacks what was read is given it, by whoever read it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from kademlia_node.core.key import Key
from kademlia_node.core.message import (
    FindValue,
    Item,
    Refused,
    Request,
    Response,
    Store,
    Stored,
    Values,
)
from kademlia_node.core.message import StoreStatus as Status
from kademlia_node.core.record import Record
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import Receipt
from kademlia_node.settings import Settings
from kademlia_node.store.memory import MemoryStore
from tests.node.network import (
    HOUR,
    Neighbourhood,
    Puppet,
    commons_entry,
    contact_of,
    nearest,
)

LONG = bytes(range(256)) * 20
UNREPAIRED = Settings(republish="never")  # whoever reads is the only one who mends
CALM = Settings(  # for long runs: fewer chores, and no renewal
    republish="never",
    renew_after_s=40 * HOUR,
    liveness_s=HOUR,
    check_every_s=HOUR,
    refresh_every_s=HOUR,
)


class Forgetful(MemoryStore):
    """Loses everything when told to."""

    def lose_all(self) -> None:
        MemoryStore.__init__(self, self._own_id, settings=Settings())

    def __init__(self, own_id: bytes) -> None:
        self._own_id = own_id
        super().__init__(own_id, settings=Settings())


async def grow_forgetful(here: Neighbourhood, count: int) -> dict[bytes, Forgetful]:
    """So many servers, and the store of each."""
    stores = {}
    for _ in range(count):
        identity = here.new_identity()
        stores[identity.id] = Forgetful(identity.id)
        await here.start_as(Puppet, identity=identity, store=stores[identity.id])
    return stores


async def new_reader(here: Neighbourhood) -> Node:
    """Asks the nearest first, one after the other."""
    return await here.start(server=False, settings=Settings(paths=1, parallel=1))


async def read(node: Node, what: Key | str) -> Record | None:
    """Read, and wait for what is done behind the reader's back."""
    record, _ = await node.get_record(what)
    await asyncio.sleep(5)
    return record


async def write(node: Node, kind: str) -> tuple[Receipt, Key | str]:
    """Write, and say what to read."""
    value = LONG if "long" in kind else b"blue"
    if "blob" in kind:
        receipt = await node.put(value)
        return receipt, receipt.key
    return await node.set("colour", value), "colour"


@pytest.mark.parametrize("kind", ["blob", "entry", "long blob", "long entry"])
async def test_a_holder_that_lost_a_record_has_it_again_once_somebody_reads_it(kind: str) -> None:
    async with Neighbourhood(settings=UNREPAIRED) as here:
        stores = await grow_forgetful(here, 8)
        receipt, what = await write(here.nodes[0], kind)
        lost = nearest(receipt.key, here.nodes)[0]
        (before,) = await here.held(lost, receipt.key)
        stores[lost.id].lose_all()
        assert await here.held(lost, receipt.key) == []
        reader = await new_reader(here)
        await asyncio.sleep(HOUR)
        assert await read(reader, what) == before
        assert await here.held(lost, receipt.key) == [before]
        assert (await reader.status()).counters["read_repairs"] == 1


async def test_a_nearer_node_that_joined_is_given_what_was_read() -> None:
    async with Neighbourhood(settings=UNREPAIRED) as here:
        await here.grow(4)
        receipt = await here.nodes[0].set("colour", b"blue")
        while True:
            newcomer = await here.start()
            if nearest(receipt.key, here.nodes)[0] is newcomer:
                break
        await read(await new_reader(here), "colour")
        assert newcomer.id in await here.holders(receipt.key)


@pytest.mark.parametrize("value", [b"red", LONG, None], ids=["short", "long", "a deletion"])
async def test_an_old_version_is_replaced(value: bytes | None) -> None:
    async with Neighbourhood(settings=UNREPAIRED) as here:
        puppets = await here.grow_puppets(8)
        receipt = await puppets[0].set("colour", b"blue")
        lagging = nearest(receipt.key, puppets)[0]
        lagging.answer = lambda request: Refused(0, "no") if isinstance(request, Store) else None
        writer = nearest(receipt.key, puppets)[-1]
        newer = await (writer.withdraw("colour") if value is None else writer.set("colour", value))
        lagging.answer = lambda _: None
        await read(await new_reader(here), "colour")
        (record,) = await here.held(lagging, receipt.key)
        assert (record.header.seq, record.value) == (newer.seq, value or b"")
        assert record.header.is_tombstone == (value is None)


async def test_who_refuses_a_copy_is_not_asked_at_each_read() -> None:
    async with Neighbourhood(settings=UNREPAIRED) as here:
        puppets = await here.grow_puppets(8)
        receipt = await puppets[0].set("colour", b"blue")
        unwilling = nearest(receipt.key, puppets)[0]
        stores = 0

        def refuse(request: Request) -> Response | None:
            nonlocal stores
            stores += isinstance(request, Store)
            if isinstance(request, FindValue):
                return Values((), 0, None, ())
            return Stored(Status.QUOTA) if isinstance(request, Store) else None

        unwilling.answer = refuse
        reader = await new_reader(here)
        for _ in range(5):
            assert await read(reader, "colour") is not None
        assert stores == 1
        await asyncio.sleep(Settings().neighbourhood_s)
        await read(reader, "colour")
        assert stores == 2


async def test_who_is_not_nearer_than_a_holder_is_given_nothing() -> None:
    async with Neighbourhood(settings=UNREPAIRED) as here:
        await here.grow(12)
        receipt = await here.nodes[0].set("colour", b"blue")
        holders = await here.holders(receipt.key)
        for node in here.nodes:
            await read(node, "colour")
            assert (await node.status()).counters.get("read_repairs", 0) == 0
        assert await here.holders(receipt.key) == holders


@pytest.mark.parametrize("kind", ["blob", "entry"])
async def test_repair_never_moves_an_expiry(kind: str) -> None:
    async with Neighbourhood(settings=CALM) as here:
        stores = await grow_forgetful(here, 6)
        receipt, what = await write(here.nodes[0], kind)
        lost = nearest(receipt.key, here.nodes)[0]
        await asyncio.sleep(30 * HOUR)
        stores[lost.id].lose_all()
        await read(await new_reader(here), what)
        (record,) = await here.held(lost, receipt.key)
        assert record.header.expires == receipt.expires


@pytest.mark.parametrize("lie", ["another value", "another signature"])
async def test_nothing_is_repaired_with_what_does_not_verify(lie: str) -> None:
    async with Neighbourhood(settings=UNREPAIRED) as here:
        puppets = await here.grow_puppets(8)
        receipt = await puppets[0].set("colour", b"blue")
        forged = commons_entry("colour", b"red!", seq=receipt.seq + 1, expires=receipt.expires)
        header = replace(forged.header, signature=bytes(64)) if "sig" in lie else forged.header
        value = b"red?" if lie == "another value" else b"red!"
        by_distance = nearest(receipt.key, puppets)
        for liar in by_distance[1:3]:
            liar.answer = lambda request: (
                Values((), 1, None, (Item(header, value),))
                if isinstance(request, FindValue)
                else None
            )
        record = await read(await new_reader(here), "colour")
        assert record is not None
        assert record.value == b"blue"
        for node in puppets:
            assert all(held.value == b"blue" for held in await here.held(node, receipt.key))


async def test_a_reader_that_stops_takes_its_repairs_along() -> None:
    async with Neighbourhood(settings=UNREPAIRED) as here:
        stores = await grow_forgetful(here, 4)
        receipt, what = await write(here.nodes[0], "long blob")
        stores[nearest(receipt.key, here.nodes)[0].id].lose_all()
        reader = await new_reader(here)
        assert await reader.get(what) == LONG
        await reader.stop()
        await asyncio.sleep(60)
        assert contact_of(reader) not in here.nodes[0].contacts()
