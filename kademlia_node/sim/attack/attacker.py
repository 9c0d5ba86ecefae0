"""What all attackers have in common: a node that, once it has joined, may speak before it answers.

A kind says by `instead` what it answers in place of the truth, by `altered` what it makes of a true
answer, and, if it is a `Striker`, by `strike` what it does unasked. For the rest it is the node
that all others run. Also how to send under a false address.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.message import Refused, Request, Response
from kademlia_node.errors import NotRunning, SetupError
from kademlia_node.net.ask import Asker, Reply
from kademlia_node.node.listener import NodeListener
from kademlia_node.node.node import Node
from kademlia_node.sim.attack.gang import Gang
from kademlia_node.sim.swarm import Swarm

SILENCE = Refused(0, "not even this is said")


class Attacker(Node):
    """A member of good standing, but where `instead` and `altered` say otherwise.

    Args:
        gang: What it knows together with others.
        options: Those of `Node`.
    """

    def __init__(self, *, gang: Gang, **options: Any) -> None:
        super().__init__(**options)
        self.gang = gang
        self.has_joined = False

    async def start(self) -> None:
        """Join as all do, and only then begin."""
        await super().start()
        self.gang.enlist(Contact(self.public_key, self.address))
        self.has_joined = True

    def instead(self, request: Request) -> Response | None:  # noqa: ARG002 - for those who lie
        """What is answered in place of the truth; SILENCE for nothing, None for the truth."""
        return None

    def altered(self, request: Request, honest: Response) -> Response:  # noqa: ARG002 - as above
        """What is made of a true answer."""
        return honest

    def _make_listener(self) -> NodeListener:
        return _FalseTongue(self)


class _FalseTongue(NodeListener):
    """Lets an attacker speak first, and last."""

    def __init__(self, attacker: Attacker) -> None:
        self._attacker = attacker

    def serve(self, asker: Asker, request: Request, reply: Reply) -> None:
        attacker = self._attacker
        if not attacker.has_joined:
            super().serve(asker, request, reply)
            return
        said = attacker.instead(request)
        if said is None:
            super().serve(asker, request, lambda honest: reply(attacker.altered(request, honest)))
        elif said is not SILENCE:
            reply(said)


class Striker(Attacker):
    """An attacker that does something unasked, at the rate of its gang, until it stops."""

    async def start(self) -> None:
        """Join, then strike for as long as the node runs."""
        await super().start()
        self._active.state.background.start(self.rage())

    async def rage(self) -> None:
        """Strike at even intervals; cancelled when the node stops."""
        while True:
            await asyncio.sleep(1.0 / self.gang.rate_per_s)
            with suppress(NotRunning):  # it is being stopped
                await self.strike()
                self.gang.strikes += 1

    async def strike(self) -> None:
        """Do it once."""
        raise NotImplementedError

    def a_victim(self) -> Contact | None:
        """One of the honest nodes that run, drawn by chance; None while there is none."""
        alive = self.gang.swarm.alive
        return self.gang.swarm.machine(self.gang.rng.choice(alive)).contact if alive else None


async def send_as(swarm: Swarm, source: Address, destination: Address, datagram: bytes) -> None:
    """Send one datagram in the name of any address; answers go to whoever is bound there.

    Nothing is sent in the name of a bound address that no honest node has.
    """
    try:
        transport = await swarm.network.listen(source.host, source.port, lambda *_: None)
    except SetupError:
        machines = (swarm.machine(node) for node in swarm.alive)
        bound = next((one.transport for one in machines if one.contact.address == source), None)
        if bound is not None:
            bound.send(datagram, destination)
        return
    transport.send(datagram, destination)
    await transport.close()
