"""Handshakes that we begin: one at a time per address, with the requests that wait for them.

The first request rides in the INIT when it is harmless; the others follow once there is a session.
Also the memory of contacts that stayed silent, so that false contacts cannot aim us at a victim.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from kademlia_node.core import packet
from kademlia_node.core.contact import Address, Contact, is_local
from kademlia_node.core.handshake import Opened, Opening
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.message import HARMLESS, Ping, Request
from kademlia_node.core.network import Network
from kademlia_node.errors import ForgedPacket, MalformedMessage
from kademlia_node.net.ask import Ask
from kademlia_node.net.attempts import Attempt, Attempts
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import Settings

LATE_MAX = 256  # handshakes given up whose answer may still come, 1 KB each
COOKIES_MAX = 2  # RETRYs heeded per dial: one for the gate, one when its secret has rotated

MakeOpening = Callable[[Contact, int, Request], Opening]


class OpeningMaker:
    """A `MakeOpening` for one identity; the timestamps of its openings only grow."""

    def __init__(
        self,
        identity: Identity,
        *,
        network: Network,
        capabilities: Callable[[], Capabilities],
        rng: random.Random,
        wall: Callable[[], float],
    ) -> None:
        self._identity = identity
        self._network = network
        self._capabilities = capabilities
        self._rng = rng
        self._wall = wall
        self._last_ts_us = 0

    def __call__(self, contact: Contact, rid: int, request: Request) -> Opening:
        """Begin a handshake; raises ForgedPacket for a refused public key."""
        self._last_ts_us = max(int(self._wall() * 1e6), self._last_ts_us + 1)
        return Opening(
            contact,
            identity=self._identity,
            network=self._network,
            capabilities=self._capabilities(),
            ts_us=self._last_ts_us,
            rid=rid,
            request=request,
            rng=self._rng,
        )


@dataclass(slots=True, frozen=True)
class _Silence:
    """How often in a row an unproved contact was called in vain, and until when that counts."""

    times: int
    until: float


@dataclass(slots=True, eq=False)
class Dial:
    """One handshake under way; `asks[0]` rides in the INIT if `rides`.

    Once it is `late` nobody waits for it any more, but an answer still gives a session.
    """

    contact: Contact
    opening: Opening
    rides: bool
    asks: list[Ask]
    attempt: Attempt
    patience_s: float
    cookies: int = 0
    behind: list[Ask] = field(default_factory=list)  # for another key at the same address
    late: bool = False


class Dialer:
    """All handshakes that we began and that are not answered yet."""

    def __init__(
        self,
        *,
        attempts: Attempts,
        settings: Settings,
        make_opening: MakeOpening,
        transmit: Callable[[bytes, Address], None],
        on_failed: Callable[[Dial], None],
        redial: Callable[[Ask], None],
        usual_sends: Callable[[], int],
    ) -> None:
        self._attempts = attempts
        self._settings = settings
        self._make_opening = make_opening
        self._transmit = transmit
        self._on_failed = on_failed
        self._redial = redial
        self._usual_sends = usual_sends
        self._dials: dict[Address, Dial] = {}
        self._late: OrderedDict[bytes, Dial] = OrderedDict()  # by our session ID
        self._silent: OrderedDict[Contact, _Silence] = OrderedDict()  # the latest is the last
        self._tried: OrderedDict[Address, dict[bytes, float]] = OrderedDict()

    def knows(self, address: Address) -> bool:
        """Whether an answer from this address is awaited."""
        return address in self._dials

    def dial(self, ask: Ask, *, rto_s: float, slow_s: float, now: float) -> bool:
        """Have a session made for the ask; False when this contact is not to be called now.

        Of those whose key was never proved at this address few are tried, and one is left alone
        if it was silent more often than the ask forgives lately.
        """
        known = self._dials.get(ask.contact.address)
        is_called = known is not None and known.contact == ask.contact
        if not (ask.proved or is_called or self._may_call(ask, now=now)):
            return False
        if known is not None:
            return self._join(known, ask)
        rides = isinstance(ask.request, HARMLESS)
        try:
            opening = self._make_opening(ask.contact, ask.rid, ask.request if rides else Ping())
        except ForgedPacket:  # a public key that no honest node has
            return False
        address = ask.contact.address
        sends = self._sends_of(ask)
        attempt = Attempt(
            transmit=lambda: self._transmit(opening.packet, address),
            give_up=partial(self._give_up, address),
            on_slow=partial(self._on_slow, address),
            sends=sends,
            rto_s=rto_s,
            slow_s=slow_s,
            timeout_s=patience(rto_s, sends=sends, settings=self._settings),
        )
        self._dials[address] = Dial(
            ask.contact, opening, rides, [ask], attempt, patience_s=attempt.timeout_s
        )
        self._attempts.start(attempt, now=now)
        return True

    def on_retry(self, retry: packet.Retry, source: Address, *, now: float) -> None:
        """Send the INIT again with the cookie; it costs no attempt, and the time starts anew."""
        dial = self._dials.get(source)
        if dial is None or dial.opening.sid != retry.sid or dial.cookies >= COOKIES_MAX:
            return
        dial.cookies += 1
        dial.attempt.timeout_s = now - dial.attempt.started + dial.patience_s
        dial.opening.take_cookie(retry.cookie)
        self._transmit(dial.opening.packet, source)

    def on_resp(
        self, resp: packet.Resp, source: Address, *, now: float
    ) -> tuple[Dial, Opened] | None:
        """The handshake that a RESP completes, or None when it completes nothing."""
        dial = self._dials.get(source)
        if dial is None or dial.opening.sid != resp.sid:
            dial = self._late.get(resp.sid)
        if dial is None or dial.contact.address != source or self._is_too_late(dial, now=now):
            return None
        try:
            opened = dial.opening.read(resp, now=now)
        except (ForgedPacket, MalformedMessage):
            return None
        if opened.rid != dial.asks[0].rid:  # the peer's own fault; nobody else can make a RESP
            return None
        self._silent.pop(dial.contact, None)
        if dial.late:
            del self._late[resp.sid]
        else:
            self._attempts.stop(dial.attempt)
            del self._dials[source]
            self._call_next(dial)
        return dial, opened

    def on_refused(self, sid: bytes, address: Address, *, now: float) -> None:
        """Nobody listens at this address, and our INIT is quoted: so its time is over."""
        dial = self._dials.get(address)
        if dial is not None and dial.opening.sid == sid:
            self._attempts.stop(dial.attempt)
            dial.attempt.timeout_s = now - dial.attempt.started
            self._give_up(address)

    def _call_next(self, ended: Dial) -> None:
        for ask in sorted(ended.behind, key=lambda ask: not ask.proved):  # they wait for the first
            self._redial(ask)

    def _join(self, dial: Dial, ask: Ask) -> bool:
        """Wait for the handshake; with another key at that address, for its end and then call."""
        waiting = dial.asks if dial.contact == ask.contact else dial.behind
        goes_first = ask.proved and waiting is dial.behind
        if len(waiting) >= self._settings.waiting_max and not goes_first:
            sometimes(Rare.DIAL_CROWDED)
            return False
        waiting.append(ask)
        if waiting is dial.asks:
            self._lengthen(dial, sends=self._sends_of(ask))
        return True

    def _sends_of(self, ask: Ask) -> int:
        return ask.sends or (self._usual_sends() if ask.proved else self._settings.sends_few)

    def _lengthen(self, dial: Dial, *, sends: int) -> None:
        """Send it as often as the most important of those who wait asks for."""
        if sends > dial.attempt.sends:
            dial.attempt.sends = sends
            before_s = dial.patience_s
            dial.patience_s = patience(dial.attempt.rto_s, sends=sends, settings=self._settings)
            dial.attempt.timeout_s += dial.patience_s - before_s

    def _may_call(self, ask: Ask, *, now: float) -> bool:
        contact, silence = ask.contact, self._silent.get(ask.contact)
        if silence is not None and silence.until > now and silence.times > ask.forgives:
            sometimes(Rare.DEAD_LEFT_ALONE)
            return False
        return is_local(contact.address.host) or self._is_one_of_few(contact, now=now)

    def _is_one_of_few(self, contact: Contact, *, now: float) -> bool:
        """Whether few other keys were tried at this address lately; a known one may come again."""
        tried = self._tried.pop(contact.address, {})
        since = now - self._settings.dead_contact_s
        tried = {key: when for key, when in tried.items() if when > since}
        self._tried[contact.address] = tried
        if len(self._tried) > self._settings.dead_contacts_max:
            self._tried.popitem(last=False)
        if contact.public_key not in tried and len(tried) >= self._settings.keys_per_address:
            return False
        tried[contact.public_key] = now
        return True

    def sweep(self, *, now: float) -> None:
        """Forget the silent who may be called again, the late, and the tried that count no more."""
        while self._late and self._is_too_late(next(iter(self._late.values())), now=now):
            self._late.popitem(last=False)
        while self._silent and next(iter(self._silent.values())).until <= now:
            self._silent.popitem(last=False)
        since = now - self._settings.dead_contact_s
        while self._tried and all(t <= since for t in next(iter(self._tried.values())).values()):
            self._tried.popitem(last=False)

    def _on_slow(self, address: Address) -> None:
        for ask in list(self._dials[address].asks):
            ask.tell_slow()

    def _give_up(self, address: Address) -> None:
        dial = self._dials.pop(address)
        self._note_silence(dial.contact, now=dial.attempt.started + dial.attempt.timeout_s)
        self._on_failed(dial)
        self._call_next(dial)
        self._keep_ear_open(dial)

    def _note_silence(self, contact: Contact, *, now: float) -> None:
        before = self._silent.pop(contact, None)
        times = 1 + (before.times if before is not None and before.until > now else 0)
        self._silent[contact] = _Silence(times, until=now + self._settings.dead_contact_s)
        if len(self._silent) > self._settings.dead_contacts_max:
            self._silent.popitem(last=False)

    def _keep_ear_open(self, dial: Dial) -> None:
        """Whoever is farther away than all others would else be silent for ever."""
        dial.late = True
        self._late[dial.opening.sid] = dial
        if len(self._late) > LATE_MAX:
            self._late.popitem(last=False)

    def _is_too_late(self, dial: Dial, *, now: float) -> bool:
        given_up = dial.attempt.started + dial.attempt.timeout_s
        return dial.late and now > given_up + self._settings.timeout_s


def patience(rto_s: float, *, sends: int, settings: Settings) -> float:
    """Seconds until a request has failed: all its sendings with doubling waits, within bounds."""
    return min(settings.timeout_s, max(settings.timeout_min_s, rto_s * ((1 << sends) - 1)))
