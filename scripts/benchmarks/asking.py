"""Who asks in `served`: so many requests under way, of an echo, of a node, or of a node leanly."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final

from kademlia_node.core import packet
from kademlia_node.core.codec import decode_message, encode_request, encode_response
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.message import (
    ErrorCode,
    FindNode,
    Nodes,
    Ping,
    Pong,
    Refused,
    Request,
    Response,
)
from kademlia_node.core.network import Network
from kademlia_node.core.session import Session
from kademlia_node.net.ask import Asker, OnDone, Reply
from kademlia_node.net.exchange import Exchange
from kademlia_node.net.transport import Receive, Transport
from kademlia_node.net.udp import listen as listen_udp
from kademlia_node.settings import Settings

REPEAT_S: Final = 1.0
PATIENT: Final = Settings(rto_initial_s=REPEAT_S, rto_min_s=REPEAT_S)
STALLED_S: Final = 30.0  # without the last answers: datagrams were lost

OnAnswer = Callable[[bool], None]
"""Told once whether a request was answered, and with what it asked for."""
AskOne = Callable[[OnAnswer], None]
Send = Callable[[Request, OnDone], None]


class Asking:
    """Keeps requests under way until the time is up, then waits for the last answers."""

    def __init__(self, ask_one: AskOne) -> None:
        self.answered = 0
        self.unanswered = 0
        self._ask_one = ask_one
        self._loop = asyncio.get_running_loop()
        self._under_way = 0
        self._until = 0.0
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def run(self, seconds: float, *, at_once: int) -> None:
        """For so long, so many."""
        self._until = self._loop.time() + seconds
        self._under_way = at_once
        for _ in range(at_once):
            self._ask_one(self._on_answer)
        try:
            async with asyncio.timeout(seconds + STALLED_S):
                await self._done
        except TimeoutError:
            raise SystemExit(f"{self._under_way} requests came to no end") from None

    def _on_answer(self, answered: bool) -> None:  # noqa: FBT001 - OnAnswer
        if answered:
            self.answered += 1
        else:
            self.unanswered += 1
        if self._loop.time() < self._until:
            self._ask_one(self._on_answer)
            return
        self._under_way -= 1
        if self._under_way == 0:
            self._done.set_result(None)


def ping(send: Send, on_answer: OnAnswer) -> None:
    """Ask for a PONG."""
    send(Ping(), lambda response: on_answer(isinstance(response, Pong)))


def find_node(send: Send, targets: Callable[[], bytes], named: int, on_answer: OnAnswer) -> None:
    """Ask for the nearest to some target; an answer that names fewer than it could is none."""

    def on_done(response: Response | None) -> None:
        on_answer(isinstance(response, Nodes) and len(response.contacts) >= named)

    send(FindNode(targets()), on_done)


# --- An echo --------------------------------------------------------------------------------------


class _EchoAsker(asyncio.DatagramProtocol):
    """Sends a datagram for each request, and takes what comes back for the oldest of them."""

    _transport: asyncio.DatagramTransport

    def __init__(self, size: int) -> None:
        self._datagram = bytes(size)
        self._waiting: deque[OnAnswer] = deque()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def ask(self, on_answer: OnAnswer) -> None:
        self._waiting.append(on_answer)
        self._transport.sendto(self._datagram)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:  # noqa: ARG002
        self._waiting.popleft()(data == self._datagram)


async def echo_asker(address: Address, *, size: int) -> AskOne:
    """Asks the echo at this address, by datagrams of so many bytes."""
    _, asker = await asyncio.get_running_loop().create_datagram_endpoint(
        partial(_EchoAsker, size), remote_addr=address
    )
    return asker.ask


# --- A node ---------------------------------------------------------------------------------------


class _Polite:
    """The `net.ask.Listener` of the asker, which a node may ask, too: it knows nobody."""

    def serve(self, asker: Asker, request: Request, reply: Reply) -> None:  # noqa: ARG002
        match request:
            case Ping():
                reply(Pong())
            case FindNode():
                reply(Nodes(()))
            case _:
                reply(Refused(ErrorCode.BUSY, "only here to ask"))

    def on_alive(self, contact: Contact, *, server: bool) -> None: ...
    def on_silent(self, contact: Contact) -> None: ...
    def on_seen_as(self, address: Address, *, by: Contact) -> None: ...
    def is_pinned(self, node_id: bytes) -> bool:  # noqa: ARG002
        return False


class NodeAsker:
    """An exchange with a session with one node, over which it sends; or which is used by itself.

    A request is repeated only after REPEAT_S: a busy machine loses nothing, it is late.
    """

    def __init__(self, contact: Contact, *, network: Network, rng: random.Random) -> None:
        self._contact = contact
        self._listener = _Polite()
        self._exchange = Exchange(
            identity=Identity.generate(rng),
            network=network,
            settings=PATIENT,
            rng=rng,
            wall=time.time,
            listener=self._listener,
        )
        self._exchange.capabilities = Capabilities(server=True)
        self._rids = count(1)
        self._waiting: dict[int, OnDone] = {}
        self._is_lean = False

    async def open(self, host: str) -> None:
        """Bind, and shake hands."""
        await self._exchange.open(self._listen, host, 0)
        await self._exchange.ask(self._contact, Ping())

    async def close(self) -> None:
        """Release the socket."""
        await self._exchange.close()

    def send(self, request: Request, on_done: OnDone) -> None:
        """As every node asks."""
        self._exchange.send(self._contact, request, on_done=on_done)

    def send_leanly(self, request: Request, on_done: OnDone) -> None:
        """On the same session, without all that an exchange does so that nothing gets lost.

        From then on the exchange receives nothing.
        """
        self._is_lean = True
        rid = next(self._rids)
        self._waiting[rid] = on_done
        self._transmit(encode_request(rid, request))

    async def _listen(self, host: str, port: int, receive: Receive) -> Transport:
        def take(datagram: bytes, source: Address) -> None:
            if self._is_lean:
                self._receive_leanly(datagram)
            else:
                receive(datagram, source)

        self._transport = await listen_udp(host, port, take)
        return self._transport

    @property
    def _session(self) -> Session:
        session = self._exchange.sessions.sending(self._contact)
        assert session is not None, "it was opened, and nothing drops it"
        return session

    def _transmit(self, payload: bytes) -> None:
        self._transport.send(self._session.seal(payload)[1], self._contact.address)

    def _receive_leanly(self, datagram: bytes) -> None:
        data = packet.parse(datagram)
        if not isinstance(data, packet.Data):
            return  # of others in the network
        session = self._session
        if data.sid != session.local_sid:
            return
        rid, message = decode_message(session.open(data, now=0.0))
        if isinstance(message, Request):
            asker = Asker(self._contact, server=True, confirmed=True)
            reply = partial(self._reply_leanly, rid)
            self._listener.serve(asker, message, reply)
        elif (on_done := self._waiting.pop(rid, None)) is not None:
            on_done(message)

    def _reply_leanly(self, rid: int, response: Response) -> None:
        self._transmit(encode_response(rid, response))
