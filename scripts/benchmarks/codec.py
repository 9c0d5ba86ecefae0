"""Payloads to bytes and back: what the codec takes for each of the messages that are sent most."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Final

from kademlia_node.core.codec import decode_message, encode_request, encode_response
from kademlia_node.core.ids import ID_BYTES
from kademlia_node.core.message import (
    FindNode,
    FindValue,
    Item,
    Nodes,
    Ping,
    Pong,
    Request,
    Response,
    Store,
    Stored,
    StoreStatus,
    Values,
)
from kademlia_node.core.record import make_blob
from kademlia_node.settings import CONTACTS_PER_ANSWER_MAX, CONTACTS_WITH_VALUE_MIN
from scripts.benchmarks.strangers import strangers
from scripts.benchmarks.timing import Figures, Pace, microseconds, same

RID: Final = 2**31 - 1
VALUE_BYTES: Final = 100


def measure_codec(pace: Pace) -> Figures:
    """Of each message: the bytes of its payload, and microseconds to encode and to decode it."""
    rng, figures = random.Random(1), Figures()
    for name, message in _messages(rng).items():
        payload = _encoded(message)
        assert decode_message(payload) == (RID, message)
        figures[f"{name}_bytes"] = len(payload)
        encode = partial(encode_request if isinstance(message, Request) else encode_response, RID)
        figures[f"{name}_encode"] = microseconds(encode, same(message), pace=pace)
        figures[f"{name}_decode"] = microseconds(decode_message, same(payload), pace=pace)
    unseen = partial(_nodes_unseen, rng)
    figures["nodes_decode_unseen"] = microseconds(decode_message, unseen, pace=pace)
    return figures


def _messages(rng: random.Random) -> dict[str, Request | Response]:
    """Requests with their answers; `values` holds one value, and all contacts that fit."""
    contacts = tuple(strangers(rng, CONTACTS_PER_ANSWER_MAX))
    record = make_blob(rng.randbytes(VALUE_BYTES), expires=2_000_000_000)
    return {
        "ping": Ping(),
        "pong": Pong(),
        "find_node": FindNode(rng.randbytes(ID_BYTES)),
        "nodes": Nodes(contacts),
        "store": Store(record.key, record.header, record.value),
        "stored": Stored(StoreStatus.OK, None, contacts[:CONTACTS_WITH_VALUE_MIN]),
        "find_value": FindValue(record.key),
        "values": Values(contacts, 1, None, (Item(record.header, record.value),)),
    }


def _encoded(message: Request | Response) -> bytes:
    if isinstance(message, Request):
        return encode_request(RID, message)
    return encode_response(RID, message)


def _nodes_unseen(rng: random.Random, count: int) -> Sequence[bytes]:
    """Answers each of which names contacts that are read for the first time."""
    return [
        encode_response(RID, Nodes(tuple(strangers(rng, CONTACTS_PER_ANSWER_MAX))))
        for _ in range(count)
    ]
