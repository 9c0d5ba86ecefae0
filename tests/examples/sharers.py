"""Sharers on virtual time, each with folders and a ledger of its own, and what a search finds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from examples.file_index.ledger import Ledger, open_ledger
from examples.file_index.searching import Filter, Hit, Search
from examples.file_index.sharing import Sharer
from examples.file_index.shelf import Shelf
from examples.file_index.words import words_of
from kademlia_node import Node
from tests.node.network import Neighbourhood


async def at_once(function: Callable[..., Any], *args: Any) -> Any:
    """Instead of a thread, which has no place in virtual time."""
    return function(*args)


class Peer:
    """A node that shares; `stop` and `start` it as often as you like."""

    def __init__(
        self, here: Neighbourhood, home: Path, *, kind: type[Node] = Node, **options: Any
    ) -> None:
        self._here = here
        self._kind = kind
        self._options: dict[str, Any] = {"identity": here.new_identity(), **options}
        self.home = home
        self.folder = home / "shared"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._context = open_ledger(home / "state")
        self.ledger: Ledger = self._context.__enter__()
        self.ledger.add_folders([str(self.folder)])

    async def start(self) -> None:
        self.shelf = Shelf()
        self.node = await self._here.start_as(self._kind, content=self.shelf, **self._options)
        self._options["store"] = self._here.store_of(self.node)
        self.steps: list[tuple[str, int, int]] = []
        self.sharer = Sharer(
            self.node,
            self.ledger,
            self.shelf,
            salt=self.node.public_key,
            on_step=lambda *step: self.steps.append(step),
            work=at_once,
            wall=self._here.sim.wall,
        )

    async def stop(self) -> None:
        """As a power failure would, but for a word to the neighbours."""
        await self.node.stop()

    def write(self, path: str, content: bytes = b"content") -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    def close(self) -> None:
        self._context.__exit__(None, None, None)


async def search(node: Node, words: str, **options: Any) -> list[Hit]:
    """All hits, in the order in which they came."""
    came: list[Hit] = []
    wanted = options.pop("wanted", Filter())
    searching = Search(node, words_of(words), wanted=wanted, on_hit=came.append, **options)
    async with asyncio.timeout(120):
        assert await searching.run(within_s=100)
    assert {id(hit) for hit in came} == {id(hit) for hit in searching.hits.values()}
    return came


async def paths(node: Node, words: str, **options: Any) -> list[str]:
    return sorted(hit.entry.path for hit in await search(node, words, **options))
