"""How good lookups are: random ones from random nodes, held against the truth of the swarm.

What is true is what is true when a lookup ends. A lookup whose own node went down meanwhile proves
nothing, and nothing here counts it.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from kademlia_node.errors import KademliaError
from kademlia_node.node.node import Node
from kademlia_node.sim.swarm import Swarm


@dataclass(frozen=True, slots=True)
class Judged:
    """What one lookup came to.

    Attributes:
        duration_s: In virtual seconds.
        failed: Whether it raised.
        hops: Steps to the nearest node.
        queries: Nodes asked.
        success: Whether the nearest node that it found is the nearest there is.
        exact: Whether it found exactly the k closest, in order.
        recall: The share of the k closest that it found.
    """

    duration_s: float
    failed: bool = False
    hops: int = 0
    queries: int = 0
    success: bool = False
    exact: bool = False
    recall: float = 0.0


@dataclass(frozen=True, slots=True)
class Survey:
    """What `count` lookups came to. Times in virtual seconds; None is the mean of nothing.

    Attributes:
        count: How many lookups.
        success: The share whose nearest found node is the nearest there is.
        failed: The share that raised. They found nothing, and have neither hops nor queries.
        exact: The share that found exactly the k closest, in order.
        recall: The mean share of the true k closest that was found.
        hops: Mean steps to the nearest node.
        hops_ideal: What the formula of Stutzbach and Rejaie (2006) gives for `hops`.
        queries: Mean nodes asked.
        p50_s: Median duration of the successes.
        p90_s: 90th percentile of the same.
        p99_s: 99th percentile of the same.
        no_success_p50_s: Median duration of the others.
    """

    count: int
    success: float
    failed: float
    exact: float
    recall: float
    hops: float | None
    hops_ideal: float
    queries: float | None
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    no_success_p50_s: float | None


async def survey(swarm: Swarm, *, count: int, rng: random.Random, at_once: int = 1) -> Survey:
    """Make `count` lookups of random targets from random nodes, and compare each with the oracle.

    Args:
        swarm: Whose honest nodes make them.
        count: How many.
        rng: Draws nodes and targets.
        at_once: How many are under way; in a large swarm they hardly meet.
    """
    outcomes = []

    async def look(count: int) -> None:
        for _ in range(count):
            outcome = await judged_lookup(swarm, rng.choice(swarm.alive), rng.randbytes(32))
            if outcome is not None:
                outcomes.append(outcome)

    async with asyncio.TaskGroup() as tasks:
        for number in range(at_once):
            tasks.create_task(look((count + number) // at_once))
    return summary(outcomes, nodes=len(swarm.alive), k=swarm.settings.k)


async def judged_lookup(swarm: Swarm, node: Node, target: bytes) -> Judged | None:
    """Look up 32 bytes from a running node; None if that node went down meanwhile."""
    began = _now()
    try:
        found, trace = await node.lookup(target)
    except KademliaError:
        found, trace = [], None
    if swarm.machine(node).up_since is None:  # its end ends its lookups: nobody is back so soon
        return None
    took_s = _now() - began
    if trace is None:
        return Judged(took_s, failed=True)
    ids, k = [contact.id for contact in found], swarm.settings.k
    truth = [c.id for c in swarm.true_closest(target, k + 1) if c.id != node.id][:k]
    return Judged(
        took_s,
        hops=trace.hops,
        queries=len(trace.steps),
        success=ids[:1] == truth[:1],
        exact=ids == truth,
        recall=len(set(ids) & set(truth)) / len(truth) if truth else 1.0,
    )


def summary(outcomes: Sequence[Judged], *, nodes: float, k: int = 20) -> Survey:
    """Sum up some lookups, at least one, that were made among so many running nodes."""
    assert outcomes, "there is nothing to sum up"
    returned = [outcome for outcome in outcomes if not outcome.failed]
    took_s = sorted(outcome.duration_s for outcome in outcomes if outcome.success)
    others = [outcome.duration_s for outcome in outcomes if not outcome.success]
    return Survey(
        count=len(outcomes),
        success=len(took_s) / len(outcomes),
        failed=1 - len(returned) / len(outcomes),
        exact=fmean(outcome.exact for outcome in outcomes),
        recall=fmean(outcome.recall for outcome in outcomes),
        hops=_mean([outcome.hops for outcome in returned]),
        hops_ideal=math.log2(nodes) / (1.33 + math.log2(k)),
        queries=_mean([outcome.queries for outcome in returned]),
        p50_s=_median(took_s),
        p90_s=_percentile(took_s, 90),
        p99_s=_percentile(took_s, 99),
        no_success_p50_s=_median(others),
    )


def _mean(figures: Sequence[float]) -> float | None:
    return fmean(figures) if figures else None


def _median(figures: Sequence[float]) -> float | None:
    return median(figures) if figures else None


def _percentile(ordered: Sequence[float], percent: int) -> float | None:
    return ordered[percent * (len(ordered) - 1) // 100] if ordered else None


def _now() -> float:
    return asyncio.get_running_loop().time()
