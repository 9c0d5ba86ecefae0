"""Renewal: over restarts, paced, jittered, at the price of one round trip, and when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kademlia_node.core.key import Key
from kademlia_node.core.message import Request, Response, Store, Stored, StoreStatus
from kademlia_node.errors import SetupError
from kademlia_node.node.node import Node
from kademlia_node.settings import EXPIRY_DEFAULT_S, FORGOTTEN_AFTER_S, TOMBSTONE_S, Settings
from kademlia_node.store.base import Place, Published
from kademlia_node.store.memory import MemoryPublications, MemoryStore
from tests.node.network import DAY, HOUR, PRIVATE, SILENCE, Neighbourhood, nearest

CALM = Settings(  # for long runs: fewer chores
    liveness_s=DAY,
    republish="never",
    rejoin_look_s=HOUR,
    check_every_s=HOUR,
    refresh_every_s=HOUR,
    refresh_s=DAY,
    probe_s=DAY,
    sweep_s=HOUR,
    join_retry_max_s=600,
    renew_every_s=300,
)
HOURLY = replace(CALM, renew_after_s=HOUR)
LONG = bytes(range(256)) * 100


class Member:
    """A node with a disk, so to speak: its identity and its store outlast its runs."""

    def __init__(self, here: Neighbourhood, **options: Any) -> None:
        self._here = here
        self.identity = here.new_identity()
        self.store = MemoryStore(self.identity.id, settings=CALM)
        self._options = {"server": False, "identity": self.identity, "store": self.store, **options}

    async def start(self, **options: Any) -> Node:
        return await self._here.start(**{**self._options, **options})


async def expiry(here: Neighbourhood, holder: Node, key: Key) -> int | None:
    return next((record.header.expires for record in await here.held(holder, key)), None)


async def publications(node: Node) -> list[Published]:
    return [published async for published in node.publications()]


def refuse_stores(request: Request) -> Response | None:
    return Stored(StoreStatus.QUOTA) if isinstance(request, Store) else None


# --- Over restarts ----------------------------------------------------------------------------


async def test_everything_published_is_renewed_after_a_restart() -> None:
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(4)
        member = Member(here)
        node = await member.start()
        receipts = [
            await node.set("name of all", b"common"),
            await node.set("own name", b"own", own=True),
            await node.announce("cars", b"mine", slot="one"),
            await node.put(b"blob"),
            await node.put(LONG),
            await node.set("long", LONG),
        ]
        await node.stop()
        await asyncio.sleep(20 * HOUR)
        await member.start()
        await asyncio.sleep(26 * HOUR)
        for receipt in receipts:
            for holder in nearest(receipt.key, here.nodes[:4])[: PRIVATE.copies]:
                expires = await expiry(here, holder, receipt.key)
                assert expires is not None
                assert expires > receipt.expires + 20 * HOUR


@pytest.mark.parametrize("value", [b"blue", LONG], ids=["short", "long"])
async def test_who_was_off_for_five_days_brings_everything_back(value: bytes) -> None:
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(3)
        member = Member(here)
        node = await member.start()
        named, blob = await node.set("colour", value), await node.put(value)
        await node.stop()
        await asyncio.sleep(5 * DAY)
        assert await here.nodes[0].get("colour", default=None) is None
        await member.start()
        await asyncio.sleep(600)
        record, _ = await here.nodes[0].get_record("colour")
        assert record is not None
        assert (record.value, record.header.seq) == (value, named.seq)
        assert await here.nodes[0].get(blob.key) == value


@pytest.mark.parametrize("away_s", [10 * DAY, 20 * DAY], ids=["tombstone alive", "tombstone gone"])
async def test_who_was_off_for_long_brings_back_nothing_that_was_withdrawn(away_s: float) -> None:
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(3)
        member = Member(here)
        node = await member.start()
        key = (await node.set("colour", b"blue")).key
        await node.stop()
        await asyncio.sleep(HOUR)
        await here.nodes[0].withdraw("colour")
        await asyncio.sleep(away_s)
        assert bool(await here.holders(key)) == (away_s < TOMBSTONE_S)
        node = await member.start()
        await asyncio.sleep(2 * HOUR)
        assert await here.nodes[1].get("colour", default=None) is None
        assert len(await publications(node)) == (away_s > TOMBSTONE_S)  # nobody told it: it rests


async def test_what_was_not_renewed_for_so_long_rests_but_for_blobs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody can withdraw a blob. What rests is still listed, for its owner to decide."""
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(3)
        member = Member(here)
        node = await member.start()
        await node.set("colour", b"blue")
        await node.announce("cars", b"mine")
        blob = await node.put(b"blob")
        await node.stop()
        await asyncio.sleep(FORGOTTEN_AFTER_S + 6 * HOUR)
        node = await member.start()
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(600)
        assert len(await publications(node)) == 3
        assert await here.nodes[0].get(blob.key) == b"blob"
        assert await here.nodes[0].get("colour", default=None) is None
        assert (await node.status()).counters["publications_resting"] == 2
        assert caplog.text.count("a publication rests") == 2
        await node.set("colour", b"blue again")
        assert await here.nodes[0].get("colour") == b"blue again"


