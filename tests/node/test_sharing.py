"""The verbs for large content: provided, provided no longer, fetched; and what they refuse."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Key, blob_key, topic_key
from kademlia_node.core.record import make_topic_entry
from kademlia_node.errors import (
    Incomplete,
    MalformedMessage,
    NotFound,
    NotRunning,
    NotStored,
    SetupError,
)
from kademlia_node.node.download import holder_of, holders_topic
from kademlia_node.node.files import SharedFiles
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import TopicEntry
from tests.node.network import DAY, PRIVATE, Neighbourhood, contact_of
from tests.node.providers import (
    CHUNKS,
    CONTENT,
    Provider,
    fetch,
    is_there,
    manifest_of,
    provide,
    read,
)

MANIFEST = manifest_of(CONTENT)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


async def said(here: Neighbourhood, key: Key) -> set[bytes | None]:
    """What the nodes hold of who has a content; None for a tombstone."""
    records = [
        record for node in here.nodes for record in await here.held(node, holders_topic(key))
    ]
    return {None if record.header.is_tombstone else record.value for record in records}


async def kept_alive(node: Node) -> int:
    return len([published async for published in node.publications()])


# --- Provided -------------------------------------------------------------------------------------


async def test_who_provides_a_content_is_announced_where_it_is_reached() -> None:
    async with Neighbourhood() as here:
        alice, *_ = await here.grow(3)
        receipt = await alice.provide(MANIFEST)
        assert receipt.key == blob_key(MANIFEST.pack())
        assert await said(here, receipt.key) == {contact_of(alice).pack()}
        assert await kept_alive(alice) == 2
        costs = (await alice.status()).operations
        assert (costs["put"].count, costs["write"].count) == (1, 1)


async def test_a_node_on_all_interfaces_announces_what_its_peers_have_told_it() -> None:
    async with Neighbourhood() as here:
        await here.start(host="192.168.1.1")
        node = await here.start_everywhere("192.168.1.2")
        key = (await node.provide(MANIFEST)).key
        told = Contact(node.public_key, Address("192.168.1.2", 4000))
        assert await said(here, key) == {told.pack()}


async def test_a_node_that_knows_no_address_of_its_own_provides_nothing() -> None:
    async with Neighbourhood() as here:
        node = await here.start_everywhere("192.168.1.2", bootstrap=[])
        with pytest.raises(SetupError, match=r"bound to 0\.0\.0\.0"):
            await node.provide(MANIFEST)
        assert await kept_alive(node) == 0


async def test_after_another_start_the_new_announcement_replaces_the_old_one() -> None:
    async with Neighbourhood() as here:
        await here.grow(3)
        identity = here.new_identity()
        before = await here.start(identity=identity, server=False)
        key = (await before.provide(MANIFEST)).key
        await before.stop()
        after = await here.start(identity=identity, server=False)
        assert contact_of(after) != contact_of(before)
        await after.provide(MANIFEST)
        assert await said(here, key) == {contact_of(after).pack()}


# --- Provided no longer ---------------------------------------------------------------------------


async def test_who_provides_no_longer_is_not_asked_and_the_others_are(
    source: Path, target: Path
) -> None:
    async with Neighbourhood() as here:
        (first, second), key = await provide(here, source, 2)
        await first.unprovide(key)
        assert await kept_alive(first) == 0
        await asyncio.sleep(300.0)  # whoever came to hold it meanwhile learns it by repair
        assert await said(here, key) == {None, contact_of(second).pack()}
        await fetch(await here.start(server=False), key, target)
        assert read(target) == CONTENT
        assert not first.asked
        assert second.asked.total() == CHUNKS


async def test_who_cannot_tell_anybody_goes_on_announcing() -> None:
    async with Neighbourhood() as here:
        others = await here.grow(3)
        node = await here.start(server=False)
        key = (await node.provide(MANIFEST)).key
        for other in others:
            here.sim.unplug(other.address)
        with pytest.raises(NotStored):
            await node.unprovide(key)
        assert await kept_alive(node) == 2


# --- Fetched --------------------------------------------------------------------------------------


async def test_a_path_may_be_text(source: Path, target: Path) -> None:
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 1)
        await fetch(await here.start(server=False), key, str(target))
        assert read(target) == CONTENT


async def test_the_status_shows_what_fetches_have_cost(source: Path, target: Path) -> None:
    async with Neighbourhood() as here:
        providers, key = await provide(here, source, 1)
        reader = await here.start(server=False)
        await fetch(reader, key, target)
        costs = (await reader.status()).operations
        assert costs["fetch"].count == 1
        assert costs["fetch"].requests >= CHUNKS + costs["get"].requests  # of the manifest
        await providers[0].unprovide(key)
        with pytest.raises(Incomplete):
            await fetch(reader, key, target)
        with pytest.raises(NotFound):
            await fetch(reader, blob_key(b"nobody has it"), target)
        assert (await reader.status()).operations["fetch"].count == 3


async def test_a_directory_is_refused_before_anybody_is_asked(source: Path, tmp_path: Path) -> None:
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 1)
        reader = await here.start(server=False)
        with pytest.raises(IsADirectoryError, match=str(tmp_path)):
            await fetch(reader, key, tmp_path)
        assert (await reader.status()).operations == {}


async def test_nobody_is_announced_by_somebody_else(source: Path, target: Path) -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        mallory, contact = here.new_identity(), contact_of(bob)
        entry = TopicEntry(mallory.public_key, b"", contact.pack(), 1, 1)
        assert holder_of(entry) is None
        assert holder_of(TopicEntry(bob.public_key, b"", contact.pack(), 1, 1)) == contact
        assert holder_of(TopicEntry(bob.public_key, b"", b"no contact", 1, 1)) is None
        files = SharedFiles()
        key = (await alice.put((await files.add(source)).pack())).key
        provider = await here.start_as(Provider, content=files)
        await announce(here, mallory, key, contact_of(provider))
        with pytest.raises(Incomplete):
            await fetch(bob, key, target)
        assert not provider.asked


async def announce(here: Neighbourhood, author: Identity, content: Key, contact: Contact) -> None:
    """Have every node hold the word of somebody that a content is at some contact."""
    topic = holders_topic(content)
    entry = make_topic_entry(
        author.signing,
        topic.digest,
        slot=b"",
        value=contact.pack(),
        seq=1,
        expires=int(here.sim.wall() + DAY),
        network_tag=PRIVATE.tag,
    )
    for node in here.nodes:
        await here.store_of(node).put(entry, charged_to=b"", wall=here.sim.wall())


# --- What is no content ---------------------------------------------------------------------------


async def test_a_key_that_names_no_manifest(target: Path) -> None:
    async with Neighbourhood() as here:
        alice, bob = await here.grow(2)
        receipt = await alice.put(b"something else")
        with pytest.raises(MalformedMessage):
            await bob.fetch(receipt.key, target)
        assert not is_there(target)


async def test_a_key_that_nobody_has(source: Path, target: Path) -> None:
    manifest = await SharedFiles().add(source)
    async with Neighbourhood() as here:
        alice, _ = await here.grow(2)
        async with Neighbourhood() as elsewhere:
            receipt = await (await elsewhere.grow(2))[0].put(manifest.pack())
        with pytest.raises(NotFound):
            await alice.fetch(receipt.key, target)


@pytest.mark.parametrize(
    ("key", "error", "word"),
    [
        (str(blob_key(b"")), TypeError, r"not str: read it with Key\.parse"),
        (b"\x00" * 32, TypeError, "not bytes$"),
        (topic_key(b"papers"), ValueError, "not by topic-"),
    ],
)
async def test_what_is_no_key_of_a_blob_names_no_content(
    target: Path, key: Any, error: type[Exception], word: str
) -> None:
    async with Neighbourhood() as here:
        node = await here.start()
        with pytest.raises(error, match=word):
            await node.fetch(key, target)
        with pytest.raises(error, match=word):
            await node.unprovide(key)


async def test_a_node_that_does_not_run_shares_nothing(target: Path) -> None:
    node = Node()
    for verb in (
        node.provide(MANIFEST),
        node.unprovide(blob_key(b"")),
        node.fetch(blob_key(b""), target),
    ):
        with pytest.raises(NotRunning):
            await verb
