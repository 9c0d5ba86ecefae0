"""Messages to bytes and back: the border where everything from outside is parsed.

Requests are msgpack arrays `[op, rid, ...]`, responses `[op | 0x80, rid, ...]`, errors
`[0xFF, rid, code, detail]`. Unknown fields at the end are ignored. Reading raises MalformedMessage
and nothing else, whatever the bytes; what comes out is frozen, typed and within limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgpack

from kademlia_node.core.contact import Address, pack_address, unpack_address, unpack_contact
from kademlia_node.core.fields import (
    U8_MAX,
    U32_MAX,
    at_least,
    pack_contacts,
    read_array,
    read_bytes,
    read_contacts,
    read_id,
    read_uint,
    read_value,
)
from kademlia_node.core.identity import Capabilities
from kademlia_node.core.ids import ID_BYTES
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
    Op,
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
)
from kademlia_node.core.record import unpack_header
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import (
    CHUNK_BYTES,
    ID_BITS,
    PACKET_BYTES_MAX,
    PROBE_PADDING_BYTES,
)

RESPONSE_BIT = 0x80
ERROR = 0xFF
RID_MAX = U32_MAX
DETAIL_BYTES_MAX = 64
CARD_BYTES_MAX = 256
_DIGIT_BITS = 4
_CHILDREN = 2**_DIGIT_BITS
_LIMITS: dict[str, Any] = {
    "max_bin_len": PACKET_BYTES_MAX,
    "max_str_len": DETAIL_BYTES_MAX,
    "max_array_len": 64,
    "max_map_len": 0,
    "max_ext_len": 0,
}

T = TypeVar("T")


class UnfitRequest(MalformedMessage):
    """A request we cannot read but can refuse: we know its rid, and `code` says what is wrong."""

    def __init__(self, rid: int, *, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.rid = rid
        self.code = code
        self.detail = detail


# --- The whole payload of each packet -------------------------------------------------------------


def encode_request(rid: int, request: Request) -> bytes:
    """The payload of a DATA packet that asks."""
    return _pack(_request_fields(rid, request))


def encode_response(rid: int, response: Response) -> bytes:
    """The payload of a DATA packet that answers."""
    return _pack(_response_fields(rid, response))


def decode_message(payload: bytes) -> tuple[int, Request | Response]:
    """Read the payload of a DATA packet: its rid and what it says.

    Raises:
        UnfitRequest: an op we do not know, or wrong fields of one we do: answer with an error.
        MalformedMessage: anything else that is wrong: be silent.
    """
    return _read_message(_unpack(payload))


def encode_opening(ts_us: int, caps: Capabilities, *, rid: int, request: Request) -> bytes:
    """The payload of an INIT, unpadded. `ts_us` is the sender's wall clock in microseconds."""
    return _pack([ts_us, caps.pack(), _request_fields(rid, request)])


def decode_opening(payload: bytes) -> tuple[int, Capabilities, int, Request | Refused]:
    """Read the payload of an INIT: ts_us, capabilities, rid, request; then zeros to the end.

    In place of a request that we cannot read comes the refusal to answer it with.
    """
    reader = msgpack.Unpacker(None, use_list=True, raw=False, **_LIMITS)
    reader.feed(payload)
    try:
        opening = reader.unpack()
        end = reader.tell()
    except Exception as error:
        raise MalformedMessage("no opening") from error
    if payload.count(0, end) != len(payload) - end:
        raise MalformedMessage("padding is zeros")
    ts_us, caps, fields = read_array(opening, 3)[:3]
    ts_us, capabilities = read_uint(ts_us), Capabilities.unpack(read_uint(caps))
    try:
        rid, request = _read_message(fields)
    except UnfitRequest as error:
        return ts_us, capabilities, error.rid, Refused(error.code, error.detail)
    if not isinstance(request, Request):
        raise MalformedMessage("an opening asks")
    return ts_us, capabilities, rid, request


def encode_reply(seen: Address, caps: Capabilities, *, rid: int, response: Response) -> bytes:
    """The payload of a RESP: the initiator's address as seen, capabilities, response."""
    return _pack([pack_address(seen), caps.pack(), _response_fields(rid, response)])


def decode_reply(payload: bytes) -> tuple[Address, Capabilities, int, Response]:
    """Read the payload of a RESP: observed address, capabilities, rid, response."""
    seen, caps, fields = read_array(_unpack(payload), 3)[:3]
    rid, response = _read_message(fields)
    if isinstance(response, Request):
        raise MalformedMessage("a reply answers")
    return unpack_address(read_bytes(seen)), Capabilities.unpack(read_uint(caps)), rid, response


