"""What a run of chaos is given, and what comes of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from kademlia_node.rare import Rare
from kademlia_node.sim.attack import Attack
from kademlia_node.sim.latency import LATENCIES

NODES_MIN = 8  # half of them may be cut off, and the rest has to keep records


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What goes wrong, and for how long; all chance comes from the seed.

    Attributes:
        seed: Equal seeds, equal runs.
        nodes: How many honest ones, at least `NODES_MIN`.
        hours: Length of the chaos phase, in virtual hours.
        loss: Share of the datagrams lost throughout that phase, beside the faults.
        churn_s: Mean length of a session in seconds; 0 for no churn.
        attack: What a fifth as many attackers do; None for no attackers.
        latency: A name of `LATENCIES`.
        faults: Whether partitions, slow and silent peers, leaping clocks and the like are drawn.
        disks: Whether disks fail now and then, and forget in a crash what they had not committed.
        tiny: Whether a random half of the limits is tiny (`sim.shrink`).
        every_s: Mean pause between two operations, in seconds.
    """

    seed: int
    nodes: int = 20
    hours: float = 0.035
    loss: float = 0.0
    churn_s: float = 300.0
    attack: Attack | None = None
    latency: str = "k"
    faults: bool = True
    disks: bool = True
    tiny: bool = True
    every_s: float = 4.0

    def __post_init__(self) -> None:
        if self.nodes < NODES_MIN:
            raise ValueError(f"a scenario needs {NODES_MIN} nodes")
        if self.latency not in LATENCIES:
            raise ValueError(f"{self.latency!r} is none of {', '.join(LATENCIES)}")

    @classmethod
    def drawn(cls, seed: int, *, nodes: int = 20, hours: float = 0.035) -> Scenario:
        """One of a campaign: the seed decides what goes wrong, too."""
        rng = random.Random(f"scenario {seed}")
        return cls(
            seed=seed,
            nodes=nodes,
            hours=hours,
            loss=rng.choice((0.0, 0.0, 0.02, 0.1)),
            churn_s=rng.choice((0.0, 120.0, 300.0, 900.0)),
            attack=rng.choice((None, *Attack)),
            latency=rng.choice(list(LATENCIES)),
            faults=rng.random() < 0.75,
            disks=rng.random() < 0.5,
            tiny=rng.random() < 0.75,
        )


@dataclass(slots=True, kw_only=True)
class Result:
    """What became of a scenario.

    Attributes:
        scenario: Which.
        digest: Of every delivery; empty if the run ended by a violation.
        violation: The rule that was broken and how; None if all was well.
        story: What happened before the violation, a line each.
        healed_after_s: Virtual seconds from the end of the chaos until all was well.
        virtual_s: Length of the run.
        datagrams: Sent in all.
        done: Operations that succeeded, by verb.
        failed: Those that did not, by verb and error.
        rare: How often each rare path was taken.
    """

    scenario: Scenario
    digest: str = ""
    violation: str | None = None
    story: Sequence[str] = ()
    healed_after_s: float = 0.0
    virtual_s: float = 0.0
    datagrams: int = 0
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    rare: Counter[Rare] = field(default_factory=Counter)
