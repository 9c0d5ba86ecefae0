"""Beacons: members read each other's, strangers read nothing, and junk is refused."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.beacon import (
    PROPERTY,
    SERVICE,
    Beacon,
    Sighting,
    label_of,
    make_beacon,
    parse_service,
    read_beacon,
)
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.network import Network
from kademlia_node.core.suite import STANDARD
from kademlia_node.errors import ForgedPacket, MalformedMessage
from kademlia_node.settings import CARD_ADDRESSES_MAX

HOME = Network.private(b"thirty-two bytes known to a few.", name="home")
KEY = Identity.generate(Random(1)).public_key
HERE = Address("192.168.1.2", 4000)


def beacon_of(network: Network, *, key: bytes = KEY, seed: int = 1) -> Beacon:
    return make_beacon(key, 4000, network=network, suite=STANDARD, rng=Random(seed))


def read(network: Network, beacon: Beacon) -> list[Contact]:
    return read_beacon(Sighting(beacon, (HERE,)), network=network, suite=STANDARD)


def parse(
    beacon: Beacon, *hosts: str, link: str = "192.168.1.9", port: int | None = 4000
) -> Sighting:
    name, properties = f"{beacon.label}.{SERVICE}", {PROPERTY: beacon.sealed}
    return parse_service(name, port, properties=properties, hosts=hosts, link=link)


# --- Who reads it ---------------------------------------------------------------------------------


def test_members_recognise_each_other() -> None:
    assert read(HOME, beacon_of(HOME)) == [Contact(KEY, HERE)]


@pytest.mark.parametrize(
    "stranger",
    [
        Network.private(bytes(32), name="home"),
        replace(HOME, name="office"),
        Network.open("home"),
    ],
)
def test_strangers_read_nothing(stranger: Network) -> None:
    with pytest.raises(ForgedPacket):
        read(stranger, beacon_of(HOME))


def test_on_an_open_network_the_name_is_enough() -> None:
    assert read(Network.open("ours"), beacon_of(Network.open("ours"))) == [Contact(KEY, HERE)]
    with pytest.raises(ForgedPacket):
        read(Network.open("theirs"), beacon_of(Network.open("ours")))


def test_a_beacon_tells_strangers_neither_who_nor_where_we_belong() -> None:
    beacon = beacon_of(HOME)
    shown = bytes.fromhex(beacon.label) + beacon.sealed
    for secret in (KEY, HOME.tag, HOME.key, HOME.who_key, HOME.name.encode()):
        assert secret not in shown


def test_two_beacons_of_one_node_have_nothing_in_common() -> None:
    first, second = beacon_of(HOME, seed=1), beacon_of(HOME, seed=2)
    assert first.label != second.label
    assert not {first.sealed[at : at + 4] for at in range(45)} & {
        second.sealed[at : at + 4] for at in range(45)
    }


@pytest.mark.parametrize(
    "change",
    [
        {"port": 4001},
        {"label": "00" * 16},
        {"sealed": bytes(48)},
    ],
)
def test_what_was_altered_is_not_read(change: dict[str, object]) -> None:
    with pytest.raises(ForgedPacket):
        read(HOME, replace(beacon_of(HOME), **change))  # type: ignore[arg-type]


def test_what_a_member_seals_may_be_no_key() -> None:
    with pytest.raises(MalformedMessage):
        read(HOME, beacon_of(HOME, key=b"\xff" * 32))


# --- What is taken from the link ------------------------------------------------------------------


def test_a_service_reads_back_as_the_beacon_it_shows() -> None:
    beacon = beacon_of(HOME)
    assert parse(beacon, "192.168.1.2") == Sighting(beacon, (HERE,))
    assert label_of(f"{beacon.label.upper()}.{SERVICE}") == beacon.label


@pytest.mark.parametrize(
    ("link", "taken", "left"),
    [
        ("192.168.1.9", ["192.168.1.2", "10.0.0.1"], ["8.8.8.8", "127.0.0.1", "fd00::1"]),
        ("127.0.0.1", ["127.0.0.2"], ["192.168.1.2", "8.8.8.8"]),
        ("203.0.113.9", ["203.0.113.2"], ["203.0.114.2", "127.0.0.1"]),
        ("fd00::9", ["fd00::1"], ["fe80::1", "fd00::1%2", "2a00::1", "192.168.1.2", "::1"]),
        ("192.168.1.9", ["192.168.1.2"], ["0.0.0.0", "224.0.0.251", "255.255.255.255", "", "a.b"]),
    ],
)
def test_only_who_can_be_on_this_link_is_heard(
    link: str, taken: list[str], left: list[str]
) -> None:
    sighting = parse(beacon_of(HOME), *left, *taken, link=link)
    assert [address.host for address in sighting.addresses] == taken
    with pytest.raises(MalformedMessage):
        parse(beacon_of(HOME), *left, link=link)


def test_of_many_addresses_a_few_are_taken() -> None:
    many = [f"10.0.0.{number}" for number in range(1, 200)]
    assert len(parse(beacon_of(HOME), *many).addresses) == CARD_ADDRESSES_MAX
    assert len(parse(beacon_of(HOME), "10.0.0.1", "10.0.0.1").addresses) == 1


@pytest.mark.parametrize("port", [None, 0, -1, 65536])
def test_a_service_without_a_port_is_none(port: int | None) -> None:
    with pytest.raises(MalformedMessage):
        parse(beacon_of(HOME), "192.168.1.2", port=port)


@pytest.mark.parametrize("label", ["", "ab" * 15, "ab" * 17, "zz" * 16, " a" * 16, "٣" * 32])
def test_other_services_are_no_beacons(label: str) -> None:
    assert label_of(f"{label}.{SERVICE}") is None
    assert label_of("ab" * 16 + "._http._tcp.local.") is None


NAMES = st.text() | st.just(f"{'ab' * 16}.{SERVICE}")
PROPERTIES = st.dictionaries(
    st.binary(max_size=9) | st.just(PROPERTY),
    st.none() | st.binary(max_size=300) | st.binary(min_size=48, max_size=48),
    max_size=5,
)
HOSTS = st.lists(st.text() | st.ip_addresses().map(str), max_size=9)


@given(
    name=NAMES,
    port=st.none() | st.integers(),
    properties=PROPERTIES,
    hosts=HOSTS,
    link=st.ip_addresses().map(str),
)
def test_whatever_comes_from_the_link_is_refused_in_one_way(
    name: str,
    port: int | None,
    properties: dict[bytes, bytes | None],
    hosts: list[str],
    link: str,
) -> None:
    try:
        sighting = parse_service(name, port, properties=properties, hosts=hosts, link=link)
    except MalformedMessage:
        return
    with pytest.raises(ForgedPacket):
        read_beacon(sighting, network=HOME, suite=STANDARD)
