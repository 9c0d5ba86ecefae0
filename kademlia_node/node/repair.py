"""Repair by difference: each holder learns from its neighbours what it lacks (`core.digest`).

In place of the paper's hourly republication (section 2.3), whose cost follows what is held, this
one's follows what has changed. Now and then one of our neighbours is asked for its digests of our
region; where they differ from ours, we pull what we should hold and do not. So the copies come back
after holders were lost, and a newcomer gets what it is responsible for, with nobody pushing. Rounds
follow each other quickly until each neighbour was asked, when we have just started, when somebody
in our region was silent or it has widened: what was not ours before may be now. A newcomer is asked
soon, too.

Refuses to know how a key is copied (`copying`) and when chores run. Driven by `repair`, a chore; a
round goes on behind it, so that a slow neighbour holds up no other chore.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kademlia_node.core.contact import Contact
from kademlia_node.core.digest import Reconciled, Reconciliation
from kademlia_node.core.ids import distance, point, shared_bits
from kademlia_node.core.message import Digest, Digests
from kademlia_node.core.replica import expected_radius
from kademlia_node.errors import NoAnswer, PeerRefused
from kademlia_node.node.copying import Copying
from kademlia_node.node.state import NodeState
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import ID_BITS

NEAREST = 2  # times copies: who shares most keys with us
ROUNDS_MAX = 16  # that follow each other quickly, with one neighbour that always has more
DIGIT_BITS = 4
KEYS_PER_STEP = 64  # judged between two looks at the event loop


class Repairer:
    """Keeps up the copies that one node has to hold."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._reconciled = Reconciled(state.settings.repair_reconciled_max)
        self._near: list[Contact] = []  # as of the last look
        self._in_region: set[bytes] = set()  # IDs of all who were live there, as of the last look
        self._region = Region(state.identity.id, bits=0)  # everything, until the first look
        self._to_ask: set[bytes] = set()  # IDs of those who may have news
        self._asked_at: dict[bytes, float] = {}
        self._in_a_row: Counter[bytes] = Counter()  # rounds with one who had more to tell
        self._shunned: dict[bytes, float] = {}  # IDs of liars, and until when
        self._is_under_way = False

    async def repair(self) -> float | None:
        """Begin a round; seconds until the next one should follow, or None."""
        if not self._state.is_server:
            return None
        if not self._is_under_way:
            self._update_neighbours()
            if (peer := self._next()) is not None:
                self._is_under_way = True
                self._state.background.start(self._round(peer))
        return self._state.settings.repair_brisk_s if self._to_ask else None

    # --- Whom to ask ------------------------------------------------------------------------------

    def _update_neighbours(self) -> None:
        """See who has come, and who has gone: whose share may be ours now."""
        table = self._state.table
        has_widened = self._update_region()
        by_age = sorted(table.live(shared_bits=self._region.bits), key=lambda one: one[1])
        members = [contact for contact, _, _ in by_age]
        before, self._near = self._near, self._neighbours(members)
        known, here = {peer.id for peer in before}, {peer.id for peer in self._near}
        some_gone = not all(table.is_live(one) for one in known | self._in_region)
        self._in_region = {contact.id for contact in members}
        if has_widened or some_gone:
            self._reconciled.clear()
            self._to_ask = here
        else:
            self._to_ask = (self._to_ask | (here - known)) & here
        self._asked_at = {one: at for one, at in self._asked_at.items() if one in here}
        self._in_a_row &= Counter(dict.fromkeys(here, ROUNDS_MAX))

    def _neighbours(self, members: Sequence[Contact]) -> list[Contact]:
        """Our nearest, and of each subtree of our region the `copies` that were up for longest.

        A subtree with fewer than `copies` has keys that nodes outside of it hold as well, and we
        may be one of them, while our nearest are not. Whether it seems to have more is for whoever
        crowds it to decide: so some of each are asked.

        Args:
            members: Who is live in our region, those first who were up for longest.
        """
        state = self._state
        own_id, copies = state.identity.id, state.network.copies
        subtrees: dict[int, list[Contact]] = {}
        for contact in members:
            subtrees.setdefault(shared_bits(contact.id, own_id), []).append(contact)
        oldest = [contact for subtree in subtrees.values() for contact in subtree[:copies]]
        return list(dict.fromkeys([*state.table.closest(own_id, NEAREST * copies), *oldest]))

    def _update_region(self) -> bool:
        """Whether it has widened. One a bit too wide is kept, lest it goes to and fro."""
        state, bits = self._state, self._region.bits
        copies = state.network.copies
        found = region_of(
            state.identity.id,
            state.table.live_counts(),
            copies=copies,
            network_size=state.size.estimate,
        )
        if not bits <= found.bits <= bits + 1:
            self._region = found
        return found.bits < bits

    def _next(self) -> Contact | None:
        """Of those who may have news, or of all, the one not asked for longest."""
        now = self._state.loop.time()
        self._shunned = {one: until for one, until in self._shunned.items() if until > now}
        self._to_ask -= self._shunned.keys()
        trusted = [peer for peer in self._near if peer.id not in self._shunned]
        candidates = [peer for peer in trusted if peer.id in self._to_ask] or trusted
        if not candidates:
            return None
        peer = min(candidates, key=lambda one: self._asked_at.get(one.id, float("-inf")))
        self._asked_at[peer.id] = now
        self._to_ask.discard(peer.id)
        return peer

    # --- One round --------------------------------------------------------------------------------

    async def _round(self, peer: Contact) -> None:
        try:
            await self._repair_from(peer)
        finally:
            self._is_under_way = False

    async def _repair_from(self, peer: Contact) -> None:
        state, settings, holdings = self._state, self._state.settings, self._state.holdings
        state.counts["repairs_asked"] += 1
        await holdings.refresh()
        comparison = Reconciliation(
            holdings.trie,
            self._reconciled,
            peer_id=peer.id,
            prefix=self._region.prefix,
            concerns_us=self._region.meets,
            requests_max=settings.repair_requests_max,
            at_once=settings.repair_at_once,
        )
        copying = Copying(state, peer)
        wanted: list[bytes] | None = None
        try:
            async with asyncio.timeout(settings.repair_max_s):
                await self._compare(peer, comparison)
                wanted = await self._wanted(comparison.differing)
                await copying.copy(wanted[: settings.repair_pulls_max])
        except TimeoutError:
            sometimes(Rare.REPAIR_CUT_SHORT)
        if comparison.lied or copying.lied:
            self._shun(peer)
            return
        await holdings.refresh()
        named = comparison.differing if wanted is None else wanted
        undone = [key for key in named if key not in copying.done]
        comparison.settle(undone=undone)
        if copying.copied:
            sometimes(Rare.REPAIRED)
        self._go_on(peer, has_more=comparison.ran_out or bool(copying.copied and undone))

    def _go_on(self, peer: Contact, *, has_more: bool) -> None:
        """Ask one who has more to tell again soon; but nobody can keep us busy for ever."""
        if not has_more:
            del self._in_a_row[peer.id]
        elif self._in_a_row[peer.id] < ROUNDS_MAX:
            self._in_a_row[peer.id] += 1
            self._to_ask.add(peer.id)

    async def _compare(self, peer: Contact, comparison: Reconciliation) -> None:
        """Ask until it is known what differs, or the neighbour is silent."""

        async def ask(request: Digest) -> None:
            try:
                answer = await self._state.exchange.ask(peer, request)
            except (NoAnswer, PeerRefused):
                comparison.on_failure(request)
            else:
                assert isinstance(answer, Digests), "the exchange lets nothing else through"
                comparison.on_answer(request, answer)

        while requests := comparison.next_requests():
            self._state.counts["repair_requests"] += len(requests)
            async with asyncio.TaskGroup() as asking:
                for request in requests:
                    asking.create_task(ask(request))

    async def _wanted(self, differing: Sequence[bytes]) -> list[bytes]:
        """Those of the keys that we should hold, or hold anyway; the nearest to us first."""
        wanted = []
        for count, key in enumerate(differing, start=1):
            if self._state.holdings.trie.get(key) or self._state.is_responsible(key):
                wanted.append(key)
            if count % KEYS_PER_STEP == 0:
                await asyncio.sleep(0)
        return sorted(wanted, key=lambda key: distance(key, self._state.identity.id))

    def _shun(self, liar: Contact) -> None:
        sometimes(Rare.REPAIR_LIED)
        self._state.counts["repair_lied"] += 1
        self._shunned[liar.id] = self._state.loop.time() + self._state.settings.repair_shun_s


