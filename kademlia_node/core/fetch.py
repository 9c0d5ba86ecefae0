"""One fetch: which piece to pull from which holder, until all pieces are here.

Pieces are taken in the order in which they were first wanted, each from the holder that has least
to do, so that several holders are drawn on at once. A holder that lied is dropped, and so is one
that stalled twice; what it was asked for is free for the others. Near the end idle holders help
out (the *endgame*): a piece that a slow holder has been at for longest is asked of a second one,
and whichever is first counts.

A piece is known by hash *and* length: a holder that offers a true hash with a false length makes
up a piece of its own, and spoils nobody else's.

Not known here: chunks (`pull`), packets, where pieces are kept. The caller says what it has and
wants (`have`, `want`) and what holders offer (`offer`), starts what `next_pulls` returns, reports
each outcome by `on_piece` or `on_failure`, asks for `next_pulls` again, and stops when the fetch is
`done`, or when it is `starved` and no further holder can be found.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from kademlia_node.core.manifest import Piece
from kademlia_node.core.pull import Fate
from kademlia_node.rare import Rare, sometimes

H = TypeVar("H", bound=Hashable)

_STALLS_MAX: Final = 2  # the first may be a bad moment
_HOLDERS_PER_PIECE_MAX: Final = 2  # in the endgame; all other bytes travel once


@dataclass(eq=False, slots=True)
class _Source(Generic[H]):
    """A holder and what we know of it; compared by identity, which is fast."""

    holder: H
    load: int = 0  # pieces in flight
    stalls: int = 0


class Fetch(Generic[H]):
    """A fetch from holders of type `H`, at most `per_holder` pieces in flight at each.

    `dropped` are the holders that are not asked again, each with what it did (None: the caller has
    dropped it).
    """

    def __init__(self, *, per_holder: int) -> None:
        assert per_holder >= 1
        self.dropped: dict[H, Fate | None] = {}
        self._per_holder = per_holder
        self._sources: dict[H, _Source[H]] = {}
        self._had: set[bytes] = set()
        self._wanted: dict[Piece, dict[_Source[H], None]] = {}  # and who offers it
        self._in_flight: dict[Piece, dict[_Source[H], None]] = {}  # longest in flight first

    @property
    def done(self) -> bool:
        """Whether every wanted piece is here; so it is while none is wanted."""
        return not self._wanted

    @property
    def starved(self) -> bool:
        """Whether pieces are missing, none is in flight and nobody left offers any."""
        return not self.done and not self._in_flight and not any(self._wanted.values())

    def missing(self) -> list[Piece]:
        """The wanted pieces that are not here, in flight or not, in order."""
        return list(self._wanted)

    # --- What there is ---

    def have(self, piece_hash: bytes) -> list[tuple[H, Piece]]:
        """This content is here: it is not wanted any more.

        Returns:
            The pulls in flight that have become superfluous; the fetch has forgotten them.
        """
        self._had.add(piece_hash)
        superfluous = []
        for piece in [piece for piece in self._wanted if piece.hash == piece_hash]:
            del self._wanted[piece]
            for source in self._in_flight.pop(piece, ()):
                source.load -= 1
                superfluous.append((source.holder, piece))
        return superfluous

    @property
    def useful(self) -> int:
        """How many holders offer something that is not here."""
        found: set[_Source[H]] = set()
        for offering in self._wanted.values():
            found.update(offering)
            if len(found) == len(self._sources):
                break
        return len(found)

    def want(self, piece: Piece) -> None:
        """This piece shall be fetched, whether somebody offers it yet or not."""
        if piece.hash not in self._had:
            self._wanted.setdefault(piece, {})

    def offer(self, holder: H, pieces: Iterable[Piece]) -> None:
        """This holder says that it has these pieces. They are wanted, unless they are here."""
        if holder in self.dropped:
            return
        source = self._sources.setdefault(holder, _Source(holder))
        for piece in pieces:
            self.want(piece)
            if piece in self._wanted:
                self._wanted[piece][source] = None

    # --- Whom to ask ---

    def next_pulls(self) -> list[tuple[H, Piece]]:
        """The pieces to pull now, each with its holder."""
        pulls: list[tuple[H, Piece]] = []
        room = sum(self._per_holder - source.load for source in self._sources.values())
        waiting = False  # for a holder that is at its limit
        for piece, offering in self._wanted.items():
            if not room:
                return pulls
            if piece in self._in_flight:
                continue
            ready = [source for source in offering if source.load < self._per_holder]
            if ready:
                # Of equals the one that offered first: min() keeps the order.
                pulls.append(self._begin(min(ready, key=_by_merit), piece))
                room -= 1
            elif offering:
                waiting = True
        return pulls if waiting else pulls + self._endgame()

    def _endgame(self) -> list[tuple[H, Piece]]:
        pulls = []
        for source in self._sources.values():
            if source.load:
                continue
            for piece, asked in self._in_flight.items():
                if len(asked) < _HOLDERS_PER_PIECE_MAX and source in self._wanted[piece]:
                    sometimes(Rare.ENDGAME)
                    pulls.append(self._begin(source, piece))
                    break
        return pulls

    def _begin(self, source: _Source[H], piece: Piece) -> tuple[H, Piece]:
        source.load += 1
        self._in_flight.setdefault(piece, {})[source] = None
        return source.holder, piece

    # --- What came of it ---

    def on_piece(self, holder: H, piece: Piece) -> list[tuple[H, Piece]]:
        """The piece arrived whole from this holder, and its hash is right.

        Returns:
            The other pulls in flight that have become superfluous: the caller may end them, and
            need not report what becomes of them.
        """
        return [pull for pull in self.have(piece.hash) if pull != (holder, piece)]

    def on_failure(self, holder: H, piece: Piece, fate: Fate) -> None:
        """The pull of a piece ended with this fate. Outcomes of forgotten pulls are ignored."""
        assert fate is not Fate.WHOLE
        source = self._sources.get(holder)
        if source is None or source not in self._in_flight.get(piece, ()):
            return
        self._end(source, piece)
        if fate is Fate.LACKS:
            del self._wanted[piece][source]
            return
        source.stalls += fate is Fate.STALLED
        if fate is Fate.LIED or source.stalls >= _STALLS_MAX:
            self.drop(holder, fate)

    def drop(self, holder: H, fate: Fate | None = None) -> None:
        """Ask nothing more of this holder, whether it has offered anything yet or not."""
        self.dropped.setdefault(holder, fate)
        source = self._sources.pop(holder, None)
        if source is None:
            return
        for piece, offering in self._wanted.items():
            offering.pop(source, None)
            if source in self._in_flight.get(piece, ()):
                self._end(source, piece)

    def _end(self, source: _Source[H], piece: Piece) -> None:
        source.load -= 1
        asked = self._in_flight[piece]
        del asked[source]
        if not asked:
            del self._in_flight[piece]


def _by_merit(source: _Source[H]) -> tuple[int, int]:
    """Fewest stalls, then least to do."""
    return source.stalls, source.load
