"""What putting, getting and finding cost: many long values, and one large topic."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Sequence

import click

from kademlia_node.core.key import Key, topic_key
from kademlia_node.errors import KademliaError
from kademlia_node.node.node import Node
from kademlia_node.sim import Swarm
from scripts.simulation.weather import Figures, Weather, say, simulate, weather_options

REGION_MAX = 15  # nodes that can hold a record: 3 x 5 copies


@click.command()
@weather_options(nodes=100, latency="wan", settle_s=60.0)
@click.option("--values", "count", type=click.IntRange(1), default=1000, help="How many.")
@click.option("--size", type=click.IntRange(0, 65536), default=65536, help="Bytes of each.")
@click.option("--at-once", type=click.IntRange(1), default=16, help="Operations under way.")
def values(weather: Weather, *, count: int, size: int, at_once: int) -> None:
    """Blobs put by random nodes, then got by others."""
    rng = random.Random(weather.seed)

    async def experiment(swarm: Swarm) -> Figures:
        loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(at_once)
        keys: list[tuple[Key, bytes]] = []
        took: dict[str, list[float]] = {"put": [], "get": []}

        async def put(node: Node, value: bytes) -> None:
            async with gate:
                started = loop.time()
                try:
                    receipt = await node.put(value)
                except KademliaError as error:
                    say(f"put: {error}")
                    return
                took["put"].append(loop.time() - started)
                keys.append((receipt.key, value))

        async def get(node: Node, key: Key, value: bytes) -> None:
            async with gate:
                started = loop.time()
                if await node.get(key, default=None) == value:
                    took["get"].append(loop.time() - started)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(put(rng.choice(swarm.nodes), rng.randbytes(size)))
        await asyncio.sleep(5)
        async with asyncio.TaskGroup() as tasks:
            for key, value in sorted(keys, key=lambda one: one[0].digest):
                tasks.create_task(get(rng.choice(swarm.nodes), key, value))
        return {
            "values": count,
            "size": size,
            "put": len(took["put"]),
            "got": len(took["get"]),
            **_quantiles("put", took["put"]),
            **_quantiles("get", took["get"]),
        }

    simulate(weather, experiment)


@click.command()
@weather_options(nodes=100, latency="wan", settle_s=60.0)
@click.option("--entries", type=click.IntRange(1), default=5000, help="Of the topic, in all.")
@click.option("--authors", type=click.IntRange(1), default=50, help="Nodes that announce them.")
@click.option("--readers", type=click.IntRange(1), default=10, help="Nodes that read it, in turn.")
def topic(weather: Weather, *, entries: int, authors: int, readers: int) -> None:
    """One large topic, read whole by nodes that hold none of it."""

    async def experiment(swarm: Swarm) -> Figures:
        loop, announcers = asyncio.get_running_loop(), swarm.nodes[:authors]

        async def announce(node: Node, share: Sequence[int]) -> None:
            for number in share:
                await node.announce("topic", b"%0100d" % number, slot=str(number))

        async with asyncio.TaskGroup() as tasks:
            for number, node in enumerate(announcers):
                tasks.create_task(announce(node, range(number, entries, len(announcers))))
        say(f"announced after {loop.time():.0f} virtual seconds")
        await asyncio.sleep(5)
        took, read, requests = [], [], 0
        holders = {c.id for c in swarm.true_closest(_digest_of_topic(), REGION_MAX)}
        strangers = [node for node in swarm.nodes if node.id not in holders][:readers]
        for node in strangers:
            started = loop.time()
            read.append(len({entry.value async for entry in node.find("topic")}))
            took.append(loop.time() - started)
            requests += (await node.status()).operations["find"].requests
        return {
            "entries": entries,
            "authors": len(announcers),
            "readers": len(strangers),
            "read_min": min(read),
            "requests_per_read": requests / len(strangers),
            **_quantiles("read", took),
        }

    simulate(weather, experiment)


def _digest_of_topic() -> bytes:
    return topic_key(b"topic").digest


def _quantiles(name: str, seconds: Sequence[float]) -> Figures:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"{name}_p50_s": cuts[49], f"{name}_p99_s": cuts[98], f"{name}_max_s": max(seconds)}
