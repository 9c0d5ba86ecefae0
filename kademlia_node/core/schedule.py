"""What is due when: a heap of timeouts, so that a whole node needs one timer of its event loop.

Never looks at a clock and never calls anything. The shell arms one timer for `next_due`, and when
it fires acts on what `due` hands out. Items due at one instant come in the order of scheduling.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """One scheduled item, and the handle to cancel it; `pending` until it is due or cancelled."""

    when: float
    item: T
    pending: bool = True


class Schedule(Generic[T]):
    """Items by due time. `len` counts the pending ones; the heap is at most twice as long."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry[T]]] = []
        self._sequence = count()
        self._cancelled = 0  # of those in the heap

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def at(self, when: float, item: T) -> Entry[T]:
        """Schedule an item for the instant `when`."""
        entry = Entry(when, item)
        heapq.heappush(self._heap, (when, next(self._sequence), entry))
        return entry

    def cancel(self, entry: Entry[T]) -> None:
        """The item will not come up; ignored when it already did or was cancelled before."""
        if not entry.pending:
            return
        entry.pending = False
        self._cancelled += 1
        if self._cancelled * 2 > len(self._heap):
            self._heap = [slot for slot in self._heap if slot[2].pending]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_due(self) -> float | None:
        """When the earliest pending item is due; None without any."""
        while self._heap and not self._heap[0][2].pending:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> T | None:
        """Remove and return the earliest item, if it is due at `now` or before."""
        when = self.next_due()
        if when is None or when > now:
            return None
        entry = heapq.heappop(self._heap)[2]
        entry.pending = False
        return entry.item

    def due(self, now: float) -> list[T]:
        """Remove and return all items due at `now` or before, earliest first."""
        ready: list[T] = []
        while (item := self.take(now)) is not None:
            ready.append(item)
        return ready
