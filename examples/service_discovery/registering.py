"""An instance is announced as long as it is healthy, and withdrawn when it is not, or stops.

Nobody has to notice that it has died: a lease that is not extended ends. What is announced anew is
pushed to those who watch, and to them it is the sign of life that ends a suspicion.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from examples.service_discovery.instance import Instance, topic_of
from kademlia_node import Node, NotStored

log = logging.getLogger(__name__)
RECORD_TTL_S: Final = 240  # of the record, the least there is; the lease in it may be shorter
BEATS_PER_LEASE: Final = 3  # one may be late, and one may get lost
WITHDRAW_S: Final = 5.0  # who stops waits no longer; then the lease ends by itself


class Registration:
    """One instance of one service.

    Args:
        node: Announces it.
        name: Of the service.
        url: Where the instance serves; raises ValueError if it is none.
        is_healthy: The health check. It is given a third of the lease at most.
        lease_s: For how many seconds the instance is listed once it is not heard of any more.
        slot: Tells instances of one service apart that one node announces.
        on_listed: Told when it has been announced, and (False) when it was withdrawn.
        wall: Seconds since 1970.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        url: str,
        *,
        is_healthy: Callable[[], Awaitable[bool]],
        lease_s: float,
        slot: str = "",
        on_listed: Callable[[bool], None] = lambda _: None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the program's wall clock enters here
    ) -> None:
        Instance(url, 0.0).pack()
        self._node = node
        self._topic = topic_of(name)
        self._url = url
        self._is_healthy = is_healthy
        self._lease_s = lease_s
        self._slot = slot
        self._on_listed = on_listed
        self._wall = wall
        self._is_listed = False

    async def keep(self) -> None:
        """Check, and announce or withdraw, again and again until cancelled; then withdraw."""
        every_s, clock = self._lease_s / BEATS_PER_LEASE, asyncio.get_running_loop().time
        try:
            while True:
                next_at, until = clock() + every_s, self._wall() + self._lease_s
                if await self._check(within_s=every_s):
                    await self._announce(until=until)
                else:
                    await self._withdraw()
                await asyncio.sleep(next_at - clock())
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(WITHDRAW_S):
                    await self._withdraw()

    async def _check(self, *, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                return await self._is_healthy()
        except TimeoutError:
            return False

    async def _announce(self, *, until: float) -> None:
        """Until one has it: then those who watch are told, and the others are asked meanwhile."""
        value = Instance(self._url, until).pack()
        try:
            await self._node.announce(
                self._topic, value, slot=self._slot, acks=1, ttl_s=RECORD_TTL_S
            )
        except NotStored as error:
            log.warning("%s could not be announced: %s", self._url, error)
        else:
            self._become_listed(True)  # noqa: FBT003

    async def _withdraw(self) -> None:
        if not self._is_listed:
            return
        try:
            # With its own ttl_s: after a tombstone of 13 days, no entry there may be shorter.
            await self._node.withdraw(topic=self._topic, slot=self._slot, ttl_s=RECORD_TTL_S)
        except NotStored as error:
            log.warning("%s could not be withdrawn: %s", self._url, error)
        else:
            self._become_listed(False)  # noqa: FBT003

    def _become_listed(self, is_listed: bool) -> None:  # noqa: FBT001
        if is_listed is not self._is_listed:
            self._is_listed = is_listed
            self._on_listed(is_listed)
