"""Renewal: what this node has published is handed out again before it expires.

The same version with a later expiry, at 22 of its 48 hours. What is due is on the durable list of
publications, so a restart forgets nothing; after a long pause everything is due at once, and is
renewed a few at a time. A publication that could not be renewed for so long that the tombstone of a
withdrawal elsewhere would be gone is dropped: it might bring back what was deleted. Not so a blob,
which nobody can withdraw. A full disk stops no renewal, it is only not noted there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from kademlia_node.core.identity import Identity
from kademlia_node.errors import SetupError
from kademlia_node.node.draft import renewed
from kademlia_node.node.receipt import Receipt, StepOutcome
from kademlia_node.node.state import NodeState
from kademlia_node.node.write import Writer
from kademlia_node.settings import FORGOTTEN_AFTER_S
from kademlia_node.store.base import Place, Published

log = logging.getLogger(__name__)


class Renewer:
    """Keeps the publications of one node alive. `authors` are those whose keys it has."""

    def __init__(
        self, state: NodeState, *, writer: Writer, authors: Mapping[bytes, Identity]
    ) -> None:
        self._state = state
        self._writer = writer
        self._authors = authors
        self._publications = state.store.publications
        self._unnoted: dict[Place, float] = {}  # renewed until then, but the disk was full

    async def renew_some(self) -> float | None:
        """Renew a few of those that are due; seconds until more should follow, or None."""
        settings = self._state.settings
        self._writer.forget_seqs()
        at_once = settings.renewals_at_once
        due = await self._due(at_once)
        async with asyncio.TaskGroup() as tasks:
            renewals = [tasks.create_task(self._renew(published)) for published in due]
        if renewals and not any(renewal.result() for renewal in renewals):
            return settings.renew_retry_s  # nobody is there
        return settings.renew_pause_s if len(due) == at_once else None

    async def _due(self, count: int) -> list[Published]:
        wall, unnoted = self._state.wall(), self._unnoted
        due = await self._publications.due(wall=wall, limit=count + len(unnoted))
        return [one for one in due if unnoted.get(one.place, wall) <= wall][:count]

    async def _renew(self, due: Published) -> bool:
        """Whether anything was heard of it."""
        async with self._writer.lock(due.place):
            published = await self._publications.get(due.place)
            if published is None or published.renew_at != due.renew_at:
                return True  # it was written or withdrawn meanwhile
            if (why := self._lapsed(published)) is not None:
                log.warning("a publication is dropped: %s", why)
                self._state.counts["publications_dropped"] += 1
                await self._drop(published)
                return True
            return await self._hand_out(published)

    def _lapsed(self, published: Published) -> str | None:
        """Why it must not be renewed any more."""
        author = published.record.header.author
        if not author:
            return None  # a blob
        if author not in self._authors:
            return "this node does not have its author's key (any more)"
        longest_s = self._state.settings.renew_after_s * 1.1
        if self._state.wall() > published.renew_at - longest_s + FORGOTTEN_AFTER_S:
            return "it was not renewed for so long that it may have been withdrawn meanwhile"
        return None

    async def _hand_out(self, published: Published) -> bool:
        state, old = self._state, published.record
        author = self._authors.get(old.header.author)
        record = renewed(old, author, expires=self._writer.expiry(), tag=state.network.tag)
        handed = await self._writer.hand_out(record)
        receipt, newest = handed.receipt, handed.deposit.newest
        state.count_operation("renew", receipt.trace)
        if newest is not None and newest.version > record.header.version:
            await self._drop(published)  # another device has moved on
        elif self._is_cut_off(receipt):
            return False
        elif receipt.replicas:
            await self._note(Published(record, self._writer.renew_at()))
        else:  # refused by all
            later = state.wall() + state.settings.renew_retry_s
            await self._note(Published(old, later))  # the others come first now
        return True

    def _is_cut_off(self, receipt: Receipt) -> bool:
        """Whether nobody was heard; our own copy counts only if we know of nobody else."""
        here, steps = self._state.contact, receipt.trace.steps
        others = [contact for contact in receipt.replicas if contact != here]
        refusals = [why for contact, why in receipt.refused.items() if contact != here]
        silence = {StepOutcome.SILENT, StepOutcome.WAITING}
        heard = any(step.outcome not in silence for step in steps)
        if others or heard or any(why != "silent" for why in refusals):
            return False
        return bool(steps or refusals or not receipt.replicas)

    async def _note(self, published: Published) -> None:
        place = published.place
        try:
            await self._publications.keep(published)
        except SetupError as error:
            log.warning("a renewal cannot be noted: %s", error)
            self._unnoted[place] = published.renew_at
        else:
            self._unnoted.pop(place, None)

    async def _drop(self, published: Published) -> None:
        place, retry_s = published.place, self._state.settings.renew_retry_s
        try:
            await self._publications.drop(place)
        except SetupError as error:
            log.warning("a publication cannot be dropped: %s", error)
            self._unnoted[place] = self._state.wall() + retry_s
        else:
            self._unnoted.pop(place, None)
