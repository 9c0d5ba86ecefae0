"""What finished walks have taught: who is near a key, so that the next key nearby needs no walk.

A walk that went to its end has heard of every node nearer to the target than the farthest of the k
that answered. So it knows whole the largest subtree around the target within that distance: for
any key of that subtree the nearest nodes are members. In a network of N nodes such a subtree holds
10 to 20 of them, and so many walks as N / 15 would teach the whole network to one node; here the
last few are remembered, and none for long, since nodes come and go.

Beside the subtrees stand the *holders* of single keys: who was seen to hold what was read or
written. Holders answer a read; they do not tell who else should hold the key.

Told by `on_walk` and `on_holders`, asked by `near` and `holders`. Not known here: what is stored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import point
from kademlia_node.settings import ID_BITS

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Found:
    """A node that answered, and the disjoint path of the walk that found it."""

    contact: Contact
    path: int


@dataclass(frozen=True, slots=True)
class _Memory:
    """Nodes that were found together, and when. Many are kept, so one object holds all paths."""

    contacts: tuple[Contact, ...]
    paths: bytes  # one for each contact
    learnt: float

    @classmethod
    def of(cls, found: Sequence[Found], *, now: float) -> _Memory:
        return cls(tuple(one.contact for one in found), bytes(one.path for one in found), now)

    @property
    def found(self) -> list[Found]:
        return list(map(Found, self.contacts, self.paths))


class Neighbourhoods:
    """The subtrees and the holders that one node remembers.

    Args:
        memories_max: How many subtrees, and how many keys; the oldest are forgotten.
        lifetime_s: For how long each may be used.
    """

    def __init__(self, memories_max: int, *, lifetime_s: float) -> None:
        self._memories_max = memories_max
        self._lifetime_s = lifetime_s
        self._subtrees: OrderedDict[tuple[int, int], _Memory] = OrderedDict()
        self._holders: OrderedDict[bytes, _Memory] = OrderedDict()

    def on_walk(
        self,
        target: bytes,
        closest: Sequence[Contact],
        *,
        k: int,
        path_of: Callable[[Contact], int],
        now: float,
    ) -> None:
        """A walk came to its end: everyone who answered, nearest first.

        Fewer than k of them are the whole network.
        """
        goal = point(target)
        found = [Found(contact, path_of(contact)) for contact in closest]
        height = ID_BITS
        if len(closest) >= k:
            self._subtrees.pop((ID_BITS, 0), None)  # what was the whole network has grown
            height = max(0, (closest[k - 1].point ^ goal).bit_length() - 1)
            found = [one for one in found if (one.contact.point ^ goal) >> height == 0]
        self._remember(self._subtrees, (height, goal >> height), _Memory.of(found, now=now))

    def on_holders(self, key: bytes, holders: Sequence[Found], *, now: float) -> None:
        """These nodes showed, or acknowledged, a record under the key."""
        self._remember(self._holders, key, _Memory.of(holders, now=now))

    def near(self, key: bytes, *, count_min: int, reach: int, now: float) -> list[Found]:
        """The members of a subtree that the key is in, nearest first; none if it is not known.

        Args:
            key: 32 bytes.
            count_min: so many members at least, unless they are the whole network.
            reach: a distance; nobody nearer to the key than this may be outside the subtree.
            now: of the event loop.
        """
        goal = point(key)
        for height in sorted({height for height, _ in self._subtrees}):
            memory = self._subtrees.get((height, goal >> height))
            if memory is None or not self._is_fresh(memory, now):
                continue
            is_large = len(memory.contacts) >= count_min and 1 << height > reach
            if is_large or height == ID_BITS:
                return sorted(memory.found, key=lambda one: one.contact.point ^ goal)
        return []

    def holders(self, key: bytes, *, now: float) -> list[Found]:
        """Who held this key a short time ago, in the order in which they were told."""
        memory = self._holders.get(key)
        return memory.found if memory and self._is_fresh(memory, now) else []

    def forget(self, key: bytes) -> None:
        """What is remembered of this key has proved wrong."""
        goal = point(key)
        self._holders.pop(key, None)
        for height, prefix in list(self._subtrees):
            if goal >> height == prefix:
                del self._subtrees[height, prefix]

    def _is_fresh(self, memory: _Memory, now: float) -> bool:
        return now - memory.learnt < self._lifetime_s

    def _remember(self, memories: OrderedDict[K, _Memory], place: K, memory: _Memory) -> None:
        memories[place] = memory
        memories.move_to_end(place)
        if len(memories) > self._memories_max:
            memories.popitem(last=False)


def on_two_paths(found: Sequence[Found], count: int) -> list[Found]:
    """The same nodes in an order whose first `count` are on two paths, where there are two."""
    first, rest = list(found[:count]), list(found[count:])
    if count > 1 and len({one.path for one in first}) == 1:
        other = next((one for one in rest if one.path != first[0].path), None)
        if other is not None:
            rest.remove(other)
            rest.insert(0, first.pop())
            first.append(other)
    return first + rest
