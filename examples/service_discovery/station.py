"""The nodes behind the commands: a member's own, and a guest's, which stores nothing and leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kademlia_node import Network, Node, Settings, SetupError

SECRET_CHARS: Final = 64

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


def read_network(secret_file: Path, *, name: str) -> Network:
    """The private network of those who have this secret.

    Raises:
        SetupError: it cannot be read, others can read it, or it is none.
    """
    try:
        if secret_file.stat().st_mode & 0o077:
            raise SetupError(f"{secret_file} is open to others: chmod 600 {secret_file}")
        text = secret_file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"cannot read {secret_file}: {error}") from error
    try:
        return Network.private(bytes.fromhex(text if len(text) == SECRET_CHARS else ""), name=name)
    except ValueError:
        raise SetupError(f"{secret_file} holds no secret: 64 hexadecimal digits") from None
