"""What loss, duplication and reordering do to requests: every one ends, and ends once."""

from __future__ import annotations

import asyncio

import pytest

from kademlia_node.core.message import FindNode, Nodes, Ping, Pong, Request, Response, Store
from kademlia_node.core.packet import Type
from kademlia_node.core.suite import STANDARD, Suite
from kademlia_node.sim import NullSuite
from tests.net.peers import Outcome, World
from tests.net.test_exchange import STORE

REQUESTS: list[Request] = [Ping(), FindNode(bytes(32)), STORE]


async def chatter(world: World, *, peers: int, requests: int) -> list[tuple[Request, Outcome]]:
    """Everyone asks everyone things at odd moments, whether acquainted or not."""
    everyone = [await world.open() for _ in range(peers)]
    asked: list[tuple[Request, Outcome]] = []
    for _ in range(requests):
        asker, other = world.rng.sample(everyone, 2)
        request = world.rng.choice(REQUESTS)
        asked.append((request, asker.send(other.contact, request)))
        await asyncio.sleep(world.rng.choice([0.0, 0.01, 0.3]))
    await asyncio.sleep(60.0)
    for peer in everyone:
        await peer.exchange.close()
    return asked


@pytest.mark.parametrize("suite", [NullSuite(), STANDARD], ids=["null", "standard"])
@pytest.mark.parametrize(
    ("loss", "share_answered"), [(0.0, 1.0), (0.1, 0.98), (0.3, 0.8), (1.0, 0.0)]
)
async def test_every_request_ends_once_whatever_the_weather(
    loss: float, share_answered: float, suite: Suite
) -> None:
    world = World(suite=suite)
    world.sim.loss, world.sim.duplicate, world.sim.reorder = loss, 0.1, 0.2
    asked = await chatter(world, peers=5, requests=400)
    assert {len(outcome.answers) for _, outcome in asked} == {1}
    answers = [outcome.answers[0] for _, outcome in asked]
    answered = sum(answer is not None for answer in answers)
    assert answered >= share_answered * len(asked)
    if loss == 1.0:
        assert answered == 0


async def test_every_answer_is_the_one_to_its_question() -> None:
    world = World()

    def echo(_asker: object, request: Request) -> Response:
        return Nodes(named[request.target]) if isinstance(request, FindNode) else Pong()

    alice, bob = await world.open(), await world.open(answers=echo)
    named = {bytes([n]) * 32: (alice.contact,) * (n % 20) for n in range(100)}
    world.sim.loss, world.sim.duplicate, world.sim.reorder = 0.2, 0.5, 0.5
    outcomes = [(n, alice.send(bob.contact, FindNode(bytes([n]) * 32))) for n in range(60)]
    await asyncio.sleep(60.0)
    answered = [(n, o.answers[0]) for n, o in outcomes if o.answers[0] is not None]
    assert len(answered) > 50
    for n, answer in answered:
        assert answer == Nodes((alice.contact,) * (n % 20))


async def test_a_duplicated_packet_is_served_once() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    world.sim.duplicate = 1.0
    for _ in range(20):
        assert await alice.exchange.ask(bob.contact, STORE) is not None
    await asyncio.sleep(1.0)
    assert bob.script.requests.count(Ping()) == 1
    assert sum(isinstance(request, Store) for request in bob.script.requests) == 20
    assert alice.exchange.counts["silent"] == 0


async def test_without_loss_nothing_is_sent_twice() -> None:
    world = World()
    asked = await chatter(world, peers=4, requests=200)
    assert all(outcome.answers != [None] for _, outcome in asked)
    datagrams = [sent.datagram for sent in world.sent]
    assert len(set(datagrams)) == len(datagrams)
    pairs, crossed = 4 * 3, 4 * 3 // 2
    assert len(world.of(Type.INIT)) <= pairs
    assert len(world.of(Type.DATA)) <= 2 * 200 + pairs + crossed
