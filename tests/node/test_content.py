"""Large content: shared as a file, fetched as a file, whoever of its holders lies or dies."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from kademlia_node.core.contact import Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Key
from kademlia_node.core.message import Chunk, Chunked, Request, Response
from kademlia_node.core.record import make_topic_entry
from kademlia_node.errors import Incomplete, MalformedMessage, NotFound
from kademlia_node.node.content import SharedFiles, holder_of, holders_topic
from kademlia_node.node.node import Node
from kademlia_node.node.receipt import TopicEntry
from kademlia_node.settings import CHUNK_BYTES, MANIFEST_PIECES_MAX, PIECE_BYTES_MAX
from kademlia_node.settings import PIECE_BYTES_MIN as PIECE
from tests.node.network import DAY, PRIVATE, SILENCE, Neighbourhood, Puppet, contact_of

CONTENT = Random(1).randbytes(15 * PIECE + 1000)
CHUNKS = -(-len(CONTENT) // CHUNK_BYTES)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def part(target: Path) -> Path:
    return target.with_name("target.part")


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def is_there(path: Path) -> bool:
    return path.exists()


class Provider(Puppet):
    """A puppet that counts the chunks that it is asked for."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.asked: Counter[tuple[bytes, int]] = Counter()
        self.answer = self.give

    def give(self, request: Request) -> Response | None:
        """As the node does."""
        if isinstance(request, Chunk):
            self.asked[request.content, request.index] += 1
        return None

    def stall(self, request: Request, *, after: int = 0) -> Response | None:
        """Silence, after so many chunks."""
        self.give(request)
        return SILENCE if isinstance(request, Chunk) and self.asked.total() > after else None

    def lie(self, request: Request) -> Response | None:
        """Other bytes."""
        self.give(request)
        return Chunked(bytes(CHUNK_BYTES)) if isinstance(request, Chunk) else None


async def provide(here: Neighbourhood, source: Path, count: int) -> tuple[list[Provider], Key]:
    """So many providers of a file, beside three other nodes that keep the records."""
    await here.grow(3)
    files = SharedFiles()
    manifest = await files.add(source)
    providers = [await here.start_as(Provider, content=files) for _ in range(count)]
    receipts = [await provider.provide(manifest) for provider in providers]
    return providers, receipts[0].key


async def fetch(node: Node, key: Key, target: Path) -> None:
    async with asyncio.timeout(120):
        await node.fetch(key, target)


async def fetch_half(node: Node, key: Key, target: Path, providers: list[Provider]) -> None:
    """An attempt that is broken off when about half of the pieces are here."""
    first, enough = providers[0], asyncio.Event()

    def count(request: Request) -> Response | None:
        if first.asked.total() > 0.75 * CHUNKS / len(providers):
            enough.set()
        return first.give(request)

    first.answer = count
    attempt = asyncio.create_task(node.fetch(key, target))
    await enough.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await asyncio.sleep(1)  # what was on its way
    for provider in providers:
        provider.asked.clear()


# --- Whole ----------------------------------------------------------------------------------------


async def test_a_content_comes_from_all_its_holders_and_nearly_every_chunk_once(
    source: Path, target: Path, part: Path
) -> None:
    async with Neighbourhood() as here:
        providers, key = await provide(here, source, 3)
        await fetch(await here.start(server=False), key, target)
        assert read(target) == CONTENT
        assert not is_there(part)
        asked = [provider.asked.total() for provider in providers]
        assert min(asked) > CHUNKS // 6
        assert sum(asked) < 1.3 * CHUNKS  # but for the endgame


async def test_lost_packets_cost_no_byte(source: Path, target: Path) -> None:
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 3)
        reader = await here.start(server=False)
        here.sim.loss = 0.05
        await fetch(reader, key, target)
        assert read(target) == CONTENT


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1])
async def test_content_of_any_length(tmp_path: Path, target: Path, size: int) -> None:
    source = tmp_path / "source"
    write(source, CONTENT[:size])
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 1)
        await fetch(await here.start(server=False), key, target)
        assert read(target) == CONTENT[:size]