@pytest.mark.parametrize("wrong_s", [13 * DAY, -13 * DAY])
async def test_a_clock_that_was_wrong_for_two_minutes_costs_no_publication(wrong_s: float) -> None:
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(3)
        offset = 0.0
        writer = await here.start(server=False, wall=lambda: here.sim.wall() + offset)
        await writer.set("colour", b"blue")
        offset = wrong_s
        await asyncio.sleep(120)
        offset = 0.0
        await asyncio.sleep(3 * DAY)
        assert len(await publications(writer)) == 1
        assert await here.nodes[0].get("colour") == b"blue"


async def test_what_is_refused_for_days_is_not_taken_for_renewed() -> None:
    """Seen by an attacker: each refusal made it look as if it had just been renewed."""
    async with Neighbourhood(settings=CALM) as here:
        puppets = await here.grow_puppets(3)
        writer = await here.start(server=False)
        await writer.set("colour", b"old")
        for puppet in puppets:
            puppet.answer = lambda request: (
                Stored(StoreStatus.BUSY) if isinstance(request, Store) else None
            )
        await asyncio.sleep(20 * DAY)
        for puppet in puppets:
            puppet.answer = lambda _: None
        await asyncio.sleep(6 * HOUR)
        assert await puppets[0].get("colour", default=None) is None


async def test_what_is_another_authors_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """As after a change of the identity, while the store stayed."""
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(3)
        member = Member(here)
        node = await member.start()
        await node.set("colour", b"own", own=True)
        common = await node.set("colour", b"common")
        await node.stop()
        await asyncio.sleep(DAY)
        node = await member.start(identity=here.new_identity())
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(600)
        assert [one.record.key for one in await publications(node)] == [common.key.digest]
        assert "its author's key" in caplog.text
        assert await here.nodes[0].get("colour") == b"common"


# --- Pace -------------------------------------------------------------------------------------


async def test_two_hundred_at_once_are_renewed_a_few_at_a_time() -> None:
    async with Neighbourhood(settings=CALM) as here:
        puppets = await here.grow_puppets(3)
        member = Member(here, settings=replace(CALM, check_every_s=10, renew_every_s=60))
        node = await member.start()
        for number in range(200):
            await node.put(b"%d" % number)
        await node.stop()
        await asyncio.sleep(26 * HOUR)
        stores: list[float] = []
        loop = asyncio.get_running_loop()

        def note(request: Request) -> Response | None:
            if isinstance(request, Store):
                stores.append(loop.time())
            return None

        puppets[0].answer = note
        node = await member.start()
        await asyncio.sleep(120)
        assert len(stores) == 200
        busiest = max(sum(0 <= later - one < 0.5 for later in stores) for one in stores)
        assert 2 <= busiest <= CALM.renewals_at_once
        runs, age_s = (await node.status()).chores["check"]  # had its turn meanwhile
        assert runs >= 8
        assert age_s is not None
        assert age_s < 15


