"""One assault: attackers of one kind that enter a running swarm, do what they do, and go.

assault = await launch(Attack.FORGET, swarm, count=4, rng=Random(7))
...
await assault.end()
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, Self

from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Key
from kademlia_node.node.node import Node
from kademlia_node.sim.attack.attacker import Attacker
from kademlia_node.sim.attack.gang import Gang, grind
from kademlia_node.sim.attack.misleading import Colluder, Falsifier, Misdirector
from kademlia_node.sim.attack.noise import Flooder, Replayer
from kademlia_node.sim.attack.storing import Forgetter, LengthLiar
from kademlia_node.sim.swarm import Swarm

RATE_PER_S: Final = 10.0  # strikes of one attacker: 4 of them are heard by 20 nodes, and no drain


class Attack(Enum):
    """What attackers do; the value is its name on the command line."""

    COLLUDE = "collude"  # name nobody but colluders, show nothing
    FALSE_ADDRESSES = "false-addresses"  # the same, and honest keys at false addresses
    SYBIL_HIDE = "sybil-hide"  # nearest to a key: say that nothing is there
    SYBIL_LIE = "sybil-lie"  # nearest to a key: show something else
    FLOOD = "flood"  # INITs, from false sources and from true ones
    REPLAY = "replay"  # what was sent before
    LENGTHS = "lengths"  # other lengths than are true; offers that never come
    FORGET = "forget"  # acknowledge and keep nothing
    ECLIPSE = "eclipse"  # around a joining node, who meets nobody else


KINDS: Final[dict[Attack, type[Attacker]]] = {
    Attack.COLLUDE: Colluder,
    Attack.FALSE_ADDRESSES: Misdirector,
    Attack.SYBIL_HIDE: Colluder,
    Attack.SYBIL_LIE: Falsifier,
    Attack.FLOOD: Flooder,
    Attack.REPLAY: Replayer,
    Attack.LENGTHS: LengthLiar,
    Attack.FORGET: Forgetter,
    Attack.ECLIPSE: Colluder,
}
SYBILS: Final = frozenset({Attack.SYBIL_HIDE, Attack.SYBIL_LIE, Attack.ECLIPSE})


@dataclass(slots=True, kw_only=True)
class Assault:
    """Attackers at work. `end` it, or use it as a block.

    Attributes:
        attack: What they do.
        gang: What they know together.
        nodes: The attackers.
        prey: The honest node that was drawn into an eclipse; None where the caller lures its own.
    """

    attack: Attack
    gang: Gang
    nodes: Sequence[Node]
    prey: Node | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Stop the attackers; safe to call twice.

        Prey that runs is started again with an honest hint, as its operator would do: no churn may
        have it at that moment.
        """
        swarm = self.gang.swarm
        for node in self.nodes:
            if swarm.machine(node).up_since is not None:
                await swarm.stop(node)
        prey, self.prey = self.prey, None
        if prey is not None and swarm.machine(prey).up_since is not None:
            await swarm.stop(prey)
            await swarm.restart(prey)


async def launch(
    attack: Attack,
    swarm: Swarm,
    *,
    count: int,
    rng: random.Random,
    target: bytes | Key | None = None,
    rate_per_s: float = RATE_PER_S,
) -> Assault:
    """Start attackers in a running swarm; they begin as soon as they have joined.

    Args:
        attack: What they are to do.
        swarm: Of which at least one honest node runs.
        count: How many.
        rng: All chance of the assault.
        target: What it is about, a key or 32 bytes. Sybils are placed there, by default at a point
            drawn by chance. For an eclipse the ID of a node that the caller then starts by
            `swarm.grow(1, identities=[its identity], via=assault.nodes)`; by default one is drawn
            and started here. Others who mislead do so about everything, by default.
        rate_per_s: Strikes of each attacker per virtual second, for those who strike unasked.
    """
    prey = None
    if attack is Attack.ECLIPSE and target is None:
        prey = _drawn(swarm, rng)
        target = prey.id
    point = target.digest if isinstance(target, Key) else target
    identities: Sequence[Identity] = ()
    if attack in SYBILS:
        point = rng.randbytes(32) if point is None else point
        identities = _sybils(swarm, point, count=count, rng=rng)
    gang = Gang(
        swarm,
        rng=random.Random(rng.getrandbits(64)),
        target=None if attack is Attack.ECLIPSE else point,
        rate_per_s=rate_per_s,
    )
    nodes = await swarm.grow(
        count, kind=partial(KINDS[attack], gang=gang), hostile=True, identities=identities
    )
    lured = await swarm.grow(1, identities=[prey], via=nodes) if prey is not None else [None]
    return Assault(attack=attack, gang=gang, nodes=nodes, prey=lured[0])


def _drawn(swarm: Swarm, rng: random.Random) -> Identity:
    """Somebody who is about to join."""
    one = swarm.alive[0]
    suite = swarm.machine(one).identity.suite
    return Identity.generate(rng, puzzle_bits=one.network.puzzle_bits, suite=suite)


def _sybils(swarm: Swarm, target: bytes, *, count: int, rng: random.Random) -> list[Identity]:
    nearest = swarm.machine(swarm.true_closest(target, 1)[0])
    return grind(
        target,
        count=count,
        nearer_than=nearest.identity.id,
        rng=rng,
        suite=nearest.identity.suite,
        puzzle_bits=swarm.nodes[nearest.number].network.puzzle_bits,
    )
