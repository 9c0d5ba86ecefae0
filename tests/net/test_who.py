from __future__ import annotations

import asyncio

import pytest

from kademlia_node.core import packet
from kademlia_node.core.contact import Address
from kademlia_node.core.message import Ping, Pong
from kademlia_node.core.network import Network
from kademlia_node.errors import NoAnswer
from tests.net.peers import NETWORK, RTT_S, World

NOBODY = Address("9.9.9.9", 9)
STRANGERS = Network.private(b"a secret of thirty-two bytes ...")


async def test_the_key_behind_a_bare_address_takes_one_round_trip_to_learn() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    assert await alice.exchange.who(bob.address) == bob.contact
    assert asyncio.get_running_loop().time() == pytest.approx(RTT_S)
    await asyncio.sleep(10.0)
    assert world.kinds() == "WHO IAM"
    assert await alice.exchange.ask(bob.contact, Ping()) == Pong()


async def test_nobody_at_the_address_is_no_answer_after_three_sendings() -> None:
    world = World()
    alice = await world.open()
    with pytest.raises(NoAnswer, match=r"9\.9\.9\.9:9"):
        await alice.exchange.who(NOBODY)
    assert [sent.at for sent in world.sent] == [0.0, 0.5, 1.5]
    assert asyncio.get_running_loop().time() == pytest.approx(2.5)


async def test_a_lost_who_is_repeated() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    world.sim.unplug(bob.address)
    asyncio.get_running_loop().call_later(0.3, world.sim.plug, bob.address)
    assert await alice.exchange.who(bob.address) == bob.contact
    assert world.kinds() == "WHO WHO IAM"


async def test_strangers_to_the_network_meet_silence() -> None:
    world = World()
    alice, bob = await world.open(network=STRANGERS), await world.open()
    with pytest.raises(NoAnswer):
        await alice.exchange.who(bob.address)
    assert world.kinds() == "WHO WHO WHO"


async def test_only_an_authentic_answer_to_our_own_question_counts() -> None:
    world = World()
    alice, bob, mallory = await world.open(), await world.open(), await world.open()
    asking = asyncio.create_task(alice.exchange.who(bob.address))
    await asyncio.sleep(0.0)
    nonce = world.sent[0].datagram[1:9]

    def iam(nonce: bytes, *, who_key: bytes) -> bytes:
        return packet.pack_iam(nonce, mallory.identity.public_key, who_key=who_key)

    alice.receive(iam(nonce, who_key=STRANGERS.who_key), bob.address)
    alice.receive(iam(bytes(8), who_key=NETWORK.who_key), bob.address)
    alice.receive(iam(nonce, who_key=NETWORK.who_key), mallory.address)
    assert await asking == bob.contact
    alice.receive(world.sent[1].datagram, bob.address)  # a repeat that comes too late


async def test_a_second_answer_in_the_same_instant_changes_nothing() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    world.sim.duplicate = 1.0
    assert await alice.exchange.who(bob.address) == bob.contact


async def test_several_questions_about_one_address_are_apart() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    first, second = (asyncio.create_task(alice.exchange.who(bob.address)) for _ in range(2))
    await asyncio.sleep(0.0)
    first.cancel()
    assert await second == bob.contact
    assert first.cancelled()


async def test_closing_ends_the_wait_and_later_questions_are_not_asked() -> None:
    world = World()
    alice = await world.open()
    asking = asyncio.create_task(alice.exchange.who(NOBODY))
    await asyncio.sleep(0.1)
    await alice.exchange.close()
    with pytest.raises(NoAnswer):
        await asking
    with pytest.raises(NoAnswer):
        await alice.exchange.who(NOBODY)
    assert asyncio.get_running_loop().time() == pytest.approx(0.1)


async def test_an_answer_that_came_just_before_the_closing_counts() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    asking = asyncio.create_task(alice.exchange.who(bob.address))
    await asyncio.sleep(0.15)
    alice.receive(world.sent[1].datagram, bob.address)
    await alice.exchange.close()
    assert await asking == bob.contact
