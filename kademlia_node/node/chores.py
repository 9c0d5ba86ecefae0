"""Which chores a node has, and what each of them does. When they run is `upkeep`'s business."""

from __future__ import annotations

from kademlia_node.core.message import Ping, Response
from kademlia_node.node.join import Joiner
from kademlia_node.node.reach import Reach
from kademlia_node.node.renew import Renewer
from kademlia_node.node.state import NodeState
from kademlia_node.node.upkeep import Upkeep


def plan_chores(
    upkeep: Upkeep, state: NodeState, *, joiner: Joiner, reach: Reach, renewer: Renewer
) -> None:
    """Tell the upkeep of a node everything that is to be done again and again."""
    settings = state.settings
    rejoining = Rejoining(state, joiner)
    upkeep.add("join", rejoining.do, every_s=settings.join_retry_s)

    async def measure() -> None:
        await joiner.measure()

    async def refresh() -> None:
        """One stale bucket a run, so that a node that wakes up makes no burst."""
        stale = state.table.stale_buckets(state.loop.time())
        if stale:
            await joiner.refresh(stale[0])

    async def check() -> None:
        for contact in state.table.due_checks(state.loop.time(), settings.checks_per_run):
            state.exchange.send(contact, Ping(), on_done=_ignore)

    async def sweep() -> None:
        await state.store.sweep(wall=state.wall())
        state.exchange.sweep()

    upkeep.add("measure", measure, every_s=settings.refresh_s, first_s=settings.measure_after_s)
    upkeep.add("refresh", refresh, every_s=settings.refresh_every_s)
    upkeep.add("check", check, every_s=settings.check_every_s)
    upkeep.add("renew", renewer.renew_some, every_s=settings.renew_every_s)
    upkeep.add("probe", reach.probe, every_s=settings.probe_s, first_s=settings.measure_after_s)
    upkeep.add("sweep", sweep, every_s=settings.sweep_s)


class Rejoining:
    """Joins again while nobody is known, ever more slowly; or when we have become a server."""

    def __init__(self, state: NodeState, joiner: Joiner) -> None:
        self._state = state
        self._joiner = joiner
        self._pause_s = state.settings.join_retry_s

    async def do(self) -> float:
        """Returns the seconds until the next look."""
        settings = self._state.settings
        if self._joiner.has_joined or await self._joiner.join():
            self._pause_s = settings.join_retry_s
            return settings.join_retry_max_s
        self._pause_s = min(2 * self._pause_s, settings.join_retry_max_s)
        return self._pause_s


def _ignore(_: Response | None) -> None:
    """The exchange tells the table who was heard and who was not."""
