"""Pulling: one content, chunk by chunk, from one holder (`core.pull`) over the exchange.

Without a task: the next chunk is asked for when one has come. Whoever started it is told the end
once, by `on_end`, unless it has cancelled it. Each `pull_block_max_s` has to bring a block of
chunks, or all that is left: a holder that drips, or is busy for ever, has stalled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.manifest import Piece
from kademlia_node.core.message import Chunk, Chunked, ErrorCode, Refused, Response
from kademlia_node.core.pull import Fate, Pull
from kademlia_node.node.receipt import Trace
from kademlia_node.rare import Rare, sometimes

if TYPE_CHECKING:
    from kademlia_node.node.state import NodeState

BUSY_MAX: Final = 64  # BUSY answers in a row; then the holder has stalled
BLOCK_CHUNKS: Final = 64  # that have to come in each `pull_block_max_s`


class Pulling:
    """One content on its way. `fate` and `content` tell the end.

    Args:
        state: the node that pulls.
        holder: whom it asks.
        piece: what: its hash, and the length that the holder names.
        on_end: told once, in the event loop, never before `start` returns.
        trace: where requests are counted.
    """

    def __init__(
        self,
        state: NodeState,
        holder: Contact,
        piece: Piece,
        *,
        on_end: Callable[[Pulling], None],
        trace: Trace | None = None,
    ) -> None:
        self._state = state
        self._machine = Pull(piece.hash, piece.length, window=state.settings.pull_window)
        self._on_end = on_end
        self._trace = trace
        self._busy_left = BUSY_MAX
        self._cancelled = False
        self._deadline: asyncio.TimerHandle | None = None
        self.holder = holder
        self.piece = piece

    @property
    def fate(self) -> Fate | None:
        """How it ended; None: it goes on."""
        return self._machine.fate

    @property
    def content(self) -> bytes:
        """What was pulled, when the fate is WHOLE."""
        return self._machine.content_bytes()

    def start(self) -> None:
        """Ask for the first chunks."""
        if self._machine.fate:  # nothing is longer than nothing
            self._state.loop.call_soon(self._tell)
            return
        self._watch()
        self._go_on()

    def cancel(self) -> None:
        """Ask for no more; nobody is told."""
        self._cancelled = True
        self._stop_watching()

    def _watch(self) -> None:
        """Look again in a while whether it got on: by counting, however slow each chunk is."""
        pause_s = self._state.settings.pull_block_max_s
        self._deadline = self._state.loop.call_later(pause_s, self._check, self._machine.arrived)

    def _check(self, arrived_before: int) -> None:
        if self._machine.arrived - arrived_before >= BLOCK_CHUNKS:
            self._watch()
            return
        sometimes(Rare.PULL_STALLED)
        self._machine.give_up()
        self._tell()

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _go_on(self) -> None:
        for index in self._machine.next_indices():
            self._ask(index)

    def _ask(self, index: int) -> None:
        if self._cancelled or self.fate:
            return
        if self._trace is not None:
            self._trace.requests += 1
        self._state.exchange.send(
            self.holder,
            Chunk(self.piece.hash, index),
            on_done=partial(self._on_done, index),
            proved=self._state.is_proved(self.holder),
        )

    def _on_done(self, index: int, response: Response | None) -> None:
        if self._cancelled or self.fate:
            return
        if isinstance(response, Chunked):
            self._busy_left = BUSY_MAX
            self._machine.on_chunk(index, response.data)
        elif self._is_busy(response):
            sometimes(Rare.HOLDER_BUSY)
            self._state.loop.call_later(self._state.settings.busy_pause_s, self._ask, index)
            return
        else:
            self._machine.on_failure(index)
        self._go_on()
        if self._machine.fate:
            self._tell()

    def _is_busy(self, response: Response | None) -> bool:
        """Whether to come back later: a holder that sets a pace is worth following, for a while."""
        busy = isinstance(response, Refused) and response.code == ErrorCode.BUSY
        self._busy_left -= busy
        return busy and self._busy_left > 0

    def _tell(self) -> None:
        self._stop_watching()
        if not self._cancelled:
            self._on_end(self)


async def pull(
    state: NodeState, holder: Contact, piece: Piece, *, trace: Trace | None = None
) -> bytes | None:
    """The content, or None if this holder does not give it."""
    pulling = await pull_to_end(state, holder, piece, trace=trace)
    return pulling.content if pulling.fate is Fate.WHOLE else None


async def pull_to_end(
    state: NodeState, holder: Contact, piece: Piece, *, trace: Trace | None = None
) -> Pulling:
    """A pulling that has ended, for those who care how."""
    ended: asyncio.Future[None] = state.loop.create_future()

    def on_end(_: Pulling) -> None:
        if not ended.done():
            ended.set_result(None)

    pulling = Pulling(state, holder, piece, on_end=on_end, trace=trace)
    pulling.start()
    try:
        await ended
    finally:
        pulling.cancel()
    return pulling
