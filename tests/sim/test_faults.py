"""Plans of faults, what they do to a network, and the clocks that go wrong with it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from itertools import pairwise, permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.contact import Address
from kademlia_node.errors import KademliaError
from kademlia_node.net.transport import Receive
from kademlia_node.settings import Settings
from kademlia_node.sim import FixedLatency, SimNetwork, Swarm, run
from kademlia_node.sim.clocks import Clock
from kademlia_node.sim.faults import (
    ADDING,
    AMOUNTS,
    CHANCES,
    Fault,
    FaultKind,
    apply,
    plan,
    timeline,
)

HOSTS = [Address(f"1.0.{number}.1", 4000) for number in range(10)]
A, B, C = HOSTS[:3]
Pair = tuple[Address, Address]
EVERYONE: set[Pair] = set(permutations((A, B, C), 2))


def from_a(pairs: set[Pair]) -> set[Pair]:
    return {pair for pair in pairs if pair[0] == A}


def with_a(pairs: set[Pair]) -> set[Pair]:
    return {pair for pair in pairs if A in pair}


def quiet_network() -> SimNetwork:
    """Nothing goes wrong on it until a plan says so."""
    return SimNetwork(rng=Random(1), latency=FixedLatency(0.1), jitter_s=0.0)


async def who_hears_whom(sim: SimNetwork) -> set[Pair]:
    """Source and destination of what arrives among A, B and C within half a second."""
    heard: set[Pair] = set()

    def hears(destination: Address) -> Receive:
        def receive(_: bytes, source: Address) -> None:
            heard.add((source, destination))

        return receive

    ends = {at: await sim.listen(at.host, at.port, hears(at)) for at in (A, B, C)}
    for source, destination in sorted(EVERYONE):
        ends[source].send(b"hello", destination)
    await asyncio.sleep(0.5)
    for end in ends.values():
        await end.close()
    return heard


# --- Plans ----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), duration_s=st.floats(0.0, 3600.0), count=st.integers(2, 10))
def test_plan_keeps_to_its_time_and_its_hosts(seed: int, duration_s: float, count: int) -> None:
    faults = plan(Random(seed), duration_s, hosts=HOSTS[:count], kinds=FaultKind)
    assert faults == sorted(faults, key=lambda fault: fault.start_s)
    for fault in faults:
        assert 0.0 <= fault.start_s < fault.end_s <= duration_s
        assert len(set(fault.group)) == len(fault.group) <= count // 2
        assert bool(fault.group) == (fault.kind not in CHANCES)
        assert set(fault.group) <= set(HOSTS[:count])
        least, most = AMOUNTS.get(fault.kind, (0.0, 0.0))
        assert least <= fault.amount <= most
    for kind in FaultKind:
        ours = [fault for fault in faults if fault.kind is kind]
        assert all(earlier.end_s <= later.start_s for earlier, later in pairwise(ours))


def test_same_seed_draws_the_same_plan_and_another_seed_another() -> None:
    first = plan(Random(1), 3600.0, hosts=HOSTS)
    assert plan(Random(1), 3600.0, hosts=HOSTS) == first
    assert plan(Random(2), 3600.0, hosts=HOSTS) != first


def test_an_hour_has_faults_of_every_kind_but_clocks_only_on_request() -> None:
    kinds = {fault.kind for fault in plan(Random(1), 3600.0, hosts=HOSTS)}
    assert kinds == set(FaultKind) - {FaultKind.CLOCK}
    (only,) = {
        fault.kind for fault in plan(Random(1), 3600.0, hosts=HOSTS, kinds=[FaultKind.CLOCK])
    }
    assert only is FaultKind.CLOCK


def test_timeline_has_one_line_per_event_in_order_of_time() -> None:
    faults = [
        Fault(12.34, 60.0, FaultKind.LOSS, amount=0.125),
        Fault(1.0, 12.34, FaultKind.SLOW, amount=0.4, group=(A,)),
        Fault(60.0, 1000.0, FaultKind.PARTITION, group=tuple(HOSTS[:5])),
    ]
    group = "1.0.0.1:4000, 1.0.1.1:4000, 1.0.2.1:4000 and 2 more"
    assert timeline(faults).splitlines() == [
        "      1.0 s  begins  slow +0.4 s: 1.0.0.1:4000",
        "     12.3 s  ends    slow +0.4 s: 1.0.0.1:4000",
        "     12.3 s  begins  loss 12%",
        "     60.0 s  ends    loss 12%",
        f"     60.0 s  begins  partition: {group}",
        f"   1000.0 s  ends    partition: {group}",
    ]


def test_fault_that_ends_before_it_begins_or_hits_nobody_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="ends after"):
        Fault(5.0, 5.0, FaultKind.LOSS, amount=0.1)
    with pytest.raises(AssertionError, match="needs a group"):
        Fault(1.0, 5.0, FaultKind.SILENT)


# --- Applying them --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cut"),
    [
        (FaultKind.PARTITION, with_a(EVERYONE)),
        (FaultKind.CLOG, with_a(EVERYONE)),
        (FaultKind.UNPLUGGED, with_a(EVERYONE)),
        (FaultKind.ONE_WAY, from_a(EVERYONE)),
        (FaultKind.SILENT, from_a(EVERYONE)),
    ],
)
async def test_fault_of_a_group_lasts_from_its_start_to_its_end(
    kind: FaultKind, cut: set[Pair]
) -> None:
    sim = quiet_network()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(apply(sim, [Fault(1.0, 3.0, kind, group=(A,))]))
        assert await who_hears_whom(sim) == EVERYONE
        await asyncio.sleep(1.0)
        assert await who_hears_whom(sim) == EVERYONE - cut
        await asyncio.sleep(1.5)
        assert await who_hears_whom(sim) == EVERYONE


async def test_group_that_is_unplugged_is_alone_and_one_that_is_cut_off_is_not() -> None:
    alone, together = quiet_network(), quiet_network()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(apply(alone, [Fault(0.0, 1.0, FaultKind.UNPLUGGED, group=(A, B))]))
        tasks.create_task(apply(together, [Fault(0.0, 1.0, FaultKind.PARTITION, group=(A, B))]))
        await asyncio.sleep(0.1)
        assert await who_hears_whom(alone) == set()
        assert await who_hears_whom(together) == {(A, B), (B, A)}


async def test_end_of_a_fault_does_not_plug_in_what_was_unplugged_before() -> None:
    sim = quiet_network()
    sim.unplug(A)
    await apply(sim, [Fault(1.0, 2.0, FaultKind.UNPLUGGED, group=(A, B))])
    assert await who_hears_whom(sim) == EVERYONE - with_a(EVERYONE)


@pytest.mark.parametrize("kind", CHANCES)
async def test_chances_are_as_planned_and_then_as_before(kind: FaultKind) -> None:
    sim = quiet_network()
    setattr(sim, kind.value, 0.05)
    # The second begins at the very moment at which the first ends.
    faults = [Fault(2.0, 3.0, kind, amount=0.2), Fault(1.0, 2.0, kind, amount=0.1)]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(apply(sim, faults))
        seen = []
        for _ in range(4):
            await asyncio.sleep(0.9)
            seen.append(getattr(sim, kind.value))
    assert seen == pytest.approx([0.05, 0.145, 0.24, 0.05])  # beside what there is


async def test_slow_and_silent_hosts_of_the_user_stay_so() -> None:
    sim = quiet_network()
    sim.slow, sim.silent = {A: 0.5, B: 0.5}, {B}
    silent = Fault(1.0, 2.0, FaultKind.SILENT, group=(A, B))
    slow = Fault(1.0, 2.0, FaultKind.SLOW, amount=3.0, group=(A, C))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(apply(sim, [silent, slow]))
        await asyncio.sleep(1.5)
        assert (sim.slow, sim.silent) == ({A: 3.0, B: 0.5, C: 3.0}, {A, B})
    assert (sim.slow, sim.silent) == ({A: 0.5, B: 0.5}, {B})


async def test_whatever_is_on_when_it_is_cancelled_is_switched_off() -> None:
    sim = quiet_network()
    faults = [
        Fault(0.0, 100.0, FaultKind.LOSS, amount=1.0),
        Fault(0.0, 100.0, FaultKind.PARTITION, group=(A,)),
        Fault(5.0, 100.0, FaultKind.SILENT, group=(B,)),
    ]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(apply(sim, faults), 1.0)
    assert await who_hears_whom(sim) == EVERYONE
    await asyncio.sleep(10.0)
    assert await who_hears_whom(sim) == EVERYONE


@pytest.mark.parametrize("kind", FaultKind)
async def test_faults_of_one_kind_overlap_only_if_they_add_up(kind: FaultKind) -> None:
    sim, clocks = quiet_network(), {A: Clock(lambda: 0.0)}
    faults = [
        Fault(0.0, 10.0, kind, amount=0.1, group=(A,)),
        Fault(5.0, 15.0, kind, amount=0.1, group=(A,)),
    ]
    if kind in ADDING:
        await apply(sim, faults, clocks=clocks)
        assert await who_hears_whom(sim) == EVERYONE
    else:
        with pytest.raises(ValueError, match="overlap"):
            await apply(sim, faults, clocks=clocks)


async def test_a_swarm_in_chaos_is_whole_again_when_the_plan_is_over() -> None:
    async with Swarm(nodes=12, seed=3) as swarm:
        hosts = [node.address for node in swarm.nodes]
        faults = plan(Random(7), 200.0, hosts=hosts)
        written = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(apply(swarm.network, faults))
            for number, node in enumerate(swarm.nodes):
                try:
                    await node.set(f"n{number}", b"written in chaos")
                except KademliaError:
                    continue
                written.append(number)
                await asyncio.sleep(10.0)
        assert len(written) >= 6
        await asyncio.sleep(2 * Settings().strike_backoff_s)  # then the silent ones are asked again
        for number in written:
            reader = swarm.nodes[number - 1]
            assert await reader.get(f"n{number}") == b"written in chaos"


async def chaos(seed: int) -> str:
    async with Swarm(nodes=8, seed=seed) as swarm:
        hosts = [node.address for node in swarm.nodes]
        await apply(swarm.network, plan(Random(seed), 300.0, hosts=hosts))
        return swarm.network.trace_digest()


def test_one_seed_is_one_run_with_all_faults_on_whatever_the_hash_seed() -> None:
    program = f"from {__name__} import chaos, run; print(run(chaos(1)))"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True
    )
    assert other.stdout.decode().strip() == run(chaos(1)) != run(chaos(2))


# --- Clocks ---------------------------------------------------------------------------------------


def test_clock_is_wrong_by_its_offset_and_jumps() -> None:
    wall = 1000.0
    clock = Clock(lambda: wall, offset_s=-90.0)
    assert clock() == 910.0
    clock.jump(86400.0)
    assert clock() == 87310.0
    wall = 1001.0
    clock.jump(-86400.0)
    assert clock() == 911.0
    clock.offset_s = 0.0
    assert clock() == 1001.0


async def test_clocks_of_a_group_leap_and_leap_back() -> None:
    sim = quiet_network()
    clocks = {at: Clock(sim.wall, offset_s=5.0) for at in (A, B, C)}
    fault = Fault(1.0, 2.0, FaultKind.CLOCK, amount=-3600.0, group=(A, B))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(apply(sim, [fault], clocks=clocks))
        await asyncio.sleep(1.5)
        assert [clock.offset_s for clock in clocks.values()] == [-3595.0, -3595.0, 5.0]
    assert [clock.offset_s for clock in clocks.values()] == [5.0, 5.0, 5.0]


async def test_host_without_a_clock_cannot_be_given_a_wrong_one() -> None:
    sim = quiet_network()
    fault = Fault(1.0, 2.0, FaultKind.CLOCK, amount=60.0, group=(A, B))
    with pytest.raises(ValueError, match="no clock"):
        await apply(sim, [fault], clocks={A: Clock(sim.wall)})
