"""The words between the exchange and its users: a request under way, who asks, who listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.message import (
    Chunk,
    Chunked,
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
    Refused,
    Request,
    Response,
    Store,
    Stored,
    Values,
    Watch,
    Watched,
)
from kademlia_node.core.session import Session
from kademlia_node.errors import NoAnswer, PeerRefused
from kademlia_node.net.attempts import Attempt

Reply = Callable[[Response], None]
OnDone = Callable[[Response | None], None]
"""Called once: with the answer (possibly `Refused`), or with None when there was none."""
OnSlow = Callable[[], None]

ANSWERS: dict[type[Request], type[Response]] = {
    Ping: Pong,
    Identify: Identified,
    FindNode: Nodes,
    FindValue: Values,
    Store: Stored,
    Probe: Probed,
    Chunk: Chunked,
    Digest: Digests,
    Leaving: Left,
    Watch: Watched,
    Notify: Notified,
}


@dataclass(slots=True, eq=False)
class Ask:
    """One request on its way to an answer, over as many sendings and sessions as it takes.

    `proved`, `forgives` and `sends` are those of `Exchange.send`, for whenever it is called.
    """

    contact: Contact
    request: Request
    rid: int
    on_done: OnDone
    on_slow: OnSlow | None = None
    proved: bool = True
    forgives: float = 0
    sends: int | None = None
    session: Session | None = None
    attempt: Attempt | None = None
    flights: list[tuple[bytes, int]] = field(default_factory=list)  # sid and counter of each DATA
    resets: int = 0

    def tell_slow(self) -> None:
        """Once, however many attempts it takes."""
        told, self.on_slow = self.on_slow, None
        if told is not None:
            told()

    def is_answered_by(self, response: Response) -> bool:
        """Whether this is a response to such a request; peers may send anything."""
        return isinstance(response, (ANSWERS[type(self.request)], Refused))


class Awaited:
    """An answer that somebody waits for; `on_done` is for `Exchange.send`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._answer: asyncio.Future[Response | None] = loop.create_future()

    def on_done(self, response: Response | None) -> None:
        """See `OnDone`; it may be too late."""
        if not self._answer.done():
            self._answer.set_result(response)

    async def response(self, contact: Contact) -> Response:
        """Wait; raises NoAnswer for a silent contact, PeerRefused for an answered error."""
        response = await self._answer
        if response is None:
            raise NoAnswer(f"no answer from {contact}")
        if isinstance(response, Refused):
            raise PeerRefused(response.code, response.detail)
        return response


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks us. `server`: it may be filed in tables. `confirmed`: it receives at its address."""

    contact: Contact
    server: bool
    confirmed: bool


class Listener(Protocol):
    """What the floor above does with what the exchange learns. Nothing here may raise or block."""

    def serve(self, asker: Asker, request: Request, reply: Reply) -> None:
        """Answer a request: call `reply` exactly once, now or later."""
        ...

    def on_alive(self, contact: Contact, *, server: bool) -> None:
        """The holder of that key has just been heard at that address."""
        ...

    def on_silent(self, contact: Contact) -> None:
        """A request to this contact was never answered."""
        ...

    def on_seen_as(self, address: Address, *, by: Contact) -> None:
        """A peer tells from which address our packets come."""
        ...

    def is_pinned(self, node_id: bytes) -> bool:
        """Whether sessions with this node are kept while any other can go."""
        ...
