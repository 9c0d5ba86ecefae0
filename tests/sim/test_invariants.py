"""Each rule is broken once, on purpose, and found; what only looks like it is not held to be."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from kademlia_node import Contact, Key, Node, Receipt, Settings
from kademlia_node.core.ids import distance
from kademlia_node.core.record import Record
from kademlia_node.core.routing import RoutingTable
from kademlia_node.errors import SetupError
from kademlia_node.sim import FaultyStore, FixedLatency, Machine, Swarm
from kademlia_node.sim.invariants import CLOSEST_COUNT, Inspector
from kademlia_node.sim.oracle import read
from kademlia_node.sim.rules import Rule, Violation
from kademlia_node.store.base import Answer, Outcome
from kademlia_node.store.memory import MemoryPublications, MemoryStore

LAN = FixedLatency(0.02)
HOUR_S = 3600
BRISK = Settings(renew_after_s=240.0, renew_every_s=10.0, renew_retry_s=30.0)
RENEWED_S = 300.0  # by then everything was renewed once


class Villain(Node):
    """Behaves well, but who knows."""


def swarm_of(nodes: int = 12, **options: Any) -> Swarm:
    return Swarm(nodes=nodes, seed=1, latency=LAN, settings=BRISK, **options)


def inspector_of(swarm: Swarm) -> Inspector:
    rng = random.Random(1)
    return Inspector(swarm, rng=rng)


async def write_one_of_each(inspector: Inspector, node: Node) -> list[Receipt]:
    oracle = inspector.oracle
    return [
        await oracle.put(node, b"blob"),
        await oracle.set(node, "ours", b"of the commons"),
        await oracle.set(node, "mine", b"own", own=True),
        await oracle.announce(node, "topic", b"entry", slot="one"),
    ]


def replica_of(swarm: Swarm, receipt: Receipt) -> Machine:
    """One that is not the writer's."""
    return swarm.machine(receipt.replicas[-1])


async def file(swarm: Swarm, machine: Machine, record: Record) -> None:
    """Put a record on a disk, past everything that would judge it."""
    answer = await machine.disk.put(record, charged_to=b"", wall=swarm.network.wall())
    assert answer.outcome in (Outcome.STORED, Outcome.HAVE)


async def held_by(swarm: Swarm, machine: Machine, key: Key) -> Record:
    [record] = (await swarm.held(key))[swarm.nodes[machine.number]]
    return record


async def prolong(swarm: Swarm, receipt: Receipt, seconds: float) -> None:
    """Have a replica keep a record for longer."""
    machine = replica_of(swarm, receipt)
    record = await held_by(swarm, machine, receipt.key)
    later = replace(record.header, expires=record.header.expires + int(seconds))
    await file(swarm, machine, replace(record, header=later))


async def look_for(inspector: Inspector, duration_s: float) -> None:
    for _ in range(int(duration_s / 20)):
        await inspector.look()
        await asyncio.sleep(20.0)


async def test_nothing_is_held_against_a_healthy_swarm() -> None:
    async with swarm_of() as swarm:
        inspector, (one, other, reader) = inspector_of(swarm), swarm.nodes[3:6]
        for _ in range(4):
            await write_one_of_each(inspector, one)
            await inspector.oracle.set(other, "ours", b"of another writer")
            await look_for(inspector, RENEWED_S)
            for item in inspector.oracle.items:
                inspector.on_read(item, await read(item, reader), reader)
            await inspector.oracle.withdraw(other, "ours")
            await inspector.oracle.retract(one, "topic", slot="one")
            await look_for(inspector, RENEWED_S)


async def test_a_violation_tells_its_rule_and_its_moment() -> None:
    await asyncio.sleep(12.0)
    violation = Violation(Rule.FALSE_RECORD, "node 7 holds a false blob")
    assert str(violation) == "3. false record: node 7 holds a false blob"
    assert violation.at_s == asyncio.get_running_loop().time()


# --- 1. Receipts ----------------------------------------------------------------------------------


async def lie(_store: MemoryStore, *_: object, **__: object) -> Answer:
    """What `MemoryStore.put` says when it files a record."""
    return Answer(Outcome.STORED, None)


