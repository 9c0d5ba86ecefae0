"""Repair by difference: what two nodes hold otherwise is found, at a cost that follows changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.digest import (
    DIGITS,
    NOTHING,
    Reconciled,
    Reconciliation,
    Trie,
    digest_of,
    versions_digest,
)
from kademlia_node.core.key import Kind
from kademlia_node.core.message import DIGEST_KEYS_MAX, Digest, Digests, Held
from kademlia_node.core.record import Header

PEER, OTHER_PEER = b"p" * 32, b"o" * 32
OLD, NEW = b"version1", b"version2"


def key_of(number: int) -> bytes:
    """Even ones scattered over the key space, odd ones crowded: they differ in their last bytes."""
    if number % 2:
        return bytes(30) + number.to_bytes(2, "big")
    return hashlib.sha256(number.to_bytes(2, "big")).digest()


def scattered(count: int) -> list[bytes]:
    return [key_of(2 * number) for number in range(count)]


def trie_of(held: dict[bytes, bytes]) -> Trie:
    trie = Trie()
    for key, versions in held.items():
        trie.set(key, versions)
    return trie


def naive(held: dict[bytes, bytes], prefix: str = "") -> Digests:
    """What a trie tells, by its definition and from the bottom."""
    below = {key: versions for key, versions in held.items() if key.hex().startswith(prefix)}
    if len(below) <= DIGEST_KEYS_MAX:
        return Digests(len(below), held=tuple(Held(*row) for row in sorted(below.items())))
    children = tuple(digest_of(naive(below, prefix + digit)) for digit in DIGITS)
    return Digests(len(below), children=children)


# --- What stands for the versions of a key --------------------------------------------------------

FIRST = Header(
    kind=Kind.TOPIC,
    author=b"a" * 32,
    slot=b"slot",
    seq=1,
    expires=2,
    length=3,
    value_hash=b"h" * 32,
    signature=b"s" * 64,
)
SECOND = replace(FIRST, author=b"b" * 32)
BLOB = Header(kind=Kind.BLOB, expires=2, length=5, value_hash=b"h" * 32)


def test_a_renewal_and_another_signature_are_no_other_version() -> None:
    before = versions_digest([FIRST, SECOND])
    assert versions_digest([FIRST, replace(SECOND, expires=3, signature=b"t" * 64)]) == before
    assert versions_digest([replace(BLOB, expires=9)]) == versions_digest([BLOB])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [FIRST],
        [BLOB],
        [replace(BLOB, length=6)],
        [SECOND, FIRST],
        [FIRST, replace(SECOND, author=b"c" * 32)],
        [FIRST, replace(SECOND, slot=b"")],
        [FIRST, replace(SECOND, kind=Kind.ENTRY)],
        [FIRST, replace(SECOND, seq=2)],
        [FIRST, replace(SECOND, flags=1)],
        [FIRST, replace(SECOND, length=4)],
        [FIRST, replace(SECOND, value_hash=b"i" * 32)],
    ],
)
def test_whatever_else_differs_is_another_version(headers: list[Header]) -> None:
    assert versions_digest(headers) != versions_digest([FIRST, SECOND])


def test_digests_on_the_wire_never_change() -> None:
    """Pinned: peers of different versions must find each other's contents equal."""
    assert versions_digest([FIRST, BLOB]).hex() == "64481ad85253211f"
    trie = trie_of(dict.fromkeys(scattered(100), OLD))
    assert trie.digest("").hex() == "475e22539485caf8"
    assert trie.digest(key_of(0).hex()).hex() == "51c03720c8a28050"
    assert DIGEST_KEYS_MAX == 27


# --- What we hold ---------------------------------------------------------------------------------

numbers = st.sets(st.integers(0, 400), max_size=150)


