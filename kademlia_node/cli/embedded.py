"""The verbs without a daemon: a node of this process joins, does one thing, and leaves.

It is a client: it stores nothing and answers nobody. What it writes is with those whom its receipt
names, as who has not answered by then finds it gone; it lives until it expires, as nobody renews
it. It signs with the folder's key only where the author matters; else the key is made for the
occasion and forgotten.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from kademlia_node.core.invite import Invite
from kademlia_node.core.network import Network
from kademlia_node.daemon.folder import locked
from kademlia_node.daemon.node_verbs import NodeVerbs
from kademlia_node.daemon.service import own_identity
from kademlia_node.errors import NoDaemon
from kademlia_node.node.node import Node


@asynccontextmanager
async def joined(
    bootstrap: Sequence[Invite], *, network: Network, key_folder: Path | None
) -> AsyncIterator[NodeVerbs]:
    """A node that has joined through `bootstrap`.

    Args:
        bootstrap: Where to knock.
        network: Which network.
        key_folder: Where the key is to sign with, made there if there is none; None: any key.

    Raises:
        NoDaemon: nobody there answered.
        SetupError: the folder is in use, or its key is refused.
    """
    rng = random.SystemRandom()
    with ExitStack() as stack:
        identity = None
        if key_folder is not None:
            folder = stack.enter_context(locked(key_folder))
            identity = await own_identity(folder, network=network, rng=rng, server=False)
        is_v6 = any(":" in invite.host for invite in bootstrap)
        async with Node(
            network=network,
            bootstrap=bootstrap,
            host="::" if is_v6 else "0.0.0.0",  # noqa: S104 - a peer is there to be answered
            identity=identity,
            server=False,
            rng=rng,
        ) as node:
            status = await node.status()
            if not status.joined:
                said = "; ".join(status.unreachable) or "who answered stores nothing"
                raise NoDaemon(f"no node of the network {network.name!r} was reached: {said}")
            yield NodeVerbs(node)
