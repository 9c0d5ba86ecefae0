"""Who is told of changes: leases that end, room for all, and nobody who does not hear."""

from __future__ import annotations

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.watchers import SILENCES_MAX, Watchers
from kademlia_node.settings import Settings

KEY, OTHER = b"k" * 32, b"o" * 32


def watcher(number: int, host: str = "10.0.0.1") -> Contact:
    return Contact(number.to_bytes(31) + b"\0", Address(host, 4000 + number % 1000))


def test_a_watcher_is_told_until_its_lease_ends() -> None:
    watchers = Watchers(Settings(watch_lease_s=300.0))
    assert watchers.add(KEY, watcher(1), now=0.0) == 300.0
    assert watchers.of(KEY, now=299.0) == [watcher(1)]
    assert watchers.of(OTHER, now=299.0) == []
    assert watchers.of(KEY, now=300.0) == []


def test_a_lease_is_renewed_by_asking_again_even_from_another_address() -> None:
    watchers = Watchers(Settings(watch_lease_s=300.0))
    watchers.add(KEY, watcher(1), now=0.0)
    moved = watcher(1, "10.0.0.2")
    watchers.add(KEY, moved, now=200.0)
    assert watchers.of(KEY, now=400.0) == [moved]
    assert watchers.count(now=400.0) == 1


def test_leases_that_have_ended_are_forgotten_and_make_room() -> None:
    watchers = Watchers(Settings(watchers_max=2))
    for number in (1, 2):
        watchers.add(KEY, watcher(number), now=0.0)
    assert watchers.add(OTHER, watcher(3), now=10.0) == 0.0
    assert watchers.add(OTHER, watcher(3), now=1e4) > 0
    assert watchers.count(now=1e4) == 1


def test_one_key_has_so_many_watchers_and_one_subnet_a_quarter_of_them() -> None:
    watchers = Watchers(Settings(watchers_per_key_max=8))
    near = [watcher(number, f"9.8.7.{number}") for number in range(1, 4)]
    assert [watchers.add(KEY, one, now=0.0) > 0 for one in near] == [True, True, False]
    far = [watcher(number, f"9.9.{number}.1") for number in range(10, 17)]
    assert [watchers.add(KEY, one, now=0.0) > 0 for one in far] == [True] * 6 + [False]
    assert watchers.add(OTHER, near[2], now=0.0) > 0


def test_one_subnet_has_so_many_leases_in_all_and_the_local_one_any_number() -> None:
    watchers = Watchers(Settings(watchers_per_prefix_max=4))
    keys = [bytes([number]) * 32 for number in range(6)]
    taken = [watchers.add(key, watcher(1, "9.9.9.9"), now=0.0) > 0 for key in keys]
    assert taken == [True] * 4 + [False] * 2
    assert all(watchers.add(key, watcher(2, "127.0.0.1"), now=0.0) for key in keys)
    watchers.drop(keys[0], watcher(1).id)
    assert watchers.add(keys[5], watcher(3, "9.9.9.8"), now=0.0) > 0


def test_who_is_silent_again_and_again_is_told_no_more() -> None:
    watchers = Watchers(Settings())
    watchers.add(KEY, watcher(1), now=0.0)
    for _ in range(SILENCES_MAX - 1):
        watchers.on_silence(KEY, watcher(1).id)
    watchers.on_answer(KEY, watcher(1).id)
    for _ in range(SILENCES_MAX - 1):
        watchers.on_silence(KEY, watcher(1).id)
    assert watchers.of(KEY, now=1.0) == [watcher(1)]
    watchers.on_silence(KEY, watcher(1).id)
    assert watchers.of(KEY, now=1.0) == []
    for late in (watchers.on_silence, watchers.on_answer, watchers.drop):
        late(KEY, watcher(1).id)
