"""How a daemon ends: what is under way is finished, nothing new is begun; and how it leaves."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kademlia_node.core.contact import Address
from kademlia_node.daemon.drain import Drain
from kademlia_node.daemon.service import Plan, serve
from tests.daemon.running import LONG_S, NETWORK, QUICK, daemon, silent_port, through, until


def now() -> float:
    return asyncio.get_running_loop().time()


# --- Counting -------------------------------------------------------------------------------------


async def test_what_is_under_way_is_waited_for_but_not_for_ever() -> None:
    drain = Drain()
    await drain.finish(within_s=100.0)
    assert drain.begun
    assert now() == 0.0
    with drain.serving():
        await drain.finish(within_s=10.0)
        assert now() == 10.0
        with drain.serving():
            pass
        ending = asyncio.create_task(drain.finish(within_s=10.0))
        await asyncio.sleep(3)
        assert not ending.done()
    await ending
    assert now() == 13.0


async def test_it_tells_when_the_node_has_left() -> None:
    drain = Drain()
    assert not await drain.left_within(5.0)
    assert now() == 5.0
    asyncio.get_running_loop().call_later(2.0, drain.on_left)
    assert await drain.left_within(5.0)
    assert now() == 7.0
    assert not drain.begun


# --- A daemon -------------------------------------------------------------------------------------


class Daemon:
    """One that a test ends itself."""

    def __init__(self, folder: Path, **plan: Any) -> None:
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        defaults: dict[str, Any] = {"host": "127.0.0.1", "network": NETWORK}
        self.serving = asyncio.create_task(
            serve(
                Plan(folder=folder, **defaults | plan),
                on_ready=self._ready.set_result,
                settings=QUICK,
            )
        )

    async def session(self) -> aiohttp.ClientSession:
        ready = await self._ready
        connector = aiohttp.UnixConnector(ready["control"])
        return aiohttp.ClientSession("http://daemon", connector=connector)


async def ping_nobody(session: aiohttp.ClientSession) -> int:
    """A verb that takes a while; its status."""
    body = json.dumps({"peer": f"127.0.0.1:{silent_port()}"})
    async with session.post("/v1/ping", data=body) as response:
        return response.status


@pytest.mark.net
async def test_a_daemon_that_is_to_end_finishes_what_it_does_and_begins_nothing(
    tmp_path: Path,
) -> None:
    one = Daemon(tmp_path)
    async with await one.session() as session, asyncio.timeout(LONG_S):
        working = asyncio.create_task(ping_nobody(session))
        await asyncio.sleep(0.1)
        one.serving.cancel()
        await asyncio.sleep(0.1)
        async with session.get("/v1/status") as response:
            assert response.status == 503
            assert "is ending" in (await response.json())["detail"]
        async with session.get("/readyz") as response:
            assert response.status == 503
        async with session.get("/livez") as response:
            assert response.status == 200
        assert not working.done()
        assert await working == 504
        with suppress(asyncio.CancelledError):
            await one.serving
    assert not (tmp_path / "control.sock").exists()


@pytest.mark.net
async def test_a_daemon_that_leaves_tells_what_came_of_it_and_ends(tmp_path: Path) -> None:
    async with daemon(tmp_path / "a") as a, asyncio.timeout(LONG_S):
        one = Daemon(tmp_path / "b", bootstrap=through(a))
        async with await one.session() as session:
            for value in (b"1", b"2", b"3"):
                async with session.post("/v1/blobs", data=value) as response:
                    assert response.status == 200
            async with session.post("/v1/leave?within_s=5") as response:
                assert response.status == 200
                departure = await response.json()
        assert departure == {"handed_over": 3, "left_behind": 0, "told": 1}
        await one.serving
    assert not (tmp_path / "b" / "control.sock").exists()


@pytest.mark.net
async def test_a_daemon_that_leaves_does_nothing_else_over_any_socket(tmp_path: Path) -> None:
    async with daemon(tmp_path / "a") as a, asyncio.timeout(LONG_S):
        one = Daemon(tmp_path / "b", bootstrap=through(a), control_tcp=Address("127.0.0.1", 0))
        async with await one.session() as session:
            async with session.post("/v1/leave?within_s=never") as response:
                assert response.status == 400
            async with session.get("/v1/status") as response:
                assert response.status == 200  # a bad request is no reason to go
            leaving = asyncio.create_task(session.post("/v1/leave").__aenter__())
            refused = [503, 200]
            while refused[-1] == 200:
                async with session.get("/v1/status") as response:
                    refused.append(response.status)
            assert refused[-1] == 503
            assert (await leaving).status == 200
        await one.serving
        await until(lambda: not (tmp_path / "b" / "control.sock").exists())
