"""The real transport: one UDP socket, served by aioudp, which nothing else in the package imports.

aioudp starts a task with a queue for every source address, hands it a connection that can answer
that source only, and forgets task and queue when the task ends. The rest is made from these:

- To send to anyone we knock once on our own port: the connection of that datagram carries the
  socket's own `sendto`. Its task lasts as long as the socket does, so `close` waits for it.
- A stranger's task ends with its first datagram. Only a source for which `receive` answered True
  gets a task that stays, until it falls idle; never more than `sources_max`. What comes in while
  a task ends is delivered when it has ended: no datagram is lost for coming early.
- What the socket reports (ICMP, a firewall's refusal) is counted; aioudp would raise it.

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
from kademlia_node.net.transport import Receive
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
        settings: `sources_max`, `source_idle_s` and the sizes of the two buffers.

    Raises:
        SetupError: the address cannot be bound; the message says why, and what to do.
    """
    try:
        own = ipaddress.ip_address(host)
    except ValueError:
        raise SetupError(f"{host!r} is no numeric host: give an IPv4 or IPv6 address") from None
    if not 0 <= port <= 65535:
        raise SetupError(f"{port} is no UDP port: choose one up to 65535, or 0 for any free one")
    sources = _Sources(receive, settings)
    async with AsyncExitStack() as stack:  # unwound by close, or here if something fails
        stack.push_async_callback(sources.gone)
        address = await _serve(own, port, sources, stack)
        endpoint = await _knock(own, address.port, sources)
        _tune(endpoint, settings)
        sources.open()
        stack.callback(sources.shut)
        return UdpTransport(address, endpoint, sources, stack.pop_all(), settings=settings)


class UdpTransport:
    """One bound UDP socket; see `net.transport.Transport`. Made by `listen`.

    Attributes:
        send_errors: datagrams dropped because the kernel refused them, the socket cannot reach
            that kind of address, the send buffer was full, or `close` had been called.
    """

    def __init__(
        self,
        address: Address,
        endpoint: _Endpoint,
        sources: _Sources,
        stack: AsyncExitStack,
        *,
        settings: Settings,
    ) -> None:
        self.send_errors = 0
        self._address = address
        self._endpoint = endpoint
        self._sources = sources
        self._stack = stack
        self._mapped = MAPPED if ":" in address.host else ""
        self._send_buffer_bytes_max = settings.send_buffer_bytes_max
        # aioudp's own would raise, out of `sendto` or into the loop's exception handler.
        endpoint.get_protocol().error_received = self._on_send_error

    @property
    def address(self) -> Address:
        """The bound address; the port is never 0."""
        return self._address

    @property
    def receive_errors(self) -> int:
        """How often `receive` raised. The first time went to the loop's exception handler."""
        return self._sources.receive_errors

    def send(self, datagram: bytes, address: Address) -> None:
        """Send to anyone; what cannot be sent is dropped and counted in `send_errors`."""
        host, port = address
        if self._mapped and ":" not in host:
            host = self._mapped + host
        buffered = self._endpoint.get_write_buffer_size()
        if not self._sources.is_open or buffered > self._send_buffer_bytes_max:
            self.send_errors += 1
            return
        try:
            self._endpoint.sendto(datagram, (host, port))
        except ValueError as error:  # what uvloop raises for a host of the other family
            self._on_send_error(error)

    async def close(self) -> None:
        """Release the socket and wait for its tasks. Safe to call twice."""
        await self._stack.aclose()

    def _on_send_error(self, _error: Exception) -> None:
        self.send_errors += 1


class _Endpoint(Protocol):
    """What the datagram transports of asyncio and uvloop have in common, and we use."""

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_protocol(self) -> Any: ...
    def get_extra_info(self, name: str) -> Any: ...


