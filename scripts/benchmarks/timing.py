"""How long one operation takes, and what several measurements of one thing say together.

An operation is called many times in a row, several times over. What it needs is made beforehand,
outside of the time; the garbage collector runs as it does in a node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, TypeVar

CALLS_MAX: Final = 10_000  # of one repeat: what they need is made beforehand, and kept meanwhile
Figures = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often it is measured, and for about how long each time."""

    repeats: int = 7
    repeat_s: float = 0.05


def microseconds(
    do: Callable[[T], object], make: Callable[[int], Sequence[T]], *, pace: Pace
) -> Figures:
    """Of one call of `do`: in the best repeat, and in the median one.

    Args:
        do: The operation.
        make: Gives so many arguments, one for each call; asked anew for each repeat.
        pace: How often, and for how long.
    """
    calls = _calls_within(pace.repeat_s, do, make)
    took_s = [_seconds(do, make(calls)) / calls for _ in range(pace.repeats)]
    return {"best_us": 1e6 * min(took_s), "median_us": 1e6 * median(took_s)}


def same(argument: T) -> Callable[[int], Sequence[T]]:
    """The `make` of an operation that can be done to one thing again and again."""
    return lambda count: [argument] * count


def spread(figures: Sequence[float]) -> Figures:
    """Their median and their range."""
    return {"median": median(figures), "from": min(figures), "to": max(figures)}


def _calls_within(repeat_s: float, do: Callable[[T], object], make: Callable[[int], Any]) -> int:
    """How many calls take about so long; trying it out warms up the operation, too."""
    calls = 1
    while calls < CALLS_MAX and _seconds(do, make(calls)) < repeat_s / 2:
        calls = min(2 * calls, CALLS_MAX)
    return calls


def _seconds(do: Callable[[T], object], arguments: Sequence[T]) -> float:
    started = time.perf_counter()
    for argument in arguments:
        do(argument)
    return time.perf_counter() - started
