"""Churn: nodes that leave when it suits them, politely or not, and come back.

Sessions and absences are exponential, so at every moment each node is as likely to leave as ever.
It knows nothing of what the nodes do. Driven as a block; when it ends, who is away stays away:

    async with swarm.churn(mean_session_s=3600.0, spare=[swarm.nodes[0]]) as churn:
        await asyncio.sleep(7200.0)
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from kademlia_node.sim.swarm import Swarm


class Churn:
    """Makes nodes of a swarm come and go; made by `Swarm.churn`.

    Nobody else may stop, crash or restart these nodes meanwhile. What goes wrong at a restart is
    raised at the end of the block.

    Attributes:
        stops: How many polite departures there were.
        crashes: How many others.
        returns: How many came back.
    """

    def __init__(
        self,
        swarm: Swarm,
        numbers: Sequence[int],
        *,
        rng: random.Random,
        mean_session_s: float,
        mean_absence_s: float,
        crash_share: float,
        loss_share: float,
    ) -> None:
        self._swarm = swarm
        self._numbers = numbers
        self._rng = rng
        self._session_rate = 1 / mean_session_s
        self._absence_rate = 1 / mean_absence_s
        self._crash_share = crash_share
        self._loss_share = loss_share
        self._over = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.stops = 0
        self.crashes = 0
        self.returns = 0

    async def __aenter__(self) -> Self:
        self._running = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it; who is just coming back arrives before this returns."""
        assert self._running is not None
        self._over.set()
        await self._running

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as nodes:
            for number in self._numbers:
                nodes.create_task(self._come_and_go(number))

    async def _come_and_go(self, number: int) -> None:
        if self._swarm.machine(self._swarm.nodes[number]).up_since is None:
            await self._return(number)
        while await self._lasts(self._session_rate):
            await self._leave(number)
            await self._return(number)

    async def _leave(self, number: int) -> None:
        node = self._swarm.nodes[number]
        if self._rng.random() < self._crash_share:
            self.crashes += 1
            keeps = self._loss_share == 0.0 or self._rng.random() >= self._loss_share
            await self._swarm.crash(node, keep_store=keeps)
        else:
            self.stops += 1
            await self._swarm.stop(node)

    async def _return(self, number: int) -> None:
        if await self._lasts(self._absence_rate):
            await self._swarm.restart(self._swarm.nodes[number])
            self.returns += 1

    async def _lasts(self, rate: float) -> bool:
        """Wait for a time drawn at this rate per second; False when the churn ends before."""
        try:
            async with asyncio.timeout(self._rng.expovariate(rate)):
                await self._over.wait()
        except TimeoutError:
            return True
        return False
