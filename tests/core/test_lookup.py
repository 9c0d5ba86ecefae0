"""One lookup: whom it asks, whom it waits for, and that it ends with exactly the k closest.

`RANKED[i]` is the i-th closest to TARGET of a fixed crowd, so tests name nodes by rank.
"""

from __future__ import annotations

import gc
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import nsmallest
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.contact import Address, Contact, prefix
from kademlia_node.core.ids import distance, point
from kademlia_node.core.lookup import ADDRESSES_MAX, Lookup, Query, State
from kademlia_node.settings import CONTACTS_PER_ANSWER_MAX, ID_BITS, Settings

OWN = bytes(32)
TARGET = b"\x5a" * 32
SMALL = Settings(k=3, paths=2, parallel=1)
ONE_PATH = Settings(k=3, paths=1, parallel=2)


def public_host(number: int) -> str:
    """One host in each public /24."""
    return f"{20 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.1"


def crowd(count: int, *, seed: int) -> list[Contact]:
    rng = Random(seed)
    return [Contact(rng.randbytes(32), Address(public_host(i), 4000)) for i in range(count)]


def by_distance(contacts: Iterable[Contact], target: bytes = TARGET) -> list[Contact]:
    return sorted(contacts, key=lambda contact: distance(contact.id, target))


RANKED = by_distance(crowd(300, seed=1))


def at(contact: Contact, host: str, port: int = 4000) -> Contact:
    return Contact(contact.public_key, Address(host, port))


def never(_contact: Contact) -> bool:
    """The `is_proved` of a node that has heard from nobody yet."""
    return False


def lookup_from(
    seeds: Iterable[Contact],
    *,
    own_id: bytes = OWN,
    k: int | None = None,
    settings: Settings = SMALL,
    is_proved: Callable[[Contact], bool] = never,
    prefix_limits: bool = False,
    radius: int = 0,
    region_max: int = 0,
    second_tries: bool = True,
) -> Lookup:
    return Lookup(
        TARGET,
        seeds,
        own_id=own_id,
        settings=settings,
        is_proved=is_proved,
        prefix_limits=prefix_limits,
        k=k,
        radius=radius,
        region_max=region_max,
        second_tries=second_tries,
    )


def asked_by(lookup: Lookup) -> list[Contact]:
    return [query.contact for query in lookup.next_queries()]


def ended(lookup: Lookup) -> bool:
    """`lookup.done`, where it changes within a test: mypy takes a property for constant."""
    return lookup.done


def answer_all(lookup: Lookup, silent: Iterable[Contact] = ()) -> list[Contact]:
    """Run to the end: everyone answers with nothing, but `silent` ones fail. Who was asked."""
    everyone: list[Contact] = []
    while batch := asked_by(lookup):
        everyone += batch
        for contact in batch:
            if contact in silent:
                lookup.on_failure(contact)
            else:
                lookup.on_reply(contact, [])
    return everyone


# --- Seeds and paths ---


def test_a_lookup_without_seeds_is_done_and_empty() -> None:
    lookup = lookup_from([])
    assert lookup.next_queries() == []
    assert lookup.done
    assert lookup.closest() == []
    assert lookup.hops == 0


def test_seeds_are_dealt_to_the_paths_in_order_of_distance() -> None:
    lookup = lookup_from(reversed(RANKED[:4]))
    assert [lookup.path_of(contact) for contact in RANKED[:4]] == [0, 1, 0, 1]
    assert lookup.next_queries() == [Query(RANKED[0], 0), Query(RANKED[1], 1)]


def test_further_seeds_are_dealt_out_and_who_is_a_candidate_stays_on_its_path() -> None:
    lookup = lookup_from(RANKED[:1])
    lookup.start_from(RANKED[:4])
    assert [lookup.path_of(contact) for contact in RANKED[:4]] == [0, 0, 1, 0]
    assert lookup.hop_of(RANKED[3]) == 1


def test_no_more_are_asked_at_once_than_the_caller_wants() -> None:
    lookup = lookup_from(RANKED[:4])
    assert lookup.next_queries(at_most=1) == [Query(RANKED[0], 0)]
    assert lookup.next_queries(at_most=1) == []
    lookup.on_slow(RANKED[0])
    assert lookup.next_queries(at_most=1) == [Query(RANKED[1], 1)]
    assert lookup.next_queries() == [Query(RANKED[2], 0)]


