"""What a node knows of the network and keeps for its next start: its peers, and how many there are.

A peer that was heard of late is as good as known: a table names a contact to others for as long
without a new proof. So a node that was away for a moment goes on where it was, and a network whose
nodes have all lost power at once need not find itself again, all in the same minute. Of an older
peer nothing is known but where to knock, which is the business of `node.join`.

Times are Unix seconds, since no other clock outlives a run.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Final

from kademlia_node.core.contact import Contact, parse_address
from kademlia_node.core.ids import point
from kademlia_node.core.invite import Invite, parse_invite
from kademlia_node.core.replica import NetworkSize, one_estimate
from kademlia_node.core.routing import RoutingTable
from kademlia_node.settings import Settings

LATEST_S: Final = 2**40  # no clock says more, and floats count so far
NODES_MAX: Final = 2**64  # of any network
PLAUSIBLE: Final = 4.0  # times too many or too few: one neighbourhood errs by less


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """A contact that was up from `since` to `heard`, as far as we noticed; 0 if we do not know."""

    contact: Contact
    since: float = 0.0
    heard: float = 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """The peers (without times: those that had fallen silent), and `NetworkSize.estimate`."""

    peers: tuple[KnownPeer, ...] = ()
    network_size: float | None = None

    def to_json(self) -> str:
        """A text for a file, a line for each value; times in whole seconds."""
        peers = [
            {
                "invite": str(Invite(peer.contact.public_key, *peer.contact.address)),
                "since": round(peer.since),
                "heard": round(peer.heard),
            }
            for peer in self.peers
        ]
        return json.dumps({"network_size": self.network_size, "peers": peers}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Memory:
        """The inverse.

        Raises:
            ValueError: this is not the text of a memory.
        """
        try:
            kept = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deep for a memory") from None
        match kept:
            case {"network_size": None | int() | float() as size, "peers": list(peers)}:
                if size is None or 1 <= size < NODES_MAX:
                    return cls(tuple(map(_known_peer, peers)), size)
        raise ValueError("no memory of peers")


def _known_peer(kept: object) -> KnownPeer:
    match kept:
        case {"invite": str(text), "since": int(since), "heard": int(heard)}:
            invite = parse_invite(text)
            if invite.public_key is None:
                raise ValueError("a peer that is known has a key")
            where = parse_address(text.rpartition("@")[2])
            if not (0 <= since < LATEST_S and 0 <= heard < LATEST_S):
                raise ValueError("a peer is known from no such time")
            return KnownPeer(Contact(invite.public_key, where), since=since, heard=heard)
    raise ValueError("no peer")


def memorize(table: RoutingTable, size: NetworkSize, *, now: float, wall: float) -> Memory:
    """What is worth knowing at the next start. `now` is the table's clock, `wall` Unix time."""
    peers = {contact: KnownPeer(contact) for contact in [*table, *table.lost]}
    for contact, since, heard in table.live():
        peers[contact] = KnownPeer(contact, since=wall - now + since, heard=wall - now + heard)
    return Memory(tuple(peers.values()), size.estimate)


def recall(
    memory: Memory,
    table: RoutingTable,
    size: NetworkSize,
    *,
    own_id: bytes,
    settings: Settings,
    rng: random.Random,
    now: float,
    wall: float,
) -> bool:
    """Fill an empty table with what was heard within `recall_max_s`, if that is k peers or more.

    All are to be checked: the k nearest within `recall_near_s`, since they may have forgotten us,
    the others within `recall_far_s`, one after another, but nobody later than `liveness_max_s`
    after it was heard. The rest is lost to us, for now. The size of the network stands if it fits
    the density of our neighbourhood. Returns whether the table was filled.
    """
    late = [peer for peer in memory.peers if 0 <= wall - peer.heard <= settings.recall_max_s]
    if len(late) < settings.k:
        late = []
    kept = set(late)
    for peer in memory.peers:
        if peer not in kept:
            table.lost.on_lost(peer.contact, up_s=peer.heard - peer.since)
    own = point(own_id)
    late.sort(key=lambda peer: peer.contact.point ^ own)
    for rank, peer in enumerate(late):
        within_s = settings.recall_near_s if rank < settings.k else settings.recall_far_s
        since, heard = now - wall + peer.since, now - wall + peer.heard
        latest = max(now, heard + settings.liveness_max_s)
        check_at = min(now + rng.uniform(0, within_s), latest)
        table.restore(peer.contact, since=since, heard=heard, check_at=check_at)
    for bucket in table.stale_buckets(now):
        table.mark_refreshed(bucket, now - rng.uniform(0, settings.refresh_s))
    nearest = table.closest(own_id, settings.k)
    if memory.network_size is not None and len(nearest) > 1:
        local = one_estimate(own_id, nearest)
        if local / PLAUSIBLE < memory.network_size < local * PLAUSIBLE:
            size.restore(memory.network_size)
    return len(nearest) == settings.k
