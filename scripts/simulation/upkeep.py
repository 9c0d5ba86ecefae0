"""What keeps records alive while nodes come and go: how well it does so, and what it costs.

Also what the experiments of `disasters` share: records of all kinds, written by some nodes, read
back by others, and held against who should have them.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import fmean
from typing import Final, get_args

import click

from kademlia_node.core.key import Kind, topic_key
from kademlia_node.errors import KademliaError
from kademlia_node.node.node import Node
from kademlia_node.settings import Republish, Settings
from kademlia_node.sim import Machine, Swarm
from kademlia_node.sim.oracle import Item, read
from scripts.simulation.life import HEADER_BYTES
from scripts.simulation.weather import Figures, Weather, say, simulate, weather_options

HOUR_S: Final = 3600.0
SPARED: Final = 20  # one node of so many stays, and writes
TOPICS: Final = 47  # no divisor of anything here: all of them get entries
AT_ONCE: Final = 16  # reads under way
WRITTEN_S: Final = 900.0  # then each neighbour has been asked once what it holds: ten minutes
WATCHED: Final = ("served_", "store_", "repair", "republish")  # counters that tell what costs
POSITIVE: Final = click.FloatRange(0, min_open=True)


# --- Records --------------------------------------------------------------------------------------


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


# --- What it costs --------------------------------------------------------------------------------


def sent_bytes(swarm: Swarm) -> int:
    """All that was ever sent, with the headers of IPv4 and UDP."""
    sent = swarm.network.sent
    return sent.size_bytes + HEADER_BYTES * sent.datagrams


class Costs:
    """What nodes that do nothing but keep records send, and what they ask of each other.

    A node takes its counters with it when it goes: have `on_departure` called just before.
    """

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._counted: Counter[str] = Counter()  # by those who went, less what was before
        self._running: list[int] = []
        self._bytes = self._datagrams = 0
        self._node_hours = 0.0

    async def on_departure(self, node: Node) -> None:
        """Keep what it has counted."""
        self._counted.update(await _watched([node]))

    async def live(self, hours: float) -> Figures:
        """Let so much time pass; what it cost per node and hour. Requests count where they end."""
        swarm, now = self._swarm, asyncio.get_running_loop().time
        began, sent_before, datagrams = now(), sent_bytes(swarm), swarm.network.sent.datagrams
        self._counted.subtract(await _watched(swarm.alive))
        minutes = max(1, round(60 * hours))
        for minute in range(1, minutes + 1):
            await asyncio.sleep(HOUR_S * hours / minutes)
            self._running.append(len(swarm.alive))
            if minute % max(1, minutes // 10) == 0:
                say(f"{minute} of {minutes} virtual minutes, {swarm.network.sent.datagrams} sent")
        self._bytes = sent_bytes(swarm) - sent_before
        self._datagrams = swarm.network.sent.datagrams - datagrams
        self._counted.update(await _watched(swarm.alive))
        self._node_hours = fmean(self._running) * (now() - began) / HOUR_S
        return self._figures()

    def _figures(self) -> Figures:
        return {
            "running": fmean(self._running),
            "bytes_per_node_h": self._bytes / self._node_hours,
            "datagrams_per_node_h": self._datagrams / self._node_hours,
            **{
                f"{name}_per_node_h": count / self._node_hours
                for name, count in sorted(self._counted.items())
                if count
            },
        }


async def _watched(nodes: Sequence[Node]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for node in nodes:
        status = await node.status()
        for name, count in status.counters.items():
            if name.startswith(WATCHED):
                counted[name] += count
        if renewals := status.operations.get("renew"):
            counted["renewed"] += renewals.count
    return counted


# --- The experiment -------------------------------------------------------------------------------


@click.command(short_help="Records through hours of churn, and what keeps them costs.")
@weather_options(nodes=1000, latency="k", settle_s=300.0)
@click.option("--hours", type=POSITIVE, default=24.0, help="Virtual hours of churn.")
@click.option("--records", type=click.IntRange(1), default=10_000, help="How many are written.")
@click.option(
    "--republish",
    type=click.Choice(get_args(Republish)),
    default="difference",
    help="How holders keep up the copies.",
)
@click.option(
    "--churn",
    "session_s",
    type=click.FloatRange(0),
    default=10_000.0,
    help="Mean seconds that a node runs; 0: all stay.",
)
@click.option(
    "--shape", type=POSITIVE, default=0.5, help="Of the Weibull distribution of sessions."
)
@click.option(
    "--away", "absence_s", type=POSITIVE, default=600.0, help="Mean seconds of an absence."
)
@click.option("--sample", type=click.IntRange(1), default=1000, help="Records looked at, at most.")
def upkeep(
    weather: Weather, *, hours: float, records: int, republish: Republish, session_s: float,
    shape: float, absence_s: float, sample: int,
) -> None:  # fmt: skip
    """Hours of churn, after which random nodes read what others have written before.

    One node of twenty stays; these write, and renew. Half of the others' departures are crashes;
    all come back with their store. Bytes are counted with the headers of IPv4 and UDP, 28 of each
    datagram, and before anything is read. `overlap` is the mean share of the nodes truly closest to
    a record, as many as it is to have copies, that hold it; those who have just come count.
    """

    async def experiment(swarm: Swarm) -> Figures:
        rng = random.Random(weather.seed)
        stable = rng.sample(swarm.nodes, max(1, weather.nodes // SPARED))
        written = await write_all(stable, range(records))
        say(f"{len(written)} records written")
        await asyncio.sleep(WRITTEN_S)
        costs = Costs(swarm)
        going = swarm.churn(
            mean_session_s=session_s or 1.0,
            mean_absence_s=absence_s,
            session_shape=shape,
            on_departure=costs.on_departure,
            spare=stable if session_s else swarm.nodes,
        )
        async with going as churn:
            cost = await costs.live(hours)
            looked_at = rng.sample(written, min(sample, len(written)))
            quality = await _quality(swarm, looked_at, rng=rng)
        return {
            "hours": hours,
            "republish": republish,
            "session_s": session_s,
            "shape": shape,
            "absence_s": absence_s,
            "records": len(written),
            "departures": churn.stops + churn.crashes,
            **quality,
            **cost,
        }

    simulate(weather, experiment, settings=Settings(republish=republish))


async def _quality(swarm: Swarm, written: Sequence[Written], *, rng: random.Random) -> Figures:
    overlapping = await overlap(swarm, written)
    reads = await read_back(swarm, written, rng=rng)
    return {
        "found": reads.found,
        "missed": reads.missed,
        "gone": reads.gone,
        "gone_shown": reads.gone_shown,
        "overlap": overlapping,
    }