def test_we_never_ask_ourselves() -> None:
    us = RANKED[0]
    lookup = lookup_from(RANKED[:2], own_id=us.id)
    assert asked_by(lookup) == [RANKED[1]]
    lookup.on_reply(RANKED[1], [us])
    assert lookup.done
    assert lookup.state_of(us) is None


def test_each_node_is_asked_once_however_often_it_is_named() -> None:
    lookup = lookup_from([RANKED[0], RANKED[0], RANKED[1]])
    first, second = asked_by(lookup)
    lookup.on_reply(first, [first, second, RANKED[2], RANKED[2]])
    assert asked_by(lookup) == [RANKED[2]]
    lookup.on_reply(second, [first, RANKED[2]])
    assert asked_by(lookup) == []


def test_a_node_belongs_to_the_path_that_heard_of_it_first() -> None:
    lookup = lookup_from(RANKED[4:6])
    asked_by(lookup)
    lookup.on_reply(RANKED[5], [RANKED[0]])
    lookup.on_reply(RANKED[4], [RANKED[0], RANKED[1]])
    assert lookup.path_of(RANKED[0]) == 1
    assert lookup.path_of(RANKED[1]) == 0


def test_hops_are_counted_along_the_chain_of_who_named_whom() -> None:
    lookup = lookup_from([RANKED[9]])
    asked_by(lookup)
    lookup.on_reply(RANKED[9], [RANKED[5]])
    assert lookup.hops == 1
    asked_by(lookup)
    lookup.on_reply(RANKED[5], [RANKED[0]])
    asked_by(lookup)
    lookup.on_reply(RANKED[0], [RANKED[5]])
    assert [lookup.hop_of(RANKED[i]) for i in (9, 5, 0)] == [1, 2, 3]
    assert lookup.hops == 3


def test_a_path_with_nothing_to_ask_lends_its_slots() -> None:
    lookup = lookup_from([RANKED[30]], settings=Settings(k=20, paths=4, parallel=2))
    assert len(asked_by(lookup)) == 1
    lookup.on_reply(RANKED[30], RANKED[:20])
    assert asked_by(lookup) == RANKED[:8]
    assert lookup.in_flight == 8


def test_the_path_with_the_fewest_in_flight_goes_first() -> None:
    lookup = lookup_from(RANKED[10:12])
    asked_by(lookup)
    lookup.on_reply(RANKED[10], RANKED[:3])
    assert asked_by(lookup) == RANKED[:1]
    lookup.on_slow(RANKED[0])  # path 0 is idle again, path 1 is not
    lookup.on_reply(RANKED[11], [RANKED[3]])
    assert [query.path for query in lookup.next_queries()] == [0, 1]


def test_a_path_walks_on_although_others_hold_the_k_closest() -> None:
    lookup = lookup_from([RANKED[100], RANKED[101]])
    asked_by(lookup)
    lookup.on_reply(RANKED[100], RANKED[:3])
    for _ in range(3):
        for contact in asked_by(lookup):
            lookup.on_reply(contact, [])
    lookup.on_reply(RANKED[101], [RANKED[50], RANKED[60]])
    assert not ended(lookup)
    assert asked_by(lookup) == [RANKED[50]]  # its front; RANKED[60] is not wanted by anybody
    assert not ended(lookup)
    lookup.on_reply(RANKED[50], [])
    assert asked_by(lookup) == []
    assert ended(lookup)


def test_nodes_that_name_each_other_leave_no_cycle_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        lookup = lookup_from(RANKED[:2])
        for one, other in zip(asked_by(lookup), [RANKED[1], RANKED[0]], strict=True):
            lookup.on_reply(one, [other])
        del lookup
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_only_so_many_contacts_of_one_answer_are_heard() -> None:
    lookup = lookup_from([RANKED[50]])
    asked_by(lookup)
    lookup.on_reply(RANKED[50], RANKED[: CONTACTS_PER_ANSWER_MAX + 1])
    assert lookup.state_of(RANKED[CONTACTS_PER_ANSWER_MAX - 1]) is State.HEARD
    assert lookup.state_of(RANKED[CONTACTS_PER_ANSWER_MAX]) is None


# --- The end ---


