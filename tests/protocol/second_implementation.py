"""A second implementation of the wire, small and naive, written from docs/PROTOCOL.md alone.

It imports nothing of ours, and reads what ours wrote. Where a function says "Section 6", that is
the section of the document which it was written from. Only for tests: nothing here is hardened.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

P = 2**255 - 19


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")[:16]


def hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    secret = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(secret, b"\x01", "sha256")
    return first, hmac.digest(secret, first + b"\x02", "sha256")


def derive(
    name: bytes, secret: bytes | None, public_key: bytes, *, link_nonce: bytes
) -> dict[str, bytes]:
    """Section 2."""
    tag = sha256(b"kad1-network", name)
    key = hmac.digest(secret, b"kad1-network-key" + tag, "sha256") if secret else bytes(32)
    derived = {
        "tag": tag,
        "key": key,
        "prologue": b"kad1" + tag + key,
        "who_key": sha256(b"kad1-who", tag, key),
        "mac1_key_of_bob": sha256(b"kad1-mac1", tag, key, public_key),
        "link_key": sha256(b"kad1-link", tag, key, link_nonce),
    }
    for attempt in range(256 if secret else 0):
        assert secret
        label = b"kad1-commons" + struct.pack(">I", attempt)
        seed = hmac.digest(secret, label + tag, "sha256")
        commons = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        if not commons[31] & 0x80:
            return derived | {"commons_seed": seed, "commons_public_key": commons}
    return derived


def agreement(seed: bytes) -> X25519PrivateKey:
    """Section 3: the X25519 half of a key pair."""
    return X25519PrivateKey.from_private_bytes(hashlib.sha512(seed).digest()[:32])


def to_montgomery(public_key: bytes) -> bytes:
    y = int.from_bytes(public_key, "little")
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")


def to_edwards(u_bytes: bytes) -> bytes:
    u = int.from_bytes(u_bytes, "little")
    return ((u - 1) * pow(u + 1, -1, P) % P).to_bytes(32, "little")


def dh(secret: X25519PrivateKey, public: bytes) -> bytes:
    return secret.exchange(X25519PublicKey.from_public_bytes(public))


class Transcript:
    """Section 6: h, ck and k of Noise."""

    def __init__(self, prologue: bytes, responder_static: bytes) -> None:
        self.h = self.ck = b"Noise_IK_25519_ChaChaPoly_SHA256"
        self.k = b""
        self.mix_hash(prologue)
        self.mix_hash(responder_static)

    def mix_hash(self, more: bytes) -> None:
        self.h = sha256(self.h, more)

    def mix_key(self, shared: bytes) -> bytes:
        self.ck, self.k = hkdf(self.ck, shared)
        return self.k

    def open(self, sealed: bytes) -> bytes:
        plain = ChaCha20Poly1305(self.k).decrypt(bytes(12), sealed, self.h)
        self.mix_hash(sealed)
        return plain


def read_handshake(
    init: bytes, resp: bytes, *, prologue: bytes, seeds: tuple[bytes, bytes], ephemeral_a: bytes
) -> dict[str, bytes]:
    """Bob reads the INIT, Alice reads the RESP."""
    static_a, static_b = agreement(seeds[0]), agreement(seeds[1])
    state = Transcript(prologue + init[1:9], static_b.public_key().public_bytes_raw())
    seen = {"h_before": state.h}
    e_a = init[9:41]
    state.mix_hash(e_a)
    seen["es"] = dh(static_b, e_a)
    seen["k_es"] = state.mix_key(seen["es"])
    seen["s_A"] = state.open(init[41:89])
    seen["ss"] = dh(static_b, seen["s_A"])
    seen["k_ss"] = state.mix_key(seen["ss"])
    seen["opening"] = state.open(init[89:-32])
    seen["h_after_INIT"] = state.h
    e_b = resp[9:41]
    state.mix_hash(e_b)
    seen["ee"] = dh(X25519PrivateKey.from_private_bytes(ephemeral_a), e_b)
    state.mix_key(seen["ee"])
    seen["se"] = dh(static_a, e_b)
    seen["k_se"] = state.mix_key(seen["se"])
    seen["sid_B_and_reply"] = state.open(resp[41:])
    seen["h_after_RESP"] = state.h
    seen["k_from_initiator"], seen["k_from_responder"] = hkdf(state.ck, b"")
    return seen


def open_data(key: bytes, datagram: bytes) -> bytes:
    """Section 7."""
    nonce = bytes(4) + datagram[9:17]
    return ChaCha20Poly1305(key).decrypt(nonce, datagram[17:], datagram[:17])


def open_beacon(link_key: bytes, sealed: bytes, port: int) -> bytes:
    """Section 15, on one link: the public key."""
    return ChaCha20Poly1305(link_key).decrypt(bytes(12), sealed, struct.pack(">H", port))


def read_manifest(packed: bytes) -> list[tuple[bytes, int]]:
    """Section 9: hash and length of each piece."""
    assert packed[0] == 1
    return list(struct.iter_unpack(">32sI", packed[1:]))


def read_page(page: bytes) -> list[tuple[bytes, bytes | None]]:
    """Section 9: header and value of each record; None where the value was left out."""
    items: list[tuple[bytes, bytes | None]] = []
    while page:
        header, page = page[1 : 1 + page[0]], page[1 + page[0] :]
        (length,) = struct.unpack_from(">H", page)
        value = None if length == 0xFFFF else page[2 : 2 + length]
        items.append((header, value))
        page = page[2 + len(value or b"") :]
    return items


def read_prefix(bits: int, packed: bytes) -> str:
    """Section 9: a prefix, as the hexadecimal digits that a key must begin with."""
    return packed.hex()[: bits // 4]


def digest_versions(headers: list[bytes]) -> bytes:
    """Section 9: of all records of one key."""
    told = b""
    for header in headers:
        told += bytes([len(header)]) + header[:2] + header[10:86] + header[150:]
    return sha256(told)[:8]


def tell_digests(held: dict[bytes, bytes]) -> bytes:
    """Section 9: the last field of an answer to DIGEST, from keys and digests of their versions."""
    return tell_below(sorted((key.hex(), key + versions) for key, versions in held.items()), 0)


def tell_below(rows: list[tuple[str, bytes]], depth: int) -> bytes:
    if len(rows) <= 27:
        return b"".join(row for _, row in rows)
    told = b""
    for digit in "0123456789abcdef":
        below = tell_below([row for row in rows if row[0][depth] == digit], depth + 1)
        told += sha256(below)[:8] if below else bytes(8)
    return told


def verify_record(tag: bytes, key: bytes, header: bytes, value: bytes) -> None:
    """Section 11; raises InvalidSignature."""
    kind, flags, expires, length, value_hash = struct.unpack_from(">BBQI32s", header)
    author, seq, signature = struct.unpack_from(">32sQ64s", header, 46)
    slot = header[150:]
    assert (length, value_hash) == (len(value), sha256(value))
    assert kind != 2 or key == sha256(b"\x02", author, slot)
    signed = b"kad1-record" + tag + key + bytes([kind, flags]) + sha256(slot)
    signed += struct.pack(">QQI", seq, expires, length) + value_hash
    Ed25519PublicKey.from_public_bytes(author).verify(signature, signed)
