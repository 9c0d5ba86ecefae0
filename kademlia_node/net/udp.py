"""The real transport: one UDP socket, bound by aioudp, which nothing else in the package imports.

aioudp hands out no way to write to somebody who has not written first, and starts a task with a
queue for every source address. So it is used to open the socket, and no longer than that:

- We knock once on our own port: the connection that aioudp makes of that datagram carries the
  socket's own `sendto`, and by it the endpoint, asyncio's name for a bound datagram socket.
- The endpoint is given a protocol of ours in place of aioudp's (`set_protocol`, which every event
  loop has). From then on a datagram goes straight to `receive`: no task, no queue, and no memory
  however many sources there are. What came in before is dropped.
- What the socket reports is counted, and refusals are passed on (`net.refusals`); aioudp would
  raise it.

Refuses to know what a datagram means. Driven by `listen`, then by the calls of `net.transport`.
Bind "::" and, where IPv6 sockets are dual by default (Linux), IPv4 peers are spoken to as well:
hosts mapped into IPv6 stay inside this module. A datagram longer than 4096 bytes may be cut.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import socket
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, Protocol

import aioudp

from kademlia_node.core.contact import Address
from kademlia_node.errors import SetupError
from kademlia_node.net.refusals import Bound, ask_for_refusals, take_refusals
from kademlia_node.net.transport import OnRefused, Receive, ignore_refusal
from kademlia_node.settings import Settings

DEFAULTS: Final = Settings()
READ_BYTES: Final = 4096  # per datagram: to allocate asyncio's own 256 KiB costs 20 us each time
PORT_TRIES: Final = 16  # somebody may take a free port between our finding and our using it
KNOCK_WAIT_S: Final = 5.0  # a datagram to ourselves takes microseconds, unless a firewall eats it
MAPPED: Final = "::ffff:"  # an IPv4 host in an IPv6 socket (RFC 4291, section 2.5.5.2)

Host = ipaddress.IPv4Address | ipaddress.IPv6Address


async def listen(
    host: str, port: int, receive: Receive, *, settings: Settings = DEFAULTS
) -> UdpTransport:
    """Bind a UDP socket and deliver to `receive` from the moment this returns.

    Args:
        host: numeric, an address of this machine; 0.0.0.0 or :: for all of them.
        port: 0 takes any free one.
        receive: called in the running loop, one datagram at a time; see `net.transport`.
        settings: the sizes of the two buffers.

    Raises:
        SetupError: the address cannot be bound; the message says why, and what to do.
    """
    try:
        own = ipaddress.ip_address(host)
    except ValueError:
        raise SetupError(f"{host!r} is no numeric host: give an IPv4 or IPv6 address") from None
    if not 0 <= port <= 65535:
        raise SetupError(f"{port} is no UDP port: choose one up to 65535, or 0 for any free one")
    knock = _Knock()
    async with AsyncExitStack() as stack:  # unwound by close, or here if something fails
        address = await _serve(own, port, knock, stack)
        endpoint = await knock.on(own, address.port)
        bound = _tune(endpoint, settings)
        inlet = _Inlet(receive, bound)
        endpoint.set_protocol(inlet)
        return UdpTransport(address, endpoint, inlet, stack.pop_all(), settings=settings)


class UdpTransport:
    """One bound UDP socket; see `net.transport.Transport`. Made by `listen`.

    Attributes:
        address: The bound address; the port is never 0.
    """

    def __init__(
        self,
        address: Address,
        endpoint: _Endpoint,
        inlet: _Inlet,
        stack: AsyncExitStack,
        *,
        settings: Settings,
    ) -> None:
        self.address = address
        self._endpoint = endpoint
        self._inlet = inlet
        self._stack = stack
        self._mapped = MAPPED if ":" in address.host else ""
        self._send_buffer_bytes_max = settings.send_buffer_bytes_max

    @property
    def on_refused(self) -> OnRefused:
        """See `net.transport.Transport`."""
        return self._inlet.on_refused

    @on_refused.setter
    def on_refused(self, told: OnRefused) -> None:
        self._inlet.on_refused = told

    @property
    def send_errors(self) -> int:
        """Datagrams dropped.

        The kernel refused them, the socket cannot reach that kind of address, the send buffer was
        full, or `close` had been called.
        """
        return self._inlet.send_errors

    @property
    def receive_errors(self) -> int:
        """How often `receive` raised. The first time went to the loop's exception handler."""
        return self._inlet.receive_errors

    def send(self, datagram: bytes, address: Address) -> None:
        """Send to anyone; what cannot be sent is dropped and counted in `send_errors`."""
        if self._mapped and ":" not in address.host:
            address = Address(self._mapped + address.host, address.port)
        buffered = self._endpoint.get_write_buffer_size()
        if not self._inlet.is_open or buffered > self._send_buffer_bytes_max:
            self._inlet.send_errors += 1
            return
        refusals = self._inlet.refusals
        try:
            self._endpoint.sendto(datagram, address)
            if self._inlet.refusals != refusals:  # that is what we were told, and nothing was sent
                self._endpoint.sendto(datagram, address)
        except ValueError as error:  # what uvloop raises for a host of the other family
            self._inlet.error_received(error)

    async def close(self) -> None:
        """Release the socket, and wait until that is done. Safe to call twice."""
        self._inlet.is_open = False
        await self._stack.aclose()
        await self._inlet.lost


class _Endpoint(Protocol):
    """What the datagram transports of asyncio and uvloop have in common, and we use."""

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
    def get_extra_info(self, name: str) -> Any: ...


