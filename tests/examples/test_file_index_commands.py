"""The commands of file_index as processes on loopback, and what they show on a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from examples.file_index import cli, view
from examples.file_index.entry import Entry
from examples.file_index.ledger import open_ledger
from examples.file_index.searching import Hit
from examples.file_index.station import own_identity
from kademlia_node import Key, Kind, Network, Progress, SetupError

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "examples.file_index"]
WITHIN_S = 30


class Home:
    """Where commands are typed; what was started here is killed at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        secret = path / "secret"
        secret.write_text("5e" * 32)
        secret.chmod(0o600)
        self._environment = {
            **os.environ,
            "FILE_INDEX_SECRET_FILE": str(secret),
            "FILE_INDEX_HOST": "127.0.0.1",
        }
        self.started: list[subprocess.Popen[str]] = []

    def run(
        self, *words: str, who: str, stdout: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words, "--folder", str(self.path / who)],
            cwd=ROOT,
            env=self._environment,
            check=False,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )

    def share(self, who: str, *words: str) -> tuple[subprocess.Popen[str], str]:
        """A process that shares the folder named for it, and its invite."""
        folder = self.path / f"{who}'s"
        process = subprocess.Popen(
            [*COMMAND, "share", str(folder), "--yes", "--folder", str(self.path / who), *words],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    def wait_for(self, who: str, files: int) -> None:
        """Until the process that shares has announced so many files."""
        until = time.monotonic() + WITHIN_S
        while json.loads(self.run("status", "--json", who=who).stdout).get("entries", 0) < files:
            assert time.monotonic() < until
            time.sleep(0.2)

    def write(self, who: str, name: str, content: bytes) -> None:
        folder = self.path / f"{who}'s"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    for process in home.started:
        process.kill()
        process.communicate()


@pytest.mark.net
def test_a_sharer_that_was_stopped_can_still_withdraw_and_one_that_was_killed_goes_on(
    home: Home,
) -> None:
    content = os.urandom(200_000)
    home.write("ann", "common.bin", content)
    home.write("bob", "bobs common.bin", content)
    _, invite = home.share("ann")
    bob, _ = home.share("bob", "--bootstrap", invite)
    home.wait_for("ann", 1)
    home.wait_for("bob", 1)
    found = json.loads(home.run("search", "common", "--json", "--ranked", who="ann").stdout)
    assert found["providers"] == 2  # ann's own process was the way into the network

    target = home.path / "got.bin"
    got = home.run("get", found["key"], "-o", str(target), "--bootstrap", invite, who="cy")
    assert (got.returncode, target.read_bytes() == content) == (0, True)

    bob.kill()
    bob.wait()
    bob, _ = home.share("bob", "--bootstrap", invite)
    home.wait_for("bob", 1)
    bob.send_signal(signal.SIGTERM)
    assert bob.wait(WITHIN_S) == 0
    found = json.loads(home.run("search", "common", "--json", "--ranked", who="ann").stdout)
    assert found["providers"] == 1  # who has said that it goes is not found any more

    gone = home.run("unshare", "--all", "--bootstrap", invite, who="bob")
    assert (gone.returncode, gone.stderr) == (0, "")
    with open_ledger(home.path / "bob") as ledger:
        assert (ledger.folders(), ledger.count()) == ([], (0, 0, 0))
    assert home.run("search", "bobs", who="ann").returncode == 1


@pytest.mark.net
def test_a_result_is_fetched_by_its_number_if_it_is_no_larger_than_it_says(home: Home) -> None:
    home.write("ann", "a.txt", b"content")
    _, invite = home.share("ann")
    home.wait_for("ann", 1)
    assert home.run("search", "txt", "--bootstrap", invite, who="cy").returncode == 0
    target = home.path / "got"
    words = "get", "1", "-o", str(target), "--bootstrap", invite
    assert home.run(*words, who="cy").returncode == 0
    target.unlink()
    with open_ledger(home.path / "cy") as ledger:
        told = ledger.result(1)
        assert told is not None
        ledger.keep_results([replace(told, size=len(b"content") - 1)])
    got = home.run(*words, who="cy")
    assert (got.returncode != 0, target.exists()) == (True, False), got.stderr
    assert home.run(*words, "--max-size", "7", who="cy").returncode == 0
    assert target.read_bytes() == b"content"


@pytest.mark.net
def test_who_reaches_nobody_withdraws_nothing_and_says_so(home: Home) -> None:
    home.write("ann", "a.txt", b"content")
    ann, _ = home.share("ann")
    home.wait_for("ann", 1)
    ann.send_signal(signal.SIGINT)
    assert ann.wait(WITHIN_S) == 0
    ended = home.run("unshare", "--all", who="ann")
    assert (ended.returncode, "expires within 4 hours" in ended.stderr) == (2, True)
    with open_ledger(home.path / "ann") as ledger:
        assert ledger.count()[0] == 1  # the next `share` withdraws it


@pytest.mark.net
def test_who_reads_no_further_ends_a_search_without_a_word_and_can_get_what_was_shown(
    home: Home,
) -> None:
    for number in range(3):
        home.write("ann", f"common {number}.txt", f"content {number}".encode())
    home.share("ann")
    home.wait_for("ann", 9)
    reading, writing = os.pipe()
    os.close(reading)
    ended = home.run("search", "common", who="ann", stdout=writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert home.run("get", "1", "-o", str(home.path / "got"), who="ann").returncode == 0


# --- Results --------------------------------------------------------------------------------------


class Breaking:
    """A search that meets two hits, the worse one first, and then perhaps an error."""

    error: OSError | None = None

    def __init__(self, *_: object, on_hit: Callable[[Hit], None], **__: object) -> None:
        self._on_hit = on_hit
        self.hits: dict[Key, Hit] = {}

    async def run(self, *, within_s: float) -> bool:
        assert within_s
        for path in ("x/y.txt", "x/x.txt"):
            entry = Entry(Key(Kind.BLOB, path.encode().ljust(32)), path, 1, "text", "", 0)
            hit = self.hits[entry.key] = Hit(entry, {b""})
            self._on_hit(hit)
        if self.error is not None:
            raise self.error
        return True


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> type[Breaking]:
    @asynccontextmanager
    async def nobody(*_: object, **__: object) -> AsyncIterator[None]:
        yield None

    monkeypatch.setattr(cli, "guest", nobody)
    monkeypatch.setattr(cli, "Search", Breaking)
    monkeypatch.setattr(Breaking, "error", None)
    return Breaking


def found(*words: str, folder: Path) -> list[str]:
    """The paths that a search prints, in order."""
    printed = CliRunner().invoke(cli.main, ["search", "x", *words, "--folder", str(folder)]).stdout
    return re.findall(r"x/..txt", printed)


def test_results_are_printed_as_they_come_and_in_order_if_that_is_asked_for(
    tmp_path: Path, breaking: type[Breaking], monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in ([], ["--json"]):
        assert found(*form, folder=tmp_path) == ["x/y.txt", "x/x.txt"]
        assert found(*form, "--ranked", folder=tmp_path) == ["x/x.txt", "x/y.txt"]
    breaking.error = OSError("the end")
    for form in ([], ["--json"]):
        assert found(*form, folder=tmp_path) == ["x/y.txt", "x/x.txt"]
        assert found(*form, "--ranked", folder=tmp_path) == []
    monkeypatch.setattr(view, "is_watched", lambda: True)
    assert found(folder=tmp_path) == []
    breaking.error = None
    assert found(folder=tmp_path) == ["x/x.txt", "x/y.txt"]


# --- The key --------------------------------------------------------------------------------------


async def test_a_key_that_others_can_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    key, network = tmp_path / "key", Network.private(bytes(32))
    key.write_text("5e" * 32)
    key.chmod(0o644)
    with pytest.raises(SetupError, match="chmod 600"):
        await own_identity(tmp_path, network)
    key.chmod(0o600)
    key.write_text("no key")
    with pytest.raises(SetupError, match="is no key"):
        await own_identity(tmp_path, network)


@pytest.mark.net
async def test_a_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    network = Network.private(bytes(32))
    made = await own_identity(tmp_path, network)
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert (await own_identity(tmp_path, network)).public_key == made.public_key


# --- On a terminal --------------------------------------------------------------------------------


def test_progress_is_shown_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda answer=is_terminal: answer)
        monkeypatch.setenv("TERM", "xterm")
        with view.meter() as meter:
            meter.step("reading", 1, 2)
            meter.step("found", 7, None)
        with view.meter(of_bytes=True) as meter:
            meter.fetched(Progress(1000, 2000, 2))
        said = capsys.readouterr()
        assert ("1/2" in said.err, "1.0/2.0 kB" in said.err) == (is_terminal, is_terminal)
        assert ("7/?" in said.err) == is_terminal
        assert said.out == ""


def test_text_of_others_is_no_markup_in_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(1, "[bold]a\x1b[2J")]
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda answer=is_terminal: answer)
        view.show_table(("", "path"), rows)
        said = capsys.readouterr().out
        assert "[bold]a\\x1b[2J" in said
        assert ("path" in said) == is_terminal
