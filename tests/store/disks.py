"""Stores on disk for tests, and disks that take no more."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from kademlia_node.core.record import Record
from kademlia_node.settings import Settings
from kademlia_node.store.base import Outcome
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.schema import Durability
from tests.store.records import OWN_ID, ROOMY, blob, put


@asynccontextmanager
async def opened(
    path: Path,
    settings: Settings = ROOMY,
    *,
    own_id: bytes = OWN_ID,
    durability: Durability = Durability.PROCESS,
) -> AsyncIterator[DiskStore]:
    """A store that is closed in the end; what takes too long fails."""
    store = await DiskStore.open(path, own_id=own_id, settings=settings, durability=durability)
    try:
        async with asyncio.timeout(30.0):
            yield store
    finally:
        await store.close()


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """As a disk that fills up: no file of this process can be written beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


async def fill(path: Path, records: list[Record]) -> None:
    async with opened(path) as store:
        for record in records:
            assert await put(store, record) is Outcome.STORED


BLOBS = [blob(bytes([number]) * 100) for number in range(30)]
