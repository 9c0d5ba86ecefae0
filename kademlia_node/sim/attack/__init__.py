"""Attackers: nodes of a swarm that mean harm, to try every defence on.

    async with Swarm(nodes=20, seed=7) as swarm:
        receipt = await swarm.nodes[3].set("colour", b"blue")
        async with await launch(
            Attack.SYBIL_HIDE, swarm, count=4, rng=Random(7), target=receipt.key
        ):
            assert await swarm.nodes[17].get("colour") == b"blue"

An attacker is a real `Node` that joins and answers as all do, but where its kind lets it say or do
something else (`attacker`). Those of one assault share what they know (`gang`). They have what a
real attacker can have: valid keys, the secret of a private network, any source address, what went
over the wire. All they do by chance is drawn from one generator: equal seeds, equal runs.
"""

from kademlia_node.sim.attack.assault import Assault, Attack, launch
from kademlia_node.sim.attack.attacker import Attacker
from kademlia_node.sim.attack.gang import Gang, grind

__all__ = ["Assault", "Attack", "Attacker", "Gang", "grind", "launch"]
