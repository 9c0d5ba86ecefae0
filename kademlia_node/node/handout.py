"""Handing out a record: who is responsible for it, and do they have it now.

Responsible nodes are found in the cheapest way that is still true: those who took the last record
that we wrote under the key; where many records are written, those whom a walk nearby has just
found; those near the key in our own table, if it holds most nodes there are; or a
walk of our own. All but the last cost one round trip. They are believed only if enough of them take
the record and none of their answers names a node that is nearer to the key than they are; otherwise
we walk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import point
from kademlia_node.core.key import Key
from kademlia_node.core.message import FindNode
from kademlia_node.core.neighbourhood import Found
from kademlia_node.core.record import Record
from kademlia_node.core.replica import size_if_crowded
from kademlia_node.node.deposit import Deposit
from kademlia_node.node.receipt import Receipt, Trace
from kademlia_node.node.state import NodeState
from kademlia_node.node.walk import Walk
from kademlia_node.rare import Rare, sometimes


class HandOut:
    """One record handed out once: `await run()`, then read `deposit` and `receipt`.

    Args:
        state: the node that writes.
        key: of the record.
        record: signed.
        expect_seq: ask everybody to refuse it unless their version has this seq.
        acks: how many replicas to wait for; `copies` of the network by default. The others are
            asked all the same, and replaced if they do not take it.
        known: who took the last record that we wrote under the key.
        nearby: trust a walk of the last minutes to a neighbouring key.
        on_over: told what came of it when the last has answered, perhaps after `run`.
    """

    def __init__(
        self,
        state: NodeState,
        key: Key,
        record: Record,
        *,
        expect_seq: int | None = None,
        acks: int | None = None,
        known: Sequence[Contact] = (),
        nearby: bool = False,
        on_over: Callable[[Deposit], None] = lambda _: None,
    ) -> None:
        self._state = state
        self._key = key
        self._record = record
        self._expect_seq = expect_seq
        self._copies = state.network.copies
        self._acks = self._copies if acks is None else acks
        self._known = known
        self._nearby = nearby
        self._on_over = on_over
        self._paths: dict[Contact, int] = {}
        self._trace = Trace(key.digest)
        self.deposit = Deposit(state, record, expect_seq=expect_seq, trace=self._trace)

    async def run(self) -> None:
        """Hand it out; raises nothing for those who do not take it."""
        started = self._state.loop.time()
        rest: Sequence[Contact] | None = None
        try:
            rest = await self._hand_out()
        finally:
            self._trace.duration_s = self._state.loop.time() - started
            if rest is None:
                self.deposit.when_over(self._conclude)
        if rest is not None:
            self._state.background.start(self._see_to_the_rest(rest))

    async def _hand_out(self) -> Sequence[Contact] | None:
        """Those known, if it is still to be seen whether they suffice; the caller has enough."""
        known = list(self._known) or self._found_nearby()
        if not known:
            await self._to_those_found()
            return None
        chosen = self._chosen_of(known)
        await self._give_to(
            chosen, spares=self._spares_of(known, chosen), acks=self._acks_of(chosen)
        )
        if not self.deposit.is_over:
            return known
        await self._make_up(known)
        return None

    async def _see_to_the_rest(self, known: Sequence[Contact]) -> None:
        try:
            await self.deposit.over()
            await self._make_up(known)
        finally:
            self.deposit.when_over(self._conclude)

    async def _make_up(self, known: Sequence[Contact]) -> None:
        """Walk after all, if those who were known did not suffice."""
        if not self._suffice(known):
            sometimes(Rare.REPLICAS_CHANGED)
            await self._to_those_found()

    @property
    def receipt(self) -> Receipt:
        """What has come of it so far."""
        return Receipt(
            key=self._key,
            seq=self._record.header.seq,
            expires=self._record.header.expires,
            copies=self._copies,
            replicas=tuple(self.deposit.replicas),
            refused=dict(self.deposit.refused),
            trace=self._trace,
        )

    # --- Ways to the responsible nodes ------------------------------------------------------------

    def _acks_of(self, chosen: Sequence[Contact]) -> int:
        """For how many to wait. Where a seq is expected anyone may know of a later one."""
        return self._acks if self._expect_seq is None else len(chosen)

    def _suffice(self, known: Sequence[Contact]) -> bool:
        """Whether `copies` of those known took it, and they know of nobody nearer."""
        deposit, goal = self.deposit, point(self._key.digest)
        if deposit.newest is not None or deposit.conflict:
            return True  # there is a later version: that is what this write has to hear
        if len(deposit.replicas) < self._copies:
            return False
        reach = sorted(contact.point ^ goal for contact in deposit.replicas)[: self._copies][-1]
        strangers = [c for c in deposit.named if c not in known and c != self._state.contact]
        return all(contact.point ^ goal > reach for contact in strangers)

    def _found_nearby(self) -> list[Contact]:
        """Those whom a walk nearby has found lately, or who are known anyway."""
        state, digest, found = self._state, self._key.digest, list[Found]()
        if self._nearby:
            now = state.loop.time()
            found = state.neighbourhoods.near(
                digest, count_min=self._copies, reach=state.reach, now=now
            )
        found = found or state.known_near(digest)
        self._paths |= {one.contact: one.path for one in found}
        return [one.contact for one in found]

    async def _to_those_found(self) -> None:
        """Walk to the key, and give it to whoever of those found does not have it yet."""
        state, digest = self._state, self._key.digest
        walk = Walk(state, digest, FindNode(digest), radius=state.reach, trace=self._trace)
        await walk.run()
        found = walk.closest(state.region_max)
        self._paths |= {contact: walk.path_of(contact) for contact in found}
        crowd_size = size_if_crowded(digest, found, copies=self._copies)
        chosen = self._chosen_of(found, crowd_size=crowd_size)
        await self._give_to(
            chosen, spares=self._spares_of(found, chosen), acks=self._acks_of(chosen)
        )

    def _chosen_of(
        self, found: Sequence[Contact], *, crowd_size: float | None = None
    ) -> list[Contact]:
        """Whom to give it to, ourselves perhaps among them."""
        return self._state.choose_replicas(
            self._key.digest, self._with_us(found), crowd_size=crowd_size
        )

    def _spares_of(self, found: Sequence[Contact], chosen: Sequence[Contact]) -> list[Contact]:
        """Who is next, nearest first. Where a seq is expected, those chosen have to decide."""
        if self._expect_seq:
            return []
        state, goal = self._state, point(self._key.digest)
        we_may = state.is_responsible(self._key.digest, factor=state.settings.too_far_factor)
        left = (self._with_us(found) if we_may else set(found)).difference(chosen)
        return sorted(left, key=lambda contact: contact.point ^ goal)

    def _with_us(self, found: Sequence[Contact]) -> set[Contact]:
        return {*found, self._state.contact} if self._state.is_server else set(found)

    async def _give_to(
        self, chosen: Sequence[Contact], *, spares: Sequence[Contact], acks: int
    ) -> None:
        """Ask the chosen; those who were asked in vain before have spares in their places."""
        deposit, here = self.deposit, self._state.contact
        ours = here in chosen and here not in deposit.replicas
        places = sum(contact not in deposit.replicas for contact in chosen) - ours
        asked = {*deposit.replicas, *deposit.refused, *([here] if ours else [])}
        fresh = [contact for contact in (*chosen, *spares) if contact not in asked]
        wanted = acks - len(deposit.replicas) - ours
        await deposit.to(fresh[:places], spares=fresh[places:], acks=max(wanted, 1))
        if ours and not deposit.conflict:
            await deposit.keep_here()

    def _conclude(self) -> None:
        """Reads of this key need no walk for a while."""
        self._on_over(self.deposit)
        holders = [
            Found(contact, self._paths.get(contact, 0))
            for contact in self.deposit.replicas
            if contact != self._state.contact
        ]
        if holders:
            now = self._state.loop.time()
            self._state.neighbourhoods.on_holders(self._key.digest, holders, now=now)
