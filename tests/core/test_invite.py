"""Invites, as users type them and as they are printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.invite import Invite, key_text, parse_invite, parse_key

KEY = bytes(range(100, 132))
TEXT = key_text(KEY)

keys = st.binary(min_size=32, max_size=32).map(lambda key: key[:31] + bytes([key[31] & 0x7F]))
names = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,5})?", fullmatch=True)
hosts = st.one_of(names, st.ip_addresses().map(str))


@given(keys)
def test_a_key_is_52_letters_and_reads_back(key: bytes) -> None:
    text = key_text(key)
    assert len(text) == 52
    assert parse_key(text) == parse_key(text.upper()) == key


@given(st.one_of(st.none(), keys), hosts, st.integers(1, 65535))
def test_an_invite_reads_back_as_it_prints(key: bytes | None, host: str, port: int) -> None:
    invite = Invite(key, host, port)
    assert parse_invite(str(invite)) == invite


def test_invites_as_they_look() -> None:
    assert str(Invite(KEY, "example.org", 4000)) == f"kad://{TEXT}@example.org:4000"
    assert str(Invite(KEY, "::1", 4000)) == f"kad://{TEXT}@[::1]:4000"
    assert str(Invite(None, "192.0.2.1", 1)) == "192.0.2.1:1"
    assert parse_invite("[::1]:65535") == Invite(None, "::1", 65535)


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT + "a",
        TEXT[:-1] + "1",  # no digit of base32
        TEXT[:-1] + "b",  # bits beyond the 256th
        TEXT + "====",
        " " + TEXT,
        "é" + TEXT[1:],
        "\u017f" + TEXT[1:],  # a long s: its upper case is an S
        key_text(KEY[:31] + b"\xff"),  # sign bit: not canonical
        key_text(KEY[:31]),
        key_text(KEY + b"\0"),
    ],
)
def test_what_is_no_key_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match="52 characters of base32"):
        parse_key(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "HOST:PORT"),
        ("example.org", "HOST:PORT"),
        ("example.org:", "port from 1"),
        ("example.org:0", "port from 1"),
        ("example.org:65536", "port from 1"),
        ("example.org:-1", "port from 1"),
        ("example.org:٣", "port from 1"),  # a digit, but no ASCII
        ("example.org:4000/", "port from 1"),
        (":4000", "HOST:PORT"),
        ("[]:4000", "HOST:PORT"),
        ("::1:4000", "brackets"),
        ("[::1:4000", "brackets"),
        (f"{TEXT}@example.org:4000", "neither"),
        ("kad://example.org:4000", "neither"),
        ("http://example.org:4000", "brackets"),
        ("kad://@example.org:4000", "base32"),
        (f"kad://{TEXT}x@example.org:4000", "base32"),
        (f"kad://{TEXT}@a:1@b:2", "base32"),
        (f"kad://{TEXT}@example.org", "HOST:PORT"),
    ],
)
def test_what_is_no_invite_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_invite(text)


@given(st.text(max_size=80))
def test_any_text_is_an_invite_or_a_value_error(text: str) -> None:
    try:
        invite = parse_invite(text)
    except ValueError:
        return
    assert 1 <= invite.port <= 65535
    assert invite.host
