from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from kademlia_node import Conflict, Node, PartlyStored, Settings
from kademlia_node.sim import FixedLatency, Oracle, Swarm
from kademlia_node.sim.oracle import Write

LAN = FixedLatency(0.02)
HOUR_S = 3600.0
QUIET = Settings(check_every_s=HOUR_S, liveness_s=2 * HOUR_S, refresh_every_s=HOUR_S)


async def write_one_of_each(oracle: Oracle, node: Node) -> None:
    await oracle.put(node, b"blob")
    await oracle.set(node, "ours", b"of the commons")
    await oracle.set(node, "mine", b"own", own=True)
    await oracle.announce(node, "topic", b"entry", slot="one")


async def test_what_was_written_must_be_found_and_is() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        oracle = Oracle(swarm)
        await write_one_of_each(oracle, swarm.nodes[3])
        *_, topic = found = oracle.must_be_found()
        assert len(found) == 4
        assert str(topic).startswith("slot 'one' of ")
        assert str(topic).endswith(" in topic 'topic'")
        assert oracle.must_be_gone() == []
        assert await oracle.check(swarm.nodes[7]) == []


async def test_what_was_withdrawn_must_be_gone_and_is() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        oracle, node = Oracle(swarm), swarm.nodes[3]
        await write_one_of_each(oracle, node)
        await oracle.withdraw(node, "ours")
        await oracle.withdraw(node, "mine", own=True)
        await oracle.retract(node, "topic", slot="one")
        assert [str(item)[:5] for item in oracle.must_be_found()] == ["blob-"]
        assert [item.name for item in oracle.must_be_gone()] == ["ours", "mine", "one"]
        assert await oracle.check(swarm.nodes[7]) == []


async def test_a_reader_who_finds_nothing_is_told_item_by_item() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        oracle, reader = Oracle(swarm), swarm.nodes[7]
        await write_one_of_each(oracle, swarm.nodes[3])
        others = [node.address for node in swarm.nodes if node is not reader]
        swarm.network.partition([reader.address], others)
        lines = await oracle.check(reader)
        assert 0 < len(lines) <= 4
        assert all(": nothing at " in line for line in lines)
        assert all(" instead of b'" in line and "'; b'" in line for line in lines)
        assert all("by node 3, acknowledged by [" in line for line in lines)


async def test_a_value_that_nobody_wrote_and_one_that_came_back_are_violations() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        oracle, node = Oracle(swarm), swarm.nodes[3]
        await oracle.set(node, "changed", b"told")
        await oracle.set(node, "deleted", b"told")
        await oracle.withdraw(node, "deleted")
        for name in ("changed", "deleted"):
            await node.set(name, b"not told, and longer than a line of a report shows")
        changed, deleted = await oracle.check(swarm.nodes[7])
        assert changed.startswith(
            "name 'changed' of the commons: b'not told, and longer tha'... at"
        )
        assert " instead of b'told'; b'told' written at " in changed
        assert " instead of nothing; b'told' written at " in deleted
        assert "; nothing written at " in deleted


@pytest.mark.parametrize("keep_store", [True, False])
async def test_a_promise_ends_with_the_last_replica(keep_store: bool) -> None:
    async with Swarm(nodes=14, seed=1, latency=LAN) as swarm:
        oracle = Oracle(swarm)
        receipt = await oracle.put(swarm.nodes[3], b"value")
        *most, last = [n for n in swarm.nodes if n.id in {c.id for c in receipt.replicas}]
        for node in most:
            await swarm.crash(node, keep_store=False)
            await swarm.restart(node)
        assert len(oracle.must_be_found()) == 1
        await swarm.crash(last, keep_store=keep_store)
        assert oracle.must_be_found() == oracle.must_be_gone() == []
        assert await oracle.check(swarm.alive[0]) == []
        await swarm.restart(last)
        assert len(oracle.must_be_found()) == keep_store


async def test_the_later_of_two_values_counts() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        oracle = Oracle(swarm)
        await oracle.set(swarm.nodes[3], "colour", b"red")
        await oracle.set(swarm.nodes[4], "colour", b"blue")
        assert await oracle.check(swarm.nodes[7]) == []
        await swarm.nodes[5].set("colour", b"red")  # untold, as if the old one had come back
        [line] = await oracle.check(swarm.nodes[7])
        assert ": b'red' at " in line
        assert " instead of b'blue'; " in line


async def test_what_a_failed_write_may_have_left_is_no_violation() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        oracle, (writer, other, reader) = Oracle(swarm), swarm.nodes[3:6]
        await oracle.set(writer, "colour", b"red")
        await oracle.withdraw(writer, "colour")
        assert len(oracle.must_be_gone()) == 1
        with pytest.raises(Conflict):
            await oracle.set(other, "colour", b"blue", expect_seq=1)
        assert oracle.must_be_gone() == oracle.must_be_found() == []
        assert await oracle.check(reader) == []
        await other.set("colour", b"blue")
        assert await oracle.check(reader) == []
        await other.set("colour", b"red")
        [line] = await oracle.check(reader)
        assert " instead of b'blue' or nothing; " in line


