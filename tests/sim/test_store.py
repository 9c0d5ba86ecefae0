"""A store with faults keeps the contract while it has none; the contract's own tests judge that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.errors import SetupError
from kademlia_node.settings import Settings
from kademlia_node.sim import run
from kademlia_node.sim.store import FaultyStore
from kademlia_node.store.base import Outcome, Published, Usage
from kademlia_node.store.memory import MemoryStore
from tests.store.conftest import Open
from tests.store.records import OWN_ID, PREFIX, WALL, blob, entry
from tests.store.test_contract import *  # noqa: F403 - collected here, with our `open_store`
from tests.store.test_publications import *  # noqa: F403


def make(settings: Settings) -> MemoryStore:
    return MemoryStore(OWN_ID, settings=settings)


def faulty(
    *, commit_every: int = 1, fails_at: Collection[int] = (), fails_from: int | None = None
) -> FaultyStore:
    return FaultyStore(
        lambda: make(Settings()),
        commit_every=commit_every,
        fails_at=fails_at,
        fails_from=fails_from,
    )


@pytest.fixture
def open_store() -> Open:
    async def open_one(settings: Settings) -> FaultyStore:
        return FaultyStore(lambda: make(settings))

    return open_one


async def put_blobs(store: FaultyStore, numbers: range) -> list[int]:
    """Those of the numbers that could be put."""
    done = []
    for number in numbers:
        try:
            answer = await store.put(blob(bytes([number])), charged_to=PREFIX, wall=WALL)
        except SetupError:
            continue
        assert answer.outcome is Outcome.STORED
        done.append(number)
    return done


async def blobs_in(store: FaultyStore) -> list[int]:
    return sorted(record.value[0] for record in await store.page(limit=1000, wall=WALL))


async def test_the_operations_of_the_plan_fail_and_do_nothing() -> None:
    store = faulty(fails_at={2, 4})
    assert await put_blobs(store, range(1, 6)) == [1, 3, 5]
    assert store.operations == 5
    assert await blobs_in(store) == [1, 3, 5]
    store.fails_at = {7}
    with pytest.raises(SetupError, match="operation 7"):
        await store.usage()


async def test_from_some_operation_on_all_fail_until_the_disk_is_mended() -> None:
    store = faulty(fails_from=3)
    assert await put_blobs(store, range(1, 6)) == [1, 2]
    for refused in (store.keys(wall=WALL), store.publications.count(), store.sweep(wall=WALL)):
        with pytest.raises(SetupError):
            await refused
    store.fails_from = None
    assert await blobs_in(store) == [1, 2]


async def test_publications_fail_with_the_rest_and_count_as_operations() -> None:
    store = faulty(fails_at={2})
    await store.publications.keep(Published(entry(), WALL))
    with pytest.raises(SetupError, match="operation 2"):
        await store.publications.keep(Published(blob(b"lost"), WALL))
    assert await store.publications.count() == 1


@pytest.mark.parametrize(
    ("commit_every", "survivors"), [(1, 10), (3, 9), (4, 8), (10, 10), (11, 0)]
)
async def test_crash_forgets_what_was_written_since_the_last_commit(
    commit_every: int, survivors: int
) -> None:
    store = faulty(commit_every=commit_every)
    await put_blobs(store, range(1, 11))
    assert await blobs_in(store) == list(range(1, 11))
    assert await store.crash() == 10 - survivors
    assert await blobs_in(store) == list(range(1, survivors + 1))
    await put_blobs(store, range(11, 12))
    assert await store.crash() == (0 if commit_every == 1 else 1)


async def test_crash_forgets_expiries_and_publications_too() -> None:
    store = faulty(commit_every=2)
    kept, later = Published(entry(), WALL), entry(ttl=7200)
    await store.put(entry(), charged_to=PREFIX, wall=WALL)
    await store.publications.keep(kept)
    answer = await store.offer(later.key, later.header, charged_to=PREFIX, wall=WALL)
    assert answer.outcome is Outcome.HAVE
    assert await store.crash() == 1
    assert await store.get(later.key, wall=WALL + 3600) == []
    await store.publications.drop(kept.place)
    assert await store.crash() == 1
    assert await store.publications.get(kept.place) == kept


async def test_failed_writes_are_not_done_again_after_a_crash() -> None:
    store = faulty(fails_at={2})
    await put_blobs(store, range(1, 4))
    assert await store.crash() == 0
    assert await blobs_in(store) == [1, 3]


async def test_closing_in_peace_commits_everything() -> None:
    store = faulty(commit_every=100)
    await put_blobs(store, range(5))
    await store.close()
    assert await store.crash() == 0
    assert await blobs_in(store) == [0, 1, 2, 3, 4]


async def test_usage_and_quota_after_a_crash_are_those_of_what_is_left() -> None:
    settings = replace(Settings(), record_overhead_bytes=100)
    store = FaultyStore(lambda: make(settings), commit_every=2)
    await put_blobs(store, range(5))
    await store.crash()
    assert await store.usage() == Usage(records=4, size_bytes=4 * 101)


@given(
    seed=st.integers(0, 2**32),
    commit_every=st.integers(1, 8),
    crash_after=st.integers(0, 30),
)
def test_what_a_crash_leaves_is_a_prefix_short_of_less_than_one_commit(
    seed: int, commit_every: int, crash_after: int
) -> None:
    async def crashing() -> None:
        fails_at = frozenset(Random(seed).sample(range(1, 31), 5))
        store = faulty(commit_every=commit_every, fails_at=fails_at)
        done = await put_blobs(store, range(crash_after))
        forgotten = await store.crash()
        assert forgotten == len(done) % commit_every
        store.fails_at = ()
        assert await blobs_in(store) == done[: len(done) - forgotten]

    run(crashing())
