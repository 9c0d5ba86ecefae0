"""Whom the NAT in front of a simulated address lets in. Refuses to know sockets and clocks."""

from __future__ import annotations

from enum import Enum, auto

from kademlia_node.core.contact import Address

NAT_MAPPING_S = 30.0  # below RFC 4787's two minutes: many routers forget UDP so soon


class NatKind(Enum):
    """Whom a NAT lets in (RFC 3489, section 5); it is the sender that must have been written to.

    No address is ever translated. So a symmetric NAT, which shows every peer another port, counts
    as PORT_RESTRICTED: its filter is the same.
    """

    FULL_CONE = auto()  # anybody, once anybody was written to
    ADDRESS_RESTRICTED = auto()  # any port of a host that was written to
    PORT_RESTRICTED = auto()  # only an address that was written to


class Nat:
    """The filter in front of one address: nobody is let in who was not written to before.

    Args:
        kind: Whom it lets in.
        mapping_s: For how many seconds after each datagram that goes out.
    """

    def __init__(self, kind: NatKind, *, mapping_s: float = NAT_MAPPING_S) -> None:
        self._kind = kind
        self._mapping_s = mapping_s
        self._open_until: dict[object, float] = {}

    def on_sent(self, destination: Address, *, now: float) -> None:
        """A datagram went out."""
        self._open_until[self._peer(destination)] = now + self._mapping_s

    def lets_in(self, source: Address, *, now: float) -> bool:
        """Whether a datagram from this source passes."""
        return self._open_until.get(self._peer(source), now) > now

    def _peer(self, address: Address) -> object:
        match self._kind:
            case NatKind.FULL_CONE:
                return None
            case NatKind.ADDRESS_RESTRICTED:
                return address.host
            case NatKind.PORT_RESTRICTED:
                return address
