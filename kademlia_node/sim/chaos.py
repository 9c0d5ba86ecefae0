"""A run in two phases: everything goes wrong while nothing may be false; then all must be well.

A `Scenario` says what goes wrong; the same scenario is the same run. In the chaos phase nodes come
and go, the network loses and delays, clocks leap, disks forget and fail, limits are tiny, attackers
are at work, and users read and write: `sim.invariants` hold throughout. Then all of that ends,
everybody comes back, and within `HEAL_MAX_S`

- every node's lookup finds exactly the nodes closest to its target,
- every acknowledged record is found, and what was withdrawn or has expired is not,
- who writes gets as many replicas as the network wants, and others read it;

and when all nodes have stopped, no task is left.

    outcome = run_scenario(Scenario(seed=7, hours=0.2, attack=Attack.FORGET))
    print(outcome.violation or "all is well")
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from kademlia_node.errors import KademliaError
from kademlia_node.node.node import Node
from kademlia_node.rare import Rare, counted
from kademlia_node.settings import Settings
from kademlia_node.sim.attack import Assault, Attack, launch
from kademlia_node.sim.clock import run
from kademlia_node.sim.faults import NETWORK_KINDS, Fault, FaultKind, apply, plan
from kademlia_node.sim.invariants import Violation, Watch
from kademlia_node.sim.latency import LATENCIES
from kademlia_node.sim.logged import no_errors_logged
from kademlia_node.sim.shrink import shrunk
from kademlia_node.sim.store import FaultyStore
from kademlia_node.sim.swarm import Swarm
from kademlia_node.sim.workload import Workload

HOUR_S: Final = 3600.0
LOOK_EVERY_S: Final = 20.0  # safety is looked at so often, and after every operation
HEAL_MIN_S: Final = 160.0  # then everything was renewed: a partition's writes find their places
HEAL_EVERY_S: Final = 120.0  # between two looks at liveness, which cost more than all before
LOOKUP_EVERY_S: Final = 1.0  # in such a look: tiny limits on handshakes are limits per second
HEAL_MAX_S: Final = 900.0  # seven renewals
READERS: Final = 2
STORY_S: Final = 60.0  # of the timeline, before a violation
COMMIT_EVERY: Final = (1, 1, 4, 32)  # half of the swarms have disks that forget nothing
DISK_FAILURES_MAX: Final = 20  # of one disk in a run
DISK_OPERATIONS: Final = 2000  # among so many
LOST_DISKS: Final = 0.1  # share of the crashes
ATTACKERS: Final = 0.2  # of the nodes
ATTACK_AFTER: Final = 0.25  # of the chaos phase, when there is something to attack
AIMED: Final = frozenset({Attack.SYBIL_HIDE, Attack.SYBIL_LIE})  # at a record, the others at all
STRIKES_PER_S: Final = 2.0  # of each attacker; more is for those who study one attack

# Renewals so frequent that they are part of every run, and of its healing.
BRISK: Final = Settings(renew_after_s=120.0, renew_every_s=10.0, renew_retry_s=30.0)

Progress = Callable[[float], None]
"""Is told the virtual seconds of the run so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What goes wrong, and for how long; all chance comes from the seed.

    Attributes:
        seed: Equal seeds, equal runs.
        nodes: How many honest ones; at least 8.
        hours: Length of the chaos phase, in virtual hours.
        loss: Share of the datagrams lost throughout that phase, beside the faults.
        churn_s: Mean length of a session in seconds; 0 for no churn.
        attack: What a fifth as many attackers do; None for no attackers.
        latency: A name of `LATENCIES`.
        faults: Whether partitions, slow and silent peers, leaping clocks and the like are drawn.
        disks: Whether disks fail now and then, and forget in a crash what they had not committed.
        tiny: Whether a random half of the limits is tiny (`sim.shrink`).
        every_s: Mean pause between two operations, in seconds.
    """

    seed: int
    nodes: int = 20
    hours: float = 0.06
    loss: float = 0.0
    churn_s: float = 300.0
    attack: Attack | None = None
    latency: str = "k"
    faults: bool = True
    disks: bool = True
    tiny: bool = True
    every_s: float = 4.0

    @classmethod
    def drawn(cls, seed: int, *, nodes: int = 20, hours: float = 0.06) -> Scenario:
        """One of a campaign: the seed decides what goes wrong, too."""
        rng = random.Random(f"scenario {seed}")
        return cls(
            seed=seed,
            nodes=nodes,
            hours=hours,
            loss=rng.choice((0.0, 0.0, 0.02, 0.1)),
            churn_s=rng.choice((0.0, 120.0, 300.0, 900.0)),
            attack=rng.choice((None, *Attack)),
            latency=rng.choice(list(LATENCIES)),
            faults=rng.random() < 0.75,
            disks=rng.random() < 0.5,
            tiny=rng.random() < 0.75,
        )


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a scenario.

    Attributes:
        scenario: Which.
        digest: Of every delivery; empty if the run ended by a violation.
        violation: The rule that was broken and how; None if all was well.
        story: What happened around the violation, a line each.
        healed_after_s: Virtual seconds from the end of the chaos until all was well.
        virtual_s: Length of the run.
        datagrams: Sent in all.
        done: Operations that succeeded, by verb.
        failed: Those that did not, by verb and error.
        rare: How often each rare path was taken.
    """

    scenario: Scenario
    digest: str = ""
    violation: str | None = None
    story: Sequence[str] = ()
    healed_after_s: float = 0.0
    virtual_s: float = 0.0
    datagrams: int = 0
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    rare: Counter[Rare] = field(default_factory=Counter)


