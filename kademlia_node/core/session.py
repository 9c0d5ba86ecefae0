"""An established session with one peer at one address, and the bounded table of all of them.

A session seals and opens DATA packets: one key per direction, a counter that never repeats, a
replay window of 256. It knows nothing of handshakes or of what the payloads say. The table decides
which session to send with and which one to forget.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import chain, takewhile

from kademlia_node.core import packet
from kademlia_node.core.contact import Address, Contact, is_local, prefix
from kademlia_node.core.identity import Capabilities
from kademlia_node.core.noise import TransportKeys
from kademlia_node.core.rtt import RttEstimator
from kademlia_node.core.suite import Suite
from kademlia_node.errors import ForgedPacket
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import Settings

REPLAY_WINDOW = 256  # counters; reordering beyond this is loss
_WINDOW_MASK = (1 << REPLAY_WINDOW) - 1


class Session:
    """Two keys shared with `peer`.

    `confirmed` tells that the peer's address is proved: at once for the initiator, by the first
    DATA for the responder. `initiated` tells who began; `rtt` is what its answers taught.
    """

    __slots__ = (
        "_counter",
        "_highest",
        "_receiver",
        "_seen",
        "_sender",
        "born",
        "capabilities",
        "confirmed",
        "heard",
        "initiated",
        "local_sid",
        "peer",
        "remote_sid",
        "rtt",
    )

    def __init__(
        self,
        peer: Contact,
        *,
        local_sid: bytes,
        remote_sid: bytes,
        keys: TransportKeys,
        suite: Suite,
        initiated: bool,
        capabilities: Capabilities,
        now: float,
    ) -> None:
        self.peer = peer
        self.local_sid = local_sid
        self.remote_sid = remote_sid
        self.initiated = initiated
        self.confirmed = initiated
        self.capabilities = capabilities
        self.born = self.heard = now
        self.rtt = RttEstimator()
        self._sender = suite.cipher(keys.send)
        self._receiver = suite.cipher(keys.receive)
        self._counter = 0
        self._highest = -1
        self._seen = 0

    def seal(self, payload: bytes) -> tuple[int, bytes]:
        """A DATA packet around `payload`, and the counter it carries."""
        counter = self._counter
        self._counter = counter + 1
        header = packet.data_header(self.remote_sid, counter)
        return counter, header + self._sender.seal(counter, payload, header)

    def is_worn(self, *, now: float, settings: Settings) -> bool:
        """Whether it is time for a successor: a stolen key shall not open everything."""
        age_s, is_busy = now - self.born, self._counter > settings.session_rekey_packets
        return age_s > (settings.session_rekey_s if is_busy else settings.session_age_max_s)

    def open(self, data: packet.Data, *, now: float) -> bytes:
        """The payload of a DATA packet that is authentic and new.

        Raises:
            ForgedPacket: altered, sealed by another, seen before, or older than the window.
        """
        counter = data.counter
        ahead = counter - self._highest  # bit i of `_seen` stands for the counter i below that
        if ahead <= 0 and (ahead <= -REPLAY_WINDOW or self._seen >> -ahead & 1):
            sometimes(Rare.PACKET_REPLAYED)
            raise ForgedPacket("a replayed packet")
        payload = self._receiver.open(counter, data.ciphertext, data.header)
        if ahead > 0:
            self._seen = (self._seen << min(ahead, REPLAY_WINDOW) | 1) & _WINDOW_MASK
            self._highest = counter
        else:
            self._seen |= 1 << -ahead
        self.heard = now
        return payload


Peer = tuple[bytes, Address]  # public key and address: a session is bound to both


def _peer(contact: Contact) -> Peer:
    return contact.public_key, contact.address


class SessionTable:
    """At most `sessions_max` sessions, `sessions_per_prefix_max` of them from one public prefix.

    Those that have a successor go first, and soon of themselves; then the one longest unheard.
    Peers for whom `is_pinned(node ID)` holds stay.
    """

    def __init__(
        self, *, own_id: bytes, settings: Settings, is_pinned: Callable[[bytes], bool]
    ) -> None:
        self._own_id = own_id
        self._settings = settings
        self._is_pinned = is_pinned
        self._by_sid: OrderedDict[bytes, Session] = OrderedDict()  # least recently heard first
        self._sending: dict[Peer, Session] = {}
        self._superseded: OrderedDict[bytes, Session] = OrderedDict()  # first come, first out
        self._by_prefix: dict[bytes, list[Session]] = {}  # mostly of one
        self._half_open: OrderedDict[bytes, Session] = OrderedDict()  # the oldest first

    def __len__(self) -> int:
        return len(self._by_sid) + len(self._half_open)

    @property
    def half_open(self) -> int:
        """Sessions whose initiator has not yet shown that it receives at its address."""
        return len(self._half_open)

    def __contains__(self, local_sid: bytes) -> bool:
        return local_sid in self._by_sid or local_sid in self._half_open

    def receiving(self, local_sid: bytes) -> Session | None:
        """The session that an incoming DATA names."""
        return self._by_sid.get(local_sid) or self._half_open.get(local_sid)

    def sending(self, contact: Contact) -> Session | None:
        """The session to use towards a contact, if there is a confirmed one."""
        return self._sending.get((contact.public_key, contact.address))

    def servers(self, *, since: float) -> list[Contact]:
        """Those heard since then of the servers that we can send to without a handshake."""
        sessions = self._sending.values()
        return [s.peer for s in sessions if s.capabilities.server and s.heard >= since]

    def clear(self) -> None:
        """Forget everyone; whoever still uses a session of ours is told by a RESET."""
        for session in [*self._by_sid.values(), *self._half_open.values()]:
            self.drop(session)

    def add(self, session: Session) -> None:
        """File a new session; the oldest half-open or least recently heard one makes room."""
        if session.confirmed:
            self._file(session)
            return
        self._half_open[session.local_sid] = session
        if len(self._half_open) > self._settings.half_open_max:
            sometimes(Rare.HALF_OPEN_EVICTED)
            self._half_open.popitem(last=False)

    def touch(self, session: Session) -> bool:
        """The peer was heard: keep it longest. True when this confirmed a half-open session."""
        if session.confirmed:
            self._by_sid.move_to_end(session.local_sid)
            return False
        del self._half_open[session.local_sid]
        session.confirmed = True
        self._file(session)
        return True

    def drop(self, session: Session) -> None:
        """Forget a session; dropping one that is gone already is no mistake."""
        self._half_open.pop(session.local_sid, None)
        self._superseded.pop(session.local_sid, None)
        if self._by_sid.pop(session.local_sid, None) is None:
            return
        here = prefix(session.peer.address.host)
        self._by_prefix[here].remove(session)
        if not self._by_prefix[here]:
            del self._by_prefix[here]
        if self._sending.get(_peer(session.peer)) is session:
            del self._sending[_peer(session.peer)]

    def sweep(self, *, now: float, keep_servers: bool) -> list[Session]:
        """Drop what was idle too long, what its successor serves, what was never confirmed.

        `keep_servers`: longer than others, as they keep us if we are a server. Returns what was
        dropped.
        """
        settings = self._settings
        idle_since = now - settings.session_idle_s
        kept_since = now - settings.session_keep_s if keep_servers else idle_since
        unconfirmed_since = now - 2 * self._settings.timeout_s
        superseded = [old for old in self._superseded.values() if old.heard < unconfirmed_since]
        for session in superseded:
            self.drop(session)
        idle = takewhile(lambda session: session.heard < idle_since, self._by_sid.values())
        gone = [
            *(one for one in idle if not one.capabilities.server or one.heard < kept_since),
            *takewhile(lambda session: session.born < unconfirmed_since, self._half_open.values()),
        ]
        for session in gone:
            self.drop(session)
        return superseded + gone

    def _file(self, session: Session) -> None:
        host = session.peer.address.host
        here = prefix(host)
        self._by_sid[session.local_sid] = session
        neighbours = self._by_prefix.setdefault(here, [])
        neighbours.append(session)
        current = self._sending.get(_peer(session.peer))
        if current is not None:
            old = current if self._preferred(session, current) else session
            self._superseded[old.local_sid] = old
        if session.local_sid not in self._superseded:
            self._sending[_peer(session.peer)] = session
        crowded = len(neighbours) > self._settings.sessions_per_prefix_max
        if crowded and not is_local(host):
            heard_first = sorted(neighbours, key=lambda one: (self._in_use(one), one.heard))
            self._evict(heard_first, sparing=session)
        if len(self._by_sid) > self._settings.sessions_max:
            self._evict(chain(self._superseded.values(), self._by_sid.values()), sparing=session)

    def _preferred(self, new: Session, current: Session) -> bool:
        """The newer one; of two begun at once, the one begun by the smaller ID, on both sides."""
        crossed = new.born - current.born < self._settings.timeout_s
        if not crossed or new.initiated == current.initiated:
            return True
        sometimes(Rare.SESSIONS_CROSSED)
        return new.initiated == (self._own_id < new.peer.id)

    def _in_use(self, session: Session) -> bool:
        return self._sending.get(_peer(session.peer)) is session

    def _is_kept(self, session: Session) -> bool:
        """Of a pinned peer the one session in use; else few peers could hold all places."""
        return self._in_use(session) and self._is_pinned(session.peer.id)

    def _evict(self, sessions: Iterable[Session], *, sparing: Session) -> None:
        """Make room: the first of these that may go."""
        sometimes(Rare.SESSION_EVICTED)
        for session in sessions:
            if session is not sparing and not self._is_kept(session):
                self.drop(session)
                return
        self.drop(sparing)
