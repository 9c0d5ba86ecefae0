"""One lookup: whom to ask next on the way to the k nodes closest to a target (Kademlia, 2.3).

Every answer names nodes closer to the target, those are asked in turn, and when the k closest ones
known have all answered, nobody closer is left to be heard of. There is no barrier between rounds:
each answer is used at once, and a slow node holds up nobody while there is another one to ask.

**Disjoint paths** (S/Kademlia, 4.2). A node belongs to the path that heard of it first: seeds are
dealt out, what a node names belongs to that node's path. An adversary who is asked can therefore
mislead its own path only. In the paper each path is a whole lookup with a k of its own, so d paths
cost d lookups. Here they share one end. A candidate is *wanted* if it is

- among the k closest of all candidates, whichever path heard of them, or
- among the `parallel` closest of its own path: the path's front, or
- within `radius` of the target and among the `region_max` closest (who is responsible for a key),

those that are slow or silent not counted; but the end waits for slow ones that are as near. The
first rule gives the result of the paper's plain lookup at its price: k queries and a few for the
hops. Alone it could be starved. Colluders who name each other can be the k closest *heard of* long
before an honest path has come near the target, and that path would stop. The second rule lets every
path walk on, on its own evidence, until its front has answered. Once it is near, live colluders
lose by the first rule, too: their IDs are random, and honest nodes are closer. Invented ones hold a
place among the k closest only until they are slow.

**Limits**, since we knock wherever a stranger says. Hearsay at one IP is tried once, in one prefix
a few times. A path holds its share of `candidates_max`: no lookup asks more nodes than that. An
identity has `ADDRESSES_MAX` addresses: a false one for an honest ID costs a timeout, not the node.

Not known here: packets, timers, what else was in an answer, who is in the routing table. The caller
sends what `next_queries` returns, reports each outcome by `on_reply`, `on_slow` (a soft timeout:
the query stays open, its slot is free) or `on_failure`, until `done`. Answers may come late.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import cycle, islice
from typing import Final

from kademlia_node.core.contact import Contact, is_local, prefix
from kademlia_node.core.ids import point
from kademlia_node.settings import CONTACTS_PER_ANSWER_MAX, ID_BITS, Settings

ADDRESSES_MAX: Final = 3  # of one identity: the first one heard and two alternatives
_EVERYWHERE: Final = 1 << ID_BITS  # farther than any distance


class State(Enum):
    """What became of a candidate so far."""

    HEARD = auto()  # named by somebody, not asked yet (or about to be asked again)
    WAITING = auto()  # asked: in flight
    SLOW = auto()  # asked, and the soft timeout has passed: its slot is free for another
    ANSWERED = auto()
    SILENT = auto()  # failed at every address that we may try
    __hash__ = object.__hash__  # Enum hashes the name, in Python, and every move looks one up


_MOVES: Final = {
    State.HEARD: {State.WAITING, State.SILENT, State.ANSWERED},  # not allowed; a late answer
    State.WAITING: {State.SLOW, State.ANSWERED, State.SILENT},
    State.SLOW: {State.ANSWERED, State.SILENT},
    State.SILENT: {State.HEARD, State.ANSWERED},  # another address, a second try; a late answer
    State.ANSWERED: set[State](),
}
_OUT: Final = frozenset({State.SLOW, State.SILENT})  # others take their places


@dataclass(frozen=True, slots=True)
class Query:
    """Ask `contact` for what it knows about the target; `path` is for the trace."""

    contact: Contact
    path: int


@dataclass(slots=True, eq=False)
class _Candidate:
    """One identity that was named. Its distance is its name here: XOR gives no two IDs the same."""

    distance: int
    path: _Path
    hop: int
    addresses: list[Contact]
    turn: int = 0  # which of the addresses is tried now, or answered
    asked: list[Contact] = field(default_factory=list)  # one entry for each query
    state: State = State.HEARD
    vouchers: int = 0  # how many responders named it
    voucher: int | None = None  # the distance of the last of them

    @property
    def contact(self) -> Contact:
        return self.addresses[self.turn]


@dataclass(slots=True, eq=False)
class _Path:
    """One disjoint shortlist: distances in ascending order, apart for those asked and those not."""

    index: int
    heard: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)  # WAITING or ANSWERED
    in_flight: int = 0
    size: int = 0  # candidates in any state

    def list_of(self, state: State) -> list[int]:
        return self.heard if state is State.HEARD else self.asked


def _discard(distances: list[int], distance: int) -> None:
    """Take one distance out of a sorted list that holds it."""
    del distances[bisect_left(distances, distance)]


class Lookup:
    """The state of one lookup for `target` (32 bytes: a node ID or a record key).

    Args:
        target: What to get close to.
        seeds: Where to start; dealt out to the paths in order of distance.
        own_id: Our own node ID: never asked, never in the result.
        settings: `k`, `paths`, `parallel` and the limits.
        is_proved: Whether a contact has answered us before at this very address.
        prefix_limits: Limit unproved contacts per IP and prefix (open networks).
        k: How many of the closest must have answered; `settings.k` if None.
        radius: Besides those, every node within this XOR distance...
        region_max: ...as long as it is among so many closest.
        second_tries: Whether hearsay that was silent may be asked again: where packets are lost.
    """

    def __init__(
        self,
        target: bytes,
        seeds: Iterable[Contact],
        *,
        own_id: bytes,
        settings: Settings,
        is_proved: Callable[[Contact], bool],
        prefix_limits: bool,
        k: int | None = None,
        radius: int = 0,
        region_max: int = 0,
        second_tries: bool = True,
    ) -> None:
        self.target = target
        self._point = point(target)
        self._own_distance = point(own_id) ^ self._point
        self._settings = settings
        self._is_proved = is_proved
        self._prefix_limits = prefix_limits
        self._k = settings.k if k is None else k
        self._radius = radius
        self._region_max = region_max
        self._tries = 2 if second_tries else 1
        self._paths = [_Path(index) for index in range(settings.paths)]
        self._candidates: dict[int, _Candidate] = {}
        self.in_flight = 0  # queries sent, not answered, not failed and not slow
        self._nearest: list[int] = []  # distances of all but SLOW and SILENT ones, ascending
        self._slow: set[int] = set()
        self._hosts_tried: set[str] = set()
        self._prefixes_tried: Counter[bytes] = Counter()
        self._turns = cycle(self._paths)
        self.start_from(seeds)

    def start_from(self, seeds: Iterable[Contact]) -> None:
        """Deal out seeds, or further ones; who is a candidate already stays on its path."""
        for seed in sorted(seeds, key=self._distance):
            self._hear(seed, path=next(self._turns), hop=1, voucher=None)

    # --- Out: what to do, and what came of it ---

    def next_queries(self, *, at_most: int | None = None) -> list[Query]:
        """The queries to send now, as many as slots are free; they count as WAITING from here on.

        The path with the fewest queries in flight goes first. So each path has `parallel` slots of
        its own, and those that it cannot use are lent to the others; `at_most` so many are used.
        """
        slots = self._settings.paths * self._settings.parallel
        queries: list[Query] = []
        while self.in_flight < min(slots, at_most or slots) and (ready := self._ready()):
            chosen = min(ready, key=lambda c: (c.path.in_flight, c.distance))
            self._ask(chosen)
            queries.append(Query(chosen.contact, chosen.path.index))
        return queries

    @property
    def done(self) -> bool:
        """Whether all wanted have answered, and no slow one would be wanted if it answered, too."""
        if self._ready():
            return False
        horizon = self._horizon()
        wanted = islice(self._nearest, bisect_right(self._nearest, horizon))
        fronts = (d for path in self._paths for d in path.asked[: self._settings.parallel])
        return not (
            any(self._candidates[d].state is not State.ANSWERED for d in wanted)
            or any(self._candidates[d].state is State.WAITING for d in fronts)
            or any(d <= horizon for d in self._slow)
        )

    def closest(self, count: int | None = None) -> list[Contact]:
        """Those who answered, the closest first, at the addresses where they did; all if None."""
        answered = (c for d in self._nearest if (c := self._candidates[d]).state is State.ANSWERED)
        return [candidate.contact for candidate in islice(answered, count)]

    @property
    def hops(self) -> int:
        """The hop of the closest node that answered; 0 while none did."""
        return next((self.hop_of(contact) for contact in self.closest(1)), 0)

    def hop_of(self, contact: Contact) -> int:
        """1 for a seed, else one more than the hop of the node that named it first."""
        return self._candidates[self._distance(contact)].hop

    def path_of(self, contact: Contact) -> int:
        """The path that heard of this node first, 0 to `paths` - 1."""
        return self._candidates[self._distance(contact)].path.index

    def state_of(self, contact: Contact) -> State | None:
        """What became of this node, at whichever address; None if it is no candidate."""
        candidate = self._candidates.get(self._distance(contact))
        return None if candidate is None else candidate.state

    # --- In: what happened to a query ---

    def on_reply(self, contact: Contact, contacts: Iterable[Contact]) -> None:
        """The queried contact answered and named others; only the first 20 of them are heard."""
        responder = self._queried(contact)
        if responder.state is State.ANSWERED:  # at another address, too: one answer per identity
            return
        self._move(responder, State.ANSWERED)
        responder.turn = responder.addresses.index(contact)
        path, hop, voucher = responder.path, responder.hop + 1, responder.distance
        for named in islice(contacts, CONTACTS_PER_ANSWER_MAX):
            self._hear(named, path=path, hop=hop, voucher=voucher)

    def on_slow(self, contact: Contact) -> None:
        """The soft timeout of this query has passed: ask somebody else without giving it up."""
        candidate = self._queried(contact)
        if candidate.contact == contact and candidate.state is State.WAITING:
            self._move(candidate, State.SLOW)

    def on_failure(self, contact: Contact) -> None:
        """The query failed for good. Another address, or a second try, if there is one."""
        candidate = self._queried(contact)
        if candidate.contact == contact and candidate.state in {State.WAITING, State.SLOW}:
            self._move(candidate, State.SILENT)
            self._give_chance(candidate)

    # --- Which candidates are wanted ---

    def _distance(self, contact: Contact) -> int:
        return contact.point ^ self._point

    def _nth_nearest(self, count: int) -> int:
        return self._nearest[count - 1] if count <= len(self._nearest) else _EVERYWHERE

    def _horizon(self) -> int:
        """Every candidate up to this distance is wanted, whatever its path."""
        region = min(self._radius, self._nth_nearest(self._region_max)) if self._region_max else 0
        return max(self._nth_nearest(self._k), region)

    def _ready(self) -> list[_Candidate]:
        """Of each path, the nearest candidate that is wanted and not asked, if there is one.

        To pass over one we may not ask moves the horizon outwards, so look until it holds still.
        """
        while True:
            horizon = self._horizon()
            ready = [c for path in self._paths if (c := self._next_on(path, horizon)) is not None]
            if horizon == self._horizon():
                return ready

    def _next_on(self, path: _Path, horizon: int) -> _Candidate | None:
        while path.heard:
            distance = path.heard[0]
            nearer_asked = bisect_left(path.asked, distance)
            if distance > horizon and nearer_asked >= self._settings.parallel:
                return None
            candidate = self._candidates[distance]
            if self._may_ask(candidate):
                return candidate
            self._pass_over(candidate)
        return None

    # --- Hearsay and its limits ---

    def _hear(self, contact: Contact, *, path: _Path, hop: int, voucher: int | None) -> None:
        distance = contact.point ^ self._point
        candidate = self._candidates.get(distance)
        if candidate is None:
            if distance == self._own_distance or not self._make_room(path, distance):
                return
            candidate = self._candidates[distance] = _Candidate(distance, path, hop, [contact])
            path.size += 1
            insort(path.heard, distance)
            insort(self._nearest, distance)
        elif voucher is not None and candidate.voucher == voucher:
            return  # named twice in one answer
        elif contact not in candidate.addresses and len(candidate.addresses) < ADDRESSES_MAX:
            candidate.addresses.append(contact)
        if voucher is not None:
            candidate.voucher = voucher
            candidate.vouchers += 1
        if candidate.state is State.SILENT:
            self._give_chance(candidate)

    def _make_room(self, path: _Path, distance: int) -> bool:
        """A full path forgets the farthest it has not asked, for the sake of a nearer one."""
        if path.size < self._settings.candidates_max // len(self._paths):
            return True
        farthest = self._candidates[path.heard[-1]] if path.heard else None
        if farthest is None or farthest.distance < distance or farthest.asked:
            return False  # asked: an outcome of it may still come
        self._forget(farthest)
        return True

    def _give_chance(self, candidate: _Candidate) -> None:
        """Whether a SILENT candidate can be asked again: elsewhere, or once more where it was.

        That is worth it where packets are lost, for hearsay that several responders vouch for.
        """
        times = [candidate.asked.count(contact) for contact in candidate.addresses]
        candidate.turn = times.index(min(times))
        if times[candidate.turn] == 0 or (
            times[candidate.turn] < self._tries
            and candidate.vouchers >= self._settings.vouchers_for_retry
            and candidate.distance <= self._horizon()
            and not self._is_proved(candidate.contact)
        ):
            self._move(candidate, State.HEARD)

    def _is_limited(self, contact: Contact) -> bool:
        host = contact.address.host
        return self._prefix_limits and not (is_local(host) or self._is_proved(contact))

    def _may_ask(self, candidate: _Candidate) -> bool:
        """Whether the limits on unproved contacts allow a query to its present address."""
        contact, host = candidate.contact, candidate.contact.address.host
        if contact in candidate.asked or not self._is_limited(contact):
            return True
        in_prefix = self._prefixes_tried[prefix(host)]
        return host not in self._hosts_tried and in_prefix < self._settings.unproved_per_prefix

    def _pass_over(self, candidate: _Candidate) -> None:
        """Forget the address that we may not ask, and the candidate if that was its only one."""
        if len(candidate.addresses) == 1:
            self._forget(candidate)
            return
        del candidate.addresses[candidate.turn]
        self._move(candidate, State.SILENT)
        self._give_chance(candidate)

    def _forget(self, candidate: _Candidate) -> None:
        """Take out a candidate never asked; it may be heard of again."""
        self._move(candidate, State.SILENT)
        del self._candidates[candidate.distance]
        candidate.path.size -= 1

    # --- Moves ---

    def _queried(self, contact: Contact) -> _Candidate:
        candidate = self._candidates.get(self._distance(contact))
        assert candidate is not None, f"{contact} is no candidate"
        assert contact in candidate.asked, f"{contact} was never asked"
        return candidate

    def _ask(self, candidate: _Candidate) -> None:
        contact, host = candidate.contact, candidate.contact.address.host
        if contact not in candidate.asked and self._is_limited(contact):
            self._hosts_tried.add(host)
            self._prefixes_tried[prefix(host)] += 1
        candidate.asked.append(contact)
        self._move(candidate, State.WAITING)

    def _move(self, candidate: _Candidate, state: State) -> None:
        """Change a candidate's state, and the lists and counts that follow from it."""
        before, path, distance = candidate.state, candidate.path, candidate.distance
        assert state in _MOVES[before], f"{before} to {state}"
        candidate.state = state
        if before is State.WAITING:
            path.in_flight -= 1
            self.in_flight -= 1
        elif state is State.WAITING:
            path.in_flight += 1
            self.in_flight += 1
        if before not in _OUT:
            _discard(path.list_of(before), distance)
        if state not in _OUT:
            insort(path.list_of(state), distance)
        if before in _OUT and state not in _OUT:
            insort(self._nearest, distance)
        elif state in _OUT and before not in _OUT:
            _discard(self._nearest, distance)
        if before is State.SLOW:
            self._slow.remove(distance)
        elif state is State.SLOW:
            self._slow.add(distance)
