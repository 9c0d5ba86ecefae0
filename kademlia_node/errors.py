"""Every error this package raises on purpose: one tree under KademliaError.

Each is named for what happened, and there are three kinds of blame. What a peer did wrong
(`RemoteError`) is counted and never ends anything. What the caller asked for and could not have
(`NotFound`, `NotAgreed`, `NotStored`, `PartlyStored`, `Conflict`, `Incomplete`) carries what is
known about it; asked of a node that cannot answer it is `NotRunning`. What the operator must mend
(`SetupError`) is one clear line. Asked of a daemon these are all `Refused`; if there is none, it is
`NoDaemon`. Our own mistakes are asserts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kademlia_node.core.record import Reason, Record
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
    """A record that breaks a rule of its kind; `reason` tells which."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.sentence)
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
    """No reachable holder has the record, or it is `withdrawn`.

    `trace` tells who was asked and what each one said.
    """

    def __init__(self, what: str, trace: Trace, *, withdrawn: bool = False) -> None:
        fate = "was withdrawn by its author" if withdrawn else "was not found"
        super().__init__(f"{what} {fate}: {trace.summary()}")
        self.trace = trace
        self.withdrawn = withdrawn


class NotStored(KademliaError):  # noqa: N818 - named for what happened
    """Nobody took the record. `receipt` names those that refused it, and why."""

    def __init__(self, receipt: Receipt) -> None:
        nobody_asked = not receipt.trace.steps and not receipt.refused
        why = receipt.trace.summary() if nobody_asked else receipt.summary()
        super().__init__(f"not stored: {why}")
        self.receipt = receipt


class NotAgreed(KademliaError):  # noqa: N818 - named for what happened
    """Fewer holders than `reads` asked for agree. `record` is the latest version that was shown."""

    def __init__(self, record: Record, trace: Trace, *, reads: int) -> None:
        super().__init__(
            f"fewer than {reads} holders on two paths agree on the latest version:"
            f" {trace.summary()}"
        )
        self.record = record
        self.trace = trace
        self.reads = reads


class PartlyStored(NotStored):
    """Fewer nodes took the record than `acks` asked for. It is kept alive; `receipt` names them."""

    def __init__(self, receipt: Receipt, *, acks: int) -> None:
        super().__init__(receipt)
        self.args = (f"fewer than {acks} acknowledged it: {receipt.summary()}",)
        self.acks = acks


class Incomplete(KademliaError):  # noqa: N818 - named for what happened
    """Nobody gives the rest of a content; another attempt goes on with what is here."""

    def __init__(self, missing: int, *, of: int) -> None:
        super().__init__(f"{missing} of {of} pieces are missing: no holder that answers gives them")
        self.missing = missing
        self.of = of


class Conflict(KademliaError):  # noqa: N818 - named for what happened
    """Somebody wrote first: `current` is the record as the network holds it, None if it is gone.

    `receipt` names nodes that took our version all the same, since they had missed the current one;
    there are none if the conflict was seen before we wrote. They may make ours the latest: read
    again before you decide.
    """

    def __init__(self, current: Record | None, receipt: Receipt | None = None) -> None:
        now = f"is at seq {current.header.seq}" if current else "does not exist"
        took = f"; {len(receipt.replicas)} took ours" if receipt and receipt.replicas else ""
        super().__init__(f"the record {now}{took}")
        self.current = current
        self.receipt = receipt


class ValueTooLarge(KademliaError, ValueError):  # noqa: N818 - named for what happened
    """A value longer than a record may hold."""


class NotRunning(KademliaError):  # noqa: N818 - named for what happened
    """A verb was asked of a node before its start or after its stop."""

    def __init__(self) -> None:
        super().__init__("the node is not running: use `async with Node(...)`")


class AlreadyRunning(KademliaError):  # noqa: N818 - named for what happened
    """A node was started that is running, or is just being started."""

    def __init__(self) -> None:
        super().__init__("the node is running already: start it once, or stop it before")


class SetupError(KademliaError):
    """Something on this machine stands in the way; the message says what, and what to do."""


class NoDaemon(KademliaError):  # noqa: N818 - named for what happened
    """Nobody does the work: no daemon answers, or no bootstrap node did."""


class Refused(KademliaError):  # noqa: N818 - named for what happened
    """A daemon did not do what was asked; `view`, as `daemon.views.error_view` forms it, says why.

    `view["error"]` is the name of the error that a `Node` would have raised, such as `NotFound`.
    """

    def __init__(self, view: dict[str, Any]) -> None:
        super().__init__(view["detail"])
        self.view = view
