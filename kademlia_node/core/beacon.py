"""What a node says of itself on its own link: a service of DNS-SD (RFC 6763) that members can read.

The public key is sealed under a key that follows from the network, so members recognise each other.
An eavesdropper on a private network's link learns that somebody runs this software, and at which
port: not who, for the label is random each time, and neither the network's name nor anything from
which a name could be guessed, for the secret is in the key. On an open network whoever knows or
guesses its name reads the public key, too.

Nothing that is read here is a fact. Beacons can be repeated by anybody, with other addresses; so
one is a hint where to knock, and only at hosts that can be on this very link. Refuses to know
multicast, which is `net.lan`, and what becomes of a hint, which is `node.nearby`.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kademlia_node.core.contact import KEY_BYTES, Address, Contact, is_local, is_loopback, prefix
from kademlia_node.core.network import Network
from kademlia_node.core.suite import Suite
from kademlia_node.errors import MalformedMessage
from kademlia_node.settings import CARD_ADDRESSES_MAX

SERVICE: Final = "_kad1._udp.local."
PROPERTY: Final = b"k"  # of the TXT record: the sealed public key
NONCE_BYTES: Final = 16
SEALED_BYTES: Final = KEY_BYTES + 16
HEXADECIMAL: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Beacon:
    """`label` is the instance's name, 32 hexadecimal digits; `sealed` 48 bytes; `port` of UDP."""

    label: str
    port: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Sighting:
    """A beacon that somebody shows on a link, and where its node is said to be; not yet opened."""

    beacon: Beacon
    addresses: tuple[Address, ...]


def make_beacon(
    public_key: bytes, port: int, *, network: Network, suite: Suite, rng: random.Random
) -> Beacon:
    """The beacon of a node that listens at `port`, under a fresh label."""
    nonce = rng.randbytes(NONCE_BYTES)
    sealed = suite.cipher(network.link_key(nonce)).seal(0, public_key, port.to_bytes(2, "big"))
    return Beacon(nonce.hex(), port, sealed)


def read_beacon(sighting: Sighting, *, network: Network, suite: Suite) -> list[Contact]:
    """The node that shows this beacon, at each address where it is said to be.

    Raises:
        ForgedPacket: it is of another network, or was altered.
        MalformedMessage: no public key is in it.
    """
    beacon = sighting.beacon
    cipher = suite.cipher(network.link_key(bytes.fromhex(beacon.label)))
    public_key = cipher.open(0, beacon.sealed, beacon.port.to_bytes(2, "big"))
    if len(public_key) != KEY_BYTES or public_key[-1] & 0x80:
        raise MalformedMessage("not a canonical public key")
    return [Contact(public_key, address) for address in sighting.addresses]


def parse_service(
    name: str,
    port: int | None,
    *,
    properties: Mapping[bytes, bytes | None],
    hosts: Sequence[str],
    link: str,
) -> Sighting:
    """Read what a responder told of a service.

    Args:
        name: Of the instance, ending in `SERVICE`.
        port: Of its SRV record.
        properties: Of its TXT record.
        hosts: Of its A and AAAA records; all but the first few that are near are left out.
        link: Our own numeric host on the link.

    Raises:
        MalformedMessage: this is no beacon, or nobody on this link can have sent it.
    """
    label = _label(name)
    sealed = properties.get(PROPERTY)
    if sealed is None or len(sealed) != SEALED_BYTES:
        raise MalformedMessage("no sealed public key")
    if port is None or not 1 <= port <= 65535:
        raise MalformedMessage("no UDP port")
    near = [host for host in map(_numeric, hosts) if host and _is_near(host, link)]
    if not near:
        raise MalformedMessage("no address on this link")
    addresses = dict.fromkeys(Address(host, port) for host in near)
    return Sighting(Beacon(label, port, sealed), tuple(addresses)[:CARD_ADDRESSES_MAX])


def label_of(name: str) -> str | None:
    """The label of a service's name, or None where that is no beacon's."""
    try:
        return _label(name)
    except MalformedMessage:
        return None


def _label(name: str) -> str:
    label = name.lower().removesuffix("." + SERVICE)
    if len(label) != 2 * NONCE_BYTES or not HEXADECIMAL.issuperset(label):
        raise MalformedMessage("not the name of a beacon")
    return label


def _numeric(host: str) -> str | None:
    """The host of one machine, without a scope, which no packed address has; else None."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    unusable = ip.is_multicast or ip.is_unspecified or ip.is_reserved
    return None if unusable or "%" in host or is_link_local_v6(host) else str(ip)


def is_link_local_v6(host: str) -> bool:
    """Whether a host means nothing without the interface, which contacts do not carry."""
    ip = ipaddress.ip_address(host)
    return ip.version == 6 and ip.is_link_local


def _is_near(host: str, link: str) -> bool:
    """Whether a machine on our link may have this host: nobody far away is to be knocked at."""
    if (":" in host) != (":" in link) or is_loopback(host) != is_loopback(link):
        return False
    return is_local(host) or prefix(host) == prefix(link)
