"""What is found is held against a plain index in memory; and a get from those who die or lie."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest

from examples.file_index.words import words_of
from kademlia_node.core.message import Chunk, Request, Response
from kademlia_node.settings import PIECE_BYTES_MIN
from tests.examples.sharers import Peer, paths, search
from tests.node.network import SILENCE, Neighbourhood
from tests.node.providers import Provider

LIBRARY = Path(os.__file__).parent
SOME = ("json", "email", "asyncio", "concurrent", "xml", "wsgiref", "html", "http")
QUERIES = ["client", "init py", "decoder", "xml sax handler", "asyncio windows", "text", "nowhere"]


def library_files(folders: tuple[str, ...] | None) -> list[str]:
    """Paths of source files of the standard library, not empty, in order."""
    tops = [LIBRARY] if folders is None else [LIBRARY / name for name in folders]
    files = (path for top in tops for path in sorted(top.rglob("*.py")))
    return [
        str(path.relative_to(LIBRARY))
        for path in files
        if path.stat().st_size and "site-packages" not in path.parts
    ]


class PlainIndex:
    """Which files have a word, by nothing but sets."""

    def __init__(self) -> None:
        self._files: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, path: str) -> None:
        for word in [*words_of(path), "text"]:
            self._files[word].add(path)

    def search(self, query: str) -> list[str]:
        return sorted(set.intersection(*(self._files[word] for word in words_of(query))))


async def compare(tmp_path: Path, files: list[str], queries: list[str]) -> None:
    """Share overlapping thirds of some files by six peers, and search."""
    plain, rng = PlainIndex(), Random(1)
    async with Neighbourhood(seed=5) as here:
        await here.grow(10)
        peers = [Peer(here, tmp_path / str(number)) for number in range(6)]
        contents: dict[str, set[bytes]] = defaultdict(set)
        for path in files:
            plain.add(path)
            marked = (LIBRARY / path).read_bytes() + f"\n# {path}".encode()
            contents[path].add(marked)
            for peer in rng.sample(peers, 2):
                peer.write(path, marked)
        for peer in peers:
            await peer.start()
            await peer.sharer.refresh()
            assert not peer.sharer.trouble
        reader = await here.start(server=False)
        for query in queries:
            assert await paths(reader, query) == plain.search(query)
        for hit in await search(reader, queries[0]):
            assert len(hit.providers) == 2
        for peer in peers:
            peer.close()


async def test_precision_and_recall_are_one(tmp_path: Path) -> None:
    files = library_files(SOME)[::2]
    assert len(files) > 40
    await compare(tmp_path, files, QUERIES)


@pytest.mark.slow
async def test_precision_and_recall_are_one_for_the_whole_library(tmp_path: Path) -> None:
    files = library_files(None)
    assert len(files) > 500
    words = sorted({word for path in files for word in words_of(path)})
    await compare(tmp_path, files, [*QUERIES, *Random(2).sample(words, 60)])


# --- Fetched from three, of whom one dies and one lies --------------------------------------------


CONTENT = Random(9).randbytes(20 * PIECE_BYTES_MIN + 7)


async def test_a_get_from_three_of_whom_one_dies_and_one_lies_half_way_is_whole(
    tmp_path: Path,
) -> None:
    async with Neighbourhood() as here:
        await here.grow(4)
        peers = [Peer(here, tmp_path / str(number), kind=Provider) for number in range(3)]
        for peer in peers:
            peer.write("films/a film.bin", CONTENT)
            await peer.start()
            await peer.sharer.refresh()
        dies, lies, _ = providers = [provider_of(peer) for peer in peers]

        def lie_later(request: Request) -> Response | None:
            return (lies.lie if lies.asked.total() > 100 else lies.give)(request)

        def die_later(request: Request) -> Response | None:
            if isinstance(request, Chunk):
                return dies.stall(request, after=100)
            return SILENCE if dies.asked.total() > 100 else None

        lies.answer, dies.answer = lie_later, die_later
        reader = await here.start(server=False)
        (hit,) = await search(reader, "film")
        assert len(hit.providers) == 3
        target = tmp_path / "film"
        await reader.fetch(hit.entry.key, target, length_max=hit.entry.size)
        assert target.read_bytes() == CONTENT
        assert all(provider.asked.total() > 100 for provider in providers)
        counters = (await reader.status()).counters
        assert counters["pieces_false"] >= 1
        assert counters["pieces_stalled"] >= 1
        for peer in peers:
            peer.close()


def provider_of(peer: Peer) -> Provider:
    assert isinstance(peer.node, Provider)
    return peer.node
