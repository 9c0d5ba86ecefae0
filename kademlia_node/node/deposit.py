"""One record handed to several nodes at once, with replacements for those who do not take it.

Who they are was decided before (`core.replica`); here they are asked, and it is noted what each
said. A version that somebody proves by a signed header counts, a mere refusal proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from kademlia_node.core.contact import Contact
from kademlia_node.core.message import Refused, Response, Store, Stored, StoreStatus
from kademlia_node.core.record import Header, Record, check_header
from kademlia_node.errors import BadRecord
from kademlia_node.node.state import NodeState
from kademlia_node.settings import INLINE_BYTES_MAX

TAKEN = frozenset({StoreStatus.OK, StoreStatus.HAVE})


class Deposit:
    """Asks `chosen`, and one of `spares` for each of them who fails, nearest first.

    `replicas` hold the record; `refused` tells why others do not; `newest` is the highest version
    that a refusal proved to exist.
    """

    def __init__(
        self,
        state: NodeState,
        request: Store,
        *,
        chosen: Sequence[Contact],
        spares: Sequence[Contact],
    ) -> None:
        self._state = state
        self._request = request
        self._chosen = chosen
        self._spares = iter(spares)
        self._open = 0
        self._finished: asyncio.Future[None] = state.loop.create_future()
        self.replicas: list[Contact] = []
        self.refused: dict[Contact, str] = {}
        self.newest: Header | None = None
        self._mismatches = 0

    async def run(self) -> None:
        """Ask everybody and wait until nobody is left to ask."""
        for contact in self._chosen:
            self._ask(contact)
        if self._open:
            await self._finished

    async def keep_here(self, record: Record, *, expect_seq: int | None) -> None:
        """We are one of the replicas ourselves."""
        state = self._state
        self._note(state.contact, await state.keep(record, charged_to=b"", expect_seq=expect_seq))

    @property
    def conflict(self) -> bool:
        """Whether the expected seq is not the current one: a later one exists, or nobody had it.

        One node that holds something older, or nothing, may be new here, or lie.
        """
        expected = self._request.expect_seq
        if expected is None:
            return False
        if self.newest is not None and self.newest.seq >= expected:
            return self.newest.seq > expected
        return self._mismatches > 0 and not self.replicas

    def _ask(self, contact: Contact) -> None:
        self._open += 1
        self._state.exchange.send(contact, self._request, on_done=partial(self._on_done, contact))

    def _on_done(self, contact: Contact, response: Response | None) -> None:
        self._open -= 1
        if not self._note(contact, response) and self.newest is None:
            spare = next(self._spares, None)
            if spare is not None:
                self._ask(spare)
        if not self._open and not self._finished.done():
            self._finished.set_result(None)

    def _note(self, contact: Contact, response: Response | None) -> bool:
        """Note what one node said; whether it holds the record."""
        if isinstance(response, Stored) and response.status in TAKEN:
            self.replicas.append(contact)
            return True
        self.refused[contact] = _reason(response)
        if isinstance(response, Stored):
            self._mismatches += response.status is StoreStatus.CAS
            if response.header is not None:
                self._learn(response.header)
        return False

    def _learn(self, header: Header) -> None:
        """A refusal may show a newer version; what is not signed by the author shows nothing."""
        own = self._request.header
        if (header.kind, header.author, header.slot) != (own.kind, own.author, own.slot):
            return
        try:
            check_header(
                self._request.key,
                header,
                wall=self._state.wall(),
                network_tag=self._state.network.tag,
                length_max=INLINE_BYTES_MAX,
                verify=self._state.signatures.check,
            )
        except BadRecord:
            return
        if self.newest is None or header.version > self.newest.version:
            self.newest = header


def _reason(response: Response | None) -> str:
    if isinstance(response, Stored):
        return response.status.name.lower().replace("_", " ")
    if isinstance(response, Refused):
        return response.detail
    return "silent"
