"""One key holds one kind: nobody can fill the key of a blob or an entry with topic entries."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.key import Kind
from kademlia_node.core.record import Record
from kademlia_node.store.base import Answer, Outcome, Store, Usage
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
    ROOMY,
    WALL,
    blob,
    entry,
    held,
    put,
    room_for,
    tombstone,
    topic_entry,
)

pytestmark = pytest.mark.net  # see conftest

PROVEN = pytest.mark.parametrize("proven", [blob(b"v" * 100), entry(b"v" * 100), tombstone()])


def squatters(key: bytes, *, count: int = 3) -> list[Record]:
    """Topic entries under a key that is none of a topic."""
    return [
        topic_entry(author, bytes([number]), key=key, value=b"v" * 100)
        for number in range(count)
        for author in (ALICE, BOB)
    ]


@PROVEN
async def test_under_the_key_of_a_proven_record_topic_entries_are_foreign(
    open_store: Open, proven: Record
) -> None:
    store = await open_store(ROOMY)
    await put(store, proven)
    of_its_author = topic_entry(ALICE, key=proven.key)  # an entry's very place
    for squatter in (*squatters(proven.key), of_its_author):
        for expect_seq in (None, 0):
            answer = await store.put(squatter, charged_to=PREFIX, wall=WALL, expect_seq=expect_seq)
            assert answer == Answer(Outcome.FOREIGN, None)
        answer = await store.offer(squatter.key, squatter.header, charged_to=PREFIX, wall=WALL)
        assert answer == Answer(Outcome.FOREIGN, None)
    assert await held(store) == [proven]


@PROVEN
async def test_a_proven_record_removes_the_topic_entries_under_its_key(
    open_store: Open, proven: Record
) -> None:
    store = await open_store(ROOMY)
    elsewhere = topic_entry(ALICE)
    for record in (elsewhere, topic_entry(ALICE, key=proven.key), *squatters(proven.key)):
        assert await put(store, record) is Outcome.STORED
    answer = await store.put(proven, charged_to=PREFIX, wall=WALL, expect_seq=0)
    assert answer == Answer(Outcome.STORED, None)
    assert await store.get(proven.key, wall=WALL) == [proven]
    assert await store.get(elsewhere.key, wall=WALL) == [elsewhere]
    size_bytes = len(proven.value) + len(elsewhere.value) + 2 * OVERHEAD
    assert await store.usage() == Usage(2, size_bytes)


async def test_an_offered_blob_proves_nothing_yet(open_store: Open) -> None:
    store = await open_store(ROOMY)
    record = blob(b"v" * 1000)
    for squatter in squatters(record.key):
        await put(store, squatter)
    answer = await store.offer(record.key, record.header, charged_to=PREFIX, wall=WALL)
    assert answer == Answer(Outcome.WANTED, None)
    assert len(await store.get(record.key, wall=WALL)) == 6


async def test_squatters_cannot_keep_out_whom_the_key_belongs_to(open_store: Open) -> None:
    store = await open_store(room_for(4, share_per_author=0.5, share_per_prefix=0.5))
    record = entry(b"v" * 100)
    for squatter, prefix in zip(
        squatters(record.key, count=2), (PREFIX, PREFIX, OTHER_PREFIX, OTHER_PREFIX), strict=True
    ):
        assert await put(store, squatter, charged_to=prefix) is Outcome.STORED
    assert await put(store, record) is Outcome.STORED
    assert await held(store) == [record]
    more = [entry(b"v" * 100, slot=b"a"), entry(b"v" * 100, author=BOB), blob(b"v" * 100)]
    charged = [PREFIX, OTHER_PREFIX, OTHER_PREFIX]  # nothing of the squatters is charged any more
    for one, prefix in zip(more, charged, strict=True):
        assert await put(store, one, charged_to=prefix) is Outcome.STORED


async def test_a_key_of_which_nothing_is_left_takes_topic_entries(open_store: Open) -> None:
    store = await open_store(ROOMY)
    record = blob(b"v", ttl=10)
    await put(store, record)
    await store.sweep(wall=WALL + 10)
    squatter = topic_entry(ALICE, key=record.key)
    assert await put(store, squatter, wall=WALL + 10) is Outcome.STORED


async def test_a_file_with_several_kinds_under_a_key_is_put_right_by_the_next_put(
    tmp_path: Path,
) -> None:
    path, record = tmp_path / "store.db", blob(b"v")
    async with opened(path) as store:
        await put(store, record)
        for squatter in squatters(blob(b"w").key):
            await put(store, squatter)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE record SET key = ?", (record.key,))
    async with opened(path) as store:
        assert len(await store.get(record.key, wall=WALL)) == 7
        assert await put(store, record) is Outcome.HAVE
        assert await held(store) == [record]
        assert await store.usage() == Usage(1, 1 + OVERHEAD)


# --- In any order ---------------------------------------------------------------------------------

NAMED, PUT = entry(slot=b"n"), blob(b"put")
KEYS = st.sampled_from([NAMED.key, PUT.key, topic_entry(ALICE).key])
RECORDS = st.one_of(
    st.builds(entry, slot=st.just(b"n"), seq=st.integers(1, 3), ttl=st.integers(5, 30)),
    st.builds(blob, st.just(b"put"), ttl=st.integers(5, 30)),
    st.builds(
        topic_entry,
        st.sampled_from([ALICE, BOB]),
        st.sampled_from([b"", b"n"]),
        key=KEYS,
        ttl=st.integers(5, 30),
    ),
)
Put = tuple[Record, bytes, int]  # what, charged to whom, how many seconds after the last
PUTS = st.lists(st.tuples(RECORDS, st.sampled_from([b"", PREFIX]), st.integers(0, 5)), max_size=20)


async def check_one_kind(store: Store, puts: list[Put]) -> None:
    wall = WALL
    for record, charged_to, elapsed in puts:
        wall += elapsed
        outcome = await put(store, record, charged_to=charged_to, wall=wall)
        kinds = {one.header.kind for one in await store.get(record.key, wall=wall)}
        assert len(kinds) <= 1
        assert outcome is not Outcome.FOREIGN or kinds <= {Kind.BLOB, Kind.ENTRY}
        await store.sweep(wall=wall)
        there = await held(store, wall=wall)
        assert await store.usage() == Usage(
            len(there), sum(len(one.value) + OVERHEAD for one in there)
        )


@given(puts=PUTS)
async def test_no_order_of_puts_mixes_kinds_in_memory(puts: list[Put]) -> None:
    await check_one_kind(MemoryStore(OWN_ID, settings=ROOMY), puts)


@hypothesis.settings(max_examples=20)  # each makes a file, and what is decided is the same
@given(puts=PUTS)
async def test_no_order_of_puts_mixes_kinds_on_disk(puts: list[Put]) -> None:
    with TemporaryDirectory() as folder:
        async with opened(Path(folder) / "store.db") as store:
            await check_one_kind(store, puts)
