"""Content too large for a record: described by a manifest, fetched from whoever announces it.

The manifest (`core.manifest`) is a blob, and its key is the name of the content. Whoever has the
content announces under a topic made of that key where it can be reached, and serves pieces through
a `ContentSource`. A `Download` looks for such holders, draws pieces from all of them at once and
verifies each. What it has is in a file beside the target, so that one that was killed goes on where
it was.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

from kademlia_node.core.contact import Contact, is_local, unpack_contact
from kademlia_node.core.key import Key, topic_key
from kademlia_node.core.manifest import Manifest, Piece, piece_bytes_for
from kademlia_node.errors import Incomplete, MalformedMessage
from kademlia_node.node.fetching import Fetching
from kademlia_node.node.receipt import TopicEntry, Trace
from kademlia_node.node.state import NodeState

PART: Final = ".part"  # behind the name of the target, while it is not whole


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


class SharedFiles:
    """Files of this machine as a `ContentSource`. They must not change while they are shared."""

    def __init__(self) -> None:
        self._places: dict[bytes, tuple[Path, int, int]] = {}

    async def add(self, path: Path) -> Manifest:
        """Share a file: read it once, piece by piece; returns its manifest.

        Raises:
            OSError: it cannot be read.
            ValueError: it is longer than a manifest can describe (about 7 GiB).
        """
        pieces: list[Piece] = []
        with path.open("rb") as file:
            piece_bytes = piece_bytes_for(os.fstat(file.fileno()).st_size)
            while block := file.read(piece_bytes):
                piece = Piece(hashlib.sha256(block).digest(), len(block))
                self._places[piece.hash] = (path, len(pieces) * piece_bytes, piece.length)
                pieces.append(piece)
                await asyncio.sleep(0)
        return Manifest(tuple(pieces))

    async def read(self, content: bytes, offset: int, length: int) -> bytes | None:
        """See `ContentSource`."""
        place = self._places.get(content)
        if place is None:
            return None
        path, start, piece_length = place
        try:
            with path.open("rb") as file:
                file.seek(start + offset)
                return file.read(max(0, min(length, piece_length - offset)))
        except OSError:
            return None  # the file is gone; so is the content


class Download:
    """One content on its way into a file.

    Args:
        state: the node that fetches.
        manifest: of the content.
        path: where it is to be; replaced when the content is whole.
    """

    def __init__(self, state: NodeState, manifest: Manifest, path: Path) -> None:
        self._manifest = manifest
        self._path = path
        self._part = path.with_name(path.name + PART)
        self._places: dict[bytes, list[int]] = {}
        for offset, piece in manifest.offsets():
            self._places.setdefault(piece.hash, []).append(offset)
        self._missing = set(self._places)
        self._trace = Trace(b"")
        self._changed = asyncio.Event()
        self._fetching = Fetching(
            state, on_piece=self._on_piece, on_idle=self._changed.set, trace=self._trace
        )
        self._own_key = state.identity.public_key
        self._only_public = state.network.prefix_limits
        self._file: BinaryIO | None = None
        self._failure: OSError | None = None

    async def run(self, holders: AsyncIterator[TopicEntry]) -> None:
        """Fetch what is missing from the holders that announce themselves.

        Raises:
            Incomplete: nobody gives the rest; what is here is kept for the next attempt.
            OSError: the file cannot be written.
        """
        self._part.touch()
        with self._part.open("r+b", buffering=0) as self._file:
            await self._take_stock(self._file)
            try:
                async with asyncio.TaskGroup() as tasks:
                    looking = tasks.create_task(self._look_for(holders))
                    looking.add_done_callback(lambda _: self._changed.set())
                    while not self._is_over(looking):
                        self._changed.clear()
                        await self._changed.wait()
                    looking.cancel()
            finally:
                self._fetching.cancel()
            if self._failure is not None:
                raise self._failure
            if self._missing:
                raise Incomplete(len(self._missing), of=len(self._places))
            self._file.truncate(self._manifest.length)
            os.fsync(self._file.fileno())
        self._part.replace(self._path)

    def _is_over(self, looking: asyncio.Task[None]) -> bool:
        exhausted = looking.done() and self._fetching.is_idle
        return not self._missing or self._failure is not None or exhausted

    async def _take_stock(self, file: BinaryIO) -> None:
        """What an earlier attempt has left; what is not true is fetched again."""
        for offset, piece in self._manifest.offsets():
            file.seek(offset)
            block = file.read(piece.length)
            if not block:
                break
            if hashlib.sha256(block).digest() == piece.hash:
                self._missing.discard(piece.hash)
            await asyncio.sleep(0)

    async def _look_for(self, holders: AsyncIterator[TopicEntry]) -> None:
        wanted = [piece for piece in self._manifest.pieces if piece.hash in self._missing]
        async for entry in holders:
            holder = holder_of(entry)
            if holder is not None and self._may_ask(holder):
                self._fetching.offer(holder, wanted)

    def _may_ask(self, holder: Contact) -> bool:
        """Not ourselves; and on the open internet nobody may point us at what is local."""
        is_hidden = self._only_public and is_local(holder.address.host)
        return holder.public_key != self._own_key and not is_hidden

    def _on_piece(self, _: Contact, piece: Piece, block: bytes) -> bool:
        try:
            for offset in self._places[piece.hash]:
                self._write(offset, block)
        except OSError as failure:  # ours, not the holder's; `run` raises it
            self._failure = failure
            self._changed.set()
            return True
        self._missing.discard(piece.hash)
        if not self._missing:
            self._changed.set()
        return True

    def _write(self, offset: int, block: bytes) -> None:
        assert self._file is not None
        self._file.seek(offset)
        if self._file.write(block) < len(block):  # the disk was full in the midst of it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._part))
