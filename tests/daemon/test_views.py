from __future__ import annotations

import asyncio
import hashlib
import json
import random

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.invite import key_text
from kademlia_node.core.key import blob_key, entry_key
from kademlia_node.core.record import Record, make_blob, make_entry
from kademlia_node.daemon.views import (
    entry_view,
    error_view,
    publication_view,
    receipt_view,
    record_view,
    status_view,
    trace_view,
    value_of,
)
from kademlia_node.errors import (
    Conflict,
    NoAnswer,
    NotFound,
    NotStored,
    PartlyStored,
    ValueTooLarge,
)
from kademlia_node.node.receipt import Receipt, Step, StepOutcome, TopicEntry, Trace
from kademlia_node.store.base import Published
from tests.node.network import Neighbourhood

AUTHOR = Identity.generate(random.Random(1))
PEER = Contact(AUTHOR.public_key, Address("127.0.0.1", 4000))
TRACE = Trace(
    bytes(32),
    [
        Step(PEER, 0, 1, 0.0, StepOutcome.CLOSER, 0.0021),
        Step(PEER, 1, 2, 0.25, slow=True),
    ],
    hops=1,
    duration_s=0.5,
    requests=9,
    round_trips=2,
)
RECEIPT = Receipt(blob_key(b"x"), 0, 99, 5, (PEER,), {PEER: "QUOTA"}, TRACE)


def entry(value: bytes) -> Record:
    return make_entry(
        AUTHOR.signing, b"colour", value=value, seq=7, expires=99, network_tag=bytes(32)
    )


def test_a_trace_tells_what_each_node_said_and_when() -> None:
    view = trace_view(TRACE)
    assert (view["hops"], view["duration_ms"]) == (1, 500.0)
    assert view["summary"] == TRACE.summary()
    assert (view["requests"], view["round_trips"]) == (9, 2)
    answered, waiting = view["steps"]
    assert (answered["outcome"], answered["asked_ms"], answered["answered_ms"]) == (
        "closer",
        0.0,
        2.1,
    )
    assert (waiting["outcome"], waiting["answered_ms"], waiting["slow"]) == ("waiting", None, True)
    assert answered["invite"] == f"kad://{key_text(AUTHOR.public_key)}@127.0.0.1:4000"


async def test_a_status_tells_of_each_chore_how_often_and_how_long_ago() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        await asyncio.sleep(100.0001234)
        chores = status_view(await node.status())["chores"]
    assert chores["join"]["runs"] > 0
    assert 0 <= chores["join"]["last_run_s_ago"] <= 100
    assert chores["refresh"]["last_run_did"] == 0  # there is nobody else
    assert chores["join"]["last_run_did"] == 0
    assert chores["look_around"]["last_run_did"] is None
    for chore in chores.values():
        assert set(chore) == {"runs", "last_run_s_ago", "last_run_did"}
        assert (chore["last_run_s_ago"] is None) == (chore["runs"] == 0)
        assert round(chore["last_run_s_ago"] or 0, 3) == (chore["last_run_s_ago"] or 0)


async def test_a_status_tells_what_an_operation_of_each_verb_costs() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        await here.start()
        receipts = [await node.set("n", value) for value in (b"a", b"b", b"c")]
        status = await node.status()
    asked = sum(receipt.trace.requests for receipt in receipts)
    assert status.operations["write"].count == 3
    assert status_view(status)["operations"]["write"] == {
        "count": 3,
        "requests_each": round(asked / 3, 3),
        "round_trips_each": round(sum(r.trace.round_trips for r in receipts) / 3, 3),
    }
    assert asked > 0
    assert not [event for event in status.counters if event.startswith("operation")]
    assert status.counters


def test_a_publication_tells_what_it_is_and_not_its_value() -> None:
    assert publication_view(Published(entry(b"blue"), 98.6, 600)) == {
        "kind": "entry",
        "key": str(entry_key(AUTHOR.public_key, b"colour")),
        "author": key_text(AUTHOR.public_key),
        "slot": "colour",
        "seq": 7,
        "expires": 99,
        "renew_at": 99,
        "ttl_s": 600,
        "value_bytes": 4,
        "value_hash": hashlib.sha256(b"blue").hexdigest(),
    }


def test_a_receipt_names_who_has_it_and_who_has_not() -> None:
    view = receipt_view(RECEIPT)
    assert view["key"] == str(blob_key(b"x"))
    assert [holder["address"] for holder in view["replicas"]] == ["127.0.0.1:4000"]
    assert [(peer["id"], peer["reason"]) for peer in view["refused"]] == [(PEER.id.hex(), "QUOTA")]
    json.dumps(view)


@pytest.mark.parametrize(("value", "text"), [(b"blue", "blue"), (b"\xff\x00", None), (b"", "")])
def test_a_value_is_base64_and_text_if_it_is_text(value: bytes, text: str | None) -> None:
    view = record_view(entry(value))
    assert value_of(json.loads(json.dumps(view))) == value
    assert view["text"] == text


def test_an_entry_names_its_author_and_a_blob_has_none() -> None:
    named = record_view(entry(b"blue"))
    assert (named["author"], named["slot"], named["seq"]) == (
        key_text(AUTHOR.public_key),
        "colour",
        7,
    )
    blob = record_view(make_blob(b"x", expires=99))
    assert (blob["author"], blob["slot"], blob["key"]) == (None, "", str(blob_key(b"x")))


def test_a_slot_that_is_no_text_can_be_shown() -> None:
    view = entry_view(TopicEntry(AUTHOR.public_key, b"\xff", b"v", 7, 99))
    assert view["slot"] == "\\xff"


def test_errors_carry_what_they_know() -> None:
    assert error_view(NotFound("colour", TRACE))["trace"]["hops"] == 1
    assert error_view(NotStored(RECEIPT))["receipt"]["copies"] == 5
    partly = error_view(PartlyStored(RECEIPT, acks=3))
    assert (partly["error"], partly["receipt"]["copies"]) == ("PartlyStored", 5)
    assert error_view(Conflict(entry(b"blue")))["current"]["text"] == "blue"
    assert error_view(Conflict(None))["current"] is None
    assert error_view(NoAnswer("nobody")) == {"error": "NoAnswer", "detail": "nobody"}


def test_a_bad_argument_is_a_value_error_whatever_python_calls_it() -> None:
    with pytest.raises(ValueError) as undecodable:  # noqa: PT011 - any
        json.loads("{")
    assert error_view(undecodable.value)["error"] == "ValueError"
    assert error_view(UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no"))["error"] == "ValueError"
    assert error_view(ValueTooLarge("long"))["error"] == "ValueTooLarge"
