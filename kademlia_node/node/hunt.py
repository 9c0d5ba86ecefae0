"""The hunt for a long blob: fetched from those who claim to hold it, until one copy proves itself.

The header of a blob is signed by nobody. Claims that agree on hash and length are about the same
value: one holder of it is tried at a time, and a value that came and is not the blob convicts them
all. Claims that differ are tried side by side, a few; the others wait for their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.key import Key
from kademlia_node.core.manifest import Piece
from kademlia_node.core.message import Item
from kademlia_node.core.pull import Fate
from kademlia_node.core.record import Header, Record, check_value
from kademlia_node.errors import BadRecord
from kademlia_node.node.pulling import Pulling
from kademlia_node.node.receipt import Trace
from kademlia_node.node.state import NodeState

SIDE_BY_SIDE: Final = 4  # different claims; so many paths can each meet a liar first


@dataclass(slots=True)
class _Claim:
    """One value that is said to be the blob, and who says so."""

    header: Header
    holders: list[Contact] = field(default_factory=list)
    pulling: Pulling | None = None
    is_false: bool = False


class Hunt:
    """One hunt. `record` is the blob once it is found; `liars` gave something else for it."""

    def __init__(
        self, state: NodeState, key: Key, *, trace: Trace, on_found: Callable[[], None]
    ) -> None:
        self._state = state
        self._key = key
        self._trace = trace
        self._on_found = on_found
        self._claims: dict[Piece, _Claim] = {}
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self.record: Record | None = None
        self.liars: set[Contact] = set()

    def claim(self, holder: Contact, item: Item) -> None:
        """Somebody says that it holds the blob, with this header."""
        piece = Piece(item.header.value_hash, item.header.length)
        claim = self._claims.get(piece)
        if claim is None:
            claim = self._claims[piece] = _Claim(item.header)
        if claim.is_false:
            self.liars.add(holder)
            return
        claim.holders.append(holder)
        self._go_on()

    async def settled(self) -> Record | None:
        """The blob, or None when everyone who claimed it has been tried."""
        try:
            await self._idle.wait()
        finally:
            self.end()
        return self.record

    def end(self) -> None:
        """Fetch no more."""
        for claim in self._claims.values():
            claim.holders.clear()
            if claim.pulling is not None:
                claim.pulling.cancel()
                claim.pulling = None
        self._idle.set()

    def _go_on(self) -> None:
        """Try as many claims at once as may be."""
        if self.record is None:
            for piece, claim in self._claims.items():
                if self._under_way() < SIDE_BY_SIDE and claim.pulling is None and claim.holders:
                    self._try(piece, claim)
        if not self._under_way():
            self._idle.set()

    def _under_way(self) -> int:
        return sum(claim.pulling is not None for claim in self._claims.values())

    def _try(self, piece: Piece, claim: _Claim) -> None:
        holder = claim.holders.pop(0)
        claim.pulling = Pulling(self._state, holder, piece, on_end=self._on_end, trace=self._trace)
        self._idle.clear()
        claim.pulling.start()

    def _on_end(self, pulling: Pulling) -> None:
        claim = self._claims[pulling.piece]
        claim.pulling = None
        if pulling.fate is Fate.WHOLE and self._is_it(claim.header, pulling.content):
            self.record = Record(self._key.digest, claim.header, pulling.content)
            self.end()
            self._on_found()
            return
        if pulling.fate is Fate.WHOLE:  # just what they claimed to have, and not the blob
            claim.is_false = True
            self.liars.update(claim.holders)
            claim.holders.clear()
        if pulling.fate is not Fate.STALLED:
            self.liars.add(pulling.holder)
        self._go_on()

    def _is_it(self, header: Header, value: bytes) -> bool:
        try:
            check_value(self._key.digest, header, value=value)
        except BadRecord as error:
            self._state.count_bad(error, by="reader")
            return False
        return True
