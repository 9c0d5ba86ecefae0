"""A store of dicts and sorted lists: for simulations, and for nodes that keep nothing.

Decides nothing itself (`store.shelf`) and forgets everything when the process ends. The lists are
kept sorted rather than searched when asked; an insertion moves pointers, which at the records a
test holds costs less than the put around it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator
from heapq import nsmallest
from itertools import chain, islice
from typing import Any, TypeVar

from kademlia_node.core.key import Kind
from kademlia_node.core.record import Header, Record
from kademlia_node.settings import EXPIRY_DEFAULT_S, INLINE_BYTES_MAX, Settings
from kademlia_node.store.base import FIRST, Answer, Place, Published, Usage
from kademlia_node.store.shelf import Holding, Shelf

Rank = tuple[int, int]
Entry = TypeVar("Entry", bound=bytes | tuple[Any, ...])


class MemoryPublications:
    """See `Publications`."""

    def __init__(self) -> None:
        self._by_place: dict[Place, Published] = {}

    async def due(self, *, wall: float, limit: int) -> list[Published]:
        """See `Publications`."""

        def order(one: Published) -> tuple[bool, int, float, Place]:
            return one.renew_at > wall, one.lifetime_s, one.renew_at, one.place

        due = (
            published
            for published in self._by_place.values()
            if published.renew_at <= wall or published.renew_at > wall + EXPIRY_DEFAULT_S
        )
        return nsmallest(limit, due, key=order)

    async def get(self, place: Place) -> Published | None:
        """See `Publications`."""
        return self._by_place.get(place)

    async def page(self, after: Place = FIRST, *, limit: int) -> list[Published]:
        """See `Publications`."""
        behind = nsmallest(limit, (place for place in self._by_place if place > after))
        return [self._by_place[place] for place in behind]

    async def count(self) -> int:
        """See `Publications`."""
        return len(self._by_place)

    async def lifetimes(self) -> dict[int, int]:
        """See `Publications`."""
        return Counter(published.lifetime_s for published in self._by_place.values())

    async def keep(self, published: Published) -> None:
        """See `Publications`."""
        self._by_place[published.place] = published

    async def drop(self, place: Place) -> None:
        """See `Publications`."""
        self._by_place.pop(place, None)


class MemoryStore:
    """See `Store`. `own_id` is the node ID (32 bytes) from which distances are counted."""

    def __init__(self, own_id: bytes, *, settings: Settings) -> None:
        self._shelf = MemoryShelf(own_id, settings=settings)
        self.publications = MemoryPublications()

    async def get(
        self,
        key: bytes,
        *,
        wall: float,
        after: tuple[bytes, bytes] | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        """See `Store`."""
        return list(islice(_alive(self._shelf.under(key, after=after), wall=wall), limit))

    async def get_one(
        self, key: bytes, *, author: bytes, slot: bytes, wall: float
    ) -> Record | None:
        """See `Store`."""
        record = self._shelf.record_at((key, author, slot))
        return record if record is not None and record.header.expires > wall else None

    async def put(
        self, record: Record, *, charged_to: bytes, wall: float, expect_seq: int | None = None
    ) -> Answer:
        """See `Store`."""
        return self._shelf.put(record, charged_to=charged_to, wall=wall, expect_seq=expect_seq)

    async def offer(
        self,
        key: bytes,
        header: Header,
        *,
        charged_to: bytes,
        wall: float,
        expect_seq: int | None = None,
    ) -> Answer:
        """See `Store`."""
        return self._shelf.offer(
            key, header, charged_to=charged_to, wall=wall, expect_seq=expect_seq
        )

    async def value(self, value_hash: bytes, *, wall: float) -> bytes | None:
        """See `Store`."""
        alive = _alive(self._shelf.with_value(value_hash), wall=wall)
        return next((record.value for record in alive), None)

    async def keys(self, *, wall: float) -> list[bytes]:
        """See `Store`."""
        alive = _alive(self._shelf.behind(FIRST), wall=wall)
        return list(dict.fromkeys(record.key for record in alive))

    async def page(self, after: Place = FIRST, *, limit: int, wall: float) -> list[Record]:
        """See `Store`."""
        return list(islice(_alive(self._shelf.behind(after), wall=wall), limit))

    async def expiring(self, *, after: float, until: float) -> list[bytes]:
        """See `Store`."""
        return self._shelf.expiring(after, until)

    async def sweep(self, *, wall: float) -> int:
        """See `Store`."""
        return self._shelf.forget_expired(wall)

    async def usage(self) -> Usage:
        """See `Store`."""
        return self._shelf.ledger.usage

    async def close(self) -> None:
        """See `Store`; there is nothing to release."""


def _alive(records: Iterator[Record], *, wall: float) -> Iterator[Record]:
    return (record for record in records if record.header.expires > wall)


class MemoryShelf(Shelf):
    """See `Shelf`. What it yields must be read before the next change."""

    def __init__(self, own_id: bytes, *, settings: Settings) -> None:
        super().__init__(own_id, settings=settings)
        self._held: dict[Place, tuple[Holding, bytes]] = {}
        self._keys: list[bytes] = []  # in order
        self._under: dict[bytes, list[Place]] = {}  # by key, in order
        self._by_expiry: list[tuple[int, Place]] = []
        self._by_rank: list[tuple[Rank, Place]] | None = None  # until somebody has to make room
        self._by_value: dict[bytes, set[Place]] = {}  # only of those too long to go inline

    # --- Reading, the expired included ------------------------------------------------------------

    def record_at(self, place: Place) -> Record | None:
        """The record at one place."""
        return self._record(place) if place in self._held else None

    def behind(self, place: Place) -> Iterator[Record]:
        """The records behind a place, in order."""
        key = place[0]
        later = (self._keys[i] for i in range(bisect_right(self._keys, key), len(self._keys)))
        behind_it = chain.from_iterable(map(self.under, later))
        return chain(self.under(key, after=place[1:]), behind_it)

    def under(self, key: bytes, *, after: tuple[bytes, bytes] | None = None) -> Iterator[Record]:
        """The records under a key, in order; only those behind an (author, slot), if given."""
        places = self._under.get(key, [])
        first = 0 if after is None else bisect_right(places, (key, *after))
        return (self._record(places[i]) for i in range(first, len(places)))

    def with_value(self, value_hash: bytes) -> Iterator[Record]:
        """The records whose value has this SHA-256 and is too long to go inline."""
        return map(self._record, self._by_value.get(value_hash, ()))

    def expiring(self, after: float, until: float) -> list[bytes]:
        """The keys of records that expire after the one time and not after the other, sorted."""
        first, last = (bisect_right(self._by_expiry, at, key=_expiry) for at in (after, until))
        return sorted({place[0] for _, place in self._by_expiry[first:last]})

    def _record(self, place: Place) -> Record:
        holding, value = self._held[place]
        return Record(place[0], holding.header, value)

    # --- What a shelf does ------------------------------------------------------------------------

    def held_at(self, place: Place) -> Holding | None:
        """See `Shelf`."""
        found = self._held.get(place)
        return found[0] if found is not None else None

    def farthest(self) -> Iterator[Holding]:
        """See `Shelf`. Most stores are never full, and need no such order."""
        if self._by_rank is None:
            own = self.own_id
            self._by_rank = sorted((h.rank(own), place) for place, (h, _) in self._held.items())
        for _, place in reversed(self._by_rank):
            yield self._held[place][0]

    def add(self, holding: Holding, value: bytes) -> None:
        """See `Shelf`."""
        place, header = holding.place, holding.header
        self._held[place] = holding, value
        if holding.key in self._under:
            insort(self._under[holding.key], place)
        else:
            self._under[holding.key] = [place]
            insort(self._keys, holding.key)
        insort(self._by_expiry, (header.expires, place))
        if self._by_rank is not None:
            insort(self._by_rank, (holding.rank(self.own_id), place))
        if header.length > INLINE_BYTES_MAX:
            self._by_value.setdefault(header.value_hash, set()).add(place)
        self.ledger.charge(holding)

    def renew(self, holding: Holding) -> None:
        """See `Shelf`."""
        old, value = self._held[holding.place]
        self.remove(old)
        self.add(holding, value)

    def remove(self, holding: Holding) -> None:
        """See `Shelf`."""
        place = holding.place
        _remove_from(self._by_expiry, (holding.header.expires, place))
        if self._by_rank is not None:
            _remove_from(self._by_rank, (holding.rank(self.own_id), place))
        if self._forget(place):
            _remove_from(self._keys, holding.key)

    def kind_at(self, key: bytes) -> Kind | None:
        """See `Shelf`."""
        first = next(self.under(key), None)
        return first.header.kind if first is not None else None

    def remove_topic(self, key: bytes) -> None:
        """See `Shelf`."""
        for place in list(self._under.get(key, ())):
            if (holding := self._held[place][0]).header.kind is Kind.TOPIC:
                self.remove(holding)

    def forget(self, wall: float) -> int:
        """See `Shelf`; all at once: one by one, many records of one expiry would take long."""
        cut = bisect_right(self._by_expiry, wall, key=_expiry)
        gone = {place for _, place in self._by_expiry[:cut]}
        if gone:
            del self._by_expiry[:cut]
            emptied = [self._forget(place) for place in gone]
            if any(emptied):
                self._keys = [key for key in self._keys if key in self._under]
            if self._by_rank is not None:
                self._by_rank = [entry for entry in self._by_rank if entry[1] not in gone]
        return len(gone)

    def _forget(self, place: Place) -> bool:
        """All but its entries in the long lists; whether it was the last under its key."""
        holding, _ = self._held.pop(place)
        value_hash = holding.header.value_hash
        beside = self._by_value.get(value_hash, set())
        beside.discard(place)
        if not beside:
            self._by_value.pop(value_hash, None)
        self.ledger.refund(holding)
        _remove_from(self._under[holding.key], place)
        if self._under[holding.key]:
            return False
        del self._under[holding.key]
        return True


def _expiry(entry: tuple[int, Place]) -> int:
    return entry[0]


def _remove_from(entries: list[Entry], entry: Entry) -> None:
    del entries[bisect_left(entries, entry)]
