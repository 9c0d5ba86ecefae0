"""Simulate a network of real nodes and print how good its lookups are."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict

import click

from kademlia_node.settings import Settings
from kademlia_node.sim import Swarm, run, survey
from kademlia_node.sim.network import FixedLatency, LatencyModel, LogNormalLatency

LATENCIES = ("lan", "k")  # 1 ms everywhere; or log-normal with a median round trip of 156 ms


def _latency(name: str, seed: int) -> LatencyModel:
    return LogNormalLatency(seed) if name == "k" else FixedLatency(0.0005)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _simulate(
    *,
    seed: int,
    nodes: int,
    loss: float,
    lookups: int,
    settle_s: float,
    latency: str,
    session_seeding: bool,
) -> dict[str, object]:
    started = time.process_time()
    swarm = Swarm(
        nodes=0,
        seed=seed,
        loss=loss,
        latency=_latency(latency, seed),
        settings=Settings(seed_from_sessions=session_seeding),
    )
    async with swarm:
        while len(swarm.nodes) < nodes:
            await swarm.grow(min(nodes - len(swarm.nodes), max(1, nodes // 10)))
            _say(f"{len(swarm.nodes)} nodes joined, {time.process_time() - started:.0f} s of CPU")
        await asyncio.sleep(settle_s)
        _say(f"settled for {settle_s:.0f} virtual seconds, {time.process_time() - started:.0f} s")
        result = await survey(swarm, count=lookups, rng=random.Random(seed))
        virtual_s = asyncio.get_running_loop().time()
        digest = swarm.network.trace_digest()
    return {
        "seed": seed,
        "nodes": nodes,
        "loss": loss,
        "latency": latency,
        "session_seeding": session_seeding,
        **asdict(result),
        "virtual_s": round(virtual_s, 3),
        "datagrams": swarm.network.sent.datagrams,
        "cpu_s": round(time.process_time() - started, 1),
        "digest": digest,
    }


@click.command(context_settings={"show_default": True})
@click.argument("seed", type=int, default=1)
@click.option("--nodes", type=click.IntRange(2), default=1000, help="How many nodes.")
@click.option(
    "--loss", type=click.FloatRange(0, 1), default=0.0, help="Share of datagrams lost, 0 to 1."
)
@click.option(
    "--lookups",
    type=click.IntRange(1),
    default=1000,
    help="Lookups of random targets from random nodes.",
)
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(0),
    default=300.0,
    help="Virtual seconds before the lookups.",
)
@click.option("--latency", type=click.Choice(LATENCIES), default="k", help="The latency model.")
@click.option(
    "--session-seeding/--no-session-seeding",
    default=True,
    help="Whether everyone a node has a session with may start its lookups.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(*, as_json: bool, **options: object) -> None:
    """Run one simulation. The same SEED and options give the same digest, on any machine."""
    figures = run(_simulate(**options))  # type: ignore[arg-type]
    if as_json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:>10}  {figure:.4f}" if isinstance(figure, float) else f"{name:>10}  {figure}")


if __name__ == "__main__":
    main(prog_name="scripts/simulate")
