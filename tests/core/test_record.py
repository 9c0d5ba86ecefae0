from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kademlia_node.core.key import Kind, blob_key, entry_key, topic_key
from kademlia_node.core.message import Item
from kademlia_node.core.record import (
    TOMBSTONE,
    Header,
    Reason,
    Record,
    Verdict,
    check_header,
    check_value,
    clamp_blob,
    equivocates,
    make_blob,
    make_entry,
    make_tombstone,
    make_topic_entry,
    merge,
    next_seq,
    supersedes,
    unpack_header,
)
from kademlia_node.core.suite import STANDARD, SigningKey
from kademlia_node.errors import BadRecord, MalformedMessage
from kademlia_node.settings import EXPIRY_DEFAULT_S, EXPIRY_MAX_S

WALL = 1_700_000_000
NETWORK = b"n" * 32
TOPIC = topic_key(b"papers").digest


def signing_key(number: int) -> SigningKey:
    """The `number`-th key whose public half is canonical."""
    keys = (STANDARD.signing_key(bytes([seed]) * 32) for seed in range(256))
    return [key for key in keys if key is not None][number]


ALICE, BOB = signing_key(0), signing_key(1)


def entry(
    value: bytes = b"blue", *, seq: int = 1, ttl: int = 3600, author: SigningKey = ALICE
) -> Record:
    return make_entry(
        author, b"colour", value=value, seq=seq, expires=WALL + ttl, network_tag=NETWORK
    )


def tombstone(*, seq: int = 2, ttl: int = 3600) -> Record:
    return make_tombstone(
        ALICE,
        entry().key,
        kind=Kind.ENTRY,
        slot=b"colour",
        seq=seq,
        expires=WALL + ttl,
        network_tag=NETWORK,
    )


def topic_entry(
    author: SigningKey, slot: bytes = b"", *, seq: int = 1, key: bytes = TOPIC
) -> Record:
    return make_topic_entry(
        author,
        key,
        slot=slot,
        value=b"here",
        seq=seq,
        expires=WALL + 3600,
        network_tag=NETWORK,
    )


def check(record: Record, *, wall: float = WALL, network_tag: bytes = NETWORK) -> None:
    check_header(
        record.key,
        record.header,
        wall=wall,
        network_tag=network_tag,
        length_max=640,
        verify=STANDARD.verify,
    )
    check_value(record.key, record.header, value=record.value)


def refused(record: Record, *, wall: float = WALL, network_tag: bytes = NETWORK) -> Reason:
    with pytest.raises(BadRecord) as caught:
        check(record, wall=wall, network_tag=network_tag)
    return caught.value.reason


# --- The packed form ------------------------------------------------------------------------------

CANONICAL = st.binary(min_size=32, max_size=32).map(lambda key: key[:31] + bytes([key[31] & 0x7F]))
U64 = st.integers(0, 2**64 - 1)
HEADERS = st.builds(
    Header,
    kind=st.sampled_from([Kind.ENTRY, Kind.TOPIC]),
    flags=st.sampled_from([0, TOMBSTONE]),
    author=CANONICAL,
    slot=st.binary(max_size=64),
    seq=U64,
    expires=U64,
    length=st.integers(0, 2**32 - 1),
    value_hash=st.binary(min_size=32, max_size=32),
    signature=st.binary(min_size=64, max_size=64),
) | st.builds(
    Header,
    kind=st.just(Kind.BLOB),
    expires=U64,
    length=st.integers(0, 2**32 - 1),
    value_hash=st.binary(min_size=32, max_size=32),
)


@given(HEADERS)
def test_a_header_unpacks_from_what_it_packs(header: Header) -> None:
    assert unpack_header(header.pack()) == header


@given(st.binary(max_size=230) | HEADERS.map(Header.pack), st.integers(0, 3), st.integers(0, 3))
def test_any_bytes_are_malformed_or_the_one_spelling_of_a_header(
    packed: bytes, kind: int, flags: int
) -> None:
    packed = bytes([kind, flags]) + packed[2:]
    try:
        header = unpack_header(packed)
    except MalformedMessage:
        return
    assert header.pack() == packed


