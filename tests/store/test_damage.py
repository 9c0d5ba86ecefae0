"""A store opens whatever became of its file, says so, and keeps what it cannot read for others."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kademlia_node.errors import SetupError
from kademlia_node.store.base import Outcome, Published, place_of
from kademlia_node.store.disk import DiskStore
from tests.store.disks import BLOBS, fill, log_of, opened
from tests.store.records import OWN_ID, ROOMY, WALL, blob, by_distance, entry, held, put, room_for

pytestmark = pytest.mark.net  # threads, and so the real clock

# Of the header of a database file: damaged, these tell of a newer SQLite, and of a newer schema.
FORMAT_VERSION, SCHEMA_VERSION = range(18, 20), range(60, 64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def overwrite(path: Path, damage: bytes) -> None:
    """All but the first page."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(damage)


# --- A file that cannot be used -------------------------------------------------------------------


async def test_a_file_in_use_is_refused(path: Path) -> None:
    async with opened(path) as store:
        with pytest.raises(SetupError, match="locked"):
            await DiskStore.open(path, own_id=OWN_ID, settings=ROOMY)
        assert await put(store, blob(b"v")) is Outcome.STORED


async def test_a_path_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "store.db", tmp_path):
        with pytest.raises(SetupError, match="cannot use the store"):
            await DiskStore.open(path, own_id=OWN_ID, settings=ROOMY)


async def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    await fill(path, BLOBS[:1])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SetupError, match="newer version"):
        await DiskStore.open(path, own_id=OWN_ID, settings=ROOMY)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM record").fetchone() == (1,)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" * 100])
async def test_what_is_no_database_is_set_aside(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, content)
    write(log_of(path), b"no log of this program")
    async with opened(path) as store:
        assert store.set_aside == path.with_name("store.db.corrupt-1")
        assert store.set_aside.read_bytes() == content
        assert await put(store, blob(b"v")) is Outcome.STORED
    (said,) = caplog.messages
    assert "store.db.corrupt-1" in said


async def test_every_damaged_file_is_kept(path: Path) -> None:
    for number in (1, 2, 3):
        write(path, b"%d" % number * 1000)
        async with opened(path) as store:
            assert store.set_aside == path.with_name(f"store.db.corrupt-{number}")
    assert path.with_name("store.db.corrupt-2").read_bytes() == b"2" * 1000


async def test_a_file_that_lacks_a_table_is_set_aside(path: Path) -> None:
    await fill(path, BLOBS[:1])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE record")
    async with opened(path) as store:
        assert store.set_aside is not None


async def test_a_garbled_schema_is_set_aside(path: Path) -> None:
    await fill(path, BLOBS[:1])
    # SQLite quotes the name in its message, which Python cannot decode then.
    replace_in(path, b"tablerecord", b"table\xf8ecord")
    replace_in(path, b"CREATE TABLE record", b"CREATE TABLE ((((((")
    async with opened(path) as store:
        assert store.set_aside is not None


async def test_a_row_of_the_wrong_type_is_damage(path: Path) -> None:
    await fill(path, BLOBS[:2])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE record SET header = 7")
        connection.commit()
    async with opened(path) as store:
        assert store.set_aside is not None


async def test_a_row_whose_header_makes_no_sense_is_passed_over(path: Path) -> None:
    near, far = by_distance(BLOBS[:2])
    await fill(path, [near, far])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE record SET header = x'00' WHERE key = ?", (far.key,))
        connection.commit()
    async with opened(path, room_for(2)) as store:
        assert store.set_aside is None
        assert await store.get(far.key, wall=WALL) == []
        assert await store.page(limit=9, wall=WALL) == [near]
        (nearest,) = by_distance([near, *BLOBS[2:]])[:1]
        assert await put(store, nearest) is Outcome.STORED  # `near` goes: `far` is not seen
        assert await held(store) == [nearest]
        assert await store.sweep(wall=WALL + 3600) == 2  # but here it is


async def test_rows_that_make_no_sense_end_no_listing(path: Path) -> None:
    records = sorted(BLOBS, key=place_of)
    async with opened(path) as store:
        for record in records:
            await put(store, record)
            await store.publications.keep(Published(record, WALL))
    with closing(sqlite3.connect(path)) as connection:
        for table in ("record", "publication"):
            query = f"UPDATE {table} SET header = x'00' WHERE key < ?"
            connection.execute(query, (records[-1].key,))
        connection.commit()
    async with opened(path) as store:
        last = Published(records[-1], WALL)
        assert await store.page(limit=1, wall=WALL) == [last.record]
        assert await store.publications.page(limit=1) == [last]
        assert await store.publications.due(wall=WALL, limit=1) == [last]


async def test_damage_that_shows_later_is_an_error(path: Path) -> None:
    await fill(path, [blob(bytes([number]) * 1000) for number in range(100)])
    async with opened(path, replace(ROOMY, store_cache_bytes=8192)) as store:
        overwrite(path, b"\x99" * 10**6)
        with pytest.raises(SetupError, match="cannot use the store"):
            await held(store)
        with pytest.raises(SetupError, match="cannot use the store"):
            await put(store, entry())


# --- Any damage at all ----------------------------------------------------------------------------

FRACTIONS = st.floats(0, 1, exclude_max=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with BLOBS, written one by one, as its process left it when it was killed."""
    folder = tmp_path_factory.mktemp("sound")

    async def write() -> None:
        async with opened(folder / "open.db") as store:
            for record in BLOBS[:20]:
                await put(store, record)
        async with opened(folder / "open.db") as store:
            for record in BLOBS[20:]:
                await put(store, record)
            for suffix in ("", "-wal"):
                shutil.copy(folder / f"open.db{suffix}", folder / f"store.db{suffix}")

    asyncio.run(write())
    return folder


@contextmanager
def copy_of(folder: Path) -> Iterator[Path]:
    with TemporaryDirectory() as fresh:
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"store.db{suffix}", fresh)
        yield Path(fresh) / "store.db"


@hypothesis_settings(max_examples=25)
@given(where=FRACTIONS, damage=st.binary(min_size=1, max_size=5000))
async def test_whatever_is_overwritten_a_store_opens(
    sound: Path, where: float, damage: bytes
) -> None:
    with copy_of(sound) as path:
        content = path.read_bytes()
        start = int(where * len(content))
        end = start + len(damage)
        assume(not any(field in range(start, end) for field in (*FORMAT_VERSION, *SCHEMA_VERSION)))
        path.write_bytes(content[:start] + damage + content[end:])
        async with opened(path) as store:
            await held(store)
            assert await put(store, entry()) is Outcome.STORED


@hypothesis_settings(max_examples=25)
@given(where=FRACTIONS)
async def test_a_file_cut_short_is_opened(sound: Path, where: float) -> None:
    with copy_of(sound) as path:
        log_of(path).unlink()
        with path.open("r+b") as file:
            file.truncate(int(where * path.stat().st_size))
        async with opened(path) as store:
            assert await held(store) == []


@hypothesis_settings(max_examples=15)
@given(where=FRACTIONS, damage=st.binary(max_size=100))
async def test_a_log_that_is_cut_short_or_torn_loses_only_the_latest(
    sound: Path, where: float, damage: bytes
) -> None:
    """As a power failure leaves it under `Durability.PROCESS`; older records are in the file."""
    with copy_of(sound) as path:
        log = log_of(path).read_bytes()
        log_of(path).write_bytes(log[: int(where * len(log))] + damage)
        async with opened(path) as store:
            assert store.set_aside is None
            there = [record in await held(store) for record in BLOBS]
            assert there == sorted(there, reverse=True)
            assert sum(there) >= 20
