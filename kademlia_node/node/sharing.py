"""Content too large for a record: said to be here, and fetched from all who say so.

It is described by a manifest (`core.manifest`), which is a blob: its key is the name of the
content. Whoever has the content announces, under a topic made of that key, where it is reached.
Its pieces are served by a `ContentSource`, such as `files`, and drawn into a file by `download`.

Not known here: the other verbs, which `node` adds.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.key import Key, Kind, blob_key
from kademlia_node.core.manifest import Manifest
from kademlia_node.errors import NotFound, SetupError, ValueTooLarge
from kademlia_node.node.arguments import checked_many, checked_ttl
from kademlia_node.node.download import Download, OnProgress, holders_topic
from kademlia_node.node.draft import Draft
from kademlia_node.node.many import write_all
from kademlia_node.node.reach import ANY
from kademlia_node.node.receipt import Receipt
from kademlia_node.node.topic import TopicReading
from kademlia_node.node.watching import Watching


class Sharing(Watching):
    """The verbs of a node for large content. The arguments are those of `Node`."""

    async def provide(self, manifest: Manifest, *, ttl_s: int | None = None) -> Receipt:
        """Say that we have a content, which our `ContentSource` serves, and keep saying it.

        Call it after each start: the source is a new one then, and where we are reached is signed
        once, as it is now. A new announcement replaces the old one.

        Args:
            manifest: Of the content.
            ttl_s: As for `put`.

        Returns:
            The receipt of the manifest: its key is the name by which others `fetch` the content.

        Raises:
            SetupError: we do not know an address at which others reach us.
            NotStored: nobody took the manifest, or nobody the announcement.
            TypeError, ValueError: a bad `ttl_s`.
        """
        writer, contact = self._active.writer, self._reachable_contact()
        lasts_s = checked_ttl(ttl_s, self._settings)
        receipt = await writer.put(manifest.pack(), ttl_s=lasts_s)
        await writer.write(self._draft(receipt.key, contact.pack(), ttl_s=lasts_s))
        return receipt

    async def provide_many(
        self, manifests: Iterable[Manifest], *, ttl_s: int | None = None
    ) -> list[Receipt]:
        """Provide many contents; the receipts of their manifests in order. They share walks.

        Nothing is raised for a content whose manifest, or whose announcement, nobody took: its
        receipt has no replicas.

        Raises:
            SetupError: we do not know an address at which others reach us.
            TypeError, ValueError: a bad argument.
        """
        parts, contact = self._active, self._reachable_contact()
        lasts_s = checked_ttl(ttl_s, self._settings)

        async def announce(key: Key) -> Receipt:
            draft = self._draft(key, contact.pack(), ttl_s=lasts_s)
            return await parts.writer.write(draft, nearby=True)

        put = partial(parts.writer.put, nearby=True, ttl_s=lasts_s)
        packed = [manifest.pack() for manifest in checked_many(manifests)]
        put_all = [(blob_key(value).digest, partial(put, value)) for value in packed]
        stored = await write_all(parts.state, put_all)
        taken = [receipt.key for receipt in stored if receipt.replicas]
        announce_all = [(holders_topic(key).digest, partial(announce, key)) for key in taken]
        announced = iter(await write_all(parts.state, announce_all))
        return [
            replace(receipt, replicas=())
            if receipt.replicas and not next(announced).replicas
            else receipt
            for receipt in stored
        ]

    async def unprovide(self, key: Key, *, ttl_s: int | None = None) -> None:
        """Say no longer that we have a content, and renew its manifest no longer.

        Whoever has read the announcement may still ask: the `ContentSource` decides what it gives.
        `ttl_s` is that of `withdraw`.

        Raises:
            NotStored: nobody took the tombstone; we go on announcing.
            TypeError, ValueError: this is not the key of a manifest, or a bad `ttl_s`.
        """
        writer, manifest_key = self._active.writer, checked_content(key)
        lasts_s = checked_ttl(ttl_s, self._settings)
        await writer.write(self._draft(manifest_key, None, ttl_s=lasts_s))
        await writer.forget(manifest_key)

    async def fetch(
        self,
        key: Key,
        path: str | Path,
        *,
        length_max: int | None = None,
        overwrite: bool = True,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Fetch a content from all its holders at once into a file, every piece verified.

        Until it is whole it is in `<path>.<8 hex digits>.part`, one file per content; an attempt
        that was broken off goes on there.

        Args:
            key: Of the manifest.
            path: The file.
            length_max: Refuse a content of more bytes; anybody can name a long one.
            overwrite: Whether to take the place of a file that is there, or comes meanwhile.
            on_progress: Told once what an earlier attempt has left, then whenever there is more.

        Raises:
            ValueTooLarge: it is longer than `length_max`.
            NotFound: there is no such manifest; carries the trace.
            Incomplete: nobody gives the rest.
            MalformedMessage: the key names something that is no manifest.
            SetupError: this content is being fetched to this path already.
            OSError: the file cannot be written; IsADirectoryError: the path is a directory's;
                FileExistsError: something is there, and is not to be overwritten.
            TypeError, ValueError: this is not the key of a manifest.
        """
        parts, manifest_key = self._active, checked_content(key)
        target = checked_path(path, overwrite=overwrite)
        record, trace = await parts.reader.blob(manifest_key)
        try:
            if record is None:
                raise NotFound(str(manifest_key), trace)
            manifest = Manifest.unpack(record.value)
            if length_max is not None and manifest.length > length_max:
                raise ValueTooLarge(f"a content of {manifest.length} bytes, not {length_max}")
            holders = TopicReading(parts.state, holders_topic(manifest_key)).entries()
            download = Download(parts.state, manifest, target, trace=trace, on_progress=on_progress)
            await download.run(holders, overwrite=overwrite)
        finally:
            parts.state.count_operation("fetch", trace)

    def _reachable_contact(self) -> Contact:
        here = self.invite
        if here.host in ANY:
            raise SetupError(
                f"no peer has told yet where this node, bound to {here.host}, is reached:"
                " give a bootstrap, or the address of one interface as host"
            )
        return Contact(self.public_key, Address(here.host, here.port))

    def _draft(self, content: Key, where: bytes | None, *, ttl_s: int | None) -> Draft:
        """Our word that a content is there, or the end of it."""
        return Draft(holders_topic(content), self._active.state.identity, b"", where, ttl_s)


def checked_content(key: object) -> Key:
    """The key of a manifest; raises TypeError or ValueError."""
    if not isinstance(key, Key):
        hint = ": read it with Key.parse" if isinstance(key, str) else ""
        raise TypeError(f"a content is named by a Key, not {type(key).__name__}{hint}")
    if key.kind is not Kind.BLOB:
        raise ValueError(f"a content is named by the key of a blob, not by {key}")
    return key


def checked_path(path: str | Path, *, overwrite: bool) -> Path:
    """Where a file can be; raises IsADirectoryError or, for what is there, FileExistsError."""
    path = Path(path)
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path
