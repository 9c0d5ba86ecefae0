"""Who a node is: a canonical Ed25519 key pair, the ID that follows from it, and its signed card.

Half of all key pairs are canonical (`curve`), one in 2^puzzle_bits of those solves the puzzle, so
an identity is searched for (`Identity.attempts`). A node card is how a node states its own
addresses and capabilities, signed. Where keys are kept on disk is the daemon's business.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from kademlia_node.core.contact import Address, Contact, pack_address, unpack_address
from kademlia_node.core.ids import node_id, solves_puzzle
from kademlia_node.core.network import Network
from kademlia_node.core.suite import STANDARD, AgreementKey, SigningKey, Suite
from kademlia_node.errors import ForgedPacket, MalformedMessage
from kademlia_node.settings import CARD_ADDRESSES_MAX, PROTOCOL_VERSION

SEED_BYTES = 32
SIGNATURE_BYTES = 64


class Identity:
    """A key pair and its node ID. The repr shows the ID only."""

    def __init__(self, seed: bytes, *, suite: Suite = STANDARD) -> None:
        """Take a 32-byte seed; raises ValueError when its public key is not canonical."""
        key = suite.signing_key(seed)
        if key is None:
            raise ValueError("the seed's public key is not canonical")
        self._key: SigningKey = key
        self.seed = seed
        self.suite = suite
        self.public_key = key.public_key
        self.id = node_id(key.public_key)

    @classmethod
    def attempts(
        cls, rng: random.Random, *, puzzle_bits: int = 0, suite: Suite = STANDARD
    ) -> Iterator[Identity | None]:
        """Search without end: None for each failed attempt (40 us), an Identity for a find."""
        while True:
            seed = rng.randbytes(SEED_BYTES)
            key = suite.signing_key(seed)
            good = key is not None and solves_puzzle(node_id(key.public_key), bits=puzzle_bits)
            yield cls(seed, suite=suite) if good else None

    @classmethod
    def generate(
        cls, rng: random.Random, *, puzzle_bits: int = 0, suite: Suite = STANDARD
    ) -> Identity:
        """A fresh identity that solves the puzzle: about 2^puzzle_bits x 80 us of work."""
        return next(
            found for found in cls.attempts(rng, puzzle_bits=puzzle_bits, suite=suite) if found
        )

    @classmethod
    def commons(cls, network: Network, *, suite: Suite = STANDARD) -> Identity:
        """The author that every member of a private network may write as."""
        seeds = (network.commons_seed(attempt) for attempt in range(256))
        return next(cls(seed, suite=suite) for seed in seeds if suite.signing_key(seed))

    @property
    def signing(self) -> SigningKey:
        """The key pair that signs records and cards."""
        return self._key

    @property
    def agreement(self) -> AgreementKey:
        """The same secret for handshakes."""
        return self._key.agreement

    def __repr__(self) -> str:
        return f"Identity({self.id.hex()[:8]})"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a node can do, told in every handshake: 32 bits on the wire.

    Bit 0 is `server`; bits 16-23 are proto_min and 24-31 proto_max; other bits are 0 when sent and
    ignored when received.
    """

    server: bool
    proto_min: int = PROTOCOL_VERSION
    proto_max: int = PROTOCOL_VERSION

    def pack(self) -> int:
        """The 32-bit form."""
        return self.proto_max << 24 | self.proto_min << 16 | self.server

    @classmethod
    @lru_cache(maxsize=64)  # all nodes of one version say the same
    def unpack(cls, bits: int) -> Capabilities:
        """Read the 32-bit form; raises MalformedMessage for a larger number."""
        if not 0 <= bits < 1 << 32:
            raise MalformedMessage("capabilities are 32 bits")
        return cls(bool(bits & 1), bits >> 16 & 0xFF, bits >> 24)

    @property
    def speaks_ours(self) -> bool:
        """Whether the node speaks this version of the protocol."""
        return self.proto_min <= PROTOCOL_VERSION <= self.proto_max


_CARD = struct.Struct(">32sIQQB")


@dataclass(frozen=True, slots=True)
class NodeCard:
    """A node's own signed statement of where it is. `expires` is in seconds since 1970."""

    public_key: bytes
    addresses: tuple[Address, ...]
    capabilities: Capabilities
    seq: int
    expires: int
    signature: bytes

    @property
    def contacts(self) -> list[Contact]:
        """The node at each of its addresses."""
        return [Contact(self.public_key, address) for address in self.addresses]

    def body(self) -> bytes:
        """Everything but the signature, as it is signed and sent; big-endian."""
        packed = [pack_address(address) for address in self.addresses]
        caps = self.capabilities.pack()
        head = _CARD.pack(self.public_key, caps, self.seq, self.expires, len(packed))
        return head + b"".join(bytes([len(one)]) + one for one in packed)

    def pack(self) -> bytes:
        """Body, then the 64-byte signature."""
        return self.body() + self.signature


def sign_card(
    identity: Identity,
    addresses: tuple[Address, ...],
    *,
    capabilities: Capabilities,
    seq: int,
    expires: int,
    network: Network,
) -> NodeCard:
    """State and sign where `identity` is to be found (at most 4 addresses)."""
    assert len(addresses) <= CARD_ADDRESSES_MAX
    bare = NodeCard(identity.public_key, addresses, capabilities, seq, expires, b"")
    signature = identity.signing.sign(b"kad1-card" + network.tag + bare.body())
    return NodeCard(identity.public_key, addresses, capabilities, seq, expires, signature)


def unpack_card(packed: bytes) -> NodeCard:
    """Read a card, without checking the signature; raises MalformedMessage."""
    if len(packed) < _CARD.size + SIGNATURE_BYTES:
        raise MalformedMessage("a truncated card")
    public_key, caps, seq, expires, count = _CARD.unpack_from(packed)
    rest = packed[_CARD.size : -SIGNATURE_BYTES]
    if count > CARD_ADDRESSES_MAX:
        raise MalformedMessage("too many addresses on a card")
    addresses = []
    for _ in range(count):
        size = rest[0] if rest else 0
        addresses.append(unpack_address(rest[1 : 1 + size]))
        rest = rest[1 + size :]
    if rest:
        raise MalformedMessage("bytes left over on a card")
    capabilities = Capabilities.unpack(caps)
    return NodeCard(
        public_key, tuple(addresses), capabilities, seq, expires, packed[-SIGNATURE_BYTES:]
    )


def verify_card(packed: bytes, *, wall: float, network: Network, suite: Suite) -> NodeCard:
    """Read a card and check that its owner signed it for this network and it has not expired.

    Raises:
        MalformedMessage: the bytes are no card.
        ForgedPacket: the key is refused, the signature is another's, or the card has expired.
    """
    card = unpack_card(packed)
    suite.to_agreement(card.public_key)
    signed = b"kad1-card" + network.tag + packed[:-SIGNATURE_BYTES]
    if card.expires <= wall:
        raise ForgedPacket("an expired card")
    if not suite.verify(card.public_key, card.signature, signed):
        raise ForgedPacket("a forged card")
    return card
