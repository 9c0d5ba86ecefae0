"""Contents whose holders, manifests or leftovers are not what a reader would wish for."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.key import Key
from kademlia_node.core.message import Store
from kademlia_node.core.record import make_topic_entry
from kademlia_node.errors import ValueTooLarge
from kademlia_node.node.download import holders_topic, part_of
from kademlia_node.node.files import SharedFiles
from kademlia_node.settings import PIECE_BYTES_MIN
from tests.node.network import DAY, OPEN, Neighbourhood


async def announce_false_holders(
    here: Neighbourhood, content: Key, victim: str, count: int
) -> None:
    """Many identities say that they have a content, each at another port of one host."""
    (node, *_) = here.nodes
    stranger = await here.stranger(host="44.4.4.4")
    for number in range(count):
        liar = here.new_identity()
        record = make_topic_entry(
            liar.signing,
            holders_topic(content).digest,
            slot=b"",
            value=Contact(liar.public_key, Address(victim, 5000 + number)).pack(),
            seq=1,
            expires=int(here.sim.wall() + DAY),
            network_tag=here.network.tag,
        )
        await stranger.ask(node, Store(record.key, record.header, record.value))


async def test_false_holders_do_not_make_a_reader_flood_their_victim(tmp_path: Path) -> None:
    async with Neighbourhood(OPEN) as here:
        files = SharedFiles()
        source = tmp_path / "source"
        source.write_bytes(Random(3).randbytes(300_000))
        manifest = await files.add(source)
        await here.start()
        provider = await here.start(content=files)
        key = (await provider.provide(manifest)).key
        victim = "77.7.7.7"
        await announce_false_holders(here, key, victim, 100)
        knocks = 0

        def tap(_: Address, target: Address, __: bytes) -> None:
            nonlocal knocks
            knocks += target.host == victim

        here.sim.taps.append(tap)
        reader = await here.start(server=False)
        await reader.fetch(key, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == source.read_bytes()
        assert knocks <= 4  # two sendings to one, perhaps again


async def test_a_content_longer_than_the_caller_bears_is_refused(tmp_path: Path) -> None:
    async with Neighbourhood() as here:
        files = SharedFiles()
        source = tmp_path / "source"
        source.write_bytes(bytes(1000))
        provider = await here.start(content=files)
        key = (await provider.provide(await files.add(source))).key
        with pytest.raises(ValueTooLarge, match="1000 bytes"):
            await provider.fetch(key, tmp_path / "target", length_max=999)


async def test_a_piece_that_was_written_at_one_of_its_places_only_is_completed(
    tmp_path: Path,
) -> None:
    async with Neighbourhood() as here:
        files = SharedFiles()
        source, target = tmp_path / "source", tmp_path / "target"
        block = Random(4).randbytes(PIECE_BYTES_MIN)
        source.write_bytes(block * 3 + b"end")
        provider = await here.start(content=files)
        manifest = await files.add(source)
        key = (await provider.provide(manifest)).key
        part_of(target, manifest.hash).write_bytes(block)  # killed after the first place
        await (await here.start(server=False)).fetch(key, target)
        assert target.read_bytes() == source.read_bytes()
