"""How a node is put together: every part made and told of the others it needs; nothing happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kademlia_node.core.contact import Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.invite import Invite
from kademlia_node.core.network import Network
from kademlia_node.core.record import VerifiedSignatures
from kademlia_node.core.replica import NetworkSize
from kademlia_node.core.routing import RoutingTable
from kademlia_node.net.ask import Listener
from kademlia_node.net.exchange import Exchange
from kademlia_node.net.udp import resolve
from kademlia_node.node.chores import plan_chores
from kademlia_node.node.join import Joiner
from kademlia_node.node.reach import Reach
from kademlia_node.node.read import Reader
from kademlia_node.node.serve import Server
from kademlia_node.node.state import NodeState
from kademlia_node.node.upkeep import Upkeep
from kademlia_node.node.write import Writer
from kademlia_node.settings import Settings
from kademlia_node.store.base import Store
from kademlia_node.store.memory import MemoryStore


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one running node. `commons` is who writes names that have no other author."""

    state: NodeState
    reach: Reach
    joiner: Joiner
    reader: Reader
    writer: Writer
    server: Server
    upkeep: Upkeep
    commons: Identity


def make_state(
    identity: Identity,
    *,
    network: Network,
    settings: Settings,
    rng: random.Random,
    wall: Callable[[], float],
    store: Store | None,
    listener: Listener,
) -> NodeState:
    """Who the node is, and what its verbs share; the arguments are those of `Node`."""
    settings = network.adapt(settings)
    exchange = Exchange(
        identity=identity,
        network=network,
        settings=settings,
        rng=rng,
        wall=wall,
        listener=listener,
    )
    return NodeState(
        identity=identity,
        network=network,
        settings=settings,
        rng=rng,
        wall=wall,
        store=MemoryStore(identity.id, settings=settings) if store is None else store,
        table=RoutingTable(identity.id, settings=settings, prefix_limits=network.prefix_limits),
        size=NetworkSize(),
        signatures=VerifiedSignatures(identity.suite, capacity=settings.verified_signatures_max),
        exchange=exchange,
        loop=asyncio.get_running_loop(),
    )


def assemble(
    state: NodeState,
    *,
    server: bool | None,
    bootstrap: Sequence[Invite],
    remembered: Sequence[Contact],
) -> Parts:
    """Make the verbs and the chores; the arguments are those of `Node`."""
    identity, network = state.identity, state.network
    private = network.secret is not None
    reach = Reach(state, server=server)
    joiner = Joiner(state, bootstrap=bootstrap, remembered=remembered, resolve=resolve)
    reader = Reader(state)
    writer = Writer(state, reader=reader)
    upkeep = Upkeep(loop=state.loop, rng=state.rng)
    plan_chores(upkeep, state, joiner=joiner, reach=reach, writer=writer)
    return Parts(
        state=state,
        reach=reach,
        joiner=joiner,
        reader=reader,
        writer=writer,
        server=Server(state, reach=reach),
        upkeep=upkeep,
        commons=Identity.commons(network, suite=identity.suite) if private else identity,
    )
