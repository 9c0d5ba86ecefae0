"""What a network's members share, and that the secret enters every key and no text."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.network import Network, is_mac, mac
from kademlia_node.settings import Settings

SECRET = b"thirty-two bytes known to a few."
KEY = bytes(range(32))


def derived(network: Network) -> dict[str, bytes]:
    return {
        "prologue": network.prologue,
        "who": network.who_key,
        "mac1": network.mac1_key(KEY),
        "link": network.link_key(KEY[:16]),
    }


def test_an_open_network_is_open_to_all_and_guards_itself() -> None:
    network = Network.open()
    assert network == Network("open", None, copies=20, puzzle_bits=16, prefix_limits=True)
    assert network.key == bytes(32)


def test_a_private_network_trusts_its_members() -> None:
    network = Network.private(SECRET)
    assert network == Network("private", SECRET, copies=5, puzzle_bits=0, prefix_limits=False)
    assert len(network.key) == 32
    assert network.key != bytes(32)


def test_the_prologue_is_the_version_the_name_and_the_key() -> None:
    network = Network.private(SECRET, name="home")
    assert network.tag == hashlib.sha256(b"kad1-networkhome").digest()
    assert network.prologue == b"kad1" + network.tag + network.key


@pytest.mark.parametrize(
    "other",
    [
        Network.private(SECRET, name="away"),
        Network.private(SECRET[::-1], name="home"),
        Network.open("home"),
    ],
    ids=["name", "secret", "no secret"],
)
def test_another_name_or_secret_changes_every_key(other: Network) -> None:
    keys, others = derived(Network.private(SECRET, name="home")), derived(other)
    assert all(keys[purpose] != others[purpose] for purpose in keys)


def test_what_a_node_decides_for_itself_changes_no_key() -> None:
    assert derived(Network.open(copies=3, puzzle_bits=0)) == derived(Network.open())


def test_each_purpose_and_each_callee_has_a_key_of_its_own() -> None:
    network = Network.private(SECRET)
    keys = [network.key, network.who_key, network.mac1_key(KEY), network.mac1_key(KEY[::-1])]
    keys += [network.tag, network.commons_seed(0), network.commons_seed(1)]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}


def test_an_open_network_has_no_commons() -> None:
    with pytest.raises(AssertionError):
        Network.open().commons_seed(0)


def test_neither_repr_nor_str_shows_the_secret_or_what_follows_from_it() -> None:
    network = Network.private(SECRET)
    hidden = [SECRET, network.key, network.who_key, network.prologue, network.commons_seed(0)]
    for shown in (repr(network), str(network), f"{network}", repr({"network": network})):
        for secret in hidden:
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown


@pytest.mark.parametrize("name", ["x", "n" * 64, "ü" * 32])
def test_a_name_has_1_to_64_bytes(name: str) -> None:
    assert Network.open(name).name == name


@pytest.mark.parametrize("name", ["", "n" * 65, "ü" * 33, "\ud800"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"1 to 64 bytes|surrogates"):
        Network.open(name)


@pytest.mark.parametrize("secret", [b"", SECRET[:31], SECRET + b"!"])
def test_a_secret_of_another_size_is_refused_and_not_repeated(secret: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes") as refused:
        Network.private(secret)
    assert not secret or secret.decode() not in str(refused.value)


@pytest.mark.parametrize(("copies", "puzzle_bits"), [(1, 0), (20, 32)])
def test_copies_and_puzzle_have_limits_that_are_allowed(copies: int, puzzle_bits: int) -> None:
    network = Network.open(copies=copies, puzzle_bits=puzzle_bits)
    assert (network.copies, network.puzzle_bits) == (copies, puzzle_bits)


@pytest.mark.parametrize("copies", [0, 21])
def test_other_numbers_of_copies_are_refused(copies: int) -> None:
    with pytest.raises(ValueError, match="copies"):
        Network.open(copies=copies)


@pytest.mark.parametrize("puzzle_bits", [-1, 33])
def test_other_puzzles_are_refused(puzzle_bits: int) -> None:
    with pytest.raises(ValueError, match="puzzle_bits"):
        Network.open(puzzle_bits=puzzle_bits)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_a_mac_is_16_bytes_of_hmac_sha256(key: bytes, message: bytes) -> None:
    tag = mac(key, message)
    assert tag == hmac.new(key, message, "sha256").digest()[:16]
    assert is_mac(tag, key=key, message=message)


def test_a_mac_of_another_key_or_message_is_refused() -> None:
    tag = mac(b"key", b"message")
    assert not is_mac(tag, key=b"other", message=b"message")
    assert not is_mac(tag, key=b"key", message=b"other")
    assert not is_mac(tag[:15], key=b"key", message=b"message")


def test_among_members_no_author_and_no_subnet_has_a_share_of_its_own() -> None:
    settings = Settings()
    adapted = Network.private(bytes(32)).adapt(settings)
    assert adapted.store_share_per_author == adapted.store_share_per_prefix == 1.0
    assert adapted.sessions_per_prefix_max == settings.sessions_max
    assert Network.open().adapt(settings) is settings
