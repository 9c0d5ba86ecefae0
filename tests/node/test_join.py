"""Getting into the network: from any hint, later if not now, and back after everybody was gone."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.invite import Invite, parse_invite
from kademlia_node.core.memory import KnownPeer, Memory
from kademlia_node.node.join import KNOCKS_MAX
from tests.node.network import HOUR, OPEN, Neighbourhood, contact_of, hints

FIRST = "9.9.9.9:4000"
NOBODY = "8.8.8.8:4000"


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_bare_address_is_asked_for_its_key() -> None:
    async with Neighbourhood() as here:
        first = await here.start()
        second = await here.start(bootstrap=[str(first.address)])
        assert second.contacts() == [contact_of(first)]
        assert first.contacts() == [contact_of(second)]
        status = await second.status()
        assert status.joined
        assert status.unreachable == ()


async def test_an_invite_names_the_key_too() -> None:
    async with Neighbourhood() as here:
        first = await here.start()
        assert str(first.invite).startswith("kad://")
        second = await here.start(bootstrap=[str(first.invite)])
        assert second.contacts() == [contact_of(first)]


async def test_two_nodes_are_a_network() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        await alice.set("colour", b"blue")
        assert await bob.get("colour") == b"blue"
        await asyncio.sleep(HOUR)
        for node in (alice, bob):
            status = await node.status()
            assert (status.peers, status.network_size) == (1, None)


async def test_any_member_brings_us_to_all() -> None:
    async with Neighbourhood() as here:
        await here.grow(12)
        await here.nodes[0].stop()
        late = await here.start(bootstrap=[here.nodes[7].invite])
        assert {c.id for c in late.contacts()} == {node.id for node in here.nodes[1:12]}


async def test_a_wrong_key_reaches_nobody() -> None:
    """An invite promises whom we shall meet."""
    async with Neighbourhood() as here:
        first = await here.start()
        wrong = replace(first.invite, public_key=here.new_identity().public_key)
        second = await here.start(bootstrap=[wrong])
        status = await second.status()
        assert not status.joined
        assert status.unreachable == (f"{wrong}: no answer",)


async def test_a_node_that_is_given_itself_as_bootstrap_is_alone() -> None:
    async with Neighbourhood() as here:
        node = await here.start(host="9.9.9.9", port=4000, bootstrap=[FIRST])
        status = await node.status()
        assert not status.joined
        assert status.unreachable == ()


async def test_a_node_starts_while_no_bootstrap_answers_and_joins_when_one_appears() -> None:
    async with Neighbourhood() as here:
        waiting = await here.start(bootstrap=[FIRST, NOBODY])
        status = await waiting.status()
        assert set(status.unreachable) == {f"{FIRST}: no answer", f"{NOBODY}: no answer"}
        assert not status.joined
        await asyncio.sleep(HOUR)
        await here.start(bootstrap=[], host="9.9.9.9", port=4000)
        await asyncio.sleep(70)
        status = await waiting.status()
        assert status.joined
        assert await waiting.get("colour", default=None) is None


@pytest.mark.parametrize("with_key", [False, True])
async def test_knocking_backs_off_to_once_a_minute(with_key: bool) -> None:
    async with Neighbourhood() as here:
        knocks: list[float] = []
        here.sim.taps.append(lambda *_: knocks.append(now()))
        key = here.new_identity().public_key if with_key else None
        await here.start(bootstrap=[replace(parse_invite(NOBODY), public_key=key)])
        await asyncio.sleep(HOUR)
        starts = [b for a, b in zip([-9.0, *knocks], knocks, strict=False) if b - a > 2]
        pauses = [later - earlier for earlier, later in pairwise(starts)]
        assert pauses[0] < 10
        assert pauses[:4] == sorted(pauses[:4])
        assert all(50 < pause < 70 for pause in pauses[6:])
        assert 55 <= len(starts) <= 75


async def test_a_node_without_bootstraps_waits_to_be_found() -> None:
    async with Neighbourhood() as here:
        first = await here.start(bootstrap=[])
        await asyncio.sleep(HOUR)
        second = await here.start(bootstrap=[first.invite])
        assert first.contacts() == [contact_of(second)]


async def test_a_node_among_its_own_bootstraps_knocks_at_the_others_until_one_answers() -> None:
    async with Neighbourhood() as here:
        node = await here.start(bootstrap=["7.7.7.7:4000", FIRST], host="7.7.7.7", port=4000)
        first = await here.start(bootstrap=[], host="9.9.9.9", port=4000)
        await asyncio.sleep(70)
        assert node.contacts() == [contact_of(first)]


async def test_of_many_remembered_peers_not_the_same_are_called_at_each_start() -> None:
    async with Neighbourhood() as here:
        known = [
            Contact(here.new_identity().public_key, Address(f"8.8.{number}.1", 4000))
            for number in range(4 * KNOCKS_MAX)
        ]
        called: set[Address] = set()
        here.sim.taps.append(lambda _, to, __: called.add(to))
        await here.start(bootstrap=[], memory=hints(*known))
        first = {contact.address for contact in known[:KNOCKS_MAX]}
        assert len(called) == KNOCKS_MAX
        assert called != first


async def test_those_who_had_fallen_silent_are_called_last() -> None:
    async with Neighbourhood() as here:
        known = [
            KnownPeer(
                Contact(here.new_identity().public_key, Address(f"8.8.{number}.1", 4000)),
                heard=float(number % 2),
            )
            for number in range(2 * KNOCKS_MAX)
        ]
        called: set[Address] = set()
        here.sim.taps.append(lambda _, to, __: called.add(to))
        await here.start(bootstrap=[], memory=Memory(tuple(known)))
        assert called == {peer.contact.address for peer in known if peer.heard}


async def test_remembered_peers_are_as_good_as_bootstraps() -> None:
    async with Neighbourhood() as here:
        await here.grow(6)
        gone = Contact(here.new_identity().public_key, Address("8.8.8.8", 4000))
        memory = hints(gone, *here.nodes[3].contacts())
        back = await here.start(bootstrap=[], memory=memory)
        assert {c.id for c in back.contacts()} == {node.id for node in here.nodes[:6]}
        assert (await back.status()).unreachable == ()


async def test_a_node_that_nobody_answers_any_more_knocks_again() -> None:
    async with Neighbourhood() as here:
        first = await here.start(bootstrap=[], host="9.9.9.9", port=4000)
        second = await here.start(bootstrap=[FIRST])
        here.sim.unplug(first.address)  # so that it ends without a word
        await first.stop()
        here.sim.plug(first.address)
        await asyncio.sleep(2 * HOUR)
        assert len(second.contacts()) == 1  # kept: with nobody answering the fault may be ours
        assert (await second.status()).uplink_down
        reborn = await here.start(bootstrap=[], host="9.9.9.9", port=4000)
        assert reborn.id != first.id
        await asyncio.sleep(70)
        assert contact_of(reborn) in second.contacts()
        assert not (await second.status()).uplink_down


async def test_a_network_of_three_merges_with_one_that_names_it() -> None:
    async with Neighbourhood() as here:
        await here.grow(3)
        others = [await here.start(bootstrap=[])]
        others.append(await here.start(bootstrap=[others[0].invite, here.nodes[0].invite]))
        await asyncio.sleep(2 * HOUR)
        assert all(len(node.contacts()) == 4 for node in here.nodes)


# --- Names ------------------------------------------------------------------------------------


def resolving(monkeypatch: pytest.MonkeyPatch, found: list[str] | Exception) -> None:
    """Have the loop of this test resolve every name to these hosts, or fail."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        if isinstance(found, Exception):
            raise found
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (host, port)) for host in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_a_name_that_does_not_resolve_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    async with Neighbourhood() as here:
        first = await here.start()
        node = await here.start(bootstrap=["seed.example:4000", first.invite])
        (complaint,) = (await node.status()).unreachable
        assert complaint.startswith("seed.example:4000: cannot find 'seed.example'")
        assert node.contacts() == [contact_of(first)]


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["8.8.8.8", "9.9.9.9"])
    async with Neighbourhood() as here:
        first = await here.start(bootstrap=[], host="9.9.9.9", port=4000)
        for bootstrap in ("seed.example:4000", Invite(first.public_key, "seed.example", 4000)):
            node = await here.start(bootstrap=[bootstrap])
            assert contact_of(first) in node.contacts()
            assert (await node.status()).unreachable == ()


