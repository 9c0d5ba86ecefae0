"""The scripts that measure and simulate run, in small, and their figures are sound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from scripts.simulation.__main__ import Simulations

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.net  # starts processes, which virtual time cannot wait for


def ran(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"scripts.{module}", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def figures(module: str, *arguments: str) -> dict[str, Any]:
    told = ran(module, *arguments, "--json")
    assert told.returncode == 0, told.stderr
    printed: dict[str, Any] = json.loads(told.stdout)
    return printed


def test_lookups_are_surveyed_at_one_loss_after_another() -> None:
    sizes = ("--nodes=24", "--lookups=10", "--settle=20", "--latency=w")
    alone = figures("simulation", "lookups", *sizes)["surveys"]
    calm, storm = figures("simulation", "lookups", *sizes, "--loss=0", "--loss=0.4")["surveys"]
    assert alone == [calm]
    assert (calm["success"], calm["recall"], calm["failed"]) == (1.0, 1.0, 0.0)
    assert (calm["loss"], storm["loss"]) == (0.0, 0.4)
    assert storm["p50_s"] > 2 * calm["p50_s"]


def test_nodes_that_come_and_go_still_find_each_other() -> None:
    sizes = ("--nodes=20", "--settle=10", "--hours=0.1", "--every=60")
    told = figures("simulation", "live", *sizes, "--churn=300", "--away=60")
    assert told["departures"] >= told["returns"] > 5
    assert 10 < told["running"] < 20
    assert told["success"] > 0.9
    calm = figures("simulation", "live", *sizes, "--churn=0")
    assert (calm["departures"], calm["cut_short"], calm["running"]) == (0, 0, 20)
    assert calm["recall"] == 1.0
    assert 60 < calm["count"] < 180  # 20 nodes, six minutes
    assert 0 < calm["bytes_per_node_s"] < told["bytes_per_node_s"]


def test_too_short_a_life_is_one_clear_line() -> None:
    told = ran("simulation", "live", "--nodes=2", "--settle=0", "--hours=1e-9")
    assert told.returncode == 2
    assert told.stderr.endswith("no lookup ended: give more --hours, or less --every\n")


def test_figures_for_people_have_a_column_for_each_loss() -> None:
    sizes = ("--nodes=4", "--lookups=2", "--settle=0")
    told = ran("simulation", "lookups", *sizes, "--loss=0", "--loss=0.1")
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["loss", "0.0000", "0.1000"] in lines
    assert ["count", "2", "2"] in lines


@pytest.mark.parametrize(
    ("arguments", "said"), [(["7"], "chaos 7"), (["chaos", "8"], "chaos 8"), (["calm"], "calm")]
)
def test_a_seed_in_the_place_of_a_command_is_that_of_chaos(arguments: list[str], said: str) -> None:
    @click.group(cls=Simulations)
    def group() -> None: ...

    @group.command()
    @click.argument("seed")
    def chaos(seed: str) -> None:
        click.echo(f"chaos {seed}")

    @group.command()
    def calm() -> None:
        click.echo("calm")

    assert CliRunner().invoke(group, arguments).output == f"{said}\n"


def test_long_values_are_put_and_got_through_loss() -> None:
    told = figures("simulation", "values", "--nodes=20", "--values=12", "--loss=0.05", "--settle=5")
    assert (told["put"], told["got"]) == (12, 12)


def test_a_large_topic_is_read_whole() -> None:
    size = ("--nodes=40", "--entries=400", "--authors=20", "--settle=5")
    told = figures("simulation", "topic", *size)
    assert told["read_min"] == 400
    assert told["read_max_s"] < 5


def test_what_is_known_costs_few_requests() -> None:
    told = figures("simulation", "steady", "--nodes=40", "--records=4", "--latency=lan")
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
