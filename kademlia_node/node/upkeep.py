"""The chores of a node: one task, one schedule, each chore with its own pace.

Every chore is a short coroutine that ends; the next one waits for it. How often each ran, when it
did last, and how much it did then is told in `status`, so that a chore that nobody calls is seen.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kademlia_node.core.schedule import Schedule

log = logging.getLogger(__name__)
CHORE_MAX_S = 300.0  # what takes longer hangs; the others must have their turn
JITTER = 0.1  # of every pause, either way: nodes started together drift apart


@dataclass(frozen=True, slots=True)
class Did:
    """What a run tells: how many things it did, and the seconds until it wants to run again."""

    count: int
    pause_s: float | None = None


Do = Callable[[], Awaitable[Did | float | None]]
"""One run. Whoever counts nothing may return the seconds alone."""


@dataclass(slots=True)
class Chore:
    """What to do how often; `did` is what the last run counted, None if it counts nothing."""

    name: str
    every_s: float
    do: Do
    runs: int = 0
    last_run: float | None = None
    did: int | None = None


class Upkeep:
    """Runs chores when they are due."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._schedule: Schedule[Chore] = Schedule()
        self.chores: list[Chore] = []

    def add(
        self,
        name: str,
        do: Do,
        *,
        every_s: float,
        first_s: float | None = None,
    ) -> None:
        """Have `do` run every `every_s` seconds, for the first time after `first_s`."""
        chore = Chore(name, every_s, do)
        self.chores.append(chore)
        self._plan(chore, every_s if first_s is None else first_s)

    async def run(self) -> None:
        """Run chores until cancelled. A chore that fails is logged and runs again next time."""
        while True:
            due_at = self._schedule.next_due()
            assert due_at is not None, "a node has chores"
            await asyncio.sleep(max(0.0, due_at - self._loop.time()))
            for chore in self._schedule.due(self._loop.time()):
                pause = await self._do(chore)
                self._plan(chore, chore.every_s if pause is None else pause)

    async def _do(self, chore: Chore) -> float | None:
        try:
            async with asyncio.timeout(CHORE_MAX_S):
                told = await chore.do()
        except Exception:
            log.exception("the chore %r failed", chore.name)
            return None
        else:
            if not isinstance(told, Did):
                return told
            chore.did = told.count
            return told.pause_s
        finally:
            chore.runs += 1
            chore.last_run = self._loop.time()

    def _plan(self, chore: Chore, pause_s: float) -> None:
        jittered = pause_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
        self._schedule.at(self._loop.time() + jittered, chore)