async def test_who_says_stored_and_files_nothing_breaks_rule_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        monkeypatch.setattr(MemoryStore, "put", lie)
        with pytest.raises(Violation, match=r"^1\. .* has acknowledged seq 0 of .* holds nothing"):
            await inspector.oracle.put(swarm.nodes[3], b"value")


async def test_who_says_stored_and_keeps_the_earlier_version_breaks_rule_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with swarm_of() as swarm:
        inspector, writer = inspector_of(swarm), swarm.nodes[3]
        for verb in (inspector.oracle.set, inspector.oracle.announce):
            before = await verb(writer, "colour", b"red")
            with monkeypatch.context() as patched:
                patched.setattr(MemoryStore, "put", lie)
                with pytest.raises(Violation, match=rf"^1\. .* holds \[{before.seq}\]"):
                    await verb(writer, "colour", b"blue")


async def test_what_was_lost_with_a_disk_is_nobodys_lie() -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        receipt = await inspector.oracle.put(swarm.nodes[3], b"value")
        [item] = inspector.oracle.items
        [write] = inspector.oracle.writes(item)
        machine = replica_of(swarm, receipt)
        await swarm.crash(swarm.nodes[machine.number], keep_store=False)
        await inspector.on_receipt(item, write)
        other = swarm.machine(receipt.replicas[0])
        other.store = MemoryStore(other.identity.id, settings=BRISK)  # which nobody is told
        with pytest.raises(Violation, match=rf"^1\. .*: node {other.number} "):
            await inspector.on_receipt(item, write)


async def test_what_hostile_nodes_acknowledge_is_not_relied_upon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with swarm_of(1) as swarm:
        inspector = inspector_of(swarm)
        villains = await swarm.grow(8, kind=Villain, hostile=True)
        disks = [swarm.machine(villain).disk for villain in villains]
        put = MemoryStore.put

        async def lie_if_hostile(store: MemoryStore, *args: Any, **options: Any) -> Answer:
            says = lie if store in disks else put
            return await says(store, *args, **options)

        monkeypatch.setattr(MemoryStore, "put", lie_if_hostile)
        receipt = await inspector.oracle.put(swarm.nodes[0], b"value")
        assert any(swarm.machine(peer).is_hostile for peer in receipt.replicas)


# --- 2. Reads -------------------------------------------------------------------------------------


async def test_a_read_of_what_nobody_wrote_there_breaks_rule_2() -> None:
    async with swarm_of() as swarm:
        inspector, (writer, reader) = inspector_of(swarm), swarm.nodes[3:5]
        await write_one_of_each(inspector, writer)
        _, ours, mine, _ = inspector.oracle.items
        with pytest.raises(Violation, match=r"^2\. .* of name 'mine'"):
            inspector.on_read(mine, await read(ours, reader), reader)
        await swarm.nodes[7].set("ours", b"untold")
        value = await read(ours, reader)
        with pytest.raises(Violation, match=r"^2\. .* node 4 read b'untold' of name 'ours'"):
            inspector.on_read(ours, value, reader)


async def test_a_read_may_give_nothing_or_an_earlier_value() -> None:
    async with swarm_of() as swarm:
        inspector, (writer, reader) = inspector_of(swarm), swarm.nodes[3:5]
        for value in (b"red", b"blue"):
            await inspector.oracle.set(writer, "colour", value)
        await inspector.oracle.withdraw(writer, "colour")
        [item] = inspector.oracle.items
        for may in (None, b"red", b"blue"):
            inspector.on_read(item, may, reader)


# --- 3. Values on disks ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4), ids=["blob", "commons", "own", "topic"])
async def test_another_value_on_a_disk_breaks_rule_3(number: int) -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        receipt = (await write_one_of_each(inspector, swarm.nodes[3]))[number]
        machine = replica_of(swarm, receipt)
        record = await held_by(swarm, machine, receipt.key)
        header = replace(record.header, length=5, value_hash=b"\xff" * 32)
        await file(swarm, machine, Record(record.key, header, b"false"))
        with pytest.raises(Violation, match=rf"^3\. .*: node {machine.number} holds a false "):
            await inspector.look()


