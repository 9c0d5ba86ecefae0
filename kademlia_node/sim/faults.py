"""Faults by plan: what goes wrong with a network, when, for how long, and to whom.

A plan is a list of `Fault`s: drawn from a seed by `plan`, or written by hand. `timeline` shows it
to people, `apply` does it to a `SimNetwork`, on whose loop it runs. It refuses to know what nodes
do about it. Chance is asked only while a plan is drawn: a plan is the whole truth about its faults.

    faults = plan(Random(7), 600.0, hosts=[node.address for node in swarm.nodes])
    print(timeline(faults))
    await apply(swarm.network, faults)  # ten minutes; afterwards the network is as it was before
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from kademlia_node.core.contact import Address
from kademlia_node.sim.clocks import Clock
from kademlia_node.sim.network import SimNetwork

QUIET_MEAN_S: Final = 120.0  # between two faults of one kind: with ten kinds, one is mostly on
FAULT_MAX_S: Final = 60.0  # long enough for peers to be given up, short enough to come back
FAULT_MIN_S: Final = 1.0
NAMED_MAX: Final = 3  # hosts that a line of a timeline names


class FaultKind(Enum):
    """What a fault does; the comment tells what its `amount` is, and whom its `group` names."""

    LOSS = "loss"  # probability, of the whole network
    DUPLICATE = "duplicate"  # probability, of the whole network
    REORDER = "reorder"  # probability, of the whole network
    CORRUPT = "corrupt"  # probability, of the whole network
    PARTITION = "partition"  # the group is cut off from all others, both ways
    ONE_WAY = "one way"  # the group hears all others, who do not hear it
    CLOG = "clog"  # what the group and all others send each other is held back, then shuffled
    UNPLUGGED = "unplugged"  # each of the group is alone
    SILENT = "silent"  # each of the group hears everything and says nothing
    SLOW = "slow"  # seconds by which each of the group is late
    CLOCK = "clock"  # seconds by which the clocks of the group leap, and at the end leap back


CHANCES: Final = (FaultKind.LOSS, FaultKind.DUPLICATE, FaultKind.REORDER, FaultKind.CORRUPT)
NETWORK_KINDS: Final = tuple(kind for kind in FaultKind if kind is not FaultKind.CLOCK)

# Between what `plan` draws an amount. The clocks that have one go wrong by up to a day.
AMOUNTS: Final[dict[FaultKind, tuple[float, float]]] = {
    FaultKind.LOSS: (0.01, 0.30),
    FaultKind.DUPLICATE: (0.01, 0.20),
    FaultKind.REORDER: (0.01, 0.30),
    FaultKind.CORRUPT: (0.01, 0.10),
    FaultKind.SLOW: (0.1, 3.0),
    FaultKind.CLOCK: (-86400.0, 86400.0),
}

# These add up; of the others one must have ended before the next of its kind begins.
ADDING: Final = (
    FaultKind.PARTITION,
    FaultKind.ONE_WAY,
    FaultKind.CLOG,
    FaultKind.UNPLUGGED,
    FaultKind.CLOCK,
)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong from `start_s` to `end_s`, in seconds since the plan began."""

    start_s: float
    end_s: float
    kind: FaultKind
    amount: float = 0.0
    group: tuple[Address, ...] = ()

    def __post_init__(self) -> None:
        assert 0.0 <= self.start_s < self.end_s, "a fault ends after it began"
        assert self.group or self.kind in CHANCES, f"{self.kind} needs a group"

    @property
    def title(self) -> str:
        """Such as `loss 12 %`, or `slow +0.4 s`."""
        if self.kind in CHANCES:
            return f"{self.kind.value} {self.amount:.0%}"
        seconds = f" {self.amount:+.1f} s" if self.kind in AMOUNTS else ""
        return f"{self.kind.value}{seconds}"

    def __str__(self) -> str:
        """Such as `loss 12 %`, or `slow +0.4 s: 1.0.0.1:4000, 1.0.1.1:4000 and 3 more`."""
        if not self.group:
            return self.title
        named = ", ".join(map(str, self.group[:NAMED_MAX]))
        more = len(self.group) - NAMED_MAX
        return f"{self.title}: {named}" + (f" and {more} more" if more > 0 else "")


def plan(
    rng: random.Random,
    duration_s: float,
    *,
    hosts: Sequence[Address],
    kinds: Iterable[FaultKind] = NETWORK_KINDS,
) -> list[Fault]:
    """Draw faults that all end within `duration_s` seconds; sorted by their beginning.

    Args:
        rng: The same generator draws the same plan.
        duration_s: For how long things go wrong.
        hosts: Out of these it draws groups of up to half of them; at least two.
        kinds: What may go wrong. `CLOCK` only on request: it needs clocks to be wrong.
    """
    faults = [fault for kind in kinds for fault in _faults(kind, rng, duration_s, hosts=hosts)]
    return sorted(faults, key=lambda fault: fault.start_s)


