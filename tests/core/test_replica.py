from __future__ import annotations

import hashlib
import random
import statistics
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.ids import point
from kademlia_node.core.replica import (
    ESTIMATES_MAX,
    ESTIMATES_MIN,
    SPACE,
    NetworkSize,
    accepts,
    choose_replicas,
    looks_whole,
    radius,
    responsible,
    size_if_crowded,
)

KEY = hashlib.sha256(b"a key").digest()


def contacts(count: int, *, seed: int = 0) -> list[Contact]:
    rng = random.Random(seed)
    return [Contact(rng.randbytes(32), Address("127.0.0.1", 4000)) for _ in range(count)]


def nearest(known: list[Contact], target: bytes) -> list[Contact]:
    return sorted(known, key=lambda contact: contact.point ^ point(target))


def distances(known: list[Contact]) -> list[int]:
    return [contact.point ^ point(KEY) for contact in known]


def learn(size: NetworkSize, nodes: list[Contact], *, lookups: int, k: int = 20) -> None:
    rng = random.Random(1)
    for _ in range(lookups):
        target = rng.randbytes(32)
        size.on_lookup(target, nearest(nodes, target)[:k])


# --- How many nodes there are ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [25, 300, 2000])
def test_the_median_of_many_lookups_comes_near_the_number_of_nodes(count: int) -> None:
    size = NetworkSize()
    learn(size, contacts(count), lookups=ESTIMATES_MAX)
    assert size.estimate == pytest.approx(count, rel=0.15)


def test_lookups_that_find_the_whole_small_network_count_it() -> None:
    size = NetworkSize()
    learn(size, contacts(7), lookups=ESTIMATES_MAX)
    assert size.estimate == pytest.approx(7, rel=0.15)


def test_single_estimates_are_unbiased() -> None:
    nodes, rng, estimates = contacts(200), random.Random(2), []
    for _ in range(300):
        size, target = NetworkSize(), rng.randbytes(32)
        for _ in range(ESTIMATES_MIN):
            size.on_lookup(target, nearest(nodes, target)[:20])
        estimates.append(size.estimate or 0.0)
    assert statistics.mean(estimates) == pytest.approx(200, rel=0.05)


def test_the_distance_of_the_farthest_of_the_closest_makes_an_estimate() -> None:
    for count in (2, 3, 20):
        size, found = NetworkSize(), nearest(contacts(count), KEY)
        for _ in range(ESTIMATES_MIN):
            size.on_lookup(KEY, found)
        assert size.estimate == (count - 1) * SPACE / distances(found)[-1]


def test_nothing_is_claimed_before_five_lookups() -> None:
    size, nodes = NetworkSize(), contacts(30)
    learn(size, nodes, lookups=ESTIMATES_MIN - 1)
    assert size.estimate is None
    learn(size, nodes, lookups=1)
    assert size.estimate is not None


def test_a_lookup_that_found_one_node_or_none_tells_nothing() -> None:
    size = NetworkSize()
    for found in (contacts(0), contacts(1)):
        for _ in range(ESTIMATES_MIN):
            size.on_lookup(KEY, found)
    assert size.estimate is None


def test_old_estimates_are_forgotten() -> None:
    size = NetworkSize()
    learn(size, contacts(1000), lookups=ESTIMATES_MAX)
    learn(size, contacts(100), lookups=ESTIMATES_MAX)
    assert size.estimate == pytest.approx(100, rel=0.15)


def test_a_few_crowded_targets_do_not_move_the_estimate_far() -> None:
    size, nodes = NetworkSize(), contacts(500)
    learn(size, nodes, lookups=ESTIMATES_MAX - 5)
    crowd = nearest(contacts(50_000, seed=3), KEY)[:20]
    for _ in range(5):
        size.on_lookup(KEY, crowd)
    assert size.estimate == pytest.approx(500, rel=0.3)


# --- Who is responsible ---------------------------------------------------------------------------


def test_the_radius_reaches_the_copies_th_closest() -> None:
    assert radius([1, 2, 30, 40], copies=3, network_size=None) == 30


def test_a_crowd_nearest_to_a_key_is_seen_by_those_behind_it() -> None:
    honest, crowd = nearest(contacts(100), KEY)[:14], nearest(contacts(50_000, seed=3), KEY)[:6]
    assert size_if_crowded(KEY, honest, copies=5) is None
    size = size_if_crowded(KEY, crowd + honest, copies=5)
    assert size is not None
    assert 70 < size < 210
    within = responsible(KEY, crowd + honest, copies=5, network_size=size)
    assert 1 <= len(set(within) & set(honest)) <= 6
    assert responsible(KEY, crowd + honest, copies=5, network_size=None) == crowd[:5]
    assert size_if_crowded(KEY, crowd[:5], copies=5) is None


