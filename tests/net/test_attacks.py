"""Attackers that want others to be hit: reflection, false contacts, floods of handshakes.

Whoever attacks here has everything that an attacker can have: valid packets, keys of his own, and
the power to write any source address. `test_hostile` is about garbage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from kademlia_node import Node
from kademlia_node.core import packet
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.handshake import Opening
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.invite import Invite
from kademlia_node.core.key import topic_key
from kademlia_node.core.message import (
    FindNode,
    FindValue,
    Nodes,
    Ping,
    Pong,
    Probe,
    Probed,
    Request,
    Response,
)
from kademlia_node.core.packet import Type
from kademlia_node.core.suite import STANDARD, Suite
from kademlia_node.net.ask import Asker
from kademlia_node.net.transport import Transport
from kademlia_node.settings import AMPLIFICATION_MAX, Settings
from kademlia_node.sim import NullSuite, SimNetwork
from kademlia_node.sim.swarm import Swarm
from tests.net.peers import NETWORK, SETTINGS, Peer, World, polite

TOPIC = topic_key(b"everything").digest
REPEATS = 5
WATCH_S = 60.0


# --- Reflection -----------------------------------------------------------------------------------


class Victim:
    """A host that never spoke; attackers write its address on what they send."""

    def __init__(self, sim: SimNetwork) -> None:
        self._sim = sim
        self.received: list[bytes] = []
        self.spoofed: list[bytes] = []

    async def appear(self) -> None:
        def receive(datagram: bytes, _source: Address) -> None:
            self.received.append(datagram)

        self._socket: Transport = await self._sim.listen("", 0, receive)

    @property
    def address(self) -> Address:
        return self._socket.address

    async def is_blamed_for(self, datagrams: list[bytes], *, sent_to: Address) -> None:
        """Somebody sends these in the victim's name; then everybody has a minute to answer."""
        for datagram in datagrams:
            self.spoofed.append(datagram)
            self._socket.send(datagram, sent_to)
            await asyncio.sleep(0.2)
        await asyncio.sleep(WATCH_S)

    @property
    def bytes_in(self) -> int:
        return sum(map(len, self.received))

    @property
    def bytes_out(self) -> int:
        return sum(map(len, self.spoofed))


class Attacker:
    """Makes valid packets for one target; each INIT from a fresh key of a server."""

    def __init__(self, target: Contact, *, seed: int) -> None:
        self._target = target
        self._rng = Random(seed)
        self._ts_us = 0

    def init(self, request: Request) -> bytes:
        self._ts_us += 1
        return Opening(
            self._target,
            identity=Identity.generate(self._rng, suite=NullSuite()),
            network=NETWORK,
            capabilities=Capabilities(server=True),
            ts_us=self._ts_us,
            rid=1,
            request=request,
            rng=self._rng,
        ).packet

    def attacks(self) -> dict[str, list[bytes]]:
        """A few packets of every type; each list is sent from a victim of its own."""
        random, ping = self._rng.randbytes, self.init(Ping())
        fresh: dict[str, Callable[[], bytes]] = {
            "INIT with PING": lambda: self.init(Ping()),
            "INIT with FIND_NODE": lambda: self.init(FindNode(TOPIC)),
            "INIT with FIND_VALUE": lambda: self.init(FindValue(TOPIC)),
            "INIT with PROBE": lambda: self.init(Probe()),
            "INIT without authentication": lambda: random(1) + random(399),
            "RESP": lambda: packet.pack_resp(random(8), random(100)),
            "RETRY": lambda: packet.pack_retry(random(8), random(16)),
            "DATA": lambda: b"\x04" + random(32),
            "RESET": lambda: packet.pack_reset(random(8), 1),
            "WHO": lambda: packet.pack_who(random(8), who_key=NETWORK.who_key),
            "IAM": lambda: packet.pack_iam(random(8), random(32), who_key=NETWORK.who_key),
            "garbage": lambda: random(400),
        }
        again = self.init(FindValue(TOPIC))
        return {
            "INIT repeated": [again] * REPEATS,
            "INIT under one sid": [ping, *(ping[:9] + random(391) for _ in range(REPEATS))],
        } | {name: [make() for _ in range(REPEATS)] for name, make in fresh.items()}


