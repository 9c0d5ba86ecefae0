"""What stands behind op and rid in each message: from frozen values to fields, and back.

`codec` frames these as payloads. Reading raises MalformedMessage and nothing else; what comes out
is typed and within limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kademlia_node.core.contact import unpack_contact
from kademlia_node.core.fields import (
    U8_MAX,
    U32_MAX,
    at_least,
    pack_contacts,
    read_array,
    read_bool,
    read_bytes,
    read_contacts,
    read_id,
    read_uint,
    read_value,
)
from kademlia_node.core.ids import ID_BYTES
from kademlia_node.core.message import (
    DIGEST_BYTES,
    DIGEST_KEYS_MAX,
    Chunk,
    Chunked,
    Digest,
    Digests,
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
    Watch,
    Watched,
)
from kademlia_node.core.record import unpack_header
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import (
    CHUNK_BYTES,
    ID_BITS,
    PROBE_PADDING_BYTES,
)

RESPONSE_BIT: Final = 0x80
ERROR: Final = 0xFF
CARD_BYTES_MAX: Final = 256
_DIGIT_BITS = 4
_CHILDREN = 2**_DIGIT_BITS


def request_fields(rid: int, request: Request) -> list[Any]:
    """The whole array of a request."""
    op: Op
    fields: list[Any]
    match request:
        case FindNode(target):
            op, fields = Op.FIND_NODE, [target]
        case FindValue(key, known):
            op, fields = Op.FIND_VALUE, [key, known]
        case Ping():
            op, fields = Op.PING, []
        case Store(key, header, value, expect_seq):
            op, fields = Op.STORE, [key, header.pack(), value, expect_seq]
        case Identify():
            op, fields = Op.IDENTIFY, []
        case Chunk(content, index):
            op, fields = Op.CHUNK, [content, index]
        case Digest(prefix):
            whole = bytes.fromhex(prefix + "0" * (len(prefix) % 2))
            op, fields = Op.DIGEST, [_DIGIT_BITS * len(prefix), whole]
        case Leaving():
            op, fields = Op.LEAVING, []
        case Watch(key):
            op, fields = Op.WATCH, [key]
        case Notify(key, header, value):
            op, fields = Op.NOTIFY, [key, header.pack(), value]
        case _:
            wanted = request.contact.pack() if request.contact else None
            op, fields = Op.PROBE, [wanted, bytes(PROBE_PADDING_BYTES)]
    return [int(op), rid, *fields]


def response_fields(  # one case for each message
    rid: int, response: Response
) -> list[Any]:
    """The whole array of a response."""
    op: Op
    fields: list[Any]
    match response:
        case Nodes(contacts):
            op, fields = Op.FIND_NODE, [pack_contacts(contacts)]
        case Values():
            op, fields = Op.FIND_VALUE, _values_fields(response)
        case Pong():
            op, fields = Op.PING, []
        case Chunked(data):
            op, fields = Op.CHUNK, [data]
        case Stored(status, header, contacts, reason):
            packed_header = header.pack() if header else None
            packed = pack_contacts(contacts)
            op, fields = Op.STORE, [int(status), packed_header, packed, reason]
        case Identified(card):
            op, fields = Op.IDENTIFY, [card]
        case Probed(accepted):
            op, fields = Op.PROBE, [accepted]
        case Digests():
            op, fields = Op.DIGEST, [response.count, response.pack()]
        case Left():
            op, fields = Op.LEAVING, []
        case Watched(lease_s, versions):
            op, fields = Op.WATCH, [lease_s, versions]
        case Notified(wanted):
            op, fields = Op.NOTIFY, [wanted]
        case _:
            return [ERROR, rid, response.code, response.detail]
    return [op | RESPONSE_BIT, rid, *fields]


def _values_fields(values: Values) -> list[Any]:
    records = [[item.header.pack(), item.value] for item in values.items]
    snapshot = values.snapshot
    pulled = [snapshot.hash, snapshot.length] if snapshot else [b"", 0]
    return [pack_contacts(values.contacts), values.count, *pulled, records]


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
    return Probed(read_bool(at_least(body, 1)[0]))


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


def _read_watched(body: list[Any]) -> Watched:
    lease_s, versions = at_least(body, 2)
    if len(read_bytes(versions)) != DIGEST_BYTES:
        raise MalformedMessage("a digest was expected")
    return Watched(read_uint(lease_s, maximum=U32_MAX), versions)


def _read_notify(body: list[Any]) -> Notify:
    key, header, value = at_least(body, 3)
    return Notify(read_id(key), unpack_header(read_bytes(header)), read_value(value))


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


READ_REQUEST: Final[dict[int, Callable[[list[Any]], Request]]] = {
    Op.PING: lambda _: Ping(),
    Op.IDENTIFY: lambda _: Identify(),
    Op.FIND_NODE: lambda body: FindNode(read_id(at_least(body, 1)[0])),
    Op.FIND_VALUE: _read_find_value,
    Op.STORE: _read_store,
    Op.PROBE: _read_probe,
    Op.CHUNK: _read_chunk,
    Op.DIGEST: _read_digest,
    Op.LEAVING: lambda _: Leaving(),
    Op.WATCH: lambda body: Watch(read_id(at_least(body, 1)[0])),
    Op.NOTIFY: _read_notify,
}
READ_RESPONSE: Final[dict[int, Callable[[list[Any]], Response]]] = {
    Op.PING | RESPONSE_BIT: lambda _: Pong(),
    Op.IDENTIFY | RESPONSE_BIT: _read_identified,
    Op.FIND_NODE | RESPONSE_BIT: lambda body: Nodes(read_contacts(at_least(body, 1)[0])),
    Op.FIND_VALUE | RESPONSE_BIT: _read_values,
    Op.STORE | RESPONSE_BIT: _read_stored,
    Op.PROBE | RESPONSE_BIT: _read_probed,
    Op.CHUNK | RESPONSE_BIT: _read_chunked,
    Op.DIGEST | RESPONSE_BIT: _read_digests,
    Op.LEAVING | RESPONSE_BIT: lambda _: Left(),
    Op.WATCH | RESPONSE_BIT: _read_watched,
    Op.NOTIFY | RESPONSE_BIT: lambda body: Notified(read_bool(at_least(body, 1)[0])),
    ERROR: _read_refused,
}
