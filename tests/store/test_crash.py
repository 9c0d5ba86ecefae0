"""A disk store loses nothing that it acknowledged, however its process ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def crash(folder: Path, how: str, *, lives: int, seed: int) -> dict[str, int]:
    """Run `crash_writer`; a lost record ends it with a message."""
    command = [sys.executable, "-m", "tests.store.crash_writer"]
    arguments = [str(folder), how, str(lives), str(seed)]
    ran = subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert ran.returncode == 0, ran.stderr
    tally: dict[str, int] = json.loads(ran.stdout)
    return tally


@pytest.mark.parametrize("how", ["kill", "torn"])
def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(tmp_path: Path, how: str) -> None:
    tally = crash(tmp_path, how, lives=20, seed=1)
    assert tally["acknowledged"] > 20
    assert (tally["full"] > 0) == (how == "torn")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "torn"])
def test_nothing_acknowledged_is_lost_in_a_thousand_lives(tmp_path: Path, how: str) -> None:
    tally = crash(tmp_path, how, lives=1000, seed=2)
    assert tally["acknowledged"] > 1000
    assert (tally["full"] > 0) == (how == "torn")
