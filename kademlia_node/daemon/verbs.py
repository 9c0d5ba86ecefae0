"""The verbs, from text to plain values: the same whether a daemon or a short-lived node does them.

`Verbs` is what the command line speaks to; `NodeVerbs` does it with a node of this process, and
serves the control API; its client is the other implementation (`cli.client`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Protocol

from kademlia_node.core.ids import node_id, point
from kademlia_node.core.invite import SCHEME, key_text
from kademlia_node.core.key import Key
from kademlia_node.daemon.views import (
    Json,
    contact_view,
    entry_view,
    receipt_view,
    record_view,
    status_view,
    trace_view,
)
from kademlia_node.errors import NotFound
from kademlia_node.node.arguments import checked_author
from kademlia_node.node.node import Node


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

    async def put(self, value: bytes) -> Json:
        """Store a blob; a receipt."""
        ...

    async def get_blob(self, key: str) -> Json:
        """The record of a blob."""
        ...

    async def set(self, name: str, value: bytes, *, own: bool, expect_seq: int | None) -> Json:
        """Set a named value; a receipt."""
        ...

    async def get_name(self, name: str, *, author: str | None, own: bool) -> Json:
        """The record of a named value; `author` is the text of a public key, or an invite."""
        ...

    async def announce(self, topic: str, value: bytes, *, slot: str) -> Json:
        """Add our entry to a topic; a receipt."""
        ...

    def find(self, topic: str) -> AsyncIterator[Json]:
        """The entries of a topic, as they come."""
        ...

    async def withdraw_name(self, name: str, *, own: bool) -> Json:
        """Delete a named value; a receipt."""
        ...

    async def withdraw_entry(self, topic: str, *, slot: str) -> Json:
        """Delete our entry of a topic; a receipt."""
        ...

    async def ping(self, peer: str) -> Json:
        """`peer`, and `rtt_ms`."""
        ...

    async def trace(self, target: str, *, own: bool) -> Json:
        """Look up a key, a name, a node ID (64 hexadecimal digits) or the node of an invite.

        The answer is a trace, and `closest`; who holds something under the key or name, shows as
        `value` there. `own`: a name as this node writes it with `own`.
        """
        ...


class NodeVerbs:
    """See `Verbs`; done by a node that has been started."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def identity(self) -> Json:
        """See `Verbs`."""
        return {
            "id": self._node.id.hex(),
            "public_key": key_text(self._node.public_key),
            "invite": str(self._node.invite),
        }

    async def status(self) -> Json:
        """See `Verbs`."""
        return status_view(await self._node.status())

    async def peers(self) -> list[Json]:
        """See `Verbs`."""
        own = point(self._node.id)
        nearest_first = sorted(self._node.contacts(), key=lambda contact: contact.point ^ own)
        return [contact_view(contact) for contact in nearest_first]

    async def put(self, value: bytes) -> Json:
        """See `Verbs`."""
        return receipt_view(await self._node.put(value))

    async def get_blob(self, key: str) -> Json:
        """See `Verbs`."""
        return await self._read(Key.parse(key))

    async def set(self, name: str, value: bytes, *, own: bool, expect_seq: int | None) -> Json:
        """See `Verbs`."""
        return receipt_view(await self._node.set(name, value, own=own, expect_seq=expect_seq))

    async def get_name(self, name: str, *, author: str | None, own: bool) -> Json:
        """See `Verbs`."""
        return await self._read(name, author=author, own=own)

    async def announce(self, topic: str, value: bytes, *, slot: str) -> Json:
        """See `Verbs`."""
        return receipt_view(await self._node.announce(topic, value, slot=slot))

    async def find(self, topic: str) -> AsyncIterator[Json]:
        """See `Verbs`."""
        async for entry in self._node.find(topic):
            yield entry_view(entry)

    async def withdraw_name(self, name: str, *, own: bool) -> Json:
        """See `Verbs`."""
        return receipt_view(await self._node.withdraw(name, own=own))

    async def withdraw_entry(self, topic: str, *, slot: str) -> Json:
        """See `Verbs`."""
        return receipt_view(await self._node.withdraw(topic=topic, slot=slot))

    async def ping(self, peer: str) -> Json:
        """See `Verbs`."""
        rtt_s = await self._node.ping(peer)
        return {"peer": peer, "rtt_ms": round(rtt_s * 1000, 3)}

    async def trace(self, target: str, *, own: bool) -> Json:
        """See `Verbs`."""
        closest, trace = await self._node.lookup(self._goal_of(target, own=own))
        return trace_view(trace) | {"closest": [contact_view(contact) for contact in closest]}

    async def _read(self, what: str | Key, *, author: str | None = None, own: bool = False) -> Json:
        record, trace = await self._node.get_record(what, author=author, own=own)
        if record is None or record.header.is_tombstone:
            raise NotFound(str(what), trace, withdrawn=record is not None)
        return record_view(record)

    def _goal_of(self, target: str, *, own: bool) -> bytes | Key:
        if is_name(target):
            return self._node.key_of(target, own=own)
        if own:
            raise ValueError(f"own goes with a name, and {target!r} is none")
        if target.startswith(SCHEME):
            return node_id(checked_author(target))
        return parse_if_key(target) or bytes.fromhex(target)


def is_name(target: str) -> bool:
    """Whether the target of a trace is a name: no invite, no key and no node ID.

    Raises:
        ValueError: it looks like a key and is none.
    """
    is_node = target.startswith(SCHEME) or re.fullmatch("[0-9a-f]{64}", target)
    return not is_node and parse_if_key(target) is None


def parse_if_key(text: str) -> Key | None:
    """The key that a text spells, or None: then it is a name.

    Raises:
        ValueError: it looks like a key and is none. Nobody wants a name like that.
    """
    looks_like_a_key = re.fullmatch("(blob|entry|topic)-[a-zA-Z2-7]{56}", text)
    return Key.parse(text) if looks_like_a_key else None
