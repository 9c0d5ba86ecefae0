"""The one place where it is decided whether a record gets in, whatever a store is made of.

`decide` weighs a newcomer against its predecessor and the quotas and says what to file and what to
evict. A `Shelf` does so in one step; a store makes one by saying how records are added and removed.
Refuses to know how records are kept, and what is in their values; `wall` tells it the time.

Kinds: anyone can sign topic entries under any key, also that of a blob or an entry. Whoever reads
it would have to wade through all of these squatters, so a shelf keeps one kind under each key.

Quotas: a record counts its value and a fixed overhead, tombstones too. Its bytes are charged to its
author, to the network prefix of the peer that sent it, and to the whole. Over their share authors
and prefixes are refused; that also bounds a single topic, whose entries are anybody's. When the
whole is full, the records farthest from our own ID make room for nearer ones, and of those under
one key the soonest to expire go first. What has expired counts until it is forgotten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf

from kademlia_node.core.ids import distance
from kademlia_node.core.key import Kind
from kademlia_node.core.record import Header, Record, Verdict, supersedes
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import Settings
from kademlia_node.store.base import Answer, Outcome, Place, Usage


@dataclass(frozen=True, slots=True)
class Holding:
    """A stored record without its value: what decisions are made of."""

    key: bytes
    header: Header
    charged_to: bytes
    size_bytes: int

    @classmethod
    def of(cls, key: bytes, header: Header, *, charged_to: bytes, settings: Settings) -> Holding:
        """The holding that a record of this header is, or would be."""
        return cls(key, header, charged_to, header.length + settings.record_overhead_bytes)

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.key, self.header.author, self.header.slot

    def rank(self, own_id: bytes) -> tuple[int, int]:
        """The higher, the sooner it is evicted: by distance from us, then by nearness of expiry."""
        return distance(self.key, own_id), -self.header.expires


class Ledger:
    """Bytes in use, in all and by author and prefix. A store tells it of every change."""

    def __init__(self, settings: Settings) -> None:
        self._bytes_max = settings.store_bytes_max
        self._author_bytes_max = settings.store_share_per_author * settings.store_bytes_max
        self._prefix_bytes_max = settings.store_share_per_prefix * settings.store_bytes_max
        self._records = 0
        self._in_all = 0
        self._by_author: Counter[bytes] = Counter()
        self._by_prefix: Counter[bytes] = Counter()

    @property
    def usage(self) -> Usage:
        """What is held in all."""
        return Usage(self._records, self._in_all)

    def charge(self, holding: Holding) -> None:
        """Count a record that is now held."""
        self.add(holding.header.author, holding.charged_to, size_bytes=holding.size_bytes)

    def refund(self, holding: Holding) -> None:
        """Stop counting a record that was charged."""
        self.add(
            holding.header.author, holding.charged_to, size_bytes=-holding.size_bytes, records=-1
        )

    def add(self, author: bytes, prefix: bytes, *, size_bytes: int, records: int = 1) -> None:
        """Count so many more records of one author and one prefix; negative: fewer."""
        self._records += records
        self._in_all += size_bytes
        for account, owner in ((self._by_author, author), (self._by_prefix, prefix)):
            account[owner] += size_bytes
            if not account[owner]:
                del account[owner]  # else every stranger who ever wrote would be remembered

    def over_share(self, newcomer: Holding, old: Holding | None) -> bool:
        """Whether its author or its sender would own too much, were it in the place of `old`."""
        author, prefix = newcomer.header.author, newcomer.charged_to
        by_author = self._by_author[author] + newcomer.size_bytes
        by_prefix = self._by_prefix[prefix] + newcomer.size_bytes
        if old is not None:
            by_author -= old.size_bytes
            by_prefix -= old.size_bytes if old.charged_to == prefix else 0
        return (author != b"" and by_author > self._author_bytes_max) or (
            prefix != b"" and by_prefix > self._prefix_bytes_max
        )

    def excess(self, newcomer: Holding, old: Holding | None) -> int:
        """How many bytes must go before it fits in the place of `old`; not positive: none."""
        freed = old.size_bytes if old is not None else 0
        return self._in_all - freed + newcomer.size_bytes - self._bytes_max


@dataclass(frozen=True, slots=True)
class Decision:
    """What a shelf is to do.

    Attributes:
        outcome: what the sender is told.
        renew: this record is held, but gets this header; its value is here already.
        file: this one is filed, once those of `remove` are gone.
        remove: the predecessor, and who makes room.
    """

    outcome: Outcome
    renew: Holding | None = None
    file: Holding | None = None
    remove: tuple[Holding, ...] = ()


def decide(
    newcomer: Holding,
    old: Holding | None,
    *,
    expect_seq: int | None,
    ledger: Ledger,
    own_id: bytes,
    farthest: Iterable[Holding],
) -> Decision:
    """What becomes of a newcomer whose place is taken by `old` (None: by nobody).

    `farthest` yields what is held by descending rank; it is read only as far as room is needed.
    """
    verdict = supersedes(newcomer.header, old.header if old is not None else None)
    if verdict is Verdict.SAME:
        return Decision(Outcome.HAVE)
    if old is not None and verdict is Verdict.RENEWAL:
        return Decision(Outcome.HAVE, renew=replace(newcomer, charged_to=old.charged_to))
    if expect_seq is not None and expect_seq != (old.header.seq if old is not None else 0):
        return Decision(Outcome.CONFLICT)
    if verdict is Verdict.OLDER:
        return Decision(Outcome.OLD)
    if verdict is Verdict.SHORTENED:
        return Decision(Outcome.SHORTENED)
    if old is not None and newcomer.size_bytes <= old.size_bytes:
        # Whoever filled the store, deleting stays possible. The charge stays where it was, else
        # rewriting from prefix to prefix would escape the shares.
        filed = replace(newcomer, charged_to=old.charged_to)
        return Decision(Outcome.STORED, file=filed, remove=(old,))
    if ledger.over_share(newcomer, old):
        return Decision(Outcome.QUOTA)
    excess = ledger.excess(newcomer, old)
    victims = _victims(newcomer, excess=excess, own_id=own_id, farthest=farthest)
    if victims is None:
        return Decision(Outcome.QUOTA)
    predecessor = (old,) if old is not None else ()
    return Decision(Outcome.STORED, file=newcomer, remove=(*predecessor, *victims))


def _victims(
    newcomer: Holding, *, excess: int, own_id: bytes, farthest: Iterable[Holding]
) -> tuple[Holding, ...] | None:
    """Who makes room for `excess` bytes; None when those of higher rank do not hold as many."""
    victims: list[Holding] = []
    own_rank = newcomer.rank(own_id)
    candidates = iter(farthest)
    while excess > 0:
        holding = next(candidates, None)
        if holding is None or holding.rank(own_id) <= own_rank:
            return None
        if holding.place != newcomer.place:  # its predecessor goes anyway
            victims.append(holding)
            excess -= holding.size_bytes
    return tuple(victims)


class Shelf(ABC):
    """Holdings and their values. Synchronous: whoever drives it makes each call one step.

    Attributes:
        own_id: the node ID (32 bytes) from which distances are counted.
        settings: quotas and limits.
        ledger: told by whatever adds and removes of every change.
    """

    def __init__(self, own_id: bytes, *, settings: Settings) -> None:
        self.own_id = own_id
        self.settings = settings
        self.ledger = Ledger(settings)
        self._wall = -inf  # when we were last asked to forget
        self._settled_at = -inf  # from then on we believe the clock

    @abstractmethod
    def held_at(self, place: Place) -> Holding | None:
        """What is there, expired or not."""

    @abstractmethod
    def farthest(self) -> Iterator[Holding]:
        """All that is held, by descending rank."""

    @abstractmethod
    def add(self, holding: Holding, value: bytes) -> None:
        """Put a record where none is."""

    @abstractmethod
    def renew(self, holding: Holding) -> None:
        """Give the record at this place another header; its value and its charges stay."""

    @abstractmethod
    def remove(self, holding: Holding) -> None:
        """Take away a record that is there."""

    @abstractmethod
    def kind_at(self, key: bytes) -> Kind | None:
        """Of which kind the first record under a key is, expired or not; None: there is none."""

    @abstractmethod
    def remove_topic(self, key: bytes) -> None:
        """Take away all topic entries under a key."""

    @abstractmethod
    def forget(self, wall: float) -> int:
        """Forget what has expired by `wall`, or some of it; returns how many records that were."""

    def forget_expired(self, wall: float) -> int:
        """See `Store.sweep`; some of it at least."""
        grace_s = self.settings.expired_grace_s
        if wall < self._wall:
            sometimes(Rare.CLOCK_WENT_BACK)
        leapt = abs(wall - self._wall) > grace_s  # or this is the first we hear of the clock
        # A second leap ahead begins no new wait: else who looks seldom would never forget.
        if leapt and (wall < self._wall or self._wall >= self._settled_at):
            self._settled_at = wall + grace_s
        self._wall = wall
        return self.forget(wall - grace_s) if wall >= self._settled_at else 0

    def put(
        self, record: Record, *, charged_to: bytes, wall: float, expect_seq: int | None
    ) -> Answer:
        """See `Store`."""
        assert len(record.value) == record.header.length
        if record.header.kind is not Kind.TOPIC:  # with its value, it proves whose key this is
            self.remove_topic(record.key)
        newcomer = self._newcomer(record.key, record.header, charged_to=charged_to)
        decision, current = self._meet(newcomer, wall=wall, expect_seq=expect_seq)
        if decision.file is not None:
            for holding in decision.remove:
                self.remove(holding)
            self.add(decision.file, record.value)
        gone = (holding.key for holding in decision.remove if holding.place != newcomer.place)
        return Answer(decision.outcome, current, tuple(gone))

    def offer(
        self, key: bytes, header: Header, *, charged_to: bytes, wall: float, expect_seq: int | None
    ) -> Answer:
        """See `Store`."""
        newcomer = self._newcomer(key, header, charged_to=charged_to)
        decision, current = self._meet(newcomer, wall=wall, expect_seq=expect_seq)
        wanted = decision.outcome is Outcome.STORED
        return Answer(Outcome.WANTED if wanted else decision.outcome, current)

    def _newcomer(self, key: bytes, header: Header, *, charged_to: bytes) -> Holding:
        return Holding.of(key, header, charged_to=charged_to, settings=self.settings)

    def _meet(
        self, newcomer: Holding, *, wall: float, expect_seq: int | None
    ) -> tuple[Decision, Header | None]:
        """Decide on a newcomer, and do what needs no value; returns also the header it found."""
        self.forget_expired(wall)
        if self._is_foreign(newcomer):
            return Decision(Outcome.FOREIGN), None
        old = self._predecessor(newcomer, wall=wall)
        decision = decide(
            newcomer,
            old,
            expect_seq=expect_seq,
            ledger=self.ledger,
            own_id=self.own_id,
            farthest=self.farthest(),
        )
        if decision.renew is not None:
            self.renew(decision.renew)
        return decision, old.header if old is not None else None

    def _is_foreign(self, newcomer: Holding) -> bool:
        """Whether it squats: a key stays proven also while what proved it waits to be forgotten."""
        if newcomer.header.kind is not Kind.TOPIC:
            return False
        return self.kind_at(newcomer.key) not in {None, Kind.TOPIC}

    def _predecessor(self, newcomer: Holding, *, wall: float) -> Holding | None:
        """What it has to supersede; what has expired, or squats at its very place, goes now."""
        old = self.held_at(newcomer.place)
        if old is None:
            return None
        if old.header.expires <= wall or old.header.kind is not newcomer.header.kind:
            self.remove(old)
            return None
        return old
