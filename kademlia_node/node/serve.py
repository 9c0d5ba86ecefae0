"""What this node answers when it is asked.

PING, IDENTIFY, FIND_NODE, LEAVING and NOTIFY are answered at once, and so is CHUNK of what is at
hand. FIND_VALUE, STORE, DIGEST, WATCH and other CHUNKs may have to wait for the store, each in a
task of its own then, at most `serving_max` at a time, of which one asker has a share.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, get_args

from kademlia_node.core.contact import Contact, is_local, prefix
from kademlia_node.core.key import Kind
from kademlia_node.core.limiter import KeyedLimiter
from kademlia_node.core.message import (
    Chunk,
    Chunked,
    Digest,
    ErrorCode,
    FindNode,
    FindValue,
    Identified,
    Identify,
    Item,
    Leaving,
    Left,
    Nodes,
    Notify,
    Ping,
    Pong,
    Probe,
    Refused,
    Request,
    Response,
    Snapshot,
    Store,
    Stored,
    StoreStatus,
    Values,
    Watch,
)
from kademlia_node.core.record import Record, clamp_blob
from kademlia_node.errors import BadRecord
from kademlia_node.net.ask import Asker, Reply
from kademlia_node.node.eager import begin
from kademlia_node.node.intake import Intake, Offered
from kademlia_node.node.notify import Notifier
from kademlia_node.node.reach import Reach
from kademlia_node.node.snapshots import name_of_few
from kademlia_node.node.state import NodeState
from kademlia_node.node.subscription import Subscriptions
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import (
    CONTACTS_PER_ANSWER_MAX,
    CONTACTS_WITH_VALUE_MIN,
    INLINE_BYTES_MAX,
    VALUES_BYTES_MAX,
)
from kademlia_node.store.base import Place

log = logging.getLogger(__name__)
_SERVED = {kind: f"served_{kind.__name__}" for kind in get_args(Request)}  # names of the counts
_HELD_NOW = frozenset({StoreStatus.OK, StoreStatus.HAVE, StoreStatus.NEED})  # or in a moment


class Server:
    """Answers requests from the node's state."""

    def __init__(
        self,
        state: NodeState,
        *,
        reach: Reach,
        notifier: Notifier,
        subscriptions: Subscriptions,
        on_stored: Callable[[Place], None] | None = None,
    ) -> None:
        """Answer for this node; `on_stored` is told where what a STORE brought is held now."""
        self._state = state
        self._on_stored = on_stored
        self._reach = reach
        self._notifier = notifier
        self._subscriptions = subscriptions
        self._tasks: asyncio.TaskGroup | None = None
        self._serving: Counter[bytes] = Counter()  # requests, by the ID of who asked
        misses_per_s = state.settings.chunk_misses_per_s
        self._misses: KeyedLimiter = KeyedLimiter(
            misses_per_s, misses_per_s, keys_max=state.settings.peer_limits_max
        )
        self._intake = Intake(state)

    async def run(self) -> None:
        """Hold the tasks of what is being answered, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await self._state.loop.create_future()
            finally:
                self._tasks = None

    def serve(  # noqa: C901  # one case for each request
        self, asker: Asker, request: Request, reply: Reply
    ) -> None:
        """Answer; see `net.ask.Listener`."""
        self._state.counts[_SERVED[type(request)]] += 1
        if not asker.confirmed:
            self._reach.on_caller(asker.contact)
        match request:
            case FindNode(target):
                reply(Nodes(tuple(self.contacts_for(asker, target))))
            case Ping():
                reply(Pong())
            case FindValue():
                self._later(self._find_value(asker, request), asker, reply)
            case Store():
                self._later(self._store(asker, request), asker, reply)
            case Chunk():
                self._give(asker, request, reply)
            case Identify():
                reply(Identified(self._reach.card()))
            case Probe():
                self._reach.on_probe(asker, request, reply)
            case Digest(prefix=digits):
                self._later(self._state.holdings.tell(digits), asker, reply)
            case Watch(key):
                self._later(self._notifier.watch(asker.contact, key), asker, reply)
            case Notify():
                reply(self._subscriptions.on_notify(asker.contact, request))
            case Leaving():
                self._state.table.remove(asker.contact.id)
                reply(Left())

    def _give(self, asker: Asker, request: Chunk, reply: Reply) -> None:
        if (at_hand := self._state.contents.at_hand(asker.contact, request)) is not None:
            reply(at_hand)
        else:
            self._later(self._chunk(asker, request), asker, reply)

    async def _chunk(self, asker: Asker, request: Chunk) -> Chunked | Refused:
        """A look into the store costs us more than a chunk; only it is counted here."""
        contents, now = self._state.contents, self._state.loop.time()
        if not contents.is_near(request) and not self._misses.take(asker.contact.id, now):
            sometimes(Rare.CONTENTS_REFUSED)
            return Refused(ErrorCode.BUSY, "too many contents at once")
        return await contents.chunk(request)

    def contacts_for(self, asker: Asker, target: bytes) -> list[Contact]:
        """Our nearest contacts to the target; local ones stay among local peers."""
        nearest = self._state.table.closest(target, CONTACTS_PER_ANSWER_MAX)
        return self._shown(asker, target, nearest)

    def _shown(self, asker: Asker, target: bytes, nearest: list[Contact]) -> list[Contact]:
        table, count = self._state.table, CONTACTS_PER_ANSWER_MAX
        if is_local(asker.contact.address.host):
            return nearest
        if any(is_local(contact.address.host) for contact in nearest):  # seldom: look farther
            nearest = table.closest(target, 2 * count)
        return [contact for contact in nearest if not is_local(contact.address.host)][:count]

    def _later(
        self, answering: Coroutine[None, None, Response], asker: Asker, reply: Reply
    ) -> None:
        settings, who = self._state.settings, asker.contact.id
        if (
            self._tasks is None
            or self._serving.total() >= settings.serving_max
            or self._serving[who] >= settings.serving_per_peer_max
        ):
            sometimes(Rare.SERVING_FULL)
            answering.close()
            reply(Refused(ErrorCode.BUSY, "too many requests at once"))
            return
        work = self._answer(answering, reply)
        if (rest := begin(work)) is not None:  # it waits for the disk, or for a peer
            self._serving[who] += 1
            self._tasks.create_task(rest).add_done_callback(lambda _: self._on_served(who, work))

    async def _answer(self, answering: Coroutine[None, None, Response], reply: Reply) -> None:
        """A store that fails is the operator's to mend; no request ends the node."""
        try:
            reply(await answering)
        except Exception:
            sometimes(Rare.STORE_FAILED)
            log.exception("a request could not be answered")
            self._state.counts["serving_failed"] += 1
            reply(Refused(ErrorCode.BUSY, "something is wrong here"))

    def _on_served(self, who: bytes, work: Coroutine[Any, Any, None]) -> None:
        work.close()  # if the node stopped first, its rest has not even begun
        self._serving[who] -= 1
        if not self._serving[who]:
            del self._serving[who]

    async def _find_value(self, asker: Asker, request: FindValue) -> Values:
        snapshots = self._state.snapshots
        view = await snapshots.view(request.key)
        contacts = self.contacts_for(asker, request.key)
        answer = fit(contacts, view.records, count=view.count)
        is_whole = len(answer.items) == view.count
        if is_whole and not request.known:
            return answer
        few = name_of_few(view.records) if is_whole else None
        snapshot = few or snapshots.of(request.key, view)
        if snapshot is None:
            return answer
        if request.known == snapshot.hash:
            return Values(tuple(contacts[:CONTACTS_WITH_VALUE_MIN]), view.count, snapshot, ())
        if is_whole:
            return answer
        return fit(contacts, view.records, count=view.count, snapshot=snapshot)

    async def _store(self, asker: Asker, request: Store) -> Stored:
        state, key, header = self._state, request.key, request.header
        known = state.table.closest(key, max(state.settings.k, CONTACTS_PER_ANSWER_MAX))
        shown = self._shown(asker, key, known)
        factor = state.settings.too_far_factor
        is_near = state.is_responsible(key, factor=factor, known=known[: state.settings.k])
        if not (state.is_server and is_near):
            sometimes(Rare.STORE_TOO_FAR)
            nearest = tuple(shown[:CONTACTS_WITH_VALUE_MIN])
            return Stored(StoreStatus.TOO_FAR, None, nearest)
        try:
            state.judge(key, header, request.value)
        except BadRecord as error:
            state.count_bad(error, by="storer")
            return Stored(StoreStatus.BAD, reason=error.reason)
        if header.kind is Kind.BLOB:
            header = clamp_blob(header, state.wall())
        host = asker.contact.address.host
        charged_to = b"" if is_local(host) else prefix(host)
        if request.value is None:
            assert self._tasks is not None, "it is one of them that runs this"
            offered = Offered(asker.contact, key, header, charged_to, request.expect_seq)
            stored = await self._intake.take(offered, self._tasks)
        else:
            record = Record(key, header, request.value)
            stored = await state.keep(record, charged_to=charged_to, expect_seq=request.expect_seq)
        if stored.status in _HELD_NOW and self._on_stored is not None:
            self._on_stored((key, header.author, header.slot))
        state.counts[f"store_{stored.status.name.lower()}"] += 1
        return Stored(stored.status, stored.header, self._draw(shown), reason=stored.reason)

    def _draw(self, nearest: list[Contact]) -> tuple[Contact, ...]:
        """Some of those that should hold it, too: each storer names others, all know them all."""
        count = CONTACTS_WITH_VALUE_MIN
        others = nearest[: max(self._state.network.copies, count)]
        first = int(self._state.rng.random() * len(others))
        return tuple((others[first:] + others[:first])[:count])


