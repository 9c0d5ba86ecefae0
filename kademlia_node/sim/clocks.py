"""A wall clock that is wrong: one per node, between the simulated wall and the node that reads it.

It refuses to know who reads it. `Node(wall=Clock(sim.wall, offset_s=-90.0))` starts a minute and a
half behind; `jump` is what an operator, or a network time service, does to a clock that runs.
"""

from __future__ import annotations

from collections.abc import Callable


class Clock:
    """Tells wall time in seconds since 1970, `offset_s` ahead of another clock.

    Args:
        wall: The clock that is right.
        offset_s: How far this one is ahead, in seconds; negative: behind. May be set at any time.
    """

    def __init__(self, wall: Callable[[], float], *, offset_s: float = 0.0) -> None:
        self._wall = wall
        self.offset_s = offset_s

    def __call__(self) -> float:
        """Seconds since 1970, as this clock has it."""
        return self._wall() + self.offset_s

    def jump(self, seconds: float) -> None:
        """Leap ahead, or back if negative."""
        self.offset_s += seconds
