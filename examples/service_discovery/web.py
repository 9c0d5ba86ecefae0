"""A small HTTP service, and how it is asked: by clients, and by the check of its health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import web

from examples.service_discovery.resolving import Unreachable

HEALTH: Final = "/health"
WORK_S: Final = 0.02  # as if it had something to do
PATIENCE: Final = aiohttp.ClientTimeout(
    total=10.0, connect=1.0
)  # a host that is off refuses nobody
ANSWER_BYTES_MAX: Final = 64 * 2**10
PLAIN: Final = {"Accept-Encoding": "identity"}  # packed, a little can become any amount
UNABLE: Final = frozenset({502, 503, 504})  # it is there, and says that another one is to do it


@asynccontextmanager
async def serving(name: str, *, host: str, port: int = 0) -> AsyncIterator[str]:
    """Serve `/` and `/health`; yields the URL.

    Args:
        name: Of the service.
        host: Numeric address, of this machine, at which clients reach it.
        port: 0 takes a free one.

    Raises:
        OSError: this address cannot be had.
    """
    url = ""

    async def greet(_: web.Request) -> web.Response:
        await asyncio.sleep(WORK_S)
        return web.Response(text=f"{name} at {url}\n")

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/", greet), web.get(HEALTH, health)])
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{runner.addresses[0][1]}"
        yield url
    finally:
        await runner.cleanup()


async def fetch(session: aiohttp.ClientSession, url: str) -> str:
    """The text at a URL. To be used for what may be asked twice.

    It is read as UTF-8, with U+FFFD for what is none, and not unpacked. Whoever answers chose it:
    it may hold what a terminal obeys.

    Raises:
        Unreachable: nobody answers there, it says that it cannot, or it says more than
            `ANSWER_BYTES_MAX`.
    """
    try:
        async with session.get(
            url, headers=PLAIN, timeout=PATIENCE, allow_redirects=False, auto_decompress=False
        ) as response:
            if response.status in UNABLE:
                raise Unreachable(f"{url} answers {response.status}")
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > ANSWER_BYTES_MAX:
                    raise Unreachable(f"{url} answers more than {ANSWER_BYTES_MAX} bytes")
            return answer.decode("utf-8", "replace")
    except (aiohttp.ClientError, OSError) as error:  # refused, broken off, or (TimeoutError) silent
        raise Unreachable(f"{url}: {error}") from error
    except UnicodeError as error:  # a label of more than 63 characters, say
        raise Unreachable(f"{url} has no name of a host: {error}") from error


async def is_well(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether the answer there is 200; how long it may take, the caller says."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            return response.status == 200
    except (aiohttp.ClientError, OSError):
        return False
