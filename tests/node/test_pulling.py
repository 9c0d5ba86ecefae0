"""One content from one holder, over a network that is simulated and sometimes bad."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from kademlia_node.core.manifest import Piece
from kademlia_node.core.message import Chunk, Chunked, ErrorCode, Pong, Refused, Request, Response
from kademlia_node.core.pull import Fate
from kademlia_node.node.assembly import make_state
from kademlia_node.node.pulling import BUSY_MAX, Pulling, pull, pull_to_end
from kademlia_node.node.receipt import Trace
from kademlia_node.node.state import NodeState
from kademlia_node.settings import CHUNK_BYTES, Settings
from tests.node.network import PRIVATE, Neighbourhood, Stranger

CONTENT = Random(2).randbytes(20 * CHUNK_BYTES + 5)  # 21 chunks
PIECE = Piece(hashlib.sha256(CONTENT).digest(), len(CONTENT))
LARGE = Random(3).randbytes(200 * CHUNK_BYTES)
LARGE_PIECE = Piece(hashlib.sha256(LARGE).digest(), len(LARGE))
BUSY = Refused(ErrorCode.BUSY, "later")
Answer = Callable[[Chunk], Response | None]


def truth(request: Chunk) -> Response:
    content = CONTENT if request.content == PIECE.hash else LARGE
    start = request.index * CHUNK_BYTES
    return Chunked(content[start : start + CHUNK_BYTES] or None)


class Holder:
    """What a holder was asked for, and how it answers."""

    def __init__(self, stranger: Stranger, answer: Answer) -> None:
        self.contact = stranger.contact
        self.asked: list[int] = []
        self._answer = answer
        stranger.answer = self._serve

    def _serve(self, request: Request) -> Response | None:
        if not isinstance(request, Chunk):
            return Pong()
        assert request.content in {PIECE.hash, LARGE_PIECE.hash}
        self.asked.append(request.index)
        return self._answer(request)


@asynccontextmanager
async def reader_and_holder(
    answer: Answer = truth, *, loss: float = 0.0, within: Neighbourhood | None = None
) -> AsyncIterator[tuple[NodeState, Holder]]:
    async with within or Neighbourhood() as here:
        here.sim.loss = loss
        holder = Holder(await here.stranger(), answer)
        state = make_state(
            here.new_identity(),
            network=PRIVATE,
            settings=Settings(),
            rng=Random(1),
            wall=here.sim.wall,
            store=None,
            content=None,
            listener=await here.stranger(),
        )
        await state.exchange.open(here.sim.listen, "", 0)
        try:
            yield state, holder
        finally:
            await state.exchange.close()


async def test_every_chunk_is_asked_for_once_and_counted() -> None:
    trace = Trace(b"")
    async with reader_and_holder() as (state, holder):
        assert await pull(state, holder.contact, PIECE, trace=trace) == CONTENT
        assert sorted(holder.asked) == list(range(21))
    assert trace.requests == 21


async def test_chunks_are_asked_for_in_windows() -> None:
    async with reader_and_holder() as (state, holder):
        await state.exchange.ask(holder.contact, Chunk(PIECE.hash, 0))  # there is a session now
        holder.asked.clear()
        task = asyncio.create_task(pull(state, holder.contact, PIECE))
        await asyncio.sleep(0.06)
        assert sorted(holder.asked) == list(range(state.settings.pull_window))
        assert await task == CONTENT


@pytest.mark.parametrize("seed", range(4))
async def test_lost_packets_cost_time_only(seed: int) -> None:
    here = Neighbourhood(seed=seed)
    async with reader_and_holder(loss=0.05, within=here) as (state, holder):
        assert await pull(state, holder.contact, PIECE) == CONTENT
        assert here.sim.lost.datagrams > 0


async def test_empty_content_is_there_at_once_and_told_later() -> None:
    empty = Piece(hashlib.sha256(b"").digest(), 0)
    async with reader_and_holder() as (state, holder):
        ended: list[Pulling] = []
        pulling = Pulling(state, holder.contact, empty, on_end=ended.append)
        pulling.start()
        assert ended == []
        await asyncio.sleep(0)
        assert ended == [pulling]
        assert pulling.content == b""
        assert holder.asked == []


def lacks(_: Chunk) -> Response:
    return Chunked(None)


def other_bytes(request: Chunk) -> Response:
    told = truth(request)
    assert isinstance(told, Chunked)
    return Chunked((told.data or b"")[::-1]) if request.index == 7 else told


def cut_short(request: Chunk) -> Response:
    told = truth(request)
    assert isinstance(told, Chunked)
    return Chunked((told.data or b"")[:-1]) if request.index == 7 else told


def refuses(_: Chunk) -> Response:
    return Refused(ErrorCode.MALFORMED, "what?")


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (lacks, Fate.LACKS),
        (other_bytes, Fate.LIED),
        (cut_short, Fate.LIED),
        (refuses, Fate.STALLED),
    ],
)
async def test_a_holder_that_does_not_give_it_is_named_for_what_it_did(
    answer: Answer, fate: Fate
) -> None:
    async with reader_and_holder(answer) as (state, holder):
        assert (await pull_to_end(state, holder.contact, PIECE)).fate is fate
        assert await pull(state, holder.contact, PIECE) is None


async def test_a_holder_that_falls_silent_has_stalled() -> None:
    here = Neighbourhood()

    def gone_after_ten(request: Chunk) -> Response:
        if request.index == 10:
            here.sim.unplug(silent.contact.address)
        return truth(request)

    async with reader_and_holder(gone_after_ten, within=here) as (state, silent):
        assert (await pull_to_end(state, silent.contact, PIECE)).fate is Fate.STALLED


async def test_a_busy_holder_is_asked_again_after_a_pause() -> None:
    refused: list[float] = []

    def paced(request: Chunk) -> Response:
        if request.index % 2 and len(refused) < 20:
            refused.append(asyncio.get_running_loop().time())
            return BUSY
        return truth(request)

    async with reader_and_holder(paced) as (state, holder):
        started = state.loop.time()
        assert await pull(state, holder.contact, PIECE) == CONTENT
        assert len(holder.asked) == 21 + 20
        assert state.loop.time() - started > state.settings.busy_pause_s


async def test_a_holder_that_is_always_busy_has_stalled() -> None:
    async with reader_and_holder(lambda _: BUSY) as (state, holder):
        assert (await pull_to_end(state, holder.contact, PIECE)).fate is Fate.STALLED
        assert BUSY_MAX <= len(holder.asked) <= BUSY_MAX + state.settings.pull_window


async def test_a_holder_that_drips_has_stalled_however_often_it_gives_something() -> None:
    """A review had one chunk in 17 s, for ever: here it is one in a second or two."""
    refused: Counter[int] = Counter()

    def drip(request: Chunk) -> Response:
        refused[request.index] += 1
        return BUSY if refused[request.index] < 3 * (1 + request.index) else truth(request)

    async with reader_and_holder(drip) as (state, holder):
        started = state.loop.time()
        pulling = await pull_to_end(state, holder.contact, LARGE_PIECE)
        assert pulling.fate is Fate.STALLED
        assert len(set(holder.asked)) > 16  # it gave some
        assert state.loop.time() - started == pytest.approx(state.settings.pull_block_max_s)


@pytest.mark.parametrize(("chunks_per_s", "fate"), [(4, Fate.WHOLE), (3, Fate.STALLED)])
async def test_a_slow_holder_is_borne_with_while_each_while_brings_a_block(
    chunks_per_s: int, fate: Fate
) -> None:
    given, clock = Counter[int](), asyncio.get_running_loop().time

    def paced(request: Chunk) -> Response:
        second = int(clock())
        given[second] += 1
        return truth(request) if given[second] <= chunks_per_s else BUSY

    async with reader_and_holder(paced) as (state, holder):
        assert (await pull_to_end(state, holder.contact, LARGE_PIECE)).fate is fate


async def test_who_gives_up_waiting_asks_for_no_more() -> None:
    async with reader_and_holder() as (state, holder):
        task = asyncio.create_task(pull(state, holder.contact, PIECE))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])
        asked = len(holder.asked)
        assert 0 < asked < 21
        await asyncio.sleep(30)
        assert len(holder.asked) <= asked + state.settings.pull_window  # those under way
        assert task.cancelled()


async def test_who_gives_up_during_a_pause_asks_for_no_more() -> None:
    async with reader_and_holder(lambda _: BUSY) as (state, holder):
        ended: list[Pulling] = []
        pulling = Pulling(state, holder.contact, PIECE, on_end=ended.append)
        pulling.start()
        await asyncio.sleep(0.3)
        asked = len(holder.asked)
        assert asked > 0
        pulling.cancel()
        await asyncio.sleep(30)
        assert len(holder.asked) == asked
        assert ended == []


async def test_empty_content_that_nobody_waits_for_is_not_told() -> None:
    empty = Piece(hashlib.sha256(b"").digest(), 0)
    async with reader_and_holder() as (state, holder):
        ended: list[Pulling] = []
        pulling = Pulling(state, holder.contact, empty, on_end=ended.append)
        pulling.start()
        pulling.cancel()
        await asyncio.sleep(1)
        assert ended == []