async def test_other_authors_and_slots_of_a_topic_are_no_false_records() -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        await inspector.oracle.announce(swarm.nodes[3], "topic", b"told", slot="one")
        await swarm.nodes[3].announce("topic", b"another slot", slot="two")
        await swarm.nodes[4].announce("topic", b"another author", slot="one")
        await inspector.look()
        await swarm.nodes[3].announce("topic", b"untold", slot="one")
        with pytest.raises(Violation, match=r"^3\. "):
            await inspector.look()


# --- 4. Expiries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4), ids=["blob", "commons", "own", "topic"])
async def test_a_replica_that_lives_longer_than_its_author_asked_breaks_rule_4(number: int) -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        receipt = (await write_one_of_each(inspector, swarm.nodes[3]))[number]
        await prolong(swarm, receipt, HOUR_S)
        with pytest.raises(Violation, match=r"^4\. .* for 3[56]\d\d s longer"):
            await inspector.look()


async def test_what_followed_a_withdrawal_may_outlive_a_tombstone_and_no_more() -> None:
    async with swarm_of() as swarm:
        inspector, writer = inspector_of(swarm), swarm.nodes[3]
        await inspector.oracle.withdraw(writer, "colour")
        receipt = await inspector.oracle.set(writer, "colour", b"blue")
        await inspector.look()
        await prolong(swarm, receipt, 60)
        with pytest.raises(Violation, match=r"^4\. "):
            await inspector.look()


async def test_the_renewals_of_a_writer_prolong_lawfully() -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        receipts = await write_one_of_each(inspector, swarm.nodes[3])
        await look_for(inspector, 2 * RENEWED_S)
        for receipt in receipts:
            record = await held_by(swarm, replica_of(swarm, receipt), receipt.key)
            assert record.header.expires > receipt.expires + RENEWED_S


