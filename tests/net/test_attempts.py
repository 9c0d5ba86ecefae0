from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kademlia_node.net.attempts import Attempt, Attempts
from kademlia_node.sim import VirtualLoop


class Log:
    """What an attempt did, and when."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str]] = []

    def note(self, what: str) -> Callable[[], None]:
        return lambda: self.events.append((asyncio.get_running_loop().time(), what))

    def attempt(
        self,
        *,
        sends: int = 3,
        rto_s: float = 1.0,
        slow_s: float | None = None,
        timeout_s: float = 10.0,
    ) -> Attempt:
        return Attempt(
            transmit=self.note("send"),
            give_up=self.note("give up"),
            on_slow=None if slow_s is None else self.note("slow"),
            sends=sends,
            rto_s=rto_s,
            slow_s=slow_s or 0.0,
            timeout_s=timeout_s,
        )


def start(attempts: Attempts, attempt: Attempt) -> Attempt:
    attempts.start(attempt, now=asyncio.get_running_loop().time())
    return attempt


async def test_sends_again_after_doubling_waits_and_then_gives_up() -> None:
    attempts, log = Attempts(asyncio.get_running_loop()), Log()
    attempt = start(attempts, log.attempt(sends=3, rto_s=1.0, timeout_s=7.0))
    await asyncio.sleep(100.0)
    assert log.events == [(0.0, "send"), (1.0, "send"), (3.0, "send"), (7.0, "give up")]
    assert attempt.sent == 3
    assert attempt.stopped
    assert len(attempts) == 0


async def test_an_attempt_that_is_due_before_all_others_is_not_kept_waiting() -> None:
    attempts, late, early = Attempts(asyncio.get_running_loop()), Log(), Log()
    start(attempts, late.attempt(sends=1, timeout_s=10.0))
    start(attempts, early.attempt(sends=2, rto_s=1.0, timeout_s=2.0))
    await asyncio.sleep(100.0)
    assert early.events == [(0.0, "send"), (1.0, "send"), (2.0, "give up")]
    assert late.events == [(0.0, "send"), (10.0, "give up")]


async def test_slow_is_told_once_between_the_sendings() -> None:
    attempts, log = Attempts(asyncio.get_running_loop()), Log()
    start(attempts, log.attempt(sends=2, rto_s=1.0, slow_s=0.5, timeout_s=3.0))
    await asyncio.sleep(100.0)
    assert log.events == [(0.0, "send"), (0.5, "slow"), (1.0, "send"), (3.0, "give up")]


async def test_what_is_due_at_one_instant_is_all_done_then() -> None:
    attempts, log = Attempts(asyncio.get_running_loop()), Log()
    start(attempts, log.attempt(sends=2, rto_s=1.0, slow_s=1.0, timeout_s=3.0))
    await asyncio.sleep(1.0)
    await asyncio.sleep(0.0)
    assert log.events == [(0.0, "send"), (1.0, "slow"), (1.0, "send")]


async def test_a_stopped_attempt_is_never_heard_of_again() -> None:
    attempts, log = Attempts(asyncio.get_running_loop()), Log()
    attempt = start(attempts, log.attempt())
    attempts.stop(attempt)
    attempts.stop(attempt)
    await asyncio.sleep(100.0)
    assert log.events == [(0.0, "send")]
    assert len(attempts) == 0


@pytest.mark.parametrize("moment", ["slow", "give up"])
async def test_an_attempt_may_stop_itself_and_others_that_are_due_with_it(moment: str) -> None:
    attempts, log = Attempts(asyncio.get_running_loop()), Log()
    slow_s, timeout_s = (1.0, 5.0) if moment == "slow" else (None, 1.0)
    pair = [log.attempt(rto_s=1.0, slow_s=slow_s, timeout_s=timeout_s) for _ in range(2)]

    told = []

    def stop_both() -> None:
        told.append(moment)
        for attempt in pair:
            attempts.stop(attempt)

    for attempt in pair:
        if moment == "slow":
            attempt.on_slow = stop_both
        else:
            attempt.give_up = stop_both
        start(attempts, attempt)
    await asyncio.sleep(100.0)
    assert log.events == [(0.0, "send"), (0.0, "send")]
    assert len(attempts) == 0
    assert told == [moment]


async def test_an_attempt_may_start_another_one_when_it_ends() -> None:
    attempts, log = Attempts(asyncio.get_running_loop()), Log()
    first = log.attempt(sends=1, timeout_s=1.0)
    first.give_up = lambda: attempts.start(log.attempt(sends=1, timeout_s=0.5), now=1.0)
    start(attempts, first)
    await asyncio.sleep(100.0)
    assert log.events == [(0.0, "send"), (1.0, "send"), (1.5, "give up")]


async def test_close_ends_everything_and_a_later_start_works_all_the_same() -> None:
    attempts, log = Attempts(asyncio.get_running_loop()), Log()
    old = start(attempts, log.attempt())
    attempts.close()
    attempts.close()
    assert len(attempts) == 0
    start(attempts, log.attempt(sends=1, timeout_s=50.0))
    attempts.stop(old)
    await asyncio.sleep(100.0)
    assert log.events == [(0.0, "send"), (0.0, "send"), (50.0, "give up")]


async def test_one_timer_of_the_loop_serves_any_number_of_attempts() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    attempts, log = Attempts(loop), Log()
    before, armed, started = loop.timers, [], []
    for number in range(1000):
        started.append(start(attempts, log.attempt(rto_s=10.0 - number / 1000, timeout_s=70.0)))
        armed.append(loop.timers - before)
    for attempt in started[::2]:
        attempts.stop(attempt)
    for _ in range(80):
        await asyncio.sleep(1.0)
        armed.append(loop.timers - before)
    assert sum(what == "give up" for _, what in log.events) == 500
    assert max(armed) == 1
    assert armed[-1] == 0


async def test_a_mistake_of_one_caller_does_not_stop_the_attempts_of_others() -> None:
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    attempts, given_up = Attempts(loop), []

    def fail() -> None:
        raise ZeroDivisionError

    for give_up in (fail, lambda: given_up.append(loop.time())):
        attempt = Attempt(
            transmit=lambda: None,
            give_up=give_up,
            on_slow=None,
            sends=1,
            rto_s=1.0,
            slow_s=1.0,
            timeout_s=1.0,
        )
        attempts.start(attempt, now=loop.time())
    await asyncio.sleep(2.0)
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert given_up == [1.0]
