"""What single peers say or do must not decide what a node believes, keeps or forgets."""

from __future__ import annotations

import asyncio
from random import Random

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.ids import distance
from kademlia_node.core.key import topic_key
from kademlia_node.core.message import FindNode, Nodes, Ping, Probe
from kademlia_node.core.record import make_topic_entry
from kademlia_node.node.assembly import make_state
from kademlia_node.node.node import Node
from kademlia_node.node.reach import Reach
from kademlia_node.settings import Settings
from tests.node.network import HOUR, OPEN, PRIVATE, Neighbourhood, Stranger, collect


async def named_by(asker: Stranger, node: Node) -> int:
    answer = await asker.ask(node, FindNode(node.id))
    assert isinstance(answer, Nodes)
    return len(answer.contacts)


async def test_silence_at_a_false_address_is_no_strike_for_the_honest_node() -> None:
    """A stranger has us call honest keys where they are not."""
    async with Neighbourhood(OPEN) as here:
        victim, *others = await here.grow(12)
        mallory = await here.stranger()
        before = await named_by(mallory, victim)
        for number, honest in enumerate(others * 2):
            false = Contact(honest.public_key, Address(f"66.{number}.1.1", 99))
            await mallory.ask(victim, Probe(false))
            await asyncio.sleep(1.0)
        assert await named_by(mallory, victim) == before == len(others)


async def test_a_slow_write_is_not_kept_alive_in_place_of_a_later_one() -> None:
    async with Neighbourhood() as here:
        author, silent, *others = await here.grow(6)
        here.sim.unplug(silent.address)
        slow = asyncio.create_task(author.set("name", b"old"))
        await asyncio.sleep(0.5)
        await author.set("name", b"new")
        await slow
        here.sim.plug(silent.address)
        await asyncio.sleep(49 * HOUR)
        assert await others[0].get("name") == b"new"


async def test_an_entry_that_only_one_holder_has_is_found() -> None:
    """Three holders that agree on less must not hide it."""
    async with Neighbourhood() as here:
        nodes = await here.grow(8)
        key = topic_key(b"topic").digest
        nearest = sorted(nodes, key=lambda node: distance(node.id, key))
        expires = int(here.sim.wall()) + 1000
        spam, honest = (
            make_topic_entry(
                here.new_identity().signing,
                key,
                slot=b"",
                value=value,
                seq=1,
                expires=expires,
                network_tag=PRIVATE.tag,
            )
            for value in (b"spam", b"honest")
        )
        for node in nearest[:6]:
            await here.store_of(node).put(spam, charged_to=b"", wall=here.sim.wall())
        await here.store_of(nearest[0]).put(honest, charged_to=b"", wall=here.sim.wall())
        for node in nearest[1:]:
            found = {entry.value for entry in await collect(node.find("topic"))}
            assert found == {b"spam", b"honest"}


async def test_a_caller_of_our_own_link_does_not_make_us_a_server_of_the_internet() -> None:
    async with Neighbourhood(OPEN) as here:
        first = await here.start()
        node = await here.start_everywhere("77.1.1.1", bootstrap=[str(first.invite)])
        neighbour = await here.stranger(host="192.168.1.5")
        await neighbour.exchange.ask(Contact(node.public_key, Address("77.1.1.1", 4000)), Ping())
        assert (await node.status()).role == "client"


async def test_where_we_are_is_what_most_prefixes_say() -> None:
    async with Neighbourhood(OPEN) as here:
        state = make_state(
            here.new_identity(),
            network=OPEN,
            settings=Settings(),
            rng=Random(1),
            wall=here.sim.wall,
            store=None,
            content=None,
            listener=await here.stranger(),
        )
        reach = Reach(state, server=None)
        true, false = Address("77.1.1.1", 4000), Address("6.6.6.6", 666)
        key = here.new_identity().public_key
        peers = [Contact(key, Address(f"66.{number}.1.1", 5)) for number in range(9)]
        for number, peer in enumerate(peers):
            reach.on_seen_as(false if number in {3, 8} else true, by=peer)
        assert reach.address == true
        for _ in range(20):  # one prefix has one vote
            reach.on_seen_as(false, by=peers[3])
        assert reach.address == true
