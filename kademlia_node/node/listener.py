"""What a node makes of what its exchange hears: the table learns, the server answers.

Refuses to know how either does it. The exchange is made before those it tells, so they are handed
over by `attach`, before the socket is opened.
"""

from __future__ import annotations

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.message import Request
from kademlia_node.net.ask import Asker, Reply
from kademlia_node.node.reach import Reach
from kademlia_node.node.serve import Server
from kademlia_node.node.state import NodeState


class NodeListener:
    """The `net.ask.Listener` of a node."""

    def attach(self, state: NodeState, *, reach: Reach, server: Server) -> None:
        """Pass on to these what is heard from now on."""
        self._state = state
        self._reach = reach
        self._server = server

    def serve(self, asker: Asker, request: Request, reply: Reply) -> None:
        """A peer asks us."""
        self._server.serve(asker, request, reply)

    def on_alive(self, contact: Contact, *, server: bool) -> None:
        """A peer was heard: servers belong in the table, clients do not, or no longer."""
        table = self._state.table
        if server:
            table.add(contact, now=self._state.loop.time())
        else:
            table.remove(contact.id)

    def on_silent(self, contact: Contact) -> None:
        """A peer did not answer: at the address where we know it, else it is no fault of its."""
        table = self._state.table
        if table.get(contact.id) == contact:
            table.strike(contact.id, now=self._state.loop.time())

    def on_seen_as(self, address: Address, *, by: Contact) -> None:
        """A peer tells where it sees us."""
        self._reach.on_seen_as(address, by=by)

    def is_pinned(self, node_id: bytes) -> bool:
        """Sessions with the members of our table stay."""
        return node_id in self._state.table
