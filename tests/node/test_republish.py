"""The paper's republication: each holder hands out what it holds, unless another one just did."""

from __future__ import annotations

import asyncio

import pytest

from kademlia_node.core.key import Key, Kind
from kademlia_node.core.record import make_blob
from kademlia_node.node.node import Node
from kademlia_node.settings import EXPIRY_DEFAULT_S, Settings
from tests.node.network import HOUR, PRIVATE, Neighbourhood, commons_entry, nearest

COPIES = PRIVATE.copies
HOURLY = Settings(republish="hourly", renew_after_s=40 * HOUR)


async def republished(here: Neighbourhood) -> int:
    counters = [(await node.status()).counters for node in here.nodes]
    return sum(one.get("republished", 0) for one in counters)


async def lose(here: Neighbourhood, node: Node) -> None:
    await node.stop()
    here.nodes.remove(node)


async def test_what_only_one_still_holds_is_handed_to_the_nearest_within_an_hour() -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        nodes = await here.grow(8)
        blob = make_blob(b"lost but once", expires=int(here.sim.wall() + EXPIRY_DEFAULT_S))
        key = Key(Kind.BLOB, blob.key)
        holder = nearest(key, nodes)[-1]
        await here.store_of(holder).put(blob, charged_to=b"", wall=here.sim.wall())
        await asyncio.sleep(1.1 * HOUR)
        assert {node.id for node in nearest(key, nodes)[:COPIES]} <= await here.holders(key)
        assert [await here.held(node, key) for node in nearest(key, nodes)[:COPIES]] == [
            [blob]
        ] * COPIES, "the expiry is as it was"


async def test_the_first_of_the_holders_spares_the_others_their_turn() -> None:
    """Section 2.5: about one of them an hour, where without it would be all three."""
    async with Neighbourhood(settings=HOURLY) as here:
        await here.grow(4)
        writer = await here.start(server=False)
        for number in range(20):
            await writer.set(f"name {number}", b"value")
        await asyncio.sleep(0.8 * HOUR)
        assert await republished(here) == 0, "all were handed a copy within the hour"
        await asyncio.sleep(4 * HOUR)
        hours = 4 - 0.2
        assert 0.7 * 20 * hours <= await republished(here) <= 1.5 * 20 * hours


async def test_a_holder_that_was_lost_is_replaced() -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        nodes = await here.grow(8)
        receipt = await nodes[0].set("colour", b"blue")
        await lose(here, nearest(receipt.key, nodes)[0])
        await asyncio.sleep(2.3 * HOUR)
        closest = nearest(receipt.key, here.nodes)[:COPIES]
        assert {node.id for node in closest} <= await here.holders(receipt.key)


async def test_what_expired_is_not_handed_out() -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        nodes = await here.grow(4)
        entry = commons_entry("colour", b"blue", seq=1, expires=here.sim.wall() + 0.5 * HOUR)
        for node in nodes[:COPIES]:
            await here.store_of(node).put(entry, charged_to=b"", wall=here.sim.wall())
        await asyncio.sleep(0.6 * HOUR)
        before = await republished(here)
        await asyncio.sleep(3 * HOUR)
        assert await republished(here) == before
        assert await here.holders(Key(Kind.ENTRY, entry.key)) == set()


@pytest.mark.parametrize("value", [b"short", bytes(5000)], ids=["short", "long"])
async def test_the_chore_takes_the_place_of_repair(value: bytes) -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        nodes = await here.grow(4)
        await nodes[0].put(value)
        await asyncio.sleep(2 * HOUR)
        status = await nodes[0].status()
        assert "republish" in status.chores
        assert "repair" not in status.chores
        assert all([(await node.status()).counters.get("served_Digest", 0) == 0 for node in nodes])
        assert await republished(here) > 0
