"""A clock that is wrong for a while deletes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kademlia_node.settings import Settings
from kademlia_node.store.base import Answer, Outcome, Store
from tests.store.conftest import Open
from tests.store.records import ALICE, PREFIX, WALL, blob, entry, held, put, topic_entry

pytestmark = pytest.mark.net  # see conftest

GRACE_S = 60
PATIENT = replace(Settings(), expired_grace_s=float(GRACE_S))
RECORDS = [blob(b"v", ttl=1000), entry(ttl=2000)]
YEAR_S = 365 * 86400


async def run_on(store: Store, *, begins: int, ends: int) -> int:
    """The clock goes from one instant to another, and chores run; how many are forgotten."""
    return sum([await store.sweep(wall=WALL + second) for second in range(begins, ends + 1, 10)])


async def settled(open_store: Open) -> Store:
    """A store with records, of which none has expired, and a clock that it believes."""
    store = await open_store(PATIENT)
    for record in RECORDS:
        await put(store, record)
    assert await run_on(store, begins=0, ends=2 * GRACE_S) == 0
    return store


async def test_what_has_expired_is_hidden_at_once_and_forgotten_later(open_store: Open) -> None:
    store = await settled(open_store)
    assert await run_on(store, begins=130, ends=1000 + GRACE_S - 10) == 0
    assert await held(store, wall=WALL + 1000) == RECORDS[1:]
    assert (await store.usage()).records == 2
    assert await store.sweep(wall=WALL + 1000 + GRACE_S - 0.1) == 0
    assert await store.sweep(wall=WALL + 1000 + GRACE_S) == 1
    assert (await store.usage()).records == 1


@pytest.mark.parametrize("leap_s", [GRACE_S - 10, GRACE_S + 1, 1500, YEAR_S])
async def test_a_clock_that_leaps_ahead_and_back_deletes_nothing(
    open_store: Open, leap_s: int
) -> None:
    store = await settled(open_store)
    begins = 990 - 50 if leap_s < GRACE_S else 2 * GRACE_S
    await run_on(store, begins=130, ends=begins)
    assert await run_on(store, begins=begins + leap_s, ends=begins + leap_s + 50) == 0
    meanwhile = topic_entry(ALICE, ttl=2 * YEAR_S)
    assert await put(store, meanwhile, wall=WALL + begins + leap_s + 50) is Outcome.STORED
    assert await run_on(store, begins=begins + 50, ends=990) == 0
    for record in RECORDS:
        assert await store.get(record.key, wall=WALL + 990) == [record]


async def test_a_clock_that_stays_ahead_is_believed_in_the_end(open_store: Open) -> None:
    store = await settled(open_store)
    assert await run_on(store, begins=YEAR_S, ends=YEAR_S + GRACE_S - 10) == 0
    assert await store.sweep(wall=WALL + YEAR_S + GRACE_S) == 2


async def test_who_looks_at_the_clock_seldom_forgets_all_the_same(open_store: Open) -> None:
    store = await settled(open_store)
    forgotten = [await store.sweep(wall=WALL + second) for second in (800, 1600, 2400, 3200)]
    assert forgotten == [0, 1, 0, 1]


async def test_a_node_that_starts_with_a_wrong_clock_deletes_nothing(open_store: Open) -> None:
    store = await open_store(PATIENT)
    for record in RECORDS:
        await put(store, record, wall=WALL + 5000)
    assert await run_on(store, begins=5000, ends=5000 + GRACE_S - 10) == 0
    assert await run_on(store, begins=0, ends=990) == 0
    assert len(await held(store)) == 2


async def test_what_waits_to_be_forgotten_is_no_predecessor(open_store: Open) -> None:
    store = await settled(open_store)
    await put(store, entry(b"blue", slot=b"s", seq=9, ttl=1000))
    successor = entry(b"red", slot=b"s", seq=1, ttl=3000)
    at = WALL + 1001.0
    offered = await store.offer(
        successor.key, successor.header, charged_to=PREFIX, wall=at, expect_seq=0
    )
    assert offered == Answer(Outcome.WANTED, None)
    answer = await store.put(successor, charged_to=PREFIX, wall=at, expect_seq=0)
    assert answer == Answer(Outcome.STORED, None)
    assert await store.get(successor.key, wall=at) == [successor]
    assert (await store.usage()).records == 3


async def test_a_key_stays_proven_while_what_proved_it_waits_to_be_forgotten(
    open_store: Open,
) -> None:
    store = await settled(open_store)
    squatter = topic_entry(ALICE, key=RECORDS[0].key)
    assert await put(store, squatter, wall=WALL + 1001) is Outcome.FOREIGN
    assert await store.get(squatter.key, wall=WALL + 1001) == []
