"""What every Store promises of the records it keeps; see also test_offers and test_quotas."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kademlia_node.core.record import Record, merge
from kademlia_node.settings import INLINE_BYTES_MAX, VALUE_BYTES_MAX
from kademlia_node.store.base import FIRST, Answer, Outcome, Usage, place_of
from tests.store.conftest import Open
from tests.store.records import (
    ALICE,
    BOB,
    OVERHEAD,
    PREFIX,
    ROOMY,
    TOPIC,
    WALL,
    blob,
    by_distance,
    entry,
    held,
    put,
    room_for,
    tombstone,
    topic_entry,
)

pytestmark = pytest.mark.net  # see conftest

# --- Keeping --------------------------------------------------------------------------------------


async def test_what_was_stored_is_found_again(open_store: Open) -> None:
    store = await open_store(ROOMY)
    largest = entry(b"v" * VALUE_BYTES_MAX, slot=b"large")
    for record in (blob(b"value"), blob(b""), entry(), topic_entry(ALICE), largest):
        assert await store.put(record, charged_to=PREFIX, wall=WALL) == Answer(Outcome.STORED, None)
        assert await store.get(record.key, wall=WALL) == [record]
        author, slot = record.header.author, record.header.slot
        assert await store.get_one(record.key, author=author, slot=slot, wall=WALL) == record
    await store.close()


async def test_what_was_never_stored_is_not_found(open_store: Open) -> None:
    store = await open_store(ROOMY)
    await put(store, topic_entry(ALICE, b"a"))
    assert await store.get(blob(b"value").key, wall=WALL) == []
    assert await store.get_one(TOPIC, author=BOB.public_key, slot=b"a", wall=WALL) is None
    assert await store.get_one(TOPIC, author=ALICE.public_key, slot=b"b", wall=WALL) is None


async def test_entries_of_a_topic_stand_side_by_side_in_order(open_store: Open) -> None:
    store = await open_store(ROOMY)
    entries = [topic_entry(author, slot) for author in (BOB, ALICE) for slot in (b"b", b"", b"a")]
    for record in entries:
        assert await put(store, record) is Outcome.STORED
    assert await store.get(TOPIC, wall=WALL) == merge(entries)
    assert await store.keys(wall=WALL) == [TOPIC]


async def test_keys_are_sorted(open_store: Open) -> None:
    store = await open_store(ROOMY)
    records = [blob(bytes([number])) for number in range(20)]
    for record in records:
        await put(store, record)
    assert await store.keys(wall=WALL) == sorted(record.key for record in records)


async def test_usage_counts_values_and_overhead(open_store: Open) -> None:
    store = await open_store(ROOMY)
    assert await store.usage() == Usage(0, 0)
    await put(store, blob(b"v" * 100))
    await put(store, entry(b"blue"))
    assert await store.usage() == Usage(2, 104 + 2 * OVERHEAD)
    await put(store, entry(b"yellow", seq=2))
    assert await store.usage() == Usage(2, 106 + 2 * OVERHEAD)
    await put(store, tombstone(seq=3))
    assert await store.usage() == Usage(2, 100 + 2 * OVERHEAD)


async def test_closing_twice_is_harmless(open_store: Open) -> None:
    store = await open_store(ROOMY)
    await store.close()
    await store.close()


# --- Expiry ---------------------------------------------------------------------------------------


async def test_the_expired_are_not_there_before_any_sweep(open_store: Open) -> None:
    store = await open_store(ROOMY)
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


async def test_a_store_tells_what_expires_when(open_store: Open) -> None:
    store = await open_store(ROOMY)
    soon, later = entry(slot=b"soon", ttl=10), entry(slot=b"later", ttl=20)
    topic = [topic_entry(ALICE, b"a", ttl=20), topic_entry(BOB, b"b", ttl=20)]
    for record in (later, soon, *topic):
        await put(store, record)
    assert await store.expiring(after=WALL, until=WALL + 9.9) == []
    assert await store.expiring(after=WALL, until=WALL + 10) == [soon.key]
    assert await store.expiring(after=WALL + 10, until=WALL + 20) == sorted([later.key, TOPIC])
    assert await store.expiring(after=WALL + 20, until=WALL + 30) == []


async def test_a_sweep_forgets_just_what_has_expired(open_store: Open) -> None:
    store = await open_store(ROOMY)
    for ttl in (10, 20, 30):
        await put(store, blob(bytes([ttl]), ttl=ttl))
    assert await store.sweep(wall=WALL + 9.9) == 0
    assert await store.sweep(wall=WALL + 20) == 2
    assert await store.sweep(wall=WALL + 20) == 0
    assert await held(store) == [blob(bytes([30]), ttl=30)]
    assert await store.usage() == Usage(1, 1 + OVERHEAD)


async def test_an_expired_predecessor_is_none(open_store: Open) -> None:
    store = await open_store(ROOMY)
    await put(store, entry(b"blue", seq=9, ttl=10))
    late = entry(b"red", seq=1)
    answer = await store.put(late, charged_to=PREFIX, wall=WALL + 10, expect_seq=0)
    assert answer == Answer(Outcome.STORED, None)


async def test_the_expired_take_no_room(open_store: Open) -> None:
    store = await open_store(room_for(1))
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
    store = await open_store(ROOMY)
    first, second = entry(b"blue", seq=1), entry(b"red", seq=2)
    await put(store, first)
    answer = await store.put(second, charged_to=PREFIX, wall=WALL)
    assert answer == Answer(Outcome.STORED, first.header)
    answer = await store.put(first, charged_to=PREFIX, wall=WALL)
    assert answer == Answer(Outcome.OLD, second.header)
    assert await held(store) == [second]


async def test_a_deleted_record_stays_deleted(open_store: Open) -> None:
    store = await open_store(ROOMY)
    await put(store, entry(seq=1))
    assert await put(store, tombstone(seq=2)) is Outcome.STORED
    assert await put(store, entry(seq=1)) is Outcome.OLD
    assert await held(store) == [tombstone(seq=2)]


async def test_a_later_expiry_of_the_same_version_is_taken_over(open_store: Open) -> None:
    store = await open_store(ROOMY)
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
    store = await open_store(ROOMY)
    record = entry(seq=1, ttl=20)
    await put(store, record)
    answer = await store.put(tombstone(seq=2, ttl=19), charged_to=PREFIX, wall=WALL)
    assert answer == Answer(Outcome.SHORTENED, record.header)
    assert await held(store) == [record]


async def test_compare_and_set_refuses_what_was_written_unseen(open_store: Open) -> None:
    store = await open_store(ROOMY)
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
    store = await open_store(ROOMY)
    await put(store, entry(b"blue", seq=1))
    for expected in (Outcome.STORED, Outcome.HAVE, Outcome.HAVE):
        assert await put(store, entry(b"red", seq=2), expect_seq=1) is expected
    assert await put(store, entry(b"red", seq=2, ttl=7200), expect_seq=1) is Outcome.HAVE


# --- Pages ----------------------------------------------------------------------------------------


async def test_pages_tell_each_living_record_once_in_order(open_store: Open) -> None:
    store = await open_store(ROOMY)
    records = [blob(bytes([number])) for number in range(5)]
    records += [topic_entry(author, slot) for author in (ALICE, BOB) for slot in (b"a", b"b")]
    for record in records:
        await put(store, record)
    await put(store, blob(b"short-lived", ttl=10))
    told: list[Record] = []
    after = FIRST
    while page := await store.page(after, limit=4, wall=WALL + 10):
        assert len(page) <= 4
        assert len(told) < len(records)
        told += page
        after = place_of(page[-1])
    assert told == sorted(records, key=place_of)


async def test_what_is_put_behind_a_page_is_on_a_later_one(open_store: Open) -> None:
    store = await open_store(ROOMY)
    first, second, third = sorted((blob(bytes([number])) for number in range(3)), key=place_of)
    await put(store, first)
    await put(store, third)
    assert await store.page(limit=1, wall=WALL) == [first]
    await put(store, second)
    assert await store.page(place_of(first), limit=9, wall=WALL) == [second, third]
    assert await store.page(place_of(third), limit=9, wall=WALL) == []


async def test_the_records_of_a_key_can_be_read_in_steps(open_store: Open) -> None:
    store = await open_store(ROOMY)
    lower, topic, higher = bytes(32), TOPIC, b"\xff" * 32
    entries = [topic_entry(author, bytes([slot])) for author in (ALICE, BOB) for slot in range(5)]
    for key in (lower, topic, higher):
        for record in entries:
            await put(store, replace(record, key=key))
    await put(store, topic_entry(ALICE, ttl=10))
    told: list[Record] = []
    after = None
    while step := await store.get(TOPIC, wall=WALL + 10, after=after, limit=4):
        assert len(step) <= 4
        assert len(told) < len(entries)
        told += step
        after = step[-1].header.author, step[-1].header.slot
    assert told == merge(entries)
    behind = told[3].header.author, told[3].header.slot
    assert await store.get(TOPIC, wall=WALL + 10, after=behind) == told[4:]


async def test_reading_a_key_in_steps_begins_with_a_blob(open_store: Open) -> None:
    store = await open_store(ROOMY)
    record = blob(b"v")
    await put(store, record)
    assert await store.get(record.key, wall=WALL, limit=1) == [record]
    assert await store.get(record.key, wall=WALL, after=(b"", b"")) == []


# --- Values ---------------------------------------------------------------------------------------


async def test_a_value_too_long_to_go_inline_is_found_by_its_hash(open_store: Open) -> None:
    store = await open_store(ROOMY)
    inline, long, longest = (
        entry(b"v" * length, slot=b"%d" % length)
        for length in (INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, VALUE_BYTES_MAX)
    )
    for record in (inline, long, longest):
        await put(store, record)
    assert await store.value(inline.header.value_hash, wall=WALL) is None
    assert await store.value(long.header.value_hash, wall=WALL) == long.value
    assert await store.value(longest.header.value_hash, wall=WALL) == longest.value
    assert await store.value(bytes(32), wall=WALL) is None


async def test_a_value_is_found_while_any_record_holds_it(open_store: Open) -> None:
    store = await open_store(ROOMY)
    value = b"v" * 1000
    short, long = blob(value, ttl=10), entry(value, ttl=20)
    value_hash = short.header.value_hash
    for record in (short, long):
        await put(store, record)
    assert await store.value(value_hash, wall=WALL + 9.9) == value
    assert await store.value(value_hash, wall=WALL + 10) == value
    assert await store.sweep(wall=WALL + 10) == 1
    assert await store.value(value_hash, wall=WALL + 10) == value
    assert await store.value(value_hash, wall=WALL + 20) is None
    assert await put(store, entry(b"other" * 1000, seq=2, ttl=20)) is Outcome.STORED
    assert await store.value(value_hash, wall=WALL) is None


async def test_a_renewed_value_is_found_until_its_new_expiry(open_store: Open) -> None:
    store = await open_store(ROOMY)
    value = b"v" * 1000
    for ttl in (10, 20):
        await put(store, blob(value, ttl=ttl))
    value_hash = blob(value).header.value_hash
    await store.sweep(wall=WALL + 10)
    assert await store.value(value_hash, wall=WALL + 10) == value
    await store.sweep(wall=WALL + 20)
    assert await store.value(value_hash, wall=WALL + 10) is None
