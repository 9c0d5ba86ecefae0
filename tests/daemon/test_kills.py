"""What a daemon acknowledged survives its being killed, at whatever moment that happens."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path

import pytest

from tests.daemon.killed import Books, live, look_back

pytestmark = pytest.mark.net

log = logging.getLogger(__name__)

LIVES_PER_FOLDER = 50  # so that looking back does not take longer than all the lives


async def kill_again_and_again(folder: Path, *, lives: int, seed: int) -> int:
    """Returns how many writes were acknowledged, none of which was lost."""
    rng, acknowledged = random.Random(seed), 0
    for first in range(0, lives, LIVES_PER_FOLDER):
        home, books = folder / str(first), Books()
        home.mkdir()
        life = first
        try:
            for life in range(first, min(first + LIVES_PER_FOLDER, lives)):  # noqa: B007
                await live(home, books, rng)
            await look_back(home, books)
        except BaseException as error:
            error.add_note(f"seed {seed}, after {life} kills, in {home}")
            raise
        acknowledged += books.acknowledged
        log.info("%d lives, %d writes acknowledged, none lost", life + 1, acknowledged)
        shutil.rmtree(home)
    return acknowledged


async def test_nothing_acknowledged_is_lost_when_the_daemon_is_killed(tmp_path: Path) -> None:
    assert await kill_again_and_again(tmp_path, lives=5, seed=1) > 5


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_in_a_thousand_lives(tmp_path: Path) -> None:
    assert await kill_again_and_again(tmp_path, lives=1000, seed=2) > 1000