async def test_a_piece_that_comes_again_and_again_is_fetched_once(
    tmp_path: Path, target: Path
) -> None:
    source = tmp_path / "source"
    content = bytes(3 * PIECE) + CONTENT[:PIECE] + bytes(2 * PIECE)
    write(source, content)
    async with Neighbourhood() as here:
        (provider,), key = await provide(here, source, 1)
        await fetch(await here.start(server=False), key, target)
        assert read(target) == content
        assert provider.asked.total() == 2 * PIECE // CHUNK_BYTES


async def test_a_target_is_replaced_when_the_new_one_is_whole_and_not_before(
    source: Path, target: Path, part: Path
) -> None:
    write(target, b"old")
    async with Neighbourhood() as here:
        (provider,), key = await provide(here, source, 1)
        provider.answer = lambda request: provider.stall(request, after=300)
        reader = await here.start(server=False)
        with pytest.raises(Incomplete):
            await fetch(reader, key, target)
        assert read(target) == b"old"
        assert read(part)
        provider.answer = provider.give
        await fetch(reader, key, target)
        assert read(target) == CONTENT
        assert not is_there(part)


async def test_a_reader_that_is_a_holder_itself_does_not_ask_itself(
    source: Path, target: Path
) -> None:
    async with Neighbourhood() as here:
        (provider, reader), key = await provide(here, source, 2)
        await fetch(reader, key, target)
        assert read(target) == CONTENT
        assert provider.asked.total() >= CHUNKS
        assert (await reader.status()).counters.get("pieces_stalled", 0) == 0


# --- Holders that fail ----------------------------------------------------------------------------


async def test_a_liar_a_sleeper_and_one_that_dies_leave_the_content_whole(
    source: Path, target: Path
) -> None:
    async with Neighbourhood() as here:
        (_, liar, sleeper, dying), key = await provide(here, source, 4)
        liar.answer, sleeper.answer = liar.lie, sleeper.stall

        def die(request: Request) -> Response | None:
            if dying.asked.total() > 50:
                here.sim.unplug(dying.address)
            return dying.give(request)

        dying.answer = die
        reader = await here.start(server=False)
        await fetch(reader, key, target)
        assert read(target) == CONTENT
        counts = (await reader.status()).counters
        assert counts["pieces_false"] == 1
        assert liar.asked.total() <= 4 * 2 * PIECE // CHUNK_BYTES  # and no more after the lie
        assert dying.asked.total() > 50


async def test_a_holder_of_a_file_that_has_changed_is_dropped(
    tmp_path: Path, source: Path, target: Path
) -> None:
    changed = tmp_path / "changed"
    write(changed, CONTENT)
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 1)
        files = SharedFiles()
        manifest = await files.add(changed)
        await (await here.start(content=files)).provide(manifest)
        write(changed, CONTENT[:PIECE] + bytes(1) + CONTENT[PIECE + 1 :])
        reader = await here.start(server=False)
        await fetch(reader, key, target)
        assert read(target) == CONTENT


async def test_never_a_wrong_file_though_all_holders_have_changed_it(
    source: Path, target: Path, part: Path
) -> None:
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 2)
        write(source, bytes(len(CONTENT)))
        reader = await here.start(server=False)
        with pytest.raises(Incomplete, match="16 of 16 pieces are missing"):
            await fetch(reader, key, target)
        assert not is_there(target)
        assert is_there(part)
        assert (await reader.status()).counters["pieces_false"] == 2


async def test_a_holder_that_lacks_pieces_gives_the_others(
    tmp_path: Path, source: Path, target: Path, part: Path
) -> None:
    shrunk = tmp_path / "shrunk"
    write(shrunk, CONTENT)
    async with Neighbourhood() as here:
        _, key = await provide(here, shrunk, 1)
        write(shrunk, CONTENT[: 4 * PIECE])
        reader = await here.start(server=False)
        with pytest.raises(Incomplete) as raised:
            await fetch(reader, key, target)
        assert (raised.value.missing, raised.value.of) == (12, 16)
        assert read(part) == CONTENT[: 4 * PIECE]


