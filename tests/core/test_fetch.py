"""Fetches: who is asked for what, who is dropped, and when it is over."""

from __future__ import annotations

import hashlib
import random
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.fetch import Fetch
from kademlia_node.core.manifest import Piece
from kademlia_node.core.pull import Fate


def piece(number: int, *, length: int = 1000) -> Piece:
    return Piece(hashlib.sha256(b"%d" % number).digest(), length)


def pieces(count: int) -> list[Piece]:
    return [piece(number) for number in range(count)]


def fetch_of(offers: dict[str, list[Piece]], *, per_holder: int = 2) -> Fetch[str]:
    fetch: Fetch[str] = Fetch(per_holder=per_holder)
    for holder, offered in offers.items():
        fetch.offer(holder, offered)
    return fetch


# --- Who is asked for what ------------------------------------------------------------------------


def test_pieces_go_in_order_to_the_holder_with_least_to_do() -> None:
    fetch = fetch_of({"a": pieces(9), "b": pieces(9)})
    assert fetch.next_pulls() == [
        ("a", piece(0)),
        ("b", piece(1)),
        ("a", piece(2)),
        ("b", piece(3)),
    ]
    assert fetch.next_pulls() == []
    assert fetch.on_piece("b", piece(1)) == []
    assert fetch.next_pulls() == [("b", piece(4))]


def test_a_holder_is_asked_only_for_what_it_offers() -> None:
    fetch = fetch_of({"a": [piece(0)], "b": [piece(1), piece(2)]}, per_holder=1)
    assert fetch.next_pulls() == [("a", piece(0)), ("b", piece(1))]
    fetch.on_piece("a", piece(0))
    assert fetch.next_pulls() == []  # piece 2 waits for b


def test_offers_of_one_holder_add_up() -> None:
    fetch = fetch_of({"a": [piece(0)]})
    fetch.offer("a", [piece(1), piece(0)])
    assert fetch.next_pulls() == [("a", piece(0)), ("a", piece(1))]


def test_the_order_is_that_in_which_pieces_were_wanted() -> None:
    fetch: Fetch[str] = Fetch(per_holder=3)
    fetch.want(piece(2))
    fetch.offer("a", [piece(0), piece(1), piece(2)])
    fetch.want(piece(0))
    assert fetch.missing() == [piece(2), piece(0), piece(1)]
    assert [asked for _, asked in fetch.next_pulls()] == fetch.missing()


def test_a_wanted_piece_waits_until_somebody_offers_it() -> None:
    fetch: Fetch[str] = Fetch(per_holder=1)
    fetch.want(piece(0))
    assert fetch.next_pulls() == []
    fetch.offer("a", [piece(0)])
    assert fetch.next_pulls() == [("a", piece(0))]


def test_what_is_here_already_is_not_wanted_whoever_offers_it() -> None:
    fetch: Fetch[str] = Fetch(per_holder=4)
    fetch.have(piece(0).hash)
    fetch.want(piece(0))
    fetch.want(piece(1))
    fetch.offer("a", pieces(3))
    assert fetch.missing() == [piece(1), piece(2)]
    assert fetch.have(piece(1).hash) == []
    assert fetch.next_pulls() == [("a", piece(2))]


def test_a_false_length_for_a_true_hash_spoils_nothing() -> None:
    false = piece(0, length=999)
    fetch = fetch_of({"liar": [false], "a": [piece(0)]})
    assert fetch.next_pulls() == [("liar", false), ("a", piece(0))]
    assert fetch.on_piece("a", piece(0)) == [("liar", false)]
    assert fetch.done


# --- The endgame ----------------------------------------------------------------------------------


def test_an_idle_holder_is_given_what_has_been_in_flight_for_longest() -> None:
    fetch = fetch_of({"a": pieces(2)})
    assert fetch.next_pulls() == [("a", piece(0)), ("a", piece(1))]
    fetch.offer("b", pieces(2))
    assert fetch.next_pulls() == [("b", piece(0))]
    assert fetch.next_pulls() == []  # b is not idle now
    assert fetch.on_piece("b", piece(0)) == [("a", piece(0))]
    assert fetch.next_pulls() == [("b", piece(1))]
    assert fetch.on_piece("a", piece(1)) == [("b", piece(1))]
    assert fetch.done


def test_no_piece_is_asked_of_three_holders() -> None:
    fetch = fetch_of({"a": pieces(1)})
    fetch.next_pulls()
    fetch.offer("b", pieces(1))
    fetch.offer("c", pieces(1))
    assert fetch.next_pulls() == [("b", piece(0))]
    assert fetch.next_pulls() == []


def test_an_idle_holder_helps_only_with_what_it_offers() -> None:
    fetch = fetch_of({"a": pieces(2)})
    fetch.next_pulls()
    fetch.offer("b", [piece(1)])
    assert fetch.next_pulls() == [("b", piece(1))]


