"""Writing: find the responsible nodes, hand them the record, remember to renew it.

A record is signed here and nowhere else. The author of a named entry is this node or, in a private
network, the commons. Whoever published renews: same version, later expiry.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import point
from kademlia_node.core.key import Key, Kind, entry_key
from kademlia_node.core.message import FindNode, Store
from kademlia_node.core.record import (
    Header,
    Record,
    Verdict,
    make_blob,
    make_entry,
    make_tombstone,
    make_topic_entry,
    next_seq,
    supersedes,
)
from kademlia_node.core.replica import SPACE, choose_replicas
from kademlia_node.errors import Conflict, NotStored
from kademlia_node.node.deposit import Deposit
from kademlia_node.node.read import Reader
from kademlia_node.node.receipt import Receipt
from kademlia_node.node.state import NodeState
from kademlia_node.node.walk import Walk
from kademlia_node.settings import EXPIRY_DEFAULT_S
from kademlia_node.store.base import Place

WRITES_MAX = 3  # tries of one write that meets newer versions of its entry
IN_THE_WAY = frozenset({Verdict.OLDER, Verdict.SHORTENED})


@dataclass(frozen=True, slots=True)
class Publication:
    """A record that we keep alive, and when (seconds since 1970) it is to be renewed."""

    record: Record
    author: Identity | None  # None for a blob
    renew_at: float


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be written where, before it has a seq, an expiry and a signature."""

    key: Key
    author: Identity
    slot: bytes
    value: bytes | None  # None deletes

    def sign(self, *, seq: int, expires: int, tag: bytes) -> Record:
        """The record."""
        signing = self.author.signing
        if self.value is None:
            return make_tombstone(
                signing,
                self.key.digest,
                kind=self.key.kind,
                slot=self.slot,
                seq=seq,
                expires=expires,
                network_tag=tag,
            )
        if self.key.kind is Kind.TOPIC:
            return make_topic_entry(
                signing,
                self.key.digest,
                slot=self.slot,
                value=self.value,
                seq=seq,
                expires=expires,
                network_tag=tag,
            )
        return make_entry(
            signing, self.slot, value=self.value, seq=seq, expires=expires, network_tag=tag
        )


