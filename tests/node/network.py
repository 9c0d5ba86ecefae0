"""A handful of real nodes on one simulated network, and what a test may know about them.

async with Neighbourhood() as here:
    alice, bob = await here.grow(2)
    receipt = await alice.set("colour", b"blue")
    assert await here.holders(receipt.key) == {alice.id, bob.id}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Self, TypeVar

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.ids import distance, point
from kademlia_node.core.key import Key
from kademlia_node.core.memory import KnownPeer, Memory
from kademlia_node.core.message import Ping, Pong, Refused, Request, Response
from kademlia_node.core.network import Network
from kademlia_node.core.record import Record, make_entry
from kademlia_node.net.ask import Asker, Reply
from kademlia_node.net.exchange import Exchange
from kademlia_node.net.transport import Receive, Transport
from kademlia_node.node.listener import NodeListener
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim import NullSuite, SimNetwork
from kademlia_node.store.memory import MemoryStore

PRIVATE = Network.private(b"a secret that thirty-two bytes hold"[:32], copies=3)
OPEN = Network.open("test", copies=3, puzzle_bits=0)
SUITE = NullSuite()
COMMONS = Identity.commons(PRIVATE, suite=SUITE)
HOUR = 3600.0
DAY = 24 * HOUR
WALKING = Settings(ask_known_first=False)  # of whoever must not think that it knows all near by

AnyNode = TypeVar("AnyNode", bound=Node)


class Neighbourhood:
    """Nodes of one network that are stopped at the end; `sim` may be made worse at any time."""

    def __init__(
        self, network: Network = PRIVATE, *, seed: int = 1, settings: Settings | None = None
    ) -> None:
        self.network = network
        self.sim = SimNetwork(rng=Random(seed))
        self.nodes: list[Node] = []
        self._settings = settings or Settings()
        self._rng = Random(seed)
        self._stores: dict[bytes, MemoryStore] = {}
        self._strangers: list[Stranger] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.stop()
        for stranger in self._strangers:
            await stranger.exchange.close()

    def make(self, kind: type[AnyNode], **options: Any) -> AnyNode:
        """A node that is not started yet; it knows the first one, unless `bootstrap` is given."""
        settings = options.get("settings", self._settings)
        identity = options.get("identity") or self.new_identity()
        store = options.get("store") or MemoryStore(identity.id, settings=settings)
        self._stores[identity.id] = store
        known = self.nodes[:1] if "bootstrap" not in options else []
        defaults: dict[str, Any] = {
            "network": self.network,
            "bootstrap": [node.invite for node in known],
            "server": True,
            "settings": settings,
            "listen": self.sim.listen,
            "rng": Random(self._rng.getrandbits(64)),
            "wall": self.sim.wall,
            "suite": SUITE,
        }
        return kind(**defaults | options | {"identity": identity, "store": store})

    async def start(self, **options: Any) -> Node:
        return await self.start_as(Node, **options)

    async def start_as(self, kind: type[AnyNode], **options: Any) -> AnyNode:
        node = self.make(kind, **options)
        self.nodes.append(node)
        await node.start()
        return node

    async def start_everywhere(self, host: str, **options: Any) -> Node:
        """A node that is bound to all interfaces, and does not know that it is at `host`."""

        async def listen(_host: str, _port: int, receive: Receive) -> Transport:
            transport = await self.sim.listen(host, 4000, receive)
            return _Unspecific(transport)

        return await self.start(server=None, listen=listen, **options)

    async def grow(self, count: int, **options: Any) -> list[Node]:
        return [await self.start(**options) for _ in range(count)]

    async def grow_puppets(self, count: int, **options: Any) -> list[Puppet]:
        return [await self.start_as(Puppet, **options) for _ in range(count)]

    async def stranger(self, *, server: bool = False, host: str = "") -> Stranger:
        """Somebody who speaks the protocol and does as a test says."""
        stranger = Stranger(self)
        stranger.exchange.capabilities = Capabilities(server=server)
        await stranger.exchange.open(self.sim.listen, host, 0)
        self._strangers.append(stranger)
        return stranger

    def new_identity(self) -> Identity:
        return Identity.generate(self._rng, suite=SUITE)

    def identity_with(self, first_bits: str) -> Identity:
        """A new one whose ID begins so."""
        while True:
            identity = self.new_identity()
            if f"{point(identity.id):0256b}".startswith(first_bits):
                return identity

    def store_of(self, node: Node) -> MemoryStore:
        return self._stores[node.id]

    async def held(self, node: Node, key: Key) -> list[Record]:
        """What a node's store has under a key, by the wall clock of the network."""
        return await self._stores[node.id].get(key.digest, wall=self.sim.wall())

    async def holders(self, key: Key) -> set[bytes]:
        """The IDs of those who hold a record under this key."""
        return {node.id for node in self.nodes if await self.held(node, key)}


