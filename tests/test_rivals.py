"""`scripts/bench rivals` with a rival of a few lines of shell: what is asked, told, compared."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from tests.test_scripts import figures, ran

pytestmark = pytest.mark.net  # starts processes, which virtual time cannot wait for

SMALL: Final = ("--nodes=23", "--values=12", "--killed=0.1", "--seed=7")
TOLD: Final = {
    "put_ops_s": 10.0,
    "get_ops_s": 20.0,
    "put_p50_ms": 1.0,
    "put_p99_ms": 2.0,
    "get_p50_ms": 3.0,
    "get_p99_ms": 4.0,
    "cpu_s_per_put": 0.5,
    "min_contacts": 9,
    "put_ok": 0.75,
    "put_tried": 12,
    "get_found": 0.5,
}


def set_up(folder: Path, then: str) -> Path:
    """A rival that notes how it was called, and then does this; its calls are in a file."""
    program = folder / "venv-bmuller" / "bin" / "python"
    program.parent.mkdir(parents=True)
    calls = folder / "calls"
    program.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n{then}\n')
    program.chmod(0o700)
    return calls


def options(call: str) -> dict[str, str]:
    words = call.split()
    return {word: after for word, after in pairwise(words) if word[0] == "-"}


def test_ours_and_theirs_do_the_same_work_with_a_seed_for_each_round(tmp_path: Path) -> None:
    calls = set_up(tmp_path, f"echo noise; echo '{json.dumps(TOLD)}'")
    told = figures("benchmarks", "rivals", f"--folder={tmp_path}", "--rounds=2", *SMALL)
    assert (told["rival"], told["rounds"], told["rounds_asked"]) == ("bmuller", 2, 2)
    first, second = map(options, calls.read_text().splitlines())
    assert (first["--nodes"], first["--values"], first["--dead"]) == ("23", "12", "2")
    assert (first["--seed"], second["--seed"]) == ("7", "8")
    assert told["written"] == {"ours": 1.0, "theirs": 0.75}
    assert told["found"]["theirs"] == 0.5
    assert told["dead"] == {"ours": 2, "theirs": None}
    writes = told["writes_per_s"]
    assert writes["theirs"] == 10.0
    assert 0 < writes["from"] <= writes["ratio"] <= writes["to"]
    assert writes["from"] <= writes["ours"] / 10 <= writes["to"]
    assert told["write_cpu_ms"]["theirs"] == 500.0
    unknown: dict[str, Any] = told["read_cpu_ms"]
    assert unknown["ours"] > 0
    assert [unknown[part] for part in ("theirs", "ratio", "from", "to")] == [None] * 4


def test_a_round_that_fails_is_told_of_and_does_not_count(tmp_path: Path) -> None:
    once = f'[ -e "{tmp_path}/second" ] && exit 3; touch "{tmp_path}/second"; '
    set_up(tmp_path, f"{once}echo '{json.dumps(TOLD)}'")
    done = ran("benchmarks", "rivals", f"--folder={tmp_path}", "--rounds=3", *SMALL)
    assert done.returncode == 0
    assert "bmuller, 20 copies, 1 of 3 rounds" in done.stdout
    assert "bmuller, round 2 does not count: its harness ended with 3" in done.stderr


def test_a_rival_that_never_works_is_left_out_with_its_own_words(tmp_path: Path) -> None:
    set_up(tmp_path, "echo no such module >&2; exit 1")
    done = ran("benchmarks", "rivals", f"--folder={tmp_path}", "--rounds=1", *SMALL)
    assert done.stdout == ""
    assert "no such module" in done.stderr
    assert "bmuller is left out" in done.stderr


def test_only_those_that_are_set_up_can_be_chosen(tmp_path: Path) -> None:
    set_up(tmp_path, "exit 1")
    (tmp_path / "venv-opendht").mkdir()
    done = ran("benchmarks", "rivals", f"--folder={tmp_path}", "--only=hyperdht")
    assert done.returncode == 2
    assert "has of these: bmuller, OpenDHT" in done.stderr
    done = ran("benchmarks", "rivals", f"--folder={tmp_path}", "--only=bmuller", *SMALL)
    assert "OpenDHT" not in done.stderr
