"""What a node says of itself: one frozen picture, for people, scripts and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from kademlia_node.core.invite import Invite
from kademlia_node.node.join import Joiner
from kademlia_node.node.notify import Notifier
from kademlia_node.node.receipt import OperationCost
from kademlia_node.node.state import NodeState
from kademlia_node.node.subscription import Subscriptions
from kademlia_node.node.upkeep import Upkeep


@dataclass(frozen=True, slots=True)
class Status:
    """A node at one instant. Ages in seconds; `chores` maps a name to (runs, age of the last).

    `did` maps a chore to how many things its last run did, where it counts them.
    `operations` maps a verb to its cost; `counters` tell of all else that is counted.
    `joined`: somebody was heard, and is in the routing table; `uplink_down`: all of these have
    fallen silent. `watches` are those of this node, `watchers` the leases of others that it tells.
    """

    id: str
    invite: str
    network: str
    copies: int
    role: str
    joined: bool
    uplink_down: bool
    peers: int
    sessions: int
    network_size: float | None
    records: int
    stored_bytes: int
    publications: int
    watches: int
    watchers: int
    unreachable: tuple[str, ...]
    counters: dict[str, int]
    operations: dict[str, OperationCost]
    chores: dict[str, tuple[int, float | None]]
    did: dict[str, int]


async def report(
    state: NodeState,
    *,
    joiner: Joiner,
    upkeep: Upkeep,
    subscriptions: Subscriptions,
    notifier: Notifier,
    invite: Invite,
) -> Status:
    """Take the picture."""
    usage = await state.store.usage()
    now = state.loop.time()
    return Status(
        id=state.identity.id.hex(),
        invite=str(invite),
        network=state.network.name,
        copies=state.network.copies,
        role="server" if state.is_server else "client",
        joined=len(state.table) > 0 and state.table.has_heard,
        uplink_down=state.table.uplink_down,
        peers=len(state.table),
        sessions=len(state.exchange.sessions),
        network_size=state.size.estimate,
        records=usage.records,
        stored_bytes=usage.size_bytes,
        publications=await state.store.publications.count(),
        watches=len(subscriptions),
        watchers=notifier.leases(),
        unreachable=joiner.unreachable,
        counters=dict(sorted((state.exchange.counts + state.counts).items())),
        operations=dict(sorted(state.operations.items())),
        chores={
            chore.name: (chore.runs, None if chore.last_run is None else now - chore.last_run)
            for chore in upkeep.chores
        },
        did={chore.name: chore.did for chore in upkeep.chores if chore.did is not None},
    )
