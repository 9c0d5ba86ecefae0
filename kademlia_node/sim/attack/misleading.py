"""Attackers that lead lookups and readers astray: colluders, false addresses, false records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import distance
from kademlia_node.core.message import (
    Chunk,
    Chunked,
    FindNode,
    FindValue,
    Item,
    Nodes,
    Request,
    Response,
    Store,
    Stored,
    Values,
)
from kademlia_node.core.record import TOMBSTONE, Record, make_entry
from kademlia_node.settings import CONTACTS_PER_ANSWER_MAX, CONTACTS_WITH_VALUE_MIN
from kademlia_node.sim.attack.attacker import Attacker


class Colluder(Attacker):
    """Names nobody but colluders, and says that nothing is held.

    Where the gang has a target, only when it is asked about that. It takes what it is told to
    store, like everybody: it just never shows it.
    """

    def instead(self, request: Request) -> Response | None:
        """Only colluders, nearest first."""
        match request:
            case FindNode(target) if self.gang.concerns(target):
                return Nodes(self.named(target, CONTACTS_PER_ANSWER_MAX))
            case FindValue(key) if self.gang.concerns(key):
                return Values(self.named(key, CONTACTS_PER_ANSWER_MAX), 0, None, ())
        return None

    def altered(self, request: Request, honest: Response) -> Response:
        """A storer names closer peers, too."""
        match request, honest:
            case Store(key), Stored() if self.gang.concerns(key):
                return replace(honest, contacts=self.named(key, CONTACTS_WITH_VALUE_MIN))
        return honest

    def named(self, goal: bytes, count: int) -> tuple[Contact, ...]:
        """Whom it names when it is asked about these 32 bytes."""
        return self.gang.nearest(goal, count)


class Misdirector(Colluder):
    """A colluder that also names the honest nodes it knows, each at a false address."""

    def named(self, goal: bytes, count: int) -> tuple[Contact, ...]:
        """Half of them honest keys, as far as it knows so many, sorted in among the colluders."""
        honest = [contact for contact in self.contacts() if contact not in self.gang]
        honest.sort(key=lambda contact: distance(contact.id, goal))
        false = [self.gang.misplaced(contact) for contact in honest[: count // 2]]
        named = [*false, *self.gang.nearest(goal, count - len(false))]
        return tuple(sorted(named, key=lambda contact: distance(contact.id, goal)))


class Falsifier(Colluder):
    """Shows something else in place of the records under the target, and names only colluders.

    Each time one of: an older true version, the true header with another value, a true entry of
    another author, a tombstone that nobody signed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._falsified: set[bytes] = set()  # hashes of long values that it shows garbled
        self._lies: tuple[Callable[[bytes, Item], Item], ...] = (
            self._older,
            self._garbled,
            self._of_another,
            self._withdrawn,
        )

    def instead(self, request: Request) -> Response | None:
        """About values nothing yet: it has to know the truth in order to alter it."""
        if isinstance(request, Store) and request.value is not None:
            self.gang.remember(Record(request.key, request.header, request.value))
        return None if isinstance(request, FindValue) else super().instead(request)

    def altered(self, request: Request, honest: Response) -> Response:
        """A lie where it would have shown a record."""
        match request, honest:
            case FindValue(key), Values(items=(item, *_)) if self.gang.concerns(key):
                lie = self.gang.rng.choice(self._lies)(key, item)
                return Values(self.named(key, CONTACTS_WITH_VALUE_MIN), 1, None, (lie,))
            case Chunk(content), Chunked(data=bytes(data)) if content in self._falsified:
                return Chunked(_inverted(data))
        return super().altered(request, honest)

    def _older(self, key: bytes, item: Item) -> Item:
        first = self.gang.first_version(key, item.header)
        return item if first is None else Item(first.header, first.value)

    def _garbled(self, _key: bytes, item: Item) -> Item:
        """An inline value at once, a longer one when its chunks are fetched."""
        if item.value is None:
            self._falsified.add(item.header.value_hash)
            return item
        return Item(item.header, _inverted(item.value) or b"\0")

    def _of_another(self, _key: bytes, item: Item) -> Item:
        value = b"what the reader did not ask for"
        other = make_entry(
            self._active.state.identity.signing,
            item.header.slot,
            value=value,
            seq=item.header.seq + 1,
            expires=item.header.expires,
            network_tag=self.network.tag,
        )
        return Item(other.header, value)

    def _withdrawn(self, _key: bytes, item: Item) -> Item:
        gone = replace(
            item.header,
            flags=TOMBSTONE,
            seq=item.header.seq + 1,
            length=0,
            value_hash=hashlib.sha256(b"").digest(),
        )
        return Item(gone, b"")


def _inverted(value: bytes) -> bytes:
    """Another value of the same length, unless that is 0."""
    return bytes(byte ^ 0xFF for byte in value)
