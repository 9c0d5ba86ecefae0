"""docs/PROTOCOL.md is enough to write another implementation from, and says what ours does.

Its limits and examples are made by our code (`protocol.examples`) and compared here. What stands
between them is held by `protocol.second_implementation`: it reads the examples as they are printed.
"""

from __future__ import annotations

import base64
import re
import struct
from enum import IntEnum

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kademlia_node.core import codec, packet
from kademlia_node.core.key import Kind
from kademlia_node.core.message import ErrorCode, Op, StoreStatus
from kademlia_node.core.record import Reason
from tests.protocol.examples import COMMAND, COOKIE_SECRETS, DOCUMENT, MESSAGES, WALL, regenerate
from tests.protocol.second_implementation import (
    agreement,
    derive,
    digest_versions,
    mac,
    open_beacon,
    open_data,
    read_handshake,
    read_manifest,
    read_page,
    read_prefix,
    sha256,
    tell_digests,
    to_edwards,
    to_montgomery,
    verify_record,
)


def read_examples(document: str) -> dict[str, dict[str, str]]:
    """The block of examples: title, name, and the hex or text that stands there."""
    _, _, block = document.partition("<!-- generated: examples -->")
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    name = ""
    for line in block.partition("```text\n")[2].partition("```")[0].splitlines():
        words = line.split()
        if not line.startswith(" "):
            section = sections[words[0].rstrip(",")] = {}
        elif len(words) == 2:
            name, section[words[0]] = words
        else:
            section[name] += words[0]
    return sections


class Printed:
    """The examples; `printed("alice.seed")` is its bytes, `printed("INIT")` the whole packet."""

    def __init__(self, document: str) -> None:
        self.sections = read_examples(document)

    def text(self, path: str) -> str:
        title, _, name = path.rpartition("/")
        return self.sections[title][name]

    def __call__(self, path: str) -> bytes:
        return bytes.fromhex(self.text(path))

    def packet(self, title: str) -> bytes:
        return b"".join(bytes.fromhex(told) for told in self.sections[title].values())


@pytest.fixture(scope="module")
def document() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def printed(document: str) -> Printed:
    return Printed(document)


def test_generated_parts_are_what_the_code_does(document: str) -> None:
    assert regenerate(document) == document, f"write them anew: {COMMAND}"


@pytest.mark.parametrize("names", [packet.Type, Op, ErrorCode, StoreStatus, Kind, Reason])
def test_every_number_of_the_wire_stands_in_a_table(names: type[IntEnum], document: str) -> None:
    missing = [one for one in names if f"| {one.value} | {one.name} |" not in document]
    assert not missing


def test_every_limit_that_the_prose_names_exists(document: str) -> None:
    prose, limits = document.partition("<!-- generated: limits -->")[::2]
    named = re.findall(r"`([A-Z]+(?:_[A-Z]+)+|[a-z0-9_]+_(?:s|max|min|bytes|factor))`", prose)
    assert named
    assert [name for name in named if f"| `{name}` |" not in limits] == []


@pytest.mark.parametrize("which", ["open_network", "private_network"])
def test_keys_of_a_network_follow_from_its_name_and_secret(which: str, printed: Printed) -> None:
    section = printed.sections[which]
    secret = printed(f"{which}/secret") if "secret" in section else None
    nonce = printed("beacon_of_bob/label")
    name, bob = section["name"].encode(), printed("bob/public_key")
    derived = derive(name, secret, bob, link_nonce=nonce)
    assert derived == {name: printed(f"{which}/{name}") for name in derived}
    assert len(derived) + 1 + (secret is not None) == len(section)


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_everything_about_a_party_follows_from_its_seed(who: str, printed: Printed) -> None:
    seed, public_key = printed(f"{who}/seed"), printed(f"{who}/public_key")
    signing = Ed25519PrivateKey.from_private_bytes(seed)
    assert signing.public_key().public_bytes_raw() == public_key
    assert agreement(seed).public_key().public_bytes_raw() == printed(f"{who}/s")
    assert to_montgomery(public_key) == printed(f"{who}/s")
    assert to_edwards(printed(f"{who}/s")) == public_key
    assert sha256(public_key) == printed(f"{who}/node_id")
    host, _, port = printed.text(f"{who}/address").rpartition(":")
    packed = bytes(int(part) for part in host.split(".")) + int(port).to_bytes(2, "big")
    assert packed == printed(f"{who}/packed_address")
    key_text = base64.b32encode(public_key).decode().rstrip("=").lower()
    assert printed.text(f"{who}/invite") == f"kad://{key_text}@{host}:{port}"


