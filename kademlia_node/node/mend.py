"""Read repair: who should hold what was just read, and does not, is given it.

Whoever answered without the record although it is nearer to the key than somebody who has it,
should have it as well: it joined later, or missed the write. Nobody waits for that. The expiry
stays the author's; a copy of a blob keeps the one that was read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import point
from kademlia_node.core.record import Record
from kademlia_node.node.deposit import Deposit
from kademlia_node.node.receipt import StepOutcome, Trace
from kademlia_node.node.state import NodeState
from kademlia_node.rare import Rare, sometimes

MENDED_MAX: Final = 4096  # copies remembered; a node that refuses one is not asked at each read

Copy = tuple[bytes, tuple[int, bytes, int, int], bytes]
"""Key, version, node ID."""


class Mender:
    """Gives what was read to those who lack it, at most `copies` at a time."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._mended: OrderedDict[Copy, float] = OrderedDict()

    def on_read(self, record: Record, holders: Collection[Contact], trace: Trace) -> None:
        """A record was read; those who showed this version, and all who were asked."""
        if not holders:
            return
        goal = point(record.key)
        farthest = max(holder.point ^ goal for holder in holders)
        lacking = {
            step.contact: None
            for step in trace.steps
            if step.outcome in {StepOutcome.CLOSER, StepOutcome.VALUE}
            and step.contact not in holders
            and step.contact.point ^ goal < farthest
        }
        chosen = [contact for contact in lacking if self._is_new(record, contact)]
        del chosen[self._state.network.copies :]
        if chosen:
            sometimes(Rare.READ_REPAIRED)
            self._state.counts["read_repairs"] += len(chosen)
            deposit = Deposit(self._state, record, expect_seq=None, trace=trace)
            deposit.give(chosen)
            deposit.when_over(lambda: None)

    def _is_new(self, record: Record, contact: Contact) -> bool:
        now = self._state.loop.time()
        copy = record.key, record.header.version, contact.id
        if now - self._mended.get(copy, float("-inf")) < self._state.settings.neighbourhood_s:
            return False
        self._mended[copy] = now
        self._mended.move_to_end(copy)
        if len(self._mended) > MENDED_MAX:
            self._mended.popitem(last=False)
        return True
