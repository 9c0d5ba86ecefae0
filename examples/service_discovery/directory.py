"""Which instances live, and which of them is to be asked next.

An instance lives until its lease ends or it is withdrawn. One that does not answer is put aside
until it is heard of again, which a dead one never is: so each client runs into it once at most, and
not into one that has come back. Of two drawn by chance the one with fewer requests in flight is
taken: nearly as even as counting all, and no herd runs to the one that looks idle.

Not known here: how changes are heard of, and how an instance is asked (`resolving`). Driven by
`on_change`; `choose` says whom to ask.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from examples.service_discovery.instance import Instance
from kademlia_node import Change, ChangeKind

INSTANCES_MAX: Final = 1024  # of one service; every member of the network may announce some
INSTANCES_PER_AUTHOR_MAX: Final = 64  # or one member could leave no room for the others


@dataclass(slots=True, eq=False)
class Candidate:
    """An instance, and what this client has to do with it."""

    instance: Instance
    in_flight: int = 0  # requests that have no answer yet
    is_aside: bool = False  # it did not answer, and was not heard of since


class Directory:
    """The instances of one service."""

    def __init__(self) -> None:
        self._candidates: dict[tuple[bytes, bytes], Candidate] = {}

    def on_change(self, change: Change) -> None:
        """An instance was announced, perhaps anew, was withdrawn, or has expired."""
        spot, instance = (change.author, change.slot), _instance_of(change)
        known = self._candidates.get(spot)
        if instance is None:
            self._candidates.pop(spot, None)
        elif known is not None:
            known.instance, known.is_aside = instance, False
        elif self._has_room_for(change.author):
            self._candidates[spot] = Candidate(instance)

    def _has_room_for(self, author: bytes) -> bool:
        of_author = sum(author == known for known, _ in self._candidates)
        return len(self._candidates) < INSTANCES_MAX and of_author < INSTANCES_PER_AUTHOR_MAX

    def live(self, *, wall: float) -> list[Candidate]:
        """Those whose lease has not ended, by the clock of this machine."""
        return [one for one in self._candidates.values() if one.instance.until > wall]

    def choose(
        self, *, wall: float, rng: random.Random, tried: Collection[Candidate] = ()
    ) -> Candidate | None:
        """Whom to ask next; who was put aside, only if there is nobody else. None: nobody."""
        untried = [one for one in self.live(wall=wall) if one not in tried]
        best = [one for one in untried if not one.is_aside] or untried
        two = rng.sample(best, min(2, len(best)))
        return min(two, key=lambda one: one.in_flight, default=None)


def _instance_of(change: Change) -> Instance | None:
    if change.kind is not ChangeKind.SET or change.value is None:
        return None
    try:
        return Instance.unpack(change.value)
    except ValueError:
        return None
