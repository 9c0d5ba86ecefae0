"""Requests out, answers back: everything between a socket and a node that thinks in messages.

The exchange owns sessions, handshakes and repeats: whoever stops waiting for one answer harms no
other. What a request means is up to its `Listener`, who gets it with a `reply` to call, any time.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial

from kademlia_node.core import codec, packet
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.handshake import Doorkeeper
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.limiter import KeyedLimiter
from kademlia_node.core.message import Chunk, ErrorCode, Ping, Refused, Request, Response
from kademlia_node.core.network import Network
from kademlia_node.core.rtt import RttHistory, initial_rto, learn, soft_timeout, usual_sends
from kademlia_node.core.session import Session, SessionTable
from kademlia_node.errors import ForgedPacket, MalformedMessage
from kademlia_node.net.ask import Ask, Asker, Awaited, Listener, OnDone, OnSlow
from kademlia_node.net.attempts import Attempt, Attempts
from kademlia_node.net.callers import Callers
from kademlia_node.net.dial import Dial, Dialer, OpeningMaker, patience
from kademlia_node.net.pending import Pending
from kademlia_node.net.transport import Listen, Transport
from kademlia_node.net.who import Introductions
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import Settings

RESETS_MAX = 2  # a request that meets more forgetful peers than this has failed
CONFIRM = b""  # an empty DATA: "I receive at this address"


class Exchange:
    """One socket's worth of conversations. Open it, ask, close it."""

    def __init__(
        self,
        *,
        identity: Identity,
        network: Network,
        settings: Settings,
        rng: random.Random,
        wall: Callable[[], float],
        listener: Listener,
    ) -> None:
        self._identity = identity
        self._network = network
        self._settings = settings = network.adapt(settings)
        self._rng = rng
        self._wall = wall
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: Transport | None = None
        self._is_closed = False
        self._attempts = Attempts(self._loop)
        self.capabilities = Capabilities(server=False)
        self.sessions = SessionTable(
            own_id=identity.id, settings=settings, is_pinned=listener.is_pinned
        )
        self._callers = self._make_callers()
        self._dialer = self._make_dialer()
        self._introductions = self._make_introductions()
        self._pending = Pending(last_rid=rng.getrandbits(31), stop=self._attempts.stop)
        rate, peers = settings.requests_per_peer_per_s, settings.peer_limits_max
        self._peer_limits: KeyedLimiter = KeyedLimiter(rate, rate, keys_max=peers)
        self._written: OrderedDict[str, None] = OrderedDict()
        self.rtts = RttHistory(settings.rtt_samples)
        self.counts: Counter[str] = Counter()

    def _make_callers(self) -> Callers:
        return Callers(
            Doorkeeper(
                self._identity, network=self._network, settings=self._settings, rng=self._rng
            ),
            sessions=self.sessions,
            settings=self._settings,
            listener=self._listener,
            capabilities=lambda: self.capabilities,
            transmit=self._transmit,
        )

    def _make_dialer(self) -> Dialer:
        return Dialer(
            attempts=self._attempts,
            settings=self._settings,
            make_opening=OpeningMaker(
                self._identity,
                network=self._network,
                capabilities=lambda: self.capabilities,
                rng=self._rng,
                wall=self._wall,
            ),
            transmit=self._transmit,
            on_failed=self._on_dial_failed,
            redial=self._start,
            usual_sends=lambda: usual_sends(self.rtts, self._settings),
        )

    def _make_introductions(self) -> Introductions:
        return Introductions(
            self._identity.public_key,
            network=self._network,
            attempts=self._attempts,
            settings=self._settings,
            rng=self._rng,
            transmit=self._transmit,
        )

    @property
    def address(self) -> Address:
        """Where the socket is bound."""
        assert self._transport is not None, "open the exchange first"
        return self._transport.address

    async def open(self, listen: Listen, host: str, port: int) -> None:
        """Bind; raises SetupError."""
        self._transport = await listen(host, port, self._receive)
        self._transport.on_refused = self._on_refused

    async def close(self) -> None:
        """Release the socket. Whoever still waits is told that there was no answer."""
        self._is_closed = True
        self._attempts.close()
        self._introductions.close()
        self._pending.finish_all()
        if self._transport is not None:
            await self._transport.close()

    # --- Asking -----------------------------------------------------------------------------------

    async def ask(self, contact: Contact, request: Request) -> Response:
        """Ask and wait; see `Awaited.response`."""
        awaited = Awaited(self._loop)
        self.send(contact, request, on_done=awaited.on_done)
        return await awaited.response(contact)

    def send(
        self,
        contact: Contact,
        request: Request,
        *,
        on_done: OnDone,
        on_slow: OnSlow | None = None,
        proved: bool = True,
        forgives: float = 0,
        sends: int | None = None,
    ) -> None:
        """Ask; `on_done` is called once, later, with the answer or None.

        Args:
            contact: Whom.
            request: What.
            on_done: Told the outcome; never before this call returns.
            on_slow: Told when nine of ten recent answers would have come by now.
            proved: Whether the contact ever answered at this address; hearsay is asked more warily.
            forgives: How often hearsay may have been silent within the last minute.
            sends: How often it is sent at most; None: as often as the settings say.
        """
        ask = self._pending.add(contact, request, on_done=on_done, on_slow=on_slow)
        if self._is_closed:
            self._loop.call_soon(self._pending.finish, ask, None)
            return
        ask.proved, ask.forgives, ask.sends = proved, forgives, sends
        self._start(ask)

    async def who(self, address: Address) -> Contact:
        """The contact that answers at an address whose key is unknown; raises NoAnswer."""
        return Contact(await self._introductions.ask(address, now=self._loop.time()), address)

    def _start(self, ask: Ask) -> None:
        now = self._loop.time()
        session = self.sessions.sending(ask.contact)
        if session is not None:
            self._begin(ask, session, now=now)
            if session.is_worn(now=now, settings=self._settings):
                self._rekey(session, now=now)
            return
        called = self._dialer.dial(
            ask,
            rto_s=initial_rto(self.rtts, self._settings),
            slow_s=soft_timeout(self.rtts, self._settings),
            now=now,
        )
        if not called:
            self._loop.call_soon(self._pending.finish, ask, None)

    def _rekey(self, session: Session, *, now: float) -> None:
        """A fresh session in the background; the old one serves until the new one is there."""
        if self._dialer.knows(session.peer.address):
            return
        sometimes(Rare.SESSION_REKEYED)
        ask = self._pending.add(session.peer, Ping(), on_done=lambda _: None)
        rto_s = session.rtt.rto(self.rtts, self._settings)
        self._dialer.dial(ask, rto_s=rto_s, slow_s=rto_s, now=now)

    def _begin(self, ask: Ask, session: Session, *, now: float) -> None:
        """Send over an established session, and again until there is an answer."""
        ask.session = session
        rto_s = session.rtt.rto(self.rtts, self._settings)
        sends = ask.sends or usual_sends(self.rtts, self._settings)
        ask.attempt = Attempt(
            transmit=partial(self._send_data, ask),
            give_up=partial(self._on_ask_failed, ask),
            on_slow=ask.tell_slow if ask.on_slow else None,
            sends=sends,
            rto_s=rto_s,
            slow_s=soft_timeout(self.rtts, self._settings) if ask.on_slow else 0.0,
            timeout_s=patience(rto_s, sends=sends, settings=self._settings),
        )
        self._attempts.start(ask.attempt, now=now)

    def _send_data(self, ask: Ask) -> None:
        session = ask.session
        assert session is not None
        counter, datagram = session.seal(codec.encode_request(ask.rid, ask.request))
        self._pending.on_sent(ask, counter)
        self._transmit(datagram, session.peer.address)

    def _on_ask_failed(self, ask: Ask) -> None:
        """Give up the session too, unless the peer was heard on it meanwhile."""
        self.counts["silent"] += 1
        assert ask.session is not None
        assert ask.attempt is not None
        if ask.session.heard <= ask.attempt.started:
            self.sessions.drop(ask.session)
        self._listener.on_silent(ask.contact)
        self._pending.finish(ask, None)

    def _on_dial_failed(self, dial: Dial) -> None:
        self.counts["silent"] += 1
        self._listener.on_silent(dial.contact)
        for ask in dial.asks:
            self._pending.finish(ask, None)

    def _transmit(self, datagram: bytes, address: Address) -> None:
        assert self._transport is not None
        self.counts["datagrams_sent"] += 1
        self.counts["bytes_sent"] += len(datagram)
        if not self.capabilities.server:
            self._written[address.host] = None
            if len(self._written) > self._settings.written_hosts_max:
                self._written.popitem(last=False)
        self._transport.send(datagram, address)

    # --- Receiving --------------------------------------------------------------------------------

    def _receive(self, datagram: bytes, source: Address) -> None:
        now = self._loop.time()
        self.counts["datagrams_received"] += 1
        self.counts["bytes_received"] += len(datagram)
        try:
            parsed = packet.parse(datagram)
        except MalformedMessage:
            self.counts["malformed_packet"] += 1
            return
        match parsed:
            case packet.Data():
                self._on_data(parsed, source, now=now)
            case packet.Init():
                if drop := self._callers.on_init(parsed, source, now=now):
                    self.counts[f"init_{drop.name.lower()}"] += 1
            case packet.Resp():
                self._on_resp(parsed, source, now=now)
            case packet.Retry():
                self._dialer.on_retry(parsed, source, now=now)
            case packet.Reset():
                self._on_reset(parsed, source)
            case packet.Who():
                self._introductions.on_who(parsed, source)
            case packet.Iam():
                self._introductions.on_iam(parsed, source)

    def _on_data(self, data: packet.Data, source: Address, *, now: float) -> None:
        session = self.sessions.receiving(data.sid)
        if session is None or session.peer.address != source:
            sometimes(Rare.SESSION_UNKNOWN)
            self._transmit(packet.pack_reset(data.sid, data.counter), source)
            self.counts["unknown_session"] += 1
            return
        try:
            payload = session.open(data, now=now)
        except ForgedPacket:
            self.counts["forged_packet"] += 1
            return
        if self.sessions.touch(session):
            self._callers.on_confirmed(session)
            self._tell_alive(session)
        if payload == CONFIRM:
            return
        try:
            rid, message = codec.decode_message(payload)
        except codec.UnfitRequest as error:
            self._reply(session, error.rid, Refused(error.code, error.detail))
        except MalformedMessage:
            self.counts["malformed_message"] += 1
        else:
            if isinstance(message, Request):
                self._on_request(session, rid, message, now=now)
            else:
                self._on_response(session, rid, message, now=now)

    def _on_request(self, session: Session, rid: int, request: Request, *, now: float) -> None:
        cost = 1 / self._settings.chunks_per_request if isinstance(request, Chunk) else 1.0
        if not self._peer_limits.take(session.peer.id, now, amount=cost):
            sometimes(Rare.PEER_OUTPACED)
            self._reply(session, rid, Refused(ErrorCode.BUSY, "too many requests"))
            return
        self._tell_alive(session)
        asker = Asker(session.peer, session.capabilities.server, confirmed=True)
        self._listener.serve(asker, request, partial(self._reply, session, rid))

    def _reply(self, session: Session, rid: int, response: Response) -> None:
        _, datagram = session.seal(codec.encode_response(rid, response))
        self._transmit(datagram, session.peer.address)

    def _on_response(self, session: Session, rid: int, response: Response, *, now: float) -> None:
        ask = self._pending.by_rid(rid)
        if ask is None or ask.session is None or ask.contact != session.peer:
            self.counts["unasked_response"] += 1
            return
        assert ask.attempt is not None
        learn(session.rtt, self.rtts, now - ask.attempt.started, sendings=ask.attempt.sent)
        self._tell_alive(session)
        self._pending.finish(ask, response)

    def _on_resp(self, resp: packet.Resp, source: Address, *, now: float) -> None:
        completed = self._dialer.on_resp(resp, source, now=now)
        if completed is None:
            self.counts["unasked_resp"] += 1
            return
        dial, opened = completed
        session = opened.session
        took_s = now - dial.attempt.started
        if dial.late:  # at most so far away: else it would be late the next time, too
            sometimes(Rare.ANSWERED_LATE)
            session.rtt.on_sample(took_s)
            self.rtts.on_answer(was_repeated=True)
        elif not dial.cookies:  # else it took two round trips
            learn(session.rtt, self.rtts, took_s, sendings=dial.attempt.sent)
        self.sessions.add(session)
        self._tell_alive(session)
        self._listener.on_seen_as(opened.seen, by=session.peer)
        waiting = [] if dial.late else dial.asks[dial.rides :]
        if not waiting:
            self._transmit(session.seal(CONFIRM)[1], source)
        for ask in waiting:
            self._begin(ask, session, now=now)
        if dial.rides and not dial.late:
            self._pending.finish(dial.asks[0], opened.response)

    def _on_reset(self, reset: packet.Reset, source: Address) -> None:
        """The peer lost a session that we have a request in flight on: begin anew."""
        ask = self._pending.in_flight(reset.sid, reset.counter, source)
        if ask is None or ask.session is None:
            self.counts["unasked_reset"] += 1
            return
        sometimes(Rare.SESSION_LOST)
        lost = ask.session
        self.sessions.drop(lost)
        for stranded in self._pending.over(lost):
            self._pending.ground(stranded)
            stranded.resets += 1
            if stranded.resets > RESETS_MAX:
                self._pending.finish(stranded, None)
            else:
                stranded.proved = True
                self._start(stranded)

    def _on_refused(self, quote: bytes, address: Address) -> None:
        """Nobody listens where we sent a packet of ours: so nobody is waited for, either."""
        if self._is_closed or (quoted := packet.read_quote(quote)) is None:
            return
        sid, counter = quoted
        self._dialer.on_refused(sid, address, now=self._loop.time())
        ask = self._pending.in_flight(sid, counter, address)
        if ask is not None and ask.session is not None:
            sometimes(Rare.PEER_GONE)
            for stranded in self._pending.over(ask.session):
                if stranded.session is not None:  # no other one's end has ended it, too
                    self._on_ask_failed(stranded)

    def wrote_to(self, host: str) -> bool:
        """Whether, as a client, we sent anything to this host: then a firewall lets it answer."""
        return host in self._written

    def _tell_alive(self, session: Session) -> None:
        self._listener.on_alive(session.peer, server=session.capabilities.server)

    def sweep(self) -> None:
        """Forget what is old in sessions, answers and calls; to be called every minute or so."""
        now = self._loop.time()
        self.sessions.sweep(now=now, keep_servers=self.capabilities.server)
        self._callers.sweep(now=now)
        self._dialer.sweep(now=now)
