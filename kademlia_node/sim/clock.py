"""An asyncio event loop whose clock jumps: an hour of sleep takes no time at all.

Whenever nothing is ready to run, the clock moves exactly to the moment of the next timer. It knows
no wall clock, no thread and no socket, so a run depends on nothing but the program: same program,
same seeds, same order of events. Timers of one moment run in the order in which they were set.

Drive it with `run(main())`, or give `VirtualLoop` to `asyncio.Runner` as its loop factory.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple

TURNS_MAX = 1_000_000  # of the loop at one moment; a swarm of ten thousand takes some hundreds
CANCELLED_MIN: Final = 100  # fewer cancelled timers are not worth a look at all
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

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


class _Timer(asyncio.TimerHandle):
    """A timer that knows whether it is in the heap."""

    is_in_heap = True


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that never waits; `time()` starts at 0.0 seconds and is moved by timers alone.

    It raises RuntimeError where a real loop would hang, or where the outside world would come in:
    when nothing can ever happen again (a deadlock), when everything happens at one moment, and when
    somebody asks for a thread, a name to resolve or a socket. An exception that escapes a callback
    ends the run instead of a log line.
    """

    _ready: deque[asyncio.Handle]  # of BaseEventLoop: what runs in the next turn
    _stopping: bool
    _check_closed: Callable[[], None]

    def __init__(self) -> None:
        self._now = 0.0
        self._escaped: BaseException | None = None
        self._turns = 0  # since the clock moved
        self._timers: list[tuple[float, int, _Timer]] = []  # a heap
        self._timers_ever = 0
        self._timers_cancelled = 0  # of those in the heap
        super().__init__(_NoSockets())

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    @property
    def timers(self) -> int:
        """How many are set and not cancelled."""
        return len(self._timers) - self._timers_cancelled

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule a callback; those of one moment run in the order of these calls."""
        self._check_closed()
        timer = _Timer(when, callback, args, self, context)
        self._timers_ever += 1
        heapq.heappush(self._timers, (when, self._timers_ever, timer))
        return timer

    def _timer_handle_cancelled(self, timer: _Timer) -> None:
        """Called by each timer that is cancelled, in the heap or not."""
        self._timers_cancelled += timer.is_in_heap

    def close(self) -> None:
        """Forget all timers, and what they would have called."""
        self._timers.clear()
        self._timers_cancelled = 0
        super().close()

    def run_in_executor(self, _executor: object, func: object, *_args: object) -> NoReturn:
        """Refuse: a thread finishes when it likes (`to_thread` and `getaddrinfo` end here too)."""
        raise RuntimeError(f"no threads under virtual time: {func!r} asked for one")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log, and end the run before its next turn if the exception escaped a callback."""
        super().default_exception_handler(context)
        if "handle" in context:
            self._escaped = context.get("exception")

    def _run_once(self) -> None:
        """One turn; replaces BaseEventLoop's, which would wait in a selector and read the time."""
        if self._escaped is not None:
            escaped, self._escaped = self._escaped, None
            raise escaped
        self._forget_cancelled()
        self._move_clock()
        ready, timers, now = self._ready, self._timers, self._now
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            timer.is_in_heap = False
            self._timers_cancelled -= timer.cancelled()
            ready.append(timer)
        for _ in range(len(ready)):  # what these make ready has its turn after this one
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001  # as BaseEventLoop does

    def _forget_cancelled(self) -> None:
        """A cancelled timer must not move the clock, nor many of them fill the heap."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
            self._timers_cancelled -= 1
        if self._timers_cancelled > max(CANCELLED_MIN, len(timers) // 2):
            self._timers = [entry for entry in timers if not entry[2].cancelled()]
            heapq.heapify(self._timers)
            self._timers_cancelled = 0

    def _move_clock(self) -> None:
        """If nothing is ready, it is the time of the next timer."""
        if self._ready or self._stopping or (self._timers and self._timers[0][0] <= self._now):
            self._turns += 1
            if self._turns > TURNS_MAX:
                raise RuntimeError(f"time stands still: {TURNS_MAX} turns at {self._now:.3f} s")
        elif self._timers:
            self._turns = 0
            self._now = self._timers[0][0]
        else:
            tasks = sorted(repr(task) for task in asyncio.all_tasks(self))
            raise RuntimeError("\n  ".join(["deadlock: no timer is set, all tasks wait:", *tasks]))


class _NoSockets(selectors.SelectSelector):
    """A selector that takes nothing but the pipe by which its loop would wake itself."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Refuse all but the first."""
        if len(self.get_map()) > 0:
            raise RuntimeError("no sockets under virtual time: use a SimNetwork")
        return super().register(fileobj, events, data)
