"""Answers that take a while, or have no end, sent line by line to an asker who may go away.

`follow` tells how far something has come, and then what came of it. Each line is a JSON object.
Those of progress have `done_bytes` and `total_bytes`: one comes with the first news, then one every
half second, so that an asker who goes away is noticed and what was asked for is broken off. The
last line is the answer, or `{"error": kind, "detail": text, ...}`. What fails before there is any
progress is an error as everywhere else, with a status.

`go_on` sends a line for each view of a row, which may have no end, and an empty one where none came
for a while, so that an asker who is gone is noticed here, too. What fails in between is told by the
last line.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Final, Protocol

from aiohttp import web

from kademlia_node.daemon.views import Json, OnView, error_view
from kademlia_node.errors import KademliaError

log = logging.getLogger(__name__)

EVERY_S: Final = 0.5
ALIVE_S: Final = 5.0


class Deed(Protocol):
    """What is done, and tells how far it is."""

    def __call__(self, *, on_progress: OnView) -> Awaitable[Json]:
        """The answer; raises KademliaError or ValueError."""
        ...


async def follow(request: web.Request, deed: Deed) -> web.StreamResponse:
    """Do it, and tell the asker how far it is until it is done."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    latest: deque[Json] = deque(maxlen=1)
    news = asyncio.Event()

    def on_progress(view: Json) -> None:
        latest.append(view)
        news.set()

    outcome: Json | Exception = {}
    try:
        async with asyncio.TaskGroup() as tasks:
            doing = tasks.create_task(_outcome(deed, on_progress))
            doing.add_done_callback(lambda _: news.set())
            await news.wait()
            if latest:
                await response.prepare(request)
                await _send(response, latest[-1])
            while not doing.done():
                await asyncio.wait([doing], timeout=EVERY_S)
                await _send(response, latest[-1])
        outcome = doing.result()
        if isinstance(outcome, Exception):
            if not response.prepared:
                raise outcome
            outcome = error_view(outcome)
        if not response.prepared:
            await response.prepare(request)
        await _send(response, outcome)
        await response.write_eof()
    except* ConnectionError:
        log.info("broken off, as nobody waits for it any more: %s", request.path)
    return response


async def go_on(request: web.Request, views: AsyncGenerator[Json, None]) -> web.StreamResponse:
    """Send what comes until nothing more does, or the asker has gone."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    try:
        await response.prepare(request)
        async with aclosing(views), asyncio.TaskGroup() as tasks:
            while (view := await _next(views, response, tasks)) is not None:
                await _send(response, view)
        await response.write_eof()
    except* ConnectionError:
        log.info("broken off, as nobody listens any more: %s", request.path)
    return response


async def _next(
    views: AsyncGenerator[Json, None], response: web.StreamResponse, tasks: asyncio.TaskGroup
) -> Json | None:
    async def wait() -> Json | None:
        try:
            return await anext(views, None)
        except KademliaError as error:
            return error_view(error)

    coming = tasks.create_task(wait())
    while True:
        await asyncio.wait([coming], timeout=ALIVE_S)
        if coming.done():
            return coming.result()
        await response.write(b"\n")


async def _outcome(deed: Deed, on_progress: OnView) -> Json | KademliaError | ValueError:
    try:
        return await deed(on_progress=on_progress)
    except (KademliaError, ValueError) as error:
        return error


async def _send(response: web.StreamResponse, view: Json) -> None:
    await response.write(json.dumps(view).encode() + b"\n")
