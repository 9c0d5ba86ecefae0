from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from kademlia_node.core import packet
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.handshake import Admitted, Doorkeeper
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.message import FindNode, Nodes, Ping, Pong
from kademlia_node.core.network import Network
from kademlia_node.core.packet import Type
from kademlia_node.core.suite import STANDARD
from kademlia_node.errors import NoAnswer
from kademlia_node.sim import FixedLatency, NullSuite
from tests.net.peers import NETWORK, RTT_S, SETTINGS, Sent, World, settings

VICTIM = Address("9.9.9.9", 9)


def hearsay(number: int, *, address: Address = VICTIM) -> Contact:
    """A contact that nobody holds the key of."""
    return Contact(Random(number).randbytes(31) + b"\x01", address)


def moments(sent: list[Sent]) -> list[float]:
    return [one.at for one in sent]


# --- Whom we call, and how often ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proved", "is_lossy", "sent_at", "fails_at"),
    [
        (False, True, [0.0, 0.5], 1.5),
        (True, True, [0.0, 0.5, 1.5], 2.5),
        (True, False, [0.0, 0.5], 1.5),
    ],
)
async def test_hearsay_gets_two_sendings_and_a_proved_contact_three_where_answers_are_lost(
    proved: bool, is_lossy: bool, sent_at: list[float], fails_at: float
) -> None:
    world = World()
    alice = await world.open()
    for _ in range(SETTINGS.rtt_samples_min):
        alice.exchange.rtts.on_answer(was_repeated=is_lossy)
    outcome = alice.send(hearsay(1), Ping(), proved=proved)
    await asyncio.sleep(fails_at - 0.01)
    assert outcome.answers == []
    assert outcome.slow == 1
    await asyncio.sleep(0.02)
    assert outcome.answers == [None]
    assert moments(world.sent) == sent_at
    assert len({sent.datagram for sent in world.sent}) == 1
    assert alice.script.silent == [hearsay(1)]


async def test_all_who_wait_for_a_call_in_vain_are_told_and_the_silence_counts_once() -> None:
    world = World()
    alice = await world.open()
    outcomes = [alice.send(hearsay(1), Ping(), proved=False) for _ in range(5)]
    await asyncio.sleep(10.0)
    assert [outcome.answers for outcome in outcomes] == [[None]] * 5
    assert [outcome.slow for outcome in outcomes] == [1] * 5
    assert alice.script.silent == [hearsay(1)]
    assert len(world.sent) == 2


async def test_silent_hearsay_is_left_alone_for_a_while() -> None:
    world = World()
    alice = await world.open()
    alice.send(hearsay(1), Ping(), proved=False)
    await asyncio.sleep(1.5)  # it has just failed
    world.sent.clear()
    outcome = alice.send(hearsay(1), Ping(), proved=False)
    await asyncio.sleep(0.0)
    assert outcome.answers == [None]
    await asyncio.sleep(SETTINGS.dead_contact_s - 0.1)
    alice.send(hearsay(1), Ping(), proved=False)
    assert world.sent == []
    await asyncio.sleep(0.2)
    alice.send(hearsay(1), Ping(), proved=False)
    assert len(world.sent) == 1


@pytest.mark.parametrize("how", [{"forgives": 1, "proved": False}, {"proved": True}])
async def test_silent_hearsay_is_called_when_that_is_asked_for_or_it_is_proved(
    how: dict[str, Any],
) -> None:
    world = World()
    alice = await world.open()
    alice.send(hearsay(1), Ping(), proved=False)
    await asyncio.sleep(10.0)
    world.sent.clear()
    alice.send(hearsay(1), Ping(), **how)
    assert len(world.sent) == 1


async def test_a_second_chance_is_given_once_a_minute() -> None:
    world = World()
    alice = await world.open()
    called: list[int] = []
    for pause_s in (3.0, 3.0, 3.0, 60.0, 3.0, 3.0):
        world.sent.clear()
        alice.send(hearsay(1), Ping(), proved=False, forgives=1)
        called.append(len(world.sent))
        await asyncio.sleep(pause_s)
    assert called == [1, 1, 0, 0, 1, 1]


