"""What cryptography costs a peer: datagrams sealed and opened, handshakes, signatures.

A datagram is opened as a receiver does it: parsed, checked against replays, decrypted. A handshake
is all that both sides do, from the INIT that is made to the session that the initiator has, with
a PING inside; the limit on handshakes from one subnet and in all is lifted for it by `Settings`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Final

from kademlia_node.core import packet
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.handshake import Admitted, Doorkeeper, Opening
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.message import Ping, Pong
from kademlia_node.core.network import Network
from kademlia_node.core.session import Session
from kademlia_node.core.suite import STANDARD
from kademlia_node.settings import Settings
from scripts.benchmarks.timing import Figures, Pace, microseconds, same

NETWORK: Final = Network.open("a benchmark", puzzle_bits=0)
UNLIMITED: Final = Settings(handshakes_per_s=1e9, handshakes_per_prefix_per_s=1e9)
SERVER: Final = Capabilities(server=True)
ALICE_AT, BOB_AT = Address("192.0.2.1", 4001), Address("198.51.100.2", 4002)
PAYLOADS_BYTES: Final = (64, 400, 1000)
SIGNED_BYTES: Final = 161  # what an author signs for a record, whatever its value


class _Pair:
    """Alice calls Bob, any number of times."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._alice, self._bob = Identity.generate(rng), Identity.generate(rng)
        self._door = Doorkeeper(self._bob, network=NETWORK, settings=UNLIMITED, rng=rng)
        self._ts_us = count(1)

    def shake(self) -> tuple[Session, Session]:
        """One handshake: the session as Alice has it, and as Bob has it."""
        opening = Opening(
            Contact(self._bob.public_key, BOB_AT),
            identity=self._alice,
            network=NETWORK,
            capabilities=SERVER,
            ts_us=next(self._ts_us),
            rid=1,
            request=Ping(),
            rng=self._rng,
        )
        init = packet.parse(opening.packet)
        assert isinstance(init, packet.Init)
        admitted = self._door.consider(init, ALICE_AT, now=0.0)
        assert isinstance(admitted, Admitted)
        datagram, theirs = self._door.answer(admitted, Pong(), capabilities=SERVER, now=0.0)
        resp = packet.parse(datagram)
        assert isinstance(resp, packet.Resp)
        return opening.read(resp, now=0.0).session, theirs


def measure_session(pace: Pace) -> Figures:
    """Microseconds of each."""
    rng = random.Random(1)
    pair, figures = _Pair(rng), Figures()
    for size in PAYLOADS_BYTES:
        figures |= _sealing(*pair.shake(), rng.randbytes(size), pace=pace)
    figures["handshake"] = microseconds(lambda _: pair.shake(), same(None), pace=pace)
    return figures | _signing(Identity.generate(rng), rng.randbytes(SIGNED_BYTES), pace=pace)


def _sealing(sender: Session, receiver: Session, payload: bytes, *, pace: Pace) -> Figures:
    size = len(payload)
    assert _opened(receiver, _sealed(sender, payload)) == payload

    def sealed(count: int) -> Sequence[bytes]:
        return [_sealed(sender, payload) for _ in range(count)]

    def both(one: bytes) -> bytes:
        return _opened(receiver, _sealed(sender, one))

    return {
        f"seal_{size}": microseconds(sender.seal, same(payload), pace=pace),
        f"open_{size}": microseconds(partial(_opened, receiver), sealed, pace=pace),
        f"seal_open_{size}": microseconds(both, same(payload), pace=pace),
    }


def _sealed(sender: Session, payload: bytes) -> bytes:
    return sender.seal(payload)[1]


def _opened(receiver: Session, datagram: bytes) -> bytes:
    data = packet.parse(datagram)
    assert isinstance(data, packet.Data)
    return receiver.open(data, now=0.0)


def _signing(author: Identity, message: bytes, *, pace: Pace) -> Figures:
    signature = author.signing.sign(message)
    verify = partial(STANDARD.verify, author.public_key, signature)
    assert verify(message)
    return {
        "sign": microseconds(author.signing.sign, same(message), pace=pace),
        "verify": microseconds(verify, same(message), pace=pace),
    }
