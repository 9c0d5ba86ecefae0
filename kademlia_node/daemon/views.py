"""What the verbs answer, as plain values that JSON can hold: the one place where they are shaped.

The control API sends them, the command line prints them. Keys, node IDs and addresses are text;
times are seconds since 1970, or `_ms` for durations; a value is base64, and text beside it if it
is text.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from typing import Any

from kademlia_node.core.contact import Contact
from kademlia_node.core.feed import Change
from kademlia_node.core.invite import Invite, key_text
from kademlia_node.core.key import Key
from kademlia_node.core.record import Record
from kademlia_node.errors import Conflict, Incomplete, NotAgreed, NotFound, NotStored
from kademlia_node.node.receipt import OperationCost, Receipt, Step, TopicEntry, Trace
from kademlia_node.node.status import Status
from kademlia_node.store.backup import BackupReport, RestoreReport
from kademlia_node.store.base import Published

Json = dict[str, Any]
OnView = Callable[[Json], None]
"""Told now and then how far something has come: `done_bytes`, `total_bytes`."""


def status_view(status: Status) -> Json:
    """The status, field by field; seconds are rounded, costs are told per operation."""
    chores = {
        name: {
            "runs": runs,
            "last_run_s_ago": None if age_s is None else round(age_s, 3),
            "last_run_did": status.did.get(name),
        }
        for name, (runs, age_s) in status.chores.items()
    }
    operations = {verb: _cost_view(cost) for verb, cost in status.operations.items()}
    view = dataclasses.asdict(status) | {"operations": operations, "chores": chores}
    del view["did"]
    return view


def contact_view(contact: Contact) -> Json:
    """Who and where; the invite says both."""
    invite = Invite(contact.public_key, contact.address.host, contact.address.port)
    return {"id": contact.id.hex(), "address": str(contact.address), "invite": str(invite)}


def trace_view(trace: Trace) -> Json:
    """Whom a walk asked, in order, and what each one said."""
    return {
        "target": trace.target.hex(),
        "summary": trace.summary(),
        "hops": trace.hops,
        "duration_ms": _ms(trace.duration_s),
        "requests": trace.requests,
        "round_trips": trace.round_trips,
        "steps": [_step_view(step) for step in trace.steps],
    }


def receipt_view(receipt: Receipt) -> Json:
    """What became of a write."""
    return {
        "key": str(receipt.key),
        "seq": receipt.seq,
        "expires": receipt.expires,
        "copies": receipt.copies,
        "summary": receipt.summary(),
        "replicas": [contact_view(contact) for contact in receipt.replicas],
        "refused": [
            contact_view(contact) | {"reason": reason}
            for contact, reason in receipt.refused.items()
        ],
        "trace": trace_view(receipt.trace),
    }


def brief_receipt_view(receipt: Receipt) -> Json:
    """One of many receipts: without its trace."""
    view = receipt_view(receipt)
    del view["trace"]
    return view


def record_view(record: Record) -> Json:
    """A record that was read. A blob has no author and no slot."""
    return _header_view(record) | _value_view(record.value)


def entry_view(entry: TopicEntry) -> Json:
    """One author's entry under a topic."""
    return {
        "author": key_text(entry.author),
        "slot": _text(entry.slot),
        "seq": entry.seq,
        "expires": entry.expires,
    } | _value_view(entry.value)


def change_view(change: Change) -> Json:
    """One change of what is watched; `value`, or `text`, only where one was set."""
    value = {} if change.value is None else _value_view(change.value)
    return {
        "kind": change.kind.value,
        "author": key_text(change.author),
        "slot": _text(change.slot),
        "seq": change.seq,
        "expires": change.expires,
    } | value


def publication_view(published: Published) -> Json:
    """A record that a node keeps alive; of its value the hash (SHA-256) is told."""
    record = published.record
    return _header_view(record) | {
        "kind": record.header.kind.name.lower(),
        "value_bytes": record.header.length,
        "value_hash": record.header.value_hash.hex(),
        "renew_at": round(published.renew_at),
        "ttl_s": published.ttl_s,
    }


def backup_view(report: BackupReport | RestoreReport) -> Json:
    """What is in a backup, or what became of it, field by field."""
    return dataclasses.asdict(report)


def error_view(error: Exception) -> Json:
    """What went wrong: its kind by name, one line for people, and what the error carries."""
    view: Json = {"error": type(error).__name__, "detail": str(error)}
    match error:
        case NotFound():
            view["trace"] = trace_view(error.trace)
        case NotAgreed():
            view["record"] = record_view(error.record)
            view["trace"] = trace_view(error.trace)
        case NotStored():
            view["receipt"] = receipt_view(error.receipt)
        case Incomplete():
            view |= {"missing": error.missing, "of": error.of}
        case Conflict():
            view["current"] = record_view(error.current) if error.current else None
        case UnicodeError():
            view |= {"error": "ValueError", "detail": "text is UTF-8 here, and this is none"}
        case ValueError() if type(error).__module__ != "kademlia_node.errors":
            view["error"] = "ValueError"
    return view


def value_of(view: Json) -> bytes:
    """The bytes in a view of a record or a topic entry."""
    return base64.b64decode(view["value"])


def _step_view(step: Step) -> Json:
    return contact_view(step.contact) | {
        "path": step.path,
        "hop": step.hop,
        "asked_ms": _ms(step.asked_s),
        "answered_ms": None if step.answered_s is None else _ms(step.answered_s),
        "slow": step.slow,
        "outcome": step.outcome.value,
    }


def _header_view(record: Record) -> Json:
    header = record.header
    return {
        "key": str(Key(header.kind, record.key)),
        "author": key_text(header.author) if header.author else None,
        "slot": _text(header.slot),
        "seq": header.seq,
        "expires": header.expires,
    }


def _cost_view(cost: OperationCost) -> Json:
    return {
        "count": cost.count,
        "requests_each": round(cost.requests / cost.count, 3),
        "round_trips_each": round(cost.round_trips / cost.count, 3),
    }


def _value_view(value: bytes) -> Json:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = None
    return {"value": base64.b64encode(value).decode(), "text": text}


def _text(slot: bytes) -> str:
    """By custom UTF-8; a stranger's may be anything."""
    return slot.decode("utf-8", "backslashreplace")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
