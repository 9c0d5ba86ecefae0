"""What is written for a short time: gone soon after its node, kept as long as that runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from kademlia_node.core.key import Key
from kademlia_node.node.announcing import Announcement
from kademlia_node.node.node import Node
from kademlia_node.settings import EXPIRY_DEFAULT_S, TOMBSTONE_S, Settings
from kademlia_node.store.memory import MemoryStore
from tests.node.network import HOUR, Neighbourhood, collect
from tests.node.providers import manifest_of

TTL_S = 600
MANIFEST = manifest_of(b"a content")


async def write(node: Node, verb: str) -> Key:
    """Something short-lived, by one of the verbs."""
    match verb:
        case "put":
            return (await node.put(b"blob", ttl_s=TTL_S)).key
        case "put_many":
            return (await node.put_many([b"blob"], ttl_s=TTL_S))[0].key
        case "set":
            return (await node.set("colour", b"blue", ttl_s=TTL_S)).key
        case "announce":
            return (await node.announce("papers", b"mine", ttl_s=TTL_S)).key
    return (await node.provide(MANIFEST, ttl_s=TTL_S)).key


VERBS = ["put", "put_many", "set", "announce", "provide"]


@pytest.mark.parametrize("verb", VERBS)
async def test_it_is_gone_soon_after_its_node_has_died(verb: str) -> None:
    async with Neighbourhood() as here:
        others = await here.grow(4)
        node = await here.start(server=False)
        key = await write(node, verb)
        assert await here.holders(key)
        await node.stop()
        await asyncio.sleep(TTL_S + 1)
        assert not await here.holders(key)
        assert await others[0].get("colour", default=None) is None


@pytest.mark.parametrize("verb", VERBS)
async def test_it_is_there_as_long_as_its_node_runs(verb: str) -> None:
    async with Neighbourhood() as here:
        await here.grow(4)
        node = await here.start(server=False)
        key = await write(node, verb)
        for _ in range(36):
            await asyncio.sleep(300)
            assert len(await here.holders(key)) >= 3


async def test_who_provides_for_a_short_time_is_announced_no_longer() -> None:
    async with Neighbourhood() as here:
        await here.grow(4)
        node = await here.start(server=False)
        await node.provide(MANIFEST, ttl_s=TTL_S)
        lives = [one.record.header.expires - here.sim.wall() async for one in node.publications()]
        assert len(lives) == 2
        assert max(lives) <= TTL_S


async def test_a_renewal_after_a_restart_is_as_short() -> None:
    async with Neighbourhood() as here:
        await here.grow(4)
        identity = here.new_identity()
        store = MemoryStore(identity.id, settings=Settings())
        node = await here.start(server=False, identity=identity, store=store)
        key = await write(node, "announce")
        await node.stop()
        await asyncio.sleep(HOUR)
        assert not await here.holders(key)
        node = await here.start(server=False, identity=identity, store=store)
        await asyncio.sleep(120)
        assert await here.holders(key)
        await node.stop()
        await asyncio.sleep(TTL_S + 1)
        assert not await here.holders(key)


async def test_it_is_renewed_at_about_half_of_its_time() -> None:
    async with Neighbourhood() as here:
        node, *_ = await here.grow(4)
        await node.announce("papers", b"mine", ttl_s=14_400)
        (published,) = await collect(node.publications())
        assert published.ttl_s == 14_400
        assert 0.45 <= (published.renew_at - here.sim.wall()) / 14_400 <= 0.55


async def test_a_renewal_does_not_wait_for_the_round_of_its_chore() -> None:
    """Of four minutes it has two, in which other chores may have to end first."""
    late_s: list[float] = []
    async with Neighbourhood(settings=Settings(renew_every_s=60.0)) as here:
        node, *_ = await here.grow(4)
        for number in range(20):
            await node.announce("papers", b"mine", slot=str(number), ttl_s=240)
            await asyncio.sleep(7)
        while len(late_s) < 100:
            before = {one.place: one for one in await collect(node.publications())}
            await asyncio.sleep(0.5)
            after = await collect(node.publications())
            renewed = [one for one in after if one.renew_at != before[one.place].renew_at]
            late_s += [here.sim.wall() - before[one.place].renew_at for one in renewed]
    assert max(late_s) < 5


async def test_many_that_live_for_minutes_are_all_renewed_in_time() -> None:
    async with Neighbourhood(settings=Settings(renewals_at_once=1)) as here:
        node, *_ = await here.grow(4)
        entries = [Announcement(f"word {number}", b"mine") for number in range(200)]
        keys = [receipt.key for receipt in await node.announce_many(entries, ttl_s=240)]
        for _ in range(8):
            await asyncio.sleep(60)
            assert min([len(await here.holders(key)) for key in keys]) >= 3


async def test_what_lives_for_minutes_does_not_wait_for_much_that_is_long_overdue() -> None:
    async with Neighbourhood(settings=Settings(renewals_at_once=1)) as here:
        await here.grow(4)
        identity = here.new_identity()
        store = MemoryStore(identity.id, settings=Settings())
        node = await here.start(server=False, identity=identity, store=store)
        await node.announce_many(
            [Announcement(f"word {number}", b"mine") for number in range(400)], ttl_s=14_400
        )
        await node.stop()
        await asyncio.sleep(2.25 * HOUR)
        node = await here.start(server=False, identity=identity, store=store)
        brief = await node.announce("papers", b"mine", ttl_s=240)
        for _ in range(20):
            await asyncio.sleep(30)
            assert len(await here.holders(brief.key)) >= 3


async def test_what_follows_something_that_lives_longer_lives_as_long() -> None:
    """Else a copy of the first one that slept somewhere would come back."""
    async with Neighbourhood() as here:
        node, *_ = await here.grow(4)
        first = await node.announce("papers", b"first")
        second = await node.announce("papers", b"second", ttl_s=TTL_S)
        assert second.expires == first.expires
        assert not second.refused
        assert (await node.status()).operations["write"].count == 2  # it was known beforehand
        gone = await node.withdraw(topic="papers", ttl_s=TTL_S)
        assert gone.expires == first.expires


async def test_a_short_withdrawal_makes_room_for_something_short_lived() -> None:
    async with Neighbourhood() as here:
        node, other, *_ = await here.grow(4)
        await node.announce("papers", b"mine", ttl_s=TTL_S)
        gone = await node.withdraw(topic="papers", ttl_s=TTL_S)
        assert gone.expires - here.sim.wall() <= TTL_S
        assert await collect(other.find("papers")) == []
        again = await node.announce("papers", b"again", ttl_s=TTL_S)
        assert again.expires - here.sim.wall() <= TTL_S
        key = (await node.provide(MANIFEST, ttl_s=TTL_S)).key
        await node.unprovide(key, ttl_s=TTL_S)
        await asyncio.sleep(TTL_S + 1)
        assert not await here.holders(key)
        by_default = await node.withdraw(topic="papers")
        assert by_default.expires - here.sim.wall() > TOMBSTONE_S - 60


@pytest.mark.parametrize(
    ("ttl_s", "error"),
    [
        (239, ValueError),
        (0, ValueError),
        (EXPIRY_DEFAULT_S + 1, ValueError),
        (600.0, TypeError),
        ("600", TypeError),
    ],
)
async def test_what_is_no_time_to_live_is_refused(ttl_s: Any, error: type[Exception]) -> None:
    async with Neighbourhood() as here:
        node, _ = await here.grow(2)
        for verb in (
            node.put(b"", ttl_s=ttl_s),
            node.put_many([b""], ttl_s=ttl_s),
            node.set("", b"", ttl_s=ttl_s),
            node.announce("", b"", ttl_s=ttl_s),
            node.withdraw("", ttl_s=ttl_s),
            node.provide(MANIFEST, ttl_s=ttl_s),
        ):
            with pytest.raises(error, match="ttl_s"):
                await verb
        assert await collect(node.publications()) == []


async def test_who_renews_seldom_is_refused_what_it_could_not_keep_alive() -> None:
    async with Neighbourhood(settings=replace(Settings(), renew_every_s=300.0)) as here:
        node, _ = await here.grow(2)
        with pytest.raises(ValueError, match="between 1200 and"):
            await node.put(b"", ttl_s=1199)
        await node.put(b"", ttl_s=1200)
