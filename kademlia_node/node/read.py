"""Reading: walk towards a key, verify whatever is found, and know when it is enough.

A blob proves itself: the first copy that verifies is it. Of an entry, `reads` holders on two paths
must agree on the latest version. A topic is the union of what its holders know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable

from kademlia_node.core.key import Key, Kind
from kademlia_node.core.message import FindValue, Item, Values
from kademlia_node.core.record import Reason, Record, merge
from kademlia_node.errors import BadRecord
from kademlia_node.node.receipt import Step, StepOutcome, TopicEntry, Trace
from kademlia_node.node.state import NodeState
from kademlia_node.node.walk import Walk

OUR_OWN = -1  # the path of what we hold ourselves
PATHS_MIN = 2  # that must agree on an entry, where there are so many

Shown = tuple[bytes, bytes, tuple[int, bytes, int, int]]  # author, slot, version


def _versions(records: Iterable[Record]) -> frozenset[Shown]:
    return frozenset((r.header.author, r.header.slot, r.header.version) for r in records)


class Tally:
    """What the holders of one key have shown so far: verified records, and who showed which."""

    def __init__(self, state: NodeState, key: Key) -> None:
        self._state = state
        self._key = key
        self._records: dict[tuple[bytes, bytes], Record] = {}
        self._answers: list[tuple[int, frozenset[Shown]]] = []

    def add(self, step: Step, values: Values) -> None:
        """Take what one node holds; what does not verify makes the whole answer a bad one.

        Not so what has expired by our clock: its holder's may be slower.
        """
        records = []
        for item in values.items:
            if item.header.kind is not self._key.kind:
                continue
            try:
                records.append(self._judged(item))
            except BadRecord as error:
                self._state.count_bad(error)
                if error.reason != Reason.EXPIRED:
                    step.outcome = StepOutcome.BAD
                    return
        if not records:
            return
        step.outcome = StepOutcome.VALUE
        self.add_verified(records, path=step.path, complete=len(values.items) == values.count)

    def add_verified(self, records: list[Record], *, path: int, complete: bool = True) -> None:
        """Take what one holder, reached on this path, was seen to hold; perhaps not all of it."""
        for record in merge([*self._records.values(), *records]):
            self._records[record.header.author, record.header.slot] = record
        if complete:
            self._answers.append((path, _versions(records)))

    def latest(self) -> list[Record]:
        """The latest version of each entry, tombstones included."""
        return list(self._records.values())

    def agreeing(self) -> tuple[int, int]:
        """How many holders showed exactly the latest versions, and on how many paths."""
        latest = _versions(self._records.values())
        paths = [path for path, versions in self._answers if versions == latest]
        return len(paths), len(set(paths))

    def enough(self, reads: int) -> bool:
        """Whether `reads` holders agree, on two paths where the lookup has two."""
        holders, paths = self.agreeing()
        return holders >= reads and paths >= min(PATHS_MIN, reads, self._state.settings.paths)

    def _judged(self, item: Item) -> Record:
        value = item.value or b""
        self._state.judge(self._key.digest, item.header, value)
        return Record(self._key.digest, item.header, value)


class Reader:
    """The reading verbs of a node."""

    def __init__(self, state: NodeState) -> None:
        self._state = state

    async def blob(self, key: Key) -> tuple[Record | None, Trace]:
        """The first copy that verifies, and how it was found."""
        tally, walk = await self._collect(key, reads=1)
        return next(iter(tally.latest()), None), walk.trace

    async def entry(self, key: Key, author: bytes, slot: bytes) -> tuple[Record | None, Trace]:
        """The latest version that `reads` holders agree on, or that anybody showed."""
        tally, walk = await self._collect(key, reads=self._state.settings.reads)
        found = (r for r in tally.latest() if (r.header.author, r.header.slot) == (author, slot))
        return next(found, None), walk.trace

    def survey(self, key: Key) -> Walk:
        """A walk that goes on to the end, and marks whoever holds something valid under a key."""
        tally = Tally(self._state, key)

        def visit(step: Step, values: Values) -> bool:
            tally.add(step, values)
            return False

        return Walk(self._state, key.digest, FindValue(key.digest), visit=visit)

    async def _collect(self, key: Key, *, reads: int) -> tuple[Tally, Walk]:
        tally = Tally(self._state, key)
        held = await self._held(key)

        def visit(step: Step, values: Values) -> bool:
            tally.add(step, values)
            return tally.enough(reads)

        walk = Walk(self._state, key.digest, FindValue(key.digest), visit=visit)
        if held:
            tally.add_verified(held, path=OUR_OWN)
        if not (held and key.kind is Kind.BLOB):
            await walk.run()
        return tally, walk

    async def _held(self, key: Key) -> list[Record]:
        records = await self._state.store.get(key.digest, wall=self._state.wall())
        return [record for record in records if record.header.kind is key.kind]

    async def topic(self, key: Key) -> AsyncGenerator[TopicEntry, None]:
        """Entries as they are learnt, once `reads` holders have been heard or the walk is over.

        A newer version of an entry that was given already is given again.
        """
        tally = Tally(self._state, key)
        if held := await self._held(key):
            tally.add_verified(held, path=OUR_OWN)
        news = asyncio.Event()
        heard = 0

        def visit(step: Step, values: Values) -> bool:
            nonlocal heard
            tally.add(step, values)
            heard += step.outcome is StepOutcome.VALUE
            news.set()
            return False  # three that agree may all lack what a fourth one holds

        walk = Walk(self._state, key.digest, FindValue(key.digest), visit=visit)
        walk.on_end(news.set)
        walk.start()
        given: dict[tuple[bytes, bytes], tuple[int, bytes, int, int]] = {}
        try:
            while True:
                if walk.ended or heard >= self._state.settings.reads:
                    for entry in _news(tally.latest(), given):
                        yield entry
                if walk.ended:
                    return
                news.clear()
                await news.wait()
        finally:
            walk.end()


def _news(
    records: list[Record], given: dict[tuple[bytes, bytes], tuple[int, bytes, int, int]]
) -> list[TopicEntry]:
    """The entries that were not given in this version before; notes them as given."""
    entries = []
    for record in records:
        header = record.header
        if given.get((header.author, header.slot)) == header.version:
            continue
        given[header.author, header.slot] = header.version
        if not header.is_tombstone:
            entries.append(
                TopicEntry(header.author, header.slot, record.value, header.seq, header.expires)
            )
    return entries
