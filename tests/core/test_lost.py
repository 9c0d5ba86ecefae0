"""Who is kept in mind after it was lost, and in which order it is tried."""

from __future__ import annotations

from random import Random

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.lost import LostContacts

POOL = [
    Contact(Random(seed).randbytes(32), Address(f"10.0.0.{seed}", 4000)) for seed in range(1, 9)
]


def lost_of(count: int, *, capacity: int = 8) -> LostContacts:
    """The first of POOL, the first up for longest."""
    lost = LostContacts(capacity)
    for number, contact in enumerate(POOL[:count]):
        lost.on_lost(contact, up_s=1000.0 - number)
    return lost


def test_where_nobody_is_lost_nobody_is_tried() -> None:
    lost = LostContacts(8)
    assert lost.next() is None
    assert lost.take_found() == []
    lost.on_heard(POOL[0])
    lost.forget(POOL[0].id)
    assert lost.take_found() == []


def test_they_take_turns() -> None:
    lost = lost_of(3)
    assert [lost.next() for _ in range(7)] == [*POOL[:3], *POOL[:3], POOL[0]]


def test_those_known_for_longest_are_kept() -> None:
    lost = lost_of(3, capacity=3)
    lost.on_lost(POOL[7], up_s=2000.0)
    assert list(lost) == [*POOL[:2], POOL[7]]
    lost.on_lost(POOL[6], up_s=1.0)
    assert POOL[6] not in list(lost)
    assert len(lost) == 3


def test_who_is_heard_is_found_once() -> None:
    lost = lost_of(3)
    moved = Contact(POOL[1].public_key, Address("10.9.9.9", 1))
    lost.on_heard(moved)
    lost.on_heard(moved)
    assert list(lost) == [POOL[0], POOL[2]]
    assert lost.take_found() == [moved]
    assert lost.take_found() == []


def test_who_is_lost_again_is_not_found() -> None:
    lost = lost_of(1)
    lost.on_heard(POOL[0])
    lost.on_lost(POOL[0], up_s=5.0)
    assert lost.take_found() == []
    assert list(lost) == [POOL[0]]


def test_who_is_forgotten_is_neither_lost_nor_found() -> None:
    lost = lost_of(2)
    lost.on_heard(POOL[0])
    for contact in POOL[:2]:
        lost.forget(contact.id)
    assert lost.take_found() == []
    assert len(lost) == 0


def test_who_was_never_lost_can_be_found_but_not_without_bound() -> None:
    lost = LostContacts(3)
    for contact in POOL:
        lost.on_found(contact)
    assert lost.take_found() == POOL[:3]
    assert lost.take_found() == []
