"""The contract of `core.suite.Suite`, held by the real suite and by the simulator's null suite.

And what `VerifiedSignatures` remembers.
"""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.suite import STANDARD, SigningKey, Suite, VerifiedSignatures
from kademlia_node.errors import ForgedPacket
from kademlia_node.sim import NullSuite

SEEDS = st.binary(min_size=32, max_size=32)
HEADER = b"\x04header"


@pytest.fixture(params=[STANDARD, NullSuite()], ids=["standard", "null"], scope="module")
def suite(request: pytest.FixtureRequest) -> Suite:
    chosen: Suite = request.param
    return chosen


def signing_key(suite: Suite, seed: bytes) -> SigningKey:
    """The first key of a chain of seeds that is canonical."""
    while (key := suite.signing_key(seed)) is None:
        seed = hashlib.sha256(seed).digest()
    return key


@given(seed=SEEDS)
def test_public_keys_are_canonical(suite: Suite, seed: bytes) -> None:
    public_key = signing_key(suite, seed).public_key
    assert len(public_key) == 32
    assert not public_key[31] & 0x80


def test_keys_depend_on_the_seed_alone(suite: Suite) -> None:
    keys = [signing_key(suite, seed).public_key for seed in (b"a" * 32, b"a" * 32, b"b" * 32)]
    assert keys[0] == keys[1] != keys[2]
    ephemeral = [suite.agreement_key(seed).public for seed in (b"a" * 32, b"a" * 32, b"b" * 32)]
    assert ephemeral[0] == ephemeral[1] != ephemeral[2]


@given(seed=SEEDS, message=st.binary(max_size=100))
def test_signature_verifies(suite: Suite, seed: bytes, message: bytes) -> None:
    key = signing_key(suite, seed)
    signature = key.sign(message)
    assert len(signature) == 64
    assert suite.verify(key.public_key, signature, message)


def test_signature_over_another_message_is_refused(suite: Suite) -> None:
    key = signing_key(suite, b"a" * 32)
    assert not suite.verify(key.public_key, key.sign(b"yes"), b"no")


def test_signature_of_another_key_is_refused(suite: Suite) -> None:
    key, other = signing_key(suite, b"a" * 32), signing_key(suite, b"b" * 32)
    assert not suite.verify(key.public_key, other.sign(b"yes"), b"yes")


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(65)])
def test_what_is_no_signature_is_refused(suite: Suite, signature: bytes) -> None:
    assert not suite.verify(signing_key(suite, b"a" * 32).public_key, signature, b"yes")


@pytest.mark.parametrize("public_key", [b"", b"short", b"\xff" * 32, bytes(33), bytes(100)])
def test_what_is_no_key_verifies_nothing(suite: Suite, public_key: bytes) -> None:
    signature = signing_key(suite, b"a" * 32).sign(b"yes")
    assert not suite.verify(public_key, signature, b"yes")


@given(seed=SEEDS)
def test_one_key_serves_signing_and_agreement(suite: Suite, seed: bytes) -> None:
    key = signing_key(suite, seed)
    assert suite.to_agreement(key.public_key) == key.agreement.public
    assert suite.to_signing(key.agreement.public) == key.public_key


@given(seed=SEEDS, other=SEEDS)
def test_both_sides_agree(suite: Suite, seed: bytes, other: bytes) -> None:
    static, ephemeral = signing_key(suite, seed).agreement, suite.agreement_key(other)
    shared = static.agree(ephemeral.public)
    assert len(shared) == 32
    assert shared == ephemeral.agree(static.public)


def test_other_pairs_agree_on_something_else(suite: Suite) -> None:
    a, b, c = (suite.agreement_key(bytes([n]) * 32) for n in (1, 2, 3))
    assert len({a.agree(b.public), b.agree(c.public), c.agree(a.public)}) == 3


def test_agreement_with_zeros_is_refused(suite: Suite) -> None:
    with pytest.raises(ForgedPacket):
        suite.agreement_key(b"a" * 32).agree(bytes(32))


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33), bytes(32), b"\xff" * 32])
def test_refused_public_keys_convert_to_nothing(suite: Suite, public: bytes) -> None:
    with pytest.raises(ForgedPacket):
        suite.to_agreement(public)
    with pytest.raises(ForgedPacket):
        suite.to_signing(public)


