"""How good and how fast lookups are, at one loss of datagrams or at several."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import click

from kademlia_node.settings import Settings
from kademlia_node.sim import Swarm, survey
from scripts.simulation.weather import (
    SETTLED_S,
    Figures,
    Weather,
    loss_option,
    say,
    simulate,
    weather_options,
)


@click.command(short_help="How good and fast lookups are, at one loss or several.")
@weather_options(nodes=1000, latency="k", settle_s=SETTLED_S, with_loss=False)
@loss_option(several=True)
@click.option("--lookups", "count", type=click.IntRange(1), default=1000, help="How many.")
@click.option("--at-once", type=click.IntRange(1), default=1, help="Lookups under way.")
@click.option(
    "--session-seeding/--no-session-seeding",
    default=True,
    help="Whether everyone a node has a session with may start its lookups.",
)
def lookups(
    weather: Weather, *, losses: Sequence[float], count: int, at_once: int, session_seeding: bool
) -> None:
    """Lookups of random targets from random nodes, held against the true closest.

    `--lookups` of them are made at each loss. Nodes join under the first one; whenever it changes,
    they settle once more.
    """
    rng = random.Random(weather.seed)

    async def experiment(swarm: Swarm) -> Figures:
        surveys: list[Figures] = []
        for loss in losses:
            if surveys:
                swarm.network.loss = loss
                await asyncio.sleep(weather.settle_s)
            result = await survey(swarm, count=count, rng=rng, at_once=at_once)
            surveys.append({"loss": loss, **asdict(result)})
            say(f"{count} lookups at a loss of {loss}, {time.process_time():.0f} s of CPU")
        return {"session_seeding": session_seeding, "surveys": surveys}

    simulate(
        replace(weather, loss=losses[0]),
        experiment,
        settings=Settings(seed_from_sessions=session_seeding),
    )
