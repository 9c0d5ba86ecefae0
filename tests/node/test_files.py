"""Files of this machine as a source of content."""

from __future__ import annotations

from pathlib import Path

import pytest

from kademlia_node.node.files import SharedFiles
from kademlia_node.settings import MANIFEST_PIECES_MAX, PIECE_BYTES_MAX
from kademlia_node.settings import PIECE_BYTES_MIN as PIECE
from tests.node.providers import CONTENT, manifest_of, remove, write


async def test_a_shared_file_is_read_by_the_hash_of_its_pieces(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source, CONTENT)
    files = SharedFiles()
    manifest = await files.add(source)
    assert manifest == manifest_of(CONTENT)
    last = manifest.pieces[-1]
    assert last.length == 1000
    assert await files.read(last.hash, 0, PIECE) == CONTENT[-1000:]
    assert await files.read(last.hash, PIECE, PIECE) == b""
    assert await files.read(manifest.pieces[1].hash, 0, PIECE) == CONTENT[PIECE : 2 * PIECE]
    assert await files.read(b"\x00" * 32, 0, PIECE) is None
    remove(source)
    assert await files.read(last.hash, 0, PIECE) is None


async def test_a_file_that_no_manifest_describes_is_not_shared(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(MANIFEST_PIECES_MAX * PIECE_BYTES_MAX + 1)
    with pytest.raises(ValueError, match="more than"):
        await SharedFiles().add(path)
