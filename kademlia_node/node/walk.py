"""A walk: one `Lookup` driven over the network, without a task or a future per query.

The machine decides whom to ask; the exchange asks; each answer goes to a visitor first, who may end
the walk early. Everything that happened is in the trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import shared_bits
from kademlia_node.core.lookup import Lookup, Query
from kademlia_node.core.message import FindNode, FindValue, Nodes, Refused, Response, Values
from kademlia_node.node.receipt import Step, StepOutcome, Trace
from kademlia_node.node.state import NodeState
from kademlia_node.rare import Rare, sometimes

Visitor = Callable[[Step, Values], bool]
"""Sees every answer to a FIND_VALUE, may set the step's outcome; True ends the walk."""


class Walk:
    """One walk. `await walk.run()`, or `start` it and be told by `on_end`."""

    def __init__(
        self,
        state: NodeState,
        target: bytes,
        request: FindNode | FindValue,
        *,
        visit: Visitor | None = None,
        radius: int = 0,
        k: int | None = None,
        trace: Trace | None = None,
        seeds: Sequence[Contact] | None = None,
        holders: int = 0,
    ) -> None:
        """Prepare to ask `request` of ever closer nodes to `target`.

        Args:
            state: The node that walks.
            target: 32 bytes.
            request: What everybody is asked.
            visit: Sees every answer to a FIND_VALUE.
            radius: Also ask everyone within this distance (at most 3 x copies of them).
            k: How many of the closest must have answered; that of the settings by default.
            trace: Where its steps are added to those of earlier questions; a new one by default.
            seeds: Where to begin; those of the state by default.
            holders: How many who hold the key would do: if the nearest that we know are near enough
                to be among them, so many are asked first, and others only if they do not suffice.
                Then no `seeds` are given.
        """
        self._state = state
        self._request = request
        self._visit = visit
        self._k = k or state.settings.k
        self._steps: dict[Contact, Step] = {}
        nearest = state.table.closest(target, holders) if holders else []
        self._at_most = holders if state.are_near(target, nearest) else None
        self._has_all_seeds = self._at_most is None
        if seeds is None:
            seeds = state.seeds(target) if self._has_all_seeds else nearest
        self._lookup = Lookup(
            target,
            seeds,
            own_id=state.identity.id,
            settings=state.settings,
            is_proved=state.is_proved,
            prefix_limits=state.network.prefix_limits,
            k=self._k,
            radius=radius,
            region_max=state.settings.region_copies_factor * state.network.copies,
            second_tries=state.exchange.rtts.is_lossy(state.settings),
        )
        self.trace = trace or Trace(target)
        self._started = state.loop.time()
        self._ended: asyncio.Future[None] = state.loop.create_future()
        self._deadline: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Walk until the machine is done, the visitor has seen enough, or `walk_max_s` are over."""
        self.start()
        try:
            await self._ended
        finally:
            self.end()

    def start(self) -> None:
        """Send the first queries; the rest follows from the answers."""
        self._started = self._state.loop.time()
        self._deadline = self._state.loop.call_later(self._state.settings.walk_max_s, self._cut)
        self._go_on()

    def closest(self, count: int) -> list[Contact]:
        """The nearest nodes that answered, nearest first."""
        return self._lookup.closest(count)

    def path_of(self, contact: Contact) -> int:
        """The disjoint path on which a node was found."""
        return self._lookup.path_of(contact)

    def on_end(self, told: Callable[[], None]) -> None:
        """Have `told` called when the walk ends."""
        self._ended.add_done_callback(lambda _: told())

    @property
    def ended(self) -> bool:
        """Whether it is over; later answers no longer count."""
        return self._ended.done()

    def end(self) -> None:
        """Stop here. Queries under way are answered into the void."""
        if self.ended:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self.trace.hops = self._lookup.hops
        self.trace.duration_s = self._elapsed()
        self.trace.requests += len(self._steps)
        self.trace.round_trips += max(map(self._lookup.hop_of, self._lookup.closest()), default=0)
        self._ended.set_result(None)

    def _cut(self) -> None:
        sometimes(Rare.WALK_CUT_SHORT)
        self.end()

    def _teach(self) -> None:
        """A walk that went to its end knows a whole neighbourhood."""
        target, now = self._lookup.target, self._state.loop.time()
        shared = shared_bits(target, self._state.identity.id)
        self._state.table.mark_refreshed(shared, now)  # whoever asked for it
        self._state.neighbourhoods.on_walk(
            target,
            self._lookup.closest(),
            k=self._k,
            path_of=self._lookup.path_of,
            now=now,
        )

    def _elapsed(self) -> float:
        return self._state.loop.time() - self._started

    def _go_on(self) -> None:
        for query in self._lookup.next_queries(at_most=self._at_most):
            self._ask(query)
        if self._lookup.done:
            self._teach()
            self.end()

    def _ask(self, query: Query) -> None:
        contact = query.contact
        again = contact in self._steps
        if again:
            sometimes(Rare.HEARSAY_ASKED_AGAIN)
        step = Step(contact, query.path, self._lookup.hop_of(contact), self._elapsed())
        self._steps[contact] = step
        self.trace.steps.append(step)
        self._state.exchange.send(
            contact,
            self._request,
            on_done=partial(self._on_done, step),
            on_slow=partial(self._on_slow, step),
            proved=self._state.is_proved(contact),
            forgives=int(again),
        )

    def _on_slow(self, step: Step) -> None:
        if self.ended:
            return
        step.slow = True
        self._at_most = None
        self._take_all_seeds()
        self._lookup.on_slow(step.contact)
        self._go_on()

    def _on_done(self, step: Step, response: Response | None) -> None:
        if self.ended:
            return
        step.answered_s = self._elapsed()
        if isinstance(response, Nodes | Values):
            step.outcome = StepOutcome.CLOSER
            if self._visit and isinstance(response, Values) and self._visit(step, response):
                self._lookup.on_reply(step.contact, ())  # nobody is asked any more
                self.end()
                return
            self._take_all_seeds()
            named = self._state.credible(response.contacts, named_by=step.contact)
            self._lookup.on_reply(step.contact, named)
        else:
            refused = isinstance(response, Refused)
            step.outcome = StepOutcome.REFUSED if refused else StepOutcome.SILENT
            self._take_all_seeds()
            self._lookup.on_failure(step.contact)
        if step.outcome is not StepOutcome.VALUE:
            self._at_most = None
        self._go_on()

    def _take_all_seeds(self) -> None:
        """Before anybody else is heard of, so that no answer draws our seeds to its own path."""
        if not self._has_all_seeds:
            self._has_all_seeds = True
            self._lookup.start_from(self._state.seeds(self._lookup.target))
