"""Floods and replays: that they come at the rate that is said, and what they change: nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from kademlia_node import Node, Settings
from kademlia_node.core.contact import Address
from kademlia_node.core.packet import Type
from kademlia_node.sim import FixedLatency, Swarm
from kademlia_node.sim.attack import Attack, launch
from kademlia_node.sim.attack.noise import SOCKETS

LAN = FixedLatency(0.02)


async def test_a_flood_reaches_honest_nodes_at_its_rate_from_false_and_from_true_sources() -> None:
    async with Swarm(nodes=8, seed=1, latency=LAN) as swarm:
        members = {swarm.machine(node).contact.address for node in swarm.nodes}
        inits: Counter[Address] = Counter()
        answered: set[Address] = set()

        def watch(source: Address, destination: Address, datagram: bytes) -> None:
            if source in members and destination not in members:
                answered.add(destination)
            elif datagram[0] == Type.INIT and destination in members and source not in members:
                inits[source] += 1

        async with await launch(
            Attack.FLOOD, swarm, count=2, rng=Random(1), rate_per_s=50.0
        ) as assault:
            attackers = {swarm.machine(node).contact.address for node in assault.nodes}
            await asyncio.sleep(1.0)
            members |= attackers
            swarm.network.taps.append(watch)
            await asyncio.sleep(20.0)
            swarm.network.taps.clear()
            started = asyncio.get_running_loop().time()
            receipt = await swarm.nodes[0].put(b"value")
            assert await swarm.nodes[5].get(receipt.key) == b"value"
            assert asyncio.get_running_loop().time() - started < 2.0
        repeated = [count for count in inits.values() if count > 1]
        assert len(repeated) == 2 * SOCKETS
        assert 1950 <= sum(inits.values()) <= 2050
        assert 850 <= sum(repeated) <= 1150  # the other half is spoofed, each from elsewhere
        assert answered


async def test_a_flood_beyond_the_gate_is_told_to_prove_its_address_and_does() -> None:
    """One target, and more INITs of each prefix than get a Diffie-Hellman for nothing."""
    async with Swarm(nodes=1, seed=1, latency=LAN) as swarm:
        target = swarm.machine(swarm.nodes[0]).contact.address
        kinds: Counter[int] = Counter()
        with_cookie = 0

        def watch(source: Address, destination: Address, datagram: bytes) -> None:
            nonlocal with_cookie
            if source == target:
                kinds[datagram[0]] += 1
            elif destination == target and datagram[0] == Type.INIT:
                with_cookie += any(datagram[-16:])

        async with await launch(Attack.FLOOD, swarm, count=1, rng=Random(1), rate_per_s=400.0):
            swarm.network.taps.append(watch)
            await asyncio.sleep(5.0)
            assert kinds[Type.RETRY] > 100
            assert with_cookie > 50
            (newcomer,) = await swarm.grow(1)
            await newcomer.ping(str(swarm.nodes[0].invite))


async def test_a_flood_takes_the_room_of_half_open_sessions_and_no_other() -> None:
    async with Swarm(nodes=4, seed=1, latency=LAN) as swarm:
        async with await launch(Attack.FLOOD, swarm, count=2, rng=Random(1), rate_per_s=60.0):
            await asyncio.sleep(15.0)
            for node in swarm.alive:
                status = await node.status()
                assert 100 < status.sessions <= Settings().half_open_max + 10
                assert status.peers <= 5
        await asyncio.sleep(120.0)
        for node in swarm.alive:
            assert (await node.status()).sessions <= 5


def known_by(nodes: list[Node]) -> list[set[bytes]]:
    return [{contact.public_key for contact in node.contacts()} for node in nodes]


async def stores_served_by(node: Node) -> int:
    return (await node.status()).counters.get("served_Store", 0)


async def test_replayed_datagrams_change_nothing() -> None:
    settings = Settings(republish="never")
    async with Swarm(nodes=10, seed=1, latency=LAN, settings=settings) as swarm:
        honest = swarm.nodes[:]
        async with await launch(
            Attack.REPLAY, swarm, count=2, rng=Random(1), rate_per_s=50.0
        ) as assault:
            sent: Counter[bytes] = Counter()
            swarm.network.taps.append(lambda _from, _to, datagram: sent.update([datagram]))
            await honest[0].set("colour", b"blue")
            await honest[0].set("colour", b"red")
            gone = await honest[1].set("gone", b"something")
            await honest[1].withdraw("gone")
            await asyncio.sleep(5.0)
            before = known_by(honest)
            records = [(await node.status()).records for node in honest]
            served = [await stores_served_by(node) for node in honest]
            strikes = assault.gang.strikes
            await asyncio.sleep(30.0)
            assert assault.gang.strikes - strikes >= 2900
            assert sum(count > 1 for count in sent.values()) > 100
            assert known_by(honest) == before
            assert [(await node.status()).records for node in honest] == records
            assert [await stores_served_by(node) for node in honest] == served
            assert sum(served) > 10  # and many of these were sent again
            assert await swarm.holders(gone.key) == []
            for node in honest:
                assert await node.get("colour") == b"red"
                assert await node.get("gone", default=None) is None
