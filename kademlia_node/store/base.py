"""What the house asks of a store, and the one place where it is decided whether a record gets in.

A store keeps records that were judged before (`core.record`): it verifies nothing. `decide` weighs
a newcomer against its predecessor and the quotas and says what to file and what to evict; a store
only does as told, in one step. So all stores agree, whatever they are made of.

Quotas: a record counts its value and a fixed overhead, tombstones too. Its bytes are charged to its
author, to the network prefix of the peer that sent it, and to the whole. Over their share authors
and prefixes are refused; that also bounds a single topic, whose entries are anybody's. When the
whole is full, the records farthest from our own ID make room for nearer ones, and of those under
one key the soonest to expire go first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Protocol

from kademlia_node.core.ids import distance
from kademlia_node.core.record import Header, Record, Verdict, supersedes
from kademlia_node.settings import Settings

Place = tuple[bytes, bytes, bytes]
"""(key, author, slot): where exactly one record can be. Blobs have no author and no slot."""


FIRST: Final[Place] = (b"", b"", b"")
"""Before every place: no key is empty."""


def place_of(record: Record) -> Place:
    """Where a record is."""
    return record.key, record.header.author, record.header.slot


class Outcome(Enum):
    """What became of a record that was put."""

    STORED = auto()  # filed; it had no predecessor, or a lesser one
    HAVE = auto()  # this version was here already; a later expiry was taken over
    OLD = auto()  # a higher version is here
    CONFLICT = auto()  # the current seq is not the expected one
    SHORTENED = auto()  # a successor that would expire before its predecessor
    QUOTA = auto()  # no room for this author, this source, or at all
    FULL = auto()  # the disk takes no more; what it has it keeps


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome, and the header that was here before (None: there was none, or FULL)."""

    outcome: Outcome
    current: Header | None


@dataclass(frozen=True, slots=True)
class Usage:
    """How many records a store holds, and their bytes as the quotas count them."""

    records: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Published:
    """A record of our own that is to be renewed at `renew_at`, in seconds since 1970."""

    record: Record
    renew_at: float

    @property
    def place(self) -> Place:
        """Where it is, here and in the network."""
        return place_of(self.record)


class Publications(Protocol):
    """The records that this node keeps alive in the network: no quota, and none expires here.

    A record tells its author; whose secret key that takes is for the node to know, never kept here.
    """

    async def load(self) -> list[Published]:
        """All of them, sorted by place."""
        ...

    async def keep(self, published: Published) -> None:
        """Keep it instead of whatever is at its place; when this returns, it is kept.

        Raises:
            SetupError: the disk takes no more.
        """
        ...

    async def drop(self, place: Place) -> None:
        """Keep nothing at this place any longer; nothing may be there.

        Raises:
            SetupError: the disk takes no more.
        """
        ...


class Store(Protocol):
    """Keeps records by place. `wall` is seconds since 1970; what expired by then is not there."""

    @property
    def publications(self) -> Publications:
        """Kept beside the records, as durably as they are."""
        ...

    async def get(self, key: bytes, *, wall: float) -> list[Record]:
        """All records under a key, tombstones included, sorted by (author, slot)."""
        ...

    async def get_one(
        self, key: bytes, *, author: bytes, slot: bytes, wall: float
    ) -> Record | None:
        """The record at one place; a blob's author and slot are empty."""
        ...

    async def put(
        self, record: Record, *, charged_to: bytes, wall: float, expect_seq: int | None = None
    ) -> Answer:
        """File a record that has been judged; when this returns STORED or HAVE, it is kept.

        Args:
            record: its header and value have passed `check_header` and `check_value`.
            charged_to: the prefix of the peer that sent it (`contact.prefix`), or empty for what
                we put or repaired ourselves.
            wall: seconds since 1970.
            expect_seq: file it only if the current seq is this one (0: nothing is there). A version
                that is here already answers HAVE all the same, so a repeat is harmless.
        """
        ...

    async def keys(self, *, wall: float) -> list[bytes]:
        """Every key with a record, sorted."""
        ...

    async def page(self, after: Place = FIRST, *, limit: int, wall: float) -> list[Record]:
        """The first `limit` records behind a place, in order of place; empty at the end."""
        ...

    async def sweep(self, *, wall: float) -> int:
        """Forget what has expired; returns how many records that were."""
        ...

    async def usage(self) -> Usage:
        """What is held, the expired included until they are swept."""
        ...

    async def close(self) -> None:
        """Release what the store holds open. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class Holding:
    """A stored record without its value: what decisions are made of."""

    key: bytes
    header: Header
    charged_to: bytes
    size_bytes: int

    @classmethod
    def of(cls, record: Record, *, charged_to: bytes, settings: Settings) -> Holding:
        """The holding that a record would be."""
        size_bytes = record.header.length + settings.record_overhead_bytes
        return cls(record.key, record.header, charged_to, size_bytes)

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
    """What a store is to do: evict the victims, then file the holding (None: nothing)."""

    outcome: Outcome
    file: Holding | None = None
    victims: tuple[Holding, ...] = ()


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
        return Decision(Outcome.HAVE, replace(newcomer, charged_to=old.charged_to))
    if expect_seq is not None and expect_seq != (old.header.seq if old is not None else 0):
        return Decision(Outcome.CONFLICT)
    if verdict is Verdict.OLDER:
        return Decision(Outcome.OLD)
    if verdict is Verdict.SHORTENED:
        return Decision(Outcome.SHORTENED)
    if old is not None and newcomer.size_bytes <= old.size_bytes:
        # Whoever filled the store, deleting stays possible. The charge stays where it was, else
        # rewriting from prefix to prefix would escape the shares.
        return Decision(Outcome.STORED, replace(newcomer, charged_to=old.charged_to))
    if ledger.over_share(newcomer, old):
        return Decision(Outcome.QUOTA)
    excess = ledger.excess(newcomer, old)
    victims = _victims(newcomer, excess=excess, own_id=own_id, farthest=farthest)
    if victims is None:
        return Decision(Outcome.QUOTA)
    return Decision(Outcome.STORED, newcomer, victims)


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
