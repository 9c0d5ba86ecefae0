"""Noise IK against published test vectors, and against whoever alters a byte.

`tests/vectors/noise_ik.json` holds the vectors of the IK patterns that two implementations of Noise
publish: cacophony in Haskell (its vectors/cacophony.txt) and snow in Rust (its
tests/vectors/snow.txt). Each vector names its source; those of our suite must pass.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kademlia_node.core.noise import PROTOCOL, Initiation, Response, TransportKeys
from kademlia_node.core.suite import STANDARD, AgreementKey, Suite
from kademlia_node.errors import ForgedPacket
from kademlia_node.sim import NullSuite

VECTORS = Path(__file__).parent.parent / "vectors" / "noise_ik.json"
PROLOGUE = b"prologue"


def published() -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"]
    return [vector for vector in vectors if vector["protocol_name"] == PROTOCOL.decode()]


def key(seed: int | str, suite: Suite = STANDARD) -> AgreementKey:
    return suite.agreement_key(bytes.fromhex(seed) if isinstance(seed, str) else bytes([seed]) * 32)


@pytest.fixture(params=[STANDARD, NullSuite()], ids=["standard", "null"])
def suite(request: pytest.FixtureRequest) -> Suite:
    chosen: Suite = request.param
    return chosen


def pair(suite: Suite, *, prologue: bytes = PROLOGUE) -> tuple[Initiation, Response]:
    """An initiator and the responder that it calls, whose prologue may differ."""
    static = key(2, suite)
    begun = Initiation(
        suite,
        static=key(1, suite),
        ephemeral=key(3, suite),
        remote_static=static.public,
        prologue=PROLOGUE,
    )
    return begun, Response(suite, static=static, prologue=prologue)


def flips(message: bytes) -> list[bytes]:
    """The message with one bit of one byte flipped, for each byte and both ends of it."""
    return [
        message[:place] + bytes([message[place] ^ bit]) + message[place + 1 :]
        for place in range(len(message))
        for bit in (0x01, 0x80)
    ]


# --- Published vectors ----------------------------------------------------------------------------


def test_both_sources_are_represented() -> None:
    assert {vector["source"] for vector in published()} == {"cacophony", "snow"}


@pytest.mark.parametrize("vector", published(), ids=lambda vector: vector["source"])
def test_published_vectors_pass(vector: dict[str, Any]) -> None:
    payloads, ciphertexts = (
        [bytes.fromhex(message[part]) for message in vector["messages"]]
        for part in ("payload", "ciphertext")
    )
    initiator = Initiation(
        STANDARD,
        static=key(vector["init_static"]),
        ephemeral=key(vector["init_ephemeral"]),
        remote_static=bytes.fromhex(vector["init_remote_static"]),
        prologue=bytes.fromhex(vector["init_prologue"]),
    )
    responder = Response(
        STANDARD,
        static=key(vector["resp_static"]),
        prologue=bytes.fromhex(vector["resp_prologue"]),
    )
    assert initiator.write(payloads[0]) == ciphertexts[0]
    assert responder.read(ciphertexts[0]) == payloads[0]
    assert responder.remote_static == key(vector["init_static"]).public
    second, theirs = responder.write(payloads[1], ephemeral=key(vector["resp_ephemeral"]))
    assert second == ciphertexts[1]
    read, ours = initiator.read(ciphertexts[1])
    assert read == payloads[1]
    if "handshake_hash" in vector:
        expected = bytes.fromhex(vector["handshake_hash"])
        assert ours.handshake_hash == theirs.handshake_hash == expected
    transport = list(zip(payloads, ciphertexts, strict=True))[2:]
    assert len(transport) >= 2
    for number, (payload, ciphertext) in enumerate(transport):
        sender, receiver = (theirs, ours) if number % 2 else (ours, theirs)
        counter = number // 2  # of its direction
        assert STANDARD.cipher(sender.send).seal(counter, payload, b"") == ciphertext
        assert STANDARD.cipher(receiver.receive).open(counter, ciphertext, b"") == payload


# --- Our own --------------------------------------------------------------------------------------


def test_both_sides_come_to_the_same_keys(suite: Suite) -> None:
    initiator, responder = pair(suite)
    assert responder.read(initiator.write(b"hello")) == b"hello"
    assert responder.remote_static == key(1, suite).public
    message, theirs = responder.write(b"welcome", ephemeral=key(4, suite))
    payload, ours = initiator.read(message)
    assert payload == b"welcome"
    assert (ours.send, ours.receive) == (theirs.receive, theirs.send)
    assert ours == TransportKeys(ours.send, ours.receive, theirs.handshake_hash)
    assert len({ours.send, ours.receive, ours.handshake_hash}) == 3


def test_no_byte_of_the_first_message_can_be_changed(suite: Suite) -> None:
    for altered in flips(pair(suite)[0].write(b"hello")):
        with pytest.raises(ForgedPacket):
            pair(suite)[1].read(altered)


def test_no_byte_of_the_second_message_can_be_changed_and_a_forgery_spoils_nothing(
    suite: Suite,
) -> None:
    initiator, responder = pair(suite)
    responder.read(initiator.write(b"hello"))
    message, theirs = responder.write(b"welcome", ephemeral=key(4, suite))
    for altered in flips(message):
        with pytest.raises(ForgedPacket):
            initiator.read(altered)
    payload, ours = initiator.read(message)
    assert payload == b"welcome"
    assert ours.handshake_hash == theirs.handshake_hash


def test_truncated_messages_are_refused(suite: Suite) -> None:
    initiator, responder = pair(suite)
    first = initiator.write(b"")
    for size in range(len(first)):
        with pytest.raises(ForgedPacket):
            pair(suite)[1].read(first[:size])
    responder.read(first)
    second, _ = responder.write(b"", ephemeral=key(4, suite))
    for size in range(len(second)):
        with pytest.raises(ForgedPacket):
            initiator.read(second[:size])


def test_another_prologue_gives_no_channel(suite: Suite) -> None:
    initiator, responder = pair(suite, prologue=b"other")
    with pytest.raises(ForgedPacket):
        responder.read(initiator.write(b"hello"))


def test_only_the_one_who_is_called_can_read(suite: Suite) -> None:
    eavesdropper = Response(suite, static=key(5, suite), prologue=PROLOGUE)
    with pytest.raises(ForgedPacket):
        eavesdropper.read(pair(suite)[0].write(b"hello"))


def test_a_low_order_ephemeral_is_refused(suite: Suite) -> None:
    initiator, responder = pair(suite)
    first = initiator.write(b"hello")
    with pytest.raises(ForgedPacket):
        pair(suite)[1].read(bytes(32) + first[32:])
    responder.read(first)
    second, _ = responder.write(b"welcome", ephemeral=key(4, suite))
    with pytest.raises(ForgedPacket):
        initiator.read(bytes(32) + second[32:])


def test_an_answer_to_nothing_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        pair(STANDARD)[1].write(b"welcome", ephemeral=key(4))
