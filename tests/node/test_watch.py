"""Watching: what is there, then every change as it happens, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from kademlia_node.core.feed import Change, ChangeKind
from kademlia_node.core.message import (
    Digest,
    FindNode,
    Nodes,
    Notified,
    Notify,
    Ping,
    Pong,
    Request,
    Response,
    Watch,
    Watched,
)
from kademlia_node.errors import NotRunning
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim import FaultyStore, Swarm
from kademlia_node.store.memory import MemoryStore
from tests.node.network import HOUR, PRIVATE, Neighbourhood, Puppet, commons_entry, nearest

TOPIC = "weather"


class Told:
    """What somebody who watches was told, and when."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.at: list[float] = []

    @property
    def values(self) -> list[bytes | None]:
        return [change.value for change in self.changes]

    async def watch(self, node: Node, topic: str | None, **options: Any) -> None:
        async with aclosing(node.watch(topic, **options)) as changes:
            async for change in changes:
                self.changes.append(change)
                self.at.append(asyncio.get_running_loop().time())


@asynccontextmanager
async def watching(node: Node, topic: str | None = TOPIC, **options: Any) -> AsyncIterator[Told]:
    watched = Told()
    task = asyncio.create_task(watched.watch(node, topic, **options))
    await asyncio.sleep(5)
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def count(node: Node, name: str) -> int:
    return (await node.status()).counters.get(name, 0)


# --- What is told ---------------------------------------------------------------------------------


async def test_what_is_there_is_told_first_and_then_each_change_within_a_second() -> None:
    async with Swarm(nodes=20, seed=1, network=PRIVATE) as swarm:
        author, other, watcher = swarm.nodes[3], swarm.nodes[4], swarm.nodes[11]
        await author.announce(TOPIC, b"rain", slot="today")
        async with watching(watcher) as watched:
            assert watched.values == [b"rain"]
            began = asyncio.get_running_loop().time()
            await author.announce(TOPIC, b"sun", slot="today")
            await other.announce(TOPIC, b"snow")
            await author.withdraw(topic=TOPIC, slot="today")
            await asyncio.sleep(5)
        assert watched.values == [b"rain", b"sun", b"snow", None]
        assert watched.changes[-1].kind is ChangeKind.WITHDRAWN
        assert (watched.changes[1].author, watched.changes[1].slot) == (author.public_key, b"today")
        assert watched.at[1] - began < 1.0
        assert await count(watcher, "watch_reads") == 1


async def test_a_name_is_watched_and_other_names_are_not_heard() -> None:
    async with Swarm(nodes=12, seed=2, network=PRIVATE) as swarm:
        author, watcher = swarm.nodes[1], swarm.nodes[2]
        async with watching(watcher, None, name="colour") as watched:
            await author.set("colour", b"blue")
            await author.set("shape", b"round")
            await author.set("colour", b"red")
            await asyncio.sleep(5)
            await author.withdraw("colour")
            await asyncio.sleep(5)
        assert watched.values == [b"blue", b"red", None]


async def test_a_name_of_ones_own_is_somebody_elses_to_watch() -> None:
    async with Swarm(nodes=8, seed=3, network=PRIVATE) as swarm:
        author, watcher = swarm.nodes[1], swarm.nodes[2]
        whose = author.public_key
        async with aclosing(watcher.watch(name="colour", author=whose)) as changes:
            await author.set("colour", b"blue", own=True)
            assert (await anext(changes)).value == b"blue"
        async with aclosing(author.watch(name="colour", own=True)) as changes:
            assert (await anext(changes)).value == b"blue"


async def test_long_values_are_fetched_from_who_told_of_them() -> None:
    async with Swarm(nodes=12, seed=2, network=PRIVATE) as swarm:
        async with watching(swarm.nodes[2]) as watched:
            await swarm.nodes[1].announce(TOPIC, bytes(20_000))
            await asyncio.sleep(5)
        assert watched.values == [bytes(20_000)]
        assert await count(swarm.nodes[2], "watch_reads") == 1


async def test_who_keeps_the_key_itself_may_watch_it() -> None:
    async with Swarm(nodes=3, seed=4, network=PRIVATE) as swarm:
        for node in swarm.nodes:
            async with watching(node) as watched:
                await swarm.nodes[1].announce(TOPIC, node.id)
                await asyncio.sleep(5)
            assert watched.values[-1] == node.id