def test_done_when_the_k_closest_have_answered_and_farther_ones_were_not_asked() -> None:
    lookup = lookup_from(RANKED[:10])
    assert answer_all(lookup) == RANKED[:3]
    assert lookup.done
    assert lookup.closest() == RANKED[:3]
    assert lookup.closest(2) == RANKED[:2]


def test_k_may_be_given() -> None:
    lookup = lookup_from(RANKED[:9], k=5)
    assert answer_all(lookup) == RANKED[:5]


def test_a_query_overtaken_by_closer_nodes_is_not_waited_for() -> None:
    lookup = lookup_from([RANKED[50], RANKED[51]], settings=ONE_PATH)
    asked_by(lookup)
    lookup.on_reply(RANKED[50], RANKED[:3])
    answer_all(lookup)
    assert lookup.state_of(RANKED[51]) is State.WAITING
    assert lookup.done
    lookup.on_reply(RANKED[51], [RANKED[3]])  # and does no harm when it comes
    assert lookup.done


def test_a_slow_node_frees_its_slot_and_gives_up_its_place() -> None:
    lookup = lookup_from(RANKED[:5])
    assert asked_by(lookup) == RANKED[:2]
    lookup.on_slow(RANKED[0])
    lookup.on_slow(RANKED[1])
    assert lookup.in_flight == 0
    assert answer_all(lookup) == RANKED[2:5]
    assert not ended(lookup)  # one that is closer than the third may still answer
    lookup.on_failure(RANKED[1])
    lookup.on_reply(RANKED[0], [])
    assert ended(lookup)
    assert lookup.closest(3) == [RANKED[0], RANKED[2], RANKED[3]]


def test_a_slow_node_beyond_the_k_closest_is_not_waited_for() -> None:
    lookup = lookup_from([RANKED[40], RANKED[41]])
    asked_by(lookup)
    lookup.on_slow(RANKED[41])
    lookup.on_reply(RANKED[40], RANKED[:3])
    answer_all(lookup)
    assert lookup.state_of(RANKED[41]) is State.SLOW
    assert lookup.done


def test_a_failed_node_makes_room_for_the_next() -> None:
    lookup = lookup_from(RANKED[:5])
    assert answer_all(lookup, silent=RANKED[1:2]) == RANKED[:4]
    assert lookup.closest() == [RANKED[0], RANKED[2], RANKED[3]]
    assert lookup.done


def test_an_answer_after_the_failure_counts() -> None:
    lookup = lookup_from(RANKED[1:5])
    answer_all(lookup, silent=RANKED[1:2])
    assert ended(lookup)
    lookup.on_reply(RANKED[1], [RANKED[0]])
    assert not ended(lookup)
    assert asked_by(lookup) == [RANKED[0]]
    lookup.on_reply(RANKED[0], [])
    assert lookup.closest(3) == RANKED[:3]


def test_all_within_the_radius_are_wanted_but_no_more_than_region_max() -> None:
    radius = distance(RANKED[7].id, TARGET)
    assert answer_all(lookup_from(RANKED[:12], radius=radius, region_max=10)) == RANKED[:8]
    assert answer_all(lookup_from(RANKED[:12], radius=radius, region_max=6)) == RANKED[:6]
    assert answer_all(lookup_from(RANKED[:12], radius=radius, region_max=2)) == RANKED[:3]
    assert answer_all(lookup_from(RANKED[:12], radius=radius)) == RANKED[:3]
    assert answer_all(lookup_from(RANKED[:5], radius=radius, region_max=10)) == RANKED[:5]


# --- Wrong moves, and events that come twice ---


def test_an_outcome_of_a_query_never_sent_is_our_own_mistake() -> None:
    lookup = lookup_from(RANKED[:3])
    asked_by(lookup)
    with pytest.raises(AssertionError, match="no candidate"):
        lookup.on_reply(RANKED[9], [])
    with pytest.raises(AssertionError, match="never asked"):
        lookup.on_failure(RANKED[2])
    with pytest.raises(AssertionError, match="never asked"):
        lookup.on_slow(at(RANKED[0], "9.9.9.9"))


def test_a_second_answer_of_one_node_names_nobody() -> None:
    lookup = lookup_from(RANKED[1:2])
    asked_by(lookup)
    lookup.on_reply(RANKED[1], [])
    lookup.on_reply(RANKED[1], [RANKED[0]])
    assert lookup.state_of(RANKED[0]) is None


