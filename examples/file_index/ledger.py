"""What is kept on disk between runs, in one folder.

    key         seed of the sharer's identity, 64 hexadecimal digits; mode 0600
    lock        held (flock) while something is being shared
    ledger.db   which folders and files, what was read of them, what was found last
    store.db    the records that the node keeps for others, and what it publishes
    peers.json  the peers that were known last

Several processes may use the ledger at once: whoever shares looks at the list of folders again and
again, so that is how others reach it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from examples.file_index.walk import Found
from kademlia_node import Manifest, SetupError

VERSION: Final = 1
TABLES: Final = (
    "CREATE TABLE folder (path BLOB PRIMARY KEY)",
    """CREATE TABLE file (folder BLOB, path BLOB, size INTEGER, mtime_ns INTEGER, inode INTEGER,
        manifest BLOB, title TEXT, key TEXT, PRIMARY KEY (folder, path))""",
    "CREATE TABLE fact (name TEXT PRIMARY KEY, said)",
    "CREATE TABLE result (number INTEGER PRIMARY KEY, key TEXT, name TEXT, size INTEGER)",
)


@dataclass(frozen=True, slots=True)
class Known:
    """A file that was read, and what of it; `key` is empty until somebody has taken word of it."""

    found: Found
    manifest: Manifest
    title: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A line of the last search."""

    number: int
    key: str
    name: str
    size: int


class Ledger:
    """See above. Made by `open_ledger`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._sql = connection.execute
        self._many = connection.executemany

    # --- Folders and files ------------------------------------------------------------------------

    def folders(self) -> list[str]:
        """The folders that are to be shared, in order."""
        return [os.fsdecode(path) for (path,) in self._sql("SELECT path FROM folder ORDER BY path")]

    def add_folders(self, folders: Iterable[str]) -> None:
        """Have these shared as well."""
        rows = [(os.fsencode(folder),) for folder in folders]
        self._many("INSERT OR IGNORE INTO folder VALUES (?)", rows)

    def remove_folder(self, folder: str) -> bool:
        """Have it shared no longer; whether it was."""
        gone = self._sql("DELETE FROM folder WHERE path = ?", (os.fsencode(folder),))
        return gone.rowcount > 0

    def files(self, folder: str | None = None) -> Iterator[Known]:
        """The files that were read, of one folder or of all."""
        query = "SELECT * FROM file WHERE ?1 IS NULL OR folder = ?1 ORDER BY folder, path"
        of = None if folder is None else os.fsencode(folder)
        for row in self._sql(query, (of,)).fetchall():
            where, path, size, mtime_ns, inode, manifest, title, key = row
            found = Found(os.fsdecode(where), os.fsdecode(path), (size, mtime_ns, inode))
            yield Known(found, Manifest.unpack(manifest), title, key)

    def keep(self, known: Known) -> None:
        """Note what was read of a file, and its key once it is provided."""
        found = known.found
        row = (
            *(os.fsencode(found.folder), os.fsencode(found.path), *found.mark),
            *(known.manifest.pack(), known.title, known.key),
        )
        self._sql("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def drop(self, found: Found) -> None:
        """Forget a file."""
        place = os.fsencode(found.folder), os.fsencode(found.path)
        self._sql("DELETE FROM file WHERE folder = ? AND path = ?", place)

    def count(self) -> tuple[int, int, int]:
        """How many files were read, their bytes, and of how many somebody has taken word."""
        query = "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(key != ''), 0) FROM file"
        files, size, announced = self._sql(query).fetchone()
        return files, size, announced

    def count_in(self, folder: str) -> int:
        """How many files of a folder are in the ledger."""
        query = "SELECT count(*) FROM file WHERE folder = ?"
        (count,) = self._sql(query, (os.fsencode(folder),)).fetchone()
        return int(count)

    # --- Facts and results ------------------------------------------------------------------------

    def say(self, **facts: str | int) -> None:
        """Note something about the process that shares."""
        self._many("INSERT OR REPLACE INTO fact VALUES (?, ?)", list(facts.items()))

    def facts(self) -> dict[str, Any]:
        """What was noted."""
        return dict(self._sql("SELECT name, said FROM fact ORDER BY name"))

    def keep_results(self, results: Iterable[Result]) -> None:
        """These are the lines of the last search."""
        self._sql("BEGIN IMMEDIATE")
        self._sql("DELETE FROM result")
        rows = [(one.number, one.key, one.name, one.size) for one in results]
        self._many("INSERT INTO result VALUES (?, ?, ?, ?)", rows)
        self._sql("COMMIT")

    def result(self, number: int) -> Result | None:
        """A line of the last search."""
        row = self._sql("SELECT * FROM result WHERE number = ?", (number,)).fetchone()
        return None if row is None else Result(*row)


@contextmanager
def open_ledger(folder: Path) -> Iterator[Ledger]:
    """The ledger in a folder, which is made if need be.

    Raises:
        SetupError: it cannot be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = _connect(folder / "ledger.db")
    except (sqlite3.Error, OSError) as error:
        raise SetupError(f"the state in {folder} cannot be used: {error}") from error
    with closing(connection):
        yield Ledger(folder, connection)


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for statement in TABLES if version == 0 else ():
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Be the one that shares from this folder; yields False if another process is."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def is_shared(folder: Path) -> bool:
    """Whether a process shares from this folder now."""
    with locked(folder) as is_idle:  # for no longer than it takes to see
        return not is_idle
