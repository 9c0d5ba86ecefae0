"""How good lookups are: random ones from random nodes, held against the truth of the swarm."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import fmean, median

from kademlia_node.sim.swarm import Swarm


@dataclass(frozen=True, slots=True)
class Survey:
    """What `count` lookups came to. Times in virtual seconds.

    Attributes:
        count: How many lookups.
        exact: The share that found exactly the k closest, in order.
        recall: The mean share of the true k closest that was found.
        hops: Mean steps to the nearest node.
        queries: Mean nodes asked.
        p50_s: Median duration.
        p99_s: 99th percentile of the duration.
    """

    count: int
    exact: float
    recall: float
    hops: float
    queries: float
    p50_s: float
    p99_s: float


async def survey(swarm: Swarm, *, count: int, rng: random.Random, k: int = 20) -> Survey:
    """Make `count` lookups, one after the other, and compare each with the oracle."""
    recalls: list[float] = []
    traces = []
    for _ in range(count):
        node, target = rng.choice(swarm.nodes), rng.randbytes(32)
        found, trace = await node.lookup(target)
        truth = [c.id for c in swarm.true_closest(target, k + 1) if c.id != node.id][:k]
        recalls.append(len({c.id for c in found} & set(truth)) / len(truth))
        traces.append(
            (trace.hops, len(trace.steps), trace.duration_s, [c.id for c in found] == truth)
        )
    durations = sorted(duration for _, _, duration, _ in traces)
    return Survey(
        count=count,
        exact=fmean(exact for *_, exact in traces),
        recall=fmean(recalls),
        hops=fmean(hops for hops, *_ in traces),
        queries=fmean(queries for _, queries, *_ in traces),
        p50_s=median(durations),
        p99_s=durations[int(0.99 * (count - 1))],
    )
