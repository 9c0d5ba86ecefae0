"""A run in two phases: everything goes wrong while nothing may be false; then all must be well.

A `Scenario` says what goes wrong; the same scenario is the same run. In the chaos phase nodes come
and go, the network loses and delays, clocks leap, disks forget and fail, limits are tiny, attackers
are at work, and users read and write, while `sim.invariants` are looked at. Then all of that ends,
everybody comes back, and the network has to heal (`sim.healing`); and when all nodes have stopped,
no task may be left. `sim.rules` lists what is demanded.

    result = run_scenario(Scenario(seed=7, hours=0.2, attack=Attack.FORGET))
    print(result.violation or "all is well")
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from kademlia_node.rare import counted
from kademlia_node.settings import Settings
from kademlia_node.sim.attack import Assault, Attack, launch
from kademlia_node.sim.clock import run
from kademlia_node.sim.faults import NETWORK_KINDS, Fault, FaultKind, apply, plan
from kademlia_node.sim.healing import heal
from kademlia_node.sim.invariants import Inspector
from kademlia_node.sim.latency import LATENCIES
from kademlia_node.sim.logged import no_errors_logged
from kademlia_node.sim.onlookers import Onlookers
from kademlia_node.sim.rules import Rule, Violation
from kademlia_node.sim.scenario import Result, Scenario
from kademlia_node.sim.shrink import shrunk
from kademlia_node.sim.store import FaultyStore
from kademlia_node.sim.swarm import Swarm
from kademlia_node.sim.workload import CROWDED, Workload

HOUR_S: Final = 3600.0
LOOK_EVERY_S: Final = 20.0  # safety is looked at so often, and after every operation
STORY_S: Final = 60.0  # told of what was before a violation
COMMIT_EVERY: Final = (1, 1, 4, 32)  # half of the swarms have disks that forget nothing
DISK_FAILURES_MAX: Final = 20  # of one disk in a run
DISK_OPERATIONS: Final = 2000  # among so many
LOST_DISKS: Final = 0.1  # share of the crashes
LEAVERS: Final = 0.3  # of those who do not crash: they leave for good, and come back
ATTACKERS: Final = 0.2  # of the nodes
ATTACK_AFTER: Final = 0.25  # of the chaos phase, when there is something to attack
AIMED: Final = frozenset({Attack.SYBIL_HIDE, Attack.SYBIL_LIE})  # around one of the records
WATCHED: Final = (CROWDED, CROWDED, "topic 0")  # by one each: two want room at the same nodes
STRIKES_PER_S: Final = 2.0  # of each attacker: the run is about all faults, not about one flood

# Renewals so frequent that they are part of every run, and of its healing.
BRISK: Final = Settings(renew_after_s=90.0, renew_every_s=10.0, renew_retry_s=30.0)

Progress = Callable[[float], None]
"""Is told the virtual seconds of the run so far."""


def run_scenario(scenario: Scenario, *, on_progress: Progress = lambda _: None) -> Result:
    """Run it on a loop of its own, from the first node to the last task; tell what is raised.

    Args:
        scenario: What goes wrong.
        on_progress: Is told now and then.
    """
    with counted() as rare, no_errors_logged() as logged:
        chaos = Chaos(scenario, on_progress=on_progress, complaints=logged)
        try:
            run(chaos.run())
        except Exception as error:  # noqa: BLE001 - a seed whose failure is not told is lost
            chaos.tell(error)
        chaos.result.rare = rare
    return chaos.result


class Chaos:
    """One run; see `run_scenario`.

    Args:
        scenario: What goes wrong.
        on_progress: Is told now and then.
        complaints: Grows by a line for every error that a node logs.

    Attributes:
        result: What has come of it so far.
    """

    def __init__(
        self, scenario: Scenario, *, on_progress: Progress, complaints: Sequence[str]
    ) -> None:
        self._scenario = scenario
        self._on_progress = on_progress
        self._complaints = complaints
        self._rng = random.Random(f"chaos {scenario.seed}")
        settings = shrunk(self._rng, BRISK) if scenario.tiny else BRISK
        commit_every = self._rng.choice(COMMIT_EVERY)
        self._swarm = Swarm(
            nodes=scenario.nodes,
            seed=scenario.seed,
            settings=settings,
            commit_every=commit_every if scenario.disks else None,
            latency=LATENCIES[scenario.latency](scenario.seed),
        )
        self._swarm.network.refuses = bool(scenario.seed % 2)  # or hosts die with their daemons
        self._inspector = Inspector(self._swarm, rng=self._fresh_rng())
        numbers = range(scenario.nodes)
        self._writers = frozenset(self._rng.sample(numbers, scenario.nodes // 2))
        self._work = Workload(
            self._swarm,
            self._inspector,
            rng=self._fresh_rng(),
            writers=self._writers,
            every_s=scenario.every_s,
        )
        self._onlookers = Onlookers(
            self._swarm, self._inspector, rng=self._fresh_rng(), topics=WATCHED
        )
        self._assault: Assault | None = None
        self._in_force: list[str] = []  # faults
        self.result = Result(scenario=scenario, done=self._work.done, failed=self._work.failed)

    async def run(self) -> None:
        """From the first node to the last task; raises what goes wrong, alone or in a group."""
        result, loop = self.result, asyncio.get_running_loop()
        try:
            async with self._swarm, self._onlookers.looking():
                await self._rage()
                await self._calm_down()
                result.healed_after_s = await heal(
                    self._swarm,
                    self._inspector.oracle,
                    rng=self._fresh_rng(),
                    on_look=self._look,
                    others=[one.ill for one in self._onlookers.all],
                )
                await self._look()  # reading and mending has come up to something, too
            self._check_what_is_left()
            result.digest = self._swarm.network.trace_digest()
        finally:
            result.virtual_s = loop.time()
            result.datagrams = self._swarm.network.sent.datagrams

    def tell(self, error: Exception) -> None:
        """Note in the result what was raised, and what happened before."""
        raised = list(_leaves(error))
        broken = [one for one in raised if isinstance(one, Violation)]
        at_s, lines = self.result.virtual_s, []
        if broken:
            first = min(broken, key=lambda violation: violation.at_s)
            at_s, text = first.at_s, str(first)
            lines = [f"{'':14}which must not be: {first.rule.sentence}"]
        else:
            rule = Rule.UNEXPECTED_ERROR
            text = f"{rule.number}. {rule.title}: {raised[0]!r}"
            lines = [line.rstrip() for line in traceback.format_exception(raised[0])]
        events = map(str, self._swarm.diary.between(at_s - STORY_S, at_s))
        self.result.violation = text
        self.result.story = [*events, f"{at_s:10.3f} s  VIOLATION {text}", *lines]

    # --- Chaos ------------------------------------------------------------------------------------

    async def _rage(self) -> None:
        scenario, duration_s = self._scenario, self._scenario.hours * HOUR_S
        self._break_disks()
        self._swarm.network.loss = scenario.loss
        async with AsyncExitStack() as ending:
            await ending.enter_async_context(self._watched())
            if scenario.churn_s > 0.0:
                churn = self._swarm.churn(
                    mean_session_s=scenario.churn_s,
                    mean_absence_s=scenario.churn_s / 6,
                    loss_share=LOST_DISKS if scenario.disks else 0.0,
                    leave_share=LEAVERS,
                )
                await ending.enter_async_context(churn)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._work.run(duration_s))
                if scenario.faults:
                    tasks.create_task(self._break_network(duration_s))
                if scenario.attack is not None:
                    after_s = ATTACK_AFTER * duration_s
                    tasks.create_task(self._attack(scenario.attack, after_s=after_s))

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Look at safety now and then for the length of the block."""

        async def look() -> None:
            while True:
                await self._look()
                await asyncio.sleep(LOOK_EVERY_S)

        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(look())
            yield
            looking.cancel()

    async def _look(self) -> None:
        self._on_progress(asyncio.get_running_loop().time())
        swarm = self._swarm
        here = [swarm.machine(node).number for node in swarm.alive]
        away = sorted(set(range(self._scenario.nodes)) - set(here))
        self._swarm.diary.note(f"down: {away}; in force: {'; '.join(self._in_force) or 'no fault'}")
        self._check_complaints()
        await self._inspector.look()

    async def _attack(self, attack: Attack, *, after_s: float) -> None:
        """Let attackers in; Sybils gather around something that was written."""
        count = max(1, int(ATTACKERS * self._scenario.nodes))
        rng = self._fresh_rng()
        await asyncio.sleep(after_s)
        items = self._inspector.oracle.items
        key = rng.choice(items).key if items and attack in AIMED else None
        self._assault = await launch(
            attack, self._swarm, count=count, rng=rng, target=key, rate_per_s=STRIKES_PER_S
        )

    async def _break_network(self, duration_s: float) -> None:
        """Apply a plan that is drawn for it, and write into the diary what it does when."""
        swarm, rng = self._swarm, self._fresh_rng()
        honest = swarm.nodes[: self._scenario.nodes]
        faults = plan(rng, duration_s, hosts=[node.address for node in honest], kinds=NETWORK_KINDS)
        others = [node for node in honest if swarm.machine(node).number not in self._writers]
        addresses = [node.address for node in others]
        faults += plan(rng, duration_s, hosts=addresses, kinds=[FaultKind.CLOCK])
        clocks = {node.address: swarm.machine(node).clock for node in others}
        names = {node.address: swarm.machine(node).number for node in honest}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(apply(swarm.network, faults, clocks=clocks))
            for fault in faults:
                group = sorted(names[address] for address in fault.group)
                tasks.create_task(self._tell_of(fault, f"{fault.title} {group or ''}".rstrip()))

    async def _tell_of(self, fault: Fault, text: str) -> None:
        await asyncio.sleep(fault.start_s)
        self._in_force.append(text)
        self._swarm.diary.note(f"begins: {text}")
        await asyncio.sleep(fault.end_s - fault.start_s)
        self._in_force.remove(text)
        self._swarm.diary.note(f"ends: {text}")

    def _break_disks(self) -> None:
        for store in self._disks():
            count = self._rng.randint(0, DISK_FAILURES_MAX)
            store.fails_at = frozenset(self._rng.sample(range(1, DISK_OPERATIONS), count))

    def _disks(self) -> list[FaultyStore]:
        stores = [self._swarm.machine(node).store for node in self._swarm.nodes]
        return [store for store in stores if isinstance(store, FaultyStore)]

    # --- Peace ------------------------------------------------------------------------------------

    async def _calm_down(self) -> None:
        """End what goes wrong, and bring everybody back."""
        self._swarm.diary.note("the chaos has ended")
        self._swarm.network.loss = 0.0
        if self._assault is not None:
            await self._assault.end()
        for store in self._disks():
            store.fails_at = frozenset()
        for node in list(self._swarm.nodes):
            machine = self._swarm.machine(node)
            if machine.up_since is None and not machine.is_hostile:
                await self._swarm.restart(node)

    def _check_what_is_left(self) -> None:
        here = asyncio.current_task()
        left = sorted(repr(task) for task in asyncio.all_tasks() if task is not here)
        if left:
            raise Violation(Rule.LEAKED_TASK, left[0])
        self._check_complaints()

    def _check_complaints(self) -> None:
        if self._complaints:
            raise Violation(Rule.UNEXPECTED_ERROR, self._complaints[0])

    def _fresh_rng(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """What was raised, out of all groups."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