async def test_a_renewal_is_not_told_and_what_is_not_renewed_is_told_to_have_expired() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(4)

        async def file(expires_in_s: float) -> None:
            entry = commons_entry("colour", b"blue", seq=1, expires=here.sim.wall() + expires_in_s)
            for node in nodes:
                await here.store_of(node).put(entry, charged_to=b"", wall=here.sim.wall())
                node.on_filed(entry.key)

        await file(100)
        async with watching(nodes[0], None, name="colour") as watched:
            await asyncio.sleep(60)
            await file(600)
            await asyncio.sleep(500)
            assert watched.values == [b"blue"]
            await asyncio.sleep(150)
            assert watched.values == [b"blue", None]
            assert watched.changes[-1].kind is ChangeKind.EXPIRED
            await file(600)
            await asyncio.sleep(100)
            assert watched.values == [b"blue", None, b"blue"]


async def test_a_status_tells_who_watches_and_who_is_told() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(4)
        async with watching(nodes[0]):
            assert [(await node.status()).watches for node in nodes] == [1, 0, 0, 0]
            assert [(await node.status()).watchers for node in nodes] == [0, 1, 1, 1]
        assert (await nodes[0].status()).watches == 0


async def test_several_may_watch_the_same_from_one_node() -> None:
    async with Swarm(nodes=12, seed=2, network=PRIVATE) as swarm:
        async with watching(swarm.nodes[2]) as first, watching(swarm.nodes[2]) as second:
            await swarm.nodes[1].announce(TOPIC, b"rain")
            await asyncio.sleep(5)
        assert first.values == second.values == [b"rain"]


async def test_the_first_node_of_a_network_may_watch_as_soon_as_it_has_started() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        async with aclosing(node.watch(TOPIC)) as changes:
            first = asyncio.create_task(anext(changes))
            await node.announce(TOPIC, b"rain")
            assert (await first).value == b"rain"


async def test_watching_ends_with_the_node() -> None:
    async with Swarm(nodes=6, seed=2, network=PRIVATE) as swarm:
        node = swarm.nodes[2]
        watched = Told()
        waiting = asyncio.create_task(watched.watch(node, TOPIC))
        await asyncio.sleep(5)
        await swarm.stop(node)
        with pytest.raises(NotRunning):
            await waiting
        with pytest.raises(NotRunning):
            node.watch(TOPIC)


@pytest.mark.parametrize(
    "wrong", [{}, {"topic": "a", "name": "b"}, {"topic": "a", "own": True}, {"name": "a" * 65}]
)
async def test_a_wrong_argument_is_refused_at_once(wrong: dict[str, Any]) -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        with pytest.raises(ValueError, match=r"topic|64"):
            node.watch(**wrong)


# --- What is lost, and who goes -------------------------------------------------------------------


async def test_entries_that_expire_one_by_one_make_nobody_read() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(6)
        for number in range(20):
            await nodes[1].announce(TOPIC, b"brief", slot=str(number), ttl_s=240)
            await asyncio.sleep(11)
        async with watching(nodes[0]) as watched:
            await nodes[1].stop()
            before = await count(nodes[0], "watch_reads")
            await asyncio.sleep(600)
            assert await count(nodes[0], "watch_reads") - before <= 1
        assert [change.kind for change in watched.changes].count(ChangeKind.EXPIRED) == 20


async def test_what_no_push_has_told_is_found_at_the_next_renewal() -> None:
    async with Swarm(nodes=12, seed=2, network=PRIVATE) as swarm:
        author, watcher = swarm.nodes[1], swarm.nodes[2]
        async with watching(watcher) as watched:
            cut = swarm.network.partition([watcher.address])
            await author.announce(TOPIC, b"rain")
            await asyncio.sleep(5)
            assert watched.values == []
            cut.heal()
            await asyncio.sleep(120)
            assert watched.values == [b"rain"]


async def test_who_is_told_for_a_short_time_only_asks_more_often() -> None:
    async with Swarm(nodes=20, seed=7, settings=Settings(watch_lease_s=20)) as swarm:
        clock = asyncio.get_running_loop().time
        async with watching(swarm.nodes[3]) as watched:
            delays_s: list[float] = []
            for number in range(6):
                at = clock()
                await swarm.nodes[5].announce(TOPIC, b"%d" % number)
                await asyncio.sleep(25)
                delays_s.append(watched.at[-1] - at)
        assert watched.values == [b"%d" % number for number in range(6)]
        assert max(delays_s) < 2


