"""Downloads: a content whole in its file, whoever of its holders lies or dies."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kademlia_node.core.key import Key
from kademlia_node.core.message import Chunk, Request, Response
from kademlia_node.errors import Incomplete, SetupError
from kademlia_node.node import download
from kademlia_node.node.download import Progress
from kademlia_node.node.files import SharedFiles
from kademlia_node.node.node import Node
from kademlia_node.settings import CHUNK_BYTES
from kademlia_node.settings import PIECE_BYTES_MIN as PIECE
from tests.node.network import Neighbourhood
from tests.node.providers import (
    CHUNKS,
    CONTENT,
    Provider,
    change_unseen,
    fetch,
    is_there,
    manifest_of,
    part_name,
    provide,
    read,
    remove,
    write,
)


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
    return part_name(target, manifest_of(CONTENT))


def link_to_something(part: Path) -> Path:
    other = part.with_name("other")
    other.write_bytes(b"precious")
    part.symlink_to(other)
    return other


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


async def test_what_is_there_or_comes_meanwhile_is_not_replaced_unless_it_may_be(
    source: Path, target: Path, part: Path
) -> None:
    async with Neighbourhood() as here:
        (provider,), key = await provide(here, source, 1)
        reader = await here.start(server=False)
        await fetch(reader, key, target, overwrite=False)
        assert (read(target), is_there(part)) == (CONTENT, False)
        asked = provider.asked.total()
        with pytest.raises(FileExistsError, match=target.name):
            await fetch(reader, key, target, overwrite=False)
        assert provider.asked.total() == asked  # it was seen at once
        remove(target)

        def plant(request: Request) -> Response | None:
            write(target, b"somebody else's")
            return provider.give(request)

        provider.answer = plant
        with pytest.raises(FileExistsError, match=target.name):
            await fetch(reader, key, target, overwrite=False)
        assert read(target) == b"somebody else's"
        assert read(part) == CONTENT
        await fetch(reader, key, target)  # what is here already is not fetched again
        assert read(target) == CONTENT


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
        change_unseen(source, bytes(len(CONTENT)))
        reader = await here.start(server=False)
        with pytest.raises(Incomplete, match="16 of 16 pieces are missing"):
            await fetch(reader, key, target)
        assert not is_there(target)
        assert is_there(part)
        assert (await reader.status()).counters["pieces_false"] == 2


async def test_a_holder_that_lacks_pieces_gives_the_others(
    tmp_path: Path, source: Path, target: Path, part: Path
) -> None:
    shrunk, files = tmp_path / "shrunk", SharedFiles()
    write(shrunk, CONTENT[: 4 * PIECE])
    await files.add(shrunk)
    async with Neighbourhood() as here:
        await here.grow(3)
        key = (await (await here.start(content=files)).provide(manifest_of(CONTENT))).key
        reader = await here.start(server=False)
        with pytest.raises(Incomplete) as raised:
            await fetch(reader, key, target)
        assert (raised.value.missing, raised.value.of) == (12, 16)
        assert read(part) == CONTENT[: 4 * PIECE]


@pytest.mark.parametrize("way", ["silent", "lacking"])
async def test_many_who_announce_what_they_have_not_keep_nobody_from_it(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(download, "HOLDERS_MAX", 4)
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 1)
        for _ in range(20):
            liar = await here.start_as(Provider, content=SharedFiles())
            await liar.provide(manifest_of(CONTENT))
            if way == "silent":
                await liar.stop()
        for _ in range(3):
            reader = await here.start()
            await fetch(reader, key, target)
            assert read(target) == CONTENT


async def test_a_link_in_place_of_the_part_is_not_followed(
    source: Path, target: Path, part: Path
) -> None:
    other = link_to_something(part)
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 1)
        with pytest.raises(OSError, match=part.name):
            await fetch(await here.start(), key, target)
    assert read(other) == b"precious"


async def test_nobody_has_it_and_what_is_here_stays(source: Path, target: Path, part: Path) -> None:
    write(part, CONTENT[:PIECE])
    async with Neighbourhood() as here:
        await here.grow(3)
        manifest = await SharedFiles().add(source)
        key = (await here.nodes[0].put(manifest.pack())).key
        with pytest.raises(Incomplete, match="15 of 16"):
            await fetch(here.nodes[1], key, target)
        assert read(part) == CONTENT[:PIECE]


# --- Beside each other ----------------------------------------------------------------------------


async def test_what_is_here_of_another_content_is_left_alone(
    source: Path, target: Path, tmp_path: Path, part: Path
) -> None:
    other = tmp_path / "other"
    write(other, CONTENT[::-1])
    async with Neighbourhood() as here:
        await here.grow(3)
        files = SharedFiles()
        mine, manifest = await files.add(source), await files.add(other)
        providers = [await here.start_as(Provider, content=files)]
        key = (await providers[0].provide(mine)).key
        other_key = (await providers[0].provide(manifest)).key
        reader = await here.start(server=False)
        await fetch_half(reader, key, target, providers)
        before = read(part)
        await fetch(reader, other_key, target)
        assert read(target) == CONTENT[::-1]
        assert read(part) == before
        assert not is_there(part_name(target, manifest))


async def test_a_second_fetch_of_the_same_to_the_same_path_is_refused_and_harms_nothing(
    source: Path, target: Path, part: Path
) -> None:
    async with Neighbourhood() as here:
        (provider,), key = await provide(here, source, 1)
        begun = asyncio.Event()

        def begin(request: Request) -> Response | None:
            if isinstance(request, Chunk):
                begun.set()
            return provider.give(request)

        provider.answer = begin
        reader, second = await here.grow(2, server=False)
        first = asyncio.create_task(fetch(reader, key, target))
        await begun.wait()
        for node in (reader, second):
            with pytest.raises(SetupError, match="target is being fetched already"):
                await fetch(node, key, target)
        assert not first.done()
        await fetch(second, key, target.with_name("elsewhere"))
        await first
        assert read(target) == read(target.with_name("elsewhere")) == CONTENT
        assert not is_there(part)
        await fetch(second, key, target)  # the way is free again


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


# --- Progress -------------------------------------------------------------------------------------


async def test_progress_begins_with_what_is_here_and_ends_with_all(
    source: Path, target: Path, part: Path
) -> None:
    write(part, CONTENT[: 5 * PIECE])
    told: list[Progress] = []
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 2)
        reader = await here.start(server=False)
        await reader.fetch(key, target, on_progress=told.append)
    assert told[0] == Progress(5 * PIECE, len(CONTENT), 0)
    assert told[-1].done_bytes == told[-1].total_bytes == len(CONTENT)
    assert told[-1].holders == 2
    done = [progress.done_bytes for progress in told]
    assert done == sorted(done)
    assert len(set(done)) > 5


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


async def test_a_disk_that_is_full_where_a_piece_comes_again_is_the_same_error(
    tmp_path: Path, target: Path
) -> None:
    twice, piece = tmp_path / "twice", CONTENT[:PIECE]
    write(twice, piece + CONTENT[PIECE : 3 * PIECE] + piece)
    async with Neighbourhood() as here:
        _, key = await provide(here, twice, 1)
        reader = await here.start(server=False)
        with file_size_limit(3 * PIECE), pytest.raises(OSError, match=r"large|space"):
            await fetch(reader, key, target)
        assert not is_there(target)
        await fetch(reader, key, target)
        assert read(target) == read(twice)


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


async def test_progress_counts_each_place_of_a_piece_that_comes_several_times(
    source: Path, target: Path
) -> None:
    write(source, bytes(5 * PIECE) + b"end")
    async with Neighbourhood() as here:
        _, key = await provide(here, source, 1)
        told: list[Progress] = []
        await (await here.start()).fetch(key, target, on_progress=told.append)
    assert {progress.done_bytes for progress in told} <= {0, 3, 5 * PIECE, 5 * PIECE + 3}
    assert told[-1].done_bytes == told[-1].total_bytes == 5 * PIECE + 3
