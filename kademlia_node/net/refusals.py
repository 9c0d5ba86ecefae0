"""What the kernel tells of datagrams that nobody took: ICMP "port unreachable" (Linux only).

The host of a daemon that has stopped says so at once, and quotes what it could not deliver. An
unconnected UDP socket hears of it only if it asks to (`IP_RECVERR`, ip(7)). Then the kernel

- wakes the event loop, which calls `error_received`, until `take_refusals` has emptied its queue;
- lets the next call on the socket fail, whomever that one was for: such a `sendto` sent nothing.

Refuses to judge whether a refusal is true. Driven by `net.udp`. Elsewhere nothing is ever refused.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any, Final, Protocol

IP_RECVERR: Final = 11  # <linux/in.h>, which Python names from 3.14 on
IPV6_RECVERR: Final = 25  # <linux/in6.h>
QUOTE_BYTES: Final = (
    576  # Linux quotes as much as fits into a packet of so many (RFC 1812, 4.3.2.3)
)
CONTROL_BYTES: Final = 256  # the error, and the address of who reports it
AT_ONCE_MAX: Final = 256  # of one wake-up
_ERROR: Final = struct.Struct("=IB")  # struct sock_extended_err: errno, origin, ...
_BY_ICMP: Final = frozenset({2, 3})  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6


class Bound(Protocol):
    """A socket, as asyncio and uvloop show theirs; see `socket.socket`."""

    family: int

    def fileno(self) -> int:
        """See `socket.socket.fileno`."""
        ...

    def setsockopt(self, level: int, name: int, value: int, /) -> None:
        """See `socket.socket.setsockopt`."""
        ...


def ask_for_refusals(bound: Bound) -> None:
    """Have the kernel report them from now on, of both families if the socket speaks both."""
    if sys.platform != "linux":
        return
    bound.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)


def take_refusals(bound: Bound) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
    """Each refusal reported since: how the datagram began, and where it was sent to.

    Whatever else the kernel has to report is taken off its queue, too.
    """
    if sys.platform != "linux":
        return
    with socket.socket(fileno=os.dup(bound.fileno())) as twin:  # uvloop's own has no recvmsg
        for _ in range(AT_ONCE_MAX):
            try:
                quote, control, _, sent_to = twin.recvmsg(
                    QUOTE_BYTES, CONTROL_BYTES, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
                )
            except OSError:  # the queue is empty
                return
            if sent_to and any(_is_refusal(data) for _, _, data in control):
                yield quote, sent_to


def _is_refusal(control: bytes) -> bool:
    if len(control) < _ERROR.size:
        return False
    number, origin = _ERROR.unpack_from(control)
    return number == errno.ECONNREFUSED and origin in _BY_ICMP
