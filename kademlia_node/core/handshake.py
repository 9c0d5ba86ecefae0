"""Both sides of getting acquainted: INIT, RETRY and RESP, with everything that may refuse.

`Opening` is the initiator's half: made for one contact, it gives the INIT and reads the RESP.
`Doorkeeper` is the responder's: it looks at an INIT in the order of cost (size, mac1, cookie,
gates, and only then Diffie-Hellman) and says what to do. Repeats and time-outs are
`net.exchange`'s.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto

from kademlia_node.core import codec, noise, packet
from kademlia_node.core.contact import Address, Contact, contact_at, is_local, pack_address, prefix
from kademlia_node.core.identity import Capabilities, Identity
from kademlia_node.core.ids import solves_puzzle
from kademlia_node.core.limiter import KeyedLimiter, TokenBucket
from kademlia_node.core.message import Refused, Request, Response
from kademlia_node.core.network import Network, is_mac, mac
from kademlia_node.core.session import Session
from kademlia_node.errors import ForgedPacket, MalformedMessage
from kademlia_node.rare import Rare, sometimes
from kademlia_node.settings import Settings

PREFIXES_MAX = 4096  # prefixes whose handshake rate is remembered


@dataclass(frozen=True, slots=True)
class Opened:
    """What a RESP brought: the session, our address as the peer sees it, and its first answer."""

    session: Session
    seen: Address
    rid: int
    response: Response


class Opening:
    """A handshake that we began. `packet` is the INIT to send, the same bytes each time."""

    def __init__(
        self,
        contact: Contact,
        *,
        identity: Identity,
        network: Network,
        capabilities: Capabilities,
        ts_us: int,
        rid: int,
        request: Request,
        rng: random.Random,
    ) -> None:
        """Prepare the INIT with `request` inside; raises ForgedPacket for a refused public key."""
        self._contact = contact
        self._suite = identity.suite
        self._puzzle_bits = network.puzzle_bits
        self._mac1_key = network.mac1_key(contact.public_key)
        self.sid = rng.randbytes(packet.SID_BYTES)
        self._noise = noise.Initiation(
            self._suite,
            static=identity.agreement,
            ephemeral=self._suite.agreement_key(rng.randbytes(32)),
            remote_static=self._suite.to_agreement(contact.public_key),
            prologue=network.prologue + self.sid,
        )
        payload = codec.encode_opening(ts_us, capabilities, rid=rid, request=request)
        self._message = self._noise.write(payload.ljust(packet.OPENING_BYTES_MIN, b"\0"))
        self.packet = packet.pack_init(self.sid, self._message, mac1_key=self._mac1_key)

    def take_cookie(self, cookie: bytes) -> None:
        """Put the cookie of a RETRY into `packet`; everything else stays as it was."""
        self.packet = packet.pack_init(
            self.sid, self._message, mac1_key=self._mac1_key, cookie=cookie
        )

    def read(self, resp: packet.Resp, *, now: float) -> Opened:
        """Read the answer.

        Raises:
            ForgedPacket: not from the holder of the key we called.
            MalformedMessage: from it, but no sense.
        """
        payload, keys = self._noise.read(resp.message)
        remote_sid, reply = payload[: packet.SID_BYTES], payload[packet.SID_BYTES :]
        seen, capabilities, rid, response = codec.decode_reply(reply)
        if not capabilities.speaks_ours:
            raise MalformedMessage("the peer speaks another version")
        if capabilities.server and not solves_puzzle(self._contact.id, bits=self._puzzle_bits):
            raise ForgedPacket("a server whose ID does not solve the puzzle")
        session = Session(
            self._contact,
            local_sid=self.sid,
            remote_sid=remote_sid,
            keys=keys,
            suite=self._suite,
            initiated=True,
            capabilities=capabilities,
            now=now,
        )
        return Opened(session, seen, rid, response)


class CookieJar:
    """Stateless proofs of address: MAC(secret, ip, port), with a secret that rotates."""

    def __init__(self, rng: random.Random, *, epoch_s: float) -> None:
        self._rng = rng
        self._epoch_s = epoch_s
        self._secrets = (rng.randbytes(32), rng.randbytes(32))  # this epoch's and the one before
        self._epoch = 0

    def mint(self, address: Address, *, now: float) -> bytes:
        """16 bytes that only someone who receives at `address` learns."""
        self._rotate(now)
        return mac(self._secrets[0], pack_address(address))

    def accepts(self, cookie: bytes, address: Address, *, now: float) -> bool:
        """Whether the cookie was minted for this address in this epoch or the one before."""
        if cookie == packet.NO_COOKIE:
            return False
        self._rotate(now)
        packed = pack_address(address)
        return any(is_mac(cookie, key=secret, message=packed) for secret in self._secrets)

    def _rotate(self, now: float) -> None:
        epoch = int(now // self._epoch_s)
        if epoch == self._epoch:
            return
        last = self._secrets[0] if epoch == self._epoch + 1 else self._rng.randbytes(32)
        self._secrets = (self._rng.randbytes(32), last)
        self._epoch = epoch


class Drop(Enum):
    """Why an INIT was met with silence."""

    STRANGER = auto()  # mac1: not for us, or not of our network
    FORGED = auto()  # Noise authentication, or a refused key
    MALFORMED = auto()  # an opening that makes no sense
    PUZZLE = auto()  # a server whose ID does not solve the puzzle
    VERSION = auto()  # speaks another version of the protocol
    OURSELF = auto()  # our own key


@dataclass(frozen=True, slots=True)
class Admitted:
    """An INIT worth answering: who asks what. Pass it to `Doorkeeper.answer` with the response."""

    contact: Contact
    capabilities: Capabilities
    rid: int
    request: Request | Refused  # the latter: what we cannot carry out, and why
    sid: bytes
    noise: noise.Response


class Doorkeeper:
    """Decides about every INIT that reaches us, and answers the admitted."""

    def __init__(
        self, identity: Identity, *, network: Network, settings: Settings, rng: random.Random
    ) -> None:
        self._identity = identity
        self._network = network
        self._settings = settings
        self._rng = rng
        self._mac1_key = network.mac1_key(identity.public_key)
        self._cookies = CookieJar(rng, epoch_s=settings.cookie_epoch_s)
        self._gates = {validated: self._gate() for validated in (False, True)}
        self._last_ts: OrderedDict[bytes, int] = OrderedDict()

    def _gate(self) -> tuple[TokenBucket, KeyedLimiter]:
        rate, each = self._settings.handshakes_per_s, self._settings.handshakes_per_prefix_per_s
        return TokenBucket(rate, rate), KeyedLimiter(each, each, keys_max=PREFIXES_MAX)

    def consider(
        self, init: packet.Init, source: Address, *, now: float
    ) -> Admitted | packet.Retry | Drop:
        """Judge an INIT from `source`: admit it, have it prove its address, or be silent."""
        if not is_mac(init.mac1, key=self._mac1_key, message=init.covered):
            return Drop.STRANGER
        validated = self._cookies.accepts(init.cookie, source, now=now)
        if not self._passes_gate(source, validated=validated, now=now):
            sometimes(Rare.COOKIE_DEMANDED)
            return packet.Retry(init.sid, self._cookies.mint(source, now=now))
        handshake = noise.Response(
            self._identity.suite,
            static=self._identity.agreement,
            prologue=self._network.prologue + init.sid,
        )
        try:
            payload = handshake.read(init.message)
            public_key = self._identity.suite.to_signing(handshake.remote_static)
        except ForgedPacket:
            return Drop.FORGED
        try:
            ts_us, capabilities, rid, request = codec.decode_opening(payload)
        except MalformedMessage:
            return Drop.MALFORMED
        if not capabilities.speaks_ours:
            return Drop.VERSION
        contact = contact_at(public_key, source)
        if contact.id == self._identity.id:
            return Drop.OURSELF
        if capabilities.server and not solves_puzzle(contact.id, bits=self._network.puzzle_bits):
            return Drop.PUZZLE
        if not self._is_fresh(public_key, ts_us) and not validated:
            sometimes(Rare.INIT_STALE)
            return packet.Retry(init.sid, self._cookies.mint(source, now=now))
        self._remember(public_key, ts_us)
        return Admitted(contact, capabilities, rid, request, init.sid, handshake)

    def answer(
        self, admitted: Admitted, response: Response, *, capabilities: Capabilities, now: float
    ) -> tuple[bytes, Session]:
        """The RESP that carries `response`, and the half-open session that it begins."""
        reply = codec.encode_reply(
            admitted.contact.address, capabilities, rid=admitted.rid, response=response
        )
        ephemeral = self._identity.suite.agreement_key(self._rng.randbytes(32))
        local_sid = self._rng.randbytes(packet.SID_BYTES)
        message, keys = admitted.noise.write(local_sid + reply, ephemeral=ephemeral)
        session = Session(
            admitted.contact,
            local_sid=local_sid,
            remote_sid=admitted.sid,
            keys=keys,
            suite=self._identity.suite,
            initiated=False,
            capabilities=admitted.capabilities,
            now=now,
        )
        return packet.pack_resp(admitted.sid, message), session

    def _passes_gate(self, source: Address, *, validated: bool, now: float) -> bool:
        """Validated sources have gates of their own: a spoofed prefix locks nobody out."""
        everyone, per_prefix = self._gates[validated]
        if not is_local(source.host) and not per_prefix.take(prefix(source.host), now=now):
            return False
        return everyone.take(now)

    def _is_fresh(self, public_key: bytes, ts_us: int) -> bool:
        return ts_us > self._last_ts.get(public_key, -1)

    def _remember(self, public_key: bytes, ts_us: int) -> None:
        """A replayed INIT never lowers what we remember."""
        self._last_ts[public_key] = max(ts_us, self._last_ts.pop(public_key, 0))
        if len(self._last_ts) > self._settings.init_timestamps_max:
            self._last_ts.popitem(last=False)
