"""Members on one link find each other with no bootstrap; what else is shown there brings nobody."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from kademlia_node.core.beacon import PROPERTY, SERVICE, make_beacon
from kademlia_node.core.contact import Address
from kademlia_node.core.network import Network
from kademlia_node.net.link import Link
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from tests.net.links import SharedLink
from tests.node.network import HOUR, OPEN, PRIVATE, SUITE, Neighbourhood, contact_of

SOON_S = 5.0
FAR_AWAY = Address("8.8.8.8", 4000)


async def start(here: Neighbourhood, link: SharedLink, number: int, **options: Any) -> Node:
    """A node that nobody has told of any other."""
    host = f"192.168.1.{number}"
    options = {"bootstrap": [], "host": host, "lan": link.at(host)} | options
    return await here.start(**options)


async def count(node: Node, event: str) -> int:
    return (await node.status()).counters.get(event, 0)


@pytest.mark.parametrize("network", [PRIVATE, OPEN])
async def test_two_that_start_at_once_with_no_bootstrap_find_each_other(network: Network) -> None:
    async with Neighbourhood(network) as here:
        link = SharedLink()
        alice, bob = await asyncio.gather(start(here, link, 1), start(here, link, 2))
        await asyncio.sleep(SOON_S)
        assert (alice.contacts(), bob.contacts()) == ([contact_of(bob)], [contact_of(alice)])
        await alice.set("colour", b"blue", own=True)
        assert await bob.get("colour", author=alice.public_key) == b"blue"


async def test_two_that_do_not_know_their_own_address_find_each_other() -> None:
    """Bound to all interfaces they begin as clients, whom nobody files."""
    async with Neighbourhood() as here:
        link = SharedLink()
        hosts = ["192.168.1.1", "192.168.1.2"]
        nodes = [
            await here.start_everywhere(host, bootstrap=[], lan=link.at(host)) for host in hosts
        ]
        await asyncio.sleep(SOON_S)
        for node, other, host in zip(nodes, nodes[::-1], hosts[::-1], strict=True):
            (known,) = node.contacts()
            assert (known.id, known.address.host) == (other.id, host)


async def test_a_silent_bootstrap_delays_nothing() -> None:
    async with Neighbourhood() as here:
        link = SharedLink()
        alice = await start(here, link, 1)
        bob = await start(here, link, 2, bootstrap=[str(FAR_AWAY)])
        await asyncio.sleep(SOON_S)
        assert bob.contacts() == [contact_of(alice)]
        knocks: list[Address] = []
        await asyncio.sleep(120)
        here.sim.taps.append(lambda _, to, __: knocks.append(to))
        await asyncio.sleep(HOUR)
        assert FAR_AWAY not in knocks


async def test_without_a_link_nobody_is_found() -> None:
    async with Neighbourhood() as here:
        link = SharedLink()
        alice, bob = await start(here, link, 1), await start(here, link, 2, lan=False)
        await asyncio.sleep(HOUR)
        assert alice.contacts() == bob.contacts() == []


async def test_two_networks_that_come_to_share_a_link_become_one() -> None:
    """Only one of each is on the link; the others follow, and nobody restarts."""
    async with Neighbourhood() as here:
        halves = []
        for number in (1, 2):
            gate = await start(here, SharedLink(), number)
            rest = [
                await start(here, SharedLink(), 10 * number + i, lan=False, bootstrap=[gate.invite])
                for i in range(6)
            ]
            halves.append([gate, *rest])
        link = SharedLink()
        seer = await start(here, link, 100, bootstrap=[halves[0][0].invite])
        await asyncio.sleep(400)
        other = halves[1][0]
        link.repeat(beacon_of(other.public_key, port=other.address.port), other.address.host)
        await asyncio.sleep(25)
        everyone = [*halves[0], *halves[1], seer]
        for node in everyone:
            found, _ = await node.lookup(node.id)
            assert {one.id for one in found} == {one.id for one in everyone} - {node.id}


async def test_one_member_on_the_link_brings_us_to_all_at_once() -> None:
    async with Neighbourhood() as here:
        link = SharedLink()
        gate = await start(here, link, 1)
        rest = [
            await start(here, link, 10 + i, lan=False, bootstrap=[gate.invite]) for i in range(8)
        ]
        late = await start(here, link, 2)
        await asyncio.sleep(1)  # before the first chore runs
        assert {one.id for one in late.contacts()} == {node.id for node in [gate, *rest]}


async def test_who_is_known_is_knocked_at_no_more() -> None:
    async with Neighbourhood() as here:
        link = SharedLink()
        alice, _ = await start(here, link, 1), await start(here, link, 2)
        await asyncio.sleep(SOON_S)
        met = await count(alice, "lan_met")
        await asyncio.sleep(HOUR)
        assert await count(alice, "lan_met") == met


async def test_members_of_another_network_are_not_even_knocked_at() -> None:
    other = Network.private(bytes(32))
    async with Neighbourhood() as here, Neighbourhood(other) as there:
        link = SharedLink()
        alice, eve = await start(here, link, 1), await start(there, link, 2)
        sent: list[Address] = []
        here.sim.taps.append(lambda _, to, __: sent.append(to))
        await asyncio.sleep(60)
        assert await count(alice, "lan_strangers") == 1
        assert await count(eve, "lan_strangers") == 1
        assert sent == []
        assert alice.contacts() == []


async def test_who_moves_to_another_address_is_found_there() -> None:
    """Its machine gets another address: it is bound to all, so it never notices."""
    async with Neighbourhood() as here:
        link = SharedLink()
        alice = await start(here, link, 1)
        identity = here.new_identity()
        bob = await start(here, link, 2, identity=identity)
        await asyncio.sleep(SOON_S)
        assert alice.contacts() == [contact_of(bob)]
        here.sim.unplug(bob.address)
        await bob.stop()
        moved = await start(here, link, 3, identity=identity)
        await asyncio.sleep(SOON_S)
        assert alice.contacts() == [contact_of(moved)]


async def test_a_beacon_that_is_shown_elsewhere_moves_its_hint() -> None:
    async with Neighbourhood() as here:
        link = SharedLink()
        alice, bob = await start(here, link, 1), await start(here, link, 2, lan=False)
        beacon = beacon_of(bob.public_key, port=bob.address.port)
        link.repeat(beacon, "192.168.1.77")
        await asyncio.sleep(60)
        assert alice.contacts() == []
        link.repeat(beacon, bob.address.host)
        await asyncio.sleep(SOON_S)
        assert alice.contacts() == [contact_of(bob)]


async def test_who_was_silent_is_knocked_at_again_but_ever_more_seldom() -> None:
    async with Neighbourhood() as here:
        link = SharedLink()
        alice = await start(here, link, 1)
        silent = here.new_identity().public_key
        knocks: list[float] = []
        now = asyncio.get_running_loop().time
        here.sim.taps.append(lambda *_: knocks.append(now()))
        link.repeat(beacon_of(silent), "192.168.1.2")
        await asyncio.sleep(60)
        first = len(knocks)
        assert 4 <= first <= 12
        await asyncio.sleep(6 * HOUR)
        pauses = [later - earlier for earlier, later in pairwise(knocks)]
        assert 590 < max(pauses) < 620
        assert len(knocks) < first + 100
        assert alice.contacts() == []


async def test_a_beacon_that_went_is_followed_no_more() -> None:
    async with Neighbourhood() as here:
        link = SharedLink()
        await start(here, link, 1)
        beacon = beacon_of(here.new_identity().public_key)
        link.repeat(beacon, "192.168.1.2")
        await asyncio.sleep(60)
        link.hide(f"{beacon.label}.{SERVICE}")
        await asyncio.sleep(SOON_S)
        sent: list[Address] = []
        here.sim.taps.append(lambda _, to, __: sent.append(to))
        await asyncio.sleep(HOUR)
        assert sent == []


async def test_a_crowd_of_beacons_is_forgotten_beyond_a_number_and_met_a_few_at_a_time() -> None:
    settings = Settings(lan_peers_max=10, lan_knocks_at_once=4)
    async with Neighbourhood(settings=settings) as here:
        link = SharedLink()
        await start(here, link, 1)
        called: dict[float, set[Address]] = {}
        now = asyncio.get_running_loop().time
        here.sim.taps.append(lambda _, to, __: called.setdefault(now(), set()).add(to))
        for number in range(2, 102):
            key = here.new_identity().public_key
            link.repeat(beacon_of(key, seed=number), f"192.168.1.{number}")
        await asyncio.sleep(HOUR)
        assert len(set().union(*called.values())) == 10
        assert max(map(len, called.values())) <= 4


async def test_junk_on_the_link_adds_nobody() -> None:
    async with Neighbourhood() as here:
        link, rng = SharedLink(), Random(1)
        alice = await start(here, link, 1)
        for _ in range(200):
            name = f"{rng.randbytes(16).hex()}.{SERVICE}"
            properties = {PROPERTY: rng.randbytes(rng.choice([0, 47, 48, 49]))}
            link.show(name, rng.randrange(70000), properties=properties, hosts=["192.168.1.2"])
        await asyncio.sleep(60)
        assert alice.contacts() == []
        assert await count(alice, "lan_members") == 0


async def test_a_beacon_of_our_own_that_somebody_repeats_leads_nowhere() -> None:
    async with Neighbourhood() as here:
        link = SharedLink()
        alice = await start(here, link, 1)
        link.repeat(beacon_of(alice.public_key), "192.168.1.2")
        sent: list[Address] = []
        here.sim.taps.append(lambda _, to, __: sent.append(to))
        await asyncio.sleep(60)
        assert sent == []


async def test_who_stops_shows_its_beacon_no_more() -> None:
    async with Neighbourhood() as here:
        link = SharedLink()
        alice = await start(here, link, 1)
        await alice.stop()
        bob = await start(here, link, 2)
        await asyncio.sleep(60)
        assert await count(bob, "lan_members") == 0


async def test_a_link_that_fails_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    async with Neighbourhood() as here:
        fails: Link = broken
        alice, bob = await here.grow(1, lan=fails) + await here.grow(1)
        await asyncio.sleep(60)
        assert alice.contacts() == [contact_of(bob)]
        assert "no longer looked for" in caplog.text


def beacon_of(public_key: bytes, *, port: int = 4000, seed: int = 0) -> Any:
    """A true one of a member, repeated by whoever likes."""
    return make_beacon(public_key, port, network=PRIVATE, suite=SUITE, rng=Random(seed))
