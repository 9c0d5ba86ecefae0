"""What every link promises: the real one, by multicast over loopback, and that of the tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from random import Random

import pytest

from kademlia_node.core.beacon import SERVICE, Beacon, Sighting
from kademlia_node.core.contact import Address
from kademlia_node.net.lan import MulticastLink, own_hosts
from kademlia_node.net.link import Link
from kademlia_node.settings import Settings
from tests.net.links import SharedLink, needs_multicast

LONG_S = 20.0  # no test takes so long unless something hangs
QUICK = Settings(lan_look_s=0.1)
GROUP = ("224.0.0.251", 5353)
RNG = Random()  # other tests of this machine use the same link, so labels differ from run to run


class Watcher:
    """A witness that remembers."""

    def __init__(self) -> None:
        self.seen: dict[str, Sighting] = {}
        self.gone: set[str] = set()
        self._told = asyncio.Event()

    def on_seen(self, sighting: Sighting) -> None:
        self.seen[sighting.beacon.label] = sighting
        self._told.set()

    def on_gone(self, label: str) -> None:
        self.gone.add(label)
        self._told.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LONG_S):
            while not holds():
                self._told.clear()
                await self._told.wait()


def new_beacon() -> Beacon:
    return Beacon(RNG.randbytes(16).hex(), 4000, RNG.randbytes(48))


async def hold_the_contract(links: Callable[[], Link]) -> None:
    first, second = Watcher(), Watcher()
    one, other = new_beacon(), new_beacon()
    bound = Address("127.0.0.1", 4000)
    async with links()(bound, lambda: one, first):
        async with links()(bound, lambda: other, second):
            await first.until(lambda: other.label in first.seen)
            await second.until(lambda: one.label in second.seen)
            assert first.seen[other.label] == Sighting(other, (bound,))
            assert second.seen[one.label] == Sighting(one, (bound,))
            assert other.label not in first.gone
        await first.until(lambda: other.label in first.gone)
        assert one.label not in second.gone


@pytest.mark.net
@needs_multicast
async def test_beacons_are_seen_until_they_go_by_multicast() -> None:
    await hold_the_contract(lambda: MulticastLink(QUICK))


async def test_beacons_are_seen_until_they_go_in_memory() -> None:
    shared = SharedLink()
    await hold_the_contract(lambda: shared.at("127.0.0.1"))


# --- Multicast alone ------------------------------------------------------------------------------


@pytest.mark.net
@needs_multicast
async def test_an_address_that_changes_is_shown_anew_and_under_another_label() -> None:
    """As with DHCP."""
    hosts, shown, watcher = ["127.0.0.1"], list[Beacon](), Watcher()

    def make() -> Beacon:
        shown.append(new_beacon())
        return shown[-1]

    bound = Address("0.0.0.0", 4000)
    moving = MulticastLink(QUICK, hosts=lambda _: hosts)
    async with (
        MulticastLink(QUICK)(Address("127.0.0.1", 4001), new_beacon, watcher),
        moving(bound, make, Watcher()),
    ):
        await watcher.until(lambda: bool(shown) and shown[0].label in watcher.seen)
        hosts[:] = ["127.0.0.2"]
        await watcher.until(lambda: len(shown) > 1 and shown[1].label in watcher.seen)
        await watcher.until(lambda: shown[0].label in watcher.gone)
        assert watcher.seen[shown[1].label].addresses == (Address("127.0.0.2", 4000),)


@pytest.mark.net
async def test_a_link_that_cannot_be_used_is_said_once_and_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks, enough = list[str](), asyncio.Event()

    def hosts(bound: str) -> list[str]:
        looks.append(bound)
        if len(looks) > 3:
            enough.set()
        return ["203.0.113.1"]  # not ours

    link = MulticastLink(QUICK, hosts=hosts)
    async with asyncio.timeout(LONG_S), link(Address("0.0.0.0", 4000), new_beacon, Watcher()):
        await enough.wait()
    said = [one for one in caplog.messages if "203.0.113.1" in one and "cannot look" in one]
    assert len(said) == 1


@pytest.mark.net
@needs_multicast
async def test_junk_on_the_link_is_not_told_and_stops_nothing() -> None:
    """Services of our type that are no beacons, packets that are none, then a beacon."""
    watcher, rng, beacon = Watcher(), Random(1), new_beacon()
    bound = Address("127.0.0.1", 4000)
    async with MulticastLink(QUICK)(bound, new_beacon, watcher):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            mouth.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
            )
            for label in ("junk", "ab" * 16, "zz" * 16):
                mouth.sendto(pointer(f"{label}.{SERVICE}"), GROUP)
            for _ in range(100):
                mouth.sendto(rng.randbytes(rng.randrange(1, 600)), GROUP)
        async with MulticastLink(QUICK)(bound, lambda: beacon, Watcher()):
            await watcher.until(lambda: beacon.label in watcher.seen)
    assert not watcher.seen.keys() & {"junk", "ab" * 16, "zz" * 16}


def pointer(name: str) -> bytes:
    """An answer of multicast DNS in which our type of service has this instance, and no more."""

    def wire(dotted: str) -> bytes:
        parts = [part.encode() for part in dotted.rstrip(".").split(".")]
        return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"

    target = wire(name)
    header = bytes.fromhex("0000 8400 0000 0001 0000 0000")
    fixed = bytes.fromhex("000c 0001 00000078") + len(target).to_bytes(2, "big")
    return header + wire(SERVICE) + fixed + target


def test_a_bound_address_is_the_only_one_we_are_found_at() -> None:
    assert own_hosts("127.0.0.1") == ["127.0.0.1"]
    assert own_hosts("203.0.113.1") == ["203.0.113.1"]


def test_a_socket_bound_to_all_addresses_is_found_at_private_ones_of_its_kind() -> None:
    both, v4 = own_hosts("::"), own_hosts("0.0.0.0")
    assert set(v4) == {host for host in both if ":" not in host}
    assert not any(host.startswith(("127.", "fe80")) or host == "::1" for host in both)
