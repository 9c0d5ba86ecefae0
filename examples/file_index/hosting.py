"""Sharing by a running daemon: `Hosted` stands in for the node that a sharer otherwise embeds.

The daemon (`kademlia-node run`) publishes as itself, and serves each file from its path, which it
opens itself; so it goes on while nobody runs the command, until the file changes. It has to see the
files, and may read them. One content is served from one path: of several files that are the same,
one is provided.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Protocol

from examples.file_index.walk import Found
from kademlia_node import Announcement, Key, Manifest
from kademlia_node.daemon.client import ControlClient, Json, Refused, connected

SOCKET: Final = "control.sock"  # of a daemon, in its data folder


class Outcome(Protocol):
    """What a sharer reads of a receipt."""

    @property
    def key(self) -> Key:
        """Of what was written."""
        ...

    @property
    def replicas(self) -> Sequence[object]:
        """Who took it."""
        ...

    def summary(self) -> str:
        """One line for people."""
        ...


class Host(Protocol):
    """As much of a `Node` as a sharer needs."""

    @property
    def invite(self) -> object:
        """Where it is reached."""
        ...

    async def set(self, name: str, value: bytes, *, own: bool, ttl_s: int) -> object:
        """See `Node`, as with all that follows."""
        ...

    async def announce_many(
        self, announcements: Iterable[Announcement], *, ttl_s: int
    ) -> Sequence[Outcome]:
        """Add entries to topics."""
        ...

    async def withdraw_many(
        self, entries: Iterable[tuple[str, str]], *, ttl_s: int
    ) -> Sequence[Outcome]:
        """Delete entries of topics."""
        ...

    async def provide_many(self, manifests: Iterable[Manifest], *, ttl_s: int) -> Sequence[Outcome]:
        """Say that contents are here."""
        ...

    async def unprovide(self, key: Key, *, ttl_s: int) -> object:
        """Say no longer that a content is here."""
        ...

    def publications(self) -> AsyncIterator[Any]:
        """What it keeps alive."""
        ...

    async def status(self) -> Any:
        """What it is doing."""
        ...


class Serving(Protocol):
    """Where a sharer puts the files that are to be served."""

    def add(self, found: Found, manifest: Manifest) -> None:
        """Serve a file from now on."""
        ...

    def remove(self, found: Found, manifest: Manifest) -> None:
        """Serve it no longer."""
        ...


@asynccontextmanager
async def hosted_by(folder: Path) -> AsyncIterator[Hosted]:
    """The daemon of a data folder as a sharer's node and shelf.

    Raises:
        NoDaemon: none runs there.
    """
    async with connected(folder / SOCKET) as daemon:
        hosted = Hosted(daemon)
        await hosted.status()  # it is there, and reached at its invite
        yield hosted


@dataclass(frozen=True, slots=True)
class Told:
    """What a sharer reads of a receipt."""

    key: Key
    replicas: tuple[str, ...]
    said: str

    def summary(self) -> str:
        """One line for people."""
        return self.said


class Hosted:
    """A node and a shelf in one, both kept by a daemon. Made by `hosted_by`."""

    def __init__(self, daemon: ControlClient) -> None:
        self._daemon = daemon
        self._files: dict[bytes, dict[Found, None]] = {}  # by the hash of the manifest
        self.invite = ""

    # --- As a shelf -------------------------------------------------------------------------------

    def add(self, found: Found, manifest: Manifest) -> None:
        """This file has this content; it is served when it is provided."""
        self._files.setdefault(manifest.hash, {})[found] = None

    def remove(self, found: Found, manifest: Manifest) -> None:
        """It has not any more. If it has changed, the daemon has seen that, too."""
        self._files.get(manifest.hash, {}).pop(found, None)

    # --- As a node --------------------------------------------------------------------------------

    async def set(self, name: str, value: bytes, *, own: bool, ttl_s: int) -> object:
        """See `Node`."""
        return await self._daemon.set(name, value, own=own, ttl_s=ttl_s)

    async def announce_many(
        self, announcements: Iterable[Announcement], *, ttl_s: int
    ) -> list[Told]:
        """See `Node`."""
        return [
            _told(view) for view in await self._daemon.announce_many(announcements, ttl_s=ttl_s)
        ]

    async def withdraw_many(self, entries: Iterable[tuple[str, str]], *, ttl_s: int) -> list[Told]:
        """See `Node`."""
        return [_told(view) for view in await self._daemon.withdraw_many(entries, ttl_s=ttl_s)]

    async def provide_many(self, manifests: Iterable[Manifest], *, ttl_s: int) -> list[Told]:
        """See `Node`; what the daemon cannot read has no replicas."""
        return [await self._provide(manifest, ttl_s=ttl_s) for manifest in manifests]

    async def unprovide(self, key: Key, *, ttl_s: int) -> object:
        """See `Node`."""
        return await self._daemon.unprovide(str(key), ttl_s=ttl_s)

    async def publications(self) -> AsyncIterator[Any]:
        """As much of each as a sharer reads."""
        async for view in self._daemon.published():
            slot, value_hash = view["slot"].encode(), bytes.fromhex(view["value_hash"])
            header = SimpleNamespace(slot=slot, value_hash=value_hash, expires=view["expires"])
            yield SimpleNamespace(record=SimpleNamespace(header=header))

    async def status(self) -> Any:
        """As much of it as a sharer reads."""
        view = await self._daemon.status()
        self.invite = view["invite"]
        costs = {
            verb: SimpleNamespace(
                count=cost["count"], requests=round(cost["count"] * cost["requests_each"])
            )
            for verb, cost in view["operations"].items()
        }
        did = {name: chore["last_run_did"] or 0 for name, chore in view["chores"].items()}
        return SimpleNamespace(
            joined=view["joined"],
            peers=view["peers"],
            counters=view["counters"],
            operations=costs,
            did=did,
        )

    async def _provide(self, manifest: Manifest, *, ttl_s: int) -> Told:
        """Have it provided from the first of its files that the daemon takes."""
        key, said = manifest.key, "the file has changed"
        for found in self._files.get(manifest.hash, ()):
            try:
                path = str(Path(found.folder, found.path))
                return _told(await self._daemon.provide(path, key=str(key), ttl_s=ttl_s))
            except Refused as error:
                said = str(error)
        return Told(key, (), said)


def _told(view: Json) -> Told:
    replicas = tuple(replica["id"] for replica in view["replicas"])
    return Told(Key.parse(view["key"]), replicas, view["summary"])
