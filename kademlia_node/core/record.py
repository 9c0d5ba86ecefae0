"""A record: a value of bytes under a signed header, and the rules by which records live and die.

The header says who wrote what, in which order and until when. Storers judge it before a byte of the
value is fetched; readers and repairers judge it again, so a peer that holds a record can withhold
it, never alter it. A blob has no author: its key is the hash of its value.

Not known here: where a record belongs (`replica`), who pays for its bytes (`store.base`), how it
travels (`codec`). `wall` is seconds since 1970; `network_tag` is the 32-byte name of the network,
so that a signature made for one network says nothing in another.

Driven in this order: `make_*` by the author; `unpack_header`, `check_header`, `check_value` by
whoever receives; `supersedes` by whoever holds a predecessor; `merge` by readers of many answers.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from typing import Protocol, Self, TypeVar

from kademlia_node.core.key import Kind, blob_key, entry_key
from kademlia_node.core.suite import SigningKey
from kademlia_node.errors import BadRecord, MalformedMessage
from kademlia_node.settings import EXPIRY_DEFAULT_S, EXPIRY_MAX_S, SLOT_BYTES_MAX

TOMBSTONE = 1  # the flag of a deletion: a successor with no value
_EMPTY_HASH = hashlib.sha256(b"").digest()
_KINDS = {int(kind): kind for kind in Kind}

_COMMON = struct.Struct(">BBQI32s")  # kind, flags, expires, length, value hash: a blob ends here
_AUTHORED = struct.Struct(">32sQ64s")  # author, seq, signature; the slot is what remains
_SIGNED = struct.Struct(">11s32s32sBB32sQQI32s")
_SIGNED_HEADER_BYTES = _COMMON.size + _AUTHORED.size

Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, message) -> whether it is that key's signature: `Suite.verify`."""


class Reason(IntEnum):
    """Why a record is refused: a number for the wire, and a `sentence` for people."""

    MALFORMED = 1, "its parts contradict each other"
    TOO_LARGE = 2, "larger than the network carries"
    EXPIRED = 3, "expired"
    TOO_LONG_LIVED = 4, "expires later than any storer promises"
    FUTURE_SEQ = 5, "its sequence number lies in the far future"
    WRONG_KEY = 6, "another author's or slot's key"
    BAD_SIGNATURE = 7, "not signed by its author"
    WRONG_VALUE = 8, "another value than its header tells"
    WRONG_LENGTH = 9, "its value is cut short or too long"
    SHORTENED = 10, "would expire before its predecessor"  # a storer's answer, see `supersedes`

    sentence: str

    def __new__(cls, number: int, sentence: str = "") -> Self:
        """A member; calls like `Reason(3)` find it again."""
        member = int.__new__(cls, number)
        member._value_, member.sentence = number, sentence
        return member


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a storer must know of a record. Blobs leave author, slot, seq and signature empty.

    The packed form has exactly one spelling: `unpack_header(p).pack() == p` for every p it accepts,
    so a header read from the wire and passed on is the same bytes.
    """

    kind: Kind
    flags: int = 0
    author: bytes = b""  # canonical public key, 32 bytes
    slot: bytes = b""  # the author's name for it, at most SLOT_BYTES_MAX
    seq: int = 0  # u64; by custom microseconds since 1970, see `next_seq`
    expires: int  # u64, seconds since 1970; from then on the record does not exist
    length: int  # u32, bytes of value
    value_hash: bytes  # SHA-256 of the value
    signature: bytes = b""  # 64 bytes

    @property
    def is_tombstone(self) -> bool:
        """Whether this header deletes its predecessors."""
        return bool(self.flags & TOMBSTONE)

    @property
    def version(self) -> tuple[int, bytes, int, int]:
        """What orders the records of one (key, author, slot); a renewal keeps its version.

        The hash makes two writers with the same seq converge. The length follows from the hash
        unless the author lies; with it in here, a lie is a new version whose value must be shown.
        """
        return self.seq, self.value_hash, self.flags, self.length

    def pack(self) -> bytes:
        """46 bytes for a blob, 150 to 214 for a signed record; big-endian."""
        common = _COMMON.pack(self.kind, self.flags, self.expires, self.length, self.value_hash)
        if self.kind is Kind.BLOB:
            return common
        return common + _AUTHORED.pack(self.author, self.seq, self.signature) + self.slot


@dataclass(frozen=True, slots=True)
class Record:
    """A header with its value, under the 32-byte digest of its key."""

    key: bytes
    header: Header
    value: bytes


def unpack_header(packed: bytes) -> Header:
    """The header of its packed bytes.

    Raises:
        MalformedMessage: another size, an unknown kind or flag, or a key that is not canonical.
    """
    if len(packed) < _COMMON.size:
        raise MalformedMessage("a record header is cut short")
    kind_number, flags, expires, length, value_hash = _COMMON.unpack_from(packed)
    kind = _KINDS.get(kind_number)
    if kind is None or flags & ~TOMBSTONE:
        raise MalformedMessage("a record of unknown kind or with unknown flags")
    if kind is Kind.BLOB:
        if len(packed) != _COMMON.size:
            raise MalformedMessage("a blob's header has another size")
        return Header(kind=kind, flags=flags, expires=expires, length=length, value_hash=value_hash)
    if not 0 <= len(packed) - _SIGNED_HEADER_BYTES <= SLOT_BYTES_MAX:
        raise MalformedMessage("a signed header has another size")
    author, seq, signature = _AUTHORED.unpack_from(packed, _COMMON.size)
    if author[31] & 0x80:
        raise MalformedMessage("not a canonical public key")
    return Header(
        kind=kind,
        flags=flags,
        author=author,
        slot=packed[_SIGNED_HEADER_BYTES:],
        seq=seq,
        expires=expires,
        length=length,
        value_hash=value_hash,
        signature=signature,
    )


# --- Making records -------------------------------------------------------------------------------


def next_seq(last: int | None, wall: float) -> int:
    """The seq of an author's next write: one more than the last, or now in microseconds.

    A device that lost its memory thus still writes past what it wrote before.
    """
    return max(0 if last is None else last + 1, int(wall * 1_000_000))


def make_blob(value: bytes, *, expires: int) -> Record:
    """An immutable record. `expires` is a wish: each storer clamps it, see `clamp_blob`."""
    header = Header(
        kind=Kind.BLOB,
        expires=expires,
        length=len(value),
        value_hash=hashlib.sha256(value).digest(),
    )
    return Record(blob_key(value).digest, header, value)


def make_entry(
    signing_key: SigningKey,
    slot: bytes,
    *,
    value: bytes,
    seq: int,
    expires: int,
    network_tag: bytes,
) -> Record:
    """The author's entry named `slot`. The same seq with a later `expires` renews it."""
    header = _unsigned(Kind.ENTRY, value, slot=slot, seq=seq, expires=expires)
    key = entry_key(signing_key.public_key, slot).digest
    return _sign(key, header, value=value, signing_key=signing_key, network_tag=network_tag)