def test_the_radius_is_no_smaller_than_an_average_neighbourhood() -> None:
    assert radius([1, 2, 3], copies=3, network_size=96.0) == SPACE // 32
    assert radius([1, 2, SPACE // 2], copies=3, network_size=96.0) == SPACE // 2


@pytest.mark.parametrize(
    ("closest", "network_size"), [([], None), ([5, 6], None), ([5, 6], 1e6), ([5, 6, 7], 0.5)]
)
def test_where_fewer_than_copies_are_known_everybody_is_responsible(
    closest: list[int], network_size: float | None
) -> None:
    assert radius(closest, copies=3, network_size=network_size) == SPACE - 1


def test_the_responsible_are_those_within_the_radius() -> None:
    known = nearest(contacts(100), KEY)
    assert responsible(KEY, known, copies=5, network_size=None) == known[:5]
    wider = responsible(KEY, known, copies=5, network_size=25.0)
    assert wider == [contact for contact in known if contact.point ^ point(KEY) <= SPACE // 5]
    assert len(wider) > 5


def test_sybils_nearest_to_a_key_do_not_shut_honest_nodes_out() -> None:
    honest = nearest(contacts(200), KEY)
    sybils = nearest(contacts(20_000, seed=9), KEY)[:20]
    region = responsible(KEY, nearest(honest + sybils, KEY), copies=20, network_size=200.0)
    assert set(sybils) < set(region)
    assert len(set(region) & set(honest)) >= 10


# --- Whom to put to -------------------------------------------------------------------------------


def choose(found: list[Contact], *, network_size: float | None, seed: int = 0) -> list[Contact]:
    return choose_replicas(
        KEY, found, copies=5, network_size=network_size, factor=3, rng=random.Random(seed)
    )


def test_an_honest_region_is_chosen_whole() -> None:
    found = nearest(contacts(100), KEY)
    assert choose(found, network_size=100.0) == responsible(
        KEY, found, copies=5, network_size=100.0
    )


@given(st.integers(0, 60), st.none() | st.floats(1, 1e4), st.integers(0, 3))
def test_the_chosen_are_the_nearest_and_at_most_three_times_as_many(
    count: int, network_size: float | None, seed: int
) -> None:
    found = nearest(contacts(count), KEY)
    region = responsible(KEY, found, copies=5, network_size=network_size)
    chosen = choose(found, network_size=network_size, seed=seed)
    assert chosen[:5] == region[:5]
    assert len(chosen) == min(len(region), 15)
    assert set(chosen) <= set(region)
    assert distances(chosen) == sorted(set(distances(chosen)))


def test_a_crowded_region_is_drawn_from_anew_each_time() -> None:
    found = nearest(contacts(100), KEY)
    draws = [choose(found, network_size=5.0, seed=seed) for seed in range(100)]
    assert {len(chosen) for chosen in draws} == {15}
    assert {contact.id for chosen in draws for contact in islice(chosen, 5, None)} == {
        contact.id for contact in found[5:]
    }


# --- What to accept -------------------------------------------------------------------------------


def test_a_node_accepts_within_so_many_radii() -> None:
    known = nearest(contacts(100), KEY)
    reach = known[4].point ^ point(KEY)

    def at(away: int, *, factor: int) -> bool:
        own_id = (point(KEY) ^ away).to_bytes(32, "big")
        return accepts(KEY, own_id, known=known, copies=5, network_size=None, factor=factor)

    assert at(reach, factor=1)
    assert not at(reach + 1, factor=1)
    assert at(3 * reach, factor=3)
    assert not at(3 * reach + 1, factor=3)


def test_a_node_that_knows_nobody_accepts_everything() -> None:
    farthest = (point(KEY) ^ (SPACE - 1)).to_bytes(32, "big")
    assert accepts(KEY, farthest, known=[], copies=5, network_size=None, factor=1)


def test_whoever_is_chosen_by_one_view_accepts_by_its_own() -> None:
    nodes = nearest(contacts(150), KEY)
    for own in choose(nodes, network_size=150.0):
        others = [contact for contact in nodes if contact != own][:20]
        assert accepts(KEY, own.id, known=others, copies=5, network_size=None, factor=3)


# --- Whether we know them all without looking -----------------------------------------------------


@pytest.mark.parametrize("copies", [5, 20])
def test_all_nodes_look_whole_a_third_of_them_seldom_does_and_nor_does_a_crowd(copies: int) -> None:
    rng, nodes = random.Random(3), contacts(400)
    crowd = [Contact(b"\1" * 32, Address("127.0.0.1", port)) for port in range(1, 5)]
    keys = [rng.randbytes(32) for _ in range(200)]

    def whole(known: list[Contact]) -> float:
        looks = [
            looks_whole(key, nearest(known, key), copies=copies, network_size=400) for key in keys
        ]
        return statistics.mean(looks)

    assert whole(nodes) > 0.7
    assert whole(nodes[::3]) < 0.2
    assert whole(nodes + contacts(1200, seed=4)) < 0.1
    assert not looks_whole(KEY, nearest(nodes, KEY), copies=copies, network_size=None)
    assert not looks_whole(KEY, crowd[: copies - 1], copies=copies, network_size=4)
