"""The routing table: proved contacts in buckets by how many leading bits they share with us.

Bucket i holds contacts that share exactly i bits with our own ID; that is the paper's tree, which
splits only around ourselves (Kademlia, section 2.4), written as a list. Deviations: far buckets are
wider than k; every contact of the smallest subtree around us that holds k is kept, up to
`near_bucket` per bucket; `closest` is exact.

The table refuses to know packets, pings and proofs. Its caller adds a contact only when that
contact has just shown its key and address, or restores it from an earlier run in which it had, and
strikes it when a request stayed unanswered. A contact is live while it has no strike, and no
newcomer ever displaces a live one. Chores ask `due_checks` whom to ping, `stale_buckets` where to
look up, and `lost` who was dropped and may be back.

Whoever has been up for long will stay for long: the longer a node has been up, the more likely it
is to be up an hour later (Kademlia, section 2.2 and figure 1, from the Gnutella traces of Saroiu et
al., 2002). There it is the reason to keep old contacts; here also to check them ever more seldom.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import ID_BYTES, point
from kademlia_node.core.lost import LostContacts
from kademlia_node.core.schedule import Entry as Scheduled
from kademlia_node.core.schedule import Schedule
from kademlia_node.core.subnets import SubnetLimits
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import ID_BITS, Settings


@dataclass(slots=True)
class _Entry:
    contact: Contact
    since: float  # up from then on, with no silence that we noticed
    heard: float
    strikes: int = 0
    retry_at: float = 0.0  # struck, restored, or while our uplink is in doubt: when to ping it
    look: Scheduled[_Entry] | None = None  # when to see whether it is due; no later than it is


@dataclass(slots=True)
class _Bucket:
    depth: int  # leading bits shared with our own ID
    entries: dict[bytes, _Entry] = field(default_factory=dict)
    live: dict[int, Contact] = field(default_factory=dict)  # by point: those without a strike
    replacements: dict[bytes, _Entry] = field(default_factory=dict)  # newest last
    refreshed_at: float = -math.inf


class RoutingTable:
    """The contacts of one node, at most `k` or `near_bucket` or `far_buckets` of them per bucket.

    `prefix_limits` counts contacts per subnet, as open networks must. `len`, `in` and iteration
    cover every contact of the table, struck ones included; replacements are not in the table.
    """

    def __init__(self, own_id: bytes, *, settings: Settings, prefix_limits: bool) -> None:
        assert len(own_id) == ID_BYTES
        self._own = point(own_id)
        self._settings = settings
        self._buckets: list[_Bucket] = []  # grows to the deepest bucket ever used
        self._subnets = SubnetLimits(settings, enabled=prefix_limits)
        self._silent: set[bytes] = set()  # contacts of the table struck since anyone was heard
        self._looks: Schedule[_Entry] = Schedule()
        self._near_from = 0  # the depth from which on contacts are near, as of the last checks
        self.has_heard = False  # anyone, since the table was made
        self.lost = LostContacts(settings.lost_max)

    # --- What was heard, and what was not -----------------------------------------------------

    def add(self, contact: Contact, *, now: float) -> bool:
        """A contact has proved its key and address; returns whether it is in the table now.

        A known contact loses its strikes and takes the address given here. A newcomer takes free
        room or the place of a struck contact, else it waits as a replacement. Subnet limits refuse
        newcomers and moves alike; a contact whose move is refused stays as it was.
        """
        if contact.point == self._own:
            return False
        self._silent.clear()
        self.has_heard = True
        bucket = self._bucket(self._depth(contact.point))
        known = bucket.entries.get(contact.id)
        if known is None:
            self.lost.on_heard(contact)
            return self._admit(bucket, _Entry(contact, since=now, heard=now))
        if known.contact.address != contact.address and not self._move(bucket, known, contact):
            return False
        if known.strikes:
            known.since = now
            bucket.live[contact.point] = contact
        if known.retry_at > now:  # no longer so late
            self._look(known, now + self._settings.liveness_s)
        known.heard = known.retry_at = now
        known.strikes = 0
        return True

    def restore(self, contact: Contact, *, since: float, heard: float, check_at: float) -> None:
        """File a contact that was up from `since` to `heard`, before this table was made.

        It counts as live, and is due for a check at `check_at` unless it is heard before.
        """
        if contact.point != self._own and contact.id not in self:
            entry = _Entry(contact, since=since, heard=heard, retry_at=check_at)
            self._admit(self._bucket(self._depth(contact.point)), entry)

    def strike(self, contact_id: bytes, *, now: float) -> None:
        """A request to this contact stayed unanswered; ignored for a contact not in the table.

        The contact is left alone for a back-off that doubles with each strike. Requests that fail
        within it failed together with the first and do not count; nor does anything while
        `uplink_down`. After `strikes_max` the newest replacement takes the contact's place.
        """
        bucket = self._find(contact_id)
        if bucket is None:
            return
        bucket.replacements.pop(contact_id, None)
        entry = bucket.entries.get(contact_id)
        if entry is None or (entry.strikes and now < entry.retry_at):
            return
        self._silent.add(contact_id)
        if self.uplink_down:
            sometimes(Rare.UPLINK_IN_DOUBT)
        else:
            entry.strikes += 1
            bucket.live.pop(entry.contact.point, None)
        if entry.strikes >= self._settings.strikes_max:
            sometimes(Rare.CONTACT_DROPPED)
            self._lose(bucket, entry)
            self._promote(bucket)
        else:
            doublings = max(entry.strikes - 1, 0)
            entry.retry_at = now + self._settings.strike_backoff_s * 2**doublings
            self._look(entry, entry.retry_at)

    def remove(self, contact_id: bytes) -> None:
        """Take out a contact that said it leaves; a replacement takes its place.

        It may only be going for a while, so it counts as lost; said again, it is forgotten.
        """
        self.lost.forget(contact_id)
        bucket = self._find(contact_id)
        if bucket is None:
            return
        bucket.replacements.pop(contact_id, None)
        entry = bucket.entries.get(contact_id)
        if entry is not None:
            self._lose(bucket, entry)
            self._promote(bucket)

    @property
    def uplink_down(self) -> bool:
        """Whether so many contacts in a row were silent that the fault is likely our own.

        True when `uplink_silent` different contacts, or all there are, stayed silent since anyone
        was heard; hearing anyone ends it.
        """
        return bool(self._silent) and len(self._silent) >= min(
            self._settings.uplink_silent, len(self)
        )

    # --- What the table knows -----------------------------------------------------------------

    def __len__(self) -> int:
        return sum(len(bucket.entries) for bucket in self._buckets)

    def __iter__(self) -> Iterator[Contact]:
        """From the farthest bucket to the nearest, each in the order of arrival."""
        for bucket in self._buckets:
            for entry in bucket.entries.values():
                yield entry.contact

    def live(self, *, shared_bits: int = 0) -> Iterator[tuple[Contact, float, float]]:
        """The live contacts, each with since when it was up and when it was last heard.

        Only those that share so many leading bits with us, or more.
        """
        for bucket in self._buckets[shared_bits:]:
            for entry in bucket.entries.values():
                if not entry.strikes:
                    yield entry.contact, entry.since, entry.heard

    def live_counts(self) -> Iterator[int]:
        """How many live contacts share exactly i bits with us, for i from 0 on."""
        return (len(bucket.live) for bucket in self._buckets)

    def is_live(self, contact_id: bytes) -> bool:
        """Whether the contact of this ID is in the table and answered when it was last asked."""
        bucket = self._find(contact_id)
        return bucket is not None and point(contact_id) in bucket.live

    def __contains__(self, contact_id: bytes) -> bool:
        return self.get(contact_id) is not None

    def get(self, contact_id: bytes) -> Contact | None:
        """The contact of this ID, struck or not."""
        bucket = self._find(contact_id)
        entry = bucket.entries.get(contact_id) if bucket is not None else None
        return entry.contact if entry is not None else None

    def closest(self, target: bytes, count: int, *, include_struck: bool = False) -> list[Contact]:
        """The `count` contacts of the table nearest to `target`, nearest first; exact.

        Contacts with a strike are left out unless asked for.
        """
        goal = point(target)
        found: list[Contact] = []
        for bucket in self._by_distance(goal):
            by_point = bucket.live
            if include_struck:
                by_point = {contact.point: contact for contact in _contacts(bucket.entries)}
            found += map(by_point.__getitem__, sorted(by_point, key=goal.__xor__))
            if len(found) >= count:
                break
        return found[:count]

    # --- What the chores need -----------------------------------------------------------------

    def due_checks(self, now: float, limit: int) -> list[Contact]:
        """At most `limit` contacts worth a ping, about in the order in which they became so.

        Those are struck ones whose back-off has ended, and contacts that nothing was heard of for
        `liveness_s`; or, beyond those nearest to us, for `liveness_share` of the time they were up
        before, if that is longer, up to `liveness_max_s`. A contact stays due until it is added or
        struck.
        """
        near_depth = self._near_depth()
        for bucket in self._buckets[near_depth : self._near_from]:
            for nearer in bucket.entries.values():  # than they seemed: to be checked sooner
                self._look(nearer, now)
        self._near_from = near_depth
        due: list[tuple[float, _Entry]] = []
        while len(due) < limit and (entry := self._looks.take(now)) is not None:
            is_near = self._depth(entry.contact.point) >= near_depth
            if (check_at := self._check_at(entry, is_near=is_near)) <= now:
                due.append((check_at, entry))
            else:
                self._look(entry, check_at)
        for _, entry in due:
            self._look(entry, now)
        return [entry.contact for _, entry in sorted(due, key=lambda one: one[0])]

    def _look(self, entry: _Entry, at: float) -> None:
        """See at this moment, and no other, whether the contact is due; most of them seldom are."""
        if entry.look is not None:
            self._looks.cancel(entry.look)
        entry.look = self._looks.at(at, entry)

    def _check_at(self, entry: _Entry, *, is_near: bool) -> float:
        """When a contact is worth a ping.

        The nearest decide who should hold what, so the death of one of these is to be seen soon. So
        is one of whom nothing is known but that it was heard once.
        """
        if entry.retry_at > entry.heard:
            return entry.retry_at
        pause_s = self._settings.liveness_s
        if not is_near:
            earned_s = self._settings.liveness_share * (entry.heard - entry.since)
            pause_s = max(pause_s, min(earned_s, self._settings.liveness_max_s))
        return entry.heard + pause_s

    def stale_buckets(self, now: float) -> list[int]:
        """Buckets with no lookup for `refresh_s`, from 0 to the deepest that has contacts.

        Kademlia, section 2.3; a bucket is stale until its first `mark_refreshed`.
        """
        deepest = max((bucket.depth for bucket in self._buckets if bucket.entries), default=-1)
        return [
            bucket.depth
            for bucket in self._buckets[: deepest + 1]
            if now - bucket.refreshed_at >= self._settings.refresh_s
        ]

    def mark_refreshed(self, index: int, now: float) -> None:
        """A lookup for an ID that shares `index` bits with ours has ended; 256: our own."""
        if index < ID_BITS:
            self._bucket(index).refreshed_at = now

    # --- Buckets ------------------------------------------------------------------------------

    def _depth(self, some_point: int) -> int:
        """The bucket of a point; 256, which is never a bucket, for our own ID."""
        return ID_BITS - (self._own ^ some_point).bit_length()

    def _bucket(self, depth: int) -> _Bucket:
        assert 0 <= depth < ID_BITS
        while len(self._buckets) <= depth:
            self._buckets.append(_Bucket(len(self._buckets)))
        return self._buckets[depth]

    def _find(self, contact_id: bytes) -> _Bucket | None:
        """The bucket an ID belongs in, if it exists yet."""
        depth = self._depth(point(contact_id))
        return self._buckets[depth] if depth < len(self._buckets) else None

    def _by_distance(self, goal: int) -> Iterator[_Bucket]:
        """All buckets, such that every contact of one is nearer to `goal` than any of the next.

        Bucket i differs from us in bit i and agrees before it. Where `goal` differs from us, too,
        bucket i lies on its side, nearer than all that is deeper; where not, farther than all that.
        """
        gap = self._own ^ goal
        farther: list[_Bucket] = []
        for bucket in self._buckets:
            if gap >> (ID_BITS - 1 - bucket.depth) & 1:
                yield bucket
            else:
                farther.append(bucket)
        yield from reversed(farther)

    def _has_room(self, bucket: _Bucket) -> bool:
        far, k, near = self._settings.far_buckets, self._settings.k, self._settings.near_bucket
        size = len(bucket.entries)
        if size < (far[bucket.depth] if bucket.depth < len(far) else k):
            return True
        return size < near and bucket.depth >= self._near_depth()

    def _near_depth(self) -> int:
        """The bits shared by the smallest subtree around us that holds k contacts; 0 if none does.

        Keeping all of it is the relaxed rule of section 2.4: only so are the k nearest to us known.
        """
        held, depth = 0, len(self._buckets)
        while held < self._settings.k and depth > 0:
            depth -= 1
            held += len(self._buckets[depth].entries)
        return depth

    def _admit(self, bucket: _Bucket, newcomer: _Entry) -> bool:
        contact = newcomer.contact
        bucket.replacements.pop(contact.id, None)
        if not self._subnets.allow(contact, beside=_contacts(bucket.entries)):
            return False
        if not self._has_room(bucket):
            worst = max(bucket.entries.values(), key=lambda entry: entry.strikes)
            if worst.strikes < self._settings.strikes_displaced:
                self._wait(bucket, newcomer)
                return False
            sometimes(Rare.CONTACT_DISPLACED)
            self._lose(bucket, worst)
        self._insert(bucket, newcomer)
        return True

    def _move(self, bucket: _Bucket, known: _Entry, contact: Contact) -> bool:
        """Take over the new address, if the limits without the old one allow it."""
        self._subnets.discount(known.contact)
        others = (other for other in _contacts(bucket.entries) if other is not known.contact)
        allowed = self._subnets.allow(contact, beside=others)
        if allowed:
            known.contact = contact
            if not known.strikes:
                bucket.live[contact.point] = contact
        self._subnets.count(known.contact)
        return allowed

    def _wait(self, bucket: _Bucket, newcomer: _Entry) -> None:
        """Keep a newcomer as a replacement; one subnet cannot push the others out of the cache."""
        if self._subnets.allow(newcomer.contact, beside=_contacts(bucket.replacements)):
            bucket.replacements[newcomer.contact.id] = newcomer
        if len(bucket.replacements) > self._settings.replacements:
            del bucket.replacements[next(iter(bucket.replacements))]

    def _promote(self, bucket: _Bucket) -> None:
        """Let the newest replacement in that the limits allow, if the bucket has room."""
        if not self._has_room(bucket):
            return
        for entry in reversed(bucket.replacements.values()):
            if self._subnets.allow(entry.contact, beside=_contacts(bucket.entries)):
                sometimes(Rare.REPLACEMENT_PROMOTED)
                del bucket.replacements[entry.contact.id]
                self._insert(bucket, entry)
                return

    def _insert(self, bucket: _Bucket, entry: _Entry) -> None:
        bucket.entries[entry.contact.id] = entry
        bucket.live[entry.contact.point] = entry.contact
        self._look(entry, self._check_at(entry, is_near=True))
        self._subnets.count(entry.contact)

    def _lose(self, bucket: _Bucket, entry: _Entry) -> None:
        """Drop a contact that may come back."""
        del bucket.entries[entry.contact.id]
        bucket.live.pop(entry.contact.point, None)
        assert entry.look is not None, "it was inserted"
        self._looks.cancel(entry.look)
        self._silent.discard(entry.contact.id)
        self._subnets.discount(entry.contact)
        self.lost.on_lost(entry.contact, up_s=entry.heard - entry.since)


def _contacts(entries: dict[bytes, _Entry]) -> Iterator[Contact]:
    return (entry.contact for entry in entries.values())
