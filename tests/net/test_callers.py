from __future__ import annotations

import asyncio
from random import Random

import msgpack
import pytest

from kademlia_node.core import noise, packet
from kademlia_node.core.contact import Address
from kademlia_node.core.handshake import Opening
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.message import (
    FindNode,
    FindValue,
    Nodes,
    Ping,
    Pong,
    Probe,
    Request,
    Values,
)
from kademlia_node.core.network import Network
from kademlia_node.core.packet import Type
from kademlia_node.core.suite import STANDARD
from tests.net.peers import NETWORK, RTT_S, Peer, World, polite, settings
from tests.net.test_exchange import STORE

ELSEWHERE = Address("8.8.8.8", 8)


def opening(
    world: World,
    peer: Peer,
    request: Request,
    *,
    caller: Identity | None = None,
    ts_us: int = 1,
    network: Network = NETWORK,
    server: bool = False,
) -> Opening:
    """An INIT made by hand."""
    return Opening(
        peer.contact,
        identity=caller or Identity.generate(world.rng, suite=world.suite),
        network=network,
        capabilities=Capabilities(server=server),
        ts_us=ts_us,
        rid=7,
        request=request,
        rng=world.rng,
    )


# --- Repeats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite_is_real", [False, True])
async def test_a_repeated_init_gets_the_same_bytes_again(suite_is_real: bool) -> None:
    world = World(suite=STANDARD if suite_is_real else None)
    alice, bob = await world.open(), await world.open()
    lost = world.sim.partition([bob.address], [alice.address], both_ways=False)
    asyncio.get_running_loop().call_later(0.3, lost.heal)
    assert await alice.exchange.ask(bob.contact, FindNode(bytes(32))) == Nodes(())
    assert world.kinds() == "INIT RESP INIT RESP DATA"
    assert len({sent.datagram for sent in world.of(Type.RESP)}) == 1
    assert len(bob.script.served) == 1
    assert bob.exchange.sessions.half_open == 1
    await asyncio.sleep(1.0)
    assert bob.exchange.sessions.half_open == 0


async def test_repeats_that_come_while_the_answer_is_prepared_meet_silence() -> None:
    world = World()
    alice, bob = await world.open(), await world.open(answers=lambda *_: None)
    outcome = alice.send(bob.contact, FindValue(bytes(32)))
    await asyncio.sleep(0.9)
    assert world.kinds() == "INIT INIT"
    assert len(bob.script.held) == 1
    bob.script.held[0](Values((), 0, None, ()))
    await asyncio.sleep(RTT_S)
    assert outcome.answers == [Values((), 0, None, ())]


async def test_an_init_that_comes_again_after_the_handshake_proves_nothing() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    await alice.exchange.ask(bob.contact, Ping())
    await asyncio.sleep(1.0)
    bob.receive(world.of(Type.INIT)[0].datagram, alice.address)
    await asyncio.sleep(1.0)
    assert world.kinds() == "INIT RESP DATA RETRY"
    assert len(bob.script.served) == 1
    assert await alice.exchange.ask(bob.contact, Ping()) == Pong()


async def test_the_memory_for_repeats_is_bounded_and_who_fell_out_shows_its_address() -> None:
    world = World()
    alice = await world.open()
    bob = await world.open(
        settings=settings(half_open_max=2),
        answers=lambda asker, request: (
            None if isinstance(request, FindValue) else polite(asker, request)
        ),
    )
    outcome = alice.send(bob.contact, FindValue(bytes(32)))
    await asyncio.sleep(0.2)
    for number in range(3):
        init = opening(world, bob, Ping()).packet
        bob.receive(init, Address(f"8.8.{number}.8", 8))
    assert bob.exchange.sessions.half_open == 2
    await asyncio.sleep(2.0)
    assert [sent.kind.name for sent in world.sent if sent.destination == alice.address] == ["RETRY"]
    for reply in bob.script.held:  # to the first INIT, and to the one with the cookie
        reply(Values((), 0, None, ()))
    assert bob.exchange.sessions.half_open == 2
    await asyncio.sleep(1.0)
    assert outcome.answers == [Values((), 0, None, ())]
    assert await alice.exchange.ask(bob.contact, STORE) is not None


