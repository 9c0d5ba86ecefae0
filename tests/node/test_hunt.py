"""The hunt for a long blob: whoever lies about it costs a moment, and is named."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from kademlia_node.core.key import Key
from kademlia_node.core.message import Chunk, Chunked, FindValue, Item, Request, Response, Values
from kademlia_node.core.record import Header, make_blob
from kademlia_node.errors import NotFound
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import StepOutcome, Trace
from kademlia_node.settings import CHUNK_BYTES
from tests.node.network import DAY, SILENCE, Neighbourhood, Puppet, nearest

LONG = bytes(range(256)) * 20
Answer = Callable[[Request], Response | None]


def claiming(header: Header, content: bytes | None = None) -> Answer:
    """Says that it holds the blob with this header, and gives this content as if it were."""

    def answer(request: Request) -> Response | None:
        if isinstance(request, FindValue):
            return Values((), 1, None, (Item(header, None),))
        if isinstance(request, Chunk):
            at = request.index * CHUNK_BYTES
            return Chunked(content[at : at + CHUNK_BYTES] if content is not None else None)
        return None

    return answer


def claiming_in_silence(header: Header) -> Answer:
    """Says that it holds the blob, and never gives it."""

    def answer(request: Request) -> Response | None:
        return SILENCE if isinstance(request, Chunk) else claiming(header)(request)

    return answer


def another(here: Neighbourhood, number: int = 0) -> tuple[Header, bytes]:
    """The true header of another blob, and its value."""
    value = hashlib.sha256(b"%d" % number).digest() * 100
    return make_blob(value, expires=int(here.sim.wall() + DAY)).header, value


def outcomes(trace: Trace, outcome: StepOutcome) -> set[bytes]:
    return {step.contact.id for step in trace.steps if step.outcome is outcome}


def ids(nodes: Sequence[Node]) -> set[bytes]:
    return {node.id for node in nodes}


async def stored(here: Neighbourhood) -> tuple[list[Puppet], Key, Header]:
    """Ten puppets, nearest first, and the blob that the first three hold."""
    puppets = await here.grow_puppets(10)
    receipt = await puppets[0].put(LONG)
    puppets = nearest(receipt.key, puppets)
    (record,) = await here.held(puppets[0], receipt.key)
    return puppets, receipt.key, record.header


def lying(here: Neighbourhood, true: Header, *, lie: str) -> Answer:
    header, value = another(here)
    return {
        "a shorter length": claiming(replace(true, length=true.length - 1), LONG[:-1]),
        "a longer length": claiming(replace(true, length=true.length + 1), LONG + b"x"),
        "another hash": claiming(replace(true, value_hash=bytes(32)), LONG),
        "another content": claiming(true, bytes(len(LONG))),
        "chunks that are too short": claiming(true, b"short"),
        "nothing in the end": claiming(true, None),
        "the header of another blob": claiming(header, LONG),
        "another blob": claiming(header, value),
        "a short one without its value": claiming(replace(true, length=5), b"short"),
    }[lie]


LIES = [
    "a shorter length",
    "a longer length",
    "another hash",
    "another content",
    "chunks that are too short",
    "nothing in the end",
    "the header of another blob",
    "another blob",
    "a short one without its value",
]


@pytest.mark.parametrize("lie", LIES)
async def test_a_liar_does_not_hide_the_blob_and_ends_as_bad(lie: str) -> None:
    async with Neighbourhood() as here:
        puppets, key, header = await stored(here)
        for liar in puppets[:2]:
            liar.answer = lying(here, header, lie=lie)
        reader = await here.start(server=False)
        record, trace = await reader.get_record(key)
        assert record is not None
        assert record.value == LONG
        bad = outcomes(trace, StepOutcome.BAD)
        assert bad <= ids(puppets[:2])
        assert puppets[2].id in outcomes(trace, StepOutcome.VALUE)
        for liar in puppets[2:]:
            liar.answer = lying(here, header, lie=lie)
        reader = await here.start(server=False)
        record, trace = await reader.get_record(key)
        assert record is None
        assert outcomes(trace, StepOutcome.BAD) == ids(puppets)


async def test_many_different_lies_leave_the_true_one_its_turn() -> None:
    async with Neighbourhood() as here:
        puppets, key, _ = await stored(here)
        for number, liar in enumerate(puppets):
            if number != 2:
                liar.answer = claiming(*another(here, number))
        reader = await here.start(server=False)
        assert await reader.get(key) == LONG


async def test_many_who_stall_leave_the_true_one_its_turn() -> None:
    async with Neighbourhood() as here:
        puppets, key, _ = await stored(here)
        for number, liar in enumerate(puppets):
            if number != 2:
                liar.answer = claiming_in_silence(another(here, number)[0])
        reader = await here.start(server=False)
        async with asyncio.timeout(60):
            assert await reader.get(key) == LONG


async def test_a_holder_that_falls_silent_is_replaced_and_not_called_a_liar() -> None:
    async with Neighbourhood() as here:
        puppets, key, header = await stored(here)
        for one in puppets[:2]:
            one.answer = claiming_in_silence(header)
        reader = await here.start(server=False)
        record, trace = await reader.get_record(key)
        assert record is not None
        assert outcomes(trace, StepOutcome.BAD) == set()


async def test_a_lie_that_many_agree_on_is_fetched_once() -> None:
    async with Neighbourhood() as here:
        puppets, key, _ = await stored(here)
        header, value = another(here)
        lie, asked = claiming(header, value), 0

        def answer(request: Request) -> Response | None:
            nonlocal asked
            asked += isinstance(request, Chunk)
            return lie(request)

        for liar in puppets:
            liar.answer = answer
        reader = await here.start(server=False)
        with pytest.raises(NotFound) as raised:
            await reader.get(key)
        assert outcomes(raised.value.trace, StepOutcome.BAD) == ids(puppets)
        assert asked == -(-len(value) // CHUNK_BYTES)
        assert (await reader.status()).counters["bad_record_reader_wrong_value"] == 1


async def test_a_get_that_is_cancelled_fetches_no_further() -> None:
    async with Neighbourhood() as here:
        puppets, key, header = await stored(here)
        asked, begun = 0, asyncio.Event()

        def answer(request: Request) -> Response | None:
            nonlocal asked
            if isinstance(request, Chunk):
                asked += 1
                begun.set()
            return claiming_in_silence(header)(request)

        for puppet in puppets:
            puppet.answer = answer
        reader = await here.start(server=False)
        reading = asyncio.create_task(reader.get(key))
        await begun.wait()
        reading.cancel()
        await asyncio.wait([reading])
        await asyncio.sleep(5)
        before = asked
        await asyncio.sleep(60)
        assert asked == before
