"""Walks over the network: exact, patient with the slow, deaf to hearsay that cannot be true."""

from __future__ import annotations

import asyncio
from random import Random
from statistics import median

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import distance, random_id_sharing, shared_bits, solves_puzzle
from kademlia_node.core.key import Key
from kademlia_node.core.message import (
    ErrorCode,
    FindNode,
    FindValue,
    Nodes,
    Pong,
    Refused,
    Request,
    Response,
    Values,
)
from kademlia_node.core.network import Network
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import Step, StepOutcome, Trace
from kademlia_node.settings import Settings
from kademlia_node.sim import FixedLatency, Swarm
from tests.node.network import (
    HOUR,
    OPEN,
    SILENCE,
    SUITE,
    Neighbourhood,
    contact_of,
    nearest,
)

TARGET = b"\x5a" * 32
REFUSAL = Refused(0, "no")
NOTHING = Values((), 0, None, ())


def ranked(nodes: list[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: distance(node.id, TARGET))


def step_of(trace: Trace, node: Node) -> Step:
    (step,) = (step for step in trace.steps if step.contact.id == node.id)
    return step


async def test_a_lookup_finds_exactly_the_closest() -> None:
    async with Neighbourhood() as here:
        await here.grow(40)
        for seeker in here.nodes[::8]:
            found, trace = await seeker.lookup(TARGET)
            others = ranked([node for node in here.nodes if node is not seeker])
            assert found == [contact_of(node) for node in others[:20]]
            assert trace.hops >= 1
            assert trace.count(StepOutcome.CLOSER) >= 20
            assert [step.asked_s for step in trace.steps] == sorted(s.asked_s for s in trace.steps)


async def test_a_lookup_of_a_node_alone_finds_nobody() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        found, trace = await node.lookup(TARGET)
        assert found == []
        assert trace.summary() == "no peer is known to ask"
        assert trace.hops == 0


async def test_a_bucket_in_which_somebody_looks_something_up_is_not_refreshed() -> None:
    calm = Settings(refresh_s=600.0, look_again_s=9 * HOUR, republish="never")
    async with Neighbourhood(settings=calm) as here:
        (puppet,) = await here.grow_puppets(1)
        node, rng = await here.start(), Random(5)
        asked: set[bytes] = set()

        def record(request: Request) -> None:
            if isinstance(request, FindNode):
                asked.add(request.target)

        puppet.answer = record
        await asyncio.sleep(1200.0)
        assert len(asked) > 1
        asked.clear()
        looked_up = set()
        for _ in range(8):
            for bits in range(shared_bits(puppet.id, node.id) + 1):
                target = random_id_sharing(node.id, bits, rng=rng)
                looked_up.add(target)
                await node.lookup(target)
            await asyncio.sleep(400.0)
        assert asked == looked_up


async def test_the_trace_tells_silence_from_refusal() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(6)
        silent, rude, odd, *_ = puppets[1:]
        answers: dict[bytes, Response] = {
            silent.id: SILENCE,
            rude.id: Refused(ErrorCode.BUSY, "no"),
            odd.id: Pong(),
        }
        for puppet in (silent, rude, odd):
            answer = answers[puppet.id]
            puppet.answer = lambda request, answer=answer: (  # type: ignore[misc]
                answer if isinstance(request, FindNode) else None
            )
        found, trace = await puppets[0].lookup(TARGET)
        assert {contact.id for contact in found} == {node.id for node in puppets[4:]}
        assert step_of(trace, silent).outcome is StepOutcome.SILENT
        assert step_of(trace, rude).outcome is StepOutcome.REFUSED
        assert step_of(trace, odd).outcome is StepOutcome.SILENT
        assert step_of(trace, puppets[5]).outcome is StepOutcome.CLOSER


async def test_a_slow_node_is_not_waited_for_while_there_are_others() -> None:
    async with Neighbourhood(settings=Settings(paths=1, parallel=1)) as here:
        await here.grow(12)
        seeker = here.nodes[0]
        slow = ranked(here.nodes[1:])[0]

        def latency(source: Address, destination: Address) -> float:
            return 0.6 if slow.address in {source, destination} else 0.02

        here.sim.latency = latency
        found, trace = await seeker.lookup(TARGET)
        step = step_of(trace, slow)
        assert step.slow
        assert step.outcome is StepOutcome.CLOSER  # but it counts when it answers after all
        assert found[0] == contact_of(slow)
        assert step.answered_s is not None
        asked_meanwhile = [s for s in trace.steps if step.asked_s < s.asked_s < step.answered_s]
        assert len(asked_meanwhile) == 10


async def requests_of_reading(keys: list[Key], *, reader: Node) -> list[int]:
    traces = [(await reader.get_record(key))[1] for key in keys]
    assert all(trace.count(StepOutcome.VALUE) == 1 for trace in traces)
    return [trace.requests for trace in traces]


async def test_whoever_is_near_enough_to_hold_a_blob_is_asked_alone() -> None:
    async with Neighbourhood(settings=Settings(neighbourhood_s=0)) as here:
        puppets = await here.grow_puppets(12)
        keys = [(await puppets[0].put(b"%d" % number)).key for number in range(20)]
        reader = await here.start(server=False)
        walking = Settings(neighbourhood_s=0, ask_known_first=False)
        walker = await here.start(server=False, settings=walking)
        assert median(await requests_of_reading(keys, reader=reader)) == 1
        assert min(await requests_of_reading(keys, reader=walker)) > 1


@pytest.mark.parametrize("answer", [SILENCE, NOTHING, REFUSAL])
async def test_others_are_asked_if_the_nearest_is_slow_or_does_not_hold_it(
    answer: Response,
) -> None:
    async with Neighbourhood(settings=Settings(neighbourhood_s=0)) as here:
        puppets = await here.grow_puppets(12)
        key = (await puppets[0].put(b"blob")).key
        useless = nearest(key, puppets)[0]
        useless.answer = lambda request: answer if isinstance(request, FindValue) else None
        reader = await here.start(server=False)
        here.sim.latency = lambda *ends: 0.02 if useless.address in ends else 0.05
        record, trace = await reader.get_record(key)
        assert record is not None
        assert trace.duration_s < 0.5
        first, second, third, *_ = trace.steps
        assert first.asked_s == 0 < second.asked_s == third.asked_s  # then several at once


async def test_whoever_is_asked_alone_does_not_draw_all_others_to_its_own_path() -> None:
    async with Neighbourhood(settings=Settings(neighbourhood_s=0)) as here:
        puppets = await here.grow_puppets(12)
        key = (await puppets[0].put(b"blob")).key
        first, *others = nearest(key, puppets)
        named = Values(tuple(map(contact_of, others)), 0, None, ())
        first.answer = lambda request: named if isinstance(request, FindValue) else None
        reader = await here.start(server=False)
        here.sim.latency = lambda *ends: 0.02 if first.address in ends else 0.05
        _, trace = await reader.get_record(key)
        assert trace.steps[0].contact == contact_of(first)
        assert not trace.steps[0].slow
        assert {step.path for step in trace.steps} == set(range(Settings().paths))


async def test_whoever_may_be_too_far_to_hold_a_blob_is_not_asked_alone() -> None:
    small = Settings(k=2, far_buckets=(2,), near_bucket=2, neighbourhood_s=0)
    async with Neighbourhood(Network.private(bytes(32), copies=1), settings=small) as here:
        puppets = await here.grow_puppets(60)
        keys = [(await puppets[0].put(b"%d" % number)).key for number in range(20)]
        reader = await here.start(server=False)
        await asyncio.sleep(HOUR)  # sessions with those that it has met are idle
        alone = 0
        for key in keys:
            steps = (await reader.get_record(key))[1].steps
            alone += [step.asked_s for step in steps].count(0) == 1
        assert alone < 15


async def test_a_walk_that_was_left_hears_no_more() -> None:
    """Answers, failures and soft timeouts that come after the end are nobody's business."""
    settings = Settings(reads=1, neighbourhood_s=0, ask_known_first=False)  # so that it walks
    async with Neighbourhood(settings=settings) as here:
        puppets = await here.grow_puppets(8)
        receipt = await puppets[0].put(b"blob")
        for puppet in nearest(receipt.key, puppets)[1:4]:
            puppet.answer = lambda request: SILENCE if isinstance(request, FindValue) else None
        client = await here.start(server=False)
        record, trace = await client.get_record(receipt.key)
        assert record is not None
        waiting = trace.count(StepOutcome.WAITING)
        steps = len(trace.steps)
        await asyncio.sleep(10)
        assert (trace.count(StepOutcome.WAITING), len(trace.steps)) == (waiting, steps)
        assert waiting > 0


async def test_a_cancelled_lookup_asks_no_further() -> None:
    settings = Settings(paths=1, parallel=1, republish="never")
    async with Neighbourhood(settings=settings) as here:
        seeker, *_ = await here.grow(8)
        await asyncio.sleep(1)
        sent = here.sim.sent.datagrams
        looking = asyncio.create_task(seeker.lookup(TARGET))
        await asyncio.sleep(0.03)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        await asyncio.sleep(1)
        assert here.sim.sent.datagrams - sent == 2
        found, _ = await seeker.lookup(TARGET)
        assert len(found) == 7


async def test_no_walk_is_longer_than_walk_max_s() -> None:
    async with Neighbourhood(settings=Settings(walk_max_s=1.0)) as here:
        seeker, *others = await here.grow_puppets(6)
        for puppet in others:
            puppet.answer = lambda request: SILENCE if isinstance(request, FindNode) else None
        found, trace = await seeker.lookup(TARGET)
        assert found == []
        assert trace.duration_s == pytest.approx(1.0)
        assert trace.count(StepOutcome.WAITING) == 5


async def written_to(here: Neighbourhood, seeker: Node) -> set[Address]:
    """Where a lookup sends anything to."""
    destinations: set[Address] = set()

    def tap(source: Address, destination: Address, _: bytes) -> None:
        if source == seeker.address:
            destinations.add(destination)

    here.sim.taps.append(tap)
    await seeker.lookup(TARGET)
    here.sim.taps.remove(tap)
    return destinations


def naming(*contacts: Contact) -> Nodes:
    return Nodes(contacts)


async def test_a_public_peer_cannot_send_us_to_local_addresses() -> None:
    async with Neighbourhood(OPEN) as here:
        (puppet,) = await here.grow_puppets(1)
        seeker = await here.start()
        inside = Contact(here.new_identity().public_key, Address("192.168.1.1", 53))
        outside = Contact(here.new_identity().public_key, Address("9.9.9.9", 4000))
        puppet.answer = lambda request: (
            naming(inside, outside) if isinstance(request, FindNode) else None
        )
        destinations = await written_to(here, seeker)
        assert destinations == {puppet.address, outside.address}


async def test_a_local_peer_may_name_its_neighbours() -> None:
    async with Neighbourhood() as here:
        (puppet,) = await here.grow_puppets(1, host="192.168.1.7")
        seeker = await here.start(host="192.168.1.8")
        inside = Contact(here.new_identity().public_key, Address("192.168.1.1", 53))
        puppet.answer = lambda request: naming(inside) if isinstance(request, FindNode) else None
        assert await written_to(here, seeker) == {puppet.address, inside.address}


async def test_who_did_not_solve_the_puzzle_is_not_asked() -> None:
    network = Network.open("puzzle", copies=3, puzzle_bits=4)
    rng = Random(3)

    def identity(*, solved: bool) -> Identity:
        while True:
            found = Identity.generate(rng, suite=SUITE)
            if solves_puzzle(found.id, bits=4) == solved:
                return found

    async with Neighbourhood(network) as here:
        (puppet,) = await here.grow_puppets(1, identity=identity(solved=True))
        seeker = await here.start(identity=identity(solved=True))
        lazy = Contact(identity(solved=False).public_key, Address("9.9.9.1", 4000))
        diligent = Contact(identity(solved=True).public_key, Address("9.9.8.1", 4000))

        def answer(request: Request) -> Response | None:
            return naming(lazy, diligent) if isinstance(request, FindNode) else None

        puppet.answer = answer
        assert await written_to(here, seeker) == {puppet.address, diligent.address}


async def test_when_everybody_was_struck_they_are_asked_all_the_same() -> None:
    """Our uplink was down, not theirs."""
    async with Neighbourhood() as here:
        seeker, *others = await here.grow(4)
        here.sim.unplug(seeker.address)
        found, _ = await seeker.lookup(TARGET)
        assert found == []
        assert (await seeker.status()).uplink_down
        here.sim.plug(seeker.address)
        found, _ = await seeker.lookup(TARGET)
        assert {contact.id for contact in found} == {node.id for node in others}
        assert not (await seeker.status()).uplink_down


async def hops_of(*, seed_from_sessions: bool) -> int:
    """Over ten lookups, each made for the second time, with a table that is much too small."""
    settings = Settings(k=4, far_buckets=(4,), near_bucket=4, seed_from_sessions=seed_from_sessions)
    async with Neighbourhood(settings=settings) as here:
        await here.grow(40)
        hops = 0
        for number in range(10):
            target = bytes([25 * number]) * 32
            await here.nodes[number].lookup(target)
            _, trace = await here.nodes[number].lookup(target)
            hops += trace.hops
        return hops


async def test_open_sessions_shorten_the_way() -> None:
    with_sessions = await hops_of(seed_from_sessions=True)
    assert with_sessions == 10
    assert await hops_of(seed_from_sessions=False) > with_sessions


async def test_the_dead_hold_up_the_first_walk_and_not_those_after_it() -> None:
    async with Swarm(nodes=25, seed=1, latency=FixedLatency(0.0005)) as swarm:
        for node in swarm.nodes[:6]:
            await swarm.crash(node)
        (fresh,) = await swarm.grow(1)
        took_s: list[float] = []
        for number in range(10):  # to all corners: so each of the dead is in the way
            _, trace = await fresh.lookup(bytes([number * 25]) * 32)
            took_s.append(trace.duration_s)
        assert max(took_s[-5:]) < 0.1
