"""Sending again until there is an answer, or giving up: all attempts of a node on one timer.

An attempt knows how to transmit and whom to tell; what is transmitted (a DATA, an INIT, a WHO) is
the exchange's. Repeats wait twice as long each time (RFC 6298, 5.5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kademlia_node.core.schedule import Entry, Schedule


@dataclass(slots=True, eq=False, kw_only=True)
class Attempt:
    """One thing to get an answer to. Times in seconds; `sends` counts the first one too."""

    transmit: Callable[[], None]
    give_up: Callable[[], None]
    on_slow: Callable[[], None] | None
    sends: int
    rto_s: float
    slow_s: float
    timeout_s: float
    started: float = 0.0
    sent: int = 0
    stopped: bool = False
    entry: Entry[Attempt] | None = None
    _repeat_at: float = 0.0
    _slow_at: float | None = None

    def begin(self, now: float) -> None:
        """The first transmission."""
        self.started = now
        self._slow_at = now + self.slow_s if self.on_slow else None
        self._repeat(now)

    def wake(self, now: float) -> None:
        """Do what is due."""
        if now >= self.started + self.timeout_s:
            self.stopped = True
            self.give_up()
            return
        if self._slow_at is not None and now >= self._slow_at:
            self._slow_at = None
            assert self.on_slow is not None
            self.on_slow()
        if now >= self._repeat_at and self.sent < self.sends and not self.stopped:
            self._repeat(now)

    def next_wake(self) -> float:
        """When something will be due."""
        wake = self.started + self.timeout_s
        if self._slow_at is not None:
            wake = min(wake, self._slow_at)
        return min(wake, self._repeat_at) if self.sent < self.sends else wake

    def _repeat(self, now: float) -> None:
        self._repeat_at = now + self.rto_s * (1 << self.sent)
        self.sent += 1
        self.transmit()


class Attempts:
    """All attempts under way, woken by one timer of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._schedule: Schedule[Attempt] = Schedule()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = float("inf")

    def __len__(self) -> int:
        return len(self._schedule)

    def start(self, attempt: Attempt, *, now: float) -> None:
        """Transmit now, and go on until `stop` or until it gives up."""
        attempt.begin(now)
        self._await(attempt)

    def stop(self, attempt: Attempt) -> None:
        """It was answered, or nobody waits for it any more. Stopping twice is no mistake."""
        attempt.stopped = True
        if attempt.entry is not None:
            self._schedule.cancel(attempt.entry)
            attempt.entry = None

    def close(self) -> None:
        """Release the timer; what was under way never hears again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._schedule = Schedule()

    def _await(self, attempt: Attempt) -> None:
        attempt.entry = self._schedule.at(attempt.next_wake(), attempt)
        self._arm()

    def _arm(self) -> None:
        """A timer that is due too early is left alone: it finds nothing to do and arms the next."""
        due = self._schedule.next_due()
        if due is None or (self._timer is not None and self._armed_for <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer)
        self._armed_for = due

    def _wake(self, attempt: Attempt, now: float) -> None:
        """A caller's mistake is reported, and ends its own attempt only."""
        try:
            attempt.wake(now)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other attempts go on
            attempt.stopped = True
            message = "what an attempt called has failed"
            self._loop.call_exception_handler({"message": message, "exception": error})

    def _on_timer(self) -> None:
        self._timer = None
        now = max(self._loop.time(), self._armed_for)  # a loop may fire a clock tick early
        for attempt in self._schedule.due(now):
            attempt.entry = None
            if not attempt.stopped:  # by another one of this very turn
                self._wake(attempt, now)
            if not attempt.stopped:
                self._await(attempt)
        self._arm()
