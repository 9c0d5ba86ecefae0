"""The name of what is stored: a kind, and a 32-byte digest that shares the space of node IDs.

A blob's key proves its value and an entry's key proves its author and slot, because they are hashes
of them; a topic's key proves nothing about who may write there. What is stored under a key, and
whether it may be, is `record`.

Driven by three functions, one per kind, and by `Key.parse` for what a user typed.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from enum import IntEnum

from kademlia_node.core.ids import ID_BYTES

Spot = tuple[bytes, bytes]
"""Where an entry is among those under one key: (author, slot)."""

_CHECKSUM_BYTES = 3  # 32 + 3 bytes are 56 letters of base32 with no bit left over


class Kind(IntEnum):
    """What a key names. The number is the first byte that is hashed into the key."""

    BLOB = 1  # immutable: whatever hashes to the key
    ENTRY = 2  # one author's, under a name of its own choice
    TOPIC = 3  # everybody's: one entry per author and slot


_KINDS = {kind.name.lower(): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Key:
    """A kind and its 32-byte digest. `str(key)` is what users see and `Key.parse` reads."""

    kind: Kind
    digest: bytes

    def __post_init__(self) -> None:
        assert len(self.digest) == ID_BYTES

    def __str__(self) -> str:
        """The kind, a dash, then digest and checksum in lowercase base32 (RFC 4648)."""
        body = base64.b32encode(self.digest + self._checksum()).decode().lower()
        return f"{self.kind.name.lower()}-{body}"

    def _checksum(self) -> bytes:
        """Catches all but one mistyped key in 16 million, a wrong kind included."""
        return hashlib.sha256(b"kad1-key" + bytes([self.kind]) + self.digest).digest()[
            :_CHECKSUM_BYTES
        ]

    @classmethod
    def parse(cls, text: str) -> Key:
        """The key that prints as exactly this text: every key has one spelling.

        Raises:
            ValueError: no kind in front, not base32 of the right length, or mistyped.
        """
        kind_name, _, body = text.partition("-")
        if kind_name not in _KINDS:
            raise ValueError(f"{text!r} is no key: a key starts with blob-, entry- or topic-")
        try:
            decoded = base64.b32decode(body, casefold=True)
        except ValueError:
            decoded = b""
        if len(decoded) != ID_BYTES + _CHECKSUM_BYTES:
            raise ValueError(f"{text!r} is no key: 56 letters a-z and digits 2-7 follow the kind")
        key = cls(_KINDS[kind_name], decoded[:ID_BYTES])
        if str(key) != text:
            raise ValueError(
                f"{text!r} is mistyped: its checksum, or the case of a letter, is wrong"
            )
        return key


def _hashed(kind: Kind, content: bytes) -> Key:
    return Key(kind, hashlib.sha256(bytes([kind]) + content).digest())


def blob_key(value: bytes) -> Key:
    """The key of an immutable value: SHA-256(01 ‖ value)."""
    return _hashed(Kind.BLOB, value)


def entry_key(author: bytes, slot: bytes) -> Key:
    """The key of an author's named entry: SHA-256(02 ‖ author ‖ slot), `author` a 32-byte key."""
    return _hashed(Kind.ENTRY, author + slot)


def topic_key(topic: bytes) -> Key:
    """The key of a topic: SHA-256(03 ‖ topic)."""
    return _hashed(Kind.TOPIC, topic)
