"""How a node is put together: every part made and told of the others it needs; nothing happens."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kademlia_node.core.identity import Identity
from kademlia_node.core.invite import Invite
from kademlia_node.core.memory import Memory, recall
from kademlia_node.core.neighbourhood import Neighbourhoods
from kademlia_node.core.network import Network
from kademlia_node.core.routing import RoutingTable
from kademlia_node.core.suite import VerifiedSignatures
from kademlia_node.net.ask import Listener
from kademlia_node.net.exchange import Exchange
from kademlia_node.net.link import Link
from kademlia_node.net.udp import resolve
from kademlia_node.node.chores import plan_chores, plan_copies
from kademlia_node.node.contents import BLOCK_BYTES, Contents, ContentSource, Load
from kademlia_node.node.holdings import Holdings
from kademlia_node.node.join import Joiner
from kademlia_node.node.nearby import Nearby
from kademlia_node.node.notify import Notifier
from kademlia_node.node.reach import Reach
from kademlia_node.node.read import Reader
from kademlia_node.node.renew import Renewer
from kademlia_node.node.serve import Server
from kademlia_node.node.snapshots import Snapshots
from kademlia_node.node.state import NodeState
from kademlia_node.node.subscription import Subscriptions
from kademlia_node.node.upkeep import Upkeep
from kademlia_node.node.write import Writer
from kademlia_node.settings import Settings
from kademlia_node.store.base import Store
from kademlia_node.store.memory import MemoryStore


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one running node.

    `commons` is who writes names that have no other author; `nearby` is there if a link is.
    """

    state: NodeState
    reach: Reach
    joiner: Joiner
    reader: Reader
    writer: Writer
    server: Server
    notifier: Notifier
    subscriptions: Subscriptions
    upkeep: Upkeep
    commons: Identity
    nearby: Nearby | None


def make_state(
    identity: Identity,
    *,
    network: Network,
    settings: Settings,
    rng: random.Random,
    wall: Callable[[], float],
    store: Store | None,
    content: ContentSource | None,
    listener: Listener,
) -> NodeState:
    """Who the node is, and what its verbs share; the arguments are those of `Node`."""
    settings = network.adapt(settings)
    store = MemoryStore(identity.id, settings=settings) if store is None else store
    contents = Contents(settings.contents_cache_bytes, age_s=settings.contents_age_s)
    snapshots = Snapshots(store, contents=contents, settings=settings, wall=wall)
    contents.load_from(_long_values(store, wall), snapshots.page, *_outside(content))
    seen = Neighbourhoods(settings.neighbourhoods_max, lifetime_s=settings.neighbourhood_s)
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
        store=store,
        table=RoutingTable(identity.id, settings=settings, prefix_limits=network.prefix_limits),
        signatures=VerifiedSignatures(identity.suite, capacity=settings.verified_signatures_max),
        exchange=exchange,
        neighbourhoods=seen,
        contents=contents,
        snapshots=snapshots,
        holdings=Holdings(store, wall=wall, grace_s=settings.expired_grace_s),
    )


def _long_values(store: Store, wall: Callable[[], float]) -> Load:
    async def load(content: bytes, offset: int) -> bytes | None:
        return None if offset else await store.value(content, wall=wall())

    return load


def _outside(source: ContentSource | None) -> Iterator[Load]:
    if source is not None:
        read = source.read
        yield lambda content, offset: read(content, offset, BLOCK_BYTES)


def _recall(memory: Memory, state: NodeState) -> bool:
    return recall(
        memory,
        state.table,
        state.size,
        own_id=state.identity.id,
        settings=state.settings,
        rng=state.rng,
        now=state.loop.time(),
        wall=state.wall(),
    )


def assemble(
    state: NodeState,
    *,
    server: bool | None,
    bootstrap: Sequence[Invite],
    memory: Memory,
    link: Link | None,
) -> Parts:
    """Make the verbs and the chores; the arguments are those of `Node`, `link` is its `lan`."""
    identity, network = state.identity, state.network
    reach = Reach(state, server=server)
    recalled = _recall(memory, state)
    joiner = Joiner(
        state, bootstrap=bootstrap, remembered=memory.peers, recalled=recalled, resolve=resolve
    )
    reader = Reader(state)
    writer = Writer(state, reader=reader)
    private = network.secret is not None
    commons = Identity.commons(network, suite=identity.suite) if private else identity
    authors = {author.public_key: author for author in (identity, commons)}
    renewer = Renewer(state, writer=writer, authors=authors)
    upkeep = Upkeep(loop=state.loop, rng=state.rng)
    plan_chores(upkeep, state, joiner=joiner, reach=reach, renewer=renewer, recalled=recalled)
    on_stored = plan_copies(upkeep, state)
    notifier, subscriptions = Notifier(state), Subscriptions(state)
    state.told += (notifier.on_filed, subscriptions.on_filed)
    return Parts(
        state=state,
        reach=reach,
        joiner=joiner,
        reader=reader,
        writer=writer,
        server=Server(
            state, reach=reach, notifier=notifier, subscriptions=subscriptions, on_stored=on_stored
        ),
        notifier=notifier,
        subscriptions=subscriptions,
        upkeep=upkeep,
        commons=commons,
        nearby=None if link is None else Nearby(state, joiner=joiner, link=link),
    )
