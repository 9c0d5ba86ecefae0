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

OnRefused = Callable[[bytes, Address], None]
"""Is told that nobody listens at an address any more: how a datagram sent there began, and where.

The host there says so. Anybody can: only who shows bytes that nobody could guess is to be believed.
"""


def ignore_refusal(quote: bytes, address: Address) -> None:
    """An `OnRefused` for whoever does not care."""


class Transport(Protocol):
    """One bound datagram socket.

    Attributes:
        on_refused: May be set, and is called in the running loop, never while something is sent.
    """

    on_refused: OnRefused

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