@dataclass(frozen=True, slots=True)
class Region:
    """All keys that share at least `bits` leading bits with the ID (32 bytes) of a node."""

    own_id: bytes
    bits: int

    @property
    def prefix(self) -> str:
        """The longest row of hexadecimal digits with which all its keys begin."""
        return self.own_id.hex()[: self.bits // DIGIT_BITS]

    def meets(self, prefix: str) -> bool:
        """Whether any of its keys begin with these digits, of which there is at least one."""
        told = DIGIT_BITS * len(prefix)
        common = min(told, self.bits)
        return int(prefix, 16) >> (told - common) == point(self.own_id) >> (ID_BITS - common)


def region_of(
    own_id: bytes, live_counts: Iterable[int], *, copies: int, network_size: float | None
) -> Region:
    """The smallest region that has all keys for which a node may be responsible.

    A key that differs from its ID first in bit i is not its own if enough known nodes differ there,
    too, since all of them are nearer to the key, and if the radius that the size of the network
    predicts ends before.

    Args:
        own_id: 32 bytes.
        live_counts: how many known nodes share exactly i bits with it.
        copies: how many nodes shall hold each record.
        network_size: `NetworkSize.estimate`.
    """
    radius = expected_radius(copies=copies, network_size=network_size)
    bits = 0
    for count in live_counts:
        if count < copies or 1 << (ID_BITS - 1 - bits) <= radius:
            break
        bits += 1
    return Region(own_id, bits)
