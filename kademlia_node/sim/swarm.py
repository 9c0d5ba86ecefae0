"""Many real nodes on one simulated network, and an oracle that knows the whole truth about them.

    async def main() -> None:
        async with Swarm(nodes=20, seed=7) as swarm:
            await swarm.nodes[3].set("colour", b"blue")
            await swarm.crash(swarm.nodes[3])
            assert await swarm.nodes[17].get("colour") == b"blue"

    kademlia_node.sim.run(main())

The nodes are the very ones that run in production; only the socket, the clock, chance, the disk and
(unless told otherwise) the cryptography are the simulator's. The same seed gives the same run.

Each node runs on a machine of its own, which outlives it: there its identity, its address and its
store wait for the next start. A node that was started again is a new object, at the same index of
`swarm.nodes`; the verbs below take any of those that ran on the machine.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from heapq import nsmallest
from typing import Any, Final, Self

from kademlia_node.core.contact import Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import point
from kademlia_node.core.key import Key
from kademlia_node.core.memory import Memory
from kademlia_node.core.network import Network
from kademlia_node.core.record import Record
from kademlia_node.core.suite import Suite
from kademlia_node.net.transport import Receive, Transport
from kademlia_node.node.leave import Departure
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim.churn import EXPONENTIAL, Churn
from kademlia_node.sim.clocks import Clock
from kademlia_node.sim.diary import Diary
from kademlia_node.sim.machine import Machine, NodeKind
from kademlia_node.sim.network import SimNetwork
from kademlia_node.sim.store import FaultyStore
from kademlia_node.sim.suite import NullSuite
from kademlia_node.store.base import Store
from kademlia_node.store.memory import MemoryStore

SECRET = b"a swarm is a private network, ok"
JOINING_AT_ONCE = 8
MEMBERS_PER_NEWCOMER = 16  # in a large swarm more join at once, each through another member
REMAINS_MIN: Final = 100  # nodes that have ended; fewer are left to Python
REMAINS_SHARE: Final = 1 / 4  # of all nodes, that have ended: looking at them all takes time


class Swarm:
    """Start nodes, stop them, find the truth.

    Args:
        nodes: How many to start with.
        seed: Decides everything that chance decides.
        network: What the nodes agree on; a private network of 5 copies by default.
        settings: For every node.
        suite: Real cryptography when this is `STANDARD`.
        commit_every: So many writes of a node's store survive a crash together; the rest of them
            is lost with it. By default none ever is.
        weather: Keyword arguments for `SimNetwork`: latency, jitter_s, loss, duplicate, reorder.

    Attributes:
        network: The simulated one: it carries the datagrams. (The argument is what nodes agree on.)
        settings: Of every node.
        diary: Tells when a node came or went; others may write into it, too.
        commons_key: Public key of the author that all members share; empty in an open network.
        nodes: The latest node of each machine, whether it runs or not.
    """

    def __init__(
        self,
        *,
        nodes: int,
        seed: int,
        network: Network | None = None,
        settings: Settings | None = None,
        suite: Suite | None = None,
        commit_every: int | None = None,
        **weather: Any,
    ) -> None:
        self._size = nodes
        self._rng = random.Random(seed)
        self._agreement = network or Network.private(SECRET)
        self.settings = settings or Settings()
        self._suite = suite or NullSuite()
        self._commit_every = commit_every
        self._machines: dict[bytes, Machine] = {}  # by public key, in order of their numbers
        self.diary = Diary()
        self.commons_key = b""
        if self._agreement.secret is not None:
            self.commons_key = Identity.commons(self._agreement, suite=self._suite).public_key
        self.network = SimNetwork(rng=random.Random(self._rng.getrandbits(64)), **weather)
        self.nodes: list[Node] = []
        self._remains = 0  # ended since garbage was collected: cycles, half a megabyte each

    async def __aenter__(self) -> Self:
        await self.grow(self._size)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cut the power of all at once: nobody is left to be told, and nobody to repair."""
        for machine in self._machines.values():
            await machine.cut_power()
        async with asyncio.TaskGroup() as tasks:
            for node in self.nodes:
                tasks.create_task(node.stop())

    # --- Coming and going -------------------------------------------------------------------------

    @property
    def alive(self) -> list[Node]:
        """The honest nodes that run and have joined."""
        return [self.nodes[machine.number] for machine in self._up()]

    async def grow(
        self,
        count: int,
        *,
        kind: NodeKind = Node,
        hostile: bool = False,
        identities: Iterable[Identity] = (),
        via: Sequence[Node] | None = None,
    ) -> list[Node]:
        """Start `count` more nodes, each of which knows one member; return them once joined.

        Args:
            count: How many.
            kind: What makes them: `Node`, a subclass of it, or what calls one.
            hostile: Whether nobody relies on them; see `Machine.is_hostile`.
            identities: Those of the first of them; all others draw theirs.
            via: The members one of which each node knows; the honest ones by default.
        """
        given = iter(identities)
        born: list[Node] = []
        while len(born) < count:
            members = self.alive if via is None else via
            at_once = max(JOINING_AT_ONCE, len(members) // MEMBERS_PER_NEWCOMER)
            at_once = min(at_once, count - len(born)) if members else 1
            chances = [self._chance(members) for _ in range(at_once)]
            batch = [
                self._make_first(rng, bootstrap, kind, hostile=hostile, identity=next(given, None))
                for bootstrap, rng in chances
            ]
            self.nodes += [node for _, node in batch]
            async with asyncio.TaskGroup() as joining:
                for machine, node in batch:
                    joining.create_task(self._start(machine, node))
            born += [node for _, node in batch]
        return born

    async def stop(self, node: Node) -> None:
        """Stop a running node as its operator would; its store is kept."""
        machine = self._running(node)
        self.diary.note(f"node {machine.number} stops")
        await self._down(machine).stop()

    async def leave(self, node: Node, *, within_s: float | None = None) -> Departure:
        """Have a running node leave for good; see `Node.leave`. Its store is kept nevertheless."""
        machine = self._running(node)
        self.diary.note(f"node {machine.number} leaves")
        return await self._down(machine).leave(within_s=within_s)

    async def crash(self, node: Node, *, keep_store: bool = True) -> None:
        """End a running node without a word to anyone.

        Args:
            node: Which.
            keep_store: Whether its records, what it published and its peers are kept.
        """
        machine = self._running(node)
        disk = "keeps its disk" if keep_store else "loses its disk"
        self.diary.note(f"node {machine.number} crashes and {disk}")
        await machine.cut_power()
        await self._down(machine).stop()
        if keep_store:
            await machine.restore_power(now=_now())
        else:
            machine.store, machine.store_since = self._empty(machine.identity), _now()
            machine.memory = Memory()

    async def restart(self, node: Node, *, bootstrap: bool = True) -> Node:
        """Start a new node where one has ended: same identity, same address, what the store kept.

        Args:
            node: The one that ended.
            bootstrap: Whether it knocks at one living member as well, if there is any; else the
                peers that it knew when it ended are its only way back.

        Returns:
            The new node, once it has knocked.
        """
        machine = self.machine(node)
        assert machine.down_since is not None, f"node {machine.number} has not ended"
        invites, rng = self._chance(self.alive if bootstrap else [])
        address = machine.contact.address
        new = self._make(
            machine,
            rng=rng,
            bootstrap=invites,
            memory=machine.memory,
            host=address.host,
            port=address.port,
        )
        machine.down_since = None
        try:
            await self._start(machine, new)
        except BaseException:
            machine.down_since = _now()
            raise
        self.nodes[machine.number] = new
        return new

    def churn(
        self,
        *,
        mean_session_s: float = 3600.0,
        mean_absence_s: float = 600.0,
        crash_share: float = 0.5,
        loss_share: float = 0.0,
        leave_share: float = 0.0,
        session_shape: float = EXPONENTIAL,
        on_departure: Callable[[Node], Awaitable[None]] | None = None,
        spare: Collection[Node] = (),
    ) -> Churn:
        """Have the honest nodes come and go for the length of an `async with` block.

        `spare` are those that stay; for the rest of the arguments see `Churn`.
        """
        staying = {self.machine(node).number for node in spare}
        return Churn(
            self,
            [
                machine.number
                for machine in self._machines.values()
                if machine.number not in staying and not machine.is_hostile
            ],
            rng=random.Random(self._rng.getrandbits(64)),
            mean_session_s=mean_session_s,
            mean_absence_s=mean_absence_s,
            crash_share=crash_share,
            loss_share=loss_share,
            leave_share=leave_share,
            session_shape=session_shape,
            on_departure=on_departure,
        )

    # --- The truth --------------------------------------------------------------------------------

    def true_closest(self, target: bytes, count: int, *, hostile: bool = False) -> list[Contact]:
        """The `count` running nodes that really are closest to a target, nearest first.

        Args:
            target: 32 bytes.
            count: How many at most.
            hostile: Whether the hostile ones count.
        """
        goal, up = point(target), self._up(hostile=hostile)
        closest = nsmallest(count, up, key=lambda machine: point(machine.identity.id) ^ goal)
        return [machine.contact for machine in closest]

    async def held(self, key: Key) -> dict[Node, list[Record]]:
        """What the honest nodes that run hold under a key, tombstones included, on their disks.

        A node that holds nothing is left out.
        """
        wall = self.network.wall()
        found = {
            self.nodes[machine.number]: await machine.disk.get(key.digest, wall=wall)
            for machine in self._up()
        }
        return {node: records for node, records in found.items() if records}

    async def holders(self, key: Key) -> list[Node]:
        """Those of them that hold a value under a key, not only tombstones."""
        return [
            node
            for node, records in (await self.held(key)).items()
            if not all(record.header.is_tombstone for record in records)
        ]

    def __contains__(self, node: Node | Contact) -> bool:
        return node.public_key in self._machines

    def machine(self, node: Node | Contact) -> Machine:
        """Where a node runs or ran; raises KeyError for one that is not of this swarm."""
        return self._machines[node.public_key]

    # --- Starting and ending ----------------------------------------------------------------------

    def _up(self, *, hostile: bool = False) -> list[Machine]:
        return [
            machine
            for machine in self._machines.values()
            if machine.up_since is not None and (hostile or not machine.is_hostile)
        ]

    def _running(self, node: Node) -> Machine:
        machine = self.machine(node)
        assert machine.up_since is not None, f"node {machine.number} does not run"
        return machine

    def _chance(self, members: Sequence[Node]) -> tuple[list[str], random.Random]:
        """What a start draws: one of the members to knock at, if there is any; its own chance."""
        bootstrap = [str(self._rng.choice(members).invite)] if members else []
        return bootstrap, random.Random(self._rng.getrandbits(64))

    def _make_first(
        self,
        rng: random.Random,
        bootstrap: Sequence[str],
        kind: NodeKind,
        *,
        hostile: bool,
        identity: Identity | None,
    ) -> tuple[Machine, Node]:
        """A new machine, and the node that is to start there."""
        if identity is None:
            bits = self._agreement.puzzle_bits
            identity = Identity.generate(rng, puzzle_bits=bits, suite=self._suite)
        machine = Machine(
            number=len(self._machines),
            identity=identity,
            kind=kind,
            is_hostile=hostile,
            clock=Clock(self.network.wall),
            store=self._empty(identity),
            store_since=_now(),
        )
        self._machines[identity.public_key] = machine
        return machine, self._make(machine, rng=rng, bootstrap=bootstrap)

    def _make(
        self,
        machine: Machine,
        *,
        rng: random.Random,
        bootstrap: Sequence[str],
        memory: Memory | None = None,
        host: str = "",
        port: int = 0,
    ) -> Node:
        async def listen(host: str, port: int, receive: Receive) -> Transport:
            machine.transport = await self.network.listen(host, port, receive)
            return machine.transport

        return machine.kind(
            network=self._agreement,
            bootstrap=bootstrap,
            host=host,
            port=port,
            identity=machine.identity,
            server=True,
            store=machine.store,
            memory=memory,
            settings=self.settings,
            listen=listen,
            rng=rng,
            wall=machine.clock,
            suite=self._suite,
        )

    def _empty(self, identity: Identity) -> Store:
        settings = self._agreement.adapt(self.settings)
        make = partial(MemoryStore, identity.id, settings=settings)
        if self._commit_every is None:
            return make()
        return FaultyStore(make, commit_every=self._commit_every)

    async def _start(self, machine: Machine, node: Node) -> None:
        await node.start()
        machine.up_since = _now()
        hostile = "hostile " if machine.is_hostile else ""
        self.diary.note(f"{hostile}node {machine.number} has joined at {machine.contact.address}")

    def _down(self, machine: Machine) -> Node:
        machine.up_since, machine.down_since = None, _now()
        node = self.nodes[machine.number]
        machine.memory = node.memory()
        self._remains += 1
        if self._remains >= max(REMAINS_MIN, REMAINS_SHARE * len(self._machines)):
            gc.collect()
            self._remains = 0
        return node


def _now() -> float:
    return asyncio.get_running_loop().time()
