"""Handshakes that others begin: one answer per INIT, kept for its repeats.

What to do with an INIT is `core.handshake.Doorkeeper`'s decision. Here it is carried out: the
request inside is served, its answer rides in the RESP, and a repeated INIT gets that RESP again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kademlia_node.core import packet
from kademlia_node.core.contact import Address
from kademlia_node.core.handshake import Admitted, Doorkeeper, Drop
from kademlia_node.core.identity import Capabilities
from kademlia_node.core.message import HARMLESS, ErrorCode, Refused, Response
from kademlia_node.core.session import Session, SessionTable
from kademlia_node.net.ask import Asker, Listener
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import Settings

Call = tuple[Address, bytes]  # who calls, and its name for the session


@dataclass(slots=True)
class _Given:
    """The answer to one INIT: when it came, its mac1, and the RESP once there is one."""

    begun: float
    mac1: bytes
    resp: bytes = b""


class Callers:
    """Everyone who is calling us."""

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        *,
        sessions: SessionTable,
        settings: Settings,
        listener: Listener,
        capabilities: Callable[[], Capabilities],
        transmit: Callable[[bytes, Address], None],
    ) -> None:
        self._doorkeeper = doorkeeper
        self._sessions = sessions
        self._settings = settings
        self._listener = listener
        self._capabilities = capabilities
        self._transmit = transmit
        self._loop = asyncio.get_running_loop()
        self._given: OrderedDict[Call, _Given] = OrderedDict()  # the oldest first

    def on_init(self, init: packet.Init, source: Address, *, now: float) -> Drop | None:
        """Answer an INIT, or say why it gets none (a RETRY is an answer)."""
        given = self._given.get((source, init.sid))
        if given is not None:
            if given.resp and given.mac1 == init.mac1:
                sometimes(Rare.INIT_REPEATED)
                self._transmit(given.resp, source)
            return None
        verdict = self._doorkeeper.consider(init, source, now=now)
        if isinstance(verdict, packet.Retry):
            self._transmit(packet.pack_retry(verdict.sid, verdict.cookie), source)
        elif isinstance(verdict, Drop):
            return verdict
        else:
            self._given[source, init.sid] = _Given(now, init.mac1)
            self._admit(verdict)
        return None

    def on_confirmed(self, session: Session) -> None:
        """The caller has our RESP: there will be no repeats."""
        self._given.pop((session.peer.address, session.remote_sid), None)

    def sweep(self, *, now: float) -> None:
        """Forget the answers that no repeat will ask for any more."""
        begun_since = now - 2 * self._settings.timeout_s
        while self._given and next(iter(self._given.values())).begun < begun_since:
            self._given.popitem(last=False)

    def _admit(self, admitted: Admitted) -> None:
        if len(self._given) > self._settings.half_open_max:
            self._given.popitem(last=False)
        if isinstance(admitted.request, Refused):
            self._answer(admitted, admitted.request)
        elif isinstance(admitted.request, HARMLESS):
            asker = Asker(admitted.contact, admitted.capabilities.server, confirmed=False)
            self._listener.serve(asker, admitted.request, partial(self._answer, admitted))
        else:
            self._answer(admitted, Refused(ErrorCode.NOT_CONFIRMED, "this needs a session"))

    def _answer(self, admitted: Admitted, response: Response) -> None:
        now = self._loop.time()
        resp, session = self._doorkeeper.answer(
            admitted, response, capabilities=self._capabilities(), now=now
        )
        given = self._given.get((admitted.contact.address, admitted.sid))
        if given is not None:
            given.resp = resp
        self._sessions.add(session)
        self._transmit(resp, admitted.contact.address)
