"""Going away: for a while, or for good; what others come to hold, and what they know of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from kademlia_node.core.message import Leaving
from kademlia_node.errors import NotRunning, SetupError
from kademlia_node.node.leave import Departure
from kademlia_node.settings import Settings
from kademlia_node.sim import Swarm
from kademlia_node.sim.store import FaultyStore
from tests.node.network import HOUR, SILENCE, Neighbourhood, contact_of, hints, nearest

KEEP_STILL = Settings(republish="never")  # nobody repairs: what is there was handed over


def now() -> float:
    return asyncio.get_running_loop().time()


# --- For good -------------------------------------------------------------------------------------


async def test_who_leaves_hands_over_what_would_fall_below_the_copies() -> None:
    async with Neighbourhood(settings=KEEP_STILL) as here:
        await here.grow(10)
        receipts = [await here.nodes[0].put(bytes([number])) for number in range(20)]
        receipts.append(await here.nodes[1].put(bytes(5000)))
        receipts.append(await here.nodes[1].announce("cars", b"red"))
        leaver = here.nodes[4]
        held = [r.key for r in receipts if leaver.id in await here.holders(r.key)]
        assert held
        departure = await leaver.leave()
        assert departure == Departure(handed_over=len(held), left_behind=0, told=9)
        for key in held:
            others = await here.holders(key) - {leaver.id}
            truth = [node for node in nearest(key, here.nodes) if node is not leaver]
            assert others >= {node.id for node in truth[:3]}


async def test_a_withdrawal_is_handed_over_too() -> None:
    """Else an old version that somebody still has would come back."""
    async with Neighbourhood(settings=KEEP_STILL) as here:
        await here.grow(6)
        await here.nodes[0].set("colour", b"blue")
        receipt = await here.nodes[0].withdraw("colour")
        leaver = nearest(receipt.key, here.nodes)[0]
        assert (await leaver.leave()).handed_over == 1
        others = await here.holders(receipt.key) - {leaver.id}
        assert len(others) >= 3
        for node in here.nodes:
            if node.id in others:
                (record,) = await here.held(node, receipt.key)
                assert record.header.is_tombstone


async def test_all_who_know_the_leaver_drop_it_at_once() -> None:
    async with Neighbourhood() as here:
        *others, leaver = await here.grow(12)
        await asyncio.sleep(1)
        assert all(contact_of(leaver) in other.contacts() for other in others)
        departure = await leaver.leave()
        assert departure.told == len(others)
        assert not any(contact_of(leaver) in other.contacts() for other in others)
        with pytest.raises(NotRunning):
            await leaver.status()


async def test_who_cannot_read_its_disk_tells_the_others_all_the_same() -> None:
    """Chaos, seed 56."""
    async with Swarm(nodes=12, seed=1, settings=KEEP_STILL, commit_every=1) as swarm:
        await asyncio.sleep(1)
        *others, leaver = swarm.nodes
        store = swarm.machine(leaver).store
        assert isinstance(store, FaultyStore)
        assert all(leaver.id in {c.id for c in other.contacts()} for other in others)
        store.fails_from = 1
        with pytest.raises(SetupError, match="disk fails"):
            await swarm.leave(leaver)
        assert not any(leaver.id in {c.id for c in other.contacts()} for other in others)
        with pytest.raises(NotRunning):
            await leaver.status()


async def test_nothing_is_withdrawn_and_what_was_published_is_renewed_no_longer() -> None:
    calm = replace(KEEP_STILL, check_every_s=600, rejoin_look_s=600)
    async with Neighbourhood(settings=calm) as here:
        *others, leaver = await here.grow(4)
        receipt = await leaver.set("colour", b"blue")
        await leaver.leave()
        assert await others[0].get("colour") == b"blue"
        await asyncio.sleep(receipt.expires - here.sim.wall() + 1)
        assert await others[0].get("colour", default=None) is None


async def test_what_there_is_no_time_for_is_left_behind_and_told() -> None:
    async with Neighbourhood(settings=KEEP_STILL) as here:
        *others, leaver = await here.grow(4)
        for number in range(8):
            await others[0].put(bytes([number]))
        held = (await leaver.status()).records
        assert held
        began = now()
        departure = await leaver.leave(within_s=0)
        assert departure == Departure(handed_over=0, left_behind=held, told=3)
        assert now() - began < 2


async def test_the_time_it_takes_is_bounded_whoever_is_silent() -> None:
    settings = Settings(republish="never", leave_s=5.0, timeout_s=2.0)
    async with Neighbourhood(settings=settings) as here:
        puppets = await here.grow_puppets(8)
        leaver = await here.start()
        for number in range(40):
            await leaver.put(bytes([number]))
        for puppet in puppets:
            puppet.answer = lambda _: SILENCE
        began = now()
        departure = await leaver.leave()
        assert departure.handed_over < departure.left_behind
        assert departure.told == 0
        assert now() - began <= 5.0 + 2.0 + 0.1


async def test_the_only_member_of_a_network_leaves_everything_behind() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        await node.put(b"value")
        assert await node.leave() == Departure(handed_over=0, left_behind=1, told=0)


async def test_a_leaver_takes_nothing_more() -> None:
    async with Neighbourhood(settings=KEEP_STILL) as here:
        first, second, leaver = await here.grow(3)
        await first.put(bytes(60_000))  # long enough for the leaving to take a while
        leaving = asyncio.create_task(leaver.leave())
        await asyncio.sleep(0.01)
        receipt = await first.put(b"late")
        assert leaver.id not in {replica.id for replica in receipt.replicas}
        assert (await leaving).left_behind == 0
        assert len(await here.holders(receipt.key)) == 2
        assert second.id in await here.holders(receipt.key)


async def test_who_has_left_may_start_again() -> None:
    async with Neighbourhood() as here:
        *_, node = await here.grow(4)
        await node.put(b"value")
        await node.leave()
        await node.start()
        status = await node.status()
        assert (status.role, status.publications) == ("server", 1)
        assert status.joined


async def test_a_leaver_may_be_stopped_before_it_is_done() -> None:
    async with Neighbourhood() as here:
        *_, node = await here.grow(6)
        for number in range(20):
            await node.put(bytes([number]))
        leaving = asyncio.create_task(node.leave())
        await asyncio.sleep(0.05)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        with pytest.raises(NotRunning):
            await node.status()
        await node.start()


async def test_a_swarm_survives_the_leaving_of_half_of_it() -> None:
    async with Swarm(nodes=20, seed=4, settings=KEEP_STILL) as swarm:
        await asyncio.sleep(60)
        keys = [(await swarm.nodes[0].put(bytes([number]))).key for number in range(20)]
        for node in swarm.nodes[10:]:
            assert (await swarm.leave(node)).left_behind == 0
        assert len(swarm.alive) == 10
        for key in keys:
            assert len(await swarm.holders(key)) >= 5


# --- For a while ----------------------------------------------------------------------------------


async def test_who_stops_tells_its_neighbours_and_waits_for_nobody() -> None:
    async with Neighbourhood() as here:
        *others, node = await here.grow(8)
        await asyncio.sleep(1)
        began = now()
        await node.stop()
        assert now() - began < 0.2
        assert not any(contact_of(node) in other.contacts() for other in others)


async def test_silent_neighbours_hold_up_no_stop() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        puppets = await here.grow_puppets(4)
        for puppet in puppets:
            puppet.answer = lambda request: SILENCE if isinstance(request, Leaving) else None
        began = now()
        await node.stop()
        assert now() - began <= Settings().farewell_s


async def test_a_crash_says_nothing() -> None:
    async with Swarm(nodes=6, seed=2) as swarm:
        await asyncio.sleep(60)
        gone = swarm.nodes[2]
        await swarm.crash(gone)
        await asyncio.sleep(1)
        known = {contact.id for node in swarm.alive for contact in node.contacts()}
        assert gone.id in known


async def test_who_comes_back_after_a_stop_is_known_again_though_it_knows_nobody() -> None:
    """It said that it leaves, but is not forgotten: it may be the one that nobody else knows."""
    async with Neighbourhood() as here:
        identity = here.new_identity()
        first = await here.start(identity=identity, bootstrap=[], host="9.9.9.9", port=4000)
        second = await here.start(bootstrap=[], memory=hints(contact_of(first)))
        await first.stop()
        assert second.contacts() == []
        await asyncio.sleep(HOUR)
        again = await here.start(identity=identity, bootstrap=[], host="9.9.9.9", port=4000)
        await asyncio.sleep(60)
        assert again.contacts() == [contact_of(second)]
