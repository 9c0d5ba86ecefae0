from __future__ import annotations

import asyncio
import random
from collections.abc import Collection

import pytest

from kademlia_node import Node, ValueTooLarge
from kademlia_node.errors import NoAnswer
from kademlia_node.sim import FixedLatency, Swarm, run
from kademlia_node.sim.chaos import BRISK
from kademlia_node.sim.invariants import Inspector
from kademlia_node.sim.rules import Violation
from kademlia_node.sim.workload import CROWD, LONG_BYTES_MAX, SHORT_BYTES_MAX, Workload

LAN = FixedLatency(0.02)
MINUTES_S = 300.0
VERBS = {
    "put",
    "set",
    "set_own",
    "swap",
    "announce",
    "withdraw",
    "retract",
    "get",
    "lookup",
    "crowd",
}
CROWDING = {"enter", "find"}  # what a crowd consists of


def swarm_of(nodes: int = 10) -> Swarm:
    return Swarm(nodes=nodes, seed=1, latency=LAN, settings=BRISK)


def work_in(
    swarm: Swarm,
    inspector: Inspector | None = None,
    *,
    seed: int = 3,
    writers: Collection[int] = range(10),
) -> Workload:
    inspector = inspector or inspector_of(swarm)
    return Workload(swarm, inspector, rng=random.Random(seed), writers=writers, every_s=2.0)


def inspector_of(swarm: Swarm) -> Inspector:
    return Inspector(swarm, rng=random.Random(2))


async def test_in_a_healthy_swarm_every_verb_is_done_and_none_fails() -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        work = work_in(swarm, inspector)
        await work.run(MINUTES_S)
        await inspector.look()
        assert await inspector.oracle.check(swarm.nodes[0]) == []
    assert set(work.done) == VERBS | CROWDING
    assert work.done["find"] == work.done["crowd"] == work.done["enter"] / CROWD
    assert not work.failed
    expected = MINUTES_S / 2.0
    drawn = sum(work.done[verb] for verb in VERBS)
    assert abs(drawn - expected) < 3 * expected**0.5


def test_equal_seeds_are_equal_days() -> None:
    async def digest(seed: int) -> str:
        async with swarm_of() as swarm:
            await work_in(swarm, seed=seed).run(60.0)
            return swarm.network.trace_digest()

    assert run(digest(3)) == run(digest(3)) != run(digest(4))


async def test_only_writers_write_and_everybody_reads() -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        await work_in(swarm, inspector, writers=(2, 5)).run(MINUTES_S)
        oracle = inspector.oracle
        told = [event.text.split() for event in swarm.diary.between(0.0, float("inf"))]
    wrote = [write.writer.number for item in oracle.items for write in oracle.writes(item)]
    assert set(wrote) == {2, 5}
    readers = {int(words[1].rstrip(":")) for words in told if words[2] in {"get", "lookup"}}
    assert len(readers) > 5


async def test_without_a_writer_who_runs_nothing_is_written() -> None:
    async with swarm_of() as swarm:
        work = work_in(swarm, writers=(4,))
        await swarm.stop(swarm.nodes[4])
        await work.run(MINUTES_S)
        assert set(work.done) == {"get", "lookup"}
        for node in swarm.alive:
            await swarm.stop(node)
        before = work.done.total()
        await work.run(MINUTES_S)
    assert work.done.total() == before
    assert not work.failed


async def test_values_are_short_and_long_and_never_written_twice() -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        await work_in(swarm, inspector).run(MINUTES_S)
        oracle = inspector.oracle
    written = [write.value for item in oracle.items for write in oracle.writes(item)]
    values = [value for value in written if value is not None]
    assert len(values) == len(set(values)) > 50
    longer = [value for value in values if len(value) > SHORT_BYTES_MAX + 10]
    assert 0 < len(longer) < len(values) / 4
    assert max(map(len, longer)) <= LONG_BYTES_MAX + 10


async def test_what_is_under_way_at_the_end_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    async def last(_node: Node, _value: bytes) -> None:
        await asyncio.sleep(100.0)
        raise NoAnswer("late")

    monkeypatch.setattr(Node, "put", last)
    async with swarm_of() as swarm:
        work, began = work_in(swarm), asyncio.get_running_loop().time()
        await work.run(MINUTES_S)
        assert 0.0 < asyncio.get_running_loop().time() - began - MINUTES_S < 100.0
        assert len(asyncio.all_tasks()) > 1  # those of the nodes
    assert work.failed["put: NoAnswer"] > 5


# --- What goes wrong ------------------------------------------------------------------------------


async def test_documented_errors_are_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_node: Node, _value: bytes) -> None:
        raise NoAnswer("nobody is at home")

    monkeypatch.setattr(Node, "put", refuse)
    async with swarm_of() as swarm:
        work = work_in(swarm)
        await work.run(MINUTES_S)
        told = [event.text for event in swarm.diary.between(0.0, float("inf"))]
    assert set(work.failed) == {"put: NoAnswer"}
    assert set(work.done) == VERBS - {"put"} | CROWDING
    fails = [text for text in told if text.endswith(": put fails: nobody is at home")]
    assert len(fails) == work.failed.total() > 5


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        (ZeroDivisionError("by zero"), r"^8\. .*: node \d: get: ZeroDivisionError\('by zero'\)"),
        (TimeoutError(), r"^8\. unexpected error: node \d: get: TimeoutError\(\)"),
    ],
)
async def test_any_other_exception_breaks_rule_7(
    monkeypatch: pytest.MonkeyPatch, error: Exception, rule: str
) -> None:
    async def break_down(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Node, "get", break_down)
    async with swarm_of() as swarm:
        with pytest.raises(ExceptionGroup) as told:
            await work_in(swarm).run(MINUTES_S)
    [violation] = told.value.exceptions
    assert isinstance(violation, Violation)
    assert violation.__cause__ is error
    assert told.group_contains(Violation, match=rule)


async def test_a_violation_comes_out_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def invent(*_: object, **__: object) -> bytes:
        return b"a value that nobody wrote"

    monkeypatch.setattr(Node, "get", invent)
    async with swarm_of() as swarm:
        with pytest.raises(ExceptionGroup) as told:
            await work_in(swarm).run(MINUTES_S)
    assert told.group_contains(Violation, match=r"^2\. ")


async def test_a_value_that_is_too_large_is_our_own_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(_node: Node, _value: bytes) -> None:
        raise ValueTooLarge

    monkeypatch.setattr(Node, "put", refuse)
    async with swarm_of() as swarm:
        with pytest.raises(ExceptionGroup) as told:
            await work_in(swarm).run(MINUTES_S)
    assert told.group_contains(ValueTooLarge)
