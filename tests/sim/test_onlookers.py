"""Users who watch: what they are told is judged, and what they do not know is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from kademlia_node import Node
from kademlia_node.core.feed import Change, ChangeKind, Feed
from kademlia_node.sim import FixedLatency, Swarm
from kademlia_node.sim.invariants import Inspector
from kademlia_node.sim.onlookers import Onlookers
from kademlia_node.sim.rules import Violation

LAN = FixedLatency(0.02)
TOPIC = "weather"


def onlookers_of(swarm: Swarm, inspector: Inspector, *topics: str) -> Onlookers:
    return Onlookers(swarm, inspector, rng=random.Random(4), topics=topics)


def inspector_of(swarm: Swarm) -> Inspector:
    return Inspector(swarm, rng=random.Random(2))


async def ills(onlookers: Onlookers) -> list[str | None]:
    return [await one.ill() for one in onlookers.all]


async def test_onlookers_come_to_know_what_is_written_and_withdrawn() -> None:
    async with Swarm(nodes=10, seed=1, latency=LAN) as swarm:
        inspector = inspector_of(swarm)
        async with onlookers_of(swarm, inspector, TOPIC, TOPIC, "else").looking() as onlookers:
            await inspector.oracle.announce(swarm.nodes[1], TOPIC, b"rain", slot="today")
            [first, second, other] = await ills(onlookers)
            assert (first, other) != (None, None)
            assert first is not None
            assert first.endswith("was told nothing of " + str(inspector.oracle.items[0]))
            assert second is not None
            await asyncio.sleep(5)
            assert await ills(onlookers) == [None, None, None]
            await inspector.oracle.retract(swarm.nodes[1], TOPIC, slot="today")
            [first, *_] = await ills(onlookers)
            assert first is not None
            assert "was told set with seq" in first
            await asyncio.sleep(5)
            assert await ills(onlookers) == [None, None, None]


async def test_an_onlooker_whose_node_has_gone_looks_on_with_the_next_one() -> None:
    async with Swarm(nodes=10, seed=1, latency=LAN) as swarm:
        inspector = inspector_of(swarm)
        async with onlookers_of(swarm, inspector, *[TOPIC] * 10).looking() as onlookers:
            await asyncio.sleep(5)
            gone = swarm.nodes[7]
            await swarm.crash(gone)
            await inspector.oracle.announce(swarm.nodes[1], TOPIC, b"rain")
            await asyncio.sleep(5)
            [ill] = [ill for ill in await ills(onlookers) if ill is not None]
            assert ill.startswith("node 7 watches 'weather'")
            await swarm.restart(gone)
            await asyncio.sleep(10)
            assert await ills(onlookers) == [None] * 10


async def test_an_onlooker_that_is_not_told_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Feed, "on_record", lambda *_, **__: False)
    async with Swarm(nodes=10, seed=1, latency=LAN) as swarm:
        inspector = inspector_of(swarm)
        async with onlookers_of(swarm, inspector, TOPIC).looking() as onlookers:
            await inspector.oracle.announce(swarm.nodes[1], TOPIC, b"rain")
            await asyncio.sleep(300)
            assert await ills(onlookers) != [None]


@pytest.mark.parametrize(
    ("values", "seqs", "rule"),
    [
        ([b"rain", b"rain"], [2, 1], r"^11\. told backwards: node \d was told seq 1 of .* after 2"),
        ([b"rain", b"rain"], [2, 2], r"^11\. "),
        ([b"what nobody wrote"], [1], r"^2\. "),
    ],
)
async def test_what_must_not_be_told_is_a_violation(
    values: list[bytes], seqs: list[int], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Swarm(nodes=4, seed=1, latency=LAN) as swarm:
        inspector, author = inspector_of(swarm), swarm.nodes[1].public_key

        async def tell(_node: Node, *_: Any) -> AsyncGenerator[Change, None]:
            for value, seq in zip(values, seqs, strict=True):
                yield Change(ChangeKind.SET, author, b"", value, seq, 0)

        await inspector.oracle.announce(swarm.nodes[1], TOPIC, b"rain")
        monkeypatch.setattr(Node, "watch", tell)
        with pytest.raises(ExceptionGroup) as told:
            async with onlookers_of(swarm, inspector, TOPIC).looking():
                await asyncio.sleep(5)
        assert told.group_contains(Violation, match=rule)


async def test_what_has_expired_may_be_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Swarm(nodes=4, seed=1, latency=LAN) as swarm:
        inspector, author = inspector_of(swarm), swarm.nodes[1].public_key

        async def tell(_node: Node, *_: Any) -> AsyncGenerator[Change, None]:
            for kind in (ChangeKind.SET, ChangeKind.EXPIRED, ChangeKind.SET):
                value = b"rain" if kind is ChangeKind.SET else None
                yield Change(kind, author, b"", value, 2, 0)
            await asyncio.sleep(9)

        await inspector.oracle.announce(swarm.nodes[1], TOPIC, b"rain")
        monkeypatch.setattr(Node, "watch", tell)
        async with onlookers_of(swarm, inspector, TOPIC).looking() as onlookers:
            await asyncio.sleep(5)
            assert await ills(onlookers) == [None]