@given(numbers, numbers, numbers)
def test_a_trie_tells_what_is_held_whatever_its_history(
    first: set[int], changed: set[int], removed: set[int]
) -> None:
    trie, held = Trie(), {}
    for versions, some in ((OLD, first), (NEW, changed)):
        for number in some:
            held[key_of(number)] = versions
            trie.set(key_of(number), versions)
        assert trie.digest("") == digest_of(naive(held))
    for number in removed:
        held.pop(key_of(number), None)
        trie.remove(key_of(number))
    assert len(trie) == len(held)
    assert all(trie.get(key_of(number)) == held.get(key_of(number)) for number in range(401))
    crowd, lone = key_of(1).hex(), key_of(2).hex()
    for prefix in ("", *DIGITS, crowd[:60], crowd[:62], crowd, lone[:1], lone[:2], lone):
        assert trie.summary(prefix) == naive(held, prefix)
        assert trie.digest(prefix) == digest_of(naive(held, prefix))


def test_few_keys_are_listed_and_more_are_told_by_their_digests() -> None:
    trie = trie_of(dict.fromkeys(scattered(DIGEST_KEYS_MAX), OLD))
    assert len(trie.summary("").held) == DIGEST_KEYS_MAX
    trie.set(key_of(1), OLD)
    told = trie.summary("")
    assert (told.count, len(told.children), told.held) == (DIGEST_KEYS_MAX + 1, 16, ())
    trie.remove(key_of(1))
    assert len(trie.summary("").held) == DIGEST_KEYS_MAX


def test_a_trie_names_its_keys_in_order() -> None:
    keys = scattered(100)
    assert list(trie_of(dict.fromkeys(keys, OLD))) == sorted(keys)


def test_nothing_has_a_digest_of_zeros() -> None:
    trie = Trie()
    assert trie.digest("") == trie.digest("abc") == NOTHING == bytes(8)
    assert trie.summary("") == Digests(0)
    for number in range(1, 2 * DIGEST_KEYS_MAX + 3, 2):  # more than are listed, all below one digit
        trie.set(key_of(number), OLD)
    assert [child != NOTHING for child in trie.summary("").children] == [True] + [False] * 15


def test_a_change_is_told_at_once_and_its_reversal_restores_the_digest() -> None:
    trie = trie_of(dict.fromkeys(scattered(200), OLD))
    before = trie.digest("")
    trie.set(key_of(0), NEW)
    assert trie.digest("") != before
    trie.set(key_of(0), OLD)
    assert trie.digest("") == before
    trie.remove(key_of(0))
    assert trie.digest("") != before


# --- What was dealt with --------------------------------------------------------------------------


def test_only_the_very_pair_for_this_peer_and_prefix_is_known() -> None:
    reconciled = Reconciled(8)
    reconciled.add(PEER, "a", ours=OLD, theirs=NEW)
    assert reconciled.has(PEER, "a", ours=OLD, theirs=NEW)
    assert not reconciled.has(PEER, "a", ours=NEW, theirs=OLD)
    assert not reconciled.has(PEER, "b", ours=OLD, theirs=NEW)
    assert not reconciled.has(OTHER_PEER, "a", ours=OLD, theirs=NEW)
    reconciled.add(PEER, "a", ours=OLD, theirs=OLD)
    assert not reconciled.has(PEER, "a", ours=OLD, theirs=NEW)
    assert len(reconciled) == 1
    reconciled.clear()
    assert len(reconciled) == 0


def test_what_was_of_no_use_for_longest_is_forgotten_first() -> None:
    reconciled = Reconciled(3)
    for prefix in "abc":
        reconciled.add(PEER, prefix, ours=OLD, theirs=NEW)
    assert reconciled.has(PEER, "a", ours=OLD, theirs=NEW)
    reconciled.add(PEER, "b", ours=OLD, theirs=NEW)
    reconciled.add(PEER, "d", ours=OLD, theirs=NEW)
    known = [prefix for prefix in "abcd" if reconciled.has(PEER, prefix, ours=OLD, theirs=NEW)]
    assert known == ["a", "b", "d"]


# --- Two nodes ------------------------------------------------------------------------------------


