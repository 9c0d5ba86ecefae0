"""What outlives a node: its disk, with what a crash costs it; its clock; and what kind it is."""

from __future__ import annotations

import asyncio

from kademlia_node import Address, Node
from kademlia_node.errors import SetupError
from kademlia_node.sim import FaultyStore, FixedLatency, Oracle, Swarm

LAN = FixedLatency(0.02)


def now() -> float:
    return asyncio.get_running_loop().time()


class Villain(Node):
    """Behaves well, but who knows."""


async def test_a_crash_costs_a_machine_what_its_disk_had_not_committed() -> None:
    async with Swarm(nodes=6, seed=1, latency=LAN, commit_every=1000) as swarm:
        oracle, writer, began = Oracle(swarm), swarm.nodes[0], now()
        receipt = await oracle.put(writer, b"value")
        replica = swarm.machine(receipt.replicas[0])
        assert replica.kept_since(began)
        await swarm.crash(swarm.nodes[replica.number])
        assert not replica.kept_since(began)
        assert await replica.disk.get(receipt.key.digest, wall=swarm.network.wall()) == []
        assert oracle.must_be_found() != []  # by the others
        for peer in receipt.replicas[1:]:
            await swarm.crash(swarm.nodes[swarm.machine(peer).number])
        for node in list(swarm.nodes):
            if node not in swarm.alive:
                await swarm.restart(node)
        assert oracle.must_be_found() == []


async def test_who_stops_in_peace_and_whose_disk_commits_at_once_lose_nothing() -> None:
    for commit_every, verb in ((1000, Swarm.stop), (1, Swarm.crash)):
        async with Swarm(nodes=6, seed=1, latency=LAN, commit_every=commit_every) as swarm:
            began = now()
            receipt = await swarm.nodes[0].put(b"value")
            replica = swarm.machine(receipt.replicas[0])
            await verb(swarm, swarm.nodes[replica.number])
            assert replica.kept_since(began)
            wall = swarm.network.wall()
            assert len(await replica.disk.get(receipt.key.digest, wall=wall)) == 1


async def test_what_is_written_without_power_does_not_stay() -> None:
    async with Swarm(nodes=3, seed=1, latency=LAN, commit_every=1) as swarm:
        node = swarm.nodes[0]
        machine = swarm.machine(node)
        await machine.cut_power()
        async with asyncio.TaskGroup() as tasks:
            putting = tasks.create_task(node.put(b"value", acks=1))
            await asyncio.sleep(0.0)
            await swarm.crash(node)
        assert putting.done()
        assert await machine.disk.keys(wall=swarm.network.wall()) == []


async def test_who_looks_at_a_disk_from_outside_meets_no_fault() -> None:
    async with Swarm(nodes=4, seed=1, latency=LAN, commit_every=1) as swarm:
        receipt = await swarm.nodes[0].put(b"value")
        for node in swarm.nodes:
            store = swarm.machine(node).store
            assert isinstance(store, FaultyStore)
            store.fails_from = 1
        assert len(await swarm.holders(receipt.key)) == len(receipt.replicas)
        try:
            await swarm.nodes[0].put(b"other")
        except SetupError:
            return
        raise AssertionError("the disk of the writer does not fail")


async def test_each_machine_has_a_clock_that_can_be_wrong_across_restarts() -> None:
    async with Swarm(nodes=4, seed=1, latency=LAN) as swarm:
        node = swarm.nodes[0]
        swarm.machine(node).clock.jump(3600.0)
        ahead = await node.put(b"ahead")
        right = await swarm.nodes[1].put(b"right")
        assert 3590 <= ahead.expires - right.expires <= 3600
        await swarm.crash(node)
        node = await swarm.restart(node)
        again = await node.put(b"again")
        assert 3590 <= again.expires - right.expires <= 3610


async def test_a_node_of_another_kind_is_a_member_on_which_nobody_relies() -> None:
    async with Swarm(nodes=6, seed=1, latency=LAN) as swarm:
        (villain,) = await swarm.grow(1, kind=Villain, hostile=True)
        assert isinstance(villain, Villain)
        assert swarm.machine(villain).is_hostile
        assert villain in swarm.nodes
        assert villain not in swarm.alive
        here = villain.public_key
        assert here not in {c.public_key for c in swarm.true_closest(villain.id, 7)}
        assert swarm.true_closest(villain.id, 7, hostile=True)[0].public_key == here
        await asyncio.sleep(60.0)
        oracle = Oracle(swarm)
        values = (b"%d" % number for number in range(100))
        receipt = await oracle.put(swarm.nodes[0], next(values))
        while here not in {peer.public_key for peer in receipt.replicas}:
            oracle = Oracle(swarm)
            receipt = await oracle.put(swarm.nodes[0], next(values))
        assert villain not in await swarm.holders(receipt.key)
        for peer in receipt.replicas:
            if peer.public_key not in (here, swarm.nodes[0].public_key):
                await swarm.stop(swarm.nodes[swarm.machine(peer).number])
        await swarm.stop(swarm.nodes[0])
        assert oracle.must_be_found() == []
        async with swarm.churn(mean_session_s=1.0, mean_absence_s=1e6):
            await asyncio.sleep(60.0)
        assert swarm.machine(villain).up_since is not None


async def test_newcomers_take_the_identities_and_the_door_that_they_are_given() -> None:
    async with Swarm(nodes=3, seed=1, latency=LAN) as swarm:
        (villain,) = await swarm.grow(1, kind=Villain, hostile=True)
        identity = swarm.machine(villain).identity
        await swarm.stop(villain)
        async with Swarm(nodes=2, seed=2, latency=LAN) as other:
            (same,) = await other.grow(1, identities=[identity])
            assert same.id == villain.id
        door = swarm.nodes[2]
        knocked: set[tuple[Address, Address]] = set()
        swarm.network.taps.append(lambda source, there, _: knocked.add((source, there)))
        newcomers = await swarm.grow(4, via=[door])
        first = {there for source, there in knocked if source == newcomers[0].address}
        assert door.address in first