async def test_the_more_there_are_the_more_are_renewed_at_once() -> None:
    """At eight at a time the last of 300 would wait for more than half a minute."""
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(3)
        member = Member(here, settings=replace(CALM, renew_every_s=60, renew_all_s=12))
        node = await member.start()
        await node.put_many([b"%d" % number for number in range(300)])
        await node.stop()
        await asyncio.sleep(26 * HOUR)
        node = await member.start()
        await asyncio.sleep(60 * 1.1 + 20)
        assert (await node.status()).operations["renew"].count == 300


async def test_the_next_renewals_are_spread_over_a_tenth_either_way() -> None:
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(2)
        node = await Member(here).start()
        after = []
        for number in range(100):
            await node.put(b"%d" % number)
        for published in await publications(node):
            written = published.record.header.expires - EXPIRY_DEFAULT_S
            after.append((published.renew_at - written) / CALM.renew_after_s)
        assert all(0.9 <= share <= 1.1001 for share in after)
        assert min(after) < 0.93
        assert max(after) > 1.07


# --- Price ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"blue", LONG], ids=["short", "long"])
async def test_a_renewal_is_one_store_for_each_copy_in_one_round_trip(value: bytes) -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        await here.grow(12)
        node = await Member(here).start(settings=HOURLY)
        written, put = await node.set("colour", value), await node.put(value)
        await asyncio.sleep(10 * HOUR)
        cost = (await node.status()).operations["renew"]
        assert cost.count >= 16
        replicas = len(await here.holders(written.key)) + len(await here.holders(put.key))
        assert PRIVATE.copies * cost.count <= cost.requests <= replicas * (cost.count + 1) / 2
        assert replicas <= 2 * PRIVATE.copies + 2
        assert cost.round_trips == cost.count


async def test_renewals_whose_holders_are_not_remembered_share_walks() -> None:
    """A walk to each would be some 20 requests more."""
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(40)
        member = Member(here)
        node = await member.start()
        receipts = await node.put_many([b"%d" % number for number in range(200)])
        await node.stop()
        await asyncio.sleep(26 * HOUR)
        node = await member.start()
        await asyncio.sleep(600)
        cost = (await node.status()).operations["renew"]
        assert cost.count == 200
        assert cost.requests < 2 * PRIVATE.copies * cost.count
        for receipt in receipts:
            for holder in nearest(receipt.key, here.nodes[:40])[: PRIVATE.copies]:
                expires = await expiry(here, holder, receipt.key)
                assert expires is not None
                assert expires > receipt.expires + 20 * HOUR


async def test_a_renewal_reaches_the_true_closest_when_they_have_changed() -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        await here.grow(10)
        node = await Member(here).start(settings=HOURLY)
        key = (await node.set("colour", b"blue")).key
        await nearest(key, here.nodes[:10])[0].stop()
        await here.grow(6)
        await asyncio.sleep(3 * HOUR)
        alive = [one for one in here.nodes if one is not node]
        alive.remove(nearest(key, here.nodes[:10])[0])
        for holder in nearest(key, alive)[: PRIVATE.copies]:
            expires = await expiry(here, holder, key)
            assert expires is not None
            assert expires > here.sim.wall() + EXPIRY_DEFAULT_S - 2 * HOUR


