"""A store in one SQLite file: what it acknowledged survives the process, on request the machine.

Coroutines in front, one connection in one thread behind (`group_commit`), the SQL in `tables`, the
file in `schema`. A damaged file is set aside and a new one begun: the other replicas hold what was
in it, and a node that starts is worth more to them than one that does not. A full disk, or one that
fails, loses nothing: new records are refused until it can be written again.

Driven by `open` and, at the end, `close`; in between as any `Store`. If the process ends without
`close`, all that is lost is the time to read the log at the next start.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from kademlia_node.core.record import Header, Record
from kademlia_node.errors import SetupError
from kademlia_node.settings import Settings
from kademlia_node.store.base import (
    FIRST,
    Answer,
    Outcome,
    Place,
    Published,
    Usage,
)
from kademlia_node.store.group_commit import GroupCommit
from kademlia_node.store.schema import (
    Durability,
    connect,
    is_damage,
    is_unwritable,
    set_aside,
)
from kademlia_node.store.tables import Tables

log = logging.getLogger(__name__)

T = TypeVar("T")
FAILURES: Final = (sqlite3.Error, UnicodeDecodeError)


class DiskStore:
    """See `Store`. Made by `open`.

    Attributes:
        path: the file; beside it lies its log, `<path>-wal`.
        set_aside: where the file went that was found damaged; None: it was sound, or new.
        publications: what this node keeps alive, in the same file.
    """

    def __init__(self, path: Path, commits: GroupCommit, *, aside: Path | None) -> None:
        self.path = path
        self.set_aside = aside
        self._commits = commits
        self._disk = _Disk(path, commits)
        self.publications = DiskPublications(self._disk)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        own_id: bytes,
        settings: Settings,
        durability: Durability = Durability.PROCESS,
    ) -> DiskStore:
        """The store in the file at `path`, which is made if need be.

        Args:
            path: in a folder that exists, on a local disk.
            own_id: the node ID (32 bytes) from which distances are counted.
            settings: quotas and limits.
            durability: what acknowledged records survive.

        Raises:
            SetupError: the file cannot be used, is in use, or a newer version wrote it.
        """
        aside: Path | None = None

        def open_tables() -> Tables:
            nonlocal aside
            try:
                return _open_tables(path, own_id, settings=settings, durability=durability)
            except FAILURES as error:
                if not is_damage(error):
                    raise
                aside = set_aside(path)
                log.warning("%s is damaged (%s): moved to %s", path, error, aside.name)
                return _open_tables(path, own_id, settings=settings, durability=durability)

        try:
            commits = await GroupCommit.start(open_tables, group_max=settings.store_group_max)
        except (*FAILURES, OSError) as error:
            raise SetupError(f"cannot use the store {path}: {error}") from error
        return cls(path, commits, aside=aside)

    async def get(
        self,
        key: bytes,
        *,
        wall: float,
        after: tuple[bytes, bytes] | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        """See `Store`."""
        return await self._disk.run(
            lambda tables: tables.get(key, wall=wall, after=after, limit=limit)
        )

    async def get_one(
        self, key: bytes, *, author: bytes, slot: bytes, wall: float
    ) -> Record | None:
        """See `Store`."""
        place = (key, author, slot)
        return await self._disk.run(lambda tables: tables.get_one(place, wall=wall))

    async def put(
        self, record: Record, *, charged_to: bytes, wall: float, expect_seq: int | None = None
    ) -> Answer:
        """See `Store`."""
        return await self._ask(
            lambda tables: tables.put(
                record, charged_to=charged_to, wall=wall, expect_seq=expect_seq
            )
        )

    async def offer(
        self,
        key: bytes,
        header: Header,
        *,
        charged_to: bytes,
        wall: float,
        expect_seq: int | None = None,
    ) -> Answer:
        """See `Store`."""
        return await self._ask(
            lambda tables: tables.offer(
                key, header, charged_to=charged_to, wall=wall, expect_seq=expect_seq
            )
        )

    async def value(self, value_hash: bytes, *, wall: float) -> bytes | None:
        """See `Store`."""
        return await self._disk.run(lambda tables: tables.value(value_hash, wall=wall))

    async def keys(self, *, wall: float) -> list[bytes]:
        """See `Store`."""
        return await self._disk.run(lambda tables: tables.keys(wall=wall))

    async def page(self, after: Place = FIRST, *, limit: int, wall: float) -> list[Record]:
        """See `Store`."""
        return await self._disk.run(lambda tables: tables.page(after, limit=limit, wall=wall))

    async def expiring(self, *, after: float, until: float) -> list[bytes]:
        """See `Store`."""
        return await self._disk.run(lambda tables: tables.expiring(after, until))

    async def sweep(self, *, wall: float) -> int:
        """See `Store`; in steps, between which others have their turn."""
        forgotten = 0
        with suppress(_Unwritable):  # it is logged; what has expired is not there even so
            while step := await self._disk.run(lambda tables: tables.forget_expired(wall)):
                forgotten += step
        return forgotten

    async def usage(self) -> Usage:
        """See `Store`."""
        return await self._disk.run(Tables.usage)

    async def backup_to(self, path: Path) -> None:
        """Copy the store as it is now, publications included, to a new file.

        The file appears when it is complete. Meanwhile reads and writes wait.

        Raises:
            SetupError: `path` exists, or cannot be written.
        """
        try:
            await self._commits.run(lambda tables: tables.backup_to(path), alone=True)
        except (sqlite3.Error, OSError) as error:
            raise SetupError(f"cannot write the backup {path}: {error}") from error

    async def close(self) -> None:
        """See `Store`."""
        await self._commits.close()

    async def _ask(self, work: Callable[[Tables], Answer]) -> Answer:
        try:
            answer = await self._disk.run(work)
        except _Unwritable:
            return Answer(Outcome.FULL, None)
        if answer.outcome is Outcome.STORED:
            self._disk.on_filed()
        return answer


class DiskPublications:
    """See `Publications`."""

    def __init__(self, disk: _Disk) -> None:
        self._disk = disk

    async def due(self, *, wall: float, limit: int) -> list[Published]:
        """See `Publications`."""
        return await self._disk.run(lambda tables: tables.publications_due(wall=wall, limit=limit))

    async def get(self, place: Place) -> Published | None:
        """See `Publications`."""
        return await self._disk.run(lambda tables: tables.publication(place))

    async def page(self, after: Place = FIRST, *, limit: int) -> list[Published]:
        """See `Publications`."""
        return await self._disk.run(lambda tables: tables.publications_page(after, limit=limit))

    async def count(self) -> int:
        """See `Publications`."""
        return await self._disk.run(Tables.publications_count)

    async def lifetimes(self) -> dict[int, int]:
        """See `Publications`."""
        return await self._disk.run(Tables.publication_lifetimes)

    async def keep(self, published: Published) -> None:
        """See `Publications`."""
        await self._disk.run(lambda tables: tables.publish(published))

    async def drop(self, place: Place) -> None:
        """See `Publications`."""
        await self._disk.run(lambda tables: tables.unpublish(place))


class _Unwritable(SetupError):  # noqa: N818 - named for what happened
    """The disk is full, or fails: what it has can still be read."""


class _Disk:
    """Runs jobs on the tables, and says what it means when one fails."""

    def __init__(self, path: Path, commits: GroupCommit) -> None:
        self._path = path
        self._commits = commits
        self._is_unwritable = False

    async def run(self, work: Callable[[Tables], T]) -> T:
        """What `work` returns, committed.

        Raises:
            _Unwritable: nothing can be written now; the first time this is logged.
            SetupError: the file turns out to be unusable.
        """
        try:
            return await self._commits.run(work)
        except FAILURES as error:
            if not is_unwritable(error):
                raise SetupError(f"cannot use the store {self._path}: {error}") from error
            if not self._is_unwritable:
                self._is_unwritable = True
                log.warning("%s takes no more (%s); what it has it keeps", self._path, error)
            raise _Unwritable(f"cannot write to {self._path}: {error}; free some space") from error

    def on_filed(self) -> None:
        """A record was written: the next failure is worth a word again."""
        if self._is_unwritable:
            self._is_unwritable = False
            log.info("%s can be written again", self._path)


def _open_tables(
    path: Path, own_id: bytes, *, settings: Settings, durability: Durability
) -> Tables:
    connection = connect(path, durability=durability, cache_bytes=settings.store_cache_bytes)
    try:
        return Tables(connection, own_id, settings=settings)
    except BaseException:
        connection.close()
        raise
