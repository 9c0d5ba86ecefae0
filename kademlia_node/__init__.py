"""A Kademlia distributed hash table: signed records, found without any server.

async with Node(network=Network.private(secret), bootstrap=["10.0.0.7:4000"]) as node:
    await node.set("colour", b"blue")
    print(await node.get("colour"))
"""

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.feed import Change, ChangeKind
from kademlia_node.core.identity import Identity
from kademlia_node.core.invite import Invite
from kademlia_node.core.key import Key, Kind
from kademlia_node.core.manifest import Manifest, Piece, piece_bytes_for
from kademlia_node.core.memory import KnownPeer, Memory
from kademlia_node.core.network import Network
from kademlia_node.core.record import Record
from kademlia_node.errors import (
    AlreadyRunning,
    Conflict,
    Incomplete,
    KademliaError,
    NoAnswer,
    NotAgreed,
    NotFound,
    NotRunning,
    NotStored,
    PartlyStored,
    PeerRefused,
    SetupError,
    ValueTooLarge,
)
from kademlia_node.node.announcing import Announcement
from kademlia_node.node.contents import ContentSource
from kademlia_node.node.download import Progress
from kademlia_node.node.files import SharedFiles
from kademlia_node.node.leave import Departure
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import Receipt, Step, StepOutcome, TopicEntry, Trace
from kademlia_node.node.status import Status
from kademlia_node.secret import read_secret
from kademlia_node.settings import Settings
from kademlia_node.store.base import Published, Store
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.schema import Durability

__all__ = [
    "Address",
    "AlreadyRunning",
    "Announcement",
    "Change",
    "ChangeKind",
    "Conflict",
    "Contact",
    "ContentSource",
    "Departure",
    "DiskStore",
    "Durability",
    "Identity",
    "Incomplete",
    "Invite",
    "KademliaError",
    "Key",
    "Kind",
    "KnownPeer",
    "Manifest",
    "Memory",
    "Network",
    "NoAnswer",
    "Node",
    "NotAgreed",
    "NotFound",
    "NotRunning",
    "NotStored",
    "PartlyStored",
    "PeerRefused",
    "Piece",
    "Progress",
    "Published",
    "Receipt",
    "Record",
    "Settings",
    "SetupError",
    "SharedFiles",
    "Status",
    "Step",
    "StepOutcome",
    "Store",
    "TopicEntry",
    "Trace",
    "ValueTooLarge",
    "piece_bytes_for",
    "read_secret",
]
