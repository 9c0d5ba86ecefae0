"""What this node answers when it is asked.

PING, IDENTIFY and FIND_NODE are answered at once. FIND_VALUE and STORE wait for the store, each in
a task of its own, at most `serving_max` at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace

from kademlia_node.core.contact import Contact, is_local, prefix
from kademlia_node.core.ids import point
from kademlia_node.core.key import Kind
from kademlia_node.core.message import (
    ErrorCode,
    FindNode,
    FindValue,
    Identified,
    Identify,
    Item,
    Nodes,
    Ping,
    Pong,
    Probe,
    Refused,
    Request,
    Response,
    Store,
    Stored,
    StoreStatus,
    Values,
)
from kademlia_node.core.record import Record, clamp_blob, merge
from kademlia_node.core.replica import accepts
from kademlia_node.errors import BadRecord
from kademlia_node.net.ask import Asker, Reply
from kademlia_node.node.reach import Reach
from kademlia_node.node.state import NodeState
from kademlia_node.settings import (
    CONTACTS_PER_ANSWER_MAX,
    CONTACTS_WITH_VALUE_MIN,
    VALUES_BYTES_MAX,
)

log = logging.getLogger(__name__)


class Server:
    """Answers requests from the node's state."""

    def __init__(self, state: NodeState, *, reach: Reach) -> None:
        self._state = state
        self._reach = reach
        self._tasks: asyncio.TaskGroup | None = None
        self._serving = 0
        self._turn = point(state.identity.id)  # as different as the holders are

    async def run(self) -> None:
        """Hold the tasks of what is being answered, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await self._state.loop.create_future()
            finally:
                self._tasks = None

    def serve(self, asker: Asker, request: Request, reply: Reply) -> None:
        """Answer; see `net.ask.Listener`."""
        self._state.counts[f"served_{type(request).__name__}"] += 1
        if not asker.confirmed:
            self._reach.on_caller(asker.contact)
        match request:
            case FindNode(target):
                reply(Nodes(tuple(self.contacts_for(asker, target))))
            case Ping():
                reply(Pong())
            case FindValue():
                self._later(self._find_value(asker, request), reply)
            case Store():
                self._later(self._store(asker, request), reply)
            case Identify():
                reply(Identified(self._reach.card()))
            case Probe():
                self._reach.on_probe(asker, request, reply)

    def contacts_for(self, asker: Asker, target: bytes) -> list[Contact]:
        """Our nearest contacts to the target; local ones stay among local peers."""
        table, count = self._state.table, CONTACTS_PER_ANSWER_MAX
        if is_local(asker.contact.address.host):
            return table.closest(target, count)
        public = (
            contact
            for contact in table.closest(target, 2 * count)
            if not is_local(contact.address.host)
        )
        return list(public)[:count]

    def _later(self, answering: Coroutine[None, None, Response], reply: Reply) -> None:
        if self._tasks is None or self._serving >= self._state.settings.serving_max:
            answering.close()
            reply(Refused(ErrorCode.BUSY, "too many requests at once"))
            return
        self._serving += 1
        task = self._tasks.create_task(self._answer(answering, reply))
        task.add_done_callback(self._on_served)

    async def _answer(self, answering: Coroutine[None, None, Response], reply: Reply) -> None:
        """A store that fails is the operator's to mend; no request ends the node."""
        try:
            reply(await answering)
        except Exception:
            log.exception("a request could not be answered")
            self._state.counts["serving_failed"] += 1
            reply(Refused(ErrorCode.BUSY, "something is wrong here"))

    def _on_served(self, _: asyncio.Task[None]) -> None:
        self._serving -= 1

    async def _find_value(self, asker: Asker, request: FindValue) -> Values:
        records = await self._state.store.get(request.key, wall=self._state.wall())
        contacts = self.contacts_for(asker, request.key)
        return fit(contacts, merge(records), known=request.known, turn=self._turn)

    async def _store(self, asker: Asker, request: Store) -> Stored:
        state, key, header = self._state, request.key, request.header
        known = state.table.closest(key, state.settings.k)
        nearer = tuple(self.contacts_for(asker, key)[:CONTACTS_WITH_VALUE_MIN])
        if not state.is_server or not accepts(
            key,
            state.identity.id,
            known=known,
            copies=state.network.copies,
            network_size=state.size.estimate,
            factor=state.settings.too_far_factor,
        ):
            return Stored(StoreStatus.TOO_FAR, None, nearer)
        try:
            state.judge(key, header, request.value)
        except BadRecord as error:
            state.count_bad(error)
            return Stored(StoreStatus.BAD)
        if header.kind is Kind.BLOB:
            header = clamp_blob(header, state.wall())
        host = asker.contact.address.host
        stored = await state.keep(
            Record(key, header, request.value),
            charged_to=b"" if is_local(host) else prefix(host),
            expect_seq=request.expect_seq,
        )
        return replace(stored, contacts=nearer)


def snapshot_hash(records: Sequence[Record]) -> bytes:
    """What stands for a set of records: SHA-256 over their headers, by (author, slot)."""
    return hashlib.sha256(b"".join(record.header.pack() for record in records)).digest()


def fit(
    contacts: Sequence[Contact], records: Sequence[Record], *, known: bytes, turn: int = 0
) -> Values:
    """The answer to a FIND_VALUE that fits one packet: 4 contacts, then items, then contacts.

    The snapshot is told when the reader cannot compute it: when not all items fit. Then holders
    begin at different records (`turn`), so that together they tell more than one of them can.
    """
    snapshot = snapshot_hash(records) if records else b""
    if records and known == snapshot:
        return Values(tuple(contacts[:CONTACTS_WITH_VALUE_MIN]), len(records), snapshot, ())
    named = list(contacts[:CONTACTS_WITH_VALUE_MIN])
    room = VALUES_BYTES_MAX - sum(_contact_bytes(contact) for contact in named)
    complete = sum(_item_bytes(record) for record in records) <= room
    if not complete:
        room -= len(snapshot)
        start = turn % len(records)
        records = [*records[start:], *records[:start]]
        if named and room < max(_item_bytes(record) for record in records):
            room += _contact_bytes(named.pop())  # only where IPv6 contacts meet a full-size item
    items: list[Item] = []
    for record in records:
        if _item_bytes(record) <= room:
            items.append(Item(record.header, record.value))
            room -= _item_bytes(record)
    for contact in contacts[len(named) : CONTACTS_PER_ANSWER_MAX]:
        room -= _contact_bytes(contact)
        if room < 0:
            break
        named.append(contact)
    return Values(tuple(named), len(records), b"" if complete else snapshot, tuple(items))


def _contact_bytes(contact: Contact) -> int:
    return len(contact.pack()) + 2


def _item_bytes(record: Record) -> int:
    return len(record.header.pack()) + len(record.value) + 6
