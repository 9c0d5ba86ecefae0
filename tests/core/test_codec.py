"""Messages to bytes and back; other bytes to MalformedMessage and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core import codec
from kademlia_node.core.body import CARD_BYTES_MAX
from kademlia_node.core.codec import DETAIL_BYTES_MAX, RID_MAX, UnfitRequest
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Capabilities
from kademlia_node.core.key import Kind
from kademlia_node.core.message import (
    DIGEST_BYTES,
    DIGEST_KEYS_MAX,
    Chunk,
    Chunked,
    Digest,
    Digests,
    ErrorCode,
    FindNode,
    FindValue,
    Held,
    Identified,
    Identify,
    Item,
    Leaving,
    Left,
    Nodes,
    Notified,
    Notify,
    Ping,
    Pong,
    Probe,
    Probed,
    Refused,
    Request,
    Response,
    Snapshot,
    Store,
    Stored,
    StoreStatus,
    Values,
    Watch,
    Watched,
)
from kademlia_node.core.packet import OPENING_BYTES_MIN
from kademlia_node.core.record import Header, Reason
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import CHUNK_BYTES, INLINE_BYTES_MAX, PACKET_BYTES_MAX, SLOT_BYTES_MAX

CLIENT = Capabilities(server=False)
HERE = Address("2001:db8::1", 4000)
MUTATIONS = 10_000

# --- All messages ---------------------------------------------------------------------------------

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
optional_u64 = st.one_of(st.none(), u64)
ids = st.binary(min_size=32, max_size=32)
keys = ids.map(lambda key: key[:31] + bytes([key[31] & 0x7F]))
hosts = st.integers(0, 255).flatmap(
    lambda n: st.sampled_from([f"192.0.2.{n}", f"2001:db8::{n + 1:x}", "::1"])
)
addresses = st.builds(Address, hosts, st.integers(1, 65535))
contacts = st.lists(st.builds(Contact, keys, addresses), max_size=20).map(tuple)
blobs = st.builds(
    Header,
    kind=st.just(Kind.BLOB),
    flags=st.integers(0, 1),
    expires=u64,
    length=u32,
    value_hash=ids,
)
signed = st.builds(
    Header,
    kind=st.sampled_from([Kind.ENTRY, Kind.TOPIC]),
    flags=st.integers(0, 1),
    author=keys,
    slot=st.binary(max_size=SLOT_BYTES_MAX),
    seq=u64,
    expires=u64,
    length=u32,
    value_hash=ids,
    signature=st.binary(min_size=64, max_size=64),
)
headers = st.one_of(blobs, signed)
values = st.one_of(st.none(), st.binary(max_size=INLINE_BYTES_MAX))
items = st.lists(st.builds(Item, headers, values), max_size=8).map(tuple)
snapshots = st.one_of(st.none(), st.builds(Snapshot, ids, st.integers(1, 2**32 - 1)))
optional_headers = st.one_of(st.none(), headers)
statuses = st.sampled_from(StoreStatus)
digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)
listed = st.lists(st.builds(Held, ids, digests), max_size=DIGEST_KEYS_MAX).map(
    lambda held: Digests(len(held), held=tuple(held))
)
branches = st.lists(digests, min_size=15, max_size=15).map(lambda some: (*some, b"\1" * 8))

requests: st.SearchStrategy[Request] = st.one_of(
    st.just(Ping()),
    st.just(Identify()),
    st.builds(FindNode, ids),
    st.builds(FindValue, ids, st.one_of(st.just(b""), ids)),
    st.builds(Store, ids, headers, values, optional_u64),
    st.builds(Probe, st.one_of(st.none(), st.builds(Contact, keys, addresses))),
    st.builds(Chunk, ids, u32),
    st.builds(Digest, st.text("0123456789abcdef", max_size=64)),
    st.just(Leaving()),
    st.builds(Watch, ids),
    st.builds(Notify, ids, headers, values),
)
responses: st.SearchStrategy[Response] = st.one_of(
    st.just(Pong()),
    st.builds(Identified, st.binary(max_size=CARD_BYTES_MAX)),
    st.builds(Nodes, contacts),
    st.builds(Values, contacts, st.integers(8, 2**32 - 1), snapshots, items),
    st.builds(Stored, statuses, optional_headers, contacts, st.integers(0, 255)),
    st.builds(Probed, st.booleans()),
    st.builds(Chunked, st.one_of(st.none(), st.binary(max_size=CHUNK_BYTES))),
    listed,
    st.builds(Digests, st.integers(DIGEST_KEYS_MAX + 1, 2**32 - 1), branches),
    st.just(Left()),
    st.builds(Watched, u32, digests),
    st.builds(Notified, st.booleans()),
    st.builds(Refused, u64, st.text(st.characters(max_codepoint=127), max_size=DETAIL_BYTES_MAX)),
)
rids = st.integers(0, RID_MAX)
capabilities = st.builds(Capabilities, st.booleans(), st.integers(0, 255), st.integers(0, 255))

CONTACT = Contact(bytes(31) + b"\x01", HERE)
HEADER = Header(
    kind=Kind.ENTRY,
    author=bytes(32),
    slot=b"slot",
    seq=1,
    expires=2,
    length=3,
    value_hash=bytes(32),
    signature=bytes(64),
)
BLOB = Header(kind=Kind.BLOB, expires=2, length=5, value_hash=bytes(32))
REQUESTS: list[Request] = [
    Ping(),
    Identify(),
    Leaving(),
    FindNode(b"t" * 32),
    FindValue(b"k" * 32),
    FindValue(b"k" * 32, b"s" * 32),
    Store(b"k" * 32, HEADER, b"value", 7),
    Store(b"k" * 32, BLOB, b"", None),
    Store(b"k" * 32, BLOB, None, 0),
    Probe(),
    Probe(CONTACT),
    Chunk(b"c" * 32, 63),
    Digest(""),
    Digest("3fa"),
    Watch(b"k" * 32),
    Notify(b"k" * 32, HEADER, b"value"),
    Notify(b"k" * 32, HEADER, None),
]
RESPONSES: list[Response] = [
    Pong(),
    Identified(b"card"),
    Nodes((CONTACT, CONTACT)),
    Values((CONTACT,), 3, Snapshot(b"s" * 32, 64), (Item(HEADER, b"value"), Item(BLOB, None))),
    Values((), 0, None, ()),
    Stored(StoreStatus.OK, None, (CONTACT,)),
    Stored(StoreStatus.CAS, HEADER, ()),
    Stored(StoreStatus.BAD, reason=Reason.WRONG_KEY),
    Probed(accepted=True),
    Chunked(b"piece"),
    Chunked(None),
    Digests(1, held=(Held(b"k" * 32, b"versions"),)),
    Digests(1000, children=(b"children",) * 16),
    Left(),
    Watched(300, b"versions"),
    Watched(0),
    Notified(wanted=False),
    Refused(ErrorCode.BUSY, "later"),
]


def encoded(rid: int, said: Request | Response) -> bytes:
    if isinstance(said, Request):
        return codec.encode_request(rid, said)
    return codec.encode_response(rid, said)


def packed(*fields: object) -> bytes:
    whole: bytes = msgpack.packb(list(fields))
    return whole


def array(*fields: bytes) -> bytes:
    """An array of fields that are encoded already, well or badly."""
    return bytes([0x90 | len(fields)]) + b"".join(fields)


def fields_of(said: Request | Response) -> list[Any]:
    """The fields of a message on the wire, to be tampered with."""
    fields: list[Any] = msgpack.unpackb(encoded(5, said))
    return fields


def kind_of(said: object) -> str:
    return type(said).__name__


# --- There and back -------------------------------------------------------------------------------


@given(rids, st.one_of(requests, responses))
def test_every_message_survives_a_data_packet(rid: int, said: Request | Response) -> None:
    assert codec.decode_message(encoded(rid, said)) == (rid, said)


@given(u64, capabilities, rids, requests, st.integers(0, 300))
def test_every_request_survives_an_init_and_its_padding(
    ts_us: int, caps: Capabilities, rid: int, request: Request, padding: int
) -> None:
    opening = codec.encode_opening(ts_us, caps, rid=rid, request=request) + bytes(padding)
    assert codec.decode_opening(opening) == (ts_us, caps, rid, request)


@given(addresses, capabilities, rids, responses)
def test_every_response_survives_a_resp(
    seen: Address, caps: Capabilities, rid: int, response: Response
) -> None:
    reply = codec.encode_reply(seen, caps, rid=rid, response=response)
    assert codec.decode_reply(reply) == (seen, caps, rid, response)


def test_messages_on_the_wire() -> None:
    """Pinned: a peer of today must understand a peer of tomorrow."""
    assert codec.encode_request(5, Ping()).hex() == "920105"
    assert codec.encode_response(5, Pong()).hex() == "92cc8105"
    assert codec.encode_request(RID_MAX, FindNode(b"t" * 32)).hex() == (
        "9303ceffffffff" + "c420" + "74" * 32
    )
    assert codec.encode_response(5, Refused(ErrorCode.BUSY, "x")).hex() == "94ccff0504a178"
    assert codec.encode_request(5, Probe()).hex() == "940605c0c4e6" + 230 * "00"
    assert codec.encode_response(5, Probed(accepted=True)).hex() == "93cc8605c3"
    assert codec.encode_request(5, Chunk(b"c" * 32, 63)).hex() == "940705c420" + "63" * 32 + "3f"
    assert codec.encode_response(5, Chunked(b"piece")).hex() == "93cc8705c4057069656365"
    assert codec.encode_response(5, Chunked(None)).hex() == "93cc8705c0"
    assert codec.encode_request(5, Digest("")).hex() == "94080500c400"
    assert codec.encode_request(5, Digest("3fa")).hex() == "9408050cc4023fa0"
    assert codec.encode_response(5, Digests(0)).hex() == "94cc880500c400"
    held = Digests(1, held=(Held(b"k" * 32, b"versions"),))
    assert codec.encode_response(5, held).hex() == "94cc880501c428" + "6b" * 32 + b"versions".hex()
    branch = Digests(1000, children=(b"children",) * 16)
    assert codec.encode_response(5, branch).hex() == "94cc8805cd03e8c480" + b"children".hex() * 16
    assert codec.encode_request(5, Leaving()).hex() == "920905"
    assert codec.encode_response(5, Left()).hex() == "92cc8905"
    assert codec.encode_response(5, Values((), 0, None, ())).hex() == "97cc84059000c4000090"
    refused = Stored(StoreStatus.BAD, reason=Reason.WRONG_KEY)
    assert codec.encode_response(5, refused).hex() == "96cc850507c09006"


# --- Later versions -------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [*REQUESTS, *RESPONSES], ids=kind_of)
@pytest.mark.parametrize("extra", [None, 1.5, [1, [2]], "text", b"bytes"])
def test_unknown_fields_at_the_end_are_ignored(said: Request | Response, extra: object) -> None:
    assert codec.decode_message(packed(*fields_of(said), extra, extra)) == (5, said)


def test_unknown_fields_at_the_end_of_openings_replies_and_items_are_ignored() -> None:
    opening = packed(1, CLIENT.pack(), [1, 5, "later"], "later")
    assert codec.decode_opening(opening) == (1, CLIENT, 5, Ping())
    reply = packed(b"\x7f\0\0\x01\0\x01", CLIENT.pack(), [0x81, 5, "later"], "later")
    assert codec.decode_reply(reply) == (Address("127.0.0.1", 1), CLIENT, 5, Pong())
    record = [BLOB.pack(), b"value", "later"]
    decoded = codec.decode_message(packed(0x84, 5, [], 1, b"", 0, [record]))
    assert decoded == (5, Values((), 1, None, (Item(BLOB, b"value"),)))


@pytest.mark.parametrize("op", [0, *range(12, 0x80)])
def test_an_unknown_request_can_be_refused(op: int) -> None:
    with pytest.raises(UnfitRequest) as unfit:
        codec.decode_message(packed(op, 77, "whatever"))
    assert (unfit.value.rid, unfit.value.code) == (77, ErrorCode.UNKNOWN_OP)
    assert refusal_arrives(unfit.value)


@pytest.mark.parametrize("request_", REQUESTS[3:], ids=kind_of)
def test_a_known_request_with_wrong_fields_can_be_refused(request_: Request) -> None:
    fields = fields_of(request_)
    for spoilt in (fields[:-1], [*fields[:2], 1.5, *fields[3:]]):
        with pytest.raises(UnfitRequest) as unfit:
            codec.decode_message(packed(*spoilt))
        assert (unfit.value.rid, unfit.value.code) == (5, ErrorCode.MALFORMED)
        assert refusal_arrives(unfit.value)


def refusal_arrives(unfit: UnfitRequest) -> bool:
    refused = Refused(unfit.code, unfit.detail)
    return codec.decode_message(codec.encode_response(unfit.rid, refused)) == (unfit.rid, refused)


@pytest.mark.parametrize("op", [0x80, *range(0x8C, 0xFF), 0x100, 2**64 - 1])
def test_an_unknown_response_is_met_with_silence(op: int) -> None:
    with pytest.raises(MalformedMessage) as malformed:
        codec.decode_message(packed(op, 77))
    assert not isinstance(malformed.value, UnfitRequest)


@pytest.mark.parametrize("response", RESPONSES[1:], ids=kind_of)
def test_a_response_with_missing_fields_is_malformed(response: Response) -> None:
    fields = fields_of(response)
    for size in range(len(fields)):
        with pytest.raises(MalformedMessage) as malformed:
            codec.decode_message(packed(*fields[:size]))
        assert not isinstance(malformed.value, UnfitRequest)


# --- Types ----------------------------------------------------------------------------------------

TIMESTAMP = b"\xd6\xff\0\0\0\1"
EMPTY_EXT, EXT = b"\xc7\0\5", b"\xd4\5x"
PLAIN: list[Any] = [True, False, None, -1, 2**64 - 1, 0.0, 1.0, "", "text", b"", b"bytes"]
PLAIN += [bytes(32), [], [b"bytes"], [[]], {}]
STRANGE: list[bytes] = [*map(msgpack.packb, PLAIN), TIMESTAMP, EMPTY_EXT, EXT]


@pytest.mark.parametrize("said", [*REQUESTS, *RESPONSES], ids=kind_of)
def test_no_field_is_taken_for_another_type(said: Request | Response) -> None:
    """What is accepted encodes to the very same bytes: so True is not 1, and 1.0 neither."""
    original = [msgpack.packb(field) for field in fields_of(said)]
    for place in range(len(original)):
        for strange in STRANGE:
            tampered = array(*original[:place], strange, *original[place + 1 :])
            read = decoded_or_none(codec.decode_message, tampered)
            assert read is None or encoded(*read)[1:] == tampered[1:][: len(encoded(*read)) - 1]


def decoded_or_none(decode: Callable[[bytes], Any], payload: bytes) -> Any:
    """What the payload says; None when it is malformed. Whatever else is raised is a bug."""
    try:
        return decode(payload)
    except MalformedMessage:
        return None


@pytest.mark.parametrize(
    "fields",
    [
        (True, 5),
        (1, True),
        (1, -1),
        (1, RID_MAX + 1),
        (1.0, 5),
        ("1", 5),
        (None, 5),
        (0x86, 5, 1),
        (0xFF, 5, 4, b"later"),
        (0xFF, 5, False, "later"),
        (0x85, 5, 9, None, [], 0),
        (0x85, 5, 7, None, [], 256),
        (0x84, 5, [], True, b"", 0, []),
        (0x84, 5, [], 0, b"", 0, [[BLOB.pack(), b""]]),
        (0x84, 5, [], 2**32, b"", 0, []),
        (0x84, 5, [], 1, b"s" * 32, 0, []),
        (0x84, 5, [], 1, b"s" * 31, 64, []),
        (0x84, 5, [], 1, b"", 64, []),
        (0x84, 5, [], 1, None, 0, []),
        (0x84, 5, [], 1, b"s" * 32, 2**32, []),
        (8, 5, 260, bytes(33)),
        (8, 5, 7, b"a"),
        (8, 5, 8, b""),
        (8, 5, 8, b"ab"),
        (8, 5, 4, b"\x31"),
        (8, 5, 0, None),
        (8, 5, False, b""),
        (0x88, 5, 1, bytes(39)),
        (0x88, 5, 1, bytes(80)),
        (0x88, 5, 0, bytes(40)),
        (0x88, 5, DIGEST_KEYS_MAX + 1, bytes(40 * (DIGEST_KEYS_MAX + 1))),
        (0x88, 5, DIGEST_KEYS_MAX, b"children" * 16),
        (0x88, 5, 1000, bytes(128)),
        (0x88, 5, 1000, b"children" * 15),
        (0x88, 5, 2**32, b"children" * 16),
        (0x88, 5, 0, None),
        (0x87, 5, bytes(CHUNK_BYTES + 1)),
        (0x87, 5, False),
        (7, 5, b"short", 0),
        (7, 5, bytes(32), 2**32),
        (7, 5, bytes(32), None),
        (0x83, 5, [CONTACT.pack()] * 21),
        (0x83, 5, [b"no contact"]),
        (0x82, 5, bytes(CARD_BYTES_MAX + 1)),
        (5, 5, bytes(32), BLOB.pack(), bytes(INLINE_BYTES_MAX + 1), None),
        (5, 5, bytes(32), BLOB.pack(), False, None),
        (5, 5, bytes(32), b"no header", b"", None),
        (5, 5, bytes(32), BLOB.pack(), b"", True),
        (5, 5, bytes(32), BLOB.pack(), b"", 2**64 - 1, {"map": 1}),
        (1, 5, list(range(65))),
        (1, 5, "x" * (DETAIL_BYTES_MAX + 1)),
    ],
)
def test_wrong_types_and_sizes_are_refused(fields: tuple[Any, ...]) -> None:
    with pytest.raises(MalformedMessage):
        codec.decode_message(packed(*fields))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        packed(1, 5)[:-1],
        packed(1, 5) + b"\0",
        packed(),
        packed(1),
        msgpack.packb(1),
        msgpack.packb(None),
        msgpack.packb({}),
        array(TIMESTAMP, b"\5"),
        array(EMPTY_EXT, b"\5"),
        array(b"\1", b"\5", TIMESTAMP),
        array(b"\1", b"\5", EXT),
        b"\x93\x01\x05\xa1\xff",  # text that is no UTF-8
        b"\x93\x01\x05\xd6\xff\xff\xff\xff",  # a timestamp cut short
        b"\x93\x01\x05\xc7\x00\xff",  # a timestamp of no bytes
        b"\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\x93\x01\x05\xc6\xff\xff\xff\xff",  # bytes, four billion of them
        b"\x91" * PACKET_BYTES_MAX,
        b"\x93\x01\x05" + b"\x91" * (PACKET_BYTES_MAX - 4) + b"\xc0",  # nested too deep
    ],
)
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    for decode in (codec.decode_message, codec.decode_opening, codec.decode_reply):
        with pytest.raises(MalformedMessage):
            decode(payload)


@pytest.mark.parametrize(
    "payload",
    [
        packed(1, CLIENT.pack()),
        packed(True, CLIENT.pack(), [1, 5]),
        packed(-1, CLIENT.pack(), [1, 5]),
        packed(2**63, -1, [1, 5]),
        packed(1, 2**32, [1, 5]),
        packed(1, CLIENT.pack(), [0x81, 5]),
        packed(1, CLIENT.pack(), 5),
        packed(1, CLIENT.pack(), [1, 5]) + b"\1",
        packed(1, CLIENT.pack(), [1, 5]) + bytes(OPENING_BYTES_MIN) + b"\1",
        packed(1, CLIENT.pack(), [1, 5]) + b"\1" + bytes(OPENING_BYTES_MIN),
    ],
)
def test_what_is_no_opening_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        codec.decode_opening(payload)


@pytest.mark.parametrize(
    "payload",
    [
        packed(b"\x7f\0\0\x01\0\x01", CLIENT.pack()),
        packed("127.0.0.1", CLIENT.pack(), [0x81, 5]),
        packed(b"\x7f\0\0\x01\0\0", CLIENT.pack(), [0x81, 5]),
        packed(b"\x7f\0\0\x01\0\x01", 2**32, [0x81, 5]),
        packed(b"\x7f\0\0\x01\0\x01", True, [0x81, 5]),
        packed(b"\x7f\0\0\x01\0\x01", CLIENT.pack(), [1, 5]),
        packed(b"\x7f\0\0\x01\0\x01", CLIENT.pack(), [0x81, 5]) + b"\0",
    ],
)
def test_what_is_no_reply_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        codec.decode_reply(payload)


# --- Anything at all ------------------------------------------------------------------------------


def openings() -> list[bytes]:
    return [codec.encode_opening(2**40, CLIENT, rid=5, request=request) for request in REQUESTS]


def replies() -> list[bytes]:
    return [codec.encode_reply(HERE, CLIENT, rid=5, response=response) for response in RESPONSES]


def mutated(payload: bytes, other: bytes, rng: Random) -> bytes:
    """One to three changes: a byte, a bit, a cut, a copy, an insertion, or a splice."""
    for _ in range(rng.randint(1, 3)):
        at, to = sorted((rng.randint(0, len(payload)), rng.randint(0, len(payload))))
        match rng.randrange(6):
            case 0:
                payload = payload[:at] + rng.randbytes(1) + payload[at + 1 :]
            case 1:
                payload = payload[:at] + bytes(b ^ 1 << rng.randrange(8) for b in payload[at:to])
            case 2:
                payload = payload[:at] + payload[to:]
            case 3:
                payload = payload[:to] + payload[at:]
            case 4:
                payload = payload[:at] + rng.choice([b"\xc0", b"\xc3", b"\x91"]) + payload[at:]
            case _:
                payload = payload[:at] + other[at:]
    return payload[:PACKET_BYTES_MAX]


def test_mutated_messages_are_malformed_or_mean_what_they_say() -> None:
    """Whatever is accepted survives encoding: nothing half understood gets through."""
    rng = Random(20)
    messages = [encoded(5, said) for said in (*REQUESTS, *RESPONSES)]
    corpus = messages + openings() + replies()
    accepted = 0
    for _ in range(MUTATIONS):
        payload = mutated(rng.choice(corpus), rng.choice(corpus), rng)
        read = decoded_or_none(codec.decode_message, payload)
        opening = decoded_or_none(codec.decode_opening, payload)
        reply = decoded_or_none(codec.decode_reply, payload)
        if read:
            assert codec.decode_message(encoded(*read)) == read
        if opening and not isinstance(opening[-1], Refused):
            ts_us, caps, rid, request = opening
            again = codec.encode_opening(ts_us, caps, rid=rid, request=request)
            assert codec.decode_opening(again) == opening
        if reply:
            seen, caps, rid, response = reply
            again = codec.encode_reply(seen, caps, rid=rid, response=response)
            assert codec.decode_reply(again) == reply
        accepted += any((read, opening, reply))
    assert MUTATIONS // 20 < accepted < MUTATIONS // 2, "the mutator tries both sides"


@pytest.mark.parametrize(
    ("request_fields", "code"),
    [([12, 5], ErrorCode.UNKNOWN_OP), ([3, 5, b"short"], ErrorCode.MALFORMED)],
)
def test_an_opening_that_cannot_be_carried_out_comes_with_its_refusal(
    request_fields: list[object], code: ErrorCode
) -> None:
    *head, request = codec.decode_opening(packed(1, CLIENT.pack(), request_fields))
    assert head == [1, CLIENT, 5]
    assert isinstance(request, Refused)
    assert request.code == code


@given(st.binary(max_size=100))
def test_any_bytes_are_malformed_or_a_message(junk: bytes) -> None:
    for decode in (codec.decode_message, codec.decode_opening, codec.decode_reply):
        decoded_or_none(decode, junk)


msgpack_objects = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.binary(max_size=60)),
    lambda inner: st.lists(inner, max_size=6),
)


@given(st.integers(0, 0x100), st.lists(msgpack_objects, max_size=6))
def test_any_fields_are_malformed_or_a_message(op: int, body: list[Any]) -> None:
    decoded_or_none(codec.decode_message, packed(op, 5, *body))
    decoded_or_none(codec.decode_opening, packed(1, CLIENT.pack(), [op, 5, *body]))
    decoded_or_none(codec.decode_reply, packed(b"\x7f\0\0\x01\0\x01", 1, [op, 5, *body]))
