"""What the house asks of a store: records by place, and beside them what this node keeps alive.

A store keeps records that were judged before (`core.record`): it verifies nothing. Whether one gets
in is decided in `store.shelf`, for all stores alike. Each is driven by its own way of opening it,
then by the methods of `Store` in any order, and at the end by `close`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from kademlia_node.core.record import Header, Record
from kademlia_node.settings import EXPIRY_DEFAULT_S

Place = tuple[bytes, bytes, bytes]
"""(key, author, slot): where exactly one record can be. Blobs have no author and no slot."""


FIRST: Final[Place] = (b"", b"", b"")
"""Before every place: no key is empty."""


TTL_MIN_S: Final = 240  # for which a record may be renewed each time: the chore has to keep up


def place_of(record: Record) -> Place:
    """Where a record is."""
    return record.key, record.header.author, record.header.slot


class Outcome(Enum):
    """What became of a record that was put or offered."""

    STORED = auto()  # filed; it had no predecessor, or a lesser one
    WANTED = auto()  # offered only: with its value it would be filed
    HAVE = auto()  # this version was here already; a later expiry was taken over
    OLD = auto()  # a higher version is here
    CONFLICT = auto()  # the current seq is not the expected one
    SHORTENED = auto()  # a successor that would expire before its predecessor
    FOREIGN = auto()  # a topic entry under a key that belongs to a record of a proven kind
    QUOTA = auto()  # no room for this author, this source, or at all
    FULL = auto()  # the disk takes no more; what it has it keeps


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome, and the header that was here before (None: there was none, or FULL).

    `gone` names the keys of other records that were forgotten to make room.
    """

    outcome: Outcome
    current: Header | None
    gone: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """How many records a store holds, and their bytes as the quotas count them."""

    records: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Published:
    """A record of our own that is to be renewed at `renew_at`, in seconds since 1970.

    Each time it is renewed for `ttl_s` seconds, or as long as usual (None).
    """

    record: Record
    renew_at: float
    ttl_s: int | None = None

    @property
    def place(self) -> Place:
        """Where it is, here and in the network."""
        return place_of(self.record)

    @property
    def lifetime_s(self) -> int:
        """For how many seconds it is there each time."""
        return EXPIRY_DEFAULT_S if self.ttl_s is None else self.ttl_s


class Publications(Protocol):
    """The records that this node keeps alive in the network: no quota, and none expires here.

    A record tells its author; whose secret key that takes is for the node to know, never kept here.
    """

    async def due(self, *, wall: float, limit: int) -> list[Published]:
        """Those to be renewed by `wall` (seconds since 1970), `limit` at most.

        Those of the shortest lifetime come first, for they can wait for the least time; of these
        the one that is due soonest.

        One that would wait for longer than any record lives was noted by a clock that was ahead: it
        is due, too.
        """
        ...

    async def get(self, place: Place) -> Published | None:
        """What is kept at one place."""
        ...

    async def page(self, after: Place = FIRST, *, limit: int) -> list[Published]:
        """The first `limit` behind a place, in order of place; empty at the end."""
        ...

    async def count(self) -> int:
        """How many are kept."""
        ...

    async def lifetimes(self) -> dict[int, int]:
        """How many are kept of each lifetime, in seconds."""
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
    """Keeps records by place. `wall` is seconds since 1970; what expired by then is not there.

    One key holds one kind. Blobs and entries prove theirs; where one is held, topic entries are
    FOREIGN, and those that were there before it go when it is put.
    """

    @property
    def publications(self) -> Publications:
        """Kept beside the records, as durably as they are."""
        ...

    async def get(
        self,
        key: bytes,
        *,
        wall: float,
        after: tuple[bytes, bytes] | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        """The records under a key, tombstones included, sorted by (author, slot).

        Args:
            key: 32-byte digest.
            wall: seconds since 1970.
            after: only those behind this (author, slot).
            limit: only so many, the first.
        """
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

    async def offer(
        self,
        key: bytes,
        header: Header,
        *,
        charged_to: bytes,
        wall: float,
        expect_seq: int | None = None,
    ) -> Answer:
        """What `put` would answer to a record whose value is still elsewhere.

        Nothing is filed and nobody makes room: what `put` would file is WANTED, and nothing is
        promised to it. A version that is here takes over a later expiry, which is kept when this
        returns HAVE. That the disk is full may show only when the record is put.

        Args:
            key: 32-byte digest.
            header: it has passed `check_header`.
            charged_to: as for `put`.
            wall: as for `put`.
            expect_seq: as for `put`.
        """
        ...

    async def value(self, value_hash: bytes, *, wall: float) -> bytes | None:
        """The value with this SHA-256, if a record holds it and it is too long to go inline."""
        ...

    async def keys(self, *, wall: float) -> list[bytes]:
        """Every key with a record, sorted."""
        ...

    async def page(self, after: Place = FIRST, *, limit: int, wall: float) -> list[Record]:
        """The first `limit` records behind a place, in order of place; empty at the end."""
        ...

    async def expiring(self, *, after: float, until: float) -> list[bytes]:
        """Every key with a record that expires after the one time and not after the other, sorted.

        Both are seconds since 1970. What was forgotten already is not told.
        """
        ...

    async def sweep(self, *, wall: float) -> int:
        """Forget what expired `expired_grace_s` ago; returns how many records that were.

        Nothing is forgotten in the first `expired_grace_s` after the start, or after `wall` leapt
        by more than that: a clock so new may be wrong, and the expired are hidden all the same.
        """
        ...

    async def usage(self) -> Usage:
        """What is held and counts in the quotas, the expired included until they are forgotten."""
        ...

    async def close(self) -> None:
        """Release what the store holds open. Safe to call twice."""
        ...
