"""The tables of a disk store, and all the SQL that touches them.

Synchronous, and for one thread: nothing here waits, and whoever drives it says when a transaction
begins and ends. Judges no record and decides nothing (`store.shelf`). The ledger is in memory only;
it is summed up once, at the start, and follows every transaction, also when it is undone.

A row whose header makes no sense, which no database check can see, is as good as absent; it goes
when its time comes. Values are not looked at: whoever reads a record verifies it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from errno import EEXIST
from itertools import islice
from pathlib import Path

from kademlia_node.core.ids import distance
from kademlia_node.core.key import Kind
from kademlia_node.core.record import Header, Record, unpack_header
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import EXPIRY_DEFAULT_S, Settings
from kademlia_node.store.base import Place, Published, Usage
from kademlia_node.store.shelf import Holding, Shelf

log = logging.getLogger(__name__)

BEFORE_ALL = ("", "")  # an author and a slot: SQLite sorts text before every blob
RANK_SHIFT = 193  # the 63 highest of 256 bits: what an INTEGER holds and stays positive


class Tables(Shelf):
    """Records and publications over a connection that `schema.connect` has opened."""

    def __init__(
        self, connection: sqlite3.Connection, own_id: bytes, *, settings: Settings
    ) -> None:
        super().__init__(own_id, settings=settings)
        self._connection = connection
        self._sql = connection.execute
        self._take_over_ranks()
        self._charges: list[tuple[bytes, bytes, int, int]] = []  # of the open transaction
        for author, prefix, records, length in self._sql(
            "SELECT author, charged_to, count(*), sum(length(value)) FROM record"
            " GROUP BY author, charged_to"
        ):
            self._charge(author, prefix, records=records, length=length)
        self._charges.clear()

    # --- Transactions -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a transaction; it takes hold of the file with its first read or write."""
        self._sql("BEGIN")

    def commit(self) -> None:
        """Make what was written since `begin` last, as `Durability` says."""
        self._sql("COMMIT")
        self._charges.clear()

    def rollback(self) -> None:
        """Undo what was written since `begin`."""
        if self._connection.in_transaction:  # a full disk may have ended it already
            self._sql("ROLLBACK")
        for author, prefix, records, size_bytes in self._charges:
            self.ledger.add(author, prefix, size_bytes=-size_bytes, records=-records)
        self._charges.clear()

    def close(self) -> None:
        """Close the connection; nothing else can follow."""
        self._connection.close()

    def backup_to(self, path: Path) -> None:
        """Copy the whole database to a new file, which appears when it is complete.

        Raises:
            OSError: it exists already, or cannot be made.
            sqlite3.Error: it cannot be written.
        """
        if path.exists():
            raise FileExistsError(EEXIST, "it exists already")
        part = path.with_name(path.name + ".part")
        part.unlink(missing_ok=True)  # of a backup that was interrupted
        try:
            part.touch(mode=0o600)
            with closing(sqlite3.connect(part)) as copy:
                self._connection.backup(copy)
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    # --- Records ----------------------------------------------------------------------------------

    def get(
        self,
        key: bytes,
        *,
        wall: float,
        after: tuple[bytes, bytes] | None,
        limit: int | None,
    ) -> list[Record]:
        """See `Store`."""
        return self._records(
            "SELECT key, header, value FROM record"
            " WHERE key = ? AND (author, slot) > (?, ?) AND expires > ? ORDER BY author, slot",
            (key, *(after or BEFORE_ALL), wall),
            limit=limit,
        )

    def get_one(self, place: Place, *, wall: float) -> Record | None:
        """See `Store`."""
        found = self._records(
            "SELECT key, header, value FROM record"
            " WHERE key = ? AND author = ? AND slot = ? AND expires > ?",
            (*place, wall),
        )
        return found[0] if found else None

    def value(self, value_hash: bytes, *, wall: float) -> bytes | None:
        """See `Store`. The condition on the length is the index's own, or it would not be used."""
        found: tuple[bytes] | None = self._sql(
            "SELECT value FROM record"
            " WHERE substr(header, 15, 32) = ? AND length(value) > 640 AND expires > ?",
            (value_hash, wall),
        ).fetchone()
        return found[0] if found is not None else None

    def page(self, after: Place, *, limit: int, wall: float) -> list[Record]:
        """See `Store`."""
        return self._records(
            "SELECT key, header, value FROM record"
            " WHERE (key, author, slot) > (?, ?, ?) AND expires > ? ORDER BY key, author, slot",
            (*after, wall),
            limit=limit,
        )

    def keys(self, *, wall: float) -> list[bytes]:
        """See `Store`."""
        found = self._sql("SELECT DISTINCT key FROM record WHERE expires > ? ORDER BY key", (wall,))
        return [key for (key,) in found]

    def expiring(self, after: float, until: float) -> list[bytes]:
        """See `Store`."""
        found = self._sql(
            "SELECT DISTINCT key FROM record WHERE expires > ? AND expires <= ? ORDER BY key",
            (after, until),
        )
        return [key for (key,) in found]

    def usage(self) -> Usage:
        """See `Store`."""
        return self.ledger.usage

    def forget(self, wall: float) -> int:
        """See `Shelf`; `store_sweep_max` at most."""
        expired = self._sql(
            "SELECT rowid, author, charged_to, length(value) FROM record"
            " WHERE expires <= ? LIMIT ?",
            (wall, self.settings.store_sweep_max),
        ).fetchall()
        for rowid, author, prefix, length in expired:
            self._sql("DELETE FROM record WHERE rowid = ?", (rowid,))
            self._charge(author, prefix, records=-1, length=-length)
        return len(expired)

    def _records(
        self, query: str, parameters: tuple[object, ...], *, limit: int | None = None
    ) -> list[Record]:
        """Without LIMIT: rows that make no sense must not count, or a page of them ends it all."""
        records = (
            Record(key, header, value)
            for key, packed, value in self._sql(query, parameters)
            if (header := _header(packed)) is not None
        )
        return list(islice(records, limit))

    # --- What a shelf does ------------------------------------------------------------------------

    def held_at(self, place: Place) -> Holding | None:
        """See `Shelf`."""
        row = self._sql(
            "SELECT key, header, charged_to FROM record WHERE key = ? AND author = ? AND slot = ?",
            place,
        ).fetchone()
        return self._holding(*row) if row is not None else None

    def farthest(self) -> Iterator[Holding]:
        """See `Shelf`."""
        rows = self._sql("SELECT key, header, charged_to FROM record ORDER BY rank DESC, expires")
        for row in rows:
            holding = self._holding(*row)
            if holding is not None:
                yield holding

    def _holding(self, key: bytes, packed: bytes, charged_to: bytes) -> Holding | None:
        header = _header(packed)
        if header is None:
            return None
        return Holding.of(key, header, charged_to=charged_to, settings=self.settings)

    def add(self, holding: Holding, value: bytes) -> None:
        """See `Shelf`."""
        header = holding.header
        self._sql(
            "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *holding.place,
                header.expires,
                self._rank(holding.key),
                holding.charged_to,
                header.pack(),
                value,
            ),
        )
        self._charge(header.author, holding.charged_to, records=1, length=header.length)

    def renew(self, holding: Holding) -> None:
        """See `Shelf`."""
        header = holding.header
        self._sql(
            "UPDATE record SET expires = ?, header = ? WHERE key = ? AND author = ? AND slot = ?",
            (header.expires, header.pack(), *holding.place),
        )

    def remove(self, holding: Holding) -> None:
        """See `Shelf`."""
        header = holding.header
        self._sql("DELETE FROM record WHERE key = ? AND author = ? AND slot = ?", holding.place)
        self._charge(header.author, holding.charged_to, records=-1, length=-header.length)

    def kind_at(self, key: bytes) -> Kind | None:
        """See `Shelf`."""
        row = self._sql("SELECT header FROM record WHERE key = ? LIMIT 1", (key,)).fetchone()
        header = _header(row[0]) if row is not None else None
        return header.kind if header is not None else None

    def remove_topic(self, key: bytes) -> None:
        """See `Shelf`. The kind is the first byte of a header."""
        those = (key, bytes([Kind.TOPIC]))
        charged = self._sql(
            "SELECT author, charged_to, count(*), sum(length(value)) FROM record"
            " WHERE key = ? AND substr(header, 1, 1) = ? GROUP BY author, charged_to",
            those,
        ).fetchall()
        if charged:
            self._sql("DELETE FROM record WHERE key = ? AND substr(header, 1, 1) = ?", those)
        for author, prefix, records, length in charged:
            self._charge(author, prefix, records=-records, length=-length)

    def _charge(self, author: bytes, prefix: bytes, *, records: int, length: int) -> None:
        size_bytes = length + records * self.settings.record_overhead_bytes
        self.ledger.add(author, prefix, size_bytes=size_bytes, records=records)
        self._charges.append((author, prefix, records, size_bytes))

    # --- Ranks ------------------------------------------------------------------------------------

    def _rank(self, key: bytes) -> int:
        """Sorts as the distance from us does, up to ties that take 2^63 hashes to find."""
        return distance(key, self.own_id) >> RANK_SHIFT

    def _take_over_ranks(self) -> None:
        """Ranks belong to a node ID; under another one all of them are made anew."""
        some = self._sql("SELECT key, rank FROM record LIMIT 1").fetchone()
        if some is not None and some[1] != self._rank(some[0]):
            self._connection.create_function("rank_of", 1, self._rank)
            self._sql("UPDATE record SET rank = rank_of(key)")

    # --- Publications -----------------------------------------------------------------------------

    def publications_due(self, *, wall: float, limit: int) -> list[Published]:
        """See `Publications.due`."""
        due: list[Published] = []
        for lifetime_s in self._lifetimes():
            due += self._publications(
                "SELECT key, header, value, renew_at, ttl_s FROM publication"
                " WHERE lifetime_s = ? AND renew_at <= ? ORDER BY renew_at, key, author, slot",
                (lifetime_s, wall),
                limit=limit - len(due),
            )
        for lifetime_s in self._lifetimes():
            due += self._publications(
                "SELECT key, header, value, renew_at, ttl_s FROM publication"
                " WHERE lifetime_s = ? AND renew_at > ? ORDER BY renew_at, key, author, slot",
                (lifetime_s, wall + EXPIRY_DEFAULT_S),
                limit=limit - len(due),
            )
        return due

    def _lifetimes(self) -> Iterator[int]:
        """Those that publications have, the shortest first; one search for each."""
        query = "SELECT min(lifetime_s) FROM publication WHERE lifetime_s > ?"
        (lifetime_s,) = self._sql(query, (-1,)).fetchone()
        while lifetime_s is not None:
            yield lifetime_s
            (lifetime_s,) = self._sql(query, (lifetime_s,)).fetchone()

    def publication(self, place: Place) -> Published | None:
        """See `Publications.get`."""
        found = self._publications(
            "SELECT key, header, value, renew_at, ttl_s FROM publication"
            " WHERE key = ? AND author = ? AND slot = ?",
            place,
        )
        return found[0] if found else None

    def publications_page(self, after: Place, *, limit: int) -> list[Published]:
        """See `Publications.page`."""
        return self._publications(
            "SELECT key, header, value, renew_at, ttl_s FROM publication"
            " WHERE (key, author, slot) > (?, ?, ?) ORDER BY key, author, slot",
            after,
            limit=limit,
        )

    def publications_count(self) -> int:
        """See `Publications.count`."""
        (count,) = self._sql("SELECT count(*) FROM publication").fetchone()
        return int(count)

    def publication_lifetimes(self) -> dict[int, int]:
        """See `Publications.lifetimes`."""
        return dict(self._sql("SELECT lifetime_s, count(*) FROM publication GROUP BY lifetime_s"))

    def _publications(
        self, query: str, parameters: tuple[object, ...], *, limit: int | None = None
    ) -> list[Published]:
        publications = (
            Published(Record(key, header, value), renew_at, ttl_s)
            for key, packed, value, renew_at, ttl_s in self._sql(query, parameters)
            if (header := _header(packed)) is not None
        )
        return list(islice(publications, limit))

    def publish(self, published: Published) -> None:
        """See `Publications.keep`."""
        record = published.record
        self._sql(
            "INSERT OR REPLACE INTO publication VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *published.place,
                published.renew_at,
                record.header.pack(),
                record.value,
                published.ttl_s,
            ),
        )

    def unpublish(self, place: Place) -> None:
        """See `Publications.drop`."""
        self._sql("DELETE FROM publication WHERE key = ? AND author = ? AND slot = ?", place)


def _header(packed: bytes) -> Header | None:
    try:
        return unpack_header(packed)
    except MalformedMessage as error:
        log.warning("a row of the store is damaged and passed over: %s", error)
        return None
