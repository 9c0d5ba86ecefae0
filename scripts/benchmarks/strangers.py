"""Contacts that nobody has heard of yet, all over the internet: what a core is filled with."""

from __future__ import annotations

import random

from kademlia_node.core.contact import KEY_BYTES, Address, Contact


def strangers(rng: random.Random, count: int) -> list[Contact]:
    """So many contacts with random keys, which nobody has, at random IPv4 addresses."""
    return [_stranger(rng) for _ in range(count)]


def _stranger(rng: random.Random) -> Contact:
    key = bytearray(rng.randbytes(KEY_BYTES))
    key[-1] &= 0x7F  # a canonical key
    host = ".".join(map(str, (rng.randrange(128, 168), *rng.randbytes(3))))  # none of them local
    return Contact(bytes(key), Address(host, rng.randrange(1, 65536)))
