"""Messages to bytes and back: the border where everything from outside is parsed.

Requests are msgpack arrays `[op, rid, ...]`, responses `[op | 0x80, rid, ...]`, errors
`[0xFF, rid, code, detail]`. Unknown fields at the end are ignored. Reading raises MalformedMessage
and nothing else, whatever the bytes; what comes out is frozen, typed and within limits.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack

from kademlia_node.core.body import (
    READ_REQUEST,
    READ_RESPONSE,
    RESPONSE_BIT,
    request_fields,
    response_fields,
)
from kademlia_node.core.contact import Address, pack_address, unpack_address
from kademlia_node.core.fields import (
    U32_MAX,
    read_array,
    read_bytes,
    read_uint,
)
from kademlia_node.core.identity import Capabilities
from kademlia_node.core.message import ErrorCode, Refused, Request, Response
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import (
    PACKET_BYTES_MAX,
)

RID_MAX = U32_MAX
DETAIL_BYTES_MAX = 64
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
    return _pack(request_fields(rid, request))


def encode_response(rid: int, response: Response) -> bytes:
    """The payload of a DATA packet that answers."""
    return _pack(response_fields(rid, response))


def decode_message(payload: bytes) -> tuple[int, Request | Response]:
    """Read the payload of a DATA packet: its rid and what it says.

    Raises:
        UnfitRequest: an op we do not know, or wrong fields of one we do: answer with an error.
        MalformedMessage: anything else that is wrong: be silent.
    """
    return _read_message(_unpack(payload))


def encode_opening(ts_us: int, caps: Capabilities, *, rid: int, request: Request) -> bytes:
    """The payload of an INIT, unpadded. `ts_us` is the sender's wall clock in microseconds."""
    return _pack([ts_us, caps.pack(), request_fields(rid, request)])


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
    return _pack([pack_address(seen), caps.pack(), response_fields(rid, response)])


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
    read_request = READ_REQUEST.get(op)
    if read_request is not None:
        try:
            return rid, read_request(body)
        except MalformedMessage as error:
            raise UnfitRequest(rid, code=ErrorCode.MALFORMED, detail=str(error)) from error
    read_response = READ_RESPONSE.get(op)
    if read_response is not None:
        return rid, read_response(body)
    if op < RESPONSE_BIT:
        raise UnfitRequest(rid, code=ErrorCode.UNKNOWN_OP, detail=f"op {op} is unknown")
    raise MalformedMessage("an answer to no known request")