ANSWERED = {
    "INIT with PING", "INIT with FIND_NODE", "INIT with FIND_VALUE", "INIT with PROBE",
    "INIT repeated", "INIT replayed", "INIT under one sid", "DATA", "WHO",
}  # fmt: skip


async def test_a_spoofed_source_gets_at_most_three_times_the_bytes_it_sent() -> None:
    """For every packet type, in a network whose answers are as large as they can be."""
    async with Swarm(nodes=25, seed=1, network=NETWORK, suite=NullSuite()) as swarm:
        world = World(sim=swarm.network)
        for node in swarm.nodes[:8]:
            await node.announce("everything", b"x" * 640)
        target = swarm.true_closest(TOPIC, 1)[0]
        bystander = await world.open()
        await bystander.exchange.ask(target, FindValue(TOPIC))
        attacks = Attacker(target, seed=2).attacks()
        captured = [s.datagram for s in world.of(Type.INIT) if s.source == bystander.address]
        attacks["INIT replayed"] = captured * REPEATS
        ratios = {}
        for name, datagrams in attacks.items():
            victim = Victim(swarm.network)
            await victim.appear()
            await victim.is_blamed_for(datagrams, sent_to=target.address)
            ratios[name] = victim.bytes_in / victim.bytes_out
    assert {name for name, ratio in ratios.items() if ratio > 0} == ANSWERED
    assert max(ratios.values()) <= AMPLIFICATION_MAX
    assert max(ratios, key=lambda name: ratios[name]) in {"INIT with FIND_VALUE", "INIT repeated"}
    assert ratios["INIT with FIND_VALUE"] > 2  # else the answers were not large


@pytest.mark.parametrize("hosts", [1, 100])
async def test_calls_on_request_are_few_and_no_larger_than_thrice_the_request(hosts: int) -> None:
    """PROBE makes others call an address of the asker's choice: seldom, and for a price."""
    async with Swarm(nodes=10, seed=1, network=NETWORK, suite=NullSuite()) as swarm:
        world = World(sim=swarm.network)
        attacker = await world.open()
        helper = Contact(swarm.nodes[0].public_key, swarm.nodes[0].address)
        started, accepted = asyncio.get_running_loop().time(), 0
        for number in range(600):
            key = Random(number).randbytes(31) + b"\x01"
            false = Contact(key, Address(f"66.66.66.{1 + number % hosts}", 1000 + number))
            probed = await attacker.exchange.ask(helper, Probe(false))
            accepted += probed == Probed(accepted=True)
        duration_s = asyncio.get_running_loop().time() - started
        await asyncio.sleep(WATCH_S)
    calls = [sent for sent in world.sent if sent.destination.host.startswith("66.66.66.")]
    asked = [sent for sent in world.sent if sent.source == attacker.address]
    assert len(calls) <= SETTINGS.sends_few * accepted
    assert 0 < accepted <= min(hosts, 8) * (1 + duration_s / SETTINGS.probe_host_s) + duration_s
    if hosts == 1:
        assert accepted <= 1 + duration_s / SETTINGS.probe_host_s
    per_call = sum(len(sent.datagram) for sent in calls) / accepted
    assert per_call <= AMPLIFICATION_MAX * max(len(sent.datagram) for sent in asked[2:])


# --- False contacts -------------------------------------------------------------------------------


class Liar:
    """Answers every FIND_NODE with 20 contacts that do not exist, never twice the same."""

    def __init__(self, host: Callable[[int], str], *, seed: int) -> None:
        self._host = host
        self._rng = Random(seed)
        self._port = 1000

    def answers(self, asker: Asker, request: Request) -> Response:
        if not isinstance(request, FindNode):
            return polite(asker, request)
        return Nodes(tuple(self._contact(request.target, number) for number in range(20)))

    def _contact(self, target: bytes, number: int) -> Contact:
        """The null suite lets anyone choose a key, but nobody an ID near to the target."""
        self._port += 1
        key = self._rng.randbytes(31) + b"\x01"
        return Contact(key, Address(self._host(number), self._port))


