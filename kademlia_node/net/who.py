"""Asking a bare `host:port` for its public key (WHO / IAM): trust on first use, as with SSH.

On an open network anyone on the way can answer; on a private one only members can.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial

from kademlia_node.core import packet
from kademlia_node.core.contact import Address
from kademlia_node.core.network import Network
from kademlia_node.errors import NoAnswer
from kademlia_node.net.attempts import Attempt, Attempts
from kademlia_node.settings import Settings


class Introductions:
    """Both sides of WHO."""

    def __init__(
        self,
        public_key: bytes,
        *,
        network: Network,
        attempts: Attempts,
        settings: Settings,
        rng: random.Random,
        transmit: Callable[[bytes, Address], None],
    ) -> None:
        self._public_key = public_key
        self._who_key = network.who_key
        self._attempts = attempts
        self._settings = settings
        self._rng = rng
        self._transmit = transmit
        self._asked: dict[tuple[bytes, Address], asyncio.Future[bytes]] = {}
        self._is_closed = False

    async def ask(self, address: Address, *, now: float) -> bytes:
        """The public key that answers at an address; raises NoAnswer."""
        if self._is_closed:
            raise NoAnswer("we have stopped asking")
        nonce = self._rng.randbytes(packet.NONCE_BYTES)
        who = packet.pack_who(nonce, who_key=self._who_key)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        attempt = Attempt(
            transmit=partial(self._transmit, who, address),
            give_up=partial(_fail, answer, address),
            on_slow=None,
            sends=self._settings.sends_max,
            rto_s=self._settings.rto_initial_s,
            slow_s=0.0,
            timeout_s=self._settings.timeout_s,
        )
        self._asked[nonce, address] = answer
        self._attempts.start(attempt, now=now)
        try:
            return await answer
        finally:
            self._attempts.stop(attempt)
            del self._asked[nonce, address]

    def close(self) -> None:
        """Nobody will answer any more."""
        self._is_closed = True
        for (_, address), answer in self._asked.items():
            _fail(answer, address)

    def on_who(self, who: packet.Who, source: Address) -> None:
        """Answer a member of our network; strangers meet silence."""
        if packet.who_is_authentic(who, who_key=self._who_key):
            self._transmit(
                packet.pack_iam(who.nonce, self._public_key, who_key=self._who_key), source
            )

    def on_iam(self, iam: packet.Iam, source: Address) -> None:
        """Take an answer that we asked for."""
        answer = self._asked.get((iam.nonce, source))
        if (
            answer is not None
            and not answer.done()
            and packet.iam_is_authentic(iam, who_key=self._who_key)
        ):
            answer.set_result(iam.public_key)


def _fail(answer: asyncio.Future[bytes], address: Address) -> None:
    if not answer.done():
        answer.set_exception(NoAnswer(f"nobody answers at {address}"))
