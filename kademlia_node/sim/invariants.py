"""What must hold at every moment of a simulated run, whatever goes wrong: safety.

`Inspector.look` reads tables and disks from outside and asks no node anything; its `on_receipt` and
`on_read` judge what an operation has just said. Each raises `Violation` of one of the first seven
`sim.rules`. What may take a while (liveness) is not known here; see `sim.healing`.
"""

from __future__ import annotations

import asyncio
import random

from kademlia_node.core.ids import distance
from kademlia_node.core.key import Kind
from kademlia_node.core.record import Record
from kademlia_node.errors import SetupError
from kademlia_node.node.node import Node
from kademlia_node.settings import EXPIRY_DEFAULT_S, ID_BITS, TOMBSTONE_S
from kademlia_node.sim.machine import Machine
from kademlia_node.sim.oracle import Item, Oracle, Write
from kademlia_node.sim.rules import Rule, Violation
from kademlia_node.sim.swarm import Swarm

CLOSEST_COUNT = 8  # compared for one random target per node and look
ROUNDING_S = 1.0  # expiries are whole seconds


class Inspector:
    """Holds a swarm against what its oracle knows.

    Everything is to be written through its `oracle`.

    Args:
        swarm: The nodes.
        rng: Draws the targets for `closest`.
    """

    def __init__(
        self,
        swarm: Swarm,
        *,
        rng: random.Random,
    ) -> None:
        self._swarm = swarm
        self.oracle = Oracle(swarm, judge=self.on_receipt)
        self._rng = rng
        self._expiries = Expiries(swarm, self.oracle)

    async def look(self) -> None:
        """Inspect every honest node that runs."""
        for node in self._swarm.alive:
            self._check_table(node)
        for node in self._swarm.alive:
            await self._check_sizes(node)
        await self._expiries.look()
        for item in self.oracle.items:
            await self._check_records(item)

    async def on_receipt(self, item: Item, write: Write) -> None:
        """A write was acknowledged just now."""
        for peer in write.replicas:
            machine = self._swarm.machine(peer)
            if machine.is_hostile or not machine.kept_since(write.began):
                continue
            records = await machine.disk.get(item.key.digest, wall=self._swarm.network.wall())
            seqs = [record.header.seq for record in records if _is_of(record, item)]
            if max(seqs, default=-1) < write.seq:
                raise Violation(
                    Rule.LOST_WRITE,
                    f"node {machine.number} has acknowledged seq {write.seq} of {item},"
                    f" and holds {seqs or 'nothing'}",
                )

    def on_read(self, item: Item, value: bytes | None, reader: Node) -> None:
        """A read has ended; None says that nothing was found."""
        if value is not None and value not in self._written(item):
            number = self._swarm.machine(reader).number
            raise Violation(Rule.INVENTED_VALUE, f"node {number} read {value[:24]!r} of {item}")

    # --- Tables -----------------------------------------------------------------------------------

    def _check_table(self, node: Node) -> None:
        target = self._rng.randbytes(ID_BITS // 8)
        known = node.contacts()
        nearest = sorted(known, key=lambda contact: distance(contact.id, target))[:CLOSEST_COUNT]
        number = self._swarm.machine(node).number
        if node.closest(target, CLOSEST_COUNT) != nearest:
            raise Violation(Rule.INEXACT_CLOSEST, f"node {number} for {target.hex()[:16]}")
        if node.id in {contact.id for contact in known}:
            raise Violation(Rule.OWN_CONTACT, f"node {number}")

    async def _check_sizes(self, node: Node) -> None:
        try:
            status = await node.status()
        except SetupError:
            return  # its disk fails just now
        settings = self._swarm.settings
        if status.sessions > settings.sessions_max + settings.half_open_max:
            number = self._swarm.machine(node).number
            raise Violation(Rule.UNBOUNDED, f"node {number} keeps {status.sessions} sessions")

    # --- Disks ------------------------------------------------------------------------------------

    async def _check_records(self, item: Item) -> None:
        written = self._written(item)
        latest = self._expiries.of(item)
        withdrawn = any(write.value is None for write in self.oracle.writes(item))
        for node, records in (await self._swarm.held(item.key)).items():
            holder = f"node {self._swarm.machine(node).number}"
            for record in (record for record in records if _is_of(record, item)):
                beyond = record.header.expires - latest
                is_true = withdrawn if record.header.is_tombstone else record.value in written
                if not is_true:
                    raise Violation(Rule.FALSE_RECORD, f"{holder} holds a false {item}")
                if beyond > ROUNDING_S:
                    says = f"{holder} keeps {item} for {beyond:.0f} s longer than its author asked"
                    raise Violation(Rule.PROLONGED_LIFE, says)

    def _written(self, item: Item) -> set[bytes]:
        return {write.value for write in self.oracle.writes(item) if write.value is not None}


class Expiries:
    """Until when the authors of items have ever wanted them to live, in seconds since 1970.

    Renewals are nobody's write: they are seen in the list of publications on the writer's disk. One
    that is due there may be under way; one that was lost with the disk may have been.
    """

    def __init__(self, swarm: Swarm, oracle: Oracle) -> None:
        self._swarm = swarm
        self._oracle = oracle
        self._latest: dict[Item, float] = {}
        self._listed: set[tuple[Item, int]] = set()  # publications seen, and on whose machine
        self._looked_at_s = 0.0

    def of(self, item: Item) -> float:
        """As of the last look."""
        return self._latest[item]

    async def look(self) -> None:
        """Learn of everything written or renewed since the last look."""
        wall = self._swarm.network.wall()
        for item in self._oracle.items:
            writes = self._oracle.writes(item)
            withdrawn = any(write.value is None for write in writes)  # what follows outlives that
            fresh = wall + (TOMBSTONE_S if withdrawn else EXPIRY_DEFAULT_S)
            asked = [await self._asked(item, write, fresh, wall=wall) for write in writes]
            self._latest[item] = max([*asked, self._latest.get(item, 0.0)])
        self._looked_at_s = asyncio.get_running_loop().time()

    async def _asked(self, item: Item, write: Write, fresh: float, *, wall: float) -> float:
        """Until when this write can have asked for; `fresh`, if it was made or renewed just now."""
        machine = write.writer
        listed = item, machine.number
        if write.ended is None or write.ended >= self._looked_at_s or self._lost(machine):
            self._listed.add(listed)
            return fresh
        author = item.author or (self._swarm.commons_key if item.name else b"")
        place = item.key.digest, author, item.name.encode()
        published = await machine.disk.publications.get(place)
        if published is None:  # renewed once more before it was dropped, perhaps
            was_listed = listed in self._listed
            self._listed.discard(listed)
            return fresh if was_listed else 0.0
        self._listed.add(listed)
        return fresh if published.renew_at <= wall else float(published.record.header.expires)

    def _lost(self, machine: Machine) -> bool:
        """Whether its disk has forgotten something since the last look."""
        forgot = (machine.store_since, machine.forgot_at or 0.0)
        return max(forgot) >= self._looked_at_s


def _is_of(record: Record, item: Item) -> bool:
    """Whether a record under the item's key is one of the item: a topic has many authors."""
    if item.key.kind is not Kind.TOPIC:
        return True
    return (record.header.author, record.header.slot) == (item.author, item.name.encode())
