"""Simulate a network of real nodes and print what its operations cost and how good they are."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import click

from kademlia_node.core.key import Key, Kind, topic_key
from kademlia_node.errors import KademliaError
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim import Swarm, run, survey
from kademlia_node.sim.latency import FixedLatency, LatencyModel, LogNormalLatency

LATENCIES = ("lan", "wan", "k")  # round trips: 1 ms; 156 ms; log-normal with a median of 156 ms
REGION_MAX = 15  # nodes that can hold a record: 3 x 5 copies
Figures = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What every simulation is given."""

    seed: int
    nodes: int
    loss: float
    latency: str
    settle_s: float
    as_json: bool

    def model(self) -> LatencyModel:
        """How long datagrams take."""
        if self.latency == "k":
            return LogNormalLatency(self.seed)
        return FixedLatency(0.0005 if self.latency == "lan" else 0.078)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def _grown(weather: Weather, settings: Settings) -> AsyncIterator[Swarm]:
    """A swarm of this size that has settled."""
    started, nodes = time.process_time(), weather.nodes
    async with Swarm(
        nodes=0,
        seed=weather.seed,
        loss=weather.loss,
        latency=weather.model(),
        settings=settings,
    ) as swarm:
        while len(swarm.nodes) < nodes:
            await swarm.grow(min(nodes - len(swarm.nodes), max(1, nodes // 10)))
            _say(f"{len(swarm.nodes)} nodes joined, {time.process_time() - started:.0f} s of CPU")
        await asyncio.sleep(weather.settle_s)
        yield swarm


def _simulate(
    weather: Weather,
    experiment: Callable[[Swarm], Awaitable[Figures]],
    *,
    settings: Settings | None = None,
) -> None:
    """Run it in a swarm and print its figures."""

    async def main() -> Figures:
        started = time.process_time()
        async with _grown(weather, settings or Settings()) as swarm:
            figures = await experiment(swarm)
            return {
                **{k: v for k, v in asdict(weather).items() if k != "as_json"},
                **figures,
                "virtual_s": round(asyncio.get_running_loop().time(), 3),
                "datagrams": swarm.network.sent.datagrams,
                "cpu_s": round(time.process_time() - started, 1),
                "digest": swarm.network.trace_digest(),
            }

    figures = run(main())
    if weather.as_json:
        print(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, figure in figures.items():
        shown = f"{figure:.4f}" if isinstance(figure, float) else figure
        print(f"{name:>{width}}  {shown}")


def _weather(*, nodes: int, latency: str, settle_s: float) -> Callable[[Any], Any]:
    """The options of every experiment, with its own defaults; they arrive as `weather`."""

    def decorate(experiment: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(experiment)
        def wrapped(
            *, seed: int, nodes: int, loss: float, latency: str, settle_s: float, as_json: bool,
            **rest: Any,
        ) -> None:  # fmt: skip
            experiment(
                Weather(
                    seed=seed,
                    nodes=nodes,
                    loss=loss,
                    latency=latency,
                    settle_s=settle_s,
                    as_json=as_json,
                ),
                **rest,
            )

        share, seconds = click.FloatRange(0, 1), click.FloatRange(0)
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
            click.option(
                "--settle",
                "settle_s",
                type=seconds,
                default=settle_s,
                help="Virtual seconds first.",
            ),
            click.option("--latency", type=click.Choice(LATENCIES), default=latency),
            click.option("--loss", type=share, default=0.0, help="Share of datagrams lost."),
            click.option("--nodes", type=click.IntRange(2), default=nodes, help="How many nodes."),
            click.argument("seed", type=int, default=1),
        ):
            wrapped = option(wrapped)
        return wrapped

    return decorate


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Simulate real nodes. The same SEED and options give the same digest, on any machine."""


# --- Lookups --------------------------------------------------------------------------------------


@main.command()
@_weather(nodes=1000, latency="k", settle_s=300.0)
@click.option("--lookups", "count", type=click.IntRange(1), default=1000, help="How many.")
@click.option(
    "--session-seeding/--no-session-seeding",
    default=True,
    help="Whether everyone a node has a session with may start its lookups.",
)
def lookups(weather: Weather, *, count: int, session_seeding: bool) -> None:
    """Lookups of random targets from random nodes, held against the true closest."""

    async def experiment(swarm: Swarm) -> Figures:
        result = await survey(swarm, count=count, rng=random.Random(weather.seed))
        return {"session_seeding": session_seeding, **asdict(result)}

    _simulate(weather, experiment, settings=Settings(seed_from_sessions=session_seeding))


# --- Values ---------------------------------------------------------------------------------------


@main.command()
@_weather(nodes=100, latency="wan", settle_s=60.0)
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
                    _say(f"put: {error}")
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

    _simulate(weather, experiment)


# --- Topics ---------------------------------------------------------------------------------------


@main.command()
@_weather(nodes=100, latency="wan", settle_s=60.0)
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
        _say(f"announced after {loop.time():.0f} virtual seconds")
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

    _simulate(weather, experiment)


def _digest_of_topic() -> bytes:
    return topic_key(b"topic").digest


# --- Steady state ---------------------------------------------------------------------------------


@main.command()
@_weather(nodes=1000, latency="k", settle_s=120.0)
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

    _simulate(weather, experiment, settings=Settings(renew_after_s=400.0))


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


def _quantiles(name: str, seconds: Sequence[float]) -> Figures:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"{name}_p50_s": cuts[49], f"{name}_p99_s": cuts[98], f"{name}_max_s": max(seconds)}


if __name__ == "__main__":
    main(prog_name="scripts/simulate")
