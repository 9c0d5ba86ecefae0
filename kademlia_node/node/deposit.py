"""One record on its way to several nodes at once, with replacements for those who do not take it.

Who they are was decided before (`handout`); here they are asked, and it is noted what each said.
Whoever needs a long value fetches it from us, and is asked again when it has (`offer`). A version
that somebody proves by a signed header counts, a mere refusal proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.message import Refused, Response, Store, Stored, StoreStatus
from kademlia_node.core.record import Header, Reason, Record
from kademlia_node.core.rtt import soft_timeout
from kademlia_node.errors import BadRecord
from kademlia_node.node.offer import Offer
from kademlia_node.node.receipt import StepOutcome, Trace
from kademlia_node.node.serve import fits_inline
from kademlia_node.node.state import NodeState
from kademlia_node.rare import Rare, sometimes

TAKEN: Final = frozenset({StoreStatus.OK, StoreStatus.HAVE})
TOO_FAR_MAX: Final = 3  # spares that say so: those behind them are farther still
NEEDS_MAX: Final = 16  # times that one storer may say it still needs the value
SLOW_SILENCES: Final = 3  # so many times offer_silence_s, and another one is asked as well
IDLE_MAX: Final = 2  # of those, times that it has fetched nothing since the time before


class Deposit:
    """Asks nodes to keep a record. `to` may be called again, for others.

    Attributes:
        replicas: who holds the record.
        refused: why others do not.
        newest: the highest version that a refusal proved to exist.
        named: nodes near the key that those who were asked know.
    """

    def __init__(
        self, state: NodeState, record: Record, *, expect_seq: int | None, trace: Trace
    ) -> None:
        self._state = state
        self._record = record
        value = record.value if fits_inline(record.value) else None
        self._request = Store(record.key, record.header, value, expect_seq)
        self._trace = trace
        self._offer = self._make_offer() if value is None else None
        self._asked: set[Contact] = set()
        self._substituted: set[Contact] = set()
        self._stand_ins: set[Contact] = set()
        self._needs: dict[Contact, int] = {}
        self._idle: dict[Contact, int] = {}
        self._spares: list[Contact] = []
        self._open = 0
        self._acks = 0
        self._settled: asyncio.Future[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._on_end: Callable[[], None] = lambda: None
        self._mismatches = 0
        self._too_far = 0
        self.replicas: list[Contact] = []
        self.refused: dict[Contact, str] = {}
        self.newest: Header | None = None
        self.named: dict[Contact, None] = {}

    async def to(self, chosen: Sequence[Contact], *, spares: Sequence[Contact], acks: int) -> None:
        """Ask the chosen, and a spare for each who fails; wait for `acks` more, or the last answer.

        Those who have not answered then are noted behind our back when they do.
        """
        self._acks = len(self.replicas) + acks
        self._spares = [spare for spare in spares if spare not in self._asked]
        self._settled = self._state.loop.create_future()
        self.give(chosen)
        self._look()
        await self._settled

    def give(self, chosen: Sequence[Contact]) -> None:
        """Ask the chosen, and do not wait."""
        self._trace.round_trips += len(chosen) > 0
        for contact in chosen:
            self._ask(contact)

    @property
    def is_over(self) -> bool:
        """Whether everybody who was asked has answered, or was given up."""
        return not self._open

    async def over(self) -> None:
        """Wait until that is so."""
        over: asyncio.Future[None] = self._state.loop.create_future()
        self._waiting.append(over)
        self._look()
        await over

    def when_over(self, told: Callable[[], None]) -> None:
        """Call `told` when the last answer is there, perhaps at once."""

        def end() -> None:
            self._on_end = lambda: None
            if self._offer is not None:
                self._offer.close()
            told()

        self._on_end = end
        if not self._open:
            end()

    async def keep_here(self) -> None:
        """We are one of the replicas ourselves."""
        state, expect_seq = self._state, self._request.expect_seq
        stored = await state.keep(self._record, charged_to=b"", expect_seq=expect_seq)
        self._note(state.contact, stored)

    @property
    def conflict(self) -> bool:
        """Whether the expected seq is not the current one: a later one exists, or nobody had it.

        One node that holds something older, or nothing, may be new here, or lie.
        """
        expected = self._request.expect_seq
        if expected is None:
            return False
        if self.newest is not None and self.newest.seq >= expected:
            return self.newest.seq > expected
        return self._mismatches > 0 and not self.replicas

    # --- Asking -----------------------------------------------------------------------------------

    def _make_offer(self) -> Offer:
        return Offer(
            self._state.contents,
            self._record.header.value_hash,
            self._record.value,
            silence_s=self._state.settings.offer_silence_s,
            loop=self._state.loop,
        )

    def _ask(self, contact: Contact) -> None:
        self._asked.add(contact)
        self._open += 1
        if contact != self._state.contact:
            self._send(contact)
        elif (keeping := self._state.background.start(self.keep_here())) is not None:
            keeping.add_done_callback(self._on_kept)
        else:
            self._open -= 1  # we are about to stop

    def _on_kept(self, _: asyncio.Task[None]) -> None:
        """We were a spare, and hold it now; or failed, or are about to stop."""
        self._open -= 1
        if self._state.contact not in self.replicas:
            self._substitute(self._state.contact)
        self._look()

    def _send(self, contact: Contact) -> None:
        self._trace.requests += 1
        is_known = self._state.exchange.sessions.sending(contact) is not None
        self._state.exchange.send(
            contact,
            self._request,
            on_done=partial(self._on_done, contact),
            on_slow=partial(self._on_slow, contact, trips=1 if is_known else 2),
        )

    def _on_slow(self, contact: Contact, *, trips: int) -> None:
        """A copy too many costs more than a moment: a lost packet may be repeated first.

        Before a STORE there may have to be a handshake, which takes a round trip of its own.
        """
        exchange, settings = self._state.exchange, self._state.settings
        grace_s = 2 * trips * soft_timeout(exchange.rtts, settings)
        self._state.loop.call_later(grace_s, self._replace_if_silent, contact)

    def _replace_if_silent(self, contact: Contact) -> None:
        heard = contact in self._needs or contact in self.refused or contact in self.replicas
        if not heard:
            self._substitute(contact)

    def _replace_if_without(self, contact: Contact) -> None:
        """It may still come to have the value; meanwhile somebody else is given it, too."""
        if contact not in self.replicas:
            self._substitute(contact)

    def _substitute(self, contact: Contact) -> None:
        """Somebody else in the place of one who is slow or does not take it, once."""
        if self._spares and contact not in self._substituted and self.newest is None:
            sometimes(Rare.STORER_REPLACED)
            self._substituted.add(contact)
            spare = self._spares.pop(0)
            self._stand_ins.add(spare)
            self._ask(spare)

    def _on_done(self, contact: Contact, response: Response | None) -> None:
        if isinstance(response, Stored) and self._needs_value(contact, response):
            return
        self._open -= 1
        if not self._note(contact, response):
            self._substitute(contact)
        self._look()

    def _needs_value(self, contact: Contact, stored: Stored) -> bool:
        """Whether it is about to fetch the value from us: then it is asked again later."""
        needs = self._needs[contact] = self._needs.get(contact, 0) + 1
        if stored.status is not StoreStatus.NEED or self._offer is None or needs > NEEDS_MAX:
            return False
        if self._idle.get(contact, 0) >= IDLE_MAX:
            return False
        if needs == 1:
            patience_s = SLOW_SILENCES * self._state.settings.offer_silence_s
            self._state.loop.call_later(patience_s, self._replace_if_without, contact)
        soon_s = 2 * soft_timeout(self._state.exchange.rtts, self._state.settings)
        self._offer.expect(contact, partial(self._ask_again, contact), soon_s=soon_s)
        return True

    def _ask_again(self, contact: Contact) -> None:
        """It has had its chance; whoever says NEED and does not fetch is soon replaced."""
        assert self._offer is not None
        if not self._offer.has_got_on(contact):
            sometimes(Rare.OFFER_IGNORED)
            self._idle[contact] = self._idle.get(contact, 0) + 1
            self._substitute(contact)
        self._send(contact)

    def _look(self) -> None:
        """Tell whoever waits for enough of the answers, or for the last."""
        enough = len(self.replicas) >= self._acks or not self._open
        if enough and self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
        if self._open:
            return
        for over in self._waiting:
            if not over.done():
                over.set_result(None)
        self._on_end()

    # --- What they said ---------------------------------------------------------------------------

    def _note(self, contact: Contact, response: Response | None) -> bool:
        """Note what one node said; whether it holds the record."""
        if isinstance(response, Stored):
            named = self._state.credible(response.contacts, named_by=contact)
            self.named |= dict.fromkeys(named)
            if response.status in TAKEN:
                self.replicas.append(contact)
                return True
            is_too_far = response.status is StoreStatus.TOO_FAR
            self._too_far += is_too_far and contact in self._stand_ins
            if self._too_far >= TOO_FAR_MAX:
                self._spares.clear()  # they are farther still
            self._mismatches += response.status is StoreStatus.CAS
            if response.header is not None:
                self._learn(response.header)
        self.refused[contact] = _reason(response)
        return False

    def _learn(self, header: Header) -> None:
        """A refusal may show a newer version; what is not signed by the author shows nothing."""
        own = self._request.header
        if (header.kind, header.author, header.slot) != (own.kind, own.author, own.slot):
            return
        try:
            self._state.judge_header(self._request.key, header)
        except BadRecord as error:
            self._state.count_bad(error, by="writer")
            return
        if self.newest is None or header.version > self.newest.version:
            self.newest = header


def _reason(response: Response | None) -> str:
    match response:
        case Stored(StoreStatus.BAD, reason=number) if number in set(Reason):
            return f"bad: {Reason(number).sentence}"
        case Stored(StoreStatus.NEED):
            return "did not fetch the value"
        case Stored(status):
            return status.name.lower().replace("_", " ")
        case Refused(_, detail):
            return f"refused: {detail}"
    return StepOutcome.SILENT