def test_nobody_helps_while_a_piece_still_waits_for_its_holder() -> None:
    fetch = fetch_of({"a": pieces(3)})
    fetch.next_pulls()
    fetch.offer("b", [piece(0)])
    assert fetch.next_pulls() == []
    fetch.on_piece("a", piece(1))
    assert fetch.next_pulls() == [("a", piece(2)), ("b", piece(0))]


def test_a_piece_that_nobody_offers_does_not_keep_others_from_helping() -> None:
    fetch = fetch_of({"a": [piece(0)]})
    fetch.want(piece(1))
    fetch.next_pulls()
    fetch.offer("b", [piece(0)])
    assert fetch.next_pulls() == [("b", piece(0))]


def test_of_two_holders_of_a_piece_one_may_fail() -> None:
    fetch = fetch_of({"a": [piece(0)]})
    fetch.next_pulls()
    fetch.offer("b", [piece(0)])
    fetch.next_pulls()
    fetch.on_failure("a", piece(0), Fate.LIED)
    assert not fetch.starved
    assert fetch.next_pulls() == []
    assert fetch.on_piece("b", piece(0)) == []
    assert fetch.done


# --- Holders that fail ----------------------------------------------------------------------------


def test_a_liar_is_dropped_with_all_it_offers_and_was_asked_for() -> None:
    fetch = fetch_of({"liar": pieces(3), "a": pieces(3)}, per_holder=1)
    assert fetch.next_pulls() == [("liar", piece(0)), ("a", piece(1))]
    fetch.on_failure("liar", piece(0), Fate.LIED)
    assert fetch.dropped == {"liar": Fate.LIED}
    fetch.on_piece("a", piece(1))
    assert fetch.next_pulls() == [("a", piece(0))]


def test_what_a_dropped_holder_had_in_flight_is_free_and_its_late_failures_are_ignored() -> None:
    fetch = fetch_of({"liar": pieces(2)})
    fetch.next_pulls()
    fetch.on_failure("liar", piece(0), Fate.LIED)
    fetch.offer("a", pieces(2))
    assert fetch.next_pulls() == [("a", piece(0)), ("a", piece(1))]
    fetch.on_failure("liar", piece(1), Fate.STALLED)
    assert fetch.dropped == {"liar": Fate.LIED}
    assert fetch.next_pulls() == []


def test_a_true_piece_counts_even_of_a_holder_that_was_dropped_meanwhile() -> None:
    fetch = fetch_of({"liar": pieces(2), "a": []})
    fetch.next_pulls()
    fetch.on_failure("liar", piece(0), Fate.LIED)
    fetch.offer("a", [piece(1)])
    fetch.next_pulls()
    assert fetch.on_piece("liar", piece(1)) == [("a", piece(1))]
    assert fetch.missing() == [piece(0)]


def test_a_holder_that_the_caller_drops_is_asked_for_nothing_more() -> None:
    fetch = fetch_of({"a": pieces(2), "b": pieces(2)}, per_holder=1)
    assert fetch.next_pulls() == [("a", piece(0)), ("b", piece(1))]
    fetch.drop("a")
    fetch.drop("unheard of")
    assert fetch.dropped == {"a": None, "unheard of": None}
    fetch.offer("unheard of", pieces(3))
    assert fetch.next_pulls() == []
    assert fetch.on_piece("b", piece(1)) == []
    assert fetch.next_pulls() == [("b", piece(0))]
    fetch.on_failure("b", piece(0), Fate.LIED)
    fetch.drop("b")
    assert fetch.dropped["b"] is Fate.LIED


def test_a_dropped_holder_is_not_taken_back() -> None:
    fetch = fetch_of({"liar": pieces(1)})
    fetch.next_pulls()
    fetch.on_failure("liar", piece(0), Fate.LIED)
    fetch.offer("liar", pieces(2))
    assert fetch.next_pulls() == []
    assert fetch.missing() == pieces(1)
    assert fetch.starved


def test_a_holder_that_lacks_a_piece_keeps_its_other_offers() -> None:
    fetch = fetch_of({"a": pieces(2)}, per_holder=1)
    fetch.next_pulls()
    fetch.on_failure("a", piece(0), Fate.LACKS)
    assert fetch.next_pulls() == [("a", piece(1))]
    assert fetch.dropped == {}
    fetch.on_piece("a", piece(1))
    assert fetch.starved


def test_a_holder_is_dropped_at_its_second_stall() -> None:
    fetch = fetch_of({"a": pieces(2)})
    fetch.next_pulls()
    fetch.on_failure("a", piece(0), Fate.STALLED)
    assert fetch.dropped == {}
    assert fetch.next_pulls() == [("a", piece(0))]
    fetch.on_failure("a", piece(1), Fate.STALLED)
    assert fetch.dropped == {"a": Fate.STALLED}
    assert fetch.starved


