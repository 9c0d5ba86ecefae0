"""Republication by the holders, hourly, as the paper has it: there to be measured against `repair`.

Each holder hands each record to the `copies` nodes nearest to its key that it knows (section 2.3),
unless it was itself handed the record within the last hour: then the others were, too, and it waits
for another hour (section 2.5). As they drift apart by chance, mostly one of them does it for all.
They look nobody up, since they know their neighbourhood whole (2.5 again). No expiry is extended.

Driven by `republish`, a chore, and told by `on_stored` of every record that somebody handed to us.
"""

from __future__ import annotations

import asyncio
from typing import Final

from kademlia_node.core.ids import point
from kademlia_node.core.record import Record
from kademlia_node.node.deposit import Deposit
from kademlia_node.node.receipt import Trace
from kademlia_node.node.state import NodeState
from kademlia_node.node.upkeep import Did
from kademlia_node.store.base import FIRST, Place, place_of

PAGE: Final = 256  # records looked at in one go
JITTER: Final = 0.1  # of the hour, either way: the first of the holders spares the others


class Republisher:
    """Hands out what one node holds, once an hour unless somebody else does."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._due_at: dict[Place, float] = {}

    def on_stored(self, place: Place) -> None:
        """Somebody handed us this record, and the others as well."""
        self._due_at[place] = self._state.loop.time() + self._pause_s()

    async def republish(self) -> Did:
        """Hand out what is due."""
        state, count, after = self._state, 0, FIRST
        if not state.is_server:
            return Did(0)
        seen: set[Place] = set()
        at_once = state.settings.many_at_once
        while page := await state.store.page(after, limit=PAGE, wall=state.wall()):
            seen |= set(map(place_of, page))
            due = [record for record in page if self._is_due(record)]
            for start in range(0, len(due), at_once):
                async with asyncio.TaskGroup() as tasks:
                    for record in due[start : start + at_once]:
                        tasks.create_task(self._hand_out(record))
            count, after = count + len(due), place_of(page[-1])
        self._due_at = {place: at for place, at in self._due_at.items() if place in seen}
        return Did(count)

    def _is_due(self, record: Record) -> bool:
        """Whether it is; what nobody has handed to us comes up some time within an hour."""
        now, hour_s = self._state.loop.time(), self._state.settings.republish_s
        soon = now + self._state.rng.uniform(0, hour_s)
        return self._due_at.setdefault(place_of(record), soon) <= now

    async def _hand_out(self, record: Record) -> None:
        state, goal = self._state, point(record.key)
        state.counts["republished"] += 1
        known = [*state.table.closest(record.key, state.network.copies), state.contact]
        nearest = sorted(known, key=lambda contact: contact.point ^ goal)[: state.network.copies]
        deposit = Deposit(state, record, expect_seq=None, trace=Trace(record.key))
        deposit.give([contact for contact in nearest if contact != state.contact])
        await deposit.over()
        deposit.when_over(lambda: None)
        self._due_at[place_of(record)] = state.loop.time() + self._pause_s()

    def _pause_s(self) -> float:
        jitter = self._state.rng.uniform(1 - JITTER, 1 + JITTER)
        return self._state.settings.republish_s * jitter
