"""What the real transport promises beyond the contract: bursts, floods, families and mishaps."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import aioudp
import pytest

from kademlia_node.core.contact import Address
from kademlia_node.errors import SetupError
from kademlia_node.net.transport import Receive
from kademlia_node.net.udp import UdpTransport, listen, resolve
from kademlia_node.settings import Settings

pytestmark = pytest.mark.net

BURST = 250  # short datagrams that the smallest usual receive buffer holds


@pytest.fixture
async def complaints() -> list[dict[str, Any]]:
    """What reached the loop's exception handler."""
    collected: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: collected.append(context))
    return collected


@pytest.fixture(autouse=True)
async def _no_complaints(complaints: list[dict[str, Any]]) -> AsyncIterator[None]:
    """Nobody complains unless the test expects it, and takes it from the list."""
    yield
    assert complaints == []


@asynccontextmanager
async def listening(
    receive: Receive, host: str = "127.0.0.1", port: int = 0, **settings: Any
) -> AsyncIterator[UdpTransport]:
    transport = await listen(host, port, receive, settings=Settings(**settings))
    try:
        yield transport
    finally:
        await transport.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110 - what is waited for announces nothing
            await asyncio.sleep(0)


def plain_socket(host: str = "127.0.0.1") -> socket.socket:
    """A bound socket of somebody who is not us."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(5.0)
    return sock


class Inbox:
    """A `Receive` that remembers all."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, Address]] = []

    def __call__(self, datagram: bytes, source: Address) -> None:
        self.got.append((datagram, source))

    async def holds(self, count: int) -> None:
        await until(lambda: len(self.got) >= count)


# --- Bursts ---------------------------------------------------------------------------------------


async def test_thousand_datagrams_back_to_back_arrive_in_order() -> None:
    inbox = Inbox()
    sent = [b"%d" % number for number in range(1000)]
    async with listening(inbox) as transport:
        with plain_socket() as sender:
            for start in range(0, len(sent), BURST):
                for datagram in sent[start : start + BURST]:
                    sender.sendto(datagram, transport.address)
                await inbox.holds(start + BURST)
            source = Address(*sender.getsockname())
    assert inbox.got == [(datagram, source) for datagram in sent]


# --- Memory and tasks -----------------------------------------------------------------------------


async def flood(transport: UdpTransport, inbox_size: Callable[[], int], hosts: range) -> None:
    """One datagram from each of many sources, no two of them alike."""
    for start in range(hosts.start, hosts.stop, BURST):
        expected = inbox_size() + BURST
        for number in range(start, start + BURST):
            with plain_socket(str_host(number)) as sender:
                sender.sendto(b"x" * 100, transport.address)
        await until(lambda expected=expected: inbox_size() >= expected)  # type: ignore[misc]


