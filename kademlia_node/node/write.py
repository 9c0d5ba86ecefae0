"""Writing: sign a record, hand it to the responsible nodes, keep it alive from then on.

The author of a named entry is this node or, in a private network, the commons. What was written is
put on the list of publications, which `renew` keeps alive, before its writer is told so.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from kademlia_node.core.contact import Contact
from kademlia_node.core.key import Key
from kademlia_node.core.record import Header, Record, Verdict, make_blob, next_seq, supersedes
from kademlia_node.errors import Conflict, NotStored, PartlyStored
from kademlia_node.node.deposit import Deposit
from kademlia_node.node.draft import Draft
from kademlia_node.node.handout import HandOut
from kademlia_node.node.read import Reader
from kademlia_node.node.receipt import Receipt, StepOutcome
from kademlia_node.node.state import NodeState
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import EXPIRY_DEFAULT_S, TOMBSTONE_S
from kademlia_node.store.base import Place, Published, place_of

WRITES_MAX: Final = 3  # tries of one write that meets newer versions of its entry
REPLICAS_KNOWN_MAX: Final = 16_384  # keys whose replicas are remembered, 200 bytes each
IN_THE_WAY: Final = frozenset({Verdict.OLDER, Verdict.SHORTENED})


class Writer:
    """The writing verbs of a node, and the list of what it keeps alive."""

    def __init__(self, state: NodeState, *, reader: Reader) -> None:
        self._state = state
        self._reader = reader
        self._publications = state.store.publications
        self._last_seq: dict[Place, int] = {}
        self._locks: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()
        self._replicas: OrderedDict[bytes, tuple[Contact, ...]] = OrderedDict()  # by key
        self._short_s: OrderedDict[Place, float] = OrderedDict()  # pauses of what is short

    # --- Verbs ------------------------------------------------------------------------------------

    async def put(
        self,
        value: bytes,
        *,
        acks: int | None = None,
        nearby: bool = False,
        ttl_s: int | None = None,
    ) -> Receipt:
        """Store a blob and keep it alive; see `Node.put` and, for `nearby`, `HandOut`."""
        record = make_blob(value, expires=self.expiry(ttl_s))
        place = place_of(record)
        async with self.lock(place):
            handed = await self.hand_out(record, acks=acks, nearby=nearby)
            self._state.count_operation("put", handed.receipt.trace)
            return await self._publish(record, handed.receipt, acks=acks, ttl_s=ttl_s)

    async def write(
        self,
        draft: Draft,
        *,
        expect_seq: int | None = None,
        acks: int | None = None,
        nearby: bool = False,
    ) -> Receipt:
        """Write an entry, a topic entry or a tombstone, as its highest version.

        With `expect_seq` the current version is read first: most conflicts are seen before anything
        is written. Those of the same moment are seen by the nodes that refuse ours. For `nearby`
        see `HandOut`.

        Writes of one place come one after the other, else a slow one would be kept alive for ever
        in place of a later one.

        Raises:
            Conflict: `expect_seq` is not the seq of the current version.
            NotStored, PartlyStored: nobody took it, or fewer than `acks` did.
        """
        async with self.lock(draft.place):
            if expect_seq is not None:
                await self._expect(draft, expect_seq)
            return await self._write(draft, expect_seq=expect_seq, acks=acks, nearby=nearby)

    async def forget(self, key: Key) -> bool:
        """Renew a blob no longer; whether we did."""
        place = (key.digest, b"", b"")
        async with self.lock(place):
            known = await self._publications.get(place) is not None
            await self._publications.drop(place)
        return known

    # --- Shared with renewal ----------------------------------------------------------------------

    def lock(self, place: Place) -> asyncio.Lock:
        """The lock of a place, which lasts as long as somebody holds it or waits for it."""
        return self._locks.setdefault(place, asyncio.Lock())

    def remembers_holders(self, key: bytes) -> bool:
        """Whether we know who took what we wrote under it last: then it needs no walk."""
        return bool(self._replicas.get(key))

    def expiry(self, ttl_s: int | None) -> int:
        """When a record that is written or renewed now is to expire."""
        return int(self._state.wall()) + (EXPIRY_DEFAULT_S if ttl_s is None else ttl_s)

    async def hand_out(
        self,
        record: Record,
        *,
        expect_seq: int | None = None,
        acks: int | None = None,
        nearby: bool = False,
    ) -> HandOut:
        """Give a record to the nodes responsible for it, and remember who they are."""
        handed = HandOut(
            self._state,
            Key(record.header.kind, record.key),
            record,
            expect_seq=expect_seq,
            acks=acks,
            known=self._replicas.get(record.key, ()),
            nearby=nearby,
            on_over=partial(self._on_over, record),
        )
        await handed.run()
        return handed

    def renew_at(self, place: Place, receipt: Receipt, *, ttl_s: int | None) -> float:
        """At 22 of 48 hours, or at half of `ttl_s`, give or take a tenth: restarts make no storm.

        Soon, if it is short of copies, since a partition that heals is no reason to wait for a day;
        but twice as late each time, since a peer that never takes it is none to go on for ever.
        """
        settings, short_s = self._state.settings, self._short_s
        usual_s = settings.renew_after_s if ttl_s is None else ttl_s / 2
        after_s = short_s.pop(place, settings.renew_retry_s)
        if is_short(receipt) and after_s < usual_s:
            short_s[place] = 2 * after_s
            if len(short_s) > REPLICAS_KNOWN_MAX:
                short_s.popitem(last=False)
        else:
            after_s = usual_s
        return self._state.wall() + after_s * self._state.rng.uniform(0.9, 1.1)

    async def note(self, record: Record, receipt: Receipt, *, ttl_s: int | None) -> None:
        """List what was handed out; a withdrawal only until it has reached enough nodes."""
        if record.header.is_tombstone and not is_short(receipt):
            await self._publications.drop(place_of(record))
        else:
            if is_short(receipt):
                sometimes(Rare.SHORT_OF_COPIES)
            renew_at = self.renew_at(place_of(record), receipt, ttl_s=ttl_s)
            await self._publications.keep(Published(record, renew_at, ttl_s))

    def forget_seqs(self) -> None:
        """Drop what no longer matters: the next seq of these is higher anyway."""
        now_us = self._state.wall() * 1_000_000
        self._last_seq = {place: seq for place, seq in self._last_seq.items() if seq >= now_us}

    # --- One write --------------------------------------------------------------------------------

    async def _write(
        self, draft: Draft, *, expect_seq: int | None, acks: int | None, nearby: bool
    ) -> Receipt:
        deletes, place = draft.value is None, draft.place
        last, expires, tries = 0, await self._first_expiry(draft), 0
        while True:
            tries += 1
            seq = next_seq(max(last, self._last_seq.get(place, 0)), self._state.wall())
            self._last_seq[place] = seq
            record = draft.sign(seq=seq, expires=expires, tag=self._state.network.tag)
            handed = await self.hand_out(record, expect_seq=expect_seq, acks=acks, nearby=nearby)
            newest, receipt = handed.deposit.newest, handed.receipt
            self._state.count_operation("withdraw" if deletes else "write", receipt.trace)
            if handed.deposit.conflict:
                sometimes(Rare.SEQ_CONFLICT)
                raise Conflict(await self._shown(draft, newest), receipt)
            in_the_way = newest and supersedes(record.header, newest) in IN_THE_WAY
            if not newest or not in_the_way or tries == WRITES_MAX:
                break
            sometimes(Rare.WRITTEN_AGAIN)
            last, expires = newest.seq, max(expires, newest.expires)
            if receipt.replicas:
                expect_seq = None  # to them our first try is the current version
        return await self._publish(record, receipt, acks=acks, ttl_s=draft.ttl_s)

    async def _first_expiry(self, draft: Draft) -> int:
        """When a draft is to expire: not before what it replaces, as far as we know of it."""
        if draft.ttl_s is None:
            return self.expiry(TOMBSTONE_S if draft.value is None else None)
        earlier = await self._publications.get(draft.place)
        at_least = 0 if earlier is None else earlier.record.header.expires
        return max(self.expiry(draft.ttl_s), at_least)

    async def _publish(
        self, record: Record, receipt: Receipt, *, acks: int | None, ttl_s: int | None
    ) -> Receipt:
        """Keep alive what somebody took, or no longer what was deleted."""
        if not receipt.replicas:
            raise NotStored(receipt)
        await self.note(record, receipt, ttl_s=ttl_s)
        if acks is not None and len(receipt.replicas) < acks:
            raise PartlyStored(receipt, acks=acks)
        return receipt

    def _on_over(self, record: Record, deposit: Deposit) -> None:
        """The last replica has answered."""
        self._remember(record.key, deposit.replicas)
        if deposit.newest is not None and is_outlived(record.header, deposit.newest):
            self._state.background.start(self._hasten(record))

    async def _hasten(self, record: Record) -> None:
        """Renew it soon: some have an earlier version that expires later, and refuse this one."""
        place = place_of(record)
        async with self.lock(place):
            published = await self._publications.get(place)
            if published is not None and published.record.header.version == record.header.version:
                soon = self._state.wall() + self._state.settings.renew_retry_s
                soonest = min(soon, published.renew_at)
                await self._publications.keep(replace(published, renew_at=soonest))

    def _remember(self, key: bytes, replicas: Sequence[Contact]) -> None:
        """Who takes one entry of a topic takes the others, too."""
        self._replicas[key] = tuple(replicas)
        self._replicas.move_to_end(key)
        if len(self._replicas) > REPLICAS_KNOWN_MAX:
            self._replicas.popitem(last=False)

    async def _expect(self, draft: Draft, expect_seq: int) -> None:
        """Raise Conflict if the current version is another one."""
        current, _ = await self._reader.entry(draft.key, draft.author.public_key, draft.slot)
        if current is not None and current.header.seq > expect_seq:
            raise Conflict(current)

    async def _shown(self, draft: Draft, newest: Header | None) -> Record | None:
        """The record that a refusal proved to be there, if anybody still shows it."""
        return None if newest is None else await self._reader.version(draft.key, newest)


def is_outlived(header: Header, earlier: Header) -> bool:
    """Whether another version is earlier and would still be there when this one is gone."""
    return supersedes(header, earlier) is Verdict.SHORTENED


def is_short(receipt: Receipt) -> bool:
    """Whether more nodes are to have it than do, and some were silent or nobody was there to ask.

    A network of fewer nodes than copies is not short of any.
    """
    if len(receipt.replicas) >= receipt.copies:
        return False
    trace, said = receipt.trace, receipt.refused.values()
    return StepOutcome.SILENT in said or trace.count(StepOutcome.SILENT) > 0 or trace.requests == 0
