"""The verb that goes on: what is under a key, and what becomes of it.

Not known here: the other verbs, which `node` and `sharing` add, and how changes are heard of
(`subscription`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from kademlia_node.core.feed import Change
from kademlia_node.core.key import Key, entry_key
from kademlia_node.node.arguments import Author, checked_author, checked_slot, checked_topic
from kademlia_node.node.life import Life
from kademlia_node.node.subscription import Subscription
from kademlia_node.node.topic import TopicReading


class Watching(Life):
    """The watching verb of a node, and whose names are meant. The arguments are those of `Node`."""

    def watch(
        self,
        topic: str | None = None,
        *,
        name: str | None = None,
        author: Author | None = None,
        own: bool = False,
    ) -> AsyncGenerator[Change, None]:
        """What is under a topic, or a name, and then every change of it as it happens.

        Each change is told at least once, and those of one author in the order in which they were
        written, as long as none is later than others by more than `watch_settle_s`. Of versions
        that follow each other quickly, or while we are not connected, earlier ones may be left out.
        An entry that is not renewed is told as expired some seconds after it has. Of a topic with
        more than `watch_entries_max` entries so many are told of (of one author three quarters of
        so many), and no others until one of these has expired.

        Args:
            topic: All entries of it are watched.
            name: In place of a topic: this name, of the author that `get` would read.
            author: As in `get`, with a name.
            own: As in `get`, with a name.

        Raises:
            NotRunning: the node has stopped.
            ValueError: neither or both of topic and name are given, or author or own with a topic.
        """
        parts = self._active
        if (topic is None) == (name is None):
            raise ValueError("watch either a topic or a name")
        if topic is not None:
            if own or author is not None:
                raise ValueError("author and own go with a name; a topic is everybody's")
            key = checked_topic(topic)
            return Subscription(
                parts.state,
                parts.subscriptions,
                key,
                read=lambda: TopicReading(parts.state, key).items(),
            ).changes()
        assert name is not None
        owner, slot = self._owner(author, own=own), checked_slot(name)
        entry = entry_key(owner, slot)
        return Subscription(
            parts.state,
            parts.subscriptions,
            entry,
            read=lambda: parts.reader.items(entry, owner, slot),
            spot=(owner, slot),
        ).changes()

    def key_of(self, name: str, *, author: Author | None = None, own: bool = False) -> Key:
        """The key of a named entry; `author` and `own` are those of `get`."""
        return entry_key(self._owner(author, own=own), checked_slot(name))

    def _owner(self, author: Author | None, *, own: bool) -> bytes:
        if author is None:
            return self.public_key if own else self._parts.commons.public_key
        if own:
            raise ValueError("give either an author or own")
        return checked_author(author)