def test_id_of_a_server_solves_the_puzzle(printed: Printed) -> None:
    puzzle = sha256(printed("bob/node_id"))
    assert puzzle == printed("bob/sha256_of_node_id")
    assert puzzle[:2] == b"\0\0"


def test_handshake_opens_to_the_second_implementation(printed: Printed) -> None:
    init, resp = printed.packet("INIT"), printed.packet("RESP")
    seen = read_handshake(
        init,
        resp,
        prologue=printed("open_network/prologue"),
        seeds=(printed("alice/seed"), printed("bob/seed")),
        ephemeral_a=printed("alice/ephemeral_private"),
    )
    assert seen == {name: printed(f"handshake/{name}") for name in printed.sections["handshake"]}
    assert to_edwards(seen["s_A"]) == printed("alice/public_key")
    assert init[-32:-16] == mac(printed("open_network/mac1_key_of_bob"), init[:-32])
    unpacker = msgpack.Unpacker()
    unpacker.feed(seen["opening"])
    ts_us, capabilities, request = unpacker.unpack()
    assert not any(seen["opening"][unpacker.tell() :])
    assert (ts_us, capabilities) == (WALL * 1_000_000, 0x01010000)
    assert request == [3, 7, printed("entry/key")]
    sid_b, reply = seen["sid_B_and_reply"][:8], msgpack.unpackb(seen["sid_B_and_reply"][8:])
    assert sid_b == printed.packet("DATA.store")[1:9]
    contact = printed("bob/public_key") + printed("bob/packed_address")
    assert reply == [printed("alice/packed_address"), 0x01010001, [0x83, 7, [contact]]]


def test_session_opens_to_the_second_implementation(printed: Printed) -> None:
    towards_bob, towards_alice = (
        printed("handshake/k_from_initiator"),
        printed("handshake/k_from_responder"),
    )
    assert open_data(towards_bob, printed.packet("DATA.store")) == printed("messages/STORE")
    answer = open_data(towards_alice, printed.packet("DATA.answer"))
    assert answer == printed("messages/STORE.answer")
    confirm = printed.packet("DATA.confirm")
    assert open_data(towards_bob, confirm) == b""
    assert confirm[9:17] == struct.pack("<Q", 1)
    assert printed.packet("RESET") == b"\x05" + confirm[1:17]


def test_cookie_stands_for_the_address(printed: Printed) -> None:
    cookie = mac(COOKIE_SECRETS[0], printed("alice/packed_address"))
    assert printed.packet("RETRY") == b"\x03" + printed.packet("INIT")[1:9] + cookie


def test_who_and_iam_are_authentic(printed: Printed) -> None:
    key, who, iam = printed("open_network/who_key"), printed.packet("WHO"), printed.packet("IAM")
    assert who == (who[:9] + mac(key, who[:9])).ljust(200, b"\0")
    assert iam == b"\x07" + who[1:9] + printed("bob/public_key") + mac(key, iam[:41])


