"""What a watcher is told: each change once, those of one author in order, and the ends."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.digest import NOTHING, Versions
from kademlia_node.core.feed import Change, ChangeKind, Feed
from kademlia_node.core.key import Kind
from kademlia_node.core.record import TOMBSTONE, Header

ALICE, BOB = b"A" * 32, b"B" * 32


def feed(*, settle_s: float = 1.0, entries_max: int = 100, bytes_max: int = 1000) -> Feed:
    return Feed(settle_s=settle_s, entries_max=entries_max, bytes_max=bytes_max)


def header(
    seq: int, *, author: bytes = ALICE, slot: bytes = b"", flags: int = 0, expires: int = 1000
) -> Header:
    return Header(
        kind=Kind.TOPIC,
        flags=flags,
        author=author,
        slot=slot,
        seq=seq,
        expires=expires,
        length=1,
        value_hash=bytes(32),
        signature=bytes(64),
    )


def seqs(changes: list[Change]) -> list[int]:
    return [change.seq for change in changes]


def test_a_change_is_told_once_however_many_tell_of_it() -> None:
    changes = feed()
    assert changes.on_record(header(5), b"a", now=0.0)
    assert not changes.on_record(header(5), b"a", now=0.1)
    assert changes.next_due() == 1.0
    assert changes.due(0.9) == []
    assert changes.due(1.0) == [Change(ChangeKind.SET, ALICE, b"", b"a", 5, 1000)]
    assert changes.next_due() is None
    assert not changes.on_record(header(5), b"a", now=2.0)
    assert changes.due(9.0) == []


def test_changes_of_an_author_come_in_order_though_they_were_heard_otherwise() -> None:
    changes = feed()
    for seq, now in ((7, 0.0), (9, 0.2), (6, 0.4), (8, 0.9)):
        changes.on_record(header(seq, slot=b"%d" % seq), b"a", now=now)
    changes.on_record(header(1, author=BOB), b"b", now=0.9)
    assert seqs(changes.due(1.0)) == [6, 7]
    assert seqs(changes.due(1.2)) == [8, 9]
    assert seqs(changes.due(1.9)) == [1]


def test_versions_of_an_entry_that_follow_each_other_quickly_are_both_told() -> None:
    changes = feed()
    changes.on_record(header(1), b"a", now=0.0)
    changes.on_record(header(2), b"b", now=0.1)
    assert [change.value for change in changes.due(1.0)] == [b"a"]
    assert [change.value for change in changes.due(1.1)] == [b"b"]


def test_a_version_that_is_over_already_is_not_told() -> None:
    changes = feed()
    changes.on_record(header(2), b"b", now=0.0)
    assert not changes.on_record(header(1), b"a", now=0.1)
    assert [change.value for change in changes.due(5.0)] == [b"b"]


def test_a_renewal_is_no_change_and_puts_off_the_end() -> None:
    changes = feed()
    changes.on_record(header(1, expires=100), b"a", now=0.0)
    changes.due(1.0)
    assert changes.next_expiry() == 100
    assert not changes.on_record(header(1, expires=200), b"a", now=2.0)
    assert not changes.on_record(header(1, expires=150), b"a", now=2.0)
    assert changes.next_expiry() == 200
    assert changes.expire(199.0) == []
    assert changes.due(9.0) == []


def test_what_expires_is_told_and_may_come_again() -> None:
    changes = feed()
    changes.on_record(header(1, expires=100), b"a", now=0.0)
    changes.on_record(header(2, slot=b"x", expires=300), b"a", now=0.0)
    changes.due(1.0)
    assert changes.expire(100.0) == [Change(ChangeKind.EXPIRED, ALICE, b"", None, 1, 100)]
    assert changes.expire(100.0) == []
    assert changes.next_expiry() == 300
    assert changes.on_record(header(1, expires=400), b"a", now=2.0)
    assert seqs(changes.due(3.0)) == [1]


def test_a_withdrawal_is_a_change_and_its_own_end_is_none() -> None:
    changes = feed()
    changes.on_record(header(1), b"a", now=0.0)
    changes.on_record(header(2, flags=TOMBSTONE, expires=2000), b"", now=0.0)
    told = changes.due(1.0)
    assert [(change.kind, change.value) for change in told] == [
        (ChangeKind.SET, b"a"),
        (ChangeKind.WITHDRAWN, None),
    ]
    assert changes.expire(3000.0) == []
    assert changes.next_expiry() is None


def test_the_end_of_what_nobody_was_told_of_is_not_told() -> None:
    changes = feed()
    assert not changes.on_record(header(2, flags=TOMBSTONE), b"", now=0.0)
    assert changes.due(9.0) == []
    assert not changes.on_record(header(1), b"a", now=0.0)


def test_a_value_that_has_no_room_is_missed_and_taken_when_there_is() -> None:
    changes = feed(bytes_max=8)
    for seq in (1, 2, 3):
        changes.on_record(header(seq, slot=b"%d" % seq), b"1234", now=0.0)
    assert (changes.has_missed, changes.is_crowded) == (True, False)
    assert seqs(changes.due(1.0)) == [1, 2]
    changes.has_missed = False
    assert changes.on_record(header(3, slot=b"3"), b"1234", now=2.0)
    assert not changes.has_missed
    assert seqs(changes.due(3.0)) == [3]


def test_an_entry_that_has_no_place_is_left_out_until_another_one_has_expired() -> None:
    changes = feed(entries_max=2)
    for seq in (1, 2):
        changes.on_record(header(seq, slot=b"%d" % seq, expires=50 * seq), b"a", now=0.0)
    assert (changes.has_missed, changes.is_crowded) == (False, False)
    assert not changes.wants(header(3, slot=b"3"))
    assert (changes.has_missed, changes.is_crowded) == (False, True)
    assert changes.on_record(header(4, slot=b"2", expires=100), b"a", now=0.0)
    assert seqs(changes.due(1.0)) == [1, 2, 4]
    changes.expire(60.0)
    changes.is_crowded = False
    assert changes.on_record(header(3, slot=b"3"), b"a", now=2.0)
    assert not changes.is_crowded


def test_one_author_leaves_places_to_others() -> None:
    changes = feed(entries_max=8)
    for seq in range(1, 9):
        changes.on_record(header(seq, slot=b"%d" % seq, expires=50), b"a", now=0.0)
    assert len(changes.due(1.0)) == 6
    assert changes.is_crowded
    taken = [
        changes.on_record(header(seq, author=BOB, slot=b"%d" % seq), b"b", now=1.0)
        for seq in range(1, 4)
    ]
    assert taken == [True, True, False]
    changes.expire(60.0)
    assert changes.on_record(header(9, slot=b"9"), b"a", now=2.0)


def test_one_value_larger_than_all_room_is_told_all_the_same() -> None:
    changes = feed(bytes_max=3)
    assert changes.on_record(header(1), b"12345", now=0.0)
    assert seqs(changes.due(1.0)) == [1]


def test_the_digest_is_that_of_a_holder_of_the_same() -> None:
    changes = feed()
    assert changes.versions(0.0) == NOTHING
    first, second = header(1, slot=b"b"), header(2, author=BOB, slot=b"a", flags=TOMBSTONE)
    changes.on_record(second, b"", now=0.0)
    changes.on_record(first, b"a", now=0.0)
    held = Versions()
    held.add(first)
    held.add(replace(second, expires=9))  # of no matter
    assert changes.versions(0.0) == held.digest()


def test_what_has_expired_is_not_in_the_digest() -> None:
    changes = feed()
    first, second = header(1, slot=b"a", expires=100), header(2, slot=b"b", expires=200)
    for one in (first, second):
        changes.on_record(one, b"a", now=0.0)
    held = Versions()
    held.add(second)
    assert changes.versions(99.0) != held.digest()
    assert changes.versions(100.0) == held.digest()
    assert changes.versions(200.0) == NOTHING


def test_an_entry_that_is_written_over_and_over_takes_no_more_room() -> None:
    changes = feed()
    changes.on_record(header(1, slot=b"other"), b"a", now=0.0)
    tracemalloc.start()
    try:
        for seq in range(1, 20_000):
            changes.on_record(header(seq, expires=1000 + seq), b"a", now=float(seq))
            changes.due(seq + 1.0)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 100_000
    assert changes.next_expiry() == 1000
    assert [one.slot for one in changes.expire(1000.0)] == [b"other"]
    assert changes.next_expiry() == 1000 + 19_999


spots = st.tuples(st.sampled_from([ALICE, BOB]), st.sampled_from([b"x", b"y", b"z"]))
events = st.lists(st.tuples(spots, st.integers(1, 9)), max_size=30)


@given(events, st.integers(1, 5))
def test_whatever_is_heard_the_last_version_of_each_entry_is_told_last(
    heard: list[tuple[tuple[bytes, bytes], int]], every: int
) -> None:
    changes, told = feed(settle_s=2.5), list[Change]()
    for now, ((author, slot), seq) in enumerate(heard):
        changes.on_record(header(seq, author=author, slot=slot), b"v", now=float(now))
        if now % every == 0:
            told += changes.due(float(now))
    told += changes.due(1e9)
    for spot in {spot for spot, _ in heard}:
        versions = [one.seq for one in told if (one.author, one.slot) == spot]
        assert versions == sorted(set(versions))
        assert versions[-1] == max(seq for other, seq in heard if other == spot)
