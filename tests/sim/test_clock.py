from __future__ import annotations

import asyncio
import gc
import math
import socket
import time

import pytest

from kademlia_node.sim import VirtualLoop, run


def now() -> float:
    return asyncio.get_running_loop().time()


def test_an_hour_of_sleep_takes_no_time() -> None:
    async def main() -> float:
        assert now() == 0.0
        await asyncio.sleep(3600)
        return now()

    started = time.monotonic()
    assert run(main()) == 3600.0
    assert time.monotonic() - started < 1.0


def test_a_run_collects_garbage_seldom_and_leaves_the_collector_as_it_was() -> None:
    async def main() -> tuple[int, int, int]:
        return gc.get_threshold()

    async def fail() -> None:
        raise LookupError

    usual = gc.get_threshold()
    assert run(main())[0] > usual[0]
    assert gc.get_threshold() == usual
    with pytest.raises(LookupError):
        run(fail())
    assert gc.get_threshold() == usual


async def test_async_tests_run_in_virtual_time() -> None:
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)


@pytest.mark.net
async def test_tests_marked_net_run_in_real_time() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)


async def test_clock_stands_still_while_something_is_ready() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)
    assert now() == 0.0


@pytest.mark.parametrize("start", [0.0, 0.1, 3.3e6, 1e9, 2.0**52])
async def test_timers_run_at_exactly_their_moment(start: float) -> None:
    # At 1e9 s a float's grain is coarser than asyncio's nanosecond of tolerance.
    seen: list[tuple[float, float]] = []
    loop = asyncio.get_running_loop()
    await asyncio.sleep(start)
    first = math.nextafter(start, math.inf)
    moments = [first, math.nextafter(first, math.inf), start + 0.7, start + 90_000.1]

    def note(moment: float) -> None:
        seen.append((moment, loop.time()))

    for moment in moments:
        loop.call_at(moment, note, moment)
    await asyncio.sleep(0)
    assert not seen
    await asyncio.sleep(100_000.0)
    assert seen == [(moment, moment) for moment in sorted(moments)]


async def test_timers_in_the_past_run_at_once() -> None:
    await asyncio.sleep(10.0)
    ran = asyncio.Event()
    asyncio.get_running_loop().call_at(3.0, ran.set)
    await ran.wait()
    assert now() == 10.0


async def test_cancelled_timers_do_not_move_the_clock() -> None:
    loop = asyncio.get_running_loop()
    for delay_s in range(1, 500):
        loop.call_later(delay_s, pytest.fail).cancel()
    await asyncio.sleep(1000.0)
    assert now() == 1000.0


async def test_timers_that_are_set_are_counted() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    before = loop.timers
    first, second = (loop.call_later(delay, int) for delay in (1.0, 2.0))
    assert loop.timers == before + 2
    first.cancel()
    assert loop.timers == before + 1
    await asyncio.sleep(3.0)
    assert loop.timers == before
    second.cancel()  # after its turn
    many = [loop.call_later(9.0, pytest.fail) for _ in range(1000)]
    assert loop.timers == before + 1000
    for timer in many:
        timer.cancel()
    assert loop.timers == before
    await asyncio.sleep(1.0)
    assert loop.timers == before


async def test_timers_that_are_left_among_many_cancelled_ones_run_in_order() -> None:
    """So many that the heap is built anew, and some are cancelled once more."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    before, order = loop.timers, list[float]()
    for _ in range(3):
        delays_s = [(7 * number) % 1000 / 100 for number in range(1000)]
        timers = [loop.call_later(delay_s, order.append, delay_s) for delay_s in delays_s]
        for timer in timers[:900]:
            timer.cancel()
            timer.cancel()
        await asyncio.sleep(0)
        assert loop.timers == before + 100
        await asyncio.sleep(10.0)
        assert order == sorted(delays_s[900:])
        assert loop.timers == before
        order.clear()


async def test_a_timer_may_be_cancelled_by_another_of_its_moment() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    before = loop.timers
    timers: list[asyncio.TimerHandle] = []

    def cancel() -> None:
        timers[0].cancel()

    loop.call_at(5.0, cancel)
    timers.append(loop.call_at(5.0, pytest.fail))
    await asyncio.sleep(6.0)
    assert loop.timers == before


def test_when_a_callback_raises_the_others_of_its_turn_run_and_the_loop_ends() -> None:
    ran: list[float] = []
    loops: list[VirtualLoop] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loops.append(loop)
        loop.call_at(5.0, dict[str, str]().__getitem__, "nothing")
        loop.call_at(5.0, ran.append, 5.0)
        loop.call_at(7.0, ran.append, 7.0)
        await asyncio.sleep(9.0)

    with pytest.raises(KeyError, match="nothing"):
        run(main())
    assert ran == [5.0]
    assert loops[0].timers == 0


async def test_timers_of_one_moment_run_in_the_order_in_which_they_were_set() -> None:
    order: list[int] = []
    loop = asyncio.get_running_loop()
    for number in range(50):
        loop.call_at(5.0, order.append, number)
    await asyncio.sleep(5.0)
    assert order == list(range(50))


async def test_wait_for_gives_up_at_its_moment() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 2.5)
    assert now() == 2.5


async def test_timeout_leaves_what_is_faster_alone() -> None:
    async with asyncio.timeout(2.0):
        await asyncio.sleep(1.0)
    assert now() == 1.0


def test_deadlock_is_an_error_that_names_the_waiting_tasks() -> None:
    ended: list[str] = []

    async def waits_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(RuntimeError, match=r"deadlock: (.|\n)*waits_for_ever"):
        run(waits_for_ever())
    assert ended == ["cancelled"]


def test_a_loop_in_which_no_time_passes_is_an_error() -> None:
    async def spin() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_soon(again)

        await asyncio.sleep(7.0)
        again()
        await loop.create_future()

    with pytest.raises(RuntimeError, match=r"time stands still: .* at 7\.000 s"):
        run(spin())


def test_run_cancels_what_is_left() -> None:
    ended: list[float] = []

    async def left_over() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(now())

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(left_over())
        await asyncio.sleep(1.0)
        return task

    assert run(main()).cancelled()
    assert ended == [1.0]


def test_exception_in_a_callback_ends_the_run(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1.0, lambda: 1 / 0)
        await asyncio.sleep(2.0)

    with pytest.raises(ZeroDivisionError):
        run(main())
    assert "ZeroDivisionError" in caplog.text


async def test_exception_that_escaped_no_callback_does_not_end_the_run() -> None:
    context = {"message": "nobody looked at a task's result", "exception": ValueError()}
    asyncio.get_running_loop().call_exception_handler(context)
    await asyncio.sleep(1.0)
    assert now() == 1.0


async def test_threads_are_refused() -> None:
    with pytest.raises(RuntimeError, match="no threads"):
        await asyncio.to_thread(time.monotonic)


async def test_name_resolution_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no threads"):
        await asyncio.get_running_loop().getaddrinfo("localhost", 80)


async def test_sockets_are_refused() -> None:
    ends = socket.socketpair()
    try:
        with pytest.raises(RuntimeError, match="no sockets"):
            asyncio.get_running_loop().add_reader(ends[0], pytest.fail)
    finally:
        for end in ends:
            end.close()
