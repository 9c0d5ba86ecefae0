"""Whatever arrives, a node neither fails, nor forgets, nor grows: garbage through the whole house.

The packets are genuine ones of a small running network, altered in every way that costs nothing to
an attacker, and, from an insider who owns a key and a session, sealed nonsense.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node import Node
from kademlia_node.core import codec, noise, packet
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Capabilities
from kademlia_node.core.message import (
    FindNode,
    FindValue,
    Identify,
    Nodes,
    Ping,
    Pong,
    Probe,
    Request,
    Response,
)
from kademlia_node.core.packet import Type
from kademlia_node.core.suite import STANDARD, Suite
from kademlia_node.net.transport import Receive
from kademlia_node.sim import NullSuite, SimNetwork, run
from tests.net.peers import NETWORK, SETTINGS, Peer, Tapped, World
from tests.net.test_exchange import STORE

SOURCES = 500  # spoofed addresses: few enough that a warm-up has filled every cache of addresses
BATCH = 200  # packets between two looks at the event loop
GROWTH_BYTES_MAX = 1_000_000


# --- Making garbage -------------------------------------------------------------------------------


def payloads(contact: Contact) -> list[bytes]:
    """Genuine ones of each kind."""
    requests: list[Request] = [Ping(), Identify(), FindNode(bytes(32)), FindValue(bytes(32))]
    responses: list[Response] = [Pong(), Nodes((contact,) * 3)]
    return [
        *(codec.encode_request(1, request) for request in (*requests, STORE, Probe())),
        *(codec.encode_response(1, response) for response in responses),
    ]


class Garbage:
    """Alters genuine packets. `target` is who gets them, `insider` has a session with it."""

    def __init__(self, seed: int, genuine: list[bytes], *, target: Contact, insider: Peer) -> None:
        self._rng = Random(seed)
        self._genuine = genuine
        self._target = target
        self._insider = insider
        self._mac1_key = NETWORK.mac1_key(target.public_key)
        self._payloads = payloads(target)
        outside: list[Callable[[], bytes]] = [
            self._replay,
            self._flip,
            self._flip,
            self._truncate,
            self._extend,
            self._splice,
            self._noise,
            self._with_mac,
        ]
        self._ways = outside * 4 + [self._sealed, self._sealed, self._sealed, self._opening]

    def next(self) -> bytes:
        return self._rng.choice(self._ways)()

    def _replay(self) -> bytes:
        return self._rng.choice(self._genuine)

    def _flip(self) -> bytes:
        return self._flipped(self._replay())

    def _truncate(self) -> bytes:
        whole = self._replay()
        return whole[: self._rng.randrange(len(whole))]

    def _extend(self) -> bytes:
        return self._replay() + self._rng.randbytes(self._rng.randrange(1, 900))

    def _splice(self) -> bytes:
        cut = self._rng.randrange(1, 120)
        return self._replay()[:cut] + self._replay()[cut:]

    def _noise(self) -> bytes:
        return bytes([self._rng.randrange(9)]) + self._rng.randbytes(self._rng.randrange(1300))

    def _with_mac(self) -> bytes:
        """An INIT that passes the first check, and no other."""
        init = self._rng.choice([one for one in self._genuine if one[0] == Type.INIT])
        altered = self._flipped(init[9:-32])
        return packet.pack_init(self._rng.randbytes(8), altered, mac1_key=self._mac1_key)

    def _sealed(self) -> bytes:
        session = self._insider.exchange.sessions.sending(self._target)
        assert session is not None
        return session.seal(self._payload())[1]

    def _opening(self) -> bytes:
        suite, identity = self._insider.identity.suite, self._insider.identity
        sid = self._rng.randbytes(8)
        handshake = noise.Initiation(
            suite,
            static=identity.agreement,
            ephemeral=suite.agreement_key(self._rng.randbytes(32)),
            remote_static=suite.to_agreement(self._target.public_key),
            prologue=NETWORK.prologue + sid,
        )
        whole = codec.encode_opening(1, Capabilities(server=False), rid=1, request=Ping())
        payload = self._rng.choice([self._flipped(whole), self._payload(), whole])
        message = handshake.write(payload[:900].ljust(packet.OPENING_BYTES_MIN, b"\0"))
        return packet.pack_init(sid, message, mac1_key=self._mac1_key)

    def _payload(self) -> bytes:
        whole = self._rng.choice(self._payloads)
        way = self._rng.randrange(4)
        if way == 0:
            return self._rng.randbytes(self._rng.randrange(1, 200))
        if way == 1:
            return whole[: self._rng.randrange(1, len(whole))]
        return self._flipped(whole) if way == 2 else whole

    def _flipped(self, whole: bytes) -> bytes:
        altered = bytearray(whole)
        for _ in range(self._rng.randrange(1, 9)):
            altered[self._rng.randrange(len(altered))] ^= 1 << self._rng.randrange(8)
        return bytes(altered)


# --- A network under fire -------------------------------------------------------------------------


@dataclass
class Scene:
    """Some nodes that know each other and hold records; the first one is the target."""

    nodes: list[Node]
    insider: Peer
    genuine: list[bytes]
    sources: list[Address]
    receive: Receive

    @property
    def target(self) -> Contact:
        return Contact(self.nodes[0].public_key, self.nodes[0].address)


@asynccontextmanager
async def scene(suite: Suite) -> AsyncIterator[Scene]:
    world = World(suite=suite)
    tapped = Tapped(world.sim)
    nodes: list[Node] = []
    for number in range(6):
        hints = [str(nodes[0].invite)] if nodes else []
        nodes.append(make_node(world.sim, tapped, suite=suite, seed=number, bootstrap=hints))
        await nodes[-1].start()
    for number, node in enumerate(nodes):
        await node.put(b"blob %d" % number)
        await node.set("colour", b"blue")
        await node.announce("topic", b"x" * 640)
        assert await node.get("colour") == b"blue"
    insider = await world.open(server=False)
    target = Contact(nodes[0].public_key, nodes[0].address)
    await insider.exchange.ask(target, STORE)
    await insider.exchange.who(target.address)
    await asyncio.sleep(1.0)
    genuine = list({sent.datagram: None for sent in world.sent})
    genuine += [packet.pack_reset(bytes(8), n) for n in range(9)]
    genuine += [packet.pack_retry(bytes(8), bytes([n]) * 16) for n in range(9)]
    world.sim.taps.clear()
    world.sent.clear()
    peers = [node.address for node in nodes[1:]] + [insider.address] * 3
    spoofed = [
        Address(f"{world.rng.randrange(20, 99)}.{n % 7}.{n % 250}.1", 1 + n) for n in range(SOURCES)
    ]
    try:
        yield Scene(nodes, insider, genuine, peers * 50 + spoofed, tapped.receivers[target.address])
    finally:
        for node in nodes:
            await node.stop()


def make_node(
    sim: SimNetwork, tapped: Tapped, *, suite: Suite, seed: int, bootstrap: list[str]
) -> Node:
    return Node(
        network=NETWORK,
        bootstrap=bootstrap,
        server=True,
        listen=tapped.listen,
        rng=Random(seed),
        wall=sim.wall,
        suite=suite,
    )


async def bombard(scene: Scene, garbage: Garbage, *, count: int, seed: int) -> None:
    rng = Random(seed)
    for number in range(count):
        scene.receive(garbage.next(), rng.choice(scene.sources))
        if number % BATCH == 0:
            await asyncio.sleep(0.05)


DEPTHS = {  # how far the garbage came before it was noticed: all of these must have been reached
    "malformed_packet", "init_stranger", "init_forged", "init_malformed", "unknown_session",
    "forged_packet", "malformed_message", "unasked_resp", "unasked_reset", "unasked_response",
}  # fmt: skip


@pytest.mark.parametrize(
    ("suite", "count"),
    [
        pytest.param(NullSuite(), 20_000, id="null"),
        pytest.param(STANDARD, 5_000, id="standard"),
        pytest.param(NullSuite(), 100_000, id="null-100000", marks=pytest.mark.slow),
        pytest.param(STANDARD, 100_000, id="standard-100000", marks=pytest.mark.slow),
    ],
)
async def test_a_node_stands_any_amount_of_garbage(suite: Suite, count: int) -> None:
    async with scene(suite) as town:
        node = town.nodes[0]
        garbage = Garbage(1, town.genuine, target=town.target, insider=town.insider)
        await bombard(town, garbage, count=4_000, seed=1)
        before, known = await node.status(), set(node.contacts())
        tracemalloc.start()
        try:
            await bombard(town, garbage, count=count, seed=2)
            growth, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        after = await node.status()
        assert after.counters.keys() >= DEPTHS
        assert set(node.contacts()) == known
        assert after.records == before.records
        assert after.stored_bytes == before.stored_bytes
        assert after.sessions <= before.sessions + SETTINGS.half_open_max
        assert growth < GROWTH_BYTES_MAX
        assert peak < 2 * GROWTH_BYTES_MAX
        await asyncio.sleep(120.0)
        assert (await node.status()).sessions <= before.sessions
        assert await town.nodes[1].ping(town.target) < 1.0
        assert await town.insider.exchange.ask(town.target, Ping()) == Pong()
        assert await node.get("colour") == b"blue"


# --- Garbage that somebody thought about ----------------------------------------------------------

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.binary(max_size=64),
    st.text(max_size=16), st.sampled_from([bytes(32), bytes(38), bytes(6)]),
)  # fmt: skip
STRUCTURES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=12,
)
OPS = st.integers(0, 12) | st.integers(0x80, 0x8C) | st.just(0xFF)
MESSAGES = st.tuples(OPS, st.integers(0, 3), STRUCTURES, STRUCTURES, STRUCTURES).map(list)
PAYLOADS = (STRUCTURES | MESSAGES).map(msgpack.packb) | st.binary(max_size=300)
PACKETS = st.binary(max_size=1300) | st.builds(
    lambda kind, rest: bytes([kind]) + rest,
    st.sampled_from(list(Type)),
    st.binary(min_size=16, max_size=500),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["raw", "sealed"]), PACKETS, PAYLOADS, st.booleans()), max_size=20
)


@given(steps=STEPS)
def test_no_sequence_of_packets_and_payloads_upsets_an_exchange(
    steps: list[tuple[str, bytes, bytes, bool]],
) -> None:
    async def main() -> None:
        world = World()
        alice, bob = await world.open(), await world.open()
        await bob.exchange.ask(alice.contact, Ping())
        await asyncio.sleep(1.0)
        outcome = alice.send(bob.contact, Ping())
        session = bob.exchange.sessions.sending(alice.contact)
        assert session is not None
        for how, raw, payload, from_bob in steps:
            datagram = raw if how == "raw" else session.seal(payload)[1]
            alice.receive(datagram, bob.address if from_bob else Address("9.9.9.9", 9))
        await asyncio.sleep(10.0)
        assert len(outcome.answers) == 1
        assert await bob.exchange.ask(alice.contact, Ping()) == Pong()
        assert len(alice.exchange.sessions) <= 2

    run(main())
