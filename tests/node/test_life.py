"""How a node starts and stops, once or more often, and how it comes by its identity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import solves_puzzle
from kademlia_node.core.network import Network
from kademlia_node.core.record import Record
from kademlia_node.errors import AlreadyRunning, KademliaError, NotRunning, SetupError
from kademlia_node.net.transport import Receive, Transport
from kademlia_node.node.listener import NodeListener
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim import SimNetwork, run
from kademlia_node.store.memory import MemoryStore
from tests.node.network import HOUR, PRIVATE, SUITE, Neighbourhood, collect, contact_of, hints

NOBODY = Address("8.8.8.8", 4000)
STRANGER = Identity.generate(Random(7), suite=SUITE)


class ClosingStore(MemoryStore):
    """Knows whether it was closed."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
async def nobody_left_behind() -> AsyncIterator[None]:
    """No task survives the test."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}


async def test_a_node_is_a_context_manager() -> None:
    async with Neighbourhood() as here:
        async with here.make(Node) as node:
            await node.set("colour", b"blue")
            assert await node.get("colour") == b"blue"
            address = node.address
        again = await here.start(host=address.host, port=address.port)
        assert again.address == address


@pytest.mark.usefixtures("nobody_left_behind")
async def test_stopping_leaves_no_task_and_closes_the_store_once() -> None:
    async with Neighbourhood() as here:
        identity = here.new_identity()
        store = ClosingStore(identity.id, settings=Settings())
        node = await here.start(identity=identity, store=store)
        await node.stop()
        await node.stop()
        assert store.closed == 1


async def test_a_node_may_start_again() -> None:
    async with Neighbourhood() as here:
        first, second = await here.grow(2)
        own_id = second.id
        receipt = await second.put(b"blob")
        await second.stop()
        await second.start()
        assert second.id == own_id
        assert second.contacts() == [contact_of(first)]
        assert await second.get(receipt.key) == b"blob"


async def test_an_address_that_is_taken_is_one_clear_error_and_closes_the_store() -> None:
    async with Neighbourhood() as here:
        first = await here.start()
        identity = here.new_identity()
        store = ClosingStore(identity.id, settings=Settings())
        taken = here.make(
            Node, host=first.address.host, port=first.address.port, identity=identity, store=store
        )
        with pytest.raises(SetupError, match="in use"):
            await taken.start()
        assert store.closed == 1
        await taken.stop()


@pytest.mark.usefixtures("nobody_left_behind")
async def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    async with Neighbourhood() as here:
        memory = hints(Contact(here.new_identity().public_key, NOBODY))
        node = here.make(Node, bootstrap=[str(NOBODY)], memory=memory, host="9.9.9.9", port=4000)
        starting = asyncio.create_task(node.start())
        await asyncio.sleep(1)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await here.start(host="9.9.9.9", port=4000)


@pytest.mark.usefixtures("nobody_left_behind")
async def test_a_node_may_be_stopped_while_it_starts() -> None:
    async with Neighbourhood() as here:
        for bootstrap in (str(NOBODY), Contact(here.new_identity().public_key, NOBODY)):
            memory = hints(bootstrap) if isinstance(bootstrap, Contact) else None
            invites = [bootstrap] if isinstance(bootstrap, str) else []
            node = here.make(Node, bootstrap=invites, memory=memory)
            starting = asyncio.create_task(node.start())
            await asyncio.sleep(1)
            await node.stop()
            async with asyncio.timeout(10):
                await starting


VERBS: dict[str, Callable[[Node], Any]] = {
    "get": lambda node: node.get("colour"),
    "put": lambda node: node.put(b"value"),
    "set": lambda node: node.set("colour", b"blue"),
    "withdraw": lambda node: node.withdraw(topic="cars"),
    "find": lambda node: collect(node.find("cars")),
    "lookup": lambda node: node.lookup(bytes(32)),
    "ping": lambda node: node.ping(Contact(STRANGER.public_key, NOBODY)),
    "ping by address": lambda node: node.ping(str(NOBODY)),
}


@pytest.mark.usefixtures("nobody_left_behind")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("after_s", [0.01, 0.07, 0.13, 0.2])
async def test_a_verb_under_way_ends_when_the_node_stops(verb: str, after_s: float) -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        node = await here.start(server=False)
        working = asyncio.create_task(VERBS[verb](node))
        await asyncio.sleep(after_s)
        await node.stop()
        with suppress(KademliaError):
            async with asyncio.timeout(5):
                await working


EVERY_VERB = VERBS | {
    "announce": lambda node: node.announce("cars", b"red"),
    "status": lambda node: node.status(),
}


@pytest.mark.parametrize("verb", EVERY_VERB)
async def test_a_node_that_is_not_running_says_so_whatever_it_is_asked(verb: str) -> None:
    async with Neighbourhood() as here:
        await here.grow(2)
        node = here.make(Node)
        with pytest.raises(NotRunning, match="use `async with Node"):
            await EVERY_VERB[verb](node)
        await node.start()
        await node.stop()
        with pytest.raises(NotRunning, match="the node is not running"):
            await EVERY_VERB[verb](node)


async def test_who_a_node_was_can_be_read_after_its_stop_but_not_before_its_start() -> None:
    async with Neighbourhood() as here:
        node = here.make(Node)
        with pytest.raises(NotRunning):
            _ = node.invite
        async with node:
            invite = node.invite
        assert node.invite == invite


async def test_a_node_is_started_once_at_a_time() -> None:
    async with Neighbourhood() as here:
        node = here.make(Node, bootstrap=[str(NOBODY)])
        starting = asyncio.create_task(node.start())
        await asyncio.sleep(0.01)
        with pytest.raises(AlreadyRunning):
            await node.start()
        await starting
        with pytest.raises(AlreadyRunning, match="running already"):
            await node.start()
        assert (await node.status()).peers == 0
        await node.stop()


async def test_a_node_that_starts_again_knows_its_peers() -> None:
    async with Neighbourhood() as here:
        node = await here.start(bootstrap=[])
        second = await here.start(bootstrap=[node.invite])
        await node.stop()
        await node.start()
        assert node.contacts() == [contact_of(second)]


async def test_publications_outlive_a_restart_with_the_store() -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        receipt = await node.put(b"blob")
        await node.stop()
        await node.start()
        assert (await node.status()).publications == 1
        assert [published.record.key async for published in node.publications()] == [
            receipt.key.digest
        ]


class StuckStore(ClosingStore):
    """A disk that never comes back."""

    async def get(
        self,
        key: bytes,
        *,
        wall: float,
        after: tuple[bytes, bytes] | None = None,
        limit: int | None = None,
    ) -> list[Record]:
        await asyncio.Event().wait()
        raise AssertionError("never set")


@pytest.mark.usefixtures("nobody_left_behind")
async def test_stopping_does_not_wait_for_what_is_being_served() -> None:
    async with Neighbourhood() as here:
        identity = here.new_identity()
        store = StuckStore(identity.id, settings=Settings())
        node = await here.start(identity=identity, store=store)
        others = await here.grow(3)
        reading = [asyncio.create_task(other.get("colour", default=None)) for other in others]
        await asyncio.sleep(0.12)
        async with asyncio.timeout(1):
            await node.stop()
        assert store.closed == 1
        assert await asyncio.gather(*reading) == [None] * 3


async def test_peers_outlive_the_death_of_one() -> None:
    async with Neighbourhood() as here:
        await here.grow(8)
        receipt = await here.nodes[0].set("colour", b"blue")
        holders = [node for node in here.nodes if node.id in {c.id for c in receipt.replicas}]
        await holders[0].stop()
        for node in here.nodes:
            if node is not holders[0]:
                assert await node.get("colour") == b"blue"


# --- Identity ---------------------------------------------------------------------------------


async def test_without_an_identity_one_is_found_that_solves_the_puzzle() -> None:
    async with Neighbourhood() as here:
        network = Network.open("puzzle", puzzle_bits=8)
        options: dict[str, Any] = {
            "network": network,
            "listen": here.sim.listen,
            "wall": here.sim.wall,
            "suite": SUITE,
        }
        async with Node(rng=Random(1), **options) as node:
            assert solves_puzzle(node.id, bits=8)
        async with Node(rng=Random(1), server=False, **options) as client:
            assert client.public_key != node.public_key  # the first key will do


@pytest.mark.usefixtures("nobody_left_behind")
async def test_a_server_whose_identity_does_not_solve_the_puzzle_does_not_start() -> None:
    async with Neighbourhood(Network.open("puzzle", puzzle_bits=24)) as here:
        node = here.make(Node, server=True)
        with pytest.raises(SetupError, match="does not solve the 24-bit puzzle"):
            await node.start()
        for server in (False, None):
            await here.start(server=server)


def test_the_same_chance_makes_the_same_run() -> None:
    async def digest() -> tuple[bytes, str]:
        async with Neighbourhood(seed=5) as here:
            await here.grow(5)
            await here.nodes[1].set("colour", b"blue")
            await asyncio.sleep(HOUR)
            return here.nodes[4].id, here.sim.trace_digest()

    assert run(digest()) == run(digest())


async def test_the_search_for_an_identity_lets_others_run() -> None:
    async with Neighbourhood() as here:
        node = Node(
            network=Network.open("puzzle", puzzle_bits=11),
            listen=here.sim.listen,
            rng=Random(2),
            wall=here.sim.wall,
            suite=SUITE,
        )
        turns = 0
        starting = asyncio.create_task(node.start())
        while not starting.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 3
        await node.stop()


async def test_what_the_exchange_tells_a_node_is_no_business_of_its_users() -> None:
    inner = {name for name in vars(NodeListener) if not name.startswith("_")}
    assert "serve" in inner
    assert not inner & set(dir(Node))


async def test_the_socket_is_opened_with_the_settings_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sim = SimNetwork(rng=Random(1))
    given: list[Settings] = []

    async def listen(host: str, port: int, receive: Receive, *, settings: Settings) -> Transport:
        given.append(settings)
        return await sim.listen(host, port, receive)

    monkeypatch.setattr("kademlia_node.node.life.listen_udp", listen)
    settings = Settings(receive_buffer_bytes=70_000)
    async with Node(network=PRIVATE, settings=settings, wall=sim.wall, rng=Random(2)):
        assert given == [settings]
