"""Records that some nodes have written, read back by others and held against who should have them.

What `upkeep`, `disasters` and `soak` share. Refuses to know what happens in between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import fmean
from typing import Final

from kademlia_node.core.key import Kind, topic_key
from kademlia_node.errors import KademliaError
from kademlia_node.node.node import Node
from kademlia_node.sim import Machine, Swarm
from kademlia_node.sim.oracle import Item, read
from scripts.simulation.weather import say

WRITER_OF: Final = 20  # nodes, one stays and writes
TOPICS: Final = 47  # no divisor of anything here: all of them get entries
AT_ONCE: Final = 16  # reads under way
WRITTEN_S: Final = 900.0  # by then each neighbour was asked what it holds, one a minute


@dataclass(frozen=True, slots=True)
class Written:
    """What was written last at one place.

    Attributes:
        item: Where.
        value: What; None if it was withdrawn.
        expires: When it does unless it is renewed, in seconds since 1970.
        is_renewed: Whether its writer sees to that.
    """

    item: Item
    value: bytes | None
    expires: int
    is_renewed: bool = True

    def is_gone(self, wall: float) -> bool:
        """Whether nobody may find it any more."""
        return self.value is None or (not self.is_renewed and self.expires <= wall)


Write = Callable[[Node, int], Awaitable[Written]]
"""Has a node write one more record, of this number."""


async def put(node: Node, number: int) -> Written:
    """A blob."""
    value = b"blob %d" % number
    receipt = await node.put(value)
    return Written(Item(receipt.key), value, receipt.expires)


async def put_and_forget(node: Node, number: int) -> Written:
    """A blob that nobody renews."""
    written = await put(node, number)
    await node.forget(written.item.key)
    return replace(written, is_renewed=False)


async def set_name(node: Node, number: int) -> Written:
    """A name of the commons."""
    name, value = f"name {number}", b"value %d" % number
    receipt = await node.set(name, value)
    return Written(Item(receipt.key, name=name), value, receipt.expires)


async def set_and_withdraw(node: Node, number: int) -> Written:
    """A name that is no more."""
    written = await set_name(node, number)
    receipt = await node.withdraw(written.item.name)
    return replace(written, value=None, expires=receipt.expires)


async def announce(node: Node, number: int) -> Written:
    """An entry of a topic, beside those of others."""
    topic, slot, value = f"topic {number % TOPICS}", str(number), b"entry %d" % number
    receipt = await node.announce(topic, value, slot=slot)
    item = Item(topic_key(topic.encode()), node.public_key, slot, topic)
    return Written(item, value, receipt.expires)


MIXED: Final[Sequence[Write]] = (
    *[put] * 11, put_and_forget, *[set_name] * 4, set_and_withdraw, *[announce] * 3,
)  # fmt: skip


def draw_writers(swarm: Swarm, *, rng: random.Random) -> list[Node]:
    """Those who are to stay, so that what they have written is renewed."""
    return rng.sample(swarm.nodes, max(1, len(swarm.nodes) // WRITER_OF))


async def write_all(
    writers: Sequence[Node], numbers: range, *, writes: Sequence[Write] = MIXED
) -> list[Written]:
    """Have each writer do its share, one after the other; failures are told, and left out."""
    written: list[Written] = []
    jobs = list(zip(numbers, islice(cycle(writes), len(numbers)), strict=True))
    cuts = [place * len(jobs) // len(writers) for place in range(len(writers) + 1)]

    async def do_share(node: Node, share: Sequence[tuple[int, Write]]) -> None:
        for number, write in share:
            try:
                written.append(await write(node, number))
            except KademliaError as error:
                say(f"{write.__name__} {number}: {error}")

    async with asyncio.TaskGroup() as tasks:
        for node, first, last in zip(writers, cuts, cuts[1:], strict=False):
            tasks.create_task(do_share(node, jobs[first:last]))
    return written


# --- Reading them back ----------------------------------------------------------------------------


@dataclass(slots=True)
class Reads:
    """What reads came to: of what is there, and of what was withdrawn or has expired."""

    right: int = 0
    missed: int = 0
    gone: int = 0
    gone_shown: int = 0

    @property
    def found(self) -> float:
        """The share of what is there that was found."""
        return self.right / max(1, self.right + self.missed)


async def read_back(swarm: Swarm, written: Sequence[Written], *, rng: random.Random) -> Reads:
    """Read each record once, by a random node; a read whose node goes down is made again."""
    reads, gate = Reads(), asyncio.Semaphore(AT_ONCE)

    async def read_one(one: Written) -> None:
        async with gate:
            is_gone = one.is_gone(swarm.network.wall())
            value = await read_somewhere(swarm, one.item, rng=rng)
        if is_gone:
            reads.gone += 1
            reads.gone_shown += value is not None
        elif value == one.value:
            reads.right += 1
        else:
            reads.missed += 1

    async with asyncio.TaskGroup() as tasks:
        for one in written:
            tasks.create_task(read_one(one))
    return reads


async def read_somewhere(swarm: Swarm, item: Item, *, rng: random.Random) -> bytes | None:
    """What a random node that stays up until it knows finds there."""
    while True:
        reader = rng.choice(swarm.alive)
        machine = swarm.machine(reader)
        since = machine.up_since
        try:
            value = await read(item, reader)
        except KademliaError:
            value = None
        if machine.up_since == since:
            return value


async def overlap(swarm: Swarm, written: Sequence[Written]) -> float:
    """The share of those truly closest to a record that hold it, on average."""
    copies, wall = swarm.nodes[0].network.copies, swarm.network.wall()
    there = [one for one in written if not one.is_gone(wall)]
    shares = [
        fmean([
            await _holds(swarm, swarm.machine(contact), one.item)
            for contact in swarm.true_closest(one.item.key.digest, copies)
        ])
        for one in there
    ]  # fmt: skip
    return fmean(shares) if shares else 0.0


async def _holds(swarm: Swarm, machine: Machine, item: Item) -> bool:
    author = b"" if item.key.kind is Kind.BLOB else item.author or swarm.commons_key
    slot, wall = item.name.encode(), swarm.network.wall()
    record = await machine.disk.get_one(item.key.digest, author=author, slot=slot, wall=wall)
    return record is not None and not record.header.is_tombstone
