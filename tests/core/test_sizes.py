"""The worst case of every packet: none needs fragments, and none amplifies more than three times.

Everything is sealed for real, with every number at its maximum and every host an IPv6 one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest

from kademlia_node.core import codec, packet
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Capabilities, sign_card
from kademlia_node.core.key import Kind
from kademlia_node.core.message import (
    DIGEST_BYTES,
    DIGEST_KEYS_MAX,
    HARMLESS,
    Chunk,
    Chunked,
    Digest,
    Digests,
    FindNode,
    FindValue,
    Held,
    Identified,
    Identify,
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
from kademlia_node.core.record import Header, Record
from kademlia_node.core.session import Session
from kademlia_node.errors import MalformedMessage
from kademlia_node.node.serve import fit
from kademlia_node.settings import (
    AMPLIFICATION_MAX,
    CARD_ADDRESSES_MAX,
    CHUNK_BYTES,
    CONTACTS_PER_ANSWER_MAX,
    CONTACTS_WITH_VALUE_MIN,
    INIT_BYTES_MIN,
    INLINE_BYTES_MAX,
    PACKET_BYTES_MAX,
    SLOT_BYTES_MAX,
    VALUE_BYTES_MAX,
    VALUES_BYTES_MAX,
    WHO_BYTES,
)
from tests.core.parties import NETWORK, admitted, call, door, identity, parsed_resp

U32_MAX, U64_MAX = 2**32 - 1, 2**64 - 1
ALICE, BOB = identity(1), identity(2)
HERE = Address("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 65535)
CAPABLE = Capabilities(True, 1, 255)
IPV4 = Contact(b"\x7f" * 32, Address("203.0.113.255", 65535))
IPV6 = Contact(b"\x7f" * 32, HERE)
COUNTS = range(CONTACTS_PER_ANSWER_MAX + 1)
KEY = b"\xff" * 32


def record(*, length: int = INLINE_BYTES_MAX, slot: int = SLOT_BYTES_MAX) -> Record:
    header = Header(
        kind=Kind.TOPIC,
        flags=1,
        author=b"\x7f" * 32,
        slot=bytes(slot),
        seq=U64_MAX,
        expires=U64_MAX,
        length=U32_MAX,
        value_hash=KEY,
        signature=bytes(64),
    )
    return Record(KEY, header, bytes(length))


def worst(values: Values) -> Values:
    """The same answer, with the largest numbers it may have to tell."""
    told = values.snapshot
    return replace(values, count=U32_MAX, snapshot=told and Snapshot(told.hash, U32_MAX))


def fitted(contacts: Sequence[Contact], records: Sequence[Record]) -> Values:
    """As a node answers: with a snapshot when not all of its records fit."""
    values = fit(contacts, records, count=len(records))
    if len(values.items) == len(records):
        return values
    return fit(contacts, records, count=len(records), snapshot=Snapshot(KEY, U32_MAX))


LARGEST = record()
CARD = sign_card(
    ALICE,
    (HERE,) * CARD_ADDRESSES_MAX,
    capabilities=CAPABLE,
    seq=U64_MAX,
    expires=U64_MAX,
    network=NETWORK,
)
NEARER = (IPV6,) * CONTACTS_WITH_VALUE_MIN
REQUESTS: list[Request] = [
    Ping(),
    Identify(),
    FindNode(KEY),
    FindValue(KEY, KEY),
    Store(KEY, LARGEST.header, LARGEST.value, U64_MAX),
    Probe(IPV6),
    Chunk(KEY, U32_MAX),
    Digest(KEY.hex()),
    Leaving(),
    Watch(KEY),
    Notify(KEY, LARGEST.header, LARGEST.value),
]
FULL_LEAF = Digests(DIGEST_KEYS_MAX, held=(Held(KEY, KEY[:DIGEST_BYTES]),) * DIGEST_KEYS_MAX)
RESPONSES: list[Response] = [
    Pong(),
    Identified(CARD.pack()),
    Nodes((IPV6,) * CONTACTS_PER_ANSWER_MAX),
    worst(fitted([IPV6] * 20, [LARGEST])),
    worst(fitted([IPV6] * 20, [LARGEST, LARGEST])),
    Stored(StoreStatus.BAD, LARGEST.header, NEARER, 255),
    Probed(accepted=True),
    Chunked(bytes(CHUNK_BYTES)),
    FULL_LEAF,
    Digests(U32_MAX, children=(KEY[:DIGEST_BYTES],) * 16),
    Left(),
    Watched(U32_MAX, KEY[:DIGEST_BYTES]),
    Notified(wanted=True),
    Refused(U64_MAX, "x" * codec.DETAIL_BYTES_MAX),
]
IN_A_RESP = (Pong, Nodes, Values, Refused)


def kind_of(said: object) -> str:
    return type(said).__name__


def init(request: Request) -> bytes:
    opening = call(
        ALICE, BOB, capabilities=CAPABLE, ts_us=U64_MAX, rid=codec.RID_MAX, request=request
    )
    return opening.packet


def resp(response: Response) -> tuple[bytes, Session]:
    """The RESP with this answer, and the session that begins with it."""
    keeper = door(BOB)
    caller = admitted(keeper, init(Ping()), source=HERE)
    return keeper.answer(caller, response, capabilities=CAPABLE, now=0.0)


SESSION = resp(Pong())[1]


def data(said: Request | Response) -> bytes:
    if isinstance(said, Request):
        return SESSION.seal(codec.encode_request(codec.RID_MAX, said))[1]
    return SESSION.seal(codec.encode_response(codec.RID_MAX, said))[1]


# --- Nothing needs fragments ----------------------------------------------------------------------


def test_no_message_was_forgotten() -> None:
    assert {type(request) for request in REQUESTS} == set(get_args(Request))
    assert {type(response) for response in RESPONSES} == set(get_args(Response))


@pytest.mark.parametrize("request_", REQUESTS, ids=kind_of)
def test_every_request_fits_a_data(request_: Request) -> None:
    assert len(data(request_)) <= PACKET_BYTES_MAX


@pytest.mark.parametrize("response", RESPONSES, ids=kind_of)
def test_every_response_fits_a_data(response: Response) -> None:
    assert len(data(response)) <= PACKET_BYTES_MAX


@pytest.mark.parametrize("request_", [r for r in REQUESTS if isinstance(r, HARMLESS)], ids=kind_of)
def test_every_harmless_request_fits_the_smallest_init(request_: Request) -> None:
    assert len(init(request_)) == INIT_BYTES_MIN


@pytest.mark.parametrize(
    "response", [r for r in RESPONSES if isinstance(r, IN_A_RESP)], ids=kind_of
)
def test_every_answer_to_a_harmless_request_fits_a_resp(response: Response) -> None:
    datagram, _ = resp(response)
    assert len(datagram) <= PACKET_BYTES_MAX
    parsed_resp(datagram)


def test_a_chunk_is_as_long_as_its_name_says_and_fits_with_room_to_spare() -> None:
    assert PACKET_BYTES_MAX - len(data(Chunked(bytes(CHUNK_BYTES)))) > 100
    with pytest.raises(MalformedMessage):
        codec.decode_message(codec.encode_response(1, Chunked(bytes(CHUNK_BYTES + 1))))


def test_so_many_keys_are_listed_with_their_digests_as_fit_beside_a_little_spare_room() -> None:
    spare = PACKET_BYTES_MAX - len(data(FULL_LEAF))
    assert 0 <= spare < 2 * (len(KEY) + DIGEST_BYTES)


# --- Values are fitted ----------------------------------------------------------------------------


def sizes(values: Values) -> tuple[int, int]:
    """Bytes of a RESP and of a DATA around the values, whatever their true numbers may be."""
    return len(resp(worst(values))[0]), len(data(worst(values)))


@pytest.mark.parametrize("records", range(9))
@pytest.mark.parametrize("contact", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_values_fit_whatever_is_held(contact: Contact, records: int) -> None:
    for count in COUNTS:
        for length in (0, 100, INLINE_BYTES_MAX, VALUE_BYTES_MAX):
            held = [record(length=length)] * records
            values = fitted([contact] * count, held)
            assert max(sizes(values)) <= PACKET_BYTES_MAX
            assert len(values.contacts) >= min(count, CONTACTS_WITH_VALUE_MIN)


@pytest.mark.parametrize("contact", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_a_single_record_is_always_told(contact: Contact) -> None:
    for count in COUNTS:
        values = fitted([contact] * count, [LARGEST])
        assert len(values.items) == 1
        assert len(values.contacts) >= min(count, CONTACTS_WITH_VALUE_MIN)


def test_a_value_too_long_for_the_packet_is_left_out_of_its_item() -> None:
    for length, told in ((INLINE_BYTES_MAX, True), (INLINE_BYTES_MAX + 1, False)):
        (item,) = fitted(NEARER, [record(length=length)]).items
        assert (item.value is not None) is told


def test_the_room_for_values_is_what_a_resp_leaves() -> None:
    """Filled to the last byte, a RESP is at its limit: with less room, space would be wasted."""
    room = VALUES_BYTES_MAX - CONTACTS_WITH_VALUE_MIN * (len(IPV6.pack()) + 2)
    overhead = len(record().header.pack()) + 6
    halves = [record(length=half - overhead) for half in (room // 2, room - room // 2)]
    values = fitted(NEARER, halves)
    assert len(values.items) == 2, "they fill the room exactly"
    one_more = record(length=room // 2 - overhead + 1)
    assert len(fitted(NEARER, [one_more, halves[1]]).items) == 1
    for told in (values, worst(values)):
        datagram, _ = resp(told)
        assert 1185 <= len(datagram) <= PACKET_BYTES_MAX


def test_no_answer_of_values_is_larger_than_a_resp_and_the_largest_is_nearly_that() -> None:
    largest = 0
    for count in (4, 5, 16, 20):
        for slot in range(0, SLOT_BYTES_MAX + 1, 8):
            for length in range(0, INLINE_BYTES_MAX + 1, 20):
                held = [record(length=length, slot=slot)] * 3
                values = fitted([IPV6] * count, held)
                largest = max(largest, len(data(worst(values))))
    resp_is_longer_by = len(resp(Pong())[0]) - len(data(Pong()))
    assert 1190 <= largest + resp_is_longer_by <= PACKET_BYTES_MAX


# --- Amplification --------------------------------------------------------------------------------

SID, NONCE, COOKIE = bytes(8), bytes(8), bytes(16)
RETRY = packet.pack_retry(SID, COOKIE)
RESET = packet.pack_reset(SID, U64_MAX)
WHO = packet.pack_who(NONCE, who_key=NETWORK.who_key)
IAM = packet.pack_iam(NONCE, BOB.public_key, who_key=NETWORK.who_key)
SMALLEST_DATA = SESSION.seal(b"")[1]


def test_sizes_of_the_packets_that_a_stranger_can_provoke() -> None:
    assert (len(RETRY), len(RESET), len(WHO), len(IAM)) == (25, 17, 200, 57)
    assert len(SMALLEST_DATA) == 33
    assert len(init(Ping())) == INIT_BYTES_MIN == 400


@pytest.mark.parametrize(
    ("smallest", "largest_answer"),
    [
        (INIT_BYTES_MIN, PACKET_BYTES_MAX),  # RESP, as all the above holds it
        (INIT_BYTES_MIN, len(RETRY)),
        (WHO_BYTES, len(IAM)),
        (len(SMALLEST_DATA), len(RESET)),
    ],
    ids=["INIT RESP", "INIT RETRY", "WHO IAM", "DATA RESET"],
)
def test_no_answer_is_more_than_three_times_what_came(smallest: int, largest_answer: int) -> None:
    assert largest_answer <= AMPLIFICATION_MAX * smallest


def test_nothing_shorter_provokes_an_answer() -> None:
    for provoking in (init(Ping()), WHO, SMALLEST_DATA):
        with pytest.raises(MalformedMessage):
            packet.parse(provoking[:-1])
