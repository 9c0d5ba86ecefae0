"""Where the control API is served: a Unix socket in the folder and, when asked for, TCP.

Refuses to know what is served there (`control`). Each of the two serves until its block ends.
"""

from __future__ import annotations

import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from kademlia_node.core.contact import Address
from kademlia_node.daemon.folder import check_socket_path
from kademlia_node.errors import SetupError

CLOSING_S: Final = 1.0  # what requests under way are given when the daemon stops


@asynccontextmanager
async def listen_unix(app: web.Application, path: Path) -> AsyncIterator[None]:
    """Serve on a Unix socket of mode 0600 until the block ends; then it is gone.

    Raises:
        SetupError: no socket can be made there, or another daemon has one there.
    """
    with _bound_at(path) as bound:
        async with _serving(app, bound):
            yield


@asynccontextmanager
async def listen_tcp(app: web.Application, where: Address) -> AsyncIterator[Address]:
    """Serve on TCP until the block ends; yields the bound address (port 0 takes any free one).

    Raises:
        SetupError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    try:
        bound = socket.create_server(where, family=family)
    except OSError as error:
        raise SetupError(f"cannot serve the control API on {where}: {error.strerror}") from error
    with bound:
        async with _serving(app, bound):
            yield Address(*bound.getsockname()[:2])


@asynccontextmanager
async def _serving(app: web.Application, bound: socket.socket) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSING_S)
    await runner.setup()
    try:
        await web.SockSite(runner, bound).start()
        yield
    finally:
        await runner.cleanup()


@contextmanager
def _bound_at(path: Path) -> Iterator[socket.socket]:
    """A Unix socket bound to this path, which is ours until the block ends."""
    check_socket_path(path)
    with socket.socket(socket.AF_UNIX) as bound:
        try:
            _clear(path)
            bound.bind(str(path))
            path.chmod(0o600)  # nobody can connect before it listens
        except OSError as error:
            raise SetupError(f"cannot make the socket {path}: {error.strerror}") from error
        try:
            yield bound
        finally:
            path.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove a socket that a killed daemon left; anything else is not ours to remove."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SetupError(f"{path} is in the way of the control socket: move it, or choose another")
    with socket.socket(socket.AF_UNIX) as knocker:
        if knocker.connect_ex(str(path)) == 0:
            raise SetupError(f"another daemon answers at {path}: stop it, or choose another path")
    path.unlink()
