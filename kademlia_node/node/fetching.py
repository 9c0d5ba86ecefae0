"""Fetching: many pieces from several holders at once (`core.fetch`), each by a `Pulling`.

Whoever started it names holders and their pieces by `offer`, at any time, and is given each piece
once by `on_piece`, which may call it a lie. `on_idle` tells that nothing is on its way any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.fetch import Fetch
from kademlia_node.core.manifest import Piece
from kademlia_node.core.pull import Fate
from kademlia_node.node.pulling import Pulling
from kademlia_node.node.receipt import Trace
from kademlia_node.node.state import NodeState

OnPiece = Callable[[Contact, Piece, bytes], bool]
"""(holder, piece, its bytes) -> whether they are worth having; False: the holder has lied."""

FATES: Final = {
    Fate.WHOLE: "fetched",
    Fate.LACKS: "lacking",
    Fate.LIED: "false",
    Fate.STALLED: "stalled",
}
"""How the counters call them."""


class Fetching:
    """See above.

    Args:
        state: the node that fetches.
        on_piece: given each piece.
        on_idle: told whenever nothing is on its way.
        on_loss: told when a holder is less useful than it seemed, or of no use at all.
        trace: where requests are counted.
    """

    def __init__(
        self,
        state: NodeState,
        *,
        on_piece: OnPiece,
        on_idle: Callable[[], None],
        on_loss: Callable[[], None] = lambda: None,
        trace: Trace | None = None,
    ) -> None:
        self._state = state
        self._on_piece = on_piece
        self._on_idle = on_idle
        self._on_loss = on_loss
        self._trace = trace
        self._machine: Fetch[Contact] = Fetch(per_holder=state.settings.pieces_per_holder)
        self._pullings: dict[tuple[Contact, Piece], Pulling] = {}
        self._cancelled = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way: all is here, or nobody has what is missing."""
        return not self._pullings

    @property
    def useful(self) -> int:
        """How many holders may still give something."""
        return self._machine.useful

    def offer(self, holder: Contact, pieces: Iterable[Piece]) -> None:
        """This holder says that it has these pieces; what is not here is fetched."""
        self._machine.offer(holder, pieces)
        self._go_on()

    def drop(self, holder: Contact) -> None:
        """Ask nothing more of this holder; `on_idle` is not told."""
        self._machine.drop(holder)
        self._abandon(holder)
        self._go_on()

    def cancel(self) -> None:
        """Fetch no more; nobody is told anything."""
        self._cancelled = True
        for pulling in self._pullings.values():
            pulling.cancel()
        self._pullings.clear()

    def _go_on(self) -> None:
        if self._cancelled:
            return
        for holder, piece in self._machine.next_pulls():
            pulling = Pulling(self._state, holder, piece, on_end=self._on_end, trace=self._trace)
            self._pullings[holder, piece] = pulling
            pulling.start()

    def _on_end(self, pulling: Pulling) -> None:
        holder, piece, fate = pulling.holder, pulling.piece, pulling.fate
        assert fate is not None
        del self._pullings[holder, piece]
        if fate is Fate.WHOLE and not self._on_piece(holder, piece, pulling.content):
            fate = Fate.LIED
        if self._cancelled:
            return
        self._state.counts[f"pieces_{FATES[fate]}"] += 1
        if fate is Fate.WHOLE:
            for superfluous in self._machine.on_piece(holder, piece):
                self._pullings.pop(superfluous).cancel()
        else:
            self._machine.on_failure(holder, piece, fate)
            if holder in self._machine.dropped:
                self._abandon(holder)
            self._on_loss()
        self._go_on()
        if self.is_idle:
            self._on_idle()

    def _abandon(self, holder: Contact) -> None:
        """What a dropped holder may still send is asked of others by now."""
        for pull in [pull for pull in self._pullings if pull[0] == holder]:
            self._pullings.pop(pull).cancel()
