"""Which chores a node has, and what each of them does. When they run is `upkeep`'s business."""

from __future__ import annotations

from collections.abc import Callable

from kademlia_node.core.message import Ping, Response
from kademlia_node.node.join import Joiner
from kademlia_node.node.reach import Reach
from kademlia_node.node.rejoin import Rejoining, Reunion
from kademlia_node.node.renew import Renewer
from kademlia_node.node.repair import Repairer
from kademlia_node.node.republish import Republisher
from kademlia_node.node.state import NodeState
from kademlia_node.node.upkeep import Did, Upkeep
from kademlia_node.store.base import Place


def plan_chores(
    upkeep: Upkeep, state: NodeState, *, joiner: Joiner, reach: Reach, renewer: Renewer,
    recalled: bool,
) -> None:  # fmt: skip
    """Tell the upkeep of a node everything that is to be done again and again."""
    settings = state.settings
    rejoining, reunion = Rejoining(state, joiner), Reunion(state)

    async def join() -> Did:
        """Tells how many that had been lost were heard again."""
        pause_s = await rejoining.do()
        return Did((await reunion.do()).count, pause_s)

    async def check() -> Did:
        due = state.table.due_checks(state.loop.time(), settings.checks_per_run)
        for contact in due:
            sends = None if state.table.is_live(contact.id) else 1  # the next check repeats it
            state.exchange.send(contact, Ping(), on_done=_ignore, sends=sends)
        return Did(len(due))

    async def sweep() -> Did:
        state.exchange.sweep()
        if state.holdings.in_use:
            await state.holdings.refresh()  # before the store forgets what has expired
        return Did(await state.store.sweep(wall=state.wall()))

    upkeep.add("join", join, every_s=settings.join_retry_s)
    again_s = settings.look_again_s
    if recalled:  # not at once: all may have restarted at once
        again_s = state.rng.uniform(again_s, settings.recall_look_s)
    upkeep.add("look_around", joiner.look_around, every_s=settings.refresh_s, first_s=again_s)
    upkeep.add("refresh", joiner.refresh, every_s=settings.refresh_every_s)
    upkeep.add("check", check, every_s=settings.check_every_s)
    upkeep.add("renew", renewer.renew_some, every_s=settings.renew_every_s)
    upkeep.add("probe", reach.probe, every_s=settings.probe_s, first_s=settings.look_again_s)
    upkeep.add("sweep", sweep, every_s=settings.sweep_s)


def plan_copies(upkeep: Upkeep, state: NodeState) -> Callable[[Place], None] | None:
    """The same for how holders keep up the copies of what they hold: in one way, or not at all.

    Returns:
        Who wants to be told where what others hand to us is held, if anybody does.
    """
    settings = state.settings
    every_s, soon_s = settings.repair_every_s, settings.repair_brisk_s
    match settings.republish:
        case "difference":
            upkeep.add("repair", Repairer(state).repair, every_s=every_s, first_s=soon_s)
        case "hourly":
            republisher = Republisher(state)
            upkeep.add("republish", republisher.republish, every_s=settings.republish_every_s)
            return republisher.on_stored
        case "never":
            pass
    return None


def _ignore(_: Response | None) -> None:
    """The exchange tells the table who was heard and who was not."""