def test_packed_sizes_and_places_are_those_of_the_protocol() -> None:
    blob, named = make_blob(b"v", expires=WALL).header, entry().header
    assert len(blob.pack()) == 46
    assert len(named.pack()) == 150 + len(b"colour")
    expires, length = WALL + 3600, 4
    assert named.pack() == b"".join(
        [
            b"\x02\x00",
            expires.to_bytes(8, "big"),
            length.to_bytes(4, "big"),
            hashlib.sha256(b"blue").digest(),
            ALICE.public_key,
            (1).to_bytes(8, "big"),
            named.signature,
            b"colour",
        ]
    )


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        make_blob(b"v", expires=WALL).header.pack()[:-1],
        make_blob(b"v", expires=WALL).header.pack() + b"x",
        replace(entry().header, slot=b"").pack()[:-1],
        replace(entry().header, slot=b"s" * 65).pack(),
        b"\x00" + entry().header.pack()[1:],
        b"\x04" + entry().header.pack()[1:],
        b"\x02\x02" + entry().header.pack()[2:],
        replace(entry().header, author=b"\xff" * 32).pack(),
    ],
    ids=[
        "empty", "short blob", "long blob", "short entry", "long slot", "kind 0", "kind 4",
        "unknown flag", "author with a sign bit",
    ],
)  # fmt: skip
def test_what_is_no_header_is_malformed(packed: bytes) -> None:
    with pytest.raises(MalformedMessage):
        unpack_header(packed)


# --- What an author makes passes ------------------------------------------------------------------


def test_what_its_author_made_passes() -> None:
    for record in (
        make_blob(b"value", expires=WALL + 1),
        entry(),
        entry(b""),
        tombstone(),
        topic_entry(BOB, b"slot"),
    ):
        check(record)


def test_keys_follow_from_value_author_and_slot() -> None:
    assert make_blob(b"value", expires=WALL).key == blob_key(b"value").digest
    assert entry().key == entry_key(ALICE.public_key, b"colour").digest
    assert tombstone().key == entry().key
    assert topic_entry(ALICE).key == TOPIC


def test_the_signature_covers_a_string_of_fixed_length() -> None:
    record = topic_entry(ALICE, b"slot", seq=7)
    signed = b"".join(
        [
            b"kad1-record",
            NETWORK,
            TOPIC,
            b"\x03\x00",
            hashlib.sha256(b"slot").digest(),
            (7).to_bytes(8, "big"),
            (WALL + 3600).to_bytes(8, "big"),
            (4).to_bytes(4, "big"),
            hashlib.sha256(b"here").digest(),
        ]
    )
    assert STANDARD.verify(ALICE.public_key, record.header.signature, signed)


def test_a_tombstone_is_an_empty_value_with_a_flag() -> None:
    assert tombstone().header.is_tombstone
    assert tombstone().value == b""
    assert not entry(b"").header.is_tombstone


@pytest.mark.parametrize("slot", [b"", b"s" * 64])
def test_slots_of_0_to_64_bytes_can_be_made(slot: bytes) -> None:
    check(topic_entry(ALICE, slot))


def test_makers_assert_what_only_we_can_get_wrong() -> None:
    with pytest.raises(AssertionError):
        topic_entry(ALICE, b"s" * 65)
    with pytest.raises(AssertionError):
        make_tombstone(
            ALICE, TOPIC, kind=Kind.BLOB, slot=b"", seq=1, expires=WALL, network_tag=NETWORK
        )


def test_the_next_seq_is_the_clock_or_one_more_than_the_last() -> None:
    assert next_seq(None, 1.5) == 1_500_000
    assert next_seq(7, 1.5) == 1_500_000
    assert next_seq(1_500_000, 1.5) == 1_500_001
    assert next_seq(9_000_000, 1.5) == 9_000_001


# --- Judging --------------------------------------------------------------------------------------

ALTERED: dict[str, Callable[[Record], Record]] = {
    "slot": lambda r: replace(r, header=replace(r.header, slot=b"other")),
    "author": lambda r: replace(r, header=replace(r.header, author=BOB.public_key)),
    "seq": lambda r: replace(r, header=replace(r.header, seq=2)),
    "expires": lambda r: replace(r, header=replace(r.header, expires=r.header.expires + 1)),
    "length": lambda r: replace(r, header=replace(r.header, length=5)),
    "value hash": lambda r: replace(r, header=replace(r.header, value_hash=b"h" * 32)),
    "key": lambda r: replace(r, key=topic_key(b"other").digest),
    "signature": lambda r: replace(r, header=replace(r.header, signature=b"s" * 64)),
}


@pytest.mark.parametrize("part", ALTERED)
def test_no_signed_part_can_be_altered(part: str) -> None:
    assert refused(ALTERED[part](topic_entry(ALICE, b"slot"))) == Reason.BAD_SIGNATURE


def test_a_topic_entry_cannot_be_turned_into_a_deletion() -> None:
    header = topic_entry(ALICE).header
    deleting = replace(header, flags=TOMBSTONE, length=0, value_hash=hashlib.sha256(b"").digest())
    assert refused(Record(TOPIC, deleting, b"")) == Reason.BAD_SIGNATURE


def test_a_signature_of_one_network_means_nothing_in_another() -> None:
    assert refused(entry(), network_tag=b"m" * 32) == Reason.BAD_SIGNATURE


