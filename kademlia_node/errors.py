"""Every error this package raises on purpose: one tree under KademliaError.

Each is named for what happened, and there are three kinds of blame. What a peer did wrong
(`RemoteError`) is counted and never ends anything. What the caller asked for and could not have
(`NotFound`, `NotStored`, `Conflict`) carries what is known about it. What the operator must mend
(`SetupError`) is one clear line. Our own mistakes are asserts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kademlia_node.core.record import Record
    from kademlia_node.node.receipt import Receipt, Trace


class KademliaError(Exception):
    """The root of everything raised on purpose."""


class RemoteError(KademliaError):
    """A peer sent something wrong, or nothing at all."""


class MalformedMessage(RemoteError):  # noqa: N818 - named for what happened
    """Bytes that are no message of this protocol: the only thing the codec raises."""


class ForgedPacket(RemoteError):  # noqa: N818 - named for what happened
    """A packet whose authentication fails, or whose key material is refused."""


class BadRecord(RemoteError):  # noqa: N818 - named for what happened
    """A record that breaks a rule of its kind; `reason` is one of the codes of `core.record`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoAnswer(RemoteError):  # noqa: N818 - named for what happened
    """A peer did not answer within the time it was given."""


class PeerRefused(RemoteError):  # noqa: N818 - named for what happened
    """A peer answered with an error message."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"refused with code {code}: {detail}")
        self.code = code
        self.detail = detail


class NotFound(KademliaError):  # noqa: N818 - named for what happened
    """No reachable holder has the record. `trace` tells who was asked and what each one said."""

    def __init__(self, what: str, trace: Trace) -> None:
        super().__init__(f"{what} was not found: {trace.summary()}")
        self.trace = trace


class NotStored(KademliaError):  # noqa: N818 - named for what happened
    """Fewer nodes than asked for acknowledged the record. `receipt` names those that did."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(f"not stored: {receipt.summary()}")
        self.receipt = receipt


class Conflict(KademliaError):  # noqa: N818 - named for what happened
    """Somebody wrote first: `current` is the record as the network holds it, None if it is gone."""

    def __init__(self, current: Record | None) -> None:
        now = f"is at seq {current.header.seq}" if current else "does not exist"
        super().__init__(f"the record {now}")
        self.current = current


class ValueTooLarge(KademliaError, ValueError):  # noqa: N818 - named for what happened
    """A value longer than a record may hold."""


class SetupError(KademliaError):
    """Something on this machine stands in the way; the message says what, and what to do."""
