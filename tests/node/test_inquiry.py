"""Reads that need no walk: what they cost, and when they are not enough."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kademlia_node.core.contact import Address
from kademlia_node.core.message import FindValue, Refused, Request, Response, Store, Values
from kademlia_node.errors import NotAgreed
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import StepOutcome, Trace
from tests.node.network import (
    SILENCE,
    Neighbourhood,
    Puppet,
    commons_entry,
    nearest,
)

LONG = bytes(range(256)) * 100
REFUSAL = Refused(0, "no")
NOTHING = Values((), 0, None, ())


def cost(trace: Trace) -> tuple[int, int]:
    """Requests and round trips."""
    return trace.requests, trace.round_trips


def finding(answer: Response) -> Callable[[Request], Response | None]:
    return lambda request: answer if isinstance(request, FindValue) else None


async def grown(here: Neighbourhood) -> tuple[list[Puppet], Node]:
    """Nine servers, nearest to the name first, that has been set, and a reader who has read it."""
    puppets = await here.grow_puppets(9)
    key = (await puppets[0].set("colour", b"blue")).key
    reader = await here.start(server=False)
    assert await reader.get("colour") == b"blue"
    return nearest(key, puppets), reader


async def test_a_blob_whose_holder_is_known_is_one_request() -> None:
    async with Neighbourhood() as here:
        await here.grow(12)
        reader = await here.start(server=False)
        key = (await here.nodes[0].put(b"blob")).key
        await reader.get(key)
        for _ in range(3):
            record, trace = await reader.get_record(key)
            assert record is not None
            assert record.value == b"blob"
            assert cost(trace) == (1, 1)


async def test_who_has_written_a_blob_knows_its_holders() -> None:
    async with Neighbourhood() as here:
        await here.grow(12)
        writer = await here.start(server=False)
        costs = []
        for number in range(20):
            key = (await writer.put(b"%d" % number)).key
            _, trace = await writer.get_record(key)
            assert trace.round_trips == 1
            costs.append(trace.requests)
        assert set(costs) <= {1, 2}
        assert costs.count(1) > costs.count(2)  # the slower ones of the answers are not waited for


async def test_a_long_blob_whose_holder_is_known_is_its_chunks_and_one_more() -> None:
    async with Neighbourhood() as here:
        await here.grow(12)
        writer = await here.start(server=False)
        key = (await writer.put(LONG)).key
        record, trace = await writer.get_record(key)
        assert record is not None
        assert record.value == LONG
        assert trace.requests == 1 + len(LONG) // 1024
        assert len(trace.steps) == 1


@pytest.mark.parametrize("reads", [1, 2, 3])
async def test_an_entry_is_as_many_requests_as_are_to_agree(reads: int) -> None:
    async with Neighbourhood() as here:
        _, reader = await grown(here)
        record, trace = await reader.get_record("colour", reads=reads)
        assert record is not None
        assert record.value == b"blue"
        assert cost(trace) == (reads, 1)
        assert trace.count(StepOutcome.VALUE) == reads


async def test_more_reads_than_copies_ask_everybody() -> None:
    async with Neighbourhood(seed=2) as here:
        puppets, reader = await grown(here)
        with pytest.raises(NotAgreed) as raised:
            await reader.get_record("colour", reads=5)
        assert raised.value.record.value == b"blue"
        asked = {step.contact.id for step in raised.value.trace.steps}
        assert asked == {puppet.id for puppet in puppets}


async def test_one_read_is_content_with_what_one_holder_shows() -> None:
    async with Neighbourhood() as here:
        puppets = await here.grow_puppets(9)
        reader = await here.start(server=False)
        first = await reader.set("colour", b"blue")
        by_distance = nearest(first.key, puppets)
        newer = commons_entry("colour", b"red", seq=first.seq + 1, expires=first.expires)
        stranger = await here.stranger()
        await stranger.ask(by_distance[2], Store(newer.key, newer.header, newer.value))
        record, trace = await reader.get_record("colour", reads=1)
        assert record is not None
        assert trace.count(StepOutcome.VALUE) == 1
        assert await reader.get("colour") == b"red"


@pytest.mark.parametrize("answer", [REFUSAL, NOTHING, SILENCE], ids=["no", "nothing", "silence"])
@pytest.mark.parametrize("reads", [1, None])
async def test_when_a_known_holder_does_not_show_it_others_are_asked(
    answer: Response, reads: int | None
) -> None:
    async with Neighbourhood() as here:
        puppets, reader = await grown(here)
        await reader.get("colour")
        puppets[0].answer = finding(answer)
        puppets[1].answer = finding(answer)
        record, trace = await reader.get_record("colour", reads=reads)
        assert record is not None
        assert record.value == b"blue"
        assert trace.duration_s < 3


async def test_when_no_known_holder_is_left_the_reader_walks() -> None:
    async with Neighbourhood() as here:
        puppets, reader = await grown(here)
        key = (await puppets[8].put(b"blob")).key
        await reader.get(key)
        *dead, alive = nearest(key, puppets)[:4]
        for node in dead:
            here.sim.unplug(node.address)
        assert await reader.get(key, default=None) is None
        assert alive.id in {contact.id for contact in (await alive.put(b"blob")).replicas}
        assert await reader.get(key) == b"blob"
        _, trace = await reader.get_record(key)
        assert cost(trace) == (1, 1)


async def test_a_slow_holder_is_joined_by_another() -> None:
    async with Neighbourhood() as here:
        _, reader = await grown(here)
        _, trace = await reader.get_record("colour", reads=1)
        slow = trace.steps[0].contact.address

        def latency(source: Address, destination: Address) -> float:
            return 1.0 if slow in {source, destination} else 0.05

        here.sim.latency = latency
        record, trace = await reader.get_record("colour", reads=1)
        assert record is not None
        assert trace.duration_s < 1
        assert (trace.requests, len(trace.steps)) == (2, 2)
        assert trace.steps[0].slow


async def test_what_is_not_there_is_missed_in_one_round_trip_never() -> None:
    """A miss is certain only after a walk."""
    async with Neighbourhood() as here:
        puppets, reader = await grown(here)
        _, trace = await reader.get_record("nothing")
        assert {step.contact.id for step in trace.steps} == {puppet.id for puppet in puppets}
