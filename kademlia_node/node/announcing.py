"""Topics, to which many authors add: the verbs of a node that announce there, and that find.

Not known here: how an entry is written (`write`), nor how a topic is read (`topic`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from kademlia_node.node.arguments import (
    checked_count,
    checked_slot,
    checked_topic,
    checked_ttl,
    checked_value,
)
from kademlia_node.node.draft import Draft
from kademlia_node.node.receipt import Receipt, TopicEntry
from kademlia_node.node.sharing import Sharing
from kademlia_node.node.topic import TopicReading


class Announcing(Sharing):
    """The verbs of a node for topics; `withdraw`, which is for names as well, is in `Node`."""

    async def announce(
        self,
        topic: str,
        value: bytes,
        *,
        slot: str = "",
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> Receipt:
        """Add our entry to a topic, beside those of others, and keep it alive.

        Args:
            topic: Any text.
            value: At most 65,536 bytes.
            slot: Tells several entries of one author apart; at most 64 bytes of UTF-8.
            acks: As for `put`.
            ttl_s: As for `put`.

        Raises:
            NotStored, PartlyStored: nobody took it, or too few did.
            TypeError, ValueError, ValueTooLarge: a bad argument.
        """
        key, author = checked_topic(topic), self._active.state.identity
        lasts_s = checked_ttl(ttl_s, self._settings)
        draft = Draft(key, author, checked_slot(slot), checked_value(value), lasts_s)
        return await self._active.writer.write(draft, acks=checked_count(acks, "acks"))

    def find(self, topic: str) -> AsyncGenerator[TopicEntry, None]:
        """Entries under a topic as they are learnt; a newer version of one comes again.

        A reading may end before all is read that holders have named, if there is too much of it or
        if it comes too slowly: the counters `topics_cut_short` and `topics_stalled` tell.
        """
        return TopicReading(self._active.state, checked_topic(topic)).entries()
