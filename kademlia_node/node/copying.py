"""Copying: all that one peer holds under a key, as far as we lack it, into our own store.

What the peer shows is judged like a record that somebody wants stored, and its expiry stays what
the author said. It is charged to its author, for whoever helps us is not to pay for it; but blobs,
which have no author, to the peer's subnet as if it had stored them here. Of a topic with many
entries those pages of the peer's snapshot are pulled that ours has not.

Refuses to know why it is copied and whether it is ours to hold. Driven by `copy`, of as many keys
as are wanted; then `done`, `copied` and `lied` tell what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from kademlia_node.core.contact import Contact, is_local, prefix
from kademlia_node.core.key import Kind
from kademlia_node.core.manifest import Manifest, Piece
from kademlia_node.core.message import FindValue, Item, Snapshot, StoreStatus, Values
from kademlia_node.core.pull import Fate
from kademlia_node.core.record import (
    Header,
    Reason,
    Record,
    Verdict,
    check_value,
    clamp_blob,
    supersedes,
)
from kademlia_node.core.snapshot import read_page
from kademlia_node.errors import BadRecord, MalformedMessage, NoAnswer, PeerRefused
from kademlia_node.node.pulling import pull_to_end
from kademlia_node.node.state import NodeState
from kademlia_node.settings import VALUE_BYTES_MAX
from kademlia_node.store.base import Outcome

EMPTY_MAX: Final = 16  # keys that expired between two questions; who names more makes them up
CLOCKS_DIFFER: Final = frozenset({Reason.EXPIRED, Reason.TOO_LONG_LIVED, Reason.FUTURE_SEQ})


class Copying:
    """Copies from one peer.

    Attributes:
        done: keys of which all is here that the peer had and we may have.
        copied: how many records were filed.
        lied: the peer showed something false, and is asked for nothing more.
    """

    def __init__(self, state: NodeState, peer: Contact) -> None:
        self._state = state
        self._peer = peer
        self._is_silent = False
        self._empty = 0  # keys that the peer has named, and under which it shows nothing
        self._bytes_left = state.settings.repair_bytes_max
        self.done: set[bytes] = set()
        self.copied = 0
        self.lied = False

    async def copy(self, keys: Sequence[bytes]) -> None:
        """Copy what is under these keys, several at a time and the first ones first."""
        waiting = iter(keys)

        async def work() -> None:
            for key in waiting:
                if self.lied or self._is_silent:
                    return
                await self._copy_key(key)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self._state.settings.repair_at_once, len(keys))):
                tasks.create_task(work())

    async def _copy_key(self, key: bytes) -> None:
        try:
            values = await self._state.exchange.ask(self._peer, FindValue(key))
            assert isinstance(values, Values), "the exchange lets nothing else through"
            self._empty += values.count == 0
            self.lied |= self._empty > EMPTY_MAX and not self.copied
            if await self._take_all(key, values):
                self.done.add(key)
        except NoAnswer:
            self._is_silent = True
        except PeerRefused:
            pass  # it is busy: another time
        except BadRecord as error:
            self._state.count_bad(error, by="repairer")
            self.lied = True
        except MalformedMessage:
            self.lied = True

    async def _take_all(self, key: bytes, values: Values) -> bool:
        """Whether nothing is left to take; raises BadRecord, MalformedMessage."""
        is_done = await self._take(key, values.items)
        if values.snapshot is not None:
            return await self._take_pages(key, values.snapshot)
        return is_done and len(values.items) >= values.count

    # --- Topics -----------------------------------------------------------------------------------

    async def _take_pages(self, key: bytes, snapshot: Snapshot) -> bool:
        """Whether all pages of the peer's were to be had."""
        packed = await self._pull(Piece(snapshot.hash, snapshot.length))
        if packed is None:
            return False
        ours = await self._own_pages(key)
        missing = [page for page in Manifest.unpack(packed).pieces if page not in ours]
        is_done = True
        for page in missing:
            content = await self._pull(page)
            if content is None:
                return False
            is_done &= await self._take(key, read_page(content))
        return is_done

    async def _own_pages(self, key: bytes) -> frozenset[Piece]:
        snapshots = self._state.snapshots
        view = await snapshots.view(key)
        if view.snapshot is None:
            return frozenset()
        packed = await snapshots.page(view.snapshot.hash, 0)
        return frozenset() if packed is None else frozenset(Manifest.unpack(packed).pieces)

    # --- Records ----------------------------------------------------------------------------------

    async def _take(self, key: bytes, items: Iterable[Item]) -> bool:
        """Whether all of these are here now, or not worth having."""
        is_done = True
        for item in items:
            if await self._is_news(key, item.header) and self._is_true(key, item):
                is_done &= await self._take_one(key, item)
        return is_done

    async def _is_news(self, key: bytes, header: Header) -> bool:
        """Whether it is another and a later version than ours."""
        state = self._state
        held = await state.store.get_one(
            key, author=header.author, slot=header.slot, wall=state.wall()
        )
        return held is None or supersedes(header, held.header) is Verdict.NEWER

    def _is_true(self, key: bytes, item: Item) -> bool:
        """False for what only another clock would let live; raises BadRecord for what is false."""
        try:
            self._state.judge(key, item.header, item.value)
        except BadRecord as error:
            if error.reason not in CLOCKS_DIFFER:
                raise
            return False
        return True

    async def _take_one(self, key: bytes, item: Item) -> bool:
        """Whether it could be had."""
        state, header, charged_to = self._state, item.header, b""
        if header.kind is Kind.BLOB:
            header, charged_to = clamp_blob(header, state.wall()), self._subnet()
        value = item.value
        if value is None:
            answer = await state.store.offer(
                key, header, charged_to=charged_to, wall=state.wall(), expect_seq=None
            )
            if answer.outcome is not Outcome.WANTED:
                return True
            value = await self._pull(Piece(header.value_hash, header.length))
            if value is None:
                return False
            check_value(key, header, value=value)
        record = Record(key, header, value)
        stored = await state.keep(record, charged_to=charged_to, expect_seq=None)
        if stored.status is StoreStatus.OK:
            self.copied += 1
            state.counts["repaired"] += 1
        return True

    def _subnet(self) -> bytes:
        host = self._peer.address.host
        return b"" if is_local(host) else prefix(host)

    async def _pull(self, piece: Piece) -> bytes | None:
        """The content, or None if the peer does not give it, or has given enough for now.

        Raises:
            MalformedMessage: it is longer than such contents are, or not what it was said to be.
        """
        if piece.length > VALUE_BYTES_MAX:
            raise MalformedMessage("too long for a value, a page or a manifest")
        if self.lied or piece.length > self._bytes_left:
            return None
        self._bytes_left -= piece.length
        pulling = await pull_to_end(self._state, self._peer, piece)
        if pulling.fate is Fate.LIED:
            raise MalformedMessage("not the content that it was said to be")
        return pulling.content if pulling.fate is Fate.WHOLE else None
