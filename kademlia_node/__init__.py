"""A Kademlia distributed hash table: signed records, found without any server.

async with Node(network=Network.private(secret), bootstrap=["10.0.0.7:4000"]) as node:
    await node.set("colour", b"blue")
    print(await node.get("colour"))
"""

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.invite import Invite
from kademlia_node.core.key import Key, Kind
from kademlia_node.core.network import Network
from kademlia_node.core.record import Record
from kademlia_node.errors import (
    AlreadyRunning,
    Conflict,
    KademliaError,
    NoAnswer,
    NotFound,
    NotRunning,
    NotStored,
    PeerRefused,
    SetupError,
    ValueTooLarge,
)
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import Receipt, Step, StepOutcome, TopicEntry, Trace
from kademlia_node.node.status import Status
from kademlia_node.settings import Settings
from kademlia_node.store.base import Store

__all__ = [
    "Address",
    "AlreadyRunning",
    "Conflict",
    "Contact",
    "Identity",
    "Invite",
    "KademliaError",
    "Key",
    "Kind",
    "Network",
    "NoAnswer",
    "Node",
    "NotFound",
    "NotRunning",
    "NotStored",
    "PeerRefused",
    "Receipt",
    "Record",
    "Settings",
    "SetupError",
    "Status",
    "Step",
    "StepOutcome",
    "Store",
    "TopicEntry",
    "Trace",
    "ValueTooLarge",
]
