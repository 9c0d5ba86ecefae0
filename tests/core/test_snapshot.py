"""Snapshots: pages that carry every record, end by content, and differ where records differ."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.key import Kind
from kademlia_node.core.message import Item
from kademlia_node.core.record import Header, Record
from kademlia_node.core.snapshot import Paginator, first_header, read_page
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import INLINE_BYTES_MAX, PAGE_BYTES_MIN, VALUE_BYTES_MAX

KEY = b"k" * 32
AUTHOR = b"a" * 32
HEADER_BYTES = 150


def record(slot: bytes, value: bytes = b"here", *, author: bytes = AUTHOR) -> Record:
    header = Header(
        kind=Kind.TOPIC,
        author=author,
        slot=slot,
        seq=1,
        expires=1_700_000_000,
        length=len(value),
        value_hash=hashlib.sha256(value).digest(),
        signature=bytes(64),
    )
    return Record(KEY, header, value)


def ends_page(slot: bytes) -> bool:
    return hashlib.sha256(AUTHOR + slot).digest()[-1] < 8


def slots(count: int, *, ending: bool) -> list[bytes]:
    """The first so many 8-byte slots that do, or do not, end a page."""
    chosen: list[bytes] = []
    number = 0
    while len(chosen) < count:
        slot = b"%08d" % number
        if ends_page(slot) is ending:
            chosen.append(slot)
        number += 1
    return chosen


def pages_of(records: list[Record]) -> list[bytes]:
    paginator = Paginator()
    pages = [paginator.add(each) for each in records]
    pages.append(paginator.finish())
    return [page for page in pages if page is not None]


def items_of(pages: list[bytes]) -> list[Item]:
    return [item for page in pages for item in read_page(page)]


def topic(count: int, *, without: int | None = None) -> list[Record]:
    return [record(b"%06d" % number) for number in range(count) if number != without]


# --- There and back -------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.binary(max_size=64), st.integers(0, INLINE_BYTES_MAX + 200)
        ),
        max_size=60,
        unique_by=lambda each: each[:2],
    )
)
def test_pages_give_back_every_record_in_order(drawn: list[tuple[int, bytes, int]]) -> None:
    records = [
        record(slot, bytes(length), author=bytes([author]) * 32)
        for author, slot, length in sorted(drawn)
    ]
    assert items_of(pages_of(records)) == [
        Item(each.header, each.value if len(each.value) <= INLINE_BYTES_MAX else None)
        for each in records
    ]


def test_no_records_make_no_page() -> None:
    assert pages_of([]) == []
    assert read_page(b"") == []


def test_a_value_is_in_the_page_up_to_the_inline_limit() -> None:
    longest, longer = bytes(INLINE_BYTES_MAX), bytes(INLINE_BYTES_MAX + 1)
    [page] = pages_of([record(b"a", longest), record(b"b", longer)])
    assert [item.value for item in read_page(page)] == [longest, None]


def test_the_first_header_of_a_page_is_that_of_its_first_record() -> None:
    pages = pages_of(topic(500))
    assert [first_header(page) for page in pages] == [read_page(page)[0].header for page in pages]


def test_an_item_is_two_lengths_a_header_and_a_value() -> None:
    short, left_out = record(b"a", b"hi"), record(b"b", bytes(700))
    [page] = pages_of([short, left_out])
    assert page == (
        b"\x97"
        + short.header.pack()
        + b"\x00\x02hi"
        + b"\x97"
        + left_out.header.pack()
        + b"\xff\xff"
    )


def test_a_blob_has_a_page_too() -> None:
    blob = Record(KEY, Header(kind=Kind.BLOB, expires=9, length=1, value_hash=bytes(32)), b"v")
    assert items_of(pages_of([blob])) == [Item(blob.header, b"v")]


# --- Where pages end ------------------------------------------------------------------------------


def test_a_page_ends_with_the_chosen_record_once_it_is_long_enough() -> None:
    ordinary, [chosen] = slots(100, ending=False), slots(1, ending=True)
    value = bytes(512 - 1 - HEADER_BYTES - 8 - 2)  # so that 16 items are exactly PAGE_BYTES_MIN
    enough = PAGE_BYTES_MIN // 512  # the chosen one included

    def finished(before: int) -> bytes | None:
        paginator = Paginator()
        for slot in ordinary[:before]:
            assert paginator.add(record(slot, value, author=bytes(32))) is None
        return paginator.add(record(chosen, value))

    page = finished(enough - 1)
    assert page is not None
    assert len(read_page(page)) == enough
    assert finished(enough - 2) is None


def test_without_a_chosen_record_a_page_ends_before_it_would_be_too_long() -> None:
    # 512 bytes each, so that 128 of them are exactly VALUE_BYTES_MAX
    value = bytes(512 - 1 - HEADER_BYTES - 8 - 2)
    pages = pages_of([record(slot, value) for slot in slots(200, ending=False)])
    assert [len(page) for page in pages] == [VALUE_BYTES_MAX, 72 * 512]


def test_where_a_page_ends_does_not_depend_on_versions() -> None:
    def ends(records: list[Record]) -> list[bytes]:
        return [read_page(page)[-1].header.slot for page in pages_of(records)]

    records = topic(500)
    renewed = [
        Record(KEY, replace(each.header, seq=2, expires=2_000_000_000), each.value)
        for each in records
    ]
    assert ends(records) == ends(renewed)


@pytest.mark.parametrize("missing", [0, 1, 700, 1234, 1999])
def test_holders_that_differ_in_one_entry_share_nearly_all_pages(missing: int) -> None:
    full, lacking = set(pages_of(topic(2000))), set(pages_of(topic(2000, without=missing)))
    assert len(full) > 15
    assert len(full - lacking) <= 2
    assert len(lacking - full) <= 2


def test_records_out_of_order_are_our_own_mistake() -> None:
    paginator = Paginator()
    paginator.add(record(b"b"))
    with pytest.raises(AssertionError):
        paginator.add(record(b"a"))
    with pytest.raises(AssertionError):
        paginator.add(record(b"b"))


# --- Bad pages ------------------------------------------------------------------------------------


@given(st.data())
def test_a_page_cut_anywhere_inside_an_item_is_refused(data: st.DataObject) -> None:
    items = [record(b"a", b"x" * 20), record(b"b", b""), record(b"c", bytes(700))]
    [page] = pages_of(items)
    whole = {len(pages_of(items[:count])[0]) for count in (1, 2, 3)}
    cut = data.draw(st.integers(1, len(page) - 1).filter(lambda end: end not in whole))
    with pytest.raises(MalformedMessage):
        read_page(page[:cut])


@given(st.binary(max_size=300))
def test_any_bytes_make_items_or_one_error(page: bytes) -> None:
    try:
        read_page(page)
    except MalformedMessage:
        return
    assert page == b""


def test_a_value_beyond_the_inline_limit_is_refused_in_a_page() -> None:
    header = record(b"a", bytes(INLINE_BYTES_MAX + 1)).header.pack()
    value = bytes(INLINE_BYTES_MAX + 1)
    page = bytes([len(header)]) + header + len(value).to_bytes(2, "big") + value
    with pytest.raises(MalformedMessage):
        read_page(page)


def test_a_page_beyond_its_limit_is_refused() -> None:
    item = pages_of([record(b"", bytes(512 - 1 - HEADER_BYTES - 2))])[0]
    assert len(read_page(item * 128)) == 128
    with pytest.raises(MalformedMessage):
        read_page(item * 129)
