"""What peers say to each other: requests and responses as frozen values.

Every request names its response. How they become bytes is `codec`; what a node answers is
`node.serve`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from kademlia_node.core.contact import Contact
from kademlia_node.core.ids import ID_BYTES
from kademlia_node.core.record import Header
from kademlia_node.settings import VALUES_BYTES_MAX

DIGEST_BYTES: Final = 8
DIGEST_KEYS_MAX: Final = VALUES_BYTES_MAX // (ID_BYTES + DIGEST_BYTES)  # it shapes all digests


class Op(IntEnum):
    """What a request asks for; its response carries the same number with bit 7 set."""

    PING = 1
    IDENTIFY = 2
    FIND_NODE = 3
    FIND_VALUE = 4
    STORE = 5
    PROBE = 6
    CHUNK = 7
    DIGEST = 8
    LEAVING = 9
    WATCH = 10
    NOTIFY = 11


class ErrorCode(IntEnum):
    """Why a request was refused altogether."""

    UNKNOWN_OP = 1  # not a request of this version
    MALFORMED = 2  # known op, wrong fields
    NOT_CONFIRMED = 3  # needs a confirmed address: send any DATA first
    BUSY = 4  # over a limit; try again later


class StoreStatus(IntEnum):
    """What became of a STORE."""

    OK = 0  # stored now
    HAVE = 1  # this version was here already; a later expiry was taken over
    NEED = 2  # will fetch the value from the sender by CHUNK; the same STORE again tells the end
    TOO_FAR = 3  # others are responsible; the answer names some
    QUOTA = 4  # no room for this author, this source, or at all
    CAS = 5  # `expect_seq` is not the current seq; the answer carries the current header
    OLD = 6  # a newer version is here; the answer carries its header
    BAD = 7  # the record breaks a rule
    BUSY = 8  # over a limit; try again later


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? Answered by `Pong`."""


@dataclass(frozen=True, slots=True)
class Pong:
    """I am."""


@dataclass(frozen=True, slots=True)
class Identify:
    """Who are you? Answered by `Identified`."""


@dataclass(frozen=True, slots=True)
class Identified:
    """A packed node card; empty when the node does not know its address yet."""

    card: bytes


@dataclass(frozen=True, slots=True)
class FindNode:
    """Whom do you know nearest to `target` (32 bytes)? Answered by `Nodes`."""

    target: bytes


@dataclass(frozen=True, slots=True)
class Nodes:
    """At most 20 contacts, nearest first, all of them proved alive by whoever names them."""

    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class FindValue:
    """What do you hold under `key`? Answered by `Values`.

    `known` is the snapshot hash of what the reader has already, or empty: a holder of just that
    answers without the items.
    """

    key: bytes
    known: bytes = b""


@dataclass(frozen=True, slots=True)
class Item:
    """One record of an answer; the value is None when it is longer than fits inline."""

    header: Header
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stands for all records of a key: SHA-256 and length of the manifest of their pages.

    The manifest, and then the pages, are pulled by CHUNK.
    """

    hash: bytes
    length: int


@dataclass(frozen=True, slots=True)
class Values:
    """What a node holds under a key, and at least 4 closer contacts where it knows so many.

    `count` is the number of records held; `items` those that fit into the packet; `snapshot` is
    None when `items` are all.
    """

    contacts: tuple[Contact, ...]
    count: int
    snapshot: Snapshot | None
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Store:
    """Keep this record. Answered by `Stored`.

    `value` is None when it is longer than 640 bytes: fetch it by CHUNK. `expect_seq` asks that the
    current version have this seq (0: none).
    """

    key: bytes
    header: Header
    value: bytes | None
    expect_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of it; a header with CAS, OLD and BAD; at most 4 contacts nearer to the key.

    `reason` is, with BAD, the number of the `core.record.Reason`; of a later version, perhaps.
    """

    status: StoreStatus
    header: Header | None = None
    contacts: tuple[Contact, ...] = ()
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """Without a contact: let a stranger try to reach me. With one: please try to reach it.

    Answered by `Probed`.
    """

    contact: Contact | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """Whether the attempt will be made."""

    accepted: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """The `index`-th 1024 bytes of the content with this SHA-256. Answered by `Chunked`."""

    content: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """Those bytes, fewer only at the end; None: content not held, or no such chunk in it."""

    data: bytes | None


@dataclass(frozen=True, slots=True)
class Digest:
    """What do you hold under the keys that begin so? Answered by `Digests`.

    `prefix` is 0 to 64 hexadecimal digits, in lower case.
    """

    prefix: str


@dataclass(frozen=True, slots=True)
class Held:
    """A key, and 8 bytes that stand for the versions of all records held under it."""

    key: bytes
    versions: bytes


@dataclass(frozen=True, slots=True)
class Digests:
    """What is held under a prefix; see `core.digest`.

    `count` is the number of keys. Up to DIGEST_KEYS_MAX of them are listed in `held`, sorted. Of
    more, `children` has the 16 digests of the prefix with one more digit, 8 bytes each, zeros where
    nothing is held.
    """

    count: int
    children: tuple[bytes, ...] = ()
    held: tuple[Held, ...] = ()

    def pack(self) -> bytes:
        """All of it but the count: 128 bytes, or 40 for each key."""
        return b"".join(self.children) + b"".join(row.key + row.versions for row in self.held)


@dataclass(frozen=True, slots=True)
class Leaving:
    """I am going away: ask me no more, and name me to nobody. Answered by `Left`."""


@dataclass(frozen=True, slots=True)
class Left:
    """Farewell."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Tell me by `Notify` what becomes of this key, for a while. Answered by `Watched`."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Watched:
    """For how many seconds it will be told (0: not at all).

    `versions` are the 8 bytes that stand for all that is held under the key, as in `Held`; zeros
    where nothing is.
    """

    lease_s: int
    versions: bytes = bytes(DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class Notify:
    """This record is new under a key that you watch, or lives longer. Answered by `Notified`.

    `value` is None when it is longer than 640 bytes: fetch it by CHUNK.
    """

    key: bytes
    header: Header
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Notified:
    """Whether the receiver wants to hear more about this key."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """An error: the request was not carried out."""

    code: int
    detail: str


Request = (
    Ping
    | Identify
    | FindNode
    | FindValue
    | Store
    | Probe
    | Chunk
    | Digest
    | Leaving
    | Watch
    | Notify
)
Response = (
    Pong
    | Identified
    | Nodes
    | Values
    | Stored
    | Probed
    | Chunked
    | Digests
    | Left
    | Watched
    | Notified
    | Refused
)

HARMLESS = (Ping, FindNode, FindValue)
"""The requests that may ride in an INIT, before the sender's address is confirmed."""
