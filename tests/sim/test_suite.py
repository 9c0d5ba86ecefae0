from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.errors import ForgedPacket
from kademlia_node.sim import NullSuite

SUITE = NullSuite()


@given(seed=st.binary(min_size=32, max_size=32).filter(lambda seed: any(seed[:31])))
def test_every_seed_gives_a_key_that_is_the_seed_without_its_sign(seed: bytes) -> None:
    key = SUITE.signing_key(seed)
    assert key is not None
    assert key.public_key == key.agreement.public == seed[:31] + bytes([seed[31] & 0x7F])


def test_even_a_seed_of_zeros_gives_a_key_that_works() -> None:
    key = SUITE.signing_key(bytes(32))
    assert key is not None
    assert SUITE.to_agreement(key.public_key) == key.agreement.public == b"\x01" + bytes(31)


def test_nothing_is_secret() -> None:
    sealed = SUITE.cipher(bytes(32)).seal(0, b"in the clear", b"")
    assert sealed.startswith(b"in the clear")


@given(
    sealed=st.binary(min_size=1, max_size=40),
    flip=st.integers(min_value=1, max_value=2**32 - 1),
    at=st.integers(min_value=0, max_value=10_000),
)
def test_any_damage_of_up_to_four_bytes_is_seen(sealed: bytes, flip: int, at: int) -> None:
    cipher = SUITE.cipher(bytes(range(32)))
    packet = cipher.seal(7, sealed, b"header")
    shift = at % (8 * len(packet) - 31)
    damaged = int.from_bytes(packet, "big") ^ (flip << shift)
    with pytest.raises(ForgedPacket):
        cipher.open(7, damaged.to_bytes(len(packet), "big"), b"header")
