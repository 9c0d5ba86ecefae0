"""What keeps records alive while nodes come and go: how well it does so, and what it costs."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Final, get_args

import click

from kademlia_node.node.node import Node
from kademlia_node.settings import Republish, Settings
from kademlia_node.sim import Swarm
from kademlia_node.sim.chaos import HOUR_S
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
from scripts.simulation.written import (
    WRITTEN_S,
    Written,
    draw_writers,
    overlap,
    read_back,
    write_all,
)

WATCHED: Final = ("served_", "store_", "repair", "republish")  # counters that tell what costs


# --- What it costs --------------------------------------------------------------------------------


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
@weather_options(nodes=1000, latency="k", settle_s=SETTLED_S)
@click.option("--hours", type=POSITIVE, default=24.0, help="Virtual hours of churn.")
@click.option("--records", type=click.IntRange(1), default=10_000, help="How many are written.")
@click.option(
    "--republish",
    type=click.Choice(get_args(Republish)),
    default="difference",
    help="How holders keep up the copies.",
)
@churn_options(session_s=10_000.0)
@click.option(
    "--shape", type=POSITIVE, default=0.5, help="Of the Weibull distribution of sessions."
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
        stable = draw_writers(swarm, rng=rng)
        written = await write_all(stable, range(records))
        say(f"{len(written)} records written")
        await asyncio.sleep(WRITTEN_S)
        costs = Costs(swarm)
        going = churning(
            swarm,
            session_s=session_s,
            absence_s=absence_s,
            staying=stable,
            shape=shape,
            on_departure=costs.on_departure,
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