@dataclass
class Side:
    """A node that asks: what it holds, and what it thinks of as its own."""

    held: dict[bytes, bytes]
    is_ours: Callable[[bytes], bool] = lambda _: True
    reconciled: Reconciled = field(default_factory=lambda: Reconciled(10_000))
    trie: Trie = field(init=False)

    def __post_init__(self) -> None:
        self.trie = trie_of(self.held)

    def set(self, key: bytes, versions: bytes) -> None:
        self.held[key] = versions
        self.trie.set(key, versions)

    def begin(self, prefix: str = "", requests_max: int = 10_000) -> Reconciliation:
        return Reconciliation(
            self.trie,
            self.reconciled,
            peer_id=PEER,
            prefix=prefix,
            requests_max=requests_max,
            at_once=4,
        )

    def pull(self, keys: list[bytes], peer: Side) -> None:
        for key in filter(self.is_ours, keys):
            self.set(key, max(peer.held[key], self.held.get(key, b"")))

    def repair_from(self, peer: Side) -> int:
        """One whole round; how many questions it took."""
        walk = self.begin()
        asked = ask_all(walk, peer.trie)
        self.pull(walk.differing, peer)
        walk.settle()
        return asked


def ask_all(walk: Reconciliation, answering: Trie) -> int:
    asked = 0
    while not walk.is_over:
        requests = walk.next_requests()
        assert 0 < len(requests) <= 4
        for request in requests:
            walk.on_answer(request, answering.summary(request.prefix))
        asked += len(requests)
    assert walk.next_requests() == []
    return asked


def holding(numbers: set[int], versions: bytes = OLD) -> dict[bytes, bytes]:
    return {key_of(number): versions for number in numbers}


@given(numbers, numbers, numbers, numbers)
def test_two_nodes_that_repair_from_each_other_hold_the_same(
    ours: set[int], our_new: set[int], theirs: set[int], their_new: set[int]
) -> None:
    here = Side(holding(ours) | holding(our_new, NEW))
    there = Side(holding(theirs) | holding(their_new, NEW))
    lacking = {k for k, versions in there.held.items() if here.held.get(k) != versions}
    walk = here.begin()
    ask_all(walk, there.trie)
    assert set(walk.differing) == lacking
    assert len(walk.differing) == len(lacking)
    here.pull(walk.differing, there)
    there.repair_from(here)
    assert here.held == there.held
    assert here.trie.digest("") == there.trie.digest("")
    assert here.repair_from(there) == there.repair_from(here) == 1


def test_only_what_lies_under_the_prefix_is_compared() -> None:
    there = Side(dict.fromkeys(scattered(500), OLD))
    walk = Side({}).begin("a")
    ask_all(walk, there.trie)
    assert set(walk.differing) == {key for key in there.held if key.hex().startswith("a")}


def test_nothing_is_asked_about_where_the_peer_holds_nothing() -> None:
    held = dict.fromkeys(scattered(2000), OLD)
    there = Side({key: NEW for key in held if key.hex().startswith("a")})
    assert ask_all(Side(held).begin(), there.trie) <= 1 + 1 + 16


def edges() -> tuple[Side, Side]:
    """Two neighbours of 2,000 keys in common, 200 more each that the other does not want."""
    keys = scattered(2400)
    common = dict.fromkeys(keys[:2000], OLD)
    mine, others = set(keys[:2200]), set(keys[:2000] + keys[2200:])
    here = Side(common | dict.fromkeys(keys[2000:2200], OLD), mine.__contains__)
    there = Side(common | dict.fromkeys(keys[2200:], OLD), others.__contains__)
    return here, there


def test_one_question_is_enough_while_nothing_changes_though_the_two_hold_different_keys() -> None:
    here, there = edges()
    assert here.repair_from(there) > 100
    assert there.repair_from(here) > 100
    assert [here.repair_from(there), there.repair_from(here)] == [1, 1]
    assert here.trie.digest("") != there.trie.digest("")


def test_what_was_dealt_with_is_not_named_again() -> None:
    here, there = Side({}, lambda _: False), Side(dict.fromkeys(scattered(5), OLD))
    for named in (5, 0):
        walk = here.begin()
        ask_all(walk, there.trie)
        assert len(walk.differing) == named
        walk.settle()


