"""Files of this machine that a node serves piece by piece, each found by the hash of its piece.

A file is read once, by `read_file`, and what it looked like then is kept: one of another size or of
another time of change is another file, and is given to nobody. Not known here: who asks, and how
pieces travel (`contents`); where a content is announced (`sharing`). Driven by `add`, or by
`read_file` and `share`; then the node reads from it as from any `ContentSource`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final

from kademlia_node.core.manifest import Manifest, Piece, piece_bytes_for
from kademlia_node.errors import SetupError

# A path that was a file's may be a pipe or a link by now: nobody waits there, and none is followed.
_READING: Final = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
_OTHER_KINDS: Final = {
    stat.S_IFDIR: "a directory: name its files, one by one",
    stat.S_IFIFO: "a pipe, which has no length: write what comes out of it to a file",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

OnRead = Callable[[int, int], None]
"""(bytes that have been read, bytes of the file)"""


class FileState(Enum):
    """What has become of a file since it was read."""

    SAME = "same"
    CHANGED = "changed"
    GONE = "gone"  # or we may not read it any more


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file as it was when it was read.

    Attributes:
        path: Absolute, with no link left in it.
        mtime_ns: When it was last changed, in nanoseconds since 1970.
        manifest: Of its content, whose length was that of the file.
    """

    path: Path
    mtime_ns: int
    manifest: Manifest

    def state(self) -> FileState:
        """What has become of it, as its size and its time of change tell."""
        try:
            is_the_same = self.looks_like(self.path.lstat())
        except OSError:
            return FileState.GONE
        if not is_the_same:
            return FileState.CHANGED
        return FileState.SAME if os.access(self.path, os.R_OK) else FileState.GONE

    def looks_like(self, status: os.stat_result) -> bool:
        """Whether this is the status of the file as it was."""
        looks = status.st_size, status.st_mtime_ns
        return stat.S_ISREG(status.st_mode) and looks == (self.manifest.length, self.mtime_ns)


async def read_file(path: Path, *, on_read: OnRead | None = None) -> SharedFile:
    """Read a file to its end, piece by piece. Of a symbolic link, the file behind it.

    Raises:
        OSError: it cannot be read.
        SetupError: it is no regular file, or was changed while it was read.
        ValueError: it is longer than a manifest can describe (about 7 GiB).
    """
    path, pieces = _resolved(path), []
    with _opened(path) as (file, before):
        piece_bytes, done_bytes = piece_bytes_for(before.st_size), 0
        while done_bytes < before.st_size and (block := file.read(piece_bytes)):
            pieces.append(Piece(hashlib.sha256(block).digest(), len(block)))
            done_bytes += len(block)
            if on_read is not None:
                on_read(done_bytes, before.st_size)
            await asyncio.sleep(0)
        read = SharedFile(path, before.st_mtime_ns, Manifest(tuple(pieces)))
        if file.read(1) or not read.looks_like(os.fstat(file.fileno())):
            raise SetupError(f"{path} was changed while it was read: wait until it is finished")
    return read


class SharedFiles:
    """Files of this machine as a `ContentSource`.

    One that is changed is served no longer; that shows by its size and its time of change. Whoever
    changes a file and hides that, gives bytes that every reader refuses.
    """

    def __init__(self) -> None:
        self._files: dict[bytes, SharedFile] = {}  # by the hash of the manifest
        self._places: dict[bytes, dict[bytes, tuple[int, int]]] = {}  # by piece, then by file

    async def add(self, path: Path) -> Manifest:
        """Share a file: read it once, piece by piece; returns its manifest. See `read_file`.

        Raises:
            OSError, SetupError, ValueError: as `read_file`.
        """
        file = await read_file(path)
        self.share(file)
        return file.manifest

    def share(self, file: SharedFile) -> None:
        """Share a file that was read before, in place of another one of the same content."""
        name = file.manifest.hash
        self._files[name] = file
        for offset, piece in file.manifest.offsets():
            self._places.setdefault(piece.hash, {})[name] = (offset, piece.length)

    def drop(self, manifest: Manifest) -> None:
        """Share no longer what has this manifest."""
        name = manifest.hash
        if self._files.pop(name, None) is None:
            return
        for piece_hash in {piece.hash for piece in manifest.pieces}:
            del self._places[piece_hash][name]
            if not self._places[piece_hash]:
                del self._places[piece_hash]

    async def read(self, content: bytes, offset: int, length: int) -> bytes | None:
        """See `ContentSource`."""
        for name, (start, piece_length) in self._places.get(content, {}).items():
            wanted = max(0, min(length, piece_length - offset))
            block = _read_at(self._files[name], start + offset, wanted)
            if block is not None:
                return block
        return None


def _resolved(path: Path) -> Path:
    """Where a regular file is; looked at before it is opened, which some devices would notice."""
    path = Path(os.path.realpath(path, strict=True))
    kind = _OTHER_KINDS.get(stat.S_IFMT(path.lstat().st_mode))
    if kind is not None:
        raise SetupError(f"{path} is {kind}")
    return path


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """An open file and its status; raises OSError."""
    handle = os.open(path, _READING)
    try:
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file, os.fstat(handle)
    finally:
        os.close(handle)


def _read_at(shared: SharedFile, offset: int, length: int) -> bytes | None:
    """None if it is not the file that it was."""
    try:
        with _opened(shared.path) as (file, status):
            if not shared.looks_like(status):
                return None
            file.seek(offset)
            return file.read(length)
    except OSError:
        return None