def _pack(fields: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


def _unpack(payload: bytes) -> Any:
    try:
        return msgpack.unpackb(payload, use_list=True, raw=False, **_LIMITS)
    except Exception as error:
        raise MalformedMessage("no msgpack object") from error


def _read_message(fields: object) -> tuple[int, Request | Response]:
    array = read_array(fields, 2)
    op, rid = read_uint(array[0]), read_uint(array[1], maximum=RID_MAX)
    body = array[2:]
    read_request = _REQUESTS.get(op)
    if read_request is not None:
        try:
            return rid, read_request(body)
        except MalformedMessage as error:
            raise UnfitRequest(rid, code=ErrorCode.MALFORMED, detail=str(error)) from error
    read_response = _RESPONSES.get(op)
    if read_response is not None:
        return rid, read_response(body)
    if op < RESPONSE_BIT:
        raise UnfitRequest(rid, code=ErrorCode.UNKNOWN_OP, detail=f"op {op} is unknown")
    raise MalformedMessage("an answer to no known request")


# --- Fields of each message -----------------------------------------------------------------------


def _request_fields(rid: int, request: Request) -> list[Any]:
    match request:
        case FindNode(target):
            return [int(Op.FIND_NODE), rid, target]
        case FindValue(key, known):
            return [int(Op.FIND_VALUE), rid, key, known]
        case Ping():
            return [int(Op.PING), rid]
        case Store(key, header, value, expect_seq):
            return [int(Op.STORE), rid, key, header.pack(), value, expect_seq]
        case Identify():
            return [int(Op.IDENTIFY), rid]
        case Chunk(content, index):
            return [int(Op.CHUNK), rid, content, index]
        case Digest(prefix):
            whole = bytes.fromhex(prefix + "0" * (len(prefix) % 2))
            return [int(Op.DIGEST), rid, _DIGIT_BITS * len(prefix), whole]
        case Leaving():
            return [int(Op.LEAVING), rid]
    wanted = request.contact
    return [int(Op.PROBE), rid, wanted.pack() if wanted else None, bytes(PROBE_PADDING_BYTES)]


def _response_fields(rid: int, response: Response) -> list[Any]:
    match response:
        case Nodes(contacts):
            return [Op.FIND_NODE | RESPONSE_BIT, rid, pack_contacts(contacts)]
        case Values(contacts, count, snapshot, items):
            records = [[item.header.pack(), item.value] for item in items]
            packed = pack_contacts(contacts)
            pulled = [snapshot.hash, snapshot.length] if snapshot else [b"", 0]
            return [Op.FIND_VALUE | RESPONSE_BIT, rid, packed, count, *pulled, records]
        case Pong():
            return [Op.PING | RESPONSE_BIT, rid]
        case Chunked(data):
            return [Op.CHUNK | RESPONSE_BIT, rid, data]
        case Stored(status, header, contacts, reason):
            packed_header = header.pack() if header else None
            packed = pack_contacts(contacts)
            return [Op.STORE | RESPONSE_BIT, rid, int(status), packed_header, packed, reason]
        case Identified(card):
            return [Op.IDENTIFY | RESPONSE_BIT, rid, card]
        case Probed(accepted):
            return [Op.PROBE | RESPONSE_BIT, rid, accepted]
        case Digests():
            return [Op.DIGEST | RESPONSE_BIT, rid, response.count, response.pack()]
        case Left():
            return [Op.LEAVING | RESPONSE_BIT, rid]
    return [ERROR, rid, response.code, response.detail]


def _read_store(body: list[Any]) -> Store:
    key, header, value, expect_seq = at_least(body, 4)
    if expect_seq is not None:
        expect_seq = read_uint(expect_seq)
    return Store(read_id(key), unpack_header(read_bytes(header)), read_value(value), expect_seq)


def _read_find_value(body: list[Any]) -> FindValue:
    key, known = at_least(body, 2)
    return FindValue(read_id(key), b"" if known == b"" else read_id(known))


def _read_probe(body: list[Any]) -> Probe:
    contact, padding = at_least(body, 2)
    if padding != bytes(PROBE_PADDING_BYTES):
        raise MalformedMessage("a PROBE is padded with zeros")
    return Probe(None if contact is None else unpack_contact(read_bytes(contact)))


def _read_values(body: list[Any]) -> Values:
    contacts, count, snapshot_hash, snapshot_length, records = at_least(body, 5)
    items = tuple(_read_item(record) for record in read_array(records, 0))
    count = read_uint(count, maximum=U32_MAX)
    if len(items) > count:
        raise MalformedMessage("more items than counted")
    snapshot = _read_snapshot(snapshot_hash, snapshot_length)
    return Values(read_contacts(contacts), count, snapshot, items)


def _read_snapshot(content: object, length: object) -> Snapshot | None:
    length = read_uint(length, maximum=U32_MAX)
    if (content == b"") != (length == 0):
        raise MalformedMessage("a snapshot has a hash and a length")
    return Snapshot(read_id(content), length) if length else None


def _read_item(record: object) -> Item:
    header, value = read_array(record, 2)[:2]
    return Item(unpack_header(read_bytes(header)), read_value(value))


def _read_stored(body: list[Any]) -> Stored:
    status, header, contacts, reason = at_least(body, 4)
    try:
        known_status = StoreStatus(read_uint(status))
    except ValueError:
        raise MalformedMessage("an unknown status") from None
    current = None if header is None else unpack_header(read_bytes(header))
    return Stored(known_status, current, read_contacts(contacts), read_uint(reason, maximum=U8_MAX))


def _read_probed(body: list[Any]) -> Probed:
    (accepted,) = at_least(body, 1)
    if type(accepted) is not bool:
        raise MalformedMessage("a boolean was expected")
    return Probed(accepted)


def _read_chunk(body: list[Any]) -> Chunk:
    content, index = at_least(body, 2)
    return Chunk(read_id(content), read_uint(index, maximum=U32_MAX))


def _read_chunked(body: list[Any]) -> Chunked:
    (data,) = at_least(body, 1)
    if data is None:
        return Chunked(None)
    if len(read_bytes(data)) > CHUNK_BYTES:
        raise MalformedMessage("an oversized chunk")
    return Chunked(data)


def _read_digest(body: list[Any]) -> Digest:
    bits, packed = at_least(body, 2)
    digits, rest = divmod(read_uint(bits, maximum=ID_BITS), _DIGIT_BITS)
    whole = read_bytes(packed).hex()
    if rest or len(whole) != digits + digits % 2 or whole[digits:].strip("0"):
        raise MalformedMessage("a prefix of whole digits was expected")
    return Digest(whole[:digits])


def _read_digests(body: list[Any]) -> Digests:
    count, packed = at_least(body, 2)
    count, packed = read_uint(count, maximum=U32_MAX), read_bytes(packed)
    if count > DIGEST_KEYS_MAX:
        children = _rows(packed, DIGEST_BYTES, count=_CHILDREN)
        if not any(packed):
            raise MalformedMessage("something is held under no digit")
        return Digests(count, children=children)
    rows = _rows(packed, ID_BYTES + DIGEST_BYTES, count=count)
    return Digests(count, held=tuple(Held(row[:ID_BYTES], row[ID_BYTES:]) for row in rows))


def _rows(packed: bytes, size: int, *, count: int) -> tuple[bytes, ...]:
    if len(packed) != size * count:
        raise MalformedMessage("another number of digests was expected")
    return tuple(packed[at : at + size] for at in range(0, len(packed), size))


def _read_identified(body: list[Any]) -> Identified:
    card = read_bytes(at_least(body, 1)[0])
    if len(card) > CARD_BYTES_MAX:
        raise MalformedMessage("an oversized card")
    return Identified(card)


def _read_refused(body: list[Any]) -> Refused:
    code, detail = at_least(body, 2)
    if type(detail) is not str:
        raise MalformedMessage("a text was expected")
    return Refused(read_uint(code), detail)


_REQUESTS: dict[int, Callable[[list[Any]], Request]] = {
    Op.PING: lambda _: Ping(),
    Op.IDENTIFY: lambda _: Identify(),
    Op.FIND_NODE: lambda body: FindNode(read_id(at_least(body, 1)[0])),
    Op.FIND_VALUE: _read_find_value,
    Op.STORE: _read_store,
    Op.PROBE: _read_probe,
    Op.CHUNK: _read_chunk,
    Op.DIGEST: _read_digest,
    Op.LEAVING: lambda _: Leaving(),
}
_RESPONSES: dict[int, Callable[[list[Any]], Response]] = {
    Op.PING | RESPONSE_BIT: lambda _: Pong(),
    Op.IDENTIFY | RESPONSE_BIT: _read_identified,
    Op.FIND_NODE | RESPONSE_BIT: lambda body: Nodes(read_contacts(at_least(body, 1)[0])),
    Op.FIND_VALUE | RESPONSE_BIT: _read_values,
    Op.STORE | RESPONSE_BIT: _read_stored,
    Op.PROBE | RESPONSE_BIT: _read_probed,
    Op.CHUNK | RESPONSE_BIT: _read_chunked,
    Op.DIGEST | RESPONSE_BIT: _read_digests,
    Op.LEAVING | RESPONSE_BIT: lambda _: Left(),
    ERROR: _read_refused,
}
