"""The life of a node: made, started, stopped, perhaps started again; and who and where it is.

Refuses to know the verbs, which `node` adds. Driven by `start`, and by `stop` or `leave`. Outside
of these `_active`, by which verbs reach the parts of the node, raises NotRunning.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import solves_puzzle
from kademlia_node.core.invite import Invite
from kademlia_node.core.memory import Memory, memorize
from kademlia_node.core.network import Network
from kademlia_node.core.suite import STANDARD, Suite
from kademlia_node.errors import AlreadyRunning, NotRunning, SetupError
from kademlia_node.net.link import Link, multicast
from kademlia_node.net.transport import Listen
from kademlia_node.net.udp import listen as listen_udp
from kademlia_node.node.arguments import checked_bootstrap
from kademlia_node.node.assembly import Parts, assemble, make_state
from kademlia_node.node.contents import ContentSource
from kademlia_node.node.leave import Departure, Leaver
from kademlia_node.node.listener import NodeListener
from kademlia_node.settings import Settings
from kademlia_node.store.base import Store

MINING_STEP = 256  # key pairs tried between two looks at the event loop: about 10 ms


class Life:
    """A node without verbs. The arguments are those of `Node`."""

    def __init__(
        self,
        *,
        network: Network | None = None,
        bootstrap: Sequence[str | Invite] = (),
        host: str = "0.0.0.0",  # noqa: S104 - a peer is there to be reached
        port: int = 0,
        identity: Identity | None = None,
        server: bool | None = None,
        store: Store | None = None,
        content: ContentSource | None = None,
        memory: Memory | None = None,
        lan: bool | Link = False,
        settings: Settings | None = None,
        listen: Listen | None = None,
        rng: random.Random | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the shell's wall clock enters here
        suite: Suite = STANDARD,
    ) -> None:
        self.network = network or Network.open()
        self._bootstrap = checked_bootstrap(bootstrap)
        self._host, self._port = host, port
        self._identity = identity
        self._decided_server = server
        self._store = store
        self._content = content
        self._memory = memory or Memory()
        self._lan = lan
        self._settings = settings or Settings()
        self._listen = listen or partial(listen_udp, settings=self._settings)
        self._rng = rng or random.SystemRandom()
        self._wall = wall
        self._suite = suite
        self._assembled: Parts | None = None
        self._starting = False
        self._running: asyncio.Task[None] | None = None
        self._resting = asyncio.Event()
        self._stopping = asyncio.Event()

    # --- Life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open the socket and knock once at every hint; whether anyone answered, `status` tells.

        Raises:
            SetupError: the address cannot be bound, nobody would take this identity for a server,
                or `lan` needs a package that is not installed.
            AlreadyRunning: it runs, or is starting.
        """
        if self._starting or self._running is not None:
            raise AlreadyRunning
        self._starting = True
        try:
            parts = self._assemble(await self._find_identity())
            await self._open(parts)
            await self._join(parts)
        finally:
            self._starting = False

    async def _find_identity(self) -> Identity:
        """The identity we were given, or one that is found and kept for the next start."""
        bits = 0 if self._decided_server is False else self.network.puzzle_bits
        if self._identity is None:
            self._identity = await find_identity(self._rng, puzzle_bits=bits, suite=self._suite)
        elif self._decided_server and not solves_puzzle(self._identity.id, bits=bits):
            raise SetupError(
                f"this identity cannot be a server's in the network {self.network.name!r}: it does"
                f" not solve the {bits}-bit puzzle; leave out identity to have one found"
            )
        return self._identity

    def _assemble(self, identity: Identity) -> Parts:
        """Make the parts of this run."""
        link = self._find_link()
        listener = self._make_listener()
        state = make_state(
            identity,
            network=self.network,
            settings=self._settings,
            rng=self._rng,
            wall=self._wall,
            store=self._store,
            content=self._content,
            listener=listener,
        )
        parts = assemble(
            state,
            server=self._decided_server,
            bootstrap=self._bootstrap,
            memory=self._memory,
            link=link,
        )
        listener.attach(state, reach=parts.reach, server=parts.server)
        return parts

    def _find_link(self) -> Link | None:
        """Where peers are looked for that nobody told us of; raises SetupError."""
        if isinstance(self._lan, bool):
            return multicast(self._settings) if self._lan else None
        return self._lan

    def _make_listener(self) -> NodeListener:
        """Who hears what peers say to us."""
        return NodeListener()

    async def _open(self, parts: Parts) -> None:
        try:
            await parts.state.exchange.open(self._listen, self._host, self._port)
        except BaseException:
            await parts.state.store.close()
            raise
        self._assembled = parts
        self._resting, self._stopping = asyncio.Event(), asyncio.Event()
        self._running = parts.state.loop.create_task(self._run(parts))

    async def _join(self, parts: Parts) -> None:
        parts.reach.begin()
        try:
            await parts.state.background.begun()  # else the first verb may find nobody behind it
            await parts.joiner.join()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Tell the nearest neighbours, close the socket, end every task, close the store.

        Nothing is handed over: we may start again. Safe to call twice. Nobody is waited for longer
        than `farewell_s`.
        """
        running, self._running = self._running, None
        if running is None:
            return
        try:
            self._resting.set()
            self._memory = self.memory()
            await Leaver(self._parts.state).tell_the_nearest()
        finally:
            self._stopping.set()
            await running

    async def leave(self, *, within_s: float | None = None) -> Departure:
        """Leave the network for good: hand over what we hold, tell everybody we know, stop.

        Nothing is withdrawn. What we have published is renewed no longer, so it expires, unless
        this node starts again with the same store.

        Args:
            within_s: For how many seconds at most records are handed over; `leave_s` of the
                settings by default. What has not been by then is left behind.

        Returns:
            How many records are in other hands now, how many are not, and how many peers know.

        Raises:
            SetupError: the store has failed, so not all was handed over; the node has left.
        """
        parts = self._active
        try:
            self._resting.set()
            self._memory = self.memory()
            parts.reach.retire()
            limit_s = self._settings.leave_s if within_s is None else within_s
            return await Leaver(parts.state).depart(within_s=limit_s)
        finally:
            running, self._running = self._running, None
            self._stopping.set()
            if running is not None:
                await running

    async def _run(self, parts: Parts) -> None:
        """Own the node's tasks until it stops; the chores rest from the moment it is to end."""
        try:
            async with asyncio.TaskGroup() as tasks:
                resting = [tasks.create_task(parts.upkeep.run())]
                if parts.nearby is not None:
                    resting.append(tasks.create_task(parts.nearby.run()))
                serving = tasks.create_task(parts.server.run())
                behind = tasks.create_task(parts.state.background.run())
                await self._resting.wait()
                for task in resting:
                    task.cancel()
                await self._stopping.wait()
                for task in (serving, behind):
                    task.cancel()
        finally:
            await parts.state.exchange.close()
            await parts.state.store.close()

    @property
    def _parts(self) -> Parts:
        """Those of this run, or of the last one: who and where we were can still be read."""
        if self._assembled is None:
            raise NotRunning
        return self._assembled

    @property
    def _active(self) -> Parts:
        """Those of this run."""
        if self._running is None:
            raise NotRunning
        return self._parts

    # --- Who and where ----------------------------------------------------------------------------

    @property
    def id(self) -> bytes:
        """Our node ID, 32 bytes."""
        return self._parts.state.identity.id

    @property
    def public_key(self) -> bytes:
        """Our public key, 32 bytes: what others give as `author` to read what we set."""
        return self._parts.state.identity.public_key

    @property
    def address(self) -> Address:
        """Where our socket is bound."""
        return self._parts.state.exchange.address

    @property
    def invite(self) -> Invite:
        """How others reach us, as far as we know."""
        here = self._parts.reach.address or self.address
        return Invite(self.public_key, here.host, here.port)

    def on_filed(self, key: bytes) -> None:
        """Something was put into the store from outside, as by a restore."""
        self._parts.state.on_change(key)

    def count(self, event: str, times: int = 1) -> None:
        """Add to the counters that `status` shows."""
        self._parts.state.counts[event] += times

    def contacts(self) -> list[Contact]:
        """Everyone in the routing table."""
        return list(self._parts.state.table)

    def memory(self) -> Memory:
        """What to give to the next node of this identity, so that it goes on where this one is."""
        state = self._parts.state
        return memorize(state.table, state.size, now=state.loop.time(), wall=state.wall())

    def closest(self, target: bytes, count: int) -> list[Contact]:
        """The contacts in the routing table nearest to 32 bytes, nearest first; asks nobody."""
        return self._parts.state.table.closest(target, count, include_struck=True)


async def find_identity(
    rng: random.Random, *, puzzle_bits: int, suite: Suite = STANDARD
) -> Identity:
    """Search for a key pair whose ID solves the puzzle, without starving the event loop."""
    attempts = Identity.attempts(rng, puzzle_bits=puzzle_bits, suite=suite)
    for tried, found in enumerate(attempts):
        if found is not None:
            return found
        if tried % MINING_STEP == 0:
            await asyncio.sleep(0)
    raise AssertionError("the search does not end without a find")
