"""Colluders, Sybils and falsifiers: what they say, what it does to one path, and to four."""

from __future__ import annotations

import asyncio
from random import Random
from typing import cast

import pytest

from kademlia_node import Node, Receipt, Settings
from kademlia_node.core.ids import distance
from kademlia_node.core.key import blob_key
from kademlia_node.core.message import FindNode, FindValue, Item, Nodes, Ping, Values
from kademlia_node.node.receipt import StepOutcome
from kademlia_node.sim import FixedLatency, Swarm
from kademlia_node.sim.attack import Assault, Attack, Attacker, launch

LAN = FixedLatency(0.02)
MEASURED_S = 60.0  # by then every node knows how large the network is


def first(assault: Assault) -> Attacker:
    return cast("Attacker", assault.nodes[0])


async def test_a_colluder_names_the_colluders_nearest_to_the_target_and_shows_nothing() -> None:
    async with Swarm(nodes=10, seed=1, latency=LAN) as swarm:
        receipt = await swarm.nodes[0].set("colour", b"blue")
        async with await launch(Attack.COLLUDE, swarm, count=4, rng=Random(1)) as assault:
            mallory, target = first(assault), receipt.key.digest
            named = mallory.instead(FindNode(target))
            assert isinstance(named, Nodes)
            gang = {node.public_key for node in assault.nodes}
            assert {contact.public_key for contact in named.contacts} == gang
            away = [distance(contact.id, target) for contact in named.contacts]
            assert away == sorted(away)
            assert mallory.instead(FindValue(target)) == Values(named.contacts, 0, None, ())
            assert mallory.instead(Ping()) is None


async def test_a_gang_with_a_target_answers_honestly_about_all_else() -> None:
    async with Swarm(nodes=10, seed=1, latency=LAN) as swarm:
        receipt = await swarm.nodes[0].set("colour", b"blue")
        async with await launch(
            Attack.SYBIL_HIDE, swarm, count=2, rng=Random(1), target=receipt.key
        ) as assault:
            mallory = first(assault)
            assert mallory.instead(FindValue(receipt.key.digest)) is not None
            assert mallory.instead(FindValue(bytes(32))) is None
            assert mallory.instead(FindNode(bytes(32))) is None


async def test_a_misdirector_names_honest_keys_where_they_are_not() -> None:
    async with (
        Swarm(nodes=10, seed=1, latency=LAN) as swarm,
        await launch(Attack.FALSE_ADDRESSES, swarm, count=3, rng=Random(1)) as assault,
    ):
        named = first(assault).instead(FindNode(bytes(32)))
        assert isinstance(named, Nodes)
        truth = {c.public_key: c for c in swarm.true_closest(bytes(32), 99, hostile=True)}
        honest = [one for one in named.contacts if one not in assault.gang]
        assert len(honest) == 10
        assert len(named.contacts) == 13
        assert all(truth[one.public_key].address != one.address for one in honest)
        ids = [one.id for one in named.contacts]
        assert ids == sorted(ids)  # nearest to zero first


@pytest.mark.parametrize("attack", [Attack.COLLUDE, Attack.FALSE_ADDRESSES])
async def test_four_paths_get_through_a_fifth_of_colluders(attack: Attack) -> None:
    async with Swarm(nodes=28, seed=1, latency=LAN) as swarm:
        early = [await node.put(b"early %d" % n) for n, node in enumerate(swarm.nodes[:8])]
        async with await launch(attack, swarm, count=7, rng=Random(1)):
            await asyncio.sleep(30.0)
            rng = Random(2)
            for number, receipt in enumerate(early):
                reader = rng.choice(swarm.alive)
                assert await reader.get(receipt.key) == b"early %d" % number
                late = await rng.choice(swarm.alive).put(b"late %d" % number)
                assert await rng.choice(swarm.alive).get(late.key) == b"late %d" % number


async def readers_that_find(*, paths: int, parallel: int) -> tuple[int, int]:
    """How many of 12 lookups end among Sybils alone, and how many of 48 readers find the value."""
    settings = Settings(
        k=4,
        far_buckets=(4,),
        near_bucket=4,
        replacements=0,
        seed_from_sessions=False,
        paths=paths,
        parallel=parallel,
    )
    async with Swarm(nodes=48, seed=3, latency=LAN, settings=settings) as swarm:
        await asyncio.sleep(60.0)
        receipt = await swarm.nodes[0].set("colour", b"blue")
        async with await launch(
            Attack.SYBIL_HIDE, swarm, count=8, rng=Random(1), target=receipt.key
        ) as assault:
            await asyncio.sleep(60.0)
            captured = 0
            for node in swarm.alive[::4]:
                found, _ = await node.lookup(receipt.key.digest)
                captured += all(contact in assault.gang for contact in found)
            values = [await node.get("colour", default=None) for node in swarm.alive]
            return captured, values.count(b"blue")


