"""Serves pieces of shared files. A file that is not as it was when it was read gives nothing."""

from __future__ import annotations

from collections import defaultdict

from examples.file_index.walk import Found, opened
from kademlia_node import Manifest

Place = tuple[Found, int, int]
"""A file, and the offset and length of a piece in it."""


class Shelf:
    """A `ContentSource` of files that come and go."""

    def __init__(self) -> None:
        self._places: defaultdict[bytes, set[Place]] = defaultdict(set)

    def add(self, found: Found, manifest: Manifest) -> None:
        """Serve a file from now on."""
        for offset, piece in manifest.offsets():
            self._places[piece.hash].add((found, offset, piece.length))

    def remove(self, found: Found, manifest: Manifest) -> None:
        """Serve it no longer."""
        for offset, piece in manifest.offsets():
            self._places[piece.hash].discard((found, offset, piece.length))
            if not self._places[piece.hash]:
                del self._places[piece.hash]

    async def read(self, content: bytes, offset: int, length: int) -> bytes | None:
        """See `ContentSource`."""
        for found, start, piece_length in self._places.get(content, ()):
            try:
                with opened(found) as file:
                    file.seek(start + offset)
                    return file.read(max(0, min(length, piece_length - offset)))
            except OSError:
                continue  # it has changed, or is gone; another one may have the same piece
        return None
