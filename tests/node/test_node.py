"""The public object: what it says of itself, and what its verbs give."""

from __future__ import annotations

from typing import assert_type

import pytest

import kademlia_node
from kademlia_node.core.contact import Address, Contact
from kademlia_node.errors import Conflict, NoAnswer, NotFound
from kademlia_node.node.node import PUBLICATIONS_PER_PAGE
from kademlia_node.node.receipt import StepOutcome
from tests.node.network import OPEN, Neighbourhood, contact_of

NOBODY = Address("8.8.8.8", 4000)


async def test_status_is_a_picture_of_the_node() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        await alice.set("colour", b"blue")
        status = await alice.status()
        assert status.id == alice.id.hex()
        assert status.invite == str(alice.invite) == f"{alice.invite}"
        assert (status.network, status.copies, status.role) == ("private", 3, "server")
        assert (status.joined, status.uplink_down, status.peers) == (True, False, 1)
        assert (status.records, status.publications) == (1, 1)
        assert status.stored_bytes > 4
        assert status.sessions == 1
        assert status.counters["bytes_sent"] > 0
        assert list(status.counters) == sorted(status.counters)
        assert (await bob.status()).counters["served_Store"] == 1


async def test_ping_measures_the_way_there_and_back() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        for peer in (contact_of(bob), bob.invite, str(bob.invite), str(bob.address)):
            assert await alice.ping(peer) == pytest.approx(0.1, abs=0.01)


async def test_ping_of_nobody_is_no_answer() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        with pytest.raises(NoAnswer, match=str(NOBODY.port)):
            await node.ping(str(NOBODY))
        with pytest.raises(NoAnswer):
            await node.ping(Contact(here.new_identity().public_key, NOBODY))
        with pytest.raises(ValueError, match="HOST:PORT"):
            await node.ping("nobody")


async def test_lookup_names_the_closest() -> None:
    async with Neighbourhood() as here:
        await here.grow(5)
        found, trace = await here.nodes[0].lookup(here.nodes[3].id)
        assert found[0] == contact_of(here.nodes[3])
        assert trace.target == here.nodes[3].id


async def test_lookup_of_a_key_marks_everyone_who_holds_it() -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        node = here.nodes[-1]
        for receipt in (
            await here.nodes[0].put(b"blob"),
            await here.nodes[0].set("colour", b"blue"),
            await here.nodes[0].announce("cars", b"red"),
        ):
            closest, trace = await node.lookup(receipt.key)
            shown = {s.contact.id for s in trace.steps if s.outcome is StepOutcome.VALUE}
            assert shown == await here.holders(receipt.key) - {node.id}
            assert (trace.target, len(closest)) == (receipt.key.digest, 7)
        _, trace = await node.lookup((await here.nodes[0].put(b"blob")).key.digest)
        assert trace.count(StepOutcome.VALUE) == 0


async def test_key_of_names_where_an_entry_is() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        commons = await alice.set("colour", b"blue")
        own = await alice.set("colour", b"blue", own=True)
        assert alice.key_of("colour") == bob.key_of("colour") == commons.key
        assert bob.key_of("colour", author=alice.public_key) == own.key


async def test_on_an_open_network_names_are_our_own() -> None:
    async with Neighbourhood(OPEN) as here:
        alice, bob = await here.grow(2)
        await alice.set("colour", b"blue")
        assert await alice.get("colour") == b"blue"
        assert await bob.get("colour", default=None) is None
        assert await bob.get("colour", author=alice.public_key) == b"blue"


async def test_what_was_withdrawn_was_not_merely_not_found() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        await alice.set("colour", b"blue")
        await alice.withdraw("colour")
        with pytest.raises(NotFound, match="colour was withdrawn by its author: asked 1") as gone:
            await bob.get("colour")
        assert gone.value.withdrawn
        with pytest.raises(NotFound, match=r"^taste was not found: asked 1 in 1 hop and") as missed:
            await bob.get("taste")
        assert not missed.value.withdrawn


async def test_one_replica_is_no_plural() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        assert (await node.put(b"value")).summary() == "1 replica of 3 wanted"


async def test_what_get_returns_is_known_to_a_type_checker() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        await node.set("colour", b"blue")
        assert_type(await node.get("colour"), bytes)
        assert_type(await node.get("colour", default=None), bytes | None)
        assert_type(await node.get("colour", default=7), bytes | int)


def test_what_the_verbs_take_and_give_can_be_imported_from_the_package() -> None:
    names = {"Invite", "Record", "Store", "Step", "StepOutcome", "PeerRefused", "NotRunning"}
    assert names <= set(kademlia_node.__all__)
    assert all(hasattr(kademlia_node, name) for name in kademlia_node.__all__)


async def test_publications_are_everything_that_is_kept_alive() -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        assert [one async for one in alice.publications()] == []
        receipts = [await alice.put(b"%d" % number) for number in range(PUBLICATIONS_PER_PAGE)]
        receipts += [await alice.set("colour", b"blue"), await alice.announce("cars", b"mine")]
        await alice.forget(receipts.pop(0).key)
        published = [one async for one in alice.publications()]
        assert [one.record.key for one in published] == sorted(r.key.digest for r in receipts)
        assert all(one.renew_at > here.sim.wall() for one in published)


async def test_what_a_miss_and_a_conflict_know_is_in_the_error() -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        with pytest.raises(NotFound) as missed:
            await alice.get("colour")
        assert [step.contact for step in missed.value.trace.steps] == [contact_of(bob)]
        assert not missed.value.withdrawn
        current = await bob.set("colour", b"red")
        with pytest.raises(Conflict) as conflict:
            await alice.set("colour", b"blue", expect_seq=current.seq - 1)
        assert conflict.value.current is not None
        assert conflict.value.current.header.seq == current.seq
        assert conflict.value.current.value == b"red"
        await bob.withdraw("colour")
        with pytest.raises(NotFound, match="was withdrawn by its author") as missed:
            await alice.get("colour")
        assert missed.value.withdrawn
        assert missed.value.trace.target == current.key.digest
