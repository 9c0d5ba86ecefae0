"""What somebody who watches a key was told, and what is to be told next: once, and in order.

Several holders tell of the same change, late ones of what is over, and each at its own time. So a
change is held back for a moment; those of one author then come out in the order of their numbers.
What is told is a *change*: a renewal, which alters nothing but how long a record lives, is none.

Not known here: who tells, and whether it is true (`node.watch` judges it first). Driven by
`on_record` for each record that was heard of; `due` hands out what is to be told now, and
`next_due` says when to ask again. Records that have come to their end are told by `expire`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from kademlia_node.core.digest import NOTHING, Versions
from kademlia_node.core.key import Spot
from kademlia_node.core.record import Header
from kademlia_node.rare import Rare, sometimes

STALE_MAX = 64  # expiries of earlier versions, beyond one for each entry
SHARES = 4  # of the places: an author that has one of them leaves the last one to others


class ChangeKind(StrEnum):
    """What has become of an entry."""

    SET = "set"  # written, or overwritten
    WITHDRAWN = "withdrawn"  # deleted by its author
    EXPIRED = "expired"  # not renewed


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one entry.

    Attributes:
        kind: What it is.
        author: 32 bytes.
        slot: The author's name for the entry.
        value: The new one; None unless it was set.
        seq: Of this version, by custom microseconds since 1970; of an expired one, its last.
        expires: When it does, or did, in seconds since 1970.
    """

    kind: ChangeKind
    author: bytes
    slot: bytes
    value: bytes | None
    seq: int
    expires: int


@dataclass(slots=True)
class _Pending:
    """A change that is held back until `at`."""

    header: Header
    value: bytes
    at: float


class Feed:
    """The changes under one key.

    Args:
        settle_s: How long a change is held back, for earlier ones of its author may come.
        entries_max: How many entries are remembered, up to three quarters of them of one author; a
            new one beyond that is left out until one of them has expired. That share is for the
            careless: whoever is hostile has many keys.
        bytes_max: Of values held back; what comes beyond is left out for now.

    Attributes:
        has_missed: Whether a value was left out since this was last set to False.
        is_crowded: Whether an entry was, since this was.
    """

    def __init__(self, *, settle_s: float, entries_max: int, bytes_max: int) -> None:
        self._settle_s = settle_s
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._latest: dict[Spot, Header] = {}
        self._per_author: Counter[bytes] = Counter()
        self._expiries: list[tuple[int, Spot]] = []  # a heap; some are of earlier versions
        self._pending: list[_Pending] = []
        self._pending_bytes = 0
        self.has_missed = False
        self.is_crowded = False

    def wants(self, header: Header) -> bool:
        """Whether the value of this version matters: it was not heard of, and there is a place.

        If it was, and lives longer than we knew, that is noted.
        """
        known = self._latest.get((header.author, header.slot))
        if known is None:
            has_place = self._has_place(header.author)
            self.is_crowded |= not has_place
            return has_place
        if known.version == header.version and known.expires < header.expires:
            self._remember(header)
        return known.version < header.version

    def _has_place(self, author: bytes) -> bool:
        share = self._entries_max // SHARES
        reserved = share if self._per_author[author] >= share else 0
        return len(self._latest) < self._entries_max - reserved

    def on_record(self, header: Header, value: bytes, *, now: float) -> bool:
        """A record that verifies, with its whole value; returns whether it is to be told."""
        if not self.wants(header):
            return False
        is_new = (header.author, header.slot) not in self._latest
        if self._pending and self._pending_bytes + len(value) > self._bytes_max:
            sometimes(Rare.NEWS_MISSED)
            self.has_missed = True
            return False
        self._remember(header)
        if is_new and header.is_tombstone:
            return False  # the end of what nobody was told of
        self._pending_bytes += len(value)
        self._pending.append(_Pending(header, value, now + self._settle_s))
        return True

    def next_due(self) -> float | None:
        """When `due` hands out the next change; None while none is held back."""
        return min((pending.at for pending in self._pending), default=None)

    def due(self, now: float) -> list[Change]:
        """What is to be told now; with a change also the earlier ones of its author."""
        last: dict[bytes, int] = {}
        for one in self._pending:
            if one.at <= now:
                author, seq = one.header.author, one.header.seq
                last[author] = max(seq, last.get(author, seq))
        ready: list[_Pending] = []
        held: list[_Pending] = []
        for one in self._pending:
            is_ready = one.header.seq <= last.get(one.header.author, -1)
            if is_ready and one.at > now:
                sometimes(Rare.NEWS_SORTED)
            (ready if is_ready else held).append(one)
        self._pending = held
        self._pending_bytes = sum(len(one.value) for one in held)
        return [_change(one) for one in sorted(ready, key=lambda one: one.header.seq)]

    def next_expiry(self) -> int | None:
        """When the first entry expires, in seconds since 1970."""
        while self._expiries:
            expires, spot = self._expiries[0]
            header = self._latest.get(spot)
            if header is not None and header.expires == expires:
                return expires
            heapq.heappop(self._expiries)
        return None

    def expire(self, wall: float) -> list[Change]:
        """Forget what has expired; what was there until then is a change."""
        gone: list[Change] = []
        while (expires := self.next_expiry()) is not None and expires <= wall:
            header = self._latest.pop(heapq.heappop(self._expiries)[1])
            self._per_author[header.author] -= 1
            if not self._per_author[header.author]:
                del self._per_author[header.author]
            if not header.is_tombstone:
                gone.append(_end(header))
        return gone

    def versions(self, wall: float) -> bytes:
        """The digest of all we know that has not expired, as holders tell theirs: 8 bytes."""
        there = [spot for spot, header in self._latest.items() if header.expires > wall]
        if not there:
            return NOTHING
        versions = Versions()
        for spot in sorted(there):
            versions.add(self._latest[spot])
        return versions.digest()

    def _remember(self, header: Header) -> None:
        spot = header.author, header.slot
        self._per_author[header.author] += spot not in self._latest
        self._latest[spot] = header
        heapq.heappush(self._expiries, (header.expires, spot))
        if len(self._expiries) > 2 * len(self._latest) + STALE_MAX:
            self._expiries = [(latest.expires, spot) for spot, latest in self._latest.items()]
            heapq.heapify(self._expiries)


def _change(one: _Pending) -> Change:
    header = one.header
    kind = ChangeKind.WITHDRAWN if header.is_tombstone else ChangeKind.SET
    value = None if header.is_tombstone else one.value
    return Change(kind, header.author, header.slot, value, header.seq, header.expires)


def _end(header: Header) -> Change:
    expired = ChangeKind.EXPIRED
    return Change(expired, header.author, header.slot, None, header.seq, header.expires)