async def test_a_disk_that_cannot_be_read_ends_no_watch() -> None:
    async with Neighbourhood() as here:
        identity = here.new_identity()
        store = FaultyStore(lambda: MemoryStore(identity.id, settings=Settings()))
        node = await here.start(identity=identity, store=store)
        await node.announce(TOPIC, b"sunny")
        store.fails_at = frozenset(range(store.operations + 1, store.operations + 4))
        async with watching(node) as watched:
            assert watched.values == []
            await asyncio.sleep(60)
        assert watched.values == [b"sunny"]


async def test_changes_are_heard_though_all_who_first_told_of_them_are_gone() -> None:
    async with Swarm(nodes=20, seed=5, network=PRIVATE) as swarm:
        author, watcher = swarm.nodes[1], swarm.nodes[2]
        async with watching(watcher) as watched:
            key = (await author.announce(TOPIC, b"rain")).key
            for contact in swarm.true_closest(key.digest, 3):
                node = swarm.nodes[swarm.machine(contact).number]
                if node not in (author, watcher):
                    await swarm.crash(node)
            await asyncio.sleep(100)
            reads = await count(watcher, "watch_reads")
            await author.announce(TOPIC, b"sun")
            await asyncio.sleep(3)
            assert watched.values[-1] == b"sun"
            assert await count(watcher, "watch_reads") == reads


async def test_of_a_topic_with_too_many_entries_some_are_told_and_it_is_seldom_read() -> None:
    async with Neighbourhood(settings=Settings(watch_entries_max=3)) as here:
        nodes = await here.grow(4)
        author = nodes[1]
        for slot in "abcde":
            await author.announce(TOPIC, slot.encode(), slot=slot, ttl_s=1200)
        async with watching(nodes[0]) as watched:
            slots = [change.slot.decode() for change in watched.changes]
            assert len(slots) == 3
            await asyncio.sleep(HOUR / 2)
            await author.announce(TOPIC, b"news", slot=slots[0], ttl_s=240)
            await author.announce(TOPIC, b"one more", slot="f", ttl_s=3600)
            await author.withdraw(topic=TOPIC, slot=slots[1], ttl_s=240)
            await asyncio.sleep(10)
            assert watched.values[3:] == [b"news", None]
            await asyncio.sleep(HOUR / 2 - 100)
            assert await count(nodes[0], "watch_reads") == 1
            await asyncio.sleep(200)
            assert await count(nodes[0], "watch_reads") == 2
            assert watched.changes[5].slot.decode() not in slots  # in the place of the withdrawn


async def test_who_finds_no_room_among_the_watchers_asks_now_and_then() -> None:
    async with Neighbourhood(settings=Settings(watchers_per_key_max=1)) as here:
        nodes = await here.grow(4)
        await nodes[0].announce(TOPIC, b"rain")
        first, second = [await here.start(server=False) for _ in range(2)]
        async with watching(first) as told, watching(second) as polling:
            walked = await count(second, "datagrams_sent")
            await nodes[0].announce(TOPIC, b"sun")
            await asyncio.sleep(5)
            assert (told.values[1:], polling.values[1:]) == ([b"sun"], [])
            await asyncio.sleep(60)
            assert polling.values[1:] == [b"sun"]
            assert await count(second, "datagrams_sent") - walked < 30


async def test_who_finds_no_room_and_nothing_there_looks_again_now_and_then() -> None:
    async with Neighbourhood(settings=Settings(watchers_per_key_max=1)) as here:
        nodes = await here.grow(4)
        first, second = [await here.start(server=False) for _ in range(2)]
        async with watching(first), watching(second) as polling:
            sent = await count(second, "datagrams_sent")
            await asyncio.sleep(120)
            assert await count(second, "datagrams_sent") - sent < 50
            await nodes[0].announce(TOPIC, b"rain")
            await asyncio.sleep(130)
            assert polling.values == [b"rain"]


# --- Those who tell -------------------------------------------------------------------------------


