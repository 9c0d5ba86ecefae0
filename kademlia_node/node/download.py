"""A download: one content on its way into a file, from all who announce that they have it.

Pieces are drawn from all holders at once and each is verified. What is here is in a file beside the
target, so that an attempt that was killed is gone on with; a lock on that file keeps a second one
away. Not known here: how a content is announced and its manifest found (`sharing`).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from kademlia_node.core.contact import Contact, is_local, prefix, unpack_contact
from kademlia_node.core.key import Key, topic_key
from kademlia_node.core.manifest import Manifest, Piece
from kademlia_node.errors import Incomplete, MalformedMessage, SetupError
from kademlia_node.node.fetching import Fetching
from kademlia_node.node.receipt import TopicEntry, Trace
from kademlia_node.node.state import NodeState

if sys.platform != "win32":  # there, nothing keeps a second download to one path away
    import fcntl

HOLDERS_MAX: Final = 64  # asked in one download; more make it no faster
PART: Final = ".part"  # ends the name of a file that is not whole
NAMED_BY_BYTES: Final = 4  # of the manifest's hash, in that name


def holders_topic(content: Key) -> Key:
    """The topic under which the holders of a content announce themselves."""
    return topic_key(b"kad1-holders" + content.digest)


def holder_of(entry: TopicEntry) -> Contact | None:
    """Where the author of an entry is reached; nobody can announce somebody else."""
    try:
        contact = unpack_contact(entry.value)
    except MalformedMessage:
        return None
    return contact if contact.public_key == entry.author else None


def part_of(path: Path, manifest_hash: bytes) -> Path:
    """Where a content is until it is whole: another content never takes it for its own."""
    return path.with_name(f"{path.name}.{manifest_hash[:NAMED_BY_BYTES].hex()}{PART}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a content is here: bytes that are verified and written, of how many in all.

    `holders` is how many have been asked for the rest.
    """

    here: int
    length: int
    holders: int


OnProgress = Callable[[Progress], None]
"""Told after each piece, and once before the first."""


class Download:
    """One content on its way into a file.

    Args:
        state: the node that fetches.
        manifest: of the content.
        path: where it is to be; replaced when the content is whole.
        trace: where requests are counted.
        on_progress: told how far it is.
    """

    def __init__(
        self,
        state: NodeState,
        manifest: Manifest,
        path: Path,
        *,
        trace: Trace,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._on_progress = on_progress
        self._here = 0
        self._manifest = manifest
        self._path = path
        self._part = part_of(path, manifest.hash)
        self._places: dict[bytes, list[int]] = {}
        for offset, piece in manifest.offsets():
            self._places.setdefault(piece.hash, []).append(offset)
        self._missing = set(self._places)
        self._changed = asyncio.Event()
        self._fetching = Fetching(
            state, on_piece=self._on_piece, on_idle=self._changed.set, trace=trace
        )
        self._state = state
        self._asked: set[Contact] = set()
        self._knocked = Counter[str | bytes]()
        self._copies: deque[tuple[list[int], bytes]] = deque()
        self._file: BinaryIO | None = None
        self._failure: OSError | None = None

    async def run(self, holders: AsyncIterator[TopicEntry]) -> None:
        """Fetch what is missing from the holders that announce themselves.

        Raises:
            Incomplete: nobody gives the rest; what is here is kept for the next attempt.
            SetupError: another download of this content to this path is under way.
            OSError: the file cannot be written.
        """
        self._part.touch()
        with self._part.open("r+b", buffering=0) as self._file:
            self._lock(self._file)
            await self._take_stock(self._file)
            try:
                async with asyncio.TaskGroup() as tasks:
                    looking = tasks.create_task(self._look_for(holders))
                    looking.add_done_callback(lambda _: self._changed.set())
                    while not self._is_over(looking):
                        self._changed.clear()
                        await self._changed.wait()
                        await self._write_copies()
                    looking.cancel()
            finally:
                self._fetching.cancel()
            await self._write_copies()
            if self._failure is not None:
                raise self._failure
            if self._missing:
                raise Incomplete(len(self._missing), of=len(self._places))
            self._file.truncate(self._manifest.length)
            os.fsync(self._file.fileno())
            self._part.replace(self._path)  # before the lock is gone

    def _is_over(self, looking: asyncio.Task[None]) -> bool:
        exhausted = looking.done() and self._fetching.is_idle
        return not self._missing or self._failure is not None or exhausted

    def _lock(self, file: BinaryIO) -> None:
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(
                f"{self._path} is being fetched already: wait for that, or choose another path"
            ) from None

    async def _take_stock(self, file: BinaryIO) -> None:
        """What an earlier attempt has left; a piece counts if it is true wherever it belongs."""
        untrue = set()
        for offset, piece in self._manifest.offsets():
            file.seek(offset)
            block = file.read(piece.length)
            if len(block) < piece.length or hashlib.sha256(block).digest() != piece.hash:
                untrue.add(piece.hash)
            await asyncio.sleep(0)
        self._missing = untrue
        lengths = (p.length for p in self._manifest.pieces if p.hash not in untrue)
        self._tell(more=sum(lengths))

    def _tell(self, *, more: int) -> None:
        self._here += more
        if self._on_progress is not None:
            self._on_progress(Progress(self._here, self._manifest.length, len(self._asked)))

    async def _look_for(self, holders: AsyncIterator[TopicEntry]) -> None:
        wanted = [piece for piece in self._manifest.pieces if piece.hash in self._missing]
        async for entry in holders:
            holder = holder_of(entry)
            if holder is not None and self._may_ask(holder):
                self._asked.add(holder)
                self._fetching.offer(holder, wanted)

    def _may_ask(self, holder: Contact) -> bool:
        """Not ourselves, and not too many; anybody may announce, and anywhere.

        On the open internet nobody may point us at what is local, nor make us knock at one host
        or prefix again and again.
        """
        host, state = holder.address.host, self._state
        if holder.public_key == state.identity.public_key or len(self._asked) >= HOLDERS_MAX:
            return False
        if not state.network.prefix_limits or state.is_proved(holder):
            return True
        self._knocked[host] += 1
        self._knocked[prefix(host)] += 1
        return (
            not is_local(host)
            and self._knocked[host] == 1
            and self._knocked[prefix(host)] <= state.settings.unproved_per_prefix
        )

    def _on_piece(self, _: Contact, piece: Piece, block: bytes) -> bool:
        first, *others = self._places[piece.hash]
        try:
            self._write(first, block)
        except OSError as failure:  # ours, not the holder's; `run` raises it
            self._failure = failure
            self._changed.set()
            return True
        if others:
            self._copies.append((others, block))
        self._missing.discard(piece.hash)
        self._tell(more=piece.length * (1 + len(others)))
        if others or not self._missing:
            self._changed.set()
        return True

    async def _write_copies(self) -> None:
        """The same piece elsewhere: in steps, for there may be thousands of places."""
        while self._copies:
            offsets, block = self._copies.popleft()
            for offset in offsets:
                self._write(offset, block)
                await asyncio.sleep(0)

    def _write(self, offset: int, block: bytes) -> None:
        assert self._file is not None
        self._file.seek(offset)
        if self._file.write(block) < len(block):  # the disk was full in the midst of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._part))
