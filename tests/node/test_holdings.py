"""The digests of a store: true whatever happens to it, and made of what has changed only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from random import Random

import pytest

from kademlia_node.core.digest import Trie, versions_digest
from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Kind
from kademlia_node.core.message import Digest
from kademlia_node.core.record import (
    Record,
    make_blob,
    make_entry,
    make_tombstone,
    make_topic_entry,
)
from kademlia_node.errors import NotStored, SetupError
from kademlia_node.node.holdings import PAGE, READS_PER_S, Holdings
from kademlia_node.settings import Settings
from kademlia_node.sim import NullSuite
from kademlia_node.sim.store import FaultyStore
from kademlia_node.store.base import FIRST, Store
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.memory import MemoryStore
from tests.node.network import PRIVATE, Neighbourhood

OWN_ID = bytes(32)
WALL = 1_800_000_000.0
AUTHORS = [Identity.generate(Random(seed), suite=NullSuite()) for seed in range(3)]
TOPIC = b"t" * 32
SMALL = Settings(store_bytes_max=12_000, store_share_per_author=1.0, expired_grace_s=600.0)


class Clock:
    """Wall time as a test has it."""

    now = WALL

    def __call__(self) -> float:
        return self.now


class Held:
    """A store with its digests, told of each change as a node tells them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()
        self.holdings = Holdings(store, wall=self.clock, grace_s=SMALL.expired_grace_s)
        self.evictions = 0

    async def put(self, *records: Record) -> None:
        for record in records:
            answer = await self.store.put(record, charged_to=b"", wall=self.clock.now)
            self.evictions += len(answer.gone)
            for key in (record.key, *answer.gone):
                self.holdings.on_change(key)

    async def truth(self) -> bytes:
        """The digest of all that the store has, made from nothing."""
        trie = Trie()
        records = await self.store.page(FIRST, limit=100_000, wall=self.clock.now)
        for key, under in groupby(records, key=lambda record: record.key):
            trie.set(key, versions_digest(record.header for record in under))
        return trie.digest("")

    async def told(self) -> bytes:
        await self.holdings.refresh()
        return self.holdings.trie.digest("")


def held(settings: Settings = SMALL) -> Held:
    return Held(MemoryStore(OWN_ID, settings=settings))


def entry(slot: int, *, seq: int = 1, life_s: float = 3600.0, author: int = 0) -> Record:
    return make_entry(
        AUTHORS[author].signing,
        b"%d" % slot,
        value=b"value %d" % seq,
        seq=seq,
        expires=int(WALL + life_s),
        network_tag=PRIVATE.tag,
    )


def topic_entry(slot: int, *, seq: int = 1, life_s: float = 3600.0, topic: bytes = TOPIC) -> Record:
    return make_topic_entry(
        AUTHORS[slot % 3].signing,
        topic,
        slot=b"%05d" % slot,
        value=b"",
        seq=seq,
        expires=int(WALL + life_s),
        network_tag=PRIVATE.tag,
    )


def changes(rng: Random, clock: Clock) -> Iterator[Record]:
    """Writes, overwrites, withdrawals and blobs without end; some of them do not live for long."""
    seq = 0
    while True:
        seq += 1
        life_s = clock.now - WALL + rng.choice([60.0, 700.0, 3600.0])
        slot = rng.randrange(20)
        match rng.randrange(4):
            case 0:
                yield entry(slot, seq=seq, life_s=life_s)
            case 1:
                yield topic_entry(slot, seq=seq, life_s=life_s, topic=bytes([slot % 4]) * 32)
            case 2:
                yield make_blob(rng.randbytes(rng.randrange(900)), expires=int(WALL + life_s))
            case _:
                yield make_tombstone(
                    AUTHORS[0].signing,
                    entry(slot).key,
                    kind=Kind.ENTRY,
                    slot=b"%d" % slot,
                    seq=seq,
                    expires=int(WALL + life_s),
                    network_tag=PRIVATE.tag,
                )


@pytest.mark.parametrize("seed", range(6))
async def test_digests_stay_true_to_the_store(seed: int) -> None:
    """Puts, overwrites, withdrawals, evictions, expiry, sweeps, and a clock that leaps."""
    rng, here = Random(seed), held()
    writes = changes(rng, here.clock)
    for _ in range(200):
        for _ in range(rng.randrange(4)):
            await here.put(next(writes))
        here.clock.now += rng.choice([0, 1, 30, 200, -100, 1500 if rng.random() < 0.05 else 0])
        if rng.random() < 0.5:
            assert await here.told() == await here.truth()
        if rng.random() < 0.3:
            await here.holdings.refresh()  # as the chore does
            await here.store.sweep(wall=here.clock.now)
    await here.put(next(writes))
    assert await here.told() == await here.truth() != bytes(8)
    assert here.evictions > 0


