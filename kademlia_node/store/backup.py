"""Backups of a disk store: made while it is open, verified anywhere, restored into any store.

A backup is one file (`store.backup_file`) with all records and publications. There is no secret key
in it: that lies in the data folder and is to be copied apart.

Whoever reads a backup trusts no byte of it. Each record is judged like one from a peer, only that
its age is no offence: what has expired since then is counted apart. Nobody signs the hash, so it
shows damage and mix-ups; forgery shows in the signatures.

Refuses to know who we are: the caller says which network, clock and authors are ours. Driven by
`create_backup`, `verify_backup` and `restore_backup`, which work page by page.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from kademlia_node.core.ids import ID_BYTES
from kademlia_node.core.key import Kind
from kademlia_node.core.record import (
    Reason,
    Record,
    Verify,
    check_header,
    check_value,
    clamp_blob,
    unpack_header,
)
from kademlia_node.errors import BadRecord, MalformedMessage, SetupError
from kademlia_node.settings import EXPIRY_DEFAULT_S, VALUE_BYTES_MAX
from kademlia_node.store.backup_file import About, BackupFile, Row, begin_about, write_about
from kademlia_node.store.base import TTL_MIN_S, Outcome, Published, Store
from kademlia_node.store.disk import DiskStore

T = TypeVar("T")
REASON_OF = {Outcome.SHORTENED: Reason.SHORTENED, Outcome.FOREIGN: Reason.WRONG_KEY}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What is in a backup.

    Attributes:
        made_at: Seconds since 1970.
        records: How many, the refused and the expired included.
        publications: How many, likewise.
        value_bytes: Of all their values.
        hash: SHA-256 of the content, hexadecimal: equal for equal content.
        expired: How many records; a publication does not expire, it is renewed.
        refused: How many records and publications nobody should believe, by `Reason` in lower case.
        differs: Which of `records`, `publications` and `hash` are not what the file says of itself.
    """

    made_at: int
    records: int
    publications: int
    value_bytes: int
    hash: str
    expired: int
    refused: dict[str, int]
    differs: tuple[str, ...] = ()

    def about(self, network_tag: bytes) -> About:
        """What the file is to say of itself."""
        return About(network_tag, self.made_at, self.records, self.publications, self.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What became of the content of a backup.

    Attributes:
        restored: Records that are in the store now.
        publications: Those that this node keeps alive now.
        not_ours: Publications of other authors, restored as records at most: not kept alive here.
        kept: Records and publications of which the node had the same version, or a newer one.
        expired: Records that nobody would read any more.
        over_quota: Records the store has no room for.
        refused: How many nobody should believe, by `Reason` in lower case.
    """

    restored: int
    publications: int
    not_ours: int
    kept: int
    expired: int
    over_quota: int
    refused: dict[str, int]


async def create_backup(
    store: DiskStore, path: Path, *, network_tag: bytes, wall: float, verify: Verify
) -> BackupReport:
    """Back up a store that is open to a new file of mode 0600, and verify what is in it.

    The file is empty until it is complete, and gone if it cannot be completed.

    Args:
        store: What to back up; others can use it meanwhile, but wait while it is copied.
        path: Where; nothing may be there.
        network_tag: 32 bytes: which network the records are of.
        wall: Seconds since 1970.
        verify: `Suite.verify`.

    Raises:
        SetupError: `path` exists or cannot be written, or the store turns out to be damaged.
    """
    with _draft_of(path) as draft:
        await store.backup_to(draft)
        await _in_thread(lambda: begin_about(draft))
        judge = _Judge(network_tag=network_tag, wall=wall, verify=verify)
        with closing(await _in_thread(lambda: BackupFile(draft))) as backup:
            census = _Census(backup, judge=judge)
            while await _in_thread(census.take_page):
                pass
        report = census.report(made_at=int(wall))
        about = report.about(network_tag)
        await _in_thread(lambda: write_about(draft, about))
    return report


@contextmanager
def _draft_of(path: Path) -> Iterator[Path]:
    """Yields where to write what is to be at `path`, whole or not at all."""
    draft = path.with_name(path.name + ".draft")
    try:
        path.touch(mode=0o600, exist_ok=False)  # from here on the name is ours
    except OSError as error:
        raise SetupError(f"cannot write the backup {path}: {error.strerror}") from error
    try:
        draft.unlink(missing_ok=True)  # of a process that was killed
        yield draft
        draft.replace(path)
    except BaseException as error:
        for leftover in (draft, path):
            with suppress(OSError):
                leftover.unlink()
        if isinstance(error, OSError | sqlite3.Error):
            raise SetupError(f"cannot write the backup {path}: {error}") from error
        raise


def verify_backup(path: Path, *, wall: float, verify: Verify) -> BackupReport:
    """Check every signature and every value in a backup, and compare it with what it says.

    Args:
        path: The file; only read.
        wall: Seconds since 1970: what has expired by then is counted.
        verify: `Suite.verify`.

    Raises:
        SetupError: it cannot be read, is no backup of this program, or is damaged.
    """
    with closing(BackupFile(path)) as backup:
        about = backup.about()
        judge = _Judge(network_tag=about.network_tag, wall=wall, verify=verify)
        census = _Census(backup, judge=judge)
        while census.take_page():
            pass
    report = census.report(made_at=about.made_at)
    return replace(report, differs=about.differences(report.about(about.network_tag)))


async def restore_backup(
    store: Store,
    path: Path,
    *,
    network_tag: bytes,
    wall: float,
    verify: Verify,
    may_renew: Callable[[bytes], bool],
    on_filed: Callable[[bytes], None] | None = None,
) -> RestoreReport:
    """Put what is in a backup into a store; nothing newer is overwritten. Safe to repeat.

    Args:
        store: Of the running node.
        path: The file; only read.
        network_tag: 32 bytes: the network of this node.
        wall: Seconds since 1970.
        verify: `Suite.verify`.
        may_renew: Whether this node can renew records of an author (32 bytes; empty: of a blob).
            Publications of others are restored as mere records.
        on_filed: Told each key under which something was stored, renewed, or had to make room.

    Raises:
        SetupError: the file cannot be read, is no backup of this program or of this network, or is
            damaged; or the disk takes no more, and what was restored by then stays.
    """
    with closing(await _in_thread(lambda: BackupFile(path))) as backup:
        if backup.about().network_tag != network_tag:
            raise SetupError(f"{path} is a backup of another network than this node's")
        judge = _Judge(network_tag=network_tag, wall=wall, verify=verify)
        restoring = _Restoring(store, wall=wall, may_renew=may_renew, on_filed=on_filed)

        def judge_page() -> list[Record | Published | BadRecord]:
            return [judge(row) for row in backup.page()]

        while page := await _in_thread(judge_page):
            await asyncio.gather(*(restoring.take(one) for one in page))  # they share commits
    return restoring.report()


# --- What is in it --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Says of a row what it is: a record, a publication, or a reason to refuse it."""

    network_tag: bytes
    wall: float
    verify: Verify

    def __call__(self, row: Row) -> Record | Published | BadRecord:
        try:
            record = self._record(row)
        except MalformedMessage:
            return BadRecord(Reason.MALFORMED)
        except BadRecord as error:
            return error
        if row.table == "record":
            return record
        # Whoever says when to renew it, it is before it expires.
        is_usual = row.ttl_s is None or not TTL_MIN_S <= row.ttl_s <= EXPIRY_DEFAULT_S
        ttl_s = None if is_usual else row.ttl_s
        return Published(record, min(row.renew_at, record.header.expires), ttl_s)

    def _record(self, row: Row) -> Record:
        if len(row.key) != ID_BYTES:
            raise BadRecord(Reason.MALFORMED)
        header = unpack_header(row.header)
        if row.value is None:
            raise BadRecord(Reason.TOO_LARGE)
        check_header(
            row.key,
            header,
            wall=min(self.wall, header.expires - 1),  # so that the signature is looked at, too
            network_tag=self.network_tag,
            length_max=VALUE_BYTES_MAX,
            verify=self.verify,
        )
        check_value(row.key, header, value=row.value)
        if header.kind is Kind.BLOB:
            header = clamp_blob(header, self.wall)
        return Record(row.key, header, row.value)


class _Census:
    """Counts and hashes what is in a backup."""

    def __init__(self, backup: BackupFile, *, judge: _Judge) -> None:
        self._backup = backup
        self._judge = judge
        self._sha256 = hashlib.sha256()
        self._rows = Counter[str]()
        self._refused = Counter[str]()
        self._value_bytes = 0
        self._expired = 0

    def take_page(self) -> bool:
        """Count the next rows; returns whether there were any."""
        page = self._backup.page()
        for row in page:
            self._rows[row.table] += 1
            self._value_bytes += row.length
            self._hash(row)
            match self._judge(row):
                case BadRecord() as error:
                    self._refused[_name(error)] += 1
                case Record() as record:
                    self._expired += record.header.expires <= self._judge.wall
        return bool(page)

    def _hash(self, row: Row) -> None:
        """Each part after its length, so that no two contents are hashed as the same bytes."""
        length = row.length.to_bytes(8, "big")  # of a value that is too long, that is all
        for part in (row.table.encode(), row.key, row.header, length, row.value or b""):
            self._sha256.update(len(part).to_bytes(8, "big") + part)

    def report(self, *, made_at: int) -> BackupReport:
        """What was counted."""
        return BackupReport(
            made_at=made_at,
            records=self._rows["record"],
            publications=self._rows["publication"],
            value_bytes=self._value_bytes,
            hash=self._sha256.hexdigest(),
            expired=self._expired,
            refused=dict(self._refused),
        )


# --- Back into a store ----------------------------------------------------------------------------


class _Restoring:
    """Puts what was judged into a store, and counts what becomes of it."""

    def __init__(
        self,
        store: Store,
        *,
        wall: float,
        may_renew: Callable[[bytes], bool],
        on_filed: Callable[[bytes], None] | None,
    ) -> None:
        self._store = store
        self._wall = wall
        self._may_renew = may_renew
        self._on_filed = on_filed
        self._became = Counter[str]()
        self._refused = Counter[str]()

    async def take(self, judged: Record | Published | BadRecord) -> None:
        """Restore it, unless there is a reason not to."""
        match judged:
            case BadRecord():
                self._refused[_name(judged)] += 1
            case Record():
                self._became[await self._put(judged)] += 1
            case Published() if self._may_renew(judged.record.header.author):
                await self._publish(judged)
            case Published():
                became = await self._put(judged.record)
                has_room = became in {"restored", "kept", "expired"}
                self._became["not_ours" if has_room else became] += 1

    def report(self) -> RestoreReport:
        """What became of all that was taken."""
        return RestoreReport(
            restored=self._became["restored"],
            publications=self._became["published"],
            not_ours=self._became["not_ours"],
            kept=self._became["kept"],
            expired=self._became["expired"],
            over_quota=self._became["over_quota"],
            refused=dict(self._refused),
        )

    async def _put(self, record: Record) -> str:
        """Returns what became of it, by the name of its field in a report."""
        if record.header.expires <= self._wall:
            return "expired"
        answer = await self._store.put(record, charged_to=b"", wall=self._wall)
        if self._on_filed is not None and answer.outcome in {Outcome.STORED, Outcome.HAVE}:
            for key in (record.key, *answer.gone):
                self._on_filed(key)
        match answer.outcome:
            case Outcome.STORED:
                return "restored"
            case Outcome.HAVE | Outcome.OLD:
                return "kept"
            case Outcome.SHORTENED | Outcome.FOREIGN as refusal:
                self._refused[_name(BadRecord(REASON_OF[refusal]))] += 1
                return "refused"
            case Outcome.QUOTA:
                return "over_quota"
            case _:
                raise SetupError("the disk takes no more: free some space, then restore again")

    async def _publish(self, published: Published) -> None:
        """Renew it from now on, unless we renew as much, or know of something newer."""
        key, author, slot = place = published.place
        version = published.record.header.version
        ours = await self._store.publications.get(place)
        held = await self._store.get_one(key, author=author, slot=slot, wall=self._wall)
        if (ours is not None and ours.record.header.version >= version) or (
            held is not None and held.header.version > version
        ):
            self._became["kept"] += 1
        else:
            await self._store.publications.keep(published)
            self._became["published"] += 1


def _name(error: BadRecord) -> str:
    return error.reason.name.lower()


async def _in_thread(work: Callable[[], T]) -> T:
    """What `work` returns; it ends before this does, also when this is cancelled."""
    working = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