def test_an_entry_stands_only_under_the_key_of_its_author_and_slot() -> None:
    record = entry()
    assert refused(replace(record, key=TOPIC)) == Reason.WRONG_KEY
    stolen = replace(record.header, author=BOB.public_key)
    assert refused(replace(record, header=stolen)) == Reason.WRONG_KEY


def test_a_record_does_not_exist_from_its_expiry_on() -> None:
    record = entry(ttl=10)
    check(record, wall=WALL + 9.9)
    assert refused(record, wall=WALL + 10) == Reason.EXPIRED
    assert refused(make_blob(b"v", expires=WALL)) == Reason.EXPIRED


def test_no_author_binds_storers_for_longer_than_the_maximum() -> None:
    check(entry(ttl=EXPIRY_MAX_S))
    assert refused(entry(ttl=EXPIRY_MAX_S + 1)) == Reason.TOO_LONG_LIVED


def test_the_highest_seq_cannot_be_burnt() -> None:
    horizon_us = (WALL + EXPIRY_MAX_S) * 1_000_000
    check(entry(seq=horizon_us))
    assert refused(entry(seq=horizon_us + 1)) == Reason.FUTURE_SEQ
    assert refused(entry(seq=2**64 - 1)) == Reason.FUTURE_SEQ


def test_a_value_larger_than_the_network_carries_is_refused_unseen() -> None:
    check(entry(b"v" * 640))
    assert refused(entry(b"v" * 641)) == Reason.TOO_LARGE
    assert refused(make_blob(b"v" * 641, expires=WALL + 1)) == Reason.TOO_LARGE


def test_a_deletion_with_a_value_and_a_deleted_blob_are_contradictions() -> None:
    blob, dead = make_blob(b"", expires=WALL + 1), tombstone()
    for record in (
        replace(blob, header=replace(blob.header, flags=TOMBSTONE)),
        replace(dead, header=replace(dead.header, length=1)),
        replace(dead, header=replace(dead.header, value_hash=b"h" * 32)),
    ):
        assert refused(record) == Reason.MALFORMED


def test_the_signature_is_looked_at_last() -> None:
    def never(public_key: bytes, signature: bytes, message: bytes) -> bool:
        raise RuntimeError("verified")

    for bad in (
        entry(ttl=-1),
        entry(ttl=EXPIRY_MAX_S + 1),
        entry(seq=2**64 - 1),
        entry(b"v" * 641),
        replace(entry(), key=TOPIC),
    ):
        with pytest.raises(BadRecord):
            check_header(
                bad.key,
                bad.header,
                wall=WALL,
                network_tag=NETWORK,
                length_max=640,
                verify=never,
            )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"grey", Reason.WRONG_VALUE),
        (b"", Reason.WRONG_LENGTH),
        (b"blu", Reason.WRONG_LENGTH),
        (b"blue!", Reason.WRONG_LENGTH),
    ],
)
def test_another_value_than_the_header_tells_is_refused(value: bytes, reason: Reason) -> None:
    assert refused(replace(entry(b"blue"), value=value)) is reason
    blob = make_blob(b"blue", expires=WALL + 1)
    assert refused(replace(blob, value=value)) is reason


def test_every_reason_has_its_number_on_the_wire_and_its_own_sentence() -> None:
    assert [(reason.value, reason.name) for reason in Reason] == [
        (1, "MALFORMED"),
        (2, "TOO_LARGE"),
        (3, "EXPIRED"),
        (4, "TOO_LONG_LIVED"),
        (5, "FUTURE_SEQ"),
        (6, "WRONG_KEY"),
        (7, "BAD_SIGNATURE"),
        (8, "WRONG_VALUE"),
        (9, "WRONG_LENGTH"),
        (10, "SHORTENED"),
    ]
    assert all(Reason(reason.value) is reason for reason in Reason)
    assert len({reason.sentence for reason in Reason}) == len(Reason)
    assert str(BadRecord(Reason.FUTURE_SEQ)) == "its sequence number lies in the far future"


def test_a_blob_stands_only_under_the_key_of_its_value() -> None:
    blob = make_blob(b"blue", expires=WALL + 1)
    assert refused(replace(blob, key=blob_key(b"red").digest)) == Reason.WRONG_VALUE


def test_a_storer_keeps_a_blob_for_at_most_48_hours() -> None:
    soon, late = WALL + EXPIRY_DEFAULT_S, WALL + EXPIRY_DEFAULT_S + 1
    assert clamp_blob(make_blob(b"v", expires=WALL + 5).header, WALL + 0.5).expires == WALL + 5
    assert clamp_blob(make_blob(b"v", expires=soon).header, WALL + 0.5).expires == soon
    assert clamp_blob(make_blob(b"v", expires=late).header, WALL + 0.5).expires == soon
    assert clamp_blob(make_blob(b"v", expires=2**64 - 1).header, WALL).expires == soon
    with pytest.raises(AssertionError):
        clamp_blob(entry().header, WALL)


