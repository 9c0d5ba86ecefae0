"""The database file of a store: its tables, how old ones become new ones, what makes it unusable.

A schema is the sum of STEPS, and its version (`PRAGMA user_version`) is how many were taken; a step
that was ever released stays as it is, changes are new steps. Knows nothing of what the rows mean:
that is `tables`. Driven by `connect`, in the one thread that owns the connection.
"""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Final

from kademlia_node.errors import SetupError

# A table with rowids: the index that makes places unique costs a second search, but the other two
# then hold 8 bytes of rowid for each record instead of its whole place, and a new record is written
# at the end of the table. With 400,000 small records WITHOUT ROWID took 250 instead of 201 MB,
# gave 66,000 instead of 90,000 gets/s, and 7,100 instead of 10,900 puts/s.
STEPS: Final = (
    (
        """CREATE TABLE record (
            key BLOB NOT NULL,
            author BLOB NOT NULL,
            slot BLOB NOT NULL,
            expires INTEGER NOT NULL,
            rank INTEGER NOT NULL,
            charged_to BLOB NOT NULL,
            header BLOB NOT NULL,
            value BLOB NOT NULL,
            CHECK (
                typeof(key) = 'blob' AND typeof(author) = 'blob' AND typeof(slot) = 'blob'
                AND typeof(expires) = 'integer' AND typeof(rank) = 'integer'
                AND typeof(charged_to) = 'blob'
                AND typeof(header) = 'blob' AND typeof(value) = 'blob'
            )
        )""",
        "CREATE UNIQUE INDEX record_by_place ON record (key, author, slot)",
        "CREATE INDEX record_by_expiry ON record (expires)",
        "CREATE INDEX record_by_rank ON record (rank DESC, expires)",
        """CREATE TABLE publication (
            key BLOB NOT NULL,
            author BLOB NOT NULL,
            slot BLOB NOT NULL,
            renew_at REAL NOT NULL,
            header BLOB NOT NULL,
            value BLOB NOT NULL,
            PRIMARY KEY (key, author, slot)
        )""",
    ),
    (
        # Values too long to go inline are asked for by their hash, which every header holds at the
        # same offset. The others would only make this index as large as that of places.
        "CREATE INDEX record_by_value ON record (substr(header, 15, 32)) WHERE length(value) > 640",
        "CREATE INDEX publication_by_renewal ON publication (renew_at)",
    ),
    ("ALTER TABLE publication ADD COLUMN ttl_s INTEGER",),  # NULL: as long as usual
    (
        "DROP INDEX publication_by_renewal",
        # How long something may wait depends on how long it lives; 48 hours, if nothing is said.
        "ALTER TABLE publication ADD COLUMN lifetime_s INTEGER AS (coalesce(ttl_s, 172800))",
        "CREATE INDEX publication_by_urgency ON publication (lifetime_s, renew_at)",
    ),
)

DAMAGE: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # ERROR: a table is gone
)
UNWRITABLE: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
)


class Durability(StrEnum):
    """What a record that was acknowledged survives."""

    PROCESS = "process"  # the end of the process, SIGKILL included
    POWER = "power"  # the end of the machine, too: each commit waits for the disk


class Damaged(sqlite3.DatabaseError):
    """The file is a database, but its parts contradict each other."""


def connect(path: Path, *, durability: Durability, cache_bytes: int) -> sqlite3.Connection:
    """Open or make the file, check it, and bring its schema up to date.

    Raises:
        sqlite3.Error, UnicodeDecodeError: it cannot be used, or is damaged (see `is_damage`).
        OSError: it cannot be made.
        SetupError: a newer version of this program wrote it.
    """
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        # No other process ever opens it. So the index of the log stays in our own memory, where a
        # full disk cannot reach it, and a second process gets a clear error.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        synchronous = "FULL" if durability is Durability.POWER else "NORMAL"
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA cache_size = {-cache_bytes // 1024}")  # negative: in KiB
        _check(connection)
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    """Read every page once: 2 to 4 s for a million small records."""
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise Damaged(verdict)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        raise SetupError(
            f"{path} was written by a newer version of this program: run that one, or move the"
            " file away to begin with an empty store"
        )
    for number, step in enumerate(STEPS[version:], start=version + 1):
        connection.execute("BEGIN")
        for statement in step:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")


def set_aside(path: Path) -> Path:
    """Rename a damaged file; returns the new path.

    Its log needs no care: SQLite reads it into the file where that is possible, and throws away
    one that it finds beside a new file.

    Raises:
        OSError: it cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.corrupt-{number}") for number in count(1))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    return aside


def is_damage(error: Exception) -> bool:
    """Whether the file itself is at fault, and not its surroundings."""
    garbled = isinstance(error, UnicodeDecodeError)  # a message that quotes a damaged schema
    return garbled or isinstance(error, Damaged) or _primary_code(error) in DAMAGE


def is_unwritable(error: Exception) -> bool:
    """Whether nothing can be written now: the disk is full, fails, or is read-only."""
    return _primary_code(error) in UNWRITABLE


def _primary_code(error: Exception) -> int:
    """See "Result and Error Codes" of SQLite; -1 if Python raised it."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else -1
