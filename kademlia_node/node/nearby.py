"""Peers on our own link: we show a beacon there, and knock at members of our network who show one.

Two nodes that nobody has told of each other find each other this way, and so do two networks that
share a link. A beacon is a hint and no more: the handshake decides who is there, and `Joiner.meet`
what follows. Whoever stays out of our table, as it is silent or full, is knocked at ever more
seldom while its beacon is shown.

Refuses to know multicast (`net.lan`) and what is in a beacon (`core.beacon`). It is told by a link,
and driven by `run`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from kademlia_node.core.beacon import Beacon, Sighting, make_beacon, read_beacon
from kademlia_node.core.contact import Contact
from kademlia_node.errors import RemoteError
from kademlia_node.net.link import Link
from kademlia_node.node.join import Joiner
from kademlia_node.node.state import NodeState

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    contacts: Sequence[Contact]
    try_at: float
    pause_s: float


class Nearby:
    """Shows our beacon on a link, and meets the members that it hears of there."""

    def __init__(self, state: NodeState, *, joiner: Joiner, link: Link) -> None:
        self._state = state
        self._joiner = joiner
        self._link = link
        self._seen: OrderedDict[str, _Seen] = OrderedDict()  # by label; the last told comes last
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. If it fails, the node goes on without."""
        try:
            async with self._link(self._state.exchange.address, self._beacon, self):
                while True:
                    self._news.clear()
                    await self._meet()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._state.settings.lan_retry_s):
                            await self._news.wait()
        except Exception:
            log.exception("peers on our own link are no longer looked for")

    def _beacon(self) -> Beacon:
        state = self._state
        return make_beacon(
            state.identity.public_key,
            state.exchange.address.port,
            network=state.network,
            suite=state.identity.suite,
            rng=state.rng,
        )

    def on_seen(self, sighting: Sighting) -> None:
        """A beacon is shown; it is ours, a member's, or nobody's."""
        state, label = self._state, sighting.beacon.label
        try:
            contacts = read_beacon(sighting, network=state.network, suite=state.identity.suite)
        except RemoteError:
            state.counts["lan_strangers"] += 1
            return
        if contacts[0].public_key == state.identity.public_key:
            return
        known = self._seen.pop(label, None)
        if known is None or known.contacts != contacts:
            state.counts["lan_members"] += 1
            known = _Seen(contacts, state.loop.time(), state.settings.lan_retry_s)
            self._news.set()
        self._seen[label] = known
        if len(self._seen) > state.settings.lan_peers_max:
            self._seen.popitem(last=False)

    def on_gone(self, label: str) -> None:
        """A beacon is shown no more; its node may be there all the same, which others judge."""
        self._seen.pop(label, None)

    async def _meet(self) -> None:
        """Knock at those whose turn it is, some at a time."""
        settings = self._state.settings
        while due := self._take_due(settings.lan_knocks_at_once):
            self._state.counts["lan_met"] += await self._joiner.meet(due)

    def _take_due(self, count: int) -> list[Contact]:
        now, due = self._state.loop.time(), list[Contact]()
        for seen in self._seen.values():
            is_known = self._state.table.get(seen.contacts[0].id) in seen.contacts
            if len(due) < count and now >= seen.try_at and not is_known:
                seen.try_at = now + seen.pause_s
                seen.pause_s = min(2 * seen.pause_s, self._state.settings.lan_retry_max_s)
                due += seen.contacts
        return due