@pytest.mark.parametrize("changes", [1, 2, 5, 20])
def test_questions_follow_what_changed(changes: int) -> None:
    here, there = edges()
    here.repair_from(there)
    for key in Random(changes).sample(scattered(2000), changes):
        there.set(key, NEW)
    depth = 3  # leaves of 2,200 scattered keys lie below two or three digits
    assert 1 + changes <= here.repair_from(there) <= 1 + depth * changes
    assert all(here.held[key] == NEW for key in scattered(2000) if there.held[key] == NEW)
    assert here.repair_from(there) == 1


def test_a_change_of_our_own_is_looked_into_once() -> None:
    here, there = edges()
    here.repair_from(there)
    here.set(key_of(0), NEW)
    assert 1 < here.repair_from(there) <= 4
    assert here.held[key_of(0)] == NEW
    assert here.repair_from(there) == 1


def test_a_record_that_went_missing_is_found_again() -> None:
    here, there = edges()
    here.repair_from(there)
    del here.held[key_of(0)]
    here.trie.remove(key_of(0))
    here.repair_from(there)
    assert here.held[key_of(0)] == OLD


def test_what_was_not_ours_is_named_again_after_the_memory_was_cleared() -> None:
    here, there = edges()
    here.repair_from(there)
    here.reconciled.clear()
    here.is_ours = lambda _: True
    here.repair_from(there)
    assert set(there.held) <= set(here.held)


def test_nothing_is_remembered_before_it_is_settled() -> None:
    here, there = edges()
    first, second = here.begin(), here.begin()
    asked = ask_all(first, there.trie)
    assert ask_all(second, there.trie) == asked
    assert second.differing == first.differing


def test_a_key_that_could_not_be_pulled_is_named_again_and_no_other() -> None:
    here, there = Side({}), Side(dict.fromkeys(scattered(500), OLD))
    walk = here.begin()
    ask_all(walk, there.trie)
    undone = key_of(0)
    here.is_ours = lambda _: False  # the others are dealt with by leaving them
    walk.settle(undone=[undone])
    again = here.begin()
    assert ask_all(again, there.trie) <= 4
    assert undone in again.differing
    assert len(again.differing) <= DIGEST_KEYS_MAX, "its leaf only"


def test_a_peer_that_falls_silent_is_asked_no_more_and_what_it_told_is_kept() -> None:
    here, there = Side({}), Side(dict.fromkeys(scattered(200), OLD))
    walk = here.begin()
    (root,) = walk.next_requests()
    walk.on_answer(root, there.trie.summary(""))
    answered, silent, *late = walk.next_requests()
    walk.on_answer(answered, there.trie.summary(answered.prefix))
    walk.on_failure(silent)
    assert walk.next_requests() == []
    over = [walk.is_over]
    for request in late:
        walk.on_answer(request, there.trie.summary(request.prefix))
        over.append(walk.is_over)
    assert over == [False, False, True]
    assert 0 < len(walk.differing) < 100
    walk.settle()
    assert len(here.reconciled) == 3, "of 16 parts; the whole is open"
    assert [here.repair_from(there), here.repair_from(there)] == [1 + 16 - 3, 1]


@pytest.mark.parametrize("is_lost", [True, False], ids=["silent", "still awaited"])
def test_the_whole_stays_open_while_one_part_is_unanswered(is_lost: bool) -> None:
    here, there = Side({}), Side(dict.fromkeys(scattered(200), OLD))
    walk = here.begin()
    requests: list[Digest] = []
    while len(requests) < 1 + 16:
        for request in walk.next_requests():
            requests.append(request)
            if len(requests) < 1 + 16:
                walk.on_answer(request, there.trie.summary(request.prefix))
    if is_lost:
        walk.on_failure(requests[-1])
    here.pull(walk.differing, there)
    walk.settle()
    assert walk.is_over is is_lost
    assert [here.repair_from(there), here.repair_from(there)] == [2, 1]


