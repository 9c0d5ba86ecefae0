"""A datagram network in memory: delays, losses and cuts, all drawn from one seeded generator.

It stands in for `net.udp`: `SimNetwork.listen` is a `net.transport.Listen`, and it runs on whatever
loop runs it (a `VirtualLoop`, if an hour is to take no hour). It refuses to know what a datagram
says. A node joins it with `Node(listen=sim.listen, rng=Random(7), wall=sim.wall)`.

    sim = SimNetwork(rng=Random(1), latency=LogNormalLatency(1), loss=0.05)
    here = await sim.listen("", 0, receive)
    sim.loss = 0.0  # every parameter may be changed while it runs

Two runs that deliver the same datagrams at the same moments have the same `trace_digest()`.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from struct import Struct

from kademlia_node.core.contact import Address, pack_address
from kademlia_node.errors import SetupError
from kademlia_node.net.transport import Receive, Transport
from kademlia_node.settings import PACKET_BYTES_MAX

WALL_EPOCH_S = 1_700_000_000.0  # wall time at virtual second 0
FIRST_PORT = 4000
ANY_HOST = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - names, nothing binds to them

LatencyModel = Callable[[Address, Address], float]
"""One-way delay in seconds from a source to a destination."""

Tap = Callable[[Address, Address, bytes], None]
"""Sees source, destination and datagram of everything sent, lost or not."""

_NORMAL = NormalDist()
_TRACE_HEAD = Struct("<dH")  # moment of delivery, size of the datagram


@dataclass(frozen=True)
class FixedLatency:
    """The same one-way delay between any two addresses."""

    seconds: float

    def __call__(self, _source: Address, _destination: Address) -> float:
        """The one-way delay in seconds."""
        return self.seconds


@dataclass(frozen=True)
class LogNormalLatency:
    """Log-normal round trips, fixed for each unordered pair of hosts.

    The defaults give a mean of 178 ms, p90 of 301 ms and p99 of 515 ms, close to the King
    measurements (Li et al., PVC 2005). A pair's delay is a hash of seed and hosts: it depends on
    nothing that happened before, and no table grows.
    """

    seed: int
    rtt_median_s: float = 0.156
    sigma: float = 0.514

    def __call__(self, source: Address, destination: Address) -> float:
        """The one-way delay in seconds: half of the pair's round trip."""
        first, second = sorted((source.host, destination.host))
        pair = f"{self.seed} {first} {second}".encode()
        drawn = int.from_bytes(hashlib.blake2b(pair, digest_size=6).digest(), "big")
        quantile = (drawn + 0.5) / 2**48  # neither 0 nor 1
        return 0.5 * self.rtt_median_s * math.exp(self.sigma * _NORMAL.inv_cdf(quantile))


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
    """A cut between two groups of addresses; `heal` ends it."""

    def __init__(
        self, group_a: Iterable[Address], group_b: Iterable[Address], *, both_ways: bool
    ) -> None:
        self._a = frozenset(group_a)
        self._b = frozenset(group_b)
        self._both_ways = both_ways
        self.healed = False

    def cuts(self, source: Address, destination: Address) -> bool:
        """Whether no datagram passes from source to destination."""
        if self.healed:
            return False
        there = source in self._a and destination in self._b
        return there or (self._both_ways and source in self._b and destination in self._a)

    def heal(self) -> None:
        """Let datagrams pass again; those sent meanwhile stay lost. Safe to call twice."""
        self.healed = True