def test_timeouts_of_a_node_that_answered_change_nothing() -> None:
    lookup = lookup_from(RANKED[:1])
    asked_by(lookup)
    lookup.on_reply(RANKED[0], [])
    lookup.on_slow(RANKED[0])
    lookup.on_failure(RANKED[0])
    assert lookup.closest() == RANKED[:1]


# --- Addresses and second tries ---


def test_a_false_address_for_an_honest_node_costs_a_timeout_and_not_the_node() -> None:
    false = at(RANKED[0], "9.9.9.9")
    lookup = lookup_from(RANKED[8:10])
    asked_by(lookup)
    lookup.on_reply(RANKED[8], [false])
    lookup.on_reply(RANKED[9], [RANKED[0]])
    assert asked_by(lookup) == [false]
    lookup.on_slow(false)
    lookup.on_failure(false)
    assert asked_by(lookup) == [RANKED[0]]
    lookup.on_failure(false)  # said twice: the query at the other address is not touched
    lookup.on_slow(false)
    assert lookup.in_flight == 1
    lookup.on_reply(RANKED[0], [])
    assert lookup.closest(1) == [RANKED[0]]


def test_an_answer_from_the_first_address_while_the_second_is_tried_is_taken() -> None:
    other = at(RANKED[0], "9.9.9.9")
    lookup = lookup_from([RANKED[0], other])
    assert asked_by(lookup) == [RANKED[0]]
    lookup.on_failure(RANKED[0])
    assert asked_by(lookup) == [other]
    lookup.on_reply(RANKED[0], [])
    lookup.on_failure(other)
    assert lookup.closest() == [RANKED[0]]
    assert lookup.in_flight == 0
    assert lookup.done


def test_an_answer_before_the_second_address_is_tried_saves_the_try() -> None:
    lookup = lookup_from([RANKED[0], at(RANKED[0], "9.9.9.9")])
    asked_by(lookup)
    lookup.on_failure(RANKED[0])
    lookup.on_reply(RANKED[0], [])
    assert asked_by(lookup) == []
    assert lookup.done


def test_one_identity_has_a_limited_number_of_addresses() -> None:
    places = [at(RANKED[0], public_host(1000 + i)) for i in range(ADDRESSES_MAX + 2)]
    assert answer_all(lookup_from(places), silent=places) == places[:ADDRESSES_MAX]


def test_one_answer_gives_one_address_for_an_identity() -> None:
    places = [at(RANKED[0], public_host(1000 + i)) for i in range(3)]
    lookup = lookup_from(RANKED[9:10])
    asked_by(lookup)
    lookup.on_reply(RANKED[9], places)
    assert answer_all(lookup, silent=places) == places[:1]


def test_a_silent_node_named_at_a_new_address_is_asked_there() -> None:
    lookup = lookup_from([RANKED[0], RANKED[1]])
    asked_by(lookup)
    lookup.on_failure(RANKED[0])
    lookup.on_reply(RANKED[1], [at(RANKED[0], "9.9.9.9")])
    assert asked_by(lookup) == [at(RANKED[0], "9.9.9.9")]


def vouched_for(
    contact: Contact, vouchers: Sequence[Contact], is_proved: Callable[[Contact], bool] = never
) -> Lookup:
    """A lookup in which all the vouchers named the contact, and nobody is in flight."""
    lookup = lookup_from(vouchers, is_proved=is_proved)
    while batch := [c for c in asked_by(lookup) if c != contact]:
        for voucher in batch:
            lookup.on_reply(voucher, [contact])
    return lookup


def test_hearsay_that_two_vouch_for_is_asked_a_second_time_and_no_third() -> None:
    lookup = vouched_for(RANKED[0], RANKED[7:9])
    assert lookup.state_of(RANKED[0]) is State.WAITING
    lookup.on_failure(RANKED[0])
    assert asked_by(lookup) == [RANKED[0]]
    lookup.on_failure(RANKED[0])
    assert asked_by(lookup) == []
    assert lookup.state_of(RANKED[0]) is State.SILENT
    assert lookup.done