def run_scenario(scenario: Scenario, *, on_progress: Progress = lambda _: None) -> Outcome:
    """Run it on a loop of its own, from the first node to the last task."""
    assert scenario.nodes >= 8, "half of them may be cut off, and the rest has to keep records"
    with counted() as rare, no_errors_logged() as logged:
        chaos = Chaos(scenario, on_progress=on_progress, complaints=logged)
        outcome = run(chaos.run())
        outcome.rare = rare
    return outcome


class Chaos:
    """One run; see `run_scenario`.

    Args:
        scenario: What goes wrong.
        on_progress: Is told now and then.
        complaints: Grows by a line for every error that a node logs.
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
        self._settings = settings
        self._watch = Watch(
            self._swarm,
            settings=settings,
            rng=self._fresh_rng(),
            strangers_write=scenario.attack is not None,
        )
        numbers = range(scenario.nodes)
        self._writers = frozenset(self._rng.sample(numbers, scenario.nodes // 2))
        self._work = Workload(
            self._swarm,
            self._watch,
            rng=self._fresh_rng(),
            writers=self._writers,
            every_s=scenario.every_s,
        )
        self._assault: Assault | None = None
        self._outcome = Outcome(scenario=scenario, done=self._work.done, failed=self._work.failed)

    async def run(self) -> Outcome:
        """From the first node to the last task; a violation ends it early, and is told."""
        outcome, loop = self._outcome, asyncio.get_running_loop()
        try:
            async with self._swarm:
                await self._rage()
                await self._calm_down()
                outcome.healed_after_s = await self._wait_until_well()
            self._check_what_is_left()
            outcome.digest = self._swarm.network.trace_digest()
        except* Violation as broken:
            first = _first(broken)
            outcome.violation = str(first)
            events = self._swarm.diary.between(first.at_s - STORY_S, first.at_s)
            outcome.story = [*map(str, events), f"{first.at_s:10.3f} s  VIOLATION {first}"]
        outcome.virtual_s = loop.time()
        outcome.datagrams = self._swarm.network.sent.datagrams
        return outcome

    # --- Chaos ------------------------------------------------------------------------------------

    async def _rage(self) -> None:
        duration_s = self._scenario.hours * HOUR_S
        self._break_disks()
        self._swarm.network.loss = self._scenario.loss
        async with AsyncExitStack() as ending:
            await ending.enter_async_context(self._watched())
            if self._scenario.churn_s > 0.0:
                churn = self._swarm.churn(
                    mean_session_s=self._scenario.churn_s,
                    mean_absence_s=self._scenario.churn_s / 6,
                    loss_share=LOST_DISKS if self._scenario.disks else 0.0,
                )
                await ending.enter_async_context(churn)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._work.run(duration_s))
                if self._scenario.faults:
                    tasks.create_task(self._break_network(duration_s))
                if self._scenario.attack is not None:
                    after_s = ATTACK_AFTER * duration_s
                    tasks.create_task(self._attack(self._scenario.attack, after_s=after_s))

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
        if self._complaints:
            raise Violation("7. unexpected error", self._complaints[0])
        await self._watch.look()

    async def _attack(self, attack: Attack, *, after_s: float) -> None:
        """Let attackers in; Sybils gather around something that was written."""
        count = max(1, int(ATTACKERS * self._scenario.nodes))
        rng = self._fresh_rng()
        await asyncio.sleep(after_s)
        items = self._watch.oracle.items
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
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(apply(swarm.network, faults, clocks=clocks))
            for fault in faults:
                tasks.create_task(self._tell(fault))

    async def _tell(self, fault: Fault) -> None:
        await asyncio.sleep(fault.start_s)
        self._swarm.diary.note(f"begins: {fault}")
        await asyncio.sleep(fault.end_s - fault.start_s)
        self._swarm.diary.note(f"ends: {fault}")

    def _break_disks(self) -> None:
        for store in self._disks():
            count = self._rng.randint(0, DISK_FAILURES_MAX)
            store.fails_at = frozenset(self._rng.sample(range(1, DISK_OPERATIONS), count))

    def _disks(self) -> list[FaultyStore]:
        stores = [self._swarm.machine(node).store for node in self._swarm.nodes]
        return [store for store in stores if isinstance(store, FaultyStore)]

    # --- Healing ----------------------------------------------------------------------------------

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

    async def _wait_until_well(self) -> float:
        """How long it took, in seconds; raises Violation when it takes too long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(HEAL_MIN_S)
        while True:
            await self._look()
            ills = await self._ills()
            if not ills:
                await self._look()  # reading and mending has come up to something, too
                return loop.time() - began
            for ill in ills:
                self._swarm.diary.note(f"not well: {ill}")
            if loop.time() - began >= HEAL_MAX_S:
                raise Violation("8. not healed", f"after {HEAL_MAX_S:.0f} s: {ills[0]}")
            await asyncio.sleep(HEAL_EVERY_S)

    async def _ills(self) -> list[str]:
        """What is not well yet; nobody looks at more than the first kind of it."""
        nodes = self._swarm.alive
        ills = []
        for node in nodes:
            if (ill := await self._lost_in_a_lookup(node)) is not None:
                ills.append(ill)
            await asyncio.sleep(LOOKUP_EVERY_S)
        if ills:
            return ills
        for reader in self._rng.sample(nodes, READERS):
            ills += await self._watch.oracle.check(reader)
        return ills or await self._cannot_write(*self._rng.sample(nodes, 2))

    async def _lost_in_a_lookup(self, node: Node) -> str | None:
        target, k = self._rng.randbytes(32), self._settings.k
        found, trace = await node.lookup(target)
        truth = [c for c in self._swarm.true_closest(target, k + 1) if c.id != node.id][:k]
        if found == truth:
            return None
        missed = [self._swarm.machine(c).number for c in truth if c not in found]
        number = self._swarm.machine(node).number
        return f"node {number} looks up {target.hex()[:8]}, missing {missed}: {trace.summary()}"

    async def _cannot_write(self, writer: Node, reader: Node) -> list[str]:
        value = self._rng.randbytes(40)
        try:
            receipt = await self._watch.oracle.put(writer, value)
            if await reader.get(receipt.key) != value:
                return [f"a fresh blob is another one: {receipt.summary()}"]
        except KademliaError as error:
            return [f"a fresh blob: {error}"]
        if len(receipt.replicas) < receipt.copies:
            return [f"a fresh blob has {receipt.summary()}"]
        return []

    def _check_what_is_left(self) -> None:
        here = asyncio.current_task()
        left = sorted(repr(task) for task in asyncio.all_tasks() if task is not here)
        if left:
            raise Violation("9. leaked task", left[0])
        if self._complaints:
            raise Violation("7. unexpected error", self._complaints[0])

    def _fresh_rng(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))


def _first(broken: BaseExceptionGroup[Violation]) -> Violation:
    """The earliest of them."""
    found = [
        _first(error) if isinstance(error, BaseExceptionGroup) else error
        for error in broken.exceptions
    ]
    return min(found, key=lambda violation: violation.at_s)
