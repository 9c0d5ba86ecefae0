"""Getting into the network, and back into it: knock wherever it may help, then look around.

A bootstrap address is a hint where to knock. So are the remembered peers, those of an earlier run;
if they were heard of late they are recalled, too, that is in the table already. Nobody answering
is no error: we try again, and answer others meanwhile. Once a hint has answered there is no need to
knock any more while anyone in the table answers. Before, there is: those who know us only because
they knocked at our door may be as lost as we are, and together we would be an island.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.ids import random_id_sharing
from kademlia_node.core.invite import Invite
from kademlia_node.core.memory import KnownPeer
from kademlia_node.core.message import FindNode, Ping, Response
from kademlia_node.errors import NoAnswer, SetupError
from kademlia_node.node.state import NodeState
from kademlia_node.node.upkeep import Did
from kademlia_node.node.walk import Walk
from kademlia_node.rare import Rare, sometimes

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
KNOCKS_MAX = 32  # hints tried per attempt
OURSELVES = ""  # a hint that leads nowhere else, and yet nothing to complain of
KNOCKS_RECALLED = 4  # of the peers that we go on with, at a start
WIDE_BUCKETS = 3  # an eighth of all IDs or more: whoever crowds around us is not found there


class Joiner:
    """Brings the node into the network and keeps its buckets fresh."""

    def __init__(
        self,
        state: NodeState,
        *,
        bootstrap: Sequence[Invite],
        remembered: Sequence[KnownPeer],
        recalled: bool,
        resolve: Resolve,
    ) -> None:
        self._state = state
        self._bootstrap = bootstrap
        mixed = state.rng.sample(remembered, len(remembered))  # not at the same ones each time
        mixed.sort(key=lambda peer: peer.heard == 0.0)  # and last at those who had fallen silent
        self._remembered = deque(peer.contact for peer in mixed)  # whom we called goes to the end
        self._has_recalled = recalled
        self._resolve = resolve
        self._known_as_server = False
        self._has_reached_hint = False
        self._measure_at = state.loop.time()
        if state.size.estimate is not None:  # not at once: all may have restarted at once
            self._measure_at += state.rng.uniform(0, state.settings.refresh_s)
        self.unreachable: tuple[str, ...] = ()

    @property
    def has_joined(self) -> bool:
        """Whether we know somebody, a hint has answered, and our neighbours know what we are."""
        known_as_we_are = self._known_as_server == self._state.is_server
        return self._knows_somebody() and self._is_anchored() and known_as_we_are

    async def join(self) -> bool:
        """Knock where there is a hint, unless one has answered; look around after any change.

        Where enough is recalled, a few of the nearest are knocked at, and then we go on as before.

        Returns:
            Whether we know somebody, and a hint has answered.
        """
        knew = self._knows_somebody() and self._known_as_server == self._state.is_server
        was_anchored = self._is_anchored()
        recalled, self._has_recalled = self._has_recalled, False
        self._say_what_we_are()
        if not (self._knows_somebody() and was_anchored):
            answered = await self._knock(at_nearest=recalled)
            if recalled and answered < KNOCKS_RECALLED / 2:
                sometimes(Rare.RECALLED_IN_VAIN)
                recalled = False
        if not self._knows_somebody():
            sometimes(Rare.JOIN_FAILED)
            return False
        self._say_what_we_are()  # a knock may have made us a server
        if recalled and self._is_anchored():
            sometimes(Rare.RECALLED)
            return True
        if not knew or self._is_anchored() != was_anchored:
            await self.look_around()
        return self._is_anchored()

    async def meet(self, contacts: Sequence[Contact]) -> int:
        """Knock at peers that we have heard of, all at once: hints that came later.

        Whoever answers may be in a network that is not ours. If we are in one, `rejoin.Reunion`
        finds out; else this is our way in.

        Returns:
            How many have answered.
        """
        had_joined = self.has_joined
        async with asyncio.TaskGroup() as knocks:
            pings = [(one, knocks.create_task(self._ping(one))) for one in contacts]
        answered = [one for one, ping in pings if ping.result()]
        if answered:
            self._has_reached_hint = True
            self._say_what_we_are()  # a knock may have made us a server
            for contact in answered:
                self._state.table.lost.on_found(contact)
            if not had_joined:
                await self.look_around()
        return len(answered)

    def _is_anchored(self) -> bool:
        """Whether a hint has ever answered, or there is none."""
        return self._has_reached_hint or not (self._bootstrap or self._remembered)

    def _knows_somebody(self) -> bool:
        """Whether anyone is known who did not fall silent with all the others."""
        table = self._state.table
        return len(table) > 0 and not table.uplink_down

    def _say_what_we_are(self) -> None:
        """Client or server is said in handshakes: when that has changed, all begin anew.

        Whoever still uses a session of ours is told so by a RESET.
        """
        if self._known_as_server != self._state.is_server:
            self._known_as_server = self._state.is_server
            self._state.exchange.sessions.clear()

    async def look_around(self) -> None:
        """Look up ourselves: our neighbours learn of us and we of them (Kademlia, section 2.3).

        Done again after `look_again_s`, and then every `refresh_s`: whoever was silent may not know
        us yet, nor we them.
        """
        own = self._state.identity.id
        await Walk(self._state, own, FindNode(own)).run()

    async def refresh(self) -> Did:
        """Look up a random ID of one stale bucket, if there is one (Kademlia, section 2.3).

        One a run, so that a node that wakes up makes no burst. Those of wide buckets tell the size
        of the network as well; if none did for `refresh_s`, or it is unknown, any ID is looked up.
        """
        state = self._state
        stale = state.table.stale_buckets(state.loop.time())
        if state.loop.time() >= self._measure_at and len(state.table) > 1:
            await self._measure(state.rng.randbytes(32))
        elif stale:
            target = random_id_sharing(state.identity.id, stale[0], rng=state.rng)
            if stale[0] < WIDE_BUCKETS:
                await self._measure(target)
            else:
                await Walk(state, target, FindNode(target)).run()
            state.table.mark_refreshed(stale[0], state.loop.time())
        else:
            return Did(0)
        return Did(1)

    async def _measure(self, target: bytes) -> None:
        state = self._state
        walk = Walk(state, target, FindNode(target))
        await walk.run()
        state.size.on_lookup(target, walk.closest(state.settings.k))
        if state.size.estimate is not None:
            self._measure_at = state.loop.time() + state.settings.refresh_s

    async def _knock(self, *, at_nearest: bool) -> int:
        """Call whom we have a hint of, all at once, and wait until all have answered or not.

        Of many peers of an earlier run others are called each time: most may be gone. Unless most
        are sure to be there: then it is the nearest few, who are asked for us.

        Returns:
            How many of these peers have answered.
        """
        if at_nearest:
            chosen = self._state.table.closest(self._state.identity.id, KNOCKS_RECALLED)
        else:
            chosen = list(self._remembered)[:KNOCKS_MAX]
            self._remembered.rotate(-len(chosen))
        async with asyncio.TaskGroup() as knocks:
            remembered = [knocks.create_task(self._ping(contact)) for contact in chosen]
            followed = [
                knocks.create_task(self._follow(invite)) for invite in self._bootstrap[:KNOCKS_MAX]
            ]
        complaints = [task.result() for task in followed]
        answered = sum(task.result() for task in remembered)
        nobody_else = not chosen and not any(complaint != OURSELVES for complaint in complaints)
        self._has_reached_hint |= None in complaints or answered > 0 or nobody_else
        self.unreachable = tuple(complaint for complaint in complaints if complaint)
        return answered

    async def _follow(self, invite: Invite) -> str | None:
        """Knock where an invite says; returns a complaint, OURSELVES, or None: one has answered."""
        try:
            addresses = await self._resolve(invite.host, invite.port)
        except SetupError as error:
            return f"{invite}: {error}"
        for address in addresses:
            key = invite.public_key or await self._key_at(address)
            if key == self._state.identity.public_key:
                return OURSELVES
            if key is not None and await self._ping(Contact(key, address)):
                return None
        return f"{invite}: no answer"

    async def _key_at(self, address: Address) -> bytes | None:
        try:
            return (await self._state.exchange.who(address)).public_key
        except NoAnswer:
            return None

    async def _ping(self, contact: Contact) -> bool:
        """A knock may be repeated at once, however often it was in vain."""
        answer: asyncio.Future[Response | None] = self._state.loop.create_future()

        def on_done(response: Response | None) -> None:
            if not answer.done():
                answer.set_result(response)

        self._state.exchange.send(contact, Ping(), on_done=on_done, proved=False, forgives=math.inf)
        return await answer is not None