async def test_a_watch_that_has_ended_is_told_no_more() -> None:
    async with Swarm(nodes=12, seed=2, network=PRIVATE) as swarm:
        author, watcher = swarm.nodes[1], swarm.nodes[2]
        async with watching(watcher) as watched:
            await author.announce(TOPIC, b"rain")
            await asyncio.sleep(5)
        assert await count(watcher, "served_Notify")
        await author.announce(TOPIC, b"sun")  # all hear now that nobody wants it
        await asyncio.sleep(5)
        again = await count(watcher, "served_Notify")
        await author.announce(TOPIC, b"snow")
        await asyncio.sleep(5)
        assert await count(watcher, "served_Notify") == again
        assert watched.values == [b"rain"]


async def test_news_that_nobody_asked_for_are_not_told() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(4)
        stranger = await here.stranger(server=True)
        entry = commons_entry("colour", b"blue", seq=1, expires=here.sim.wall() + HOUR)
        async with watching(nodes[1], None, name="colour") as watched:
            await asyncio.sleep(400)
            news = Notify(entry.key, entry.header, entry.value)
            assert await stranger.ask(nodes[1], news) == Notified(wanted=False)
            assert watched.values == []


async def test_a_forged_record_of_one_who_was_asked_is_not_told() -> None:
    """A stranger that is a server is asked to tell, as others that are near are."""
    async with Neighbourhood() as here:
        nodes = await here.grow(2)
        stranger = await here.stranger(server=True)
        true = commons_entry("colour", b"blue", seq=1, expires=here.sim.wall() + HOUR)

        def answer(request: Request) -> Response | None:
            match request:
                case Ping():
                    return Pong()
                case FindNode():
                    return Nodes(())
                case Watch():
                    return Watched(300)
            return None

        stranger.answer = answer
        await stranger.ask(nodes[0], Digest(""))
        async with watching(nodes[0], None, name="colour") as watched:
            forged = Notify(true.key, true.header, b"red!")
            assert await stranger.ask(nodes[0], forged) == Notified(wanted=False)
            late = replace(true.header, seq=9, expires=1)  # nobody has signed this
            forged = Notify(true.key, late, b"fake")
            assert await stranger.ask(nodes[0], forged) == Notified(wanted=True)
            news = Notify(true.key, true.header, true.value)
            assert await stranger.ask(nodes[0], news) == Notified(wanted=True)
            await asyncio.sleep(5)
        assert watched.values == [b"blue"]
        counters = (await nodes[0].status()).counters
        assert counters["bad_record_watcher_wrong_value"] == 1


async def test_a_liar_among_those_who_tell_has_a_key_read_now_and_then_and_no_more() -> None:
    def answer(request: Request) -> Response | None:
        return Watched(300, b"whatever") if isinstance(request, Watch) else None

    async with Neighbourhood() as here:
        nodes = await here.grow(3)
        liars = await here.grow_puppets(2)
        for liar in liars:
            liar.answer = answer
        await asyncio.sleep(30)
        async with watching(nodes[0]) as watched:
            await nodes[1].announce(TOPIC, b"rain")
            await asyncio.sleep(10 * 60)
            assert watched.values == [b"rain"]
            assert await count(nodes[0], "watch_reads") <= 4  # each other digest is read once


async def test_a_holder_that_is_alone_with_what_it_has_makes_nobody_read() -> None:
    def answer(request: Request) -> Response | None:
        return Watched(300, b"whatever") if isinstance(request, Watch) else None

    async with Neighbourhood() as here:
        nodes = await here.grow_puppets(5)
        client = await here.start(server=False)
        async with watching(client):
            receipt = await nodes[0].announce(TOPIC, b"rain")
            for several, reads in ((0, 1), (1, 1), (3, 2)):
                for node in nearest(receipt.key, nodes)[:several]:
                    assert isinstance(node, Puppet)
                    node.answer = answer
                await asyncio.sleep(100)
                assert await count(client, "watch_reads") == reads


async def test_clients_tell_nobody_and_may_watch() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(5)
        client = await here.start(server=False)
        stranger = await here.stranger()
        assert await stranger.ask(client, Watch(b"k" * 32)) == Watched(0)
        async with watching(client) as watched:
            await nodes[1].announce(TOPIC, b"rain")
            await asyncio.sleep(5)
        assert watched.values == [b"rain"]
