"""Reading: find who holds a key, verify whatever they show, and know when it is enough.

Those who are thought to hold it are asked first (`inquiry`); if they do not suffice, we walk. A
blob proves itself: the first copy that verifies is it. Of an entry, `reads` holders on two paths
must agree on the latest version. Topics are read in `topic`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence

from kademlia_node.core.contact import Contact
from kademlia_node.core.key import Key
from kademlia_node.core.manifest import Piece
from kademlia_node.core.message import FindValue, Item, Values
from kademlia_node.core.neighbourhood import Found
from kademlia_node.core.record import Header, Record
from kademlia_node.errors import NotAgreed
from kademlia_node.node.hunt import Hunt
from kademlia_node.node.inquiry import Inquiry
from kademlia_node.node.mend import Mender
from kademlia_node.node.pulling import pull
from kademlia_node.node.receipt import Step, StepOutcome, Trace
from kademlia_node.node.state import NodeState
from kademlia_node.node.tally import PATHS_MIN, Tally
from kademlia_node.node.walk import Visitor, Walk
from kademlia_node.rare import Rare, sometimes

OUR_OWN = -1  # the path of what we hold ourselves


async def _held_here(
    state: NodeState, key: Key, *, author: bytes = b"", slot: bytes = b""
) -> Record | None:
    """What our own store has at one place: no look at what else may be under the key."""
    record = await state.store.get_one(key.digest, author=author, slot=slot, wall=state.wall())
    return record if record and record.header.kind is key.kind else None


class Search:
    """Asking for one key: those who are thought to hold it, then whoever a walk finds."""

    def __init__(self, state: NodeState, key: Key) -> None:
        self._state = state
        self._key = key
        self._asking: Inquiry | Walk | None = None
        self.trace = Trace(key.digest)

    async def ask_known(self, *, reads: int, visit: Visitor) -> bool:
        """Whether those who are thought to hold it made the visitor content."""
        known = self._known(reads=reads)
        self._asking = Inquiry(
            self._state, self._key.digest, known, at_once=reads, visit=visit, trace=self.trace
        )
        return await self._asking.run()

    async def walk(self, *, visit: Visitor, holders: int = 0) -> None:
        """Walk until the visitor is content, as so many holders may make it, or to the end."""
        if self.trace.steps:  # those who were thought to hold it did not suffice
            self._state.neighbourhoods.forget(self._key.digest)
        self._asking = Walk(
            self._state,
            self._key.digest,
            FindValue(self._key.digest),
            visit=visit,
            trace=self.trace,
            holders=0 if self.trace.steps else holders,
        )
        await self._asking.run()

    def end(self) -> None:
        """Ask nobody else."""
        if self._asking is not None:
            self._asking.end()

    def blame(self, liars: Collection[Contact]) -> None:
        """These showed something that turned out to be false."""
        for step in self.trace.steps:
            if step.contact in liars:
                step.outcome = StepOutcome.BAD

    def holders(self) -> list[Contact]:
        """Who showed something that verified."""
        return [step.contact for step in self.trace.steps if step.outcome is StepOutcome.VALUE]

    def teach(self) -> None:
        """Remember who held it; and, behind them, who did before and was not asked now."""
        paths = {step.contact: step.path for step in self.trace.steps}
        found = [Found(contact, paths[contact]) for contact in self.holders()]
        if found:
            memory, now = self._state.neighbourhoods, self._state.loop.time()
            earlier = memory.holders(self._key.digest, now=now)
            found += [one for one in earlier if one.contact not in paths]
            memory.on_holders(self._key.digest, found, now=now)

    def _known(self, *, reads: int) -> list[Found]:
        """Holders seen lately, or else the nodes that should hold it, if they can suffice."""
        memory, now, digest = self._state.neighbourhoods, self._state.loop.time(), self._key.digest
        found = memory.holders(digest, now=now)
        if not _can_suffice(found, reads):
            copies = self._state.network.copies
            found = memory.near(digest, count_min=copies, reach=0, now=now)[:copies]
        return found if _can_suffice(found, reads) else []


def _can_suffice(found: Sequence[Found], reads: int) -> bool:
    """Whether so many can agree, on two paths."""
    return len(found) >= reads and len({one.path for one in found}) >= min(PATHS_MIN, reads)


class Reader:
    """The reading verbs of a node, for single values."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._mender = Mender(state)

    async def blob(self, key: Key) -> tuple[Record | None, Trace]:
        """The first copy that verifies, and how it was found."""
        search, tally = Search(self._state, key), Tally(self._state, key)
        if held := await _held_here(self._state, key):
            return held, search.trace
        hunt = Hunt(self._state, key, trace=search.trace, on_found=search.end)

        def visit(step: Step, values: Values) -> bool:
            tally.add(step, values)
            while tally.claims:
                hunt.claim(*tally.claims.pop())
            return tally.enough(1)

        def visit_known(step: Step, values: Values) -> bool:
            return visit(step, values) or step.outcome is StepOutcome.VALUE  # or it claims to

        try:
            await search.ask_known(reads=1, visit=visit_known)
            record = _first(key, tally) or await hunt.settled()
            if record is None:
                await search.walk(visit=visit, holders=1)  # which proves itself
                record = _first(key, tally) or await hunt.settled()
        finally:
            hunt.end()
        search.blame(hunt.liars)
        self._conclude(search, record)
        return record, search.trace

    async def entry(
        self, key: Key, author: bytes, slot: bytes, *, reads: int | None = None
    ) -> tuple[Record | None, Trace]:
        """The latest version that `reads` holders agree on, or that anybody showed.

        Raises:
            NotAgreed: `reads` is given, and fewer agree.
        """
        wanted, reads = reads, self._state.settings.reads if reads is None else reads
        search, tally = Search(self._state, key), Tally(self._state, key)
        if held := await _held_here(self._state, key, author=author, slot=slot):
            tally.add_verified([Item(held.header, held.value)], path=OUR_OWN)

        def visit(step: Step, values: Values) -> bool:
            tally.add(step, values)
            return tally.enough(reads)

        if not tally.enough(reads) and not await search.ask_known(reads=reads, visit=visit):
            await search.walk(visit=visit)
        ours = (i for i in tally.latest() if (i.header.author, i.header.slot) == (author, slot))
        item = next(ours, None)
        record = await self._whole(key, item, tally, search.trace) if item else None
        self._conclude(search, record, holders=tally.holders_of(item) if item else ())
        if record is not None and wanted is not None and not tally.enough(wanted):
            sometimes(Rare.NOT_AGREED)
            raise NotAgreed(record, search.trace, reads=wanted)
        return record, search.trace

    async def items(self, key: Key, author: bytes, slot: bytes) -> AsyncGenerator[Item, None]:
        """As `entry`: the one record, if there is one, for whoever takes what topics give."""
        record, _ = await self.entry(key, author, slot)
        if record is not None:
            yield Item(record.header, record.value)

    async def version(self, key: Key, header: Header) -> Record | None:
        """The record with this very version, which need not be the latest."""
        tally, trace, found = Tally(self._state, key), Trace(key.digest), list[Item]()

        def visit(step: Step, values: Values) -> bool:
            items = tally.judge(step, values.items)
            true = [item for item in items if item.header.version == header.version]
            tally.add_verified(true, path=step.path, by=step.contact)
            found.extend(true)
            return bool(true)

        await Walk(self._state, key.digest, FindValue(key.digest), visit=visit).run()
        return await self._whole(key, found[0], tally, trace) if found else None

    def survey(self, key: Key) -> Walk:
        """A walk that goes on to the end, and marks whoever holds something valid under a key."""
        tally = Tally(self._state, key)

        def visit(step: Step, values: Values) -> bool:
            tally.add(step, values)
            return False

        return Walk(self._state, key.digest, FindValue(key.digest), visit=visit)

    async def _whole(self, key: Key, item: Item, tally: Tally, trace: Trace) -> Record | None:
        """The record of an item, its value pulled from one of its holders if it is long."""
        if item.value is not None:
            return _record_of(key, item)
        header = item.header
        trace.round_trips += 1
        for holder in tally.holders_of(item):
            piece = Piece(header.value_hash, header.length)
            value = await pull(self._state, holder, piece, trace=trace)
            if value is not None:
                return Record(key.digest, header, value)
            sometimes(Rare.VALUE_NOT_GIVEN)
        return None

    def _conclude(
        self,
        search: Search,
        record: Record | None,
        *,
        holders: Sequence[Contact] | None = None,
    ) -> None:
        """Remember who held it, mend what was lacking, count what it cost."""
        search.teach()
        if record is not None:
            showed = search.holders() if holders is None else holders
            self._mender.on_read(record, showed, search.trace)
        self._state.count_operation("get", search.trace)


def _first(key: Key, tally: Tally) -> Record | None:
    return next((_record_of(key, item) for item in tally.latest()), None)


def _record_of(key: Key, item: Item) -> Record:
    assert item.value is not None
    return Record(key.digest, item.header, item.value)
