"""Bare exchanges with a scripted listener on a simulated network, and a record of what they send.

sim = exact_network()
wire = Wire(sim)
alice, bob = await open_peer(sim), await open_peer(sim)
await alice.exchange.ask(bob.contact, Ping())
assert wire.kinds() == "INIT RESP DATA"
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from kademlia_node.core import packet
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.message import (
    Digest,
    Digests,
    FindNode,
    FindValue,
    Identified,
    Identify,
    Leaving,
    Left,
    Nodes,
    Notified,
    Notify,
    Ping,
    Pong,
    Probe,
    Probed,
    Request,
    Response,
    Store,
    Stored,
    StoreStatus,
    Values,
    Watch,
    Watched,
)
from kademlia_node.core.network import Network
from kademlia_node.core.suite import Suite
from kademlia_node.net.ask import Asker, Reply
from kademlia_node.net.exchange import Exchange
from kademlia_node.net.transport import OnRefused, Receive, Transport
from kademlia_node.settings import Settings
from kademlia_node.sim import FixedLatency, NullSuite, SimNetwork

NETWORK = Network.open("test", puzzle_bits=0)
SETTINGS = Settings()
ONE_WAY_S = 0.1
RTT_S = 2 * ONE_WAY_S

Answers = Callable[[Asker, Request], Response | None]
"""What to answer; None keeps the reply in `Script.held`."""


def polite(_asker: Asker, request: Request) -> Response:
    """An empty answer of the right kind."""
    answers: dict[type[Request], Response] = {
        Ping: Pong(),
        Identify: Identified(b""),
        FindNode: Nodes(()),
        FindValue: Values((), 0, None, ()),
        Store: Stored(StoreStatus.OK),
        Probe: Probed(accepted=False),
        Digest: Digests(0),
        Leaving: Left(),
        Watch: Watched(0),
        Notify: Notified(wanted=False),
    }
    return answers[type(request)]


@dataclass
class Script:
    """A `net.ask.Listener` that answers as told and remembers what it was told."""

    answers: Answers = polite
    pinned: set[bytes] = field(default_factory=set)
    served: list[tuple[Asker, Request]] = field(default_factory=list)
    held: list[Reply] = field(default_factory=list)
    alive: list[Contact] = field(default_factory=list)
    silent: list[Contact] = field(default_factory=list)
    seen_as: list[Address] = field(default_factory=list)

    def serve(self, asker: Asker, request: Request, reply: Reply) -> None:
        self.served.append((asker, request))
        answer = self.answers(asker, request)
        if answer is None:
            self.held.append(reply)
        else:
            reply(answer)

    def on_alive(self, contact: Contact, *, server: bool) -> None:
        self.alive.append(contact)

    def on_silent(self, contact: Contact) -> None:
        self.silent.append(contact)

    def on_seen_as(self, address: Address, *, by: Contact) -> None:
        self.seen_as.append(address)

    def is_pinned(self, node_id: bytes) -> bool:
        return node_id in self.pinned

    @property
    def requests(self) -> list[Request]:
        return [request for _, request in self.served]


@dataclass
class Peer:
    """An open exchange and its script; `receive` takes a datagram from whatever source we say."""

    identity: Identity
    exchange: Exchange
    script: Script
    receive: Receive

    @property
    def address(self) -> Address:
        return self.exchange.address

    @property
    def contact(self) -> Contact:
        return Contact(self.identity.public_key, self.address)

    def send(self, contact: Contact, request: Request, **how: Any) -> Outcome:
        """`Exchange.send`, and what comes of it."""
        outcome = Outcome()
        self.exchange.send(
            contact, request, on_done=outcome.on_done, on_slow=outcome.on_slow, **how
        )
        outcome.is_sent = True
        return outcome


@dataclass
class Outcome:
    """How a request ended: `answers` holds what `on_done` was called with, each time."""

    answers: list[Response | None] = field(default_factory=list)
    slow: int = 0
    is_sent: bool = False

    def on_done(self, response: Response | None) -> None:
        assert self.is_sent, "told before `send` returned"
        self.answers.append(response)

    def on_slow(self) -> None:
        assert self.is_sent, "told before `send` returned"
        assert not self.answers, "told to be slow after its end"
        self.slow += 1


@dataclass
class Tapped:
    """A `Listen` of a simulated network that lets tests hand datagrams in from any source."""

    sim: SimNetwork
    receivers: dict[Address, Receive] = field(default_factory=dict)
    transports: dict[Address, Transport] = field(default_factory=dict)

    async def listen(self, host: str, port: int, receive: Receive) -> Transport:
        transport = await self.sim.listen(host, port, receive)
        self.receivers[transport.address] = receive
        self.transports[transport.address] = transport
        return transport


def settings(**changes: float) -> Settings:
    return replace(SETTINGS, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Sent:
    """One datagram on its way, delivered or not."""

    at: float
    source: Address
    destination: Address
    datagram: bytes

    @property
    def kind(self) -> packet.Type:
        return packet.Type(self.datagram[0])


class World:
    """A network on which a round trip takes `RTT_S`, its peers, and everything that is sent."""

    def __init__(
        self, *, seed: int = 1, suite: Suite | None = None, sim: SimNetwork | None = None
    ) -> None:
        self.rng = Random(seed)
        self.sim = sim or SimNetwork(rng=self.rng, latency=FixedLatency(ONE_WAY_S), jitter_s=0.0)
        self.suite = suite or NullSuite()
        self.sent: list[Sent] = []
        self.sim.taps.append(self._tap)
        self._tapped = Tapped(self.sim)

    async def open(
        self,
        *,
        answers: Answers = polite,
        identity: Identity | None = None,
        network: Network = NETWORK,
        settings: Settings = SETTINGS,
        wall: Callable[[], float] | None = None,
        host: str = "",
        port: int = 0,
        server: bool = True,
    ) -> Peer:
        rng = Random(self.rng.getrandbits(64))
        if identity is None:
            identity = Identity.generate(rng, suite=self.suite)
        script = Script(answers)
        exchange = Exchange(
            identity=identity,
            network=network,
            settings=settings,
            rng=rng,
            wall=wall or self.sim.wall,
            listener=script,
        )
        exchange.capabilities = Capabilities(server=server)
        await exchange.open(self._tapped.listen, host, port)
        return Peer(identity, exchange, script, self._tapped.receivers[exchange.address])

    def kinds(self) -> str:
        """The types of all packets so far."""
        return " ".join(sent.kind.name for sent in self.sent)

    def of(self, kind: packet.Type, *, to: Address | None = None) -> list[Sent]:
        return [s for s in self.sent if s.kind is kind and to in {None, s.destination}]

    def refusal_of(self, peer: Peer) -> OnRefused:
        """What tells a peer that nobody listens somewhere."""
        return self._tapped.transports[peer.address].on_refused

    def _tap(self, source: Address, destination: Address, datagram: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self.sent.append(Sent(now, source, destination, datagram))
