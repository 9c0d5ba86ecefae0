"""Fields of messages: of their type and within their limits, or malformed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.fields import (
    U8_MAX,
    U64_MAX,
    at_least,
    pack_contacts,
    read_array,
    read_bytes,
    read_contacts,
    read_id,
    read_uint,
    read_value,
)
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import CONTACTS_PER_ANSWER_MAX, INLINE_BYTES_MAX

CONTACT = Contact(b"\x01" * 32, Address("192.0.2.1", 4000))
PACKED = CONTACT.pack()


def read_two(field: Any) -> list[Any]:
    return at_least(field, 2)


def read_row(field: object) -> list[Any]:
    return read_array(field, 2)


def read_u8(field: object) -> int:
    return read_uint(field, maximum=U8_MAX)


@pytest.mark.parametrize(
    ("read", "field"),
    [
        (read_row, [1, 2]),
        (read_row, [1, 2, 3]),
        (read_two, [1, 2]),
        (read_uint, 0),
        (read_uint, U64_MAX),
        (read_u8, U8_MAX),
        (read_bytes, b""),
        (read_id, bytes(32)),
        (read_value, None),
        (read_value, b""),
        (read_value, bytes(INLINE_BYTES_MAX)),
    ],
)
def test_what_is_within_its_limits_is_taken_as_it_is(
    read: Callable[[object], object], field: object
) -> None:
    assert read(field) == field


@pytest.mark.parametrize(
    ("read", "field"),
    [
        (read_row, [1]),
        (read_row, (1, 2)),
        (read_row, b"ab"),
        (read_two, [1]),
        (read_uint, -1),
        (read_uint, U64_MAX + 1),
        (read_uint, True),
        (read_uint, 1.0),
        (read_u8, U8_MAX + 1),
        (read_bytes, "text"),
        (read_bytes, None),
        (read_id, bytes(31)),
        (read_id, bytes(33)),
        (read_id, "i" * 32),
        (read_value, bytes(INLINE_BYTES_MAX + 1)),
        (read_value, False),
        (read_contacts, None),
        (read_contacts, [None]),
        (read_contacts, [PACKED[:-1]]),
        (read_contacts, [PACKED] * (CONTACTS_PER_ANSWER_MAX + 1)),
    ],
)
def test_whatever_else_is_malformed(read: Callable[[object], object], field: object) -> None:
    with pytest.raises(MalformedMessage):
        read(field)


def test_fields_of_later_versions_are_left_out() -> None:
    assert read_two([1, 2, 3]) == [1, 2]


@pytest.mark.parametrize("count", [0, 1, CONTACTS_PER_ANSWER_MAX])
def test_contacts_survive_packing(count: int) -> None:
    assert read_contacts(pack_contacts([CONTACT] * count)) == (CONTACT,) * count
