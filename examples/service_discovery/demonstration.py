"""Instances are killed at random while clients go on asking: what becomes of their requests.

Each instance is a process with a node of its own, so each kill takes a member of the network, too;
another one is started in its place. This process has one node more, which keeps nothing for others,
and whose clients go on asking for the length of a lease after the last kill. What counts as dead is
what was killed here: the clients know only what the network tells them.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from examples.service_discovery import web
from examples.service_discovery.resolving import NoInstance, Resolver, listed
from examples.service_discovery.station import Joining
from kademlia_node import Network, Node, SetupError, read_secret

NAME: Final = "demonstration"
NETWORK: Final = "demonstration"
START_S: Final = 60.0  # for a process on a busy machine
END_S: Final = 15.0  # then it is not asked any more
PAUSE_S: Final = 0.01  # of a caller between two requests
LISTING_S: Final = 0.5  # between two readings of the list
SPARED: Final = 2  # live at any time; of the latest one nobody may have heard yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to happen; times in seconds."""

    lasts_s: float = 120.0
    instances: int = 6
    callers: int = 8
    kill_every_s: float = 5.0
    lease_s: int = 15
    seed: int = 1


@dataclass(slots=True)
class Report:
    """What happened.

    Attributes:
        none_known: Requests that failed since no instance was known to live.
        readings: How often the list was read, as somebody does who comes new.
        handed_out_late: Times that a dead one was asked, or listed, though its lease had ended.
        listed_dead_s_max: How long after its end a dead one was still listed.
    """

    started: int = 0
    killed: int = 0
    requests: int = 0
    answered_at_once: int = 0
    answered_after_retry: int = 0
    failed: int = 0
    none_known: int = 0
    handed_out_late: int = 0
    readings: int = 0
    listed_dead_s_max: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    @property
    def failed_by_discovery(self) -> int:
        """What should be none: nobody was known, or somebody whose lease had ended."""
        return self.none_known + self.handed_out_late


@dataclass(slots=True, eq=False)
class Process:
    """An instance that has registered itself, and the invite of its node."""

    url: str
    invite: str
    process: asyncio.subprocess.Process


@dataclass(slots=True)
class House:
    """The processes of one demonstration, and when those that were killed died."""

    plan: Plan
    secret_file: Path
    report: Report = field(default_factory=Report)
    running: list[Process] = field(default_factory=list)
    died_at: dict[str, float] = field(default_factory=dict)  # by URL, on the loop's clock

    async def start(self) -> None:
        """One more instance, which joins through those that run; ends when it has registered."""
        command = [sys.executable, "-m", "examples.service_discovery", "serve", NAME]
        command += ["--secret-file", str(self.secret_file), "--network", NETWORK]
        command += ["--lease", str(self.plan.lease_s)]
        for one in self.running:
            command += ["--bootstrap", one.invite]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        line = b""
        try:
            async with asyncio.timeout(START_S):
                line = await process.stdout.readline()
        finally:
            if not line:
                process.kill()
                await process.wait()
        if not line:
            raise SetupError("an instance could not be started; what it said stands above")
        url, invite = line.decode().split()
        self.report.started += 1
        self.died_at.pop(url, None)  # its port was that of a dead one
        self.running.append(Process(url, invite, process))

    async def kill(self, victim: Process) -> None:
        """SIGKILL: it withdraws nothing, and says goodbye to nobody."""
        self.running.remove(victim)
        victim.process.kill()
        await victim.process.wait()
        self.died_at[victim.url] = asyncio.get_running_loop().time()
        self.report.killed += 1

    def dead_s(self, url: str) -> float:
        """For how many seconds it has been dead; 0 if it lives."""
        now = asyncio.get_running_loop().time()
        return now - self.died_at.get(url, now)

    async def end(self) -> None:
        """All processes that are left stop, as they would at the end of a day."""
        for one in self.running:
            one.process.terminate()
        for one in self.running:
            try:
                await asyncio.wait_for(one.process.wait(), END_S)
            except TimeoutError:
                one.process.kill()
                await one.process.wait()