def commons_entry(name: str, value: bytes, *, seq: int, expires: float) -> Record:
    """A true version of a name in the commons of PRIVATE, as any member may sign one."""
    return make_entry(
        COMMONS.signing,
        name.encode(),
        value=value,
        seq=seq,
        expires=int(expires),
        network_tag=PRIVATE.tag,
    )


def hints(*contacts: Contact) -> Memory:
    """Where to knock, and no more than that."""
    return Memory(tuple(map(KnownPeer, contacts)))


def contact_of(node: Node) -> Contact:
    return Contact(node.public_key, node.address)


def nearest(key: Key, nodes: Sequence[AnyNode]) -> list[AnyNode]:
    """The same nodes, those truly nearest to the key first."""
    return sorted(nodes, key=lambda node: distance(node.id, key.digest))


SILENCE = Refused(0, "not even this is said")


class Puppet(Node):
    """A member of good standing that answers as a test says, where it says something."""

    answer: Callable[[Request], Response | None] = staticmethod(lambda _: None)

    def _make_listener(self) -> NodeListener:
        return _ScriptedListener(self)


class _ScriptedListener(NodeListener):
    """Lets a puppet speak first."""

    def __init__(self, puppet: Puppet) -> None:
        self._puppet = puppet

    def serve(self, asker: Asker, request: Request, reply: Reply) -> None:
        scripted = self._puppet.answer(request)
        if scripted is None:
            super().serve(asker, request, reply)
        elif scripted is not SILENCE:
            reply(scripted)


class _Unspecific:
    """A socket that knows only that it is bound to all interfaces."""

    address = Address("0.0.0.0", 4000)

    def __init__(self, transport: Transport) -> None:
        self.send = transport.send
        self.close = transport.close
        self.on_refused = transport.on_refused


class Stranger:
    """An exchange with nobody behind it: it asks what it likes, and answers as `answer` says."""

    def __init__(self, here: Neighbourhood) -> None:
        self.identity = here.new_identity()
        self.answer: Callable[[Request], Response | None] = lambda request: (
            Pong() if isinstance(request, Ping) else None
        )
        self.exchange = Exchange(
            identity=self.identity,
            network=here.network,
            settings=Settings(),
            rng=Random(self.identity.id),
            wall=here.sim.wall,
            listener=self,
        )

    @property
    def contact(self) -> Contact:
        return Contact(self.identity.public_key, self.exchange.address)

    async def ask(self, node: Node, request: Request) -> Response:
        return await self.exchange.ask(contact_of(node), request)

    def serve(self, asker: Asker, request: Request, reply: Reply) -> None:
        reply(self.answer(request) or Refused(0, "no"))

    def on_alive(self, contact: Contact, *, server: bool) -> None: ...

    def on_silent(self, contact: Contact) -> None: ...

    def on_seen_as(self, address: Address, *, by: Contact) -> None: ...

    def is_pinned(self, node_id: bytes) -> bool:
        return False


async def collect(entries: Any) -> list[Any]:
    """All that an asynchronous iterator yields."""
    return [entry async for entry in entries]
