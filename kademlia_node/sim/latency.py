"""How long datagrams take: models of the delay between two addresses.

A model is a function of source and destination. What looks drawn is a hash of a seed and the hosts:
it depends on nothing that happened before, no table grows, and a run asks in any order. They refuse
to know what is sent, and when; `sim.network` adds jitter, and holds back what it reorders.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist
from typing import Final

from kademlia_node.core.contact import Address

LatencyModel = Callable[[Address, Address], float]
"""One-way delay in seconds from a source to a destination."""

_NORMAL = NormalDist()


@dataclass(frozen=True)
class FixedLatency:
    """The same one-way delay between any two addresses."""

    seconds: float

    def __call__(self, _source: Address, _destination: Address) -> float:
        """The one-way delay in seconds."""
        return self.seconds


@dataclass(frozen=True)
class LogNormalLatency:
    """Model K: log-normal round trips, fixed for each unordered pair of hosts.

    The defaults give a mean of 178 ms, p90 of 301 ms and p99 of 515 ms, close to the King
    measurements (Li et al., PVC 2005).
    """

    seed: int
    rtt_median_s: float = 0.156
    sigma: float = 0.514

    def __call__(self, source: Address, destination: Address) -> float:
        """The one-way delay in seconds: half of the pair's round trip."""
        first, second = sorted((source.host, destination.host))
        quantile = _share(f"{self.seed} {first} {second}")
        return 0.5 * self.rtt_median_s * math.exp(self.sigma * _NORMAL.inv_cdf(quantile))


class Region(Enum):
    """Where a host of model W stands."""

    EAST_AMERICA = "the east of North America"
    WEST_AMERICA = "the west of North America"
    SOUTH_AMERICA = "South America"
    EUROPE = "Europe"
    ASIA = "the south-east of Asia"


_EAST, _WEST, _SOUTH, _EUROPE, _ASIA = Region

# A plausible five-region matrix: round numbers of the size that public clouds show between such
# places, measured by nobody in particular.
REGION_RTT_S: Final[dict[frozenset[Region], float]] = {
    frozenset({_EAST, _WEST}): 0.065,
    frozenset({_EAST, _SOUTH}): 0.115,
    frozenset({_EAST, _EUROPE}): 0.080,
    frozenset({_EAST, _ASIA}): 0.220,
    frozenset({_WEST, _SOUTH}): 0.175,
    frozenset({_WEST, _EUROPE}): 0.140,
    frozenset({_WEST, _ASIA}): 0.170,
    frozenset({_SOUTH, _EUROPE}): 0.190,
    frozenset({_SOUTH, _ASIA}): 0.320,
    frozenset({_EUROPE, _ASIA}): 0.165,
}
HOME_RTT_S: Final = 0.010  # within a region


@dataclass(frozen=True)
class RegionLatency:
    """Model W: five regions of the world, each with an equal share of the hosts."""

    seed: int

    def __call__(self, source: Address, destination: Address) -> float:
        """The one-way delay in seconds: half of the round trip between the two regions."""
        here, there = self.region(source.host), self.region(destination.host)
        rtt_s = HOME_RTT_S if here is there else REGION_RTT_S[frozenset({here, there})]
        return 0.5 * rtt_s

    def region(self, host: str) -> Region:
        """Where a host stands."""
        return list(Region)[int(len(Region) * _share(f"{self.seed} region {host}"))]


@dataclass(frozen=True)
class AsymmetricLatency:
    """Another model's round trips, unequally split: one way of a pair is slower than the other.

    The slower way takes up to `skew` (0 to 1) more than half of the round trip, and the other one
    as much less; at 1 it may take nearly all of it. How much, and which way, differs from pair to
    pair of hosts.
    """

    model: LatencyModel
    seed: int
    skew: float = 0.8

    def __call__(self, source: Address, destination: Address) -> float:
        """The one-way delay in seconds."""
        rtt_s = self.model(source, destination) + self.model(destination, source)
        first, second = sorted((source.host, destination.host))
        lean = self.skew * (2.0 * _share(f"{self.seed} split {first} {second}") - 1.0)
        return 0.5 * rtt_s * (1.0 + (lean if source.host == first else -lean))


def _share(name: str) -> float:
    """A number between 0 and 1, never one of them, that is drawn by hashing a name."""
    drawn = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest(), "big")
    return (drawn + 0.5) / 2**48


LATENCIES: Final[dict[str, Callable[[int], LatencyModel]]] = {
    "lan": lambda _: FixedLatency(0.0005),
    "wan": lambda _: FixedLatency(0.078),
    "k": LogNormalLatency,
    "w": RegionLatency,
    "skewed": lambda seed: AsymmetricLatency(LogNormalLatency(seed), seed),
}
"""The models by the names they have on command lines; each is made from a seed."""
