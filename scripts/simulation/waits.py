"""How long users wait: for a put, for a value never read before, for a lookup; and with the dead.

The dead fall silent all at once, and what is asked then is asked of tables that still name them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import click

from kademlia_node.errors import KademliaError
from kademlia_node.node.node import Node
from kademlia_node.sim import Swarm
from kademlia_node.sim.oracle import read
from kademlia_node.sim.survey import judged_lookup
from scripts.simulation.weather import SETTLED_S, Figures, Weather, say, simulate, weather_options
from scripts.simulation.written import AT_ONCE, Written, put, write_all

PERCENTILES: Final = (50, 90, 95, 99)


@dataclass(slots=True)
class _Waits:
    """Seconds that operations took, of those that did what they should."""

    put: list[float] = field(default_factory=list)
    get: list[float] = field(default_factory=list)
    lookup: list[float] = field(default_factory=list)
    recall: float = 0.0

    def figures(self, count: int) -> Figures:
        """Percentiles, and shares of `count` operations of each kind."""
        figures: Figures = {}
        for name in ("put", "get", "lookup"):
            took_s = sorted(getattr(self, name))
            figures[f"{name}_done"] = len(took_s) / count
            for percent in PERCENTILES:
                at = percent * (len(took_s) - 1) // 100
                figures[f"{name}_p{percent}_s"] = took_s[at] if took_s else None
        return {**figures, "lookup_recall": self.recall / count}


@click.command(short_help="How long puts, first gets and lookups take, also when many are dead.")
@weather_options(nodes=1000, latency="k", settle_s=SETTLED_S)
@click.option("--count", type=click.IntRange(1), default=1000, help="Of each operation, twice.")
@click.option("--dead", type=click.FloatRange(0, 0.9), default=0.45, help="Share that dies.")
def waits(weather: Weather, *, count: int, dead: float) -> None:
    """What is waited for by random nodes, first with all alive, then with a share newly dead.

    Each value was put before by another node, and nobody has read it. `done` is the share of the
    operations that did what they should: a put with all its copies, the right value, the nearest
    node there is.
    """

    async def experiment(swarm: Swarm) -> Figures:
        rng = random.Random(weather.seed)
        stock = await write_all(swarm.nodes, range(2 * count), writes=[put])
        say(f"{len(stock)} values written")
        await asyncio.sleep(weather.settle_s)
        clean = await _wait_for(swarm, stock[::2], rng=rng)
        say("waited for each with all alive")
        dying = rng.sample(swarm.nodes, round(dead * len(swarm.nodes)))
        await asyncio.gather(*[swarm.crash(node) for node in dying])
        after = await _wait_for(swarm, stock[1::2], rng=rng)
        return {
            "count": count,
            "waits": [{"dead": 0.0, **clean}, {"dead": dead, **after}],
        }

    simulate(weather, experiment)


async def _wait_for(swarm: Swarm, stock: Sequence[Written], *, rng: random.Random) -> Figures:
    """Read each of these once, and put another one and look one up meanwhile."""
    waits, left = _Waits(), iter(stock)

    async def lane() -> None:
        for one in left:
            await _look(swarm, rng.choice(swarm.alive), rng.randbytes(32), waits)
            await _get(rng.choice(swarm.alive), one, waits)
            await _put(rng.choice(swarm.alive), rng.randbytes(100), waits)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(lane())
    return waits.figures(len(stock))


async def _look(swarm: Swarm, node: Node, target: bytes, waits: _Waits) -> None:
    judged = await judged_lookup(swarm, node, target)
    assert judged is not None, "nobody goes down meanwhile"
    waits.recall += judged.recall
    if judged.success:
        waits.lookup.append(judged.duration_s)


async def _get(node: Node, one: Written, waits: _Waits) -> None:
    started = _now()
    try:
        value = await read(one.item, node)
    except KademliaError as error:
        say(f"get: {error}")
        return
    if value == one.value:
        waits.get.append(_now() - started)


async def _put(node: Node, value: bytes, waits: _Waits) -> None:
    started = _now()
    try:
        receipt = await node.put(value)
    except KademliaError as error:
        say(f"put: {error}")
        return
    if len(receipt.replicas) >= receipt.copies:
        waits.put.append(_now() - started)


def _now() -> float:
    return asyncio.get_running_loop().time()
