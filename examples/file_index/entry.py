"""What is announced of a file: all that a search result shows. It is packed here, and parsed.

Parsing is strict and bounded: an entry comes from strangers. What it says is a claim; only the
content is proved, by its key.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Final

import msgpack

from examples.file_index.titles import KINDS, TITLE_CHARS_MAX
from examples.file_index.words import words_of
from kademlia_node import Key, Kind

VERSION: Final = 1
BYTES_MAX: Final = 640  # goes inline with its record
PATH_BYTES_MAX: Final = 400  # of a longer path the end is shown
TITLE_BYTES_MAX: Final = 120
SIZE_MAX: Final = 2**40
LATEST_S: Final = 2**40
WORDS_MAX: Final = 32  # under which one file is announced


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a peer: its content, and what it is called there.

    `size` is in bytes, `changed_at` in seconds since 1970, `kind` one of KINDS; `path` is below the
    shared folder, with backslash escapes where a name is no UTF-8.
    """

    key: Key
    path: str
    size: int
    kind: str
    title: str
    changed_at: int

    def __post_init__(self) -> None:
        if self.key.kind is not Kind.BLOB or self.kind not in KINDS or not self.path:
            raise ValueError("no such file")
        if not (0 < self.size < SIZE_MAX and 0 <= self.changed_at < LATEST_S):
            raise ValueError("no such size or time")
        if len(self.path.encode()) > PATH_BYTES_MAX or len(self.title) > TITLE_CHARS_MAX:
            raise ValueError("too long a name")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2] or self.path

    @property
    def words(self) -> list[str]:
        """What it is found by: its name, title and kind, then its folders; WORDS_MAX at most."""
        said = words_of(f"{self.name} {self.title} {self.kind} {self.path}")
        return said[:WORDS_MAX]

    def pack(self) -> bytes:
        """The bytes to announce, at most BYTES_MAX."""
        _, *rest = astuple(self)
        packed = msgpack.packb([VERSION, self.key.digest, *rest])
        assert len(packed) <= BYTES_MAX
        return bytes(packed)


def parse(packed: bytes) -> Entry:
    """The entry of its bytes.

    Raises:
        ValueError: these are none.
    """
    if len(packed) > BYTES_MAX:
        raise ValueError("too long for an entry")
    try:
        fields = msgpack.unpackb(packed, use_list=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError("no msgpack") from error
    types = tuple(map(type, fields)) if isinstance(fields, list) else ()
    if types != (int, bytes, str, int, str, str, int) or len(fields[1]) != 32:
        raise ValueError("no entry")
    if fields[0] != VERSION:
        raise ValueError("no entry of this version")
    return Entry(Key(Kind.BLOB, fields[1]), *fields[2:])


def shown_path(path: str) -> str:
    """A path of the file system as text that can be sent: escaped where it is no UTF-8, and cut."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    kept = text.encode()[-PATH_BYTES_MAX:].decode("utf-8", "ignore")
    return kept or text[-1:]


def shown_title(title: str) -> str:
    """A title as text that can be sent."""
    packed = title.encode("utf-8", "replace")[:TITLE_BYTES_MAX]
    return packed.decode("utf-8", "ignore")
