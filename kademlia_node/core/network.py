"""What all members of one network agree on, and the keys that follow from it.

A network is a name and, when private, a 32-byte secret. The name separates networks that could hear
each other; the secret keeps strangers out from the first byte: it enters the Noise prologue, the
first MAC of every INIT, and WHO / IAM. How a node behaves is `settings`; who it is, `identity`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from functools import cached_property

from kademlia_node.settings import Settings

SECRET_BYTES = 32
MAC_BYTES = 16


def mac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 truncated to 16 bytes: the only MAC of the protocol outside Noise."""
    return hmac.digest(key, message, "sha256")[:MAC_BYTES]


def is_mac(tag: bytes, *, key: bytes, message: bytes) -> bool:
    """Whether `tag` is the MAC of `message`, compared in constant time."""
    return hmac.compare_digest(tag, mac(key, message))


@dataclass(frozen=True)
class Network:
    """The agreement of one network. Make it with `open` or `private`.

    Attributes:
        name: 1 to 64 bytes of UTF-8; networks of different names do not hear each other.
        secret: 32 bytes shared by the members of a private network, None on an open one.
        copies: how many nodes keep each record.
        puzzle_bits: zero bits that SHA-256(node ID) of a server must start with.
        prefix_limits: whether tables bound the contacts per subnet.
    """

    name: str
    secret: bytes | None = field(repr=False)
    copies: int
    puzzle_bits: int
    prefix_limits: bool

    def __post_init__(self) -> None:
        if not 1 <= len(self.name.encode()) <= 64:
            raise ValueError("a network's name is 1 to 64 bytes long")
        if self.secret is not None and not isinstance(self.secret, bytes):
            raise TypeError(f"a network's secret is bytes, not {type(self.secret).__name__}")
        if self.secret is not None and len(self.secret) != SECRET_BYTES:
            raise ValueError(f"a network's secret is {SECRET_BYTES} bytes")
        if not 1 <= self.copies <= 20:
            raise ValueError("copies is 1 to 20")
        if not 0 <= self.puzzle_bits <= 32:
            raise ValueError("puzzle_bits is 0 to 32")

    @classmethod
    def open(cls, name: str = "open", *, copies: int = 20, puzzle_bits: int = 16) -> Network:
        """A network anyone may join: puzzle and subnet limits on."""
        return cls(name, None, copies, puzzle_bits, prefix_limits=True)

    @classmethod
    def private(cls, secret: bytes, *, name: str = "private", copies: int = 5) -> Network:
        """A network of those who hold the secret: no puzzle, no subnet limits."""
        return cls(name, secret, copies, puzzle_bits=0, prefix_limits=False)

    @cached_property
    def tag(self) -> bytes:
        """32 bytes that stand for the name in signatures and MACs."""
        return hashlib.sha256(b"kad1-network" + self.name.encode()).digest()

    @cached_property
    def key(self) -> bytes:
        """32 bytes derived from the secret; zeros on an open network."""
        return self._derive(b"kad1-network-key") if self.secret is not None else bytes(32)

    @cached_property
    def prologue(self) -> bytes:
        """What both sides of a handshake must agree on: "kad1", tag, key (68 bytes)."""
        return b"kad1" + self.tag + self.key

    @cached_property
    def who_key(self) -> bytes:
        """Authenticates WHO and IAM among the members."""
        return hashlib.sha256(b"kad1-who" + self.tag + self.key).digest()

    def link_key(self, nonce: bytes) -> bytes:
        """Seals what a member shows on its own link under this nonce."""
        return hashlib.sha256(b"kad1-link" + self.tag + self.key + nonce).digest()

    def mac1_key(self, public_key: bytes) -> bytes:
        """Authenticates an INIT to the one node it is meant for."""
        return hashlib.sha256(b"kad1-mac1" + self.tag + self.key + public_key).digest()

    def commons_seed(self, attempt: int) -> bytes:
        """Seed number `attempt` of the commons key pair; the first with a canonical key counts."""
        assert self.secret is not None, "only a private network has a commons"
        return self._derive(b"kad1-commons" + attempt.to_bytes(4, "big"))

    def adapt(self, settings: Settings) -> Settings:
        """The settings without limits per subnet and per author, where members trust each other.

        The commons is one author for all of them.
        """
        if self.prefix_limits:
            return settings
        return replace(
            settings,
            sessions_per_prefix_max=settings.sessions_max,
            store_share_per_author=1.0,
            store_share_per_prefix=1.0,
        )

    def _derive(self, purpose: bytes) -> bytes:
        assert self.secret is not None
        return hmac.digest(self.secret, purpose + self.tag, "sha256")
