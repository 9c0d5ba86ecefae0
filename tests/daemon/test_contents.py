"""Files that a daemon provides: over the API, over restarts and kills, and once they change."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kademlia_node.core.key import blob_key, topic_key
from kademlia_node.daemon.client import ControlClient, connected
from kademlia_node.daemon.views import Json
from kademlia_node.errors import NoDaemon, Refused, SetupError
from tests.daemon.killed import start
from tests.daemon.running import LONG_S, QUICK, daemon, silent_port, through
from tests.node.providers import CONTENT, change_unseen, manifest_of, read, remove, touch, write

pytestmark = pytest.mark.net

KEY = str(blob_key(manifest_of(CONTENT).pack()))
OFTEN = replace(QUICK, save_peers_s=0.05)  # so often it looks after what it provides


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    write(path, CONTENT)
    return path


@asynccontextmanager
async def client_of(ready: Json) -> AsyncIterator[ControlClient]:
    async with connected(Path(ready["control"])) as client:
        yield client


@asynccontextmanager
async def lone(folder: Path, **plan: Any) -> AsyncIterator[ControlClient]:
    async with daemon(folder, **plan) as ready, client_of(ready) as client:
        yield client


async def states(client: ControlClient) -> dict[str, str]:
    return {one["key"]: one["state"] for one in await client.provided()}


async def files_read(client: ControlClient) -> int:
    count: int = (await client.status())["counters"].get("provided_files_read", 0)
    return count


async def published(client: ControlClient) -> int:
    return len([one async for one in client.published()])


async def nothing_published(client: ControlClient) -> None:
    async with asyncio.timeout(LONG_S):
        while await published(client):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def eventually(client: ControlClient, wanted: dict[str, str]) -> None:
    async with asyncio.timeout(LONG_S):
        while await states(client) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def refused(doing: Any) -> Json:
    with pytest.raises(Refused) as error:
        await doing
    return error.value.view


# --- Provided and fetched -------------------------------------------------------------------------


async def test_what_one_daemon_provides_another_fetches(tmp_path: Path, source: Path) -> None:
    read_far: list[Json] = []
    came_far: list[Json] = []
    async with (
        daemon(tmp_path / "a") as a,
        daemon(tmp_path / "b", bootstrap=through(a)) as b,
        client_of(a) as by_a,
        client_of(b) as by_b,
    ):
        receipt = await by_a.provide(str(source), on_progress=read_far.append)
        assert receipt["key"] == KEY
        assert (receipt["path"], receipt["size"]) == (str(source), len(CONTENT))
        assert len(receipt["replicas"]) == 2
        assert await by_a.provided() == [
            {"key": KEY, "path": str(source), "size": len(CONTENT), "state": "announced"}
        ]
        target = tmp_path / "target"
        answer = await by_b.fetch(KEY, str(target), on_progress=came_far.append)
        assert answer == {"key": KEY, "path": str(target), "size": len(CONTENT)}
        assert read(target) == CONTENT
        assert await by_b.provided() == []
    assert read_far[-1] == {"done_bytes": len(CONTENT), "total_bytes": len(CONTENT)}
    assert came_far[-1] == read_far[-1] | {"holders": 1}


async def test_a_file_that_has_not_the_content_that_was_expected_is_not_provided(
    tmp_path: Path, source: Path
) -> None:
    async with lone(tmp_path / "a") as client:
        other = str(manifest_of(b"another").key)
        view = await refused(client.provide(str(source), key=other))
        assert (view["error"], "another content" in view["detail"]) == ("SetupError", True)
        assert (await refused(client.provide(str(source), key="x")))["error"] == "ValueError"
        assert await published(client) == 0
        await client.provide(str(source), key=KEY)
        assert await states(client) == {KEY: "announced"}


async def test_a_content_provided_no_longer_is_not_there(tmp_path: Path, source: Path) -> None:
    async with (
        daemon(tmp_path / "a") as a,
        daemon(tmp_path / "b", bootstrap=through(a)) as b,
        client_of(a) as by_a,
        client_of(b) as by_b,
    ):
        await by_a.provide(str(source))
        for unprovided in (True, False):
            assert await by_a.unprovide(KEY) == {"key": KEY, "unprovided": unprovided}
        assert await by_a.provided() == []
        view = await refused(by_b.fetch(KEY, str(tmp_path / "target")))
        assert (view["error"], view["missing"], view["of"]) == ("Incomplete", 16, 16)
    async with lone(tmp_path / "a") as by_a:
        assert await by_a.provided() == []


async def test_an_empty_file_is_a_content_too(tmp_path: Path) -> None:
    write(tmp_path / "empty", b"")
    async with lone(tmp_path / "a") as client:
        key = (await client.provide(str(tmp_path / "empty")))["key"]
        assert (await client.fetch(key, str(tmp_path / "target")))["size"] == 0
    assert read(tmp_path / "target") == b""


async def test_the_same_content_at_another_path_is_provided_from_there(
    tmp_path: Path, source: Path
) -> None:
    async with lone(tmp_path / "a") as client:
        await client.provide(str(source))
        write(tmp_path / "other", CONTENT)
        await client.provide(str(tmp_path / "other"))
        assert [one["path"] for one in await client.provided()] == [str(tmp_path / "other")]


async def test_a_file_that_is_provided_again_takes_the_place_of_what_it_was(
    tmp_path: Path, source: Path
) -> None:
    async with lone(tmp_path / "a") as client:
        await client.provide(str(source))
        write(source, b"another content")
        key = (await client.provide(str(source)))["key"]
        assert await states(client) == {key: "announced"}
        assert await published(client) == 2
    assert [path.stem for path in (tmp_path / "a" / "provided").iterdir()] == [key]


async def test_what_cannot_be_announced_is_not_provided(tmp_path: Path, source: Path) -> None:
    async with lone(tmp_path / "a", host="0.0.0.0") as client:
        view = await refused(client.provide(str(source)))
        assert view["error"] == "SetupError"
        assert "give a bootstrap" in view["detail"]
        assert await client.provided() == []
        assert [one async for one in client.published()] == []
    async with lone(tmp_path / "b", server=False) as client:  # which stores nothing itself
        assert (await refused(client.provide(str(source))))["error"] == "NotStored"
        assert await client.provided() == []


# --- Restarts and kills ---------------------------------------------------------------------------


async def test_a_daemon_that_was_killed_goes_on_providing_and_reads_no_file_again(
    tmp_path: Path, source: Path
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    async with daemon(tmp_path / "b") as b, client_of(b) as by_b:
        for life in range(2):
            process = await start(folder, "--bootstrap", b["address"])
            try:
                assert process.stdout is not None
                ready = json.loads(await process.stdout.readline())
                async with client_of(ready) as by_a:
                    if life == 0:
                        await by_a.provide(str(source))
                    await eventually(by_a, {KEY: "announced"})
                    assert await files_read(by_a) == (1 if life == 0 else 0)
                    target = tmp_path / f"target {life}"
                    async with asyncio.timeout(LONG_S):
                        await by_b.fetch(KEY, str(target))
                    assert read(target) == CONTENT
            finally:
                process.kill()
                await process.wait()


@pytest.mark.parametrize(("change", "state"), [(touch, "changed"), (remove, "gone")])
async def test_a_file_that_is_another_one_at_the_start_is_withdrawn(
    tmp_path: Path, source: Path, change: Callable[[Path], None], state: str
) -> None:
    async with daemon(tmp_path / "b") as b, client_of(b) as by_b:
        async with lone(tmp_path / "a", bootstrap=through(b)) as by_a:
            await by_a.provide(str(source))
            assert await published(by_a) == 2
        change(source)
        async with lone(tmp_path / "a", bootstrap=through(b)) as by_a:
            await nothing_published(by_a)
            assert await states(by_a) == {KEY: state}
            assert (await refused(by_b.fetch(KEY, str(tmp_path / "t"))))["error"] == "Incomplete"
            assert "pieces_lacking" not in (await by_b.status())["counters"]  # it asked nobody
            assert await by_a.unprovide(KEY) == {"key": KEY, "unprovided": True}
            assert await by_a.provided() == []


async def test_a_file_that_changes_while_the_daemon_runs_is_not_served(
    tmp_path: Path, source: Path
) -> None:
    async with (
        daemon(tmp_path / "a") as a,
        daemon(tmp_path / "b", bootstrap=through(a)) as b,
        client_of(a) as by_a,
        client_of(b) as by_b,
    ):
        await by_a.provide(str(source))
        await eventually(by_a, {KEY: "announced"})
        touch(source)
        assert await states(by_a) == {KEY: "changed"}
        target = tmp_path / "target"
        view = await refused(by_b.fetch(KEY, str(target)))
        assert (view["error"], view["missing"]) == ("Incomplete", 16)
        assert (await by_b.status())["counters"]["pieces_lacking"] > 0
        touch(source, later_s=-1)
        await by_b.fetch(KEY, str(target))
        assert read(target) == CONTENT


async def test_a_change_that_hides_is_found_out_by_the_reader(tmp_path: Path, source: Path) -> None:
    async with (
        daemon(tmp_path / "a") as a,
        daemon(tmp_path / "b", bootstrap=through(a)) as b,
        client_of(a) as by_a,
        client_of(b) as by_b,
    ):
        await by_a.provide(str(source))
        change_unseen(source, bytes(len(CONTENT)))
        assert (await refused(by_b.fetch(KEY, str(tmp_path / "t"))))["error"] == "Incomplete"
        assert (await by_b.status())["counters"]["pieces_false"] > 0


def move(path: Path, target: Path) -> None:
    path.rename(target)


async def test_a_file_that_comes_back_is_announced_again(tmp_path: Path, source: Path) -> None:
    async with lone(tmp_path / "a", settings=OFTEN) as client:
        await client.provide(str(source))
        move(source, tmp_path / "away")
        await nothing_published(client)
        assert await states(client) == {KEY: "gone"}
        move(tmp_path / "away", source)
        await eventually(client, {KEY: "announced"})
        assert await files_read(client) == 1


async def test_an_entry_that_is_damaged_is_set_aside_and_the_others_go_on(
    tmp_path: Path, source: Path
) -> None:
    async with lone(tmp_path / "a") as client:
        await client.provide(str(source))
    kept = tmp_path / "a" / "provided"
    (entry,) = kept.glob("*.json")
    assert entry.name == f"{KEY}.json"
    whole = json.loads(read(entry))
    others = [
        b"", b"[]", b"{", b"\xff", json.dumps(whole | {"manifest": "AQ=="}).encode(),
        json.dumps(whole | {"path": "source"}).encode(), bytes(2**20),
    ]  # fmt: skip
    for number, content in enumerate(others):
        name = KEY if number == 4 else str(blob_key(bytes([number])))
        write(kept / f"{name}.json" if number != 4 else kept / "blob-a.json", content)
    async with lone(tmp_path / "a") as client:
        await eventually(client, {KEY: "announced"})
    assert len(list(kept.glob("*.broken"))) == len(others)


@pytest.mark.parametrize("ttl_s", [1, 600.0, "600", True, 10**6])
async def test_a_lifetime_that_there_is_not_is_damage(
    tmp_path: Path, source: Path, ttl_s: object
) -> None:
    async with lone(tmp_path / "a") as client:
        await client.provide(str(source), ttl_s=600)
    (entry,) = (tmp_path / "a" / "provided").glob("*.json")
    write(entry, json.dumps(json.loads(read(entry)) | {"ttl_s": ttl_s}).encode())
    async with lone(tmp_path / "a") as client:
        assert await states(client) == {}
    assert entry.with_suffix(".broken").exists()


async def test_what_cannot_be_announced_at_the_start_is_as_soon_as_it_can(
    tmp_path: Path, source: Path
) -> None:
    async with lone(tmp_path / "a") as client:
        await client.provide(str(source))
    port = silent_port()
    plan: dict[str, Any] = {"server": False, "settings": OFTEN}
    bootstrap = through({"address": f"127.0.0.1:{port}"})
    async with lone(tmp_path / "a", bootstrap=bootstrap, **plan) as client:
        assert await states(client) == {KEY: "waiting"}
        async with lone(tmp_path / "b", port=port) as by_b:
            await eventually(client, {KEY: "announced"})
            await by_b.fetch(KEY, str(tmp_path / "target"))
    assert read(tmp_path / "target") == CONTENT


# --- What is refused ------------------------------------------------------------------------------


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkdir, "is a directory"),
        (os.mkfifo, "is a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (make_loop, "Too many levels of symbolic links"),
        (lambda path: None, "No such file"),
    ],
)
async def test_what_is_no_file_is_not_provided(tmp_path: Path, make: Any, said: str) -> None:
    path = tmp_path / "odd"
    make(path)
    async with lone(tmp_path / "a") as client:
        view = await refused(client.provide(str(path)))
        assert (view["error"], said in view["detail"]) == ("SetupError", True), view
        assert await client.provided() == []


async def test_nothing_of_the_daemons_own_folder_is_provided(tmp_path: Path) -> None:
    async with lone(tmp_path / "a") as client:
        (tmp_path / "link").symlink_to(tmp_path / "a" / "key")
        for path in (tmp_path / "a" / "key", tmp_path / "link", tmp_path / "a" / ".." / "a/key"):
            view = await refused(client.provide(str(path)))
            assert "stays there" in view["detail"]


@pytest.mark.parametrize(
    "name", ["a b", "-", "naïve ☃", "line\nend", "\udcff\udcfe", "%2F?#", "x" * 255]
)
async def test_any_name_of_a_file_will_do(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / name, tmp_path / "to" / name
    (tmp_path / "to").mkdir()
    write(source, b"content")
    async with lone(tmp_path / "a") as client:
        key = (await client.provide(str(source)))["key"]
    async with lone(tmp_path / "a") as client:
        await eventually(client, {key: "announced"})
        assert [one["path"] for one in await client.provided()] == [str(source)]
        if len(name) < 200:  # the part of it has a longer name
            view = await refused(client.fetch(key, str(target)))
            assert view["error"] == "Incomplete"  # nobody asks itself


@pytest.mark.parametrize("ttl_s", ["600", 600.0, True, [], {}])
async def test_a_lifetime_that_is_no_number_of_seconds_is_400(
    tmp_path: Path, source: Path, ttl_s: object
) -> None:
    async with daemon(tmp_path / "a") as ready:
        connector = aiohttp.UnixConnector(ready["control"])
        async with aiohttp.ClientSession(connector=connector) as session:
            body = {"path": str(source), "ttl_s": ttl_s}
            async with session.post("http://daemon/v1/contents", json=body) as response:
                assert response.status == 400
                assert "seconds" in (await response.json())["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"path": 4}', b'{"path": "relative"}', b'{"path": "/a\\u0000b"}',
             b'{"path": "/\\ud800"}', b'{"path": "/t", "length_max": "4"}',
             b'{"path": "/t", "length_max": true}', json.dumps({"path": "/" + "x" * 300}).encode()]
)  # fmt: skip
async def test_a_body_that_is_none_is_400_and_says_why(tmp_path: Path, body: bytes) -> None:
    async with daemon(tmp_path / "a") as ready:
        connector = aiohttp.UnixConnector(ready["control"])
        async with aiohttp.ClientSession(connector=connector) as session:
            for path in ("contents", f"contents/{KEY}/fetch"):
                if b"length_max" in body and path == "contents":
                    continue
                url = f"http://daemon/v1/{path}"
                async with session.post(url, data=body) as response:
                    view = await response.json()
                if response.status == 404:  # a fetch looks for the content first
                    assert view["error"] == "NotFound"
                else:
                    assert (response.status, bool(view["detail"])) == (400, True)


async def test_a_fetch_that_cannot_be_says_why(tmp_path: Path, source: Path) -> None:
    target = str(tmp_path / "target")
    async with lone(tmp_path / "a") as client:
        nobodys = str(blob_key(b"nothing"))
        assert (await refused(client.fetch(nobodys, target)))["error"] == "NotFound"
        value = (await client.put(b"a value"))["key"]
        view = await refused(client.fetch(value, target))
        assert (view["error"], "to be read by `get`" in view["detail"]) == ("ValueError", True)
        for key in (str(topic_key(b"t")), "colour"):
            assert (await refused(client.fetch(key, target)))["error"] == "ValueError"
            assert (await refused(client.unprovide(key)))["error"] == "ValueError"
        await client.provide(str(source))
        view = await refused(client.fetch(KEY, target, length_max=len(CONTENT) - 1))
        assert view["error"] == "ValueTooLarge"
        os.mkfifo(tmp_path / "pipe")
        for path in (
            tmp_path,
            tmp_path / "missing" / "t",
            tmp_path / "pipe",
            tmp_path / "source/t",
        ):
            view = await refused(client.fetch(KEY, str(path)))
            assert view["error"] == "SetupError", path
        assert (tmp_path / "pipe").is_fifo()


# --- Who asks -------------------------------------------------------------------------------------


async def test_the_client_says_if_nobody_is_there_and_can_ask_again(tmp_path: Path) -> None:
    async with connected(tmp_path / "control.sock") as client:
        with pytest.raises(NoDaemon, match="no daemon answers"):
            await client.status()
        async with daemon(tmp_path):
            assert await client.provided() == []
        for doing in (client.status(), client.provide("/x"), anext(client.published())):
            with pytest.raises(NoDaemon):
                await doing
    with pytest.raises(SetupError, match="too long"):
        async with connected(tmp_path / ("x" * 200)):
            pass