async def test_an_answer_ends_the_silence() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    world.sim.unplug(bob.address)
    alice.send(bob.contact, Ping(), proved=False)
    await asyncio.sleep(10.0)
    world.sim.plug(bob.address)
    outcome = alice.send(bob.contact, Ping(), proved=False, forgives=math.inf)
    await asyncio.sleep(1.0)
    alice.exchange.sessions.clear()
    later = alice.send(bob.contact, Ping(), proved=False)
    await asyncio.sleep(1.0)
    assert (outcome.answers, later.answers) == ([Pong()], [Pong()])


async def test_the_memory_of_the_silent_is_bounded() -> None:
    world = World()
    alice = await world.open(settings=settings(dead_contacts_max=3))
    silent = [hearsay(n, address=Address(f"9.9.{n}.9", 9)) for n in range(4)]
    for contact in silent:
        alice.send(contact, Ping(), proved=False)
    await asyncio.sleep(10.0)
    world.sent.clear()
    for contact in silent:
        alice.send(contact, Ping(), proved=False)
    assert [sent.destination for sent in world.sent] == [silent[0].address]


async def test_whoever_was_silent_last_is_remembered_longest() -> None:
    world = World()
    alice = await world.open(settings=settings(dead_contacts_max=2))
    silent = [hearsay(n, address=Address(f"9.9.{n}.9", 9)) for n in range(3)]
    for contact in (silent[0], silent[1], silent[0], silent[2]):
        alice.send(contact, Ping(), proved=False, forgives=math.inf)
        await asyncio.sleep(2.0)
    world.sent.clear()
    for contact in silent:
        alice.send(contact, Ping(), proved=False)
    assert [sent.destination for sent in world.sent] == [silent[1].address]


async def test_only_a_few_keys_are_tried_at_one_public_address() -> None:
    world = World()
    alice = await world.open()
    for number in range(10):
        alice.send(hearsay(number), Ping(), proved=False)
        await asyncio.sleep(2.0)
    assert len(world.sent) == 2 * 3
    await asyncio.sleep(60.0)
    alice.send(hearsay(99), Ping(), proved=False)
    assert len(world.sent) == 2 * 3 + 1


async def test_sweeping_forgets_neither_the_silent_nor_the_tried_too_soon() -> None:
    world = World()
    alice = await world.open()
    for number in range(3):
        alice.send(hearsay(number), Ping(), proved=False)
        await asyncio.sleep(2.0)
    world.sent.clear()
    await asyncio.sleep(SETTINGS.dead_contact_s - 8.0)  # the first was tried 6 seconds before
    alice.exchange.sweep()
    for number in (2, 3):  # the one is silent, the other one key too many
        alice.send(hearsay(number), Ping(), proved=False)
    assert world.sent == []
    await asyncio.sleep(8.0)
    alice.exchange.sweep()
    for number in (2, 3):
        alice.send(hearsay(number), Ping(), proved=False)
        await asyncio.sleep(2.0)
    assert len(world.sent) == 4


async def test_any_number_of_keys_may_be_tried_at_a_local_address() -> None:
    world = World()
    alice = await world.open()
    for number in range(10):
        alice.send(hearsay(number, address=Address("10.0.0.9", 9)), Ping(), proved=False)
        await asyncio.sleep(2.0)
    assert len(world.sent) == 2 * 10


async def test_one_call_at_a_time_goes_to_an_address() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    first = alice.send(bob.contact, Ping(), proved=False)
    other = alice.send(hearsay(1, address=bob.address), Ping(), proved=False)
    await asyncio.sleep(RTT_S / 2)
    assert len(world.of(Type.INIT)) == 1
    await asyncio.sleep(RTT_S)
    assert first.answers == [Pong()]
    assert len(world.of(Type.INIT)) == 2  # the other one's turn has come
    await asyncio.sleep(3.0)
    assert other.answers == [None]


async def test_a_bounded_number_of_requests_waits_for_one_call() -> None:
    world = World()
    alice, bob = await world.open(settings=settings(waiting_max=3)), await world.open()
    outcomes = [alice.send(bob.contact, Ping()) for _ in range(5)]
    await asyncio.sleep(1.0)
    assert [o.answers for o in outcomes] == [[Pong()]] * 3 + [[None]] * 2


