"""Watching a key: what becomes of it is told by those who keep it, as it happens.

The responsible nodes are asked to tell (WATCH), again and again, since what they promise ends by
itself; they push each new record (NOTIFY). Some of this gets lost, and nodes come and go. So with
each renewal they tell what they hold, as a digest; where it is not what we know, the key is read.
It is read at the beginning, too: what is there already is told first, so nothing is missed in
between, nor by a program that was away and watches again.

Refuses to know how a key is read (`topic`, `read`) and in which order changes are told
(`core.feed`). Driven by whoever iterates over `Subscription.changes`; `Subscriptions` hears what
comes in.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.digest import NOTHING
from kademlia_node.core.feed import Change, Feed
from kademlia_node.core.key import Key, Spot
from kademlia_node.core.manifest import Piece
from kademlia_node.core.message import FindNode, Item, Notified, Notify, Watch, Watched
from kademlia_node.core.record import Header, Reason
from kademlia_node.core.replica import size_if_crowded
from kademlia_node.errors import BadRecord, NoAnswer, NotRunning, PeerRefused, SetupError
from kademlia_node.node.pulling import pull
from kademlia_node.node.receipt import Trace
from kademlia_node.node.state import NodeState
from kademlia_node.node.walk import Walk
from kademlia_node.rare import Rare, sometimes

log = logging.getLogger(__name__)

Read = Callable[[], AsyncGenerator[Item, None]]
"""Reads what is under the key, whole and verified, tombstones included."""
GRACE_S: Final = 1.0  # after an entry has expired, for its renewal may be on its way


class Subscriptions:
    """All that one node watches."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._by_key: dict[bytes, list[Subscription]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))

    def begin(self, subscription: Subscription) -> None:
        """Let it hear of its key from now on."""
        self._by_key.setdefault(subscription.key.digest, []).append(subscription)

    def end(self, subscription: Subscription) -> None:
        """Let it hear no more."""
        watching = self._by_key[subscription.key.digest]
        watching.remove(subscription)
        if not watching:
            del self._by_key[subscription.key.digest]

    def on_notify(self, teller: Contact, news: Notify) -> Notified:
        """A peer tells of a record; it is heard if it was asked to tell."""
        asked = [
            subscription
            for subscription in self._by_key.get(news.key, ())
            if subscription.has_asked(teller)
        ]
        if not asked or news.header.kind is not asked[0].key.kind:
            sometimes(Rare.NEWS_UNWANTED)
            return Notified(wanted=False)
        try:
            self._state.judge(news.key, news.header, news.value)
        except BadRecord as error:
            self._state.count_bad(error, by="watcher")
            return Notified(wanted=error.reason is Reason.EXPIRED)  # our clock may be ahead
        for subscription in asked:
            subscription.on_news(teller, news.header, news.value)
        return Notified(wanted=True)

    def on_filed(self, key: bytes, header: Header, value: bytes | None) -> None:
        """A record was filed, or renewed, in our own store."""
        for subscription in self._by_key.get(key, ()):
            if header.kind is subscription.key.kind:
                subscription.on_news(None, header, value)


