"""Answers that take a while: what an asker hears, and what becomes of them when it goes away."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from kademlia_node.daemon.control import Handler, explain_errors
from kademlia_node.daemon.follow import Deed, follow, go_on
from kademlia_node.daemon.listen import listen_unix
from kademlia_node.daemon.views import Json, OnView
from kademlia_node.errors import SetupError
from tests.daemon.running import LONG_S

pytestmark = pytest.mark.net

HALF: Json = {"done_bytes": 1, "total_bytes": 2}


@asynccontextmanager
async def asked(handle: Handler, socket: Path) -> AsyncIterator[aiohttp.ClientResponse]:
    """The response to who asks for this."""

    async def on_request(request: web.Request) -> web.StreamResponse:
        return await handle(request)

    app = web.Application(middlewares=[explain_errors])
    app.add_routes([web.post("/", on_request)])
    async with listen_unix(app, socket):
        connector = aiohttp.UnixConnector(str(socket))
        async with (
            asyncio.timeout(LONG_S),
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://daemon/") as response,
        ):
            yield response


def following(deed: Deed) -> Handler:
    return lambda request: follow(request, deed)


async def lines(response: aiohttp.ClientResponse) -> list[Json]:
    return [json.loads(line) async for line in response.content]


async def test_progress_comes_first_and_the_answer_last(tmp_path: Path) -> None:
    async def deed(*, on_progress: OnView) -> Json:
        on_progress(HALF)
        return {"key": "k"}

    async with asked(following(deed), tmp_path / "s") as response:
        assert (response.status, await lines(response)) == (200, [HALF, {"key": "k"}])


async def test_an_answer_may_come_at_once(tmp_path: Path) -> None:
    async def deed(*, on_progress: OnView) -> Json:
        return {"key": "k"}

    async with asked(following(deed), tmp_path / "s") as response:
        assert (response.status, await lines(response)) == (200, [{"key": "k"}])


async def test_what_fails_at_once_has_a_status_and_what_fails_later_is_the_last_line(
    tmp_path: Path,
) -> None:
    async def at_once(*, on_progress: OnView) -> Json:
        raise SetupError("no")

    async def later(*, on_progress: OnView) -> Json:
        on_progress(HALF)
        raise SetupError("no")

    failure = {"error": "SetupError", "detail": "no"}
    async with asked(following(at_once), tmp_path / "s") as response:
        assert (response.status, await response.json()) == (400, failure)
    async with asked(following(later), tmp_path / "s") as response:
        assert (response.status, await lines(response)) == (200, [HALF, failure])


async def test_what_nobody_waits_for_is_broken_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broken_off = asyncio.Event()

    async def deed(*, on_progress: OnView) -> Json:
        on_progress(HALF)
        try:
            await asyncio.Event().wait()
        finally:
            broken_off.set()
        return {}

    async with asked(following(deed), tmp_path / "s") as response:
        assert json.loads(await response.content.readline()) == HALF
        response.close()
        await broken_off.wait()
        await asyncio.sleep(0)
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert "nobody waits" in caplog.text


async def test_a_row_without_end_is_sent_on_and_ends_when_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kademlia_node.daemon.follow.ALIVE_S", 0.01)
    caplog.set_level(logging.INFO)
    ended = asyncio.Event()

    async def views() -> AsyncGenerator[Json, None]:
        try:
            yield HALF
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with asked(lambda request: go_on(request, views()), tmp_path / "s") as response:
        assert json.loads(await response.content.readline()) == HALF
        assert await response.content.readline() == b"\n"
        response.close()
        await ended.wait()
        await asyncio.sleep(0)
    assert "nobody listens" in caplog.text


async def test_what_fails_between_two_views_is_the_last_line(tmp_path: Path) -> None:
    async def views() -> AsyncGenerator[Json, None]:
        yield HALF
        raise SetupError("the disk fails")

    async with asked(lambda request: go_on(request, views()), tmp_path / "s") as response:
        first, last = await lines(response)
    assert first == HALF
    assert last == {"error": "SetupError", "detail": "the disk fails"}
