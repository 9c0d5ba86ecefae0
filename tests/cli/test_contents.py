from __future__ import annotations

import json
import os
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest

from kademlia_node.cli.view import progress
from kademlia_node.core.key import blob_key
from tests.cli.commands import Two, done, failed, in_json, kad
from tests.cli.test_view import HOSTILE, Terminal
from tests.node.providers import CONTENT, manifest_of, read, remove, touch, write

KEY = str(blob_key(manifest_of(CONTENT).pack()))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    write(path, CONTENT)
    return path


@pytest.mark.net
async def test_a_file_is_provided_listed_fetched_and_provided_no_longer(
    two: Two, way: tuple[str, ...], tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the daemon is told where: paths go there in full
    assert await done("provide", "source", *two.a) == KEY + "\n"
    listed = await done("provided", *two.a)
    assert listed == f"{KEY}\t{len(CONTENT)}\tannounced\t{source}\n"
    fetched = await kad("fetch", KEY, "target", *way)
    assert (fetched.exit_code, fetched.stdout) == (0, f"{tmp_path / 'target'}\n")
    assert fetched.stderr == f"{len(CONTENT)} bytes\n"
    assert read(tmp_path / "target") == CONTENT
    assert await done("fetch", KEY, *way) == f"{tmp_path / KEY}\n"
    assert read(tmp_path / KEY) == CONTENT
    assert await done("unprovide", KEY, *two.a) == ""
    assert await done("provided", *two.a) == ""
    assert "is not provided by this node" in await failed("unprovide", KEY, *two.a, code=1)
    said = await failed("fetch", KEY, "again", *way, code=1)
    assert "16 of 16 pieces are missing" in said


@pytest.mark.net
async def test_several_files_are_provided_and_those_before_a_failure_stay(
    two: Two, tmp_path: Path, source: Path
) -> None:
    write(tmp_path / "other", b"other")
    paths = [str(source), str(tmp_path / "other")]
    keys = (await done("provide", *paths, *two.a)).split()
    assert (len(keys), keys[0]) == (2, KEY)
    result = await kad("provide", *paths, str(tmp_path), *two.b)
    assert (result.exit_code, result.stdout.split()) == (2, keys)
    assert "is a directory" in result.stderr
    assert len(await in_json("provided", *two.b)) == 2


@pytest.mark.net
async def test_these_verbs_speak_json(
    two: Two, way: tuple[str, ...], tmp_path: Path, source: Path
) -> None:
    receipt = json.loads(await done("provide", str(source), *two.a, "--json"))
    assert (receipt["key"], receipt["size"]) == (KEY, len(CONTENT))
    entry = {"key": KEY, "path": str(source), "size": len(CONTENT), "state": "announced"}
    assert await in_json("provided", *two.a) == [entry]
    target = str(tmp_path / "target")
    fetched = await in_json("fetch", KEY, target, *way)
    assert fetched == {"key": KEY, "path": target, "size": len(CONTENT)}
    assert await in_json("unprovide", KEY, *two.a) == {"key": KEY, "unprovided": True}
    result = await kad("fetch", KEY, str(tmp_path / "again"), *way, "--json")
    view = json.loads(result.stdout)
    assert (result.exit_code, view["error"], view["missing"]) == (1, "Incomplete", 16)


@pytest.mark.net
async def test_a_file_is_provided_for_a_lifetime_of_its_own(two: Two, source: Path) -> None:
    await done("provide", str(source), *two.a, "--ttl", "600")
    published = (await done("published", *two.a, "--json")).splitlines()
    assert [json.loads(line)["ttl_s"] for line in published] == [600, 600]


@pytest.mark.net
async def test_a_list_shows_which_files_are_served_no_longer(
    two: Two, tmp_path: Path, source: Path
) -> None:
    write(tmp_path / "other", b"other")
    await done("provide", str(source), str(tmp_path / "other"), *two.a)
    touch(source)
    remove(tmp_path / "other")
    states = {line.split("\t")[2] for line in (await done("provided", *two.a)).splitlines()}
    assert states == {"changed", "gone"}


@pytest.mark.net
async def test_a_fetch_that_cannot_be_is_one_line(
    two: Two, way: tuple[str, ...], tmp_path: Path, source: Path
) -> None:
    target = str(tmp_path / "target")
    await done("provide", str(source), *two.a)
    assert "not found" in await failed("fetch", str(blob_key(b"")), target, *way, code=1)
    assert "not 5" in await failed("fetch", KEY, target, "--length-max", "5", *way, code=2)
    assert "cannot write" in await failed("fetch", KEY, str(tmp_path), *way, code=2)
    assert "cannot write" in await failed("fetch", KEY, str(source / "x"), *way, code=2)
    assert "fetch --help" in await failed("fetch", *way, code=2)
    value = (await done("put", "--text", "a value", *two.a)).strip()
    assert "to be read by `get`" in await failed("fetch", value, target, *way, code=2)
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in await failed("fetch", KEY, str(tmp_path / "pipe"), *way, code=2)


@pytest.mark.net
async def test_what_is_no_file_is_not_provided_and_one_line_says_why(
    two: Two, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe" in await failed("provide", str(tmp_path / "pipe"), *two.a, code=2)
    assert "is a directory" in await failed("provide", str(tmp_path), *two.a, code=2)
    assert "No such file" in await failed("provide", str(tmp_path / "x"), *two.a, code=2)
    odd = str(tmp_path / "a\x1b[2Jb\nc")
    assert "\x1b" not in await failed("provide", odd, *two.a, code=2)
    assert "provide --help" in await failed("provide", *two.a, code=2)


@pytest.mark.net
async def test_providing_needs_a_daemon_and_says_so(tmp_path: Path, source: Path) -> None:
    folder = ("--folder", str(tmp_path / "nobody"))
    said = await failed("provide", str(source), *folder, code=3)
    assert "no daemon answers" in said
    assert "somebody has to go on serving" in said
    assert "--bootstrap" not in said
    for verb in (["unprovide", KEY], ["provided"]):
        assert "no daemon answers" in await failed(*verb, *folder, code=3)
    said = await failed("provide", str(source), "--bootstrap", "127.0.0.1:4000", *folder, code=2)
    assert "somebody has to go on serving" in said
    assert "join for this once" in await failed("fetch", KEY, *folder, code=3)


@pytest.mark.net
async def test_a_name_of_a_file_may_be_anything(two: Two, tmp_path: Path) -> None:
    for number, name in enumerate(["a b", "naïve ☃", "\udcff", "line\nend"]):
        write(tmp_path / name, bytes([number]))
        key = (await done("provide", str(tmp_path / name), *two.a)).strip()
        (tmp_path / "to").mkdir(exist_ok=True)
        await done("fetch", key, str(tmp_path / "to" / name), *two.b)
        assert read(tmp_path / "to" / name) == bytes([number])
    assert len((await done("provided", *two.a)).splitlines()) == 4


# --- Progress -------------------------------------------------------------------------------------


def test_progress_shows_on_a_terminal_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for screen, is_shown in ((Terminal(), True), (StringIO(), False)):
        with redirect_stderr(screen), progress(f"fetching {HOSTILE}") as on_progress:
            on_progress({"done_bytes": 500, "total_bytes": 1000, "holders": 2})
        assert ("fetching [red]" in screen.getvalue()) is is_shown
        assert ("0.5/1.0 kB" in screen.getvalue()) is is_shown
        assert "\x07" not in screen.getvalue()
