"""Reading a topic: the union of what its holders know, whole however large it is.

What fits into an answer is taken from it. Of a larger topic the answer names a snapshot: its
manifest is fetched, then those pages that no other holder has given us yet, then long values by
their own hash; all of it from several holders at once. An entry is given out as soon as it is
verified.

A holder is asked only for what it has named itself, and each sort of content is a fetching of its
own. So nobody is blamed for what others say that he has. Each has its own share of what a reading
may weigh, so that the junk of one does not cut off the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial

from kademlia_node.core.contact import Contact
from kademlia_node.core.key import Key
from kademlia_node.core.manifest import Manifest, Piece
from kademlia_node.core.message import FindValue, Item, Snapshot, Values
from kademlia_node.core.record import Header
from kademlia_node.core.snapshot import read_page
from kademlia_node.errors import MalformedMessage
from kademlia_node.node.fetching import Fetching
from kademlia_node.node.read import OUR_OWN
from kademlia_node.node.receipt import Step, StepOutcome, TopicEntry
from kademlia_node.node.state import NodeState
from kademlia_node.node.tally import Tally
from kademlia_node.node.walk import Walk
from kademlia_node.settings import VALUE_BYTES_MAX

Take = Callable[[Step, Piece, bytes], bool]
"""(step of its holder, piece, its bytes) -> whether it is what it was said to be."""


class TopicReading:
    """One reading of one topic; `entries` is the way to do it."""

    def __init__(self, state: NodeState, key: Key) -> None:
        self._state = state
        self._key = key
        self._tally = Tally(state, key)
        self._walk = Walk(state, key.digest, FindValue(key.digest), visit=self._visit)
        self._news = asyncio.Event()
        self._heard = 0
        self._bytes_of: Counter[Contact] = Counter()  # that came from each holder
        self._deadline: asyncio.TimerHandle | None = None
        self._manifests = self._fetching(self._on_manifest)
        self._pages = self._fetching(self._on_page)
        self._values = self._fetching(self._on_value)
        self._fetchings = self._manifests, self._pages, self._values
        self._is_left = False
        self._steps: dict[Contact, Step] = {}  # of those who have named something
        self._told: defaultdict[bytes, list[Contact]] = defaultdict(list)  # who, which manifest
        self._listed: dict[bytes, Sequence[Piece]] = {}  # the pages of a manifest
        self._backers: defaultdict[bytes, list[Contact]] = defaultdict(list)  # who, which page
        self._long: dict[bytes, list[Piece]] = {}  # the long values of a page
        self._promised: defaultdict[Piece, list[Header]] = defaultdict(list)  # of values to come
        self._here: dict[Piece, bytes] = {}  # values

    async def entries(self) -> AsyncGenerator[TopicEntry, None]:
        """Entries as they are learnt, see `items`; what was withdrawn is left out."""
        async with aclosing(self.items()) as items:
            async for item in items:
                if not item.header.is_tombstone:
                    yield _entry_of(item)

    async def items(self) -> AsyncGenerator[Item, None]:
        """Items as they are learnt, once `reads` holders have been heard or the walk is over.

        A newer version of an entry that was given already is given again. A reading may end before
        all is read that holders have named: the counter `topics_cut_short` tells how often one met
        `topic_bytes_max` of a holder or `topic_max_s`, `topics_stalled` how often nothing came for
        `topic_idle_s`.
        """
        if held := await self._held_here():
            self._tally.add_verified(held, path=OUR_OWN)
            self._here = {_value_of(item.header): item.value for item in held if item.value}
        self._walk.on_end(self._on_walked)
        self._walk.start()
        try:
            while True:
                over = self._is_over
                if self._walk.ended or self._heard >= self._state.settings.reads:
                    for item in self._tally.news():
                        yield item
                if over:
                    return
                self._news.clear()
                if not (self._is_over or await self._has_news()):
                    return
        finally:
            self._is_left = True
            self._walk.end()
            self._cancel()
            self._state.count_operation("find", self._walk.trace)

    async def _held_here(self) -> list[Item]:
        state, key = self._state, self._key
        records = await state.store.get(key.digest, wall=state.wall())
        return [Item(r.header, r.value) for r in records if r.header.kind is key.kind]

    def _on_walked(self) -> None:
        self._news.set()
        if not self._is_left:
            loop, settings = self._state.loop, self._state.settings
            self._deadline = loop.call_later(settings.topic_max_s, self._on_too_long)

    def _on_too_long(self) -> None:
        if self._is_over:  # all is here, and whoever reads it takes its time
            return
        self._state.counts["topics_cut_short"] += 1
        self._cancel()
        self._news.set()

    async def _has_news(self) -> bool:
        """Wait for it. A holder who drips has no piece ready for long; it holds up nobody."""
        idle_s = self._state.settings.topic_idle_s
        try:
            async with asyncio.timeout(idle_s if self._walk.ended else None):
                await self._news.wait()
        except TimeoutError:
            self._state.counts["topics_stalled"] += 1
            return False
        return True

    @property
    def _is_over(self) -> bool:
        return self._walk.ended and all(fetching.is_idle for fetching in self._fetchings)

    def _visit(self, step: Step, values: Values) -> bool:
        items = self._tally.judge(step, values.items)
        if step.outcome is StepOutcome.BAD:
            return False
        self._steps[step.contact] = step
        if items:
            step.outcome = StepOutcome.VALUE
            self._heard += 1
            self._add(items, path=step.path, shown_by=[step.contact])
        if values.snapshot is not None:
            self._on_snapshot(step, values.snapshot)
        self._news.set()
        return False  # three that agree may all lack what a fourth one holds

    def _add(self, items: list[Item], *, path: int, shown_by: Sequence[Contact]) -> list[Piece]:
        """Take verified items; returns the long values, which are fetched from who showed them."""
        self._tally.add_verified(items, path=path, complete=False)
        long = []
        for header in (item.header for item in items if item.value is None):
            piece = _value_of(header)
            if (value := self._here.get(piece)) is not None:
                self._add_whole(header, value)
            else:
                self._promised[piece].append(header)
                long.append(piece)
        for holder in shown_by:
            self._values.offer(holder, long)
        return long

    def _add_whole(self, header: Header, value: bytes) -> None:
        self._tally.add_verified([Item(header, value)], path=OUR_OWN, complete=False)

    # --- What is fetched --------------------------------------------------------------------------

    def _fetching(self, take: Take) -> Fetching:
        on_piece, trace = partial(self._on_piece, take), self._walk.trace
        return Fetching(self._state, on_piece=on_piece, on_idle=self._news.set, trace=trace)

    def _cancel(self) -> None:
        for fetching in self._fetchings:
            fetching.cancel()
        if self._deadline is not None:
            self._deadline.cancel()

    def _on_snapshot(self, step: Step, snapshot: Snapshot) -> None:
        if snapshot.length > VALUE_BYTES_MAX:
            step.outcome = StepOutcome.BAD
            return
        self._told[snapshot.hash].append(step.contact)
        if (pages := self._listed.get(snapshot.hash)) is not None:
            self._offer_pages(step.contact, pages)
        else:
            self._manifests.offer(step.contact, [Piece(snapshot.hash, snapshot.length)])

    def _offer_pages(self, holder: Contact, pages: Iterable[Piece]) -> None:
        for page in pages:
            self._backers[page.hash].append(holder)
            self._values.offer(holder, self._long.get(page.hash, ()))
        self._pages.offer(holder, pages)

    def _on_piece(self, take: Take, holder: Contact, piece: Piece, content: bytes) -> bool:
        step = self._steps[holder]
        self._news.set()
        try:
            is_true = take(step, piece, content)
        except MalformedMessage:
            is_true = False
        if not is_true:
            step.outcome = StepOutcome.BAD
            self._state.counts["snapshots_false"] += 1
        self._weigh(holder, content)
        return is_true

    def _on_manifest(self, _: Step, piece: Piece, content: bytes) -> bool:
        pages = Manifest.unpack(content).pieces
        if any(page.length > VALUE_BYTES_MAX for page in pages):
            return False
        self._listed[piece.hash] = pages
        for holder in self._told[piece.hash]:
            self._offer_pages(holder, pages)
        return True

    def _on_page(self, step: Step, piece: Piece, content: bytes) -> bool:
        items = self._tally.judge(step, read_page(content))
        if step.outcome is StepOutcome.BAD:
            return False
        backers = self._backers[piece.hash]
        self._long[piece.hash] = self._add(items, path=step.path, shown_by=backers)
        return True

    def _on_value(self, _: Step, piece: Piece, content: bytes) -> bool:
        self._here[piece] = content
        for header in self._promised.pop(piece):
            self._add_whole(header, content)
        return True

    def _weigh(self, holder: Contact, content: bytes) -> None:
        """Ask a holder that has sent its share for nothing more: anybody may fill a topic."""
        self._bytes_of[holder] += len(content)
        if self._bytes_of[holder] >= self._state.settings.topic_bytes_max:
            self._state.counts["topics_cut_short"] += 1
            for fetching in self._fetchings:
                fetching.drop(holder)


def _value_of(header: Header) -> Piece:
    return Piece(header.value_hash, header.length)


def _entry_of(item: Item) -> TopicEntry:
    assert item.value is not None, "news are whole"
    header = item.header
    return TopicEntry(header.author, header.slot, item.value, header.seq, header.expires)
