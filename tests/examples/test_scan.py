"""Looking through folders that somebody has prepared: nothing outside is touched, nobody waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from examples.file_index.shelf import Shelf
from examples.file_index.walk import DEPTH_MAX, Changed, Found, Skipped, opened, read, scan
from kademlia_node import piece_bytes_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shared"
    made.mkdir()
    return made


def write(path: Path, content: bytes = b"content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found_in(folder: Path) -> list[str]:
    return [one.path for one in scan(str(folder)) if isinstance(one, Found)]


def skipped_in(folder: Path) -> dict[str, str]:
    return {one.path: one.reason for one in scan(str(folder)) if isinstance(one, Skipped)}


def only(folder: Path) -> Found:
    (one,) = (one for one in scan(str(folder)) if isinstance(one, Found))
    return one


# --- What is found --------------------------------------------------------------------------------


def test_files_are_found_in_all_folders_in_order(folder: Path) -> None:
    for path in ("b.txt", "a/z.txt", "a/b/c.txt"):
        write(folder / path)
    assert found_in(folder) == ["a/b/c.txt", "a/z.txt", "b.txt"]
    assert skipped_in(folder) == {}


def test_links_lead_nowhere(folder: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "secret.txt")
    (folder / "file").symlink_to(outside)
    (folder / "folder").symlink_to(outside.parent)
    (folder / "round").symlink_to(folder)
    (folder / "nowhere").symlink_to("/does/not/exist")
    assert found_in(folder) == []
    names = {"file", "folder", "round", "nowhere"}
    assert skipped_in(folder) == dict.fromkeys(names, "a link")


def test_what_is_hidden_or_empty_or_no_file_is_skipped(folder: Path) -> None:
    write(folder / ".hidden" / "a.txt")
    write(folder / ".profile")
    write(folder / "empty", b"")
    os.mkfifo(folder / "fifo")
    assert found_in(folder) == []
    assert skipped_in(folder) == {
        ".hidden": "hidden",
        ".profile": "hidden",
        "empty": "empty",
        "fifo": "no regular file",
    }


def test_the_folder_of_a_node_is_not_looked_into(folder: Path) -> None:
    write(folder / "doc.txt")
    for name in ("key", "lock", "store.db"):
        write(folder / "node" / name)
    write(folder / "other" / "key")
    assert found_in(folder) == ["doc.txt", "other/key"]
    assert skipped_in(folder) == {"node": "the folder of a node, its key in it"}
    assert found_in(folder / "node") == []


def test_a_huge_sparse_file_is_skipped_unread(folder: Path) -> None:
    os.truncate(write(folder / "disk.img"), 10 * 2**30)
    assert skipped_in(folder) == {"disk.img": "too large"}


@pytest.mark.parametrize(
    "name",
    [b"new\nline", b"x" * 255, b"caf\xe9", b"\xff\xfe", b"..." + b"\\..\\x", b"\x1b[2J", b"-rf"],
)
def test_odd_names_are_found_and_read(folder: Path, name: bytes) -> None:
    write(folder / os.fsdecode(name))
    if name.startswith(b"."):
        assert skipped_in(folder) == {os.fsdecode(name): "hidden"}
        return
    assert found_in(folder) == [os.fsdecode(name)]
    assert read(only(folder)).manifest.length == 7


def test_a_well_of_folders_has_an_end(folder: Path) -> None:
    deep = folder
    for _ in range(DEPTH_MAX + 2):
        deep = deep / "d"
    write(deep / "a.txt")
    assert found_in(folder) == []
    assert list(skipped_in(folder).values()) == ["too deep"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_cannot_be_read_is_said(folder: Path) -> None:
    write(folder / "a.txt").chmod(0)
    (folder / "closed").mkdir(mode=0)
    assert skipped_in(folder) == {"a.txt": "not readable", "closed": "permission denied"}
    (folder / "closed").chmod(0o700)


def test_a_folder_that_vanishes_meanwhile_is_no_harm(folder: Path) -> None:
    for name in "abc":
        write(folder / name / "x.txt")
    walk = scan(str(folder))
    assert isinstance(next(walk), Found)
    for name in "bc":
        (folder / name / "x.txt").unlink()
        (folder / name).rmdir()
    rest = list(walk)
    assert {type(one) for one in rest} <= {Skipped}
    assert {one.path for one in rest} == {"b", "c"}


def test_a_folder_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(scan(str(folder / "not")))


# --- What is ignored ------------------------------------------------------------------------------


def test_what_an_ignore_file_names_is_not_shared(folder: Path) -> None:
    for path in ("a.bak", "keep.bak", "sub/b.bak", "sub/c.txt", "build/x.txt", "sub/notes"):
        write(folder / path)
    write(folder / ".indexignore", b"*.bak\n!keep.bak\nbuild/\n")
    write(folder / "sub" / ".indexignore", b"/notes\n!b.bak\n")
    assert found_in(folder) == ["keep.bak", "sub/b.bak", "sub/c.txt"]
    said = skipped_in(folder)
    assert said == dict.fromkeys(["a.bak", "build", "sub/notes"], "ignored by .indexignore")


def test_an_ignore_file_that_is_a_link_or_a_pipe_hides_its_folder(
    folder: Path, tmp_path: Path
) -> None:
    """What it would say is not known, so nothing is shared there."""
    write(folder / "a" / "x.txt")
    write(folder / "b" / "x.txt")
    (folder / "a" / ".indexignore").symlink_to(write(tmp_path / "rules"))
    os.mkfifo(folder / "b" / ".indexignore")
    assert found_in(folder) == []
    assert set(skipped_in(folder)) == {"a", "b"}


# --- What is read ---------------------------------------------------------------------------------


def test_a_file_is_read_into_pieces_with_its_title(folder: Path) -> None:
    content = b"<title>A Book</title>" + bytes(200_000)
    write(folder / "a.html", content)
    got = read(only(folder))
    assert got.title == "A Book"
    assert got.manifest.length == len(content)
    assert {piece.length for piece in got.manifest.pieces[:-1]} == {piece_bytes_for(len(content))}


def test_a_file_that_was_exchanged_for_a_link_is_not_read(folder: Path, tmp_path: Path) -> None:
    path = write(folder / "sub" / "a.txt")
    found = only(folder)
    secret = write(tmp_path / "out" / "a.txt")
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic"):
        read(found)
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(secret.parent)
    with pytest.raises(NotADirectoryError):
        read(found)


def test_a_file_that_was_exchanged_for_a_pipe_is_not_waited_for(folder: Path) -> None:
    path = write(folder / "a.txt")
    found = only(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Changed):
        read(found)


def test_a_file_that_has_changed_is_not_read(folder: Path) -> None:
    path = write(folder / "a.txt")
    found = only(folder)
    write(path, b"another")
    os.utime(path, ns=(0, 0))
    with pytest.raises(Changed), opened(found):
        pass


# --- What is served -------------------------------------------------------------------------------


async def test_the_shelf_serves_pieces_until_the_file_changes_or_is_removed(folder: Path) -> None:
    content = bytes(100_000) + b"end"
    first = write(folder / "a.bin", content)
    one = only(folder)
    manifest, shelf = read(one).manifest, Shelf()
    shelf.add(one, manifest)
    piece = manifest.pieces[-1]
    assert await shelf.read(piece.hash, 0, 65_536) == content[65_536:]
    assert await shelf.read(piece.hash, 65_536, 65_536) == b""
    assert await shelf.read(b"?" * 32, 0, 65_536) is None
    os.utime(first, ns=(0, 0))
    assert await shelf.read(piece.hash, 0, 65_536) is None
    write(folder / "b.bin", content)
    other = next(o for o in scan(str(folder)) if isinstance(o, Found) and o.path == "b.bin")
    shelf.add(other, manifest)
    assert await shelf.read(piece.hash, 0, 65_536) == content[65_536:]
    shelf.remove(other, manifest)
    shelf.remove(one, manifest)
    shelf.remove(one, manifest)
    assert await shelf.read(piece.hash, 0, 65_536) is None
