"""The nodes behind the commands: a member's own, and a guest's, which stores nothing and leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from kademlia_node import Network, Node, Settings, SetupError

# Where nodes die every few seconds, those who hold what is watched have to be asked as often. It
# costs a client one request to each of them in five seconds.
BRISK: Final = Settings(watch_renew_s=5.0, watch_look_s=30.0, watch_retry_s=1.0)


@dataclass(frozen=True, slots=True)
class Joining:
    """Which network, where to knock, where to listen."""

    network: Network
    bootstrap: tuple[str, ...] = ()
    host: str = "127.0.0.1"

    def member(self) -> Node:
        """A node that stores for others, too."""
        return Node(network=self.network, bootstrap=self.bootstrap, host=self.host, settings=BRISK)

    @asynccontextmanager
    async def guest(self) -> AsyncIterator[Node]:
        """A node for one command; raises SetupError if nobody is reached."""
        async with Node(
            network=self.network,
            bootstrap=self.bootstrap,
            host=self.host,
            server=False,
            settings=BRISK,
        ) as node:
            status = await node.status()
            if not status.joined:
                said = "; ".join(status.unreachable) or "give a --bootstrap"
                raise SetupError(f"nobody of the network {self.network.name!r} answers: {said}")
            yield node
