"""A store that fails: the nth operation, or all from then on; and in a crash it forgets the latest.

It stands in front of any other store and is a `Store` itself: `Node(store=FaultyStore(...))`. It
refuses to know what a record is. Nothing here is drawn: which operations fail, and when the machine
crashes, is the plan of its caller.

    store = FaultyStore(lambda: MemoryStore(own_id, settings=settings), commit_every=10)
    store.fails_at = frozenset(rng.sample(range(1, 1000), 5))
    forgotten = await store.crash()  # up to 9 writes, acknowledged or not

So it is harsher than a store that commits before it acknowledges: that one is `commit_every=1`. A
larger number is a machine that loses power while its store promised to survive the process only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from kademlia_node.core.record import Header, Record
from kademlia_node.errors import SetupError
from kademlia_node.store.base import FIRST, Answer, Place, Publications, Published, Store, Usage

T = TypeVar("T")


class FaultyStore:
    """See `Store`. Every method but `close` counts as one operation, reads included.

    Attributes:
        fails_at: The numbers of the operations that raise SetupError and do nothing; 1 is first.
        fails_from: From this operation on all do so; None: the disk is sound.
        operations: How many there were, the failed ones included.
        publications: Fails with the rest, and is as forgetful.
    """

    publications: Publications

    def __init__(
        self,
        make: Callable[[], Store],
        *,
        commit_every: int = 1,
        fails_at: Collection[int] = (),
        fails_from: int | None = None,
    ) -> None:
        """Put a store that may fail in front of one that does not.

        Args:
            make: Makes the store that does the work, empty; called again after each crash.
            commit_every: So many writes survive a crash together, or none of them does.
            fails_at: See the attribute.
            fails_from: See the attribute.
        """
        self.fails_at = fails_at
        self.fails_from = fails_from
        self.operations = 0
        self.publications = _FaultyPublications(self)
        self._make = make
        self._commit_every = commit_every
        self._store = make()
        self._writes: list[Callable[[Store], Awaitable[object]]] = []  # all since it was empty
        self._committed = 0  # so many of them survive a crash
        self._has_power = True

    @property
    def beneath(self) -> Store:
        """The store that does the work; who looks through it causes no operation."""
        return self._store

    def cut_power(self) -> None:
        """From here on nothing is committed any more: what is still written will be lost."""
        self._has_power = False

    async def crash(self) -> int:
        """Forget what was not committed; returns how many writes that were.

        The work of the rest is done again, on an empty store. Nobody may be using this one; while
        somebody still ends in peace, `cut_power` comes first.
        """
        forgotten = len(self._writes) - self._committed
        del self._writes[self._committed :]
        await self._store.close()
        self._store = self._make()
        for write in self._writes:
            await write(self._store)
        self._has_power = True
        return forgotten

    def commit(self) -> None:
        """Let everything written so far survive, unless the power is gone."""
        if self._has_power:
            self._committed = len(self._writes)

    async def read(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """What `work` makes of the store; one operation.

        Raises:
            SetupError: it was this operation's turn to fail.
        """
        self.operations += 1
        is_past = self.fails_from is not None and self.operations >= self.fails_from
        if is_past or self.operations in self.fails_at:
            raise SetupError(f"the disk fails (operation {self.operations} of a simulated store)")
        return await work(self._store)

    async def write(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """The same for what changes the store: it is remembered, and in its turn committed."""
        result = await self.read(work)
        self._writes.append(work)
        if len(self._writes) - self._committed >= self._commit_every:
            self.commit()
        return result

    # --- What a store does ------------------------------------------------------------------------

    async def get(
        self,
        key: bytes,
        *,
        wall: float,
        after: tuple[bytes, bytes] | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        """See `Store`."""
        return await self.read(lambda store: store.get(key, wall=wall, after=after, limit=limit))

    async def get_one(
        self, key: bytes, *, author: bytes, slot: bytes, wall: float
    ) -> Record | None:
        """See `Store`."""
        return await self.read(
            lambda store: store.get_one(key, author=author, slot=slot, wall=wall)
        )

    async def put(
        self, record: Record, *, charged_to: bytes, wall: float, expect_seq: int | None = None
    ) -> Answer:
        """See `Store`."""
        return await self.write(
            lambda store: store.put(record, charged_to=charged_to, wall=wall, expect_seq=expect_seq)
        )

    async def offer(
        self,
        key: bytes,
        header: Header,
        *,
        charged_to: bytes,
        wall: float,
        expect_seq: int | None = None,
    ) -> Answer:
        """See `Store`; a write, since it may take over a later expiry."""
        return await self.write(
            lambda store: store.offer(
                key, header, charged_to=charged_to, wall=wall, expect_seq=expect_seq
            )
        )

    async def value(self, value_hash: bytes, *, wall: float) -> bytes | None:
        """See `Store`."""
        return await self.read(lambda store: store.value(value_hash, wall=wall))

    async def keys(self, *, wall: float) -> list[bytes]:
        """See `Store`."""
        return await self.read(lambda store: store.keys(wall=wall))

    async def page(self, after: Place = FIRST, *, limit: int, wall: float) -> list[Record]:
        """See `Store`."""
        return await self.read(lambda store: store.page(after, limit=limit, wall=wall))

    async def expiring(self, *, after: float, until: float) -> list[bytes]:
        """See `Store`."""
        return await self.read(lambda store: store.expiring(after=after, until=until))

    async def sweep(self, *, wall: float) -> int:
        """See `Store`."""
        return await self.write(lambda store: store.sweep(wall=wall))

    async def usage(self) -> Usage:
        """See `Store`."""
        return await self.read(lambda store: store.usage())

    async def close(self) -> None:
        """See `Store`; a store that is closed in peace has committed everything."""
        self.commit()
        await self._store.close()


class _FaultyPublications:
    """See `Publications`."""

    def __init__(self, store: FaultyStore) -> None:
        self._store = store

    async def due(self, *, wall: float, limit: int) -> list[Published]:
        """See `Publications`."""
        return await self._store.read(lambda store: store.publications.due(wall=wall, limit=limit))

    async def get(self, place: Place) -> Published | None:
        """See `Publications`."""
        return await self._store.read(lambda store: store.publications.get(place))

    async def page(self, after: Place = FIRST, *, limit: int) -> list[Published]:
        """See `Publications`."""
        return await self._store.read(lambda store: store.publications.page(after, limit=limit))

    async def count(self) -> int:
        """See `Publications`."""
        return await self._store.read(lambda store: store.publications.count())

    async def lifetimes(self) -> dict[int, int]:
        """See `Publications`."""
        return await self._store.read(lambda store: store.publications.lifetimes())

    async def keep(self, published: Published) -> None:
        """See `Publications`."""
        await self._store.write(lambda store: store.publications.keep(published))

    async def drop(self, place: Place) -> None:
        """See `Publications`."""
        await self._store.write(lambda store: store.publications.drop(place))
