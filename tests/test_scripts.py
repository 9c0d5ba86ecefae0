"""The scripts that measure and simulate run, in small, and their figures are sound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.net  # starts processes, which virtual time cannot wait for


def figures(module: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"scripts.{module}", *arguments, "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120)
    printed: dict[str, Any] = json.loads(ran.stdout)
    return printed


def test_long_values_are_put_and_got_through_loss() -> None:
    told = figures("_simulate", "values", "--nodes=20", "--values=12", "--loss=0.05", "--settle=5")
    assert (told["put"], told["got"]) == (12, 12)


def test_a_large_topic_is_read_whole() -> None:
    size = ("--nodes=40", "--entries=400", "--authors=20", "--settle=5")
    told = figures("_simulate", "topic", *size)
    assert told["read_min"] == 400
    assert told["read_max_s"] < 5


def test_what_is_known_costs_few_requests() -> None:
    told = figures("_simulate", "steady", "--nodes=40", "--records=4", "--latency=lan")
    assert told["blob_requests"] == 1
    assert told["entry_requests"] == 3
    assert told["copies"] <= told["renewal_requests"] <= 2 * told["copies"]
    assert told["renewal_round_trips"] == 1
    assert told["first_put_requests"] > 2 * told["copies"]


def test_the_store_bench_reads_what_it_wrote() -> None:
    told = figures("_bench", "store", "--records=2000", "--reads=500")
    assert told["puts_per_s"] > 0
    assert told["gets_per_s"] > 0
    assert told["memory_opened_mb"] > told["memory_before_mb"] > 0


def test_a_content_outlives_a_holder_and_its_reader() -> None:
    told = figures("_bench", "content", "--size=4000000")
    assert told["hash_equal"]
    assert 0 < told["pieces_fetched_after_it"] < told["pieces"]
