"""An inquiry: asks nodes that are thought to hold a key, without walking there.

As many at a time as are wanted to agree; another one for each that is slow, silent or has nothing.
It ends when the visitor has seen enough, or when nobody is left to ask: then it takes a walk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from kademlia_node.core.message import FindValue, Refused, Response, Values
from kademlia_node.core.neighbourhood import Found, on_two_paths
from kademlia_node.core.rtt import soft_timeout
from kademlia_node.node.receipt import Step, StepOutcome, Trace
from kademlia_node.node.state import NodeState
from kademlia_node.node.walk import Visitor
from kademlia_node.rare import Rare, sometimes

HOP = 1  # of a step: nobody had to be asked the way


class Inquiry:
    """One inquiry: `run` tells whether the visitor was content, the steps are in `trace`."""

    def __init__(
        self,
        state: NodeState,
        key: bytes,
        known: Sequence[Found],
        *,
        at_once: int,
        visit: Visitor,
        trace: Trace,
    ) -> None:
        self._state = state
        self._request = FindValue(key)
        self._waiting = on_two_paths(known, at_once)
        self._at_once = at_once
        self._visit = visit
        self._trace = trace
        self._open = 0
        self._replaced: set[int] = set()  # by the identity of a step
        self._started = state.loop.time()
        self._ended: asyncio.Future[bool] = state.loop.create_future()

    async def run(self) -> bool:
        """Ask until the visitor is content (True) or nobody is left (False)."""
        if not self._waiting:
            return False
        self._trace.round_trips += 1
        for _ in range(self._at_once):
            self._ask_another()
        try:
            return await self._ended
        finally:
            self.end()
            self._trace.duration_s += self._state.loop.time() - self._started

    def end(self) -> None:
        """Stop here. Questions under way are answered into the void."""
        if not self._ended.done():
            self._ended.set_result(False)

    def _ask_another(self) -> None:
        if not self._waiting:
            return
        found = self._waiting.pop(0)
        elapsed = self._state.loop.time() - self._started
        step = Step(found.contact, found.path, HOP, elapsed)
        self._trace.steps.append(step)
        self._trace.requests += 1
        self._open += 1
        self._state.exchange.send(
            found.contact,
            self._request,
            on_done=partial(self._on_done, step),
            on_slow=partial(self._on_slow, step),
        )

    def _on_slow(self, step: Step) -> None:
        """Ask another only if a repeat does not help, either: most of the slow are merely far."""
        step.slow = True
        grace_s = soft_timeout(self._state.exchange.rtts, self._state.settings)
        self._state.loop.call_later(grace_s, self._replace, step)

    def _replace(self, step: Step) -> None:
        if not self._ended.done() and step.answered_s is None:
            sometimes(Rare.HOLDER_SLOW)
            self._replaced.add(id(step))
            self._ask_another()

    def _on_done(self, step: Step, response: Response | None) -> None:
        if self._ended.done():
            return
        self._open -= 1
        step.answered_s = self._state.loop.time() - self._started
        if isinstance(response, Values):
            step.outcome = StepOutcome.CLOSER
            if self._visit(step, response):
                self._ended.set_result(True)
                return
        else:
            refused = isinstance(response, Refused)
            step.outcome = StepOutcome.REFUSED if refused else StepOutcome.SILENT
        useless = step.outcome is not StepOutcome.VALUE and id(step) not in self._replaced
        if useless or not self._open:  # or they all hold something, and do not agree
            self._ask_another()
        if not self._open:
            self.end()