def test_record_verifies_by_the_second_implementation(printed: Printed) -> None:
    tag, header = printed("open_network/tag"), printed("entry/header")
    op, rid, key, packed, value, expect_seq = msgpack.unpackb(printed("messages/STORE"))
    assert (op, rid, packed, expect_seq) == (5, 8, header, None)
    verify_record(tag, key, packed, value)
    assert printed("topic/key") == sha256(b"\x03", printed.text("topic/topic").encode())
    blob = printed("blob/value")
    assert printed("blob/key") == sha256(b"\x01", blob)
    assert printed("blob/header")[10:] == struct.pack(">I", len(blob)) + sha256(blob)


def test_snapshot_of_a_topic_is_read_by_the_second_implementation(printed: Printed) -> None:
    manifest, page = printed("topic/manifest"), printed("topic/page")
    assert printed("topic/snapshot") == sha256(manifest)
    assert read_manifest(manifest) == [(sha256(page), len(page))]
    named = msgpack.unpackb(printed("messages/FIND_VALUE.same"))
    assert named[3:] == [2, sha256(manifest), len(manifest), []]
    assert msgpack.unpackb(printed("messages/CHUNK")) == [7, 8, sha256(manifest), 0]
    assert msgpack.unpackb(printed("messages/CHUNK.answer")) == [0x87, 8, manifest]
    (long, left_out), (short, value) = read_page(page)
    assert (long[150:], left_out) == (b"long", None)
    assert (short[150:], value) == (b"short", b"here")
    tag, key = printed("open_network/tag"), printed("topic/key")
    verify_record(tag, key, short, b"here")


def test_digests_are_those_of_the_second_implementation(printed: Printed) -> None:
    assert read_prefix(*msgpack.unpackb(printed("messages/DIGEST"))[2:]) == ""
    assert read_prefix(*msgpack.unpackb(printed("messages/DIGEST.deeper"))[2:]) == "b12"
    assert msgpack.unpackb(printed("messages/DIGEST.nothing"))[2:] == [0, tell_digests({})]
    few = {
        printed("entry/key"): digest_versions([printed("entry/header")]),
        printed("blob/key"): digest_versions([printed("blob/header")]),
        printed("topic/key"): digest_versions(
            [header for header, _ in read_page(printed("topic/page"))]
        ),
    }
    assert msgpack.unpackb(printed("messages/DIGEST.listed"))[2:] == [3, tell_digests(few)]
    many = {}
    for value in map(bytes, zip(range(256), strict=True)):
        header = b"\x01" + bytes(9) + struct.pack(">I", 1) + sha256(value)
        many[sha256(b"\x01", value)] = digest_versions([header])
    assert msgpack.unpackb(printed("messages/DIGEST.branch"))[2:] == [256, tell_digests(many)]


def test_key_has_one_text_form(printed: Printed) -> None:
    key = printed("entry/key")
    checksum = sha256(b"kad1-key", b"\x02", key)[:3]
    expected = "entry-" + base64.b32encode(key + checksum).decode().lower()
    assert printed.text("entry/key_text") == expected


def test_node_card_verifies_by_the_second_implementation(printed: Printed) -> None:
    card = printed("card_of_bob/packed")
    public_key, caps, _, expires, count, size = struct.unpack_from(">32sIQQBB", card)
    assert (caps, expires, count, size) == (0x01010001, WALL + 48 * 3600, 1, 6)
    assert card[54:60] == printed("bob/packed_address")
    signed = b"kad1-card" + printed("open_network/tag") + card[:-64]
    Ed25519PublicKey.from_public_bytes(public_key).verify(card[-64:], signed)


def test_beacon_opens_by_the_second_implementation(printed: Printed) -> None:
    link_key, sealed = printed("private_network/link_key"), printed("beacon_of_bob/sealed")
    port = int(printed.text("beacon_of_bob/port"))
    assert printed.text("beacon_of_bob/instance").startswith(printed.text("beacon_of_bob/label"))
    assert open_beacon(link_key, sealed, port) == printed("bob/public_key")


def test_messages_read_back_as_what_was_said(printed: Printed) -> None:
    for name, message in MESSAGES.items():
        assert codec.decode_message(printed(f"messages/{name}")) == (8, message)
