"""The demonstrations, in small: what they show is so, and they clear up after themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.net  # starts processes


def shown_by(module: str, *options: str) -> dict[str, Any]:
    """The figures of a demonstration that went well."""
    ran = subprocess.run(
        [sys.executable, "-m", f"scripts.{module}", *options, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


def test_records_outlive_the_nodes_that_were_told_of_them() -> None:
    told = shown_by("_demo", "--nodes=5", "--files=20")
    assert (told["killed"], told["stored"], told["found"], told["lost"]) == (1, 20, 20, 0)


def test_the_file_index_finds_all_and_fetches_from_those_who_die_and_lie() -> None:
    short = ("--nodes=7", "--files=60", "--queries=20", "--film=2", "--brief", "--seed=3")
    told = shown_by("index_demo", *short)
    assert (told["files"], told["queries"]) == (60, 21)
    assert told["shared_in_all"] > 60
    assert (told["precision"], told["recall"]) == (1.0, 1.0)
    assert (told["precision_after"], told["recall_after"]) == (1.0, 1.0)
    assert told["queries_with_hits"] >= 20
    assert told["hostile_files_shared"] == 3
    assert told["film_hash_equal"]
    assert told["film_pieces_false"] > 0


@pytest.mark.parametrize("module", ["_demo", "index_demo"])
def test_a_demonstration_that_is_stopped_leaves_nothing_behind(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"scripts.{module}", "--nodes=8"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not list(tmp_path.glob("*/*/control.sock")) and time.monotonic() < until:
            time.sleep(0.05)
        assert processes_at(tmp_path)
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 128 + signal.SIGTERM
    finally:
        demo.kill()
        demo.wait()
    while processes_at(tmp_path) and time.monotonic() < until:  # those killed just now
        time.sleep(0.05)
    assert processes_at(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def processes_at(folder: Path) -> list[str]:
    """The command lines that name a folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_text("utf-8", "replace"))
    return [line for line in lines if str(folder) in line]
