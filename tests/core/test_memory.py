"""What a node keeps for its next start, and what it makes of it then."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Final

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.ids import point
from kademlia_node.core.memory import KnownPeer, Memory, memorize, recall
from kademlia_node.core.replica import NetworkSize
from kademlia_node.core.routing import RoutingTable
from kademlia_node.settings import Settings

OWN: Final = bytes(32)
WALL: Final = 1_800_000_000.0
SETTINGS: Final = Settings(k=4, near_bucket=64)
POOL: Final = [
    Contact(Random(seed).randbytes(32), Address(f"10.0.0.{seed}", 4000)) for seed in range(1, 30)
]
KEY: Final = "a" * 52


def an_empty_table() -> RoutingTable:
    return RoutingTable(OWN, settings=SETTINGS, prefix_limits=False)


def recalled(
    memory: Memory, *, size: NetworkSize | None = None, now: float = 1000.0, wall: float = WALL
) -> RoutingTable:
    table = an_empty_table()
    recall(
        memory,
        table,
        size or NetworkSize(),
        own_id=OWN,
        settings=SETTINGS,
        rng=Random(1),
        now=now,
        wall=wall,
    )
    return table


def memory_of(*heard_before_s: float) -> Memory:
    """The first of POOL, each up for an hour until it was last heard so long ago."""
    return Memory(
        tuple(
            KnownPeer(contact, since=WALL - 3600 - ago, heard=WALL - ago)
            for contact, ago in zip(POOL, heard_before_s, strict=False)
        )
    )


def test_a_table_comes_back_as_it_was() -> None:
    table = an_empty_table()
    for number, contact in enumerate(POOL[:20]):
        table.add(contact, now=100.0 + number)
        table.add(contact, now=200.0 + number)
    memory = memorize(table, NetworkSize(), now=300.0, wall=WALL)
    assert memory.peers[0].heard - memory.peers[0].since == 100.0
    back = recalled(memory, now=7.0)
    assert set(back) == set(table)
    again = memorize(back, NetworkSize(), now=7.0, wall=WALL)
    assert {peer.contact: peer for peer in again.peers} == {
        peer.contact: peer for peer in memory.peers
    }


def test_the_size_of_the_network_stands_until_there_are_new_estimates() -> None:
    size = NetworkSize()
    memory = replace(memory_of(*[1.0] * 29), network_size=27.0)
    recalled(memory, size=size)
    assert size.estimate == 27.0
    assert memorize(an_empty_table(), size, now=0.0, wall=WALL).network_size == 27.0
    for _ in range(4):
        size.on_lookup(OWN, sorted(POOL, key=lambda contact: contact.point))
    assert size.estimate == 27.0
    size.on_lookup(OWN, sorted(POOL, key=lambda contact: contact.point))
    assert size.estimate != 27.0


@pytest.mark.parametrize("size", [2.0, 500_000.0])
def test_a_size_that_the_neighbourhood_belies_is_not_restored(size: float) -> None:
    restored = NetworkSize()
    recalled(replace(memory_of(*[1.0] * 29), network_size=size), size=restored)
    assert restored.estimate is None


def test_who_is_not_recalled_is_lost() -> None:
    table = recalled(memory_of(5.0, 5.0, 5.0, 5.0, 9000.0))
    assert list(table.lost) == [POOL[4]]
    assert KnownPeer(POOL[4]) in memorize(table, NetworkSize(), now=0.0, wall=WALL).peers
    assert list(recalled(memory_of(5.0, 5.0)).lost) == POOL[:2]


def test_nobody_is_checked_later_than_a_table_would() -> None:
    table = recalled(memory_of(*[5.0] * 10, 3590.0))
    assert POOL[10] in table.due_checks(1000.0 + 10.0, 99)


def test_a_peer_that_was_silent_in_the_end_is_only_a_hint() -> None:
    table = an_empty_table()
    for contact in POOL[:12]:
        table.add(contact, now=1.0)
    table.strike(POOL[3].id, now=2.0)
    memory = memorize(table, NetworkSize(), now=2.0, wall=WALL)
    assert KnownPeer(POOL[3]) in memory.peers
    assert set(recalled(memory)) == set(table) - {POOL[3]}


@pytest.mark.parametrize("ago_s", [3601.0, -1.0, WALL, float("nan")])
def test_what_was_heard_long_ago_or_in_the_future_is_no_news(ago_s: float) -> None:
    assert set(recalled(memory_of(*[5.0] * 10, ago_s))) == set(POOL[:10])


def test_fewer_than_k_make_no_table() -> None:
    assert len(recalled(memory_of(5.0, 5.0, 5.0, 9000.0))) == 0
    assert len(recalled(memory_of(5.0, 5.0, 5.0, 5.0))) == 4


def test_all_are_checked_one_after_another_the_nearest_first() -> None:
    table = recalled(memory_of(*[5.0] * 24))
    nearest = sorted(POOL[:24], key=lambda contact: contact.point ^ point(OWN))[: SETTINGS.k]
    assert len(table.due_checks(1000.0, 99)) == 0
    soon = table.due_checks(1000.0 + SETTINGS.recall_near_s, 99)
    assert set(nearest) <= set(soon)
    assert len(soon) < 12
    assert len(table.due_checks(1000.0 + SETTINGS.recall_far_s / 2, 99)) < 24
    assert set(table.due_checks(1000.0 + SETTINGS.recall_far_s, 99)) == set(POOL[:24])


def test_buckets_are_not_all_stale_at_once() -> None:
    table = recalled(memory_of(*[5.0] * 24))
    assert table.stale_buckets(1000.0) == []
    stale = [len(table.stale_buckets(1000.0 + later)) for later in (1200.0, 2400.0, 3600.0)]
    assert stale[0] < stale[1] < stale[2]


def test_who_has_been_heard_already_stays_as_it_is() -> None:
    table = an_empty_table()
    table.add(POOL[0], now=50.0)
    table.restore(POOL[0], since=1.0, heard=2.0, check_at=60.0)
    assert list(table.live()) == [(POOL[0], 50.0, 50.0)]


def test_memory_is_a_text_and_back() -> None:
    v6 = Contact(POOL[0].public_key, Address("2001:db8::1", 4000))
    memory = Memory((KnownPeer(POOL[1], since=5.0, heard=7.0), KnownPeer(v6)), 1034.5)
    assert Memory.from_json(memory.to_json()) == memory
    assert Memory.from_json(Memory().to_json()) == Memory()


@pytest.mark.parametrize(
    "peer",
    [
        1,
        {"invite": f"kad://{KEY}@10.0.0.7:4000", "since": 1},
        {"invite": f"kad://{KEY}@10.0.0.7:4000", "since": 1, "heard": "1"},
        {"invite": f"kad://{KEY}@10.0.0.7:4000", "since": 1, "heard": 10**400},
        {"invite": f"kad://{KEY}@10.0.0.7:4000", "since": -1, "heard": 1},
        {"invite": f"kad://{KEY}@example.net:4000", "since": 1, "heard": 1},
        {"invite": "kad://abc@10.0.0.7:4000", "since": 1, "heard": 1},
        {"invite": "10.0.0.7:4000", "since": 1, "heard": 1},
    ],
)
def test_a_broken_peer_breaks_the_memory(peer: object) -> None:
    text = json.dumps({"network_size": None, "peers": [peer]})
    with pytest.raises(ValueError, match=r"peer|HOST|host|key|address"):
        Memory.from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"network_size": null, "peers": 1}',
        '{"network_size": 1e-300, "peers": []}',
        '{"network_size": 1e300, "peers": []}',
        '{"network_size": Infinity, "peers": []}',
        '{"network_size": NaN, "peers": []}',
        '{"network_size": "7", "peers": []}',
    ],
)
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"memory|Expecting"):
        Memory.from_json(text)
