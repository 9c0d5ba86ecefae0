"""Who does the work of a verb: the daemon of a folder, or a node that joins for this once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kademlia_node.core.invite import Invite
from kademlia_node.core.network import Network
from kademlia_node.daemon.folder import Folder
from kademlia_node.daemon.verbs import Verbs
from kademlia_node.net import loop

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The way to a node. With a bootstrap address it is one of our own, else the daemon's.

    Attributes:
        folder: The data folder: whose daemon, or whose key.
        control: The daemon's socket; None: in the folder.
        bootstrap: Where our own node knocks.
        network: Which network our own node joins.
    """

    folder: Path
    control: Path | None = None
    bootstrap: tuple[Invite, ...] = ()
    network: Network | None = None

    @property
    def names_are_ours(self) -> bool:
        """Whether a name without an author is our own, which our node must have the key for."""
        return self.network is not None and self.network.secret is None

    def ask(self, question: Callable[[Verbs], Awaitable[T]], *, as_self: bool = False) -> T:
        """Run `question` with the verbs of that node, in an event loop made for it.

        Args:
            question: What to do.
            as_self: Whether it matters who we are. A daemon is itself anyway.

        Raises:
            NoDaemon: there is no such node.
            KademliaError, ValueError: what the question raised.
        """

        async def main() -> T:
            async with self._verbs(as_self=as_self) as verbs:
                return await question(verbs)

        return loop.run(main())

    def _verbs(self, *, as_self: bool) -> AbstractAsyncContextManager[Verbs]:
        # Imported here, for --help and --version are not to wait for an HTTP library.
        if self.network is None:
            from kademlia_node.daemon.client import connected  # noqa: PLC0415

            return connected(self.control or Folder(self.folder).socket_path)
        from kademlia_node.cli.embedded import joined  # noqa: PLC0415

        key_folder = self.folder if as_self else None
        return joined(self.bootstrap, network=self.network, key_folder=key_folder)