def make_topic_entry(
    signing_key: SigningKey,
    topic_digest: bytes,
    *,
    slot: bytes,
    value: bytes,
    seq: int,
    expires: int,
    network_tag: bytes,
) -> Record:
    """The author's entry `slot` under a topic, whose key has the 32-byte `topic_digest`."""
    header = _unsigned(Kind.TOPIC, value, slot=slot, seq=seq, expires=expires)
    return _sign(
        topic_digest, header, value=value, signing_key=signing_key, network_tag=network_tag
    )


def make_tombstone(
    signing_key: SigningKey,
    key: bytes,
    *,
    kind: Kind,
    slot: bytes,
    seq: int,
    expires: int,
    network_tag: bytes,
) -> Record:
    """Deletes the author's record `slot` under `key`; must not expire before what it deletes."""
    header = replace(_unsigned(kind, b"", slot=slot, seq=seq, expires=expires), flags=TOMBSTONE)
    return _sign(key, header, value=b"", signing_key=signing_key, network_tag=network_tag)


def _unsigned(kind: Kind, value: bytes, *, slot: bytes, seq: int, expires: int) -> Header:
    assert kind is not Kind.BLOB
    assert len(slot) <= SLOT_BYTES_MAX
    return Header(
        kind=kind,
        slot=slot,
        seq=seq,
        expires=expires,
        length=len(value),
        value_hash=hashlib.sha256(value).digest(),
    )


def _sign(
    key: bytes, header: Header, *, value: bytes, signing_key: SigningKey, network_tag: bytes
) -> Record:
    signature = signing_key.sign(_signed_string(key, header, network_tag=network_tag))
    signed = replace(header, author=signing_key.public_key, signature=signature)
    return Record(key, signed, value)


def _signed_string(key: bytes, header: Header, *, network_tag: bytes) -> bytes:
    """Fixed length, so no two headers share it. The author is the key that verifies it."""
    return _SIGNED.pack(
        b"kad1-record",
        network_tag,
        key,
        header.kind,
        header.flags,
        hashlib.sha256(header.slot).digest(),
        header.seq,
        header.expires,
        header.length,
        header.value_hash,
    )


# --- Judging records ------------------------------------------------------------------------------


