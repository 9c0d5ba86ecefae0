"""Churn: nodes that leave when it suits them, politely or not, and come back.

Sessions and absences are exponential, so at every moment each node is as likely to leave as ever.
Sessions may be Weibull instead, as they are in the field (Stutzbach and Rejaie, 2006, section 4):
most are short, and who has stayed for long will stay. Then whoever runs at the beginning is in the
midst of a session, as in any network that one looks at. It knows nothing of what the nodes do.
Driven as a block; when it ends, who is away stays away:

    async with swarm.churn(mean_session_s=3600.0, spare=[swarm.nodes[0]]) as churn:
        await asyncio.sleep(7200.0)
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from kademlia_node.errors import SetupError

if TYPE_CHECKING:
    from kademlia_node.node.node import Node
    from kademlia_node.sim.swarm import Swarm

EXPONENTIAL = 1.0  # the shape by which a Weibull distribution is an exponential one


class Churn:
    """Makes nodes of a swarm come and go; made by `Swarm.churn`.

    Nobody else may stop, crash or restart these nodes meanwhile. What goes wrong at a restart is
    raised at the end of the block.

    Args:
        swarm: Whose nodes.
        numbers: Which, by their index.
        rng: Draws who goes when.
        mean_session_s: How long a node runs, on average.
        mean_absence_s: How long it is away, on average.
        crash_share: Which share of them crashes; the others stop politely.
        loss_share: Which share of the crashes costs the disk as well.
        leave_share: Which share of the others leave for good, as far as they know then.
        session_shape: Of the Weibull distribution of sessions; below 1 there are more short ones,
            and more long ones, than exponential ones would be.
        on_departure: Is shown each node just before it goes, while it still runs.

    Attributes:
        stops: How many polite departures there were.
        leaves: How many of these were for good.
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
        leave_share: float = 0.0,
        session_shape: float = EXPONENTIAL,
        on_departure: Callable[[Node], Awaitable[None]] | None = None,
    ) -> None:
        self._swarm = swarm
        self._numbers = numbers
        self._rng = rng
        self._mean_session_s = mean_session_s
        self._shape = session_shape
        self._absence_rate = 1 / mean_absence_s
        self._crash_share = crash_share
        self._loss_share = loss_share
        self._leave_share = leave_share
        self._on_departure = on_departure
        self._over = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.stops = 0
        self.leaves = 0
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
        in_midst = self._swarm.machine(self._swarm.nodes[number]).up_since is not None
        if not in_midst:
            await self._return(number)
        while await self._lasts(self._session_s(in_midst=in_midst)):
            await self._depart(number)
            await self._return(number)
            in_midst = False

    def _session_s(self, *, in_midst: bool) -> float:
        """The length of a session, or what is left of one at a moment that has not chosen it.

        A long session is more likely to be met than a short one. So if (s / scale) ** shape is
        exponential for a session s, the same of its rest has a gamma distribution, of 1 / shape.
        """
        shape = self._shape
        if shape == EXPONENTIAL:
            return self._rng.expovariate(1 / self._mean_session_s)
        scale_s = self._mean_session_s / math.gamma(1 + 1 / shape)
        if in_midst:
            return scale_s * float(self._rng.gammavariate(1 / shape, 1.0) ** (1 / shape))
        return self._rng.weibullvariate(scale_s, shape)

    async def _depart(self, number: int) -> None:
        node = self._swarm.nodes[number]
        if self._on_departure is not None:
            await self._on_departure(node)
        if self._rng.random() < self._crash_share:
            self.crashes += 1
            keeps = self._loss_share == 0.0 or self._rng.random() >= self._loss_share
            await self._swarm.crash(node, keep_store=keeps)
        else:
            self.stops += 1
            if self._leave_share > 0.0 and self._rng.random() < self._leave_share:
                self.leaves += 1
                with suppress(SetupError):  # its disk has failed: then it just goes
                    await self._swarm.leave(node)
            else:
                await self._swarm.stop(node)

    async def _return(self, number: int) -> None:
        if await self._lasts(self._rng.expovariate(self._absence_rate)):
            await self._swarm.restart(self._swarm.nodes[number])
            self.returns += 1

    async def _lasts(self, span_s: float) -> bool:
        """Wait for so many seconds; False when the churn ends before."""
        try:
            async with asyncio.timeout(span_s):
                await self._over.wait()
        except TimeoutError:
            return True
        return False