@pytest.mark.net  # the disk's thread needs the real clock
async def test_a_disk_store_tells_the_same(tmp_path: Path) -> None:
    store = await DiskStore.open(tmp_path / "store", own_id=OWN_ID, settings=SMALL)
    on_disk, in_memory = Held(store), held()
    writes = changes(Random(1), in_memory.clock)
    for _ in range(100):
        write = next(writes)
        for one in (on_disk, in_memory):
            one.clock.now += 20
            await one.put(write)
        if write.header.length % 3 == 0:
            assert await on_disk.told() == await in_memory.told() == await on_disk.truth()
    await store.close()


async def test_what_was_there_at_the_start_is_read_when_somebody_asks() -> None:
    here = held(Settings())
    records = [entry(slot) for slot in range(3 * PAGE)]
    await here.put(*records, *(topic_entry(slot) for slot in range(2 * PAGE)))
    assert not here.holdings.in_use, "nothing is read before"
    assert await here.told() == await here.truth()
    assert len(here.holdings.trie) == len(records) + 1


async def test_others_have_their_turn_while_a_large_store_is_read() -> None:
    here, turns = held(Settings()), 0
    await here.put(*(entry(slot) for slot in range(5 * PAGE)))

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    await here.holdings.refresh()
    others.cancel()
    assert turns >= 5


async def test_what_is_written_while_all_is_read_is_not_missed() -> None:
    here = held(Settings())
    await here.put(*(entry(slot) for slot in range(5 * PAGE)))
    reading = asyncio.create_task(here.holdings.refresh())
    for slot in range(5):
        await asyncio.sleep(0)
        await here.put(entry(slot, seq=2))
    await reading
    assert await here.told() == await here.truth()


async def test_a_record_goes_at_its_expiry_and_not_when_it_is_forgotten() -> None:
    here = held()
    await here.put(entry(1, life_s=100), entry(2, life_s=200))
    await here.told()
    here.clock.now += 100
    await here.told()
    assert here.holdings.trie.get(entry(1).key) is None
    assert here.holdings.trie.get(entry(2).key) is not None
    assert (await here.store.usage()).records == 2


async def test_a_renewal_changes_no_digest_and_is_not_gone_at_the_old_expiry() -> None:
    here = held()
    await here.put(entry(1, life_s=100))
    before = await here.told()
    await here.store.offer(
        entry(1).key, entry(1, life_s=900).header, charged_to=b"", wall=here.clock.now
    )
    assert await here.told() == before
    here.clock.now += 500
    assert await here.told() == before


async def test_a_large_topic_is_not_read_again_at_every_change() -> None:
    here = held(Settings())
    await here.put(*(topic_entry(slot) for slot in range(1000)))
    await here.told()
    await here.put(topic_entry(1000))
    assert await here.told() == await here.truth()
    await here.put(topic_entry(1001))
    assert await here.told() != await here.truth()
    await asyncio.sleep(1002 / READS_PER_S)
    assert await here.told() == await here.truth()


@pytest.mark.parametrize("fails_at", [1, 3, 5])
async def test_a_disk_that_fails_for_a_moment_makes_no_digest_false(fails_at: int) -> None:
    def make() -> Store:
        return MemoryStore(OWN_ID, settings=Settings())

    store = FaultyStore(make, commit_every=1)
    here = Held(store)
    await here.put(*(entry(slot) for slot in range(2 * PAGE)))
    store.fails_at = {store.operations + fails_at}
    for slot in range(4):
        try:
            await here.holdings.refresh()
        except SetupError:
            continue
        await here.put(entry(slot, seq=2))
    assert await here.told() == await here.truth()


async def test_a_node_tells_of_what_it_filed_and_of_what_had_to_go() -> None:
    """Through the verbs of a node: writing, and a store so small that it evicts."""
    small = Settings(store_bytes_max=4000, store_share_per_author=1.0)
    async with Neighbourhood(settings=small) as here:
        nodes = await here.grow(3)
        asker = await here.stranger()
        await nodes[0].set("colour", b"blue", acks=1)
        await nodes[0].withdraw("colour")
        for number in range(30):
            with suppress(NotStored):  # it is farther from all of them than what they have
                await nodes[0].put(b"%d" % number * 100, acks=1)
        await asyncio.sleep(5)
        for node in nodes:
            trie, store = Trie(), here.store_of(node)
            for key in await store.keys(wall=here.sim.wall()):
                under = await store.get(key, wall=here.sim.wall())
                trie.set(key, versions_digest(record.header for record in under))
            assert await asker.ask(node, Digest("")) == trie.summary("")
            assert len(trie) < 31
