"""Which instances live, and which is asked next: told by changes, with no network."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.service_discovery.directory import (
    INSTANCES_MAX,
    INSTANCES_PER_AUTHOR_MAX,
    Candidate,
    Directory,
)
from examples.service_discovery.instance import VALUE_BYTES_MAX, Instance
from kademlia_node import Change, ChangeKind

NOW = 1_000_000.0
FAR = NOW + 100


def change(
    author: int, value: bytes | None, *, kind: ChangeKind = ChangeKind.SET, slot: bytes = b""
) -> Change:
    return Change(kind, author.to_bytes(32, "big"), slot, value, 1, int(FAR))


def instance(author: int, *, until: float = FAR, port: int = 0) -> Change:
    return change(author, Instance(f"http://127.0.0.1:{port or author}", until).pack())


def directory_of(*changes: Change) -> Directory:
    directory = Directory()
    for one in changes:
        directory.on_change(one)
    return directory


def urls(directory: Directory, wall: float = NOW) -> list[str]:
    return [one.instance.url for one in directory.live(wall=wall)]


def choose(directory: Directory, rng: Random, tried: list[Candidate] | None = None) -> Candidate:
    chosen = directory.choose(wall=NOW, rng=rng, tried=tried or [])
    assert chosen is not None
    return chosen


# --- Who lives ------------------------------------------------------------------------------------


def test_an_instance_lives_until_its_lease_ends() -> None:
    directory = directory_of(instance(1, until=NOW + 5))
    assert urls(directory) == ["http://127.0.0.1:1"]
    assert urls(directory, NOW + 4.9) == ["http://127.0.0.1:1"]
    assert urls(directory, NOW + 5) == []
    assert directory.choose(wall=NOW + 5, rng=Random(1)) is None
    directory.on_change(instance(1, until=NOW + 10))
    assert urls(directory, NOW + 5) == ["http://127.0.0.1:1"]


@pytest.mark.parametrize("kind", [ChangeKind.WITHDRAWN, ChangeKind.EXPIRED])
def test_who_is_withdrawn_or_expires_lives_no_longer(kind: ChangeKind) -> None:
    directory = directory_of(instance(1), instance(2), change(1, None, kind=kind))
    assert urls(directory) == ["http://127.0.0.1:2"]
    directory.on_change(change(3, None, kind=kind))  # of whom nothing was known


def test_instances_of_one_node_are_told_apart_by_their_slots() -> None:
    value = Instance("http://127.0.0.1:1", FAR).pack()
    directory = directory_of(change(1, value, slot=b"a"), change(1, value, slot=b"b"))
    assert len(urls(directory)) == 2


def test_what_is_no_instance_replaces_the_one_before_it() -> None:
    assert urls(directory_of(instance(1), change(1, b"no instance"))) == []


def test_only_so_many_instances_are_remembered() -> None:
    directory = directory_of(*map(instance, range(1, INSTANCES_MAX + 10)))
    assert len(urls(directory)) == INSTANCES_MAX
    directory.on_change(instance(1, port=9))
    assert "http://127.0.0.1:9" in urls(directory)


def test_whatever_one_member_announces_the_others_find_room() -> None:
    value = Instance("http://127.0.0.1:1", FAR).pack()
    slots = [number.to_bytes(2, "big") for number in range(INSTANCES_MAX)]
    directory = directory_of(*(change(1, value, slot=slot) for slot in slots), instance(2))
    assert len(urls(directory)) == INSTANCES_PER_AUTHOR_MAX + 1
    assert "http://127.0.0.1:2" in urls(directory)
    directory.on_change(change(1, None, kind=ChangeKind.WITHDRAWN, slot=slots[0]))
    directory.on_change(change(1, value, slot=slots[-1]))
    assert len(urls(directory)) == INSTANCES_PER_AUTHOR_MAX + 1


# --- Who is asked ---------------------------------------------------------------------------------


def test_of_two_the_one_with_fewer_requests_in_flight_is_asked() -> None:
    directory, rng = directory_of(instance(1), instance(2)), Random(1)
    busy = choose(directory, rng)
    busy.in_flight = 1
    assert all(choose(directory, rng) is not busy for _ in range(20))


def test_load_that_never_ends_is_spread_almost_evenly_without_looking_at_all() -> None:
    directory, rng = directory_of(*map(instance, range(1, 11))), Random(1)
    for _ in range(1000):
        choose(directory, rng).in_flight += 1
    loads = [one.in_flight for one in directory.live(wall=NOW)]
    assert max(loads) - min(loads) <= 8  # by chance alone it would be some forty


def test_the_idle_are_all_asked_sooner_or_later() -> None:
    directory, rng = directory_of(*map(instance, range(1, 6))), Random(1)
    asked = Counter(choose(directory, rng).instance.url for _ in range(200))
    assert len(asked) == 5


def test_who_did_not_answer_is_asked_again_only_once_it_is_heard_of() -> None:
    directory, rng = directory_of(instance(1), instance(2)), Random(1)
    dead = choose(directory, rng)
    dead.is_aside = True
    assert all(choose(directory, rng) is not dead for _ in range(20))
    author = int(dead.instance.url.rpartition(":")[2])
    directory.on_change(instance(author))
    assert any(choose(directory, rng) is dead for _ in range(20))


def test_who_did_not_answer_is_better_than_nobody() -> None:
    directory, rng = directory_of(instance(1)), Random(1)
    only = choose(directory, rng)
    only.is_aside = True
    assert choose(directory, rng) is only
    assert directory.choose(wall=NOW, rng=rng, tried=[only]) is None


# --- What is announced ----------------------------------------------------------------------------


def test_what_is_packed_is_read_again() -> None:
    here = Instance("https://[::1]:8000/a", 12.5)
    assert Instance.unpack(here.pack()) == here
    assert Instance.unpack(Instance("http://h:1/", 1.0).pack()).url == "http://h:1"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"url": "http://h:1"}',
        b'{"url": "http://h:1", "until": null}',
        b'{"url": "http://h:1", "until": NaN}',
        b'{"url": "http://h:1", "until": Infinity}',
        b'{"url": "http://h:1", "until": 1' + b"0" * 400 + b"}",
        b'{"url": "file:///etc/passwd", "until": 1}',
        b'{"url": "http://", "until": 1}',
        b'{"url": "http://h:1/\\n", "until": 1}',
        b'{"url": "http://[h", "until": 1}',
        b'{"url": 5, "until": 1}',
        b"[" * VALUE_BYTES_MAX,
        json.dumps({"url": "http://h/" + "x" * VALUE_BYTES_MAX, "until": 1}).encode(),
    ],
)
def test_what_is_no_instance_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"an instance is|no URL|a lease ends"):
        Instance.unpack(value)
    assert urls(directory_of(change(1, value))) == []


@given(st.binary(max_size=600))
def test_whatever_is_announced_nobody_is_harmed(value: bytes) -> None:
    assert directory_of(change(1, value)).live(wall=NOW) == []


def test_what_nobody_would_take_is_not_announced() -> None:
    with pytest.raises(ValueError, match="URL"):
        Instance("ftp://h", 1.0).pack()
