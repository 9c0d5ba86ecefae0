"""Every attack: it is the same for the same seed, it ends, and honest nodes outlive it."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from kademlia_node import Settings
from kademlia_node.core.contact import Address
from kademlia_node.core.identity import Identity
from kademlia_node.sim import FixedLatency, NullSuite, Swarm, run
from kademlia_node.sim.attack import Attack, launch

LAN = FixedLatency(0.02)
EVERY = pytest.mark.parametrize("attack", list(Attack), ids=[attack.value for attack in Attack])


async def digest_of(attack: Attack, *, seed: int) -> str:
    async with Swarm(nodes=8, seed=1, latency=LAN) as swarm:
        receipt = await swarm.nodes[0].set("colour", b"blue")
        sybil = attack in {Attack.SYBIL_HIDE, Attack.SYBIL_LIE}
        target = receipt.key if sybil else None
        async with await launch(attack, swarm, count=2, rng=Random(seed), target=target):
            await asyncio.sleep(3.0)
            for node in swarm.alive[:8]:
                await node.get("colour")
        return swarm.network.trace_digest()


@EVERY
def test_the_same_seed_gives_the_same_assault(attack: Attack) -> None:
    first = run(digest_of(attack, seed=1))
    assert run(digest_of(attack, seed=1)) == first
    if attack not in {Attack.COLLUDE, Attack.FORGET}:  # which leave nothing to chance
        assert run(digest_of(attack, seed=2)) != first


@EVERY
async def test_nothing_false_is_believed_and_afterwards_everything_is_found(
    attack: Attack,
) -> None:
    async with Swarm(nodes=20, seed=3, latency=LAN) as swarm:
        honest = swarm.nodes[:]
        receipt = await honest[3].set("colour", b"blue")
        large = await honest[4].put(b"x" * 5000)
        sybil = attack in {Attack.SYBIL_HIDE, Attack.SYBIL_LIE}
        target = receipt.key if sybil else None
        assault = await launch(attack, swarm, count=4, rng=Random(3), target=target)
        await asyncio.sleep(10.0)
        for node in honest:
            assert await node.get("colour") == b"blue"
            assert await node.get(large.key) == b"x" * 5000
        await honest[5].set("during", b"red", own=True)
        await honest[6].announce("topic", b"here")
        for node in swarm.alive:  # prey of an eclipse among them
            assert await node.get("colour", default=None) in {b"blue", None}
            during = await node.get("during", author=honest[5].public_key, default=None)
            assert during in {b"red", None}
            assert {entry.value async for entry in node.find("topic")} <= {b"here"}
        await assault.end()
        await asyncio.sleep(60.0)
        await honest[7].set("after", b"green")
        for node in swarm.alive:
            assert await node.get("colour") == b"blue"
            assert await node.get("after") == b"green"
            assert await node.get("during", author=honest[5].public_key) == b"red"


@EVERY
async def test_attackers_are_members_until_the_end_and_then_send_nothing(attack: Attack) -> None:
    async with Swarm(nodes=8, seed=1, latency=LAN) as swarm:
        assault = await launch(attack, swarm, count=2, rng=Random(1))
        await asyncio.sleep(5.0)
        await swarm.nodes[0].ping(str(assault.nodes[0].invite))
        machines = [swarm.machine(node) for node in assault.nodes]
        assert all(machine.is_hostile for machine in machines)
        assert len(swarm.true_closest(bytes(32), 20, hostile=True)) == len(swarm.alive) + 2
        addresses = {machine.contact.address for machine in machines}
        strikes = assault.gang.strikes
        honest = {swarm.machine(node).contact.address for node in swarm.alive}
        await assault.end()
        await assault.end()
        sources: set[Address] = set()
        swarm.network.taps.append(lambda source, _to, _what: sources.add(source))
        await asyncio.sleep(30.0)
        assert not sources & addresses
        assert sources <= honest
        assert assault.gang.strikes - strikes <= 2  # one each, that was under way


async def test_a_crash_ends_an_attacker_too_and_a_restart_makes_it_one_again() -> None:
    async with Swarm(nodes=8, seed=1, latency=LAN) as swarm:
        assault = await launch(Attack.FLOOD, swarm, count=1, rng=Random(1))
        await swarm.crash(assault.nodes[0])
        strikes = assault.gang.strikes
        await asyncio.sleep(10.0)
        assert assault.gang.strikes == strikes
        await swarm.restart(assault.nodes[0])
        await asyncio.sleep(10.0)
        assert assault.gang.strikes > strikes + 90
        await assault.end()


# --- Eclipse --------------------------------------------------------------------------------------


async def test_who_meets_only_sybils_at_first_knows_nobody_else_until_the_attack_has_ended() -> (
    None
):
    async with Swarm(nodes=20, seed=1, latency=LAN) as swarm:
        await swarm.nodes[3].set("colour", b"blue")
        assault = await launch(Attack.ECLIPSE, swarm, count=6, rng=Random(1))
        prey = assault.prey
        assert prey is not None
        await asyncio.sleep(300.0)
        assert len(prey.contacts()) == 6
        assert all(contact in assault.gang for contact in prey.contacts())
        assert await prey.get("colour", default=None) is None
        await assault.end()
        again = swarm.nodes[swarm.machine(prey).number]
        assert again in swarm.alive
        assert await again.get("colour") == b"blue"


@pytest.mark.parametrize("paths", [1, 4])
async def test_one_honest_hint_is_the_way_out_of_a_hostile_neighbourhood(paths: int) -> None:
    settings = Settings(paths=paths)
    async with Swarm(nodes=20, seed=1, latency=LAN, settings=settings) as swarm:
        await swarm.nodes[3].set("colour", b"blue")
        identity = Identity.generate(Random(5), suite=NullSuite())
        assault = await launch(Attack.ECLIPSE, swarm, count=6, rng=Random(1), target=identity.id)
        assert assault.prey is None
        (joiner,) = await swarm.grow(1, identities=[identity], via=swarm.nodes[:1])
        nearest = swarm.true_closest(joiner.id, 7, hostile=True)
        assert [contact in assault.gang for contact in nearest] == [False] + [True] * 6
        assert any(contact not in assault.gang for contact in joiner.contacts())
        assert await joiner.get("colour") == b"blue"
        await assault.end()