async def demonstrate(plan: Plan, *, say: Callable[[str], None]) -> Report:
    """Do it all; ends every process that it has started.

    Raises:
        SetupError: an instance could not be started.
    """
    rng, clock = random.Random(plan.seed), asyncio.get_running_loop().time  # noqa: S311 - no secret
    times_s: list[float] = []
    say(f"starting {plan.instances} instances")
    async with house(plan) as place, client_of(place) as (node, resolver):
        if not await resolver.has_instance(within_s=START_S):
            raise NoInstance(NAME, tried=0)
        say(f"killing one about every {plan.kill_every_s:g} s, for {plan.lasts_s:g} s")
        async with asyncio.TaskGroup() as tasks:
            asking = [
                tasks.create_task(_go_on_asking(place, resolver, times_s))
                for _ in range(plan.callers)
            ]
            asking.append(tasks.create_task(_go_on_listing(place, node)))
            await _kill_some(place, rng, until=clock() + plan.lasts_s)
            say(f"and asking for {plan.lease_s} s more, the length of a lease")
            await asyncio.sleep(plan.lease_s + 1)
            for task in asking:
                task.cancel()
    return _summed_up(place.report, times_s)


@asynccontextmanager
async def house(plan: Plan) -> AsyncIterator[House]:
    """A network with a secret of its own, and instances that run; none does afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        secret_file = Path(folder) / "secret"
        secret_file.touch(mode=0o600)
        secret_file.write_text(random.SystemRandom().randbytes(32).hex())
        place = House(plan, secret_file)
        try:
            await place.start()
            async with asyncio.TaskGroup() as starting:
                for _ in range(plan.instances - 1):
                    starting.create_task(place.start())
            yield place
        finally:
            await place.end()


@asynccontextmanager
async def client_of(place: House) -> AsyncIterator[tuple[Node, Resolver]]:
    """A node that keeps nothing for anybody: what it knows is from those who may be killed."""
    network = Network.private(read_secret(place.secret_file), name=NETWORK)
    joining = Joining(network, tuple(one.invite for one in place.running))
    async with joining.guest() as node, asyncio.TaskGroup() as tasks:
        resolver = Resolver(node, NAME)
        following = tasks.create_task(resolver.follow())
        try:
            yield node, resolver
        finally:
            following.cancel()


async def _kill_some(place: House, rng: random.Random, *, until: float) -> None:
    clock = asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as starting:
        while True:
            pause_s = rng.expovariate(1 / place.plan.kill_every_s)
            await asyncio.sleep(max(0.0, min(pause_s, until - clock())))
            if clock() >= until:
                return
            if len(place.running) > SPARED:
                await place.kill(rng.choice(place.running))
                starting.create_task(place.start())


async def _go_on_asking(place: House, resolver: Resolver, times_s: list[float]) -> None:
    """One request after the other, until cancelled."""
    clock, report = asyncio.get_running_loop().time, place.report
    async with aiohttp.ClientSession() as session:
        while True:
            asked: list[str] = []

            async def ask(url: str, asked: list[str] = asked) -> str:
                report.handed_out_late += place.dead_s(url) > place.plan.lease_s
                asked.append(url)
                return await web.fetch(session, url)

            started = clock()
            try:
                await resolver.call(ask)
            except NoInstance as error:
                report.none_known += not error.tried
                report.failed += error.tried > 0
            else:
                report.answered_at_once += len(asked) == 1
                report.answered_after_retry += len(asked) > 1
            report.requests += 1
            times_s.append(clock() - started)
            await asyncio.sleep(PAUSE_S)


async def _go_on_listing(place: House, node: Node) -> None:
    """Read the list again and again, which knows nothing of who did not answer."""
    report = place.report
    while True:
        found = await listed(node, NAME)
        report.readings += 1
        report.none_known += not found
        for dead_s in (place.dead_s(one.url) for one in found):
            report.handed_out_late += dead_s > place.plan.lease_s
            report.listed_dead_s_max = max(report.listed_dead_s_max, round(dead_s, 1))
        await asyncio.sleep(LISTING_S)


def _summed_up(report: Report, times_s: list[float]) -> Report:
    times_s.sort()
    report.p50_ms, report.p99_ms = (
        round(1000 * times_s[int(share * (len(times_s) - 1))], 1) for share in (0.50, 0.99)
    )
    return report
