"""What a swarm must still find and what it must have forgotten, by the promises it has made.

An oracle keeps a ledger: writes are made through it, so it knows which were acknowledged, by whom
and when, and which nobody can be sure of. It looks at no record and sends nothing, until `check`
reads everything through one node and says what should have been otherwise.

    oracle = Oracle(swarm)
    await oracle.set(swarm.nodes[3], "colour", b"blue")
    async with swarm.churn(spare=[swarm.nodes[0]]):
        await asyncio.sleep(7200.0)
    assert await oracle.check(swarm.nodes[0]) == []

It judges by these rules. Of the acknowledged writes of one item the one with the highest seq
counts. It is promised until it expires, as long as one of those that acknowledged it runs whose
store was not lost since. Then a read gives its value, or nothing if it was a withdrawal; or else
what a later write may have left that nobody acknowledged. While fewer than `Settings.reads` of them
run, those who missed the write may outvote them, and a read may give an earlier value. An item is
gone when nobody who wrote it can have renewed it for the life of a record. Of all else it claims
nothing: a renewal is not told, so nothing has to be found beyond the expiry of its receipt. Stores
are taken to be large enough, and the clocks of writers to be right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kademlia_node.core.contact import Contact
from kademlia_node.core.key import Key, Kind, blob_key, topic_key
from kademlia_node.errors import NotStored
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import Receipt
from kademlia_node.settings import EXPIRY_DEFAULT_S
from kademlia_node.sim.machine import Machine
from kademlia_node.sim.swarm import Swarm

Values = frozenset[bytes | None]
"""What a read may give; None is nothing."""

NOTHING: Values = frozenset({None})
SHOWN_BYTES_MAX = 24  # of a value, in a violation


@dataclass(frozen=True, slots=True)
class Item:
    """What can be written and read: a blob, a name, or one author's slot of a topic.

    `author` is a public key, or None: a blob has none, and None stands for the commons as the
    author of a name. `name` is that of the slot, too.
    """

    key: Key
    author: bytes | None = None
    name: str = ""
    topic: str = ""

    def __str__(self) -> str:
        author = self.author.hex()[:8] if self.author else "the commons"
        match self.key.kind:
            case Kind.BLOB:
                return str(self.key)
            case Kind.ENTRY:
                return f"name {self.name!r} of {author}"
            case Kind.TOPIC:
                return f"slot {self.name!r} of {author} in topic {self.topic!r}"


@dataclass(slots=True, eq=False)
class Write:
    """One write. Moments are seconds of the event loop.

    Attributes:
        writer: Where its node runs.
        value: What was written; None withdraws.
        began: When.
        ended: When it returned or raised; None while it is under way.
        receipt: Its receipt, also one without replicas; None if there was none, or not yet.
    """

    writer: Machine
    value: bytes | None
    began: float
    ended: float | None = None
    receipt: Receipt | None = None

    @property
    def replicas(self) -> Sequence[Contact]:
        """Who acknowledged it."""
        return self.receipt.replicas if self.receipt is not None else ()

    @property
    def seq(self) -> int:
        """Its version, as far as that is known; -1 if not."""
        return self.receipt.seq if self.receipt is not None else -1

    @property
    def expires(self) -> int:
        """Until when it was promised, in seconds since 1970; 0 if it was not."""
        return self.receipt.expires if self.receipt is not None else 0

    @property
    def renewed_until(self) -> float | None:
        """When its node can have renewed it for the last time; None if it still can."""
        if self.writer.store_since > self.began:
            return self.writer.store_since  # the list of what is to be renewed was lost
        return self.writer.down_since if self.ended is not None else None

    def may_follow(self, other: Write) -> bool:
        """Whether it may count instead of one that was acknowledged."""
        if self.seq >= 0:
            return self.seq > other.seq
        return self.ended is None or self.ended >= other.began


Judge = Callable[[Item, Write], Awaitable[None]]
"""Is shown a write as soon as its receipt is here."""


class Oracle:
    """The ledger of one swarm. Its verbs are those of `Node`, with the writing node in front.

    Args:
        swarm: Whose nodes write.
        judge: Whoever wants to look at each receipt before the writer does.
    """

    def __init__(self, swarm: Swarm, *, judge: Judge | None = None) -> None:
        self._swarm = swarm
        self._judge = judge
        self._writes: dict[Item, list[Write]] = {}

    # --- Writing ----------------------------------------------------------------------------------

    async def put(self, node: Node, value: bytes, **options: Any) -> Receipt:
        """As `Node.put`."""
        return await self._note(Item(blob_key(value)), node, value, node.put(value, **options))

    async def set(
        self, node: Node, name: str, value: bytes, *, own: bool = False, **options: Any
    ) -> Receipt:
        """As `Node.set`."""
        writing = node.set(name, value, own=own, **options)
        return await self._note(_named(node, name, own=own), node, value, writing)

    async def announce(
        self, node: Node, topic: str, value: bytes, *, slot: str = "", **options: Any
    ) -> Receipt:
        """As `Node.announce`."""
        writing = node.announce(topic, value, slot=slot, **options)
        return await self._note(_announced(node, topic, slot), node, value, writing)

    async def withdraw(
        self, node: Node, name: str, *, own: bool = False, **options: Any
    ) -> Receipt:
        """As `Node.withdraw` of a name."""
        writing = node.withdraw(name, own=own, **options)
        return await self._note(_named(node, name, own=own), node, None, writing)

    async def retract(self, node: Node, topic: str, *, slot: str = "", **options: Any) -> Receipt:
        """As `Node.withdraw` of the node's entry under a topic."""
        writing = node.withdraw(topic=topic, slot=slot, **options)
        return await self._note(_announced(node, topic, slot), node, None, writing)

    async def _note(
        self, item: Item, node: Node, value: bytes | None, writing: Awaitable[Receipt]
    ) -> Receipt:
        write = Write(self._swarm.machine(node), value, _now())
        self._writes.setdefault(item, []).append(write)
        try:
            write.receipt = await writing
        except NotStored as error:
            write.receipt = error.receipt  # fewer than were asked for may have promised
            raise
        finally:
            write.ended = _now()
            if self._judge is not None and write.receipt is not None:
                await self._judge(item, write)
        return write.receipt

    # --- The truth --------------------------------------------------------------------------------

    @property
    def items(self) -> list[Item]:
        """What was written, in order of the first write."""
        return list(self._writes)

    def writes(self, item: Item) -> Sequence[Write]:
        """All writes of one item, in order of their beginning."""
        return self._writes[item]

    def must_be_found(self) -> list[Item]:
        """What every reader who reaches all living nodes must find now."""
        claims = [(item, self._possible(item, since=_now())) for item in self._writes]
        return [item for item, values in claims if values is not None and None not in values]

    def must_be_gone(self) -> list[Item]:
        """What no reader may find now."""
        return [item for item in self._writes if self._possible(item, since=_now()) == NOTHING]

    def may_be_found(self, item: Item) -> Values | None:
        """What a reader who reaches all living nodes may find now; None if nothing is sure."""
        return self._possible(item, since=_now())

    async def check(self, reader: Node) -> list[str]:
        """Read all that must be found or gone, one after the other, through one node.

        What changes meanwhile is not held against anyone.

        Returns:
            A line for each violation: what was read, what should have been, and all writes of it.
        """
        lines = [await self.violation(item, reader) for item in self.items]
        return [line for line in lines if line is not None]

    async def violation(self, item: Item, reader: Node) -> str | None:
        """The line of `check` for one item; None if it is as it should be, or nothing is sure."""
        began = _now()
        before = self._possible(item, since=began)
        if before is None:
            return None
        value = await read(item, reader)
        after = self._possible(item, since=began)
        reader_stayed = _ran_since(self._swarm.machine(reader), began)
        if after is None or value in before | after or not reader_stayed:
            return None
        expected = " or ".join(sorted(map(_shown, before)))
        story = "; ".join(map(self._told, self._writes[item]))
        return f"{item}: {_shown(value)} at {began:.3f} s instead of {expected}; {story}"

    def _possible(self, item: Item, *, since: float) -> Values | None:
        """What a read that began at `since` may give by now; None if nothing can be said."""
        writes = self._writes[item]
        renewals = [write.renewed_until for write in writes]
        if all(last is not None and last + EXPIRY_DEFAULT_S < since for last in renewals):
            return NOTHING
        acknowledged = [write for write in writes if write.replicas]
        seq = max((write.seq for write in acknowledged), default=0)
        latest = [write for write in acknowledged if write.seq == seq]
        kept_by = max((self._kept_by(write, since=since) for write in latest), default=0)
        if kept_by == 0:
            return None
        unsure = [write for write in writes if not write.replicas and write.may_follow(latest[0])]
        outvoting = acknowledged if kept_by < self._swarm.settings.reads else []
        return frozenset(write.value for write in latest + unsure + outvoting)

    def _kept_by(self, write: Write, *, since: float) -> int:
        """How many replicas have had it, and could be asked, since this moment at least."""
        if write.expires <= self._swarm.network.wall():
            return 0
        return sum(_ran_since(machine, since) for machine in self._keepers(write))

    def _acknowledged_by(self, write: Write) -> list[Machine]:
        return [self._swarm.machine(peer) for peer in write.replicas if peer in self._swarm]

    def _keepers(self, write: Write) -> list[Machine]:
        """The honest ones that acknowledged it and have lost nothing since it began."""
        return [
            machine
            for machine in self._acknowledged_by(write)
            if machine.kept_since(write.began) and not machine.is_hostile
        ]

    def _told(self, write: Write) -> str:
        """A write in words, with the numbers of the nodes."""
        acknowledged = sorted(machine.number for machine in self._acknowledged_by(write))
        keepers = [machine for machine in self._keepers(write) if machine.up_since is not None]
        running = sorted(machine.number for machine in keepers)
        wrote = (
            f"{_shown(write.value)} written at {write.began:.3f} s by node {write.writer.number}"
        )
        return f"{wrote}, acknowledged by {acknowledged}, of which {running} run and kept it"


