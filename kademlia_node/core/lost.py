"""Peers that once were good and then fell silent, or left: the way back after a partition.

The routing table drops whoever stays silent. If the network was cut in two, those are all of the
other half, and somebody has to try them again when the cut has healed. So the table tells whom it
drops, and who is heard; a chore asks `next` whom to try. Those known for longest are kept: whoever
was up for long is likely to come back, and churn alone cannot push them out.

Not known here: whether anybody really is at those addresses, and how often they are tried.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from kademlia_node.core.contact import Contact


class LostContacts:
    """At most `capacity` contacts, in the order in which they are to be tried."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lost: OrderedDict[bytes, tuple[Contact, float]] = OrderedDict()
        self._found: dict[bytes, Contact] = {}

    def on_lost(self, contact: Contact, *, up_s: float) -> None:
        """A contact that had been heard for `up_s` seconds is no longer in the table."""
        self._found.pop(contact.id, None)
        self._lost[contact.id] = (contact, up_s)
        if len(self._lost) > self._capacity:
            del self._lost[min(self._lost, key=lambda one: self._lost[one][1])]

    def on_heard(self, contact: Contact) -> None:
        """A contact, lost or not, has just been heard."""
        if self._lost.pop(contact.id, None) is not None:
            self._found[contact.id] = contact

    def on_found(self, contact: Contact) -> None:
        """A contact that was never lost has been heard, which may be of another network as well."""
        if len(self._found) < self._capacity:
            self._found[contact.id] = contact

    def forget(self, contact_id: bytes) -> None:
        """Try this one no more."""
        self._lost.pop(contact_id, None)
        self._found.pop(contact_id, None)

    def next(self) -> Contact | None:
        """Whom to try: the one not tried for longest."""
        for contact_id, (contact, _) in self._lost.items():
            self._lost.move_to_end(contact_id)
            return contact
        return None

    def take_found(self) -> list[Contact]:
        """Those lost ones that were heard since this was asked last, where they are now."""
        found, self._found = list(self._found.values()), {}
        return found

    def __len__(self) -> int:
        return len(self._lost)

    def __iter__(self) -> Iterator[Contact]:
        """In the order in which they are to be tried."""
        return iter([contact for contact, _ in self._lost.values()])
