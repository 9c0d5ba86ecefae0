"""Noise_IK_25519_ChaChaPoly_SHA256, as the Noise Protocol Framework (revision 34) defines it.

    <- s                 the initiator knows the responder's static key beforehand
    -> e, es, s, ss      first message, with a payload
    <- e, ee, se         second message, with a payload; then each side has two transport keys

This file knows the pattern and nothing of packets, identities or networks. A handshake is used
once: `Initiation.write` then `Initiation.read`, or `Response.read` then `Response.write`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from kademlia_node.core.suite import AgreementKey, Suite
from kademlia_node.errors import ForgedPacket

PROTOCOL = b"Noise_IK_25519_ChaChaPoly_SHA256"
TAG_BYTES = 16
DH_BYTES = 32
FIRST_BYTES_MIN = DH_BYTES + DH_BYTES + TAG_BYTES + TAG_BYTES  # e, encrypted s, empty payload
SECOND_BYTES_MIN = DH_BYTES + TAG_BYTES  # e, empty payload


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """The outcome of a handshake: one key per direction, and the hash that names the channel."""

    send: bytes
    receive: bytes
    handshake_hash: bytes


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs (section 4.3)."""
    secret = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(secret, b"\x01", "sha256")
    return first, hmac.digest(secret, first + b"\x02", "sha256")


class _Symmetric:
    """The SymmetricState of section 5.2; every key of IK's handshake is used for one message."""

    __slots__ = ("_chaining_key", "_key", "_suite", "hash")

    def __init__(self, suite: Suite, prologue: bytes, responder_static: bytes) -> None:
        self._suite = suite
        self.hash = self._chaining_key = PROTOCOL  # exactly 32 bytes: no hashing (section 5.2)
        self._key = b""
        self.mix_hash(prologue)
        self.mix_hash(responder_static)  # the pre-message "<- s"

    def mix_hash(self, material: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + material).digest()

    def mix_key(self, material: bytes) -> None:
        self._chaining_key, self._key = _hkdf(self._chaining_key, material)

    def encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = self._suite.cipher(self._key).seal(0, plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt(self, ciphertext: bytes) -> bytes:
        plaintext = self._suite.cipher(self._key).open(0, ciphertext, self.hash)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        return _hkdf(self._chaining_key, b"")


class Initiation:
    """The side that knows the other's static key and speaks first."""

    def __init__(
        self,
        suite: Suite,
        *,
        static: AgreementKey,
        ephemeral: AgreementKey,
        remote_static: bytes,
        prologue: bytes,
    ) -> None:
        self._static = static
        self._ephemeral = ephemeral
        self._remote_static = remote_static
        self._symmetric = _Symmetric(suite, prologue, remote_static)

    def write(self, payload: bytes) -> bytes:
        """The first message: e (32), encrypted s (48), encrypted payload (its length + 16)."""
        state = self._symmetric
        state.mix_hash(self._ephemeral.public)
        state.mix_key(self._ephemeral.agree(self._remote_static))  # es
        sealed_static = state.encrypt(self._static.public)
        state.mix_key(self._static.agree(self._remote_static))  # ss
        return self._ephemeral.public + sealed_static + state.encrypt(payload)

    def read(self, message: bytes) -> tuple[bytes, TransportKeys]:
        """Read the second message; raises ForgedPacket, after which nothing has changed.

        A forgery that races the true answer must not spoil it, so work happens on a copy.
        """
        if len(message) < SECOND_BYTES_MIN:
            raise ForgedPacket("a truncated handshake")
        state = _copy(self._symmetric)
        remote_ephemeral = message[:DH_BYTES]
        state.mix_hash(remote_ephemeral)
        state.mix_key(self._ephemeral.agree(remote_ephemeral))  # ee
        state.mix_key(self._static.agree(remote_ephemeral))  # se
        payload = state.decrypt(message[DH_BYTES:])
        send, receive = state.split()
        return payload, TransportKeys(send, receive, state.hash)


def _copy(state: _Symmetric) -> _Symmetric:
    twin = object.__new__(_Symmetric)
    for name in _Symmetric.__slots__:
        setattr(twin, name, getattr(state, name))
    return twin


class Response:
    """The side that is spoken to; learns who speaks from the first message."""

    def __init__(self, suite: Suite, *, static: AgreementKey, prologue: bytes) -> None:
        self._suite = suite
        self._static = static
        self._symmetric = _Symmetric(suite, prologue, static.public)
        self._remote_ephemeral = b""
        self.remote_static = b""

    def read(self, message: bytes) -> bytes:
        """Read the first message and return its payload; sets `remote_static`.

        Raises:
            ForgedPacket: not from whoever owns the static key it claims.
        """
        if len(message) < FIRST_BYTES_MIN:
            raise ForgedPacket("a truncated handshake")
        state = self._symmetric
        self._remote_ephemeral = message[:DH_BYTES]
        state.mix_hash(self._remote_ephemeral)
        state.mix_key(self._static.agree(self._remote_ephemeral))  # es
        sealed_end = DH_BYTES + DH_BYTES + TAG_BYTES
        self.remote_static = state.decrypt(message[DH_BYTES:sealed_end])
        state.mix_key(self._static.agree(self.remote_static))  # ss
        return state.decrypt(message[sealed_end:])

    def write(self, payload: bytes, *, ephemeral: AgreementKey) -> tuple[bytes, TransportKeys]:
        """The second message: e (32), encrypted payload (its length + 16)."""
        assert self.remote_static, "a response follows a first message"
        state = self._symmetric
        state.mix_hash(ephemeral.public)
        state.mix_key(ephemeral.agree(self._remote_ephemeral))  # ee
        state.mix_key(ephemeral.agree(self.remote_static))  # se
        message = ephemeral.public + state.encrypt(payload)
        receive, send = state.split()
        return message, TransportKeys(send, receive, state.hash)
