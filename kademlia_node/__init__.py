"""A Kademlia distributed hash table: signed records, found without any server.

async with Node(network=Network.private(secret), bootstrap=["10.0.0.7:4000"]) as node:
    await node.set("colour", b"blue")
    print(await node.get("colour"))
"""

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Key, Kind
from kademlia_node.core.network import Network
from kademlia_node.errors import (
    Conflict,
    KademliaError,
    NoAnswer,
    NotFound,
    NotStored,
    SetupError,
    ValueTooLarge,
)
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import Receipt, TopicEntry, Trace
from kademlia_node.node.status import Status
from kademlia_node.settings import Settings

__all__ = [
    "Address",
    "Conflict",
    "Contact",
    "Identity",
    "KademliaError",
    "Key",
    "Kind",
    "Network",
    "NoAnswer",
    "Node",
    "NotFound",
    "NotStored",
    "Receipt",
    "Settings",
    "SetupError",
    "Status",
    "TopicEntry",
    "Trace",
    "ValueTooLarge",
]
