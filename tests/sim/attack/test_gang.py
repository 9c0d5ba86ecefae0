"""What attackers know together, and what a place next to a key costs them."""

from __future__ import annotations

from random import Random

from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import distance
from kademlia_node.sim import FixedLatency, NullSuite, Swarm
from kademlia_node.sim.attack import Attack, Gang, grind, launch
from kademlia_node.sim.network import SimNetwork

LAN = FixedLatency(0.02)
SUITE = NullSuite()


def crowd(count: int, *, seed: int) -> list[Identity]:
    return [Identity.generate(Random(seed + n), suite=SUITE) for n in range(count)]


def test_ground_identities_are_nearer_than_every_honest_node() -> None:
    target = bytes(32)
    nearest = min(distance(one.id, target) for one in crowd(200, seed=1))
    ids = {distance(one.id, target): one.id for one in crowd(200, seed=1)}
    sybils = grind(target, count=5, nearer_than=ids[nearest], rng=Random(2), suite=SUITE)
    distances = [distance(one.id, target) for one in sybils]
    assert len(distances) == 5
    assert max(distances) < nearest
    assert distances == sorted(distances)


def test_grinding_ends_with_the_nearest_that_the_attacker_could_afford() -> None:
    target = bytes(32)
    few, more = (
        grind(target, count=3, nearer_than=target, rng=Random(1), suite=SUITE, tries_max=tries)
        for tries in (50, 2000)
    )
    drawn = [Identity.generate(rng, suite=SUITE) for rng in [Random(1)] for _ in range(50)]
    assert [one.id for one in few] == sorted(one.id for one in drawn)[:3]
    assert max(one.id for one in more) < min(one.id for one in few)


def test_a_place_that_costs_a_puzzle_costs_more() -> None:
    sybils = grind(
        bytes(32),
        count=1,
        nearer_than=bytes([0xFF]) * 32,
        rng=Random(1),
        suite=SUITE,
        puzzle_bits=6,
        tries_max=3,
    )
    assert sybils == []


async def test_a_dead_address_is_never_that_of_a_node() -> None:
    async with Swarm(nodes=2, seed=1) as swarm:
        gang = Gang(swarm, rng=Random(1))
        hosts = {gang.dead_address().host for _ in range(200)}
        assert len(hosts) == 200
        network = SimNetwork(rng=Random(1))
        fresh = {(await network.listen("", 0, lambda *_: None)).address.host for _ in range(2000)}
        assert not hosts & fresh


async def test_an_honest_key_is_misplaced_always_at_the_same_false_address() -> None:
    async with Swarm(nodes=10, seed=1, latency=LAN) as swarm:
        assault = await launch(Attack.COLLUDE, swarm, count=2, rng=Random(1))
        honest = swarm.true_closest(bytes(32), 10)
        false = [assault.gang.misplaced(contact) for contact in honest]
        assert false == [assault.gang.misplaced(contact) for contact in honest]
        assert all(a.public_key == b.public_key for a, b in zip(honest, false, strict=True))
        assert not {one.address for one in honest} & {one.address for one in false}
        members = {contact.address for contact in assault.gang.nearest(bytes(32), 2)}
        at_members = [one.address in members for one in false]
        assert any(at_members)
        assert not all(at_members)
        await assault.end()
