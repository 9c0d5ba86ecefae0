"""The processes that `served` measures: two bare echoes, a whole node, and a crowd that it knows.

Each says on stdout what others need to reach it. Then it tells, for each line on stdin, how many
requests it has served and what CPU it took, until stdin is closed.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import aioudp

from kademlia_node import Network, Node
from kademlia_node.net import loop
from kademlia_node.settings import Settings
from scripts.benchmarks.timing import Figures

HOST: Final = "127.0.0.1"
NETWORK: Final = Network.open("a benchmark", puzzle_bits=0)
UNLIMITED: Final = Settings(
    requests_per_peer_per_s=1e9,
    timeout_min_s=2.5,  # who is late on a busy machine is not dead: each is to be named
)
JOINING: Final = 4  # nodes at a time

Role = Literal["bare", "aioudp", "node", "crowd"]
Tell = Callable[[], Coroutine[Any, Any, Figures]]


class Answering:
    """One of the processes, as seen from outside."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self._popen = popen

    def line(self) -> Figures:
        """What it says next."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            raise SystemExit(f"a process ended with {self._popen.wait()}")
        told: Figures = json.loads(line)
        return told

    def tell(self) -> Figures:
        """What it has done so far, and the CPU it took."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()
        return self.line()


@contextmanager
def answering(role: Role, *arguments: object) -> Iterator[Answering]:
    """Such a process. It ends when the block does, or when this process has died."""
    command = [sys.executable, "-m", "scripts.benchmarks.answering", role, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as popen:
        try:
            yield Answering(popen)
        finally:
            popen.kill()


# --- In the processes -----------------------------------------------------------------------------


def _say(told: Figures) -> None:
    print(json.dumps(told), flush=True)


async def _tell_when_asked(tell: Tell) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        _say({"cpu_s": time.process_time(), **await tell()})


class _Echo(asyncio.DatagramProtocol):
    """Sends back what it gets, and nothing more."""

    _transport: asyncio.DatagramTransport
    served = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.served += 1
        self._transport.sendto(data, addr)


async def _bare() -> None:
    transport, echo = await asyncio.get_running_loop().create_datagram_endpoint(
        _Echo, local_addr=(HOST, 0)
    )

    async def tell() -> Figures:
        return {"served": echo.served}

    _say({"port": transport.get_extra_info("sockname")[1]})
    await _tell_when_asked(tell)


async def _aioudp() -> None:
    served = 0

    async def echo(connection: aioudp.Connection) -> None:
        nonlocal served
        async for datagram in connection:
            served += 1
            await connection.send(datagram)

    async def tell() -> Figures:
        return {"served": served}

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    async with aioudp.serve(HOST, port, echo):
        _say({"port": port})
        await _tell_when_asked(tell)


async def _node() -> None:
    async with Node(network=NETWORK, host=HOST, server=True, settings=UNLIMITED) as node:

        async def tell() -> Figures:
            counters = (await node.status()).counters
            served = counters.get("served_Ping", 0) + counters.get("served_FindNode", 0)
            return {"served": served, "contacts": len(node.contacts())}

        _say({"invite": str(node.invite)})
        await _tell_when_asked(tell)


async def _crowd(invite: str, count: str) -> None:
    nodes = [
        Node(network=NETWORK, host=HOST, server=True, bootstrap=[invite]) for _ in range(int(count))
    ]
    for first in range(0, len(nodes), JOINING):
        await asyncio.gather(*[node.start() for node in nodes[first : first + JOINING]])

    async def tell() -> Figures:
        return {"contacts": [len(node.contacts()) for node in nodes]}

    _say({"nodes": len(nodes)})
    await _tell_when_asked(tell)


ROLES: Final[dict[str, Callable[..., Coroutine[Any, Any, None]]]] = {
    "bare": _bare,
    "aioudp": _aioudp,
    "node": _node,
    "crowd": _crowd,
}

if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    loop.run(ROLES[role](*rest))
