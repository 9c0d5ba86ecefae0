"""The XOR metric, puzzles, and IDs made to fall in a given bucket."""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.ids import (
    distance,
    node_id,
    point,
    random_id_sharing,
    shared_bits,
    solves_puzzle,
)

ids = st.binary(min_size=32, max_size=32)


def test_a_point_reads_the_most_significant_byte_first() -> None:
    assert point(bytes(31) + b"\x01") == 1
    assert point(b"\x80" + bytes(31)) == 1 << 255


@given(ids, ids, ids)
def test_distance_is_a_symmetric_metric_with_one_point_at_each_distance(
    a: bytes, b: bytes, c: bytes
) -> None:
    assert distance(a, b) == distance(b, a) == point(a) ^ point(b)
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)


@given(ids, ids)
def test_shared_bits_counts_the_common_prefix(a: bytes, b: bytes) -> None:
    in_a, in_b = f"{point(a):0256b}", f"{point(b):0256b}"
    common = next((i for i in range(256) if in_a[i] != in_b[i]), 256)
    assert shared_bits(a, b) == common


def test_shared_bits_at_its_ends() -> None:
    zero = bytes(32)
    assert shared_bits(zero, zero) == 256
    assert shared_bits(zero, b"\x80" + bytes(31)) == 0
    assert shared_bits(zero, bytes(31) + b"\x01") == 255


def test_a_node_id_is_the_sha256_of_the_key() -> None:
    assert node_id(b"key") == hashlib.sha256(b"key").digest()


@pytest.mark.parametrize("bits", [0, 1, 3, 8])
def test_one_id_in_two_to_the_bits_solves_the_puzzle(bits: int) -> None:
    rng = Random(1)
    tries = 64 << bits
    solved = sum(solves_puzzle(rng.randbytes(32), bits=bits) for _ in range(tries))
    assert solved == tries if bits == 0 else 32 < solved < 96


@given(ids, st.integers(0, 40))
def test_a_puzzle_is_solved_by_as_many_leading_zeros_of_the_hash(a: bytes, bits: int) -> None:
    digest = f"{point(hashlib.sha256(a).digest()):0256b}"
    assert solves_puzzle(a, bits=bits) == digest.startswith("0" * bits)


@given(ids, st.integers(0, 255), st.randoms(use_true_random=False))
def test_a_random_id_shares_exactly_the_bits_asked_for(own: bytes, bits: int, rng: Random) -> None:
    assert shared_bits(own, random_id_sharing(own, bits, rng=rng)) == bits


def test_random_ids_of_one_bucket_spread_over_all_of_it() -> None:
    rng, own = Random(2), bytes(32)
    made = {random_id_sharing(own, 253, rng=rng) for _ in range(200)}
    assert {point(one) for one in made} == {4, 5, 6, 7}
