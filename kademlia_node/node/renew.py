"""Renewal: what this node has published is handed out again before it expires.

The same version with a later expiry, at 22 of its 48 hours, or at half of the time that its writer
chose. What is due is on the durable list of publications, so a restart forgets nothing; after a
long pause everything is due at once, and is renewed a few at a time, the shortest-lived first: so
many that each has had its turn within an eighth of its lifetime, or within `renew_all_s`, about.
Those whose holders are not remembered, after a restart or as there are too many, share walks
(`many`).

What is short of copies comes again sooner (`Writer.renew_at`), withdrawals included, which are
listed only until they have reached enough; and where an earlier version would outlive the renewed
one, it is renewed for as long as that. A publication that could not be renewed for so long that the
tombstone of a withdrawal elsewhere would be gone rests: it might bring back what was deleted. Not
so a blob, which nobody can withdraw. A full disk stops no renewal, it is only not noted there.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from functools import partial
from typing import Final

from kademlia_node.core.identity import Identity
from kademlia_node.core.record import Record
from kademlia_node.errors import SetupError
from kademlia_node.node.draft import renewed
from kademlia_node.node.many import do_all
from kademlia_node.node.receipt import Receipt, StepOutcome
from kademlia_node.node.state import NodeState
from kademlia_node.node.upkeep import Did
from kademlia_node.node.write import Writer, is_outlived
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import EXPIRY_DEFAULT_S, FORGOTTEN_AFTER_S
from kademlia_node.store.base import Place, Published

log = logging.getLogger(__name__)
EVERYBODY: Final = 2**16  # acknowledgements to wait for: no caller is kept waiting by that
WAIT_SHARE: Final = 1 / 8  # of its lifetime, for which something may be due until it is renewed
RESTING_S: Final = 3600.0  # then it is seen whether the clock has come right


class Renewer:
    """Keeps the publications of one node alive. `authors` are those whose keys it has."""

    def __init__(
        self, state: NodeState, *, writer: Writer, authors: Mapping[bytes, Identity]
    ) -> None:
        self._state = state
        self._writer = writer
        self._authors = authors
        self._publications = state.store.publications
        self._not_before: dict[Place, float] = {}  # of the event loop; forgotten at a restart

    async def renew_some(self) -> Did:
        """Renew a few of those that are due."""
        settings = self._state.settings
        self._writer.forget_seqs()
        at_once = await self._at_once()
        due = await self._due(at_once)
        if due and not any(await self._renew_together(due)):
            return Did(0, settings.renew_retry_s)  # nobody is there
        has_more = len(due) == at_once
        return Did(len(due), settings.renew_pause_s if has_more else await self._rest_s())

    async def _rest_s(self) -> float:
        """Until the shortest-lived of the next round is due: it must not wait for all of that."""
        settings, wall, waiting = self._state.settings, self._state.wall(), self._not_before
        soon = await self._publications.due(
            wall=wall + settings.renew_every_s, limit=1 + len(waiting)
        )
        rests = [one.renew_at - wall for one in soon if one.place not in waiting]
        return max(settings.renew_pause_s, min([settings.renew_every_s, *rests]))

    async def _at_once(self) -> int:
        """How many in one run, that none waits for long however many there are."""
        settings, counts = self._state.settings, await self._publications.lifetimes()
        per_s = sum(
            count / min(settings.renew_all_s, WAIT_SHARE * lifetime_s)
            for lifetime_s, count in counts.items()
        )
        return max(settings.renewals_at_once, math.ceil(per_s * settings.renew_pause_s))

    async def _renew_together(self, due: list[Published]) -> list[bool]:
        """Of each that has had its turn, whether anything was heard."""
        remembers = self._writer.remembers_holders
        remembered = [one for one in due if remembers(one.place[0])]
        others = [
            (one.place[0], partial(self._renew, one)) for one in due if not remembers(one.place[0])
        ]
        async with asyncio.TaskGroup() as tasks:
            renewals = [tasks.create_task(self._renew(published)) for published in remembered]
            shared = tasks.create_task(do_all(self._state, others))
        return [*(renewal.result() for renewal in renewals), *shared.result()]

    async def _due(self, count: int) -> list[Published]:
        now, waiting = self._state.loop.time(), self._not_before
        for place in [place for place, then in waiting.items() if then <= now]:
            del waiting[place]
        due = await self._publications.due(wall=self._state.wall(), limit=count + len(waiting))
        return [one for one in due if one.place not in waiting][:count]

    def _later(self, place: Place, after_s: float) -> None:
        """Let others have their turn first."""
        self._not_before[place] = self._state.loop.time() + after_s

    async def _renew(self, due: Published) -> bool:
        """Whether anything was heard of it."""
        async with self._writer.lock(due.place):
            published = await self._publications.get(due.place)
            if published is None or published.renew_at != due.renew_at:
                return True  # it was written or withdrawn meanwhile
            author = published.record.header.author
            if author and author not in self._authors:
                log.warning("a publication is dropped: its author's key is not here (any more)")
                await self._drop(published.place)
            elif self._is_over(published):
                await self._drop(published.place)
            elif author and self._has_lapsed(published):
                log.warning("a publication rests: it may have been withdrawn while we were away")
                self._state.counts["publications_resting"] += 1
                self._later(published.place, RESTING_S)
            else:
                return await self._hand_out(published)
            return True

    def _is_over(self, published: Published) -> bool:
        """Whether it is a withdrawal that has lived out its time."""
        header = published.record.header
        return header.is_tombstone and header.expires <= self._state.wall()

    def _has_lapsed(self, published: Published) -> bool:
        """Whether it was not renewed for longer than a tombstone is sure to have lived."""
        last = published.renew_at - 1.1 * self._state.settings.renew_after_s
        return self._state.wall() > last + FORGOTTEN_AFTER_S

    async def _hand_out(self, published: Published) -> bool:
        state, old = self._state, published.record
        author = self._authors.get(old.header.author)
        expires = self._writer.expiry(published.ttl_s)
        record = renewed(old, author, expires=expires, tag=state.network.tag)
        handed = await self._writer.hand_out(record, acks=EVERYBODY, nearby=True)
        newest = handed.deposit.newest
        if newest is not None and is_outlived(record.header, newest):
            sometimes(Rare.OUTLIVED)  # by a tombstone that we had not met when we wrote
            record = renewed(old, author, expires=newest.expires, tag=state.network.tag)
            handed = await self._writer.hand_out(record, acks=EVERYBODY, nearby=True)
            newest = handed.deposit.newest
        receipt = handed.receipt
        state.count_operation("renew", receipt.trace)
        if newest is not None and newest.version > record.header.version:
            sometimes(Rare.PUBLICATION_OVERTAKEN)
            await self._drop(published.place)  # another device has moved on
        elif self._is_cut_off(receipt):
            sometimes(Rare.RENEWAL_CUT_OFF)
            return False
        elif receipt.replicas and self._is_from_the_future(published):
            self._later(published.place, state.settings.renew_after_s / 2)
        elif receipt.replicas:
            await self._note(record, receipt, old=published)
        else:  # refused by all
            self._later(published.place, state.settings.renew_retry_s)
        return True

    def _is_from_the_future(self, published: Published) -> bool:
        """Whether our clock was ahead when this was noted, or is behind now: then note nothing."""
        return published.renew_at > self._state.wall() + EXPIRY_DEFAULT_S

    def _is_cut_off(self, receipt: Receipt) -> bool:
        """Whether nobody was heard; our own copy counts only if we know of nobody else."""
        here, steps = self._state.contact, receipt.trace.steps
        others = [contact for contact in receipt.replicas if contact != here]
        refusals = [why for contact, why in receipt.refused.items() if contact != here]
        silence = {StepOutcome.SILENT, StepOutcome.WAITING}
        heard = any(step.outcome not in silence for step in steps)
        if others or heard or any(why != StepOutcome.SILENT for why in refusals):
            return False
        return bool(steps or refusals or not receipt.replicas)

    async def _note(self, record: Record, receipt: Receipt, *, old: Published) -> None:
        try:
            await self._writer.note(record, receipt, ttl_s=old.ttl_s)
        except SetupError as error:
            log.warning("a renewal cannot be noted: %s", error)
            renew_at = self._writer.renew_at(old.place, receipt, ttl_s=old.ttl_s)
            self._later(old.place, renew_at - self._state.wall())

    async def _drop(self, place: Place) -> None:
        self._state.counts["publications_dropped"] += 1
        try:
            await self._publications.drop(place)
        except SetupError as error:
            log.warning("a publication cannot be dropped: %s", error)
            self._later(place, self._state.settings.renew_retry_s)
