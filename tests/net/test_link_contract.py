"""What every link promises: the real one, by multicast over loopback, and that of the tests."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random

import ifaddr
import pytest

from kademlia_node.core.beacon import PROPERTY, SERVICE, Beacon, Sighting
from kademlia_node.core.contact import Address
from kademlia_node.net.lan import MulticastLink, own_hosts
from kademlia_node.net.link import Link
from kademlia_node.settings import Settings
from tests.net.links import SharedLink, needs_multicast

LONG_S = 20.0  # no test takes so long unless something hangs
QUICK = Settings(lan_look_s=0.1)
GROUP = ("224.0.0.251", 5353)
HERE = Address("127.0.0.1", 4000)
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
    async with links()(HERE, lambda: one, first):
        async with links()(HERE, lambda: other, second):
            await first.until(lambda: other.label in first.seen)
            await second.until(lambda: one.label in second.seen)
            assert first.seen[other.label] == Sighting(other, (HERE,))
            assert second.seen[one.label] == Sighting(one, (HERE,))
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
async def test_junk_on_the_link_is_not_told_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Services of our type that are no beacons, packets that are none, then a beacon."""
    caplog.set_level(logging.DEBUG, "kademlia_node")
    watcher, rng, beacon = Watcher(), Random(1), new_beacon()
    async with listening(QUICK, watcher):
        with responder() as say:
            say(instance("junk"))
            for sealed in (b"", bytes(47)):
                label = RNG.randbytes(16).hex()
                say(instance(label), *details(Beacon(label, 4000, sealed), "127.0.0.1"))
            far = new_beacon()
            say(instance(far.label), *details(far, "8.8.8.8"))
            for _ in range(100):
                say.send(rng.randbytes(rng.randrange(1, 600)))
        async with MulticastLink(QUICK)(HERE, lambda: beacon, Watcher()):
            await watcher.until(lambda: beacon.label in watcher.seen)
    assert far.label not in watcher.seen
    assert all(len(sighting.beacon.sealed) == 48 for sighting in watcher.seen.values())
    assert sum("is no beacon" in message for message in caplog.messages) >= 3


@pytest.mark.net
@needs_multicast
async def test_a_beacon_whose_records_do_not_come_at_once_is_asked_for_them() -> None:
    watcher, beacon = Watcher(), new_beacon()
    async with listening(QUICK, watcher):
        with responder() as say, group_member() as ear:
            answering = Answering(beacon, say)
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: answering, sock=ear
            )
            say(instance(beacon.label))
            await watcher.until(lambda: beacon.label in watcher.seen)
            transport.close()
    assert watcher.seen[beacon.label] == Sighting(beacon, (HERE,))
    assert answering.asked


@pytest.mark.net
@needs_multicast
async def test_of_many_unresolved_services_a_number_waits_and_the_rest_is_left_aside() -> None:
    watcher, beacon = Watcher(), new_beacon()
    async with listening(Settings(lan_peers_max=2), watcher):
        with responder() as say:
            for _ in range(50):
                say(instance(RNG.randbytes(16).hex()))
        async with MulticastLink(QUICK)(HERE, lambda: beacon, Watcher()):
            await watcher.until(lambda: beacon.label in watcher.seen)


@asynccontextmanager
async def listening(settings: Settings, watcher: Watcher) -> AsyncIterator[None]:
    """A link that hears already."""
    there = new_beacon()
    async with (
        MulticastLink(settings)(HERE, new_beacon, watcher),
        MulticastLink(QUICK)(HERE, lambda: there, Watcher()),
    ):
        await watcher.until(lambda: there.label in watcher.seen)
        yield


class Answering(asyncio.DatagramProtocol):
    """Tells the rest of a beacon, when it is asked for it."""

    def __init__(self, beacon: Beacon, say: Say) -> None:
        self.asked = False
        self._beacon = beacon
        self._say = say

    def datagram_received(self, data: bytes, addr: object) -> None:
        is_query = not data[2] & 0x80
        if is_query and not self.asked and self._beacon.label.encode() in data:
            self.asked = True
            self._say(*details(self._beacon, "127.0.0.1"))


@contextmanager
def group_member() -> Iterator[socket.socket]:
    """A socket that hears what is multicast on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        ear.bind(GROUP)
        membership = socket.inet_aton(GROUP[0]) + socket.inet_aton("127.0.0.1")
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        yield ear


class Say:
    """Multicast records, or any bytes, on loopback."""

    def __init__(self, mouth: socket.socket) -> None:
        self._mouth = mouth

    def __call__(self, *records: bytes) -> None:
        header = bytes.fromhex("0000 8400 0000") + len(records).to_bytes(2, "big") + bytes(4)
        self.send(header + b"".join(records))

    def send(self, packet: bytes) -> None:
        self._mouth.sendto(packet, GROUP)


@contextmanager
def responder() -> Iterator[Say]:
    """From the port of multicast DNS, as answers from any other are ignored."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        mouth.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mouth.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        here = socket.inet_aton("127.0.0.1")
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        mouth.bind(("127.0.0.1", 5353))
        yield Say(mouth)


def wire(dotted: str) -> bytes:
    """A name as DNS has it."""
    parts = [part.encode() for part in dotted.rstrip(".").split(".")]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def record(name: str, number: int, content: bytes) -> bytes:
    """One that lives for two minutes."""
    fixed = number.to_bytes(2, "big") + bytes.fromhex("0001 00000078")
    return wire(name) + fixed + len(content).to_bytes(2, "big") + content


def instance(label: str) -> bytes:
    return record(SERVICE, 12, wire(f"{label}.{SERVICE}"))


def details(beacon: Beacon, host: str) -> list[bytes]:
    """SRV, TXT and A."""
    name, machine = f"{beacon.label}.{SERVICE}", f"{beacon.label}.local."
    text = PROPERTY + b"=" + beacon.sealed
    return [
        record(name, 33, bytes(4) + beacon.port.to_bytes(2, "big") + wire(machine)),
        record(name, 16, bytes([len(text)]) + text),
        record(machine, 1, socket.inet_aton(host)),
    ]


def test_a_bound_address_is_the_only_one_we_are_found_at() -> None:
    assert own_hosts("127.0.0.1") == ["127.0.0.1"]
    assert own_hosts("203.0.113.1", adapters=some_adapters) == ["203.0.113.1"]


def some_adapters() -> list[ifaddr.Adapter]:
    """Of a machine with public addresses, private ones and those that every machine has."""
    v4 = ("127.0.0.1", "192.168.1.2", "10.0.0.2", "203.0.113.1", "8.8.8.8", "192.168.1.2")
    v6 = ("::1", "fe80::1", "fd00::2", "2001:4860::1")
    ips = [ifaddr.IP(host, 24, "a") for host in v4]
    ips += [ifaddr.IP((host, 0, 0), 64, "b") for host in v6]
    return [ifaddr.Adapter("a", "a", ips[:4]), ifaddr.Adapter("b", "b", ips[4:])]


def test_a_socket_bound_to_all_addresses_is_found_at_private_ones_of_its_kind() -> None:
    v4 = ["10.0.0.2", "192.168.1.2"]
    assert own_hosts("0.0.0.0", adapters=some_adapters) == v4
    assert own_hosts("::", adapters=some_adapters) == [*v4, "fd00::2"]


def test_the_addresses_of_this_machine_can_be_read() -> None:
    both, v4 = own_hosts("::"), own_hosts("0.0.0.0")
    assert set(v4) == {host for host in both if ":" not in host}
    assert not any(host.startswith(("127.", "fe80")) or host == "::1" for host in both)
