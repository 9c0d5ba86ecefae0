"""A manifest: the list of pieces that make up something longer than a record holds.

Two things are described so: a file, in pieces of one size, and the snapshot of all records of a
topic, in pages that end where their content says (`snapshot`). Each piece is named by its SHA-256
and pulled from one holder at a time (`pull`, `fetch`); the manifest itself is a value like others
and has a hash of its own. Its packed form has exactly one spelling.

Not known here: who has the pieces, where they are written. `Manifest.unpack` is for bytes whose
hash was checked already; what they say is still a stranger's word, so it is bounded.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kademlia_node.core.key import Key, blob_key
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import (
    MANIFEST_PIECES_MAX,
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    VALUE_BYTES_MAX,
)

_VERSION: Final = b"\x01"
_PIECE = struct.Struct(">32sI")  # hash, length


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of content: the SHA-256 of its bytes, and how many they are."""

    hash: bytes
    length: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The pieces in order, at most MANIFEST_PIECES_MAX; empty content has none."""

    pieces: tuple[Piece, ...]

    @classmethod
    def unpack(cls, packed: bytes) -> Manifest:
        """The manifest of its packed bytes.

        Raises:
            MalformedMessage: another version or size, more than VALUE_BYTES_MAX, or a piece that
                is empty or longer than PIECE_BYTES_MAX.
        """
        if packed[:1] != _VERSION:
            raise MalformedMessage("a manifest of unknown version")
        if len(packed) > VALUE_BYTES_MAX or (len(packed) - 1) % _PIECE.size:
            raise MalformedMessage("a manifest of impossible size")
        pieces = tuple(Piece(*fields) for fields in _PIECE.iter_unpack(packed[1:]))
        if not all(0 < piece.length <= PIECE_BYTES_MAX for piece in pieces):
            raise MalformedMessage("a piece of impossible length")
        return cls(pieces)

    def pack(self) -> bytes:
        """A version byte, then 36 bytes for each piece; big-endian."""
        assert len(self.pieces) <= MANIFEST_PIECES_MAX
        packed = (_PIECE.pack(piece.hash, piece.length) for piece in self.pieces)
        return _VERSION + b"".join(packed)

    @property
    def hash(self) -> bytes:
        """SHA-256 of the packed form: the name by which the manifest is pulled."""
        return hashlib.sha256(self.pack()).digest()

    @property
    def key(self) -> Key:
        """The name of the content: that of the manifest as a blob."""
        return blob_key(self.pack())

    @property
    def length(self) -> int:
        """Bytes of the content in all."""
        return sum(piece.length for piece in self.pieces)

    def offsets(self) -> Iterator[tuple[int, Piece]]:
        """Each piece with the offset of its first byte in the content."""
        offset = 0
        for piece in self.pieces:
            yield offset, piece
            offset += piece.length


def piece_bytes_for(length: int) -> int:
    """The smallest piece, a power of two, with which content of `length` bytes fits a manifest.

    Small pieces are spread over more holders, and less is lost with each.

    Raises:
        ValueError: longer than MANIFEST_PIECES_MAX pieces of PIECE_BYTES_MAX (about 7.1 GiB).
    """
    longest = MANIFEST_PIECES_MAX * PIECE_BYTES_MAX
    if length > longest:
        raise ValueError(f"{length} bytes are more than the {longest} that a manifest describes")
    piece_bytes = PIECE_BYTES_MIN
    while piece_bytes * MANIFEST_PIECES_MAX < length:
        piece_bytes *= 2
    return piece_bytes
