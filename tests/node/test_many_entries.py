"""Many entries or contents at once: as if announced one by one, for a fraction of the walks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kademlia_node.core.key import blob_key, topic_key
from kademlia_node.core.message import Store, Stored, StoreStatus
from kademlia_node.errors import ValueTooLarge
from kademlia_node.node.announcing import Announcement
from kademlia_node.node.download import holders_topic
from kademlia_node.sim import FixedLatency, Swarm
from tests.node.network import Neighbourhood, collect
from tests.node.providers import manifest_of

ENTRIES = [
    Announcement(f"topic {number % 50}", b"value %d" % number, slot=f"slot {number}")
    for number in range(200)
]


async def walked(swarm: Swarm) -> int:
    """How many FIND_NODEs were answered in all."""
    counters = [(await node.status()).counters for node in swarm.nodes]
    return sum(counted.get("served_FindNode", 0) for counted in counters)


async def test_many_entries_share_walks_and_reach_the_nodes_that_are_responsible() -> None:
    async with Swarm(nodes=60, seed=3, latency=FixedLatency(0.02)) as swarm:
        *_, together, alone = swarm.nodes
        before = await walked(swarm)
        receipts = await together.announce_many(ENTRIES)
        between = await walked(swarm)
        for one in ENTRIES[:25]:
            await alone.announce(one.topic, one.value, slot=one.slot)
        by_one = (await walked(swarm) - between) / 25
        assert between - before < len(ENTRIES) * by_one / 3
        for one, receipt in zip(ENTRIES, receipts, strict=True):
            assert receipt.key == topic_key(one.topic.encode())
            truth = swarm.true_closest(receipt.key.digest, receipt.copies)
            assert set(receipt.replicas) == set(truth)


async def test_they_are_found_and_when_withdrawn_they_are_not() -> None:
    async with Neighbourhood() as here:
        alice, bob, *_ = await here.grow(6)
        await alice.announce_many(ENTRIES, ttl_s=600)
        found = await collect(bob.find("topic 7"))
        expected = {(e.slot.encode(), e.value) for e in ENTRIES if e.topic == "topic 7"}
        assert {(entry.slot, entry.value) for entry in found} == expected
        assert all(entry.author == alice.public_key for entry in found)
        assert {one.ttl_s async for one in alice.publications()} == {600}
        gone = [(one.topic, one.slot) for one in ENTRIES if one.topic != "topic 8"]
        receipts = await alice.withdraw_many(gone, ttl_s=600)
        assert all(receipt.expires <= here.sim.wall() + 600 for receipt in receipts)
        assert await collect(bob.find("topic 7")) == []
        assert len(await collect(bob.find("topic 8"))) == 4
        await asyncio.sleep(600)
        assert len(await collect(alice.publications())) == 4


async def test_what_nobody_takes_has_an_empty_receipt() -> None:
    async with Neighbourhood() as here:
        for puppet in await here.grow_puppets(6):
            puppet.answer = lambda request: (
                Stored(StoreStatus.QUOTA)
                if isinstance(request, Store) and request.value == b"value 1"
                else None
            )
        client = await here.start(server=False)
        receipts = await client.announce_many(ENTRIES[:3])
        assert [len(receipt.replicas) for receipt in receipts] == [3, 0, 3]
        assert len(await collect(client.publications())) == 2


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ([ENTRIES[0], Announcement("t", b"x" * 65_537)], ValueTooLarge),
        ([ENTRIES[0], Announcement("t", b"", slot="s" * 65)], ValueError),
        ("text", TypeError),
    ],
)
async def test_a_bad_entry_is_refused_before_anything_is_sent(
    bad: Any, error: type[Exception]
) -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        with pytest.raises(error):
            await alice.announce_many(bad)
        assert await collect(alice.publications()) == []


# --- Contents -------------------------------------------------------------------------------------


MANIFESTS = [manifest_of(b"content %d" % number) for number in range(100)]


async def test_many_contents_share_walks_and_their_holder_is_announced() -> None:
    async with Swarm(nodes=60, seed=3, latency=FixedLatency(0.02)) as swarm:
        *_, together, alone = swarm.nodes
        before = await walked(swarm)
        receipts = await together.provide_many(MANIFESTS, ttl_s=600)
        between = await walked(swarm)
        for manifest in MANIFESTS[:20]:
            await alone.provide(manifest)
        by_one = (await walked(swarm) - between) / 20
        assert between - before < len(MANIFESTS) * by_one / 2
        for manifest, receipt in zip(MANIFESTS, receipts, strict=True):
            assert receipt.key == blob_key(manifest.pack())
            held = await swarm.held(holders_topic(receipt.key))
            said = [record for records in held.values() for record in records]
            assert together.public_key in {record.header.author for record in said}
        assert {one.ttl_s async for one in together.publications()} == {600}


async def test_a_content_whose_manifest_or_announcement_nobody_took_has_no_replicas() -> None:
    async with Neighbourhood() as here:
        keys = [blob_key(manifest.pack()) for manifest in MANIFESTS[:3]]
        unwanted = {keys[0].digest, holders_topic(keys[1]).digest}
        for puppet in await here.grow_puppets(6):
            puppet.answer = lambda request: (
                Stored(StoreStatus.QUOTA)
                if isinstance(request, Store) and request.key in unwanted
                else None
            )
        client = await here.start(server=False)
        receipts = await client.provide_many(MANIFESTS[:3])
        assert [receipt.key for receipt in receipts] == keys
        assert [len(receipt.replicas) for receipt in receipts] == [0, 0, 3]
        assert not await here.holders(holders_topic(keys[0]))