def test_where_nothing_is_lost_nobody_is_asked_a_second_time() -> None:
    lookup = lookup_from(RANKED[7:9], second_tries=False)
    while batch := [contact for contact in asked_by(lookup) if contact != RANKED[0]]:
        for voucher in batch:
            lookup.on_reply(voucher, [RANKED[0]])
    lookup.on_failure(RANKED[0])
    assert asked_by(lookup) == []
    assert lookup.done


def test_the_second_try_goes_to_every_address() -> None:
    other = at(RANKED[0], "9.9.9.9")
    lookup = lookup_from([RANKED[7], RANKED[8]])
    asked_by(lookup)
    lookup.on_reply(RANKED[7], [RANKED[0]])
    lookup.on_reply(RANKED[8], [other])
    tries = answer_all(lookup, silent=[RANKED[0], other])
    assert tries == [RANKED[0], other, RANKED[0], other]


def test_hearsay_of_one_voucher_is_asked_once_until_another_names_it() -> None:
    lookup = lookup_from([RANKED[7], RANKED[8]])
    asked_by(lookup)
    lookup.on_reply(RANKED[7], [RANKED[0]])
    asked_by(lookup)
    lookup.on_failure(RANKED[0])
    assert asked_by(lookup) == []
    lookup.on_reply(RANKED[8], [RANKED[0]])
    assert asked_by(lookup) == [RANKED[0]]


def test_a_proved_contact_gets_no_second_try() -> None:
    lookup = vouched_for(RANKED[0], RANKED[7:9], is_proved=lambda _: True)
    lookup.on_failure(RANKED[0])
    assert asked_by(lookup) == []


def test_hearsay_overtaken_by_closer_nodes_gets_no_second_try() -> None:
    settings = Settings(k=1, paths=1, parallel=2)
    lookup = lookup_from(RANKED[20:22], settings=settings)
    asked_by(lookup)
    lookup.on_reply(RANKED[20], [RANKED[10]])
    lookup.on_reply(RANKED[21], [RANKED[10], RANKED[0]])
    assert set(asked_by(lookup)) == {RANKED[0], RANKED[10]}
    lookup.on_failure(RANKED[10])
    assert lookup.state_of(RANKED[10]) is State.SILENT


# --- Limits on what strangers make us ask ---


def test_hearsay_at_one_ip_is_tried_once_even_if_silent() -> None:
    same_ip = [at(contact, "9.9.9.9", 4000 + i) for i, contact in enumerate(RANKED[:4])]
    lookup = lookup_from([*same_ip, *RANKED[4:9]], prefix_limits=True)
    assert by_distance(answer_all(lookup, silent=same_ip)) == [same_ip[0], *RANKED[4:7]]
    assert lookup.done
    assert lookup.closest() == RANKED[4:7]


def test_hearsay_in_one_prefix_is_tried_a_few_times() -> None:
    neighbours = [at(contact, f"9.9.9.{i + 1}") for i, contact in enumerate(RANKED[:5])]
    lookup = lookup_from([*neighbours, *RANKED[5:9]], prefix_limits=True)
    assert answer_all(lookup) == [*neighbours[: SMALL.unproved_per_prefix], RANKED[5]]
    assert lookup.done


def test_the_limits_leave_out_the_local_the_proved_and_private_networks() -> None:
    local = [at(contact, "127.0.0.1", 4000 + i) for i, contact in enumerate(RANKED[:3])]
    assert answer_all(lookup_from(local, prefix_limits=True)) == local
    crowded = [at(contact, "9.9.9.9", 4000 + i) for i, contact in enumerate(RANKED[:3])]
    assert answer_all(lookup_from(crowded, prefix_limits=False)) == crowded
    proved = lookup_from(crowded, prefix_limits=True, is_proved=lambda _: True)
    assert answer_all(proved) == crowded


def test_those_we_may_not_ask_leave_the_k_closest_to_others_on_any_path() -> None:
    same_ip = [at(contact, "9.9.9.9", 4000 + i) for i, contact in enumerate(RANKED[:2])]
    lookup = lookup_from([RANKED[50], RANKED[51], RANKED[52]], prefix_limits=True)
    assert asked_by(lookup) == RANKED[50:52]
    lookup.on_reply(RANKED[50], [RANKED[2], RANKED[20], RANKED[21]])
    lookup.on_reply(RANKED[51], same_ip)
    assert answer_all(lookup) == [same_ip[0], RANKED[2], RANKED[20]]
    assert lookup.done


