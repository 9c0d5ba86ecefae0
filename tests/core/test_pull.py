"""Pulls: everything arrives or the holder is to blame, and the machine says for what."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.pull import Fate, Pull
from kademlia_node.settings import CHUNK_BYTES, PIECE_BYTES_MAX

CONTENT = random.Random(1).randbytes(10 * CHUNK_BYTES + 7)  # 11 chunks


def pull_of(content: bytes, *, window: int = 8) -> Pull:
    return Pull(hashlib.sha256(content).digest(), len(content), window=window)


def chunk(content: bytes, index: int) -> bytes:
    return content[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


def answer(pull: Pull, *indices: int, content: bytes = CONTENT) -> None:
    for index in indices:
        pull.on_chunk(index, chunk(content, index))


# --- It arrives -----------------------------------------------------------------------------------


@given(length=st.integers(0, 20 * CHUNK_BYTES), window=st.integers(1, 12), seed=st.integers(0, 99))
def test_content_of_any_length_arrives_in_any_order_and_each_chunk_is_asked_once(
    length: int, window: int, seed: int
) -> None:
    rng = random.Random(seed)
    content = rng.randbytes(length)
    pull = pull_of(content, window=window)
    in_flight: list[int] = []
    asked: list[int] = []
    while pull.fate is None:
        new = pull.next_indices()
        asked += new
        in_flight += new
        assert 0 < len(in_flight) <= window
        answer(pull, in_flight.pop(rng.randrange(len(in_flight))), content=content)
    assert pull.fate is Fate.WHOLE
    assert pull.content_bytes() == content
    assert asked == list(range(-(-length // CHUNK_BYTES)))


@given(lost=st.sets(st.integers(0, 10)))
def test_chunks_lost_now_and_then_are_asked_again(lost: set[int]) -> None:
    pull = pull_of(CONTENT, window=1)
    while pull.fate is None:
        [index] = pull.next_indices()
        if index in lost:
            lost = lost - {index}
            pull.on_failure(index)
        else:
            answer(pull, index)
    assert pull.fate is Fate.WHOLE
    assert pull.content_bytes() == CONTENT


def test_the_window_is_filled_as_answers_come() -> None:
    pull = pull_of(CONTENT, window=3)
    assert pull.next_indices() == [0, 1, 2]
    assert pull.next_indices() == []
    answer(pull, 1)
    assert pull.next_indices() == [3]


def test_a_failed_chunk_is_asked_again_before_new_ones() -> None:
    pull = pull_of(CONTENT, window=3)
    pull.next_indices()
    pull.on_failure(1)
    assert pull.next_indices() == [1]
    assert pull.fate is None


def test_nothing_is_whole_at_once() -> None:
    pull = pull_of(b"")
    assert pull.fate is Fate.WHOLE
    assert pull.content_bytes() == b""
    assert pull.next_indices() == []


def test_the_largest_piece_is_taken_and_a_larger_one_is_our_own_mistake() -> None:
    assert Pull(bytes(32), PIECE_BYTES_MAX, window=8).fate is None
    with pytest.raises(AssertionError):
        Pull(bytes(32), PIECE_BYTES_MAX + 1, window=8)


# --- It does not ----------------------------------------------------------------------------------


def test_a_holder_that_says_so_lacks_it() -> None:
    pull = pull_of(CONTENT)
    pull.next_indices()
    answer(pull, 0)
    pull.on_chunk(1, None)
    assert pull.fate is Fate.LACKS
    assert pull.next_indices() == []


@pytest.mark.parametrize(
    ("index", "length"),
    [(0, CHUNK_BYTES - 1), (0, CHUNK_BYTES + 1), (0, 0), (10, 6), (10, 8), (10, CHUNK_BYTES)],
)
def test_a_chunk_of_another_length_is_a_lie(index: int, length: int) -> None:
    pull = pull_of(CONTENT, window=11)
    pull.next_indices()
    pull.on_chunk(index, bytes(length))
    assert pull.fate is Fate.LIED


def test_a_false_byte_anywhere_is_found_at_the_end_and_not_before() -> None:
    pull = pull_of(CONTENT, window=11)
    pull.next_indices()
    answer(pull, *range(10))
    assert pull.fate is None
    answer(pull, 10, content=CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    assert pull.fate is Fate.LIED


def test_a_name_that_nothing_can_have_is_a_lie_even_of_no_length() -> None:
    assert Pull(bytes(32), 0, window=8).fate is Fate.LIED


def test_two_failures_with_no_chunk_between_them_are_a_stall() -> None:
    pull = pull_of(CONTENT)
    pull.next_indices()
    answer(pull, 0)
    pull.on_failure(1)
    assert pull.fate is None
    pull.on_failure(2)
    assert pull.fate is Fate.STALLED


def test_failures_with_chunks_between_them_are_bad_luck() -> None:
    pull = pull_of(CONTENT)
    pull.next_indices()
    for index in range(0, 8, 2):
        pull.on_failure(index)
        answer(pull, index + 1)
    assert pull.fate is None


def test_one_chunk_that_fails_four_times_is_a_stall() -> None:
    pull = pull_of(CONTENT)
    pull.next_indices()
    for others in (1, 2, 3):
        pull.on_failure(0)
        answer(pull, others)
        assert 0 in pull.next_indices()
    assert pull.fate is None
    pull.on_failure(0)
    assert pull.fate is Fate.STALLED


@pytest.mark.parametrize("fate", [Fate.LACKS, Fate.LIED, Fate.STALLED])
def test_what_comes_after_the_end_is_ignored(fate: Fate) -> None:
    pull = pull_of(CONTENT)
    pull.next_indices()
    if fate is Fate.STALLED:
        pull.on_failure(6)
        pull.on_failure(7)
    else:
        pull.on_chunk(7, None if fate is Fate.LACKS else b"")
    answer(pull, 0)
    pull.on_failure(1)
    pull.on_chunk(2, None)
    assert pull.fate is fate
    assert pull.next_indices() == []
    with pytest.raises(AssertionError):
        pull.content_bytes()


def test_a_holder_that_does_not_get_on_is_given_up_and_stays_so() -> None:
    pull = pull_of(CONTENT)
    pull.next_indices()
    assert pull.arrived == 0
    answer(pull, 0, 3)
    assert pull.arrived == 2
    pull.give_up()
    assert pull.fate is Fate.STALLED
    assert pull.next_indices() == []
    whole = pull_of(b"")
    whole.give_up()
    assert whole.fate is Fate.WHOLE


@given(
    outcomes=st.lists(st.sampled_from(["true", "lost", "of another", "beyond the end", "lacks"])),
    which=st.randoms(use_true_random=False),
)
def test_whatever_a_holder_answers_nothing_breaks_and_only_the_truth_is_whole(
    outcomes: list[str], which: random.Random
) -> None:
    pull, in_flight = pull_of(CONTENT, window=4), list[int]()
    for outcome in outcomes:
        in_flight += pull.next_indices()
        assert len(set(in_flight)) == len(in_flight) <= 4
        if not in_flight:
            break
        index = in_flight.pop(which.randrange(len(in_flight)))
        if outcome == "lost":
            pull.on_failure(index)
        else:
            other = {"of another": (index + 1) % 11, "beyond the end": 11}.get(outcome, index)
            pull.on_chunk(index, None if outcome == "lacks" else chunk(CONTENT, other))
    if pull.fate is Fate.WHOLE:
        assert pull.content_bytes() == CONTENT
        assert "of another" not in outcomes[:11]


def test_an_outcome_of_what_was_never_asked_is_our_own_mistake() -> None:
    with pytest.raises(KeyError):
        pull_of(CONTENT).on_chunk(0, chunk(CONTENT, 0))
