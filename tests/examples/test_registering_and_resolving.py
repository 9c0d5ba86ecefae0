"""Instances and clients of a service on virtual time: who is listed when, and who is asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from examples.service_discovery.instance import topic_of
from examples.service_discovery.registering import BEATS_PER_LEASE, RECORD_TTL_S, Registration
from examples.service_discovery.resolving import NoInstance, Resolver, Unreachable, listed
from kademlia_node import KademliaError, Node
from tests.node.network import HOUR, Neighbourhood, collect

NAME = "greeter"
LEASE_S = 15
BEAT_S = LEASE_S / BEATS_PER_LEASE
PUSHED_S = 2.0  # what is announced is known elsewhere within this time


class Service:
    """An instance with a node of its own, as healthy as a test says."""

    def __init__(self, here: Neighbourhood, node: Node, port: int) -> None:
        self.node = node
        self.url = f"http://127.0.0.1:{port}"
        self.health: bool | None = True  # None: the check hangs
        self.told: list[bool] = []
        self._registration = Registration(
            node,
            NAME,
            self.url,
            is_healthy=self._check,
            lease_s=LEASE_S,
            on_listed=self.told.append,
            wall=here.sim.wall,
        )

    async def _check(self) -> bool:
        if self.health is None:
            await asyncio.Event().wait()
        return self.health is True

    def start(self) -> None:
        self._keeping = asyncio.create_task(self._registration.keep())

    async def stop(self) -> None:
        self._keeping.cancel()
        with suppress(asyncio.CancelledError, KademliaError):
            await self._keeping

    async def die(self) -> None:
        """Nothing is withdrawn: the node is gone when that is tried."""
        await self.node.stop()
        await self.stop()


class House:
    """Three members that outlive all, instances, and a client."""

    def __init__(self, here: Neighbourhood) -> None:
        self.here = here
        self.services: list[Service] = []

    async def open(self) -> None:
        await self.here.grow(3)
        self.client = await self.here.start(server=False)
        self.resolver = Resolver(self.client, NAME, rng=random.Random(1), wall=self.here.sim.wall)
        self.following = asyncio.create_task(self.resolver.follow())

    async def serve(self, count: int = 1) -> list[Service]:
        made = []
        for _ in range(count):
            node = await self.here.start(server=False)
            made.append(Service(self.here, node, 8000 + len(self.services)))
            self.services.append(made[-1])
            made[-1].start()
        await asyncio.sleep(PUSHED_S)
        return made

    def urls(self) -> list[str]:
        return sorted(one.url for one in self.resolver.live())

    async def close(self) -> None:
        self.following.cancel()
        await asyncio.wait([self.following])
        for service in self.services:
            await service.stop()


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async with Neighbourhood() as here:
        opened = House(here)
        await opened.open()
        try:
            yield opened
        finally:
            await opened.close()


# --- Who is listed --------------------------------------------------------------------------------


async def test_a_healthy_instance_is_listed_as_long_as_it_runs() -> None:
    async with house() as home:
        (service,) = await home.serve()
        for _ in range(int(HOUR)):
            assert home.urls() == [service.url]
            (instance,) = home.resolver.live()
            assert instance.until <= home.here.sim.wall() + LEASE_S
            await asyncio.sleep(1)
        assert service.told == [True]


async def test_one_that_dies_is_listed_no_longer_than_its_lease() -> None:
    async with house() as home:
        one, other = await home.serve(2)
        await one.die()
        assert home.urls() == [one.url, other.url]
        await asyncio.sleep(LEASE_S)
        assert home.urls() == [other.url]
        newcomer = await home.here.start(server=False)
        assert await listed(newcomer, NAME, wall=home.here.sim.wall) == home.resolver.live()


async def test_one_that_is_not_healthy_is_withdrawn_at_the_next_check_and_comes_back() -> None:
    async with house() as home:
        (service,) = await home.serve()
        service.health = False
        await asyncio.sleep(BEAT_S + PUSHED_S)
        assert home.urls() == []
        service.health = True
        await asyncio.sleep(BEAT_S + PUSHED_S)
        assert home.urls() == [service.url]
        assert service.told == [True, False, True]


async def test_a_health_check_that_hangs_is_one_that_fails() -> None:
    async with house() as home:
        (service,) = await home.serve()
        service.health = None
        await asyncio.sleep(2 * BEAT_S + PUSHED_S)
        assert home.urls() == []


async def test_one_that_was_never_healthy_is_not_listed() -> None:
    async with house() as home:
        service = Service(home.here, home.client, 1)
        service.health = False
        service.start()
        await asyncio.sleep(LEASE_S)
        assert (home.urls(), service.told) == ([], [])
        await service.stop()


async def test_one_that_stops_is_withdrawn_at_once() -> None:
    async with house() as home:
        one, other = await home.serve(2)
        await one.stop()
        await asyncio.sleep(PUSHED_S)
        assert home.urls() == [other.url]


async def test_what_is_announced_after_a_withdrawal_is_as_short_lived() -> None:
    """Else its record would outlive it by the 13 days of a tombstone."""
    async with house() as home:
        (service,) = await home.serve()
        service.health = False
        await asyncio.sleep(BEAT_S + PUSHED_S)
        service.health = True
        await asyncio.sleep(BEAT_S + PUSHED_S)
        (entry,) = await collect(home.client.find(topic_of(NAME)))
        assert entry.expires <= home.here.sim.wall() + RECORD_TTL_S


async def test_one_that_is_cut_off_goes_on_trying() -> None:
    async with house() as home:
        (service,) = await home.serve()
        home.here.sim.unplug(service.node.address)
        await asyncio.sleep(4 * LEASE_S)
        assert home.urls() == []
        home.here.sim.plug(service.node.address)
        await asyncio.sleep(2 * LEASE_S)
        assert home.urls() == [service.url]


# --- Who is asked ---------------------------------------------------------------------------------


async def test_a_request_goes_to_another_instance_at_once_if_one_is_dead() -> None:
    async with house() as home:
        dead, alive = await home.serve(2)
        await dead.die()
        asked: list[str] = []

        async def ask(url: str) -> str:
            asked.append(url)
            if url == dead.url:
                raise Unreachable
            return url

        started = asyncio.get_running_loop().time()
        answers = [await home.resolver.call(ask) for _ in range(50)]
        assert answers == [alive.url] * 50
        assert asked.count(dead.url) == 1  # and then it is put aside
        assert asyncio.get_running_loop().time() == started


async def test_one_that_lives_is_asked_again_after_it_was_heard_of() -> None:
    async with house() as home:
        services = await home.serve(2)
        refused: list[str] = []

        async def refuse_once(url: str) -> str:
            if not refused:
                refused.append(url)
                raise Unreachable
            return url

        async def answer(url: str) -> str:
            return url

        await home.resolver.call(refuse_once)
        assert refused[0] not in {await home.resolver.call(answer) for _ in range(20)}
        await asyncio.sleep(BEAT_S + PUSHED_S)
        answers = {await home.resolver.call(answer) for _ in range(20)}
        assert answers == {service.url for service in services}


async def test_each_request_goes_to_one_that_has_less_to_do() -> None:
    async with house() as home:
        await home.serve(2)
        done, asked = asyncio.Event(), []

        async def ask(url: str) -> None:
            asked.append(url)
            await done.wait()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(home.resolver.call(ask))
            await asyncio.sleep(1)
            done.set()
        assert sorted(asked.count(url) for url in home.urls()) == [5, 5]


async def test_a_request_fails_when_nobody_is_known_or_nobody_answers() -> None:
    async def refuse(_: str) -> None:
        raise Unreachable

    async with house() as home:
        with pytest.raises(NoInstance, match="none is known") as raised:
            await home.resolver.call(refuse)
        assert raised.value.tried == 0
        await home.serve(3)
        with pytest.raises(NoInstance, match="none of 3") as raised:
            await home.resolver.call(refuse)
        assert raised.value.tried == 3


async def test_an_error_that_is_no_fault_of_the_instance_is_the_callers() -> None:
    async def ask(_: str) -> None:
        raise ZeroDivisionError

    async with house() as home:
        await home.serve()
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await home.resolver.call(ask)


async def test_a_first_instance_is_waited_for_but_not_for_ever() -> None:
    async with house() as home:
        assert not await home.resolver.has_instance(within_s=5)
        waiting = asyncio.create_task(home.resolver.has_instance(within_s=60))
        await home.serve()
        assert await waiting
