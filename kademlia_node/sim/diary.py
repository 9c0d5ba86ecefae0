"""What happened in a simulated run, for people: a moment and a sentence each, the latest ones.

It refuses to know who writes into it. Moments are seconds of the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

EVENTS_MAX: Final = 100_000  # 20 MB; a run that fails is told by its last minutes


class Event(NamedTuple):
    """One thing that happened."""

    at_s: float
    text: str

    def __str__(self) -> str:
        return f"{self.at_s:10.3f} s  {self.text}"


class Diary:
    """Events in order of time; beyond `EVENTS_MAX` the oldest are forgotten."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=EVENTS_MAX)

    def note(self, text: str) -> None:
        """It happened now."""
        self._events.append(Event(asyncio.get_running_loop().time(), text))

    def between(self, first_s: float, last_s: float) -> list[Event]:
        """The events from one moment to another."""
        return [event for event in self._events if first_s <= event.at_s <= last_s]
