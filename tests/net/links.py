"""A link in memory, for nodes on virtual time; `test_link_contract` holds it to what is real.

And whether the real one, multicast over loopback, is there at all.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import pytest

from kademlia_node.core.beacon import PROPERTY, SERVICE, Beacon, label_of, parse_service
from kademlia_node.core.contact import Address
from kademlia_node.errors import MalformedMessage
from kademlia_node.net.link import Link, MakeBeacon, Witness


def loopback_carries_multicast() -> bool:
    """Whether a datagram to a group of ours comes back on 127.0.0.1."""
    here, group = socket.inet_aton("127.0.0.1"), "239.255.77.1"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth,
    ):
        ear.settimeout(1.0)
        try:
            ear.bind((group, 0))
            membership = socket.inet_aton(group) + here
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
            mouth.sendto(b"?", ear.getsockname())
            return ear.recv(9) == b"?"
        except OSError:
            return False


needs_multicast = pytest.mark.skipif(
    not loopback_carries_multicast(), reason="loopback carries no multicast here"
)


class SharedLink:
    """One link, on which all are told at once what anybody shows, and when it ends."""

    def __init__(self) -> None:
        self._services: dict[str, tuple[int, Mapping[bytes, bytes | None], list[str]]] = {}
        self._witnesses: dict[str, list[Witness]] = {}  # by their host

    def at(self, host: str) -> Link:
        """The link as a machine with this address has it."""

        @asynccontextmanager
        async def link(_: Address, make: MakeBeacon, witness: Witness) -> AsyncIterator[None]:
            beacon = make()
            name = f"{beacon.label}.{SERVICE}"
            witnesses = self._witnesses.setdefault(host, [])
            witnesses.append(witness)
            for there in list(self._services):
                self._tell(there, host, witness)
            self.show(name, beacon.port, properties={PROPERTY: beacon.sealed}, hosts=[host])
            try:
                yield
            finally:
                witnesses.remove(witness)
                self.hide(name)

        return link

    def repeat(self, beacon: Beacon, *hosts: str) -> None:
        """Show a beacon as if it were ours, at any addresses."""
        name, properties = f"{beacon.label}.{SERVICE}", {PROPERTY: beacon.sealed}
        self.show(name, beacon.port, properties=properties, hosts=list(hosts))

    def show(
        self, name: str, port: int, *, properties: Mapping[bytes, bytes | None], hosts: list[str]
    ) -> None:
        """Announce a service to all, whatever it is."""
        self._services[name] = (port, properties, hosts)
        for host, witnesses in self._witnesses.items():
            for witness in witnesses:
                self._tell(name, host, witness)

    def hide(self, name: str) -> None:
        """Announce it no more; all are told."""
        del self._services[name]
        label, loop = label_of(name), asyncio.get_running_loop()
        for witnesses in self._witnesses.values():
            for witness in witnesses:
                if label is not None:
                    loop.call_soon(witness.on_gone, label)

    def _tell(self, name: str, host: str, witness: Witness) -> None:
        port, properties, hosts = self._services[name]
        with suppress(MalformedMessage):
            sighting = parse_service(name, port, properties=properties, hosts=hosts, link=host)
            asyncio.get_running_loop().call_soon(witness.on_seen, sighting)