class _Socket:
    """One end of the network: a `Transport`."""

    __slots__ = ("_release", "_transmit", "address", "receive")

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
        taps: called with source, destination and datagram as it is sent.
        sent: what sockets handed over.
        delivered: what reached a socket, duplicates included.
        lost: what did not: chance, a cut, an unplugged end, or nobody at the address.
    """

    def __init__(
        self,
        *,
        rng: random.Random,
        latency: LatencyModel = FixedLatency(0.050),
        jitter_s: float = 0.002,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        reorder_s: float = 0.100,
    ) -> None:
        self.latency = latency
        self.jitter_s = jitter_s
        self.loss = loss
        self.duplicate = duplicate
        self.reorder = reorder
        self.reorder_s = reorder_s
        self.taps: list[Tap] = []
        self.sent = Traffic()
        self.delivered = Traffic()
        self.lost = Traffic()
        self._rng = rng
        self._sockets: dict[Address, _Socket] = {}
        self._fresh_hosts = _public_hosts()
        self._hosts: set[str] = set()  # every one that was ever bound
        self._partitions: list[Partition] = []
        self._unplugged: set[Address] = set()
        self._trace = hashlib.blake2b(digest_size=32)

    def wall(self) -> float:
        """Wall time in seconds: a fixed epoch plus the time of the running loop."""
        return WALL_EPOCH_S + asyncio.get_running_loop().time()

    def trace_digest(self) -> str:
        """64 hex digits over every delivery so far: moment, source, destination, datagram."""
        return self._trace.hexdigest()

    async def listen(self, host: str, port: int, receive: Receive) -> Transport:
        """Bind an address; see `net.transport.Listen`. What `receive` returns is ignored.

        An unspecified host gives a fresh public address in a /24 of its own; port 0 the first
        free port from 4000 on.

        Raises:
            SetupError: the address is taken, or the host is not numeric.
        """
        address = self._choose_address(host, port)
        socket = _Socket(address, receive, transmit=self._transmit, release=self._release)
        self._sockets[address] = socket
        return socket

    def partition(
        self, group_a: Iterable[Address], group_b: Iterable[Address], *, both_ways: bool = True
    ) -> Partition:
        """Cut group A off from group B, or with `both_ways=False` only what A sends to B."""
        partition = Partition(group_a, group_b, both_ways=both_ways)
        self._partitions = [*(p for p in self._partitions if not p.healed), partition]
        return partition

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
        copies = 2 if self._chance(self.duplicate) else 1
        for _ in range(copies):
            if self._chance(self.loss) or self._is_cut(source, destination):
                self.lost.add(datagram)
            else:
                loop = asyncio.get_running_loop()
                when = loop.time() + self._delay_s(source, destination)
                loop.call_at(when, self._deliver, source, destination, datagram)

    def _deliver(self, source: Address, destination: Address, datagram: bytes) -> None:
        socket = self._sockets.get(destination)
        if socket is None or self._is_cut(source, destination):
            self.lost.add(datagram)
            return
        self.delivered.add(datagram)
        head = _TRACE_HEAD.pack(asyncio.get_running_loop().time(), len(datagram))
        self._trace.update(head + pack_address(source) + pack_address(destination) + datagram)
        socket.receive(datagram, source)

    def _chance(self, probability: float) -> bool:
        return probability > 0.0 and self._rng.random() < probability

    def _delay_s(self, source: Address, destination: Address) -> float:
        delay_s = self.latency(source, destination)
        if self.jitter_s > 0.0:
            delay_s += self.jitter_s * self._rng.random()
        if self._chance(self.reorder):
            delay_s += self.reorder_s * self._rng.random()
        return delay_s

    def _is_cut(self, source: Address, destination: Address) -> bool:
        if self._unplugged and not self._unplugged.isdisjoint((source, destination)):
            return True
        return any(partition.cuts(source, destination) for partition in self._partitions)

    def _release(self, socket: _Socket) -> None:
        if self._sockets.get(socket.address) is socket:
            del self._sockets[socket.address]


def _public_hosts() -> Iterator[str]:
    """1.0.0.1, 1.0.1.1, 1.0.2.1 ...: one host of every public IPv4 /24."""
    for number in range(0x01000001, 0xE0000000, 256):  # up to where multicast begins
        ip = ipaddress.IPv4Address(number)
        if ip.is_global:
            yield str(ip)
