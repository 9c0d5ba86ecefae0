"""Doing at once what need not wait, and the rest in a task."""

from __future__ import annotations

import asyncio

import pytest

from kademlia_node.node.eager import begin


async def test_what_waits_for_nothing_is_done_at_once() -> None:
    done: list[str] = []

    async def work() -> None:
        done.append("all")

    assert begin(work()) is None
    assert done == ["all"]


async def test_what_waits_goes_on_in_a_task_and_gives_its_result() -> None:
    first: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    done: list[object] = []

    async def work() -> str:
        done.append("begun")
        done.append(await first)
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return "ended"

    rest = begin(work())
    assert rest is not None
    assert done == ["begun"]
    task = asyncio.create_task(rest)
    await asyncio.sleep(0)
    first.set_result(7)
    assert await task == "ended"
    assert done == ["begun", 7]


async def test_what_it_waits_for_may_be_there_before_its_task_begins() -> None:
    first: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        return await first

    rest = begin(work())
    assert rest is not None
    first.set_result(7)
    assert await asyncio.create_task(rest) == 7


@pytest.mark.parametrize("waits", [False, True])
async def test_what_fails_says_so_to_whoever_runs_it(waits: bool) -> None:
    async def work() -> None:
        if waits:
            await asyncio.sleep(0)
        raise ZeroDivisionError

    async def run() -> None:
        if (rest := begin(work())) is not None:
            await asyncio.create_task(rest)

    with pytest.raises(ZeroDivisionError):
        await run()


async def test_a_failure_of_what_it_waits_for_is_its_own_to_handle() -> None:
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            await first
        except ZeroDivisionError:
            return "handled"
        return "not seen"

    rest = begin(work())
    assert rest is not None
    first.set_exception(ZeroDivisionError())
    assert await asyncio.create_task(rest) == "handled"


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_task_that_is_cancelled_leaves_nothing_open(has_begun: bool) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("cleaned up")

    started = work()
    rest = begin(started)
    assert rest is not None
    task = asyncio.create_task(rest)
    if has_begun:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert ended == (["cleaned up"] if has_begun else [])
    started.close()  # as whoever began it does, for it may not have been gone on with
    assert ended == ["cleaned up"]