class Subscription:
    """One key that is watched.

    Args:
        state: The node that watches.
        subscriptions: Where it hears.
        key: Of a topic or of an entry.
        read: Reads it.
        spot: Of the entry; None: all of them.
    """

    def __init__(
        self,
        state: NodeState,
        subscriptions: Subscriptions,
        key: Key,
        *,
        read: Read,
        spot: Spot | None = None,
    ) -> None:
        settings = state.settings
        self.key = key
        self._state = state
        self._subscriptions = subscriptions
        self._read = read
        self._spot = spot
        self._feed = Feed(
            settle_s=settings.watch_settle_s,
            entries_max=settings.watch_entries_max,
            bytes_max=settings.watch_bytes_max,
        )
        self._ends: list[Change] = []  # of what has expired
        self._holders: dict[Contact, bytes] = {}  # who tells us, and the digest of what it holds
        self._settled: set[bytes] = set()  # digests of holders that a reading has dealt with
        self._pulls = 0
        self._look_at = self._read_at = self._asked_at = -math.inf
        self._news, self._wake = asyncio.Event(), asyncio.Event()
        self._is_over = False

    async def changes(self) -> AsyncGenerator[Change, None]:
        """What is there, and then what becomes of it, for as long as anybody iterates.

        Raises:
            NotRunning: the node has stopped.
        """
        self._subscriptions.begin(self)
        keeping = self._state.background.start(self._keep())
        try:
            while True:
                self._news.clear()
                if self._is_over or keeping is None:
                    raise NotRunning
                ends, self._ends = self._ends, []
                for change in self._feed.due(self._state.loop.time()) + ends:
                    yield change
                if self._feed.has_missed and self._feed.next_due() is None:
                    self._wake.set()
                await self._next_news()
        finally:
            self._subscriptions.end(self)
            if keeping is not None:
                keeping.cancel()

    async def _next_news(self) -> None:
        try:
            async with asyncio.timeout_at(self._feed.next_due()):
                await self._news.wait()
        except TimeoutError:
            pass

    # --- What is heard ----------------------------------------------------------------------------

    def has_asked(self, teller: Contact) -> bool:
        """Whether this peer is one of those who are to tell us."""
        return teller in self._holders

    def on_news(self, teller: Contact | None, header: Header, value: bytes | None) -> None:
        """A record that verifies, told by a peer or (None) filed here; a long value is fetched."""
        if self._spot not in (None, (header.author, header.slot)) or not self._feed.wants(header):
            return
        if value is not None:
            self._take(header, value)
        elif teller is None or self._pulls >= self._state.settings.watch_pulls_max:
            sometimes(Rare.LONG_NEWS_MISSED)
            self._feed.has_missed = True
            self._wake.set()
        else:
            self._pulls += 1
            self._state.background.start(self._pull(teller, header))

    def _take(self, header: Header, value: bytes) -> None:
        if self._feed.on_record(header, value, now=self._state.loop.time()):
            self._news.set()

    async def _pull(self, holder: Contact, header: Header) -> None:
        try:
            piece = Piece(header.value_hash, header.length)
            value = await pull(self._state, holder, piece, trace=Trace(self.key.digest))
            if value is not None:
                self._take(header, value)
        finally:
            self._pulls -= 1

    # --- Keeping it up ----------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Go round again and again; a disk that cannot be read ends no watch."""
        try:
            while True:
                try:
                    until = await self._go_round()
                except SetupError as error:
                    log.warning("what is watched cannot be read now: %s", error)
                    self._feed.has_missed = True
                    until = self._state.loop.time() + self._state.settings.watch_retry_s
                await self._rest(until=until)
        finally:
            self._is_over = True
            self._news.set()

    async def _go_round(self) -> float:
        """Ask to be told; read where telling did not do. Returns when to go round again."""
        settings, clock = self._state.settings, self._state.loop.time
        if clock() >= self._look_at:
            await self._look()
            self._look_at = clock() + settings.watch_look_s
        look_in_s, lease_s = await self._ask_to_tell()
        self._look_at = min(self._look_at, clock() + look_in_s)
        if self._has_expiring():
            self._settled.clear()  # whoever tells these digests may have renewed it
        if self._is_behind():
            await self._read_all()
        self._ends += self._feed.expire(self._state.wall())
        if self._ends:
            self._news.set()
        renew_in_s = min(settings.watch_renew_s, max(settings.watch_retry_s, lease_s / 2))
        return min(self._look_at, clock() + renew_in_s)

    async def _look(self) -> None:
        """Find out to whom a writer would give a record, and who is so to tell us."""
        state, digest = self._state, self.key.digest
        walk = Walk(state, digest, FindNode(digest), radius=state.reach)
        await walk.run()
        found = walk.closest(state.region_max)
        crowd_size = size_if_crowded(digest, found, copies=state.network.copies)
        chosen = state.choose_replicas(digest, found, crowd_size=crowd_size)
        self._holders = {holder: self._holders.get(holder, b"") for holder in chosen}

    async def _ask_to_tell(self) -> tuple[float, float]:
        """Begin or renew it with everyone who is to tell us.

        Who has no room for one more tells at least what it holds.

        Returns:
            In how many seconds to look again, and for how many we are told at least.
        """
        settings, self._asked_at = self._state.settings, self._state.loop.time()
        look_in_s, leases_s = [settings.watch_look_s], [math.inf]

        async def ask(holder: Contact) -> None:
            try:
                answer = await self._state.exchange.ask(holder, Watch(self.key.digest))
            except (NoAnswer, PeerRefused):
                sometimes(Rare.TELLER_LOST)
                del self._holders[holder]
                look_in_s.append(settings.watch_retry_s)
                return
            assert isinstance(answer, Watched), "the exchange lets nothing else through"
            self._holders[holder] = answer.versions
            leases_s.append(answer.lease_s or math.inf)
            if not answer.lease_s and answer.versions == NOTHING:
                del self._holders[holder]
                look_in_s.append(settings.watch_renew_s)

        async with asyncio.TaskGroup() as asking:
            for holder in list(self._holders):
                asking.create_task(ask(holder))
        return min(look_in_s), min(leases_s)

    def _is_behind(self) -> bool:
        """Whether holders have what we do not know, or still have what expires as far as we know.

        One that is alone with it lacks something as a rule: it is new, or no writer's choice. With
        more entries than we remember all of them differ for ever.
        """
        feed, every_s = self._feed, self._state.settings.watch_crowded_s
        if self._read_at == -math.inf or (feed.has_missed and feed.next_due() is None):
            return True
        if feed.is_crowded:
            return self._state.loop.time() >= self._read_at + every_s
        dealt_with = {feed.versions(self._state.wall()), *self._settled}
        differing = sum(digest not in dealt_with for digest in self._holders.values())
        return differing > 0 and 2 * differing >= len(self._holders)

    def _has_expiring(self) -> bool:
        """Whether something has expired, unless it was renewed and nobody has told us."""
        expiry = self._feed.next_expiry()
        return expiry is not None and expiry <= self._state.wall()

    async def _read_all(self) -> None:
        if self._read_at > -math.inf:
            sometimes(Rare.TOLD_BY_READING)
        self._feed.has_missed = self._feed.is_crowded = False
        self._read_at = self._state.loop.time()
        self._settled = {*self._holders.values()}
        self._state.counts["watch_reads"] += 1
        async with aclosing(self._read()) as items:
            async for item in items:
                if item.value is not None:
                    self.on_news(None, item.header, item.value)

    async def _rest(self, *, until: float) -> None:
        """Sleep until then; or until an entry expires or something was missed, but a while."""
        settings, now = self._state.settings, self._state.loop.time()
        not_before = self._asked_at + settings.watch_retry_s
        expiry = self._feed.next_expiry()
        if expiry is not None:
            until = min(until, max(now + expiry + GRACE_S - self._state.wall(), not_before))
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
                await asyncio.sleep(max(0.0, not_before - now))
        except TimeoutError:
            pass
        self._wake.clear()
