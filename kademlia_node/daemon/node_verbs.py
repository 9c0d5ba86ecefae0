"""The verbs, done by a node of this process: text in, plain values out.

It serves the control API, and the command line where no daemon does. Refuses to know either; what
can be asked is said in `verbs`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TypeVar

from kademlia_node.core.ids import node_id, point
from kademlia_node.core.invite import SCHEME, key_text
from kademlia_node.core.key import Key
from kademlia_node.daemon.archive import Archive
from kademlia_node.daemon.providing import Providing
from kademlia_node.daemon.views import (
    Json,
    OnView,
    backup_view,
    brief_receipt_view,
    change_view,
    contact_view,
    entry_view,
    publication_view,
    receipt_view,
    record_view,
    status_view,
    trace_view,
)
from kademlia_node.errors import MalformedMessage, NotFound, NotRunning, SetupError
from kademlia_node.node.announcing import Announcement
from kademlia_node.node.arguments import checked_author
from kademlia_node.node.download import Progress
from kademlia_node.node.node import Node
from kademlia_node.node.sharing import checked_content

T = TypeVar("T")


class NodeVerbs:
    """See `Verbs`; done by a node that has been started.

    Args:
        node: Whom to ask.
        archive: Of its store; None: there is nothing to back up.
        providing: What it provides; None: it is gone too soon to serve anybody.
    """

    def __init__(
        self, node: Node, *, archive: Archive | None = None, providing: Providing | None = None
    ) -> None:
        self._node = node
        self._archive = archive
        self._providing = providing

    async def identity(self) -> Json:
        """See `Verbs`."""
        return {
            "id": self._node.id.hex(),
            "public_key": key_text(self._node.public_key),
            "invite": str(self._node.invite),
        }

    async def status(self) -> Json:
        """See `Verbs`."""
        return status_view(await self._node.status())

    async def peers(self) -> list[Json]:
        """See `Verbs`."""
        own = point(self._node.id)
        nearest_first = sorted(self._node.contacts(), key=lambda contact: contact.point ^ own)
        return [contact_view(contact) for contact in nearest_first]

    async def put(self, value: bytes, *, acks: int | None = None, ttl_s: int | None = None) -> Json:
        """See `Verbs`."""
        return receipt_view(await self._node.put(value, acks=acks, ttl_s=ttl_s))

    async def get_blob(self, key: str) -> Json:
        """See `Verbs`."""
        return await self._read(Key.parse(key))

    async def forget(self, key: str) -> Json:
        """See `Verbs`."""
        return {"key": key, "forgotten": await self._node.forget(Key.parse(key))}

    def published(self) -> AsyncGenerator[Json, None]:
        """See `Verbs`."""
        return _views(self._node.publications(), publication_view)

    async def set(
        self,
        name: str,
        value: bytes,
        *,
        own: bool = False,
        expect_seq: int | None = None,
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> Json:
        """See `Verbs`."""
        receipt = await self._node.set(
            name, value, own=own, expect_seq=expect_seq, acks=acks, ttl_s=ttl_s
        )
        return receipt_view(receipt)

    async def get_name(
        self, name: str, *, author: str | None = None, own: bool = False, reads: int | None = None
    ) -> Json:
        """See `Verbs`."""
        return await self._read(name, author=author, own=own, reads=reads)

    async def announce(
        self,
        topic: str,
        value: bytes,
        *,
        slot: str = "",
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> Json:
        """See `Verbs`."""
        receipt = await self._node.announce(topic, value, slot=slot, acks=acks, ttl_s=ttl_s)
        return receipt_view(receipt)

    async def announce_many(
        self, announcements: Iterable[Announcement], *, ttl_s: int | None = None
    ) -> list[Json]:
        """See `Verbs`."""
        receipts = await self._node.announce_many(announcements, ttl_s=ttl_s)
        return [brief_receipt_view(receipt) for receipt in receipts]

    async def withdraw_many(
        self, entries: Iterable[tuple[str, str]], *, ttl_s: int | None = None
    ) -> list[Json]:
        """See `Verbs`."""
        receipts = await self._node.withdraw_many(entries, ttl_s=ttl_s)
        return [brief_receipt_view(receipt) for receipt in receipts]

    def find(self, topic: str) -> AsyncGenerator[Json, None]:
        """See `Verbs`."""
        return _views(self._node.find(topic), entry_view)

    async def provide(
        self,
        path: str,
        *,
        key: str | None = None,
        ttl_s: int | None = None,
        on_progress: OnView | None = None,
    ) -> Json:
        """See `Verbs`."""

        def on_read(done_bytes: int, total_bytes: int) -> None:
            if on_progress is not None:
                on_progress({"done_bytes": done_bytes, "total_bytes": total_bytes})

        expected = None if key is None else checked_content(Key.parse(key))
        file, receipt = await self._provider().provide(
            _absolute(path), key=expected, ttl_s=ttl_s, on_read=on_read
        )
        served = {"path": str(file.path), "size": file.manifest.length}
        return receipt_view(receipt) | served

    async def unprovide(self, key: str, *, ttl_s: int | None = None) -> Json:
        """See `Verbs`."""
        content = checked_content(Key.parse(key))
        known = await self._provider().unprovide(content, ttl_s=ttl_s)
        return {"key": key, "unprovided": known}

    async def provided(self) -> list[Json]:
        """See `Verbs`."""
        return self._provider().provided()

    async def fetch(
        self,
        key: str,
        path: str,
        *,
        length_max: int | None = None,
        on_progress: OnView | None = None,
    ) -> Json:
        """See `Verbs`."""
        target, size = _absolute(path), 0

        def on_piece(progress: Progress) -> None:
            nonlocal size
            size = progress.total_bytes
            if on_progress is not None:
                on_progress(dataclasses.asdict(progress))

        try:
            _check_replaceable(target)
            await self._node.fetch(
                Key.parse(key), target, length_max=length_max, on_progress=on_piece
            )
        except OSError as error:
            raise SetupError(f"cannot write {target}: {error.strerror}") from error
        except MalformedMessage as error:
            raise ValueError(f"{key} is a value, to be read by `get`: {error}") from error
        return {"key": key, "path": path, "size": size}

    def watch_topic(self, topic: str) -> AsyncGenerator[Json, None]:
        """See `Verbs`."""
        return _views(self._node.watch(topic), change_view)

    def watch_name(
        self, name: str, *, author: str | None = None, own: bool = False
    ) -> AsyncGenerator[Json, None]:
        """See `Verbs`."""
        return _views(self._node.watch(name=name, author=author, own=own), change_view)

    async def withdraw_name(
        self, name: str, *, own: bool = False, ttl_s: int | None = None
    ) -> Json:
        """See `Verbs`."""
        return receipt_view(await self._node.withdraw(name, own=own, ttl_s=ttl_s))

    async def withdraw_entry(self, topic: str, *, slot: str = "", ttl_s: int | None = None) -> Json:
        """See `Verbs`."""
        return receipt_view(await self._node.withdraw(topic=topic, slot=slot, ttl_s=ttl_s))

    async def ping(self, peer: str) -> Json:
        """See `Verbs`."""
        rtt_s = await self._node.ping(peer)
        return {"peer": peer, "rtt_ms": round(rtt_s * 1000, 3)}

    async def backup(self, path: str) -> Json:
        """See `Verbs`."""
        return backup_view(await self._kept().backup(_absolute(path)))

    async def restore(self, path: str) -> Json:
        """See `Verbs`."""
        return backup_view(await self._kept().restore(_absolute(path)))

    async def leave(self, within_s: float | None = None) -> Json:
        """See `Verbs`."""
        return dataclasses.asdict(await self._node.leave(within_s=within_s))

    async def trace(self, target: str, *, own: bool = False) -> Json:
        """See `Verbs`."""
        closest, trace = await self._node.lookup(self._goal_of(target, own=own))
        return trace_view(trace) | {"closest": [contact_view(contact) for contact in closest]}

    async def _read(self, what: str | Key, **how: Any) -> Json:
        record, trace = await self._node.get_record(what, **how)
        if record is None or record.header.is_tombstone:
            raise NotFound(str(what), trace, withdrawn=record is not None)
        return record_view(record)

    def _kept(self) -> Archive:
        if self._archive is None:
            raise SetupError("this node keeps nothing on disk: only a daemon has what to back up")
        return self._archive

    def _provider(self) -> Providing:
        if self._providing is None:
            raise SetupError("somebody has to go on serving a file: only a daemon provides")
        return self._providing

    def _goal_of(self, target: str, *, own: bool) -> bytes | Key:
        if is_name(target):
            return self._node.key_of(target, own=own)
        if own:
            raise ValueError(f"own goes with a name, and {target!r} is none")
        if target.startswith(SCHEME):
            return node_id(checked_author(target))
        return parse_if_key(target) or bytes.fromhex(target)


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError(f"the daemon has a folder of its own: {text!r} is no absolute path")
    return path


def _check_replaceable(path: Path) -> None:
    """Raise SetupError where a file would take the place of, say, a device."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise SetupError(f"{path} is no file: choose another path")


def is_name(target: str) -> bool:
    """Whether the target of a trace is a name: no invite, no key and no node ID.

    Raises:
        ValueError: it looks like a key and is none.
    """
    is_node = target.startswith(SCHEME) or re.fullmatch("[0-9a-f]{64}", target)
    return not is_node and parse_if_key(target) is None


def parse_if_key(text: str) -> Key | None:
    """The key that a text spells, or None: then it is a name.

    Raises:
        ValueError: it looks like a key and is none. Nobody wants a name like that.
    """
    looks_like_a_key = re.fullmatch("(blob|entry|topic)-[a-zA-Z2-7]{56}", text)
    return Key.parse(text) if looks_like_a_key else None


async def _views(
    items: AsyncGenerator[T, None], view: Callable[[T], Json]
) -> AsyncGenerator[Json, None]:
    """Until there are no more, the node stops, or nobody wants to hear more."""
    async with aclosing(items):
        with suppress(NotRunning):
            async for item in items:
                yield view(item)
