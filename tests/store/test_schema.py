"""Files of earlier versions open with all that is in them, and no question reads a whole table."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kademlia_node.core.ids import distance
from kademlia_node.core.record import Record
from kademlia_node.store.base import FIRST, Outcome, Published, place_of
from kademlia_node.store.schema import STEPS, Durability, connect
from kademlia_node.store.tables import RANK_SHIFT, Tables
from tests.store.disks import BLOBS, opened
from tests.store.records import OWN_ID, PREFIX, ROOMY, WALL, blob, entry, put

pytestmark = pytest.mark.net  # threads, and so the real clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def write_version_1(path: Path, records: list[Record], published: list[Published]) -> None:
    """As version 1 of the schema had it, written without any code that could have changed since."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in STEPS[0]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        for record in records:
            header = record.header
            rank = distance(record.key, OWN_ID) >> RANK_SHIFT
            connection.execute(
                "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*place_of(record), header.expires, rank, PREFIX, header.pack(), record.value),
            )
        for one in published:
            connection.execute(
                "INSERT INTO publication VALUES (?, ?, ?, ?, ?, ?)",
                (*one.place, one.renew_at, one.record.header.pack(), one.record.value),
            )
        connection.commit()


async def test_a_file_of_version_1_opens_with_all_that_is_in_it(path: Path) -> None:
    large = entry(b"v" * 50_000, slot=b"large")
    records = sorted([*BLOBS[:3], large, entry(ttl=10)], key=place_of)
    published = [Published(BLOBS[0], WALL - 0.5), Published(large, WALL + 0.5)]
    write_version_1(path, records, published)
    for _ in range(2):  # as it was migrated, and as it was left
        async with opened(path) as store:
            assert store.set_aside is None
            assert await store.page(limit=9, wall=WALL) == records
            assert (await store.usage()).records == len(records)
            assert await store.value(large.header.value_hash, wall=WALL) == large.value
            assert await store.publications.due(wall=WALL + 9, limit=9) == published
            assert await put(store, large) is Outcome.HAVE
    async with opened(path) as store:
        assert await store.sweep(wall=WALL + 10) == 1
        assert await put(store, blob(b"w" * 1000)) is Outcome.STORED


KEY = BLOBS[0].key
QUESTIONS: list[tuple[str, Callable[[Tables], object]]] = [
    ("record_by_place", lambda t: t.get(KEY, wall=WALL, after=(b"a", b"s"), limit=9)),
    ("record_by_place", lambda t: t.kind_at(KEY)),
    ("record_by_place", lambda t: t.remove_topic(KEY)),
    ("record_by_value", lambda t: t.value(bytes(32), wall=WALL)),
    ("record_by_expiry", lambda t: t.forget(WALL)),
    ("publication_by_urgency", lambda t: t.publications_due(wall=WALL, limit=9)),
    ("sqlite_autoindex_publication_1", lambda t: t.publications_page(FIRST, limit=9)),
]


@pytest.mark.parametrize(("index", "ask"), QUESTIONS)
def test_what_is_asked_for_is_searched_in_an_index(
    path: Path, index: str, ask: Callable[[Tables], object]
) -> None:
    connection = connect(path, durability=Durability.PROCESS, cache_bytes=2**20)
    asked: list[str] = []
    with closing(Tables(connection, OWN_ID, settings=ROOMY)) as tables:
        connection.set_trace_callback(asked.append)
        ask(tables)
        connection.set_trace_callback(None)
        assert asked
        for query in asked:
            plan = " ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + query))
            assert f"INDEX {index} (" in plan
            assert "SCAN" not in plan
