"""Many real nodes on one simulated network, and an oracle that knows the whole truth about them.

    async def main() -> None:
        async with Swarm(nodes=20, seed=7) as swarm:
            await swarm.nodes[3].set("colour", b"blue")
            assert await swarm.nodes[17].get("colour") == b"blue"

    kademlia_node.sim.run(main())

The nodes are the very ones that run in production; only the socket, the clock, chance and (unless
told otherwise) the cryptography are the simulator's. The same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Self

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import point
from kademlia_node.core.network import Network
from kademlia_node.core.suite import Suite
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim.network import SimNetwork
from kademlia_node.sim.suite import NullSuite

SECRET = b"a swarm is a private network, ok"
JOINING_AT_ONCE = 8


class Swarm:
    """Start nodes, find the truth, stop them.

    Args:
        nodes: How many to start with.
        seed: Decides everything that chance decides.
        network: What the nodes agree on; a private network of 5 copies by default.
        settings: For every node.
        suite: Real cryptography when this is `STANDARD`.
        weather: Keyword arguments for `SimNetwork`: latency, jitter_s, loss, duplicate, reorder.
    """

    def __init__(
        self,
        *,
        nodes: int,
        seed: int,
        network: Network | None = None,
        settings: Settings | None = None,
        suite: Suite | None = None,
        **weather: Any,
    ) -> None:
        self._size = nodes
        self._rng = random.Random(seed)
        self._agreement = network or Network.private(SECRET)
        self._settings = settings or Settings()
        self._suite = suite or NullSuite()
        self.network = SimNetwork(rng=random.Random(self._rng.getrandbits(64)), **weather)
        self.nodes: list[Node] = []

    async def __aenter__(self) -> Self:
        await self.grow(self._size)
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.stop()

    async def grow(self, count: int) -> list[Node]:
        """Start `count` more nodes, each of which knows one member; return them once joined."""
        born: list[Node] = []
        while len(born) < count:
            batch = [self._make() for _ in range(min(JOINING_AT_ONCE, count - len(born)))]
            if not self.nodes:
                batch = batch[:1]
            async with asyncio.TaskGroup() as joining:
                for node in batch:
                    joining.create_task(node.start())
            self.nodes += batch
            born += batch
        return born

    def true_closest(self, target: bytes, count: int) -> list[Contact]:
        """The `count` running nodes that really are closest to a target, nearest first."""
        goal = point(target)
        contacts = [Contact(node.public_key, node.address) for node in self.nodes]
        return sorted(contacts, key=lambda contact: contact.point ^ goal)[:count]

    def _make(self) -> Node:
        bootstrap = [str(self._rng.choice(self.nodes).invite)] if self.nodes else []
        return Node(
            network=self._agreement,
            bootstrap=bootstrap,
            server=True,
            settings=self._settings,
            listen=self.network.listen,
            rng=random.Random(self._rng.getrandbits(64)),
            wall=self.network.wall,
            suite=self._suite,
        )