def test_after_a_stall_another_holder_is_preferred_even_if_it_has_more_to_do() -> None:
    fetch = fetch_of({"a": pieces(5), "b": pieces(5)})
    assert len(fetch.next_pulls()) == 4
    fetch.on_failure("a", piece(0), Fate.STALLED)
    fetch.on_piece("a", piece(2))
    fetch.on_piece("b", piece(1))
    assert fetch.next_pulls() == [("b", piece(0)), ("a", piece(4))]


def test_a_failure_of_a_pull_that_became_superfluous_is_not_held_against_the_holder() -> None:
    fetch = fetch_of({"a": pieces(1), "b": []})
    fetch.next_pulls()
    fetch.offer("b", pieces(1))
    fetch.next_pulls()
    fetch.on_piece("b", piece(0))
    fetch.on_failure("a", piece(0), Fate.STALLED)
    fetch.offer("a", [piece(1)])
    fetch.next_pulls()
    fetch.on_failure("a", piece(1), Fate.STALLED)
    assert fetch.dropped == {}


def test_the_failure_of_a_whole_piece_is_our_own_mistake() -> None:
    fetch = fetch_of({"a": pieces(1)})
    fetch.next_pulls()
    with pytest.raises(AssertionError):
        fetch.on_failure("a", piece(0), Fate.WHOLE)


# --- How it ends ----------------------------------------------------------------------------------


def test_it_is_done_when_every_wanted_piece_is_here() -> None:
    fetch = fetch_of({"a": pieces(2)})
    fetch.next_pulls()
    seen = []
    for number in range(2):
        seen.append((fetch.done, fetch.starved, fetch.missing()))
        fetch.on_piece("a", piece(number))
    assert seen == [(False, False, pieces(2)), (False, False, [piece(1)])]
    assert fetch.done
    assert not fetch.starved
    assert fetch.missing() == []


def test_it_is_starved_when_nothing_is_offered_or_in_flight_and_not_before() -> None:
    fetch: Fetch[str] = Fetch(per_holder=1)
    fetch.want(piece(1))
    starved = [fetch.starved]
    fetch.offer("a", [piece(0)])
    starved.append(fetch.starved)
    fetch.next_pulls()
    starved.append(fetch.starved)
    fetch.on_piece("a", piece(0))
    starved.append(fetch.starved)
    assert starved == [True, False, False, True]


def test_with_nothing_wanted_it_is_done() -> None:
    fetch: Fetch[str] = Fetch(per_holder=1)
    assert fetch.done
    assert not fetch.starved
    assert fetch.next_pulls() == []


@given(
    offered=st.dictionaries(
        st.sampled_from("abcde"), st.sets(st.integers(0, 15)).map(sorted), max_size=5
    ),
    liars=st.sets(st.sampled_from("abcd"), max_size=3),
    per_holder=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_every_piece_that_an_honest_holder_offers_arrives_and_all_limits_hold(
    offered: dict[str, list[int]], liars: set[str], per_holder: int, seed: int
) -> None:
    rng = random.Random(seed)
    fetch = fetch_of(
        {holder: [piece(number) for number in some] for holder, some in offered.items()},
        per_holder=per_holder,
    )
    true = {number for holder, some in offered.items() if holder not in liars for number in some}
    in_flight: list[tuple[str, Piece]] = []
    while True:
        in_flight += fetch.next_pulls()
        assert len(set(in_flight)) == len(in_flight)
        asked = [holder for holder, _ in in_flight]
        assert all(asked.count(holder) <= per_holder for holder in asked)
        pulled = [some for _, some in in_flight]
        assert all(pulled.count(some) <= 2 for some in pulled)
        if not in_flight:
            break
        holder, some = in_flight.pop(rng.randrange(len(in_flight)))
        if holder in liars:
            fetch.on_failure(holder, some, rng.choice([Fate.LIED, Fate.LACKS, Fate.STALLED]))
            in_flight = [pull for pull in in_flight if pull[0] not in fetch.dropped]
        else:
            for superfluous in fetch.on_piece(holder, some):
                in_flight.remove(superfluous)
    assert fetch.done is not fetch.starved
    assert true.isdisjoint(number for number in range(16) if piece(number) in fetch.missing())
    assert set(fetch.dropped) <= liars


def test_a_fetch_of_many_pieces_from_many_holders_takes_little_time() -> None:
    everything = pieces(600)
    offers = {f"whole {number}": everything for number in range(4)}
    offers |= {f"part {number}": everything[:50] for number in range(16)}
    fetch = fetch_of(offers)
    began = process_time()
    in_flight: list[tuple[str, Piece]] = []
    while not fetch.done:
        in_flight += fetch.next_pulls()
        fetch.on_piece(*in_flight.pop(0))
    assert process_time() - began < 5.0  # a tenth of it, unless a call is quadratic
