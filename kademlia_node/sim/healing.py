"""What must come about once a network is left in peace: liveness.

Everything is tried until it has succeeded once: a lookup by every node, a read of every record by
some readers, a write. It refuses to know what was wrong before, and judges no record itself.

    took_s = await heal(swarm, oracle, rng=Random(7))
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from kademlia_node.errors import KademliaError
from kademlia_node.sim.oracle import Item, Oracle
from kademlia_node.sim.rules import Rule, Violation
from kademlia_node.sim.swarm import Swarm

HEAL_MIN_S: Final = 120.0  # then everything was renewed: a partition's writes find their places
HEAL_EVERY_S: Final = 30.0  # between two looks at what was not well
LOOK_EVERY_S: Final = 0.5  # between two lookups: tiny limits on handshakes are limits per second
HEAL_MAX_S: Final = 900.0  # nine renewals or more
READERS: Final = 2  # of each record

Try = Callable[[], Awaitable[str | None]]
"""Tries something; returns what is not well yet."""


async def heal(
    swarm: Swarm,
    oracle: Oracle,
    *,
    rng: random.Random,
    on_look: Callable[[], Awaitable[None]] | None = None,
    others: Sequence[Try] = (),
) -> float:
    """Wait until all is well.

    Args:
        swarm: All of whose honest nodes run, and stay.
        oracle: Knows what is to be found.
        rng: Draws targets and readers.
        on_look: Is called before each look.
        others: What has to succeed besides.

    Returns:
        How many virtual seconds it took.

    Raises:
        Violation: It took longer than `HEAL_MAX_S`.
    """
    return await _Healing(swarm, oracle, rng).run(on_look, others)


class _Healing:
    def __init__(self, swarm: Swarm, oracle: Oracle, rng: random.Random) -> None:
        self._swarm = swarm
        self._oracle = oracle
        self._rng = rng

    async def run(
        self, on_look: Callable[[], Awaitable[None]] | None, others: Sequence[Try]
    ) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(HEAL_MIN_S)
        tries = [*self._tries(), *others]
        while True:
            if on_look is not None:
                await on_look()
            ills = {one: ill for one in tries if (ill := await self._ill(one)) is not None}
            if not ills:
                return loop.time() - began
            for ill in ills.values():
                self._swarm.diary.note(f"not well: {ill}")
            if loop.time() + HEAL_EVERY_S - began > HEAL_MAX_S:
                raise Violation(Rule.NOT_HEALED, next(iter(ills.values())))
            tries = list(ills)
            await asyncio.sleep(HEAL_EVERY_S)

    def _tries(self) -> list[Try]:
        numbers = [self._swarm.machine(node).number for node in self._swarm.alive]
        looking = [partial(self._look_up, number) for number in numbers]
        readers = self._rng.sample(numbers, READERS)
        reading = [partial(self._read, item, one) for item in self._oracle.items for one in readers]
        writer, reader = self._rng.sample(numbers, 2)
        return [*looking, *reading, partial(self._write, writer, reader)]

    async def _ill(self, one: Try) -> str | None:
        try:
            return await one()
        except KademliaError as error:
            return f"{type(error).__name__}: {error}"

    async def _look_up(self, number: int) -> str | None:
        await asyncio.sleep(LOOK_EVERY_S)
        swarm, node = self._swarm, self._swarm.nodes[number]
        target, k = self._rng.randbytes(32), swarm.settings.k
        found, trace = await node.lookup(target)
        truth = [c for c in swarm.true_closest(target, k + 1) if c.id != node.id][:k]
        if found == truth:
            return None
        missed = [swarm.machine(contact).number for contact in truth if contact not in found]
        return f"node {number} looks up {target.hex()[:8]}, missing {missed}: {trace.summary()}"

    async def _read(self, item: Item, reader: int) -> str | None:
        return await self._oracle.violation(item, self._swarm.nodes[reader])

    async def _write(self, writer: int, reader: int) -> str | None:
        value = self._rng.randbytes(40)
        receipt = await self._oracle.put(self._swarm.nodes[writer], value)
        if await self._swarm.nodes[reader].get(receipt.key) != value:
            return f"a fresh blob is another one: {receipt.summary()}"
        if len(receipt.replicas) < receipt.copies:
            return f"a fresh blob has {receipt.summary()}"
        return None
