"""A contact: the public key of a node and the address where it was last seen.

Also addresses, their packed form on the wire, and the prefixes by which limits count strangers:
/24 for IPv4; /56 and /64 for IPv6. Hosts are always numeric; names are resolved by the shell.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple

from kademlia_node.core.ids import node_id, point
from kademlia_node.errors import MalformedMessage

KEY_BYTES = 32
CONTACT_BYTES_V4 = KEY_BYTES + 4 + 2
CONTACT_BYTES_V6 = KEY_BYTES + 16 + 2

_LOCAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",  # RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # behind a carrier's NAT, RFC 6598
        "169.254.0.0/16",  # link-local
        "::1/128",
        "fc00::/7",  # RFC 4193
        "fe80::/10",  # link-local
    )
)


class Address(NamedTuple):
    """A numeric host in its canonical text form, and a UDP port from 1 to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@lru_cache(maxsize=16384)
def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The parsed host; an IPv4 address mapped into IPv6 counts as the IPv4 address it is."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def parse_address(text: str) -> Address:
    """Read `1.2.3.4:5` or `[2001:db8::1]:5`; a mapped `[::ffff:1.2.3.4]:5` is the IPv4 address.

    Raises:
        ValueError: the text is no numeric host with a port from 1 to 65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    host = host[1:-1] if bracketed else host
    ip = ipaddress.ip_address(host)
    if (ip.version == 6) != bracketed:
        raise ValueError(f"{text!r}: an IPv6 host, and only that, stands in brackets")
    return Address(str(_ip(host)), int(port))


@lru_cache(maxsize=16384)
def pack_address(address: Address) -> bytes:
    """4 or 16 bytes of host, then the port, big-endian."""
    return _ip(address.host).packed + address.port.to_bytes(2, "big")


@lru_cache(maxsize=16384)
def unpack_address(packed: bytes) -> Address:
    """The address of 6 or 18 packed bytes.

    Raises:
        MalformedMessage: another length, port 0, or an address no datagram can be sent to.
    """
    if len(packed) not in {6, 18}:
        raise MalformedMessage("an address is 6 or 18 bytes")
    ip = ipaddress.ip_address(packed[:-2])
    port = int.from_bytes(packed[-2:], "big")
    if port == 0 or ip.is_unspecified or ip.is_multicast or packed[:4] == b"\xff\xff\xff\xff":
        raise MalformedMessage("not an address of one host")
    if ip.version == 6 and ip.ipv4_mapped is not None:
        raise MalformedMessage("an IPv4 address is packed in 6 bytes")
    return Address(str(ip), port)


@lru_cache(maxsize=16384)
def prefix(host: str) -> bytes:
    """The network part by which strangers are counted: 3 bytes (IPv4 /24) or 7 (IPv6 /56)."""
    packed = _ip(host).packed
    return packed[:3] if len(packed) == 4 else packed[:7]


@lru_cache(maxsize=16384)
def subnet(host: str) -> bytes:
    """The narrowest network that one party surely owns: 3 bytes (IPv4 /24) or 8 (IPv6 /64)."""
    packed = _ip(host).packed
    return packed[:3] if len(packed) == 4 else packed[:8]


@lru_cache(maxsize=16384)
def is_local(host: str) -> bool:
    """Whether only its own site can reach a host: no prefix limits apply, strangers never hear it.

    A list of our own: `is_private` of the standard library changes between releases, and counts
    networks as private that the internet can reach (Teredo, 2001::/32).
    """
    ip = _ip(host)
    return any(ip in network for network in _LOCAL)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host; a text that is no numeric host is none."""
    try:
        return _ip(host).is_loopback
    except ValueError:
        return False


class Contact:
    """A public key at an address. Immutable; equal when both are; ordered by nothing.

    `id` is the node ID (32 bytes) and `point` the same as an integer.
    """

    __slots__ = ("_packed", "address", "id", "point", "public_key")

    address: Address
    id: bytes
    point: int
    public_key: bytes
    _packed: bytes  # every answer names twenty contacts

    def __init__(self, public_key: bytes, address: Address) -> None:
        assert len(public_key) == KEY_BYTES
        own = node_id(public_key)
        set_once = super().__setattr__
        set_once("public_key", public_key)
        set_once("address", address)
        set_once("id", own)
        set_once("point", point(own))
        set_once("_packed", public_key + pack_address(address))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Contact is immutable: cannot set {name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Contact):
            return NotImplemented
        return self.public_key == other.public_key and self.address == other.address

    def __hash__(self) -> int:
        return hash(self._packed)  # which bytes compute only once

    def __repr__(self) -> str:
        return f"Contact({self.id.hex()[:8]} at {self.address})"

    def pack(self) -> bytes:
        """Key, then packed address: 38 bytes for IPv4, 50 for IPv6."""
        return self._packed


@lru_cache(maxsize=16384)
def contact_at(public_key: bytes, address: Address) -> Contact:
    """The contact of a key and an address: one object, however many peers and tables name it."""
    return Contact(public_key, address)


@lru_cache(maxsize=16384)
def unpack_contact(packed: bytes) -> Contact:
    """The contact of 38 or 50 packed bytes; raises MalformedMessage for anything else."""
    if len(packed) not in {CONTACT_BYTES_V4, CONTACT_BYTES_V6}:
        raise MalformedMessage("a contact is 38 or 50 bytes")
    if packed[KEY_BYTES - 1] & 0x80:
        raise MalformedMessage("not a canonical public key")
    return contact_at(packed[:KEY_BYTES], unpack_address(packed[KEY_BYTES:]))
