"""Manifests: one spelling, bounded, and pieces no larger than they must be."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.manifest import Manifest, Piece, piece_bytes_for
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import (
    MANIFEST_PIECES_MAX,
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    VALUE_BYTES_MAX,
)

LONGEST = MANIFEST_PIECES_MAX * PIECE_BYTES_MAX
PIECES = st.builds(
    Piece, hash=st.binary(min_size=32, max_size=32), length=st.integers(1, PIECE_BYTES_MAX)
)


def piece(number: int, length: int = 1000) -> Piece:
    return Piece(hashlib.sha256(bytes([number])).digest(), length)


@given(st.lists(PIECES, max_size=20))
def test_a_packed_manifest_unpacks_to_itself(pieces: list[Piece]) -> None:
    manifest = Manifest(tuple(pieces))
    assert Manifest.unpack(manifest.pack()) == manifest


@given(st.binary(max_size=120) | st.binary(max_size=120).map(lambda rest: b"\x01" + rest))
def test_bytes_are_refused_or_are_the_one_spelling_of_a_manifest(packed: bytes) -> None:
    try:
        manifest = Manifest.unpack(packed)
    except MalformedMessage:
        return
    assert manifest.pack() == packed


def test_the_packed_form_is_a_version_and_36_bytes_for_each_piece() -> None:
    assert Manifest((piece(1, 258),)).pack() == b"\x01" + piece(1).hash + b"\x00\x00\x01\x02"


def test_the_hash_names_the_packed_form() -> None:
    manifest = Manifest((piece(1), piece(2)))
    assert manifest.hash == hashlib.sha256(manifest.pack()).digest()
    assert manifest.hash != Manifest((piece(2), piece(1))).hash


def test_empty_content_has_no_pieces() -> None:
    manifest = Manifest.unpack(b"\x01")
    assert manifest == Manifest(())
    assert manifest.length == 0
    assert list(manifest.offsets()) == []


def test_each_piece_begins_where_the_one_before_it_ends() -> None:
    manifest = Manifest((piece(1, 10), piece(2, 7), piece(1, 10)))
    assert list(manifest.offsets()) == [(0, piece(1, 10)), (10, piece(2, 7)), (17, piece(1, 10))]
    assert manifest.length == 27


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x00",
        b"\x02" + bytes(32) + b"\x00\x00\x00\x01",
        b"\x01" + bytes(32) + b"\x00\x00\x01",
        b"\x01" + bytes(32) + b"\x00\x00\x00\x01\x00",
        b"\x01" + bytes(32) + b"\x00\x00\x00\x00",
        b"\x01" + bytes(32) + (PIECE_BYTES_MAX + 1).to_bytes(4, "big"),
    ],
    ids=["empty", "version 0", "version 2", "short", "long", "no length", "piece too long"],
)
def test_what_is_no_manifest_is_refused(packed: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Manifest.unpack(packed)


def test_a_full_manifest_is_a_value_and_one_more_piece_is_refused() -> None:
    full = Manifest((piece(1, PIECE_BYTES_MAX),) * MANIFEST_PIECES_MAX).pack()
    assert len(full) <= VALUE_BYTES_MAX
    assert Manifest.unpack(full).length == LONGEST
    with pytest.raises(MalformedMessage):
        Manifest.unpack(full + full[1:37])


@pytest.mark.parametrize(
    ("length", "piece_bytes"),
    [
        (0, PIECE_BYTES_MIN),
        (1, PIECE_BYTES_MIN),
        (MANIFEST_PIECES_MAX * PIECE_BYTES_MIN, PIECE_BYTES_MIN),
        (MANIFEST_PIECES_MAX * PIECE_BYTES_MIN + 1, 2 * PIECE_BYTES_MIN),
        (LONGEST // 2 + 1, PIECE_BYTES_MAX),
        (LONGEST, PIECE_BYTES_MAX),
    ],
)
def test_pieces_are_as_small_as_the_manifest_allows(length: int, piece_bytes: int) -> None:
    assert piece_bytes_for(length) == piece_bytes


def test_content_beyond_every_manifest_is_refused() -> None:
    with pytest.raises(ValueError, match="more than"):
        piece_bytes_for(LONGEST + 1)
