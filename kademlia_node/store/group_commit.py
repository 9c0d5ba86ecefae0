"""One thread that owns the tables of a store, and one commit for all that waited for it.

While a group is being committed the next one gathers: under load a commit, and with
`Durability.POWER` its wait for the disk, is shared by many; without load nothing is delayed. Nobody
is answered before the commit, reads included: they may have seen what was not kept yet.

When a group cannot be committed it is undone and its jobs are done again, one by one, so one that
finds no room on the disk takes no other down with it. A job must therefore bear being done twice.

Refuses to know what the jobs do. Driven by `start`, `run` and `close` in an event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from kademlia_node.store.tables import Tables

T = TypeVar("T")
Answer = Callable[[], None]
"""Tells one waiter how it went; to be called in the event loop."""


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    work: Callable[[Tables], T]
    waiter: asyncio.Future[T]
    alone: bool

    def do(self, tables: Tables) -> Answer:
        return partial(_resolve, self.waiter, self.work(tables))

    def fail(self, error: Exception) -> Answer:
        return partial(_fail, self.waiter, error)


class GroupCommit:
    """Does jobs on tables in a thread of its own. Made by `start`."""

    def __init__(self, *, group_max: int) -> None:
        self._group_max = group_max
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()  # None: no more will come
        self._closing = False
        self._ended = asyncio.Event()

    @classmethod
    async def start(cls, open_tables: Callable[[], Tables], *, group_max: int) -> GroupCommit:
        """Start the thread; there, `open_tables` is called first, and what it raises is raised.

        Args:
            open_tables: makes the tables, which belong to the thread.
            group_max: jobs that share one commit.
        """
        commits = cls(group_max=group_max)
        opened: asyncio.Future[None] = commits._loop.create_future()
        # A daemon: a process that ends without `close` ends all the same, as if it was killed.
        threading.Thread(
            target=commits._main, args=(open_tables, opened), name="store", daemon=True
        ).start()
        try:
            await opened
        except asyncio.CancelledError:
            await commits.close()  # else the thread would hold the file for ever
            raise
        return commits

    async def run(self, work: Callable[[Tables], T], *, alone: bool = False) -> T:
        """What `work` returns, once everything it wrote is committed.

        Args:
            work: called in the thread; if it raises, nothing of it is kept and this raises it too.
            alone: in a transaction that no other job shares.
        """
        assert not self._closing, "a closed store is asked for nothing"
        waiter: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, waiter, alone))
        return await waiter

    async def close(self) -> None:
        """Do what waits, close the tables, end the thread."""
        if not self._closing:
            self._closing = True
            self._jobs.put(None)
        await self._ended.wait()

    # --- In the thread ----------------------------------------------------------------------------

    def _main(self, open_tables: Callable[[], Tables], opened: asyncio.Future[None]) -> None:
        try:
            tables = open_tables()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._tell([partial(_fail, opened, error), self._ended.set])
            return
        self._tell([partial(_resolve, opened, None)])
        while True:
            gathered = self._gather()
            jobs = [job for job in gathered if job is not None]
            self._tell(_do(tables, jobs))
            if gathered[-1] is None:
                break
        tables.close()
        self._tell([self._ended.set])

    def _gather(self) -> Sequence[_Job[Any] | None]:
        """All that waits, at least one."""
        gathered = [self._jobs.get()]
        with suppress(Empty):
            while len(gathered) < self._group_max:
                gathered.append(self._jobs.get_nowait())
        return gathered

    def _tell(self, answers: Sequence[Answer]) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_give, answers)


def _do(tables: Tables, jobs: Sequence[_Job[Any]]) -> Sequence[Answer]:
    if len(jobs) > 1 and not any(job.alone for job in jobs):
        with suppress(Exception):  # it comes up again, from the job that is to blame
            return _commit(tables, jobs)
    answers: list[Answer] = []
    for job in jobs:
        try:
            answers += _commit(tables, [job])
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            answers.append(job.fail(error))
    return answers


def _commit(tables: Tables, jobs: Sequence[_Job[Any]]) -> Sequence[Answer]:
    """Do them in one transaction, or not at all."""
    try:
        tables.begin()
        answers = [job.do(tables) for job in jobs]
        tables.commit()
    except BaseException:
        tables.rollback()
        raise
    return answers


# --- In the event loop ----------------------------------------------------------------------------


def _give(answers: Sequence[Answer]) -> None:
    for answer in answers:
        answer()


def _resolve(waiter: asyncio.Future[T], result: T) -> None:
    if not waiter.done():  # else its coroutine was cancelled
        waiter.set_result(result)


def _fail(waiter: asyncio.Future[Any], error: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(error)
