"""Tests that take `open_store` are the contract of a Store: they run on every one there is.

All are marked `net`: the disk's thread needs the real clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kademlia_node.settings import Settings
from kademlia_node.store.base import Store
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.memory import MemoryStore
from tests.store.records import OWN_ID

Open = Callable[[Settings], Awaitable[Store]]


@pytest.fixture(params=["memory", "disk"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens an empty store; it is closed in the end."""
    opened: list[Store] = []

    async def open_one(settings: Settings) -> Store:
        store: Store
        if request.param == "memory":
            store = MemoryStore(OWN_ID, settings=settings)
        else:
            path = tmp_path / f"store-{len(opened)}.db"
            store = await DiskStore.open(path, own_id=OWN_ID, settings=settings)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()
