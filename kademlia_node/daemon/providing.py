"""The files that a daemon provides: served, announced, and no longer when they have changed.

What is provided is on a list in the folder (`kept`). For each file on it two things are to agree:
what the disk shows, and what the network has been told. `look_after` compares them, at the start
and every few minutes, and says what is not said yet: that a content is here, here at another
address, or here no longer. Refuses to know how pieces travel, and who asks for them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from enum import Enum
from pathlib import Path
from typing import Final

from kademlia_node.core.key import Key
from kademlia_node.daemon.kept import Kept, Provided
from kademlia_node.daemon.views import Json
from kademlia_node.errors import KademliaError, NotStored, SetupError
from kademlia_node.node.files import FileState, OnRead, SharedFile, SharedFiles, read_file
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import Receipt

log = logging.getLogger(__name__)

AGAIN_S: Final = 10.0  # until what could not be said is tried again
READ: Final = "provided_files_read"  # counter: a file was read to its end, to be provided


class State(Enum):
    """How a file that is provided fares."""

    ANNOUNCED = "announced"
    WAITING = "waiting"  # as the network could not be told yet
    CHANGED = "changed"  # since it was read, so it is not served
    GONE = "gone"


class Providing:
    """What a daemon provides.

    Args:
        node: Serves from `files`; has been started before anything is provided.
        files: Where the pieces are read from.
        kept: The list.
        home: The folder of the daemon, from which nothing is provided: its key is there.
    """

    def __init__(self, node: Node, files: SharedFiles, *, kept: Kept, home: Path) -> None:
        self._node = node
        self._files = files
        self._kept = kept
        self._home = home.resolve()
        self._entries: dict[Key, Provided] = {}
        self._said: dict[Key, str] = {}  # in this run: where we are reached, or that it is not here
        self._failed: set[Key] = set()  # to say it; each failure is logged once
        self._lock = asyncio.Lock()  # one change of the list, and of what is said, at a time
        for key, provided in kept.read():
            self._entries[key] = provided
            files.share(provided.file)

    # --- Verbs ------------------------------------------------------------------------------------

    async def provide(
        self,
        path: Path,
        *,
        key: Key | None = None,
        ttl_s: int | None = None,
        on_read: OnRead | None = None,
    ) -> tuple[SharedFile, Receipt]:
        """Read a file, serve it from now on, after restarts too, and announce it.

        It takes the place of what was provided from the same path before. With `key`, nothing is
        done unless this is its content. `ttl_s` is that of `Node.provide`, here and when it is
        announced again.

        Raises:
            SetupError: it is no regular file, cannot be read, was changed meanwhile or has another
                content; the list cannot be written; or we do not know where we are reached.
            NotStored: nobody took the announcement. Then it is not provided.
            ValueError: it is too long, the path is none, or a bad `ttl_s`.
        """
        provided = Provided(await self._read(path, on_read=on_read), ttl_s)
        file = provided.file
        if key not in (None, file.manifest.key):
            raise SetupError(f"{path} has another content")
        key = file.manifest.key
        async with self._lock:
            before = self._entries.get(key)
            self._kept.keep(key, provided)
            self._entries[key] = provided
            self._files.share(file)
            try:
                receipt = await self._announce(key, provided)
            except (KademliaError, ValueError):
                if before is None:
                    self._remove(key)
                    await self._node.forget(key)
                raise
            for replaced in [k for k, p in self._entries.items() if p.file.path == file.path]:
                if replaced != key:
                    await self._replace(replaced)
        return file, receipt

    async def unprovide(self, key: Key, *, ttl_s: int | None = None) -> bool:
        """Serve a file no longer, and withdraw what was announced; whether we provided it.

        `ttl_s` is that of `Node.unprovide`; by default the one with which it is provided.

        Raises:
            NotStored: nobody took the withdrawal; it is still provided.
            SetupError: the list cannot be written.
        """
        async with self._lock:
            if key not in self._entries:
                return False
            await self._withdraw(key, ttl_s=ttl_s)
            self._remove(key)
            return True

    def provided(self) -> list[Json]:
        """Everything on the list, in order of key."""
        return [
            {
                "key": str(key),
                "path": str(provided.file.path),
                "size": provided.file.manifest.length,
                "state": self._state(key, provided.file).value,
            }
            for key, provided in sorted(self._entries.items(), key=lambda entry: str(entry[0]))
        ]

    # --- Looking after it -------------------------------------------------------------------------

    async def keep(self, *, every_s: float) -> None:
        """Look after all of it now and every so many seconds, until cancelled."""
        while True:
            all_said = await self.look_after()
            await asyncio.sleep(every_s if all_said else min(every_s, AGAIN_S))

    async def look_after(self) -> bool:
        """Tell the network what it does not know yet; whether it knows all now."""
        for key in list(self._entries):
            async with self._lock:
                if key in self._entries:  # still
                    await self._say(key, self._entries[key])
            await asyncio.sleep(0)
        return not self._failed

    async def _say(self, key: Key, provided: Provided) -> None:
        file, state = provided.file, provided.file.state()
        try:
            if state is FileState.SAME:
                if self._said.get(key) != str(self._node.invite):
                    await self._announce(key, provided)
            elif self._said.get(key) != "":
                log.warning("%s is provided no longer: it is %s", _line(file.path), state.value)
                await self._withdraw(key)
                self._said[key] = ""
        except KademliaError as error:
            if key not in self._failed:
                log.warning("%s cannot be announced as it is: %s", _line(file.path), error)
            self._failed.add(key)
        else:
            self._failed.discard(key)

    async def _announce(self, key: Key, provided: Provided) -> Receipt:
        here, manifests = str(self._node.invite), [provided.file.manifest]
        (receipt,) = await self._node.provide_many(manifests, ttl_s=provided.ttl_s)  # shares walks
        if not receipt.replicas:
            raise NotStored(receipt)
        self._said[key] = here
        self._failed.discard(key)
        return receipt

    async def _withdraw(self, key: Key, *, ttl_s: int | None = None) -> None:
        lasts_s = self._entries[key].ttl_s if ttl_s is None else ttl_s
        await self._node.unprovide(key, ttl_s=lasts_s)

    async def _replace(self, key: Key) -> None:
        """Its file has another content now. What nobody takes is tried again by `look_after`."""
        try:
            await self._withdraw(key)
        except NotStored as error:
            log.warning("%s cannot be withdrawn yet: %s", key, error)
        else:
            self._remove(key)

    def _remove(self, key: Key) -> None:
        self._kept.remove(key)
        self._files.drop(self._entries.pop(key).file.manifest)
        self._said.pop(key, None)
        self._failed.discard(key)

    def _state(self, key: Key, file: SharedFile) -> State:
        state = file.state()
        if state is not FileState.SAME:
            return State(state.value)
        return State.ANNOUNCED if self._said.get(key) else State.WAITING

    async def _read(self, path: Path, *, on_read: OnRead | None) -> SharedFile:
        try:
            where = Path(os.path.realpath(path, strict=True))  # noqa: ASYNC240 - a short look
            if where.is_relative_to(self._home):
                raise SetupError(f"{path} is in the daemon's own folder, and stays there")
            file = await read_file(where, on_read=on_read)
        except OSError as error:
            raise SetupError(f"cannot read {path}: {error.strerror}") from error
        self._node.count(READ)
        return file


def _line(path: Path) -> str:
    """On one line of a log, whatever is in it."""
    return ascii(str(path))
