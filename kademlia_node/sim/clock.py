"""An asyncio event loop whose clock jumps: an hour of sleep takes no time at all.

Whenever nothing is ready to run, the clock moves exactly to the moment of the next timer. It knows
no wall clock, no thread and no socket, so a run depends on nothing but the program: same program,
same seeds, same order of events. Timers of one and the same moment run in an order that is fixed,
but not first come, first served.

Drive it with `run(main())`, or give `VirtualLoop` to `asyncio.Runner` as its loop factory.
"""

from __future__ import annotations

import asyncio
import gc
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, TypeVar

TURNS_MAX = 1_000_000  # of the loop at one moment; a swarm of ten thousand takes some hundreds
T = TypeVar("T")

# A thousand nodes are millions of objects that stay, and nodes at work leave no cycles behind. With
# Python's own numbers (700, 10, 10) a sixth of all time goes into walks over them in vain.
GC_THRESHOLD: Final = (100_000, 20, 100)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a fresh `VirtualLoop`; cancel what is left and close the loop.

    Meanwhile the garbage collector looks for cycles less often than it uses to.

    Raises:
        RuntimeError: a deadlock, or something that virtual time has no place for (see
            `VirtualLoop`).
    """
    usual = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLD)
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main)
    finally:
        gc.set_threshold(*usual)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that never waits; `time()` starts at 0.0 seconds and is moved by timers alone.

    It raises RuntimeError where a real loop would hang, or where the outside world would come in:
    when nothing can ever happen again (a deadlock), when everything happens at one moment, and when
    somebody asks for a thread, a name to resolve or a socket. An exception that escapes a callback
    ends the run instead of a log line.
    """

    _scheduled: list[asyncio.TimerHandle]  # the heap of timers of BaseEventLoop
    _clock_resolution: float  # timers less than this ahead of the clock are due

    def __init__(self) -> None:
        self._now = 0.0
        self._escaped: BaseException | None = None
        self._turns = 0  # since the clock moved
        super().__init__(_NeverWaits(self._before_turn))
        self._clock_resolution = math.ulp(0.0)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    @property
    def timers(self) -> int:
        """How many are set."""
        return sum(not timer.cancelled() for timer in self._scheduled)

    def run_in_executor(self, _executor: object, func: object, *_args: object) -> NoReturn:
        """Refuse: a thread finishes when it likes (`to_thread` and `getaddrinfo` end here too)."""
        raise RuntimeError(f"no threads under virtual time: {func!r} asked for one")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log, and end the run before its next turn if the exception escaped a callback."""
        super().default_exception_handler(context)
        if "handle" in context:
            self._escaped = context.get("exception")

    def _before_turn(self, timeout: float | None) -> None:
        """Stand in for the wait of the selector: 0 is "something is ready", None "for ever"."""
        if self._escaped is not None:
            escaped, self._escaped = self._escaped, None
            raise escaped
        if timeout is None:
            tasks = sorted(repr(task) for task in asyncio.all_tasks(self))
            raise RuntimeError("\n  ".join(["deadlock: no timer is set, all tasks wait:", *tasks]))
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise RuntimeError(f"time stands still: {TURNS_MAX} turns at {self._now:.3f} s")
        if timeout > 0.0:
            self._turns = 0
            # Not `+= timeout`: rounding, and the loop's own limit of a day, would miss the moment.
            self._now = self._scheduled[0].when()
            # The loop runs timers *before* now + resolution. A fixed nanosecond is too coarse for
            # exactness at first and rounds away after some months, when the loop would spin.
            self._clock_resolution = math.ulp(self._now)


class _NeverWaits(selectors.SelectSelector):
    """A selector that sees no events; it lets its loop decide what the time is instead."""

    def __init__(self, before_turn: Callable[[float | None], None]) -> None:
        super().__init__()
        self._before_turn = before_turn

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if len(self.get_map()) > 0:  # the first is the pipe by which the loop wakes itself
            raise RuntimeError("no sockets under virtual time: use a SimNetwork")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._before_turn(timeout)
        return []