@pytest.mark.parametrize("suite_is_real", [False, True])
async def test_a_key_that_no_honest_node_has_is_not_called(suite_is_real: bool) -> None:
    world = World(suite=STANDARD if suite_is_real else None)
    alice = await world.open()
    with pytest.raises(NoAnswer):
        await alice.exchange.ask(Contact(bytes(32), VICTIM), Ping())
    assert world.sent == []
    assert asyncio.get_running_loop().time() == 0.0


# --- Who answers a call ---------------------------------------------------------------------------


@pytest.mark.parametrize("suite_is_real", [False, True])
async def test_a_forged_answer_that_comes_first_does_not_spoil_the_true_one(
    suite_is_real: bool,
) -> None:
    world = World(suite=STANDARD if suite_is_real else None)
    alice, bob = await world.open(), await world.open()
    outcome = alice.send(bob.contact, FindNode(bytes(32)))
    await asyncio.sleep(0.15)
    (true,) = (sent.datagram for sent in world.of(Type.RESP))
    places = range(9, len(true), 7)
    for place in places:
        forged = true[:place] + bytes([true[place] ^ 1]) + true[place + 1 :]
        alice.receive(forged, bob.address)
    alice.receive(true[:9] + Random(1).randbytes(len(true) - 9), bob.address)
    alice.receive(true[:1] + bytes(8) + true[9:], bob.address)  # another call's
    alice.receive(true, VICTIM)
    assert outcome.answers == []
    assert alice.exchange.counts["unasked_resp"] == len(places) + 3
    await asyncio.sleep(1.0)
    assert outcome.answers == [Nodes(())]
    alice.receive(true, bob.address)  # the call is over
    assert alice.exchange.counts["unasked_resp"] == len(places) + 4
    assert await alice.exchange.ask(bob.contact, Ping()) == Pong()


async def test_whoever_has_another_key_cannot_answer_a_call() -> None:
    world = World()
    alice, mallory = await world.open(), await world.open()
    with pytest.raises(NoAnswer):
        await alice.exchange.ask(hearsay(1, address=mallory.address), Ping())
    assert mallory.exchange.counts["init_stranger"] == 3


async def test_a_holder_of_the_key_that_answers_another_request_completes_no_call() -> None:
    world = World()
    alice = await world.open()
    mallory = Identity.generate(Random(1), suite=NullSuite())
    doorkeeper = Doorkeeper(mallory, network=NETWORK, settings=SETTINGS, rng=Random(1))
    outcome = alice.send(Contact(mallory.public_key, VICTIM), Ping())
    init = packet.parse(world.sent[0].datagram)
    assert isinstance(init, packet.Init)
    admitted = doorkeeper.consider(init, alice.address, now=0.0)
    assert isinstance(admitted, Admitted)
    resp, _ = doorkeeper.answer(
        replace(admitted, rid=admitted.rid + 1),
        Pong(),
        capabilities=Capabilities(server=True),
        now=0.0,
    )
    alice.receive(resp, VICTIM)
    await asyncio.sleep(10.0)
    assert outcome.answers == [None]
    assert len(alice.exchange.sessions) == 0


async def test_a_server_whose_id_does_not_solve_the_puzzle_is_no_peer() -> None:
    world = World()
    hard = Network.open(NETWORK.name, puzzle_bits=32)
    alice, bob = await world.open(network=hard, server=False), await world.open()
    with pytest.raises(NoAnswer):
        await alice.exchange.ask(bob.contact, Ping())
    assert len(bob.script.served) == 1
    assert alice.exchange.counts["unasked_resp"] == 3
    assert alice.script.alive == []


# --- Cookies --------------------------------------------------------------------------------------


async def test_a_cookie_is_sent_back_at_once_and_costs_no_sending() -> None:
    world = World()
    alice = await world.open()
    outcome = alice.send(hearsay(1), Ping(), proved=False)
    sid = world.sent[0].datagram[1:9]
    alice.receive(packet.pack_retry(sid, b"c" * 16), VICTIM)
    assert [sent.datagram[-16:] for sent in world.sent] == [packet.NO_COOKIE, b"c" * 16]
    assert world.sent[0].datagram[:-16] == world.sent[1].datagram[:-16]
    await asyncio.sleep(10.0)
    assert [sent.datagram[-16:] for sent in world.sent[2:]] == [b"c" * 16]
    assert outcome.answers == [None]


