"""What users do all day: random writes and reads by random nodes of a swarm, at random moments.

Names, slots and topics are few, so that versions compete and withdrawals meet. It refuses to know
what may go wrong with the network; every write goes through the oracle of an `Inspector`, and
whatever a read says is shown to it. Failing is allowed, by the errors that are documented; lying is
not, and neither is any other exception.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from kademlia_node.core.key import topic_key
from kademlia_node.errors import KademliaError, ValueTooLarge
from kademlia_node.node.node import Node
from kademlia_node.sim.invariants import Inspector
from kademlia_node.sim.oracle import Item, read
from kademlia_node.sim.rules import Rule, Violation
from kademlia_node.sim.swarm import Swarm

NAMES: Final = 12
TOPICS: Final = 3
SLOTS: Final = 2
LONG_SHARE: Final = 0.3  # of the values; they are pulled chunk by chunk
LONG_BYTES_MAX: Final = 16384
READS: Final = (None, None, 1, 4)  # how many holders have to agree
SHORT_BYTES_MAX: Final = 300
CROWDED: Final = "a crowded topic"
CROWD: Final = 8  # slots announced at once, now and then
CROWD_S: Final = 10.0  # within which they are


class Workload:
    """Draws what is done, when and by whom.

    Args:
        swarm: Whose honest nodes do it.
        watch: Is shown what they were told.
        rng: Draws everything.
        writers: Numbers of the machines that may write: those whose clocks are right.
        every_s: Mean pause between two operations of the whole swarm, in seconds.

    Attributes:
        done: How many operations of each verb succeeded.
        failed: How many did not, by verb and error.
    """

    def __init__(
        self,
        swarm: Swarm,
        inspector: Inspector,
        *,
        rng: random.Random,
        writers: Collection[int],
        every_s: float,
    ) -> None:
        self._swarm = swarm
        self._inspector = inspector
        self._rng = rng
        self._writers = frozenset(writers)
        self._every_s = every_s
        self._made = 0
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    async def run(self, duration_s: float) -> None:
        """Work for so many seconds; what is under way then is finished."""
        loop = asyncio.get_running_loop()
        end = loop.time() + duration_s
        verbs, weights = zip(*self._verbs(), strict=True)
        async with asyncio.TaskGroup() as tasks:
            while (pause_s := self._rng.expovariate(1.0 / self._every_s)) + loop.time() < end:
                await asyncio.sleep(pause_s)
                (verb,) = self._rng.choices(verbs, weights)
                if (node := self._pick(writes=verb not in (self._get, self._lookup))) is not None:
                    tasks.create_task(self._do(verb, node))

    def _verbs(self) -> list[tuple[Callable[[Node], Awaitable[object]], int]]:
        return [
            (self._put, 15),
            (self._set, 20),
            (self._set_own, 10),
            (self._swap, 5),
            (self._announce, 15),
            (self._withdraw, 8),
            (self._retract, 5),
            (self._crowd, 2),
            (self._get, 35),
            (self._lookup, 5),
        ]

    def _pick(self, *, writes: bool) -> Node | None:
        """Somebody who runs and may do it."""
        able = [
            node
            for node in self._swarm.alive
            if not writes or self._swarm.machine(node).number in self._writers
        ]
        return self._rng.choice(able) if able else None

    async def _do(self, verb: Callable[[Node], Awaitable[object]], node: Node) -> None:
        name = verb.__name__.removeprefix("_")
        who = f"node {self._swarm.machine(node).number}"
        try:
            what = await verb(node)
        except (Violation, ValueTooLarge):  # the latter is a mistake of ours
            raise
        except KademliaError as error:
            self.failed[f"{name}: {type(error).__name__}"] += 1
            self._swarm.diary.note(f"{who}: {name} fails: {error}")
        except Exception as error:
            text = f"{who}: {name}: {error!r}"
            raise Violation(Rule.UNEXPECTED_ERROR, text) from error
        else:
            self.done[name] += 1
            self._swarm.diary.note(f"{who}: {name} {what}")

    # --- What they do; each returns what the diary is to say --------------------------------------

    async def _put(self, node: Node) -> object:
        receipt = await self._inspector.oracle.put(node, self._value())
        return f"{receipt.key}: {receipt.summary()}"

    async def _set(self, node: Node) -> object:
        name = self._name()
        receipt = await self._inspector.oracle.set(node, name, self._value())
        return f"{name!r}: {receipt.summary()}"

    async def _set_own(self, node: Node) -> object:
        name = self._name()
        receipt = await self._inspector.oracle.set(node, name, self._value(), own=True)
        return f"{name!r}: {receipt.summary()}"

    async def _swap(self, node: Node) -> object:
        """Write, and write again unless somebody else did meanwhile: some do, since names are few.

        The second writer may have missed the first write, and then sees an earlier seq.
        """
        name = self._name()
        first = await self._inspector.oracle.set(node, name, self._value())
        other = self._pick(writes=True) or node
        receipt = await self._inspector.oracle.set(other, name, self._value(), expect_seq=first.seq)
        return f"{name!r}: {receipt.summary()}"

    async def _announce(self, node: Node) -> object:
        topic, slot = self._spot()
        receipt = await self._inspector.oracle.announce(node, topic, self._value(), slot=slot)
        return f"{topic!r} {slot!r}: {receipt.summary()}"

    async def _crowd(self, node: Node) -> object:
        """Many announce at once, while somebody reads: what is paged for it changes under way."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(CROWD):
                    tasks.create_task(self._do(self._enter, node))
                tasks.create_task(self._do(self._find, self._pick(writes=False) or node))
        except ExceptionGroup as several:
            violations, rest = several.split(Violation)
            raise (violations or rest or several).exceptions[0] from several
        return f"{CROWDED!r} is over"

    async def _enter(self, node: Node) -> object:
        slot = f"slot {self._rng.randrange(2 * CROWD)}"
        await asyncio.sleep(self._rng.uniform(0, CROWD_S))
        receipt = await self._inspector.oracle.announce(node, CROWDED, self._value(), slot=slot)
        return f"{CROWDED!r} {slot!r}: {receipt.summary()}"

    async def _find(self, node: Node) -> object:
        found = 0
        for _ in range(CROWD):
            async for entry in node.find(CROWDED):
                found += 1
                item = Item(topic_key(CROWDED.encode()), entry.author, entry.slot.decode(), CROWDED)
                self._inspector.on_read(item, entry.value, node)
        return f"{CROWDED!r}: {found} entries in {CROWD} readings"

    async def _withdraw(self, node: Node) -> object:
        name, own = self._name(), self._rng.random() < 0.5
        receipt = await self._inspector.oracle.withdraw(node, name, own=own)
        return f"{name!r}: {receipt.summary()}"

    async def _retract(self, node: Node) -> object:
        topic, slot = self._spot()
        receipt = await self._inspector.oracle.retract(node, topic, slot=slot)
        return f"{topic!r} {slot!r}: {receipt.summary()}"

    async def _get(self, node: Node) -> object:
        items = self._inspector.oracle.items
        if not items:
            return "of nothing"
        item = self._rng.choice(items)
        value = await read(item, node, reads=self._rng.choice(READS))
        self._inspector.on_read(item, value, node)
        return f"{item}: {'nothing' if value is None else f'{len(value)} bytes'}"

    async def _lookup(self, node: Node) -> object:
        target = self._rng.randbytes(32)
        found, trace = await node.lookup(target)
        return f"{target.hex()[:8]}: {len(found)} found, {trace.summary()}"

    # --- What they choose -------------------------------------------------------------------------

    def _value(self) -> bytes:
        """One that was never written before."""
        self._made += 1
        is_long = self._rng.random() < LONG_SHARE
        size = self._rng.randint(0, LONG_BYTES_MAX if is_long else SHORT_BYTES_MAX)
        return b"%d " % self._made + self._rng.randbytes(size)

    def _name(self) -> str:
        return f"name {self._rng.randrange(NAMES)}"

    def _spot(self) -> tuple[str, str]:
        return f"topic {self._rng.randrange(TOPICS)}", f"slot {self._rng.randrange(SLOTS)}"
