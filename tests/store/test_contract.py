"""What every Store promises: the one in memory and the one on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.record import Record, merge
from kademlia_node.settings import Settings
from kademlia_node.store.base import (
    FIRST,
    Answer,
    Outcome,
    Published,
    Store,
    Usage,
    place_of,
)
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.memory import MemoryStore
from tests.store.records import (
    ALICE,
    BOB,
    OTHER_PREFIX,
    OVERHEAD,
    OWN_ID,
    PREFIX,
    ROOMY,
    TOPIC,
    WALL,
    blob,
    by_distance,
    entry,
    held,
    put,
    room_for,
    signing_key,
    tombstone,
    topic_entry,
)

Open = Callable[[Settings], Awaitable[Store]]


async def open_disk(folder: Path, settings: Settings) -> Store:
    return await DiskStore.open(folder / "store.db", own_id=OWN_ID, settings=settings)


class Contract:
    """Tests, to be run by a subclass for each store."""

    # --- Keeping ----------------------------------------------------------------------------------

    async def test_what_was_stored_is_found_again(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        for record in (blob(b"value"), blob(b""), entry(), topic_entry(ALICE)):
            assert await store.put(record, charged_to=PREFIX, wall=WALL) == Answer(
                Outcome.STORED, None
            )
            assert await store.get(record.key, wall=WALL) == [record]
            author, slot = record.header.author, record.header.slot
            assert await store.get_one(record.key, author=author, slot=slot, wall=WALL) == record
        await store.close()

    async def test_what_was_never_stored_is_not_found(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        await put(store, topic_entry(ALICE, b"a"))
        assert await store.get(blob(b"value").key, wall=WALL) == []
        assert await store.get_one(TOPIC, author=BOB.public_key, slot=b"a", wall=WALL) is None
        assert await store.get_one(TOPIC, author=ALICE.public_key, slot=b"b", wall=WALL) is None

    async def test_entries_of_a_topic_stand_side_by_side_in_order(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        entries = [
            topic_entry(author, slot) for author in (BOB, ALICE) for slot in (b"b", b"", b"a")
        ]
        for record in entries:
            assert await put(store, record) is Outcome.STORED
        assert await store.get(TOPIC, wall=WALL) == merge(entries)
        assert await store.keys(wall=WALL) == [TOPIC]

    async def test_keys_are_sorted(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        records = [blob(bytes([number])) for number in range(20)]
        for record in records:
            await put(store, record)
        assert await store.keys(wall=WALL) == sorted(record.key for record in records)

    async def test_usage_counts_values_and_overhead(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        assert await store.usage() == Usage(0, 0)
        await put(store, blob(b"v" * 100))
        await put(store, entry(b"blue"))
        assert await store.usage() == Usage(2, 104 + 2 * OVERHEAD)
        await put(store, entry(b"yellow", seq=2))
        assert await store.usage() == Usage(2, 106 + 2 * OVERHEAD)
        await put(store, tombstone(seq=3))
        assert await store.usage() == Usage(2, 100 + 2 * OVERHEAD)

    async def test_closing_twice_is_harmless(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        await store.close()
        await store.close()

    # --- Expiry -----------------------------------------------------------------------------------

    async def test_the_expired_are_not_there_before_any_sweep(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        record = topic_entry(ALICE, ttl=10)
        place = {"author": ALICE.public_key, "slot": b""}
        await put(store, record)
        await put(store, topic_entry(BOB, ttl=20))
        await put(store, entry(ttl=10))
        assert await store.get_one(TOPIC, **place, wall=WALL + 9.9) == record
        assert len(await store.keys(wall=WALL + 9.9)) == 2
        assert await store.get_one(TOPIC, **place, wall=WALL + 10) is None
        assert await store.get(TOPIC, wall=WALL + 10) == [topic_entry(BOB, ttl=20)]
        assert await store.keys(wall=WALL + 10) == [TOPIC]
        assert (await store.usage()).records == 3

    async def test_a_sweep_forgets_just_what_has_expired(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        for ttl in (10, 20, 30):
            await put(store, blob(bytes([ttl]), ttl=ttl))
        assert await store.sweep(wall=WALL + 9.9) == 0
        assert await store.sweep(wall=WALL + 20) == 2
        assert await store.sweep(wall=WALL + 20) == 0
        assert await held(store) == [blob(bytes([30]), ttl=30)]
        assert await store.usage() == Usage(1, 1 + OVERHEAD)

    async def test_an_expired_predecessor_is_none(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        await put(store, entry(b"blue", seq=9, ttl=10))
        late = entry(b"red", seq=1)
        answer = await store.put(late, charged_to=PREFIX, wall=WALL + 10, expect_seq=0)
        assert answer == Answer(Outcome.STORED, None)

    async def test_the_expired_take_no_room(self, open_store: Open) -> None:
        store = await open_store(room_for(1))
        near, far = by_distance([blob(b"a" * 100, ttl=10), blob(b"b" * 100, ttl=10)])
        await put(store, near)
        assert await put(store, far, wall=WALL + 9) is Outcome.QUOTA
        assert (
            await put(
                store, replace(far, header=replace(far.header, expires=WALL + 20)), wall=WALL + 10
            )
            is Outcome.STORED
        )

    # --- Conflicts --------------------------------------------------------------------------------

    async def test_a_newer_version_replaces_and_an_older_one_meets_it(
        self, open_store: Open
    ) -> None:
        store = await open_store(ROOMY)
        first, second = entry(b"blue", seq=1), entry(b"red", seq=2)
        await put(store, first)
        answer = await store.put(second, charged_to=PREFIX, wall=WALL)
        assert answer == Answer(Outcome.STORED, first.header)
        answer = await store.put(first, charged_to=PREFIX, wall=WALL)
        assert answer == Answer(Outcome.OLD, second.header)
        assert await held(store) == [second]

    async def test_a_deleted_record_stays_deleted(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        await put(store, entry(seq=1))
        assert await put(store, tombstone(seq=2)) is Outcome.STORED
        assert await put(store, entry(seq=1)) is Outcome.OLD
        assert await held(store) == [tombstone(seq=2)]

    async def test_a_later_expiry_of_the_same_version_is_taken_over(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        for shorter, longer in (
            (entry(ttl=10), entry(ttl=20)),
            (blob(b"v", ttl=10), blob(b"v", ttl=20)),
        ):
            await put(store, shorter)
            answer = await store.put(longer, charged_to=PREFIX, wall=WALL)
            assert answer == Answer(Outcome.HAVE, shorter.header)
            assert await put(store, shorter) is Outcome.HAVE
            assert await store.get(longer.key, wall=WALL + 15) == [longer]
        assert await store.sweep(wall=WALL + 15) == 0
        assert await store.sweep(wall=WALL + 20) == 2

    async def test_a_successor_that_would_expire_first_is_refused(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        record = entry(seq=1, ttl=20)
        await put(store, record)
        answer = await store.put(tombstone(seq=2, ttl=19), charged_to=PREFIX, wall=WALL)
        assert answer == Answer(Outcome.SHORTENED, record.header)
        assert await held(store) == [record]

    async def test_compare_and_set_refuses_what_was_written_unseen(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        first, second, third = (entry(bytes([seq]), seq=seq) for seq in (1, 2, 3))
        assert await put(store, first, expect_seq=7) is Outcome.CONFLICT
        assert await put(store, first, expect_seq=0) is Outcome.STORED
        assert await put(store, second, expect_seq=0) is Outcome.CONFLICT
        assert await put(store, second, expect_seq=1) is Outcome.STORED
        answer = await store.put(third, charged_to=PREFIX, wall=WALL, expect_seq=1)
        assert answer == Answer(Outcome.CONFLICT, second.header)
        assert await put(store, first, expect_seq=1) is Outcome.CONFLICT
        assert await put(store, first, expect_seq=2) is Outcome.OLD

    async def test_a_repeated_compare_and_set_is_harmless(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        await put(store, entry(b"blue", seq=1))
        for expected in (Outcome.STORED, Outcome.HAVE, Outcome.HAVE):
            assert await put(store, entry(b"red", seq=2), expect_seq=1) is expected
        assert await put(store, entry(b"red", seq=2, ttl=7200), expect_seq=1) is Outcome.HAVE

    # --- Quotas -----------------------------------------------------------------------------------

    async def test_a_full_store_gives_up_the_farthest_for_the_nearer(
        self, open_store: Open
    ) -> None:
        store = await open_store(room_for(3))
        nearest, second, third, fourth, farthest = by_distance(
            [blob(bytes([number]) * 100) for number in range(5)]
        )
        for record in (farthest, second, fourth):
            assert await put(store, record) is Outcome.STORED
        assert await put(store, third) is Outcome.STORED  # at the cost of the farthest
        assert await put(store, farthest) is Outcome.QUOTA
        assert await put(store, nearest) is Outcome.STORED  # at the cost of the fourth
        assert by_distance(await held(store)) == [nearest, second, third]

    async def test_several_small_ones_go_for_one_large(self, open_store: Open) -> None:
        store = await open_store(room_for(3))
        near, *others = by_distance([blob(bytes([number]) * 100) for number in range(4)])
        for record in others:
            await put(store, record)
        large = replace(near, header=replace(near.header, length=101), value=b"v" * 101)
        assert await put(store, large) is Outcome.STORED
        assert by_distance(await held(store)) == [large, others[0]]

    async def test_nobody_goes_for_one_that_finds_no_room_all_the_same(
        self, open_store: Open
    ) -> None:
        store = await open_store(room_for(2))
        nearest, near, middle, far = by_distance(
            [blob(bytes([number]) * 100) for number in range(4)]
        )
        await put(store, near)
        await put(store, far)
        for record, length in ((middle, 300), (nearest, 9999)):
            header = replace(record.header, length=length)
            large = Record(record.key, header, b"v" * length)
            assert await put(store, large) is Outcome.QUOTA
        assert by_distance(await held(store)) == [near, far]

    async def test_under_one_key_the_soonest_to_expire_go_first(self, open_store: Open) -> None:
        store = await open_store(room_for(2))
        value = b"v" * 100
        soon, later, latest = (
            topic_entry(signing_key(9 - ttl), value=value, ttl=ttl) for ttl in (1, 2, 3)
        )
        await put(store, later)
        await put(store, soon)
        assert await put(store, latest) is Outcome.STORED
        assert await store.get(TOPIC, wall=WALL) == merge([later, latest])
        assert await put(store, soon) is Outcome.QUOTA
        no_better = topic_entry(signing_key(99), value=value, ttl=2)
        assert await put(store, no_better) is Outcome.QUOTA

    async def test_an_author_over_its_share_is_refused_and_others_are_not(
        self, open_store: Open
    ) -> None:
        store = await open_store(room_for(4, share_per_author=0.5))
        mine = [entry(b"v" * 100, slot=bytes([number])) for number in range(3)]
        assert [await put(store, record) for record in mine] == [
            Outcome.STORED,
            Outcome.STORED,
            Outcome.QUOTA,
        ]
        assert await put(store, entry(b"v" * 100, author=BOB)) is Outcome.STORED

    async def test_a_prefix_over_its_share_is_refused_and_others_are_not(
        self, open_store: Open
    ) -> None:
        store = await open_store(room_for(6, share_per_prefix=0.5))
        records = [blob(bytes([number]) * 100) for number in range(5)]
        outcomes = [await put(store, record) for record in records[:4]]
        assert outcomes == [Outcome.STORED] * 3 + [Outcome.QUOTA]
        assert await put(store, records[3], charged_to=OTHER_PREFIX) is Outcome.STORED
        assert await put(store, records[4], charged_to=b"") is Outcome.STORED

    async def test_what_is_charged_to_nobody_may_fill_the_store(self, open_store: Open) -> None:
        store = await open_store(room_for(4, share_per_author=0.1, share_per_prefix=0.1))
        for number in range(4):
            assert await put(store, blob(bytes([number]) * 100), charged_to=b"") is Outcome.STORED

    async def test_what_has_gone_is_charged_to_nobody(self, open_store: Open) -> None:
        store = await open_store(room_for(4, share_per_author=0.25, share_per_prefix=0.25))
        assert await put(store, entry(b"v" * 100, ttl=10)) is Outcome.STORED
        assert await put(store, entry(b"v" * 100, slot=b"b")) is Outcome.QUOTA
        await store.sweep(wall=WALL + 10)
        assert await put(store, entry(b"v" * 100, slot=b"b"), wall=WALL + 10) is Outcome.STORED

    @pytest.mark.parametrize(
        "settings", [room_for(4, share_per_author=0.25, share_per_prefix=0.25), room_for(1)]
    )
    async def test_a_successor_takes_the_room_of_its_predecessor(
        self, open_store: Open, settings: Settings
    ) -> None:
        store = await open_store(settings)
        await put(store, entry(b"v" * 50, seq=1))
        assert await put(store, entry(b"v" * 100, seq=2)) is Outcome.STORED
        assert await put(store, entry(b"v" * 101, seq=3)) is Outcome.QUOTA

    async def test_a_growing_successor_needs_room_in_the_share_of_who_sent_it(
        self, open_store: Open
    ) -> None:
        store = await open_store(room_for(4, share_per_prefix=0.25))
        await put(store, blob(b"v" * 100), charged_to=OTHER_PREFIX)
        await put(store, entry(b"v" * 50, seq=1))
        growing = entry(b"v" * 60, seq=2)
        assert await put(store, growing, charged_to=OTHER_PREFIX) is Outcome.QUOTA
        assert await put(store, growing) is Outcome.STORED

    async def test_a_successor_in_a_full_store_does_not_push_itself_out(
        self, open_store: Open
    ) -> None:
        store = await open_store(room_for(2))
        alices, bobs = entry(b"v" * 100, author=ALICE), entry(b"v" * 100, author=BOB)
        _, far = by_distance([alices, bobs])
        author = ALICE if far is alices else BOB
        await put(store, alices)
        await put(store, bobs)
        assert await put(store, entry(b"v" * 101, author=author, seq=2, ttl=7200)) is Outcome.QUOTA
        assert len(await held(store)) == 2

    async def test_deleting_is_possible_whoever_filled_the_store(self, open_store: Open) -> None:
        store = await open_store(room_for(2, share_per_prefix=0.5))
        await put(store, entry(b"v" * 100))
        await put(store, blob(b"v" * 100), charged_to=OTHER_PREFIX)
        assert await put(store, tombstone(), charged_to=OTHER_PREFIX) is Outcome.STORED

    async def test_rewriting_from_elsewhere_does_not_escape_the_share(
        self, open_store: Open
    ) -> None:
        store = await open_store(room_for(4, share_per_prefix=0.5))
        for slot in (b"a", b"b"):
            await put(store, entry(b"v" * 100, slot=slot))
            rewritten = entry(b"w" * 100, slot=slot, seq=2)
            assert await put(store, rewritten, charged_to=OTHER_PREFIX) is Outcome.STORED
            renewed = entry(b"w" * 100, slot=slot, seq=2, ttl=7200)
            assert await put(store, renewed, charged_to=OTHER_PREFIX) is Outcome.HAVE
        assert await put(store, blob(b"v" * 100)) is Outcome.QUOTA

    # --- Pages ------------------------------------------------------------------------------------

    async def test_pages_tell_each_living_record_once_in_order(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        records = [blob(bytes([number])) for number in range(5)]
        records += [topic_entry(author, slot) for author in (ALICE, BOB) for slot in (b"a", b"b")]
        for record in records:
            await put(store, record)
        await put(store, blob(b"short-lived", ttl=10))
        told: list[Record] = []
        after = FIRST
        while page := await store.page(after, limit=4, wall=WALL + 10):
            assert len(page) <= 4
            assert len(told) < len(records)
            told += page
            after = place_of(page[-1])
        assert told == sorted(records, key=place_of)

    async def test_what_is_put_behind_a_page_is_on_a_later_one(self, open_store: Open) -> None:
        store = await open_store(ROOMY)
        first, second, third = sorted((blob(bytes([number])) for number in range(3)), key=place_of)
        await put(store, first)
        await put(store, third)
        assert await store.page(limit=1, wall=WALL) == [first]
        await put(store, second)
        assert await store.page(place_of(first), limit=9, wall=WALL) == [second, third]
        assert await store.page(place_of(third), limit=9, wall=WALL) == []

    # --- Publications -----------------------------------------------------------------------------

    async def test_publications_are_kept_by_place_and_in_order(self, open_store: Open) -> None:
        publications = (await open_store(ROOMY)).publications
        assert await publications.load() == []
        published = [
            Published(record, WALL + 0.5)
            for record in (blob(b"v"), entry(), topic_entry(BOB, b"s"))
        ]
        for one in published:
            await publications.keep(one)
        assert await publications.load() == sorted(published, key=lambda one: one.place)

    async def test_a_publication_replaces_the_one_at_its_place_whatever_its_version(
        self,
        open_store: Open,
    ) -> None:
        publications = (await open_store(ROOMY)).publications
        await publications.keep(Published(entry(b"red", seq=2), WALL))
        earlier = Published(entry(b"blue", seq=1), WALL + 1)
        await publications.keep(earlier)
        assert await publications.load() == [earlier]

    async def test_a_dropped_publication_is_gone_and_dropping_it_again_is_harmless(
        self,
        open_store: Open,
    ) -> None:
        publications = (await open_store(ROOMY)).publications
        stays, goes = Published(entry(slot=b"a"), WALL), Published(entry(slot=b"b"), WALL)
        await publications.keep(stays)
        await publications.keep(goes)
        for _ in range(2):
            await publications.drop(goes.place)
            assert await publications.load() == [stays]

    async def test_publications_are_no_records_of_the_store(self, open_store: Open) -> None:
        store = await open_store(room_for(1))
        for number in range(3):
            published = Published(blob(bytes([number]) * 100, ttl=10), WALL)
            await store.publications.keep(published)
        assert await store.usage() == Usage(0, 0)
        assert await store.page(limit=9, wall=WALL) == []
        await store.sweep(wall=WALL + 10)
        assert len(await store.publications.load()) == 3


class TestMemoryStore(Contract):
    @pytest.fixture
    async def open_store(self) -> Open:
        async def open_one(settings: Settings) -> Store:
            return MemoryStore(OWN_ID, settings=settings)

        return open_one


@pytest.mark.net  # a thread needs the real clock
class TestDiskStore(Contract):
    @pytest.fixture
    async def open_store(self, tmp_path: Path) -> AsyncIterator[Open]:
        opened: list[Store] = []

        async def open_one(settings: Settings) -> Store:
            opened.append(await open_disk(tmp_path, settings))
            return opened[-1]

        yield open_one
        for store in opened:
            await store.close()


# --- All of it, in any order ----------------------------------------------------------------------

AUTHORS = [signing_key(number) for number in range(3)]
RECORDS = st.builds(
    entry,
    st.sampled_from([b"", b"v" * 50, b"w" * 100]),
    author=st.sampled_from(AUTHORS),
    slot=st.sampled_from([b"a", b"b"]),
    seq=st.integers(1, 3),
    ttl=st.integers(5, 30),
)
PUTS = st.lists(st.tuples(RECORDS, st.sampled_from([b"", PREFIX]), st.integers(0, 20)), max_size=30)


TIGHT = room_for(3, share_per_author=0.7, share_per_prefix=0.7)
Put = tuple[Record, bytes, int]  # what, charged to whom, how many seconds after WALL


async def check_the_books(store: Store, puts: list[Put]) -> None:
    wall = WALL
    for record, charged_to, elapsed in puts:
        wall = max(wall, WALL + elapsed)
        outcome = await put(store, record, charged_to=charged_to, wall=wall)
        if record.header.expires > wall and outcome in {Outcome.STORED, Outcome.HAVE}:
            there = await store.get(record.key, wall=wall)
            assert [found.header.version for found in there] == [record.header.version]
        assert (await store.usage()).size_bytes <= TIGHT.store_bytes_max
    await store.sweep(wall=wall)
    remaining = await held(store, wall=wall)
    size_bytes = sum(len(record.value) + OVERHEAD for record in remaining)
    assert await store.usage() == Usage(len(remaining), size_bytes)
    await store.sweep(wall=WALL + 30)
    assert await store.usage() == Usage(0, 0)


@given(puts=PUTS)
async def test_no_order_of_puts_breaks_the_books_in_memory(puts: list[Put]) -> None:
    await check_the_books(MemoryStore(OWN_ID, settings=TIGHT), puts)


@pytest.mark.net
@hypothesis.settings(max_examples=20)  # each makes a file, and what is decided is the same
@given(puts=PUTS)
async def test_no_order_of_puts_breaks_the_books_on_disk(puts: list[Put]) -> None:
    with TemporaryDirectory() as folder:
        store = await open_disk(Path(folder), TIGHT)
        await check_the_books(store, puts)
        await store.close()
