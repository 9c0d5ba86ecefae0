"""Writing: who gets a record, what a receipt says, who wins, and how long it lives."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from kademlia_node.core.key import Key, Kind
from kademlia_node.core.message import (
    ErrorCode,
    Pong,
    Refused,
    Request,
    Response,
    Store,
    Stored,
    StoreStatus,
)
from kademlia_node.core.network import Network
from kademlia_node.core.record import Header
from kademlia_node.errors import Conflict, NotFound, NotStored
from kademlia_node.node.receipt import StepOutcome
from kademlia_node.settings import EXPIRY_DEFAULT_S, Settings
from tests.node.network import (
    DAY,
    HOUR,
    PRIVATE,
    SILENCE,
    WALKING,
    Neighbourhood,
    Puppet,
    commons_entry,
    nearest,
)

COPIES = PRIVATE.copies
CALM = Settings(liveness_s=HOUR, sweep_s=HOUR)  # for long runs: fewer chores than by default


def header_of(name: str, *, seq: int, expires: float) -> Header:
    return commons_entry(name, b"theirs", seq=seq, expires=expires).header


def refusing(status: StoreStatus, header: Header | None = None) -> Stored:
    return Stored(status, header)


# --- Who holds a record -----------------------------------------------------------------------


async def test_the_replicas_are_the_true_closest_and_hold_the_record() -> None:
    async with Neighbourhood() as here:
        await here.grow(12)
        for number, node in enumerate(here.nodes):
            receipt = await node.put(b"value %d" % number)
            true = {n.id for n in nearest(receipt.key, here.nodes)[:COPIES]}
            assert {contact.id for contact in receipt.replicas} <= await here.holders(receipt.key)
            assert true <= await here.holders(receipt.key)
            assert receipt.refused == {}
            assert receipt.copies == COPIES
            assert receipt.summary() == "3 replicas of 3 wanted"


async def test_once_the_size_is_known_a_put_covers_the_region_three_times_at_most() -> None:
    async with Neighbourhood() as here:
        await here.grow(25)
        await asyncio.sleep(360)
        assert (await here.nodes[7].status()).network_size is not None
        for number in range(10):
            receipt = await here.nodes[7].put(b"value %d" % number)
            replicas = {contact.id for contact in receipt.replicas}
            assert COPIES <= len(replicas) <= 3 * COPIES
            await asyncio.sleep(1)  # the rest of the region was asked, but not waited for
            holders = await here.holders(receipt.key)
            assert {n.id for n in nearest(receipt.key, here.nodes)[:COPIES]} <= holders
            assert replicas <= holders
            assert len(holders) <= 3 * COPIES


async def test_clients_hold_nothing_and_stand_in_no_table() -> None:
    async with Neighbourhood() as here:
        await here.grow(3)
        clients = await here.grow(4, server=False)
        key = (await clients[0].set("colour", b"blue")).key
        assert await clients[3].get("colour") == b"blue"
        assert await here.holders(key) == {server.id for server in here.nodes[:3]}
        for node in here.nodes:
            assert {c.id for c in node.contacts()} <= {n.id for n in here.nodes[:3]}


async def test_a_node_alone_keeps_its_records_itself() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        receipt = await node.put(b"mine")
        assert [contact.id for contact in receipt.replicas] == [node.id]
        assert await node.get(receipt.key) == b"mine"
        await node.set("colour", b"blue")
        assert await node.get("colour") == b"blue"


async def test_a_client_alone_stores_nowhere() -> None:
    async with Neighbourhood() as here:
        node = await here.start(server=False)
        for write in (node.put(b"value"), node.set("colour", b"blue"), node.withdraw("colour")):
            with pytest.raises(NotStored, match="no peer is known to ask") as raised:
                await write
            assert raised.value.receipt.replicas == ()
        assert (await node.status()).publications == 0


async def test_a_dead_replica_is_passed_over_and_the_trace_names_it() -> None:
    async with Neighbourhood() as here:
        await here.grow(9)
        writer = await here.start(settings=WALKING)
        dead = nearest(writer.key_of("colour"), here.nodes[:-1])[0]
        here.sim.unplug(dead.address)
        receipt = await writer.set("colour", b"blue")
        assert len(receipt.replicas) == COPIES
        assert dead.id not in {contact.id for contact in receipt.replicas}
        silent = {s.contact.id for s in receipt.trace.steps if s.outcome is StepOutcome.SILENT}
        assert silent == {dead.id}


async def test_losses_leave_receipts_true() -> None:
    async with Neighbourhood() as here:
        await here.grow(10)
        here.sim.loss = 0.2
        for number in range(20):
            receipt = await here.nodes[number % 10].put(b"value %d" % number)
            assert {contact.id for contact in receipt.replicas} <= await here.holders(receipt.key)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (refusing(StoreStatus.QUOTA), "quota"),
        (refusing(StoreStatus.TOO_FAR), "too far"),
        (refusing(StoreStatus.BAD), "bad"),
        (Refused(ErrorCode.BUSY, "no time"), "refused: no time"),
        (Pong(), "silent"),  # another message is no answer
    ],
)
async def test_who_refuses_is_named_with_the_reason_and_replaced(
    answer: Response, reason: str
) -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(8)
        key = puppets[0].key_of("colour")
        unwilling = nearest(key, puppets[1:])[1]
        unwilling.answer = lambda request: answer if isinstance(request, Store) else None
        receipt = await puppets[0].set("colour", b"blue")
        assert {c.id: why for c, why in receipt.refused.items()} == {unwilling.id: reason}
        assert receipt.summary() == f"3 replicas of 3 wanted; 1 did not take it ({reason})"
        assert await here.holders(key) == {contact.id for contact in receipt.replicas}
        assert unwilling.id not in await here.holders(key)


async def test_who_is_silent_is_replaced_before_it_is_given_up() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(8)
        key = puppets[0].key_of("colour")
        silent = nearest(key, puppets[1:])[1]
        silent.answer = lambda request: SILENCE if isinstance(request, Store) else None
        receipt = await puppets[0].set("colour", b"blue")
        assert receipt.summary() == "3 replicas of 3 wanted"
        assert silent.id not in {contact.id for contact in receipt.refused}
        assert await here.holders(key) == {contact.id for contact in receipt.replicas}


async def test_when_everybody_refuses_nothing_is_stored_or_kept_alive() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(5)
        for puppet in puppets:
            puppet.answer = lambda request: (
                refusing(StoreStatus.QUOTA) if isinstance(request, Store) else None
            )
        client = await here.start(server=False)
        with pytest.raises(NotStored, match="5 did not take it") as raised:
            await client.put(b"value")
        assert {contact.id for contact in raised.value.receipt.refused} == {p.id for p in puppets}
        assert (await client.status()).publications == 0


async def test_our_own_store_may_refuse_too() -> None:
    async with Neighbourhood(settings=Settings(store_bytes_max=0)) as here:
        node = await here.start()
        with pytest.raises(NotStored, match="quota"):
            await node.put(b"value")


async def test_a_cancelled_put_harms_nobody() -> None:
    async with Neighbourhood() as here:
        node, *_ = await here.grow(6)
        for steps in range(1, 30):
            writing = asyncio.create_task(node.put(b"value %d" % steps))
            await asyncio.sleep(0.01 * steps)
            writing.cancel()
            await asyncio.sleep(1)
        receipt = await node.put(b"last")
        assert await node.get(receipt.key) == b"last"


# --- Who wins ---------------------------------------------------------------------------------


async def test_every_member_may_write_in_the_commons_and_the_last_one_wins() -> None:
    async with Neighbourhood() as here:
        alice, bob, carol = await here.grow(3)
        first = await alice.set("colour", b"blue")
        second = await bob.set("colour", b"red")
        assert second.seq > first.seq
        for node in (alice, bob, carol):
            assert await node.get("colour") == b"red"


async def test_what_is_set_as_own_is_read_by_author() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        await alice.set("colour", b"hers", own=True)
        await bob.set("colour", b"his", own=True)
        await bob.set("colour", b"everybody's")
        for node in (alice, bob):
            assert await node.get("colour", author=alice.public_key) == b"hers"
            assert await node.get("colour", author=bob.public_key) == b"his"
            assert await node.get("colour") == b"everybody's"


async def test_a_slow_clock_overwrites_all_the_same() -> None:
    async with Neighbourhood() as here:
        await here.grow(5)
        late = await here.start(wall=lambda: here.sim.wall() - HOUR)
        first = await here.nodes[0].set("colour", b"blue")
        second = await late.set("colour", b"red")
        assert second.seq == first.seq + 1
        assert second.expires >= first.expires
        assert {contact.id for contact in second.replicas} == await here.holders(first.key)
        for node in here.nodes:
            assert await node.get("colour") == b"red"
        await late.withdraw("colour")
        assert await here.nodes[0].get("colour", default=None) is None


async def test_of_several_newer_versions_the_newest_is_overwritten_at_once() -> None:
    async with Neighbourhood() as here:
        await here.grow(3)
        writer = await here.start(server=False, wall=lambda: here.sim.wall() - HOUR)
        stranger, expires = await here.stranger(), here.sim.wall() + 2 * DAY
        for version, node in zip((7, 9, 8), here.nodes, strict=False):
            seq = int(here.sim.wall()) * 1_000_000 + version
            held = commons_entry("colour", b"blue", seq=seq, expires=expires)
            await stranger.ask(node, Store(held.key, held.header, held.value))
        receipt = await writer.set("colour", b"red")
        assert receipt.seq % 10 == 0
        assert len(receipt.replicas) == 3
        for node in here.nodes[:3]:
            assert (await node.status()).counters["served_Store"] == 3  # the stranger's, and two


async def test_a_write_gives_up_after_three_versions_in_the_way() -> None:
    """Somebody writes on and on; as nobody takes our version, that is what we say."""
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(3)
        writer = await here.start(server=False)
        tried: list[int] = []

        def always_newer(request: Request) -> Response | None:
            if not isinstance(request, Store):
                return None
            tried.append(request.header.seq)
            newer = header_of("colour", seq=request.header.seq + 1, expires=here.sim.wall() + DAY)
            return refusing(StoreStatus.OLD, newer)

        for puppet in puppets:
            puppet.answer = always_newer
        with pytest.raises(NotStored, match="old"):
            await writer.set("colour", b"blue")
        assert len(set(tried)) == 3


async def test_a_write_outlives_what_it_replaces() -> None:
    """Else the old version could come back from some disk (SHORTENED)."""
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        early = await here.start(wall=lambda: here.sim.wall() + HOUR)
        first = await early.set("colour", b"blue")
        await asyncio.sleep(2 * HOUR)
        second = await bob.set("colour", b"red", expect_seq=first.seq)
        assert second.seq > first.seq
        late = await here.start(wall=lambda: here.sim.wall() - HOUR)
        third = await late.set("colour", b"green", expect_seq=second.seq)
        assert third.expires == second.expires
        assert await alice.get("colour") == b"green"


async def test_a_copy_that_was_renewed_apart_is_outlived_too() -> None:
    async with Neighbourhood() as here:
        await here.grow(3)
        first = await here.nodes[0].set("colour", b"blue")
        renewed = commons_entry("colour", b"blue", seq=first.seq, expires=first.expires + HOUR)
        stranger = await here.stranger()
        await stranger.ask(here.nodes[1], Store(renewed.key, renewed.header, renewed.value))
        second = await here.nodes[2].set("colour", b"red", expect_seq=first.seq)
        assert second.expires == first.expires + HOUR
        assert {contact.id for contact in second.replicas} == {n.id for n in here.nodes}
        assert second.refused == {}


async def test_two_writes_at_one_instant_are_two_versions() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        first, second = await asyncio.gather(
            alice.set("colour", b"blue"), alice.set("colour", b"red")
        )
        assert first.seq != second.seq
        latest = b"blue" if first.seq > second.seq else b"red"
        assert await bob.get("colour") == latest


# --- Compare and set --------------------------------------------------------------------------


async def test_the_expected_seq_lets_a_write_through() -> None:
    async with Neighbourhood() as here:
        alice, bob, _ = await here.grow(3)
        first = await alice.set("colour", b"blue", expect_seq=0)
        second = await bob.set("colour", b"red", expect_seq=first.seq)
        assert await alice.get("colour") == b"red"
        assert second.seq > first.seq


async def test_a_lost_update_is_a_conflict_that_shows_the_current_record() -> None:
    async with Neighbourhood() as here:
        alice, bob, _ = await here.grow(3)
        first = await alice.set("colour", b"blue")
        second = await bob.set("colour", b"red")
        with pytest.raises(Conflict, match=f"is at seq {second.seq}") as raised:
            await alice.set("colour", b"green", expect_seq=first.seq)
        current = raised.value.current
        assert current is not None
        assert (current.value, current.header.seq) == (b"red", second.seq)
        assert await alice.get("colour") == b"red"


async def test_to_expect_nothing_conflicts_with_something() -> None:
    async with Neighbourhood() as here:
        alice, bob, _ = await here.grow(3)
        await alice.set("colour", b"blue")
        with pytest.raises(Conflict) as raised:
            await bob.set("colour", b"red", expect_seq=0)
        assert raised.value.current is not None
        assert raised.value.current.value == b"blue"


async def test_to_expect_something_conflicts_with_nothing() -> None:
    async with Neighbourhood() as here:
        alice, *_ = await here.grow(3)
        with pytest.raises(Conflict, match="does not exist") as raised:
            await alice.set("colour", b"red", expect_seq=7)
        assert raised.value.current is None


async def test_an_expected_seq_of_a_slow_clock_is_no_conflict() -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        late = await here.start(wall=lambda: here.sim.wall() - HOUR)
        first = await alice.set("colour", b"blue")
        second = await late.set("colour", b"red", expect_seq=first.seq)
        assert second.seq == first.seq + 1


@pytest.mark.parametrize("shows", ["nothing", "something older", "something forged"])
async def test_one_refusal_without_proof_makes_no_conflict(shows: str) -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(8)
        first = await puppets[0].set("colour", b"blue")
        older = header_of("colour", seq=first.seq - 1, expires=first.expires)
        shown = {
            "nothing": None,
            "something older": older,
            "something forged": replace(older, seq=first.seq + 1),
        }[shows]
        liar = nearest(first.key, puppets[1:])[0]
        liar.answer = lambda request: (
            refusing(StoreStatus.CAS, shown) if isinstance(request, Store) else None
        )
        second = await puppets[0].set("colour", b"red", expect_seq=first.seq)
        assert {c.id: why for c, why in second.refused.items()} == {liar.id: "cas"}
        assert await puppets[0].get("colour") == b"red"


async def test_nobody_having_room_is_no_conflict() -> None:
    async with Neighbourhood() as here:
        (puppet,) = await here.grow_puppets(1)
        client = await here.start(server=False)
        puppet.answer = lambda request: (
            refusing(StoreStatus.QUOTA) if isinstance(request, Store) else None
        )
        with pytest.raises(NotStored):
            await client.set("colour", b"blue", expect_seq=7)


async def test_a_newer_version_that_nobody_shows_is_a_conflict_without_a_record() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(4)
        first = await puppets[0].set("colour", b"blue")
        newer = header_of("colour", seq=first.seq + int(1e12), expires=first.expires)
        secretive = nearest(first.key, puppets[1:])[0]
        secretive.answer = lambda request: (
            refusing(StoreStatus.CAS, newer) if isinstance(request, Store) else None
        )
        with pytest.raises(Conflict) as raised:
            await puppets[0].set("colour", b"red", expect_seq=first.seq)
        assert raised.value.current is None


@pytest.mark.parametrize("lie", ["forged", "of another name", "under another kind"])
async def test_a_false_newer_version_stops_no_write(lie: str) -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(8)
        expires = here.sim.wall() + DAY
        newer = header_of("colour", seq=int(expires * 1e6), expires=expires)
        shown = {
            "forged": replace(newer, signature=bytes(64)),
            "of another name": header_of("other", seq=newer.seq, expires=expires),
            "under another kind": replace(newer, kind=Kind.TOPIC),
        }[lie]
        key = puppets[0].key_of("colour")
        for liar in nearest(key, puppets[1:])[:2]:
            liar.answer = lambda request: (
                refusing(StoreStatus.OLD, shown) if isinstance(request, Store) else None
            )
        receipt = await puppets[0].set("colour", b"blue")
        assert receipt.seq < newer.seq
        assert list(receipt.refused.values()) == ["old", "old"]
        assert len(receipt.replicas) == COPIES


# --- Deleting ---------------------------------------------------------------------------------


async def test_a_withdrawn_name_is_gone_for_all_and_for_good() -> None:
    async with Neighbourhood(settings=CALM) as here:
        alice, bob = await here.grow(2)
        written = await alice.set("colour", b"blue")
        receipt = await bob.withdraw("colour")
        assert receipt.seq > written.seq
        assert receipt.expires >= written.expires
        for node in here.nodes:
            with pytest.raises(NotFound):
                await node.get("colour")
        await asyncio.sleep(30 * HOUR)  # alice's renewal is overdue: she learns of the deletion
        assert await alice.get("colour", default="gone") == "gone"
        assert (await alice.status()).publications == 0


async def test_withdrawing_stops_the_renewal() -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        await alice.set("colour", b"blue", own=True)
        await alice.announce("cars", b"mine", slot="one")
        assert (await alice.status()).publications == 2
        await alice.withdraw("colour", own=True)
        await alice.withdraw(topic="cars", slot="one")
        assert (await alice.status()).publications == 0
        assert await alice.get("colour", author=alice.public_key, default=None) is None


async def test_a_withdrawn_name_can_be_set_again() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        await alice.set("colour", b"blue")
        await alice.withdraw("colour")
        await bob.set("colour", b"red")
        assert await alice.get("colour") == b"red"


# --- Expiry and renewal -----------------------------------------------------------------------


async def test_what_is_published_lives_while_its_node_does_and_48_hours_longer() -> None:
    async with Neighbourhood(settings=CALM) as here:
        bob, alice = await here.grow(2)
        blob = await alice.put(b"blob")
        entry = await alice.set("colour", b"blue")
        topic = await alice.announce("cars", b"mine")
        await asyncio.sleep(4 * DAY)
        keys = [blob.key, entry.key, topic.key]
        for key in keys:
            (record,) = await here.held(bob, key)
            assert record.header.expires > here.sim.wall() + DAY
        assert await bob.get(blob.key) == b"blob"
        renewed, _ = await bob.get_record("colour")
        assert renewed is not None
        assert (renewed.value, renewed.header.seq) == (b"blue", entry.seq)
        assert (await alice.status()).publications == 3
        stores = (await bob.status()).counters["served_Store"]
        assert 3 * 4 <= stores <= 3 * 6  # every 22 hours or so

        await alice.stop()
        await asyncio.sleep(EXPIRY_DEFAULT_S - 26 * HOUR)
        assert await bob.get("colour") == b"blue"
        await asyncio.sleep(26 * HOUR)
        assert await bob.get("colour", default=None) is None
        assert [await here.held(bob, key) for key in keys] == [[], [], []]
        await asyncio.sleep(CALM.sweep_s * 2)
        assert (await bob.status()).records == 0


async def test_a_renewal_moves_the_expiry_and_nothing_else() -> None:
    async with Neighbourhood(settings=replace(CALM, renew_after_s=HOUR)) as here:
        alice, bob = await here.grow(2)
        receipt = await alice.set("colour", b"blue")
        (before,) = await here.held(bob, receipt.key)
        await asyncio.sleep(2 * HOUR)
        (after,) = await here.held(bob, receipt.key)
        assert after.header.expires > before.header.expires
        assert after.header.version == before.header.version
        assert after.value == before.value


async def test_who_was_superseded_stops_renewing() -> None:
    async with Neighbourhood(settings=replace(CALM, renew_after_s=HOUR)) as here:
        alice, bob = await here.grow(2)
        await alice.set("colour", b"blue")
        await bob.set("colour", b"red")
        assert [(await node.status()).publications for node in here.nodes] == [1, 1]
        await asyncio.sleep(2 * HOUR)
        assert [(await node.status()).publications for node in here.nodes] == [0, 1]
        assert await alice.get("colour") == b"red"


async def test_a_renewal_that_nobody_takes_is_tried_again() -> None:
    async with Neighbourhood(settings=replace(CALM, renew_after_s=HOUR)) as here:
        (storer,) = await here.grow_puppets(1)
        alice = await here.start(server=False)
        receipt = await alice.put(b"value")
        storer.answer = lambda request: (
            refusing(StoreStatus.QUOTA) if isinstance(request, Store) else None
        )
        await asyncio.sleep(2 * HOUR)
        (record,) = await here.held(storer, receipt.key)
        assert record.header.expires == receipt.expires
        storer.answer = lambda _: None
        await asyncio.sleep(300)
        (record,) = await here.held(storer, receipt.key)
        assert record.header.expires > receipt.expires


class Stubborn(Puppet):
    """Leaves renewals unanswered and tells when one has come."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.renewal = asyncio.Event()
        self._first: dict[Key | bytes, int] = {}
        self.answer = self._judge

    def _judge(self, request: Request) -> Response | None:
        if not isinstance(request, Store):
            return None
        version = request.key + request.header.value_hash
        if self._first.setdefault(version, request.header.expires) == request.header.expires:
            return None
        self.renewal.set()
        return SILENCE


