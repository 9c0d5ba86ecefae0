"""Two parties that meet: what the tests of handshakes and sizes begin with."""

from __future__ import annotations

from random import Random

from kademlia_node.core import packet
from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.handshake import Admitted, Doorkeeper, Opening
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.message import Ping, Request
from kademlia_node.core.network import Network
from kademlia_node.core.suite import STANDARD, Suite
from kademlia_node.settings import Settings

NETWORK = Network.open("tests", puzzle_bits=0)
CLIENT = Capabilities(server=False)
SERVER = Capabilities(server=True)
ALICE_AT = Address("192.0.2.1", 4001)
BOB_AT = Address("198.51.100.2", 4002)
RID = 7


def identity(number: int, suite: Suite = STANDARD) -> Identity:
    return Identity.generate(Random(number), suite=suite)


def call(
    caller: Identity,
    callee: Identity,
    *,
    network: Network = NETWORK,
    capabilities: Capabilities = CLIENT,
    ts_us: int = 1,
    rid: int = RID,
    request: Request = Ping(),  # noqa: B008 - frozen
) -> Opening:
    """A handshake that `caller` begins with `callee`, at BOB_AT."""
    return Opening(
        Contact(callee.public_key, BOB_AT),
        identity=caller,
        network=network,
        capabilities=capabilities,
        ts_us=ts_us,
        rid=rid,
        request=request,
        rng=Random(ts_us),
    )


def door(
    callee: Identity, *, network: Network = NETWORK, settings: Settings | None = None
) -> Doorkeeper:
    return Doorkeeper(callee, network=network, settings=settings or Settings(), rng=Random(99))


def parsed_init(datagram: bytes) -> packet.Init:
    init = packet.parse(datagram)
    assert isinstance(init, packet.Init)
    return init


def parsed_resp(datagram: bytes) -> packet.Resp:
    resp = packet.parse(datagram)
    assert isinstance(resp, packet.Resp)
    return resp


def parsed_data(datagram: bytes) -> packet.Data:
    data = packet.parse(datagram)
    assert isinstance(data, packet.Data)
    return data


def admitted(
    doorkeeper: Doorkeeper, datagram: bytes, *, source: Address = ALICE_AT, now: float = 0.0
) -> Admitted:
    """The verdict on an INIT that is let in."""
    verdict = doorkeeper.consider(parsed_init(datagram), source, now=now)
    assert isinstance(verdict, Admitted), verdict
    return verdict


def retried(
    doorkeeper: Doorkeeper, datagram: bytes, *, source: Address = ALICE_AT, now: float = 0.0
) -> packet.Retry:
    """The verdict on an INIT whose sender must first prove its address."""
    verdict = doorkeeper.consider(parsed_init(datagram), source, now=now)
    assert isinstance(verdict, packet.Retry), verdict
    return verdict
