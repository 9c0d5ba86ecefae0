"""Files of this machine as a source of content."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from kademlia_node.errors import SetupError
from kademlia_node.node.files import FileState, SharedFiles, read_file
from kademlia_node.settings import MANIFEST_PIECES_MAX, PIECE_BYTES_MAX
from kademlia_node.settings import PIECE_BYTES_MIN as PIECE
from tests.node.providers import CONTENT, manifest_of, read, remove, touch, write


async def test_a_shared_file_is_read_by_the_hash_of_its_pieces(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source, CONTENT)
    files = SharedFiles()
    manifest = await files.add(source)
    assert manifest == manifest_of(CONTENT)
    last = manifest.pieces[-1]
    assert last.length == 1000
    assert await files.read(last.hash, 0, PIECE) == CONTENT[-1000:]
    assert await files.read(last.hash, PIECE, PIECE) == b""
    assert await files.read(manifest.pieces[1].hash, 0, PIECE) == CONTENT[PIECE : 2 * PIECE]
    assert await files.read(b"\x00" * 32, 0, PIECE) is None
    remove(source)
    assert await files.read(last.hash, 0, PIECE) is None


async def test_a_file_that_has_changed_is_not_read_from_until_it_is_what_it_was(
    tmp_path: Path,
) -> None:
    source, files = tmp_path / "source", SharedFiles()
    write(source, CONTENT)
    shared = await read_file(source)
    files.share(shared)
    piece = shared.manifest.pieces[0].hash
    touch(source)
    assert await files.read(piece, 0, PIECE) is None
    assert shared.state() is FileState.CHANGED
    touch(source, later_s=-1)
    assert await files.read(piece, 0, PIECE) == CONTENT[:PIECE]
    assert shared.state() is FileState.SAME
    write(source, CONTENT + b"more")
    os.utime(source, ns=(shared.mtime_ns, shared.mtime_ns))
    assert await files.read(piece, 0, PIECE) is None
    assert shared.state() is FileState.CHANGED
    remove(source)
    assert shared.state() is FileState.GONE


def link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("other", [os.mkfifo, os.mkdir, link_to_zeros])
async def test_what_has_taken_the_place_of_a_file_is_not_read(tmp_path: Path, other: Any) -> None:
    source, files = tmp_path / "source", SharedFiles()
    write(source, b"content")
    shared = await read_file(source)
    files.share(shared)
    remove(source)
    other(source)
    assert await files.read(shared.manifest.pieces[0].hash, 0, PIECE) is None
    assert shared.state() is FileState.CHANGED


async def test_a_link_to_the_very_file_is_not_followed_either(tmp_path: Path) -> None:
    source, files = tmp_path / "source", SharedFiles()
    write(source, b"content")
    shared = await read_file(source)
    files.share(shared)
    make_a_link_of(source)
    assert await files.read(shared.manifest.pieces[0].hash, 0, PIECE) is None
    assert shared.state() is FileState.CHANGED


def make_a_link_of(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


async def test_no_file_is_left_open(tmp_path: Path) -> None:
    source, files = tmp_path / "source", SharedFiles()
    write(source, b"content")
    manifest = await files.add(source)
    before = open_files()
    await files.add(source)
    assert await files.read(manifest.pieces[0].hash, 0, PIECE) == b"content"
    touch(source)
    assert await files.read(manifest.pieces[0].hash, 0, PIECE) is None
    remove(source)
    source.mkdir()
    assert await files.read(manifest.pieces[0].hash, 0, PIECE) is None
    assert open_files() == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_link_stands_for_the_file_behind_it_now(tmp_path: Path) -> None:
    source, link = tmp_path / "source", tmp_path / "link"
    write(source, CONTENT)
    link.symlink_to("source")
    assert (await read_file(link)).path == source.resolve()


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkdir, "is a directory: name its files"),
        (os.mkfifo, "is a pipe"),
        (bind, "is a socket"),
        (link_to_zeros, "is a device"),
    ],
)
async def test_what_is_no_file_is_refused(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path / "other")
    with pytest.raises(SetupError, match=said):
        await SharedFiles().add(tmp_path / "other")


async def test_what_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await SharedFiles().add(tmp_path / "nothing")


@pytest.mark.parametrize("change", [touch, lambda path: write(path, CONTENT + CONTENT)])
async def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: Any) -> None:
    source = tmp_path / "source"
    write(source, CONTENT)

    def meddle(done_bytes: int, _: int) -> None:
        if done_bytes == 3 * PIECE:
            change(source)

    with pytest.raises(SetupError, match="was changed while it was read"):
        await read_file(source, on_read=meddle)


async def test_reading_tells_how_far_it_is_and_lets_others_have_their_turn(tmp_path: Path) -> None:
    source = tmp_path / "source"
    told: list[tuple[int, int]] = []
    turns: list[int] = []
    write(source, CONTENT)

    async def other() -> None:
        while len(told) < 16:
            turns.append(len(told))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(other())
        tasks.create_task(read_file(source, on_read=lambda *far: told.append(far)))
    assert told[0] == (PIECE, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert len(turns) >= 16


async def test_of_two_files_with_a_piece_in_common_one_may_go(tmp_path: Path) -> None:
    files, one, two = SharedFiles(), tmp_path / "one", tmp_path / "two"
    write(one, CONTENT[: 2 * PIECE] * 2)
    write(two, CONTENT[: 3 * PIECE])
    first, second = await files.add(one), await files.add(two)
    shared = first.pieces[0].hash
    remove(one)
    assert await files.read(shared, 0, PIECE) == CONTENT[:PIECE]
    files.drop(second)
    assert await files.read(shared, 0, PIECE) is None
    assert await files.read(second.pieces[2].hash, 0, PIECE) is None
    files.drop(second)
    files.drop(first)
    assert await files.read(shared, 0, PIECE) is None


async def test_the_same_content_elsewhere_takes_its_place(tmp_path: Path) -> None:
    files, one, two = SharedFiles(), tmp_path / "one", tmp_path / "two"
    write(one, CONTENT)
    write(two, CONTENT)
    manifest = await files.add(one)
    await files.add(two)
    remove(one)
    assert await files.read(manifest.pieces[0].hash, 0, PIECE) == read(two)[:PIECE]


async def test_a_file_that_no_manifest_describes_is_not_shared(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(MANIFEST_PIECES_MAX * PIECE_BYTES_MAX + 1)
    with pytest.raises(ValueError, match="more than"):
        await SharedFiles().add(path)