async def lookups_through(
    liars: list[Peer], *, world: World, is_lossy: bool = True
) -> list[list[Address]]:
    """Whom a node called during each of a few lookups, the liars aside."""
    hints = [str(Invite(liar.identity.public_key, *liar.address)) for liar in liars]
    node = Node(
        network=NETWORK,
        bootstrap=hints,
        server=True,
        listen=world.sim.listen,
        rng=Random(1),
        wall=world.sim.wall,
        suite=NullSuite(),
        settings=Settings(lossy_share=0.0 if is_lossy else 1.0),
    )
    called = []
    async with node:
        for number in range(4):
            await asyncio.sleep(4.0)
            world.sent.clear()
            await node.lookup(bytes([number]) * 32)
            inits = (sent.destination for sent in world.of(Type.INIT))
            called.append([a for a in inits if a not in {liar.address for liar in liars}])
    return called


async def test_a_lookup_tries_one_unproved_contact_of_a_host() -> None:
    world = World()
    liar = await world.open(answers=Liar(lambda _: "66.66.66.66", seed=1).answers)
    for called in await lookups_through([liar], world=world):
        assert len(set(called)) == 1
        assert len(called) <= SETTINGS.sends_few


async def test_a_lookup_tries_two_unproved_contacts_of_a_prefix() -> None:
    world = World()
    liar = await world.open(answers=Liar(lambda n: f"66.66.66.{n + 1}", seed=1).answers)
    for called in await lookups_through([liar], world=world):
        assert len(set(called)) == 2
        assert len(called) <= 2 * SETTINGS.sends_few


@pytest.mark.parametrize(("is_lossy", "tries"), [(True, 2), (False, 1)])
async def test_liars_that_agree_gain_one_more_try_and_no_more(is_lossy: bool, tries: int) -> None:
    """Where answers are lost, hearsay that two peers vouch for is worth a second try."""
    world = World()
    false = tuple(
        Contact(Random(n).randbytes(31) + b"\x01", Address("66.66.66.66", 1000 + n))
        for n in range(20)
    )

    def answers(asker: Asker, request: Request) -> Response:
        return Nodes(false) if isinstance(request, FindNode) else polite(asker, request)

    liars = [await world.open(answers=answers) for _ in range(6)]
    lookups = await lookups_through(liars, world=world, is_lossy=is_lossy)
    assert max(map(len, lookups)) == tries * SETTINGS.sends_few
    tried = [len(set(called)) for called in lookups]
    assert tried[0] == max(tried) == 1
    assert min(tried) == 0  # all that were silent twice are left alone


# --- Floods ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefixes", [1, 1000])
@pytest.mark.parametrize(("suite", "count"), [(NullSuite(), 5000), (STANDARD, 1500)])
async def test_a_flood_of_handshakes_keeps_no_honest_peer_out(
    prefixes: int, suite: Suite, count: int
) -> None:
    world = World(suite=suite)
    target, honest = await world.open(), await world.open()
    rng = Random(1)
    crowd = [Identity.generate(rng, suite=suite) for _ in range(20)]
    outcomes, half_open = [], []
    for number in range(count):
        init = Opening(
            target.contact,
            identity=crowd[number % len(crowd)],
            network=NETWORK,
            capabilities=Capabilities(server=True),
            ts_us=number,
            rid=1,
            request=Ping(),
            rng=rng,
        ).packet
        where = number % prefixes
        source = Address(f"66.{where // 250}.{where % 250}.{number % 250 + 1}", 1 + number)
        target.receive(init, source)
        half_open.append(target.exchange.sessions.half_open)
        if number % 500 == 0:
            honest.exchange.sessions.clear()
            outcomes.append(honest.send(target.contact, Ping()))
        if number % 10 == 0:
            await asyncio.sleep(0.01)
    duration_s = asyncio.get_running_loop().time()
    await asyncio.sleep(1.0)
    assert [outcome.answers for outcome in outcomes] == [[Pong()]] * len(outcomes)
    assert 0 < max(half_open) <= SETTINGS.half_open_max
    if prefixes == 1:
        rate = SETTINGS.handshakes_per_prefix_per_s
        assert max(half_open) <= rate * (1 + duration_s) + 1  # and one honest
    await asyncio.sleep(10.0)
    target.exchange.sweep()
    assert target.exchange.sessions.half_open == 0
