"""Which real files are shared by whom, a folder that means harm, and a plain index of it all.

The files are those of the Python standard library and of /usr/share/doc. They are copied, so that
what is removed here is not missed there. The index is made of sets, and knows nothing of a network:
of the example it takes the rule which words a file is found by, and no more.
"""

from __future__ import annotations

import os
import random
import shutil
import sysconfig
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from examples.file_index.entry import Entry, shown_path, shown_title
from examples.file_index.titles import kind_of, title_of
from kademlia_node import Key
from kademlia_node.core.key import blob_key
from kademlia_node.node.files import read_file

ROOTS: Final = {"python": Path(sysconfig.get_path("stdlib")), "doc": Path("/usr/share/doc")}
NOT_OURS: Final = frozenset({"site-packages", "__pycache__"})
LARGE_SHARE: Final = 0.78  # of all files, which the first sharer has
COMMON_SHARE: Final = 0.05  # of those, which each other one has as well
FILM: Final = "films/a demonstration film.bin"
HOSTILE_NAMES: Final = (
    b"hostile new\nline.txt",
    b"hostile " + b"x" * 243 + b".txt",
    b"hostile caf\xe9 \xff.txt",
)
SPARSE_BYTES: Final = 10 * 2**30

Pair = tuple[Key, int]
"""A content, and the number of a sharer who has it."""


@dataclass(frozen=True, slots=True)
class Real:
    """A file of this machine, and the path under which it is shared."""

    source: Path
    path: str


def real_files(count: int | None, *, rng: random.Random) -> list[Real]:
    """So many files drawn from all there are, or all of them, in order of path."""
    files = [one for name, root in ROOTS.items() for one in _files_of(root, name)]
    if count is not None and count < len(files):
        files = rng.sample(files, count)
    return sorted(files, key=lambda one: one.path)


def _files_of(root: Path, name: str) -> Iterator[Real]:
    """Regular files that are not hidden, not empty, and not installed by somebody else."""
    for folder, below, files in os.walk(root):
        below[:] = [one for one in below if one not in NOT_OURS and not one.startswith(".")]
        for file in files:
            source = Path(folder, file)
            is_shown = not file.startswith(".") and source.is_file() and not source.is_symlink()
            if is_shown and source.stat().st_size:
                yield Real(source, f"{name}/{source.relative_to(root)}")


def parts_of(files: Sequence[Real], count: int, *, rng: random.Random) -> list[list[Real]]:
    """Who shares what: the first most of it; each file has one sharer, or up to `count`."""
    first = rng.sample(files, round(LARGE_SHARE * len(files)))
    chosen = {one.path for one in first}
    parts = [first, *([] for _ in range(count - 1))]
    for one in files:
        others = parts[1:]
        if one.path in chosen:
            having = [part for part in others if rng.random() < COMMON_SHARE]
        else:
            having = rng.sample(others, rng.choice((1, 1, 2)))
        for part in having:
            part.append(one)
    return parts


def plant(folder: Path, files: Sequence[Real]) -> None:
    """Copy files to where they are shared from."""
    for one in files:
        target = folder / one.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one.source, target)


def plant_hostile(folder: Path) -> None:
    """Names of all kinds, ways out, a pipe, and a file longer than the disk."""
    folder.mkdir()
    for number, name in enumerate(HOSTILE_NAMES):
        (folder / os.fsdecode(name)).write_bytes(b"hostile %d" % number)
    (folder / "hostile passwd.txt").symlink_to("/etc/passwd")
    (folder / "hostile outside").symlink_to("/usr/share")
    (folder / "hostile round").symlink_to(folder)
    (folder / "hostile sparse.img").touch()
    os.truncate(folder / "hostile sparse.img", SPARSE_BYTES)
    os.mkfifo(folder / "hostile pipe.txt")


class Plain:
    """Which contents have a word, and who has them, by nothing but sets."""

    def __init__(self) -> None:
        self._pairs: defaultdict[str, set[Pair]] = defaultdict(set)
        self._entries: dict[tuple[Path, str], Entry] = {}
        self.files: dict[tuple[int, str], Entry] = {}

    async def add(self, sharer: int, source: Path, path: str) -> Entry:
        """A sharer has the file `source`, and calls it `path`."""
        entry = self._entries.get((source, path))
        if entry is None:
            entry = self._entries[source, path] = await _entry_of(source, path)
        self.files[sharer, path] = entry
        for word in entry.words:
            self._pairs[word].add((entry.key, sharer))
        return entry

    def forget(self, sharer: int) -> None:
        """It is there no more, with all it had."""
        self._remove({place for place in self.files if place[0] == sharer})

    def remove(self, sharer: int, path: str) -> None:
        """One of its files is there no more."""
        self._remove({(sharer, path)})

    def search(self, words: Sequence[str]) -> set[Pair]:
        """The contents of files that have all the words, each with each who has it so."""
        shown = set.intersection(*(self._pairs.get(word, set()) for word in words))
        if len(words) == 1:
            return shown
        wanted = set(words)
        return {  # two files of one content may have a word each
            (entry.key, sharer)
            for (sharer, _), entry in self.files.items()
            if (entry.key, sharer) in shown and wanted.issubset(entry.words)
        }

    def only_of(self, sharer: int) -> list[str]:
        """Paths of files whose content nobody else has, nor the sharer at another path."""
        holders: defaultdict[Key, list[int]] = defaultdict(list)
        for (one, _), entry in self.files.items():
            holders[entry.key].append(one)
        mine = [(path, entry) for (one, path), entry in self.files.items() if one == sharer]
        return sorted(path for path, entry in mine if len(holders[entry.key]) == 1)

    def queries(self, count: int, *, rng: random.Random) -> list[list[str]]:
        """Up to three words each: words drawn from all, words of one file, and some of none."""
        words, files = sorted(self._pairs), sorted(self.files)
        drawn: list[list[str]] = []
        for number in range(count):
            if number % 20 == 19:
                drawn.append([rng.choice(words), "nowhere"])
            elif number % 2:
                drawn.append([rng.choice(words)])
            else:
                of_one = self.files[rng.choice(files)].words
                drawn.append(rng.sample(of_one, min(len(of_one), rng.randint(1, 3))))
        return drawn

    def _remove(self, places: set[tuple[int, str]]) -> None:
        for place in places:
            del self.files[place]
        self._pairs.clear()
        for (sharer, _), entry in self.files.items():
            for word in entry.words:
                self._pairs[word].add((entry.key, sharer))


async def _entry_of(source: Path, path: str) -> Entry:
    """What is announced of a file, but for its time of change."""
    manifest = (await read_file(source)).manifest
    with source.open("rb") as file:
        title = title_of(file, path)
    return Entry(
        blob_key(manifest.pack()),
        path=shown_path(path),
        size=manifest.length,
        kind=kind_of(path),
        title=shown_title(title),
        changed_at=0,
    )
