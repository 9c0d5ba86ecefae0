"""What the verbs of one node share: who it is, whom it knows, what it keeps, and its ways out."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from kademlia_node.core.contact import Contact, contact_at, is_local
from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import point, solves_puzzle
from kademlia_node.core.message import Stored, StoreStatus
from kademlia_node.core.neighbourhood import Found, Neighbourhoods
from kademlia_node.core.network import Network
from kademlia_node.core.record import (
    Header,
    Reason,
    Record,
    check_header,
    check_value,
    equivocates,
)
from kademlia_node.core.replica import (
    NetworkSize,
    accepts,
    choose_replicas,
    expected_radius,
    looks_whole,
    one_estimate,
    size_if_crowded,
)
from kademlia_node.core.routing import RoutingTable
from kademlia_node.core.suite import VerifiedSignatures
from kademlia_node.errors import BadRecord
from kademlia_node.net.exchange import Exchange
from kademlia_node.node.background import Background
from kademlia_node.node.contents import Contents
from kademlia_node.node.holdings import Holdings
from kademlia_node.node.receipt import OperationCost, Trace
from kademlia_node.node.snapshots import Snapshots
from kademlia_node.settings import INLINE_BYTES_MAX, VALUE_BYTES_MAX, Settings
from kademlia_node.store.base import Answer, Outcome, Store

STATUS_OF = {
    Outcome.STORED: StoreStatus.OK,
    Outcome.HAVE: StoreStatus.HAVE,
    Outcome.WANTED: StoreStatus.NEED,
    Outcome.OLD: StoreStatus.OLD,
    Outcome.CONFLICT: StoreStatus.CAS,
    Outcome.SHORTENED: StoreStatus.BAD,
    Outcome.FOREIGN: StoreStatus.BAD,
    Outcome.QUOTA: StoreStatus.QUOTA,
    Outcome.FULL: StoreStatus.QUOTA,
}
Filed = Callable[[bytes, Header, bytes | None], None]
"""Told the key, the header and the value, unless it is long, of what was filed or renewed here."""
REASON_OF = {Outcome.SHORTENED: Reason.SHORTENED, Outcome.FOREIGN: Reason.WRONG_KEY}
MOST = 0.75  # of all nodes, as far as we can tell how many there are
WITH_CURRENT = frozenset({Outcome.OLD, Outcome.CONFLICT, Outcome.SHORTENED})


@dataclass(slots=True, kw_only=True)
class NodeState:
    """One node's state. Each part has one owner; the verbs read it and tell the owner."""

    identity: Identity
    network: Network
    settings: Settings
    rng: random.Random
    wall: Callable[[], float]
    store: Store
    table: RoutingTable
    signatures: VerifiedSignatures
    exchange: Exchange
    neighbourhoods: Neighbourhoods
    contents: Contents
    snapshots: Snapshots
    holdings: Holdings
    size: NetworkSize = field(default_factory=NetworkSize)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    background: Background = field(default_factory=Background)
    counts: Counter[str] = field(default_factory=Counter)
    operations: dict[str, OperationCost] = field(default_factory=dict)
    told: list[Filed] = field(default_factory=list)

    @property
    def contact(self) -> Contact:
        """Ourselves, at the address our socket is bound to."""
        return contact_at(self.identity.public_key, self.exchange.address)

    @property
    def is_server(self) -> bool:
        """Whether we store for others and may be filed in their tables."""
        return self.exchange.capabilities.server

    def is_responsible(
        self, key: bytes, *, factor: int = 1, known: Sequence[Contact] | None = None
    ) -> bool:
        """Whether we lie within so many radii of a key, as far as we know the others there.

        Who has asked the table for the k nearest already may pass them as `known`.
        """
        copies = self.network.copies
        known = self.table.closest(key, self.settings.k) if known is None else known
        return accepts(
            key,
            self.identity.id,
            known=known,
            copies=copies,
            network_size=self.size.estimate or size_if_crowded(key, known, copies=copies),
            factor=factor,
        )

    @property
    def reach(self) -> int:
        """How far from a key the size of the network lets us expect responsible nodes."""
        return expected_radius(copies=self.network.copies, network_size=self.size.estimate)

    @property
    def region_max(self) -> int:
        """How many of those nearest to a key are looked at to choose who is to hold it."""
        return max(self.settings.region_copies_factor * self.network.copies, self.settings.k)

    def choose_replicas(
        self, key: bytes, candidates: Collection[Contact], *, crowd_size: float | None
    ) -> list[Contact]:
        """Who of them is to hold a key (32 bytes), nearest first; see `core.replica`.

        `crowd_size` is `size_if_crowded` of those nearest to it, where these are known.
        """
        goal = point(key)
        return choose_replicas(
            key,
            sorted(candidates, key=lambda contact: contact.point ^ goal),
            copies=self.network.copies,
            network_size=self.size.estimate or crowd_size,
            factor=self.settings.region_copies_factor,
            rng=self.rng,
        )

    def is_proved(self, contact: Contact) -> bool:
        """Whether this contact has answered us at this very address, and not too long ago."""
        session = self.exchange.sessions.sending(contact)
        if session is not None and session.heard >= self._lately:
            return True
        return self.table.get(contact.id) == contact

    @property
    def _lately(self) -> float:
        return self.loop.time() - self.settings.session_idle_s

    def are_near(self, key: bytes, contacts: Sequence[Contact]) -> bool:
        """Whether there are any, and all so near to a key that they should hold what is there."""
        if not (contacts and self.settings.ask_known_first):
            return False
        goal, size = point(key), self._size_by_now
        reach = expected_radius(copies=self.network.copies, network_size=size)
        return all(contact.point ^ goal <= reach for contact in contacts)

    def known_near(self, key: bytes) -> list[Found]:
        """Everybody near a key, nearest first, if we seem to know them without looking.

        That takes a table of most nodes there are: else a few attackers near the key, each of whom
        has only to be filed by us, could pass for all who are there. They are dealt to the paths in
        turn, as the seeds of a walk are; whoever first named them is not remembered.
        """
        if not self.settings.ask_known_first:
            return []
        copies, size = self.network.copies, self._size_by_now
        if size is None or len(self.table) < MOST * size:
            return []
        known = self.table.closest(key, self.region_max)
        if not looks_whole(key, known, copies=copies, network_size=size):
            return []
        return [Found(contact, turn % self.settings.paths) for turn, contact in enumerate(known)]

    @property
    def _size_by_now(self) -> float | None:
        """The size of the network, before it was measured as the nodes around us let it seem.

        A crowd there makes it seem larger, and us less sure of what we know.
        """
        if (estimate := self.size.estimate) is not None:
            return estimate
        around = self.table.closest(self.identity.id, self.settings.k)
        return one_estimate(self.identity.id, around) if len(around) > 1 else None

    def seeds(self, target: bytes) -> list[Contact]:
        """Where a walk starts: the nearest of the table, and of servers lately heard."""
        goal, k = point(target), self.settings.k
        known = {contact.point ^ goal: contact for contact in self.table.closest(target, k)}
        if self.settings.seed_from_sessions:
            for contact in self.exchange.sessions.servers(since=self._lately):
                known.setdefault(contact.point ^ goal, contact)
        if not known:
            return self.table.closest(target, k, include_struck=True)
        return [known[distance] for distance in sorted(known)[:k]]

    def credible(self, contacts: Sequence[Contact], *, named_by: Contact) -> list[Contact]:
        """Of the contacts a peer names, those worth hearing.

        Servers solve the puzzle, and a public peer cannot know what is behind a local address.
        """
        if bits := self.network.puzzle_bits:
            contacts = [c for c in contacts if solves_puzzle(c.id, bits=bits)]
        if is_local(named_by.address.host):
            return list(contacts)
        return [contact for contact in contacts if not is_local(contact.address.host)]

    def judge(self, key: bytes, header: Header, value: bytes | None) -> None:
        """Check a record that came from outside; raises BadRecord.

        A value that is None comes later, and is checked then: it has to be longer than fits inline.
        """
        self.judge_header(key, header)
        if value is not None:
            check_value(key, header, value=value)
        elif header.length <= INLINE_BYTES_MAX:
            raise BadRecord(Reason.WRONG_LENGTH)

    def judge_header(self, key: bytes, header: Header) -> None:
        """Check a header that came from outside; raises BadRecord."""
        check_header(
            key,
            header,
            wall=self.wall(),
            network_tag=self.network.tag,
            length_max=VALUE_BYTES_MAX,
            verify=self.signatures.check,
        )

    async def keep(self, record: Record, *, charged_to: bytes, expect_seq: int | None) -> Stored:
        """Put a judged record into our store, and say what became of it; see `Store.put`."""
        try:
            answer = await self.store.put(
                record, charged_to=charged_to, wall=self.wall(), expect_seq=expect_seq
            )
        finally:  # who gives up waiting for a disk does not keep it from writing
            self.on_change(record.key)
        for key in answer.gone:
            self.on_change(key)
        self.tell(record.key, record.header, record.value, answer=answer)
        return self.answer_of(record.header, answer)

    def tell(self, key: bytes, header: Header, value: bytes | None, *, answer: Answer) -> None:
        """Tell whoever wants to know, if our store holds by its answer what it did not before."""
        renews = answer.current is not None and answer.current.expires < header.expires
        if answer.outcome is Outcome.STORED or (answer.outcome is Outcome.HAVE and renews):
            for tell in self.told:
                tell(key, header, value)

    def on_change(self, key: bytes) -> None:
        """Something was filed under the key, or had to make room: what is told of it is old."""
        self.snapshots.on_change(key)
        self.holdings.on_change(key)

    def answer_of(self, header: Header, answer: Answer) -> Stored:
        """What the store made of this header, in the words of a STORE's answer."""
        if answer.current is not None and equivocates(header, answer.current):
            self.counts["equivocations"] += 1
        current = answer.current if answer.outcome in WITH_CURRENT else None
        reason = REASON_OF.get(answer.outcome, 0)
        return Stored(STATUS_OF[answer.outcome], current, reason=reason)

    def count_bad(self, error: BadRecord, *, by: str) -> None:
        """One more record that was refused; `by` tells in which role we judged it."""
        self.counts[f"bad_record_{by}_{error.reason.name.lower()}"] += 1

    def count_operation(self, verb: str, trace: Trace) -> None:
        """What one operation has cost, added to what those before it did."""
        self.operations[verb] = self.operations.get(verb, OperationCost()).with_one(trace)