@pytest.mark.parametrize(("seq", "may"), [(4, False), (5, False), (6, True)])
async def test_a_write_that_nobody_took_is_judged_by_its_seq(seq: int, may: bool) -> None:
    async with Swarm(nodes=2, seed=1, latency=LAN) as swarm:
        receipt = await swarm.nodes[0].put(b"value")
        machine = swarm.machine(swarm.nodes[0])
        taken = Write(machine, b"red", 10.0, 11.0, replace(receipt, seq=5))
        failed = Write(machine, b"blue", 20.0, 21.0, replace(receipt, seq=seq, replicas=()))
        assert failed.may_follow(taken) is may


async def test_an_unfinished_write_makes_both_values_possible() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        oracle = Oracle(swarm)
        await oracle.set(swarm.nodes[3], "colour", b"red")
        async with asyncio.TaskGroup() as tasks:
            withdrawing = tasks.create_task(oracle.withdraw(swarm.nodes[4], "colour"))
            await asyncio.sleep(0.01)
            assert oracle.must_be_gone() == oracle.must_be_found() == []
            withdrawing.cancel()
        assert oracle.must_be_gone() == oracle.must_be_found() == []
        await asyncio.sleep(1.0)
        await oracle.set(swarm.nodes[3], "colour", b"green")
        assert len(oracle.must_be_found()) == 1


async def test_who_acknowledged_a_write_that_wanted_more_keeps_it() -> None:
    async with Swarm(nodes=3, seed=1, latency=LAN) as swarm:
        oracle = Oracle(swarm)
        with pytest.raises(PartlyStored):
            await oracle.put(swarm.nodes[1], b"value", acks=5)
        assert len(oracle.must_be_found()) == 1


async def test_nothing_is_found_beyond_its_expiry_once_nobody_renews_it() -> None:
    async with Swarm(nodes=3, seed=1, latency=LAN, settings=QUIET) as swarm:
        oracle, author = Oracle(swarm), swarm.nodes[1]
        receipt = await oracle.set(author, "colour", b"blue")
        await oracle.put(author, b"blob")
        await asyncio.sleep(30 * HOUR_S)
        assert len(oracle.must_be_found()) == 2
        await swarm.stop(author)
        await asyncio.sleep(18.5 * HOUR_S)
        assert swarm.network.wall() > receipt.expires
        assert oracle.must_be_found() == oracle.must_be_gone() == []  # renewed, or not
        await asyncio.sleep(30 * HOUR_S)
        assert len(oracle.must_be_gone()) == 2
        assert await oracle.check(swarm.nodes[0]) == []
        await swarm.restart(author)
        assert oracle.must_be_gone() == []


async def test_who_lost_its_store_renews_no_more() -> None:
    async with Swarm(nodes=3, seed=1, latency=LAN, settings=QUIET) as swarm:
        oracle, author = Oracle(swarm), swarm.nodes[1]
        await oracle.put(author, b"blob")
        await swarm.crash(author, keep_store=False)
        await swarm.restart(author)
        await asyncio.sleep(47 * HOUR_S)
        assert len(oracle.must_be_found()) == 1
        await asyncio.sleep(2 * HOUR_S)
        assert len(oracle.must_be_gone()) == 1
        assert await oracle.check(swarm.nodes[0]) == []


async def test_what_changes_while_it_is_read_is_held_against_nobody() -> None:
    async with Swarm(nodes=12, seed=1, latency=LAN) as swarm:
        oracle = Oracle(swarm)
        receipt = await oracle.set(swarm.nodes[3], "colour", b"blue")
        replicas = await swarm.holders(receipt.key)
        reader = next(node for node in swarm.nodes if node not in replicas)

        async def go(change: Callable[[], Awaitable[object]]) -> list[str]:
            async with asyncio.TaskGroup() as tasks:
                checking = tasks.create_task(oracle.check(reader))
                await asyncio.sleep(0.01)
                await change()
            return checking.result()

        async def crash_the_replicas() -> None:
            for node in replicas:
                await swarm.crash(node)

        async def crash_the_reader() -> None:
            await swarm.crash(reader)

        assert await go(lambda: oracle.set(swarm.nodes[4], "colour", b"green")) == []
        assert await go(crash_the_reader) == []
        reader = await swarm.restart(reader)
        assert await go(crash_the_replicas) == []


async def test_an_acknowledged_record_survives_an_hour_of_churn() -> None:
    async with Swarm(nodes=12, seed=5, latency=LAN) as swarm:
        oracle, here = Oracle(swarm), swarm.nodes[0]
        async with swarm.churn(mean_session_s=400.0, mean_absence_s=100.0, spare=[here]) as churn:
            for number in range(12):
                await asyncio.sleep(100.0)
                await oracle.set(here, f"name {number}", b"value")
                await oracle.put(here, b"blob %d" % number)
                assert await oracle.check(here) == []
        assert churn.crashes > 5
        assert len(oracle.must_be_found()) > 12
