"""A week of ordinary life: whether anything grows that should not."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
from pathlib import Path
from statistics import fmean

import click

from kademlia_node.sim import Swarm
from kademlia_node.sim.chaos import HOUR_S
from kademlia_node.sim.clock import VirtualLoop
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
from scripts.simulation.written import draw_writers, read_back, write_all


@click.command(short_help="A week, and what has grown by then.")
@weather_options(nodes=200, latency="k", settle_s=SETTLED_S)
@churn_options(session_s=10_000.0)
@click.option("--hours", type=POSITIVE, default=168.0, help="Virtual hours.")
@click.option("--samples", type=click.IntRange(1), default=7, help="Looks, evenly spaced.")
@click.option("--records", type=click.IntRange(1), default=2000, help="How many are written.")
def soak(
    weather: Weather, *, hours: float, samples: int, records: int, session_s: float,
    absence_s: float,
) -> None:  # fmt: skip
    """Records and churn for a week; now and then, what all of it takes, per running node.

    One node of twenty stays; these write, and renew. `rss_now_mib` and `objects` are those of the
    whole process, after garbage was collected. In the end everything is read by random nodes.
    """

    async def experiment(swarm: Swarm) -> Figures:
        rng = random.Random(weather.seed)
        stable = draw_writers(swarm, rng=rng)
        written = await write_all(stable, range(records))
        looks: list[Figures] = []
        async with churning(swarm, session_s=session_s, absence_s=absence_s, staying=stable):
            for number in range(1, samples + 1):
                await asyncio.sleep(HOUR_S * hours / samples)
                looks.append({"after_h": number * hours / samples, **await _look(swarm)})
                say(f"look {number} of {samples}: {looks[-1]}")
            reads = await read_back(swarm, written, rng=rng)
        return {
            "hours": hours,
            "session_s": session_s,
            "absence_s": absence_s,
            "records": len(written),
            "found": reads.found,
            "gone_shown": reads.gone_shown,
            "looks": looks,
        }

    simulate(weather, experiment)


async def _look(swarm: Swarm) -> Figures:
    gc.collect()
    loop, running = asyncio.get_running_loop(), len(swarm.alive)
    assert isinstance(loop, VirtualLoop), "this is a simulation"
    statuses = [await node.status() for node in swarm.alive]
    return {
        "rss_now_mib": _rss_bytes() / 2**20,
        "objects": len(gc.get_objects()),
        "running": running,
        "tasks": len(asyncio.all_tasks()) / running,
        "timers": loop.timers / running,
        "peers": fmean(status.peers for status in statuses),
        "sessions": fmean(status.sessions for status in statuses),
        "records_held": fmean(status.records for status in statuses),
    }


def _rss_bytes() -> int:
    """What this process has of memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
