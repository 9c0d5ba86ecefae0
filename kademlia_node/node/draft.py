"""A draft: what an author wants to write where, until it has a seq, an expiry and a signature.

Records are signed here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Key, Kind, entry_key
from kademlia_node.core.record import Record, make_entry, make_tombstone, make_topic_entry
from kademlia_node.store.base import Place


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry, a topic entry or, without a value, the deletion of one."""

    key: Key
    author: Identity
    slot: bytes
    value: bytes | None  # None deletes
    ttl_s: int | None = None  # for how long it is to be there; None: as long as usual

    @property
    def place(self) -> Place:
        """Where it will be."""
        return self.key.digest, self.author.public_key, self.slot

    def sign(self, *, seq: int, expires: int, tag: bytes) -> Record:
        """The record."""
        signing = self.author.signing
        if self.value is None:
            return make_tombstone(
                signing,
                self.key.digest,
                kind=self.key.kind,
                slot=self.slot,
                seq=seq,
                expires=expires,
                network_tag=tag,
            )
        if self.key.kind is Kind.TOPIC:
            return make_topic_entry(
                signing,
                self.key.digest,
                slot=self.slot,
                value=self.value,
                seq=seq,
                expires=expires,
                network_tag=tag,
            )
        return make_entry(
            signing, self.slot, value=self.value, seq=seq, expires=expires, network_tag=tag
        )


def draft_entry(
    author: Identity, slot: bytes, value: bytes | None, *, ttl_s: int | None = None
) -> Draft:
    """A named entry of an author, or its deletion."""
    return Draft(entry_key(author.public_key, slot), author, slot, value, ttl_s)


def renewed(record: Record, author: Identity | None, *, expires: int, tag: bytes) -> Record:
    """The same version with a later expiry; a blob has no author. A withdrawal stays as it is."""
    header = record.header
    if header.is_tombstone:
        return record
    later = max(expires, header.expires)
    if author is None:
        return replace(record, header=replace(header, expires=later))
    draft = Draft(Key(header.kind, record.key), author, header.slot, record.value)
    return draft.sign(seq=header.seq, expires=later, tag=tag)
