"""Identities that are searched for, and cards that only their owner can sign."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import (
    Capabilities,
    Identity,
    NodeCard,
    sign_card,
    unpack_card,
    verify_card,
)
from kademlia_node.core.ids import node_id, solves_puzzle
from kademlia_node.core.network import Network
from kademlia_node.core.suite import STANDARD, Suite
from kademlia_node.errors import ForgedPacket, MalformedMessage
from kademlia_node.settings import PROTOCOL_VERSION
from kademlia_node.sim import NullSuite

WALL = 1_700_000_000
NETWORK = Network.open("tests")
SECRET = b"thirty-two bytes known to a few."
V4, V6 = Address("192.0.2.1", 4000), Address("2001:db8::1", 65535)
ALICE = Identity.generate(Random(1))
# Bytes of a packed card: key 32, capabilities 4, seq 8, expires 8, count 1, addresses, signature.
CAPABILITIES_AT, COUNT_AT, ADDRESSES_AT = 32, 52, 53


@pytest.fixture(params=[STANDARD, NullSuite()], ids=["standard", "null"])
def suite(request: pytest.FixtureRequest) -> Suite:
    chosen: Suite = request.param
    return chosen


# --- Identities -----------------------------------------------------------------------------------


def test_an_id_is_the_hash_of_a_canonical_key(suite: Suite) -> None:
    identity = Identity.generate(Random(5), suite=suite)
    assert not identity.public_key[31] & 0x80
    assert identity.id == node_id(identity.public_key)
    assert suite.to_agreement(identity.public_key) == identity.agreement.public
    assert suite.verify(identity.public_key, identity.signing.sign(b"yes"), b"yes")


def test_the_seed_brings_the_identity_back() -> None:
    again = Identity(ALICE.seed)
    assert (again.id, again.public_key) == (ALICE.id, ALICE.public_key)


def test_seeds_without_a_canonical_key_are_refused() -> None:
    seeds = [Random(n).randbytes(32) for n in range(40)]
    canonical = [seed for seed in seeds if STANDARD.signing_key(seed)]
    assert 8 < len(canonical) < 32
    for seed in seeds:
        if seed in canonical:
            assert Identity(seed).public_key[31] < 0x80
        else:
            with pytest.raises(ValueError, match="canonical"):
                Identity(seed)


def test_a_search_tells_of_each_failed_attempt() -> None:
    attempts = list(islice(Identity.attempts(Random(3)), 40))
    found = [identity for identity in attempts if identity]
    assert 8 < len(found) < 32
    assert len({identity.id for identity in found}) == len(found)


def test_what_is_generated_solves_the_puzzle(suite: Suite) -> None:
    identity = Identity.generate(Random(4), puzzle_bits=4, suite=suite)
    assert solves_puzzle(identity.id, bits=4)


def test_the_same_chance_gives_the_same_identity() -> None:
    assert Identity.generate(Random(1)).id == ALICE.id != Identity.generate(Random(2)).id


def test_the_commons_is_the_same_for_all_members(suite: Suite) -> None:
    mine = Identity.commons(Network.private(SECRET), suite=suite)
    yours = Identity.commons(Network.private(bytes(SECRET), copies=3), suite=suite)
    assert mine.public_key == yours.public_key
    assert suite.verify(mine.public_key, yours.signing.sign(b"ours"), b"ours")


def test_other_networks_have_another_commons() -> None:
    networks = [
        Network.private(SECRET),
        Network.private(SECRET, name="other"),
        Network.private(SECRET[::-1]),
    ]
    assert len({Identity.commons(network).id for network in networks}) == 3


def test_the_commons_is_the_first_canonical_seed_of_the_network() -> None:
    found = []
    for number in range(12):
        network = Network.private(bytes([number]) * 32)
        seeds = [network.commons_seed(attempt) for attempt in range(20)]
        commons = Identity.commons(network)
        found.append(seeds.index(commons.seed))
        assert not any(STANDARD.signing_key(seed) for seed in seeds[: found[-1]])
    assert max(found) > 0, "some network's first seed is not canonical"


def test_no_text_form_shows_the_seed() -> None:
    seed = ALICE.seed
    spellings = [seed.hex(), repr(seed)[2:-1], base64.b64encode(seed).decode()[:-1]]
    spellings += [base64.b32encode(seed).decode().rstrip("="), str(int.from_bytes(seed, "big"))]
    shown = [repr(ALICE), str(ALICE), f"{ALICE}", repr([ALICE]), repr(ALICE.signing)]
    shown += [repr(ALICE.agreement), repr(Identity.commons(Network.private(seed)))]
    for text in shown:
        assert not any(spelling.lower() in text.lower() for spelling in spellings)
    assert repr(ALICE) == f"Identity({ALICE.id.hex()[:8]})"


# --- Capabilities ---------------------------------------------------------------------------------


@given(st.booleans(), st.integers(0, 255), st.integers(0, 255))
def test_capabilities_survive_packing(server: bool, oldest: int, newest: int) -> None:
    capabilities = Capabilities(server, oldest, newest)
    assert 0 <= capabilities.pack() < 1 << 32
    assert Capabilities.unpack(capabilities.pack()) == capabilities


def test_bits_of_later_versions_are_ignored() -> None:
    assert Capabilities.unpack(0x0101_FFFE) == Capabilities(server=False)
    assert Capabilities.unpack(0x0101_FFFF) == Capabilities(server=True)


@pytest.mark.parametrize("bits", [-1, 1 << 32])
def test_capabilities_are_32_bits(bits: int) -> None:
    with pytest.raises(MalformedMessage):
        Capabilities.unpack(bits)


def test_a_peer_speaks_ours_when_our_version_lies_in_its_range() -> None:
    ours = PROTOCOL_VERSION
    assert Capabilities(server=False).speaks_ours
    assert Capabilities(False, ours - 1, ours + 1).speaks_ours
    assert not Capabilities(False, ours + 1, ours + 2).speaks_ours
    assert not Capabilities(False, 0, ours - 1).speaks_ours


# --- Node cards -----------------------------------------------------------------------------------


def card(*addresses: Address, owner: Identity = ALICE, expires: int = WALL + 60) -> NodeCard:
    capabilities = Capabilities(server=True)
    return sign_card(
        owner, addresses, capabilities=capabilities, seq=9, expires=expires, network=NETWORK
    )


def verified(packed: bytes, *, wall: float = WALL, network: Network = NETWORK) -> NodeCard:
    return verify_card(packed, wall=wall, network=network, suite=STANDARD)


@pytest.mark.parametrize("addresses", [(), (V4,), (V6,), (V4, V6), (V6, V4, V4, V6)])
def test_a_card_says_where_its_owner_is(suite: Suite, addresses: tuple[Address, ...]) -> None:
    owner = Identity.generate(Random(6), suite=suite)
    made = card(*addresses, owner=owner)
    read = verify_card(made.pack(), wall=WALL, network=NETWORK, suite=suite)
    assert read == made
    assert read.contacts == [Contact(owner.public_key, address) for address in addresses]
    assert (read.capabilities, read.seq, read.expires) == (Capabilities(True), 9, WALL + 60)


def test_a_fifth_address_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        card(V4, V4, V4, V4, V4)


def test_no_byte_of_a_card_can_be_changed() -> None:
    packed = card(V4, V6).pack()
    for place in range(len(packed)):
        tampered = bytearray(packed)
        tampered[place] ^= 1
        with pytest.raises((ForgedPacket, MalformedMessage)):
            verified(bytes(tampered))


def test_a_card_expires() -> None:
    packed = card(V4).pack()
    assert verified(packed, wall=WALL + 59.9).expires == WALL + 60
    with pytest.raises(ForgedPacket, match="expired"):
        verified(packed, wall=WALL + 60)


def test_a_card_of_another_network_says_nothing_here() -> None:
    with pytest.raises(ForgedPacket, match="forged"):
        verified(card(V4).pack(), network=Network.open("elsewhere"))


def test_nobody_else_can_sign_a_card() -> None:
    mallory = card(V4, owner=Identity.generate(Random(2)))
    with pytest.raises(ForgedPacket, match="forged"):
        verified(replace(mallory, public_key=ALICE.public_key).pack())


def test_a_card_with_a_refused_key_is_refused() -> None:
    with pytest.raises(ForgedPacket, match="low-order"):
        verified(replace(card(V4), public_key=b"\x01" + bytes(31)).pack())


def test_a_card_with_bits_of_a_later_version_still_verifies() -> None:
    body = bytearray(card(V4).body())
    body[CAPABILITIES_AT + 3] |= 0b110
    signature = ALICE.signing.sign(b"kad1-card" + NETWORK.tag + body)
    assert verified(bytes(body) + signature).capabilities == Capabilities(server=True)


def test_a_card_is_refused_at_every_shorter_length() -> None:
    packed = card(V4, V6).pack()
    for size in range(len(packed)):
        with pytest.raises(MalformedMessage):
            unpack_card(packed[:size])


def test_a_card_names_at_most_four_addresses() -> None:
    four = card(V4, V4, V4, V4)
    five = replace(four, addresses=(V4,) * 5)
    assert unpack_card(four.pack()) == four
    with pytest.raises(MalformedMessage, match="too many"):
        unpack_card(five.pack())


def with_byte(place: int, value: int) -> Callable[[bytes], bytes]:
    return lambda packed: packed[:place] + bytes([value]) + packed[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        with_byte(COUNT_AT, 1),
        with_byte(COUNT_AT, 3),
        with_byte(COUNT_AT, 5),
        with_byte(ADDRESSES_AT, 0),
        with_byte(ADDRESSES_AT, 7),
        with_byte(ADDRESSES_AT, 255),
        lambda packed: packed[:ADDRESSES_AT] + b"\0" + packed[ADDRESSES_AT:],
    ],
    ids=["left over", "missing", "too many", "empty", "size 7", "size 255", "inserted"],
)
def test_a_card_that_contradicts_itself_is_malformed(spoil: Callable[[bytes], bytes]) -> None:
    packed = card(V4, V4).pack()
    with pytest.raises(MalformedMessage):
        unpack_card(spoil(packed))


@given(st.binary(min_size=110, max_size=200), st.integers(0, 5))
def test_any_bytes_are_a_card_or_malformed(junk: bytes, count: int) -> None:
    junk = with_byte(COUNT_AT, count)(junk)
    try:
        read = unpack_card(junk)
    except MalformedMessage:
        return
    assert unpack_card(read.pack()) == read