def test_an_address_we_may_not_ask_gives_way_to_another() -> None:
    crowded = at(RANKED[1], "9.9.9.9", 5000)
    lookup = lookup_from([at(RANKED[0], "9.9.9.9"), crowded, RANKED[1]], prefix_limits=True)
    assert answer_all(lookup) == [at(RANKED[0], "9.9.9.9"), RANKED[1]]
    assert lookup.done


def test_a_node_left_out_is_asked_when_it_is_heard_of_elsewhere() -> None:
    seeds = [at(RANKED[0], "9.9.9.9"), at(RANKED[1], "9.9.9.9", 5000)]
    lookup = lookup_from(seeds, prefix_limits=True)
    assert asked_by(lookup) == seeds[:1]
    assert lookup.state_of(RANKED[1]) is None
    lookup.on_reply(seeds[0], [RANKED[1]])
    assert asked_by(lookup) == [RANKED[1]]


def test_a_node_asked_in_vain_is_not_asked_where_we_may_not() -> None:
    crowded = at(RANKED[1], "9.9.9.9", 5000)
    lookup = lookup_from([at(RANKED[0], "9.9.9.9"), RANKED[1]], prefix_limits=True)
    first, second = asked_by(lookup)
    lookup.on_reply(first, [crowded])
    lookup.on_failure(second)
    assert asked_by(lookup) == []
    assert lookup.state_of(RANKED[1]) is State.SILENT
    assert lookup.done


def test_the_second_try_of_hearsay_is_not_counted_against_the_limits() -> None:
    lookup = lookup_from([at(RANKED[7], "8.8.8.8"), at(RANKED[8], "8.8.4.4")], prefix_limits=True)
    first, neighbour = at(RANKED[0], "9.9.9.1"), at(RANKED[1], "9.9.9.2")
    for voucher in asked_by(lookup):
        lookup.on_reply(voucher, [first])
    asked_by(lookup)
    lookup.on_failure(first)
    assert asked_by(lookup) == [first]
    lookup.on_reply(first, [neighbour])
    assert asked_by(lookup) == [neighbour]


def test_a_full_path_forgets_its_farthest_for_a_nearer_one() -> None:
    settings = Settings(k=3, paths=2, parallel=1, candidates_max=6)
    lookup = lookup_from(RANKED[10:16], settings=settings)
    asked_by(lookup)
    lookup.on_reply(RANKED[10], [RANKED[0], RANKED[20]])
    assert lookup.state_of(RANKED[0]) is State.HEARD
    assert lookup.state_of(RANKED[14]) is None  # the farthest of path 0
    assert lookup.state_of(RANKED[20]) is None
    assert lookup.state_of(RANKED[15]) is State.HEARD  # a neighbour's share is not touched


def test_a_node_left_out_makes_room_in_its_path() -> None:
    settings = Settings(k=3, paths=1, parallel=2, candidates_max=2)
    same_ip = [at(contact, "9.9.9.9", 4000 + i) for i, contact in enumerate(RANKED[:2])]
    lookup = lookup_from(same_ip, settings=settings, prefix_limits=True)
    assert asked_by(lookup) == same_ip[:1]
    lookup.on_reply(same_ip[0], [RANKED[5]])
    assert asked_by(lookup) == [RANKED[5]]


def test_a_path_that_asked_its_whole_share_hears_of_nobody_else() -> None:
    settings = Settings(k=3, paths=1, parallel=2, candidates_max=2)
    lookup = lookup_from(RANKED[10:12], settings=settings)
    for contact in asked_by(lookup):
        lookup.on_reply(contact, RANKED[:2])
    assert asked_by(lookup) == []
    assert lookup.closest() == RANKED[10:12]


def test_a_full_path_keeps_whom_it_is_about_to_ask_again() -> None:
    settings = Settings(k=3, paths=1, parallel=2, candidates_max=2)
    lookup = lookup_from([RANKED[5], RANKED[9], at(RANKED[9], "9.9.9.9")], settings=settings)
    asked_by(lookup)
    lookup.on_failure(RANKED[9])
    lookup.on_reply(RANKED[5], [RANKED[0]])
    assert asked_by(lookup) == [at(RANKED[9], "9.9.9.9")]
    lookup.on_reply(RANKED[9], [])
    assert lookup.closest() == [RANKED[5], RANKED[9]]


