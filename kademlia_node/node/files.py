"""Files of this machine that a node serves piece by piece, each found by the hash of its piece.

Not known here: who asks, and how pieces travel (`contents`); where a content is announced
(`sharing`). Driven by `add`; then the node reads from it as from any `ContentSource`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from kademlia_node.core.manifest import Manifest, Piece, piece_bytes_for


class SharedFiles:
    """Files of this machine as a `ContentSource`. They must not change while they are shared."""

    def __init__(self) -> None:
        self._places: dict[bytes, tuple[Path, int, int]] = {}

    async def add(self, path: Path) -> Manifest:
        """Share a file: read it once, piece by piece; returns its manifest.

        Raises:
            OSError: it cannot be read.
            ValueError: it is longer than a manifest can describe (about 7 GiB).
        """
        pieces: list[Piece] = []
        with path.open("rb") as file:
            piece_bytes = piece_bytes_for(os.fstat(file.fileno()).st_size)
            while block := file.read(piece_bytes):
                piece = Piece(hashlib.sha256(block).digest(), len(block))
                self._places[piece.hash] = (path, len(pieces) * piece_bytes, piece.length)
                pieces.append(piece)
                await asyncio.sleep(0)
        return Manifest(tuple(pieces))

    async def read(self, content: bytes, offset: int, length: int) -> bytes | None:
        """See `ContentSource`."""
        place = self._places.get(content)
        if place is None:
            return None
        path, start, piece_length = place
        try:
            with path.open("rb") as file:
                file.seek(start + offset)
                return file.read(max(0, min(length, piece_length - offset)))
        except OSError:
            return None  # the file is gone; so is the content
