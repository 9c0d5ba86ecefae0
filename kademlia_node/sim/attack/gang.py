"""What the attackers of one assault know together: each other, their target, what they have seen.

It does nothing by itself; each `Attacker` reads it, and adds to it. Also the search for identities
near a target, which is what a place next to a key costs.
"""

from __future__ import annotations

import random
from bisect import insort
from heapq import nsmallest
from itertools import islice
from operator import itemgetter

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import distance, point
from kademlia_node.core.record import Header, Record
from kademlia_node.core.suite import Suite
from kademlia_node.sim.swarm import Swarm

GRIND_TRIES_MAX = 1 << 20  # some seconds of ours; with real keys, more than a minute of an attacker
VERSIONS_MAX = 1024  # first versions of records that a gang remembers
DEAD_OCTET = 150  # 150.0.0.0/8: public, and far above where a simulated network gives out hosts


class Gang:
    """The common knowledge of one assault.

    Args:
        swarm: Whom it attacks.
        rng: All chance of the assault.
        target: The 32 bytes that it is about; None: about everything.
        rate_per_s: How often each of those strikes who strike unasked, per virtual second.

    Attributes:
        strikes: How often they did, all together.
    """

    def __init__(
        self,
        swarm: Swarm,
        *,
        rng: random.Random,
        target: bytes | None = None,
        rate_per_s: float = 1.0,
    ) -> None:
        self.swarm = swarm
        self.rng = rng
        self.target = target
        self.rate_per_s = rate_per_s
        self.strikes = 0
        self._members: dict[bytes, Contact] = {}  # by public key
        self._false: dict[bytes, Address] = {}
        self._first: dict[tuple[bytes, bytes, bytes], Record] = {}  # by key, author, slot

    def __contains__(self, contact: Contact) -> bool:
        return contact.public_key in self._members

    def enlist(self, contact: Contact) -> None:
        """One more of us."""
        self._members[contact.public_key] = contact

    def concerns(self, goal: bytes) -> bool:
        """Whether a question about these 32 bytes is to be answered wrongly."""
        return self.target in {None, goal}

    def nearest(self, goal: bytes, count: int) -> tuple[Contact, ...]:
        """Those of us nearest to a point, nearest first."""
        there = point(goal)
        return tuple(nsmallest(count, self._members.values(), key=lambda one: one.point ^ there))

    def misplaced(self, honest: Contact) -> Contact:
        """An honest key at an address where nobody listens, or one of us; always the same one."""
        address = self._false.get(honest.public_key)
        if address is None:
            members = list(self._members.values())
            taken = bool(members) and self.rng.random() < 0.5
            address = self.rng.choice(members).address if taken else self.dead_address()
            self._false[honest.public_key] = address
        return Contact(honest.public_key, address)

    def dead_address(self) -> Address:
        """A public address at which nobody listens."""
        octets = (str(self.rng.randint(1, 254)) for _ in range(3))
        return Address(".".join([str(DEAD_OCTET), *octets]), self.rng.randint(1024, 65535))

    def remember(self, record: Record) -> None:
        """Keep the first version that we were given of each record."""
        if len(self._first) < VERSIONS_MAX:
            self._first.setdefault((record.key, record.header.author, record.header.slot), record)

    def first_version(self, key: bytes, header: Header) -> Record | None:
        """The first version that we were given of what has this header, if it was an older one."""
        first = self._first.get((key, header.author, header.slot))
        older = first is not None and first.header.version < header.version
        return first if older else None


def grind(
    target: bytes,
    *,
    count: int,
    nearer_than: bytes,
    rng: random.Random,
    suite: Suite,
    puzzle_bits: int = 0,
    tries_max: int = GRIND_TRIES_MAX,
) -> list[Identity]:
    """Search for identities nearer to a target than an ID, as an attacker has to.

    Among N nodes the nearest is at a distance that one key pair in N falls below, so that each find
    takes about N tries, times 2^puzzle_bits.

    Args:
        target: 32 bytes.
        count: How many are wanted.
        nearer_than: The ID of the nearest honest node.
        rng: Draws the keys.
        suite: Makes them; the null suite takes 3 us each.
        puzzle_bits: Of the network.
        tries_max: What the attacker can afford.

    Returns:
        The nearest `count` that were found, nearest first. After `tries_max` tries some of them may
        be no nearer than `nearer_than`, and there may be fewer.
    """
    limit = distance(nearer_than, target)
    nearest: list[tuple[int, Identity]] = []
    for attempt in islice(Identity.attempts(rng, puzzle_bits=puzzle_bits, suite=suite), tries_max):
        if attempt is None:
            continue
        insort(nearest, (distance(attempt.id, target), attempt), key=itemgetter(0))
        del nearest[count:]
        if len(nearest) == count and nearest[-1][0] < limit:
            break
    return [identity for _, identity in nearest]
