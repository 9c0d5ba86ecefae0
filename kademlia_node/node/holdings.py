"""The digests of what our store holds (`core.digest`), in step with it.

Whoever files records tells which keys have changed; which have expired meanwhile, the store knows.
Nothing is read for it until somebody asks: then all of the store is read once, in pages between
which others have their turn, and from then on only what has changed. Refuses to know peers, and
what a record says.

Driven by `on_change` whenever something was filed or had to go; by `refresh`, or `tell`, when the
digests are needed; `trie` is as of then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from kademlia_node.core.digest import Trie, Versions
from kademlia_node.core.message import Digests
from kademlia_node.store.base import FIRST, Store, place_of

PAGE: Final = 64  # records read between two looks at the event loop: 4 MB of the longest values
READS_PER_S: Final = 5000.0  # of one topic: one of 100,000 entries is looked at every 20 s at most


class Holdings:
    """The digests of one node.

    Args:
        store: what they are of.
        wall: tells seconds since 1970.
        grace_s: the store forgets nothing before it expired so long ago.

    Attributes:
        trie: what is held by key, expired records left out.
    """

    def __init__(self, store: Store, *, wall: Callable[[], float], grace_s: float) -> None:
        self.trie = Trie()
        self._store = store
        self._wall = wall
        self._grace_s = grace_s
        self._clock = asyncio.get_running_loop().time
        self._as_of: float | None = None  # wall time for which the trie is true; None: nothing read
        self._changed: dict[bytes, None] = {}
        self._not_before: dict[bytes, float] = {}  # when a large topic may be read again
        self._reading = asyncio.Lock()

    @property
    def in_use(self) -> bool:
        """Whether anybody wanted to know the digests yet."""
        return self._as_of is not None

    def on_change(self, key: bytes) -> None:
        """Something was filed under the key, or forgotten."""
        if self.in_use:
            self._changed[key] = None

    async def tell(self, prefix: str) -> Digests:
        """What we hold under a prefix (hexadecimal digits), as it is told to others."""
        await self.refresh()
        return self.trie.summary(prefix)

    async def refresh(self) -> None:
        """Bring the trie up to date."""
        async with self._reading:
            wall = self._wall()
            if self._as_of is None:
                await self._read_all(wall)
            else:
                # A clock that went back makes alive again what had expired in between.
                earlier, later = sorted((self._as_of, wall))
                changed = await self._store.expiring(after=earlier, until=later)
                if later - earlier >= self._grace_s:  # some may be forgotten by now
                    changed += self.trie
                self._changed |= dict.fromkeys(changed)
                self._as_of = wall
            now = self._clock()
            for key in [key for key in self._changed if self._not_before.get(key, now) <= now]:
                await self._look_at(key)

    async def _read_all(self, wall: float) -> None:
        self._as_of = wall  # what changes from now on is looked at again
        after, versions = FIRST, Versions()
        try:
            while records := await self._store.page(after, limit=PAGE, wall=wall):
                for record in records:
                    if record.key != after[0]:
                        versions = Versions()
                    versions.add(record.header)
                    self.trie.set(record.key, versions.digest())
                    after = place_of(record)
                await asyncio.sleep(0)
        except BaseException:
            self._as_of, self.trie = None, Trie()
            raise

    async def _look_at(self, key: bytes) -> None:
        del self._changed[key]  # first: it may change while we read
        try:
            read, versions = await self._read(key)
        except BaseException:
            self._changed[key] = None
            raise
        if read:
            self.trie.set(key, versions)
        else:
            self.trie.remove(key)
        if read > PAGE:
            self._not_before[key] = self._clock() + read / READS_PER_S
        else:
            self._not_before.pop(key, None)

    async def _read(self, key: bytes) -> tuple[int, bytes]:
        """How many records are under a key, and the digest of their versions."""
        assert self._as_of is not None
        count, versions = 0, Versions()
        after: tuple[bytes, bytes] | None = None
        while records := await self._store.get(key, wall=self._as_of, after=after, limit=PAGE):
            for record in records:
                versions.add(record.header)
            count += len(records)
            if len(records) < PAGE:
                break
            after = records[-1].header.author, records[-1].header.slot
            await asyncio.sleep(0)
        return count, versions.digest()
