"""The one-to-one map between canonical Ed25519 keys and X25519 keys, and what it refuses.

An Edwards point (x, y) corresponds to the Montgomery u = (1 + y) / (1 - y) (RFC 7748, section 4.1).
The map forgets the sign of x; a canonical key has sign bit 0, so one 32-byte key serves signing and
key agreement, and A and -A are not two identities. Not constant-time: public keys only.
"""

from __future__ import annotations

from functools import lru_cache

from kademlia_node.errors import ForgedPacket

P = 2**255 - 19
_D = -121665 * pow(121666, -1, P) % P

# u of every point whose order divides 8, on the curve and on its twist (RFC 7748, section 7).
_LOW_ORDER_U = frozenset(
    {
        0,
        1,
        P - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


@lru_cache(maxsize=8192)
def to_montgomery(public_key: bytes) -> bytes:
    """The X25519 key (32 bytes, little-endian) of a canonical Ed25519 key.

    Bytes that are no point of the curve get a u on the twist: nobody has a secret to it that our
    handshake would accept, so the answer to such a contact is silence.

    Raises:
        ForgedPacket: the sign bit is set, y is not reduced, or the point has low order.
    """
    y = int.from_bytes(public_key, "little")
    if len(public_key) != 32 or y >= P:
        raise ForgedPacket("not a canonical public key")
    u = (1 + y) * pow(1 - y, -1, P) % P if y != 1 else 0
    if u in _LOW_ORDER_U:
        raise ForgedPacket("a low-order public key")
    return u.to_bytes(32, "little")


@lru_cache(maxsize=8192)
def to_edwards(u_bytes: bytes) -> bytes:
    """The canonical Ed25519 key (sign bit 0) of an X25519 key of 32 bytes.

    Raises:
        ForgedPacket: u >= p - 1 (with the top bit one key would have two IDs), low order, or a
            point of the twist, which no Ed25519 key maps to.
    """
    u = int.from_bytes(u_bytes, "little")
    if len(u_bytes) != 32 or u >= P - 1 or u in _LOW_ORDER_U:
        raise ForgedPacket("a refused agreement key")
    y = (u - 1) * pow(u + 1, -1, P) % P
    x2 = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    if pow(x2, (P - 1) // 2, P) != 1:  # no square, so there is no x (Euler's criterion)
        raise ForgedPacket("an agreement key on the twist")
    return y.to_bytes(32, "little")
