"""The requests under way: found by their rid, and by the DATA packets that carry them.

Knows no clock and sends nothing. An ask is added once and finished once, whatever comes of it.
"""

from __future__ import annotations

from collections.abc import Callable

from kademlia_node.core import codec
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.message import Request, Response
from kademlia_node.core.session import Session
from kademlia_node.net.ask import Ask, OnDone, OnSlow
from kademlia_node.net.attempts import Attempt


class Pending:
    """All asks that wait for an answer; `stop` ends the attempt of one that no longer does."""

    def __init__(self, *, last_rid: int, stop: Callable[[Attempt], None]) -> None:
        self._rid = last_rid
        self._stop = stop
        self._by_rid: dict[int, Ask] = {}
        self._in_flight: dict[tuple[bytes, int], Ask] = {}

    def add(
        self, contact: Contact, request: Request, *, on_done: OnDone, on_slow: OnSlow | None = None
    ) -> Ask:
        """A new ask under a rid of its own."""
        self._rid = self._rid % codec.RID_MAX + 1
        ask = self._by_rid[self._rid] = Ask(contact, request, self._rid, on_done, on_slow)
        return ask

    def by_rid(self, rid: int) -> Ask | None:
        """The ask that an answer names."""
        return self._by_rid.get(rid)

    def in_flight(self, sid: bytes, counter: int, address: Address) -> Ask | None:
        """The ask that this DATA packet of ours carried to this address."""
        ask = self._in_flight.get((sid, counter))
        return ask if ask is not None and ask.contact.address == address else None

    def over(self, session: Session) -> list[Ask]:
        """The asks that were sent over this session."""
        return [ask for ask in self._by_rid.values() if ask.session is session]

    def on_sent(self, ask: Ask, counter: int) -> None:
        """One more DATA packet of its session carries the ask."""
        assert ask.session is not None
        flight = (ask.session.remote_sid, counter)
        ask.flights.append(flight)
        self._in_flight[flight] = ask

    def ground(self, ask: Ask) -> None:
        """Stop sending it; it may be sent anew over another session."""
        if ask.attempt is not None:
            self._stop(ask.attempt)
            ask.attempt = None  # which holds the ask: without the cycle both are gone at once
        for flight in ask.flights:
            self._in_flight.pop(flight, None)
        ask.flights.clear()
        ask.session = None

    def finish(self, ask: Ask, response: Response | None) -> None:
        """The one way an ask ends, and only once. What answers another question is no answer."""
        if self._by_rid.pop(ask.rid, None) is None:
            return
        self.ground(ask)
        fits = response is not None and ask.is_answered_by(response)
        ask.on_done(response if fits else None)

    def finish_all(self) -> None:
        """Tell everyone who waits now that there is no answer."""
        for ask in list(self._by_rid.values()):
            self.finish(ask, None)
