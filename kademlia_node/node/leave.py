"""Going away: those who know us are told; and for good, what we hold comes into other hands.

Whoever stops comes back, so it only tells the nodes nearest to it, which would ask it first.
Whoever leaves hands every record to those who are responsible for it without us. Most of them have
it already and say so, which costs one small answer each. Refuses to know when the node ends; `life`
does that afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.key import Key
from kademlia_node.core.message import Leaving
from kademlia_node.core.record import Record
from kademlia_node.errors import NoAnswer, RemoteError
from kademlia_node.node.handout import HandOut
from kademlia_node.node.many import do_all
from kademlia_node.node.state import NodeState
from kademlia_node.node.write import is_short
from kademlia_node.rare import Rare, sometimes
from kademlia_node.store.base import FIRST, place_of

PAGE: Final = 256  # records read at once: 16 MB at most


@dataclass(frozen=True, slots=True)
class Departure:
    """What came of leaving for good.

    Attributes:
        handed_over: Records that as many others hold as the network keeps copies, or all of those
            who heard us and would take them.
        left_behind: The rest: nobody took them, some were silent, or there was no time.
        told: Peers that know now that we are gone.
    """

    handed_over: int
    left_behind: int
    told: int


class Leaver:
    """What one node does before it ends."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._handed_over = 0

    async def depart(self, *, within_s: float) -> Departure:
        """Hand over what we hold for at most so many seconds, then tell all we know, nearest first.

        Raises:
            SetupError: the store has failed; everybody was told all the same.
        """
        state = self._state
        try:
            records = await self._hand_over(until=state.loop.time() + within_s)
        finally:
            everybody = state.table.closest(state.identity.id, len(state.table))
            told = await self.tell(everybody, within_s=state.settings.timeout_s)
        return Departure(self._handed_over, records - self._handed_over, told)

    async def tell_the_nearest(self) -> None:
        """Say goodbye where it costs one packet; whoever does not hear it will find out."""
        state = self._state
        nearest = state.table.closest(state.identity.id, state.settings.k)
        with_session = [one for one in nearest if state.exchange.sessions.sending(one) is not None]
        await self.tell(with_session, within_s=state.settings.farewell_s)

    async def tell(self, contacts: Sequence[Contact], *, within_s: float) -> int:
        """Tell these that we leave; how many have answered that they know."""
        at_once = asyncio.Semaphore(self._state.settings.farewells_at_once)
        told = 0

        async def tell(contact: Contact) -> None:
            nonlocal told
            async with at_once:
                with suppress(NoAnswer, RemoteError):
                    await self._state.exchange.ask(contact, Leaving())
                    told += 1

        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
                for contact in contacts:
                    tasks.create_task(tell(contact))
        return told

    async def _hand_over(self, *, until: float) -> int:
        """Returns how many records we hold, with some that have expired if time runs out."""
        state, records, after = self._state, 0, FIRST
        while page := await state.store.page(after, limit=PAGE, wall=state.wall()):
            records, after = records + len(page), place_of(page[-1])
            jobs = [(record.key, partial(self._give, record)) for record in page]
            try:
                async with asyncio.timeout_at(until):
                    await do_all(state, jobs)
            except TimeoutError:
                records = max(records, (await state.store.usage()).records)
                break
        if self._handed_over < records:
            sometimes(Rare.LEFT_BEHIND)
        return records

    async def _give(self, record: Record) -> None:
        """Hand one record to those responsible; a later version that they have is as good."""
        handed = HandOut(self._state, Key(record.header.kind, record.key), record, nearby=True)
        await handed.run()
        receipt = handed.receipt
        is_kept = len(receipt.replicas) > 0 and not is_short(receipt)
        self._handed_over += is_kept or handed.deposit.newest is not None