class _Knock:
    """Writes to our own port, and takes the socket from the connection that aioudp makes of it."""

    def __init__(self) -> None:
        self._source: Address | None = None  # of the socket that is written from
        self._endpoint: asyncio.Future[_Endpoint] = asyncio.get_running_loop().create_future()

    async def on(self, own: Host, port: int) -> _Endpoint:
        """The socket that is bound to this port of ours; raises SetupError."""
        host = str(own)
        if own.is_unspecified:
            host = "127.0.0.1" if own.version == 4 else "::1"
        try:
            with socket.socket(_family(own), socket.SOCK_DGRAM) as knocker:
                knocker.bind((host, 0))  # known before it writes, and nobody else's until heard
                self._source = _address(knocker.getsockname())
                knocker.sendto(b"knock", (host, port))
                async with asyncio.timeout(KNOCK_WAIT_S):
                    return await self._endpoint
        except OSError as error:  # TimeoutError is one
            raise SetupError(
                f"cannot reach our own UDP port {port} on {host}: a firewall?"
            ) from error

    async def hear(self, connection: aioudp.Connection) -> None:
        """What aioudp runs for each source; strangers who are early are not heard."""
        reply: Any = connection.send_func  # a partial of the socket's sendto
        if _address(reply.keywords["addr"]) == self._source and not self._endpoint.done():
            self._endpoint.set_result(reply.func.__self__)


class _Inlet(asyncio.DatagramProtocol):
    """What the socket tells: each datagram, what was not sent or not taken, and that it is gone."""

    def __init__(self, receive: Receive, bound: Bound) -> None:
        self.is_open = True  # what comes in later is dropped
        self.receive_errors = 0
        self.send_errors = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refusals = 0  # how often the socket had any to report
        self.on_refused: OnRefused = ignore_refusal
        self._receive = receive
        self._bound = bound

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Deliver it. Our own bug must not make us deaf."""
        if not self.is_open:
            return
        source = _address(addr)
        try:
            self._receive(data, source)
        except Exception as error:  # noqa: BLE001
            self.receive_errors += 1
            if self.receive_errors == 1:  # a stranger may be able to repeat it at will
                message = f"receiving from {source} failed; further failures are only counted"
                handle = self.lost.get_loop().call_exception_handler
                handle({"message": message, "exception": error})

    def error_received(self, exc: Exception) -> None:  # asyncio's name
        """Something was not sent, or not taken."""
        if isinstance(exc, ConnectionRefusedError):
            self.refusals += 1
        else:
            self.send_errors += 1
        for quote, sent_to in take_refusals(self._bound):
            self.lost.get_loop().call_soon(self.on_refused, quote, _address(sent_to))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The socket is released."""
        self.lost.set_result(None)


async def resolve(
    host: str, port: int, *, family: socket.AddressFamily = socket.AF_UNSPEC
) -> list[Address]:
    """The addresses of a name, in the resolver's order, each once; a number is its own address.

    Raises:
        SetupError: nobody knows the name, or the port is not from 1 to 65535.
    """
    if not host or not 1 <= port <= 65535:
        raise SetupError(f"{host!r}:{port} names no peer: give HOST:PORT, the port up to 65535")
    with suppress(ValueError):
        return [Address(str(ipaddress.ip_address(host)), port)]  # no need to ask anybody
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label is empty or too long
        raise SetupError(f"cannot find {host!r}: {getattr(error, 'strerror', error)}") from error
    return list(dict.fromkeys(_address(sockaddr) for *_, sockaddr in found))


async def _serve(own: Host, port: int, knock: _Knock, stack: AsyncExitStack) -> Address:
    """Let aioudp serve `own` until the stack is unwound; return the bound address."""
    for _ in range(PORT_TRIES):
        bound = _bindable(own, port)
        try:
            await stack.enter_async_context(aioudp.serve(*bound, knock.hear))
        except OSError:
            continue  # taken meanwhile: a fixed port fails in _bindable next
        return _address(bound)
    raise SetupError(f"no free UDP port stayed free on {own}: try again, or choose a port")


def _bindable(own: Host, port: int) -> tuple[str, int]:
    """A host and port that could be bound just now; aioudp would not tell which port it got."""
    try:
        with socket.socket(_family(own), socket.SOCK_DGRAM) as probe:
            probe.bind((str(own), port))
            return str(own), probe.getsockname()[1]
    except OSError as error:
        advice = {
            errno.EADDRINUSE: "the port is taken; choose another, or 0 for any free one",
            errno.EADDRNOTAVAIL: "no such address on this machine; 0.0.0.0 or :: takes all it has",
            errno.EACCES: "ports this low need privileges; choose one above 1023",
        }.get(error.errno or 0, str(error))
        raise SetupError(f"cannot listen on {own} port {port}: {advice}") from error


def _tune(endpoint: _Endpoint, settings: Settings) -> Bound:
    """Set its buffers, ask for refusals, and return the socket."""
    if hasattr(endpoint, "max_size"):  # asyncio's own; uvloop reuses one buffer
        endpoint.max_size = READ_BYTES
    bound: Bound = endpoint.get_extra_info("socket")
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings.receive_buffer_bytes)
    ask_for_refusals(bound)
    return bound


def _family(own: Host) -> socket.AddressFamily:
    return socket.AF_INET if own.version == 4 else socket.AF_INET6


@functools.lru_cache(maxsize=1024)  # of those who write most, each for every datagram
def _address(sockaddr: tuple[Any, ...]) -> Address:
    """The address in a sockaddr of Python: (host, port), or with IPv6 (host, port, flow, scope)."""
    host, port = sockaddr[:2]
    return Address(host.removeprefix(MAPPED) if "." in host else host, port)
