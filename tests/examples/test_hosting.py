"""Sharing by a running daemon: on real sockets, for that is how one speaks to a daemon."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from examples.file_index.hosting import Hosted, hosted_by
from examples.file_index.ledger import Ledger, open_ledger
from examples.file_index.sharing import Sharer
from examples.file_index.words import words_of
from kademlia_node import Incomplete, Node, NotFound
from kademlia_node.errors import NoDaemon
from tests.daemon.running import LONG_S, NETWORK, QUICK, daemon, through
from tests.examples.sharers import paths, search
from tests.node.providers import manifest_of, read

pytestmark = pytest.mark.net

ROOT = Path(__file__).parents[2]
ODD = b"odd caf\xe9 \n.txt"


class Place:
    """A daemon's data folder, the sharer's state and what is shared; and somebody who searches."""

    def __init__(self, path: Path, *, reader: Node) -> None:
        self.path = path
        self.reader = reader
        self.shared = path / "shared"

    def write(self, name: str | bytes, content: bytes) -> Path:
        path = self.shared / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    @asynccontextmanager
    async def sharing(self, who: str = "") -> AsyncIterator[tuple[Sharer, Hosted, Ledger]]:
        """What is in the folder, or in the one that is named."""
        (self.shared / who).mkdir(parents=True, exist_ok=True)
        with open_ledger(self.path / f"state{who}") as ledger:
            ledger.add_folders([str(self.shared / who)])
            async with hosted_by(self.path / "daemon") as hosted:
                yield Sharer(hosted, ledger, hosted, salt=b"salt"), hosted, ledger

    async def fetch(self, words: str, target: Path) -> bytes:
        (hit,) = await search(self.reader, words)
        async with asyncio.timeout(LONG_S):
            await self.reader.fetch(hit.entry.key, target)
        return read(target)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with (
        daemon(tmp_path / "other") as other,
        daemon(tmp_path / "daemon", bootstrap=through(other)),
        Node(
            network=NETWORK,
            host="127.0.0.1",
            bootstrap=[str(other["invite"])],
            server=False,
            settings=QUICK,
        ) as reader,
    ):
        yield Place(tmp_path, reader=reader)


async def refresh(sharer: Sharer) -> None:
    await sharer.refresh()
    assert sharer.trouble == ""


async def test_a_daemon_shares_what_is_there_and_no_longer_what_is_not(
    place: Place, tmp_path: Path
) -> None:
    content = os.urandom(200_000)
    gone = place.write("x/a.bin", content)
    place.write(ODD, b"odd content")
    async with place.sharing() as (sharer, hosted, ledger):
        await refresh(sharer)
        (hit,) = await search(place.reader, "bin")
        assert (await hosted.status()).joined
        assert ledger.facts()["entries"] == len(hit.entry.words) + len(
            words_of(r"odd caf\xe9 txt text")
        )
        assert await place.fetch("bin", tmp_path / "got") == content
        assert await place.fetch("odd", tmp_path / "odd") == b"odd content"
        gone.unlink()
        await refresh(sharer)
        assert await paths(place.reader, "bin") == []
        with pytest.raises((NotFound, Incomplete)):
            await place.reader.fetch(hit.entry.key, tmp_path / "again")


async def test_what_is_shared_is_served_on_while_nobody_runs_the_command(
    place: Place, tmp_path: Path
) -> None:
    place.write("x/a.txt", b"content")
    async with place.sharing() as (sharer, _, _):
        await refresh(sharer)
    assert await place.fetch("txt", tmp_path / "got") == b"content"


async def test_of_two_who_share_by_one_daemon_each_is_found_when_the_other_ends(
    place: Place,
) -> None:
    place.write("ann/of ann.txt", b"of ann")
    place.write("bob/of bob.txt", b"of bob")
    async with place.sharing("ann") as (ann, _, _):
        async with place.sharing("bob") as (bob, _, _):
            await refresh(ann)
            await refresh(bob)
            await bob.leave()
        await refresh(ann)
        assert await paths(place.reader, "txt") == ["of ann.txt", "of bob.txt"]


async def test_a_command_that_is_stopped_leaves_its_files_to_the_daemon(
    place: Place, tmp_path: Path
) -> None:
    place.write("a.txt", b"content")
    words = ["share", place.shared, "--daemon", tmp_path / "daemon", "--folder", tmp_path / "state"]
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.file_index", *map(str, words), "--yes"), cwd=ROOT
    )
    try:
        async with asyncio.timeout(LONG_S):
            while not await paths(place.reader, "txt"):
                pass
            command.terminate()
            assert await command.wait() == 0
    finally:
        if command.returncode is None:
            command.kill()
            await command.wait()
    assert await place.fetch("txt", tmp_path / "got") == b"content"


async def test_who_begins_again_announces_nothing_anew(place: Place) -> None:
    place.write("x/a.txt", b"content")
    counts = []
    for _ in range(2):
        async with place.sharing() as (sharer, hosted, _):
            await refresh(sharer)
            counts.append((await hosted.status()).operations["write"].count)
    assert counts[1] - counts[0] == 2  # that it is here, and the beacon


async def test_of_two_copies_the_one_that_stays_is_served(place: Place, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        place.write(name, b"the same")
    async with place.sharing() as (sharer, _, _):
        await refresh(sharer)
        for name in ("a.txt", "c.txt"):
            (place.shared / name).unlink()
            await refresh(sharer)
            assert await place.fetch("txt", tmp_path / name) == b"the same"


async def test_a_folder_exchanged_for_a_link_is_not_shared(place: Place, tmp_path: Path) -> None:
    """The daemon opens what it is told to; what it finds there must be what we have read."""
    path = place.write("sub/a.txt", b"content")
    secret = tmp_path / "outside" / "a.txt"
    secret.parent.mkdir()
    secret.write_bytes(b"secrets")
    async with place.sharing() as (sharer, hosted, ledger):
        await refresh(sharer)
        (known,) = ledger.files()
        path.unlink()
        path.parent.rmdir()
        path.parent.symlink_to(secret.parent)
        (told,) = await hosted.provide_many([known.manifest], ttl_s=240)
        assert told.replicas == ()
        assert "another content" in told.summary()
        with pytest.raises(NotFound):
            await place.reader.fetch(manifest_of(b"secrets").key, tmp_path / "got")


async def test_where_one_copy_is_refused_another_is_served(place: Place, tmp_path: Path) -> None:
    changing, _ = (place.write(name, b"the same") for name in ("a.txt", "b.txt"))
    async with place.sharing() as (sharer, _, _):
        await refresh(sharer)
    async with place.sharing() as (_, hosted, ledger):  # knows them in the order of their names
        changing.write_bytes(b"other")  # and no refresh has seen it yet
        manifest = next(ledger.files()).manifest
        (told,) = await hosted.provide_many([manifest], ttl_s=240)
        assert told.replicas
        await place.reader.fetch(manifest.key, tmp_path / "got")
    assert read(tmp_path / "got") == b"the same"


async def test_a_daemon_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "a.txt").write_bytes(b"content")
    with open_ledger(tmp_path / "state") as ledger:
        ledger.add_folders([str(shared)])
        async with daemon(tmp_path / "daemon"):
            pass
        with pytest.raises(NoDaemon):
            async with hosted_by(tmp_path / "daemon"):
                pass
        async with daemon(tmp_path / "daemon") as ready:
            context = hosted_by(tmp_path / "daemon")
            hosted = await context.__aenter__()
            sharer = Sharer(hosted, ledger, hosted, salt=b"salt")
            assert str(hosted.invite) == ready["invite"]
        await sharer.refresh()
        assert "no daemon answers" in sharer.trouble
        assert ledger.facts()["trouble"] == sharer.trouble
        async with daemon(tmp_path / "daemon"):
            await refresh(sharer)
            assert ledger.facts()["trouble"] == ""
            await context.__aexit__(None, None, None)