# --- What we are, told to those who know us ---------------------------------------------------


async def test_who_turns_out_to_be_local_is_known_as_a_server_by_all_it_knocked_at() -> None:
    """It knocks as a client, for it is bound to every interface; the first answer settles it."""
    async with Neighbourhood(OPEN) as here:
        hosts = [f"192.168.1.{number}" for number in range(1, 6)]
        seeds = [await here.start(bootstrap=[], host=host) for host in hosts]
        node = await here.start_everywhere("192.168.1.9", bootstrap=[s.invite for s in seeds])
        assert (await node.status()).role == "server"
        await asyncio.sleep(1)
        seen_at = Contact(node.public_key, Address("192.168.1.9", 4000))
        assert all(seen_at in seed.contacts() for seed in seeds)


async def test_two_who_know_only_each_other_do_not_stay_an_island() -> None:
    """Found by simulation (Swarm of 120, seed 3, 10 % loss): two nodes never met the others.

    The first one's knock was lost; the second knocked at the first one's door.
    """
    async with Neighbourhood() as here:
        mainland = await here.grow(3)
        here.sim.loss = 1.0
        first = await here.start(bootstrap=[str(mainland[0].invite)])
        here.sim.loss = 0.0
        second = await here.start(bootstrap=[str(first.invite)])
        assert {contact.id for contact in first.contacts()} == {second.id}
        await asyncio.sleep(120)
        for node in (first, second):
            assert {contact.id for contact in node.contacts()} >= {one.id for one in mainland}


async def test_hints_that_are_dead_for_good_cost_a_knock_a_minute() -> None:
    async with Neighbourhood() as here:
        gone, alive = await here.grow(2)
        hint = str(gone.invite)
        await gone.stop()
        here.nodes.remove(gone)
        node = await here.start(bootstrap=[hint])
        await alive.ping(str(node.invite))  # somebody finds us nevertheless
        await asyncio.sleep(300)
        before = here.sim.sent.datagrams
        await asyncio.sleep(3600)
        assert here.sim.sent.datagrams - before < 3600