def fit(
    contacts: Sequence[Contact],
    records: Sequence[Record],
    *,
    count: int,
    snapshot: Snapshot | None = None,
) -> Values:
    """The answer to a FIND_VALUE that fits one packet: 4 contacts, then items, then contacts.

    Args:
        contacts: nearest first.
        records: all that is held, or the first few.
        count: how many are held.
        snapshot: what stands for all of them; needed when not all fit.
    """
    named = list(contacts[:CONTACTS_WITH_VALUE_MIN])
    room = VALUES_BYTES_MAX - sum(_contact_bytes(contact) for contact in named)
    items = [Item(r.header, r.value if fits_inline(r.value) else None) for r in records]
    if snapshot is not None:
        room -= len(snapshot.hash)
    taken: list[Item] = []
    for item in items:
        if _item_bytes(item) <= room:
            taken.append(item)
            room -= _item_bytes(item)
    for contact in contacts[len(named) : CONTACTS_PER_ANSWER_MAX]:
        room -= _contact_bytes(contact)
        if room < 0:
            break
        named.append(contact)
    return Values(tuple(named), count, snapshot, tuple(taken))


def fits_inline(value: bytes) -> bool:
    """Whether a value travels in the message that tells of it, or is pulled by CHUNK."""
    return len(value) <= INLINE_BYTES_MAX


def _contact_bytes(contact: Contact) -> int:
    return len(contact.pack()) + 2


def _item_bytes(item: Item) -> int:
    return len(item.header.pack()) + len(item.value or b"") + 6
