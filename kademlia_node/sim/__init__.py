"""A simulated world for real nodes: virtual time, a network in memory, a cipher suite for free.

It stands beside the house: tests, scripts and our users' tests import it, no floor above does. What
you build on a node is tested on twenty of them, in no time, and by a seed always in the same way:

    import asyncio
    from kademlia_node.sim import Swarm, run

    async def test_a_phone_book() -> None:
        async with Swarm(nodes=20, seed=7, loss=0.05) as swarm:
            mine, *others = swarm.nodes
            await mine.set("phone of ann", b"555 01 23")  # here goes your own code
            await swarm.crash(mine)  # its disk keeps all; keep_store=False: it keeps nothing
            await asyncio.sleep(3600)  # in no time
            assert await others[4].get("phone of ann") == b"555 01 23"
            mine = await swarm.restart(mine)  # a new node, the same identity and address
            assert await mine.get("phone of ann") == b"555 01 23"

    run(test_a_phone_book())

`Swarm(commit_every=4)` gives disks that forget in a crash what was not committed, and
`swarm.grow(1, kind=partial(Node, content=files))` starts nodes of your own make. `Swarm.churn` has
nodes come and go by themselves, and an `Oracle` knows what must be found then. Under pytest hand
the coroutine to `run`, as above.
Where to look for what:

- clock, clocks: virtual time; wall clocks that are wrong
- network, latency: datagrams: loss, cuts, NATs; how long they take
- faults: what goes wrong with a network, by a plan drawn from a seed
- machine, swarm, churn: nodes, what outlives them, how they come and go
- store: disks that fail, and forget
- suite: cryptography that costs nothing and protects nothing
- attack: nodes that mean harm
- shrink: settings with tiny limits
- oracle: what must be found, and what must be gone
- rules, invariants: what must never be, and looking for it
- healing: what must come about in peace
- workload, onlookers: users
- scenario, chaos: all of it in one run: `run_scenario(Scenario(seed=7))`
- survey: how good lookups are
- diary, logged: what happened, what nodes logged
"""

from kademlia_node.sim.attack import Attack, launch
from kademlia_node.sim.chaos import run_scenario
from kademlia_node.sim.churn import Churn
from kademlia_node.sim.clock import VirtualLoop, run
from kademlia_node.sim.clocks import Clock
from kademlia_node.sim.diary import Diary
from kademlia_node.sim.faults import Fault, FaultKind, apply, plan, timeline
from kademlia_node.sim.healing import heal
from kademlia_node.sim.invariants import Inspector
from kademlia_node.sim.latency import (
    LATENCIES,
    AsymmetricLatency,
    FixedLatency,
    LogNormalLatency,
    RegionLatency,
)
from kademlia_node.sim.machine import Machine
from kademlia_node.sim.nat import Nat, NatKind
from kademlia_node.sim.network import SimNetwork
from kademlia_node.sim.oracle import Oracle
from kademlia_node.sim.rules import Rule, Violation
from kademlia_node.sim.scenario import Result, Scenario
from kademlia_node.sim.shrink import shrunk
from kademlia_node.sim.store import FaultyStore
from kademlia_node.sim.suite import NullSuite
from kademlia_node.sim.survey import Survey, survey
from kademlia_node.sim.swarm import Swarm
from kademlia_node.sim.workload import Workload

__all__ = [
    "LATENCIES",
    "AsymmetricLatency",
    "Attack",
    "Churn",
    "Clock",
    "Diary",
    "Fault",
    "FaultKind",
    "FaultyStore",
    "FixedLatency",
    "Inspector",
    "LogNormalLatency",
    "Machine",
    "Nat",
    "NatKind",
    "NullSuite",
    "Oracle",
    "RegionLatency",
    "Result",
    "Rule",
    "Scenario",
    "SimNetwork",
    "Survey",
    "Swarm",
    "Violation",
    "VirtualLoop",
    "Workload",
    "apply",
    "heal",
    "launch",
    "plan",
    "run",
    "run_scenario",
    "shrunk",
    "survey",
    "timeline",
]
