"""What goes on behind a verb that has returned already, for as long as the node runs.

A task that fails is logged and ends alone; all others end with the node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger(__name__)


class Background:
    """The tasks of one node that nobody waits for."""

    def __init__(self) -> None:
        self._tasks: asyncio.TaskGroup | None = None
        self._begun = asyncio.Event()

    async def run(self) -> None:
        """Hold the tasks, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None

    async def begun(self) -> None:
        """Wait until there is somebody to hold the tasks."""
        await self._begun.wait()

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None] | None:
        """Do this from now on; a node that has stopped does nothing, and returns None.

        Whoever wants it no more may cancel the task.
        """
        if self._tasks is None:
            work.close()
            return None
        task = self._tasks.create_task(self._do(work))
        task.add_done_callback(lambda _: work.close())  # it may be cancelled before it begins
        return task

    async def _do(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("something behind a verb has failed")
