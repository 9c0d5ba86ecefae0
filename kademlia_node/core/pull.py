"""One pull: a content, named by its SHA-256, in chunks from one holder.

Only the whole can be checked against the hash. It is therefore taken from a single holder: if it
is false, there is no doubt who lied. Flow control is the reader's, who has `window` requests in
flight; a chunk that got lost is asked for again by itself.

Not known here: packets, timers, who the holder is, other holders (`fetch`). The caller sends a
CHUNK request for each of `next_indices`, reports its outcome by `on_chunk` or `on_failure`, asks
for `next_indices` again, and stops when there is a `fate`. What comes after that is ignored.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from enum import Enum, auto
from typing import Final

from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import CHUNK_BYTES, PIECE_BYTES_MAX

_SILENCES_MAX: Final = 2  # failures in a row; each stands for several repeats already
_FAILURES_PER_CHUNK_MAX: Final = 4  # a holder that answers, but never with this one


class Fate(Enum):
    """How a pull ended."""

    WHOLE = auto()  # all there, and its hash is right
    LACKS = auto()  # the holder says that it does not have it
    LIED = auto()  # a chunk of another length, or a whole of another hash
    STALLED = auto()  # the holder has become silent, or does not get on


class Pull:
    """The content with the hash `content` and `length` bytes, at most PIECE_BYTES_MAX.

    `fate` is None while the pull goes on. Chunks are kept as they come: a holder that names a
    great length takes no more of our memory than what it sends.
    """

    def __init__(self, content: bytes, length: int, *, window: int) -> None:
        assert 0 <= length <= PIECE_BYTES_MAX
        assert window >= 1
        self.fate: Fate | None = None
        self._content = content
        self._length = length
        self._window = window
        self._count = -(-length // CHUNK_BYTES)
        self._to_ask = deque(range(self._count))
        self._in_flight: set[int] = set()
        self._chunks: dict[int, bytes] = {}
        self._failures: Counter[int] = Counter()
        self._silences = 0  # failures since the last chunk
        self._whole = b""
        if length == 0:
            self._judge()

    def next_indices(self) -> list[int]:
        """The chunks to ask for now."""
        room = min(self._window - len(self._in_flight), len(self._to_ask))
        indices = [self._to_ask.popleft() for _ in range(room)]
        self._in_flight.update(indices)
        return indices

    @property
    def arrived(self) -> int:
        """How many chunks are here while the pull goes on."""
        return len(self._chunks)

    def on_chunk(self, index: int, data: bytes | None) -> None:
        """The holder answered with a chunk, or with None: it does not have the content."""
        if self.fate:
            return
        self._in_flight.remove(index)
        if data is None:
            sometimes(Rare.HOLDER_LACKS)
            self._end(Fate.LACKS)
        elif len(data) != min(CHUNK_BYTES, self._length - index * CHUNK_BYTES):
            self._end(Fate.LIED)
        else:
            self._silences = 0
            self._chunks[index] = data
            if len(self._chunks) == self._count:
                self._judge()

    def on_failure(self, index: int) -> None:
        """The holder did not answer, however often it was asked, or was too busy to."""
        if self.fate:
            return
        self._in_flight.remove(index)
        self._silences += 1
        self._failures[index] += 1
        if self._silences >= _SILENCES_MAX or self._failures[index] >= _FAILURES_PER_CHUNK_MAX:
            self._end(Fate.STALLED)
        else:
            sometimes(Rare.CHUNK_ASKED_AGAIN)
            self._to_ask.appendleft(index)

    def give_up(self) -> None:
        """The holder does not get on, by the clock of the caller."""
        if not self.fate:
            self._end(Fate.STALLED)

    def content_bytes(self) -> bytes:
        """The content, once the fate is WHOLE."""
        assert self.fate is Fate.WHOLE
        return self._whole

    def _judge(self) -> None:
        whole = b"".join(self._chunks[index] for index in range(self._count))
        if hashlib.sha256(whole).digest() == self._content:
            self._whole = whole
            self._end(Fate.WHOLE)
        else:
            self._end(Fate.LIED)

    def _end(self, fate: Fate) -> None:
        self.fate = fate
        self._to_ask.clear()
        self._chunks.clear()
