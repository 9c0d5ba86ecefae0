"""How a command that did not do what it was asked ends: what is said, and exit codes.

0 done; 1 not found, not stored as asked, not whole, or the peer did not answer; 2 bad usage, or
something on this machine is to be mended; 3 nobody to ask: no daemon, and no bootstrap node either.
"""

from __future__ import annotations

from typing import Final

from kademlia_node.daemon.views import Json, error_view
from kademlia_node.errors import KademliaError, Refused

EXIT_CODES: Final = {
    "NotFound": 1,
    "NotAgreed": 1,
    "NotStored": 1,
    "PartlyStored": 1,
    "Conflict": 1,
    "Incomplete": 1,
    "NoAnswer": 1,
    "PeerRefused": 1,
    "NoDaemon": 3,
    "HTTPServiceUnavailable": 3,  # there is one, but it is ending
}
EXIT_SETUP: Final = 2


def view_of(error: KademliaError | ValueError) -> Json:
    """The error in the form of `error_view`, whichever side it happened on."""
    return error.view if isinstance(error, Refused) else error_view(error)


def printable(text: str) -> str:
    """The text on one line, with nothing in it that a terminal obeys: some of it is strangers'."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