async def test_at_most_two_cookies_are_heeded_per_call_and_only_ours() -> None:
    world = World()
    alice = await world.open()
    alice.send(hearsay(1), Ping(), proved=False)
    sid = world.sent[0].datagram[1:9]
    alice.receive(packet.pack_retry(bytes(8), b"c" * 16), VICTIM)
    alice.receive(packet.pack_retry(sid, b"c" * 16), Address("9.9.9.8", 9))
    assert len(world.sent) == 1
    for _ in range(5):
        alice.receive(packet.pack_retry(sid, b"c" * 16), VICTIM)
    assert len(world.sent) == 3


async def test_a_call_that_needed_a_cookie_takes_two_round_trips_and_teaches_none() -> None:
    world = World()
    carol, alice = await world.open(host="9.9.9.1"), await world.open(host="9.9.9.2")
    bob = await world.open(settings=settings(handshakes_per_prefix_per_s=1.0))
    await carol.exchange.ask(bob.contact, Ping())
    started = asyncio.get_running_loop().time()
    assert await alice.exchange.ask(bob.contact, Ping()) == Pong()
    assert asyncio.get_running_loop().time() - started == pytest.approx(2 * RTT_S)
    assert len(carol.exchange.rtts) == 1
    assert len(alice.exchange.rtts) == 0


async def test_whoever_demands_a_cookie_is_given_the_time_of_a_second_round_trip() -> None:
    """Found by simulation: the first one had used up what a stranger is given."""
    world = World()
    carol, alice = await world.open(host="9.9.9.1"), await world.open(host="9.9.9.2")
    bob = await world.open(settings=settings(handshakes_per_prefix_per_s=1.0))
    await carol.exchange.ask(bob.contact, Ping())
    world.sim.latency = FixedLatency(0.45)  # two of 0.9 s do not fit into 1.5 s
    outcome = alice.send(bob.contact, Ping(), proved=False)
    await asyncio.sleep(1.9)
    assert outcome.answers == [Pong()]


# --- An honest peer at an address of which somebody lied ------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 70])
async def test_false_keys_at_its_address_hold_up_a_proved_peer_for_one_call_only(
    count: int,
) -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    for number in range(1, count + 1):
        alice.send(hearsay(number, address=bob.address), Ping(), proved=False)
    outcome = alice.send(bob.contact, Ping())
    await asyncio.sleep(2.0)
    assert outcome.answers == [Pong()]


async def test_a_knock_that_had_to_wait_is_made_all_the_same() -> None:
    """It forgives a silence also when another key was called at that address before."""
    world = World()
    alice = await world.open()
    alice.send(hearsay(1), Ping(), proved=False)
    await asyncio.sleep(3.0)
    alice.send(hearsay(2), Ping(), proved=False)
    alice.send(hearsay(1), Ping(), proved=False, forgives=math.inf)
    world.sent.clear()
    await asyncio.sleep(3.0)
    assert len(world.sent) > 1


async def test_a_call_to_a_false_key_at_an_address_does_not_fail_the_true_one() -> None:
    world = World()
    alice, bob = await world.open(), await world.open()
    false = alice.send(hearsay(1, address=bob.address), Ping(), proved=False)
    true = alice.send(bob.contact, Ping(), proved=False)
    await asyncio.sleep(3.0)
    assert false.answers == [None]
    assert true.answers == [Pong()]


async def test_a_key_that_was_silent_may_be_called_again_however_often() -> None:
    """A bootstrap that comes up late is knocked at until it answers."""
    world = World()
    alice = await world.open()
    for _ in range(6):
        outcome = alice.send(hearsay(1), Ping(), proved=False, forgives=math.inf)
        await asyncio.sleep(3.0)
        assert outcome.answers == [None]
    assert len(world.sent) == 6 * SETTINGS.sends_few
