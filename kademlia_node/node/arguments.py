"""What a program may pass to a node: checked at the door, refused with a word on what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

from kademlia_node.core.contact import KEY_BYTES
from kademlia_node.core.ids import ID_BYTES
from kademlia_node.core.invite import SCHEME, Invite, parse_invite, parse_key
from kademlia_node.core.key import Key, topic_key
from kademlia_node.errors import ValueTooLarge
from kademlia_node.settings import (
    EXPIRY_DEFAULT_S,
    SLOT_BYTES_MAX,
    VALUE_BYTES_MAX,
    Settings,
)
from kademlia_node.store.base import TTL_MIN_S

T = TypeVar("T")
COUNT_MAX = 60  # nodes that one write can reach: 3 x 20 copies
Author = bytes | Invite | str
"""A public key: its 32 bytes, the text that `id` prints, or an invite that has one."""


def checked_value(value: object) -> bytes:
    """The bytes of a value; raises TypeError or ValueTooLarge."""
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    if not isinstance(value, bytes):
        hint = ": encode it first, as in value.encode()" if isinstance(value, str) else ""
        raise TypeError(f"a value is bytes, not {type(value).__name__}{hint}")
    if len(value) > VALUE_BYTES_MAX:
        raise ValueTooLarge(f"a value of {len(value)} bytes; at most {VALUE_BYTES_MAX} are stored")
    return value


def checked_slot(name: object) -> bytes:
    """The slot that a name stands for; raises TypeError or ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"a name is text, not {type(name).__name__}")
    slot = name.encode()
    if len(slot) > SLOT_BYTES_MAX:
        raise ValueError(f"a name of {len(slot)} bytes; at most {SLOT_BYTES_MAX} are possible")
    return slot


def checked_topic(topic: object) -> Key:
    """The key of a topic; raises TypeError."""
    if not isinstance(topic, str):
        raise TypeError(f"a topic is text, not {type(topic).__name__}")
    return topic_key(topic.encode())


def checked_author(author: object) -> bytes:
    """The public key of an author, see `Author`; raises TypeError or ValueError."""
    if isinstance(author, str):
        author = parse_invite(author) if author.startswith(SCHEME) else parse_key(author)
    if isinstance(author, Invite):
        if author.public_key is None:
            raise ValueError(f"{author} does not say whose key: kad://KEY@HOST:PORT is expected")
        author = author.public_key
    if not isinstance(author, bytes):
        raise TypeError(f"an author is a public key or an invite, not {type(author).__name__}")
    if len(author) != KEY_BYTES:
        raise ValueError(f"an author is a public key of {KEY_BYTES} bytes, not {len(author)}")
    return author


def checked_seq(seq: object) -> int | None:
    """An expected seq, or None for any; raises TypeError or ValueError."""
    if seq is None:
        return None
    if not isinstance(seq, int):
        raise TypeError(f"a seq is a whole number, not {type(seq).__name__}")
    if not 0 <= seq < 1 << 64:
        raise ValueError(f"a seq is a whole number from 0 that fits in 64 bits, not {seq}")
    return seq


def checked_many(what: Iterable[T]) -> Iterable[T]:
    """Several things; raises TypeError for a single text or bytes, whose parts nobody means."""
    if isinstance(what, str | bytes | bytearray | memoryview):
        raise TypeError(f"give a list of them, not one {type(what).__name__}")
    return what


def checked_count(count: object, name: str) -> int | None:
    """How many nodes, at least 1, or None for the default; raises TypeError or ValueError."""
    if count is None:
        return None
    if not isinstance(count, int):
        raise TypeError(f"{name} is a whole number, not {type(count).__name__}")
    if not 1 <= count <= COUNT_MAX:
        raise ValueError(f"{name} is between 1 and {COUNT_MAX}, not {count}")
    return count


def checked_ttl(ttl_s: object, settings: Settings) -> int | None:
    """For how many seconds a record lives, or None for the default; raises TypeError or ValueError.

    Half of it, give or take a tenth, must leave time for the chore that renews.
    """
    if ttl_s is None:
        return None
    if not isinstance(ttl_s, int):
        raise TypeError(f"ttl_s is a whole number of seconds, not {type(ttl_s).__name__}")
    least = max(TTL_MIN_S, math.ceil(4 * settings.renew_every_s))
    if not least <= ttl_s <= EXPIRY_DEFAULT_S:
        raise ValueError(f"ttl_s is between {least} and {EXPIRY_DEFAULT_S} seconds, not {ttl_s}")
    return ttl_s


def checked_target(target: object) -> bytes | Key:
    """What to look up; raises TypeError or ValueError."""
    if isinstance(target, Key):
        return target
    if not isinstance(target, bytes):
        raise TypeError(f"a target is a key or bytes, not {type(target).__name__}")
    if len(target) != ID_BYTES:
        raise ValueError(f"a target is a key or {ID_BYTES} bytes, not {len(target)}")
    return target


def checked_bootstrap(bootstrap: Iterable[str | Invite]) -> list[Invite]:
    """Where to knock; raises TypeError or ValueError."""
    if isinstance(bootstrap, str | Invite):
        raise TypeError(f"give a list of addresses to bootstrap from, as in [{str(bootstrap)!r}]")
    return [parse_invite(hint) if isinstance(hint, str) else hint for hint in bootstrap]