# --- Conflicts ------------------------------------------------------------------------------------


def test_a_higher_seq_is_newer_and_a_lower_one_older() -> None:
    first, second = entry(b"blue", seq=1).header, entry(b"red", seq=2).header
    assert supersedes(first, None) is Verdict.NEWER
    assert supersedes(second, first) is Verdict.NEWER
    assert supersedes(first, second) is Verdict.OLDER
    assert supersedes(tombstone(seq=2).header, first) is Verdict.NEWER


def test_the_same_version_is_renewed_by_a_later_expiry_only() -> None:
    for shorter, longer in (
        (entry(ttl=10).header, entry(ttl=11).header),
        (make_blob(b"v", expires=WALL).header, make_blob(b"v", expires=WALL + 1).header),
    ):
        assert supersedes(longer, shorter) is Verdict.RENEWAL
        assert supersedes(shorter, longer) is Verdict.SAME
        assert supersedes(longer, longer) is Verdict.SAME


def test_a_successor_that_would_expire_first_is_refused() -> None:
    long_lived = entry(seq=1, ttl=100).header
    assert supersedes(entry(b"red", seq=2, ttl=99).header, long_lived) is Verdict.SHORTENED
    assert supersedes(tombstone(seq=2, ttl=99).header, long_lived) is Verdict.SHORTENED
    assert supersedes(tombstone(seq=2, ttl=100).header, long_lived) is Verdict.NEWER
    assert supersedes(entry(seq=0, ttl=99).header, long_lived) is Verdict.OLDER


@pytest.mark.parametrize(("ttl", "other_ttl"), [(10, 20), (20, 10)])
def test_two_values_of_one_seq_converge_on_one_whatever_their_expiries(
    ttl: int, other_ttl: int
) -> None:
    a, b = entry(b"blue", ttl=ttl).header, entry(b"red", ttl=other_ttl).header
    assert {supersedes(a, b), supersedes(b, a)} == {Verdict.NEWER, Verdict.OLDER}


def test_one_seq_for_two_contents_is_equivocation() -> None:
    assert equivocates(entry(b"blue").header, entry(b"red").header)
    assert equivocates(entry(b"").header, tombstone(seq=1).header)
    assert not equivocates(entry(b"blue", seq=1).header, entry(b"red", seq=2).header)
    assert not equivocates(entry(ttl=10).header, entry(ttl=20).header)


def test_a_lie_about_the_length_is_another_version() -> None:
    honest = entry(b"blue").header
    lying = replace(honest, length=5, expires=honest.expires + 1)
    assert supersedes(lying, honest) is Verdict.NEWER


VERSIONS = st.builds(
    entry,
    st.sampled_from([b"blue", b"red"]),
    seq=st.integers(1, 3),
    ttl=st.integers(1, 3),
)


@given(VERSIONS, VERSIONS)
def test_of_two_headers_one_wins_on_both_sides(a: Record, b: Record) -> None:
    losing = {Verdict.OLDER, Verdict.SAME}
    assume(a.header != b.header)
    assert (supersedes(a.header, b.header) in losing) != (supersedes(b.header, a.header) in losing)


@given(st.lists(VERSIONS, min_size=1, max_size=6))
def test_merging_does_not_depend_on_the_order_of_answers(records: list[Record]) -> None:
    assert merge(records) == merge(records[::-1])
    (winner,) = merge(records)
    losing = {Verdict.OLDER, Verdict.SAME}
    assert all(supersedes(record.header, winner.header) in losing for record in records)


def test_entries_of_a_topic_are_merged_each_by_author_and_slot() -> None:
    old, new = topic_entry(ALICE, b"a", seq=1), topic_entry(ALICE, b"a", seq=2)
    beside, other = topic_entry(ALICE, b"b"), topic_entry(BOB, b"a")
    expected = sorted(
        [new, beside, other], key=lambda record: (record.header.author, record.header.slot)
    )
    assert merge([old, other, new, beside, old]) == expected


def test_copies_of_a_blob_merge_to_the_later_expiry() -> None:
    soon, late = make_blob(b"v", expires=WALL + 1), make_blob(b"v", expires=WALL + 2)
    assert merge([late, soon]) == [late]


def test_topic_entries_signed_under_a_proven_key_are_left_out() -> None:
    blob = make_blob(b"v", expires=WALL + 1)
    assert merge([topic_entry(BOB, key=blob.key), blob]) == [blob]
    named = entry()
    assert merge([named, topic_entry(BOB, key=named.key)]) == [named]


def test_items_merge_before_their_values_are_here() -> None:
    old, new = entry(b"blue", seq=1), entry(b"red", seq=2)
    items = [Item(new.header, None), Item(old.header, old.value)]
    assert merge(items) == [Item(new.header, None)]


def test_nothing_merges_to_nothing() -> None:
    assert merge([]) == []
