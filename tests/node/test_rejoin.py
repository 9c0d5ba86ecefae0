"""Back after it was cut off: one node from all others, or one half of a network from the other."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.message import FindNode, Nodes
from kademlia_node.node.join import KNOCKS_MAX
from kademlia_node.node.node import Node
from kademlia_node.rare import Rare, counted
from kademlia_node.settings import Settings
from kademlia_node.sim import Swarm
from tests.node.network import HOUR, Neighbourhood, contact_of, hints

SOON_S = 60.0  # whoever comes back is back by then


async def assert_one_network(swarm: Swarm, *, k: int = 20, seed: int = 1) -> None:
    """Every node finds exactly the nodes that really are closest to a random target."""
    rng = Random(seed)
    for node in swarm.alive:
        target = rng.randbytes(32)
        found, _ = await node.lookup(target)
        truth = [c for c in swarm.true_closest(target, k + 1) if c.id != node.id]
        assert found == truth[:k]


async def assert_known(node: Node, others: list[Node]) -> None:
    """The network finds the node, and the node the network."""
    for other in others:
        found, _ = await other.lookup(node.id)
        assert found[0] == contact_of(node)
    assert node.id not in {contact.id for contact in node.contacts()}
    found, _ = await node.lookup(others[0].id)
    assert found[0] == contact_of(others[0])


# --- One node -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, 8])
async def test_a_node_whose_uplink_was_dead_is_back_within_a_minute(hours: int) -> None:
    """Asleep for eight hours, it looks just the same from outside.

    It does not wait for its turn to ping all others, nor for them to try whom they have lost.
    """
    alone = Settings(checks_per_run=1, lost_every_s=99 * HOUR, republish="never")
    async with Neighbourhood(settings=alone) as here:
        *others, node = await here.grow(8)
        await asyncio.sleep(300)
        knew = set(node.contacts())
        here.sim.unplug(node.address)
        await asyncio.sleep(hours * HOUR)
        assert set(node.contacts()) == knew
        assert (await node.status()).uplink_down
        assert not any(contact_of(node) in other.contacts() for other in others)
        here.sim.plug(node.address)
        await asyncio.sleep(SOON_S)
        assert not (await node.status()).uplink_down
        assert all(contact_of(node) in other.contacts() for other in others)
        await assert_known(node, others)


async def test_a_node_that_slept_while_its_clock_stood_still_looks_around_at_once() -> None:
    """As on Linux, where the clock of the event loop does not count the time of a suspend."""
    quiet = Settings(liveness_s=9 * HOUR, refresh_s=9 * HOUR, republish="never")
    async with Neighbourhood(settings=quiet) as here:
        others = await here.grow(5)
        slept_s = 0.0
        node = await here.start(wall=lambda: here.sim.wall() + slept_s)
        await asyncio.sleep(HOUR)
        called: set[object] = set()
        here.sim.taps.append(
            lambda source, to, _: called.add(to) if source == node.address else None
        )
        await asyncio.sleep(SOON_S)
        assert called == set()
        slept_s = 8 * HOUR
        await asyncio.sleep(SOON_S)
        assert called == {other.address for other in others}


async def test_a_node_that_wakes_up_elsewhere_is_known_there() -> None:
    async with Neighbourhood() as here:
        identity = here.new_identity()
        others = await here.grow(11)
        node = await here.start(identity=identity)
        await asyncio.sleep(300)
        here.sim.unplug(node.address)
        await node.stop()
        await asyncio.sleep(HOUR)
        moved = await here.start(
            identity=identity, bootstrap=[], memory=hints(*node.contacts()), host="7.7.7.7"
        )
        await asyncio.sleep(SOON_S)
        assert moved.id == node.id
        await assert_known(moved, others)


async def test_with_every_seed_gone_the_saved_peers_are_the_way_back() -> None:
    """However many of them are gone, too: others are called each time."""
    async with Neighbourhood() as here:
        seed, *others, node = await here.grow(8)
        peers = node.contacts()
        await node.stop()
        await seed.stop()
        strangers = [
            Contact(here.new_identity().public_key, Address(f"8.8.{number}.1", 4000))
            for number in range(200)
        ]
        back = await here.start(bootstrap=[seed.invite], memory=hints(*strangers, *peers))
        await asyncio.sleep(200 / KNOCKS_MAX * SOON_S)
        await assert_known(back, others)


# --- Two halves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [4, 10, pytest.param(24, marks=pytest.mark.slow)])
async def test_two_halves_that_grew_apart_become_one_network_within_a_minute(nodes: int) -> None:
    async with Swarm(nodes=nodes, seed=nodes) as swarm:
        await asyncio.sleep(300)
        left, right = swarm.nodes[::2], swarm.nodes[1::2]
        cut = swarm.network.partition([node.address for node in left])
        await asyncio.sleep(2 * HOUR)
        for half in (left, right):
            ids = {node.id for node in half}
            assert all({contact.id for contact in node.contacts()} < ids for node in half)
        cut.heal()
        await asyncio.sleep(SOON_S)
        await assert_one_network(swarm)


@pytest.mark.slow
async def test_halves_in_which_nobody_knows_all_become_one_network_too() -> None:
    settings = Settings(k=6, far_buckets=(6, 6, 6), republish="never")
    async with Swarm(nodes=32, seed=1, settings=settings) as swarm:
        await asyncio.sleep(300)
        cut = swarm.network.partition([node.address for node in swarm.nodes[::2]])
        await asyncio.sleep(HOUR)
        cut.heal()
        await asyncio.sleep(SOON_S)
        await assert_one_network(swarm, k=6)


async def test_a_member_that_came_while_the_network_was_cut_is_found_by_all() -> None:
    async with Swarm(nodes=16, seed=3) as swarm:
        await asyncio.sleep(300)
        cut = swarm.network.partition([node.address for node in swarm.nodes[::2]])
        await asyncio.sleep(HOUR)
        await swarm.grow(4, via=swarm.nodes[1:16:2])  # the others are cut off by their silence
        await asyncio.sleep(HOUR)
        cut.heal()
        await asyncio.sleep(SOON_S)
        await assert_one_network(swarm)


async def test_halves_whose_nodes_restart_meanwhile_become_one_network_too() -> None:
    async with Swarm(nodes=10, seed=4) as swarm:
        await asyncio.sleep(300)
        cut = swarm.network.partition([node.address for node in swarm.nodes[::2]])
        await asyncio.sleep(HOUR)
        for number in range(10):
            await swarm.crash(swarm.nodes[number])
            await swarm.restart(swarm.nodes[number], bootstrap=False)
        await asyncio.sleep(HOUR)
        cut.heal()
        await asyncio.sleep(5 * SOON_S)
        await assert_one_network(swarm)


async def visits_of_one_who_comes_and_goes(
    *, times: int, neighbours: bool
) -> tuple[float, list[float]]:
    """It names four strangers, or these and the six nodes that are there.

    Returns:
        How often each of the six walks, and when any of them calls a stranger.
    """
    calls: list[float] = []
    with counted() as rare:
        async with Neighbourhood(settings=Settings(refresh_every_s=9 * HOUR)) as here:
            nodes = await here.grow(6)
            (puppet,) = await here.grow_puppets(1)
            unknown = [here.new_identity().public_key for _ in range(4)]
            named = [Contact(key, Address(f"8.8.{n}.1", 4000)) for n, key in enumerate(unknown)]
            if neighbours:
                named += [contact_of(node) for node in nodes]
            answer = Nodes(tuple(named))
            puppet.answer = lambda request: answer if isinstance(request, FindNode) else None
            await asyncio.sleep(60)
            strangers, loop = {one.address for one in named[:4]}, asyncio.get_running_loop()
            six = {node.address for node in nodes}  # the seventh walks too: it comes and goes

            def tap(source: Address, to: Address, _datagram: bytes) -> None:
                if source in six and to in strangers:
                    calls.append(loop.time())

            here.sim.taps.append(tap)
            for _ in range(times):
                await puppet.stop()
                await puppet.start()
                await asyncio.sleep(20)
            assert contact_of(puppet) in nodes[0].contacts()
    return rare[Rare.NETWORKS_REUNITED] / len(nodes), calls


async def test_one_who_comes_and_goes_and_names_strangers_has_us_walk_now_and_then_only() -> None:
    walks_each, _ = await visits_of_one_who_comes_and_goes(times=30, neighbours=False)
    assert 0 < walks_each <= 30 * 21 / Settings().lost_every_s + 1


async def test_one_who_names_a_few_strangers_has_them_pinged_now_and_then_and_nobody_walk() -> None:
    walks_each, calls = await visits_of_one_who_comes_and_goes(times=30, neighbours=True)
    assert walks_each == 0
    each_time = 6 * 4 * 2  # nodes, strangers, sendings
    assert 0 < len(calls) <= each_time * (30 * 21 / Settings().lost_every_s + 1)


async def test_a_few_strangers_whom_one_names_that_comes_back_are_met() -> None:
    async with Neighbourhood(settings=Settings(refresh_s=9 * HOUR)) as here:
        nodes = await here.grow(6)
        (puppet,) = await here.grow_puppets(1)
        await asyncio.sleep(900)  # nobody walks from now on
        stranger = await here.start(bootstrap=[])
        answer = Nodes((contact_of(stranger), *map(contact_of, nodes)))
        puppet.answer = lambda request: answer if isinstance(request, FindNode) else None
        await puppet.stop()
        await puppet.start()
        await asyncio.sleep(45)
        assert all(contact_of(stranger) in node.contacts() for node in nodes)


async def test_a_restart_in_the_same_network_makes_nobody_walk() -> None:
    async with Swarm(nodes=12, seed=5, settings=Settings(refresh_s=9 * HOUR)) as swarm:
        await asyncio.sleep(300)
        gone = swarm.nodes[3]
        await swarm.crash(gone)
        await asyncio.sleep(HOUR)
        assert not any(gone.id in {c.id for c in node.contacts()} for node in swarm.alive)
        back = await swarm.restart(gone)
        before = (await swarm.nodes[0].status()).counters
        await asyncio.sleep(SOON_S)
        after = (await swarm.nodes[0].status()).counters
        assert back.id in {contact.id for contact in swarm.nodes[0].contacts()}
        asked = after["served_FindNode"] - before["served_FindNode"]
        assert asked <= 12  # a walk of each of the eleven others would be as many as that
