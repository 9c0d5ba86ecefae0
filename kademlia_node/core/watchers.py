"""Who wants to be told when records under a key change, and for how long.

A bounded table of leases: nobody is told for longer than he asks again, and what one address may
take of it is bounded, since asking costs a watcher next to nothing. Who has not answered a few
times in a row is told no more.

Not known here: what changes, and how it is told (`node.notify`). Driven by `add` when somebody asks
and `of` when something changes; then `on_answer` or `on_silence` tell what became of the telling.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from kademlia_node.core.contact import Contact, is_local, prefix
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import Settings

SILENCES_MAX = 3  # in a row: NOTIFYs are repeated, and still one in a hundred may be lost
Mark = tuple[bytes, bytes]
"""A key, and the ID of who watches it."""


@dataclass(slots=True)
class _Lease:
    contact: Contact
    until: float
    silences: int = 0


class Watchers:
    """The leases of one node. `len` counts them, ended ones included until they are met."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._leases: OrderedDict[Mark, _Lease] = OrderedDict()  # the first ends first
        self._by_key: dict[bytes, dict[bytes, _Lease]] = {}
        self._by_prefix: Counter[bytes] = Counter()

    def count(self, *, now: float) -> int:
        """How many leases there are."""
        self._forget_ended(now)
        return len(self._leases)

    def add(self, key: bytes, contact: Contact, *, now: float) -> float:
        """Begin or renew a lease; for how many seconds, 0 if there is no room."""
        self._forget_ended(now)
        self.drop(key, contact.id)
        if not self._has_room(key, contact):
            sometimes(Rare.WATCHERS_FULL)
            return 0.0
        lease = _Lease(contact, now + self._settings.watch_lease_s)
        self._leases[key, contact.id] = lease
        self._by_key.setdefault(key, {})[contact.id] = lease
        self._by_prefix[_charged(contact)] += 1
        return self._settings.watch_lease_s

    def of(self, key: bytes, *, now: float) -> list[Contact]:
        """Who is to be told of this key."""
        leases = self._by_key.get(key, {}).values()
        return [lease.contact for lease in leases if lease.until > now]

    def on_answer(self, key: bytes, watcher_id: bytes) -> None:
        """It was told."""
        if (lease := self._leases.get((key, watcher_id))) is not None:
            lease.silences = 0

    def on_silence(self, key: bytes, watcher_id: bytes) -> None:
        """It could not be told."""
        if (lease := self._leases.get((key, watcher_id))) is not None:
            lease.silences += 1
            if lease.silences >= SILENCES_MAX:
                sometimes(Rare.WATCHER_DROPPED)
                self.drop(key, watcher_id)

    def drop(self, key: bytes, watcher_id: bytes) -> None:
        """End a lease, if there is one."""
        lease = self._leases.pop((key, watcher_id), None)
        if lease is None:
            return
        watchers = self._by_key[key]
        del watchers[watcher_id]
        if not watchers:
            del self._by_key[key]
        charged = _charged(lease.contact)
        self._by_prefix[charged] -= 1
        if not self._by_prefix[charged]:
            del self._by_prefix[charged]

    def _has_room(self, key: bytes, contact: Contact) -> bool:
        """Of one key an address prefix has a quarter at most, so that it keeps nobody out."""
        settings, charged = self._settings, _charged(contact)
        watchers = self._by_key.get(key, {}).values()
        per_key = settings.watchers_per_key_max
        neighbours = sum(_charged(lease.contact) == charged for lease in watchers) if charged else 0
        return (
            len(self._leases) < settings.watchers_max
            and len(watchers) < per_key
            and neighbours < per_key / 4
            and (not charged or self._by_prefix[charged] < settings.watchers_per_prefix_max)
        )

    def _forget_ended(self, now: float) -> None:
        while self._leases:
            (key, watcher_id), lease = next(iter(self._leases.items()))
            if lease.until > now:
                return
            self.drop(key, watcher_id)


def _charged(contact: Contact) -> bytes:
    """Whose share a lease is of: a subnet's; local addresses have none."""
    host = contact.address.host
    return b"" if is_local(host) else prefix(host)
