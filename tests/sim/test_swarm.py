"""Many nodes at once: is what they find the truth, and is a run the same run every time?"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from kademlia_node.sim import FixedLatency, Swarm, survey

ROOT = Path(__file__).parents[2]


async def test_the_example_of_the_module_works() -> None:
    async with Swarm(nodes=20, seed=7) as swarm:
        await swarm.nodes[3].set("colour", b"blue")
        assert await swarm.nodes[17].get("colour") == b"blue"


async def test_without_loss_every_lookup_finds_the_true_closest() -> None:
    async with Swarm(nodes=120, seed=1, latency=FixedLatency(0.02)) as swarm:
        result = await survey(swarm, count=60, rng=random.Random(1))
    assert result.exact == 1.0
    assert result.recall == 1.0


async def test_ten_percent_loss_costs_no_recall_to_speak_of() -> None:
    async with Swarm(nodes=120, seed=2, latency=FixedLatency(0.02), loss=0.1) as swarm:
        result = await survey(swarm, count=200, rng=random.Random(2))
    assert result.recall >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "least"), [(0.0, 1.0), (0.1, 0.99)])
async def test_a_thousand_nodes_find_the_true_closest(loss: float, least: float) -> None:
    async with Swarm(nodes=1000, seed=1, loss=loss) as swarm:
        result = await survey(swarm, count=500, rng=random.Random(1))
    assert result.recall >= least


@pytest.mark.net  # starts processes, which virtual time cannot wait for
def test_one_seed_is_one_run_whatever_the_hash_seed() -> None:
    def digest(hash_seed: str, seed: str = "7") -> str:
        command = [sys.executable, "scripts/_simulate.py", "lookups", seed, "--json"]
        options = ["--nodes=24", "--lookups=10", "--settle=60", "--loss=0.05"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(
            command + options, cwd=ROOT, env=environment, capture_output=True, check=True
        )
        return str(json.loads(ran.stdout)["digest"])

    assert digest("1") == digest("2")
    assert digest("1") != digest("1", seed="8")
