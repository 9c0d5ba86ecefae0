"""The routing table: who stays, who goes, who is nearest, and what chores are due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.contact import Address, Contact, prefix, subnet
from kademlia_node.core.ids import distance, random_id_sharing, shared_bits
from kademlia_node.core.routing import RoutingTable
from kademlia_node.settings import Settings

OWN = bytes(32)
SMALL = Settings(
    k=2, far_buckets=(4, 3), near_bucket=6, replacements=2, strikes_max=3, uplink_silent=100
)


def public_host(number: int) -> str:
    """One host in each public /24."""
    return f"{20 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.1"


POOL = [
    Contact(Random(seed).randbytes(32), Address(public_host(seed), 4000)) for seed in range(3000)
]


def sharing(bits: int) -> list[Contact]:
    """Contacts of the bucket `bits` of OWN, the same in every run."""
    return [contact for contact in POOL if shared_bits(OWN, contact.id) == bits]


def at(contact: Contact, host: str, port: int = 4000) -> Contact:
    return Contact(contact.public_key, Address(host, port))


def table_of(
    contacts: Iterable[Contact] = (),
    *,
    settings: Settings = SMALL,
    own: bytes = OWN,
    prefix_limits: bool = False,
) -> RoutingTable:
    table = RoutingTable(own, settings=settings, prefix_limits=prefix_limits)
    for contact in contacts:
        table.add(contact, now=0.0)
    return table


def full_far_table() -> tuple[RoutingTable, list[Contact], list[Contact]]:
    """A table whose bucket 0 is full, the 4 contacts in it, and others that belong there."""
    deeper = sharing(1)[:2]  # k of them, so that bucket 0 is not near
    inside, outside = sharing(0)[:4], sharing(0)[4:]
    return table_of([*deeper, *inside]), inside, outside


def strike_often(table: RoutingTable, contact: Contact, times: int, *, now: float = 0.0) -> float:
    """Strikes far enough apart to count; returns the time after the last."""
    for _ in range(times):
        now += 10_000.0
        table.strike(contact.id, now=now)
    return now


# --- Who is in the table --------------------------------------------------------------------------


def test_an_empty_table_knows_nobody() -> None:
    table = table_of()
    assert len(table) == 0
    assert list(table) == []
    assert table.closest(OWN, 20) == []
    assert table.due_checks(1e9, 10) == []
    assert table.stale_buckets(1e9) == []
    assert not table.uplink_down
    assert POOL[0].id not in table
    table.strike(POOL[0].id, now=0.0)
    table.remove(POOL[0].id)


def test_a_heard_contact_is_found_by_its_id() -> None:
    table = table_of()
    assert table.add(POOL[0], now=5.0)
    assert POOL[0].id in table
    assert table.get(POOL[0].id) == POOL[0]
    assert table.get(POOL[1].id) is None
    assert list(table) == [POOL[0]]


def test_our_own_id_is_never_a_contact() -> None:
    table = table_of(own=POOL[0].id)
    assert not table.add(POOL[0], now=1.0)
    assert POOL[0].id not in table


def test_hearing_a_contact_again_keeps_one_of_it() -> None:
    table = table_of(POOL[:3])
    assert table.add(POOL[1], now=9.0)
    assert list(table) == list(table_of(POOL[:3]))


def test_iteration_goes_from_far_to_near_whatever_the_order_of_arrival() -> None:
    table = table_of([*sharing(2)[:2], *sharing(0)[:3], *sharing(1)[:3]])
    assert list(table) == [*sharing(0)[:3], *sharing(1)[:3], *sharing(2)[:2]]


def test_the_address_proved_last_replaces_the_old() -> None:
    table = table_of(POOL[:1])
    moved = at(POOL[0], "10.0.0.9", 77)
    assert table.add(moved, now=1.0)
    assert table.get(POOL[0].id) == moved
    assert len(table) == 1


def test_a_removed_contact_is_gone_and_a_replacement_takes_its_place() -> None:
    table, inside, outside = full_far_table()
    table.add(outside[0], now=1.0)
    table.remove(inside[0].id)
    assert inside[0].id not in table
    assert outside[0].id in table
    table.remove(inside[0].id)
    assert len(table) == 6


def test_a_removed_replacement_never_comes_in() -> None:
    table, inside, outside = full_far_table()
    table.add(outside[0], now=1.0)
    table.remove(outside[0].id)
    table.remove(inside[0].id)
    assert outside[0].id not in table


# --- Capacity -------------------------------------------------------------------------------------


def test_a_full_bucket_keeps_the_contacts_that_came_first() -> None:
    table, inside, outside = full_far_table()
    assert not any(table.add(contact, now=1.0) for contact in outside)
    assert [c for c in table if shared_bits(OWN, c.id) == 0] == inside


def test_far_buckets_are_wider_and_the_others_hold_k() -> None:
    settings = Settings(k=5, far_buckets=(40, 20), near_bucket=10)
    nearest_first = sorted(POOL, key=lambda contact: distance(OWN, contact.id))
    table = table_of(nearest_first, settings=settings)
    held = Counter(shared_bits(OWN, contact.id) for contact in table)
    assert [held[bits] for bits in range(8)] == [40, 20, 5, 5, 5, 5, 5, 5]


def test_the_contacts_nearest_to_us_are_all_kept() -> None:
    settings = Settings(k=5, far_buckets=(10,), near_bucket=64)
    arrival = POOL.copy()
    for seed in range(20):
        Random(seed).shuffle(arrival)
        table = table_of(arrival, settings=settings)
        nearest = sorted(POOL, key=lambda contact: distance(OWN, contact.id))
        assert table.closest(OWN, 5) == nearest[:5]


def test_with_fewer_than_k_known_every_bucket_is_near() -> None:
    table = table_of(sharing(0)[:30], settings=Settings(k=20, far_buckets=(), near_bucket=25))
    assert len(table) == 25


def test_a_subtree_that_holds_one_less_than_k_is_not_yet_the_smallest() -> None:
    table = table_of([*sharing(1)[:1], *sharing(0)[:30]])
    assert len(table) == 1 + SMALL.near_bucket


def test_the_near_bucket_is_bounded() -> None:
    table = table_of([*sharing(2)[:30]])
    assert len(table) == SMALL.near_bucket


# --- Strikes --------------------------------------------------------------------------------------


def test_one_lost_packet_evicts_nobody() -> None:
    table, inside, outside = full_far_table()
    table.strike(inside[0].id, now=1.0)
    assert not table.add(outside[0], now=2.0)
    assert inside[0].id in table


def test_a_struck_contact_is_passed_over_until_it_is_heard() -> None:
    table = table_of(POOL[:5])
    table.strike(POOL[0].id, now=1.0)
    assert POOL[0] not in table.closest(POOL[0].id, 5)
    assert table.closest(POOL[0].id, 5, include_struck=True)[0] == POOL[0]
    table.add(POOL[0], now=2.0)
    assert table.closest(POOL[0].id, 5)[0] == POOL[0]


def test_strikes_in_a_row_drop_a_contact_for_the_newest_replacement() -> None:
    table, inside, outside = full_far_table()
    for contact in outside[:5]:
        table.add(contact, now=1.0)
    strike_often(table, inside[0], SMALL.strikes_max - 1)
    assert inside[0].id in table
    strike_often(table, inside[0], 1, now=1e6)
    assert inside[0].id not in table
    assert outside[4].id in table
    strike_often(table, inside[1], SMALL.strikes_max, now=2e6)
    assert outside[3].id in table
    strike_often(table, inside[2], SMALL.strikes_max, now=3e6)
    assert not any(contact.id in table for contact in outside[:3])  # only two could wait


def test_a_replacement_heard_again_is_the_newest() -> None:
    table, inside, outside = full_far_table()
    for number in (0, 1, 0):
        table.add(outside[number], now=1.0)
    table.remove(inside[0].id)
    assert outside[0].id in table
    assert outside[1].id not in table


def test_a_silent_replacement_stops_waiting() -> None:
    table, inside, outside = full_far_table()
    table.add(outside[0], now=1.0)
    table.strike(outside[0].id, now=2.0)
    table.remove(inside[0].id)
    assert outside[0].id not in table


def test_an_answer_ends_the_row_of_strikes() -> None:
    table = table_of(POOL[:2])
    for _ in range(5):
        now = strike_often(table, POOL[0], SMALL.strikes_max - 1)
        table.add(POOL[0], now=now)
    assert POOL[0].id in table


def test_requests_that_fail_together_are_one_strike() -> None:
    table = table_of(POOL[:2])
    for tenth in range(100):
        table.strike(POOL[0].id, now=1.0 + tenth / 10)
    assert POOL[0].id in table


def test_a_newcomer_takes_the_place_of_the_contact_struck_most() -> None:
    settings = Settings(k=2, far_buckets=(4, 3), near_bucket=6, strikes_max=9)
    inside, outside = sharing(0)[:4], sharing(0)[4:]
    table = table_of([*sharing(1)[:2], *inside], settings=settings)
    strike_often(table, inside[1], 2)
    strike_often(table, inside[2], 3)
    assert table.add(outside[0], now=1e6)
    assert inside[2].id not in table
    assert table.add(outside[1], now=1e6)
    assert inside[1].id not in table
    assert not table.add(outside[2], now=1e6)


def test_a_bucket_that_is_no_longer_near_shrinks_before_it_takes_in() -> None:
    near, far = sharing(2)[:6], sharing(2)[6]
    table = table_of(near)
    table.add(far, now=1.0)  # waits: the near bucket is full
    for contact in sharing(3)[:2]:
        table.add(contact, now=2.0)  # k of them: bucket 2 may now hold k only
    table.remove(near[0].id)
    assert far.id not in table
    assert len(table) == 7


# --- Who is lost ----------------------------------------------------------------------------------


def test_who_is_dropped_is_lost_until_it_is_heard_again() -> None:
    table, inside, outside = full_far_table()
    strike_often(table, inside[0], SMALL.strikes_max)
    assert list(table.lost) == [inside[0]]
    moved = at(inside[0], "10.0.0.9")
    table.add(moved, now=1e6)
    assert list(table.lost) == []
    assert table.lost.take_found() == [moved]
    strike_often(table, inside[1], SMALL.strikes_displaced, now=2e6)
    table.add(outside[0], now=3e6)  # there is room in the place of the first
    table.add(outside[1], now=3e6)
    assert list(table.lost) == [inside[1]]
    assert table.lost.take_found() == []


def test_who_leaves_is_lost_and_forgotten_if_it_says_so_again() -> None:
    """It may be back soon, and nobody else may know us."""
    table = table_of(POOL[:2])
    table.remove(POOL[0].id)
    assert list(table.lost) == [POOL[0]]
    table.remove(POOL[0].id)
    assert list(table.lost) == []


# --- The uplink -----------------------------------------------------------------------------------


def test_when_nobody_answers_nobody_is_evicted() -> None:
    settings = Settings(strikes_max=3, uplink_silent=4)
    table = table_of(POOL[:20], settings=settings)
    for round_ in range(1, 10):
        for contact in POOL[:20]:
            table.strike(contact.id, now=round_ * 10_000.0)
    assert table.uplink_down
    assert len(table) == 20
    assert len(table.closest(OWN, 20)) == 17  # the first three were struck before it was clear


def test_hearing_anyone_ends_the_doubt_about_our_uplink() -> None:
    table = table_of(POOL[:4], settings=Settings(uplink_silent=3))
    for contact in POOL[:3]:
        assert not table.uplink_down
        table.strike(contact.id, now=1.0)
    doubted = table.uplink_down
    table.add(POOL[9], now=2.0)
    assert (doubted, table.uplink_down) == (True, False)


def test_one_silent_contact_however_often_is_no_sign_of_a_dead_uplink() -> None:
    table = table_of(POOL[:4], settings=Settings(uplink_silent=3))
    strike_often(table, POOL[0], 4)
    assert not table.uplink_down
    strike_often(table, POOL[0], 1, now=1e6)
    assert POOL[0].id not in table
    table.strike(POOL[1].id, now=2e6)
    table.strike(POOL[2].id, now=2e6)
    assert not table.uplink_down  # the dropped one does not count any more


def test_the_only_contact_there_is_is_never_dropped() -> None:
    table = table_of(POOL[:1])
    strike_often(table, POOL[0], 50)
    assert table.uplink_down
    assert table.closest(OWN, 1) == [POOL[0]]


# --- Subnets --------------------------------------------------------------------------------------


def test_a_bucket_takes_two_contacts_of_a_subnet() -> None:
    neighbours = [at(contact, f"198.51.100.{n}") for n, contact in enumerate(sharing(0)[:3])]
    table = table_of(neighbours, prefix_limits=True)
    assert list(table) == neighbours[:2]
    table.remove(neighbours[0].id)
    assert table.add(neighbours[2], now=1.0)


def test_a_table_takes_ten_contacts_of_a_subnet() -> None:
    crowd = [at(contact, f"198.51.100.{n % 250}") for n, contact in enumerate(POOL)]
    table = table_of(crowd, settings=Settings(), prefix_limits=True)
    assert len(table) == 10
    first, second, *_ = table
    table.remove(first.id)
    assert table.add(first, now=1.0)
    assert not any(table.add(contact, now=2.0) for contact in crowd if contact.id not in table)
    for port in range(1, 30):  # moving about within the subnet changes no count
        assert table.add(at(second, "198.51.100.99", port), now=3.0)
    assert not any(table.add(contact, now=4.0) for contact in crowd if contact.id not in table)
    assert table.add(at(second, "203.0.113.1"), now=5.0)
    assert sum(table.add(contact, now=6.0) for contact in crowd if contact.id not in table) == 1


def test_a_bucket_takes_one_contact_of_an_ipv6_subnet_and_two_of_the_site() -> None:
    hosts = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8:0:2::1"]
    contacts = [at(contact, host) for contact, host in zip(sharing(0), hosts, strict=False)]
    table = table_of(contacts, prefix_limits=True, settings=Settings())
    assert list(table) == [contacts[0], contacts[2]]


@pytest.mark.parametrize(("host", "limits"), [("10.0.0.1", True), ("198.51.100.1", False)])
def test_local_hosts_and_private_networks_have_no_subnet_limits(host: str, limits: bool) -> None:
    contacts = [at(contact, host, 1 + n) for n, contact in enumerate(sharing(0)[:50])]
    assert len(table_of(contacts, prefix_limits=limits, settings=Settings())) == 50


def test_a_contact_may_move_within_its_subnet_but_not_into_a_full_one() -> None:
    first, second, other = sharing(0)[:3]
    table = table_of([at(first, "198.51.100.1"), at(second, "198.51.100.2"), other])
    limited = table_of(table, prefix_limits=True)
    assert limited.add(at(first, "198.51.100.3"), now=1.0)
    assert not limited.add(at(other, "198.51.100.4"), now=1.0)
    assert limited.get(other.id) == other
    assert limited.add(at(first, "198.51.101.1"), now=2.0)
    assert limited.add(at(other, "198.51.100.4"), now=3.0)


def test_one_subnet_cannot_fill_the_replacements() -> None:
    inside, outside = sharing(0)[:4], sharing(0)[4:]
    settings = Settings(k=2, far_buckets=(4, 3), near_bucket=6, replacements=3)
    table = table_of([*sharing(1)[:2], *inside], settings=settings, prefix_limits=True)
    honest = outside[0]
    table.add(honest, now=1.0)
    for number, contact in enumerate(outside[1:9]):
        table.add(at(contact, f"198.51.100.{number}"), now=2.0)
    for contact in inside[:3]:
        table.remove(contact.id)
    assert honest.id in table


def test_a_replacement_whose_subnet_is_full_by_now_is_passed_over() -> None:
    inside, outside = sharing(0)[:4], sharing(0)[4:]
    table = table_of([*sharing(1)[:2], *inside], prefix_limits=True)
    fine, crowded = outside[0], at(outside[1], "198.51.100.9")
    table.add(fine, now=1.0)
    table.add(crowded, now=2.0)
    for number in range(2):
        table.add(at(inside[number], f"198.51.100.{number}"), now=3.0)
    table.remove(inside[2].id)
    assert fine.id in table
    table.remove(inside[3].id)
    assert crowded.id not in table


@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 7), st.integers(0, 3)), max_size=120))
def test_no_sequence_of_events_exceeds_a_limit(events: list[tuple[int, int, int]]) -> None:
    settings = Settings(
        k=4, far_buckets=(9, 6), near_bucket=8, strikes_max=2, contacts_per_prefix_table=5
    )
    table = table_of(settings=settings, prefix_limits=True)
    hosts = [f"198.51.100.{n}" for n in range(3)] + ["198.51.101.1", "10.0.0.1"]
    hosts += ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
    for step, (who, where, verb) in enumerate(events):
        contact = at(POOL[who], hosts[where])
        now = step * 40.0
        if verb == 0:
            table.strike(contact.id, now=now)
        elif verb == 1:
            table.remove(contact.id)
            assert contact.id not in table
        else:
            assert table.add(contact, now=now) == (table.get(contact.id) == contact)
    buckets: dict[int, list[str]] = {}
    for contact in table:
        buckets.setdefault(shared_bits(OWN, contact.id), []).append(contact.address.host)
    everywhere = Counter(prefix(c.address.host) for c in table if c.address.host != "10.0.0.1")
    assert all(count <= 5 for count in everywhere.values())
    assert len(table) == sum(map(len, buckets.values()))
    for bits, inside in buckets.items():
        assert len(inside) <= (9 if bits == 0 else 8)
        public = [host for host in inside if host != "10.0.0.1"]
        assert all(count <= 2 for count in Counter(map(prefix, public)).values())
        v6 = [host for host in public if ":" in host]
        assert all(count == 1 for count in Counter(map(subnet, v6)).values())


# --- The nearest ----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, len(POOL) - 1), max_size=60, unique=True),
    st.sets(st.integers(0, 59)),
    st.integers(0, 254),
    st.integers(0, 256),
    st.integers(0, 25),
    st.randoms(use_true_random=False),
)
def test_closest_is_exact(
    members: list[int], struck: set[int], deep: int, near: int, count: int, rng: Random
) -> None:
    contacts = [POOL[number] for number in members]
    base = contacts[0].id if contacts else OWN
    own = random_id_sharing(base, deep, rng=rng)  # any depth: a neighbour of the first contact
    table = table_of(contacts, settings=Settings(near_bucket=64), own=own)
    assert len(table) == len(contacts)
    for number in struck & set(range(len(contacts))):
        table.strike(contacts[number].id, now=1.0)
    target = own if near == 256 else random_id_sharing(own, near, rng=rng)
    everyone = sorted(contacts, key=lambda contact: distance(contact.id, target))
    assert table.closest(target, count, include_struck=True) == everyone[:count]
    silent = {contacts[number].id for number in struck if number < len(contacts)}
    if not table.uplink_down:
        live = [contact for contact in everyone if contact.id not in silent]
        assert table.closest(target, count) == live[:count]


def test_closest_is_exact_in_a_full_table() -> None:
    rng = Random(3)
    table = table_of(POOL, settings=Settings(), own=POOL[7].id)
    assert len(table) > 250
    for _ in range(100):
        target = rng.randbytes(32)
        expected = sorted(table, key=lambda contact: distance(contact.id, target))
        assert table.closest(target, 20) == expected[:20]


# --- Chores ---------------------------------------------------------------------------------------


def test_the_contact_silent_for_longest_is_checked_first() -> None:
    settings = Settings(liveness_s=100.0)
    table = table_of(settings=settings)
    for now, contact in enumerate(POOL[:4]):
        table.add(contact, now=float(now))
    assert table.due_checks(99.0, 9) == []
    assert table.due_checks(100.0, 9) == [POOL[0]]
    table.add(POOL[0], now=50.0)
    assert table.due_checks(103.0, 2) == [POOL[1], POOL[2]]
    assert table.due_checks(103.0, 9) == POOL[1:4]
    assert table.due_checks(150.0, 9)[-1] == POOL[0]


def test_a_contact_that_was_up_for_long_is_checked_seldom_unless_it_is_near() -> None:
    settings = Settings(
        k=2, liveness_s=100.0, liveness_share=0.25, liveness_max_s=500.0, far_buckets=(4, 3)
    )
    far, near = sharing(0)[0], sharing(1)[:2]
    table = table_of([far, *near], settings=settings)
    assert table.due_checks(100.0, 9)[0] == far  # it was heard once, so nothing is known of it
    for up_s, pause_s in ((400.0, 100.0), (800.0, 200.0), (1600.0, 400.0), (9999.0, 500.0)):
        for contact in (far, *near):
            table.add(contact, now=up_s)
        assert table.due_checks(up_s + 99.9, 9) == []
        assert set(table.due_checks(up_s + 100.0, 9)) >= set(near)
        assert far not in table.due_checks(up_s + pause_s - 0.1, 9)
        assert far in table.due_checks(up_s + pause_s, 9)


def test_a_contact_that_has_become_near_is_checked_as_often_as_those() -> None:
    settings = Settings(k=2, liveness_s=100.0, liveness_share=1.0, far_buckets=(4, 3))
    far, near = sharing(0)[0], sharing(1)[:2]
    table = table_of([far, *near], settings=settings)
    for contact in (far, *near):
        table.add(contact, now=800.0)
    assert table.due_checks(800.0, 9) == []
    assert far not in table.due_checks(900.0, 9)
    table.remove(near[0].id)
    assert far in table.due_checks(900.0, 9)


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "strike", "look"]), st.integers(0, 7), st.floats(0, 90))
    )
)
def test_whoever_was_not_heard_for_long_is_due_whatever_happened(
    steps: list[tuple[str, int, float]],
) -> None:
    table = table_of([], settings=Settings(liveness_s=100.0, strikes_max=99, uplink_silent=99))
    heard: dict[Contact, float] = {}
    now = 0.0
    for what, number, pause_s in steps:
        contact, now = POOL[number], now + pause_s
        if what == "add":
            table.add(contact, now=now)
            heard[contact] = now
        elif what == "strike":
            table.strike(contact.id, now=now)
            heard.pop(contact, None)
        else:
            due = set(table.due_checks(now, 99)) & heard.keys()
            assert due == {contact for contact, at in heard.items() if at + 100.0 <= now}


def test_who_is_live_is_told_by_how_many_bits_it_shares_with_us() -> None:
    far, near = sharing(0)[:3], sharing(2)[:2]
    table = table_of([*far, *near], settings=SMALL)
    table.strike(far[0].id, now=1.0)
    assert list(table.live_counts()) == [2, 0, 2]
    assert [contact for contact, _, _ in table.live()] == [*far[1:], *near]
    assert [contact for contact, _, _ in table.live(shared_bits=1)] == near
    assert not table.is_live(far[0].id)
    assert table.is_live(near[0].id)
    assert not table.is_live(sharing(1)[0].id)


def test_after_a_silence_a_contact_is_checked_often_again() -> None:
    settings = Settings(k=2, liveness_s=100.0, liveness_share=0.25, far_buckets=(4, 3))
    far = sharing(0)[0]
    table = table_of([far, *sharing(1)[:2]], settings=settings)
    table.add(far, now=4000.0)
    table.strike(far.id, now=5000.0)
    table.add(far, now=5010.0)
    assert far in table.due_checks(5110.0, 9)
    table.add(far, now=5810.0)
    assert far not in table.due_checks(6009.9, 9)
    assert far in table.due_checks(6010.0, 9)


def test_a_struck_contact_is_checked_when_its_back_off_ends() -> None:
    settings = Settings(liveness_s=1e9, strike_backoff_s=15.0, strikes_max=5)
    table = table_of(POOL[:2], settings=settings)
    now = 0.0
    for wait in (15.0, 30.0, 60.0, 120.0):
        table.strike(POOL[0].id, now=now)
        assert table.due_checks(now + wait - 0.1, 9) == []
        now += wait
        assert table.due_checks(now, 9) == [POOL[0]]
    table.strike(POOL[0].id, now=now)
    assert list(table) == [POOL[1]]


def test_whoever_was_to_be_checked_late_and_is_heard_is_checked_as_usual() -> None:
    table = table_of([], settings=Settings(liveness_s=100.0))
    table.restore(POOL[0], since=0.0, heard=0.0, check_at=1700.0)
    table.add(POOL[0], now=1.0)
    assert table.due_checks(100.9, 9) == []
    assert table.due_checks(101.0, 9) == [POOL[0]]


def test_checks_back_off_while_the_uplink_is_down() -> None:
    table = table_of(POOL[:1], settings=Settings(liveness_s=100.0, strike_backoff_s=15.0))
    table.strike(POOL[0].id, now=100.0)
    assert table.uplink_down
    assert table.due_checks(114.9, 9) == []
    assert table.due_checks(115.0, 9) == POOL[:1]
    table.strike(POOL[0].id, now=115.0)
    assert table.due_checks(129.9, 9) == []


def test_a_promoted_replacement_is_checked_by_when_it_was_heard() -> None:
    table, inside, outside = full_far_table()
    table.add(outside[0], now=7.0)
    table.remove(inside[0].id)
    assert outside[0] not in table.due_checks(7.0 + SMALL.liveness_s - 1, 99)
    assert outside[0] in table.due_checks(7.0 + SMALL.liveness_s, 99)


def test_buckets_are_stale_until_refreshed_and_again_an_hour_later() -> None:
    table = table_of(sharing(3)[:1], settings=Settings(refresh_s=3600.0))
    assert table.stale_buckets(0.0) == [0, 1, 2, 3]
    table.mark_refreshed(1, 10.0)
    table.mark_refreshed(3, 20.0)
    assert table.stale_buckets(20.0) == [0, 2]
    assert table.stale_buckets(3610.0) == [0, 1, 2]
    assert table.stale_buckets(3620.0) == [0, 1, 2, 3]


def test_buckets_beyond_the_deepest_contact_are_never_stale() -> None:
    table = table_of()
    table.mark_refreshed(9, 0.0)
    assert table.stale_buckets(1e9) == []
    table.add(sharing(1)[0], now=1.0)
    assert table.stale_buckets(1e9) == [0, 1]
