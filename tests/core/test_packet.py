"""Datagrams in and out: every field at its place, every impossible size refused."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core import noise, packet
from kademlia_node.core.network import MAC_BYTES, mac
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import INIT_BYTES_MIN, PACKET_BYTES_MAX, WHO_BYTES

SID = bytes(range(1, 9))
COOKIE = bytes(range(50, 66))
KEY = bytes(range(100, 132))
FIRST_MESSAGE = Random(1).randbytes(noise.FIRST_BYTES_MIN + packet.OPENING_BYTES_MIN)
COUNTER = 0x0807_0605_0403_0201

SIZES = {  # smallest and largest
    packet.Type.INIT: (INIT_BYTES_MIN, PACKET_BYTES_MAX),
    packet.Type.RESP: (65, PACKET_BYTES_MAX),
    packet.Type.RETRY: (25, 25),
    packet.Type.DATA: (33, PACKET_BYTES_MAX),
    packet.Type.RESET: (17, 17),
    packet.Type.WHO: (WHO_BYTES, WHO_BYTES),
    packet.Type.IAM: (57, 57),
}


@pytest.mark.parametrize("cookie", [packet.NO_COOKIE, COOKIE])
def test_an_init_reads_back(cookie: bytes) -> None:
    datagram = packet.pack_init(SID, FIRST_MESSAGE, mac1_key=KEY, cookie=cookie)
    assert len(datagram) == INIT_BYTES_MIN
    covered = b"\x01" + SID + FIRST_MESSAGE
    assert packet.parse(datagram) == packet.Init(
        SID, FIRST_MESSAGE, covered, mac(KEY, covered), cookie
    )


def test_an_init_has_no_cookie_unless_it_was_given_one() -> None:
    assert packet.pack_init(SID, FIRST_MESSAGE, mac1_key=KEY)[-MAC_BYTES:] == bytes(MAC_BYTES)


def test_a_resp_reads_back() -> None:
    datagram = packet.pack_resp(SID, FIRST_MESSAGE)
    assert packet.parse(datagram) == packet.Resp(SID, FIRST_MESSAGE)


def test_a_retry_reads_back() -> None:
    assert packet.parse(packet.pack_retry(SID, COOKIE)) == packet.Retry(SID, COOKIE)


def test_a_data_reads_back_with_its_counter_little_endian() -> None:
    header = packet.data_header(SID, COUNTER)
    assert header == b"\x04" + SID + bytes(range(1, 9))
    ciphertext = bytes(40)
    assert packet.parse(header + ciphertext) == packet.Data(SID, COUNTER, ciphertext, header)


def test_a_reset_reads_back() -> None:
    assert packet.parse(packet.pack_reset(SID, COUNTER)) == packet.Reset(SID, COUNTER)


def test_a_who_reads_back_and_shows_membership() -> None:
    who = packet.parse(packet.pack_who(SID, who_key=KEY))
    assert isinstance(who, packet.Who)
    assert who.nonce == SID
    assert packet.who_is_authentic(who, who_key=KEY)
    assert not packet.who_is_authentic(who, who_key=KEY[::-1])
    assert not packet.who_is_authentic(packet.Who(SID[::-1], who.mac), who_key=KEY)


def test_an_iam_reads_back_and_shows_membership() -> None:
    iam = packet.parse(packet.pack_iam(SID, FIRST_MESSAGE[:32], who_key=KEY))
    assert isinstance(iam, packet.Iam)
    assert (iam.nonce, iam.public_key) == (SID, FIRST_MESSAGE[:32])
    assert packet.iam_is_authentic(iam, who_key=KEY)
    assert not packet.iam_is_authentic(iam, who_key=KEY[::-1])
    assert not packet.iam_is_authentic(packet.Iam(SID, KEY, iam.mac), who_key=KEY)


def test_a_who_is_no_iam() -> None:
    who = packet.parse(packet.pack_who(SID, who_key=KEY))
    assert isinstance(who, packet.Who)
    assert not packet.iam_is_authentic(packet.Iam(SID, b"", who.mac), who_key=KEY)


@pytest.mark.parametrize("kind", packet.Type)
def test_sizes_are_held_to_the_byte(kind: packet.Type) -> None:
    smallest, largest = SIZES[kind]
    for size in range(PACKET_BYTES_MAX + 2):
        datagram = bytes([kind]).ljust(size, b"\0")[:size]
        if smallest <= size <= largest:
            packet.parse(datagram)
        else:
            with pytest.raises(MalformedMessage):
                packet.parse(datagram)


@pytest.mark.parametrize("kind", [0, *range(8, 256)])
def test_other_first_bytes_are_refused(kind: int) -> None:
    for size in (17, 25, 33, 57, WHO_BYTES, INIT_BYTES_MIN, PACKET_BYTES_MAX):
        with pytest.raises(MalformedMessage):
            packet.parse(bytes([kind]) + bytes(size - 1))


@pytest.mark.parametrize("place", [25, 100, WHO_BYTES - 1])
def test_a_who_is_padded_with_zeros(place: int) -> None:
    datagram = bytearray(packet.pack_who(SID, who_key=KEY))
    datagram[place] = 1
    with pytest.raises(MalformedMessage):
        packet.parse(bytes(datagram))


@given(st.binary(max_size=PACKET_BYTES_MAX + 100), st.integers(0, 8))
def test_any_bytes_are_a_packet_or_malformed(junk: bytes, kind: int) -> None:
    for datagram in (junk, bytes([kind]) + junk):
        try:
            packet.parse(datagram)
        except MalformedMessage:
            continue
        assert len(datagram) <= PACKET_BYTES_MAX


def test_packets_of_impossible_size_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        packet.pack_init(SID, FIRST_MESSAGE[:-1], mac1_key=KEY)
    with pytest.raises(AssertionError):
        packet.pack_init(SID, bytes(PACKET_BYTES_MAX), mac1_key=KEY)
    with pytest.raises(AssertionError):
        packet.pack_resp(SID, bytes(PACKET_BYTES_MAX))


def test_of_a_quote_the_sid_and_the_counter_are_read() -> None:
    data = packet.pack_reset(SID, COUNTER).replace(b"\x05", b"\x04", 1)
    assert packet.read_quote(data + bytes(40)) == (SID, COUNTER)
    assert packet.read_quote(data) == (SID, COUNTER)
    init = packet.pack_init(SID, FIRST_MESSAGE, mac1_key=KEY)
    quoted = packet.read_quote(init[:100])
    assert quoted is not None
    assert quoted[0] == SID


@pytest.mark.parametrize(
    "quote", [b"", b"\x04" + SID + bytes(7), b"\x01" + SID, packet.pack_reset(SID, COUNTER)]
)
def test_a_quote_cut_short_or_of_another_packet_tells_nothing(quote: bytes) -> None:
    assert packet.read_quote(quote) is None
