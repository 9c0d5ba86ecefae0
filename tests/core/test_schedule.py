"""The heap of timeouts, against a plain sorted list."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kademlia_node.core.schedule import Entry, Schedule


def test_an_empty_schedule_is_never_due() -> None:
    schedule = Schedule[str]()
    assert schedule.next_due() is None
    assert schedule.due(1e9) == []
    assert len(schedule) == 0


def test_items_come_up_in_order_of_time_and_not_before() -> None:
    schedule = Schedule[str]()
    schedule.at(3.0, "late")
    schedule.at(1.0, "early")
    assert schedule.next_due() == 1.0
    assert schedule.due(0.9) == []
    assert schedule.due(1.0) == ["early"]
    assert schedule.next_due() == 3.0
    assert schedule.due(9.0) == ["late"]
    assert schedule.next_due() is None


def test_items_of_one_instant_come_up_in_the_order_of_scheduling() -> None:
    schedule = Schedule[object]()
    unorderable = [object() for _ in range(50)]
    for item in unorderable:
        schedule.at(7.0, item)
    assert schedule.due(7.0) == unorderable


def test_a_cancelled_item_never_comes_up() -> None:
    schedule = Schedule[str]()
    first = schedule.at(1.0, "a")
    schedule.at(2.0, "b")
    schedule.at(3.0, "c")
    schedule.cancel(first)
    assert not first.pending
    assert len(schedule) == 2
    assert schedule.next_due() == 2.0
    assert schedule.due(5.0) == ["b", "c"]


def test_cancelling_twice_or_too_late_changes_nothing() -> None:
    schedule = Schedule[str]()
    done, gone = schedule.at(1.0, "done"), schedule.at(2.0, "gone")
    for when in range(3, 9):
        schedule.at(when, "stays")
    assert schedule.due(1.0) == ["done"]
    for _ in range(3):
        schedule.cancel(done)
        schedule.cancel(gone)
    assert len(schedule) == 6


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("at"), st.integers(0, 20)),
            st.tuples(st.just("cancel"), st.integers(0, 200)),
            st.tuples(st.just("due"), st.integers(0, 20)),
        ),
        max_size=80,
    )
)
def test_any_sequence_of_calls_agrees_with_a_sorted_list(steps: list[tuple[str, int]]) -> None:
    schedule = Schedule[int]()
    entries: list[Entry[int]] = []
    waiting: list[tuple[float, int]] = []
    for verb, number in steps:
        if verb == "at":
            waiting.append((float(number), len(entries)))
            entries.append(schedule.at(float(number), len(entries)))
        elif verb == "cancel" and entries:
            victim = entries[number % len(entries)]
            schedule.cancel(victim)
            waiting = [slot for slot in waiting if slot[1] != victim.item]
        elif verb == "due":
            ready = sorted(slot for slot in waiting if slot[0] <= number)
            assert schedule.due(float(number)) == [item for _, item in ready]
            waiting = [slot for slot in waiting if slot[0] > number]
        assert len(schedule) == len(waiting)
        assert schedule.next_due() == min((when for when, _ in waiting), default=None)


def test_cancelled_items_are_let_go_before_they_are_due() -> None:
    alive: set[int] = set()

    class Item:
        def __init__(self) -> None:
            alive.add(id(self))

        def __del__(self) -> None:
            alive.discard(id(self))

    schedule = Schedule[Item]()
    for when in range(100):
        schedule.at(1e9 + when, Item())
    for when in range(5000):
        schedule.cancel(schedule.at(1e9 + when, Item()))
    assert len(alive) <= 201


def test_the_order_survives_many_cancellations() -> None:
    rng, schedule = Random(1), Schedule[float]()
    entries = [schedule.at(when, when) for when in (rng.random() for _ in range(1000))]
    for entry in entries[:800]:
        schedule.cancel(entry)
    assert schedule.due(1.0) == sorted(entry.item for entry in entries[800:])
