"""Providers of one content, and what a test may know about them and about the file."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from hashlib import sha256
from pathlib import Path
from random import Random

from kademlia_node.core.key import Key
from kademlia_node.core.manifest import Manifest, Piece
from kademlia_node.core.message import Chunk, Chunked, Request, Response
from kademlia_node.node.files import SharedFiles
from kademlia_node.node.node import Node
from kademlia_node.settings import CHUNK_BYTES
from kademlia_node.settings import PIECE_BYTES_MIN as PIECE
from tests.node.network import SILENCE, Neighbourhood, Puppet

CONTENT = Random(1).randbytes(15 * PIECE + 1000)
CHUNKS = -(-len(CONTENT) // CHUNK_BYTES)


def manifest_of(content: bytes) -> Manifest:
    """Of a content that is not too long for the smallest pieces."""
    blocks = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    return Manifest(tuple(Piece(sha256(block).digest(), len(block)) for block in blocks))


def part_name(target: Path, manifest: Manifest) -> Path:
    return target.with_name(f"{target.name}.{sha256(manifest.pack()).hexdigest()[:8]}.part")


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def change_unseen(path: Path, content: bytes) -> None:
    """Other bytes, as many as before, in a file that looks as it did."""
    status = path.stat()
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(path: Path, *, later_s: int = 1) -> None:
    """The same bytes, changed at another time."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + later_s * 10**9))


def remove(path: Path) -> None:
    path.unlink()


def is_there(path: Path) -> bool:
    return path.exists()


class Provider(Puppet):
    """A puppet that counts the chunks that it is asked for."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.asked: Counter[tuple[bytes, int]] = Counter()
        self.answer = self.give

    def give(self, request: Request) -> Response | None:
        """As the node does."""
        if isinstance(request, Chunk):
            self.asked[request.content, request.index] += 1
        return None

    def stall(self, request: Request, *, after: int = 0) -> Response | None:
        """Silence, after so many chunks."""
        self.give(request)
        return SILENCE if isinstance(request, Chunk) and self.asked.total() > after else None

    def lie(self, request: Request) -> Response | None:
        """Other bytes."""
        self.give(request)
        return Chunked(bytes(CHUNK_BYTES)) if isinstance(request, Chunk) else None


async def provide(here: Neighbourhood, source: Path, count: int) -> tuple[list[Provider], Key]:
    """So many providers of a file, beside three other nodes that keep the records."""
    await here.grow(3)
    files = SharedFiles()
    manifest = await files.add(source)
    providers = [await here.start_as(Provider, content=files) for _ in range(count)]
    receipts = [await provider.provide(manifest) for provider in providers]
    return providers, receipts[0].key


async def fetch(node: Node, key: Key, target: str | Path, *, overwrite: bool = True) -> None:
    async with asyncio.timeout(120):
        await node.fetch(key, target, overwrite=overwrite)
