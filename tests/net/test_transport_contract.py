"""What every transport promises: the real one over loopback, and the simulator's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from kademlia_node.core.contact import Address
from kademlia_node.errors import SetupError
from kademlia_node.net import udp
from kademlia_node.net.transport import Listen, Transport
from kademlia_node.settings import PACKET_BYTES_MAX
from kademlia_node.sim import SimNetwork


class Inbox:
    """A `Receive` that remembers."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, Address]] = []
        self._heard = asyncio.Event()

    def __call__(self, datagram: bytes, source: Address) -> None:
        self.got.append((datagram, source))
        self._heard.set()

    async def hear(self) -> None:
        """Wait for the next datagram, or the one that came unobserved."""
        async with asyncio.timeout(5.0):
            await self._heard.wait()
        self._heard.clear()


class Ends:
    """Opens transports with an inbox each, and closes them all."""

    def __init__(self, listen: Listen, host: str) -> None:
        self._listen = listen
        self._host = host
        self._opened: list[Transport] = []

    async def open(self, host: str | None = None, port: int = 0) -> tuple[Transport, Inbox]:
        inbox = Inbox()
        transport = await self._listen(self._host if host is None else host, port, inbox)
        self._opened.append(transport)
        return transport, inbox

    async def close(self) -> None:
        for transport in self._opened:
            await transport.close()


class Contract:
    async def test_bound_address_has_a_port(self, ends: Ends) -> None:
        end, _ = await ends.open()
        assert 1 <= end.address.port <= 65535

    async def test_first_datagram_to_a_stranger_arrives_from_our_address(self, ends: Ends) -> None:
        here, _ = await ends.open()
        there, inbox = await ends.open()
        here.send(b"hello", there.address)
        await inbox.hear()
        assert inbox.got == [(b"hello", here.address)]

    async def test_answer_goes_back_to_the_reported_source(self, ends: Ends) -> None:
        here, answers = await ends.open()
        there, requests = await ends.open()
        here.send(b"hello", there.address)
        await requests.hear()
        there.send(b"hello", requests.got[0][1])
        await answers.hear()
        assert answers.got == [(b"hello", there.address)]

    @pytest.mark.parametrize("length", [1, 33, PACKET_BYTES_MAX])
    async def test_datagrams_arrive_whole(self, ends: Ends, length: int) -> None:
        datagram = Random(length).randbytes(length)
        here, _ = await ends.open()
        there, inbox = await ends.open()
        here.send(datagram, there.address)
        await inbox.hear()
        assert inbox.got == [(datagram, here.address)]

    async def test_sending_to_nobody_disturbs_nobody(self, ends: Ends) -> None:
        here, answers = await ends.open()
        there, _ = await ends.open()
        gone, _ = await ends.open()
        await gone.close()
        for _ in range(10):
            here.send(b"anybody?", gone.address)
        there.send(b"hello", here.address)
        await answers.hear()
        assert answers.got == [(b"hello", there.address)]

    async def test_we_are_told_when_nobody_listens_and_nothing_else_is_lost_by_that(
        self, ends: Ends
    ) -> None:
        here, _ = await ends.open()
        there, inbox = await ends.open()
        gone, _ = await ends.open()
        await gone.close()
        refused: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        here.on_refused = lambda quote, address: refused.put_nowait((quote, address))
        for number in range(5):
            here.send(b"anybody? %d" % number, gone.address)
            here.send(b"hello %d" % number, there.address)
        async with asyncio.timeout(5.0):
            told = [await refused.get() for _ in range(5)]
        assert told == [(b"anybody? %d" % number, gone.address) for number in range(5)]
        while len(inbox.got) < 5:
            await inbox.hear()
        assert [datagram for datagram, _ in inbox.got] == [b"hello %d" % n for n in range(5)]

    async def test_closed_transport_neither_receives_nor_sends(self, ends: Ends) -> None:
        here, inbox = await ends.open()
        closed, closed_inbox = await ends.open()
        closed_address = closed.address
        here.send(b"under way", closed_address)
        await closed.close()
        closed.send(b"too late", here.address)
        here.send(b"too late", closed_address)
        for _ in range(2):  # whatever was sent before the first is there before the second
            here.send(b"hello", here.address)
            await inbox.hear()
        assert inbox.got == [(b"hello", here.address)] * 2
        assert closed_inbox.got == []

    async def test_closing_twice_is_safe(self, ends: Ends) -> None:
        end, _ = await ends.open()
        await end.close()
        await end.close()

    async def test_taken_address_is_a_setup_error(self, ends: Ends) -> None:
        end, _ = await ends.open()
        with pytest.raises(SetupError):
            await ends.open(*end.address)

    async def test_closed_address_can_be_bound_at_once(self, ends: Ends) -> None:
        end, _ = await ends.open()
        await end.close()
        again, _ = await ends.open(*end.address)
        assert again.address == end.address

    async def test_host_that_is_no_number_is_a_setup_error(self, ends: Ends) -> None:
        with pytest.raises(SetupError, match="numeric"):
            await ends.open(host="localhost")


@pytest.mark.net
class TestUdp(Contract):
    @pytest.fixture
    async def ends(self) -> AsyncIterator[Ends]:
        ends = Ends(udp.listen, "127.0.0.1")
        yield ends
        await ends.close()


class TestSimNetwork(Contract):
    @pytest.fixture
    async def ends(self) -> AsyncIterator[Ends]:
        sim = SimNetwork(rng=Random(1), jitter_s=0.0)
        sim.refuses = True
        ends = Ends(sim.listen, "")
        yield ends
        await ends.close()
