"""The map between Ed25519 and X25519 keys, against libsodium and against every bad point."""

from __future__ import annotations

from random import Random

import pytest
from nacl.bindings import crypto_sign_ed25519_pk_to_curve25519, crypto_sign_seed_keypair

from kademlia_node.core.curve import P, to_edwards, to_montgomery
from kademlia_node.errors import ForgedPacket

# All u of points of small order, reduced on the curve and its twist (RFC 7748, section 7).
LOW_ORDER_U = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
]


def little(number: int) -> bytes:
    return number.to_bytes(32, "little")


def canonical_keys(count: int, *, seed: int) -> list[bytes]:
    rng = Random(seed)
    keys: list[bytes] = []
    while len(keys) < count:
        public_key = crypto_sign_seed_keypair(rng.randbytes(32))[0]
        if not public_key[31] & 0x80:
            keys.append(public_key)
    return keys


def test_a_thousand_keys_agree_with_libsodium_and_come_back() -> None:
    for key in canonical_keys(1000, seed=1):
        u = to_montgomery(key)
        assert u == crypto_sign_ed25519_pk_to_curve25519(key)
        assert to_edwards(u) == key


def test_exactly_the_u_of_the_curve_are_accepted_and_come_back() -> None:
    rng = Random(2)
    for _ in range(300):
        u = rng.randrange(2, P - 1)
        v_squared = u * (u * u + 486662 * u + 1)  # RFC 7748, section 4.1
        if pow(v_squared, (P - 1) // 2, P) == 1:
            key = to_edwards(little(u))
            assert not key[31] & 0x80
            assert to_montgomery(key) == little(u)
        else:
            with pytest.raises(ForgedPacket, match="twist"):
                to_edwards(little(u))


@pytest.mark.parametrize("u", LOW_ORDER_U)
def test_points_of_low_order_are_refused(u: int) -> None:
    with pytest.raises(ForgedPacket):
        to_edwards(little(u))


@pytest.mark.parametrize("beyond", [-1, 0, 1, 9, 18])
def test_u_that_is_not_reduced_is_refused(beyond: int) -> None:
    with pytest.raises(ForgedPacket):
        to_edwards(little(P + beyond))


def test_u_with_the_top_bit_is_refused() -> None:
    u = to_montgomery(canonical_keys(1, seed=3)[0])
    with pytest.raises(ForgedPacket):
        to_edwards(u[:31] + bytes([u[31] | 0x80]))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_of_another_length_are_refused(length: int) -> None:
    for convert in (to_edwards, to_montgomery):
        with pytest.raises(ForgedPacket):
            convert(b"\x05" + bytes(length - 1) if length else b"")


def test_a_key_with_the_sign_bit_is_refused() -> None:
    key = canonical_keys(1, seed=4)[0]
    with pytest.raises(ForgedPacket):
        to_montgomery(key[:31] + bytes([key[31] | 0x80]))


@pytest.mark.parametrize("y", [P, P + 1, P + 18])
def test_y_that_is_not_reduced_is_refused(y: int) -> None:
    with pytest.raises(ForgedPacket):
        to_montgomery(little(y))


@pytest.mark.parametrize("u", LOW_ORDER_U[:4])
def test_signing_keys_of_low_order_are_refused(u: int) -> None:
    y = (u - 1) * pow(u + 1, -1, P) % P
    with pytest.raises(ForgedPacket):
        to_montgomery(little(y))


def test_the_neutral_element_is_refused() -> None:
    with pytest.raises(ForgedPacket):
        to_montgomery(little(1))
