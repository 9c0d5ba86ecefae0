"""Storers that forget or lie about lengths, and what honest holders make of that."""

from __future__ import annotations

import asyncio
from random import Random
from typing import cast

import pytest

from kademlia_node.core.message import Chunk, Chunked, FindValue, Values
from kademlia_node.sim import FixedLatency, Swarm
from kademlia_node.sim.attack import Attack, Attacker, launch

LAN = FixedLatency(0.02)


async def found_by_a_newcomer(attack: Attack | None) -> bytes | None:
    """What is found when the two honest nodes have lost all, and only three others acknowledged."""
    async with Swarm(nodes=2, seed=1, latency=LAN) as swarm:
        if attack is None:
            others = await swarm.grow(3)
        else:
            others = list((await launch(attack, swarm, count=3, rng=Random(1))).nodes)
        receipt = await swarm.nodes[0].set("colour", b"blue")
        await asyncio.sleep(10.0)
        acknowledged = {contact.public_key for contact in receipt.replicas}
        assert {node.public_key for node in others} <= acknowledged
        for node in swarm.nodes[:2]:
            await swarm.crash(node, keep_store=False)
        (newcomer,) = await swarm.grow(1, via=others)
        return await newcomer.get("colour", default=None)


async def test_what_only_forgetters_acknowledged_is_gone() -> None:
    assert await found_by_a_newcomer(None) == b"blue"
    assert await found_by_a_newcomer(Attack.FORGET) is None


async def test_one_honest_replica_among_forgetters_is_enough() -> None:
    async with (
        Swarm(nodes=20, seed=1, latency=LAN) as swarm,
        await launch(Attack.FORGET, swarm, count=5, rng=Random(1)) as assault,
    ):
        for number in range(10):
            receipt = await swarm.nodes[number].put(b"%d" % number)
            honest = [one for one in receipt.replicas if one not in assault.gang]
            assert honest
            assert await swarm.nodes[19].get(receipt.key) == b"%d" % number


@pytest.mark.parametrize("size", [10, 5000, 65536])
async def test_who_lies_about_lengths_spoils_no_read_where_honest_nodes_hold_it(size: int) -> None:
    async with Swarm(nodes=16, seed=1, latency=LAN) as swarm:
        value = Random(1).randbytes(size)
        async with await launch(Attack.LENGTHS, swarm, count=4, rng=Random(1), rate_per_s=0.1):
            receipt = await swarm.nodes[0].put(value)
            await swarm.nodes[1].set("name", value)
            await swarm.nodes[2].announce("topic", value)
            for node in swarm.nodes[3:16]:
                async with asyncio.timeout(30.0):
                    assert await node.get(receipt.key) == value
                    assert await node.get("name") == value
            async with asyncio.timeout(600.0):
                assert {entry.value async for entry in swarm.nodes[5].find("topic")} == {value}


async def test_a_liar_about_length_alters_every_length_it_is_asked_for() -> None:
    async with (
        Swarm(nodes=8, seed=1, latency=LAN) as swarm,
        await launch(Attack.LENGTHS, swarm, count=1, rng=Random(1)) as assault,
    ):
        mallory = cast("Attacker", assault.nodes[0])
        lie = mallory.altered(FindValue(bytes(32)), Values((), 0, None, ()))
        assert isinstance(lie, Values)
        assert lie.count > 0
        assert lie.snapshot is not None
        pieces = [mallory.altered(Chunk(bytes(32), 0), Chunked(b"x" * 1000)) for _ in range(20)]
        lengths = [len(one.data or b"") for one in pieces if isinstance(one, Chunked)]
        assert min(lengths) < 1000 < max(lengths)
        assert 1000 not in lengths


async def test_offers_of_false_lengths_are_fetched_in_vain_and_fill_no_store() -> None:
    async with Swarm(nodes=8, seed=1, latency=LAN) as swarm:
        honest = swarm.nodes[:]
        async with await launch(
            Attack.LENGTHS, swarm, count=2, rng=Random(1), rate_per_s=20.0
        ) as assault:
            strikes = assault.gang.strikes
            await asyncio.sleep(15.0)
            assert assault.gang.strikes - strikes >= 550
            status = [await node.status() for node in honest]
            receipt = await honest[0].put(b"x" * 5000)
            assert await honest[5].get(receipt.key) == b"x" * 5000
        assert sum(one.records for one in status) == 0
        assert sum(one.counters.get("store_need", 0) for one in status) > 500
        assert sum(one.counters.get("offers_not_fetched", 0) for one in status) > 50
