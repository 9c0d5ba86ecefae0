"""The steady state: what it costs to renew and to read what is known already."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import click

from kademlia_node.core.key import Key, Kind
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim import Swarm
from scripts.simulation.weather import SETTLED_S, Figures, Weather, simulate, weather_options


@click.command(short_help="Requests of a read and a renewal when holders are known.")
@weather_options(nodes=1000, latency="k", settle_s=SETTLED_S)
@click.option("--records", type=click.IntRange(1), default=50, help="Blobs, and as many names.")
def steady(weather: Weather, *, records: int) -> None:
    """What renewing and reading cost once holders and sessions are known, in requests."""

    async def experiment(swarm: Swarm) -> Figures:
        writer, reader = swarm.nodes[weather.nodes // 3], swarm.nodes[2 * weather.nodes // 3]
        puts = [partial(writer.put, b"blob %d" % number) for number in range(records)]
        first = await _cost(writer, "put", puts)
        keys = [published.record.key async for published in writer.publications()]
        names = [f"name {number}" for number in range(records)]
        blobs = [partial(reader.get, _blob(key)) for key in keys]
        await _cost(reader, "get", blobs)
        for name in names:
            await writer.set(name, b"value")
        entries = [partial(reader.get, name) for name in names]
        for _ in range(2):  # the first walk may find all holders on one path: it takes another
            await _cost(reader, "get", entries)
        again = {
            "blob": await _cost(reader, "get", blobs),
            "entry": await _cost(reader, "get", entries),
            "renewal": await _renewals(writer, 2 * records),
        }
        figures: Figures = {"copies": writer.network.copies, "first_put_requests": first[0]}
        for name, (requests, round_trips) in again.items():
            figures |= {f"{name}_requests": requests, f"{name}_round_trips": round_trips}
        return figures

    simulate(weather, experiment, settings=Settings(renew_after_s=400.0))


def _blob(digest: bytes) -> Key:
    return Key(Kind.BLOB, digest)


async def _cost(
    node: Node, verb: str, operations: Sequence[Callable[[], Awaitable[object]]]
) -> tuple[float, float]:
    """Requests and round trips of an operation, on average."""
    before = await _counted(node, verb)
    for operation in operations:
        await operation()
    return _average(before, await _counted(node, verb))


async def _renewals(node: Node, count: int) -> tuple[float, float]:
    """The same of the next renewals, which come by themselves."""
    before = await _counted(node, "renew")
    after = before
    while after[0] - before[0] < count:
        await asyncio.sleep(10)
        after = await _counted(node, "renew")
    return _average(before, after)


async def _counted(node: Node, verb: str) -> tuple[int, int, int]:
    cost = (await node.status()).operations.get(verb)
    return (cost.count, cost.requests, cost.round_trips) if cost else (0, 0, 0)


def _average(before: tuple[int, int, int], after: tuple[int, int, int]) -> tuple[float, float]:
    operations = after[0] - before[0]
    return (after[1] - before[1]) / operations, (after[2] - before[2]) / operations
