"""A simulated world for real nodes: virtual time, a network in memory, a cipher suite for free.

It stands beside the house: tests, scripts and our users' tests import it, no floor above does.
"""

from kademlia_node.sim.clock import VirtualLoop, run
from kademlia_node.sim.network import FixedLatency, LogNormalLatency, SimNetwork
from kademlia_node.sim.suite import NullSuite
from kademlia_node.sim.survey import Survey, survey
from kademlia_node.sim.swarm import Swarm

__all__ = [
    "FixedLatency",
    "LogNormalLatency",
    "NullSuite",
    "SimNetwork",
    "Survey",
    "Swarm",
    "VirtualLoop",
    "run",
    "survey",
]
