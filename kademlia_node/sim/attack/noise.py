"""Attackers that send what nobody asked for: floods of handshakes, and what others once sent."""

from __future__ import annotations

from functools import partial
from typing import Any

from kademlia_node.core import packet
from kademlia_node.core.contact import Address
from kademlia_node.core.handshake import Opening
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.message import FindNode
from kademlia_node.errors import MalformedMessage
from kademlia_node.net.transport import Transport
from kademlia_node.sim.attack.attacker import Striker, send_as

CROWD = 64  # identities in whose name one flooder calls; clients solve no puzzle
SOCKETS = 4  # at which one flooder receives, each in a prefix of its own
OPENINGS_MAX = 256  # INITs of one flooder whose RETRY it still answers
RECORDED_MAX = 1024  # datagrams that one replayer keeps
SPOOFED_SHARE = 0.5  # of a flood: the rest comes from where the flooder receives


class Flooder(Striker):
    """Sends INITs that ask for as much as possible, and never confirms a session.

    Each is from a client's key. Half of them come from spoofed addresses; half from addresses of
    its own, where it reads the RETRY and calls again with the cookie.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._crowd: list[Identity] = []
        self._sockets: list[Transport] = []
        self._openings: dict[bytes, Opening] = {}  # by sid
        self._last_ts_us = 0

    async def rage(self) -> None:
        """Open the sockets, and strike."""
        gang, listen = self.gang, self.gang.swarm.network.listen
        self._crowd = [Identity.generate(gang.rng, suite=self._suite) for _ in range(CROWD)]
        try:
            for number in range(SOCKETS):
                receive = partial(self._on_answer, number)
                self._sockets.append(await listen("", 0, receive))
            await super().rage()
        finally:
            for socket in self._sockets:
                await socket.close()

    async def strike(self) -> None:
        """One INIT."""
        rng, victim = self.gang.rng, self.a_victim()
        if victim is None:
            return
        self._last_ts_us = max(int(self._wall() * 1e6), self._last_ts_us + 1)
        opening = Opening(
            victim,
            identity=rng.choice(self._crowd),
            network=self.network,
            capabilities=Capabilities(server=False),
            ts_us=self._last_ts_us,
            rid=1,
            request=FindNode(rng.randbytes(32)),
            rng=rng,
        )
        if rng.random() < SPOOFED_SHARE:
            source = self.gang.dead_address()
            await send_as(self.gang.swarm, source, victim.address, opening.packet)
            return
        self._openings[opening.sid] = opening
        if len(self._openings) > OPENINGS_MAX:
            del self._openings[next(iter(self._openings))]
        rng.choice(self._sockets).send(opening.packet, victim.address)

    def _on_answer(self, number: int, datagram: bytes, source: Address) -> None:
        """Call again with the cookie, if that is what they want."""
        try:
            answer = packet.parse(datagram)
        except MalformedMessage:
            return
        if isinstance(answer, packet.Retry) and answer.sid in self._openings:
            opening = self._openings.pop(answer.sid)
            opening.take_cookie(answer.cookie)
            self._sockets[number].send(opening.packet, source)


class Replayer(Striker):
    """Sends again what anybody sent before, in the name of its sender or in its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._recorded: list[tuple[Address, Address, bytes]] = []

    async def rage(self) -> None:
        """Listen to everything, and strike."""
        taps, record = self.gang.swarm.network.taps, self._record
        taps.append(record)
        try:
            await super().rage()
        finally:
            taps.remove(record)

    def _record(self, source: Address, destination: Address, datagram: bytes) -> None:
        """Keep it, in place of a random one if there are enough: some become very old."""
        flight = (source, destination, datagram)
        if len(self._recorded) < RECORDED_MAX:
            self._recorded.append(flight)
        else:
            self._recorded[self.gang.rng.randrange(RECORDED_MAX)] = flight

    async def strike(self) -> None:
        """Send one of them again."""
        rng, swarm = self.gang.rng, self.gang.swarm
        if not self._recorded:
            return
        source, destination, datagram = rng.choice(self._recorded)
        if rng.random() < 0.5:
            await send_as(swarm, source, destination, datagram)
            return
        own = swarm.machine(self).transport
        assert own is not None, "it runs"
        own.send(datagram, destination)