def timeline(faults: Sequence[Fault]) -> str:
    """One line for each beginning and each end of a fault, in order of time."""
    return "\n".join(
        f"{event.at_s:9.1f} s  {'begins' if event.begins else 'ends  '}  {faults[event.number]}"
        for event in _events(faults)
    )


async def apply(
    network: SimNetwork,
    faults: Sequence[Fault],
    *,
    clocks: Mapping[Address, Clock] | None = None,
) -> None:
    """Switch faults on and off; the moment of this call is second 0 of the plan.

    Returns after the last end. Whatever is still on when it is cancelled is switched off. What it
    changes (`loss`, `slow`, `silent` ...) it puts back as it was when that fault began.

    Args:
        network: To which it happens.
        faults: A plan; two of one kind must not overlap, unless it is one that adds up (`ADDING`).
        clocks: Of those hosts that a fault of the kind `CLOCK` names.

    Raises:
        ValueError: faults overlap that must not, or a host has no clock.
    """
    clocks = clocks or {}
    _check(faults, clocks)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    in_force: dict[int, ExitStack] = {}
    try:
        for event in _events(faults):
            await asyncio.sleep(begun + event.at_s - loop.time())
            if event.begins:
                in_force[event.number] = _switch_on(faults[event.number], network, clocks=clocks)
            else:
                in_force.pop(event.number).close()
    finally:
        for fault in in_force.values():
            fault.close()


class _Event(NamedTuple):
    """What happens, in the order of time; at one moment ends come before beginnings."""

    at_s: float
    begins: bool
    number: int  # of the fault in its plan


def _events(faults: Sequence[Fault]) -> list[_Event]:
    begins = [
        _Event(fault.start_s, begins=True, number=number) for number, fault in enumerate(faults)
    ]
    ends = [_Event(fault.end_s, begins=False, number=number) for number, fault in enumerate(faults)]
    return sorted(begins + ends)


def _faults(
    kind: FaultKind, rng: random.Random, duration_s: float, *, hosts: Sequence[Address]
) -> Iterator[Fault]:
    """Faults of one kind, one after the other."""
    assert len(hosts) >= 2, "nothing can go wrong between fewer than two"
    start_s = rng.expovariate(1.0 / QUIET_MEAN_S)
    while start_s + FAULT_MIN_S <= duration_s:
        end_s = min(start_s + rng.uniform(FAULT_MIN_S, FAULT_MAX_S), duration_s)
        size = 0 if kind in CHANCES else rng.randint(1, len(hosts) // 2)
        yield Fault(
            start_s,
            end_s,
            kind,
            amount=rng.uniform(*AMOUNTS[kind]) if kind in AMOUNTS else 0.0,
            group=tuple(rng.sample(hosts, size)),
        )
        start_s = end_s + rng.expovariate(1.0 / QUIET_MEAN_S)


def _check(faults: Sequence[Fault], clocks: Mapping[Address, Clock]) -> None:
    latest: dict[FaultKind, Fault] = {}
    for fault in sorted(faults, key=lambda fault: fault.start_s):
        earlier = latest.get(fault.kind)
        if earlier and earlier.end_s > fault.start_s and fault.kind not in ADDING:
            raise ValueError(f"two faults overlap: {earlier} and {fault}")
        latest[fault.kind] = fault
        if fault.kind is FaultKind.CLOCK and not clocks.keys() >= set(fault.group):
            raise ValueError(f"a host has no clock: {fault}")


def _switch_on(fault: Fault, network: SimNetwork, *, clocks: Mapping[Address, Clock]) -> ExitStack:
    """Begin a fault; closing what is returned ends it."""
    group, undo = fault.group, ExitStack()
    match fault.kind:
        case FaultKind.PARTITION:
            undo.callback(network.partition(group).heal)
        case FaultKind.ONE_WAY:
            undo.callback(network.partition(group, both_ways=False).heal)
        case FaultKind.CLOG:
            undo.callback(network.clog(group).heal)
        case FaultKind.UNPLUGGED:
            for address in group:  # not `unplug`: it may be unplugged already, and stay so
                undo.callback(network.partition([address]).heal)
        case FaultKind.SILENT:
            undo.callback(setattr, network, "silent", network.silent)
            network.silent = network.silent | set(group)
        case FaultKind.SLOW:
            undo.callback(setattr, network, "slow", network.slow)
            network.slow = network.slow | dict.fromkeys(group, fault.amount)
        case FaultKind.CLOCK:
            for address in group:
                clocks[address].jump(fault.amount)
                undo.callback(clocks[address].jump, -fault.amount)
        case FaultKind.LOSS | FaultKind.DUPLICATE | FaultKind.REORDER | FaultKind.CORRUPT:
            parameter = fault.kind.value
            before: float = getattr(network, parameter)
            undo.callback(setattr, network, parameter, before)
            setattr(network, parameter, 1.0 - (1.0 - before) * (1.0 - fault.amount))
    return undo
