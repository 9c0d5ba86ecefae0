"""Chores: each runs, none stops the others, and together they keep the tables true."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from kademlia_node.core import packet
from kademlia_node.core.contact import Address
from kademlia_node.core.ids import random_id_sharing
from kademlia_node.core.message import FindNode, Ping, Request, Response
from kademlia_node.node.upkeep import JITTER, Did, Upkeep
from kademlia_node.settings import Settings
from tests.node.network import DAY, HOUR, SILENCE, Neighbourhood, Puppet, contact_of

CHORES = {
    "join",
    "look_around",
    "refresh",
    "check",
    "renew",
    "probe",
    "repair",
    "sweep",
}


def now() -> float:
    return asyncio.get_running_loop().time()


def new_upkeep() -> Upkeep:
    return Upkeep(loop=asyncio.get_running_loop(), rng=Random(1))


async def run_for(upkeep: Upkeep, seconds: float) -> None:
    running = asyncio.create_task(upkeep.run())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.wait([running])


# --- The machinery ----------------------------------------------------------------------------


async def test_a_chore_keeps_its_pace_with_a_little_jitter() -> None:
    upkeep, runs = new_upkeep(), []

    async def note() -> None:
        runs.append(now())

    upkeep.add("note", note, every_s=10)
    await run_for(upkeep, 1000)
    pauses = [after - before for before, after in zip([0.0, *runs], runs, strict=False)]
    assert all(10 * (1 - JITTER) <= pause <= 10 * (1 + JITTER) for pause in pauses)
    assert len(set(pauses)) == len(pauses)
    (chore,) = upkeep.chores
    assert (chore.name, chore.runs, chore.last_run) == ("note", len(runs), runs[-1])
    assert 90 <= len(runs) <= 110


async def test_the_first_run_has_a_time_of_its_own() -> None:
    upkeep, runs = new_upkeep(), []

    async def note() -> None:
        runs.append(now())

    upkeep.add("note", note, every_s=1000, first_s=10)
    await run_for(upkeep, 100)
    assert len(runs) == 1


async def test_a_chore_may_say_when_it_wants_to_run_again() -> None:
    upkeep, runs = new_upkeep(), []

    async def note() -> float:
        runs.append(now())
        return 100.0

    upkeep.add("note", note, every_s=1)
    await run_for(upkeep, 50)
    assert len(runs) == 1


async def test_a_chore_that_fails_is_logged_and_runs_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    upkeep, runs = new_upkeep(), []

    async def fail() -> None:
        raise RuntimeError("no luck")

    async def note() -> None:
        runs.append(now())

    upkeep.add("fail", fail, every_s=10)
    upkeep.add("note", note, every_s=10)
    with caplog.at_level(logging.ERROR):
        await run_for(upkeep, 100)
    assert upkeep.chores[0].runs >= 8
    assert len(runs) >= 8
    assert len(caplog.records) == upkeep.chores[0].runs
    assert "the chore 'fail' failed" in caplog.text
    assert "no luck" in caplog.text


# --- The chores of a node ---------------------------------------------------------------------


async def test_every_chore_ran_within_a_day() -> None:
    async with Neighbourhood() as here:
        node, _ = await here.grow(2)
        await node.put(b"value")
        await asyncio.sleep(DAY)
        chores = (await node.status()).chores
        assert set(chores) == CHORES
        for name, (runs, age_s) in chores.items():
            assert runs >= 20, name
            assert age_s is not None
            assert age_s < 1.2 * HOUR, name
        assert {"refresh", "check", "renew", "sweep", "join"} <= set((await node.status()).did)


async def test_a_status_tells_what_the_last_run_of_a_chore_did() -> None:
    upkeep, counts = new_upkeep(), iter([3, 0, 5])

    async def work() -> Did:
        return Did(next(counts), 20.0)

    async def talk() -> float:
        return 1.0

    upkeep.add("work", work, every_s=10)
    upkeep.add("talk", talk, every_s=10)
    await run_for(upkeep, 60)
    worked, talked = upkeep.chores
    assert (worked.runs, worked.did) == (3, 5)
    assert (talked.did, talked.runs > 20) == (None, True)


async def test_the_dead_leave_the_table_after_their_strikes() -> None:
    async with Neighbourhood() as here:
        await here.grow(6)
        dead = here.nodes[5]
        await asyncio.sleep(1)
        here.sim.unplug(dead.address)
        await asyncio.sleep(120)
        assert all(contact_of(dead) in node.contacts() for node in here.nodes[:5])
        await asyncio.sleep(HOUR / 2)
        for node in here.nodes[:5]:
            assert contact_of(dead) not in node.contacts()
            assert len(node.contacts()) == 4


async def test_a_silent_contact_is_called_once_a_check_for_its_back_off_is_the_pause() -> None:
    quiet = Settings(look_again_s=DAY, republish="never")
    async with Neighbourhood(settings=quiet) as here:
        alice, _, dead = await here.grow(3)
        await asyncio.sleep(1)
        here.sim.unplug(dead.address)
        calls: Counter[tuple[Address, Address]] = Counter()
        here.sim.taps.append(lambda source, to, _: calls.update([(source, to)]))
        for _ in range(int(HOUR)):
            await asyncio.sleep(1 if contact_of(dead) in alice.contacts() else 0)
        usual, checks = quiet.sends_max, quiet.strikes_max - 1
        assert calls[alice.address, dead.address] == usual + checks


async def test_one_lost_packet_costs_nobody_a_place() -> None:
    async with Neighbourhood() as here:
        await here.grow(6)
        here.sim.loss = 0.3
        await asyncio.sleep(3 * HOUR)
        assert all(len(node.contacts()) == 5 for node in here.nodes)


async def test_the_quiet_are_pinged_and_the_live_stay() -> None:
    async with Neighbourhood(settings=Settings(republish="never")) as here:
        alice, bob = await here.grow(2)
        await asyncio.sleep(HOUR)
        statuses = [await node.status() for node in (alice, bob)]
        assert [status.peers for status in statuses] == [1, 1]
        pings = sum(status.counters["served_Ping"] for status in statuses)
        assert 9 <= pings <= 15  # whoever was pinged need not ping


async def test_a_day_old_network_pings_its_far_contacts_seldom() -> None:
    """A near one each five minutes, as on the first day; the others each hour."""
    settings = Settings(k=2, far_buckets=(20,), republish="never", refresh_s=DAY)
    unearned = replace(settings, liveness_share=0.0)  # all of them as if they were near
    pings = [await pings_of_the_sixth_hour(one) for one in (settings, unearned)]
    assert pings[0] < 0.6 * pings[1]


async def pings_of_the_sixth_hour(settings: Settings) -> int:
    async with Neighbourhood(settings=settings) as here:
        await here.grow(12)
        await asyncio.sleep(5 * HOUR)
        before = await pings_so_far(here)
        await asyncio.sleep(HOUR)
        return await pings_so_far(here) - before


async def pings_so_far(here: Neighbourhood) -> int:
    return sum([(await node.status()).counters.get("served_Ping", 0) for node in here.nodes])


async def test_a_peer_restarted_at_another_port_is_found_again() -> None:
    async with Neighbourhood() as here:
        await here.grow(5)
        identity = here.new_identity()
        before = await here.start(identity=identity)
        await before.stop()
        after = await here.start(identity=identity, host=before.address.host, port=7777)
        assert after.id == before.id
        await asyncio.sleep(1)
        for node in here.nodes[:5]:
            assert contact_of(after) in node.contacts()
            assert contact_of(before) not in node.contacts()
        assert await here.nodes[1].ping(contact_of(after)) > 0


async def test_a_server_that_comes_back_as_a_client_leaves_the_tables() -> None:
    async with Neighbourhood() as here:
        await here.grow(5)
        identity = here.new_identity()
        server = await here.start(identity=identity)
        await asyncio.sleep(1)
        assert all(server.id in {c.id for c in node.contacts()} for node in here.nodes[:5])
        await server.stop()
        await here.start(identity=identity, server=False)
        await asyncio.sleep(1)
        assert not any(server.id in {c.id for c in node.contacts()} for node in here.nodes[:5])


async def test_stale_buckets_are_looked_up_one_a_minute_and_then_once_an_hour() -> None:
    async with Neighbourhood(settings=Settings(look_again_s=DAY)) as here:
        (puppet,) = await here.grow_puppets(1)
        await here.start()
        targets: list[float] = []

        def note(request: Request) -> Response | None:
            if isinstance(request, FindNode):
                targets.append(now())
            return None

        puppet.answer = note
        await asyncio.sleep(HOUR)
        buckets = len(targets)
        assert buckets >= 1
        await asyncio.sleep(HOUR)
        assert buckets <= len(targets) <= 2 * buckets + 1


async def test_the_size_of_the_network_is_measured_when_no_bucket_needs_a_refresh() -> None:
    """Others look up so much that no bucket is ever stale; and the network grows."""
    async with Neighbourhood(settings=Settings(k=4, refresh_s=300.0)) as here:
        node, *_ = await here.grow(5)
        await asyncio.sleep(HOUR)
        await here.grow(20)
        for _ in range(90):
            for bucket in range(4):
                await node.lookup(random_id_sharing(node.id, bucket, rng=Random(bucket)))
            await asyncio.sleep(60)
        size = (await node.status()).network_size
        assert size is not None
        assert 12 < size < 50


async def test_the_size_of_the_network_is_known_after_five_refreshes() -> None:
    async with Neighbourhood() as here:
        await here.grow(20)
        assert (await here.nodes[0].status()).network_size is None
        await asyncio.sleep(5.5 * Settings().refresh_every_s)
        for node in here.nodes:
            size = (await node.status()).network_size
            assert size is not None
            assert 10 < size < 40


async def test_a_crowd_around_a_node_does_not_sway_its_idea_of_the_size_of_the_network() -> None:
    async with Neighbourhood(settings=Settings(k=6, refresh_s=600.0)) as here:
        await here.grow(12)
        for _ in range(8):
            await here.start(identity=here.identity_with("0" * 11))
        node = here.nodes[-1]
        await asyncio.sleep(HOUR)
        size = (await node.status()).network_size
        assert size is not None
        assert 6 < size < 24


async def test_what_has_expired_is_swept_away() -> None:
    async with Neighbourhood(settings=Settings(sweep_s=60, expired_grace_s=0)) as here:
        node = await here.start(wall=lambda: here.sim.wall() * 100)  # a day in a quarter of an hour
        await node.put(b"value")
        assert (await node.status()).records == 1
        await node.withdraw("colour")
        assert (await node.status()).records == 2
        await asyncio.sleep(12 * DAY / 100)
        assert (await node.status()).records == 2  # the tombstone outlives what slept elsewhere
        await asyncio.sleep(DAY / 100 + 70)
        assert (await node.status()).records == 1  # the blob was renewed, the tombstone not


async def test_idle_sessions_are_closed() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        stranger = await here.stranger()
        await stranger.ask(node, Ping())
        assert (await node.status()).sessions == 1
        await asyncio.sleep(HOUR)
        assert (await node.status()).sessions == 0


async def test_sessions_with_members_of_the_table_outlive_a_crowd_of_callers() -> None:
    async with Neighbourhood(settings=Settings(sessions_max=4)) as here:
        node, *others = await here.grow(4)
        await asyncio.sleep(1)
        for _ in range(6):
            await (await here.stranger()).ask(node, Ping())
        first_bytes: list[int] = []
        here.sim.taps.append(
            lambda source, _, datagram: (
                first_bytes.append(datagram[0]) if source == node.address else None
            )
        )
        for other in others:
            await node.ping(contact_of(other))
        assert first_bytes == [packet.Type.DATA] * 3


async def test_a_chore_waits_for_nobody_for_ever() -> None:
    async with Neighbourhood() as here:
        silent = await here.start_as(Puppet)
        node = await here.start()
        silent.answer = lambda _: SILENCE
        await asyncio.sleep(HOUR)
        runs, age_s = (await node.status()).chores["check"]
        assert runs > 200
        assert age_s is not None
        assert age_s < 60
