"""Telling those who watch a key what is new under it.

Refuses to know who may watch (`core.watchers`) and what is stored. Driven by `watch` when a peer
asks for it, and by `on_filed` for every record that was filed or renewed here; nobody waits for it.
"""

from __future__ import annotations

from collections import Counter

from kademlia_node.core.contact import Contact
from kademlia_node.core.digest import NOTHING
from kademlia_node.core.message import Notified, Notify, Refused, Response, Watched
from kademlia_node.core.record import Header
from kademlia_node.core.watchers import Watchers
from kademlia_node.node.state import NodeState
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import INLINE_BYTES_MAX


class Notifier:
    """What one node tells others of."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._watchers = Watchers(state.settings)
        self._under_way: Counter[bytes] = Counter()  # by the ID of the watcher

    def leases(self) -> int:
        """How many are told now; whoever watches two keys counts twice."""
        return self._watchers.count(now=self._state.loop.time())

    async def watch(self, watcher: Contact, key: bytes) -> Watched:
        """Tell this peer of changes for a while, if the key is ours to keep."""
        state, factor = self._state, self._state.settings.too_far_factor
        if not (state.is_server and state.is_responsible(key, factor=factor)):
            sometimes(Rare.WATCHED_TOO_FAR)
            return Watched(0)
        lease_s = self._watchers.add(key, watcher, now=state.loop.time())
        await state.holdings.refresh()
        return Watched(int(lease_s), state.holdings.trie.get(key) or NOTHING)

    def on_filed(self, key: bytes, header: Header, value: bytes | None) -> None:
        """This record is new here, or lives longer; its value may be left out if it is long."""
        inline = value if value is not None and len(value) <= INLINE_BYTES_MAX else None
        for watcher in self._watchers.of(key, now=self._state.loop.time()):
            self._tell(watcher, Notify(key, header, inline))

    def _tell(self, watcher: Contact, news: Notify) -> None:
        who, state = watcher.id, self._state
        if self._under_way[who] >= state.settings.notifies_per_watcher_max:
            sometimes(Rare.NEWS_LEFT_OUT)
            state.counts["notifies_left_out"] += 1
            return

        def on_done(answer: Response | None) -> None:
            self._under_way[who] -= 1
            if not self._under_way[who]:
                del self._under_way[who]
            match answer:
                case Notified(wanted=True):
                    self._watchers.on_answer(news.key, who)
                case Notified() | Refused():
                    self._watchers.drop(news.key, who)
                case _:
                    self._watchers.on_silence(news.key, who)

        self._under_way[who] += 1
        state.counts["notifies_sent"] += 1
        state.exchange.send(watcher, news, on_done=on_done)
