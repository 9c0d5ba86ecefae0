"""What every store answers to a record whose value is not here yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.record import Record
from kademlia_node.store.base import Answer, Outcome, Store, Usage
from kademlia_node.store.memory import MemoryStore
from tests.store.conftest import Open
from tests.store.disks import opened
from tests.store.records import (
    ALICE,
    BOB,
    OVERHEAD,
    OWN_ID,
    PREFIX,
    ROOMY,
    WALL,
    blob,
    by_distance,
    entry,
    held,
    put,
    room_for,
    tombstone,
)

pytestmark = pytest.mark.net  # see conftest

LARGE = b"v" * 50_000


async def offer(
    store: Store,
    record: Record,
    *,
    charged_to: bytes = PREFIX,
    wall: float = WALL,
    expect_seq: int | None = None,
) -> Answer:
    return await store.offer(
        record.key, record.header, charged_to=charged_to, wall=wall, expect_seq=expect_seq
    )


async def test_what_would_be_filed_is_wanted_and_not_filed(open_store: Open) -> None:
    store = await open_store(ROOMY)
    first, second = entry(LARGE, seq=1), entry(LARGE[1:], seq=2)
    assert await offer(store, first) == Answer(Outcome.WANTED, None)
    assert await held(store) == []
    assert await store.usage() == Usage(0, 0)
    await put(store, first)
    assert await offer(store, second) == Answer(Outcome.WANTED, first.header)
    assert await held(store) == [first]
    assert await put(store, second) is Outcome.STORED


async def test_what_is_here_is_not_wanted_and_takes_over_a_later_expiry(open_store: Open) -> None:
    store = await open_store(ROOMY)
    for shorter, longer in (
        (entry(LARGE, ttl=10), entry(LARGE, ttl=20)),
        (blob(LARGE, ttl=10), blob(LARGE, ttl=20)),
    ):
        await put(store, shorter)
        assert await offer(store, longer) == Answer(Outcome.HAVE, shorter.header)
        assert await offer(store, shorter) == Answer(Outcome.HAVE, longer.header)
        assert await store.get(longer.key, wall=WALL + 15) == [longer]
    assert await store.usage() == Usage(2, 2 * (len(LARGE) + OVERHEAD))
    assert await store.sweep(wall=WALL + 15) == 0
    assert await store.sweep(wall=WALL + 20) == 2


async def test_an_offer_is_refused_as_a_put_would_be(open_store: Open) -> None:
    store = await open_store(ROOMY)
    current = entry(LARGE, seq=5, ttl=100)
    await put(store, current)
    for outcome, record, expect_seq in (
        (Outcome.OLD, entry(seq=4), None),
        (Outcome.SHORTENED, entry(seq=6, ttl=99), None),
        (Outcome.CONFLICT, entry(seq=6), 4),
        (Outcome.WANTED, entry(seq=6), 5),
        (Outcome.HAVE, current, 4),
        (Outcome.WANTED, tombstone(seq=6), None),
    ):
        answer = await offer(store, record, expect_seq=expect_seq)
        assert answer == Answer(outcome, current.header)


async def test_an_offer_over_a_share_is_refused(open_store: Open) -> None:
    store = await open_store(room_for(2, share_per_author=0.5))
    await put(store, entry(b"v" * 100, slot=b"a"))
    more = entry(b"v" * 100, slot=b"b")
    assert await offer(store, more) == Answer(Outcome.QUOTA, None)
    of_another = entry(b"v" * 100, author=BOB)
    assert await offer(store, of_another) == Answer(Outcome.WANTED, None)


async def test_nobody_makes_room_for_an_offer(open_store: Open) -> None:
    store = await open_store(room_for(1))
    near, middle, far = by_distance([blob(bytes([number]) * 100) for number in range(3)])
    await put(store, middle)
    assert await offer(store, near) == Answer(Outcome.WANTED, None)
    assert await offer(store, far) == Answer(Outcome.QUOTA, None)
    assert await held(store) == [middle]


async def test_to_an_offer_an_expired_predecessor_is_none(open_store: Open) -> None:
    store = await open_store(ROOMY)
    await put(store, entry(LARGE, seq=9, ttl=10))
    late = entry(LARGE, seq=1)
    answer = await offer(store, late, wall=WALL + 10, expect_seq=0)
    assert answer == Answer(Outcome.WANTED, None)


# --- An offer foretells the put -------------------------------------------------------------------

TIGHT = room_for(3, share_per_author=0.7, share_per_prefix=0.7)
RECORDS = st.builds(
    entry,
    st.sampled_from([b"", b"v" * 50, b"w" * 100]),
    author=st.sampled_from([ALICE, BOB]),
    slot=st.sampled_from([b"a", b"b"]),
    seq=st.integers(1, 3),
    ttl=st.integers(5, 30),
)
STEPS = st.lists(
    st.tuples(RECORDS, st.integers(0, 10), st.sampled_from([None, 0, 1, 2])), max_size=20
)
Step = tuple[Record, int, int | None]  # what, how many seconds after the last, the seq expected


async def check_that_offers_foretell(store: Store, steps: list[Step]) -> None:
    wall = WALL
    for record, elapsed, expect_seq in steps:
        wall += elapsed
        offered = await offer(store, record, wall=wall, expect_seq=expect_seq)
        usage = await store.usage()
        answer = await store.put(record, charged_to=PREFIX, wall=wall, expect_seq=expect_seq)
        if offered.outcome is Outcome.WANTED:
            assert answer == replace(offered, outcome=Outcome.STORED)
        else:
            assert answer.outcome is offered.outcome
            assert await store.usage() == usage


@given(steps=STEPS)
async def test_what_an_offer_foretells_is_so_in_memory(steps: list[Step]) -> None:
    await check_that_offers_foretell(MemoryStore(OWN_ID, settings=TIGHT), steps)


@hypothesis.settings(max_examples=20)  # each makes a file, and what is decided is the same
@given(steps=STEPS)
async def test_what_an_offer_foretells_is_so_on_disk(steps: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        async with opened(Path(folder) / "store.db", TIGHT) as store:
            await check_that_offers_foretell(store, steps)
