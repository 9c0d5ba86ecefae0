"""The files that a daemon provides, as its folder remembers them: one small file for each content.

    provided/KEY.json    path, time of change and manifest (base64) of the file with the content
                         KEY, and for how many seconds it is announced each time (or null)

Written whole or not at all, and on the disk before anybody is told, so that a daemon that is killed
goes on with the same list and need not read the files again. Refuses to know whether they are still
what they were (`node.files`), and what is said of them in the network (`providing`).
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kademlia_node.core.key import Key
from kademlia_node.core.manifest import Manifest
from kademlia_node.daemon.folder import remove_durably, write_private
from kademlia_node.errors import MalformedMessage, SetupError
from kademlia_node.node.files import SharedFile
from kademlia_node.settings import EXPIRY_DEFAULT_S
from kademlia_node.store.base import TTL_MIN_S

log = logging.getLogger(__name__)

SUFFIX: Final = ".json"
FILE_BYTES_MAX: Final = 2**17  # a manifest is at most 64 KiB, which are 88 in base64; and the path


@dataclass(frozen=True, slots=True)
class Provided:
    """A file on the list; `ttl_s` is that of `Node.provide`."""

    file: SharedFile
    ttl_s: int | None = None


class Kept:
    """The list, in a folder of its own.

    Args:
        path: Of that folder; made when there is something to keep.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Iterator[tuple[Key, Provided]]:
        """Everything on the list, in order of key. What is no entry of it is set aside."""
        for path in sorted(self._path.glob(f"*{SUFFIX}")):
            try:
                yield _read(path)
            except (OSError, ValueError, MalformedMessage):
                aside = path.with_suffix(".broken")
                log.warning("%s tells of no file that is provided: moved to %s", path, aside.name)
                with suppress(OSError):
                    path.replace(aside)

    def keep(self, key: Key, provided: Provided) -> None:
        """Put a file on the list, or in the place of another one of the same content.

        Raises:
            SetupError: it cannot be written.
        """
        try:
            self._path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SetupError(f"cannot make {self._path}: {error.strerror}") from error
        file = provided.file
        entry = {
            "path": str(file.path),
            "mtime_ns": file.mtime_ns,
            "manifest": base64.b64encode(file.manifest.pack()).decode(),
            "ttl_s": provided.ttl_s,
        }
        write_private(self._place(key), json.dumps(entry), durable=True)

    def remove(self, key: Key) -> None:
        """Take a file off the list.

        Raises:
            SetupError: it cannot be removed.
        """
        remove_durably(self._place(key))

    def _place(self, key: Key) -> Path:
        return self._path / f"{key}{SUFFIX}"


def _read(path: Path) -> tuple[Key, Provided]:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    entry = json.loads(content)
    match entry:
        case {"path": str(where), "mtime_ns": int(mtime_ns), "manifest": str(packed)}:
            manifest = Manifest.unpack(base64.b64decode(packed, validate=True))
            ttl_s = entry.get("ttl_s")
        case _:
            raise ValueError("an entry of another form")
    key = Key.parse(path.name.removesuffix(SUFFIX))
    if key != manifest.key or not Path(where).is_absolute():
        raise ValueError("the entry of another content")
    is_whole = type(ttl_s) is int and TTL_MIN_S <= ttl_s <= EXPIRY_DEFAULT_S
    if ttl_s is not None and not is_whole:
        raise ValueError("announced for no lifetime that there is")
    return key, Provided(SharedFile(Path(where), mtime_ns, manifest), ttl_s)