class _Sources:
    """aioudp's handler: one task per source that is heard, short for strangers, lasting for peers.

    The knocker is the socket that `_knock` writes from; `endpoint` is what it finds.
    """

    def __init__(self, receive: Receive, settings: Settings) -> None:
        self.is_open = False  # until then, and after, whatever comes in is dropped
        self.receive_errors = 0
        self.knocker: Address | None = None
        self._loop = asyncio.get_running_loop()
        self.endpoint: asyncio.Future[_Endpoint] = self._loop.create_future()
        self._receive = receive
        self._settings = settings
        self._keeper: asyncio.Task[Any] | None = None  # the knocker's task
        self._receivers: set[asyncio.Task[Any]] = set()  # tasks that stay
        self._heard: set[asyncio.Task[Any]] = set()  # those that were of use since the last sweep
        self._sweeping: asyncio.TimerHandle | None = None

    def open(self) -> None:
        self.is_open = True
        self._sweep()

    def shut(self) -> None:
        self.is_open = False
        if self._sweeping:
            self._sweeping.cancel()

    async def gone(self) -> None:
        """Wait for every task that aioudp cancels when the socket is closed."""
        if self._keeper:
            await asyncio.wait({self._keeper, *self._receivers})

    async def serve(self, connection: aioudp.Connection) -> None:
        """What aioudp runs for a source it has no task for."""
        reply: Any = connection.send_func  # a partial of the socket's sendto
        source = _address(reply.keywords["addr"])
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(functools.partial(self._finish, connection, source))
        is_peer = self._deliver(await connection.recv(), source)
        if source == self.knocker and not self.endpoint.done():
            self._keeper = task
            self.endpoint.set_result(reply.func.__self__)
        elif is_peer and len(self._receivers) < self._settings.sources_max:
            self._receivers.add(task)
            self._heard.add(task)
        else:
            return
        while True:
            if self._deliver(await connection.recv(), source):
                self._heard.add(task)

    def _deliver(self, datagram: bytes, source: Address) -> bool:
        if not self.is_open:
            return False
        try:
            return self._receive(datagram, source)
        except Exception as error:  # noqa: BLE001 - our own bug must not make this source deaf
            self.receive_errors += 1
            if self.receive_errors == 1:  # a stranger may be able to repeat it at will
                message = f"receiving from {source} failed; further failures are only counted"
                self._loop.call_exception_handler({"message": message, "exception": error})
            return False

    def _finish(
        self, connection: aioudp.Connection, source: Address, task: asyncio.Task[Any]
    ) -> None:
        """Deliver what came in after the task's last `recv`; aioudp has just let go of it."""
        self._receivers.discard(task)
        self._heard.discard(task)
        recv: Any = connection.recv_func  # the queue's get
        queue: asyncio.Queue[bytes | None] = recv.__self__
        while not queue.empty():
            datagram = queue.get_nowait()
            if datagram is not None:  # None is aioudp's sign that the socket is closed
                self._deliver(datagram, source)

    def _sweep(self) -> None:
        for task in self._receivers - self._heard:
            task.cancel()
        self._heard.clear()
        self._sweeping = self._loop.call_later(self._settings.source_idle_s, self._sweep)


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


async def _serve(own: Host, port: int, sources: _Sources, stack: AsyncExitStack) -> Address:
    """Let aioudp serve `own` until the stack is unwound; return the bound address."""
    for _ in range(PORT_TRIES):
        bound = _bindable(own, port)
        try:
            await stack.enter_async_context(aioudp.serve(*bound, sources.serve))
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


async def _knock(own: Host, port: int, sources: _Sources) -> _Endpoint:
    """Write to our own port and take the socket from the connection that aioudp makes of it."""
    host = str(own)
    if own.is_unspecified:
        host = "127.0.0.1" if own.version == 4 else "::1"
    try:
        with socket.socket(_family(own), socket.SOCK_DGRAM) as knocker:
            knocker.bind((host, 0))  # known before it writes, and nobody else's until it is heard
            sources.knocker = _address(knocker.getsockname())
            knocker.sendto(b"knock", (host, port))
            async with asyncio.timeout(KNOCK_WAIT_S):
                return await sources.endpoint
    except OSError as error:  # TimeoutError is one
        raise SetupError(f"cannot reach our own UDP port {port} on {host}: a firewall?") from error


def _tune(endpoint: _Endpoint, settings: Settings) -> None:
    if hasattr(endpoint, "max_size"):  # asyncio's own; uvloop reuses one buffer
        endpoint.max_size = READ_BYTES
    bound = endpoint.get_extra_info("socket")
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings.receive_buffer_bytes)


def _family(own: Host) -> socket.AddressFamily:
    return socket.AF_INET if own.version == 4 else socket.AF_INET6


def _address(sockaddr: tuple[Any, ...]) -> Address:
    """The address in a sockaddr of Python: (host, port), or with IPv6 (host, port, flow, scope)."""
    host, port = sockaddr[:2]
    return Address(host.removeprefix(MAPPED) if "." in host else host, port)