# --- Limits and lies ------------------------------------------------------------------------------


def test_questions_are_limited_and_the_next_walks_go_on_from_there() -> None:
    here, there = edges()
    total = edges()[0].repair_from(there)
    asked: list[int] = []
    while not asked or asked[-1] == 50:
        walk = here.begin(requests_max=50)
        asked.append(ask_all(walk, there.trie))
        walk.settle()
    assert total / 50 <= len(asked) <= total / 50 + 2
    assert here.repair_from(there) == 1


def test_whoever_ran_out_of_questions_knows_it() -> None:
    here, there = edges()
    short, whole = here.begin(requests_max=50), here.begin()
    for walk in (short, whole):
        assert not walk.ran_out
        ask_all(walk, there.trie)
    assert short.ran_out
    assert not whole.ran_out
    silent = here.begin()
    silent.on_failure(*silent.next_requests())
    assert not silent.ran_out


def test_nothing_is_asked_below_a_prefix_that_does_not_concern_us() -> None:
    here, there = edges()
    walk = Reconciliation(
        here.trie,
        here.reconciled,
        peer_id=PEER,
        prefix="",
        requests_max=10_000,
        at_once=4,
        concerns_us=lambda prefix: prefix[0] in "ab",
    )
    asked = ask_all(walk, there.trie)
    lacking = {key for key in there.held if key not in here.held and key.hex()[0] in "ab"}
    assert set(walk.differing) == lacking
    assert asked < here.repair_from(there) / 4


class Liar(Trie):
    """Whatever it is asked, there is more below."""

    def summary(self, prefix: str) -> Digests:
        return Digests(2**32 - 1, children=tuple(bytes([n]) * 8 for n in range(16)))


@pytest.mark.parametrize("requests_max", [1, 100])
def test_a_liar_without_end_is_left_after_so_many_questions(requests_max: int) -> None:
    here = Side({})
    walk = here.begin(requests_max=requests_max)
    assert ask_all(walk, Liar()) == requests_max
    walk.settle()
    assert len(here.reconciled) < requests_max


def test_a_liar_whose_tree_is_deeper_than_keys_are_long_is_caught() -> None:
    walk = Side({}).begin()
    assert ask_all(walk, Liar()) < 4 * 64
    assert walk.lied


HERE_AND_THERE = tuple(Held(bytes([n]) + bytes(31), OLD) for n in (0xA0, 0xA1, 0xB0))


@pytest.mark.parametrize(
    "answer",
    [
        Digests(1, held=HERE_AND_THERE[2:]),
        Digests(3, held=HERE_AND_THERE),
        Digests(2, held=HERE_AND_THERE[1::-1]),
        Digests(2, held=HERE_AND_THERE[:1] * 2),
        Digests(16**63 + 1, children=(OLD,) * 16),
    ],
    ids=["outside", "partly outside", "unsorted", "twice", "too many"],
)
def test_an_answer_that_does_not_fit_the_question_ends_the_walk(answer: Digests) -> None:
    here = Side({})
    walk = here.begin("a")
    (request,) = walk.next_requests()
    walk.on_answer(request, answer)
    assert walk.lied
    assert walk.is_over
    assert walk.next_requests() == []
    assert walk.differing == []
    walk.settle()
    assert len(here.reconciled) == 0


def test_answers_that_come_after_a_lie_are_not_heeded() -> None:
    walk = Side({}).begin()
    (root,) = walk.next_requests()
    walk.on_answer(root, Liar().summary(""))
    first, second, third, fourth = walk.next_requests()
    walk.on_answer(first, Digests(1, held=(Held(bytes.fromhex(second.prefix + "0" * 63), OLD),)))
    for request in (second, third):
        walk.on_answer(request, trie_of(dict.fromkeys(scattered(200), OLD)).summary(request.prefix))
    walk.on_failure(fourth)
    assert walk.lied
    assert walk.is_over
    assert walk.differing == []


def test_an_answer_nobody_asked_for_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        Side({}).begin().on_answer(Digest("a"), Digests(0))