def clamp_blob(header: Header, wall: float) -> Header:
    """A blob's header as storers keep it: nobody signed its expiry, so at most 48 h from now."""
    assert header.kind is Kind.BLOB
    latest = int(wall) + EXPIRY_DEFAULT_S
    return header if header.expires <= latest else replace(header, expires=latest)


def check_header(
    key: bytes,
    header: Header,
    *,
    wall: float,
    network_tag: bytes,
    length_max: int,
    verify: Verify,
) -> None:
    """Judge a header found under `key`: what is cheap first, the signature (0.1 ms) last.

    `length_max` is the longest value the network carries, in bytes; `verify` is `Suite.verify` or
    `suite.VerifiedSignatures.check`.

    Raises:
        BadRecord: with a `Reason`.
    """
    _check_form(header, length_max=length_max)
    if header.expires <= wall:
        raise BadRecord(Reason.EXPIRED)
    if header.kind is Kind.BLOB:
        return
    horizon = wall + EXPIRY_MAX_S
    if header.expires > horizon:
        raise BadRecord(Reason.TOO_LONG_LIVED)
    if header.seq > horizon * 1_000_000:  # else one write of the highest seq would be the last
        raise BadRecord(Reason.FUTURE_SEQ)
    if header.kind is Kind.ENTRY and entry_key(header.author, header.slot).digest != key:
        raise BadRecord(Reason.WRONG_KEY)
    signed = _signed_string(key, header, network_tag=network_tag)
    if not verify(header.author, header.signature, signed):
        raise BadRecord(Reason.BAD_SIGNATURE)


def _check_form(header: Header, *, length_max: int) -> None:
    if header.length > length_max:
        raise BadRecord(Reason.TOO_LARGE)
    if header.is_tombstone:
        empty = header.length == 0 and header.value_hash == _EMPTY_HASH
        if header.kind is Kind.BLOB or not empty:
            raise BadRecord(Reason.MALFORMED)


def check_value(key: bytes, header: Header, *, value: bytes) -> None:
    """Judge a value that arrived for a header which passed `check_header`.

    Raises:
        BadRecord: WRONG_LENGTH; WRONG_VALUE, for a blob also when the key is not the value's.
    """
    if len(value) != header.length:
        raise BadRecord(Reason.WRONG_LENGTH)
    another_key = header.kind is Kind.BLOB and blob_key(value).digest != key
    if another_key or hashlib.sha256(value).digest() != header.value_hash:
        raise BadRecord(Reason.WRONG_VALUE)


# --- Conflicts ------------------------------------------------------------------------------------


class Verdict(Enum):
    """What a new header is to the one already held for the same (key, author, slot)."""

    NEWER = auto()  # a higher version, or nothing was held
    RENEWAL = auto()  # the same version, expiring later: its value is already here
    SAME = auto()  # the same version, expiring no later
    OLDER = auto()  # a lower version
    SHORTENED = auto()  # a higher seq that would expire before its predecessor


def supersedes(new: Header, old: Header | None) -> Verdict:
    """Compare a header with its predecessor (None: there is none).

    A successor that expires first is refused: once it was gone, a copy of the old one that slept
    somewhere would come back. Between equal seqs nothing is old, so there the hash alone decides,
    and two devices that wrote at once converge although their expiries differ by a moment.
    """
    if old is None:
        return Verdict.NEWER
    if new.version == old.version:
        return Verdict.RENEWAL if new.expires > old.expires else Verdict.SAME
    if new.version < old.version:
        return Verdict.OLDER
    if new.seq > old.seq and new.expires < old.expires:
        return Verdict.SHORTENED
    return Verdict.NEWER


def equivocates(a: Header, b: Header) -> bool:
    """Whether an author gave one seq to two different contents of the same (key, author, slot)."""
    return a.seq == b.seq and a.version != b.version


class Headed(Protocol):
    """A record, or an item whose value is not here yet."""

    @property
    def header(self) -> Header:
        """What orders it among others."""


H = TypeVar("H", bound=Headed)


def merge(items: Iterable[H]) -> list[H]:
    """Of items under one key the latest of each (author, slot), sorted; tombstones included.

    A topic's key does not prove its kind, so anyone can sign topic entries under the key of a blob
    or an entry. Where a record of a proven kind is present, such squatters are left out.
    """
    winners: dict[tuple[bytes, bytes], H] = {}
    for item in sorted(items, key=lambda one: (one.header.version, one.header.expires)):
        winners[item.header.author, item.header.slot] = item
    kind = min((item.header.kind for item in winners.values()), default=None)
    return [winners[place] for place in sorted(winners) if winners[place].header.kind is kind]
