"""Hours of ordinary life: nodes come and go, and each of them looks something up now and then."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict
from statistics import fmean

import click

from kademlia_node.node.node import Node
from kademlia_node.sim import Swarm
from kademlia_node.sim.chaos import HOUR_S
from kademlia_node.sim.survey import Judged, judged_lookup, summary
from scripts.simulation.weather import (
    POSITIVE,
    SETTLED_S,
    Figures,
    Weather,
    churn_options,
    churning,
    say,
    sent_bytes,
    simulate,
    weather_options,
)


@click.command(short_help="Lookups while nodes come and go for hours.")
@weather_options(nodes=1000, latency="k", settle_s=SETTLED_S)
@churn_options(session_s=HOUR_S)
@click.option("--hours", type=POSITIVE, default=1.0, help="Virtual hours.")
@click.option(
    "--every", "every_s", type=POSITIVE, default=600.0, help="Mean seconds between its lookups."
)
def live(
    weather: Weather, *, hours: float, session_s: float, absence_s: float, every_s: float
) -> None:
    """Nodes that come and go, and look up random targets, held against the true closest.

    Half of those that go crash; all come back with their store. Bytes are counted with the headers
    of IPv4 and UDP, 28 of each datagram, and per second that a node ran. A lookup whose own node
    went down is counted as `cut_short` only.
    """

    async def experiment(swarm: Swarm) -> Figures:
        readers = Readers(swarm, rng=random.Random(weather.seed), every_s=every_s)
        cpu_s, began = time.process_time(), sent_bytes(swarm)
        datagrams = swarm.network.sent.datagrams
        async with churning(swarm, session_s=session_s, absence_s=absence_s) as churn:
            node_seconds = await readers.live(HOUR_S * hours)
            size_bytes = sent_bytes(swarm) - began
            datagrams = swarm.network.sent.datagrams - datagrams
        return {
            "hours": hours,
            "session_s": session_s,
            "absence_s": absence_s,
            "departures": churn.stops + churn.crashes,
            "returns": churn.returns,
            **readers.figures(),
            "bytes_per_node_s": size_bytes / node_seconds,
            "living_datagrams": datagrams,
            "living_cpu_s": round(time.process_time() - cpu_s, 1),
        }

    simulate(weather, experiment)


class Readers:
    """Has each running node of a swarm look something up every so often.

    Args:
        swarm: Which nodes.
        rng: Draws the moments, the nodes and the targets.
        every_s: Mean of the exponential pause between two lookups of a node.
    """

    def __init__(self, swarm: Swarm, *, rng: random.Random, every_s: float) -> None:
        self._swarm = swarm
        self._rng = rng
        self._rate = len(swarm.nodes) / every_s
        self._outcomes: list[Judged] = []
        self._cut_short = 0
        self._running: list[int] = []  # nodes at each moment that was drawn

    async def live(self, span_s: float) -> float:
        """Let so many seconds pass, and the lookups end; return the seconds that nodes ran."""
        now = asyncio.get_running_loop().time
        began = now()
        async with asyncio.TaskGroup() as tasks:
            for tenth in range(1, 11):  # pauses have no memory: cutting one changes nothing
                await self._draw(tasks, until=began + tenth * span_s / 10)
                say(f"{tenth}/10 of it, {time.process_time():.0f} s of CPU")
        return self._nodes() * (now() - began)

    def figures(self) -> Figures:
        """What came of it."""
        if not self._outcomes:
            raise click.UsageError("no lookup ended: give more --hours, or less --every")
        result = asdict(summary(self._outcomes, nodes=self._nodes()))
        return {"running": self._nodes(), "cut_short": self._cut_short, **result}

    def _nodes(self) -> float:
        return fmean(self._running) if self._running else len(self._swarm.alive)

    async def _draw(self, tasks: asyncio.TaskGroup, *, until: float) -> None:
        """Start lookups. One task draws the moments of all nodes; who is away lets his pass."""
        now = asyncio.get_running_loop().time
        while (moment := now() + self._rng.expovariate(self._rate)) < until:
            await asyncio.sleep(moment - now())
            self._running.append(len(self._swarm.alive))
            node, target = self._rng.choice(self._swarm.nodes), self._rng.randbytes(32)
            if self._swarm.machine(node).up_since is not None:
                tasks.create_task(self._look_up(node, target))
        await asyncio.sleep(until - now())

    async def _look_up(self, node: Node, target: bytes) -> None:
        outcome = await judged_lookup(self._swarm, node, target)
        if outcome is None:
            self._cut_short += 1
        else:
            self._outcomes.append(outcome)
