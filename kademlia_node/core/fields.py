"""Fields of messages, read one by one: each is of its type and within its limits, or malformed.

Which fields a message has is `codec`'s to know. Everything here raises MalformedMessage and nothing
else, whatever it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kademlia_node.core.contact import Contact, unpack_contact
from kademlia_node.core.ids import ID_BYTES
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import CONTACTS_PER_ANSWER_MAX, INLINE_BYTES_MAX

U8_MAX = 2**8 - 1
U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1


def read_array(field: object, length_min: int) -> list[Any]:
    """An array of at least so many fields."""
    if type(field) is not list or len(field) < length_min:
        raise MalformedMessage("an array was expected")
    return field


def at_least(body: list[Any], count: int) -> list[Any]:
    """The first `count` fields of an array; further ones are of later versions."""
    if len(body) < count:
        raise MalformedMessage("fields are missing")
    return body[:count]


def read_bool(field: object) -> bool:
    """True or false; no integer."""
    if type(field) is not bool:
        raise MalformedMessage("a boolean was expected")
    return field


def read_uint(field: object, *, maximum: int = U64_MAX) -> int:
    """An integer from 0 to `maximum`."""
    if type(field) is not int or not 0 <= field <= maximum:  # bool is an int
        raise MalformedMessage("an unsigned integer was expected")
    return field


def read_bytes(field: object) -> bytes:
    """A byte string of any length."""
    if type(field) is not bytes:
        raise MalformedMessage("bytes were expected")
    return field


def read_id(field: object) -> bytes:
    """A node ID, a key or a SHA-256: 32 bytes."""
    if type(field) is not bytes or len(field) != ID_BYTES:
        raise MalformedMessage("32 bytes were expected")
    return field


def read_value(field: object) -> bytes | None:
    """A value that travels inline, or None where it does not."""
    if field is None:
        return None
    if type(field) is not bytes or len(field) > INLINE_BYTES_MAX:
        raise MalformedMessage("a value of at most 640 bytes was expected")
    return field


def pack_contacts(contacts: Sequence[Contact]) -> list[bytes]:
    """What `read_contacts` reads."""
    return [contact.pack() for contact in contacts]


def read_contacts(field: object) -> tuple[Contact, ...]:
    """An array of packed contacts, no more than an answer may name."""
    packed = read_array(field, 0)
    if len(packed) > CONTACTS_PER_ANSWER_MAX:
        raise MalformedMessage("too many contacts")
    return tuple(map(unpack_contact, map(read_bytes, packed)))
