"""The nodes behind the verbs: the sharer's own, and a guest's, which stores nothing and leaves."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from examples.file_index.hosting import Host, Serving, hosted_by
from examples.file_index.ledger import Ledger, is_shared
from examples.file_index.shelf import Shelf
from kademlia_node import (
    ContentSource,
    DiskStore,
    Identity,
    Memory,
    Network,
    Node,
    Settings,
    SetupError,
)


@dataclass(frozen=True, slots=True)
class Joining:
    """Which network, where to knock, where to listen."""

    network: Network
    bootstrap: tuple[str, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104 - a peer is there to be reached
    port: int = 0


async def own_identity(folder: Path, network: Network) -> Identity:
    """The sharer's key, which is made at the first start."""
    path = folder / "key"
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise SetupError(f"{path} is open to others: close it with  chmod 600 {path}")
        try:
            return Identity(bytes.fromhex(path.read_text("ascii")))
        except ValueError:
            raise SetupError(f"{path} is no key: move it away to become another sharer") from None
    identity = await asyncio.to_thread(
        Identity.generate, random.SystemRandom(), puzzle_bits=network.puzzle_bits
    )
    path.touch(mode=0o600)
    path.write_text(identity.seed.hex() + "\n", "ascii")
    return identity


@asynccontextmanager
async def member(
    folder: Path, joining: Joining, *, identity: Identity, content: ContentSource
) -> AsyncIterator[Node]:
    """The sharer's node: it stores for others, serves `content`, and renews what it announced."""
    store = await DiskStore.open(folder / "store.db", own_id=identity.id, settings=Settings())
    async with Node(
        network=joining.network,
        bootstrap=joining.bootstrap,
        host=joining.host,
        port=joining.port,
        identity=identity,
        store=store,
        content=content,
        memory=_read_memory(folder),
    ) as node:
        try:
            yield node
        finally:
            write_memory(folder, node)


@asynccontextmanager
async def host_of(
    ledger: Ledger, joining: Joining, *, daemon: Path | None
) -> AsyncIterator[tuple[Host, Serving, bytes]]:
    """Who shares, where its files are served from, and the salt of its slots.

    That is a node of our own, or the daemon of a data folder.
    """
    if daemon is None:
        identity, shelf = await own_identity(ledger.path, joining.network), Shelf()
        salt = hashlib.sha256(b"file-index slots" + identity.seed).digest()
        async with member(ledger.path, joining, identity=identity, content=shelf) as node:
            yield node, shelf, salt
    else:
        if "salt" not in ledger.facts():
            ledger.say(salt=random.SystemRandom().randbytes(32).hex())
        async with hosted_by(daemon) as hosted:
            yield hosted, hosted, bytes.fromhex(ledger.facts()["salt"])


@asynccontextmanager
async def guest(ledger: Ledger, joining: Joining) -> AsyncIterator[Node]:
    """A node for one search or download.

    It joins through the peers of the last time, too, and through a process of this machine that
    shares from the same folder, while one does.

    Raises:
        SetupError: nobody was reached.
    """
    folder, invite = ledger.path, ledger.facts().get("invite", "")
    sharing = (invite,) if invite and is_shared(folder) else ()
    async with Node(
        network=joining.network,
        bootstrap=(*joining.bootstrap, *sharing),
        host=joining.host,
        memory=_read_memory(folder),
        server=False,
    ) as node:
        status = await node.status()
        if not status.joined:
            said = "; ".join(status.unreachable) or "no peer is known: give a --bootstrap"
            raise SetupError(f"nobody of the network {joining.network.name!r} was reached: {said}")
        write_memory(folder, node)
        yield node


def write_memory(folder: Path, node: Node) -> None:
    """Keep whom the node knows; it is a help, not a need."""
    fresh = folder / f"peers.{node.public_key.hex()[:8]}.new"
    with suppress(OSError):
        fresh.write_text(node.memory().to_json(), "utf-8")
        fresh.replace(folder / "peers.json")


def _read_memory(folder: Path) -> Memory:
    try:
        return Memory.from_json((folder / "peers.json").read_text("utf-8"))
    except (OSError, ValueError):
        return Memory()