def test_sign_bit_is_refused(suite: Suite) -> None:
    key = signing_key(suite, b"a" * 32)
    with pytest.raises(ForgedPacket):
        suite.to_agreement(key.public_key[:31] + bytes([key.public_key[31] | 0x80]))
    with pytest.raises(ForgedPacket):
        suite.to_signing(key.agreement.public[:31] + bytes([key.agreement.public[31] | 0x80]))


@given(
    key=SEEDS,
    counter=st.integers(min_value=0, max_value=2**64 - 1),
    plaintext=st.binary(max_size=300),
    header=st.binary(max_size=30),
)
def test_cipher_opens_what_it_sealed(
    suite: Suite, key: bytes, counter: int, plaintext: bytes, header: bytes
) -> None:
    sealed = suite.cipher(key).seal(counter, plaintext, header)
    assert len(sealed) == len(plaintext) + 16
    assert suite.cipher(key).open(counter, sealed, header) == plaintext


@given(
    plaintext=st.binary(max_size=60),
    place=st.floats(min_value=0, max_value=1),
    bit=st.integers(0, 7),
)
def test_cipher_sees_every_flipped_bit(
    suite: Suite, plaintext: bytes, place: float, bit: int
) -> None:
    cipher = suite.cipher(b"k" * 32)
    tampered = bytearray(cipher.seal(1, plaintext, HEADER))
    tampered[int(place * (len(tampered) - 1))] ^= 1 << bit
    with pytest.raises(ForgedPacket):
        cipher.open(1, bytes(tampered), HEADER)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 20])
def test_cipher_refuses_what_was_cut_short(suite: Suite, size: int) -> None:
    cipher = suite.cipher(b"k" * 32)
    with pytest.raises(ForgedPacket):
        cipher.open(1, cipher.seal(1, b"plaintext", HEADER)[:size], HEADER)


def test_cipher_refuses_another_key_counter_or_header(suite: Suite) -> None:
    cipher = suite.cipher(b"k" * 32)
    sealed = cipher.seal(1, b"plaintext", HEADER)
    with pytest.raises(ForgedPacket):
        suite.cipher(b"K" * 32).open(1, sealed, HEADER)
    with pytest.raises(ForgedPacket):
        cipher.open(2, sealed, HEADER)
    with pytest.raises(ForgedPacket):
        cipher.open(1, sealed, b"\x05header")
    assert cipher.open(1, sealed, HEADER) == b"plaintext"


class CountingSuite(NullSuite):
    def __init__(self) -> None:
        super().__init__()
        self.verified = 0

    def verify(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        self.verified += 1
        return signature == b"good" * 16


def test_the_same_bytes_are_verified_once() -> None:
    suite = CountingSuite()
    signatures = VerifiedSignatures(suite, capacity=8)
    assert all(signatures.check(b"k" * 32, b"good" * 16, b"message") for _ in range(3))
    assert suite.verified == 1
    assert signatures.check(b"k" * 32, b"good" * 16, b"another")
    assert suite.verified == 2


def test_a_signature_that_failed_is_not_remembered() -> None:
    suite = CountingSuite()
    signatures = VerifiedSignatures(suite, capacity=2)
    assert signatures.check(b"k" * 32, b"good" * 16, b"message")
    for number in range(9):
        assert not signatures.check(b"k" * 32, b"evil" * 16, bytes([number]))
    assert signatures.check(b"k" * 32, b"good" * 16, b"message")
    assert suite.verified == 10


def test_the_signature_used_longest_ago_is_forgotten_first() -> None:
    suite = CountingSuite()
    signatures = VerifiedSignatures(suite, capacity=2)
    for message in (b"a", b"b", b"a", b"c"):  # c pushes out b
        signatures.check(b"k" * 32, b"good" * 16, message)
    assert suite.verified == 3
    signatures.check(b"k" * 32, b"good" * 16, b"a")
    assert suite.verified == 3
    signatures.check(b"k" * 32, b"good" * 16, b"b")
    assert suite.verified == 4
