"""Attackers among the storers: some forget what they acknowledge, some lie about its length."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kademlia_node.core.message import (
    Chunk,
    Chunked,
    FindValue,
    Item,
    Request,
    Response,
    Snapshot,
    Store,
    Stored,
    StoreStatus,
    Values,
)
from kademlia_node.core.record import make_blob
from kademlia_node.settings import (
    CHUNK_BYTES,
    CONTACTS_WITH_VALUE_MIN,
    EXPIRY_DEFAULT_S,
    INLINE_BYTES_MAX,
    VALUE_BYTES_MAX,
)
from kademlia_node.sim.attack.attacker import SILENCE, Attacker, Striker

OFFERS_MAX = 64  # of one attacker, that are still answered
OFFER_BYTES_MAX = 8 * CHUNK_BYTES  # a lie needs no more


class Forgetter(Attacker):
    """Acknowledges every STORE and keeps nothing; nor does it fetch what its neighbours hold."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"settings": replace(options["settings"], republish="never")})

    def instead(self, request: Request) -> Response | None:
        """It is stored, of course."""
        return Stored(StoreStatus.OK) if isinstance(request, Store) else None


class LengthLiar(Striker):
    """Names other lengths and counts than are true, and offers contents of other lengths.

    It strikes by a STORE of a blob whose content is longer than said, or shorter, or is refused, or
    never comes; the nearest honest node is to fetch it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._offers: dict[bytes, bytes | None] = {}  # by hash; None: met with silence

    def instead(self, request: Request) -> Response | None:
        """What it offered, in its true length."""
        if not isinstance(request, Chunk) or request.content not in self._offers:
            return None
        content = self._offers[request.content]
        if content is None:
            return SILENCE
        start = request.index * CHUNK_BYTES
        return Chunked(content[start : start + CHUNK_BYTES] or None)

    def altered(self, request: Request, honest: Response) -> Response:
        """A true answer, but for the lengths in it; or true, to lie about the value afterwards."""
        rng = self.gang.rng
        match honest:
            case Values(contacts, count, snapshot, items) if (
                isinstance(request, FindValue) and rng.random() < 0.5
            ):
                return Values(
                    contacts[:CONTACTS_WITH_VALUE_MIN],  # room for what is added
                    count + rng.randint(1, 1000),
                    Snapshot(
                        snapshot.hash if snapshot else rng.randbytes(32),
                        rng.randint(1, (1 << 32) - 1),
                    ),
                    tuple(self._mismeasured(item) for item in items[:1]),
                )
            case Chunked(data=bytes(data)) if data:
                has_room = len(data) < CHUNK_BYTES
                if has_room and rng.random() < 0.5:
                    return Chunked(data.ljust(CHUNK_BYTES, b"\0"))
                return Chunked(data[: rng.randrange(len(data))])
        return honest

    def _mismeasured(self, item: Item) -> Item:
        length = self.gang.rng.randint(0, VALUE_BYTES_MAX)
        is_long = length > INLINE_BYTES_MAX
        return Item(replace(item.header, length=length), None if is_long else item.value)

    async def strike(self) -> None:
        """Offer a blob and lie about its length."""
        rng, swarm, state = self.gang.rng, self.gang.swarm, self._active.state
        content = rng.randbytes(rng.randint(INLINE_BYTES_MAX + 1, OFFER_BYTES_MAX))
        record = make_blob(content, expires=int(state.wall()) + EXPIRY_DEFAULT_S)
        header = replace(
            record.header, length=rng.randint(INLINE_BYTES_MAX + 1, 2 * OFFER_BYTES_MAX)
        )
        self._offers[header.value_hash] = rng.choice([content, content, b"", None])
        if len(self._offers) > OFFERS_MAX:
            del self._offers[next(iter(self._offers))]
        for storer in swarm.true_closest(record.key, 1):
            state.exchange.send(storer, Store(record.key, header, None), on_done=lambda _: None)
