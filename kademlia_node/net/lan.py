"""The links of this machine, by multicast DNS (RFC 6762).

Nothing else in the package imports zeroconf, nor ifaddr, by which zeroconf knows our addresses.

For each of our addresses there is a responder of its own, which shows a beacon of its own: one link
does not learn what addresses we have on another. Addresses come and go, as with DHCP, so they are
looked at every `lan_look_s`; a new one is a new beacon. Where our socket takes any address, these
are the private ones alone: a machine at a public address does not begin to speak multicast there,
unless it is bound to that address. IPv6 link-local ones are left out: a contact cannot carry the
interface they need.

What an eavesdropper learns, and what is believed of the links, is told in `core.beacon`. Records
that strangers send are kept by zeroconf, 10,000 at most; its old releases had no such bound. Driven
by the `async with` block of a `net.link.Link`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import ifaddr
from zeroconf import Error, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from kademlia_node.core.beacon import (
    PROPERTY,
    SERVICE,
    Beacon,
    is_link_local_v6,
    label_of,
    parse_service,
)
from kademlia_node.core.contact import Address, is_local, is_loopback
from kademlia_node.errors import MalformedMessage
from kademlia_node.net.link import MakeBeacon, Witness
from kademlia_node.settings import Settings

log = logging.getLogger(__name__)
RESOLVE_MS: Final = 2000.0  # what a responder leaves out of its answer is asked for so long


def own_hosts(
    bound: str, *, adapters: Callable[[], Iterable[ifaddr.Adapter]] = ifaddr.get_adapters
) -> list[str]:
    """The addresses of this machine at which a socket bound to `bound` is to be found."""
    ip = ipaddress.ip_address(bound)
    if not ip.is_unspecified:
        return [bound]
    own = (
        str(address.ip if address.is_IPv4 else address.ip[0])
        for adapter in adapters()
        for address in adapter.ips
    )
    usable = [host for host in own if ip.version == 6 or ":" not in host]
    return sorted(
        host
        for host in dict.fromkeys(usable)
        if is_local(host) and not is_link_local_v6(host) and not is_loopback(host)
    )


class MulticastLink:
    """`net.link.Link`: all links of this machine that a bound address is on.

    Args:
        settings: How many links, how often they are looked at, how much waits to be resolved.
        hosts: Names our addresses, given that to which our socket is bound.
    """

    def __init__(
        self, settings: Settings, *, hosts: Callable[[str], Sequence[str]] = own_hosts
    ) -> None:
        self._settings = settings
        self._hosts = hosts

    def __call__(
        self, here: Address, make: MakeBeacon, witness: Witness
    ) -> AbstractAsyncContextManager[None]:
        """See `net.link.Link`."""
        return self._shown(here, make, witness)

    @asynccontextmanager
    async def _shown(
        self, here: Address, make: MakeBeacon, witness: Witness
    ) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(here.host, make, witness))
            try:
                yield
            finally:
                watching.cancel()

    async def _watch(self, bound: str, make: MakeBeacon, witness: Witness) -> None:
        """Have a responder for each of our addresses, as they come and go; until cancelled."""
        responders: dict[str, asyncio.Task[None]] = {}
        failed: set[str] = set()
        async with asyncio.TaskGroup() as tasks:
            while True:
                hosts = self._hosts(bound)[: self._settings.lan_links_max]
                for host, task in list(responders.items()):
                    if host not in hosts or task.done():
                        task.cancel()
                        del responders[host]
                for host in hosts:
                    if host not in responders:
                        respond = _respond(host, make(), witness, self._settings, failed)
                        responders[host] = tasks.create_task(respond)
                await asyncio.sleep(self._settings.lan_look_s)


async def _respond(
    host: str, beacon: Beacon, witness: Witness, settings: Settings, failed: set[str]
) -> None:
    """Show a beacon on the link of one of our addresses and watch others, until cancelled.

    It ends where that cannot be done, and says so the first time.
    """
    try:
        _demand_own(host)
        responder = AsyncZeroconf(interfaces=[host])
        try:
            announcing = await responder.async_register_service(
                _service(host, beacon),
                cooperating_responders=True,  # no time to probe: nobody else has this label
            )
            browsing = _Browsing(responder.zeroconf, host, witness, settings)
            browser = AsyncServiceBrowser(
                responder.zeroconf, SERVICE, handlers=[browsing.on_change]
            )
            try:
                await announcing
                failed.discard(host)
                await browsing.resolve()
            finally:
                await browser.async_cancel()
        finally:
            await _close(responder)
    except (OSError, RuntimeError, Error) as error:
        if host not in failed:
            log.warning("cannot look for peers on the link of %s: %s", host, error)
        failed.add(host)


def _demand_own(host: str) -> None:
    """Raise OSError if an address has gone already: zeroconf would leave a socket open."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))


async def _close(responder: AsyncZeroconf) -> None:
    """Take leave of the link, even if we are cancelled again: the address went, then we stop."""
    closing = asyncio.create_task(responder.async_close())
    try:
        await asyncio.shield(closing)
    finally:
        await closing


def _service(host: str, beacon: Beacon) -> AsyncServiceInfo:
    """The records of a beacon; the name of this machine is in none of them."""
    return AsyncServiceInfo(
        SERVICE,
        f"{beacon.label}.{SERVICE}",
        parsed_addresses=[host],
        port=beacon.port,
        properties={PROPERTY: beacon.sealed},
        server=f"{beacon.label}.local.",
    )


class _Browsing:
    """Tells a witness of the services on one link, as far as they can be beacons."""

    def __init__(self, zeroconf: Zeroconf, host: str, witness: Witness, settings: Settings) -> None:
        self._zeroconf = zeroconf
        self._host = host
        self._witness = witness
        self._incomplete: asyncio.Queue[str] = asyncio.Queue(settings.lan_peers_max)

    def on_change(
        self,
        zeroconf: Zeroconf,  # noqa: ARG002 - zeroconf passes these by name
        service_type: str,  # noqa: ARG002
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        """A service came, went, or has moved."""
        label = label_of(name)
        if label is None:
            return
        if state_change is ServiceStateChange.Removed:
            self._witness.on_gone(label)
            return
        info = AsyncServiceInfo(SERVICE, name)
        if info.load_from_cache(self._zeroconf):
            self._tell(info)
        elif not self._incomplete.full():
            self._incomplete.put_nowait(name)

    async def resolve(self) -> None:
        """Ask for what is left to know of services, one after another, until cancelled."""
        while True:
            info = AsyncServiceInfo(SERVICE, await self._incomplete.get())
            if await info.async_request(self._zeroconf, RESOLVE_MS):
                self._tell(info)

    def _tell(self, info: AsyncServiceInfo) -> None:
        try:
            sighting = parse_service(
                info.name,
                info.port,
                properties=info.properties,
                hosts=info.parsed_addresses(),
                link=self._host,
            )
        except MalformedMessage as error:
            log.debug("a service on the link of %s is no beacon: %s", self._host, error)
        else:
            self._witness.on_seen(sighting)
