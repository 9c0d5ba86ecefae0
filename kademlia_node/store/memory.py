"""A store of dicts and sorted lists: for simulations, and for nodes that keep nothing.

Decides nothing itself (`store.base.decide`) and forgets everything when the process ends. The two
lists are kept sorted rather than searched when full; an insertion moves pointers, which at the
records a test holds costs less than the put around it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from kademlia_node.core.record import Record
from kademlia_node.settings import Settings
from kademlia_node.store.base import (
    FIRST,
    Answer,
    Holding,
    Ledger,
    Place,
    Published,
    Usage,
    decide,
)


class MemoryPublications:
    """See `Publications`."""

    def __init__(self) -> None:
        self._by_place: dict[Place, Published] = {}

    async def load(self) -> list[Published]:
        """See `Publications`."""
        return [published for _, published in sorted(self._by_place.items())]

    async def keep(self, published: Published) -> None:
        """See `Publications`."""
        self._by_place[published.place] = published

    async def drop(self, place: Place) -> None:
        """See `Publications`."""
        self._by_place.pop(place, None)


class MemoryStore:
    """See `Store`. `own_id` is the node ID (32 bytes) from which distances are counted."""

    def __init__(self, own_id: bytes, *, settings: Settings) -> None:
        self._own_id = own_id
        self._settings = settings
        self._ledger = Ledger(settings)
        self._by_key: dict[bytes, dict[Place, tuple[Holding, bytes]]] = {}
        self._by_expiry: list[tuple[int, Place]] = []
        self._by_rank: list[tuple[tuple[int, int], Place]] = []
        self.publications = MemoryPublications()

    async def get(self, key: bytes, *, wall: float) -> list[Record]:
        """See `Store`."""
        held = self._by_key.get(key, {})
        return [
            Record(key, holding.header, value)
            for _, (holding, value) in sorted(held.items())
            if holding.header.expires > wall
        ]

    async def get_one(
        self, key: bytes, *, author: bytes, slot: bytes, wall: float
    ) -> Record | None:
        """See `Store`."""
        found = self._by_key.get(key, {}).get((key, author, slot))
        if found is None or found[0].header.expires <= wall:
            return None
        holding, value = found
        return Record(key, holding.header, value)

    async def put(
        self, record: Record, *, charged_to: bytes, wall: float, expect_seq: int | None = None
    ) -> Answer:
        """See `Store`."""
        assert len(record.value) == record.header.length
        self._forget_expired(wall)
        newcomer = Holding.of(record, charged_to=charged_to, settings=self._settings)
        old = self._held_at(newcomer.place)
        decision = decide(
            newcomer,
            old,
            expect_seq=expect_seq,
            ledger=self._ledger,
            own_id=self._own_id,
            farthest=self._farthest(),
        )
        for victim in decision.victims:
            self._remove(victim)
        if decision.file is not None:
            if old is not None:
                self._remove(old)
            self._add(decision.file, record.value)
        return Answer(decision.outcome, old.header if old is not None else None)

    async def keys(self, *, wall: float) -> list[bytes]:
        """See `Store`."""
        alive = bisect_left(self._by_expiry, int(wall) + 1, key=lambda entry: entry[0])
        return sorted({place[0] for _, place in self._by_expiry[alive:]})

    async def page(self, after: Place = FIRST, *, limit: int, wall: float) -> list[Record]:
        """See `Store`; sorts all that is held each time."""
        alive = (
            (place, found)
            for beside in self._by_key.values()
            for place, found in beside.items()
            if place > after and found[0].header.expires > wall
        )
        in_order = sorted(alive, key=lambda entry: entry[0])[:limit]
        return [Record(place[0], holding.header, value) for place, (holding, value) in in_order]

    async def sweep(self, *, wall: float) -> int:
        """See `Store`."""
        return self._forget_expired(wall)

    async def usage(self) -> Usage:
        """See `Store`."""
        return self._ledger.usage

    async def close(self) -> None:
        """See `Store`; there is nothing to release."""

    def _held_at(self, place: Place) -> Holding | None:
        found = self._by_key.get(place[0], {}).get(place)
        return found[0] if found is not None else None

    def _farthest(self) -> Iterator[Holding]:
        for _, place in reversed(self._by_rank):
            yield self._by_key[place[0]][place][0]

    def _add(self, holding: Holding, value: bytes) -> None:
        self._by_key.setdefault(holding.key, {})[holding.place] = (holding, value)
        insort(self._by_expiry, (holding.header.expires, holding.place))
        insort(self._by_rank, (holding.rank(self._own_id), holding.place))
        self._ledger.charge(holding)

    def _remove(self, holding: Holding) -> None:
        beside = self._by_key[holding.key]
        del beside[holding.place]
        if not beside:
            del self._by_key[holding.key]
        expiry, rank = holding.header.expires, holding.rank(self._own_id)
        del self._by_expiry[bisect_left(self._by_expiry, (expiry, holding.place))]
        del self._by_rank[bisect_left(self._by_rank, (rank, holding.place))]
        self._ledger.refund(holding)

    def _forget_expired(self, wall: float) -> int:
        """All at once: one by one, many records of one expiry would take long."""
        cut = bisect_left(self._by_expiry, int(wall) + 1, key=lambda entry: entry[0])
        gone = {place for _, place in self._by_expiry[:cut]}
        if gone:
            del self._by_expiry[:cut]
            self._by_rank = [entry for entry in self._by_rank if entry[1] not in gone]
        for place in gone:
            beside = self._by_key[place[0]]
            self._ledger.refund(beside.pop(place)[0])
            if not beside:
                del self._by_key[place[0]]
        return len(gone)