# --- When it fails ----------------------------------------------------------------------------


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
async def test_while_nobody_is_reachable_nothing_is_lost(*, server: bool) -> None:
    """A server keeps a copy itself, and knows that this is not enough."""
    async with Neighbourhood(settings=HOURLY) as here:
        await here.grow(3)
        node = await Member(here).start(settings=HOURLY, server=server)
        receipts = [await node.put(b"%d" % number) for number in range(20)]
        here.sim.unplug(node.address)
        await asyncio.sleep(3 * HOUR)
        assert len(await publications(node)) == 20
        here.sim.plug(node.address)
        await asyncio.sleep(HOUR / 2)
        for receipt in receipts:
            servers = here.nodes if server else here.nodes[:3]
            for holder in nearest(receipt.key, servers)[: PRIVATE.copies]:
                expires = await expiry(here, holder, receipt.key)
                assert expires is not None
                assert expires > receipt.expires + 2 * HOUR


async def test_what_was_written_while_cut_off_is_handed_out_soon_after() -> None:
    """Found by simulation: the whole renewal interval passed before the others had it."""
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(4)
        node = await Member(here).start(settings=CALM, server=True)
        withdrawn = await node.set("withdrawn", b"value")
        here.sim.unplug(node.address)
        written = await node.set("written", b"value")
        await node.withdraw("withdrawn")
        assert [len(receipt.replicas) for receipt in (withdrawn, written)] == [PRIVATE.copies, 1]
        assert len(await publications(node)) == 1
        here.sim.plug(node.address)
        await asyncio.sleep(3 * CALM.renew_retry_s)
        for holder in nearest(written.key, here.nodes)[: PRIVATE.copies]:
            assert await expiry(here, holder, written.key) is not None
        for holder in nearest(withdrawn.key, here.nodes)[: PRIVATE.copies]:
            (record,) = await here.held(holder, withdrawn.key)
            assert record.header.is_tombstone
        assert len(await publications(node)) == (await node.status()).publications == 1


@pytest.mark.parametrize("others", [0, 3])
async def test_what_stays_short_of_copies_is_handed_out_ever_more_seldom(others: int) -> None:
    """A lone node writes its own disk for nothing, and a peer that is mute will stay so."""
    async with Neighbourhood(replace(PRIVATE, copies=5), settings=CALM) as here:
        puppets = await here.grow_puppets(others)
        for puppet in puppets[:1]:
            puppet.answer = lambda request: SILENCE if isinstance(request, Store) else None
        node = await here.start(bootstrap=[puppet.invite for puppet in puppets])
        await node.set("name", b"value")
        await asyncio.sleep(12 * HOUR)
        renewals = (await node.status()).operations["renew"]
        assert 5 <= renewals.count <= 9  # after 5, 15, 35 ... minutes


async def test_who_learns_afterwards_of_a_tombstone_that_lives_longer_renews_soon() -> None:
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(6)
        late, writer, *_ = nearest(here.nodes[0].key_of("colour"), here.nodes)
        cut = here.sim.partition([late.address])
        await late.withdraw("colour")
        cut.heal()
        here.sim.slow[late.address] = 0.3
        receipt = await writer.set("colour", b"red", acks=1)
        assert late.public_key not in {one.public_key for one in receipt.replicas}
        (published,) = await publications(writer)
        assert published.renew_at > here.sim.wall() + CALM.renew_after_s / 2
        await asyncio.sleep(60.0)
        (published,) = await publications(writer)
        assert published.renew_at < here.sim.wall() + 2 * CALM.renew_retry_s


async def test_a_network_of_fewer_nodes_than_copies_is_short_of_none() -> None:
    async with Neighbourhood(settings=CALM) as here:
        first, second = await here.grow(2)
        assert len((await first.set("name", b"value")).replicas) == 2
        await second.withdraw("name")
        (published,) = await publications(first)
        assert published.renew_at > here.sim.wall() + CALM.renew_after_s / 2
        assert (await second.status()).publications == 0


async def test_a_node_that_never_knew_anybody_renews_what_it_holds_itself() -> None:
    async with Neighbourhood(settings=CALM) as here:
        node = await here.start()
        receipts = [await node.put(b"%d" % number) for number in range(20)]
        await asyncio.sleep(4 * DAY)
        for number, receipt in enumerate(receipts):
            assert await node.get(receipt.key) == b"%d" % number


