"""Sharing: what is in the folders is announced, and what is not there any more is withdrawn.

Driven by `refresh`, again and again. What is on the disk is compared with the ledger: a file that
has changed or gone is served no longer at once, and withdrawn; a new one is read, provided and
announced, one entry for each of its words. What failed is tried again by the next `refresh`, since
only what is done is noted.

That the sharer lives is said by one short-lived entry, the beacon. Searchers pass over entries
whose author has none. So a sharer that dies is gone from all results within the lease, at the price
of one record renewed, however many files there are; the entries themselves live for ENTRY_TTL_S.
Of all who share by one daemon there is one beacon, for the author is the daemon.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from examples.file_index.entry import Entry, shown_path, shown_title
from examples.file_index.hosting import Host, Serving
from examples.file_index.ledger import Known, Ledger
from examples.file_index.titles import kind_of
from examples.file_index.walk import Content, Found, Skipped, read, scan
from examples.file_index.words import topic_of
from kademlia_node import Announcement, KademliaError, Key, Node

BEACON: Final = "file-index"  # an entry of the sharer's own: it is there
LEASE_S: Final = 600  # of the beacon
ENTRY_TTL_S: Final = 4 * 3600  # of all else: thousands of entries are renewed every two hours
FILES_AT_ONCE: Final = 100  # are announced together, so that their entries share walks
READS_AT_ONCE: Final = 4  # files that are read side by side
PROVIDES_AT_ONCE: Final = 16

Place = tuple[str, str]
"""Folder and path."""
Work = Callable[..., Awaitable[Any]]
"""Runs a function with arguments where it may block: `asyncio.to_thread`, or a test's own."""
OnStep = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the folders hold now."""

    found: dict[Place, Found]
    skipped: list[Skipped]


def look(folders: Sequence[str]) -> Sight:
    """Look through folders; one that cannot be opened holds nothing."""
    sight = Sight({}, [])
    for folder in folders:
        try:
            for one in scan(folder):
                if isinstance(one, Found):
                    sight.found[one.folder, one.path] = one
                else:
                    sight.skipped.append(one)
        except OSError as error:
            sight.skipped.append(Skipped(folder, (error.strerror or str(error)).lower()))
    return sight


def entry_of(known: Known, key: Key) -> Entry:
    """What is announced of a file."""
    size, mtime_ns, _ = known.found.mark
    return Entry(
        key,
        path=shown_path(known.found.path),
        size=size,
        kind=kind_of(known.found.path),
        title=shown_title(known.title),
        changed_at=max(0, min(mtime_ns // 10**9, 2**40 - 1)),
    )


class Sharer:
    """See above.

    Args:
        node: It has `shelf` for its content, or is a daemon's (`hosting`).
        ledger: Which folders, and what is known of the files there.
        shelf: Where the files are served from.
        salt: Bytes of our own, so that the slots of entries do not tell paths.
        lease_s: How soon we are gone when we die.
        on_step: Told how far it is.
        work: Where files are read.
        wall: Seconds since 1970.
    """

    def __init__(
        self,
        node: Host,
        ledger: Ledger,
        shelf: Serving,
        *,
        salt: bytes,
        lease_s: int = LEASE_S,
        on_step: OnStep = lambda *_: None,
        work: Work = asyncio.to_thread,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the program's wall clock enters here
    ) -> None:
        self._node = node
        self._ledger = ledger
        self._shelf = shelf
        self._salt = salt
        self._lease_s = lease_s
        self._on_step = on_step
        self._work = work
        self._wall = wall
        self._known = {_place(known.found): known for known in ledger.files()}
        self._provided: dict[Place, Entry] = {}  # in this run, at this address
        self._announced: dict[Place, int] = {}  # in this run, by how many entries
        self._address = ""
        self._alive: Counter[tuple[bytes, bytes]] | None = None
        self._is_lit = False
        self.trouble = ""
        for known in self._known.values():
            shelf.add(known.found, known.manifest)

    async def refresh(self) -> None:
        """Compare once; `trouble` says what could not be done, and is empty if all was."""
        self.trouble = ""
        sight: Sight = await self._work(look, self._ledger.folders())
        gone = [
            known
            for place, known in self._known.items()
            if place not in sight.found or sight.found[place].mark != known.found.mark
        ]
        await self._retire(gone)
        sight.skipped.extend(await self._read_new(sight))
        try:
            await self._light_beacon()
            await self._announce_new()
        except KademliaError as error:
            self.trouble = str(error)
        await self._note(sight)

    async def retire_removed(self) -> None:
        """Withdraw the files of folders that are not to be shared any more, and do no more."""
        folders = set(self._ledger.folders())
        known = self._known.values()
        await self._retire([one for one in known if one.found.folder not in folders])

    async def leave(self) -> None:
        """Put out the beacon of our own node: whoever searches from now on passes us over.

        A daemon goes on serving, and others may share by it: its beacon stays.
        """
        if not isinstance(self._node, Node):
            return
        self._is_lit = False
        try:
            await self._node.withdraw(BEACON, own=True, ttl_s=self._lease_s)
        except KademliaError as error:
            self.trouble = str(error)

    # --- What is new ------------------------------------------------------------------------------

    async def _read_new(self, sight: Sight) -> list[Skipped]:
        """Read what the ledger does not know; returns what cannot be read."""
        new = [found for place, found in sight.found.items() if place not in self._known]
        at_once, failed, done = asyncio.Semaphore(READS_AT_ONCE), list[Skipped](), 0

        async def read_one(found: Found) -> None:
            nonlocal done
            async with at_once:
                try:
                    content: Content = await self._work(read, found)
                except (OSError, ValueError) as error:  # it changes under our hands, or is too long
                    failed.append(Skipped(found.path, str(error)))
                else:
                    known = Known(found, content.manifest, content.title)
                    self._know(known)
                    self._shelf.add(found, known.manifest)
            done += 1
            self._on_step("reading", done, len(new))

        async with asyncio.TaskGroup() as tasks:
            for found in new:
                tasks.create_task(read_one(found))
        return failed

    async def _light_beacon(self) -> None:
        if not self._is_lit and self._known:
            await self._node.set(BEACON, b"\x01", own=True, ttl_s=self._lease_s)
            self._is_lit = True

    async def _announce_new(self) -> None:
        if self._address != (address := str(self._node.invite)):
            self._provided.clear()  # each file is to be fetched where we are now
            self._address = address
        done = self._announced.keys() & self._provided.keys()
        new = [known for place, known in self._known.items() if place not in done]
        for start in range(0, len(new), FILES_AT_ONCE):
            await self._announce(new[start : start + FILES_AT_ONCE])
            self._on_step("announcing", min(start + FILES_AT_ONCE, len(new)), len(new))

    async def _announce(self, files: Sequence[Known]) -> None:
        """Say that we have these files, then by which words they are found."""
        await self._provide([one for one in files if _place(one.found) not in self._provided])
        still_alive = await self._still_alive()
        wanted: list[tuple[Place, Announcement]] = []
        counts: dict[Place, int] = {}
        for known in files:
            place, slot = _place(known.found), self._slot(known.found)
            entry = self._provided.get(place)
            if entry is None or place in self._announced:
                continue
            value, words = entry.pack(), entry.words
            if still_alive[slot.encode(), hashlib.sha256(value).digest()] < len(words):
                wanted += [(place, Announcement(topic_of(word), value, slot)) for word in words]
            counts[place] = len(words)
        entries = [announcement for _, announcement in wanted]
        receipts = await self._node.announce_many(entries, ttl_s=ENTRY_TTL_S)
        for (place, _), receipt in zip(wanted, receipts, strict=True):
            if not receipt.replicas:
                counts.pop(place, None)
                self.trouble = f"some entries were not stored: {receipt.summary()}"
        self._announced |= counts

    async def _provide(self, files: Sequence[Known]) -> None:
        manifests = [known.manifest for known in files]
        receipts = await self._node.provide_many(manifests, ttl_s=ENTRY_TTL_S)
        for known, receipt in zip(files, receipts, strict=True):
            if receipt.replicas:
                self._know(replace(known, key=str(receipt.key)))
                self._provided[_place(known.found)] = entry_of(known, receipt.key)
            else:
                self.trouble = f"some files were not provided: {receipt.summary()}"

    async def _still_alive(self) -> Counter[tuple[bytes, bytes]]:
        """What an earlier run announced and is not about to expire: how often, by slot and hash.

        A restart need not announce it again, since the node renews it.
        """
        if self._alive is None:
            soon = self._wall() + ENTRY_TTL_S / 4
            self._alive = Counter()
            async for published in self._node.publications():
                if published.record.header.expires > soon:
                    self._alive[
                        published.record.header.slot, published.record.header.value_hash
                    ] += 1
        return self._alive

    # --- What is gone -----------------------------------------------------------------------------

    async def _retire(self, files: Sequence[Known]) -> None:
        """Serve these no longer; withdraw what was announced of them."""
        if files and self._alive:
            self._alive.clear()
        gone = {_place(known.found) for known in files}
        staying = {known.key: place for place, known in self._known.items() if place not in gone}
        for known in files:
            twin = staying.get(str(known.manifest.key))
            if twin is not None:  # it may have been served from here, and is provided anew
                self._provided.pop(twin, None)
            self._shelf.remove(known.found, known.manifest)
            self._announced.pop(_place(known.found), None)
            self._provided.pop(_place(known.found), None)
        for start in range(0, len(files), FILES_AT_ONCE):
            batch = files[start : start + FILES_AT_ONCE]
            try:
                failed = await self._withdraw(batch, staying=staying)
            except KademliaError as error:
                self.trouble = str(error)
                return
            for known in batch:
                if _place(known.found) not in failed:
                    del self._known[_place(known.found)]
                    self._ledger.drop(known.found)
            self._on_step("withdrawing", start + len(batch), len(files))

    async def _withdraw(self, files: Sequence[Known], *, staying: Collection[str]) -> set[Place]:
        """Withdraw; returns of which files something is still announced.

        What nobody has taken yet is unprovided, too: the node goes on trying.
        """
        at_once = asyncio.Semaphore(PROVIDES_AT_ONCE)

        async def unprovide(key: Key) -> None:
            async with at_once:
                await self._node.unprovide(key, ttl_s=ENTRY_TTL_S)

        said = [(known, known.manifest.key) for known in files]
        places = [
            (_place(known.found), (topic_of(word), self._slot(known.found)))
            for known, key in said
            if known.key
            for word in entry_of(known, key).words
        ]
        entries = [entry for _, entry in places]
        receipts = await self._node.withdraw_many(entries, ttl_s=ENTRY_TTL_S)
        over = dict.fromkeys(key for _, key in said if str(key) not in staying)
        await _all(unprovide(key) for key in over)
        withdrawn = zip(places, receipts, strict=True)
        failed = {place for (place, _), receipt in withdrawn if not receipt.replicas}
        if failed:
            self.trouble = "some entries were not withdrawn: nobody took the word"
        return failed

    # --- Notes ------------------------------------------------------------------------------------

    def _know(self, known: Known) -> None:
        self._known[_place(known.found)] = known
        self._ledger.keep(known)

    def _slot(self, found: Found) -> str:
        where = f"{found.folder}\0{found.path}".encode("utf-8", "surrogateescape")
        return hashlib.sha256(self._salt + where).hexdigest()[:32]

    async def _note(self, sight: Sight) -> None:
        try:
            status = await self._node.status()
        except KademliaError as error:
            self._ledger.say(trouble=str(error))
            return
        renewals = status.operations.get("renew")
        self._ledger.say(
            last_scan=int(self._wall()),
            skipped=len(sight.skipped),
            entries=sum(self._announced.values()),
            invite=str(self._node.invite),
            peers=status.peers,
            trouble=self.trouble,
            renewed=renewals.count if renewals else 0,
            renewal_requests=renewals.requests if renewals else 0,
            renewed_last=status.did.get("renew", 0),
            datagrams=sum(
                status.counters.get(f"datagrams_{way}", 0) for way in ("sent", "received")
            ),
        )


def _place(found: Found) -> Place:
    return found.folder, found.path


async def _all(work: Iterable[Any]) -> list[Any]:
    """What each returned, in order; the first that raises ends the others, and is raised."""
    tasks: list[asyncio.Task[Any]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