async def test_an_answer_that_is_ready_late_reaches_a_caller_that_fell_out() -> None:
    world = World()
    alice = await world.open()
    bob = await world.open(settings=settings(half_open_max=1), answers=lambda *_: None)
    outcome = alice.send(bob.contact, FindValue(bytes(32)))
    await asyncio.sleep(0.2)
    bob.receive(opening(world, bob, FindValue(bytes(32))).packet, ELSEWHERE)
    bob.script.held[0](Values((), 0, None, ()))
    assert world.kinds() == "INIT RESP"
    bob.receive(world.sent[0].datagram, alice.address)
    assert world.kinds() == "INIT RESP RETRY"  # answered, but no longer remembered
    await asyncio.sleep(1.0)
    assert outcome.answers == [Values((), 0, None, ())]


async def test_only_the_same_init_gets_the_same_answer() -> None:
    world = World()
    bob = await world.open()
    init = opening(world, bob, Ping()).packet
    other = packet.pack_init(init[1:9], init[9:-32], mac1_key=bytes(32))
    bob.receive(init, ELSEWHERE)
    for _ in range(3):
        bob.receive(other, ELSEWHERE)
    assert world.kinds() == "RESP"
    bob.receive(init, ELSEWHERE)
    assert world.kinds() == "RESP RESP"
    assert world.sent[0].datagram == world.sent[1].datagram


async def test_answers_that_no_repeat_will_ask_for_are_swept() -> None:
    world = World()
    bob = await world.open()
    old, init = (opening(world, bob, Ping()).packet for _ in range(2))
    bob.receive(old, ELSEWHERE)
    await asyncio.sleep(4.0)
    bob.receive(init, ELSEWHERE)
    await asyncio.sleep(5.0)
    assert world.kinds() == "RESP RESP"
    bob.exchange.sweep()  # the first is 9 seconds old, the second 5
    bob.receive(init, ELSEWHERE)
    assert world.kinds() == "RESP RESP RESP"
    await asyncio.sleep(0.1)
    bob.exchange.sweep()
    bob.receive(init, ELSEWHERE)
    assert world.kinds() == "RESP RESP RESP RETRY"  # all that is left of it is its timestamp


# --- Gates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["handshakes_per_s", "handshakes_per_prefix_per_s"])
async def test_beyond_the_gate_a_caller_proves_its_address_first(which: str) -> None:
    world = World()
    bob = await world.open(settings=settings(**{which: 1.0}))
    callers = [await world.open(host=f"9.9.9.{number}") for number in (1, 2)]
    outcomes = [caller.send(bob.contact, Ping()) for caller in callers]
    await asyncio.sleep(RTT_S + 0.01)
    assert sorted(outcome.answers for outcome in outcomes) == [[], [Pong()]]
    assert len(world.of(Type.RETRY)) == 1
    await asyncio.sleep(RTT_S)
    assert [outcome.answers for outcome in outcomes] == [[Pong()], [Pong()]]
    assert len(world.of(Type.INIT)) == 3


async def test_beyond_both_gates_callers_come_in_as_these_open_again() -> None:
    world = World()
    bob = await world.open(settings=settings(handshakes_per_prefix_per_s=2.0))
    callers = [await world.open(host=f"9.9.9.{number}") for number in range(1, 7)]
    outcomes = [caller.send(bob.contact, Ping()) for caller in callers]
    await asyncio.sleep(10.0)
    assert [outcome.answers for outcome in outcomes] == [[Pong()]] * 6


@pytest.mark.parametrize("from_elsewhere", [True, False])
async def test_a_replayed_init_gets_a_cookie_and_nothing_else(from_elsewhere: bool) -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    await alice.exchange.ask(bob.contact, Ping())
    captured = world.of(Type.INIT)[0].datagram
    await asyncio.sleep(100.0)
    world.sent.clear()
    for _ in range(10):
        bob.receive(captured, ELSEWHERE if from_elsewhere else alice.address)
    assert {sent.kind for sent in world.sent} == {Type.RETRY}
    assert len(bob.script.served) == 1
    assert len(bob.exchange.sessions) == 1


