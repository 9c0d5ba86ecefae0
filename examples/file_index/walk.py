"""What a folder holds that may be shared, and reading it: never a step out of the folder.

No link is followed, on no part of a way: each folder is opened below the one before it, by its
descriptor. A file is read only if it is a regular one, and the very one that was found; nothing
that waits, as a pipe does, is waited for. Paths are relative, with slashes; bytes that are no UTF-8
are kept as surrogates (PEP 383).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from examples.file_index import ignore
from examples.file_index.titles import title_of
from kademlia_node import Manifest, Piece, piece_bytes_for

DEPTH_MAX: Final = 64  # folders below each other, each of which is open
FILES_MAX: Final = 100_000  # found in one folder
IGNORE_BYTES_MAX: Final = 64 * 1024
NAMES_OF_A_NODE: Final = frozenset({"key", "lock"})
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Mark = tuple[int, int, int]
"""Size, time of change in nanoseconds, inode: while it stays the same, so does the file."""


class Changed(OSError):  # noqa: N818 - named for what happened
    """The file is not, or not any more, the one that was found."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be shared: its folder (absolute), its path in there, and its mark."""

    folder: str
    path: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Skipped:
    """What is not shared, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of a file."""

    manifest: Manifest
    title: str


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder that is looked through: its descriptor, its parts, the rules of all above it."""

    fd: int
    parts: tuple[str, ...] = ()
    rules: tuple[tuple[int, tuple[ignore.Rule, ...]], ...] = ()

    def ignores(self, name: str, *, is_folder: bool) -> bool:
        path = (*self.parts, name)
        for depth, rules in reversed(self.rules):
            said = ignore.verdict(rules, path[depth:], is_folder=is_folder)
            if said is not None:
                return said
        return False


def scan(folder: str) -> Iterator[Found | Skipped]:
    """What is in a folder, in order of names; raises nothing for what vanishes meanwhile.

    Raises:
        OSError: the folder itself cannot be opened.
    """
    count = 0
    fd = os.open(folder, FOLDER_FLAGS)
    for one in _scan(_Place(fd), folder):
        if isinstance(one, Found):
            count += 1
            if count > FILES_MAX:
                yield Skipped(one.path, f"more than {FILES_MAX} files: this one and all after it")
                return
        yield one


def _scan(place: _Place, folder: str) -> Iterator[Found | Skipped]:
    try:
        place = _Place(place.fd, place.parts, (*place.rules, *_rules_in(place)))
        with os.scandir(place.fd) as entries:
            names = sorted(entry.name for entry in entries)
        if NAMES_OF_A_NODE.issubset(names):
            yield Skipped("/".join(place.parts) or ".", "the folder of a node, its key in it")
            return
        for name in names:
            yield from _look_at(place, name, folder)
    except OSError as error:
        yield Skipped("/".join(place.parts) or ".", _why(error))
    finally:
        os.close(place.fd)


def _look_at(place: _Place, name: str, folder: str) -> Iterator[Found | Skipped]:
    path = "/".join((*place.parts, name))
    try:
        found = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        is_folder = stat.S_ISDIR(found.st_mode)
        reason = _reason_against(place, name, found)
        if reason is not None:
            if name != ignore.FILE:
                yield Skipped(path, reason)
        elif is_folder:
            fd = os.open(name, FOLDER_FLAGS, dir_fd=place.fd)
            yield from _scan(_Place(fd, (*place.parts, name), place.rules), folder)
        else:
            yield Found(folder, path, _mark(found))
    except OSError as error:
        yield Skipped(path, _why(error))


def _reason_against(place: _Place, name: str, found: os.stat_result) -> str | None:
    """Why something is not shared, if there is a reason."""
    mode, is_folder = found.st_mode, stat.S_ISDIR(found.st_mode)
    if stat.S_ISLNK(mode):
        return "a link"
    if not (is_folder or stat.S_ISREG(mode)):
        return "no regular file"
    if name.startswith("."):
        return "hidden"
    if place.ignores(name, is_folder=is_folder):
        return f"ignored by {ignore.FILE}"
    if is_folder:
        return "too deep" if len(place.parts) >= DEPTH_MAX else None
    if not os.access(name, os.R_OK, dir_fd=place.fd):
        return "not readable"
    try:
        piece_bytes_for(found.st_size)
    except ValueError:
        return "too large"
    return None if found.st_size else "empty"


def _rules_in(place: _Place) -> list[tuple[int, tuple[ignore.Rule, ...]]]:
    try:
        with _opened(place.fd, ignore.FILE) as file:
            text = file.read(IGNORE_BYTES_MAX).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return [(len(place.parts), ignore.parse(text))]


# --- Reading --------------------------------------------------------------------------------------


@contextmanager
def opened(found: Found) -> Iterator[BinaryIO]:
    """The file that was found, and no other.

    Raises:
        OSError: it cannot be read, or is another one by now (`Changed`).
    """
    *folders, name = found.path.split("/")
    fd = os.open(found.folder, FOLDER_FLAGS)
    try:
        for part in folders:
            below = os.open(part, FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = below
        with _opened(fd, name) as file:
            check(file, found)
            yield file
    finally:
        os.close(fd)


def check(file: BinaryIO, found: Found) -> None:
    """Raise Changed if an open file is not as it was found."""
    if _mark(os.fstat(file.fileno())) != found.mark:
        raise Changed("it has changed")


def read(found: Found) -> Content:
    """The manifest and the title of a file.

    Raises:
        OSError: it cannot be read, or changes meanwhile (`Changed`).
    """
    with opened(found) as file:
        title = title_of(file, found.path)
        file.seek(0)
        piece_bytes = piece_bytes_for(found.mark[0])
        pieces = []
        while block := file.read(piece_bytes):
            pieces.append(Piece(hashlib.sha256(block).digest(), len(block)))
            if len(pieces) * piece_bytes >= found.mark[0] + piece_bytes:
                break  # it grows
        check(file, found)
    return Content(Manifest(tuple(pieces)), title)


@contextmanager
def _opened(folder_fd: int, name: str) -> Iterator[BinaryIO]:
    fd = os.open(name, FILE_FLAGS, dir_fd=folder_fd)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Changed("no regular file")
        yield file


def _mark(found: os.stat_result) -> Mark:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
