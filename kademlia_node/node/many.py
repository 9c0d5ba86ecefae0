"""Many records at once, so that neighbours among the keys share one walk.

Sorted by key, the next one usually lies in the subtree that the last walk has made known whole
(`core.neighbourhood`). A few lanes go through the sorted keys side by side; in each, whoever is
first in a new subtree walks, all others of it ask at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from kademlia_node.core.message import FindNode
from kademlia_node.errors import NotStored
from kademlia_node.node.receipt import Receipt
from kademlia_node.node.state import NodeState
from kademlia_node.node.walk import Walk

LANES: Final = 4  # walks at a time; each has some ten requests in flight
T = TypeVar("T")
Job = tuple[bytes, Callable[[], Awaitable[T]]]
"""The 32-byte key it is about, and what to do."""


async def do_all(state: NodeState, jobs: Sequence[Job[T]]) -> list[T]:
    """What each job returned, in the order of the jobs.

    When one raises, those under way end, no other begins, and the exception is raised.
    """
    results: dict[int, T] = {}
    failures: list[Exception] = []
    order = sorted(range(len(jobs)), key=lambda number: jobs[number][0])
    length = -(-len(order) // LANES)
    at_once = asyncio.Semaphore(state.settings.many_at_once)

    async def do(number: int) -> None:
        async with at_once:
            if failures:
                return
            try:
                results[number] = await jobs[number][1]()
            except Exception as failure:  # noqa: BLE001 - raised below
                failures.append(failure)

    async def go_through(lane: list[int]) -> None:
        while lane and not failures:
            await _learn(state, jobs[lane[0]][0])
            known = 1
            while known < len(lane) and _is_known(state, jobs[lane[known]][0]):
                known += 1
            async with asyncio.TaskGroup() as tasks:
                for number in lane[:known]:
                    tasks.create_task(do(number))
            del lane[:known]

    async with asyncio.TaskGroup() as lanes:
        for start in range(0, len(order), max(1, length)):
            lanes.create_task(go_through(order[start : start + length]))
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(jobs))]


async def write_all(state: NodeState, writes: Sequence[Job[Receipt]]) -> list[Receipt]:
    """The same for writes: of one that nobody took, or too few did, the receipt tells."""

    async def write(job: Callable[[], Awaitable[Receipt]]) -> Receipt:
        try:
            return await job()
        except NotStored as error:
            return error.receipt

    return await do_all(state, [(key, partial(write, job)) for key, job in writes])


async def _learn(state: NodeState, key: bytes) -> None:
    """Walk to the key, if its neighbourhood is not known: wide enough to know some of it whole."""
    if not _is_known(state, key):
        k = max(state.settings.k, 2 * state.network.copies)
        await Walk(state, key, FindNode(key), k=k).run()


def _is_known(state: NodeState, key: bytes) -> bool:
    copies, now = state.network.copies, state.loop.time()
    return bool(state.neighbourhoods.near(key, count_min=copies, reach=state.reach, now=now))