async def test_what_everybody_refuses_makes_way_for_the_others() -> None:
    """The first eight would be the first eight of each round."""
    async with Neighbourhood(settings=HOURLY) as here:
        (puppet,) = await here.grow_puppets(1)
        node = await Member(here).start(settings=HOURLY)
        refused = [await node.put(b"refused %d" % number) for number in range(12)]
        await asyncio.sleep(60)
        taken = await node.put(b"taken")
        unwanted = {receipt.key.digest for receipt in refused}
        puppet.answer = lambda request: (
            refuse_stores(request)
            if isinstance(request, Store) and request.key in unwanted
            else None
        )
        await asyncio.sleep(3 * HOUR)
        expires = await expiry(here, puppet, taken.key)
        assert expires is not None
        assert expires > taken.expires + HOUR
        assert await expiry(here, puppet, refused[0].key) == refused[0].expires
        assert len(await publications(node)) == 13
        puppet.answer = lambda _: None
        await asyncio.sleep(HOUR / 4)
        for receipt in refused:
            expires = await expiry(here, puppet, receipt.key)
            assert expires is not None
            assert expires > receipt.expires


async def test_a_holder_that_is_silent_does_not_stop_a_renewal() -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        puppets = await here.grow_puppets(3)
        node = await Member(here).start(settings=HOURLY)
        receipt = await node.put(b"blob")
        puppets[0].answer = lambda request: SILENCE if isinstance(request, Store) else None
        await asyncio.sleep(2 * HOUR)
        for holder in puppets[1:]:
            assert await expiry(here, holder, receipt.key) != receipt.expires
        (published,) = await publications(node)
        assert published.record.header.expires > receipt.expires


class FullPublications(MemoryPublications):
    """Of a disk that is full, while `full`."""

    full = False

    async def keep(self, published: Published) -> None:
        if self.full:
            raise SetupError("the disk is full")
        await super().keep(published)

    async def drop(self, place: Place) -> None:
        if self.full:
            raise SetupError("the disk is full")
        await super().drop(place)


async def test_a_full_disk_stops_no_renewal(caplog: pytest.LogCaptureFixture) -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        puppets = await here.grow_puppets(3)
        member = Member(here, settings=HOURLY)
        member.store.publications = disk = FullPublications()
        node = await member.start()
        receipts = [await node.put(b"%d" % number) for number in range(20)]
        await node.set("colour", b"blue")
        disk.full = True
        stores = 0

        def count(request: Request) -> Response | None:
            nonlocal stores
            stores += isinstance(request, Store)
            return None

        puppets[0].answer = count
        await here.nodes[0].set("colour", b"red")  # ours is to be dropped
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(4 * HOUR)
        assert "a renewal cannot be noted: the disk is full" in caplog.text
        assert "a publication cannot be dropped: the disk is full" in caplog.text
        assert stores <= 200  # 20 an hour, and those that are tried to be dropped
        for receipt in receipts:
            expires = await expiry(here, puppets[0], receipt.key)
            assert expires is not None
            assert expires > receipt.expires + 2 * HOUR
        disk.full = False
        await asyncio.sleep(2 * HOUR)
        kept = await publications(node)
        assert {one.record.key for one in kept} == {receipt.key.digest for receipt in receipts}
        assert all(one.renew_at > here.sim.wall() - HOUR for one in kept)


async def test_a_put_that_cannot_be_kept_alive_says_so() -> None:
    async with Neighbourhood() as here:
        await here.grow(2)
        member = Member(here)
        member.store.publications = disk = FullPublications()
        node = await member.start()
        disk.full = True
        with pytest.raises(SetupError, match="the disk is full"):
            await node.put(b"blob")


# --- When it ends -----------------------------------------------------------------------------


