"""Tiny limits drawn from a seed: all are drawn at times, and nodes can live with any of them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, replace

import pytest

from kademlia_node.settings import Settings
from kademlia_node.sim import Swarm
from kademlia_node.sim.shrink import TINY, shrunk

SEEDS = range(200)


def changes(settings: Settings) -> set[str]:
    """The limits that are not the default ones."""
    defaults = asdict(Settings())
    return {name for name, value in asdict(settings).items() if value != defaults[name]}


def test_equal_seeds_draw_equal_settings() -> None:
    drawn = [shrunk(random.Random(seed)) for seed in SEEDS]
    assert drawn == [shrunk(random.Random(seed)) for seed in SEEDS]
    assert len({str(settings) for settings in drawn}) == len(SEEDS)


def test_every_limit_is_shrunk_by_some_seed_and_to_each_of_its_choices() -> None:
    drawn = [shrunk(random.Random(seed)) for seed in SEEDS]
    for name, choices in TINY.items():
        assert {getattr(settings, name) for settings in drawn} == {
            *choices,
            getattr(Settings(), name),
        }


def test_about_half_of_the_limits_are_shrunk_in_a_run() -> None:
    sizes = [len(changes(shrunk(random.Random(seed)))) for seed in SEEDS]
    assert abs(sum(sizes) / len(sizes) - len(TINY) / 2) < 1.0


@pytest.mark.parametrize("name", TINY)
def test_what_a_limit_may_become_is_smaller_than_the_default(name: str) -> None:
    """Each of the three far buckets is, too: tuples compare by their first difference."""
    assert all(choice < getattr(Settings(), name) for choice in TINY[name])


def test_limits_that_are_not_shrunk_are_those_given() -> None:
    given = replace(Settings(), topic_bytes_max=12345, k=16)
    drawn = [shrunk(random.Random(seed), given) for seed in SEEDS]
    assert {settings.topic_bytes_max for settings in drawn} == {12345}
    assert {settings.k for settings in drawn} == {16, *TINY["k"]}


@pytest.mark.parametrize("seed", range(6))
async def test_a_swarm_with_tiny_limits_joins_writes_and_reads(seed: int) -> None:
    settings = shrunk(random.Random(seed))
    async with Swarm(nodes=8, seed=seed, settings=settings) as swarm:
        await asyncio.sleep(20.0)  # some have to knock twice
        for number, writer in enumerate(swarm.nodes):
            value = random.Random(number).randbytes(8_000 * number)
            reader = swarm.nodes[number - 3]
            await writer.set(f"name {number}", value)
            assert await reader.get(f"name {number}") == value
