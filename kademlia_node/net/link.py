"""What the house asks of a link on which peers are looked for: `net.lan`, or that of the tests.

A link shows our beacon to whoever is on it, and tells a witness what beacons it carries, perhaps
our own among them. Nothing on it is known to be true. `multicast` is the way to the real one, which
needs a package that need not be installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from kademlia_node.core.beacon import Beacon, Sighting
from kademlia_node.core.contact import Address
from kademlia_node.errors import SetupError
from kademlia_node.settings import Settings

LIBRARY = "zeroconf"


class Witness(Protocol):
    """Is told of beacons, in the running loop."""

    def on_seen(self, sighting: Sighting) -> None:
        """This beacon is shown; the same label again: with other addresses."""
        ...

    def on_gone(self, label: str) -> None:
        """The beacon of this label is shown no more; it need not have been seen before."""
        ...


MakeBeacon = Callable[[], Beacon]
"""A fresh beacon of ours: one for each link."""

Link = Callable[[Address, MakeBeacon, Witness], AbstractAsyncContextManager[None]]
"""Show beacons, and tell the witness of others, for the length of an `async with` block.

The address is where our socket is bound: at 0.0.0.0 or :: it is shown on all links, else on the one
that has the address. A link that cannot be used is no error.
"""


def is_installed() -> bool:
    """Whether multicast is to be had."""
    return importlib.util.find_spec(LIBRARY) is not None


def multicast(settings: Settings) -> Link:
    """Multicast DNS on the links of this machine; raises SetupError if its package is missing."""
    if not is_installed():
        raise SetupError(
            f"to find peers on the same link the package {LIBRARY} is needed:"
            " pip install 'kademlia-node[lan]'"
        )
    from kademlia_node.net.lan import MulticastLink  # noqa: PLC0415 - the package may be missing

    return MulticastLink(settings)
