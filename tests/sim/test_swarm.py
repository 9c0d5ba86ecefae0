"""Many nodes at once: is what they find the truth, and is a run the same run every time?"""

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kademlia_node.sim
from kademlia_node import Address, Contact, Node, NotRunning
from kademlia_node.core.routing import RoutingTable
from kademlia_node.errors import NoAnswer
from kademlia_node.sim import FixedLatency, Swarm, survey
from kademlia_node.sim.survey import Judged, judged_lookup, summary
from kademlia_node.sim.swarm import REMAINS_MIN

ROOT = Path(__file__).parents[2]


LAN = FixedLatency(0.02)


def test_the_example_of_the_package_works() -> None:
    """It makes a loop of its own, so this is no coroutine."""
    document = kademlia_node.sim.__doc__ or ""
    indented = [line for line in document.splitlines() if not line or line.startswith("    ")]
    example = textwrap.dedent("\n".join(indented))
    assert "swarm.crash" in example
    exec(compile(example, "example", "exec"), {})


async def test_the_example_of_the_module_works() -> None:
    async with Swarm(nodes=20, seed=7) as swarm:
        await swarm.nodes[3].set("colour", b"blue")
        await swarm.crash(swarm.nodes[3])
        assert await swarm.nodes[17].get("colour") == b"blue"


def contact_of(node: Node) -> Contact:
    return Contact(node.public_key, node.address)


@pytest.mark.parametrize("bootstrap", [False, True])
async def test_a_node_starts_again_as_who_it_was_and_with_what_it_had(bootstrap: bool) -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        old = swarm.nodes[5]
        receipt = await old.put(b"value")
        assert old in await swarm.holders(receipt.key)
        await swarm.stop(old)
        assert old not in swarm.alive
        assert old not in await swarm.holders(receipt.key)
        assert contact_of(old) not in swarm.true_closest(old.id, 12)
        with pytest.raises(NotRunning):
            await old.get(receipt.key)

        new = await swarm.restart(old, bootstrap=bootstrap)
        assert new is swarm.nodes[5] is swarm.alive[5] is not old
        assert contact_of(new) == contact_of(old) == swarm.true_closest(new.id, 1)[0]
        assert new in await swarm.holders(receipt.key)
        assert [published.record.value async for published in new.publications()] == [b"value"]
        assert await new.get(receipt.key) == b"value"


@pytest.mark.parametrize(("keep_store", "hints"), [(False, 1), (True, 11)])
async def test_a_restart_knocks_at_all_it_remembers_or_else_at_one_member(
    keep_store: bool, hints: int
) -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        here, *others = swarm.nodes
        await swarm.crash(here, keep_store=keep_store)
        swarm.network.partition([here.address], [node.address for node in others])
        knocked: set[Address] = set()
        swarm.network.taps.append(lambda _, destination, __: knocked.add(destination))
        new = await swarm.restart(here)
        assert new.contacts() == []
        assert len(knocked) == hints


async def test_a_crash_says_nothing_and_can_cost_the_store() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        receipt = await swarm.nodes[5].put(b"value")
        sent_by: list[object] = []
        swarm.network.taps.append(lambda source, *_: sent_by.append(source))
        there = swarm.nodes[5].address
        await swarm.crash(swarm.nodes[5], keep_store=False)
        assert there not in sent_by
        new = await swarm.restart(swarm.nodes[5])
        assert new not in await swarm.held(receipt.key)
        assert [published async for published in new.publications()] == []
        assert await new.get(receipt.key) == b"value"  # from the others


async def test_a_crash_in_the_middle_of_a_lookup_says_nothing_more() -> None:
    async with Swarm(nodes=30, seed=1, latency=LAN) as swarm:
        node, there = swarm.nodes[5], swarm.nodes[5].address
        sent_by: list[object] = []
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(node.lookup(bytes(32)))
            await asyncio.sleep(0.03)
            swarm.network.taps.append(lambda source, *_: sent_by.append(source))
            await swarm.crash(node)
        assert looking.done()
        assert there not in sent_by


