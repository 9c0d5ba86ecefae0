"""What is announced of a file: packed, parsed, and nothing else believed."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.file_index.entry import (
    BYTES_MAX,
    WORDS_MAX,
    Entry,
    parse,
    shown_path,
    shown_title,
)
from examples.file_index.titles import KINDS
from kademlia_node import Key, Kind

KEY = Key(Kind.BLOB, b"k" * 32)
FIELDS: list[Any] = [1, KEY.digest, "papers/a.pdf", 7, "document", "A Title", 1_700_000_000]

paths = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=()), min_size=1)
entries = st.builds(
    Entry,
    st.just(KEY),
    path=paths.map(
        lambda text: shown_path(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    ),
    size=st.integers(1, 2**40 - 1),
    kind=st.sampled_from(KINDS),
    title=st.text().map(shown_title),
    changed_at=st.integers(0, 2**40 - 1),
)


@given(entries)
def test_what_is_packed_is_parsed(entry: Entry) -> None:
    packed = entry.pack()
    assert len(packed) <= BYTES_MAX
    assert parse(packed) == entry
    assert len(entry.words) <= WORDS_MAX


@given(st.binary(max_size=700))
def test_bytes_of_any_kind_are_an_entry_or_a_value_error(packed: bytes) -> None:
    try:
        entry = parse(packed)
    except ValueError:
        return
    assert parse(entry.pack()) == entry


@given(st.data())
def test_an_entry_with_a_byte_changed_is_an_entry_or_a_value_error(data: st.DataObject) -> None:
    packed = bytearray(msgpack.packb(FIELDS))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse(bytes(packed))
    except ValueError:
        return


@pytest.mark.parametrize(
    ("number", "field"),
    [
        (0, 2),
        (0, True),
        (1, b"k" * 31),
        (1, "k" * 32),
        (2, ""),
        (2, b"path"),
        (2, "x" * 401),
        (3, 0),
        (3, -1),
        (3, 2**40),
        (3, True),
        (3, 1.0),
        (4, "malware"),
        (5, "x" * 121),
        (5, None),
        (6, -1),
        (6, 2**40),
    ],
)
def test_a_field_that_is_none_is_refused(number: int, field: Any) -> None:
    assert parse(msgpack.packb(FIELDS)).size == 7
    with pytest.raises(ValueError, match=r"no|too"):
        parse(msgpack.packb([*FIELDS[:number], field, *FIELDS[number + 1 :]]))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        msgpack.packb(FIELDS[:-1]),
        msgpack.packb([*FIELDS, 0]),
        msgpack.packb(dict(enumerate(FIELDS))),
        msgpack.packb(FIELDS) + b"\0",
        b"\x91" * 600,
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_what_is_no_entry_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="no"):
        parse(packed)


def test_a_name_that_is_no_utf_8_is_sent_escaped() -> None:
    name = b"caf\xe9.txt".decode("utf-8", "surrogateescape")
    assert shown_path(f"music/{name}") == "music/caf\\xe9.txt"


def test_of_a_long_path_the_end_is_sent() -> None:
    shown = shown_path("ü" * 1000 + "/the end.txt")
    assert shown.endswith("ü/the end.txt")
    assert len(shown.encode()) <= 400


def test_a_file_is_found_by_its_name_before_its_folders() -> None:
    entry = Entry(KEY, "/".join(f"f{n}" for n in range(50)) + "/name.pdf", 7, "document", "T", 0)
    assert entry.words[:4] == ["name", "pdf", "t", "document"]
    assert len(entry.words) == WORDS_MAX
