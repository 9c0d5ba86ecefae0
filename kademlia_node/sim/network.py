"""A datagram network in memory: delays, losses, cuts and NATs, all drawn from one seeded generator.

It stands in for `net.udp`: `SimNetwork.listen` is a `net.transport.Listen`, and it runs on whatever
loop runs it (a `VirtualLoop`, if an hour is to take no hour). It refuses to know what a datagram
says. A node joins it with `Node(listen=sim.listen, rng=Random(7), wall=sim.wall)`.

    sim = SimNetwork(rng=Random(1), latency=LogNormalLatency(1), loss=0.05)
    here = await sim.listen("", 0, receive)
    sim.loss = 0.0  # every parameter may be changed while it runs

Cuts and clogs last until they are healed. `sim.faults` draws all of that from a seed. Two runs
that deliver the same datagrams at the same moments have the same `trace_digest()`.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from struct import Struct

from kademlia_node.core.contact import Address, pack_address
from kademlia_node.errors import SetupError
from kademlia_node.net.transport import OnRefused, Receive, Transport, ignore_refusal
from kademlia_node.settings import PACKET_BYTES_MAX
from kademlia_node.sim.latency import FixedLatency, LatencyModel
from kademlia_node.sim.nat import Nat

WALL_EPOCH_S = 1_700_000_000.0  # wall time at virtual second 0
DEFAULT_LATENCY = FixedLatency(0.050)
FIRST_PORT = 4000
ANY_HOST = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - names, nothing binds to them

Tap = Callable[[Address, Address, bytes], None]
"""Sees source, destination and datagram of everything sent, lost or not."""

CLOG_DATAGRAMS_MAX = 4096  # held back by one clog: a queue is finite, and so is our memory

_Flight = tuple[Address, Address, bytes]  # source, destination, datagram
_TRACE_HEAD = Struct("<dH")  # moment of delivery, size of the datagram


@dataclass(slots=True)
class Traffic:
    """A count of datagrams, and of their bytes without any header below ours."""

    datagrams: int = 0
    size_bytes: int = 0

    def add(self, datagram: bytes) -> None:
        """Count one more."""
        self.datagrams += 1
        self.size_bytes += len(datagram)


class Partition:
    """A cut between two groups of addresses, or one and all others (None); `heal` ends it."""

    def __init__(
        self,
        group_a: Iterable[Address],
        group_b: Iterable[Address] | None,
        *,
        both_ways: bool,
    ) -> None:
        self._a = frozenset(group_a)
        self._b = None if group_b is None else frozenset(group_b)
        self._both_ways = both_ways
        self.healed = False

    def cuts(self, source: Address, destination: Address) -> bool:
        """Whether no datagram passes from source to destination."""
        if self.healed:
            return False
        there = source in self._a and self._in_b(destination)
        return there or (self._both_ways and self._in_b(source) and destination in self._a)

    def heal(self) -> None:
        """Let datagrams pass again; those sent meanwhile stay lost. Safe to call twice."""
        self.healed = True

    def _in_b(self, address: Address) -> bool:
        return address not in self._a if self._b is None else address in self._b


class Clog(Partition):
    """A partition that holds datagrams back: `heal` lets them arrive at once, in random order."""

    def __init__(
        self,
        group_a: Iterable[Address],
        group_b: Iterable[Address] | None,
        *,
        both_ways: bool,
        release: Callable[[list[_Flight]], None],
    ) -> None:
        super().__init__(group_a, group_b, both_ways=both_ways)
        self._release = release
        self._held: list[_Flight] = []

    def hold(self, flight: _Flight) -> bool:
        """Keep what would arrive now, until `heal`; False: there is no more room."""
        has_room = len(self._held) < CLOG_DATAGRAMS_MAX
        if has_room:
            self._held.append(flight)
        return has_room

    def heal(self) -> None:
        """Let datagrams pass again, those that were held back first. Safe to call twice."""
        super().heal()
        held, self._held = self._held, []
        self._release(held)


class _Socket:
    """One end of the network: a `Transport`."""

    __slots__ = ("_release", "_transmit", "address", "on_refused", "receive")

    def __init__(
        self,
        address: Address,
        receive: Receive,
        *,
        transmit: Callable[[_Socket, Address, bytes], None],
        release: Callable[[_Socket], None],
    ) -> None:
        self.address = address
        self.receive = receive
        self.on_refused: OnRefused = ignore_refusal
        self._transmit = transmit
        self._release = release

    def send(self, datagram: bytes, address: Address) -> None:
        self._transmit(self, address, datagram)

    async def close(self) -> None:
        self._release(self)


class SimNetwork:
    """Delivers datagrams between its sockets, late, twice, out of order, or not at all.

    Public attributes may be changed at any time; they hold for what is sent from then on.

    Attributes:
        latency: the one-way delay of each pair.
        jitter_s: each datagram takes up to this much longer, drawn evenly; 0.0 for exact delays.
        loss: the probability that a datagram is lost.
        duplicate: the probability that a datagram arrives twice.
        reorder: the probability that a datagram is held back by up to `reorder_s` seconds.
        reorder_s: see `reorder`.
        corrupt: the probability that one bit of a datagram arrives flipped.
        slow: by how many seconds whatever an address sends is late.
        refuses: whether a host tells senders that nobody listens at an address (any more).
        silent: addresses that hear everything, and of which nobody hears anything.
        nats: the NAT in front of an address.
        taps: called with source, destination and datagram as it is sent.
        sent: what sockets handed over.
        delivered: what reached a socket, duplicates included.
        lost: what did not: chance, a cut, a full clog, an end that is unplugged or silent, a NAT,
            or nobody at the address.
    """

    def __init__(
        self,
        *,
        rng: random.Random,
        latency: LatencyModel = DEFAULT_LATENCY,
        jitter_s: float = 0.002,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        reorder_s: float = 0.100,
        corrupt: float = 0.0,
    ) -> None:
        self.latency = latency
        self.jitter_s = jitter_s
        self.loss = loss
        self.duplicate = duplicate
        self.reorder = reorder
        self.reorder_s = reorder_s
        self.corrupt = corrupt
        self.slow: dict[Address, float] = {}
        self.refuses = False
        self.silent: set[Address] = set()
        self.nats: dict[Address, Nat] = {}
        self.taps: list[Tap] = []
        self.sent = Traffic()
        self.delivered = Traffic()
        self.lost = Traffic()
        self._rng = rng
        self._sockets: dict[Address, _Socket] = {}
        self._fresh_hosts = _public_hosts()
        self._hosts: set[str] = set()  # every one that was ever bound
        self._partitions: list[Partition] = []
        self._clogs: list[Clog] = []
        self._unplugged: set[Address] = set()
        self._trace = hashlib.blake2b(digest_size=32)

    def wall(self) -> float:
        """Wall time in seconds: a fixed epoch plus the time of the running loop."""
        return WALL_EPOCH_S + asyncio.get_running_loop().time()

    def trace_digest(self) -> str:
        """64 hex digits over every delivery so far: moment, source, destination, datagram."""
        return self._trace.hexdigest()

    async def listen(self, host: str, port: int, receive: Receive) -> Transport:
        """Bind an address; see `net.transport.Listen`.

        An unspecified host gives a fresh public address in a /24 of its own; port 0 the first
        free port from 4000 on.

        Raises:
            SetupError: the address is taken, or the host is not numeric.
        """
        address = self._choose_address(host, port)
        self._loop = asyncio.get_running_loop()  # to ask for it costs more than to send a datagram
        socket = _Socket(address, receive, transmit=self._transmit, release=self._release)
        self._sockets[address] = socket
        return socket

    def partition(
        self,
        group_a: Iterable[Address],
        group_b: Iterable[Address] | None = None,
        *,
        both_ways: bool = True,
    ) -> Partition:
        """Cut group A off from group B, or with `both_ways=False` only what A sends to B.

        Without a group B, from all others, those included that come later. Several at once give any
        shape.
        """
        partition = Partition(group_a, group_b, both_ways=both_ways)
        self._partitions = [*(p for p in self._partitions if not p.healed), partition]
        return partition

    def clog(
        self,
        group_a: Iterable[Address],
        group_b: Iterable[Address] | None = None,
        *,
        both_ways: bool = True,
    ) -> Clog:
        """Hold back what arrives between two groups; they are as in `partition`."""
        clog = Clog(group_a, group_b, both_ways=both_ways, release=self._unclog)
        self._clogs = [*(c for c in self._clogs if not c.healed), clog]
        return clog

    def unplug(self, address: Address) -> None:
        """Lose everything from and to an address, what is under way to it included."""
        self._unplugged.add(address)

    def plug(self, address: Address) -> None:
        """Undo `unplug`."""
        self._unplugged.discard(address)

    def _choose_address(self, host: str, port: int) -> Address:
        if host in ANY_HOST:
            host = next(fresh for fresh in self._fresh_hosts if fresh not in self._hosts)
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError:
            raise SetupError(f"{host!r} is not a numeric host") from None
        self._hosts.add(host)
        ports = range(FIRST_PORT, 65536) if port == 0 else (port,)
        for address in (Address(host, port) for port in ports):
            if address not in self._sockets:
                return address
        raise SetupError(f"{Address(host, port)} is in use")

    def _transmit(self, socket: _Socket, destination: Address, datagram: bytes) -> None:
        assert len(datagram) <= PACKET_BYTES_MAX, f"{len(datagram)} bytes would be fragmented"
        source = socket.address
        if self._sockets.get(source) is not socket:
            return  # closed
        self.sent.add(datagram)
        for tap in self.taps:
            tap(source, destination, datagram)
        now = self._loop.time()
        if nat := self.nats.get(source):
            nat.on_sent(destination, now=now)
        copies = 2 if self._chance(self.duplicate) else 1
        for _ in range(copies):
            is_lost = self._chance(self.loss) or source in self.silent
            if is_lost or self._is_cut(source, destination):
                self.lost.add(datagram)
            else:
                when = now + self._delay_s(source, destination)
                arriving = self._garbled(datagram)
                self._loop.call_at(when, self._deliver, source, destination, arriving)

    def _deliver(self, source: Address, destination: Address, datagram: bytes) -> None:
        now = self._loop.time()
        clog = self._clog_between(source, destination) if self._clogs else None
        if clog is not None and clog.hold((source, destination, datagram)):
            return
        socket = self._sockets.get(destination)
        nat = self.nats.get(destination)
        is_shut_out = nat is not None and not nat.lets_in(source, now=now)
        if clog is not None or socket is None or is_shut_out or self._is_cut(source, destination):
            self.lost.add(datagram)
            if self.refuses and socket is None and clog is None:
                back_s = self._delay_s(destination, source)
                self._loop.call_later(back_s, self._refuse, source, destination, datagram)
            return
        self.delivered.add(datagram)
        head = _TRACE_HEAD.pack(now, len(datagram))
        self._trace.update(head + pack_address(source) + pack_address(destination) + datagram)
        socket.receive(datagram, source)

    def _refuse(self, source: Address, destination: Address, datagram: bytes) -> None:
        socket = self._sockets.get(source)
        is_cut = self._is_cut(source, destination) or self._is_cut(destination, source)
        if socket is not None and not is_cut:
            socket.on_refused(datagram, destination)

    def _unclog(self, held: list[_Flight]) -> None:
        self._rng.shuffle(held)
        for flight in held:
            self._loop.call_soon(self._deliver, *flight)

    def _garbled(self, datagram: bytes) -> bytes:
        if not datagram or not self._chance(self.corrupt):
            return datagram
        flipped = 1 << self._rng.randrange(8 * len(datagram))
        return (int.from_bytes(datagram, "big") ^ flipped).to_bytes(len(datagram), "big")

    def _chance(self, probability: float) -> bool:
        return probability > 0.0 and self._rng.random() < probability

    def _delay_s(self, source: Address, destination: Address) -> float:
        delay_s = self.latency(source, destination) + self.slow.get(source, 0.0)
        if self.jitter_s > 0.0:
            delay_s += self.jitter_s * self._rng.random()
        if self._chance(self.reorder):
            delay_s += self.reorder_s * self._rng.random()
        return delay_s

    def _is_cut(self, source: Address, destination: Address) -> bool:
        if self._unplugged and not self._unplugged.isdisjoint((source, destination)):
            return True
        return bool(self._partitions) and any(
            partition.cuts(source, destination) for partition in self._partitions
        )

    def _clog_between(self, source: Address, destination: Address) -> Clog | None:
        return next((clog for clog in self._clogs if clog.cuts(source, destination)), None)

    def _release(self, socket: _Socket) -> None:
        if self._sockets.get(socket.address) is socket:
            del self._sockets[socket.address]


def _public_hosts() -> Iterator[str]:
    """1.0.0.1, 1.0.1.1, 1.0.2.1 ...: one host of every public IPv4 /24."""
    for number in range(0x01000001, 0xE0000000, 256):  # up to where multicast begins
        ip = ipaddress.IPv4Address(number)
        if ip.is_global:
            yield str(ip)
