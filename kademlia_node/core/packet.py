"""The seven packets: where each field stands, and nothing of what it means.

    INIT   01 | sid_A 8 | e_A 32 | enc(s_A) 48 | enc(payload)+16 | mac1 16 | cookie 16    >= 400 B
    RESP   02 | sid_A 8 | e_B 32 | enc(sid_B 8 | payload)+16
    RETRY  03 | sid_A 8 | cookie 16                                                         25 B
    DATA   04 | sid 8 | counter 8 (little-endian) | enc(payload)+16                       33+n B
    RESET  05 | sid 8 | counter 8                                                           17 B
    WHO    06 | nonce 8 | mac 16 | zeros to 200 B
    IAM    07 | nonce 8 | public key 32 | mac 16                                            57 B

The sid of a packet is always the receiver's own name for the session, but in INIT (the sender's, to
be used in the answers) and RESET (a copy of what was not understood). Handshakes authenticate both
sids: sid_A is part of the prologue, sid_B stands inside the ciphertext. Parsing checks sizes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from kademlia_node.core import noise
from kademlia_node.core.contact import KEY_BYTES
from kademlia_node.core.network import MAC_BYTES, is_mac, mac
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import INIT_BYTES_MIN, PACKET_BYTES_MAX, WHO_BYTES

SID_BYTES = 8
COUNTER_BYTES = 8
NONCE_BYTES = 8
NO_COOKIE = bytes(MAC_BYTES)
DATA_HEADER_BYTES = 1 + SID_BYTES + COUNTER_BYTES
DATA_BYTES_MIN = DATA_HEADER_BYTES + noise.TAG_BYTES
_INIT_FIXED = 1 + SID_BYTES + noise.FIRST_BYTES_MIN + 2 * MAC_BYTES
OPENING_BYTES_MIN = INIT_BYTES_MIN - _INIT_FIXED  # an INIT's payload is padded to this
_RESP_MIN = 1 + SID_BYTES + noise.SECOND_BYTES_MIN + SID_BYTES
_RETRY = 1 + SID_BYTES + MAC_BYTES
_RESET = 1 + SID_BYTES + COUNTER_BYTES
_IAM = 1 + NONCE_BYTES + KEY_BYTES + MAC_BYTES


class Type(IntEnum):
    """The first byte of every packet."""

    INIT = 1
    RESP = 2
    RETRY = 3
    DATA = 4
    RESET = 5
    WHO = 6
    IAM = 7


@dataclass(frozen=True, slots=True)
class Init:
    """The first packet of a handshake; `covered` is everything that mac1 authenticates."""

    sid: bytes
    message: bytes
    covered: bytes
    mac1: bytes
    cookie: bytes


@dataclass(frozen=True, slots=True)
class Resp:
    """The answer to an INIT; `sid` is the initiator's."""

    sid: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class Retry:
    """Send your INIT again with this cookie."""

    sid: bytes
    cookie: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """A sealed payload of an established session; `header` is authenticated with it."""

    sid: bytes
    counter: int
    ciphertext: bytes
    header: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """I know no session `sid` (as in your DATA number `counter`)."""

    sid: bytes
    counter: int


@dataclass(frozen=True, slots=True)
class Who:
    """Which key answers at this address?"""

    nonce: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Iam:
    """This key."""

    nonce: bytes
    public_key: bytes
    mac: bytes


Packet = Init | Resp | Retry | Data | Reset | Who | Iam


def parse(datagram: bytes) -> Packet:
    """Split a datagram into its fields; raises MalformedMessage when the size is impossible."""
    size = len(datagram)
    kind = datagram[0] if datagram else 0
    if kind == Type.DATA and DATA_BYTES_MIN <= size <= PACKET_BYTES_MAX:
        counter = int.from_bytes(datagram[9:17], "little")
        return Data(datagram[1:9], counter, datagram[17:], datagram[:17])
    if kind == Type.INIT and INIT_BYTES_MIN <= size <= PACKET_BYTES_MAX:
        end = size - 2 * MAC_BYTES
        covered = datagram[:end]
        return Init(datagram[1:9], datagram[9:end], covered, datagram[end:-16], datagram[-16:])
    if kind == Type.RESP and _RESP_MIN <= size <= PACKET_BYTES_MAX:
        return Resp(datagram[1:9], datagram[9:])
    if kind == Type.RETRY and size == _RETRY:
        return Retry(datagram[1:9], datagram[9:])
    if kind == Type.RESET and size == _RESET:
        return Reset(datagram[1:9], int.from_bytes(datagram[9:], "little"))
    if kind == Type.WHO and size == WHO_BYTES and not any(datagram[25:]):
        return Who(datagram[1:9], datagram[9:25])
    if kind == Type.IAM and size == _IAM:
        return Iam(datagram[1:9], datagram[9:41], datagram[41:])
    raise MalformedMessage("no packet of this protocol")


def read_quote(quote: bytes) -> tuple[bytes, int] | None:
    """The sid and the counter of a DATA or INIT of which this is the beginning, quoted by ICMP.

    Only who has seen the packet knows them (of an INIT the sid; what looks like its counter is
    none). None for the beginning of anything else, or for less than that much of it.
    """
    kind = quote[0] if len(quote) >= DATA_HEADER_BYTES else 0
    if kind not in (Type.DATA, Type.INIT):
        return None
    return quote[1:9], int.from_bytes(quote[9:17], "little")


def pack_init(sid: bytes, message: bytes, *, mac1_key: bytes, cookie: bytes = NO_COOKIE) -> bytes:
    """An INIT; `message` is Noise's first message over a payload of at least OPENING_BYTES_MIN."""
    covered = bytes([Type.INIT]) + sid + message
    packet = covered + mac(mac1_key, covered) + cookie
    assert INIT_BYTES_MIN <= len(packet) <= PACKET_BYTES_MAX
    return packet


def pack_resp(sid: bytes, message: bytes) -> bytes:
    """A RESP; `message` is Noise's second message over the responder's sid and the payload."""
    packet = bytes([Type.RESP]) + sid + message
    assert len(packet) <= PACKET_BYTES_MAX
    return packet


def pack_retry(sid: bytes, cookie: bytes) -> bytes:
    """A RETRY."""
    return bytes([Type.RETRY]) + sid + cookie


def data_header(sid: bytes, counter: int) -> bytes:
    """The 17 bytes before the ciphertext of a DATA."""
    return bytes([Type.DATA]) + sid + counter.to_bytes(COUNTER_BYTES, "little")


def pack_reset(sid: bytes, counter: int) -> bytes:
    """A RESET."""
    return bytes([Type.RESET]) + sid + counter.to_bytes(COUNTER_BYTES, "little")


def pack_who(nonce: bytes, *, who_key: bytes) -> bytes:
    """A WHO."""
    covered = bytes([Type.WHO]) + nonce
    return (covered + mac(who_key, covered)).ljust(WHO_BYTES, b"\0")


def pack_iam(nonce: bytes, public_key: bytes, *, who_key: bytes) -> bytes:
    """An IAM."""
    covered = bytes([Type.IAM]) + nonce + public_key
    return covered + mac(who_key, covered)


def who_is_authentic(who: Who, *, who_key: bytes) -> bool:
    """Whether a member of our network asks."""
    return is_mac(who.mac, key=who_key, message=bytes([Type.WHO]) + who.nonce)


def iam_is_authentic(iam: Iam, *, who_key: bytes) -> bool:
    """Whether a member of our network answers (on an open network, anyone can be one)."""
    covered = bytes([Type.IAM]) + iam.nonce + iam.public_key
    return is_mac(iam.mac, key=who_key, message=covered)
