"""What the house asks of a datagram socket. Two exist: `net.udp` and `sim.network`.

One socket, one known address, datagrams to and from anyone, bounded memory. Sending never blocks
and never raises: a datagram that cannot be sent is a lost datagram.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from kademlia_node.core.contact import Address

Receive = Callable[[bytes, Address], None]
"""Takes one datagram and its source."""


class Transport(Protocol):
    """One bound datagram socket."""

    @property
    def address(self) -> Address:
        """The bound address; the port is never 0."""
        ...

    def send(self, datagram: bytes, address: Address) -> None:
        """Send to anyone; what cannot be sent is dropped and counted."""
        ...

    async def close(self) -> None:
        """Release the socket; nothing is received or sent afterwards. Safe to call twice."""
        ...


Listen = Callable[[str, int, Receive], Awaitable[Transport]]
"""Bind a host (numeric) and a port (0: any) and deliver to `Receive`; raises SetupError."""
