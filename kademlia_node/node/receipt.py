"""What the caller of a verb gets back: receipts for writes, entries for reads, a trace for both."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from kademlia_node.core.contact import Contact
from kademlia_node.core.key import Key


def counted(count: int, noun: str) -> str:
    """A number of things, in English."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class StepOutcome(StrEnum):
    """What one queried node did."""

    WAITING = "waiting"  # the walk ended before it answered
    CLOSER = "closer"  # named closer nodes
    VALUE = "value"  # held what was asked for
    REFUSED = "refused"  # answered with an error
    BAD = "bad"  # sent a record that does not verify
    SILENT = "silent"  # did not answer


@dataclass(slots=True)
class Step:
    """One query of a walk. Times in seconds since its start; `path` and `hop` as in `Lookup`."""

    contact: Contact
    path: int
    hop: int
    asked_s: float
    outcome: StepOutcome = StepOutcome.WAITING
    answered_s: float | None = None
    slow: bool = False


@dataclass(slots=True)
class Trace:
    """How the right nodes were found: who was asked, in order, and what each one said.

    `hops` is the number of steps to the nearest node that answered; `duration_s` the whole search.
    `requests` counts all that the operation asked of others, STORE and CHUNK included, each once
    however often it was repeated; `round_trips` the longest chain of them, one after another.
    """

    target: bytes
    steps: list[Step] = field(default_factory=list)
    hops: int = 0
    duration_s: float = 0.0
    requests: int = 0
    round_trips: int = 0

    def count(self, outcome: StepOutcome) -> int:
        """How many of the queried nodes did that."""
        return sum(step.outcome is outcome for step in self.steps)

    def summary(self) -> str:
        """One line for people."""
        if not self.steps:
            return "no peer is known to ask"
        said = [f"{self.count(o)} {o}" for o in StepOutcome if self.count(o)]
        took = f"{self.duration_s * 1000:.0f} ms"
        way = f"{counted(self.hops, 'hop')} and {took}"
        return f"asked {len(self.steps)} in {way}: {', '.join(said)}"


@dataclass(frozen=True, slots=True)
class OperationCost:
    """How many operations of one verb there were, and what all of them cost; see `Trace`."""

    count: int = 0
    requests: int = 0
    round_trips: int = 0

    def with_one(self, trace: Trace) -> OperationCost:
        """And one more."""
        requests = self.requests + trace.requests
        return OperationCost(self.count + 1, requests, self.round_trips + trace.round_trips)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Who holds a record now.

    Attributes:
        key: Under which key.
        seq: Its version; 0 for a blob.
        expires: Seconds since 1970; it is renewed before as long as this node runs.
        copies: How many nodes the network keeps each record on.
        replicas: The nodes that acknowledged it, ourselves perhaps among them.
        refused: Nodes that did not take it, and why.
        trace: How the responsible nodes were found.
    """

    key: Key
    seq: int
    expires: int
    copies: int
    replicas: tuple[Contact, ...]
    refused: dict[Contact, str]
    trace: Trace

    def summary(self) -> str:
        """One line for people."""
        reasons = sorted(set(self.refused.values()))
        but = f"; {len(self.refused)} did not take it ({', '.join(reasons)})" if reasons else ""
        return f"{counted(len(self.replicas), 'replica')} of {self.copies} wanted{but}"


@dataclass(frozen=True, slots=True)
class TopicEntry:
    """One author's entry under a topic. `expires` in seconds since 1970."""

    author: bytes
    slot: bytes
    value: bytes
    seq: int
    expires: int
