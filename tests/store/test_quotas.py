"""Who finds room in a store, who makes room, and that the books are right in the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.record import Record, merge
from kademlia_node.settings import Settings
from kademlia_node.store.base import Outcome, Store, Usage
from kademlia_node.store.memory import MemoryStore
from tests.store.conftest import Open
from tests.store.disks import opened
from tests.store.records import (
    ALICE,
    BOB,
    OTHER_PREFIX,
    OVERHEAD,
    OWN_ID,
    PREFIX,
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

pytestmark = pytest.mark.net  # see conftest


async def test_a_full_store_gives_up_the_farthest_for_the_nearer(open_store: Open) -> None:
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


async def test_who_had_to_make_room_is_told(open_store: Open) -> None:
    store = await open_store(room_for(2))
    nearest, second, third = by_distance([blob(bytes([number]) * 100) for number in range(3)])
    for record in (second, third):
        assert (await store.put(record, charged_to=PREFIX, wall=WALL)).gone == ()
    answer = await store.put(nearest, charged_to=PREFIX, wall=WALL)
    assert (answer.outcome, answer.gone) == (Outcome.STORED, (third.key,))


async def test_several_small_ones_go_for_one_large(open_store: Open) -> None:
    store = await open_store(room_for(3))
    near, *others = by_distance([blob(bytes([number]) * 100) for number in range(4)])
    for record in others:
        await put(store, record)
    large = replace(near, header=replace(near.header, length=101), value=b"v" * 101)
    assert await put(store, large) is Outcome.STORED
    assert by_distance(await held(store)) == [large, others[0]]


async def test_nobody_goes_for_one_that_finds_no_room_all_the_same(open_store: Open) -> None:
    store = await open_store(room_for(2))
    nearest, near, middle, far = by_distance([blob(bytes([number]) * 100) for number in range(4)])
    await put(store, near)
    await put(store, far)
    for record, length in ((middle, 300), (nearest, 9999)):
        header = replace(record.header, length=length)
        large = Record(record.key, header, b"v" * length)
        assert await put(store, large) is Outcome.QUOTA
    assert by_distance(await held(store)) == [near, far]


async def test_under_one_key_the_soonest_to_expire_go_first(open_store: Open) -> None:
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


async def test_an_author_over_its_share_is_refused_and_others_are_not(open_store: Open) -> None:
    store = await open_store(room_for(4, share_per_author=0.5))
    mine = [entry(b"v" * 100, slot=bytes([number])) for number in range(3)]
    assert [await put(store, record) for record in mine] == [
        Outcome.STORED,
        Outcome.STORED,
        Outcome.QUOTA,
    ]
    assert await put(store, entry(b"v" * 100, author=BOB)) is Outcome.STORED


async def test_a_prefix_over_its_share_is_refused_and_others_are_not(open_store: Open) -> None:
    store = await open_store(room_for(6, share_per_prefix=0.5))
    records = [blob(bytes([number]) * 100) for number in range(5)]
    outcomes = [await put(store, record) for record in records[:4]]
    assert outcomes == [Outcome.STORED] * 3 + [Outcome.QUOTA]
    assert await put(store, records[3], charged_to=OTHER_PREFIX) is Outcome.STORED
    assert await put(store, records[4], charged_to=b"") is Outcome.STORED


async def test_what_is_charged_to_nobody_may_fill_the_store(open_store: Open) -> None:
    store = await open_store(room_for(4, share_per_author=0.1, share_per_prefix=0.1))
    for number in range(4):
        assert await put(store, blob(bytes([number]) * 100), charged_to=b"") is Outcome.STORED


async def test_what_has_gone_is_charged_to_nobody(open_store: Open) -> None:
    store = await open_store(room_for(4, share_per_author=0.25, share_per_prefix=0.25))
    assert await put(store, entry(b"v" * 100, ttl=10)) is Outcome.STORED
    assert await put(store, entry(b"v" * 100, slot=b"b")) is Outcome.QUOTA
    await store.sweep(wall=WALL + 10)
    assert await put(store, entry(b"v" * 100, slot=b"b"), wall=WALL + 10) is Outcome.STORED


@pytest.mark.parametrize(
    "settings", [room_for(4, share_per_author=0.25, share_per_prefix=0.25), room_for(1)]
)
async def test_a_successor_takes_the_room_of_its_predecessor(
    open_store: Open, settings: Settings
) -> None:
    store = await open_store(settings)
    await put(store, entry(b"v" * 50, seq=1))
    assert await put(store, entry(b"v" * 100, seq=2)) is Outcome.STORED
    assert await put(store, entry(b"v" * 101, seq=3)) is Outcome.QUOTA


async def test_a_growing_successor_needs_room_in_the_share_of_who_sent_it(open_store: Open) -> None:
    store = await open_store(room_for(4, share_per_prefix=0.25))
    await put(store, blob(b"v" * 100), charged_to=OTHER_PREFIX)
    await put(store, entry(b"v" * 50, seq=1))
    growing = entry(b"v" * 60, seq=2)
    assert await put(store, growing, charged_to=OTHER_PREFIX) is Outcome.QUOTA
    assert await put(store, growing) is Outcome.STORED


async def test_a_successor_in_a_full_store_does_not_push_itself_out(open_store: Open) -> None:
    store = await open_store(room_for(2))
    alices, bobs = entry(b"v" * 100, author=ALICE), entry(b"v" * 100, author=BOB)
    _, far = by_distance([alices, bobs])
    author = ALICE if far is alices else BOB
    await put(store, alices)
    await put(store, bobs)
    assert await put(store, entry(b"v" * 101, author=author, seq=2, ttl=7200)) is Outcome.QUOTA
    assert len(await held(store)) == 2


async def test_deleting_is_possible_whoever_filled_the_store(open_store: Open) -> None:
    store = await open_store(room_for(2, share_per_prefix=0.5))
    await put(store, entry(b"v" * 100))
    await put(store, blob(b"v" * 100), charged_to=OTHER_PREFIX)
    assert await put(store, tombstone(), charged_to=OTHER_PREFIX) is Outcome.STORED


async def test_rewriting_from_elsewhere_does_not_escape_the_share(open_store: Open) -> None:
    store = await open_store(room_for(4, share_per_prefix=0.5))
    for slot in (b"a", b"b"):
        await put(store, entry(b"v" * 100, slot=slot))
        rewritten = entry(b"w" * 100, slot=slot, seq=2)
        assert await put(store, rewritten, charged_to=OTHER_PREFIX) is Outcome.STORED
        renewed = entry(b"w" * 100, slot=slot, seq=2, ttl=7200)
        assert await put(store, renewed, charged_to=OTHER_PREFIX) is Outcome.HAVE
    assert await put(store, blob(b"v" * 100)) is Outcome.QUOTA


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


@hypothesis.settings(max_examples=20)  # each makes a file, and what is decided is the same
@given(puts=PUTS)
async def test_no_order_of_puts_breaks_the_books_on_disk(puts: list[Put]) -> None:
    with TemporaryDirectory() as folder:
        async with opened(Path(folder) / "store.db", TIGHT) as store:
            await check_the_books(store, puts)
