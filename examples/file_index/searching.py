"""Searching: the topics of all words are read at once, and files are given out as they come.

An entry tells all the words that its file has, so a file is found as soon as one of its words shows
it: that of a rare word comes at once, while thousands of others are still read under a common one.
What is shown comes from strangers: an entry that has not all the words is passed over, and so is
everything of an author whose beacon is out, for then its files cannot be had.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from examples.file_index.entry import Entry, parse
from examples.file_index.sharing import BEACON
from examples.file_index.words import topic_of, words_of
from kademlia_node import Key, Node, NotAgreed, NotFound, StepOutcome

AUTHORS_MAX: Final = 1024  # who wait to be looked for; reading waits while there are more
LOOKS_AT_ONCE: Final = 8
PAUSES_S: Final = (0.0, 0.5, 1.5)  # before looks for one beacon, while some who may know are silent
FILES_MAX: Final = 100_000  # told apart in one search, and so also the authors it remembers

File = tuple[bytes, bytes, Key]
"""Author, slot and content: one file of one sharer."""


@dataclass(slots=True)
class Hit:
    """A content that was found: how the first provider describes it, and all who have it.

    Who tells another size of it has a hit of their own, for at most one size is true.
    """

    entry: Entry
    providers: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which files are wanted. Sizes in bytes."""

    size_min: int = 0
    size_max: int | None = None
    kind: str | None = None

    def wants(self, entry: Entry) -> bool:
        """Whether this one is."""
        is_small = self.size_max is None or entry.size <= self.size_max
        return self.size_min <= entry.size and is_small and self.kind in (None, entry.kind)


class _Enough(Exception):  # noqa: N818 - ends a search, no error
    """There are as many hits as were asked for."""


class Search:
    """One search: `await run()`, and read `hits`.

    Args:
        node: Who asks.
        words: As `words_of` gives them; all must match.
        wanted: Which files.
        on_hit: Told of each content when it is first found.
        limit: End when so many are found; None: find all.
    """

    def __init__(
        self,
        node: Node,
        words: Sequence[str],
        *,
        wanted: Filter | None = None,
        on_hit: Callable[[Hit], None] = lambda _: None,
        limit: int | None = None,
    ) -> None:
        self._node = node
        self._words = words
        self._wanted = wanted or Filter()
        self._on_hit = on_hit
        self._limit = limit
        self._shown: set[File] = set()
        self._lives: dict[bytes, bool | None] = {}  # None: it is being looked for
        self._waiting: defaultdict[bytes, list[Entry]] = defaultdict(list)
        self._room = asyncio.Semaphore(AUTHORS_MAX)
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._is_cut = False
        self.hits: dict[tuple[Key, int], Hit] = {}  # by content and size in bytes

    async def run(self, *, within_s: float) -> bool:
        """Search until all is read, or a limit or the time is reached.

        Returns:
            Whether all was read that is wanted: neither the time nor FILES_MAX was met.
        """
        is_whole = True
        try:
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
                for word in self._words:
                    tasks.create_task(self._read(word, tasks))
        except* _Enough:
            pass
        except* TimeoutError:
            is_whole = False
        return is_whole and not self._is_cut

    async def _read(self, word: str, tasks: asyncio.TaskGroup) -> None:
        async with aclosing(self._node.find(topic_of(word))) as entries:
            async for found in entries:
                try:
                    entry = parse(found.value)
                except ValueError:
                    continue
                if self._is_found(entry) and self._is_new((found.author, found.slot, entry.key)):
                    await self._meet(entry, found.author, tasks)

    def _is_found(self, entry: Entry) -> bool:
        return self._wanted.wants(entry) and set(self._words).issubset(entry.words)

    def _is_new(self, file: File) -> bool:
        """Whether no other word has shown it yet."""
        if file in self._shown:
            return False
        if len(self._shown) >= FILES_MAX:
            self._is_cut = True
            return False
        self._shown.add(file)
        return True

    async def _meet(self, entry: Entry, author: bytes, tasks: asyncio.TaskGroup) -> None:
        """Give it out if its author is there, or as soon as that is known."""
        if author not in self._lives:
            self._lives[author] = None
            await self._room.acquire()
            tasks.create_task(self._look_for(author))
        lives = self._lives[author]
        if lives:
            self._give(entry, author)
        elif lives is None:
            self._waiting[author].append(entry)

    async def _look_for(self, author: bytes) -> None:
        """See whether an author is there; then give out what waited for that."""
        async with self._looks:
            lives = await self._is_there(author)
        self._room.release()
        self._lives[author] = lives
        for entry in self._waiting.pop(author, []):
            if lives:
                self._give(entry, author)

    async def _is_there(self, author: bytes) -> bool:
        """Whether its beacon is lit. That nobody says so counts only if nobody was silent."""
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                await self._node.get(BEACON, author=author)
            except NotAgreed:
                return False
            except NotFound as error:
                if error.withdrawn or not error.trace.count(StepOutcome.SILENT):
                    return False
            else:
                return True
        return False

    def _give(self, entry: Entry, author: bytes) -> None:
        told = entry.key, entry.size
        hit = self.hits.get(told)
        if hit is None:
            hit = self.hits[told] = Hit(entry, {author})
            self._on_hit(hit)
            if self._limit is not None and len(self.hits) >= self._limit:
                raise _Enough
        hit.providers.add(author)


def ranked(hits: Iterable[Hit], words: Sequence[str]) -> list[Hit]:
    """Those first that have more of the words in name or title, then those with more providers."""

    def rank(hit: Hit) -> tuple[int, int, str, str]:
        named = set(words_of(f"{hit.entry.name} {hit.entry.title}"))
        return (
            -len(named.intersection(words)),
            -len(hit.providers),
            hit.entry.path,
            str(hit.entry.key),
        )

    return sorted(hits, key=rank)
