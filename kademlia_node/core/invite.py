"""Where to knock: `kad://<base32 key>@host:port`, or a bare `host:port` whose key is asked for.

Text in, a value out. Names are resolved and keys are asked for by the shell. An invite gives its
node no authority: it is a hint.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from kademlia_node.core.contact import KEY_BYTES, Address

SCHEME = "kad://"


def key_text(public_key: bytes) -> str:
    """52 characters of lower-case base32 (RFC 4648) without padding."""
    return base64.b32encode(public_key).decode().rstrip("=").lower()


def parse_key(text: str) -> bytes:
    """The 32-byte public key of `key_text`'s form; raises ValueError."""
    try:
        key = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:  # no base32, or not even ASCII
        key = b""
    if len(key) != KEY_BYTES or key_text(key) != text.lower() or key[-1] & 0x80:
        raise ValueError(f"{text!r} is no public key: 52 characters of base32 are expected")
    return key


@dataclass(frozen=True, slots=True)
class Invite:
    """A host (numeric or a name), a UDP port, and the public key if it is known."""

    public_key: bytes | None
    host: str
    port: int

    def __str__(self) -> str:
        where = str(Address(self.host, self.port))
        return where if self.public_key is None else f"{SCHEME}{key_text(self.public_key)}@{where}"


def parse_invite(text: str) -> Invite:
    """Read `kad://KEY@HOST:PORT` or `HOST:PORT`; an IPv6 host stands in brackets.

    Raises:
        ValueError: says which part is wrong.
    """
    key, at, where = text.removeprefix(SCHEME).rpartition("@")
    if text.startswith(SCHEME) != bool(at):
        raise ValueError(f"{text!r} is neither HOST:PORT nor kad://KEY@HOST:PORT")
    host, _, port = where.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 host stands in brackets, as in [::1]:4000")
    if not host or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f"{text!r} does not end in HOST:PORT with a port from 1 to 65535")
    return Invite(parse_key(key) if at else None, host, int(port))
