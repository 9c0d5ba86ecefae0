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
import stat
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

HOLDERS_MAX: Final = 64  # asked at a time; more make it no faster
SPARE_MAX: Final = 4096  # that come later, drawn by chance: anybody may announce what is not so
PART: Final = ".part"  # ends the name of a file that is not whole
NAMED_BY_BYTES: Final = 4  # of the manifest's hash, in that name


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download has come.

    Attributes:
        done_bytes: Of the content that are here and verified, those of an earlier attempt included.
        total_bytes: Of the content.
        holders: How many have been found and asked.
    """

    done_bytes: int
    total_bytes: int
    holders: int


OnProgress = Callable[[Progress], None]
"""Told after each piece; it must not raise."""


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


class Download:
    """One content on its way into a file.

    Args:
        state: the node that fetches.
        manifest: of the content.
        path: where it is to be; replaced when the content is whole.
        trace: where requests are counted.
        on_progress: told once what an earlier attempt has left, then whenever there is more.
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
        self._manifest = manifest
        self._on_progress = on_progress
        self._path = path
        self._part = part_of(path, manifest.hash)
        self._places: dict[bytes, list[int]] = {}
        for offset, piece in manifest.offsets():
            self._places.setdefault(piece.hash, []).append(offset)
        self._missing = set(self._places)
        self._changed = asyncio.Event()
        self._fetching = Fetching(
            state,
            on_piece=self._on_piece,
            on_idle=self._changed.set,
            on_loss=self._changed.set,
            trace=trace,
        )
        self._state = state
        self._asked: set[Contact] = set()
        self._spare: list[Contact] = []
        self._spare_ever = 0
        self._knocked = Counter[str | bytes]()
        self._copies: deque[tuple[list[int], bytes]] = deque()
        self._file: BinaryIO | None = None
        self._failure: OSError | None = None

    async def run(self, holders: AsyncIterator[TopicEntry], *, overwrite: bool = True) -> None:
        """Fetch what is missing from the holders that announce themselves.

        Without `overwrite` it takes the place of nothing that is at the path by then.

        Raises:
            Incomplete: nobody gives the rest; what is here is kept for the next attempt.
            SetupError: another download of this content to this path is under way.
            OSError: the file cannot be written; FileExistsError: it is not to be overwritten.
        """
        with self._open() as self._file:
            self._lock(self._file)
            await self._take_stock(self._file)
            self._tell_progress()
            try:
                async with asyncio.TaskGroup() as tasks:
                    looking = tasks.create_task(self._look_for(holders))
                    looking.add_done_callback(lambda _: self._changed.set())
                    while not self._is_over(looking):
                        self._changed.clear()
                        await self._changed.wait()
                        self._ask_spare()
                        await self._write_copies()
                        self._tell_progress()
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
            if not overwrite:
                self._path.touch(exist_ok=False)  # from here on the name is ours
            self._part.replace(self._path)  # before the lock is gone

    def _open(self) -> BinaryIO:
        """The part, never something else by way of a link that somebody has put in its place."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(self._part, flags, 0o666), "r+b", buffering=0)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EINVAL, "is no regular file", str(self._part))
        return file

    def _is_over(self, looking: asyncio.Task[None]) -> bool:
        exhausted = looking.done() and self._fetching.is_idle and not self._spare
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

    async def _look_for(self, holders: AsyncIterator[TopicEntry]) -> None:
        async for entry in holders:
            if (holder := holder_of(entry)) is not None:
                self._keep_spare(holder)
                self._ask_spare()

    def _keep_spare(self, holder: Contact) -> None:
        """Of too many each has the same chance to stay."""
        self._spare_ever += 1
        if len(self._spare) < SPARE_MAX:
            self._spare.append(holder)
        elif (place := self._state.rng.randrange(self._spare_ever)) < SPARE_MAX:
            self._spare[place] = holder

    def _ask_spare(self) -> None:
        """One for each holder that turned out to be of no use, whichever."""
        while self._spare and self._fetching.useful < HOLDERS_MAX:
            place = self._state.rng.randrange(len(self._spare))
            self._spare[place], self._spare[-1] = self._spare[-1], self._spare[place]
            holder = self._spare.pop()
            if self._may_ask(holder):
                self._asked.add(holder)
                missing = [one for one in self._manifest.pieces if one.hash in self._missing]
                self._fetching.offer(holder, missing)

    def _may_ask(self, holder: Contact) -> bool:
        """Not ourselves, and nobody twice; anybody may announce, and anywhere.

        On the open internet nobody may point us at what is local, nor make us knock at one host
        or prefix again and again.
        """
        host, state = holder.address.host, self._state
        if holder.public_key == state.identity.public_key or holder in self._asked:
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
        self._changed.set()
        return True

    def _tell_progress(self) -> None:
        if self._on_progress is None:
            return
        here = (p.length for p in self._manifest.pieces if p.hash not in self._missing)
        self._on_progress(Progress(sum(here), self._manifest.length, len(self._asked)))

    async def _write_copies(self) -> None:
        """The same piece elsewhere: in steps, for there may be thousands of places."""
        while self._copies:
            offsets, block = self._copies.popleft()
            for offset in offsets:
                try:
                    self._write(offset, block)
                except OSError as failure:  # `run` raises it
                    self._failure = failure
                    return
                await asyncio.sleep(0)

    def _write(self, offset: int, block: bytes) -> None:
        assert self._file is not None
        self._file.seek(offset)
        if self._file.write(block) < len(block):  # the disk was full in the midst of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._part))
