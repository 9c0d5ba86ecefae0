"""Topics, to which many authors add: the verbs of a node that announce there, and that find.

Not known here: how an entry is written (`write`), nor how a topic is read (`topic`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from functools import partial

from kademlia_node.node.arguments import (
    checked_count,
    checked_many,
    checked_slot,
    checked_topic,
    checked_ttl,
    checked_value,
)
from kademlia_node.node.draft import Draft
from kademlia_node.node.many import write_all
from kademlia_node.node.receipt import Receipt, TopicEntry
from kademlia_node.node.sharing import Sharing
from kademlia_node.node.topic import TopicReading


@dataclass(frozen=True, slots=True)
class Announcement:
    """An entry of ours under a topic, as `announce` takes it."""

    topic: str
    value: bytes
    slot: str = ""


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

    async def announce_many(
        self,
        announcements: Iterable[Announcement],
        *,
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> list[Receipt]:
        """Add many entries, perhaps to many topics; their receipts in order. They share walks.

        `acks` and `ttl_s` are those of `put`. Nothing is raised for an entry that nobody took, or
        fewer than `acks`: its receipt tells.

        Raises:
            TypeError, ValueError, ValueTooLarge: a bad argument; nothing was sent.
        """
        author, lasts_s = self._active.state.identity, checked_ttl(ttl_s, self._settings)
        drafts = [
            Draft(
                checked_topic(one.topic),
                author,
                checked_slot(one.slot),
                checked_value(one.value),
                lasts_s,
            )
            for one in checked_many(announcements)
        ]
        return await self._write_many(drafts, acks=checked_count(acks, "acks"))

    async def withdraw_many(
        self, entries: Iterable[tuple[str, str]], *, ttl_s: int | None = None
    ) -> list[Receipt]:
        """Delete many of our entries, each named by topic and slot; see `announce_many`.

        `ttl_s` is that of `withdraw`.
        """
        author, lasts_s = self._active.state.identity, checked_ttl(ttl_s, self._settings)
        drafts = [
            Draft(checked_topic(topic), author, checked_slot(slot), None, lasts_s)
            for topic, slot in checked_many(entries)
        ]
        return await self._write_many(drafts, acks=None)

    async def _write_many(self, drafts: list[Draft], *, acks: int | None) -> list[Receipt]:
        parts = self._active
        write = partial(parts.writer.write, acks=acks, nearby=True)
        return await write_all(
            parts.state, [(draft.key.digest, partial(write, draft)) for draft in drafts]
        )

    def find(self, topic: str) -> AsyncGenerator[TopicEntry, None]:
        """Entries under a topic as they are learnt; a newer version of one comes again.

        A reading may end before all is read that holders have named, if there is too much of it or
        if it comes too slowly: the counters `topics_cut_short` and `topics_stalled` tell.
        """
        return TopicReading(self._active.state, checked_topic(topic)).entries()
