"""A cipher suite that PROTECTS NOTHING: no secret, no privacy, no proof of anything.

Keys are their own public halves, signatures can be made by whoever knows a public key, and
ciphertext is plaintext with a checksum. It exists so that ten thousand simulated nodes spend their
time on the protocol instead of on curves. Sizes, refusals and errors are those of the real suite,
as the shared contract test shows. Only code can choose it; no setting reaches it.
"""

from __future__ import annotations

import hashlib
from struct import Struct
from zlib import crc32

from kademlia_node.core.suite import AgreementKey, Cipher, SigningKey
from kademlia_node.errors import ForgedPacket

_SIZE = 32
_TAG = Struct("<QII")  # counter, checksum of the key, checksum of everything: 16 bytes


def _canonical(seed: bytes) -> bytes:
    assert len(seed) == _SIZE
    public = seed[:-1] + bytes([seed[-1] & 0x7F])
    return public if any(public) else b"\x01" + public[1:]  # zeros are what everybody refuses


def _checked(public: bytes) -> bytes:
    if len(public) != _SIZE or public[-1] & 0x80 or not any(public):
        raise ForgedPacket("a refused public key")
    return public


class _NullAgreement:
    __slots__ = ("public",)

    def __init__(self, public: bytes) -> None:
        self.public = public

    def agree(self, public: bytes) -> bytes:
        if not any(public):
            raise ForgedPacket("a low-order point")
        first, second = sorted((self.public, public))
        return hashlib.blake2b(first + second, digest_size=_SIZE).digest()


class _NullSigning:
    __slots__ = ("agreement", "public_key")

    def __init__(self, public_key: bytes) -> None:
        self.public_key = public_key
        self.agreement = _NullAgreement(public_key)

    def sign(self, message: bytes) -> bytes:
        return hashlib.blake2b(message, digest_size=64, key=self.public_key).digest()


class _NullCipher:
    __slots__ = ("_key_sum",)

    def __init__(self, key: bytes) -> None:
        self._key_sum = crc32(key)

    def seal(self, counter: int, plaintext: bytes, header: bytes) -> bytes:
        return plaintext + self._tag(counter, plaintext, header)

    def open(self, counter: int, ciphertext: bytes, header: bytes) -> bytes:
        plaintext, tag = ciphertext[: -_TAG.size], ciphertext[-_TAG.size :]
        if tag != self._tag(counter, plaintext, header):
            raise ForgedPacket("authentication failed")
        return plaintext

    def _tag(self, counter: int, plaintext: bytes, header: bytes) -> bytes:
        key_sum = self._key_sum
        return _TAG.pack(counter, key_sum, crc32(plaintext, crc32(header, key_sum)))


class NullSuite:
    """`core.suite.Suite` at nearly no cost, and with no protection. For simulations only."""

    def signing_key(self, seed: bytes) -> SigningKey | None:
        """The key pair whose public key is the seed itself, sign bit cleared; never None."""
        return _NullSigning(_canonical(seed))

    def agreement_key(self, seed: bytes) -> AgreementKey:
        """The key pair whose public half is the seed itself, top bit cleared."""
        return _NullAgreement(_canonical(seed))

    def verify(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the signature is the message's hash under the public key."""
        return len(public_key) == _SIZE and signature == _NullSigning(public_key).sign(message)

    def to_agreement(self, public_key: bytes) -> bytes:
        """The same 32 bytes; raises ForgedPacket for zeros or a set sign bit."""
        return _checked(public_key)

    def to_signing(self, public: bytes) -> bytes:
        """The same 32 bytes; raises ForgedPacket for zeros or a set top bit."""
        return _checked(public)

    def cipher(self, key: bytes) -> Cipher:
        """Plaintext and a 16-byte checksum over key, counter, header and plaintext."""
        return _NullCipher(key)
