"""Addresses, their packed form, the subnets they are counted by, and contacts."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.contact import (
    Address,
    Contact,
    is_local,
    is_loopback,
    pack_address,
    parse_address,
    prefix,
    subnet,
    unpack_address,
    unpack_contact,
)
from kademlia_node.core.ids import node_id, point
from kademlia_node.errors import MalformedMessage

KEY = bytes(range(32))


def is_one_host(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = ip.version == 6 and ip.ipv4_mapped is not None
    return not (ip.is_unspecified or ip.is_multicast or mapped or str(ip) == "255.255.255.255")


hosts = st.ip_addresses().filter(is_one_host).map(str)
addresses = st.builds(Address, hosts, st.integers(1, 65535))
keys = st.binary(min_size=32, max_size=32).map(lambda key: key[:31] + bytes([key[31] & 0x7F]))


@given(addresses)
def test_an_address_survives_text_and_packing(address: Address) -> None:
    assert parse_address(str(address)) == address
    packed = pack_address(address)
    assert len(packed) == (18 if ":" in address.host else 6)
    assert unpack_address(packed) == address


def test_addresses_are_read_in_their_canonical_form() -> None:
    assert parse_address("1.2.3.4:5") == Address("1.2.3.4", 5)
    assert parse_address("[2001:DB8:0::1]:65535") == Address("2001:db8::1", 65535)


def test_an_ipv4_address_mapped_into_ipv6_is_the_ipv4_address() -> None:
    assert parse_address("[::ffff:1.2.3.4]:5") == Address("1.2.3.4", 5)
    assert pack_address(Address("::ffff:1.2.3.4", 5)) == bytes([1, 2, 3, 4, 0, 5])
    assert prefix("::ffff:1.2.3.4") == prefix("1.2.3.4")
    assert is_local("::ffff:127.0.0.1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "1.2.3.4:-1",
        "1.2.3.4:+1",
        "1.2.3.4: 1",
        "1.2.3.4:\u0661",  # an Arabic digit
        "1.2.3.4:" + "9" * 5000,
        "example.org:5",
        "[1.2.3.4]:5",
        "::1:5",
        "[::1:5",
        "::1]:5",
        "1.2.3:5",
        "01.2.3.4:5",
    ],
)
def test_what_is_no_numeric_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the standard library words some of them
        parse_address(text)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        bytes([1, 2, 3, 4, 5]),
        bytes([1, 2, 3, 4, 0, 0]),  # port 0
        bytes([0, 0, 0, 0, 0, 5]),
        bytes([224, 0, 0, 1, 0, 5]),
        bytes([255, 255, 255, 255, 0, 5]),
        bytes(16) + b"\x00\x05",
        b"\xff\x02" + bytes(13) + b"\x01\x00\x05",
        ipaddress.ip_address("::ffff:1.2.3.4").packed + b"\x00\x05",
    ],
)
def test_packed_addresses_that_name_no_single_host_are_malformed(packed: bytes) -> None:
    with pytest.raises(MalformedMessage):
        unpack_address(packed)


def test_strangers_are_counted_by_subnet() -> None:
    assert prefix("198.51.100.7") == prefix("198.51.100.200") == bytes([198, 51, 100])
    assert subnet("198.51.100.7") == prefix("198.51.100.7")
    assert prefix("2001:db8:0:1::1") == prefix("2001:db8:0:ff::2")
    assert prefix("2001:db8:0:1::1") != prefix("2001:db8:0:100::1")
    assert subnet("2001:db8:0:1::1") == subnet("2001:db8:0:1:ffff::2")
    assert subnet("2001:db8:0:1::1") != subnet("2001:db8:0:2::1")
    assert (len(prefix("2001:db8::1")), len(subnet("2001:db8::1"))) == (7, 8)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "169.254.3.3",
        "100.64.0.1",
        "::1",
        "fd00::1",
        "fe80::1",
        "fe80::1%eth0",
    ],
)
def test_hosts_of_ones_own_site_are_local(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "172.32.0.1",
        "100.128.0.1",
        "2001:4860::1",
        "2001:0:4136:e378::1",  # Teredo
        "2002:7f00:1::1",  # 6to4
    ],
)
def test_hosts_that_strangers_can_reach_are_not_local(host: str) -> None:
    assert not is_local(host)


@given(keys, addresses)
def test_a_contact_survives_packing(key: bytes, address: Address) -> None:
    contact = Contact(key, address)
    packed = contact.pack()
    assert len(packed) == (50 if ":" in address.host else 38)
    assert unpack_contact(packed) == contact


@pytest.mark.parametrize("length", [0, 37, 39, 49, 51])
def test_contacts_of_another_length_are_malformed(length: int) -> None:
    with pytest.raises(MalformedMessage):
        unpack_contact(b"\x01" * length)


def test_a_key_with_the_sign_bit_is_no_contact() -> None:
    packed = Contact(KEY, Address("1.2.3.4", 5)).pack()
    with pytest.raises(MalformedMessage):
        unpack_contact(packed[:31] + bytes([packed[31] | 0x80]) + packed[32:])


def test_a_contact_knows_its_id() -> None:
    contact = Contact(KEY, Address("1.2.3.4", 5))
    assert contact.id == node_id(KEY)
    assert contact.point == point(contact.id)


def test_contacts_are_equal_when_key_and_address_are() -> None:
    here, there = Address("1.2.3.4", 5), Address("1.2.3.4", 6)
    assert Contact(KEY, here) == Contact(KEY, here)
    assert Contact(KEY, here) != Contact(KEY, there)
    assert Contact(KEY, here) != Contact(KEY[::-1], here)
    assert Contact(KEY, here) != (KEY, here)
    assert len({Contact(KEY, here), Contact(KEY, here), Contact(KEY, there)}) == 2


def test_a_contact_cannot_be_changed() -> None:
    contact = Contact(KEY, Address("1.2.3.4", 5))
    with pytest.raises(AttributeError, match="immutable"):
        contact.address = Address("6.6.6.6", 6)
    assert contact.address.host == "1.2.3.4"


def test_a_contact_shows_the_start_of_its_id_and_its_address() -> None:
    contact = Contact(KEY, Address("2001:db8::1", 5))
    assert repr(contact) == f"Contact({contact.id.hex()[:8]} at [2001:db8::1]:5)"


def test_only_this_machine_reaches_loopback() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]))
    assert not any(
        map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "fd00::1", "8.8.8.8", "localhost"])
    )
