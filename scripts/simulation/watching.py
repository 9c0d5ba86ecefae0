"""What those who watch a topic are told of, and when, while datagrams are lost and nodes go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from statistics import quantiles
from typing import Final

import click

from kademlia_node.core.feed import ChangeKind
from kademlia_node.core.key import Spot
from kademlia_node.errors import KademliaError
from kademlia_node.node.node import Node
from kademlia_node.sim import Swarm
from scripts.simulation.weather import (
    POSITIVE,
    SETTLED_S,
    Figures,
    Weather,
    churn_options,
    churning,
    say,
    simulate,
    weather_options,
)

TOPIC: Final = "watched"
LATE_S: Final = 180.0  # what no push has told is found at one of the next renewals

Version = tuple[bytes, bytes, int]
"""(author, slot, seq)."""


class Onlooker:
    """One that watches.

    Attributes:
        told: When it was told of each version for the first time.
        current: The seq of each entry that is there, as far as it knows.
        out_of_order: How often it was told of a version after a later one of the same author.
    """

    def __init__(self) -> None:
        self.told: dict[Version, float] = {}
        self.current: dict[Spot, int] = {}
        self.out_of_order = 0

    async def look(self, node: Node) -> None:
        """Watch until cancelled."""
        clock, last = asyncio.get_running_loop().time, dict[bytes, int]()
        async with aclosing(node.watch(TOPIC)) as changes:
            async for change in changes:
                spot = change.author, change.slot
                if change.kind is not ChangeKind.SET:
                    self.current.pop(spot, None)
                    continue
                self.told.setdefault((*spot, change.seq), clock())
                self.current[spot] = change.seq
                self.out_of_order += change.seq < last.get(change.author, 0)
                last[change.author] = change.seq

    def lacks(self, began: Mapping[Version, float], *, until: float) -> set[Spot]:
        """Entries it knows in no version as late as one whose writing began until then."""
        return {
            (author, slot)
            for (author, slot, seq), at in began.items()
            if at <= until and self.current.get((author, slot), 0) < seq
        }


class Restarting:
    """A program that watches, ends, and is started again.

    Attributes:
        starts: How often it was started.
        lacking: How many entries it was not told of, of all its runs.
    """

    def __init__(self, node: Node, *, every_s: float) -> None:
        self._node = node
        self._every_s = every_s
        self.starts = 0
        self.lacking = 0

    async def run(self, began: Mapping[Version, float]) -> None:
        """Until cancelled."""
        while True:
            await self.look_once(began, for_s=self._every_s / 2)
            await asyncio.sleep(self._every_s / 2)

    async def look_once(self, began: Mapping[Version, float], *, for_s: float) -> None:
        """One run, and what it was not told of."""
        self.starts += 1
        onlooker, clock = Onlooker(), asyncio.get_running_loop().time
        with suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await onlooker.look(self._node)
        self.lacking += len(onlooker.lacks(began, until=clock() - LATE_S))


@click.command(short_help="What watchers of a topic are told, and how soon.")
@weather_options(nodes=100, latency="k", settle_s=SETTLED_S)
@churn_options(session_s=3600.0)
@click.option("--changes", type=click.IntRange(1), default=1000, help="How many are written.")
@click.option("--writers", type=click.IntRange(1), default=5, help="Nodes that write, and stay.")
@click.option("--slots", type=click.IntRange(1), default=100, help="Entries of each writer.")
@click.option("--every", "every_s", type=POSITIVE, default=5.0, help="Seconds between two changes.")
@click.option("--restart", "restart_s", type=POSITIVE, default=600.0, help="See above.")
def watch(
    weather: Weather, *, changes: int, writers: int, slots: int, every_s: float, restart_s: float,
    session_s: float, absence_s: float,
) -> None:  # fmt: skip
    """Entries of a topic are written, then overwritten; one node watches all the time.

    `missed` are changes that it was never told of, and delays are from the call that writes to the
    moment of telling. `reads` is how often its watch has read the whole topic, `write_datagrams`
    what a writer sends while it writes one change. Another node watches anew every `--restart`
    seconds, and is away for half of them; `restarted_lacks` are entries that it was not told of by
    the end of such a time, three minutes after they had been written.
    """

    async def experiment(swarm: Swarm) -> Figures:
        steady_node, other, *authors = random.Random(weather.seed).sample(swarm.nodes, writers + 2)
        staying = [steady_node, other, *authors]
        steady, restarting = Onlooker(), Restarting(other, every_s=restart_s)
        written = Written(authors, slots=slots)
        going = churning(swarm, session_s=session_s, absence_s=absence_s, staying=staying)
        async with going as churn, asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(steady.look(steady_node))
            now_and_then = tasks.create_task(restarting.run(written.began))
            await asyncio.sleep(every_s)
            await written.write(changes, every_s=every_s)
            now_and_then.cancel()
            await restarting.look_once(written.began, for_s=LATE_S)
            watching.cancel()
        return {
            "session_s": session_s,
            "departures": churn.stops + churn.crashes,
            "changes": len(written.began),
            "missed": len(written.began.keys() - steady.told.keys()),
            "out_of_order": steady.out_of_order,
            **_delays(written.began, steady.told),
            "restarts": restarting.starts,
            "restarted_lacks": restarting.lacking,
            "reads": (await steady_node.status()).counters["watch_reads"],
            "write_datagrams": written.datagrams / max(1, len(written.began)),
        }

    simulate(weather, experiment)


class Written:
    """What is written, by authors in turn.

    Attributes:
        began: When the writing of each version was begun.
        datagrams: That the authors have sent meanwhile.
    """

    def __init__(self, authors: Sequence[Node], *, slots: int) -> None:
        self._authors = authors
        self._slots = slots
        self.began: dict[Version, float] = {}
        self.datagrams = 0

    async def write(self, changes: int, *, every_s: float) -> None:
        """One change after the other, at least `every_s` apart; failures are told, and left out."""
        clock = asyncio.get_running_loop().time
        for number in range(changes):
            turn, place = divmod(number, len(self._authors))
            began, author = clock(), self._authors[place]
            sent = await _sent(author)
            try:
                slot = str(turn % self._slots)
                receipt = await author.announce(TOPIC, b"change %d" % number, slot=slot)
            except KademliaError as error:
                say(f"change {number}: {error}")
            else:
                self.began[author.public_key, slot.encode(), receipt.seq] = began
                self.datagrams += await _sent(author) - sent
            await asyncio.sleep(max(0.0, began + every_s - clock()))


async def _sent(node: Node) -> int:
    return (await node.status()).counters["datagrams_sent"]


def _delays(began: dict[Version, float], told: dict[Version, float]) -> Figures:
    delays = [told[version] - at for version, at in began.items() if version in told]
    if len(delays) < 2:
        return {}
    cuts = quantiles(delays, n=100, method="inclusive")
    return {"p50_s": cuts[49], "p90_s": cuts[89], "p99_s": cuts[98], "max_s": max(delays)}