async def test_a_write_during_a_renewal_stands() -> None:
    async with Neighbourhood(settings=replace(CALM, renew_after_s=HOUR)) as here:
        storer = await here.start_as(Stubborn)
        alice = await here.start(server=False)
        await alice.set("colour", b"blue")
        await storer.renewal.wait()
        rewritten = await alice.set("colour", b"red")
        await asyncio.sleep(10)
        assert await alice.get("colour") == b"red"
        (record,) = await here.held(storer, rewritten.key)
        assert record.header.seq == rewritten.seq
        assert (await alice.status()).publications == 1


async def test_what_is_withdrawn_while_others_are_renewed_is_not_renewed() -> None:
    async with Neighbourhood(settings=replace(CALM, renew_after_s=HOUR)) as here:
        storer = await here.start_as(Stubborn)
        alice = await here.start(server=False)
        for name in "abcd":
            await alice.set(name, b"value")
        await storer.renewal.wait()
        for name in "abcd":
            await alice.withdraw(name)
        await asyncio.sleep(3 * HOUR)
        assert (await alice.status()).publications == 0
        for name in "abcd":
            assert await alice.get(name, default=None) is None


async def test_networks_of_other_names_do_not_meet() -> None:
    async with Neighbourhood() as here:
        await here.grow(2)
        other = Network.private(b"x" * 32, name="other")
        outsider = await here.start(network=other)
        assert outsider.contacts() == []
        assert await outsider.get("colour", default=None) is None
