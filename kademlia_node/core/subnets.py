"""How many contacts of one subnet a routing table takes: strangers of one landlord are not many.

Open networks must count so (Eclipse attacks: whoever owns a /24 owns 256 addresses). Limits hold
per bucket and over the table; /24 and /56 are a prefix, a /64 within it a subnet (`contact`).
Local hosts, which a landlord may have in any number, are never counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kademlia_node.core.contact import Contact, is_local, prefix, subnet
from kademlia_node.settings import Settings


class SubnetLimits:
    """The contacts of one table, counted by prefix; everything is allowed unless `enabled`."""

    def __init__(self, settings: Settings, *, enabled: bool) -> None:
        self._settings = settings
        self._enabled = enabled
        self._per_prefix: Counter[bytes] = Counter()

    def count(self, contact: Contact) -> None:
        """It is in the table now."""
        if self._limits(contact):
            self._per_prefix[prefix(contact.address.host)] += 1

    def discount(self, contact: Contact) -> None:
        """It no longer is."""
        if self._limits(contact):
            network = prefix(contact.address.host)
            self._per_prefix[network] -= 1
            if not self._per_prefix[network]:
                del self._per_prefix[network]

    def allow(self, contact: Contact, *, beside: Iterable[Contact]) -> bool:
        """Whether one more contact of its subnet may stand beside those of a bucket."""
        if not self._limits(contact):
            return True
        settings = self._settings
        network, narrow = prefix(contact.address.host), subnet(contact.address.host)
        if self._per_prefix[network] >= settings.contacts_per_prefix_table:
            return False
        hosts = [other.address.host for other in beside]
        if sum(prefix(host) == network for host in hosts) >= settings.contacts_per_prefix_bucket:
            return False
        in_subnet = sum(subnet(host) == narrow for host in hosts)
        return narrow == network or in_subnet < settings.contacts_per_subnet_v6

    def _limits(self, contact: Contact) -> bool:
        return self._enabled and not is_local(contact.address.host)
