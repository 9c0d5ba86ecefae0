"""Getting into the network, and back into it: knock wherever it may help, then look around.

A bootstrap address is a hint where to knock. So are the peers of an earlier run, and with anyone in
the table there is no need to knock at all. Nobody answering is no error: we try again, and answer
others meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.ids import random_id_sharing
from kademlia_node.core.invite import Invite
from kademlia_node.core.message import FindNode, Ping, Response
from kademlia_node.errors import NoAnswer, SetupError
from kademlia_node.node.state import NodeState
from kademlia_node.node.walk import Walk

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
KNOCKS_MAX = 32  # hints tried per attempt
ESTIMATES = 5  # lookups of random targets after joining: the size of the network is their median


class Joiner:
    """Brings the node into the network and keeps its buckets fresh."""

    def __init__(
        self,
        state: NodeState,
        *,
        bootstrap: Sequence[Invite],
        remembered: Sequence[Contact],
        resolve: Resolve,
    ) -> None:
        self._state = state
        self._bootstrap = bootstrap
        self._remembered = remembered
        self._resolve = resolve
        self.unreachable: list[str] = []

    @property
    def has_hints(self) -> bool:
        """Whether there is anywhere to knock."""
        return bool(self._bootstrap or self._remembered)

    async def join(self) -> bool:
        """Knock everywhere once; True when we know at least one peer afterwards."""
        if not len(self._state.table):
            await self._knock()
        if not len(self._state.table):
            return False
        await self.look_around()
        return True

    async def look_around(self) -> None:
        """Look up ourselves: our neighbours learn of us and we of them (Kademlia, section 2.3)."""
        own = self._state.identity.id
        await Walk(self._state, own, FindNode(own)).run()

    async def measure(self) -> None:
        """Look up random targets until the size of the network can be estimated."""
        for _ in range(ESTIMATES):
            if self._state.size.estimate is None:
                await self._look_up(self._state.rng.randbytes(32))

    async def refresh(self, bucket: int) -> None:
        """Look up a random ID of one bucket (Kademlia, section 2.3)."""
        state = self._state
        await self._look_up(random_id_sharing(state.identity.id, bucket, rng=state.rng))
        state.table.mark_refreshed(bucket, state.loop.time())

    async def _look_up(self, target: bytes) -> None:
        walk = Walk(self._state, target, FindNode(target))
        await walk.run()
        self._state.size.on_lookup(target, walk.closest(self._state.settings.k))

    async def _knock(self) -> None:
        """Call everyone we have a hint of, all at once, and wait until all have answered or not."""
        self.unreachable = []
        async with asyncio.TaskGroup() as knocks:
            for invite in self._bootstrap[:KNOCKS_MAX]:
                knocks.create_task(self._follow(invite))
            for contact in self._remembered[:KNOCKS_MAX]:
                knocks.create_task(self._ping(contact))

    async def _follow(self, invite: Invite) -> None:
        exchange = self._state.exchange
        try:
            addresses = await self._resolve(invite.host, invite.port)
            for address in addresses:
                if invite.public_key is not None:
                    contact = Contact(invite.public_key, address)
                else:
                    contact = await exchange.who(address)
                if contact.id != self._state.identity.id and await self._ping(contact):
                    return
        except (NoAnswer, SetupError) as error:
            self.unreachable.append(f"{invite}: {error}")
            return
        self.unreachable.append(f"{invite}: no answer")

    async def _ping(self, contact: Contact) -> bool:
        """A knock may be repeated at once, however often it was in vain."""
        answer: asyncio.Future[Response | None] = self._state.loop.create_future()

        def on_done(response: Response | None) -> None:
            if not answer.done():
                answer.set_result(response)

        self._state.exchange.send(contact, Ping(), on_done=on_done, proved=False, again=True)
        return await answer is not None
