"""Records to put into stores, and what tests of stores do with them all the time."""

from __future__ import annotations

from dataclasses import replace

from kademlia_node.core.ids import distance
from kademlia_node.core.key import Kind, topic_key
from kademlia_node.core.record import (
    Record,
    make_blob,
    make_entry,
    make_tombstone,
    make_topic_entry,
)
from kademlia_node.core.suite import SigningKey
from kademlia_node.settings import Settings
from kademlia_node.sim import NullSuite
from kademlia_node.store.base import Outcome, Store

OWN_ID = bytes(32)
WALL = 1_700_000_000
NETWORK = b"n" * 32
TOPIC = topic_key(b"papers").digest
OVERHEAD = Settings().record_overhead_bytes
ROOMY = replace(Settings(), expired_grace_s=0.0)  # what has expired is forgotten at once
PREFIX, OTHER_PREFIX = b"\x01\x02\x03", b"\x04\x05\x06"


def signing_key(number: int) -> SigningKey:
    key = NullSuite().signing_key(number.to_bytes(32, "big"))
    assert key is not None
    return key


ALICE, BOB = signing_key(1), signing_key(2)


def blob(value: bytes, *, ttl: int = 3600) -> Record:
    return make_blob(value, expires=WALL + ttl)


def entry(
    value: bytes = b"blue",
    *,
    author: SigningKey = ALICE,
    slot: bytes = b"",
    seq: int = 1,
    ttl: int = 3600,
) -> Record:
    return make_entry(author, slot, value=value, seq=seq, expires=WALL + ttl, network_tag=NETWORK)


def tombstone(*, author: SigningKey = ALICE, seq: int = 2, ttl: int = 3600) -> Record:
    return make_tombstone(
        author,
        entry(author=author).key,
        kind=Kind.ENTRY,
        slot=b"",
        seq=seq,
        expires=WALL + ttl,
        network_tag=NETWORK,
    )


def topic_entry(
    author: SigningKey,
    slot: bytes = b"",
    *,
    key: bytes = TOPIC,
    value: bytes = b"here",
    ttl: int = 3600,
) -> Record:
    return make_topic_entry(
        author, key, slot=slot, value=value, seq=1, expires=WALL + ttl, network_tag=NETWORK
    )


def by_distance(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: distance(record.key, OWN_ID))


UNSHARED = 1000  # times the store: never reached


def room_for(
    records: int, *, share_per_author: float = UNSHARED, share_per_prefix: float = UNSHARED
) -> Settings:
    """Room for so many records of 100 bytes."""
    return replace(
        ROOMY,
        store_bytes_max=records * (100 + OVERHEAD),
        store_share_per_author=share_per_author,
        store_share_per_prefix=share_per_prefix,
    )


async def put(
    store: Store,
    record: Record,
    *,
    charged_to: bytes = PREFIX,
    wall: float = WALL,
    expect_seq: int | None = None,
) -> Outcome:
    answer = await store.put(record, charged_to=charged_to, wall=wall, expect_seq=expect_seq)
    return answer.outcome


async def held(store: Store, *, wall: float = WALL) -> list[Record]:
    return [
        record for key in await store.keys(wall=wall) for record in await store.get(key, wall=wall)
    ]
