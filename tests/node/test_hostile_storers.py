"""Storers that mean harm to a writer, or have missed something, and what they must not do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from kademlia_node.core.message import Chunk, Request, Response, Store, Stored, StoreStatus
from kademlia_node.errors import Conflict
from kademlia_node.node.node import Node
from kademlia_node.node.offer import LOOKS_MAX
from kademlia_node.node.receipt import Receipt
from kademlia_node.settings import VALUE_BYTES_MAX, Settings
from tests.node.network import Neighbourhood, Puppet, commons_entry, contact_of

LONG = Random(9).randbytes(VALUE_BYTES_MAX)
DRIP_S = 2.0  # less than offer_silence_s


def drips(puppet: Puppet, writer: Node, drops: Callable[[int], int]) -> None:
    """The puppet says NEED for ever, and fetches one chunk every now and then."""
    dripping: list[asyncio.Task[None]] = []

    async def drip(content: bytes) -> None:
        for number in range(10_000):
            index = drops(number)
            puppet._active.state.exchange.send(  # noqa: SLF001 - a puppet is ours to move
                contact_of(writer), Chunk(content, index), on_done=lambda _: None
            )
            await asyncio.sleep(DRIP_S)

    def answer(request: Request) -> Response | None:
        if not isinstance(request, Store):
            return None
        if not dripping:
            dripping.append(asyncio.create_task(drip(request.header.value_hash)))
        return Stored(StoreStatus.NEED)

    puppet.answer = answer


@pytest.mark.parametrize(
    "drops", [lambda _: 0, lambda number: number % 64], ids=["the same chunk", "one after another"]
)
async def test_a_storer_that_fetches_slowly_for_ever_holds_up_no_write(
    drops: Callable[[int], int],
) -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(3)
        writer = await here.start(server=False)
        drips(puppets[0], writer, drops)
        limit_s = 3 * LOOKS_MAX * Settings().offer_silence_s
        async with asyncio.timeout(limit_s):
            receipt = await writer.set("colour", LONG)
        assert len(receipt.replicas) == 2
        async with asyncio.timeout(10):
            await writer.set("colour", b"short")


async def test_a_storer_that_fetches_for_ever_does_not_stop_the_chores() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(3)
        writer = await here.start(server=False)
        await writer.set("colour", LONG)
        await writer.set("other", b"x", ttl_s=4 * 3600)
        drips(puppets[0], writer, lambda _: 0)
        await asyncio.sleep(9 * 3600)  # without a renewal it would be gone
        assert await (await here.start(server=False)).get("other") == b"x"
        for name, (_, age_s) in (await writer.status()).chores.items():
            assert age_s is not None, name
            assert age_s < 2 * 3600, name


async def missed(here: Neighbourhood, node: Node, first: Receipt, value: bytes) -> None:
    """This node has the first version of the name only, as if it had missed the next one."""
    old = commons_entry("colour", value, seq=first.seq, expires=first.expires)
    here.store_of(node).__init__(node.id, settings=Settings())  # type: ignore[misc]
    await here.store_of(node).put(old, charged_to=b"", wall=here.sim.wall())


@pytest.mark.parametrize("acks", [None, 1])
async def test_a_replica_that_missed_a_version_does_not_let_a_lost_update_through(
    acks: int | None,
) -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(3)
        alice, bob = await here.start(server=False), await here.start(server=False)
        first = await alice.set("colour", b"v1")
        second = await bob.set("colour", b"v2")
        await missed(here, nodes[0], first, b"v1")
        with pytest.raises(Conflict) as raised:
            await alice.set("colour", b"v3", expect_seq=first.seq, acks=acks)
        assert raised.value.current is not None
        assert raised.value.current.value == b"v2"
        assert raised.value.current.header.seq == second.seq
        await asyncio.sleep(5)
        assert await (await here.start(server=False)).get("colour") == b"v2"


async def test_a_conflict_of_the_same_moment_names_those_who_took_ours() -> None:
    """The other device writes between our reading and our writing."""
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(3)
        alice = await here.start(server=False)
        first = await alice.set("colour", b"v1")
        newer = commons_entry("colour", b"v2", seq=first.seq + 1, expires=first.expires + 60)

        def refuse(request: Request) -> Response | None:
            is_write = isinstance(request, Store)
            return Stored(StoreStatus.CAS, newer.header) if is_write else None

        for puppet in puppets[:2]:
            puppet.answer = refuse
        with pytest.raises(Conflict, match="1 took ours") as raised:
            await alice.set("colour", b"v3", expect_seq=first.seq)
        assert raised.value.receipt is not None
        assert [c.id for c in raised.value.receipt.replicas] == [puppets[2].id]
        assert raised.value.current is None  # nobody shows what they spoke of


async def test_one_ack_leaves_the_number_of_copies_alone() -> None:
    async with Neighbourhood() as here:
        nodes = await here.grow(12)
        writer = await here.start(server=False)
        receipt = await writer.set("colour", b"first", acks=1)
        for turn in range(3):
            holders = await here.holders(receipt.key)
            gone = next(node for node in nodes if node.id in holders)
            await gone.stop()
            here.nodes.remove(gone)
            nodes.remove(gone)
            await asyncio.sleep(30)
            receipt = await writer.set("colour", b"%d" % turn, acks=1)
            await asyncio.sleep(30)
            latest = [
                node
                for node in nodes
                if any(
                    held.header.seq == receipt.seq for held in await here.held(node, receipt.key)
                )
            ]
            assert len(latest) >= here.network.copies