# --- Whatever happens, in any order ---


@dataclass
class Walk:
    """A lookup among nodes with arbitrary views, whose queries end in an arbitrary order."""

    lookup: Lookup
    views: dict[bytes, list[Contact]]
    rng: Random
    slots: int
    dead: frozenset[bytes]

    def run(self) -> list[Contact]:
        """All queries sent, in order; checks at each step what must always hold."""
        sent: list[Contact] = []
        open_queries: list[Contact] = []
        while True:
            new = asked_by(self.lookup)
            sent += new
            open_queries += new
            assert self.lookup.in_flight <= min(self.slots, len(open_queries))
            if self.lookup.done:
                return sent
            contact = open_queries[self.rng.randrange(len(open_queries))]
            self.finish(contact, open_queries)

    def finish(self, contact: Contact, open_queries: list[Contact]) -> None:
        chance = self.rng.random()
        if chance < 0.3:
            self.lookup.on_slow(contact)
            return
        open_queries.remove(contact)
        if contact.id in self.dead:
            self.lookup.on_failure(contact)
            return
        if chance < 0.4:
            self.lookup.on_failure(contact)  # and then it answers after all
        self.lookup.on_reply(contact, self.views[contact.id])


@given(
    st.integers(0, 2**32).map(Random),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 12),
    st.booleans(),
)
def test_it_ends_with_the_k_closest_of_all_it_could_reach(
    rng: Random, paths: int, parallel: int, k: int, some_dead: bool
) -> None:
    nodes = rng.sample(RANKED, 60)
    dead = frozenset(node.id for node in rng.sample(nodes, 20 if some_dead else 0))
    views = {node.id: rng.sample(nodes, rng.randrange(10)) for node in nodes}
    settings = Settings(k=k, paths=paths, parallel=parallel)
    lookup = lookup_from(rng.sample(nodes, 5), settings=settings)
    sent = Walk(lookup, views, rng, paths * parallel, dead).run()

    answered = lookup.closest()
    assert answered == by_distance(answered)
    heard = {node for node in nodes if lookup.state_of(node) is not None}
    assert heard >= {named for node in answered for named in views[node.id]}
    assert answered[:k] == by_distance(node for node in heard if node.id not in dead)[:k]
    assert max(Counter(sent).values()) <= 2


@given(st.integers(0, 2**32).map(Random), st.integers(1, 4))
def test_the_limits_hold_and_never_block_the_end(rng: Random, paths: int) -> None:
    hosts = [f"9.9.{i % 4}.{i}" for i in range(1, 13)]
    nodes = [at(node, rng.choice(hosts), 4000 + i) for i, node in enumerate(RANKED[:50])]
    moved = [at(node, rng.choice(hosts), 5000 + i) for i, node in enumerate(nodes)]
    proved = frozenset(node for node in nodes if rng.random() < 0.2)
    dead = frozenset(node.id for node in rng.sample(nodes, 15))
    views = {node.id: rng.sample(nodes + moved, 10) for node in nodes}
    settings = Settings(k=8, paths=paths, parallel=2)
    lookup = lookup_from(
        nodes[:6], settings=settings, is_proved=proved.__contains__, prefix_limits=True
    )
    sent = Walk(lookup, views, rng, paths * 2, dead).run()

    strangers = set(sent) - proved
    assert max(Counter(c.address.host for c in strangers).values(), default=0) <= 1
    assert max(Counter(prefix(c.address.host) for c in strangers).values(), default=0) <= 2


# --- A thousand nodes ---

N = 1000
WIDE = Settings().far_buckets


