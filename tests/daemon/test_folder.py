from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.memory import KnownPeer, Memory
from kademlia_node.daemon.folder import (
    SOCKET_PATH_BYTES_MAX,
    Folder,
    check_socket_path,
    default_folder,
    locked,
    remove_durably,
    write_private,
)
from kademlia_node.errors import SetupError

IDENTITY = Identity.generate(random.Random(1))
PEER = Contact(IDENTITY.public_key, Address("10.0.0.7", 4000))
MEMORY = Memory((KnownPeer(PEER, since=5.0, heard=7.0),))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal_of_the_key(folder: Path) -> str:
    with pytest.raises(SetupError) as refused:
        Folder(folder).read_key()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_an_empty_folder_has_no_key_and_no_peers(tmp_path: Path) -> None:
    assert Folder(tmp_path).read_key() is None
    assert Folder(tmp_path).read_memory() == Memory()


def test_a_key_comes_back_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_key(IDENTITY)
    kept = folder.read_key()
    assert kept is not None
    assert kept.public_key == IDENTITY.public_key
    assert mode_of(folder.key_path) == 0o600


def test_what_is_written_or_removed_durably_is_on_the_disk_and_so_is_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def note(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115

    monkeypatch.setattr(os, "fsync", note)
    path = tmp_path / "file"
    write_private(path, "text")
    assert synced == []
    write_private(path, "text", durable=True)
    assert synced == [str(tmp_path / "file.new"), str(tmp_path)]
    remove_durably(path)
    assert synced[2:] == [str(tmp_path)]
    assert not path.exists()
    with pytest.raises(SetupError, match="cannot remove"):
        remove_durably(tmp_path / "missing" / "file")


def test_what_a_killed_writer_left_does_not_matter(tmp_path: Path) -> None:
    left = tmp_path / "key.new"
    left.write_text("half a k")
    left.chmod(0o644)
    Folder(tmp_path).write_key(IDENTITY)
    assert Folder(tmp_path).read_key() is not None
    assert mode_of(tmp_path / "key") == 0o600
    assert not left.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    Folder(tmp_path).write_key(IDENTITY)
    (tmp_path / "key").chmod(mode)
    assert f"chmod 600 {tmp_path / 'key'}" in refusal_of_the_key(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"kademlia-node key 1\n",
        b"kademlia-node key 1\nabcd\n",
        b"kademlia-node key 2\n" + b"ab" * 32,
        b"ab" * 32,
        b"\xff\x00" * 100,
    ],
)
def test_a_malformed_key_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o600)
    assert "is no key file" in refusal_of_the_key(tmp_path)


def test_a_seed_whose_public_key_is_not_canonical_is_refused_unseen(tmp_path: Path) -> None:
    rng = random.Random(2)
    seeds = (rng.randbytes(32) for _ in range(100))
    bad = next(seed for seed in seeds if not is_canonical(seed))
    (tmp_path / "key").write_text(f"kademlia-node key 1\n{bad.hex()}\n")
    (tmp_path / "key").chmod(0o600)
    refusal = refusal_of_the_key(tmp_path)
    assert "is no key file" in refusal
    assert bad.hex() not in refusal


def is_canonical(seed: bytes) -> bool:
    try:
        Identity(seed)
    except ValueError:
        return False
    return True


def test_an_unreadable_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    assert "cannot read" in refusal_of_the_key(tmp_path)


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "folder") as folder:
        assert mode_of(folder.path) == 0o700


def test_a_folder_has_one_holder_at_a_time_who_is_named(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(SetupError, match=f"in use by process {os.getpid()}"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot use the folder"), locked(tmp_path / "file" / "x"):
        pass


def test_peers_come_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_memory(MEMORY)
    assert folder.read_memory() == MEMORY


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[" * 100_000,
    ],
)
def test_a_broken_list_of_peers_is_set_aside_and_said(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Folder(tmp_path)
    folder.peers_path.write_text(content)
    assert folder.read_memory() == Memory()
    assert not folder.peers_path.exists()
    assert (tmp_path / "peers.broken").read_text() == content
    assert "is no list of peers" in caplog.text


def test_peers_that_cannot_be_saved_are_said_and_nothing_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Folder(tmp_path / "missing").write_memory(MEMORY)
    assert "could not be saved" in caplog.text


def test_the_token_is_made_once_and_private(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    token = folder.token(random.Random(3))
    assert len(token) == 64
    assert folder.token(random.Random(4)) == token
    assert mode_of(folder.token_path) == 0o600


def test_a_socket_path_is_as_long_as_the_kernel_takes() -> None:
    longest = Path("/" + "x" * (SOCKET_PATH_BYTES_MAX - 1))
    check_socket_path(longest)
    with pytest.raises(SetupError, match="1 bytes too long"):
        check_socket_path(Path(f"{longest}x"))


def test_the_default_folder_is_in_the_data_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_folder() == Path("/data/kademlia-node")
    monkeypatch.setenv("HOME", "/home/me")
    for useless in ("", "relative"):  # XDG: ignored
        monkeypatch.setenv("XDG_DATA_HOME", useless)
        assert default_folder() == Path("/home/me/.local/share/kademlia-node")
