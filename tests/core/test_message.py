"""The vocabulary: every request has its response, and only reading is harmless."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, is_dataclass
from typing import get_args

import pytest

from kademlia_node.core import message
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.message import (
    HARMLESS,
    Chunk,
    Digest,
    FindNode,
    Leaving,
    Notify,
    Op,
    Probe,
    Request,
    Response,
    Store,
    Stored,
    StoreStatus,
    Watch,
)

ANSWERS = {  # Op -> its request and its response
    Op.PING: (message.Ping, message.Pong),
    Op.IDENTIFY: (message.Identify, message.Identified),
    Op.FIND_NODE: (message.FindNode, message.Nodes),
    Op.FIND_VALUE: (message.FindValue, message.Values),
    Op.STORE: (message.Store, message.Stored),
    Op.PROBE: (message.Probe, message.Probed),
    Op.CHUNK: (message.Chunk, message.Chunked),
    Op.DIGEST: (message.Digest, message.Digests),
    Op.LEAVING: (message.Leaving, message.Left),
    Op.WATCH: (message.Watch, message.Watched),
    Op.NOTIFY: (message.Notify, message.Notified),
}


def test_every_op_has_a_request_and_a_response() -> None:
    assert set(ANSWERS) == set(Op)
    assert {request for request, _ in ANSWERS.values()} == set(get_args(Request))
    answers = {response for _, response in ANSWERS.values()}
    assert answers | {message.Refused} == set(get_args(Response))


@pytest.mark.parametrize("op", Op)
def test_every_request_names_its_response(op: Op) -> None:
    request, response = ANSWERS[op]
    named = re.search(r"[Aa]nswered by `(\w+)`", request.__doc__ or "")
    assert named
    assert named[1] == response.__name__


def test_numbers_on_the_wire_never_change() -> None:
    assert [op.value for op in Op] == list(range(1, 12))
    assert [code.value for code in message.ErrorCode] == [1, 2, 3, 4]
    assert [status.value for status in StoreStatus] == list(range(9))


def test_whoever_is_not_confirmed_may_only_read_little() -> None:
    confirmed = set(get_args(Request)) - set(HARMLESS)
    assert confirmed == {message.Identify, Store, Probe, Chunk, Digest, Leaving, Watch, Notify}


def test_messages_are_frozen_values() -> None:
    for kind in (
        *get_args(Request),
        *get_args(Response),
        message.Item,
        message.Snapshot,
        message.Held,
    ):
        assert is_dataclass(kind)
        assert kind.__hash__ is not None, f"{kind} is not frozen"
    find = FindNode(bytes(32))
    assert find == FindNode(bytes(32))
    assert hash(find) == hash(FindNode(bytes(32)))
    with pytest.raises(FrozenInstanceError):
        find.target = bytes(32)  # type: ignore[misc]


def test_what_may_be_left_out_has_a_meaning() -> None:
    assert message.FindValue(bytes(32)).known == b""
    assert Probe().contact is None
    assert Probe(Contact(bytes(32), Address("192.0.2.1", 1))) != Probe()
    refused = Stored(StoreStatus.TOO_FAR)
    assert (refused.header, refused.contacts, refused.reason) == (None, (), 0)
