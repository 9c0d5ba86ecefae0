"""Who becomes a server: on the internet only whom a stranger could call, at home everybody."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import solves_puzzle
from kademlia_node.core.message import Identified, Identify, Ping, Pong, Probe, Probed
from kademlia_node.core.network import Network
from kademlia_node.net.transport import Receive, Transport
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim import SimNetwork
from tests.node.network import HOUR, OPEN, PRIVATE, SUITE, Neighbourhood, contact_of

# Small tables and narrow lookups, so that a newcomer does not write to every member itself.
SHY = Settings(
    k=2,
    far_buckets=(3,),
    near_bucket=3,
    paths=1,
    parallel=1,
    probe_s=60.0,
    liveness_s=HOUR,
    republish="never",
)


async def role_of(node: Node) -> str:
    return (await node.status()).role


async def served(here: Neighbourhood, kind: str) -> int:
    return sum([(await node.status()).counters.get(f"served_{kind}", 0) for node in here.nodes])


class Firewall:
    """Listens for one node and lets in only hosts that it wrote to."""

    def __init__(self, sim: SimNetwork) -> None:
        self._sim = sim
        self._written: set[str] = set()
        self.dropped = 0

    async def listen(self, host: str, port: int, receive: Receive) -> Transport:
        def filtered(datagram: bytes, source: Address) -> None:
            if source.host in self._written:
                receive(datagram, source)
            else:
                self.dropped += 1

        transport = await self._sim.listen(host, port, filtered)
        self._sim.taps.append(
            lambda source, destination, _: (
                self._written.add(destination.host) if source == transport.address else None
            )
        )
        return transport


# --- On the internet --------------------------------------------------------------------------


async def test_a_newcomer_becomes_a_server_once_a_stranger_has_called() -> None:
    async with Neighbourhood(OPEN, settings=SHY) as here:
        await here.grow(25)
        node = await here.start(server=None)
        assert await role_of(node) == "client"
        await asyncio.sleep(25)
        assert await role_of(node) == "client"
        assert await served(here, "Probe") == 0
        await asyncio.sleep(HOUR / 4)
        assert await role_of(node) == "server"
        assert await served(here, "Probe") >= 2  # one asked of a helper, one by it of a stranger


async def test_a_new_server_is_soon_known_to_its_neighbours() -> None:
    async with Neighbourhood(OPEN) as here:
        await here.grow(4)
        node = await here.start(server=None)
        assert not any(contact_of(node) in peer.contacts() for peer in here.nodes)
        stranger = await here.stranger()
        assert await stranger.ask(node, Ping()) == Pong()
        assert await role_of(node) == "server"
        await asyncio.sleep(70)
        assert all(contact_of(node) in peer.contacts() for peer in here.nodes[:4])


async def test_behind_a_firewall_a_node_stays_a_client() -> None:
    async with Neighbourhood(OPEN, settings=SHY) as here:
        await here.grow(25)
        firewall = Firewall(here.sim)
        node = await here.start(server=None, listen=firewall.listen)
        await asyncio.sleep(HOUR / 2)
        assert await role_of(node) == "client"
        assert firewall.dropped > 0
        assert await served(here, "Probe") > 10
        await node.set("colour", b"blue")
        assert await here.nodes[7].get("colour", author=node.public_key) == b"blue"


async def test_a_lonely_node_stays_a_client() -> None:
    async with Neighbourhood(OPEN) as here:
        node = await here.start(server=None)
        await asyncio.sleep(HOUR)
        assert await role_of(node) == "client"


async def test_a_call_from_whom_we_wrote_to_proves_nothing() -> None:
    async with Neighbourhood(OPEN) as here:
        first = await here.start()
        node = await here.start(server=None)
        neighbour = await here.stranger(host=first.address.host)
        await neighbour.ask(node, Ping())
        assert await role_of(node) == "client"


@pytest.mark.parametrize(("server", "role"), [(True, "server"), (False, "client")])
async def test_what_the_operator_decided_stays(server: bool, role: str) -> None:
    async with Neighbourhood(OPEN) as here:
        await here.grow(2)
        node = await here.start(server=server)
        assert await role_of(node) == role
        await (await here.stranger()).ask(node, Ping())
        await asyncio.sleep(HOUR)
        assert await role_of(node) == role
        assert await served(here, "Probe") == 0


async def test_without_a_solved_puzzle_nobody_becomes_a_server() -> None:
    network = Network.open("puzzle", copies=3, puzzle_bits=6)
    rng = Random(5)
    lazy = Identity.generate(rng, suite=SUITE)
    assert not solves_puzzle(lazy.id, bits=6)
    async with Neighbourhood(network) as here:
        await here.start(identity=Identity.generate(rng, puzzle_bits=6, suite=SUITE))
        for host in ("", "10.0.0.1"):
            node = await here.start(identity=lazy, server=None, host=host)
            await (await here.stranger()).ask(node, Ping())
            await asyncio.sleep(HOUR)
            assert await role_of(node) == "client"
            await node.stop()


# --- At home ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "192.168.7.7", "::1", "fd00::1"])
async def test_at_a_local_address_a_node_is_a_server_at_once(host: str) -> None:
    async with Neighbourhood(OPEN) as here:
        assert await role_of(await here.start(host=host, server=None)) == "server"


async def test_a_node_learns_from_its_neighbours_that_it_is_local() -> None:
    async with Neighbourhood(OPEN) as here:
        await here.start(host="192.168.1.1")
        node = await here.start_everywhere("192.168.1.2")
        assert await role_of(node) == "server"
        assert (node.invite.host, node.invite.port) == ("192.168.1.2", 4000)


async def test_a_public_peer_cannot_make_us_believe_that_we_are_local() -> None:
    """It would make servers of nodes that nobody can reach."""
    async with Neighbourhood(OPEN) as here:
        await here.start()
        node = await here.start_everywhere("192.168.1.2")  # seen so, as if there were no NAT
        assert node.contacts() != []
        assert await role_of(node) == "client"
        assert node.invite.host == "0.0.0.0"


async def test_a_card_is_empty_while_we_do_not_know_where_we_are() -> None:
    async with Neighbourhood() as here:
        node = await here.start_everywhere("192.168.1.2", bootstrap=[])
        stranger = await here.stranger(host="192.168.1.3")
        seen_at = Contact(node.public_key, Address("192.168.1.2", 4000))
        assert await stranger.exchange.ask(seen_at, Identify()) == Identified(b"")


# --- Helping others to find out ---------------------------------------------------------------


async def test_a_wish_to_be_called_is_passed_on_to_another_prefix() -> None:
    async with Neighbourhood(OPEN) as here:
        helper, caller = await here.grow(2)
        calls: list[Address] = []
        stranger = await here.stranger()
        here.sim.taps.append(
            lambda source, destination, _: (
                calls.append(source) if destination == stranger.exchange.address else None
            )
        )
        assert await stranger.ask(helper, Probe()) == Probed(accepted=True)
        await asyncio.sleep(1)
        assert caller.address in calls


async def test_a_helper_that_knows_nobody_else_says_no() -> None:
    async with Neighbourhood(OPEN) as here:
        helper = await here.start()
        assert await (await here.stranger()).ask(helper, Probe()) == Probed(accepted=False)


async def test_one_peer_has_few_calls_made() -> None:
    async with Neighbourhood(OPEN) as here:
        helper, _ = await here.grow(2)
        stranger = await here.stranger()
        answers = [await stranger.ask(helper, Probe()) for _ in range(6)]
        assert answers == [Probed(accepted=True)] * 2 + [Probed(accepted=False)] * 4
        await asyncio.sleep(10)
        assert await stranger.ask(helper, Probe()) == Probed(accepted=True)


async def test_few_calls_are_made_for_all_and_none_to_local_addresses() -> None:
    async with Neighbourhood(OPEN) as here:
        caller = await here.start()
        stranger = await here.stranger()

        async def asked_to_call(host: str) -> bool:
            someone = Contact(here.new_identity().public_key, Address(host, 4000))
            answer = await stranger.ask(caller, Probe(someone))
            assert isinstance(answer, Probed)
            return answer.accepted

        assert not await asked_to_call("10.0.0.1")
        called: list[Address] = []
        here.sim.taps.append(lambda _, destination, __: called.append(destination))
        accepted = [await asked_to_call(f"9.9.{number}.9") for number in range(20)]
        assert 8 <= sum(accepted) <= 12
        assert accepted[:8] == [True] * 8
        await asyncio.sleep(10)
        assert called.count(Address("9.9.0.9", 4000)) == 2


async def test_on_a_private_network_too_a_stranger_must_call() -> None:
    async with Neighbourhood(PRIVATE) as here:
        await here.grow(2)
        node = await here.start(server=None)
        assert await role_of(node) == "client"
        await (await here.stranger()).ask(node, Ping())
        assert await role_of(node) == "server"
