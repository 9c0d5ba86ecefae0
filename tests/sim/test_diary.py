from __future__ import annotations

import asyncio

import pytest

from kademlia_node.sim import FixedLatency, Swarm, diary
from kademlia_node.sim.diary import Diary, Event


async def test_what_happened_is_told_with_its_moment_in_order() -> None:
    log, began = Diary(), asyncio.get_running_loop().time()
    for text in ("first", "second", "third"):
        log.note(text)
        await asyncio.sleep(10.0)
    assert log.between(began, began + 30.0) == [
        Event(began, "first"),
        Event(began + 10.0, "second"),
        Event(began + 20.0, "third"),
    ]


async def test_both_ends_of_an_interval_belong_to_it() -> None:
    log, began = Diary(), asyncio.get_running_loop().time()
    for number in range(5):
        log.note(str(number))
        await asyncio.sleep(1.0)
    assert [event.text for event in log.between(began + 1.0, began + 3.0)] == ["1", "2", "3"]
    assert log.between(began + 4.1, began + 9.0) == []


def test_an_event_is_one_line_for_people() -> None:
    assert str(Event(1234.5678, "node 3 stops")) == "  1234.568 s  node 3 stops"


async def test_beyond_the_limit_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diary, "EVENTS_MAX", 3)
    log = Diary()
    for number in range(5):
        log.note(str(number))
    assert [event.text for event in log.between(0.0, float("inf"))] == ["2", "3", "4"]


async def test_a_swarm_tells_who_came_and_who_went() -> None:
    async with Swarm(nodes=3, seed=1, latency=FixedLatency(0.02)) as swarm:
        await swarm.stop(swarm.nodes[0])
        await swarm.crash(swarm.nodes[1])
        await swarm.restart(swarm.nodes[1])
        await swarm.crash(swarm.nodes[1], keep_store=False)
        told = [event.text for event in swarm.diary.between(0.0, float("inf"))]
    here = swarm.machine(swarm.nodes[1]).contact.address
    assert told[3:] == [
        "node 0 stops",
        "node 1 crashes and keeps its disk",
        f"node 1 has joined at {here}",
        "node 1 crashes and loses its disk",
    ]
