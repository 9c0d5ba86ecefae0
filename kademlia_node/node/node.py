"""A Kademlia node: the object that programs embed.

    async with Node(network=Network.private(secret), bootstrap=["10.0.0.7:4000"]) as node:
        await node.set("colour", b"blue")
        print(await node.get("colour"))

The verbs are short; what they do is in `write`, `read` and `walk`, what the node answers in
`serve`, its chores in `upkeep`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.invite import Invite, parse_invite
from kademlia_node.core.key import Key, Kind, entry_key
from kademlia_node.core.message import FindNode, Ping, Request
from kademlia_node.core.network import Network
from kademlia_node.core.record import Record
from kademlia_node.core.suite import STANDARD, Suite
from kademlia_node.errors import NotFound
from kademlia_node.net.ask import Asker, Reply
from kademlia_node.net.transport import Listen
from kademlia_node.net.udp import listen as listen_udp
from kademlia_node.net.udp import resolve
from kademlia_node.node.arguments import (
    checked_author,
    checked_slot,
    checked_topic,
    checked_value,
)
from kademlia_node.node.assembly import assemble, make_state
from kademlia_node.node.receipt import Receipt, TopicEntry, Trace
from kademlia_node.node.status import Status, report
from kademlia_node.node.walk import Walk
from kademlia_node.node.write import Draft, draft_entry
from kademlia_node.settings import Settings
from kademlia_node.store.base import Store

_RAISE: Any = object()
MINING_STEP = 256  # key pairs tried between two looks at the event loop: about 10 ms


class Node:
    """One peer. Use it as an asynchronous context manager, or call `start` and `stop`.

    Args:
        network: Which network; `Network.open()` by default. All members must agree.
        bootstrap: Where to knock: `host:port` or `kad://key@host:port` each. None may answer.
        host: Numeric address to bind; all IPv4 interfaces by default.
        port: UDP port; 0 takes a free one.
        identity: Our key pair. Without one a fresh one is made, on open networks by about five
            seconds of search, unless `server` is False.
        server: Whether to store for others: True, False, or None to find out if strangers reach us.
        store: Where records are kept; in memory by default.
        peers: Contacts of an earlier run, to knock at as well.
        settings: What a node may choose for itself.
        listen: Opens the datagram socket (the simulator passes its own).
        rng: The source of chance, keys included.
        wall: Seconds since 1970, for what is signed.
        suite: The cryptographic primitives (the simulator passes its own).
    """

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
        peers: Sequence[Contact] = (),
        settings: Settings | None = None,
        listen: Listen = listen_udp,
        rng: random.Random | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the shell's wall clock enters here
        suite: Suite = STANDARD,
    ) -> None:
        self.network = network or Network.open()
        self._bootstrap = [parse_invite(b) if isinstance(b, str) else b for b in bootstrap]
        self._host, self._port = host, port
        self._identity = identity
        self._decided_server = server
        self._store = store
        self._remembered = peers
        self._settings = settings or Settings()
        self._listen = listen
        self._rng = rng or random.SystemRandom()
        self._wall = wall
        self._suite = suite
        self._running: asyncio.Task[None] | None = None
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
            SetupError: the address cannot be bound.
        """
        assert self._running is None, "a node is started once at a time"
        identity = self._identity or await find_identity(
            self._rng,
            puzzle_bits=0 if self._decided_server is False else self.network.puzzle_bits,
            suite=self._suite,
        )
        self._identity = identity
        state = make_state(
            identity,
            network=self.network,
            settings=self._settings,
            rng=self._rng,
            wall=self._wall,
            store=self._store,
            listener=self,
        )
        self._parts = assemble(
            state,
            server=self._decided_server,
            bootstrap=self._bootstrap,
            remembered=self._remembered,
        )
        try:
            await state.exchange.open(self._listen, self._host, self._port)
        except BaseException:
            await state.store.close()
            raise
        self._stopping = asyncio.Event()
        self._running = asyncio.get_running_loop().create_task(self._run())
        self._parts.reach.begin()
        try:
            await self._parts.joiner.join()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the socket and end every task. Safe to call twice."""
        running, self._running = self._running, None
        if running is not None:
            self._stopping.set()
            await running

    async def _run(self) -> None:
        """Own the node's tasks until it stops."""
        try:
            async with asyncio.TaskGroup() as tasks:
                chores = tasks.create_task(self._parts.upkeep.run())
                serving = tasks.create_task(self._parts.server.run())
                await self._stopping.wait()
                chores.cancel()
                serving.cancel()
        finally:
            await self._parts.state.exchange.close()
            await self._parts.state.store.close()

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

    def contacts(self) -> list[Contact]:
        """Everyone in the routing table."""
        return list(self._parts.state.table)

    async def status(self) -> Status:
        """What the node is doing."""
        return await report(
            self._parts.state,
            joiner=self._parts.joiner,
            upkeep=self._parts.upkeep,
            publications=len(self._parts.writer.publications),
            invite=self.invite,
        )

    # --- Writing ----------------------------------------------------------------------------------

    async def put(self, value: bytes) -> Receipt:
        """Store an immutable value (at most 640 bytes) under its own hash, and keep it alive.

        Raises:
            TypeError: the value is not bytes.
            ValueTooLarge: it is too long.
            NotStored: nobody took it.
        """
        return await self._parts.writer.put(checked_value(value))

    async def set(
        self, name: str, value: bytes, *, own: bool = False, expect_seq: int | None = None
    ) -> Receipt:
        """Set a named value and keep it alive.

        Its author is this node; in a private network it is the commons, as which every member may
        write (the last one wins), unless `own`.

        Args:
            name: At most 64 bytes of UTF-8.
            value: At most 640 bytes.
            own: Write as this node.
            expect_seq: Only if the current version has this seq (0: there is none). It detects lost
                updates; it is no lock.

        Raises:
            Conflict: the current version is another one.
            NotStored: nobody took it.
            TypeError, ValueError, ValueTooLarge: a bad argument.
        """
        author = self._parts.state.identity if own else self._parts.commons
        draft = draft_entry(author, checked_slot(name), checked_value(value))
        return await self._parts.writer.write(draft, expect_seq=expect_seq)

    async def announce(self, topic: str, value: bytes, *, slot: str = "") -> Receipt:
        """Add our entry to a topic, beside those of others, and keep it alive.

        Args:
            topic: Any text.
            value: At most 640 bytes.
            slot: Tells several entries of one author apart; at most 64 bytes of UTF-8.

        Raises:
            NotStored: nobody took it.
            TypeError, ValueError, ValueTooLarge: a bad argument.
        """
        key, author = checked_topic(topic), self._parts.state.identity
        draft = Draft(key, author, checked_slot(slot), checked_value(value))
        return await self._parts.writer.write(draft)

    async def withdraw(
        self,
        name: str | None = None,
        *,
        topic: str | None = None,
        slot: str = "",
        own: bool = False,
    ) -> Receipt:
        """Delete a named value, or our entry under a topic, by a signed tombstone.

        Raises:
            NotStored: nobody took the tombstone.
            ValueError: neither or both of name and topic are given.
        """
        if (name is None) == (topic is None):
            raise ValueError("withdraw either a name or a topic entry")
        if name is not None:
            author = self._parts.state.identity if own else self._parts.commons
            draft = draft_entry(author, checked_slot(name), None)
        else:
            author = self._parts.state.identity
            draft = Draft(checked_topic(topic), author, checked_slot(slot), None)
        return await self._parts.writer.write(draft)

    # --- Reading ----------------------------------------------------------------------------------

    async def get(
        self,
        what: str | Key,
        *,
        author: bytes | None = None,
        default: Any = _RAISE,
    ) -> Any:
        """The value of a blob (by `Key`) or of a named entry (by name).

        Args:
            what: The key of a receipt, or a name.
            author: Whose name it is (32-byte public key): by default the commons of a private
                network, else ourselves.
            default: Returned when nothing is found, instead of raising.

        Raises:
            NotFound: no reachable holder has it; carries the trace.
        """
        record, trace = await self.get_record(what, author=author)
        if record is not None and not record.header.is_tombstone:
            return record.value
        if default is _RAISE:
            raise NotFound(str(what), trace)
        return default

    async def get_record(
        self, what: str | Key, *, author: bytes | None = None
    ) -> tuple[Record | None, Trace]:
        """As `get`, but the whole record (None, or a tombstone, if there is none) and the trace."""
        if isinstance(what, Key):
            if what.kind is not Kind.BLOB:
                raise ValueError("only a blob is read by its key; give the name and its author")
            return await self._parts.reader.blob(what)
        owner = self._owner(author)
        slot = checked_slot(what)
        return await self._parts.reader.entry(entry_key(owner, slot), owner, slot)

    def key_of(self, name: str, *, author: bytes | None = None) -> Key:
        """The key of a named entry; `author` is that of `get`."""
        owner = self._owner(author)
        return entry_key(owner, checked_slot(name))

    def _owner(self, author: bytes | None) -> bytes:
        return self._parts.commons.public_key if author is None else checked_author(author)

    def find(self, topic: str) -> AsyncIterator[TopicEntry]:
        """Entries under a topic as they are learnt; a newer version of one comes again."""
        return self._parts.reader.topic(checked_topic(topic))

    async def ping(self, peer: Contact | Invite | str) -> float:
        """Round trip to a peer in seconds; raises NoAnswer, or ValueError for no address."""
        contact = peer if isinstance(peer, Contact) else await self._contact_of(peer)
        started = self._parts.state.loop.time()
        await self._parts.state.exchange.ask(contact, Ping())
        return self._parts.state.loop.time() - started

    async def lookup(self, target: bytes) -> tuple[list[Contact], Trace]:
        """The k nodes closest to a 32-byte target, nearest first, and how they were found."""
        walk = Walk(self._parts.state, target, FindNode(target))
        await walk.run()
        return walk.closest(self._settings.k), walk.trace

    async def _contact_of(self, peer: Invite | str) -> Contact:
        invite = parse_invite(peer) if isinstance(peer, str) else peer
        address = (await resolve(invite.host, invite.port))[0]
        if invite.public_key is None:
            return await self._parts.state.exchange.who(address)
        return Contact(invite.public_key, address)

    # --- What the exchange tells (net.ask.Listener) -----------------------------------------------

    def serve(self, asker: Asker, request: Request, reply: Reply) -> None:
        """A peer asks us."""
        self._parts.server.serve(asker, request, reply)

    def on_alive(self, contact: Contact, *, server: bool) -> None:
        """A peer was heard: servers belong in the table, clients do not, or no longer."""
        table = self._parts.state.table
        if server:
            table.add(contact, now=self._parts.state.loop.time())
        else:
            table.remove(contact.id)

    def on_silent(self, contact: Contact) -> None:
        """A peer did not answer."""
        self._parts.state.table.strike(contact.id, now=self._parts.state.loop.time())

    def on_seen_as(self, address: Address, *, by: Contact) -> None:
        """A peer tells where it sees us."""
        self._parts.reach.on_seen_as(address, by=by)

    def is_pinned(self, node_id: bytes) -> bool:
        """Sessions with the members of our table stay."""
        return node_id in self._parts.state.table


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
