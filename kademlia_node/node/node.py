"""A Kademlia node: the object that programs embed.

    async with Node(network=Network.private(secret), bootstrap=["10.0.0.7:4000"]) as node:
        await node.set("colour", b"blue")
        print(await node.get("colour"))

The verbs are short; what they do is in `write`, `read` and `walk`, how a node starts and stops in
`life`, what it answers in `serve`, its chores in `upkeep`; those for topics are in `announcing`,
those for large content in `sharing`. Outside of its block a node does nothing: the verbs raise
`NotRunning`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import Any, TypeVar, overload

from kademlia_node.core.contact import Contact
from kademlia_node.core.invite import Invite, parse_invite
from kademlia_node.core.key import Key, Kind, blob_key, entry_key
from kademlia_node.core.message import FindNode, Ping
from kademlia_node.core.record import Record
from kademlia_node.errors import NotFound
from kademlia_node.net.udp import resolve
from kademlia_node.node.announcing import Announcing
from kademlia_node.node.arguments import (
    Author,
    checked_count,
    checked_many,
    checked_seq,
    checked_slot,
    checked_target,
    checked_topic,
    checked_ttl,
    checked_value,
)
from kademlia_node.node.draft import Draft, draft_entry
from kademlia_node.node.many import Job, do_all, write_all
from kademlia_node.node.receipt import Receipt, Trace
from kademlia_node.node.status import Status, report
from kademlia_node.node.walk import Walk
from kademlia_node.store.base import FIRST, Published

T = TypeVar("T")
_RAISE: Any = object()
PUBLICATIONS_PER_PAGE = 256


class Node(Announcing):
    """One peer. Use it as an asynchronous context manager, or call `start` and `stop`.

    It renews what it has written as long as it runs; with a `DiskStore` also after a restart. When
    it stops for good, what others hold of its publications expires.

    Args:
        network: Which network; `Network.open()` by default. All members must agree.
        bootstrap: Where to knock: `host:port` or `kad://key@host:port` each. None may answer.
        host: Numeric address to bind; all IPv4 interfaces by default.
        port: UDP port; 0 takes a free one.
        identity: Our key pair. Without one a fresh one is made, on open networks by about five
            seconds of search, unless `server` is False. A server's has to solve the puzzle.
        server: Whether to store for others: True, False, or None to find out if strangers reach us.
        store: Where records and the list of our publications are kept; in memory by default.
        content: Serves pieces of content that is not in the store, see `ContentSource`.
        memory: The `memory()` of an earlier run: peers to go on with, or to knock at as well.
        lan: Whether to find members on the same link, and be found there, by multicast DNS. Off
            unless asked for: a program that embeds a node decides itself whether it speaks
            multicast. Needs the extra `lan`. (Tests pass a link of their own.)
        settings: What a node may choose for itself.
        listen: Opens the datagram socket (the simulator passes its own).
        rng: The source of chance, keys included.
        wall: Seconds since 1970, for what is signed.
        suite: The cryptographic primitives (the simulator passes its own).
    """

    # --- What it says of itself -------------------------------------------------------------------

    async def status(self) -> Status:
        """What the node is doing."""
        parts = self._active
        return await report(
            parts.state,
            joiner=parts.joiner,
            upkeep=parts.upkeep,
            subscriptions=parts.subscriptions,
            notifier=parts.notifier,
            invite=self.invite,
        )

    # --- Writing ----------------------------------------------------------------------------------

    async def put(
        self, value: bytes, *, acks: int | None = None, ttl_s: int | None = None
    ) -> Receipt:
        """Store an immutable value (at most 65,536 bytes) under its own hash, and keep it alive.

        Args:
            value: The bytes.
            acks: Return when so many nodes have acknowledged it, while the rest are still asked;
                by default as many as the network keeps copies.
            ttl_s: For how many seconds it is there if this node dies; it is renewed at half of
                that. 48 hours by default, and at most; at least four minutes.

        Raises:
            TypeError, ValueError, ValueTooLarge: a bad argument.
            NotStored: nobody took it.
            PartlyStored: fewer than `acks` did; carries the receipt of those.
        """
        parts, wanted = self._active, checked_count(acks, "acks")
        lasts_s = checked_ttl(ttl_s, self._settings)
        return await parts.writer.put(checked_value(value), acks=wanted, ttl_s=lasts_s)

    async def put_many(
        self, values: Iterable[bytes], *, acks: int | None = None, ttl_s: int | None = None
    ) -> list[Receipt]:
        """Store many values; their receipts in the same order. Neighbours share walks.

        Nothing is raised for a value that nobody took, or fewer than `acks`: its receipt tells.
        """
        parts, wanted = self._active, checked_count(acks, "acks")
        lasts_s = checked_ttl(ttl_s, self._settings)
        put = partial(parts.writer.put, acks=wanted, nearby=True, ttl_s=lasts_s)
        checked = [checked_value(value) for value in checked_many(values)]
        return await write_all(
            parts.state, [(blob_key(value).digest, partial(put, value)) for value in checked]
        )

    async def forget(self, key: Key) -> bool:
        """Renew a blob no longer; whether we did. It expires unless somebody else renews it."""
        if key.kind is not Kind.BLOB:
            raise ValueError("only a blob is forgotten; what has an author is withdrawn")
        return await self._active.writer.forget(key)

    async def publications(self) -> AsyncGenerator[Published, None]:
        """Everything this node keeps alive, in order of key."""
        after, page = FIRST, self._active.state.store.publications.page
        while found := await page(after, limit=PUBLICATIONS_PER_PAGE):
            for published in found:
                if not published.record.header.is_tombstone:  # which goes once all have it
                    yield published
            after = found[-1].place

    async def set(
        self,
        name: str,
        value: bytes,
        *,
        own: bool = False,
        expect_seq: int | None = None,
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> Receipt:
        """Set a named value and keep it alive.

        Its author is this node; in a private network it is the commons, as which every member may
        write (the last one wins), unless `own`.

        Args:
            name: At most 64 bytes of UTF-8.
            value: At most 65,536 bytes.
            own: Write as this node.
            expect_seq: Only if the current version has this seq, a 64-bit number (0: there is
                none). It detects lost updates; it is no lock.
            acks: As for `put`.
            ttl_s: As for `put`.

        Raises:
            Conflict: the current version is another one.
            NotStored, PartlyStored: nobody took it, or too few did.
            TypeError, ValueError, ValueTooLarge: a bad argument.
        """
        parts, seq = self._active, checked_seq(expect_seq)
        author = parts.state.identity if own else parts.commons
        lasts_s = checked_ttl(ttl_s, self._settings)
        draft = draft_entry(author, checked_slot(name), checked_value(value), ttl_s=lasts_s)
        wanted = checked_count(acks, "acks")
        return await parts.writer.write(draft, expect_seq=seq, acks=wanted)

    async def withdraw(
        self,
        name: str | None = None,
        *,
        topic: str | None = None,
        slot: str = "",
        own: bool = False,
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> Receipt:
        """Delete a named value, or our entry under a topic, by a signed tombstone.

        With `ttl_s` the tombstone lasts for so many seconds, and at least as long as what is known
        of what it deletes; by default 13 days, longer than anything that may sleep somewhere. What
        is written there next lasts no less.

        Raises:
            NotStored, PartlyStored: nobody took the tombstone, or fewer than `acks` did.
            ValueError: neither or both of name and topic are given, a slot with a name, or `own`
                with a topic, whose entries are our own anyway.
        """
        parts, lasts_s = self._active, checked_ttl(ttl_s, self._settings)
        if (name is None) == (topic is None):
            raise ValueError("withdraw either a name or a topic entry")
        if name is not None:
            if slot:
                raise ValueError("a slot goes with a topic; a name has none")
            author = parts.state.identity if own else parts.commons
            draft = draft_entry(author, checked_slot(name), None, ttl_s=lasts_s)
        else:
            if own:
                raise ValueError("own goes with a name; our entry of a topic is always our own")
            key, author = checked_topic(topic), parts.state.identity
            draft = Draft(key, author, checked_slot(slot), None, lasts_s)
        return await parts.writer.write(draft, acks=checked_count(acks, "acks"))

    # --- Reading ----------------------------------------------------------------------------------

    @overload
    async def get(
        self,
        what: str | Key,
        *,
        author: Author | None = None,
        own: bool = False,
        reads: int | None = None,
    ) -> bytes: ...

    @overload
    async def get(
        self,
        what: str | Key,
        *,
        author: Author | None = None,
        own: bool = False,
        reads: int | None = None,
        default: T,
    ) -> bytes | T: ...

    async def get(
        self,
        what: str | Key,
        *,
        author: Author | None = None,
        own: bool = False,
        reads: int | None = None,
        default: Any = _RAISE,
    ) -> Any:
        """The value of a blob (by `Key`) or of a named entry (by name).

        Args:
            what: The key of a receipt, or a name. A text is a name even if it spells a key; for the
                blob of a printed key, pass `Key.parse(text)`.
            author: Whose name it is (32-byte public key, its text, or an invite with a key): by
                default the commons of a private network, else ourselves.
            own: Our own name, as `set` writes with `own`.
            reads: How many holders, on two paths, must agree on a named entry. By default three
                are asked to, and the latest version counts where there are fewer.
            default: Returned when nothing is found, instead of raising.

        Raises:
            NotFound: no reachable holder has it, or its author withdrew it; carries the trace.
            NotAgreed: fewer than `reads` agree; carries the record and the trace.
        """
        record, trace = await self.get_record(what, author=author, own=own, reads=reads)
        if record is not None and not record.header.is_tombstone:
            return record.value
        if default is _RAISE:
            raise NotFound(str(what), trace, withdrawn=record is not None)
        return default

    async def get_record(
        self,
        what: str | Key,
        *,
        author: Author | None = None,
        own: bool = False,
        reads: int | None = None,
    ) -> tuple[Record | None, Trace]:
        """As `get`, but the whole record (None, or a tombstone, if there is none) and the trace."""
        reader, agreeing = self._active.reader, checked_count(reads, "reads")
        if isinstance(what, Key):
            if what.kind is not Kind.BLOB:
                raise ValueError("only a blob is read by its key; give the name and its author")
            return await reader.blob(what)
        owner = self._owner(author, own=own)
        slot = checked_slot(what)
        return await reader.entry(entry_key(owner, slot), owner, slot, reads=agreeing)

    async def get_many(self, what: Iterable[str | Key]) -> dict[str | Key, bytes]:
        """The values of many blobs and names, as `get` reads them; what is not found is left out.

        Neighbours share walks.
        """
        wanted = list(dict.fromkeys(checked_many(what)))
        parts = self._active

        def job(one: str | Key) -> Job[tuple[Record | None, Trace]]:
            key = one if isinstance(one, Key) else self.key_of(one)
            return key.digest, partial(self.get_record, one)

        read = await do_all(parts.state, [job(one) for one in wanted])
        return {
            one: record.value
            for one, (record, _) in zip(wanted, read, strict=True)
            if record is not None and not record.header.is_tombstone
        }

    # --- Peers ------------------------------------------------------------------------------------

    async def ping(self, peer: Contact | Invite | str) -> float:
        """Round trip to a peer in seconds.

        Raises:
            NoAnswer: it is silent.
            ValueError: this is no address, or our own.
        """
        state = self._active.state
        contact = peer if isinstance(peer, Contact) else await self._contact_of(peer)
        if contact.public_key == self.public_key:
            raise ValueError(f"{contact.address}: that is this node")
        started = state.loop.time()
        await state.exchange.ask(contact, Ping())
        return state.loop.time() - started

    async def lookup(self, target: bytes | Key) -> tuple[list[Contact], Trace]:
        """The k nodes closest to a target, nearest first, and how they were found.

        Args:
            target: 32 bytes, such as a node ID. Or a key: then those who hold something valid under
                it show as `value` in the trace.
        """
        parts, goal = self._active, checked_target(target)
        if isinstance(goal, Key):
            walk = parts.reader.survey(goal)
        else:
            walk = Walk(parts.state, goal, FindNode(goal))
        await walk.run()
        return walk.closest(self._settings.k), walk.trace

    async def _contact_of(self, peer: Invite | str) -> Contact:
        invite = parse_invite(peer) if isinstance(peer, str) else peer
        address = (await resolve(invite.host, invite.port))[0]
        if invite.public_key is None:
            return await self._active.state.exchange.who(address)
        return Contact(invite.public_key, address)