async def test_a_newer_version_elsewhere_ends_it() -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        await here.grow(3)
        node = await Member(here).start(settings=HOURLY)
        await node.set("colour", b"blue")
        newer = await here.nodes[0].set("colour", b"red")
        await asyncio.sleep(2 * HOUR)
        assert await publications(node) == []
        record, _ = await node.get_record("colour")
        assert record is not None
        assert (record.value, record.header.seq) == (b"red", newer.seq)


async def test_an_earlier_withdrawal_does_not_outlive_what_was_set_after_it() -> None:
    """Found by simulation (chaos, seed 58): a tombstone lives longer, and kept out the value."""
    async with Neighbourhood(settings=HOURLY) as here:
        await here.grow(8)
        by_distance = nearest(here.nodes[0].key_of("colour"), here.nodes)
        one_side, other_side = by_distance[::2], by_distance[1::2]
        cut = here.sim.partition([node.address for node in one_side])
        await asyncio.sleep(60.0)
        await one_side[0].withdraw("colour")
        await asyncio.sleep(60.0)
        receipt = await other_side[0].set("colour", b"red")
        cut.heal()
        await asyncio.sleep(3 * HOUR)
        for reader in here.nodes:
            assert await reader.get("colour") == b"red"
        for holder in by_distance[: PRIVATE.copies]:
            (record,) = await here.held(holder, receipt.key)
            assert record.value == b"red"


async def test_a_blob_that_is_forgotten_expires() -> None:
    async with Neighbourhood(settings=CALM) as here:
        await here.grow(3)
        node = await Member(here).start()
        forgotten, kept = await node.put(b"forgotten"), await node.put(b"kept")
        assert await node.forget(forgotten.key)
        assert not await node.forget(forgotten.key)
        assert await node.get(forgotten.key) == b"forgotten"
        await asyncio.sleep(EXPIRY_DEFAULT_S + HOUR)
        assert await node.get(forgotten.key, default=None) is None
        assert await node.get(kept.key) == b"kept"


async def test_a_blob_forgotten_while_it_is_renewed_stays_forgotten() -> None:
    async with Neighbourhood(settings=HOURLY) as here:
        (puppet,) = await here.grow_puppets(1)
        node = await Member(here).start(settings=HOURLY)
        receipt = await node.put(b"blob")
        renewal = asyncio.Event()

        def stall(request: Request) -> Response | None:
            if isinstance(request, Store):
                renewal.set()
                return SILENCE
            return None

        puppet.answer = stall
        await renewal.wait()
        assert await node.forget(receipt.key)
        await asyncio.sleep(HOUR)
        assert await publications(node) == []


# --- Clocks -----------------------------------------------------------------------------------


def clock(here: Neighbourhood, hours: float) -> Callable[[], float]:
    return lambda: here.sim.wall() + hours * HOUR


@pytest.mark.parametrize("writer_off", [-5, 5])
@pytest.mark.parametrize("storers_off", [-5, 0, 5])
async def test_clocks_that_are_off_by_hours_harm_nothing(
    writer_off: float, storers_off: float
) -> None:
    async with Neighbourhood(settings=replace(CALM, renew_every_s=HOUR)) as here:
        await here.grow(4, wall=clock(here, storers_off))
        node = await here.start(server=False, wall=clock(here, writer_off))
        reader = await here.start(server=False)
        blob, long = await node.put(b"blob"), await node.put(LONG)
        await node.set("colour", b"blue")
        await node.announce("cars", b"mine")
        await reader.set("other", b"old")
        await node.set("other", b"new")
        await node.set("gone", b"here")
        await node.withdraw("gone")
        for _ in range(2):
            assert await reader.get(blob.key) == b"blob"
            assert await reader.get(long.key) == LONG
            assert await reader.get("colour") == b"blue"
            assert await reader.get("other") == b"new"
            assert [entry.value async for entry in reader.find("cars")] == [b"mine"]
            assert await reader.get("gone", default=None) is None
            await asyncio.sleep(50 * HOUR)  # renewed twice
