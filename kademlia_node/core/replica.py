"""Who is responsible for a key: one rule for putting, accepting, repairing and missing alike.

The paper (section 2.3) stores at the k closest nodes. Here it is a region: all nodes within a
radius of the key that is wide enough for `copies` of them, both as we see the neighbourhood and as
the size of the network predicts. Nodes placed nearest to a key thus cannot shut the others out: the
region keeps its width, and the honest nodes that it holds on average stay inside.

Not known here: how the contacts were found, or what is stored. Contacts never include ourselves and
are given nearest to the key first. Distances are integers below 2^256.
"""

from __future__ import annotations

import random
import statistics
from collections import deque
from collections.abc import Sequence

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import point
from kademlia_node.settings import ID_BITS

SPACE = 1 << ID_BITS
ESTIMATES_MIN = 5  # fewer, and one crowded neighbourhood would speak for the network
CROWDED = 2  # times nearer than an even spread; where chance does that, 5 % more copies
SPARSE = 1.5  # times farther than an even spread; so sparse by chance are 13 % of 5, 2 % of 20
ESTIMATES_MAX = 31  # the median of so many errs by about 5 %; older ones are forgotten


class NetworkSize:
    """Estimates how many nodes there are from how close the closest are to random targets.

    Of N uniform nodes the k-th closest to a point is at distance d with E[(k - 1) / d] = N / 2^256,
    exactly and for every N >= k, so one finished lookup gives an unbiased estimate that errs by
    1 / sqrt(k - 2): 24 % for k = 20. A fit through all k distances adds nothing, since under a
    uniform density the nearer ones say no more than the last. The median keeps out lookups that
    ended in a crowd, as long as targets are spread so widely that no crowd is near most of them.
    """

    def __init__(self) -> None:
        self._estimates: deque[float] = deque(maxlen=ESTIMATES_MAX)
        self._restored: float | None = None

    def on_lookup(self, target: bytes, closest: Sequence[Contact]) -> None:
        """Learn from a finished lookup of a random target: the closest nodes, nearest first.

        Fewer than k of them means that the lookup found the whole network. One tells nothing.
        """
        if len(closest) < 2:
            return
        self._estimates.append(one_estimate(target, closest))

    def restore(self, estimate: float) -> None:
        """Begin with the estimate of an earlier run: it stands until ESTIMATES_MIN lookups."""
        self._restored = estimate

    @property
    def estimate(self) -> float | None:
        """How many nodes besides ourselves; before ESTIMATES_MIN lookups as restored, or None."""
        if len(self._estimates) < ESTIMATES_MIN:
            return self._restored
        return statistics.median(self._estimates)


def one_estimate(target: bytes, closest: Sequence[Contact]) -> float:
    """How many nodes there are, judged by two or more that are closest to a point."""
    farthest = closest[-1].point ^ point(target)
    return (len(closest) - 1) * SPACE / farthest


def radius(closest_distances: Sequence[int], *, copies: int, network_size: float | None) -> int:
    """The largest distance from a key at which a node is responsible for it.

    Args:
        closest_distances: from the key to the nodes known nearest to it, ascending.
        copies: how many nodes shall hold each record.
        network_size: `NetworkSize.estimate`; None leaves the decision to the distances alone.
    """
    if len(closest_distances) < copies:
        return SPACE - 1
    observed = closest_distances[copies - 1]
    return max(observed, expected_radius(copies=copies, network_size=network_size))


def expected_radius(*, copies: int, network_size: float | None) -> int:
    """Within which `copies` nodes are to be expected; 0 while the size is unknown."""
    return 0 if network_size is None else min(int(copies * SPACE / network_size), SPACE - 1)


def size_if_crowded(key: bytes, nearest: Sequence[Contact], *, copies: int) -> float | None:
    """How many nodes there are by the farthest of those nearest to a key, if these are a crowd.

    It stands in for an estimate as long as there is none: a crowd of fewer nodes than were found
    cannot bring the farthest of them nearer. None where all is as in an honest neighbourhood.

    Args:
        key: 32 bytes.
        nearest: To the key, nearest first, with no gap among them, as a walk or a table has them.
        copies: How many nodes shall hold each record.
    """
    if len(nearest) <= copies:
        return None
    size = (len(nearest) - 1) * SPACE / (nearest[-1].point ^ point(key))
    even = expected_radius(copies=copies, network_size=size)
    observed = nearest[copies - 1].point ^ point(key)
    return size if even > CROWDED * observed else None


def looks_whole(
    key: bytes, known: Sequence[Contact], *, copies: int, network_size: float | None
) -> bool:
    """Whether those we know near a key are as dense there as all nodes are.

    Where they are sparser others are missing; where they are denser it may be a crowd, and only a
    walk finds whoever is beyond it. That a few are missing does not show: those who are asked then
    name them.
    """
    if network_size is None or len(known) < copies:
        return False
    observed = known[copies - 1].point ^ point(key)
    even = copies * SPACE / network_size
    return even <= CROWDED * observed and observed <= SPARSE * even


def responsible(
    key: bytes, known: Sequence[Contact], *, copies: int, network_size: float | None
) -> list[Contact]:
    """Those of the known contacts, nearest to the key first, that are responsible for it."""
    distances = [contact.point ^ point(key) for contact in known]
    reach = radius(distances, copies=copies, network_size=network_size)
    return [contact for contact, away in zip(known, distances, strict=True) if away <= reach]


def choose_replicas(
    key: bytes,
    found: Sequence[Contact],
    *,
    copies: int,
    network_size: float | None,
    factor: int,
    rng: random.Random,
) -> list[Contact]:
    """Whom to put a record to: the nearest `copies`, and more of the region at random.

    At most `factor` x copies in all, nearest first. In an honest neighbourhood the region holds
    little more than `copies`; crowded by Sybils it holds many, and they cannot tell which of the
    honest nodes beyond them were drawn.
    """
    region = responsible(key, found, copies=copies, network_size=network_size)
    beyond = range(copies, len(region))
    drawn = rng.sample(beyond, min(len(beyond), (factor - 1) * copies))
    return region[:copies] + [region[place] for place in sorted(drawn)]


def accepts(
    key: bytes,
    own_id: bytes,
    *,
    known: Sequence[Contact],
    copies: int,
    network_size: float | None,
    factor: int,
) -> bool:
    """Whether the node `own_id` lies within `factor` radii of the key.

    With factor 1: whether it is responsible. With `Settings.too_far_factor`: whether it takes a
    record at all, since whoever sends it may see the neighbourhood differently.
    """
    goal = point(key)
    nearest = [contact.point ^ goal for contact in known[:copies]]
    reach = radius(nearest, copies=copies, network_size=network_size)
    return (point(own_id) ^ goal) <= factor * reach
