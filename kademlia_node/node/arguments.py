"""What a program may pass to a node: checked at the door, refused with a word on what to do."""

from __future__ import annotations

from kademlia_node.core.contact import KEY_BYTES
from kademlia_node.core.key import Key, topic_key
from kademlia_node.errors import ValueTooLarge
from kademlia_node.settings import INLINE_BYTES_MAX, SLOT_BYTES_MAX


def checked_value(value: object) -> bytes:
    """The bytes of a value; raises TypeError or ValueTooLarge."""
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    if not isinstance(value, bytes):
        hint = ": encode it first, as in value.encode()" if isinstance(value, str) else ""
        raise TypeError(f"a value is bytes, not {type(value).__name__}{hint}")
    if len(value) > INLINE_BYTES_MAX:
        raise ValueTooLarge(f"a value of {len(value)} bytes; at most {INLINE_BYTES_MAX} are stored")
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
    """The public key of an author; raises TypeError or ValueError."""
    if not isinstance(author, bytes):
        raise TypeError(f"an author is a public key of bytes, not {type(author).__name__}")
    if len(author) != KEY_BYTES:
        raise ValueError(f"an author is a public key of {KEY_BYTES} bytes, not {len(author)}")
    return author