class Writer:
    """The writing verbs of a node, and the list of what it keeps alive."""

    def __init__(self, state: NodeState, *, reader: Reader) -> None:
        self._state = state
        self._reader = reader
        self._last_seq: dict[Place, int] = {}
        self._locks: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()
        self.publications: dict[Place, Publication] = {}

    async def put(self, value: bytes) -> Receipt:
        """Store a blob and keep it alive."""
        record = make_blob(value, expires=self._expiry())
        receipt = await self._store(Key(Kind.BLOB, record.key), record)
        self._keep(record, None)
        return receipt

    async def write(self, draft: Draft, *, expect_seq: int | None = None) -> Receipt:
        """Write an entry, a topic entry or a tombstone, as its highest version.

        Writes of one place come one after the other, else a slow one would be kept alive for ever
        in place of a later one.

        Raises:
            Conflict: `expect_seq` is not the seq of the current version.
            NotStored: nobody took it.
        """
        place = (draft.key.digest, draft.author.public_key, draft.slot)
        async with self._lock(place):
            return await self._write(place, draft, expect_seq=expect_seq)

    def _lock(self, place: Place) -> asyncio.Lock:
        """The lock of a place, which lasts as long as somebody holds it or waits for it."""
        return self._locks.setdefault(place, asyncio.Lock())

    async def _write(self, place: Place, draft: Draft, *, expect_seq: int | None) -> Receipt:
        last, expires, tries = 0, self._expiry(), 0
        while True:
            tries += 1
            seq = next_seq(max(last, self._last_seq.get(place, 0)), self._state.wall())
            self._last_seq[place] = seq
            record = draft.sign(seq=seq, expires=expires, tag=self._state.network.tag)
            deposit, receipt = await self._hand_out(draft.key, record, expect_seq=expect_seq)
            newest = deposit.newest
            if deposit.conflict:
                raise Conflict(await self._current(draft, newest))
            in_the_way = newest and supersedes(record.header, newest) in IN_THE_WAY
            if not newest or not in_the_way or tries == WRITES_MAX:
                break
            last, expires = newest.seq, max(expires, newest.expires)
            if receipt.replicas:
                expect_seq = None  # to them our first try is the current version
        if not receipt.replicas:
            raise NotStored(receipt)
        if draft.value is None:
            self.publications.pop(place, None)
        else:
            self._keep(record, draft.author)
        return receipt

    async def renew_due(self) -> None:
        """Renew what is due; what nobody takes stays due."""
        wall = self._state.wall()
        now_us = wall * 1_000_000  # a lower seq is forgotten: the next one is higher anyway
        self._last_seq = {place: seq for place, seq in self._last_seq.items() if seq >= now_us}
        due = [place for place, held in self.publications.items() if held.renew_at <= wall]
        for place in due:
            async with self._lock(place):
                held = self.publications.get(place)
                if held is not None and held.renew_at <= wall:
                    await self._renew(place, held)

    async def _renew(self, place: Place, held: Publication) -> None:
        record = self._later(held.record, held.author)
        deposit, receipt = await self._hand_out(Key(held.record.header.kind, place[0]), record)
        if deposit.newest is not None and deposit.newest.version > record.header.version:
            del self.publications[place]  # another device of the author has moved on
        elif receipt.replicas:
            self._keep(record, held.author)

    def _later(self, record: Record, author: Identity | None) -> Record:
        """The same version with a later expiry."""
        header, expires = record.header, self._expiry()
        if author is None:
            return replace(record, header=replace(header, expires=expires))
        draft = Draft(Key(header.kind, record.key), author, header.slot, record.value)
        return draft.sign(seq=header.seq, expires=expires, tag=self._state.network.tag)

    def _keep(self, record: Record, author: Identity | None) -> None:
        """Renew at 22 of 48 hours, give or take a tenth: a common restart makes no storm."""
        settings = self._state.settings
        after = settings.renew_after_s * self._state.rng.uniform(0.9, 1.1)
        place = (record.key, record.header.author, record.header.slot)
        self.publications[place] = Publication(record, author, self._state.wall() + after)

    def _expiry(self) -> int:
        return int(self._state.wall()) + EXPIRY_DEFAULT_S

    async def _store(self, key: Key, record: Record) -> Receipt:
        _, receipt = await self._hand_out(key, record)
        if not receipt.replicas:
            raise NotStored(receipt)
        return receipt

    async def _hand_out(
        self, key: Key, record: Record, *, expect_seq: int | None = None
    ) -> tuple[Deposit, Receipt]:
        """Walk to the key, choose the replicas, hand them the record."""
        state = self._state
        copies, size = state.network.copies, state.size.estimate
        reach = int(copies * SPACE / size) if size else 0
        walk = Walk(state, key.digest, FindNode(key.digest), radius=min(reach, SPACE - 1))
        await walk.run()
        factor = state.settings.region_copies_factor
        found = walk.closest(max(factor * copies, state.settings.k))
        if state.is_server:
            goal = point(key.digest)
            found = sorted([*found, state.contact], key=lambda c: c.point ^ goal)
        chosen = choose_replicas(
            key.digest, found, copies=copies, network_size=size, factor=factor, rng=state.rng
        )
        request = Store(key.digest, record.header, record.value, expect_seq)
        ours = state.is_server and state.contact in chosen
        others = [] if expect_seq else [c for c in found if c not in chosen]  # who have no version
        deposit = Deposit(
            state,
            request,
            chosen=[c for c in chosen if c != state.contact],
            spares=[c for c in others if c != state.contact],
        )
        await deposit.run()
        if ours:
            await deposit.keep_here(record, expect_seq=expect_seq)
        receipt = Receipt(
            key=key,
            seq=record.header.seq,
            expires=record.header.expires,
            copies=copies,
            replicas=tuple(deposit.replicas),
            refused=deposit.refused,
            trace=walk.trace,
        )
        return deposit, receipt

    async def _current(self, draft: Draft, newest: Header | None) -> Record | None:
        """The record that stands in the way, if anybody still shows it."""
        best, _ = await self._reader.entry(draft.key, draft.author.public_key, draft.slot)
        is_current = best is not None and (newest is None or best.header.version >= newest.version)
        return best if is_current else None


def draft_entry(author: Identity, slot: bytes, value: bytes | None) -> Draft:
    """A named entry of an author, or its deletion."""
    return Draft(entry_key(author.public_key, slot), author, slot, value)
