"""Snapshots of a key: when pages are made, how long they are good for, and that they come back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.key import blob_key, entry_key, topic_key
from kademlia_node.core.manifest import Manifest
from kademlia_node.core.message import Chunk, FindValue, Snapshot, Values
from kademlia_node.core.record import Record, make_blob, make_entry, make_topic_entry
from kademlia_node.core.snapshot import read_page
from kademlia_node.node.contents import Contents
from kademlia_node.node.snapshots import FEW, STEP, TOPICS_MAX, Snapshots, View
from kademlia_node.settings import CHUNK_BYTES, Settings
from kademlia_node.store.memory import MemoryStore
from tests.node.network import DAY, PRIVATE, SUITE, Neighbourhood, Stranger, contact_of

AUTHOR = Identity.generate(Random(3), suite=SUITE)
ASKER = Contact(AUTHOR.public_key, Address("8.8.8.8", 4000))
CARS = topic_key(b"cars").digest
SETTINGS = Settings(store_share_per_author=1.0)
WALL = 1_700_000_000.0
MANY = 300


def entry(
    number: int, *, topic: bytes = CARS, size: int = 100, seq: int = 1, lives_s: float = DAY
) -> Record:
    return make_topic_entry(
        AUTHOR.signing,
        topic,
        slot=b"%05d" % number,
        value=bytes(size),
        seq=seq,
        expires=int(WALL + lives_s),
        network_tag=PRIVATE.tag,
    )


def frugal(burst: float) -> Settings:
    """A node that pages 100 entries per second, in the long run."""
    return Settings(
        store_share_per_author=1.0, snapshot_entries_per_s=100, snapshot_entries_burst=burst
    )


def entries(count: int, **options: Any) -> list[Record]:
    return [entry(number, **options) for number in range(count)]


class SteppedStore(MemoryStore):
    """Counts reads, and has others take their turn, or a test do something, in each of them."""

    def __init__(self) -> None:
        super().__init__(bytes(32), settings=SETTINGS)
        self.reads = 0
        self.meanwhile: Callable[[], Any] = lambda: None
        self.seek_s = 0.0

    async def get(self, key: bytes, **options: Any) -> list[Record]:
        self.reads += 1
        records = await super().get(key, **options)
        await asyncio.sleep(self.seek_s)
        self.meanwhile()
        return records


class Holder:
    """A store, its contents and its snapshots."""

    def __init__(self, *, cache_bytes: int = 2**24, settings: Settings = SETTINGS) -> None:
        loop = asyncio.get_running_loop()
        self.store = SteppedStore()
        self.contents = Contents(cache_bytes, age_s=SETTINGS.contents_age_s)
        self.snapshots = Snapshots(
            self.store,
            contents=self.contents,
            settings=settings,
            wall=lambda: WALL + loop.time(),
        )
        self.contents.load_from(self.snapshots.page)

    async def file(self, *records: Record) -> None:
        for record in records:
            wall = WALL + asyncio.get_running_loop().time()
            await self.store.put(record, charged_to=b"", wall=wall)
            self.snapshots.on_change(record.key)

    async def content(self, content_hash: bytes) -> bytes | None:
        """A content as a reader pulls it."""
        chunks: list[bytes] = []
        while True:
            request = Chunk(content_hash, len(chunks))
            chunk = self.contents.at_hand(ASKER, request) or await self.contents.chunk(request)
            if chunk.data is None:
                return b"".join(chunks) or None
            chunks.append(chunk.data)
            if len(chunk.data) < CHUNK_BYTES:
                return b"".join(chunks)

    async def pages(self, snapshot: Snapshot | None) -> list[bytes | None]:
        assert snapshot is not None
        packed = await self.content(snapshot.hash)
        assert packed is not None
        assert len(packed) == snapshot.length
        return [await self.content(piece.hash) for piece in Manifest.unpack(packed).pieces]

    async def slots(self, view: View) -> list[bytes]:
        """Those that a reader of the snapshot learns."""
        pages = await self.pages(view.snapshot)
        return [item.header.slot for page in pages if page for item in read_page(page)]


def slots_of(records: list[Record]) -> list[bytes]:
    return [record.header.slot for record in records]


# --- What is shown ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, FEW])
async def test_a_few_records_need_no_snapshot(count: int) -> None:
    holder = Holder()
    await holder.file(*entries(count))
    assert await holder.snapshots.view(CARS) == View(entries(count), count, None)
    assert holder.store.reads == 1


@pytest.mark.parametrize("count", [FEW + 1, STEP, STEP + 1, MANY])
async def test_many_records_are_shown_by_the_first_of_them_and_read_page_by_page(
    count: int,
) -> None:
    holder = Holder()
    await holder.file(*entries(count))
    view = await holder.snapshots.view(CARS)
    assert (view.records, view.count) == (entries(FEW), count)
    assert await holder.slots(view) == slots_of(entries(count))


async def test_holders_of_the_same_records_have_the_same_snapshot() -> None:
    one, other = Holder(), Holder()
    await one.file(*entries(MANY))
    await other.file(*reversed(entries(MANY)))
    assert await one.snapshots.view(CARS) == await other.snapshots.view(CARS)
    assert one.snapshots.of(CARS, View(entries(5), 5)) == other.snapshots.of(
        CARS, View(entries(5), 5)
    )


async def test_few_records_that_are_too_large_for_an_answer_have_pages_too() -> None:
    holder, records = Holder(), entries(FEW, size=640)
    view = View(records, FEW, holder.snapshots.of(CARS, View(records, FEW)))
    assert await holder.slots(view) == slots_of(records)


async def test_what_has_expired_is_in_no_new_snapshot() -> None:
    holder = Holder()
    await holder.file(*entries(MANY), *(entry(n, lives_s=DAY / 2) for n in range(MANY, MANY + 20)))
    assert (await holder.snapshots.view(CARS)).count == MANY + 20
    await asyncio.sleep(DAY / 2)
    view = await holder.snapshots.view(CARS)
    assert view.count == MANY
    assert await holder.slots(view) == slots_of(entries(MANY))


async def test_a_topic_that_expires_while_it_is_paged_is_empty() -> None:
    holder = Holder()
    await holder.file(*entries(MANY, lives_s=10))
    holder.store.seek_s = 11
    view = await holder.snapshots.view(CARS)
    assert (view.records, view.count) == ([], 0)
    assert await holder.slots(view) == []


@pytest.mark.parametrize("squatters", [2, MANY])
async def test_squatters_under_the_key_of_an_entry_are_left_out(squatters: int) -> None:
    holder = Holder()
    true = make_entry(
        AUTHOR.signing,
        b"99999",
        value=b"value",
        seq=1,
        expires=int(WALL + DAY),
        network_tag=PRIVATE.tag,
    )
    assert true.key == entry_key(AUTHOR.public_key, b"99999").digest
    await holder.file(true, *entries(squatters, topic=true.key))
    assert await holder.snapshots.view(true.key) == View([true], 1, None)


async def test_squatters_under_the_key_of_a_blob_are_left_out() -> None:
    holder, blob = Holder(), make_blob(b"value", expires=int(WALL + DAY))
    await holder.file(blob, *entries(MANY, topic=blob_key(b"value").digest))
    assert await holder.snapshots.view(blob.key) == View([blob], 1, None)


# --- How long it is good for ------------------------------------------------------------------


async def test_pages_are_made_once_until_something_changes() -> None:
    holder = Holder()
    await holder.file(*entries(MANY))
    first = await holder.snapshots.view(CARS)
    reads = holder.store.reads
    assert await holder.snapshots.view(CARS) is first
    assert holder.store.reads == reads + 1  # whether there are few


async def test_a_change_shows_at_once_while_paging_is_within_the_budget() -> None:
    holder = Holder()
    await holder.file(*entries(MANY))
    before = await holder.snapshots.view(CARS)
    await holder.file(entry(MANY))
    after = await holder.snapshots.view(CARS)
    assert (before.count, after.count) == (MANY, MANY + 1)
    assert await holder.slots(after) == slots_of(entries(MANY + 1))


async def test_beyond_the_budget_readers_get_the_pages_of_a_while_ago() -> None:
    holder = Holder(settings=frugal(2 * MANY))
    await holder.file(*entries(MANY))
    for number in (0, 1, 2):  # the third is paid for by what comes later
        await holder.file(entry(number, seq=2))
        assert (await holder.snapshots.view(CARS)).records[number].header.seq == 2
    await holder.file(entry(3, seq=2))
    await asyncio.sleep(0.9)
    assert (await holder.snapshots.view(CARS)).records[3].header.seq == 1
    await asyncio.sleep(MANY / 100)
    assert (await holder.snapshots.view(CARS)).records[3].header.seq == 2


async def test_all_topics_share_one_budget_and_without_pages_the_first_records_are_shown() -> None:
    """A review had 260 topics, asked for in turn, paged anew at every question."""
    holder = Holder(settings=frugal(MANY))
    topics = [topic_key(b"%d" % number).digest for number in range(5)]
    for topic in topics:
        await holder.file(*entries(MANY, topic=topic))
    views = [await holder.snapshots.view(topic) for topic in topics]
    paged = [view.snapshot is not None for view in views]
    assert paged == [True, True, False, False, False]
    assert views[4] == View(entries(FEW, topic=topics[4]), FEW + 1, None)
    assert holder.snapshots.of(topics[4], views[4]) is None
    await asyncio.sleep(60)
    assert (await holder.snapshots.view(topics[4])).count == MANY


async def test_a_topic_larger_than_the_budget_is_paged_and_paid_for_afterwards() -> None:
    holder, bikes = Holder(settings=frugal(MANY / 2)), topic_key(b"bikes").digest
    await holder.file(*entries(MANY), *entries(FEW + 1, topic=bikes))
    assert (await holder.snapshots.view(CARS)).count == MANY
    assert (await holder.snapshots.view(bikes)).snapshot is None
    await asyncio.sleep(MANY / 100)
    assert (await holder.snapshots.view(bikes)).snapshot is not None


async def test_a_change_of_another_topic_changes_nothing() -> None:
    holder = Holder()
    await holder.file(*entries(MANY))
    before = await holder.snapshots.view(CARS)
    await holder.file(entry(1, topic=topic_key(b"bikes").digest))
    await asyncio.sleep(SETTINGS.snapshot_max_age_s * 0.9)
    assert await holder.snapshots.view(CARS) is before


async def test_a_minute_later_pages_are_made_again_without_a_change() -> None:
    holder = Holder()
    await holder.file(*entries(MANY))
    before = await holder.snapshots.view(CARS)
    await asyncio.sleep(SETTINGS.snapshot_max_age_s)
    after = await holder.snapshots.view(CARS)
    assert after is not before
    assert after == before


async def test_readers_who_come_together_share_the_work() -> None:
    holder = Holder()
    await holder.file(*entries(MANY))
    holder.store.seek_s = 0.1
    views = await asyncio.gather(*(holder.snapshots.view(CARS) for _ in range(5)))
    assert all(view is views[0] for view in views)
    assert holder.store.reads == 5 + 3  # two steps with records, and the end


async def test_a_record_filed_while_its_topic_is_paged_is_not_lost() -> None:
    holder = Holder()
    await holder.file(*entries(MANY)[1:])
    await holder.store.put(entry(0), charged_to=b"", wall=WALL)
    holder.store.seek_s = 0.1
    reading = asyncio.create_task(holder.snapshots.view(CARS))
    await asyncio.sleep(0.25)  # beyond where the record would have been
    late = entry(0, seq=2)
    await holder.file(late)
    assert (await reading).records[0] == entry(0)
    assert (await holder.snapshots.view(CARS)).records[0] == late


async def test_a_topic_that_changes_faster_than_it_is_paged_is_shown_all_the_same() -> None:
    holder = Holder()
    await holder.file(*entries(MANY))
    holder.store.seek_s = SETTINGS.snapshot_max_age_s
    holder.store.meanwhile = lambda: holder.snapshots.on_change(CARS)
    views = asyncio.gather(*(holder.snapshots.view(CARS) for _ in range(3)))
    assert [view.count for view in await views] == [MANY] * 3
    assert holder.store.reads == 3 + 3


async def test_when_a_paging_fails_whoever_waits_tries_for_itself() -> None:
    holder = Holder()
    await holder.file(*entries(MANY))
    holder.store.seek_s = 0.1

    def fail_once() -> None:
        holder.store.meanwhile = lambda: None
        raise OSError("the disk is gone")

    reading = asyncio.gather(
        *(holder.snapshots.view(CARS) for _ in range(2)), return_exceptions=True
    )
    await asyncio.sleep(0.15)
    holder.store.meanwhile = fail_once
    broken, shown = await reading
    assert isinstance(broken, OSError)
    assert isinstance(shown, View)
    assert shown.count == MANY


# --- Pages that come back ---------------------------------------------------------------------


async def test_pages_and_manifest_are_made_again_when_they_are_no_longer_at_hand() -> None:
    holder = Holder(cache_bytes=0)
    records = [*entries(MANY), *(entry(MANY + n, size=640) for n in range(200))]
    await holder.file(*records)
    view = await holder.snapshots.view(CARS)
    assert view.snapshot is not None
    pages = await holder.pages(view.snapshot)
    assert len(pages) > 3
    assert await holder.slots(view) == slots_of(records)
    for page in pages:
        assert page is not None
        assert await holder.snapshots.page(hashlib.sha256(page).digest(), 0) == page
        assert await holder.snapshots.page(hashlib.sha256(page).digest(), 65536) is None


async def test_pages_of_few_records_are_made_again_too() -> None:
    """Chaos, seed 23: a topic of four such records could not be read over a long way."""
    holder, records = Holder(cache_bytes=0), entries(FEW, size=640)
    await holder.file(*records)
    snapshot = holder.snapshots.of(CARS, await holder.snapshots.view(CARS))
    assert await holder.slots(View(records, FEW, snapshot)) == slots_of(records)
    assert snapshot is not None
    await holder.file(entry(0, seq=2, size=99))
    later = holder.snapshots.of(CARS, await holder.snapshots.view(CARS))
    assert later is not None
    assert later != snapshot
    assert await holder.snapshots.page(snapshot.hash, 0) is None  # chaos, seed 14
    assert await holder.snapshots.page(later.hash, 0) is not None
    await holder.file(*entries(MANY, size=100)[FEW:])
    view = await holder.snapshots.view(CARS)
    assert view.count == MANY
    assert len(await holder.slots(view)) == MANY


async def test_a_page_whose_records_have_changed_is_gone_and_never_another_one() -> None:
    holder = Holder(cache_bytes=0)
    await holder.file(*entries(MANY))
    before = await holder.snapshots.view(CARS)
    pages = await holder.pages(before.snapshot)
    await holder.file(entry(0, seq=2, size=99))
    assert await holder.pages(before.snapshot) == [None, *pages[1:]]
    reads = holder.store.reads
    assert pages[0] is not None
    assert await holder.snapshots.page(hashlib.sha256(pages[0]).digest(), 0) is None
    assert holder.store.reads == reads  # nobody looks for it twice


async def test_a_page_whose_first_record_has_expired_is_gone() -> None:
    holder = Holder(cache_bytes=0)
    await holder.file(entry(0, lives_s=30), *entries(MANY)[1:])
    before = await holder.snapshots.view(CARS)
    pages = await holder.pages(before.snapshot)
    await asyncio.sleep(31)
    assert await holder.pages(before.snapshot) == [None, *pages[1:]]


async def test_pages_of_an_earlier_snapshot_are_forgotten_with_it() -> None:
    holder = Holder(cache_bytes=0)
    await holder.file(*entries(MANY))
    before = await holder.snapshots.view(CARS)
    await holder.file(entry(0, seq=2))
    await asyncio.sleep(1)
    after = await holder.snapshots.view(CARS)
    assert before.snapshot is not None
    assert after.snapshot is not None
    assert await holder.content(before.snapshot.hash) is None
    assert await holder.content(after.snapshot.hash) is not None


async def test_the_topics_remembered_are_limited_and_the_longest_unused_goes_first() -> None:
    holder = Holder(cache_bytes=0)
    topics = [topic_key(b"%d" % number).digest for number in range(TOPICS_MAX + 1)]
    views = []
    for topic in topics:
        await holder.file(*entries(FEW + 1, topic=topic))
        await holder.snapshots.view(topics[0])  # somebody reads it all the time
        views.append(await holder.snapshots.view(topic))
    snapshots = [view.snapshot for view in views if view.snapshot]
    there = [await holder.content(snapshot.hash) is not None for snapshot in snapshots]
    assert there == [True, False] + [True] * (TOPICS_MAX - 1)


# --- Through a node ---------------------------------------------------------------------------


async def find(stranger: Stranger, here: Neighbourhood, *, known: bytes = b"") -> Values:
    answer = await stranger.exchange.ask(contact_of(here.nodes[0]), FindValue(CARS, known))
    assert isinstance(answer, Values)
    return answer


@pytest.mark.parametrize("count", [2, FEW, MANY])
async def test_who_knows_the_snapshot_gets_no_items(count: int) -> None:
    async with Neighbourhood(settings=SETTINGS) as here:
        node = await here.start()
        records = entries(count, size=100)
        for record in records:
            await here.store_of(node).put(record, charged_to=b"", wall=here.sim.wall())
        stranger = await here.stranger()
        shown = await find(stranger, here)
        assert len(shown.items) == min(count, 4)
        assert (shown.snapshot is None) == (count == 2)
        known = shown.snapshot or Holder().snapshots.of(CARS, View(records, count))
        assert known is not None
        assert await find(stranger, here, known=known.hash) == Values((), count, known, ())
        assert await find(stranger, here, known=bytes(32)) == shown
