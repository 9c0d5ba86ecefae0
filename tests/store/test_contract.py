"""What every Store promises. A further implementation is one more entry in STORES."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.ids import distance
from kademlia_node.core.key import Kind, topic_key
from kademlia_node.core.record import (
    Record,
    make_blob,
    make_entry,
    make_tombstone,
    make_topic_entry,
    merge,
)
from kademlia_node.core.suite import SigningKey
from kademlia_node.settings import Settings
from kademlia_node.sim import NullSuite
from kademlia_node.store.base import Answer, Outcome, Store, Usage
from kademlia_node.store.memory import MemoryStore

OWN_ID = bytes(32)
WALL = 1_700_000_000
NETWORK = b"n" * 32
TOPIC = topic_key(b"papers").digest
OVERHEAD = Settings().record_overhead_bytes
ROOMY = Settings()
PREFIX, OTHER_PREFIX = b"\x01\x02\x03", b"\x04\x05\x06"

Open = Callable[[Settings], Store]

STORES: dict[str, Open] = {
    "memory": lambda settings: MemoryStore(OWN_ID, settings=settings),
}


def signing_key(number: int) -> SigningKey:
    key = NullSuite().signing_key(number.to_bytes(32, "big"))
    assert key is not None
    return key


ALICE, BOB = signing_key(1), signing_key(2)


def blob(value: bytes, *, ttl: int = 3600) -> Record:
    return make_blob(value, expires=WALL + ttl)


def entry(
    value: bytes = b"blue",
    *,
    author: SigningKey = ALICE,
    slot: bytes = b"",
    seq: int = 1,
    ttl: int = 3600,
) -> Record:
    return make_entry(author, slot, value=value, seq=seq, expires=WALL + ttl, network_tag=NETWORK)


def tombstone(*, author: SigningKey = ALICE, seq: int = 2, ttl: int = 3600) -> Record:
    return make_tombstone(
        author,
        entry(author=author).key,
        kind=Kind.ENTRY,
        slot=b"",
        seq=seq,
        expires=WALL + ttl,
        network_tag=NETWORK,
    )


def topic_entry(
    author: SigningKey, slot: bytes = b"", *, value: bytes = b"here", ttl: int = 3600
) -> Record:
    return make_topic_entry(
        author, TOPIC, slot=slot, value=value, seq=1, expires=WALL + ttl, network_tag=NETWORK
    )


def by_distance(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: distance(record.key, OWN_ID))


UNSHARED = 1000  # times the store: never reached


def room_for(
    records: int, *, share_per_author: float = UNSHARED, share_per_prefix: float = UNSHARED
) -> Settings:
    """Room for so many records of 100 bytes."""
    return replace(
        ROOMY,
        store_bytes_max=records * (100 + OVERHEAD),
        store_share_per_author=share_per_author,
        store_share_per_prefix=share_per_prefix,
    )


@pytest.fixture(params=list(STORES))
def open_store(request: pytest.FixtureRequest) -> Open:
    return STORES[request.param]


async def put(
    store: Store,
    record: Record,
    *,
    charged_to: bytes = PREFIX,
    wall: float = WALL,
    expect_seq: int | None = None,
) -> Outcome:
    answer = await store.put(record, charged_to=charged_to, wall=wall, expect_seq=expect_seq)
    return answer.outcome


async def held(store: Store, *, wall: float = WALL) -> list[Record]:
    return [
        record for key in await store.keys(wall=wall) for record in await store.get(key, wall=wall)
    ]


# --- Keeping --------------------------------------------------------------------------------------


async def test_what_was_stored_is_found_again(open_store: Open) -> None:
    store = open_store(ROOMY)
    for record in (blob(b"value"), blob(b""), entry(), topic_entry(ALICE)):
        assert await store.put(record, charged_to=PREFIX, wall=WALL) == Answer(Outcome.STORED, None)
        assert await store.get(record.key, wall=WALL) == [record]
        author, slot = record.header.author, record.header.slot
        assert await store.get_one(record.key, author=author, slot=slot, wall=WALL) == record
    await store.close()


async def test_what_was_never_stored_is_not_found(open_store: Open) -> None:
    store = open_store(ROOMY)
    await put(store, topic_entry(ALICE, b"a"))
    assert await store.get(blob(b"value").key, wall=WALL) == []
    assert await store.get_one(TOPIC, author=BOB.public_key, slot=b"a", wall=WALL) is None
    assert await store.get_one(TOPIC, author=ALICE.public_key, slot=b"b", wall=WALL) is None


async def test_entries_of_a_topic_stand_side_by_side_in_order(open_store: Open) -> None:
    store = open_store(ROOMY)
    entries = [topic_entry(author, slot) for author in (BOB, ALICE) for slot in (b"b", b"", b"a")]
    for record in entries:
        assert await put(store, record) is Outcome.STORED
    assert await store.get(TOPIC, wall=WALL) == merge(entries)
    assert await store.keys(wall=WALL) == [TOPIC]


async def test_keys_are_sorted(open_store: Open) -> None:
    store = open_store(ROOMY)
    records = [blob(bytes([number])) for number in range(20)]
    for record in records:
        await put(store, record)
    assert await store.keys(wall=WALL) == sorted(record.key for record in records)


async def test_usage_counts_values_and_overhead(open_store: Open) -> None:
    store = open_store(ROOMY)
    assert await store.usage() == Usage(0, 0)
    await put(store, blob(b"v" * 100))
    await put(store, entry(b"blue"))
    assert await store.usage() == Usage(2, 104 + 2 * OVERHEAD)
    await put(store, entry(b"yellow", seq=2))
    assert await store.usage() == Usage(2, 106 + 2 * OVERHEAD)
    await put(store, tombstone(seq=3))
    assert await store.usage() == Usage(2, 100 + 2 * OVERHEAD)


async def test_closing_twice_is_harmless(open_store: Open) -> None:
    store = open_store(ROOMY)
    await store.close()
    await store.close()


# --- Expiry ---------------------------------------------------------------------------------------


async def test_the_expired_are_not_there_before_any_sweep(open_store: Open) -> None:
    store = open_store(ROOMY)
    record = topic_entry(ALICE, ttl=10)
    place = {"author": ALICE.public_key, "slot": b""}
    await put(store, record)
    await put(store, topic_entry(BOB, ttl=20))
    await put(store, entry(ttl=10))
    assert await store.get_one(TOPIC, **place, wall=WALL + 9.9) == record
    assert len(await store.keys(wall=WALL + 9.9)) == 2
    assert await store.get_one(TOPIC, **place, wall=WALL + 10) is None
    assert await store.get(TOPIC, wall=WALL + 10) == [topic_entry(BOB, ttl=20)]
    assert await store.keys(wall=WALL + 10) == [TOPIC]
    assert (await store.usage()).records == 3


async def test_a_sweep_forgets_just_what_has_expired(open_store: Open) -> None:
    store = open_store(ROOMY)
    for ttl in (10, 20, 30):
        await put(store, blob(bytes([ttl]), ttl=ttl))
    assert await store.sweep(wall=WALL + 9.9) == 0
    assert await store.sweep(wall=WALL + 20) == 2
    assert await store.sweep(wall=WALL + 20) == 0
    assert await held(store) == [blob(bytes([30]), ttl=30)]
    assert await store.usage() == Usage(1, 1 + OVERHEAD)


async def test_an_expired_predecessor_is_none(open_store: Open) -> None:
    store = open_store(ROOMY)
    await put(store, entry(b"blue", seq=9, ttl=10))
    late = entry(b"red", seq=1)
    answer = await store.put(late, charged_to=PREFIX, wall=WALL + 10, expect_seq=0)
    assert answer == Answer(Outcome.STORED, None)


async def test_the_expired_take_no_room(open_store: Open) -> None:
    store = open_store(room_for(1))
    near, far = by_distance([blob(b"a" * 100, ttl=10), blob(b"b" * 100, ttl=10)])
    await put(store, near)
    assert await put(store, far, wall=WALL + 9) is Outcome.QUOTA
    assert (
        await put(
            store, replace(far, header=replace(far.header, expires=WALL + 20)), wall=WALL + 10
        )
        is Outcome.STORED
    )


# --- Conflicts ------------------------------------------------------------------------------------


async def test_a_newer_version_replaces_and_an_older_one_meets_it(open_store: Open) -> None:
    store = open_store(ROOMY)
    first, second = entry(b"blue", seq=1), entry(b"red", seq=2)
    await put(store, first)
    answer = await store.put(second, charged_to=PREFIX, wall=WALL)
    assert answer == Answer(Outcome.STORED, first.header)
    answer = await store.put(first, charged_to=PREFIX, wall=WALL)
    assert answer == Answer(Outcome.OLD, second.header)
    assert await held(store) == [second]


async def test_a_deleted_record_stays_deleted(open_store: Open) -> None:
    store = open_store(ROOMY)
    await put(store, entry(seq=1))
    assert await put(store, tombstone(seq=2)) is Outcome.STORED
    assert await put(store, entry(seq=1)) is Outcome.OLD
    assert await held(store) == [tombstone(seq=2)]


async def test_a_later_expiry_of_the_same_version_is_taken_over(open_store: Open) -> None:
    store = open_store(ROOMY)
    for shorter, longer in (
        (entry(ttl=10), entry(ttl=20)),
        (blob(b"v", ttl=10), blob(b"v", ttl=20)),
    ):
        await put(store, shorter)
        answer = await store.put(longer, charged_to=PREFIX, wall=WALL)
        assert answer == Answer(Outcome.HAVE, shorter.header)
        assert await put(store, shorter) is Outcome.HAVE
        assert await store.get(longer.key, wall=WALL + 15) == [longer]
    assert await store.sweep(wall=WALL + 15) == 0
    assert await store.sweep(wall=WALL + 20) == 2


async def test_a_successor_that_would_expire_first_is_refused(open_store: Open) -> None:
    store = open_store(ROOMY)
    record = entry(seq=1, ttl=20)
    await put(store, record)
    answer = await store.put(tombstone(seq=2, ttl=19), charged_to=PREFIX, wall=WALL)
    assert answer == Answer(Outcome.SHORTENED, record.header)
    assert await held(store) == [record]


async def test_compare_and_set_refuses_what_was_written_unseen(open_store: Open) -> None:
    store = open_store(ROOMY)
    first, second, third = (entry(bytes([seq]), seq=seq) for seq in (1, 2, 3))
    assert await put(store, first, expect_seq=7) is Outcome.CONFLICT
    assert await put(store, first, expect_seq=0) is Outcome.STORED
    assert await put(store, second, expect_seq=0) is Outcome.CONFLICT
    assert await put(store, second, expect_seq=1) is Outcome.STORED
    answer = await store.put(third, charged_to=PREFIX, wall=WALL, expect_seq=1)
    assert answer == Answer(Outcome.CONFLICT, second.header)
    assert await put(store, first, expect_seq=1) is Outcome.CONFLICT
    assert await put(store, first, expect_seq=2) is Outcome.OLD


async def test_a_repeated_compare_and_set_is_harmless(open_store: Open) -> None:
    store = open_store(ROOMY)
    await put(store, entry(b"blue", seq=1))
    for expected in (Outcome.STORED, Outcome.HAVE, Outcome.HAVE):
        assert await put(store, entry(b"red", seq=2), expect_seq=1) is expected
    assert await put(store, entry(b"red", seq=2, ttl=7200), expect_seq=1) is Outcome.HAVE


# --- Quotas ---------------------------------------------------------------------------------------


async def test_a_full_store_gives_up_the_farthest_for_the_nearer(open_store: Open) -> None:
    store = open_store(room_for(3))
    nearest, second, third, fourth, farthest = by_distance(
        [blob(bytes([number]) * 100) for number in range(5)]
    )
    for record in (farthest, second, fourth):
        assert await put(store, record) is Outcome.STORED
    assert await put(store, third) is Outcome.STORED  # at the cost of the farthest
    assert await put(store, farthest) is Outcome.QUOTA
    assert await put(store, nearest) is Outcome.STORED  # at the cost of the fourth
    assert by_distance(await held(store)) == [nearest, second, third]


async def test_several_small_ones_go_for_one_large(open_store: Open) -> None:
    store = open_store(room_for(3))
    near, *others = by_distance([blob(bytes([number]) * 100) for number in range(4)])
    for record in others:
        await put(store, record)
    large = replace(near, header=replace(near.header, length=101), value=b"v" * 101)
    assert await put(store, large) is Outcome.STORED
    assert by_distance(await held(store)) == [large, others[0]]


async def test_nobody_goes_for_one_that_finds_no_room_all_the_same(open_store: Open) -> None:
    store = open_store(room_for(2))
    nearest, near, middle, far = by_distance([blob(bytes([number]) * 100) for number in range(4)])
    await put(store, near)
    await put(store, far)
    for record, length in ((middle, 300), (nearest, 9999)):
        header = replace(record.header, length=length)
        large = Record(record.key, header, b"v" * length)
        assert await put(store, large) is Outcome.QUOTA
    assert by_distance(await held(store)) == [near, far]


async def test_under_one_key_the_soonest_to_expire_go_first(open_store: Open) -> None:
    store = open_store(room_for(2))
    value = b"v" * 100
    soon, later, latest = (
        topic_entry(signing_key(9 - ttl), value=value, ttl=ttl) for ttl in (1, 2, 3)
    )
    await put(store, later)
    await put(store, soon)
    assert await put(store, latest) is Outcome.STORED
    assert await store.get(TOPIC, wall=WALL) == merge([later, latest])
    assert await put(store, soon) is Outcome.QUOTA
    no_better = topic_entry(signing_key(99), value=value, ttl=2)
    assert await put(store, no_better) is Outcome.QUOTA


async def test_an_author_over_its_share_is_refused_and_others_are_not(open_store: Open) -> None:
    store = open_store(room_for(4, share_per_author=0.5))
    mine = [entry(b"v" * 100, slot=bytes([number])) for number in range(3)]
    assert [await put(store, record) for record in mine] == [
        Outcome.STORED,
        Outcome.STORED,
        Outcome.QUOTA,
    ]
    assert await put(store, entry(b"v" * 100, author=BOB)) is Outcome.STORED


async def test_a_prefix_over_its_share_is_refused_and_others_are_not(open_store: Open) -> None:
    store = open_store(room_for(6, share_per_prefix=0.5))
    records = [blob(bytes([number]) * 100) for number in range(5)]
    outcomes = [await put(store, record) for record in records[:4]]
    assert outcomes == [Outcome.STORED] * 3 + [Outcome.QUOTA]
    assert await put(store, records[3], charged_to=OTHER_PREFIX) is Outcome.STORED
    assert await put(store, records[4], charged_to=b"") is Outcome.STORED


async def test_what_is_charged_to_nobody_may_fill_the_store(open_store: Open) -> None:
    store = open_store(room_for(4, share_per_author=0.1, share_per_prefix=0.1))
    for number in range(4):
        assert await put(store, blob(bytes([number]) * 100), charged_to=b"") is Outcome.STORED


async def test_what_has_gone_is_charged_to_nobody(open_store: Open) -> None:
    store = open_store(room_for(4, share_per_author=0.25, share_per_prefix=0.25))
    assert await put(store, entry(b"v" * 100, ttl=10)) is Outcome.STORED
    assert await put(store, entry(b"v" * 100, slot=b"b")) is Outcome.QUOTA
    await store.sweep(wall=WALL + 10)
    assert await put(store, entry(b"v" * 100, slot=b"b"), wall=WALL + 10) is Outcome.STORED


@pytest.mark.parametrize(
    "settings", [room_for(4, share_per_author=0.25, share_per_prefix=0.25), room_for(1)]
)
async def test_a_successor_takes_the_room_of_its_predecessor(
    open_store: Open, settings: Settings
) -> None:
    store = open_store(settings)
    await put(store, entry(b"v" * 50, seq=1))
    assert await put(store, entry(b"v" * 100, seq=2)) is Outcome.STORED
    assert await put(store, entry(b"v" * 101, seq=3)) is Outcome.QUOTA


async def test_a_growing_successor_needs_room_in_the_share_of_who_sent_it(open_store: Open) -> None:
    store = open_store(room_for(4, share_per_prefix=0.25))
    await put(store, blob(b"v" * 100), charged_to=OTHER_PREFIX)
    await put(store, entry(b"v" * 50, seq=1))
    growing = entry(b"v" * 60, seq=2)
    assert await put(store, growing, charged_to=OTHER_PREFIX) is Outcome.QUOTA
    assert await put(store, growing) is Outcome.STORED


async def test_a_successor_in_a_full_store_does_not_push_itself_out(open_store: Open) -> None:
    store = open_store(room_for(2))
    alices, bobs = entry(b"v" * 100, author=ALICE), entry(b"v" * 100, author=BOB)
    _, far = by_distance([alices, bobs])
    author = ALICE if far is alices else BOB
    await put(store, alices)
    await put(store, bobs)
    assert await put(store, entry(b"v" * 101, author=author, seq=2, ttl=7200)) is Outcome.QUOTA
    assert len(await held(store)) == 2


async def test_deleting_is_possible_whoever_filled_the_store(open_store: Open) -> None:
    store = open_store(room_for(2, share_per_prefix=0.5))
    await put(store, entry(b"v" * 100))
    await put(store, blob(b"v" * 100), charged_to=OTHER_PREFIX)
    assert await put(store, tombstone(), charged_to=OTHER_PREFIX) is Outcome.STORED


async def test_rewriting_from_elsewhere_does_not_escape_the_share(open_store: Open) -> None:
    store = open_store(room_for(4, share_per_prefix=0.5))
    for slot in (b"a", b"b"):
        await put(store, entry(b"v" * 100, slot=slot))
        rewritten = entry(b"w" * 100, slot=slot, seq=2)
        assert await put(store, rewritten, charged_to=OTHER_PREFIX) is Outcome.STORED
        renewed = entry(b"w" * 100, slot=slot, seq=2, ttl=7200)
        assert await put(store, renewed, charged_to=OTHER_PREFIX) is Outcome.HAVE
    assert await put(store, blob(b"v" * 100)) is Outcome.QUOTA


# --- All of it, in any order ----------------------------------------------------------------------

AUTHORS = [signing_key(number) for number in range(3)]
RECORDS = st.builds(
    entry,
    st.sampled_from([b"", b"v" * 50, b"w" * 100]),
    author=st.sampled_from(AUTHORS),
    slot=st.sampled_from([b"a", b"b"]),
    seq=st.integers(1, 3),
    ttl=st.integers(5, 30),
)
PUTS = st.lists(st.tuples(RECORDS, st.sampled_from([b"", PREFIX]), st.integers(0, 20)), max_size=30)


@pytest.mark.parametrize("open_one", STORES.values(), ids=STORES)
@given(puts=PUTS)
async def test_no_order_of_puts_breaks_the_books(
    open_one: Open, puts: list[tuple[Record, bytes, int]]
) -> None:
    settings = room_for(3, share_per_author=0.7, share_per_prefix=0.7)
    store, wall = open_one(settings), WALL
    for record, charged_to, elapsed in puts:
        wall = max(wall, WALL + elapsed)
        outcome = await put(store, record, charged_to=charged_to, wall=wall)
        if record.header.expires > wall and outcome in {Outcome.STORED, Outcome.HAVE}:
            there = await store.get(record.key, wall=wall)
            assert [found.header.version for found in there] == [record.header.version]
        assert (await store.usage()).size_bytes <= settings.store_bytes_max
    await store.sweep(wall=wall)
    remaining = await held(store, wall=wall)
    size_bytes = sum(len(record.value) + OVERHEAD for record in remaining)
    assert await store.usage() == Usage(len(remaining), size_bytes)
    await store.sweep(wall=WALL + 30)
    assert await store.usage() == Usage(0, 0)
