"""What a simulated node runs on, and what outlives it: identity, address, disk and clock.

It refuses to know the network and the other machines; `sim.swarm` starts and ends the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kademlia_node.core.contact import Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.memory import Memory
from kademlia_node.net.transport import Transport
from kademlia_node.node.node import Node
from kademlia_node.sim.clocks import Clock
from kademlia_node.sim.store import FaultyStore
from kademlia_node.store.base import Store

NodeKind = Callable[..., Node]
"""Makes a node from the keyword arguments of `Node`: `Node` itself, or a subclass of it."""


@dataclass(slots=True, kw_only=True)
class Machine:
    """What outlives a node. Moments are seconds of the event loop.

    Attributes:
        number: Index of its node in `Swarm.nodes`.
        identity: Of every node that runs here.
        kind: What makes its nodes.
        is_hostile: Whether they mean harm: they are not among `Swarm.alive`, churn spares them, and
            neither oracle nor invariants rely on them or judge them.
        clock: The wall clock that they read.
        store: Its disk.
        store_since: When this store was empty: at the first start, and at each loss.
        memory: The peers that its latest node knew, kept beside the store.
        forgot_at: When a crash last cost the store something that had been acknowledged.
        transport: The socket of the latest node.
        up_since: When the latest node had joined; None while none runs, or it is joining.
        down_since: When the latest node went down; None from the moment one is started.
    """

    number: int
    identity: Identity
    kind: NodeKind
    is_hostile: bool
    clock: Clock
    store: Store
    store_since: float
    memory: Memory = field(default_factory=Memory)
    forgot_at: float | None = None
    transport: Transport | None = None
    up_since: float | None = None
    down_since: float | None = None

    @property
    def contact(self) -> Contact:
        """Its node, at the address that it keeps."""
        assert self.transport is not None, "its first node has not started yet"
        return Contact(self.identity.public_key, self.transport.address)

    @property
    def disk(self) -> Store:
        """The store without the faults in front of it, for those who look from outside."""
        return self.store.beneath if isinstance(self.store, FaultyStore) else self.store

    def kept_since(self, moment: float) -> bool:
        """Whether the store still has all that was acknowledged from this moment on."""
        forgot_later = self.forgot_at is not None and self.forgot_at > moment
        return self.store_since <= moment and not forgot_later

    async def cut_power(self) -> None:
        """The node goes on for a moment, but whatever it does, nobody hears and nothing stays."""
        if self.transport is not None:
            await self.transport.close()
        if isinstance(self.store, FaultyStore):
            self.store.cut_power()

    async def restore_power(self, *, now: float) -> None:
        """Find on the disk what had been committed; nobody may be using it."""
        if isinstance(self.store, FaultyStore) and await self.store.crash():
            self.forgot_at = now