async def test_a_wall_clock_that_went_back_locks_nobody_out() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    await alice.exchange.ask(bob.contact, Ping())
    await alice.exchange.close()
    alice = await world.open(identity=alice.identity, wall=lambda: 5.0)
    assert await alice.exchange.ask(bob.contact, Ping()) == Pong()
    assert len(world.of(Type.RETRY)) == 1


async def test_openings_of_one_instant_of_the_wall_clock_are_all_fresh() -> None:
    world = World()
    alice, bob = await world.open(wall=lambda: 5.0), await world.open()
    for _ in range(3):
        assert await alice.exchange.ask(bob.contact, Ping()) == Pong()
        alice.exchange.sessions.clear()
    assert world.of(Type.RETRY) == []


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [STORE, Probe()])
async def test_only_harmless_requests_are_served_in_an_init(request_: Request) -> None:
    world = World()
    bob = await world.open()
    call = opening(world, bob, request_)
    bob.receive(call.packet, ELSEWHERE)
    (resp,) = world.of(Type.RESP, to=ELSEWHERE)
    assert bob.script.served == []
    assert b"this needs a session" in resp.datagram  # the null suite hides nothing


@pytest.mark.parametrize(
    ("fields", "says"), [([99, 7], b"op 99 is unknown"), ([3, 7, b"short"], b"32 bytes")]
)
async def test_an_opening_that_asks_what_we_cannot_read_is_refused(
    fields: list[object], says: bytes
) -> None:
    world = World()
    bob = await world.open()
    caller, sid = Identity.generate(world.rng, suite=world.suite), bytes(8)
    handshake = noise.Initiation(
        world.suite,
        static=caller.agreement,
        ephemeral=world.suite.agreement_key(world.rng.randbytes(32)),
        remote_static=world.suite.to_agreement(bob.identity.public_key),
        prologue=NETWORK.prologue + sid,
    )
    payload = msgpack.packb([1, Capabilities(server=False).pack(), fields])
    message = handshake.write(payload.ljust(packet.OPENING_BYTES_MIN, b"\0"))
    mac1_key = NETWORK.mac1_key(bob.identity.public_key)
    bob.receive(packet.pack_init(sid, message, mac1_key=mac1_key), ELSEWHERE)
    assert world.kinds() == "RESP"
    assert says in world.sent[0].datagram
    assert bob.script.served == []


async def test_who_is_not_let_in_is_counted_by_the_reason() -> None:
    world = World()
    bob = await world.open()
    hard = await world.open(network=Network.open(NETWORK.name, puzzle_bits=32), server=False)
    whole = opening(world, bob, Ping()).packet
    for init, peer in [
        (whole[:40] + b"?" + whole[41:], bob),
        (opening(world, bob, Ping(), network=Network.open("another")).packet, bob),
        (opening(world, bob, Ping(), caller=bob.identity).packet, bob),
        (opening(world, hard, Ping(), server=True).packet, hard),
    ]:
        peer.receive(init, ELSEWHERE)
    assert world.sent == []
    assert bob.exchange.counts["init_stranger"] == 2
    assert bob.exchange.counts["init_ourself"] == 1
    assert hard.exchange.counts["init_puzzle"] == 1


async def test_members_of_a_private_network_are_silent_to_everyone_else() -> None:
    world = World()
    private = Network.private(b"a secret of thirty-two bytes ...", name=NETWORK.name)
    bob = await world.open(network=private)
    outsider = await world.open()
    outcome = outsider.send(bob.contact, Ping())
    await asyncio.sleep(10.0)
    assert outcome.answers == [None]
    assert {sent.source for sent in world.sent} == {outsider.address}


@pytest.mark.parametrize("seed", range(3))
async def test_a_caller_with_anothers_sid_disturbs_nobody(seed: int) -> None:
    """The memory for repeats is keyed by address and sid: taking someone's sid wins nothing."""
    world = World(seed=seed)
    alice, bob = await world.open(), await world.open()
    outcome = alice.send(bob.contact, Ping())
    sid = world.sent[0].datagram[1:9]
    stranger = world.sent[0].datagram[:1] + sid + Random(seed).randbytes(391)
    bob.receive(stranger, ELSEWHERE)
    await asyncio.sleep(1.0)
    assert outcome.answers == [Pong()]
    assert world.of(Type.RESP, to=ELSEWHERE) == []
