"""A client's view of a service: its instances are watched, and a call goes to one that lives.

async with asyncio.TaskGroup() as tasks:
    resolver = Resolver(node, "greeter")
    following = tasks.create_task(resolver.follow())
    if await resolver.has_instance(within_s=10):
        answer = await resolver.call(ask)  # `ask` is given a URL; it raises Unreachable
    following.cancel()
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

from examples.service_discovery.directory import Candidate, Directory
from examples.service_discovery.instance import Instance, topic_of
from kademlia_node import Node

T = TypeVar("T")


class Unreachable(Exception):  # noqa: N818 - named for what happened
    """An instance did not answer, or said that it cannot: another one is to be asked."""


class NoInstance(Exception):  # noqa: N818 - named for what happened
    """No instance could be asked. `tried` is how many were: 0 if none was known to live."""

    def __init__(self, name: str, *, tried: int) -> None:
        why = f"none of {tried} that should live answers" if tried else "none is known to live"
        super().__init__(f"no instance of {name}: {why}")
        self.tried = tried


async def listed(
    node: Node,
    name: str,
    *,
    wall: Callable[[], float] = time.time,  # noqa: TID251 - the program's wall clock enters here
) -> list[Instance]:
    """The instances of a service that live now, for who wants to know it once."""
    found: dict[tuple[bytes, bytes], Instance] = {}
    async for entry in node.find(topic_of(name)):
        with suppress(ValueError):
            found[entry.author, entry.slot] = Instance.unpack(entry.value)
    return [one for one in found.values() if one.until > wall()]


class Resolver:
    """The instances of one service, as one client sees them.

    Args:
        node: Hears of them.
        name: Of the service.
        rng: Draws among them.
        wall: Seconds since 1970.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        *,
        rng: random.Random | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the program's wall clock enters here
    ) -> None:
        self._node = node
        self._name = name
        self._rng = rng or random.SystemRandom()
        self._wall = wall
        self._directory = Directory()
        self._news = asyncio.Event()

    async def follow(self) -> None:
        """Hear of instances and what becomes of them, until cancelled or the node stops."""
        async with aclosing(self._node.watch(topic_of(self._name))) as changes:
            async for change in changes:
                self._directory.on_change(change)
                self._news.set()

    def live(self) -> list[Instance]:
        """Those whose lease has not ended."""
        return [one.instance for one in self._directory.live(wall=self._wall())]

    async def has_instance(self, *, within_s: float) -> bool:
        """Wait until one is known to live, but no longer than that."""
        try:
            async with asyncio.timeout(within_s):
                while not self.live():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def call(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """Have one instance do something; if it cannot be reached another one, and at once.

        Args:
            ask: Is given the URL of an instance, and raises Unreachable if it is to be done by
                another one. So it may be done twice: by one that died before it could answer, too.

        Raises:
            NoInstance: none is known to live, or none of them could be reached.
        """
        tried: list[Candidate] = []
        while (chosen := self._choose(tried)) is not None:
            tried.append(chosen)
            chosen.in_flight += 1
            try:
                return await ask(chosen.instance.url)
            except Unreachable:
                chosen.is_aside = True
            finally:
                chosen.in_flight -= 1
        raise NoInstance(self._name, tried=len(tried))

    def _choose(self, tried: list[Candidate]) -> Candidate | None:
        return self._directory.choose(wall=self._wall(), rng=self._rng, tried=tried)
