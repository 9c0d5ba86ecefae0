"""The file of a backup: a copy of a store's database, with a table `about` that says what it holds.

It is read as what a stranger wrote: read-only, and only if its schema is to the letter one that
this program makes (an alien view, trigger or index could keep us busy for ever). What the rows are
worth is not known here: that is `store.backup`.

Driven by `begin_about` and `write_about` on a fresh copy, and by `BackupFile`, from any one thread
at a time, for a file that is complete.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from kademlia_node.errors import SetupError
from kademlia_node.settings import VALUE_BYTES_MAX
from kademlia_node.store.disk import FAILURES
from kademlia_node.store.schema import STEPS

PAGE_ROWS: Final = 128  # in memory at once: 8 MiB of values, or 13 ms of signatures, at most
FIELD_BYTES_MAX: Final = 2**20  # no field but a value is longer, and values are measured first

ABOUT: Final = """CREATE TABLE about (
            network_tag BLOB NOT NULL,
            made_at INTEGER NOT NULL,
            records INTEGER NOT NULL,
            publications INTEGER NOT NULL,
            hash BLOB NOT NULL
        )"""

# A value that is too long for any record is measured and not read. The casts stand in for the
# CHECK constraints, which SQLite does not look at in a file that is opened read-only.
ROWS: Final = """SELECT CAST(key AS BLOB), CAST(header AS BLOB),
    CASE WHEN length(value) <= :value_bytes_max THEN CAST(value AS BLOB) END, length(value),
    {renew_at}, {ttl_s} FROM {table} ORDER BY key, author, slot"""
TABLES: Final = ("record", "publication")
TTL_SINCE_VERSION: Final = 3  # of the schema

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself.

    Attributes:
        network_tag: 32 bytes: whose records they are.
        made_at: Seconds since 1970.
        records: How many.
        publications: How many.
        hash: SHA-256 of the content, hexadecimal.
    """

    network_tag: bytes
    made_at: int
    records: int
    publications: int
    hash: str

    def differences(self, found: About) -> tuple[str, ...]:
        """The names of what is not as it is said here."""
        return tuple(name for name in self.__slots__ if getattr(self, name) != getattr(found, name))


@dataclass(frozen=True, slots=True)
class Row:
    """A record as it stands in a table; nobody has looked at it yet.

    Attributes:
        table: `record` or `publication`.
        key: Of any length.
        header: Of any length.
        value: None if it is longer than any record's can be.
        length: Of the value.
        renew_at: Seconds since 1970, or any other number; of records 0.
        ttl_s: Any number; of records, and where none was chosen, None.
    """

    table: str
    key: bytes
    header: bytes
    value: bytes | None
    length: int
    renew_at: float
    ttl_s: int | None


class BackupFile:
    """A backup that is read, once and in order: records, then publications, each by place.

    Raises:
        SetupError: also later: it cannot be read, is no backup of this program, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = self._sql(lambda: _open(path))
        try:
            self._sql(self._check)
        except BaseException:
            self.close()
            raise
        self._rows = (Row(table, *fields) for table in TABLES for fields in self._found(table))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def about(self) -> About:
        """What the file says of itself."""
        query = "SELECT * FROM about LIMIT 2"
        match self._sql(lambda: self._connection.execute(query).fetchall()):
            case [(bytes(tag), int(made_at), int(records), int(publications), bytes(sha256))]:
                return About(tag, made_at, records, publications, sha256.hex())
        raise SetupError(f"{self._path} is no complete backup of this program")

    def page(self) -> list[Row]:
        """The next PAGE_ROWS rows; empty at the end."""
        return self._sql(lambda: list(islice(self._rows, PAGE_ROWS)))

    def _check(self) -> None:
        """Refuse what is damaged or was not made by us, before a row of it is read."""
        execute = self._connection.execute
        execute("PRAGMA trusted_schema = OFF")
        execute("PRAGMA cell_size_check = ON")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version > len(STEPS):
            raise SetupError(f"{self._path} was made by a newer version of this program: use that")
        self._version = version
        if _schema(self._connection) != _schema_of(version):
            raise SetupError(f"{self._path} is no backup of this program")
        (verdict,) = execute("PRAGMA quick_check(1)").fetchone()
        if verdict != b"ok":
            reason = verdict.decode().splitlines()[-1]
            raise SetupError(f"the backup {self._path} is damaged: {reason}")

    def _found(self, table: str) -> sqlite3.Cursor:
        query = _query(table, version=self._version)
        return self._connection.execute(query, {"value_bytes_max": VALUE_BYTES_MAX})

    def _sql(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (*FAILURES, OSError) as error:
            raise SetupError(f"cannot read the backup {self._path}: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    # Immutable: what lies beside it, such as a log, is no part of it.
    uri = path.absolute().as_uri() + "?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.text_factory = bytes  # text that is no UTF-8 is none of our business
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, FIELD_BYTES_MAX)
    return connection


def _query(table: str, *, version: int) -> str:
    """What reads the rows of a table of a backup that was made at this version of the schema."""
    if table == "record":
        return ROWS.format(table=table, renew_at="0.0", ttl_s="NULL")
    ttl_s = "CAST(ttl_s AS INTEGER)" if version >= TTL_SINCE_VERSION else "NULL"
    return ROWS.format(table=table, renew_at="CAST(renew_at AS REAL)", ttl_s=ttl_s)


def _schema(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
    ).fetchall()


def _schema_of(version: int) -> list[tuple[object, ...]]:
    """The schema of a backup that was made at this version of the store's schema."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.text_factory = bytes
        for step in (*STEPS[:version], (ABOUT,)):
            for statement in step:
                model.execute(statement)
        return _schema(model)


def begin_about(path: Path) -> None:
    """Turn a fresh copy of a store's database into a backup that says nothing of itself yet.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # the copy is in WAL, as the store is
        connection.execute(ABOUT)


def write_about(path: Path, about: About) -> None:
    """Say what is in a backup, which completes it.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    row = (
        about.network_tag,
        about.made_at,
        about.records,
        about.publications,
        bytes.fromhex(about.hash),
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO about VALUES (?, ?, ?, ?, ?)", row)
