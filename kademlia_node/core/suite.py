"""The cryptographic primitives that identities and sessions stand on, behind one small interface.

`STANDARD` is the only suite there is outside a simulation: Ed25519, X25519 and ChaCha20-Poly1305 of
the `cryptography` package. The simulator brings a null suite of the same sizes; no setting reaches
it. Protocol logic (patterns, counters, replay) is not here: that is `noise`, `session`, `identity`.
`VerifiedSignatures` spares a node from verifying the same bytes twice.
"""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from kademlia_node.core import curve
from kademlia_node.errors import ForgedPacket


class AgreementKey(Protocol):
    """A Diffie-Hellman key pair; `public` is 32 bytes."""

    @property
    def public(self) -> bytes:
        """The 32-byte public half."""
        ...

    def agree(self, public: bytes) -> bytes:
        """The 32-byte shared secret; raises ForgedPacket for a point that gives none."""
        ...


class SigningKey(Protocol):
    """A long-term key pair that signs; `public_key` is a canonical Ed25519 key of 32 bytes."""

    @property
    def public_key(self) -> bytes:
        """The canonical public key, 32 bytes."""
        ...

    @property
    def agreement(self) -> AgreementKey:
        """The same secret as a Diffie-Hellman key pair."""
        ...

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature."""
        ...


class Cipher(Protocol):
    """One direction of an authenticated cipher under one key; adds 16 bytes."""

    def seal(self, counter: int, plaintext: bytes, header: bytes) -> bytes:
        """Encrypt; a counter is never used twice."""
        ...

    def open(self, counter: int, ciphertext: bytes, header: bytes) -> bytes:
        """Decrypt; raises ForgedPacket when anything was altered."""
        ...


class Suite(Protocol):
    """What identities and sessions need of cryptography."""

    def signing_key(self, seed: bytes) -> SigningKey | None:
        """The key pair of a 32-byte seed, or None when its public key is not canonical."""
        ...

    def agreement_key(self, seed: bytes) -> AgreementKey:
        """An ephemeral Diffie-Hellman key pair of a 32-byte seed."""
        ...

    def verify(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the signature is that key's, over exactly that message."""
        ...

    def to_agreement(self, public_key: bytes) -> bytes:
        """The Diffie-Hellman public key of a canonical signing key; raises ForgedPacket."""
        ...

    def to_signing(self, public: bytes) -> bytes:
        """The canonical signing key of a Diffie-Hellman public key; raises ForgedPacket."""
        ...

    def cipher(self, key: bytes) -> Cipher:
        """An authenticated cipher under a 32-byte key."""
        ...


class _X25519:
    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:  # the all-zero result of a low-order point
            raise ForgedPacket("a low-order point") from None


class _Ed25519:
    __slots__ = ("_private", "agreement", "public_key")

    def __init__(self, seed: bytes, private: Ed25519PrivateKey, public_key: bytes) -> None:
        self._private = private
        self.public_key = public_key
        self.agreement = _X25519(hashlib.sha512(seed).digest()[:32])  # RFC 8032, 5.1.5

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


class _ChaCha:
    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)

    def seal(self, counter: int, plaintext: bytes, header: bytes) -> bytes:
        return self._aead.encrypt(b"\0\0\0\0" + counter.to_bytes(8, "little"), plaintext, header)

    def open(self, counter: int, ciphertext: bytes, header: bytes) -> bytes:
        try:
            return self._aead.decrypt(
                b"\0\0\0\0" + counter.to_bytes(8, "little"), ciphertext, header
            )
        except InvalidTag:
            raise ForgedPacket("authentication failed") from None


class StandardSuite:
    """Ed25519, X25519, ChaCha20-Poly1305."""

    def signing_key(self, seed: bytes) -> SigningKey | None:
        """See `Suite`; half of all seeds give a canonical key."""
        private = Ed25519PrivateKey.from_private_bytes(seed)
        public_key = private.public_key().public_bytes_raw()
        return None if public_key[31] & 0x80 else _Ed25519(seed, private, public_key)

    def agreement_key(self, seed: bytes) -> AgreementKey:
        """See `Suite`."""
        return _X25519(seed)

    def verify(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """See `Suite`; a key that is no point of the curve verifies nothing."""
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def to_agreement(self, public_key: bytes) -> bytes:
        """See `curve.to_montgomery`."""
        return curve.to_montgomery(public_key)

    def to_signing(self, public: bytes) -> bytes:
        """See `curve.to_edwards`."""
        return curve.to_edwards(public)

    def cipher(self, key: bytes) -> Cipher:
        """See `Suite`; 2.3 KB and 2.6 us to make: keep it with the session."""
        return _ChaCha(key)


STANDARD: Final[Suite] = StandardSuite()


class VerifiedSignatures:
    """Remembers the signatures that held, so that no bytes are verified twice (LRU).

    Failures are not remembered: whoever sends them could otherwise push out what is true.
    """

    def __init__(self, suite: Suite, *, capacity: int) -> None:
        self._suite = suite
        self._capacity = capacity
        self._held: dict[bytes, None] = {}  # oldest first

    def check(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """As `Suite.verify`, at the cost of one hash when the answer is known to be yes."""
        mark = hashlib.sha256(public_key + signature + message).digest()
        known = mark in self._held
        if not known and not self._suite.verify(public_key, signature, message):
            return False
        self._held.pop(mark, None)
        self._held[mark] = None
        if len(self._held) > self._capacity:
            del self._held[next(iter(self._held))]
        return True
