"""Users who watch topics all the time, with nodes that may be gone at any moment.

When it has gone they begin anew at the next one of the same machine, knowing nothing. Each change
that they are told is judged at once; what they have come to know is held against the oracle when
somebody asks for their ills. They refuse to know what goes wrong, and who writes.

    async with Onlookers(swarm, watch, rng=Random(7), topics=["a topic"]).looking() as onlookers:
        ...
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final, Self

from kademlia_node.core.feed import Change, ChangeKind
from kademlia_node.core.key import Spot, topic_key
from kademlia_node.errors import NotRunning
from kademlia_node.node.node import Node
from kademlia_node.sim.invariants import Inspector
from kademlia_node.sim.oracle import Item
from kademlia_node.sim.rules import Rule, Violation
from kademlia_node.sim.swarm import Swarm

PAUSE_S: Final = 1.0  # until it is seen whether a node is back


class Onlooker:
    """One that watches a topic from one machine.

    Args:
        swarm: Whose machine.
        watch: Is shown what it is told.
        number: Of the machine.
        topic: Which.
    """

    def __init__(self, swarm: Swarm, inspector: Inspector, *, number: int, topic: str) -> None:
        self._swarm = swarm
        self._inspector = inspector
        self._number = number
        self._topic = topic
        self._there: dict[Spot, Change] = {}  # the last of each entry that was told, by this node

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            node = self._swarm.nodes[self._number]
            try:
                await self._look(node)
            except NotRunning:
                await asyncio.sleep(PAUSE_S)

    async def ill(self) -> str | None:
        """An entry of which it knows something else than a reader would find; None if of none."""
        oracle = self._inspector.oracle
        for item in oracle.items:
            values = oracle.may_be_found(item) if item.topic == self._topic else None
            told = self._there.get((item.author or b"", item.name.encode()))
            value = None if told is None else told.value
            if values is not None and value not in values:
                shown = "nothing" if told is None else f"{told.kind} with seq {told.seq}"
                return (
                    f"node {self._number} watches {self._topic!r}, and was told {shown} of {item}"
                )
        return None

    async def _look(self, node: Node) -> None:
        self._there.clear()
        async with aclosing(node.watch(self._topic)) as changes:
            async for change in changes:
                self._on_change(change, node)

    def _on_change(self, change: Change, node: Node) -> None:
        spot = change.author, change.slot
        key = topic_key(self._topic.encode())
        item = Item(key, change.author, change.slot.decode(), self._topic)
        self._inspector.on_read(item, change.value, node)
        before = self._there.get(spot)
        is_back = before is None or ChangeKind.EXPIRED in (before.kind, change.kind)
        if before is not None and not is_back and change.seq <= before.seq:
            says = f"node {self._number} was told seq {change.seq} of {item} after {before.seq}"
            raise Violation(Rule.TOLD_BACKWARDS, says)
        self._there[spot] = change


class Onlookers:
    """Some of them.

    Args:
        swarm: On whose machines they are.
        watch: Is shown what they are told.
        rng: Draws the machine of each.
        topics: What they watch, one each.
    """

    def __init__(
        self, swarm: Swarm, inspector: Inspector, *, rng: random.Random, topics: Sequence[str]
    ) -> None:
        self._swarm = swarm
        self._inspector = inspector
        self._rng = rng
        self._topics = topics
        self.all: list[Onlooker] = []

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Self]:
        """They watch for the length of the block; what they find false is raised from it."""
        numbers = self._rng.sample(range(len(self._swarm.nodes)), len(self._topics))
        self.all = [
            Onlooker(self._swarm, self._inspector, number=number, topic=topic)
            for number, topic in zip(numbers, self._topics, strict=True)
        ]
        async with asyncio.TaskGroup() as tasks:
            looking = [tasks.create_task(one.run()) for one in self.all]
            yield self
            for task in looking:
                task.cancel()