async def test_sybils_capture_lookups_and_readers_of_one_path_but_no_reader_of_four() -> None:
    """Of k = 4 and 8 Sybils: the end of every lookup is theirs, but not what is met on the way."""
    captured, found = await readers_that_find(paths=1, parallel=1)
    assert captured == 12
    assert found < 48
    assert await readers_that_find(paths=4, parallel=2) == (12, 48)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_node_that_has_just_started_does_not_write_to_sybils_alone(seed: int) -> None:
    """Found by simulation: before the size of the network was known, six Sybils took all copies."""
    async with Swarm(nodes=20, seed=seed, latency=LAN) as swarm:
        key = swarm.nodes[3].key_of("colour")
        rng = Random(1)
        async with await launch(Attack.SYBIL_HIDE, swarm, count=6, rng=rng, target=key):
            await swarm.nodes[3].set("colour", b"blue")
            await asyncio.sleep(30.0)
            assert len(await swarm.holders(key)) > 0
            for reader in swarm.alive:
                assert await reader.get("colour") == b"blue"


async def only_the_attackers_hold(swarm: Swarm, receipt: Receipt) -> Node:
    """Every honest holder loses its disk; a reader that has not."""
    for node in await swarm.holders(receipt.key):
        await swarm.crash(node, keep_store=False)
    return swarm.alive[0]


async def test_sybils_hide_a_record_that_nobody_else_holds() -> None:
    async with Swarm(nodes=20, seed=1, latency=LAN) as swarm:
        key = swarm.nodes[3].key_of("colour")
        async with await launch(
            Attack.SYBIL_HIDE, swarm, count=6, rng=Random(1), target=key
        ) as assault:
            await asyncio.sleep(MEASURED_S)
            receipt = await swarm.nodes[3].set("colour", b"blue")
            await asyncio.sleep(10.0)
            held = [await swarm.machine(n).disk.get(key.digest, wall=0.0) for n in assault.nodes]
            assert sum(map(bool, held)) >= receipt.copies  # they did take it
            assert await swarm.nodes[17].get("colour") == b"blue"
            reader = await only_the_attackers_hold(swarm, receipt)
            assert await reader.get("colour", default=None) is None


async def test_what_falsifiers_show_is_a_lie_of_every_kind_and_none_is_believed() -> None:
    async with Swarm(nodes=20, seed=1, latency=LAN) as swarm:
        writer = swarm.nodes[3]
        key = writer.key_of("colour")
        async with await launch(
            Attack.SYBIL_LIE, swarm, count=6, rng=Random(1), target=key
        ) as assault:
            await asyncio.sleep(MEASURED_S)
            await writer.set("colour", b"old")
            receipt = await writer.set("colour", b"new")
            await asyncio.sleep(10.0)
            mallory = first(assault)
            (record,) = await swarm.machine(mallory).disk.get(key.digest, wall=0.0)
            truth = Values((), 1, None, (Item(record.header, record.value),))
            shown = [mallory.altered(FindValue(key.digest), truth) for _ in range(40)]
            items = {values.items[0] for values in shown if isinstance(values, Values)}
            assert len(items) == 4
            assert truth.items[0] not in items
            old = [item for item in items if item.value == b"old"]
            assert [item.header.seq < record.header.seq for item in old] == [True]
            believed, blamed = set(), 0
            for node in swarm.alive:
                found, trace = await node.get_record("colour")
                assert found is not None
                believed.add(found.value)
                blamed += trace.count(StepOutcome.BAD)
            assert believed <= {b"old", b"new"}  # an old version is withheld truth, not a lie
            assert b"new" in believed
            assert blamed > 0
            reader = await only_the_attackers_hold(swarm, receipt)
            for _ in range(5):
                assert await reader.get("colour", default=None) in {b"old", b"new", None}


@pytest.mark.parametrize("size", [100, 5000])
async def test_a_blob_that_falsifiers_garble_comes_from_an_honest_holder(size: int) -> None:
    async with Swarm(nodes=20, seed=2, latency=LAN) as swarm:
        value = Random(1).randbytes(size)
        async with await launch(
            Attack.SYBIL_LIE, swarm, count=4, rng=Random(1), target=blob_key(value)
        ):
            await asyncio.sleep(MEASURED_S)
            receipt = await swarm.nodes[3].put(value)
            await asyncio.sleep(10.0)
            blamed = 0
            for node in swarm.alive:
                record, trace = await node.get_record(receipt.key)
                assert record is not None
                assert record.value == value
                blamed += trace.count(StepOutcome.BAD)
            assert blamed > 0
