from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.key import Key, Kind, blob_key, entry_key, topic_key

KEYS = st.builds(Key, st.sampled_from(Kind), st.binary(min_size=32, max_size=32))
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


def test_each_kind_hashes_its_number_before_its_content() -> None:
    author, slot = b"a" * 32, b"colour"
    assert blob_key(b"v") == Key(Kind.BLOB, hashlib.sha256(b"\x01v").digest())
    assert entry_key(author, slot) == Key(
        Kind.ENTRY, hashlib.sha256(b"\x02" + author + slot).digest()
    )
    assert topic_key(b"t") == Key(Kind.TOPIC, hashlib.sha256(b"\x03t").digest())


def test_a_key_keeps_its_spelling_across_releases() -> None:
    text = "blob-ztxlpkmf5tb5vpfuzd3gntldp4lpachdzfr5w2vg7a5hwkemktx5du2i"
    assert str(blob_key(b"hello")) == text


@given(KEYS)
def test_a_key_parses_from_what_it_prints(key: Key) -> None:
    text = str(key)
    assert text == text.lower()
    assert len(text) == len(key.kind.name) + 1 + 56
    assert Key.parse(text) == key


@given(KEYS, st.integers(0, 55), st.sampled_from(LETTERS))
def test_one_mistyped_letter_is_noticed(key: Key, place: int, letter: str) -> None:
    kind, _, body = str(key).partition("-")
    typed = f"{kind}-{body[:place]}{letter}{body[place + 1 :]}"
    if typed == str(key):
        return
    with pytest.raises(ValueError, match="is mistyped"):
        Key.parse(typed)


def test_a_key_of_one_kind_is_none_of_another() -> None:
    body = str(blob_key(b"hello")).partition("-")[2]
    with pytest.raises(ValueError, match="is mistyped"):
        Key.parse(f"topic-{body}")


def test_capitals_are_another_spelling_and_refused() -> None:
    kind, _, body = str(blob_key(b"hello")).partition("-")
    with pytest.raises(ValueError, match="case of a letter"):
        Key.parse(f"{kind}-{body.upper()}")


@pytest.mark.parametrize("text", ["", "hello", "file-aaaa", "BLOB-aaaa"])
def test_what_starts_with_no_kind_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="starts with blob-, entry- or topic-"):
        Key.parse(text)


@pytest.mark.parametrize(
    "body", ["", "a" * 48, "a" * 64, "1" * 56, "é" * 56, "a" * 50 + "======", "a" * 55]
)
def test_what_is_not_base32_of_35_bytes_is_no_key(body: str) -> None:
    with pytest.raises(ValueError, match="56 letters"):
        Key.parse(f"blob-{body}")


@given(st.binary(max_size=60))
def test_whatever_else_follows_a_kind_is_no_key(typed: bytes) -> None:
    with pytest.raises(ValueError, match=r"is no key|is mistyped"):
        Key.parse("blob-" + typed.decode("latin-1"))


def test_a_digest_has_32_bytes() -> None:
    with pytest.raises(AssertionError):
        Key(Kind.BLOB, b"short")