async def test_nobody_has_it_and_what_is_here_stays(source: Path, target: Path, part: Path) -> None:
    write(part, CONTENT[:PIECE])
    async with Neighbourhood() as here:
        await here.grow(3)
        manifest = await SharedFiles().add(source)
        key = (await here.nodes[0].put(manifest.pack())).key
        with pytest.raises(Incomplete, match="15 of 16"):
            await fetch(here.nodes[1], key, target)
        assert read(part) == CONTENT[:PIECE]


# --- Going on -------------------------------------------------------------------------------------


async def test_an_attempt_that_was_broken_off_goes_on_where_it_was(
    source: Path, target: Path
) -> None:
    async with Neighbourhood() as here:
        providers, key = await provide(here, source, 2)
        await fetch_half(await here.start(server=False), key, target, providers)
        assert not is_there(target)
        await fetch(await here.start(server=False), key, target)
        assert read(target) == CONTENT
        again = sum(provider.asked.total() for provider in providers)
        assert 0 < again < 0.8 * CHUNKS


async def test_damage_in_what_was_left_is_repaired_and_nothing_else_is_fetched(
    source: Path, target: Path, part: Path
) -> None:
    damaged = bytearray(CONTENT) + b"and more than there should be"
    damaged[5 * PIECE + 7] ^= 1
    write(part, bytes(damaged))
    async with Neighbourhood() as here:
        (provider,), key = await provide(here, source, 1)
        await fetch(await here.start(server=False), key, target)
        assert read(target) == CONTENT
        assert provider.asked.total() == PIECE // CHUNK_BYTES


async def test_what_was_whole_already_needs_no_holder(
    source: Path, target: Path, part: Path
) -> None:
    write(part, CONTENT)
    async with Neighbourhood() as here:
        (provider,), key = await provide(here, source, 1)
        await fetch(await here.start(server=False), key, target)
        assert read(target) == CONTENT
        assert not provider.asked


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


# --- Our own disk ---------------------------------------------------------------------------------


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond this: what a disk does that is full in the midst of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_is_full_ends_the_attempt_and_damages_nothing(
    source: Path, target: Path
) -> None:
    async with Neighbourhood() as here:
        (provider,), key = await provide(here, source, 1)
        reader = await here.start(server=False)
        with file_size_limit(5 * PIECE + 1000), pytest.raises(OSError, match=r"No space|too large"):
            await fetch(reader, key, target)
        assert not is_there(target)
        await asyncio.sleep(1)  # what was on its way
        before = provider.asked.total()
        await asyncio.sleep(10)
        assert provider.asked.total() == before
        await fetch(reader, key, target)
        assert read(target) == CONTENT


async def test_a_piece_that_was_written_in_part_is_not_taken_for_whole(
    tmp_path: Path, target: Path
) -> None:
    source = tmp_path / "source"
    write(source, CONTENT[:PIECE])
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 1)
        reader = await here.start(server=False)
        with file_size_limit(PIECE // 2), pytest.raises(OSError, match="No space left"):
            await fetch(reader, key, target)
        assert not is_there(target)


async def test_a_folder_that_is_not_there(source: Path, tmp_path: Path) -> None:
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 1)
        with pytest.raises(FileNotFoundError):
            await fetch(await here.start(server=False), key, tmp_path / "no" / "target")


# --- Shared files ---------------------------------------------------------------------------------


async def test_a_shared_file_is_read_by_the_hash_of_its_pieces(source: Path) -> None:
    files = SharedFiles()
    manifest = await files.add(source)
    assert manifest.length == len(CONTENT)
    last = manifest.pieces[-1]
    assert last.length == 1000
    assert await files.read(last.hash, 0, PIECE) == CONTENT[-1000:]
    assert await files.read(last.hash, PIECE, PIECE) == b""
    assert await files.read(manifest.pieces[1].hash, 0, PIECE) == CONTENT[PIECE : 2 * PIECE]
    assert await files.read(b"\x00" * 32, 0, PIECE) is None
    remove(source)
    assert await files.read(last.hash, 0, PIECE) is None


async def test_a_file_that_no_manifest_describes_is_not_shared(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(MANIFEST_PIECES_MAX * PIECE_BYTES_MAX + 1)
    with pytest.raises(ValueError, match="more than"):
        await SharedFiles().add(path)
