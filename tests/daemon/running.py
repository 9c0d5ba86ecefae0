"""Daemons in the loop of a test, on loopback, in a private network of the tests' own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from kademlia_node.core.invite import Invite, parse_invite
from kademlia_node.core.network import Network
from kademlia_node.daemon.service import Plan, serve
from kademlia_node.daemon.views import Json
from kademlia_node.settings import Settings

SECRET = bytes(range(32))
NETWORK = Network.private(SECRET)
QUICK = Settings(
    timeout_s=0.5,  # nobody is far away, and who is dead need not be waited for
    rto_initial_s=0.1,
    join_retry_s=0.1,
    join_retry_max_s=0.2,
)
LONG_S = 30.0  # no test takes so long unless something hangs


@asynccontextmanager
async def daemon(
    folder: Path, *, settings: Settings = QUICK, network: Network = NETWORK, **plan: Any
) -> AsyncIterator[Json]:
    """A daemon that is ready; yields what it said then. Raises what stood in its way."""
    plan.setdefault("host", "127.0.0.1")
    ready: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(
            Plan(folder=folder, network=network, **plan),
            on_ready=ready.set_result,
            settings=settings,
        )
    )
    try:
        async with asyncio.timeout(LONG_S):
            serving.add_done_callback(lambda _: ready.cancel())
            await asyncio.wait([ready])
            if serving.done():
                await serving
            yield ready.result()
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what tells nobody, such as a file."""
    async with asyncio.timeout(LONG_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def through(ready: Json) -> tuple[Invite, ...]:
    """The bootstrap of a node that knows this daemon by address alone."""
    return (parse_invite(ready["address"]),)


def silent_port() -> int:
    """A UDP port of 127.0.0.1 at which nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
