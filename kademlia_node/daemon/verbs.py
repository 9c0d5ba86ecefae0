"""What one can ask of a node: the same whether a daemon or a short-lived node does it.

`Verbs` is what the command line and programs speak to. `node_verbs` does it with a node of this
process; `client` has a daemon do it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Protocol

from kademlia_node.daemon.views import Json, OnView
from kademlia_node.node.announcing import Announcement


class Verbs(Protocol):
    """What one can ask of a node. Errors as those of `Node`; the views are those of `views`."""

    async def identity(self) -> Json:
        """Who the node is: `id`, `public_key` and `invite`."""
        ...

    async def status(self) -> Json:
        """What the node is doing."""
        ...

    async def peers(self) -> list[Json]:
        """Everyone in the routing table, nearest first."""
        ...

    async def put(self, value: bytes, *, acks: int | None = None, ttl_s: int | None = None) -> Json:
        """Store a blob; a receipt. `acks` and `ttl_s`, here and below, are those of `Node`."""
        ...

    async def get_blob(self, key: str) -> Json:
        """The record of a blob."""
        ...

    async def forget(self, key: str) -> Json:
        """Renew a blob no longer: `key`, and whether we did (`forgotten`)."""
        ...

    def published(self) -> AsyncGenerator[Json, None]:
        """Everything the node keeps alive, in order of key."""
        ...

    async def set(
        self,
        name: str,
        value: bytes,
        *,
        own: bool = False,
        expect_seq: int | None = None,
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> Json:
        """Set a named value; a receipt. `ttl_s` as for `Node.put`, here and elsewhere."""
        ...

    async def get_name(
        self, name: str, *, author: str | None = None, own: bool = False, reads: int | None = None
    ) -> Json:
        """The record of a named value; `author` is the text of a public key, or an invite."""
        ...

    async def announce(
        self,
        topic: str,
        value: bytes,
        *,
        slot: str = "",
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> Json:
        """Add our entry to a topic; a receipt."""
        ...

    async def announce_many(
        self, announcements: Iterable[Announcement], *, ttl_s: int | None = None
    ) -> list[Json]:
        """Add many entries, which share walks; receipts without traces, in order."""
        ...

    async def withdraw_many(
        self, entries: Iterable[tuple[str, str]], *, ttl_s: int | None = None
    ) -> list[Json]:
        """Delete many of our entries, each named by topic and slot; as `announce_many`."""
        ...

    def find(self, topic: str) -> AsyncGenerator[Json, None]:
        """The entries of a topic, as they come."""
        ...

    async def provide(
        self,
        path: str,
        *,
        key: str | None = None,
        ttl_s: int | None = None,
        on_progress: OnView | None = None,
    ) -> Json:
        """Serve a file at an absolute path from now on, and announce it.

        The answer is the receipt of its manifest, whose `key` names the content, with the `path`
        that is served and its `size`. `ttl_s` is that of `Node.provide`. SetupError: of the file,
        it has not the content `key` that was expected, or this node is no daemon's.
        """
        ...

    async def unprovide(self, key: str, *, ttl_s: int | None = None) -> Json:
        """Serve a content no longer: `key`, and whether we did (`unprovided`).

        `ttl_s` is that of `Node.unprovide`; by default the one with which it is provided.
        """
        ...

    async def provided(self) -> list[Json]:
        """What is provided, in order of key: `key`, `path`, `size` and `state`.

        The state is `announced`; `waiting` to be; or `changed` or `gone`, which is not served.
        """
        ...

    async def fetch(
        self,
        key: str,
        path: str,
        *,
        length_max: int | None = None,
        on_progress: OnView | None = None,
    ) -> Json:
        """Fetch a content into a file at an absolute path; `key`, `path` and `size`.

        Progress tells of the `holders`, too. SetupError: the file cannot be written.
        """
        ...

    def watch_topic(self, topic: str) -> AsyncGenerator[Json, None]:
        """The entries of a topic and their changes, until the node stops."""
        ...

    def watch_name(
        self, name: str, *, author: str | None = None, own: bool = False
    ) -> AsyncGenerator[Json, None]:
        """A named value and its changes, until the node stops; `author` as for `get_name`."""
        ...

    async def withdraw_name(
        self, name: str, *, own: bool = False, ttl_s: int | None = None
    ) -> Json:
        """Delete a named value; a receipt."""
        ...

    async def withdraw_entry(self, topic: str, *, slot: str = "", ttl_s: int | None = None) -> Json:
        """Delete our entry of a topic; a receipt."""
        ...

    async def ping(self, peer: str) -> Json:
        """`peer`, and `rtt_ms`."""
        ...

    async def backup(self, path: str) -> Json:
        """Back up the daemon's store to a new file at an absolute path; what is in it."""
        ...

    async def restore(self, path: str) -> Json:
        """Put a backup at an absolute path into the daemon's store; what became of it."""
        ...

    async def leave(self, within_s: float | None = None) -> Json:
        """Leave the network for good; `handed_over`, `left_behind` and `told` as in `Departure`."""
        ...

    async def trace(self, target: str, *, own: bool = False) -> Json:
        """Look up a key, a name, a node ID (64 hexadecimal digits) or the node of an invite.

        The answer is a trace, and `closest`; who holds something under the key or name, shows as
        `value` there. `own`: a name as this node writes it with `own`.
        """
        ...
