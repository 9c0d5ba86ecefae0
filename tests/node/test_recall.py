"""A node that starts again soon goes on with the peers that it knew; all may do so at once."""

from __future__ import annotations

import asyncio

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.ids import distance
from kademlia_node.core.key import blob_key
from kademlia_node.core.memory import KnownPeer, Memory
from kademlia_node.node.join import KNOCKS_RECALLED
from kademlia_node.settings import Settings
from kademlia_node.sim import Swarm
from tests.node.network import HOUR, Neighbourhood, contact_of

NODES = 24
SETTLED_S = 360.0  # by then the size of the network is known
CHECKED_S = 130.0  # by then the nearest have been pinged
WATCHED_S = 60.0  # longer than `look_again_s`
QUIET = Settings(liveness_s=9 * HOUR, refresh_s=9 * HOUR, republish="never")


def nearest_to(node_id: bytes, contacts: list[Contact]) -> list[Contact]:
    return sorted(contacts, key=lambda contact: distance(contact.id, node_id))


async def a_settled_swarm(swarm: Swarm) -> None:
    await asyncio.sleep(SETTLED_S)
    assert all(len(node.contacts()) == NODES - 1 for node in swarm.nodes)


async def restarted(swarm: Swarm, *, crashed: bool = True, away_s: float = 0.0) -> None:
    node = swarm.nodes[5]
    await (swarm.crash(node) if crashed else swarm.stop(node))
    await asyncio.sleep(away_s)
    await swarm.restart(node, bootstrap=False)


def called_by(swarm: Swarm, number: int) -> set[object]:
    """Whom this node sends anything to from now on."""
    called: set[object] = set()
    own = swarm.machine(swarm.nodes[number]).contact.address
    swarm.network.taps.append(lambda source, to, _: called.add(to) if source == own else None)
    return called


async def test_a_node_that_was_away_for_a_moment_knocks_at_the_nearest_few_and_knows_all() -> None:
    async with Swarm(nodes=NODES, seed=1, settings=QUIET) as swarm:
        await a_settled_swarm(swarm)
        knew, called = set(swarm.nodes[5].contacts()), called_by(swarm, 5)
        await restarted(swarm)
        node = swarm.nodes[5]
        others = [contact_of(other) for other in swarm.nodes if other is not node]
        assert called == {one.address for one in nearest_to(node.id, others)[:KNOCKS_RECALLED]}
        assert set(node.contacts()) == knew
        status = await node.status()
        assert status.joined
        assert status.network_size is not None


async def test_whoever_forgot_a_node_that_stopped_knows_it_again_in_two_minutes() -> None:
    async with Swarm(nodes=NODES, seed=1, settings=QUIET) as swarm:
        await a_settled_swarm(swarm)
        await restarted(swarm, crashed=False, away_s=600.0)
        here = contact_of(swarm.nodes[5])
        others = [node for node in swarm.nodes if node is not swarm.nodes[5]]
        assert not all(here in other.contacts() for other in others)
        await asyncio.sleep(CHECKED_S)
        near = nearest_to(here.id, [contact_of(other) for other in others])[: QUIET.k]
        assert all(here in other.contacts() for other in others if contact_of(other) in near)


async def test_a_node_that_was_away_for_long_joins_as_any_other() -> None:
    async with Swarm(nodes=NODES, seed=1, settings=QUIET) as swarm:
        await a_settled_swarm(swarm)
        called = called_by(swarm, 5)
        await restarted(swarm, away_s=1.1 * HOUR)
        assert len(called) > KNOCKS_RECALLED
        assert len(swarm.nodes[5].contacts()) == NODES - 1


async def test_where_the_nearest_are_all_gone_it_knocks_at_the_others() -> None:
    async with Swarm(nodes=NODES, seed=1, settings=QUIET) as swarm:
        await a_settled_swarm(swarm)
        node = swarm.nodes[5]
        others = [other for other in swarm.nodes if other is not node]
        gone = nearest_to(node.id, [contact_of(other) for other in others])[: 2 * KNOCKS_RECALLED]
        for other in others:
            if contact_of(other) in gone:
                await swarm.crash(other)
        called = called_by(swarm, 5)
        await restarted(swarm)
        left = {contact_of(other).address for other in swarm.alive if other is not swarm.nodes[5]}
        assert left <= called


async def test_a_node_whose_peers_have_moved_is_known_to_all_through_a_seed() -> None:
    async with Neighbourhood() as here:
        seed, *others = await here.grow(30)
        identity = here.new_identity()
        dead = [Contact(one.public_key, Address("8.8.8.8", 4000)) for one in others]
        wall = here.sim.wall()
        memory = Memory(tuple(KnownPeer(one, since=wall - 9, heard=wall - 9) for one in dead))
        node = await here.start(identity=identity, bootstrap=[seed.invite], memory=memory)
        await asyncio.sleep(10.0)
        known = [other for other in others if contact_of(node) in other.contacts()]
        assert len(known) > len(others) / 2


async def datagrams_of_a_cold_restart(*, away_s: float) -> int:
    """Sent until WATCHED_S after it; then everybody reads what another one has written."""
    async with Swarm(nodes=NODES, seed=2) as swarm:
        await a_settled_swarm(swarm)
        for node in swarm.nodes:  # so that the restart alone is counted, and no refresh
            await node.lookup(blob_key(node.id))
        receipts = [await node.put(node.id) for node in swarm.nodes]
        for node in swarm.nodes:
            await swarm.crash(node)
        await asyncio.sleep(away_s)
        before = swarm.network.sent.datagrams
        async with asyncio.TaskGroup() as tasks:
            for node in swarm.nodes:
                tasks.create_task(swarm.restart(node, bootstrap=False))
        await asyncio.sleep(WATCHED_S)
        sent = swarm.network.sent.datagrams - before
        for receipt, node in zip(receipts, reversed(swarm.nodes), strict=True):
            assert await node.get(receipt.key) is not None
        return sent


async def test_all_who_restart_at_once_serve_what_they_hold_without_a_storm() -> None:
    at_once = await datagrams_of_a_cold_restart(away_s=0.0)
    late = await datagrams_of_a_cold_restart(away_s=1.1 * HOUR)
    assert at_once < late / 3


async def test_who_was_heard_in_the_future_is_only_knocked_at() -> None:
    async with Neighbourhood() as here:
        others = await here.grow(NODES)
        wall = here.sim.wall()
        tomorrow = Memory(tuple(KnownPeer(contact_of(one), heard=wall + 9e4) for one in others))
        called: set[tuple[Address, Address]] = set()
        here.sim.taps.append(lambda source, to, _: called.add((source, to)))
        node = await here.start(bootstrap=[], memory=tomorrow)
        assert len({to for source, to in called if source == node.address}) == NODES
        assert len(node.contacts()) == NODES


async def test_who_hears_nobody_has_not_joined_whomever_it_recalls() -> None:
    async with Swarm(nodes=NODES, seed=1, settings=QUIET) as swarm:
        await a_settled_swarm(swarm)
        for node in swarm.nodes:
            await swarm.crash(node)
        await swarm.restart(swarm.nodes[5], bootstrap=False)
        assert len(swarm.nodes[5].contacts()) >= QUIET.k
        assert not (await swarm.nodes[5].status()).joined
