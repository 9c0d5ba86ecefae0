"""Long values that were offered to us: weighed by their header, fetched from the writer, filed.

The writer is answered NEED at once and asks again later; what it then hears is what the store says
of the same header. So nothing is remembered here of a fetch that is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass

from kademlia_node.core.contact import Contact
from kademlia_node.core.manifest import Piece
from kademlia_node.core.message import Stored, StoreStatus
from kademlia_node.core.pull import Fate
from kademlia_node.core.record import Header, Reason, Record, check_value
from kademlia_node.errors import BadRecord
from kademlia_node.node.pulling import pull_to_end
from kademlia_node.node.state import NodeState
from kademlia_node.rare import Rare, sometimes

log = logging.getLogger(__name__)

Mark = tuple[bytes, bytes, bytes, bytes, tuple[int, bytes, int, int]]
"""Node ID of the writer, then key, author, slot and version."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A record whose header was judged and whose value `writer` has.

    `charged_to` is the subnet of the writer, empty for a local one.
    """

    writer: Contact
    key: bytes
    header: Header
    charged_to: bytes
    expect_seq: int | None

    @property
    def mark(self) -> Mark:
        """What makes two offers the same, however long they are to live.

        Two writers of one record are heard side by side: one may be slow, or mean to be.
        """
        header = self.header
        return self.writer.id, self.key, header.author, header.slot, header.version


class Intake:
    """The values being fetched: at most `pulls_max`, and fewer of one writer or one subnet."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._under_way: dict[Mark, asyncio.Task[None]] = {}
        self._by_writer: Counter[bytes] = Counter()
        self._by_prefix: Counter[bytes] = Counter()

    async def take(self, offered: Offered, tasks: asyncio.TaskGroup) -> Stored:
        """What becomes of an offer: refused, known, or about to be fetched in one of `tasks`."""
        state = self._state
        if offered.mark in self._under_way:
            return Stored(StoreStatus.NEED)
        answer = await state.store.offer(
            offered.key,
            offered.header,
            charged_to=offered.charged_to,
            wall=state.wall(),
            expect_seq=offered.expect_seq,
        )
        state.tell(offered.key, offered.header, None, answer=answer)
        stored = state.answer_of(offered.header, answer)
        if stored.status is not StoreStatus.NEED or offered.mark in self._under_way:
            return stored
        if not self._has_room(offered):
            sometimes(Rare.OFFERS_FULL)
            return Stored(StoreStatus.BUSY)
        self._by_writer[offered.writer.id] += 1
        self._by_prefix[offered.charged_to] += 1
        self._under_way[offered.mark] = tasks.create_task(self._fetch(offered))
        return stored

    def _has_room(self, offered: Offered) -> bool:
        settings, subnet = self._state.settings, offered.charged_to
        return (
            len(self._under_way) < settings.pulls_max
            and self._by_writer[offered.writer.id] < settings.pulls_per_peer_max
            and (not subnet or self._by_prefix[subnet] < settings.pulls_per_prefix_max)
        )

    async def _fetch(self, offered: Offered) -> None:
        """A store that fails is the operator's to mend, here as in `serve`."""
        state = self._state
        try:
            record = await self._pulled(offered)
            if record is not None:
                await state.keep(
                    record, charged_to=offered.charged_to, expect_seq=offered.expect_seq
                )
        except BadRecord as error:
            state.count_bad(error, by="storer")
        except Exception:
            log.exception("an offered record could not be kept")
            state.counts["serving_failed"] += 1
        finally:
            del self._under_way[offered.mark]
            self._by_writer -= Counter((offered.writer.id,))  # which forgets those without any
            self._by_prefix -= Counter((offered.charged_to,))

    async def _pulled(self, offered: Offered) -> Record | None:
        """The whole record, or None if its writer does not give it; raises BadRecord."""
        header, counts = offered.header, self._state.counts
        piece = Piece(header.value_hash, header.length)
        pulling = await pull_to_end(self._state, offered.writer, piece)
        if pulling.fate is Fate.LIED:
            raise BadRecord(Reason.WRONG_VALUE)
        if pulling.fate is not Fate.WHOLE:
            sometimes(Rare.OFFER_NOT_FETCHED)
            counts["offers_not_fetched"] += 1
            return None
        check_value(offered.key, header, value=pulling.content)
        counts["offers_fetched"] += 1
        return Record(offered.key, header, pulling.content)
