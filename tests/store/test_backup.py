from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kademlia_node.core.record import Record
from kademlia_node.errors import SetupError
from kademlia_node.settings import EXPIRY_DEFAULT_S, VALUE_BYTES_MAX, Settings
from kademlia_node.sim import NullSuite
from kademlia_node.store.backup import (
    BackupReport,
    RestoreReport,
    create_backup,
    restore_backup,
    verify_backup,
)
from kademlia_node.store.backup_file import FIELD_BYTES_MAX, PAGE_ROWS
from kademlia_node.store.base import Published, Store, place_of
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.memory import MemoryStore
from kademlia_node.store.schema import STEPS
from tests.store.disks import file_size_limit, opened
from tests.store.records import (
    ALICE,
    BOB,
    NETWORK,
    OWN_ID,
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

pytestmark = pytest.mark.net  # threads, and so the real clock

VERIFY = NullSuite().verify
RECORDS = [
    blob(b"b" * 2000),
    entry(b"blue"),
    entry(b"x" * VALUE_BYTES_MAX, slot=b"long"),
    tombstone(author=BOB),
    *(topic_entry(author, slot) for author in (ALICE, BOB) for slot in (b"", b"2")),
]
OURS = Published(entry(b"blue"), renew_at=WALL + 100.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backup.db"


async def create(store: DiskStore, path: Path, *, wall: float = WALL) -> BackupReport:
    return await create_backup(store, path, network_tag=NETWORK, wall=wall, verify=VERIFY)


def verify(path: Path, *, wall: float = WALL) -> BackupReport:
    return verify_backup(path, wall=wall, verify=VERIFY)


async def restore(
    store: Store,
    path: Path,
    *,
    network: bytes = NETWORK,
    wall: float = WALL,
    authors: tuple[bytes, ...] = (ALICE.public_key, b""),
) -> RestoreReport:
    return await restore_backup(
        store, path, network_tag=network, wall=wall, verify=VERIFY, may_renew=authors.__contains__
    )


async def made(
    path: Path, records: list[Record] = RECORDS, *, published: list[Published] | None = None
) -> BackupReport:
    """A backup at `path` of a store with these records."""
    async with opened(path.with_name("store.db")) as store:
        for record in records:
            await put(store, record)
        for one in published or []:
            await store.publications.keep(one)
        return await create(store, path)


def fresh(settings: Settings = ROOMY) -> MemoryStore:
    return MemoryStore(own_id=OWN_ID, settings=settings)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read(path: Path) -> bytes:
    return path.read_bytes()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)


def change_header(path: Path, change: Callable[[bytes], bytes], *, table: str = "record") -> None:
    """Rewrite the headers of all rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("change", 1, change, deterministic=True)
        connection.execute(f"UPDATE {table} SET header = change(header)")


# --- Making one -----------------------------------------------------------------------------------


async def test_all_comes_back_publications_included(path: Path) -> None:
    report = await made(path, published=[OURS])
    assert (report.records, report.publications) == (len(RECORDS), 1)
    assert report.value_bytes == sum(len(r.value) for r in [*RECORDS, OURS.record])
    assert (report.refused, report.expired, report.made_at) == ({}, 0, WALL)
    store = fresh()
    restored = await restore(store, path)
    assert (restored.restored, restored.publications) == (len(RECORDS), 1)
    assert (restored.kept, restored.refused) == (0, {})
    assert sorted(await held(store), key=place_of) == sorted(RECORDS, key=place_of)
    assert await store.publications.get(OURS.place) == OURS


@pytest.mark.parametrize("ttl_s", [None, 600])
async def test_what_was_published_for_a_short_time_comes_back_for_as_short(
    path: Path, ttl_s: int | None
) -> None:
    await made(path, [], published=[replace(OURS, ttl_s=ttl_s)])
    store = fresh()
    await restore(store, path)
    assert await store.publications.get(OURS.place) == replace(OURS, ttl_s=ttl_s)


@pytest.mark.parametrize("ttl_s", ["-1", "1", "1e99", "'soon'", "x'00'"])
async def test_a_time_to_live_that_nobody_can_have_chosen_is_forgotten(
    path: Path, ttl_s: str
) -> None:
    await made(path, [], published=[OURS])
    tamper(path, f"UPDATE publication SET ttl_s = {ttl_s}")
    store = fresh()
    await restore(store, path)
    assert await store.publications.get(OURS.place) == OURS


async def test_creating_and_verifying_say_the_same(path: Path) -> None:
    created = await made(path, published=[OURS])
    assert verify(path) == created


async def test_more_than_a_page_is_complete(path: Path) -> None:
    blobs = [blob(b"%d" % number) for number in range(2 * PAGE_ROWS + 1)]
    assert (await made(path, blobs)).records == len(blobs)
    store = fresh()
    assert (await restore(store, path)).restored == len(blobs)


async def test_an_empty_store_can_be_backed_up(path: Path) -> None:
    assert (await made(path, [])).records == 0
    assert (await restore(fresh(), path)).restored == 0


async def test_the_hash_is_of_the_content_alone(tmp_path: Path) -> None:
    hashes = set()
    for name, order in (("a", RECORDS), ("b", RECORDS[::-1])):
        (tmp_path / name).mkdir()
        report = await made(tmp_path / name / "backup.db", order, published=[OURS])
        hashes.add(report.hash)
    assert len(hashes) == 1


async def test_the_hash_tells_records_from_publications(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    as_record = await made(tmp_path / "a" / "backup.db", [OURS.record])
    as_publication = await made(tmp_path / "backup.db", [], published=[OURS])
    assert as_record.hash != as_publication.hash


async def test_a_backup_is_for_its_owner_and_one_file(path: Path) -> None:
    await made(path)
    assert mode_of(path) == 0o600
    assert {file.name for file in path.parent.iterdir()} == {"backup.db", "store.db"}


async def test_an_existing_file_is_left_alone(path: Path) -> None:
    write(path, b"precious")
    with pytest.raises(SetupError, match="exists"):
        await made(path)
    assert read(path) == b"precious"


async def test_what_cannot_be_completed_leaves_nothing(path: Path) -> None:
    async with opened(path.with_name("store.db")) as store:
        await put(store, RECORDS[2])
        with file_size_limit(8192), pytest.raises(SetupError, match="cannot write the backup"):
            await create(store, path)
    assert not list(path.parent.glob("backup*"))


async def test_a_draft_that_was_left_behind_is_no_obstacle(path: Path) -> None:
    write(path.with_name("backup.db.draft"), b"half")
    await made(path)
    assert verify(path).records == len(RECORDS)


async def test_something_in_the_way_of_the_draft_is_said(path: Path) -> None:
    path.with_name("backup.db.draft").mkdir()
    with pytest.raises(SetupError, match="cannot write the backup"):
        await made(path)
    assert [file.name for file in path.parent.glob("backup*")] == ["backup.db.draft"]


async def test_a_folder_that_is_not_there_is_said(path: Path) -> None:
    async with opened(path) as store:
        with pytest.raises(SetupError, match="No such file"):
            await create(store, path.parent / "nowhere" / "backup.db")


async def test_a_cancelled_backup_leaves_nothing(path: Path) -> None:
    async with opened(path.with_name("store.db")) as store:
        await put(store, RECORDS[0])
        creating = asyncio.create_task(create(store, path))
        while not path.with_name("backup.db.draft").exists():  # noqa: ASYNC110
            await asyncio.sleep(0)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert not list(path.parent.glob("backup.db*"))


async def test_what_was_damaged_in_the_store_is_told(path: Path) -> None:
    async with opened(path.with_name("store.db")) as store:
        await put(store, RECORDS[0])
        await put(store, RECORDS[1])
    tamper(path.with_name("store.db"), "UPDATE record SET header = x'00' WHERE author = x''")
    async with opened(path.with_name("store.db")) as store:
        report = await create(store, path)
    assert (report.records, report.refused) == (2, {"malformed": 1})


async def test_what_expired_is_counted_apart_by_the_clock_of_the_reader(path: Path) -> None:
    await made(path, [entry(ttl=10), blob(b"b", ttl=20)], published=[OURS])
    assert verify(path, wall=WALL + 9).expired == 0
    assert verify(path, wall=WALL + 10).expired == 1
    late = verify(path, wall=WALL + 10**9)
    assert (late.expired, late.refused, late.differs) == (2, {}, ())


# --- Bad backups ----------------------------------------------------------------------------------


async def refused_in(path: Path) -> dict[str, int]:
    """What is refused, by both readers alike; all else is restored, and nothing of it."""
    store = fresh()
    told = verify(path)
    restored = await restore(store, path)
    assert told.refused == restored.refused
    assert told.differs == ("hash",)
    assert len(await held(store)) == restored.restored == told.records - sum(told.refused.values())
    return restored.refused


async def test_a_forged_value_is_refused(path: Path) -> None:
    await made(path, [entry(b"blue"), blob(b"b")])
    tamper(path, "UPDATE record SET value = CAST('grey' AS BLOB) WHERE length(value) = 4")
    assert await refused_in(path) == {"wrong_value": 1}


async def test_a_forged_blob_is_refused(path: Path) -> None:
    await made(path, [blob(b"b")])
    forged = blob(b"c")
    change_header(path, lambda _: forged.header.pack())
    tamper(path, "UPDATE record SET value = CAST('c' AS BLOB)")
    assert await refused_in(path) == {"wrong_value": 1}


async def test_a_redated_record_is_refused(path: Path) -> None:
    await made(path, [entry()])
    later = replace(entry().header, expires=WALL + 7200)
    change_header(path, lambda _: later.pack())
    assert await refused_in(path) == {"bad_signature": 1}


async def test_a_record_is_refused_though_it_has_expired(path: Path) -> None:
    await made(path, [entry()])
    earlier = replace(entry().header, expires=WALL - 1)
    change_header(path, lambda _: earlier.pack())
    assert await refused_in(path) == {"bad_signature": 1}


async def test_a_truncated_value_and_a_truncated_header_are_refused(path: Path) -> None:
    await made(path, [entry(b"blue"), topic_entry(BOB)])
    tamper(path, "UPDATE record SET value = substr(value, 1, 3)")
    assert await refused_in(path) == {"wrong_length": 2}
    for header in ("substr(header, 1, 100)", "'text'", "7"):
        tamper(path, f"UPDATE record SET header = {header}")
        assert await refused_in(path) == {"malformed": 2}


async def test_a_longer_key_that_would_verify_is_refused(path: Path) -> None:
    await made(path, [topic_entry(BOB)])
    tamper(path, "UPDATE record SET key = key || x'00'")
    assert await refused_in(path) == {"malformed": 1}


async def test_an_oversized_value_is_refused_unread(path: Path) -> None:
    await made(path, [blob(b"b"), entry()])
    tamper(path, f"UPDATE record SET value = zeroblob({2 * FIELD_BYTES_MAX}) WHERE author = x''")
    assert await refused_in(path) == {"too_large": 1}
    oversized = verify(path).hash
    tamper(path, "UPDATE record SET value = x'' WHERE author = x''")
    assert verify(path).hash != oversized


async def test_another_networks_records_are_refused_though_the_file_says_ours(path: Path) -> None:
    async with opened(path.with_name("store.db")) as store:
        await put(store, entry())
        other = b"o" * 32
        report = await create_backup(store, path, network_tag=other, wall=WALL, verify=VERIFY)
    assert report.refused == {"bad_signature": 1}
    with pytest.raises(SetupError, match="another network"):
        await restore(fresh(), path)
    assert (await restore(fresh(), path, network=other)).refused == {"bad_signature": 1}


async def test_a_forged_publication_is_refused(path: Path) -> None:
    await made(path, [], published=[OURS])
    change_header(path, lambda _: replace(OURS.record.header, seq=9).pack(), table="publication")
    store = fresh()
    assert (await restore(store, path)).refused == {"bad_signature": 1}
    assert await store.publications.count() == 0


async def test_no_publication_is_renewed_later_than_it_expires(path: Path) -> None:
    await made(path, [], published=[OURS])
    for at in ("9e999", "'never'"):  # the column is of no fixed type
        tamper(path, f"UPDATE publication SET renew_at = {at}")
        store = fresh()
        assert (await restore(store, path)).publications == 1
        (published,) = await store.publications.page(limit=9)
        assert published.renew_at <= OURS.record.header.expires


async def test_a_blob_that_promises_to_live_for_ever_is_clamped(path: Path) -> None:
    eternal = blob(b"b", ttl=10**9)
    await made(path, [eternal])
    store = fresh()
    await restore(store, path)
    (record,) = await held(store)
    assert record.header.expires == WALL + EXPIRY_DEFAULT_S


@pytest.mark.parametrize(
    ("statement", "differs"),
    [
        ("UPDATE about SET records = 7", ("records",)),
        ("UPDATE about SET publications = 0", ("publications",)),
        ("UPDATE about SET hash = zeroblob(32)", ("hash",)),
        ("DELETE FROM record WHERE length(value) = 4", ("records", "hash")),
        ("UPDATE publication SET key = zeroblob(32)", ("hash",)),
    ],
)
async def test_verifying_tells_what_differs(
    path: Path, statement: str, differs: tuple[str, ...]
) -> None:
    await made(path, RECORDS[:2], published=[OURS])
    assert verify(path).differs == ()
    tamper(path, statement)
    assert verify(path).differs == differs


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["DELETE FROM about"], "no complete backup"),
        (["INSERT INTO about SELECT * FROM about"], "no complete backup"),
        (["UPDATE about SET records = 'many'"], "no complete backup"),
        (["DROP TABLE about"], "no backup of this program"),
        (["DROP INDEX record_by_expiry"], "no backup of this program"),
        (["CREATE VIEW v AS SELECT 1"], "no backup of this program"),
        (["CREATE TRIGGER t AFTER INSERT ON record BEGIN SELECT 1; END"], "no backup of this"),
        (["DROP TABLE record", "CREATE VIEW record AS SELECT 1"], "no backup of this program"),
        (["PRAGMA user_version = 99"], "newer version"),
        ([f"UPDATE record SET key = zeroblob({FIELD_BYTES_MAX + 1})"], "too big"),
    ],
)
async def test_a_file_that_is_not_as_ours_are_is_refused(
    path: Path, statements: list[str], said: str
) -> None:
    await made(path, RECORDS[:1])
    tamper(path, *statements)
    assert said in await refusal(path)


async def test_a_row_with_nothing_where_something_must_be_is_damage(path: Path) -> None:
    await made(path, RECORDS[:1])
    lax, strict = "value BLOB", "value BLOB NOT NULL"
    change = "UPDATE sqlite_schema SET sql = replace(sql, '{}', '{}') WHERE name = 'record'"
    tamper(path, "PRAGMA writable_schema = ON", change.format(strict, lax))
    tamper(path, "UPDATE record SET value = NULL")
    tamper(path, "PRAGMA writable_schema = ON", change.format(lax, strict))
    assert "is damaged: NULL value in record.value" in await refusal(path)


async def test_what_is_no_database_is_refused(path: Path) -> None:
    for content in (b"", b"no database" * 100, b"SQLite format 3\0" * 100):
        write(path, content)
        await refusal(path)


async def test_a_damaged_file_is_refused(path: Path) -> None:
    await made(path, [blob(b"%d" % number * 100) for number in range(100)])
    content = read(path)
    write(path, content[:8192] + b"\x99" * 8192 + content[16384:])
    assert "is damaged" in await refusal(path)
    write(path, content[: len(content) // 2])
    assert "malformed" in await refusal(path)


async def test_a_store_itself_is_no_backup(path: Path) -> None:
    await made(path)
    assert "no backup of this program" in await refusal(path.with_name("store.db"))


async def test_where_no_file_is_there_is_no_backup(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    for missing in (path, path.parent, path.with_name("pipe")):
        assert "no such file" in await refusal(missing)


async def refusal(path: Path) -> str:
    """The one line that both readers say."""
    with pytest.raises(SetupError) as by_verify:
        verify(path)
    store = fresh()
    with pytest.raises(SetupError) as by_restore:
        await restore(store, path)
    assert str(by_restore.value) == str(by_verify.value)
    assert "\n" not in str(by_verify.value)
    assert str(path) in str(by_verify.value)
    assert await held(store) == []
    return str(by_verify.value)


async def test_a_backup_of_an_older_version_can_be_read(path: Path) -> None:
    created = await made(path, published=[OURS])
    later = ("record_by_value", "publication_by_urgency")
    tamper(
        path,
        *(f"DROP INDEX {name}" for name in later),
        "CREATE TABLE aside AS SELECT key, author, slot, renew_at, header, value FROM publication",
        "DROP TABLE publication",
        next(made for made in STEPS[0] if "TABLE publication" in made),
        "INSERT INTO publication SELECT * FROM aside",
        "DROP TABLE aside",
        "PRAGMA user_version = 1",
    )
    assert verify(path) == created
    assert (await restore(fresh(), path)).restored == len(RECORDS)


async def test_reading_changes_nothing(path: Path) -> None:
    await made(path, published=[OURS])
    before = read(path)
    verify(path)
    await restore(fresh(), path)
    assert read(path) == before
    assert not list(path.parent.glob("backup.db?*"))


# --- Into a store that holds something ------------------------------------------------------------


async def test_an_older_copy_never_overwrites_a_newer_one(path: Path) -> None:
    await made(path, [entry(b"old", seq=1), entry(b"gone", author=BOB, seq=1)])
    store = fresh()
    newer = [entry(b"new", seq=2), tombstone(author=BOB, seq=2)]
    for record in newer:
        await put(store, record)
    report = await restore(store, path)
    assert (report.kept, report.restored) == (2, 0)
    assert sorted(await held(store), key=place_of) == sorted(newer, key=place_of)


async def test_restoring_twice_changes_nothing(path: Path) -> None:
    await made(path, published=[OURS])
    store = fresh()
    await restore(store, path)
    again = await restore(store, path)
    assert (again.restored, again.publications, again.kept) == (0, 0, len(RECORDS) + 1)


async def test_what_has_expired_is_not_restored(path: Path) -> None:
    await made(path, [entry(ttl=10), blob(b"b", ttl=20)])
    store = fresh()
    report = await restore(store, path, wall=WALL + 10)
    assert (report.restored, report.expired) == (1, 1)
    assert await held(store, wall=WALL) == [blob(b"b", ttl=20)]


async def test_a_successor_that_would_expire_first_is_refused(path: Path) -> None:
    await made(path, [entry(seq=2, ttl=10)])
    store = fresh()
    await put(store, entry(seq=1, ttl=20))
    assert (await restore(store, path)).refused == {"shortened": 1}


async def test_a_full_store_leaves_out_the_rest(path: Path) -> None:
    await made(path, [blob(bytes([number]) * 100) for number in range(5)])
    report = await restore(fresh(room_for(0)), path)
    assert (report.restored, report.over_quota) == (0, 5)


async def test_a_full_disk_ends_it_with_a_clear_error(path: Path) -> None:
    await made(path, [entry(b"x" * VALUE_BYTES_MAX, slot=b"%d" % number) for number in range(9)])
    async with opened(path.with_name("other.db")) as store:
        with file_size_limit(100_000), pytest.raises(SetupError, match="then restore again"):
            await restore(store, path)
        assert (await restore(store, path)).refused == {}
        assert len(await held(store)) == 9


async def test_publications_of_others_are_mere_records(path: Path) -> None:
    others = Published(entry(author=BOB), renew_at=WALL + 1.0)
    await made(path, [], published=[OURS, others])
    store = fresh()
    report = await restore(store, path)
    assert (report.publications, report.not_ours, report.restored) == (1, 1, 0)
    assert await store.publications.page(limit=9) == [OURS]
    assert await held(store) == [others.record]


async def test_publications_of_others_are_told_apart_from_what_is_kept_and_what_expired(
    path: Path,
) -> None:
    others = Published(entry(author=BOB), renew_at=WALL + 1.0)
    await made(path, [others.record], published=[others])
    report = await restore(fresh(), path)
    assert (report.restored, report.kept, report.not_ours) == (1, 0, 1)
    report = await restore(fresh(), path, wall=WALL + 10**6)
    assert (report.expired, report.not_ours) == (1, 1)
    report = await restore(fresh(room_for(0)), path)
    assert (report.over_quota, report.not_ours) == (2, 0)


async def test_a_topic_entry_under_the_key_of_an_entry_is_refused(path: Path) -> None:
    named = entry()
    await made(path, [topic_entry(BOB, key=named.key)])
    store = fresh()
    await put(store, named)
    assert (await restore(store, path)).refused == {"wrong_key": 1}


async def test_who_asks_is_told_which_keys_have_changed(path: Path) -> None:
    renewed, late = blob(b"renewed", ttl=20), blob(b"late", ttl=5)
    await made(path, [entry(b"old"), blob(b"new"), renewed, late])
    store = fresh()
    await put(store, entry(b"newer", seq=2))
    await put(store, blob(b"renewed", ttl=10))
    told: list[bytes] = []
    await restore_backup(
        store,
        path,
        network_tag=NETWORK,
        wall=WALL + 6,
        verify=VERIFY,
        may_renew=lambda _: False,
        on_filed=told.append,
    )
    assert sorted(told) == sorted([blob(b"new").key, renewed.key])


async def test_a_publication_that_expired_is_renewed_again(path: Path) -> None:
    await made(path, [], published=[OURS])
    store = fresh()
    assert (await restore(store, path, wall=WALL + 10**6)).publications == 1
    assert await store.publications.get(OURS.place) == OURS


@pytest.mark.parametrize("seq", [1, 2])
async def test_a_publication_that_is_as_new_is_kept(path: Path, seq: int) -> None:
    await made(path, [], published=[OURS])
    store = fresh()
    ours = Published(entry(b"blue", seq=seq, ttl=9000), renew_at=WALL + 5000.0)
    await store.publications.keep(ours)
    report = await restore(store, path)
    assert (report.publications, report.kept) == (0, 1)
    assert await store.publications.get(OURS.place) == ours


async def test_a_newer_publication_takes_the_place_of_an_older(path: Path) -> None:
    newer = Published(entry(b"green", seq=2), renew_at=WALL + 9.0)
    await made(path, [], published=[newer])
    store = fresh()
    await store.publications.keep(OURS)
    assert (await restore(store, path)).publications == 1
    assert await store.publications.get(OURS.place) == newer


async def test_what_was_withdrawn_since_is_not_published_again(path: Path) -> None:
    await made(path, [], published=[OURS])
    store = fresh()
    await put(store, tombstone(seq=2))
    report = await restore(store, path)
    assert (report.publications, report.kept) == (0, 1)
    assert await store.publications.count() == 0