class Network:
    """Nodes with full tables: `k` random members of every bucket, more of the `far` ones.

    The colluders are alive and answer only with the colluders closest to the target, the worst
    that nodes with random IDs can do together (S/Kademlia, section 5).
    """

    def __init__(
        self, *, seed: int, k: int = 20, far: tuple[int, ...] = (), colluders: int = 0
    ) -> None:
        self.k = k
        self.far = far
        self.rng = Random(seed)
        self.nodes = sorted(crowd(N, seed=seed), key=lambda node: node.point)
        self.points = [node.point for node in self.nodes]
        self.colluders = self.rng.sample(self.nodes, colluders)
        self.bad = frozenset(node.id for node in self.colluders)
        self.tables: dict[bytes, list[Contact]] = {}

    def subtree(self, path: int, bits: int) -> list[Contact]:
        """All nodes whose ID starts with these bits."""
        low, high = path << ID_BITS - bits, path + 1 << ID_BITS - bits
        return self.nodes[bisect_left(self.points, low) : bisect_left(self.points, high)]

    def table(self, node: Contact) -> list[Contact]:
        if node.id not in self.tables:
            table: list[Contact] = []
            bits = 0
            while len(self.subtree(node.point >> ID_BITS - bits, bits)) > 1:
                room = self.far[bits] if bits < len(self.far) else self.k
                bits += 1
                bucket = self.subtree(node.point >> ID_BITS - bits ^ 1, bits)
                table += self.rng.sample(bucket, min(room, len(bucket)))
            self.tables[node.id] = table
        return self.tables[node.id]

    def closest(self, known: Iterable[Contact], target: bytes) -> list[Contact]:
        spot = point(target)
        return nsmallest(self.k, known, key=lambda node: node.point ^ spot)

    def look(self, settings: Settings, *, seed: int) -> tuple[Lookup, list[Contact], int]:
        """A lookup, the honest ones of the truly closest, and how many queries it took.

        The seed alone decides who asks for what, so that settings can be compared.
        """
        rng = Random(seed)
        asker, target = rng.choice(self.nodes), rng.randbytes(32)
        lookup = Lookup(
            target,
            self.closest(self.table(asker), target),
            own_id=asker.id,
            settings=settings,
            is_proved=never,
            prefix_limits=True,
        )
        in_flight: list[Contact] = []
        queries = 0
        while True:
            new = asked_by(lookup)
            queries += len(new)
            in_flight += new
            if lookup.done:
                break
            node = in_flight.pop(rng.randrange(len(in_flight)))
            known = self.colluders if node.id in self.bad else self.table(node)
            lookup.on_reply(node, self.closest(known, target))
        truth = self.closest((node for node in self.nodes if node != asker), target)
        return lookup, [node for node in truth if node.id not in self.bad], queries

    def lost(self, settings: Settings, *, lookups: int) -> int:
        """How many of so many lookups missed an honest node among the truly closest."""
        runs = (self.look(settings, seed=seed) for seed in range(lookups))
        return sum(not set(truth) <= set(lookup.closest()) for lookup, truth, _ in runs)


@cache
def honest_network() -> Network:
    return Network(seed=2, far=WIDE)


SHAPES = [(1, 8), (4, 2), (8, 1)]


@pytest.mark.parametrize(("paths", "parallel"), SHAPES)
def test_a_thousand_nodes_give_exactly_the_20_closest_for_26_queries(
    paths: int, parallel: int
) -> None:
    settings = Settings(paths=paths, parallel=parallel)
    runs = [honest_network().look(settings, seed=seed) for seed in range(40)]
    assert all(lookup.closest(20) == truth for lookup, truth, _ in runs)
    assert median(queries for _, _, queries in runs) <= 26
    hops = sum(lookup.hops for lookup, _, _ in runs) / len(runs)
    assert hops <= math.log2(N) / (1.33 + math.log2(20)) + 0.5  # Stutzbach and Rejaie 2006


@pytest.mark.parametrize(("paths", "parallel"), SHAPES)
def test_a_fifth_of_colluders_hides_no_honest_node(paths: int, parallel: int) -> None:
    network = Network(seed=3, colluders=N // 5)
    assert network.lost(Settings(paths=paths, parallel=parallel), lookups=25) == 0


def test_disjoint_paths_find_what_one_path_loses_to_colluders() -> None:
    """Half the network colludes, and k is so small that one shortlist is soon full of them.

    k is not below the 8 slots: then every shape starts from as many seeds as it has slots.
    """
    network = Network(seed=4, k=8, colluders=N // 2)
    lost = {
        paths: network.lost(Settings(k=8, paths=paths, parallel=parallel), lookups=100)
        for paths, parallel in SHAPES
    }
    assert lost[4] <= lost[1] // 2, lost
    assert lost[8] <= lost[1] // 2, lost
