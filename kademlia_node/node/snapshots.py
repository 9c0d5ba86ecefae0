"""Snapshots: what we hold under a key, in a form that readers fetch page by page (`core.snapshot`).

A few records go into one answer and need no snapshot. Of more, the pages are made when somebody
asks and kept until something changes, in steps, so that a large topic holds up nobody. All paging
of a node together takes a tenth of a core at most: beyond that, readers get the pages of a while
ago, or, where there are none, the first few records only.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kademlia_node.core.key import Spot
from kademlia_node.core.limiter import TokenBucket
from kademlia_node.core.manifest import Manifest, Piece
from kademlia_node.core.message import Snapshot
from kademlia_node.core.record import Record, merge
from kademlia_node.core.snapshot import Paginator, first_header
from kademlia_node.node.contents import Contents
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import MANIFEST_PIECES_MAX, VALUES_BYTES_MAX, Settings
from kademlia_node.store.base import Store

FEW: Final = VALUES_BYTES_MAX // 150  # more signed records than this never fit one answer
STEP: Final = 256  # records read between two looks at the event loop
TOPICS_MAX: Final = 256  # whose snapshots are remembered


@dataclass(frozen=True, slots=True)
class View:
    """What is under a key: `records` are all, or the first few of `count`, which a snapshot shows.

    The snapshot is None where nobody needs one, and of many that could not be paged just now:
    `count` is then one more than there are `records`.
    """

    records: list[Record]
    count: int
    snapshot: Snapshot | None = None


@dataclass(slots=True)
class _Built:
    """The pages of one topic: `starts` tells with which record each of them begins.

    `manifest` is the packed list of the pages.
    """

    view: View
    born: float
    starts: dict[bytes, Spot]
    manifest: bytes
    stale: bool = False

    @property
    def contents(self) -> list[bytes]:
        """The hashes of the manifest and of the pages."""
        snapshot = self.view.snapshot
        return [*self.starts, snapshot.hash] if snapshot else []


class Snapshots:
    """The snapshots of one node."""

    def __init__(
        self,
        store: Store,
        *,
        contents: Contents,
        settings: Settings,
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._contents = contents
        self._settings = settings
        self._wall = wall
        self._clock = asyncio.get_running_loop().time
        self._burst = settings.snapshot_entries_burst
        self._budget = TokenBucket(settings.snapshot_entries_per_s, self._burst)
        self._owed = 0.0  # entries that were read for pages and not yet taken from the budget
        self._built: OrderedDict[bytes, _Built] = OrderedDict()  # used longest ago first
        self._building: dict[bytes, asyncio.Future[View | None]] = {}
        self._changed: set[bytes] = set()  # of those that are being built
        self._few: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()  # pages of few records
        self._pages: dict[bytes, bytes] = {}  # pages and manifests, to the key of their topic

    def on_change(self, key: bytes) -> None:
        """Something was filed under the key."""
        if key in self._building:
            self._changed.add(key)
        if built := self._built.get(key):
            built.stale = True

    async def view(self, key: bytes) -> View:
        """What is held under a key."""
        first = await self._store.get(key, wall=self._wall(), limit=FEW + 1)
        if len(first) <= FEW:
            records = merge(first)
            return View(records, len(records))
        built = self._built.get(key)
        if built is not None:
            self._built.move_to_end(key)
        view = None if built is None or self._is_outdated(built) else built.view
        while view is None:
            if (building := self._building.get(key)) is not None:
                view = await building  # None: whoever built it has failed
            elif self._may_build():
                view = await self._build_for_all(key)
            elif built is not None:
                view = built.view
            else:
                view = View(merge(first)[:FEW], len(first))
        return view

    def of(self, key: bytes, view: View) -> Snapshot | None:
        """The snapshot of a view, also of records that are few and yet too large for one answer.

        None: it does not show all, so that no snapshot stands for it.
        """
        if view.snapshot or len(view.records) < view.count:
            return view.snapshot
        self._forget_few(key)
        contents = _contents_of_few(view.records)
        self._few[key] = tuple(map(self._contents.keep, contents))
        self._pages |= dict.fromkeys(self._few[key], key)
        if len(self._few) > TOPICS_MAX:
            self._forget_few(next(iter(self._few)))
        return Snapshot(self._few[key][-1], len(contents[-1]))

    async def page(self, page_hash: bytes, offset: int) -> bytes | None:
        """A page or manifest that is no longer at hand, made again; a loader of `Contents`."""
        key = self._pages.get(page_hash)
        if key is None or offset:
            return None
        page: bytes | None = None
        if page_hash in self._few.get(key, ()):
            page = await self._content_of_few(key, page_hash)
        elif built := self._built.get(key):
            start = built.starts.get(page_hash)
            page = built.manifest if start is None else await self._page_from(key, start)
        if page is None or hashlib.sha256(page).digest() != page_hash:
            sometimes(Rare.PAGE_GONE)
            self._pages.pop(page_hash, None)  # it never comes back; no second look for it
            return None
        sometimes(Rare.PAGE_MADE_AGAIN)
        return page

    async def _content_of_few(self, key: bytes, content_hash: bytes) -> bytes | None:
        """The page or manifest of this hash, if there still is one."""
        few = await self._store.get(key, wall=self._wall(), limit=FEW + 1)
        contents = {hashlib.sha256(one).digest(): one for one in _contents_of_few(merge(few))}
        return contents.get(content_hash)

    async def _page_from(self, key: bytes, start: Spot) -> bytes | None:
        """The page that begins with this record, as it is now."""
        first = await self._store.get_one(key, author=start[0], slot=start[1], wall=self._wall())
        if first is None:
            return None
        paginator = Paginator()
        page = paginator.add(first)
        async for record in self._records(key, after=start):
            if page is not None:
                return page
            page = paginator.add(record)
        return page or paginator.finish()

    def _is_outdated(self, built: _Built) -> bool:
        return built.stale or self._clock() - built.born >= self._settings.snapshot_max_age_s

    def _may_build(self) -> bool:
        """Whether all that was read for pages so far is within the budget.

        How much a topic takes is known only afterwards; so it is paid for afterwards.
        """
        now = self._clock()
        while self._owed and self._budget.take(now, part := min(self._owed, self._burst)):
            self._owed -= part
        return not self._owed

    async def _build_for_all(self, key: bytes) -> View:
        """Build it, on behalf of everybody who asks meanwhile."""
        view = None
        building = self._building[key] = asyncio.get_running_loop().create_future()
        try:
            built = await self._build(key)
            built.stale = key in self._changed
            self._file(key, built)
            view = built.view
        finally:
            self._changed.discard(key)
            del self._building[key]
            building.set_result(view)
        return view

    def _file(self, key: bytes, built: _Built) -> None:
        self._forget(key)
        self._built[key] = built
        self._pages |= dict.fromkeys(built.contents, key)
        if len(self._built) > TOPICS_MAX:
            self._forget(next(iter(self._built)))

    def _forget(self, key: bytes) -> None:
        if built := self._built.pop(key, None):
            for content in built.contents:
                self._pages.pop(content, None)

    def _forget_few(self, key: bytes) -> None:
        for content in self._few.pop(key, ()):
            self._pages.pop(content, None)

    async def _build(self, key: bytes) -> _Built:
        """Read all records in steps: they are topic entries, for of other kinds a key has one."""
        born, count, paginator = self._clock(), 0, Paginator()
        first: list[Record] = []
        pages: list[tuple[Piece, Spot]] = []
        async for record in self._records(key):
            count += 1
            self._owed += 1
            if len(first) < FEW:
                first.append(record)
            if page := paginator.add(record):
                pages.append(self._keep(page))
        if page := paginator.finish():
            pages.append(self._keep(page))
        del pages[MANIFEST_PIECES_MAX:]
        manifest = Manifest(tuple(piece for piece, _ in pages)).pack()
        snapshot = Snapshot(self._contents.keep(manifest), len(manifest))
        spots = {piece.hash: spot for piece, spot in pages}
        return _Built(View(first, count, snapshot), born, spots, manifest)

    async def _records(self, key: bytes, *, after: Spot | None = None) -> AsyncIterator[Record]:
        """In steps of STEP, between which others have their turn."""
        while records := await self._store.get(key, wall=self._wall(), after=after, limit=STEP):
            for record in records:
                yield record
            after = records[-1].header.author, records[-1].header.slot
            await asyncio.sleep(0)

    def _keep(self, page: bytes) -> tuple[Piece, Spot]:
        header = first_header(page)
        return Piece(self._contents.keep(page), len(page)), (header.author, header.slot)


def name_of_few(records: Sequence[Record]) -> Snapshot:
    """The snapshot of records that are few, and of which nobody needs a page."""
    manifest = _contents_of_few(records)[-1]
    return Snapshot(hashlib.sha256(manifest).digest(), len(manifest))


def _contents_of_few(records: Sequence[Record]) -> list[bytes]:
    """The pages, and behind them the manifest."""
    paginator = Paginator()
    pages = [page for record in records if (page := paginator.add(record))]
    if page := paginator.finish():
        pages.append(page)
    pieces = tuple(Piece(hashlib.sha256(page).digest(), len(page)) for page in pages)
    return [*pages, Manifest(pieces).pack()]
