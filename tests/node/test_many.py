"""Many records at once: the same as one by one, for a fraction of the walks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from kademlia_node.core.key import Key, blob_key, topic_key
from kademlia_node.core.message import Store, Stored, StoreStatus
from kademlia_node.errors import PartlyStored, SetupError
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim import FixedLatency, Swarm
from kademlia_node.store.memory import MemoryStore
from tests.node.network import Neighbourhood

VALUES = [b"value %d" % number for number in range(200)]


FEW = 25  # are enough to know what one costs


async def served(nodes: Iterable[Node], *requests: str) -> int:
    """How many requests of these kinds the nodes have answered in all."""
    counters = [(await node.status()).counters for node in nodes]
    return sum(counted.get(f"served_{request}", 0) for counted in counters for request in requests)


async def test_many_puts_share_walks_and_reach_the_same_nodes_as_single_ones() -> None:
    async with Swarm(nodes=60, seed=3, latency=FixedLatency(0.02)) as swarm:
        *_, together, alone = swarm.nodes
        before = await served(swarm.nodes, "FindNode"), await served(swarm.nodes, "Store")
        receipts = await together.put_many(VALUES)
        between = await served(swarm.nodes, "FindNode"), await served(swarm.nodes, "Store")
        for number in range(FEW):
            await alone.put(b"single value %d" % number)
        after = await served(swarm.nodes, "FindNode")
        walked_by_one = (after - between[0]) / FEW
        assert between[0] - before[0] < len(VALUES) * walked_by_one / 3
        assert between[1] - before[1] <= 5 * len(VALUES)
        assert [receipt.key for receipt in receipts] == [blob_key(value) for value in VALUES]
        for receipt in receipts:
            truth = swarm.true_closest(receipt.key.digest, receipt.copies)
            assert set(receipt.replicas) == set(truth)
            assert not receipt.refused


async def test_many_gets_share_walks_too() -> None:
    async with Swarm(nodes=60, seed=3, latency=FixedLatency(0.02)) as swarm:
        writer, *_, together, alone = swarm.nodes
        keys = [receipt.key for receipt in await writer.put_many(VALUES)]
        before = await served(swarm.nodes, "FindNode", "FindValue")
        found = await together.get_many(keys)
        between = await served(swarm.nodes, "FindNode", "FindValue")
        for key in keys[:FEW]:
            await alone.get(key)
        after = await served(swarm.nodes, "FindNode", "FindValue")
        assert found == dict(zip(keys, VALUES, strict=True))
        assert between - before < len(VALUES) * (after - between) / FEW / 2


async def test_names_and_keys_are_mixed_and_what_is_missing_or_withdrawn_is_left_out() -> None:
    async with Neighbourhood() as here:
        alice, bob, *_ = await here.grow(8)
        first, second = await alice.put_many([b"first", b"second"])
        await alice.set("colour", b"blue")
        await alice.set("gone", b"soon")
        await alice.withdraw("gone")
        missing = blob_key(b"missing")
        wanted: list[str | Key] = [second.key, "colour", "gone", "never", missing, first.key]
        found = await bob.get_many([*wanted, "colour", first.key])
        assert found == {second.key: b"second", "colour": b"blue", first.key: b"first"}
        assert list(found) == [second.key, "colour", first.key]


async def test_the_same_value_twice_has_two_receipts() -> None:
    async with Neighbourhood() as here:
        alice, *_ = await here.grow(5)
        one, other, same = await alice.put_many([b"one", b"other", b"one"])
        assert one.key == same.key != other.key
        assert len(same.replicas) == 3


async def test_nothing_is_nothing() -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        assert await alice.put_many([]) == []
        assert await alice.get_many([]) == {}


async def test_what_nobody_takes_has_an_empty_receipt_and_the_others_are_stored() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(6)
        for puppet in puppets:
            puppet.answer = lambda request: (
                Stored(StoreStatus.QUOTA)
                if isinstance(request, Store) and request.value == b"unwanted"
                else None
            )
        client = await here.start(server=False)
        receipts = await client.put_many([b"one", b"unwanted", b"other"])
        assert [len(receipt.replicas) for receipt in receipts] == [3, 0, 3]
        assert receipts[1].refused
        kept = {published.record.value async for published in client.publications()}
        assert kept == {b"one", b"other"}


async def test_a_client_alone_stores_and_finds_nothing() -> None:
    async with Neighbourhood() as here:
        client = await here.start(server=False, bootstrap=[])
        receipts = await client.put_many([b"one", b"other"])
        assert [receipt.replicas for receipt in receipts] == [(), ()]
        assert await client.get_many([receipt.key for receipt in receipts]) == {}


@pytest.mark.parametrize("bad", ["text", None, 7])
async def test_a_value_that_is_no_bytes_is_refused_before_anything_is_sent(bad: Any) -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        with pytest.raises(TypeError, match="bytes"):
            await alice.put_many([b"one", bad, b"other"])
        assert await served([alice, bob], "Store") == 0
        assert [record async for record in alice.publications()] == []


async def test_a_bad_name_among_many_is_a_plain_error() -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        with pytest.raises(ValueError, match="only a blob is read by its key"):
            await alice.get_many(["colour", topic_key(b"cars")])


async def test_too_few_acknowledgements_of_one_value_leave_its_receipt() -> None:
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        with pytest.raises(PartlyStored):
            await alice.put(b"one", acks=3)
        (receipt,) = await alice.put_many([b"one"], acks=3)
        assert len(receipt.replicas) == 2


class FullStore(MemoryStore):
    """Cannot write down what its node keeps alive."""

    @property
    def publications(self) -> Any:
        """A list that is full."""
        return _FullList()

    @publications.setter
    def publications(self, _: Any) -> None: ...


class _FullList:
    kept = 0

    async def keep(self, _: Any) -> None:
        type(self).kept += 1
        raise SetupError("the disk is full")


async def test_the_first_that_fails_ends_all_with_its_own_error() -> None:
    async with Neighbourhood() as here:
        await here.grow(5)
        identity = here.new_identity()
        store = FullStore(identity.id, settings=Settings())
        client = await here.start(server=False, identity=identity, store=store)
        with pytest.raises(SetupError, match="the disk is full"):
            await client.put_many(VALUES)
        assert 1 <= _FullList.kept < 50
