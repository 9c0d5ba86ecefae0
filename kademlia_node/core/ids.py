"""Points of the 256-bit key space and the XOR metric between them (Kademlia, section 2.1).

Node IDs and record keys are 32 bytes each and share one space. Only arithmetic lives here: who owns
an ID is `identity`, what a record key stands for is `record`.
"""

from __future__ import annotations

import hashlib
import random

from kademlia_node.settings import ID_BITS

ID_BYTES = ID_BITS // 8


def point(some_id: bytes) -> int:
    """The ID as an integer, most significant byte first; XOR of two is their distance."""
    return int.from_bytes(some_id, "big")


def distance(a: bytes, b: bytes) -> int:
    """XOR distance of two IDs, 0 to 2^256 - 1."""
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def shared_bits(a: bytes, b: bytes) -> int:
    """How many leading bits two IDs share: 0 (other half of the space) to 256 (equal)."""
    return ID_BITS - distance(a, b).bit_length()


def node_id(public_key: bytes) -> bytes:
    """The node ID of a canonical public key: its SHA-256."""
    return hashlib.sha256(public_key).digest()


def solves_puzzle(some_id: bytes, *, bits: int) -> bool:
    """Whether SHA-256(ID) starts with `bits` zero bits (S/Kademlia, section 4.1, static puzzle)."""
    if bits == 0:
        return True
    return int.from_bytes(hashlib.sha256(some_id).digest(), "big") >> (ID_BITS - bits) == 0


def random_id_sharing(own: bytes, bits: int, *, rng: random.Random) -> bytes:
    """A random ID that shares exactly `bits` leading bits with `own`: one that falls in its bucket.

    Used to refresh a bucket (Kademlia, section 2.3). `bits` is 0 to 255.
    """
    assert 0 <= bits < ID_BITS
    free = ID_BITS - bits - 1
    flipped = point(own) ^ (1 << free)
    return ((flipped >> free << free) | rng.getrandbits(free or 1) % (1 << free)).to_bytes(
        ID_BYTES, "big"
    )