async def read(item: Item, reader: Node, *, reads: int | None = None) -> bytes | None:
    """What a node finds there; None for nothing. Raises what its verbs raise.

    Args:
        item: What is read.
        reader: By whom.
        reads: Of a name, how many holders have to agree; the node's own default if None.
    """
    if item.key.kind is Kind.TOPIC:
        place = item.author, item.name.encode()
        found = [entry async for entry in reader.find(item.topic)]
        values = [entry.value for entry in found if (entry.author, entry.slot) == place]
        return values[-1] if values else None
    if item.key.kind is Kind.BLOB:
        return await reader.get(item.key, default=None)
    return await reader.get(item.name, author=item.author, reads=reads, default=None)


def _ran_since(machine: Machine, moment: float) -> bool:
    return machine.up_since is not None and machine.up_since <= moment


def _named(node: Node, name: str, *, own: bool) -> Item:
    in_commons = node.network.secret is not None and not own
    return Item(node.key_of(name, own=own), None if in_commons else node.public_key, name)


def _announced(node: Node, topic: str, slot: str) -> Item:
    return Item(topic_key(topic.encode()), node.public_key, slot, topic)


def _shown(value: bytes | None) -> str:
    if value is None:
        return "nothing"
    return repr(value) if len(value) <= SHOWN_BYTES_MAX else f"{value[:SHOWN_BYTES_MAX]!r}..."


def _now() -> float:
    return asyncio.get_running_loop().time()