async def test_a_renewal_that_could_not_be_noted_was_lawful(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> None:
        raise SetupError("the disk is full")

    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        receipt = await inspector.oracle.put(swarm.nodes[3], b"value")
        await look_for(inspector, 60.0)
        monkeypatch.setattr(MemoryPublications, "keep", fail)
        await look_for(inspector, RENEWED_S)
        record = await held_by(swarm, replica_of(swarm, receipt), receipt.key)
        assert record.header.expires > receipt.expires + 200


async def test_what_was_written_and_forgotten_between_two_looks_was_lawful() -> None:
    async with swarm_of() as swarm:
        inspector, writer = inspector_of(swarm), swarm.nodes[3]
        await look_for(inspector, 60.0)
        receipt = await inspector.oracle.put(writer, b"value")
        assert await writer.forget(receipt.key)
        await look_for(inspector, RENEWED_S)


async def test_what_was_renewed_and_forgotten_between_two_looks_was_lawful() -> None:
    async with swarm_of() as swarm:
        inspector, writer = inspector_of(swarm), swarm.nodes[3]
        receipt = await inspector.oracle.put(writer, b"value")
        await look_for(inspector, 60.0)
        await asyncio.sleep(RENEWED_S)
        assert await writer.forget(receipt.key)
        await look_for(inspector, RENEWED_S)


async def test_what_its_author_has_forgotten_is_prolonged_by_nobody() -> None:
    async with swarm_of() as swarm:
        inspector, writer = inspector_of(swarm), swarm.nodes[3]
        receipt = await inspector.oracle.put(writer, b"value")
        await look_for(inspector, 60.0)
        assert await writer.forget(receipt.key)
        await look_for(inspector, RENEWED_S)
        await prolong(swarm, receipt, RENEWED_S)  # as a renewal would
        with pytest.raises(Violation, match=r"^4\. "):
            await inspector.look()


@pytest.mark.parametrize(("commit_every", "keep_store"), [(None, False), (1000, True)])
async def test_what_was_renewed_before_the_list_of_it_was_lost_was_lawful(
    commit_every: int | None, keep_store: bool
) -> None:
    async with swarm_of(commit_every=commit_every) as swarm:
        inspector, writer = inspector_of(swarm), swarm.nodes[3]
        await inspector.oracle.put(writer, b"value")
        await look_for(inspector, 60.0)
        await asyncio.sleep(RENEWED_S)
        await swarm.crash(writer, keep_store=keep_store)
        await swarm.restart(writer)
        await look_for(inspector, RENEWED_S)
        assert await swarm.machine(writer).disk.publications.count() == 0


async def test_what_a_crash_brought_back_to_the_list_was_renewed_lawfully() -> None:
    async with swarm_of(commit_every=1000) as swarm:
        inspector, writer = inspector_of(swarm), swarm.nodes[3]
        receipt = await inspector.oracle.put(writer, b"value")
        store = swarm.machine(writer).store
        assert isinstance(store, FaultyStore)
        store.commit()
        await writer.forget(receipt.key)
        await look_for(inspector, 60.0)
        await swarm.crash(writer)  # which forgets the forgetting
        writer = await swarm.restart(writer)
        await asyncio.sleep(RENEWED_S)
        assert await writer.forget(receipt.key)
        await look_for(inspector, RENEWED_S)


async def test_a_tombstone_where_nobody_withdrew_is_a_false_record() -> None:
    async with swarm_of() as swarm:
        inspector = inspector_of(swarm)
        _, ours, *_ = await write_one_of_each(inspector, swarm.nodes[3])
        machine = replica_of(swarm, ours)
        record = await held_by(swarm, machine, ours.key)
        header = replace(record.header, flags=1, seq=record.header.seq + 1, length=0)
        await file(swarm, machine, replace(record, header=header, value=b""))
        with pytest.raises(Violation, match=r"^3\. .* holds a false name 'ours'"):
            await inspector.look()


# --- 5 and 6. Tables and sessions -----------------------------------------------------------------


async def test_a_table_that_misses_the_nearest_breaks_rule_5(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with swarm_of() as swarm:
        inspector, closest = inspector_of(swarm), RoutingTable.closest

        def without_the_nearest(
            table: RoutingTable, target: bytes, count: int, **options: Any
        ) -> list[Contact]:
            return closest(table, target, count + 1, **options)[1:]

        await inspector.look()
        monkeypatch.setattr(RoutingTable, "closest", without_the_nearest)
        with pytest.raises(Violation, match=r"^5\. inexact closest: node \d+ for "):
            await inspector.look()


async def test_a_node_in_its_own_table_breaks_rule_6(monkeypatch: pytest.MonkeyPatch) -> None:
    async with swarm_of() as swarm:
        inspector, contacts = inspector_of(swarm), Node.contacts

        def with_itself(node: Node) -> list[Contact]:
            return [*contacts(node), Contact(node.public_key, node.address)]

        def closest(node: Node, target: bytes, count: int = CLOSEST_COUNT) -> list[Contact]:
            return sorted(node.contacts(), key=lambda one: distance(one.id, target))[:count]

        monkeypatch.setattr(Node, "contacts", with_itself)
        monkeypatch.setattr(Node, "closest", closest)
        with pytest.raises(Violation, match=r"^6\. own contact: node 0$"):
            await inspector.look()


async def test_more_sessions_than_are_allowed_break_rule_6() -> None:
    async with swarm_of() as swarm:
        most = max([(await node.status()).sessions for node in swarm.nodes])
        enough = replace(BRISK, sessions_max=most - 1, half_open_max=1)
        swarm.settings = enough
        await inspector_of(swarm).look()
        swarm.settings = replace(BRISK, sessions_max=most - 2, half_open_max=1)
        with pytest.raises(Violation, match=rf"^7\. unbounded: node \d+ keeps {most} sessions"):
            await inspector_of(swarm).look()


async def test_nobody_is_judged_whose_disk_fails_or_who_is_away() -> None:
    async with swarm_of(commit_every=1) as swarm:
        inspector = inspector_of(swarm)
        await write_one_of_each(inspector, swarm.nodes[3])
        await swarm.stop(swarm.nodes[4])
        for node in swarm.nodes:
            store = swarm.machine(node).store
            assert isinstance(store, FaultyStore)
            store.fails_from = 1
        await inspector.look()