async def test_a_whole_swarm_comes_back_through_the_peers_it_remembers() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        receipt = await swarm.nodes[5].put(b"value")
        for node in swarm.nodes:
            await swarm.stop(node)
        assert swarm.alive == []
        for node in list(swarm.nodes):
            await swarm.restart(node)
        assert swarm.alive == swarm.nodes
        await asyncio.sleep(60)
        assert await swarm.nodes[0].get(receipt.key) == b"value"
        assert len(swarm.nodes[0].contacts()) == 11


async def test_the_swarm_can_grow_after_everybody_has_gone() -> None:
    async with Swarm(nodes=2, seed=1, latency=LAN) as swarm:
        for node in swarm.nodes:
            await swarm.stop(node)
        born = await swarm.grow(3)
        assert swarm.alive == born == swarm.nodes[2:]
        assert len(born[0].contacts()) == 2


async def test_only_what_runs_can_end_and_only_what_has_ended_can_restart() -> None:
    async with Swarm(nodes=3, seed=1, latency=LAN) as swarm:
        with pytest.raises(AssertionError, match="node 1 has not ended"):
            await swarm.restart(swarm.nodes[1])
        await swarm.stop(swarm.nodes[1])
        for end in (swarm.stop, swarm.crash):
            with pytest.raises(AssertionError, match="node 1 does not run"):
                await end(swarm.nodes[1])


async def test_a_restart_that_is_cancelled_can_be_tried_again() -> None:
    async with Swarm(nodes=3, seed=1, latency=LAN) as swarm:
        await swarm.crash(swarm.nodes[1])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await swarm.restart(swarm.nodes[1])
        assert await swarm.restart(swarm.nodes[1]) in swarm.alive


async def test_a_swarm_ends_at_once_and_without_a_word() -> None:
    loop = asyncio.get_running_loop()
    async with Swarm(nodes=12, seed=1) as swarm:
        await asyncio.sleep(60)
        ended, sent = loop.time(), swarm.network.sent.datagrams
    assert loop.time() - ended < 1.0
    assert swarm.network.sent.datagrams == sent


async def test_nodes_that_have_ended_take_no_memory_for_long() -> None:
    def tables() -> int:
        return sum(isinstance(thing, RoutingTable) for thing in gc.get_objects())

    async with Swarm(nodes=2, seed=1) as swarm:
        gc.collect()
        before = tables()
        gc.disable()
        try:
            for _ in range(REMAINS_MIN):
                await swarm.crash(swarm.nodes[0])
                await swarm.restart(swarm.nodes[0])
            assert tables() <= before + 1
        finally:
            gc.enable()


async def test_who_holds_only_a_tombstone_holds_no_value() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        receipt = await swarm.nodes[5].set("colour", b"blue")
        replicas = {replica.id for replica in receipt.replicas}
        await asyncio.sleep(5.0)  # what is still under way goes to more of the region
        assert {node.id for node in await swarm.holders(receipt.key)} >= replicas
        await swarm.nodes[5].withdraw("colour")
        await asyncio.sleep(5.0)
        assert await swarm.holders(receipt.key) == []
        assert {node.id for node in await swarm.held(receipt.key)} >= replicas


async def test_without_loss_every_lookup_finds_the_true_closest() -> None:
    async with Swarm(nodes=120, seed=1, latency=FixedLatency(0.02)) as swarm:
        result = await survey(swarm, count=60, rng=random.Random(1))
    assert result.exact == 1.0
    assert result.recall == 1.0


async def test_ten_percent_loss_costs_no_recall_to_speak_of() -> None:
    async with Swarm(nodes=120, seed=2, latency=FixedLatency(0.02), loss=0.1) as swarm:
        result = await survey(swarm, count=200, rng=random.Random(2))
    assert result.recall >= 0.99


