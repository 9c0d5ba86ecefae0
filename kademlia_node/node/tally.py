"""What the holders of one key have shown so far: verified records, and who showed which.

Nothing is believed here that does not verify. The header of a long value is a signed promise, whose
value is pulled later; that of a long blob proves nothing before its value is there, so it is only a
*claim*.
"""

from __future__ import annotations

from collections.abc import Iterable

from kademlia_node.core.contact import Contact
from kademlia_node.core.key import Key, Kind, Spot
from kademlia_node.core.message import Item, Values
from kademlia_node.core.record import Reason
from kademlia_node.errors import BadRecord
from kademlia_node.node.receipt import Step, StepOutcome
from kademlia_node.node.state import NodeState

PATHS_MIN = 2  # that must agree on an entry, where there are so many

Shown = tuple[bytes, bytes, tuple[int, bytes, int, int]]
"""Author, slot, version."""


def shown(item: Item) -> Shown:
    """What two holders have to have in common to agree."""
    return item.header.author, item.header.slot, item.header.version


def _versions(items: Iterable[Item]) -> frozenset[Shown]:
    return frozenset(shown(item) for item in items)


def _rank(item: Item) -> tuple[tuple[int, bytes, int, int], int, bool]:
    """The later version, the longer lived, the one whose value is here."""
    return item.header.version, item.header.expires, item.value is not None


class Tally:
    """The answers for one key.

    Attributes:
        claims: for a blob, the items without a value, and who showed them.
    """

    def __init__(self, state: NodeState, key: Key) -> None:
        self._state = state
        self._key = key
        self._items: dict[Spot, Item] = {}
        self._answers: list[tuple[int, frozenset[Shown]]] = []
        self._holders: dict[Shown, list[Contact]] = {}
        self._news: dict[Spot, None] = {}
        self.claims: list[tuple[Contact, Item]] = []

    def add(self, step: Step, values: Values) -> None:
        """Take what one node holds; what does not verify makes the whole answer a bad one.

        Not so what has expired by our clock: its holder's may be slower.
        """
        items = self.judge(step, values.items)
        if not items:
            return
        step.outcome = StepOutcome.VALUE
        if self._key.kind is Kind.BLOB and items[0].value is None:
            self.claims.append((step.contact, items[0]))
            return
        complete = len(values.items) == values.count
        self.add_verified(items, path=step.path, complete=complete, by=step.contact)

    def judge(self, step: Step, items: Iterable[Item]) -> list[Item]:
        """Those of our kind that verify; none, and a bad step, if one of them does not."""
        true = []
        for item in items:
            if item.header.kind is not self._key.kind:
                continue
            try:
                self._state.judge(self._key.digest, item.header, item.value)
            except BadRecord as error:
                self._state.count_bad(error, by="reader")
                if error.reason is not Reason.EXPIRED:
                    step.outcome = StepOutcome.BAD
                    return []
            else:
                true.append(item)
        return true

    def add_verified(
        self,
        items: list[Item],
        *,
        path: int,
        complete: bool = True,
        by: Contact | None = None,
    ) -> None:
        """Take what one holder, reached on this path, was seen to hold; perhaps not all of it."""
        for item in items:
            self._file(item)
        if complete:
            self._answers.append((path, _versions(items)))
        if by is not None:
            for item in items:
                self._holders.setdefault(shown(item), []).append(by)

    def _file(self, item: Item) -> None:
        spot = item.header.author, item.header.slot
        old = self._items.get(spot)
        if old is None or _rank(item) > _rank(old):
            self._items[spot] = item
            self._news[spot] = None

    def news(self) -> list[Item]:
        """What has changed since the last call, as far as its value is here."""
        fresh = [item for spot in self._news if (item := self._items[spot]).value is not None]
        self._news.clear()
        return fresh

    def latest(self) -> list[Item]:
        """The latest version of each entry, tombstones included."""
        return list(self._items.values())

    def holders_of(self, item: Item) -> list[Contact]:
        """Who showed this very version."""
        return self._holders.get(shown(item), [])

    def agreeing(self) -> tuple[int, int]:
        """How many holders showed exactly the latest versions, and on how many paths."""
        latest = _versions(self._items.values())
        paths = [path for path, versions in self._answers if versions == latest]
        return len(paths), len(set(paths))

    def enough(self, reads: int) -> bool:
        """Whether `reads` holders agree, on two paths where the lookup has two."""
        holders, paths = self.agreeing()
        return holders >= reads and paths >= min(PATHS_MIN, reads, self._state.settings.paths)
