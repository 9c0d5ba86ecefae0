"""The generated parts of docs/PROTOCOL.md: limits read from the code, examples made by it.

`python -m tests.protocol.examples` writes them anew. Everything is fixed: keys, clock and chance.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
import textwrap
from itertools import groupby
from pathlib import Path
from types import ModuleType

from kademlia_node import settings
from kademlia_node.core import body, codec, handshake, lookup, message, packet, replica, session
from kademlia_node.core.beacon import SERVICE, make_beacon
from kademlia_node.core.contact import Address, Contact, pack_address
from kademlia_node.core.digest import Trie, versions_digest
from kademlia_node.core.handshake import Admitted, Doorkeeper, Opening
from kademlia_node.core.identity import Capabilities, Identity, sign_card
from kademlia_node.core.invite import Invite
from kademlia_node.core.key import Key, Kind, topic_key
from kademlia_node.core.manifest import Manifest, Piece
from kademlia_node.core.message import (
    Chunk,
    Chunked,
    Digest,
    Digests,
    ErrorCode,
    FindNode,
    FindValue,
    Identified,
    Identify,
    Item,
    Leaving,
    Left,
    Nodes,
    Notified,
    Notify,
    Ping,
    Pong,
    Probe,
    Probed,
    Refused,
    Request,
    Response,
    Snapshot,
    Store,
    Stored,
    StoreStatus,
    Values,
    Watch,
    Watched,
)
from kademlia_node.core.network import Network
from kademlia_node.core.record import Reason, Record, make_blob, make_entry, make_topic_entry
from kademlia_node.core.snapshot import Paginator
from kademlia_node.core.suite import STANDARD
from kademlia_node.net import dial, exchange
from kademlia_node.node import state, write
from kademlia_node.settings import Settings
from tests.protocol.second_implementation import read_handshake

DOCUMENT = Path(__file__).parents[2] / "docs" / "PROTOCOL.md"
COMMAND = "python -m tests.protocol.examples"
Section = dict[str, str | bytes]

# --- The examples, made by our code ---------------------------------------------------------------

WALL = 1_700_000_000
OPEN = Network.open()
PRIVATE = Network.private(bytes(range(32)))
ALICE = Identity((1).to_bytes(32, "big"))  # the smallest number with a canonical key
BOB = Identity((57870).to_bytes(32, "big"))  # the smallest that solves the puzzle, too
ALICE_AT, BOB_AT = Address("192.0.2.1", 4001), Address("198.51.100.2", 4002)
CLIENT, SERVER = Capabilities(server=False), Capabilities(server=True)
EPHEMERAL_A, EPHEMERAL_B = bytes([0xA1] * 32), bytes([0xB2] * 32)
SID_A, SID_B, NONCE = b"session1", b"session2", b"nonce..8"
LINK_NONCE = bytes([0xD5] * 16)
COOKIE_SECRETS = (bytes([0xC3] * 32), bytes([0xC4] * 32))


class Scripted(random.Random):
    """Chance whose outcomes were fixed beforehand."""

    def __init__(self, draws: tuple[bytes, ...]) -> None:
        super().__init__(0)
        self._draws = list(draws)

    def randbytes(self, n: int) -> bytes:
        drawn = self._draws.pop(0)
        assert len(drawn) == n
        return drawn


NAMED = (
    Contact(BOB.public_key, BOB_AT),
    Contact(ALICE.public_key, Address("2001:db8::1", 4003)),
)
ENTRY = make_entry(
    ALICE.signing,
    b"colour",
    value=b"blue",
    seq=WALL * 1_000_000,
    expires=WALL + settings.EXPIRY_DEFAULT_S,
    network_tag=OPEN.tag,
)
BLOB = make_blob(b"hello", expires=WALL + settings.EXPIRY_DEFAULT_S)
LARGE_BLOB = make_blob(b"large" * 500, expires=WALL + settings.EXPIRY_DEFAULT_S)
TOPIC = topic_key(b"rendezvous").digest


def announced(slot: bytes, value: bytes) -> Record:
    return make_topic_entry(
        ALICE.signing,
        TOPIC,
        slot=slot,
        value=value,
        seq=WALL * 1_000_000,
        expires=WALL + settings.EXPIRY_DEFAULT_S,
        network_tag=OPEN.tag,
    )


def page_of(*records: Record) -> bytes:
    """The page of a topic so small that it has no other."""
    paginator = Paginator()
    assert not any(paginator.add(record) for record in records)
    return paginator.finish() or b""


def held(*records: Record) -> Trie:
    """The digests of what is held; records of one key are neighbours."""
    trie = Trie()
    for key, under in groupby(records, key=lambda record: record.key):
        trie.set(key, versions_digest(record.header for record in under))
    return trie


ANNOUNCED = announced(b"long", b"there" * 200), announced(b"short", b"here")
BYTES = [make_blob(bytes([n]), expires=WALL) for n in range(256)]
PAGE = page_of(*ANNOUNCED)
MANIFEST = Manifest((Piece(hashlib.sha256(PAGE).digest(), len(PAGE)),))
SNAPSHOT = Snapshot(MANIFEST.hash, len(MANIFEST.pack()))
CARD = sign_card(
    BOB,
    (BOB_AT,),
    capabilities=SERVER,
    seq=WALL * 1_000_000,
    expires=WALL + settings.EXPIRY_DEFAULT_S,
    network=OPEN,
).pack()
ASKED, ANSWERED = FindNode(ENTRY.key), Nodes(NAMED[:1])
STORE, STORED = Store(ENTRY.key, ENTRY.header, ENTRY.value), Stored(StoreStatus.OK)
MESSAGES: dict[str, Request | Response] = {
    "PING": Ping(),
    "PING.answer": Pong(),
    "IDENTIFY": Identify(),
    "IDENTIFY.answer": Identified(CARD),
    "FIND_NODE": ASKED,
    "FIND_NODE.answer": Nodes(NAMED),
    "FIND_VALUE": FindValue(ENTRY.key),
    "FIND_VALUE.known": FindValue(TOPIC, SNAPSHOT.hash),
    "FIND_VALUE.answer": Values(NAMED, 1, None, (Item(ENTRY.header, ENTRY.value),)),
    "FIND_VALUE.nothing": Values(NAMED, 0, None, ()),
    "FIND_VALUE.same": Values(NAMED, 2, SNAPSHOT, ()),
    "FIND_VALUE.large": Values(NAMED, 1, None, (Item(LARGE_BLOB.header, None),)),
    "STORE": STORE,
    "STORE.expect": Store(ENTRY.key, ENTRY.header, ENTRY.value, expect_seq=0),
    "STORE.blob": Store(BLOB.key, BLOB.header, BLOB.value),
    "STORE.offer": Store(LARGE_BLOB.key, LARGE_BLOB.header, None),
    "STORE.answer": STORED,
    "STORE.need": Stored(StoreStatus.NEED, None, NAMED),
    "STORE.bad": Stored(StoreStatus.BAD, reason=Reason.WRONG_KEY),
    "STORE.too_far": Stored(StoreStatus.TOO_FAR, None, NAMED),
    "STORE.old": Stored(StoreStatus.OLD, ENTRY.header, NAMED[:1]),
    "PROBE": Probe(),
    "PROBE.other": Probe(NAMED[0]),
    "PROBE.answer": Probed(accepted=True),
    "CHUNK": Chunk(SNAPSHOT.hash, 0),
    "CHUNK.answer": Chunked(MANIFEST.pack()),
    "CHUNK.lacking": Chunked(None),
    "DIGEST": Digest(""),
    "DIGEST.listed": held(ENTRY, BLOB, *ANNOUNCED).summary(""),
    "DIGEST.branch": held(*BYTES).summary(""),
    "DIGEST.deeper": Digest("b12"),
    "DIGEST.nothing": Digests(0),
    "LEAVING": Leaving(),
    "LEAVING.answer": Left(),
    "WATCH": Watch(TOPIC),
    "WATCH.answer": Watched(300, bytes.fromhex("0011223344556677")),
    "WATCH.no": Watched(0),
    "NOTIFY": Notify(ENTRY.key, ENTRY.header, ENTRY.value),
    "NOTIFY.long": Notify(LARGE_BLOB.key, LARGE_BLOB.header, None),
    "NOTIFY.answer": Notified(wanted=True),
    "error": Refused(ErrorCode.BUSY, "too many requests"),
}


def call(settings_of_bob: Settings) -> tuple[Opening, Doorkeeper, Admitted | packet.Retry]:
    """Alice calls Bob; what Bob makes of her INIT."""
    opening = Opening(
        Contact(BOB.public_key, BOB_AT),
        identity=ALICE,
        network=OPEN,
        capabilities=CLIENT,
        ts_us=WALL * 1_000_000,
        rid=7,
        request=ASKED,
        rng=Scripted((SID_A, EPHEMERAL_A)),
    )
    rng = Scripted((*COOKIE_SECRETS, EPHEMERAL_B, SID_B))
    bob = Doorkeeper(BOB, network=OPEN, settings=settings_of_bob, rng=rng)
    parsed = packet.parse(opening.packet)
    assert isinstance(parsed, packet.Init)
    verdict = bob.consider(parsed, ALICE_AT, now=0.0)
    assert not isinstance(verdict, handshake.Drop)
    return opening, bob, verdict


def fields(datagram: bytes, **sizes: int) -> Section:
    """A packet cut into fields; a size of 0 takes what the later ones leave."""
    rest = len(datagram) - sum(sizes.values())
    section: Section = {}
    for name, size in sizes.items():
        section[name] = datagram[: size or rest]
        datagram = datagram[size or rest :]
    return section


def packets() -> dict[str, Section]:
    _, _, refusal = call(Settings(handshakes_per_s=0.0))
    assert isinstance(refusal, packet.Retry)
    opening, bob, admitted = call(Settings())
    assert isinstance(admitted, Admitted)
    resp, at_bob = bob.answer(admitted, ANSWERED, capabilities=SERVER, now=0.0)
    parsed = packet.parse(resp)
    assert isinstance(parsed, packet.Resp)
    at_alice = opening.read(parsed, now=0.0).session
    init = fields(
        opening.packet, type=1, sid_A=8, e_A=32, enc_s_A=48, enc_opening=0, mac1=16, cookie=16
    )
    data = {"type": 1, "sid": 8, "counter": 8, "enc_payload": 0}
    return {
        "INIT": init,
        "RETRY": fields(packet.pack_retry(refusal.sid, refusal.cookie), type=1, sid_A=8, cookie=16),
        "RESP": fields(resp, type=1, sid_A=8, e_B=32, enc_sid_B_and_reply=0),
        "handshake": dict(
            read_handshake(
                opening.packet,
                resp,
                prologue=OPEN.prologue,
                seeds=(ALICE.seed, BOB.seed),
                ephemeral_a=EPHEMERAL_A,
            )
        ),
        "DATA.store": fields(at_alice.seal(codec.encode_request(8, STORE))[1], **data),
        "DATA.answer": fields(at_bob.seal(codec.encode_response(8, STORED))[1], **data),
        "DATA.confirm": fields(at_alice.seal(b"")[1], **data),
        "RESET": fields(packet.pack_reset(SID_B, 1), type=1, sid=8, counter=8),
        "WHO": fields(
            packet.pack_who(NONCE, who_key=OPEN.who_key), type=1, nonce=8, mac=16, zeros=0
        ),
        "IAM": fields(
            packet.pack_iam(NONCE, BOB.public_key, who_key=OPEN.who_key),
            type=1,
            nonce=8,
            public_key=32,
            mac=16,
        ),
    }


def network(agreed: Network) -> Section:
    secret = agreed.secret
    section: Section = {"name": agreed.name} | ({"secret": secret} if secret else {})
    section |= {"tag": agreed.tag, "key": agreed.key, "prologue": agreed.prologue}
    section |= {"who_key": agreed.who_key, "mac1_key_of_bob": agreed.mac1_key(BOB.public_key)}
    section["link_key"] = agreed.link_key(LINK_NONCE)
    if secret:
        commons = Identity.commons(agreed)
        section |= {"commons_seed": commons.seed, "commons_public_key": commons.public_key}
    return section


def party(who: Identity, address: Address, ephemeral: bytes) -> Section:
    return {
        "seed": who.seed,
        "public_key": who.public_key,
        "s": who.agreement.public,
        "node_id": who.id,
        "sha256_of_node_id": hashlib.sha256(who.id).digest(),
        "address": str(address),
        "packed_address": pack_address(address),
        "invite": str(Invite(who.public_key, address.host, address.port)),
        "ephemeral_private": ephemeral,
    }


def beacon() -> Section:
    """What BOB shows on a link of the private network."""
    rng, port = Scripted((LINK_NONCE,)), BOB_AT.port
    shown = make_beacon(BOB.public_key, port, network=PRIVATE, suite=STANDARD, rng=rng)
    return {
        "label": bytes.fromhex(shown.label),
        "instance": f"{shown.label}.{SERVICE}",
        "port": str(shown.port),
        "sealed": shown.sealed,
    }


def examples() -> dict[str, Section]:
    """Every section of the block of examples: its fields in order, bytes or text."""
    messages: Section = {
        name: codec.encode_request(8, message)
        if isinstance(message, Request)
        else codec.encode_response(8, message)
        for name, message in MESSAGES.items()
    }
    entry: Section = {
        "slot": ENTRY.header.slot,
        "value": ENTRY.value,
        "key": ENTRY.key,
        "key_text": str(Key(Kind.ENTRY, ENTRY.key)),
        "header": ENTRY.header.pack(),
    }
    blob: Section = {"value": BLOB.value, "key": BLOB.key, "header": BLOB.header.pack()}
    topic: Section = {"topic": "rendezvous", "key": TOPIC}
    topic |= {"page": PAGE, "manifest": MANIFEST.pack(), "snapshot": SNAPSHOT.hash}
    sections: dict[str, Section] = {
        "open_network": network(OPEN),
        "private_network": network(PRIVATE),
        "alice": party(ALICE, ALICE_AT, EPHEMERAL_A),
        "bob": party(BOB, BOB_AT, EPHEMERAL_B),
        "entry": entry,
        "blob": blob,
        "topic": topic,
        "card_of_bob": {"packed": CARD},
        "beacon_of_bob": beacon(),
        "messages": messages,
    }
    return sections | packets()


def print_examples() -> str:
    lines = ["```text"]
    for title, section in examples().items():
        size = sum(len(value) for value in section.values())
        lines.append(f"{title}, {size} bytes" if "type" in section else title)
        for name, value in section.items():
            told = textwrap.wrap(value.hex(), 64) if isinstance(value, bytes) else [value]
            lines.append(f"    {name:<20} {told[0]}")
            lines += [f"{'':<25}{more}" for more in told[1:]]
    return "\n".join([*lines, "```"])


# --- The limits, read from the code ---------------------------------------------------------------

ELSEWHERE: tuple[tuple[ModuleType, str, str], ...] = (
    (message, "DIGEST_BYTES", "of a digest"),
    (message, "DIGEST_KEYS_MAX", "keys listed in an answer to DIGEST; of more, digests are told"),
    (codec, "RID_MAX", "the highest rid"),
    (codec, "DETAIL_BYTES_MAX", "of the text of an error"),
    (body, "CARD_BYTES_MAX", "of a node card in an answer to IDENTIFY"),
    (session, "REPLAY_WINDOW", "counters below the highest one heard that are still taken"),
    (handshake, "PREFIXES_MAX", "prefixes whose INITs are counted"),
    (dial, "LATE_MAX", "handshakes given up whose RESP still counts"),
    (dial, "COOKIES_MAX", "RETRYs heeded per handshake"),
    (exchange, "RESETS_MAX", "times one request is begun anew after a RESET"),
    (write, "WRITES_MAX", "tries of a write that meets newer versions"),
    (lookup, "ADDRESSES_MAX", "addresses of one ID that a lookup tries"),
    (replica, "ESTIMATES_MIN", "estimates before the size of the network counts as known"),
    (replica, "ESTIMATES_MAX", "latest estimates whose median is the size of the network"),
    (replica, "CROWDED", "times nearer than an even spread are the nearest of a crowd"),
    (state, "MOST", "of all nodes are to be in a table that passes for whole"),
    (replica, "SPARSE", "times farther than an even spread, and others are missing"),
)


def print_limits() -> str:
    source = Path(settings.__file__).read_text(encoding="utf-8")
    reasons = dict(re.findall(r"^ *(\w+): .* = .*?  # (.*)$", source, re.MULTILINE))
    wire = [(name, limit) for name, limit in vars(settings).items() if name.isupper()]
    chosen = [(field.name, field.default) for field in dataclasses.fields(Settings)]
    tables = {
        "Part of the wire, and of what records are (`settings.py`):": [
            (name, limit, reasons.get(name, "")) for name, limit in wire
        ],
        "What each node may choose for itself (`settings.Settings`), by default:": [
            (name, limit, reasons.get(name, "")) for name, limit in chosen
        ],
        "Beside the code that they bound:": [
            (name, getattr(module, name), why) for module, name, why in ELSEWHERE
        ],
    }
    return "\n\n".join(f"{title}\n\n{print_table(rows)}" for title, rows in tables.items())


def print_table(rows: list[tuple[str, object, str]]) -> str:
    head = "| name | value | what and why |\n|---|---|---|\n"
    return head + "\n".join(f"| `{name}` | {limit} | {why} |" for name, limit, why in rows)


def regenerate(document: str) -> str:
    """The document with its generated parts as the code would have them."""
    for name, text in (("limits", print_limits()), ("examples", print_examples())):
        start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = document.partition(start)
        _, found, after = rest.partition(end)
        assert found, f"the document has no place for its {name}"
        document = f"{before}{start}\n\n{text}\n\n{end}{after}"
    return document


if __name__ == "__main__":
    DOCUMENT.write_text(regenerate(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