def str_host(number: int) -> str:
    """127.1.0.1, 127.1.0.2 ...: all of 127.0.0.0/8 is ours to write from."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


@pytest.mark.parametrize("sources", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_memory_and_tasks_stay_as_they_are_however_many_sources_write(sources: int) -> None:
    count = 0

    def receive(datagram: bytes, source: Address) -> None:
        nonlocal count
        count += 1

    tasks_before = asyncio.all_tasks()
    async with listening(receive) as transport:
        tracemalloc.start()
        try:
            await flood(transport, lambda: count, range(sources // 2))
            gc.collect()
            half, _ = tracemalloc.get_traced_memory()
            await flood(transport, lambda: count, range(sources // 2, sources))
            gc.collect()
            whole, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert whole - half < 32 * 1024  # 13 bytes per source of the small run
        assert asyncio.all_tasks() == tasks_before


async def test_closed_transport_lets_go_of_whom_it_delivered_to() -> None:
    inbox = Inbox()
    remembered = weakref.ref(inbox)
    async with listening(inbox):
        pass
    del inbox
    gc.collect()
    assert remembered() is None


async def test_what_comes_while_the_socket_closes_is_dropped() -> None:
    inbox = Inbox()
    async with listening(inbox) as transport:
        with plain_socket() as sender:
            sender.sendto(b"hello", transport.address)
            await inbox.holds(1)
            sender.sendto(b"too late", transport.address)
            await transport.close()
        await transport.close()
    assert [datagram for datagram, _ in inbox.got] == [b"hello"]


# --- Mishaps --------------------------------------------------------------------------------------


async def test_exception_in_receive_is_reported_once_and_stops_nothing(
    complaints: list[dict[str, Any]],
) -> None:
    got: list[bytes] = []

    def receive(datagram: bytes, source: Address) -> None:
        got.append(datagram)
        if datagram == b"bad":
            raise ValueError("our own bug")

    async with listening(receive) as transport:
        with plain_socket() as sender:
            for datagram in (b"bad", b"good", b"bad", b"bad", b"good"):
                sender.sendto(datagram, transport.address)
            await until(lambda: len(got) == 5)
        assert transport.receive_errors == 3
    assert [str(complaint["exception"]) for complaint in complaints] == ["our own bug"]
    complaints.clear()


async def test_what_cannot_be_sent_is_counted() -> None:
    inbox = Inbox()
    async with listening(inbox) as transport:
        transport.send(b"x" * 70_000, transport.address)
        assert transport.send_errors == 1
        transport.send(b"other family", Address("::1", transport.address.port))
        assert transport.send_errors == 2
        transport.send(b"broadcast", Address("255.255.255.255", transport.address.port))
        assert transport.send_errors == 3
        transport.send(b"fine", transport.address)
        await inbox.holds(1)
        assert transport.send_errors == 3
    transport.send(b"closed", transport.address)
    assert transport.send_errors == 4


async def test_full_send_buffer_drops() -> None:
    async with listening(Inbox(), send_buffer_bytes_max=-1) as transport:
        transport.send(b"hello", transport.address)
        assert transport.send_errors == 1


async def test_unreachable_ports_disturb_nobody() -> None:
    inbox = Inbox()
    with plain_socket() as gone:
        nobody = Address(*gone.getsockname())
    async with listening(inbox) as transport:
        for _ in range(100):
            transport.send(b"anybody?", nobody)
        transport.send(b"hello", transport.address)
        await inbox.holds(1)
        assert transport.send_errors == 0


# --- Binding --------------------------------------------------------------------------------------


async def test_taken_port_says_what_to_do() -> None:
    with plain_socket() as holder, pytest.raises(SetupError, match=r"port is taken; choose"):
        await listen("127.0.0.1", holder.getsockname()[1], Inbox())


async def test_host_of_somebody_else_says_what_to_do() -> None:
    with pytest.raises(SetupError, match=r"192\.0\.2\.1 .*no such address on this machine"):
        await listen("192.0.2.1", 0, Inbox())


@pytest.mark.parametrize("port", [-1, 65536])
async def test_number_that_is_no_port_is_a_setup_error(port: int) -> None:
    with pytest.raises(SetupError, match="no UDP port"):
        await listen("127.0.0.1", port, Inbox())


# uvloop leaves a socket that it could not bind to the garbage collector, which complains.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_port_taken_while_we_bind_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = aioudp.serve
    with ExitStack() as stolen:

        def serve_after_theft(host: str, port: int, handler: Any) -> Any:
            if not stolen_ports:
                thief = stolen.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                thief.bind((host, port))
                stolen_ports.append(port)
            return serve(host, port, handler)

        stolen_ports: list[int] = []
        monkeypatch.setattr(aioudp, "serve", serve_after_theft)
        async with listening(Inbox()) as transport:
            assert stolen_ports
            assert transport.address.port not in stolen_ports


async def test_ports_that_are_always_taken_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(host: str, port: int, handler: Any) -> Any:
        raise OSError(errno.EADDRINUSE, "taken")

    monkeypatch.setattr(aioudp, "serve", refuse)
    with pytest.raises(SetupError, match="stayed free"):
        await listen("127.0.0.1", 0, Inbox())


async def test_strangers_who_knock_first_are_heard_only_after_listen_returned() -> None:
    returned = False
    got: list[tuple[bytes, bool]] = []

    def receive(datagram: bytes, source: Address) -> None:
        got.append((datagram, returned))

    with plain_socket() as probe:
        address = Address(*probe.getsockname())

    async def pester() -> None:
        with plain_socket() as stranger:
            while True:
                stranger.sendto(b"hello", address)
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        pestering = group.create_task(pester())
        await asyncio.sleep(0)
        async with listening(receive, *address):
            returned = True
            await until(lambda: len(got) >= 100)
            pestering.cancel()
    assert set(got) == {(b"hello", True)}


async def test_knock_is_not_delivered_but_another_s_is() -> None:
    inbox = Inbox()
    async with listening(inbox) as transport:
        with plain_socket() as stranger:
            stranger.sendto(b"knock", transport.address)
            await inbox.holds(1)
            assert inbox.got == [(b"knock", Address(*stranger.getsockname()))]


# --- Families -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "peer"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::1"),
        ("::", "127.0.0.1"),
    ],
)
async def test_either_side_may_write_first(bound: str, peer: str) -> None:
    inbox = Inbox()
    async with listening(inbox, bound) as transport:
        assert transport.address.host == bound
        with plain_socket(peer) as there:
            address = Address(*there.getsockname()[:2])
            transport.send(b"we first", address)
            assert there.recv(100) == b"we first"
            there.sendto(b"hello", (peer, transport.address.port))
            await inbox.holds(1)
            assert inbox.got == [(b"hello", address)]
            transport.send(b"welcome", inbox.got[0][1])
            assert there.recv(100) == b"welcome"
        assert transport.send_errors == 0


# --- Names ----------------------------------------------------------------------------------------


async def test_name_resolves_to_numeric_addresses() -> None:
    assert await resolve("localhost", 4000, family=socket.AF_INET) == [Address("127.0.0.1", 4000)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_number_resolves_to_itself(host: str) -> None:
    assert await resolve(host, 4000) == [Address(host, 4000)]


@pytest.mark.parametrize(
    ("host", "port"),
    [("", 4000), ("localhost", 0), ("localhost", 65536), ("a..b", 4000), ("no name", 4000)],
)
async def test_what_names_no_peer_is_a_setup_error_in_one_line(host: str, port: int) -> None:
    with pytest.raises(SetupError) as raised:
        await resolve(host, port)
    assert "\n" not in str(raised.value)