async def test_a_reader_that_is_cut_off_finds_nothing_and_that_is_no_success() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        swarm.network.unplug(swarm.nodes[3].address)
        outcome = await judged_lookup(swarm, swarm.nodes[3], bytes(32))
    assert outcome is not None
    assert (outcome.success, outcome.exact, outcome.recall) == (False, False, 0.0)
    assert not outcome.failed
    assert outcome.queries > 1


async def test_who_is_alone_finds_all_there_is() -> None:
    async with Swarm(nodes=1, seed=1) as swarm:
        outcome = await judged_lookup(swarm, swarm.nodes[0], bytes(32))
    assert outcome == Judged(0.0, success=True, exact=True, recall=1.0)


async def test_a_lookup_whose_own_node_goes_down_proves_nothing() -> None:
    async with Swarm(nodes=30, seed=1, latency=LAN) as swarm, asyncio.TaskGroup() as tasks:
        node = swarm.nodes[5]
        judging = tasks.create_task(judged_lookup(swarm, node, bytes(32)))
        await asyncio.sleep(0.03)
        await swarm.crash(node)
        await swarm.restart(node)
        assert await judging is None


async def test_readers_of_a_survey_are_those_that_run() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        for node in swarm.nodes[1:6]:
            await swarm.crash(node)
        result = await survey(swarm, count=20, rng=random.Random(1), at_once=3)
    assert (result.count, result.success, result.recall) == (20, 1.0, 1.0)


async def test_a_lookup_that_raises_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_node: Node, _target: bytes) -> None:
        raise NoAnswer

    async with Swarm(nodes=2, seed=1, latency=LAN) as swarm:
        monkeypatch.setattr(Node, "lookup", refuse)
        result = await survey(swarm, count=3, rng=random.Random(1))
    assert (result.failed, result.success, result.recall) == (1.0, 0.0, 0.0)
    assert (result.hops, result.queries, result.p50_s, result.p99_s) == (None, None, None, None)


def test_successes_are_timed_apart_from_the_rest_and_hops_are_those_of_who_returned() -> None:
    good = [Judged(0.1 * n, hops=2, queries=20, success=True, recall=1.0) for n in range(1, 102)]
    bad = Judged(9.0, hops=4, queries=30, recall=0.5)
    result = summary([*good, bad, Judged(7.0, failed=True)], nodes=1000)
    assert result.count == 103
    assert result.success == 101 / 103
    assert result.failed == pytest.approx(1 / 103)
    assert result.recall == 101.5 / 103
    assert result.exact == 0.0
    assert result.hops == pytest.approx((2 * 101 + 4) / 102)
    assert result.queries == pytest.approx((20 * 101 + 30) / 102)
    assert (result.p50_s, result.p90_s, result.p99_s) == pytest.approx((5.1, 9.1, 10.0))
    assert result.no_success_p50_s == 8.0
    assert result.hops_ideal == pytest.approx(1.763, abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "least"), [(0.0, 1.0), (0.1, 0.99)])
async def test_a_thousand_nodes_find_the_true_closest(loss: float, least: float) -> None:
    async with Swarm(nodes=1000, seed=1, loss=loss) as swarm:
        result = await survey(swarm, count=500, rng=random.Random(1))
    assert result.recall >= least


@pytest.mark.net  # starts processes, which virtual time cannot wait for
@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("lookups", ["--lookups=10", "--settle=60"]),
        ("live", ["--hours=0.05", "--churn=100", "--away=50", "--every=60", "--settle=10"]),
    ],
)
def test_one_seed_is_one_run_whatever_the_hash_seed(command: str, options: list[str]) -> None:
    def digest(hash_seed: str, seed: str = "7") -> str:
        arguments = [command, seed, "--json", "--nodes=24", "--loss=0.05", *options]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(
            [sys.executable, "-m", "scripts.simulation", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            check=True,
        )
        return str(json.loads(ran.stdout)["digest"])

    assert digest("1") == digest("2")
    assert digest("1") != digest("1", seed="8")
