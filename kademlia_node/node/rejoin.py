"""Back into the network after it was lost: to us alone, or to one half of it.

`Rejoining` is about ourselves: our uplink was dead, the machine slept, nobody was there when we
knocked. `Reunion` is about a network that was cut in two: each half drops the other from its
tables, so the table remembers whom it lost, and one of these is tried now and then. One that
answers, or calls, is asked for our neighbours as it sees them. If most of these are unknown, it
was in another network, and a walk that begins there makes one of the two. A few are no more than
nodes that have come and gone: these are pinged.

Refuses to know how a join is done (`join`) and who is kept in mind (`core.lost`). Both are chores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import point
from kademlia_node.core.message import FindNode, Nodes, Ping, Response
from kademlia_node.errors import NoAnswer, RemoteError
from kademlia_node.node.join import Joiner
from kademlia_node.node.state import NodeState
from kademlia_node.node.upkeep import Did
from kademlia_node.node.walk import Walk
from kademlia_node.rare import Rare, sometimes

FEW: Final = 0.25  # of k contacts; to know even fewer is no reason to try more often


class Rejoining:
    """Joins again while nobody is known, ever more slowly; or when we have become a server.

    When our uplink is back, or the machine has slept, others may have forgotten us, and a node that
    is known to nobody near it is in nobody's way: then it looks around once.
    """

    def __init__(self, state: NodeState, joiner: Joiner) -> None:
        self._state = state
        self._joiner = joiner
        self._pause_s = state.settings.join_retry_s
        self._join_at = 0.0
        self._was_cut_off = False
        self._look_by = state.wall() + self._slack_s

    async def do(self) -> float:
        """Returns the seconds until the next look; the looks themselves cost nothing."""
        settings, state = self._state.settings, self._state
        is_cut_off = state.table.uplink_down
        if not is_cut_off and (self._was_cut_off or state.wall() > self._look_by):
            sometimes(Rare.LOOKED_AROUND_AGAIN)
            await self._joiner.look_around()
        self._was_cut_off = is_cut_off
        if state.loop.time() >= self._join_at:
            pause_s = await self._join()
            self._join_at = state.loop.time() + pause_s
        pause_s = min(self._join_at - state.loop.time(), settings.rejoin_look_s)
        self._look_by = state.wall() + self._slack_s
        return pause_s

    async def _join(self) -> float:
        settings = self._state.settings
        if self._joiner.has_joined or await self._joiner.join():
            self._pause_s = settings.join_retry_s
            return settings.join_retry_max_s
        self._pause_s = min(2 * self._pause_s, settings.join_retry_max_s)
        return self._pause_s

    @property
    def _slack_s(self) -> float:
        return self._state.settings.rejoin_look_s + self._state.settings.slept_s


class Reunion:
    """Tries those that were lost, and joins the network that one of them turns out to be in."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._try_at = 0.0
        self._reunite_at = 0.0
        self._meet_at = 0.0

    async def do(self) -> Did:
        """Tells how many lost ones were heard since the last time."""
        settings, state = self._state.settings, self._state
        now, reunited = state.loop.time(), False
        if now < self._reunite_at:
            return Did(0)
        found = state.table.lost.take_found()
        for contact in found[: settings.lost_at_once]:
            near = await self._neighbours_named_by(contact)
            strangers = [one for one in near if one.id not in state.table]
            if len(strangers) > len(near) / 2:
                sometimes(Rare.NETWORKS_REUNITED)
                reunited = True
                self._reunite_at = now + settings.lost_every_s  # it may have lied
                own = state.identity.id
                await Walk(state, own, FindNode(own), seeds=[contact]).run()
                break
            self._meet(strangers[: settings.lost_at_once])
        now = state.loop.time()
        if reunited or now >= self._try_at:
            self._try(settings.lost_at_once if reunited else 1)
            self._try_at = now + self._draw_pause_s()
        return Did(len(found))

    def _draw_pause_s(self) -> float:
        """Random, lest all who started together try at once; shorter where few try for all."""
        settings, rng = self._state.settings, self._state.rng
        share = len(self._state.table) / settings.k
        return settings.lost_every_s * min(max(share, FEW), 1.0) * rng.uniform(0.5, 1.0)

    def _try(self, count: int) -> None:
        lost = self._state.table.lost
        for _ in range(min(count, len(lost))):
            contact = lost.next()
            assert contact is not None, "so many are lost"
            self._ping(contact)

    def _ping(self, contact: Contact) -> None:
        self._state.exchange.send(contact, Ping(), on_done=_ignore, proved=False)

    async def _neighbours_named_by(self, contact: Contact) -> list[Contact]:
        """Those it names who belong among our nearest."""
        state, own_id, k = self._state, self._state.identity.id, self._state.settings.k
        try:
            answer = await state.exchange.ask(contact, FindNode(own_id))
        except (NoAnswer, RemoteError):
            return []
        assert isinstance(answer, Nodes), "the exchange lets no other answer pass"
        own, nearest = point(own_id), state.table.closest(own_id, k)
        reach = nearest[-1].point ^ own if len(nearest) == k else math.inf
        named = state.credible(answer.contacts, named_by=contact)
        return [one for one in named if 0 < one.point ^ own < reach]

    def _meet(self, strangers: Sequence[Contact]) -> None:
        """Ping them, but not often: whoever named them may only want us to."""
        now = self._state.loop.time()
        if strangers and now >= self._meet_at:
            self._meet_at = now + self._state.settings.lost_every_s
            for one in strangers:
                self._ping(one)


def _ignore(_: Response | None) -> None:
    """The exchange tells the table who was heard."""
