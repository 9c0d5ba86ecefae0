"""The scripts that measure and simulate run, in small, and their figures are sound."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kademlia_node.rare import Rare
from kademlia_node.sim.attack import Attack
from kademlia_node.sim.scenario import Result, Scenario
from scripts.simulation import chaos as chaos_commands
from scripts.simulation.__main__ import Simulations, main

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
    """When all know how large the network is."""
    told = figures(
        "simulation", "steady", "--nodes=40", "--records=4", "--latency=lan", "--settle=400"
    )
    assert told["blob_requests"] == 1
    assert told["entry_requests"] == 3
    assert told["copies"] <= told["renewal_requests"] <= 2 * told["copies"]
    assert told["renewal_round_trips"] == 1
    assert told["first_put_requests"] > 2 * told["copies"]


@pytest.mark.parametrize("republish", ["difference", "hourly"])
def test_records_outlive_the_churn_of_their_holders(republish: str) -> None:
    sizes = ("--nodes=16", "--records=40", "--hours=0.5", "--settle=10", "--latency=lan")
    options = ("--churn=600", "--away=100", f"--republish={republish}")
    told = figures("simulation", "upkeep", *sizes, *options)
    assert (told["records"], told["missed"], told["found"]) == (40, 0, 1.0)
    assert (told["gone"], told["gone_shown"]) == (2, 0)
    assert 0.5 < told["overlap"] <= 1.0
    assert told["departures"] > 5
    assert 5 < told["running"] < 16
    assert told["bytes_per_node_h"] > 28 * told["datagrams_per_node_h"] > 0
    digests = told.get("served_Digest_per_node_h", 0)
    assert (digests > 0) == (republish == "difference")


def test_records_that_stay_where_they_are_are_not_copied() -> None:
    sizes = ("--nodes=12", "--records=20", "--hours=0.2", "--settle=10", "--latency=lan")
    told = figures("simulation", "upkeep", *sizes, "--churn=0", "--sample=5")
    assert (told["departures"], told["running"], told["overlap"]) == (0, 12.0, 1.0)
    assert "repaired_per_node_h" not in told
    assert (told["records"], told["found"], told["missed"]) == (20, 1.0, 0)


def test_a_soak_tells_what_a_running_node_takes() -> None:
    sizes = ("--nodes=16", "--records=20", "--hours=2", "--samples=2", "--settle=10")
    told = figures("simulation", "soak", *sizes, "--churn=1200")
    assert (told["records"], told["found"], told["gone_shown"]) == (20, 1.0, 0)
    first, last = told["looks"]
    assert (first["after_h"], last["after_h"]) == (1, 2)
    for look in (first, last):
        assert 5 < look["running"] <= 16
        assert 1 <= look["tasks"] < 10
        assert 1 <= look["timers"] < 30
        assert 3 < look["peers"] < 16
        assert 0 < look["sessions"] < 30
        assert 20 * 5 <= look["records_held"] * look["running"] <= 20 * 16
        assert look["rss_now_mib"] > 10
        assert look["objects"] > 10_000


def test_copies_come_back_after_nodes_were_killed() -> None:
    sizes = ("--nodes=20", "--records=30", "--settle=10", "--latency=lan")
    told = figures("simulation", "kill", *sizes, "--share=0.4", "--copies=4")
    assert (told["copies"], told["records"]) == (4, 30)
    assert told["expected"] == pytest.approx(1 - 0.4**4)
    assert told["sigma_3"] == pytest.approx(3 * (0.4**4 * (1 - 0.4**4) / 15) ** 0.5)
    assert told["found"] >= 0.8
    assert told["survived"] >= 0.8
    at_once, _, later = told["restored"]
    assert at_once["copies_mean"] < 4 <= told["copies_before"]
    assert at_once["full"] < 1.0
    assert (later["after_h"], later["full"], later["lost_since"]) == (2, 1.0, 0.0)


def test_a_cold_restart_loses_nothing() -> None:
    told = figures("simulation", "cold", "--nodes=12", "--records=20", "--settle=10")
    assert (told["records"], told["found"], told["gone_shown"]) == (20, 1.0, 0)
    assert told["peak_slot_ratio"] >= told["peak_minute_ratio"] > 0
    assert told["restart_s"] < 60
    assert told["virtual_s"] > 3900


def test_two_halves_become_one_network_with_the_records_of_both() -> None:
    sizes = ("--nodes=16", "--records=24", "--hours=0.3", "--settle=10", "--latency=lan")
    told = figures("simulation", "split", *sizes)
    assert told["records"] == 24
    assert told["virtual_s"] > 0.3 * 3600 + 600
    first, last = told["looks"]
    assert (first["after_s"], last["after_s"]) == (60, 600)
    for look in (first, last):
        assert (look["exact"], look["found_a"], look["found_b"]) == (1.0, 1.0, 1.0)


def test_a_network_lives_on_without_its_seeds() -> None:
    sizes = ("--nodes=14", "--records=10", "--hours=0.5", "--settle=10", "--latency=lan")
    told = figures("simulation", "seedless", *sizes, "--seeds=4")
    assert (told["restarted"], told["running"], told["newcomers_joined"]) == (5, 20, 10)
    assert (told["exact"], told["exact_with_newcomers"], told["found"]) == (1.0, 1.0, 1.0)
    refused = ran("simulation", "seedless", "--nodes=4", "--seeds=4")
    assert refused.returncode == 2
    assert "fewer --seeds" in refused.stderr


def test_who_watches_is_told_of_every_change() -> None:
    sizes = ("--nodes=16", "--changes=30", "--writers=2", "--slots=5", "--settle=10")
    options = ("--every=2", "--restart=20", "--churn=300", "--away=60", "--loss=0.1")
    told = figures("simulation", "watch", *sizes, *options)
    assert (told["changes"], told["missed"], told["out_of_order"]) == (30, 0, 0)
    assert 0.2 < told["p50_s"] < 1.0
    assert told["p50_s"] <= told["p90_s"] <= told["p99_s"] <= told["max_s"] < 60
    assert told["restarted_lacks"] == 0
    assert told["restarts"] >= 5
    assert told["departures"] > 3
    assert told["reads"] >= 1
    assert 5 <= told["write_datagrams"] < 100


def test_what_is_waited_for_grows_with_the_dead() -> None:
    sizes = ("--nodes=16", "--count=8", "--settle=10", "--dead=0.25", "--latency=lan")
    clean, after = figures("simulation", "waits", *sizes)["waits"]
    assert (clean["dead"], after["dead"]) == (0.0, 0.25)
    for kind in ("put", "get", "lookup"):
        assert clean[f"{kind}_done"] == 1.0
        assert 0 < clean[f"{kind}_p50_s"] <= clean[f"{kind}_p99_s"] < 1.0
    assert clean["lookup_recall"] == 1.0
    assert after["get_done"] == 1.0
    assert after["lookup_p50_s"] > 3 * clean["lookup_p50_s"]


@pytest.mark.parametrize("verb", ["put", "set"])
def test_the_network_bench_finds_what_it_wrote(verb: str) -> None:
    sizes = ("--nodes=8", "--values=20", "--copies=3", "--settle=0")
    told = figures("benchmarks", "network", f"--verb={verb}", *sizes)
    assert (told["written"], told["found"]) == (1.0, 1.0)
    assert told["copies_mean"] >= 3
    assert told["write_datagrams"] >= 2 * 2  # one of the three copies may stay with the writer
    assert told["read_datagrams"] >= 2
    assert figures("benchmarks", "network", *sizes, "--walking")["write_datagrams"] > 2 * 7


def test_the_network_bench_reads_from_those_who_are_left() -> None:
    told = figures(
        "benchmarks", "network", "--nodes=10", "--values=20", "--copies=8", "--killed=0.5"
    )
    assert told["written"] == 1.0
    assert told["found"] == 1.0


def test_the_store_bench_reads_what_it_wrote() -> None:
    told = figures("benchmarks", "store", "--records=2000", "--reads=500")
    assert told["puts_per_s"] > 0
    assert told["gets_per_s"] > 0
    assert told["memory_opened_mb"] > told["memory_before_mb"] > 0


def test_a_content_outlives_a_holder_and_its_reader() -> None:
    told = figures("benchmarks", "content", "--size=4000000")
    assert told["hash_equal"]
    assert 0 < told["pieces_fetched_after_it"] < told["pieces"]


# --- Chaos ----------------------------------------------------------------------------------------

SHORT = ("--nodes=8", "--hours=0.02")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Scenario]:
    """The scenarios that are to be run, instead of running them; odd seeds break a rule."""
    scenarios: list[Scenario] = []

    def pretend(scenario: Scenario, **_: object) -> Result:
        scenarios.append(scenario)
        if scenario.seed % 2 == 0:
            return Result(scenario=scenario, digest="d1", virtual_s=1800.0)
        return Result(scenario=scenario, violation="2. invented value: 7", story=["so", "it was"])

    monkeypatch.setattr(chaos_commands, "run_scenario", pretend)
    monkeypatch.setattr(chaos_commands, "ProcessPoolExecutor", ThreadPoolExecutor)
    return scenarios


def test_a_seed_and_its_options_are_one_run_and_one_command_gives_it_again() -> None:
    options = (*SHORT, "--no-tiny", "--churn=120", "--latency=lan", "--attack=forget")
    told = figures("simulation", "5", *options)
    scenario = Scenario(
        seed=5,
        nodes=8,
        hours=0.02,
        churn_s=120.0,
        attack=Attack.FORGET,
        latency="lan",
        tiny=False,
    )
    assert told["scenario"] == asdict(scenario) | {"attack": "forget"}
    assert (told["violation"], told["story"]) == (None, [])
    assert sum(told["done"].values()) > 5
    assert told["datagrams"] > 1000
    assert set(told["rare"].values()).isdisjoint({0})
    program, *again = shlex.split(chaos_commands.replay(scenario))
    assert program == "scripts/simulate"
    assert figures("simulation", *again)["digest"] == told["digest"]
    assert figures("simulation", *again, "--loss=0.1")["digest"] != told["digest"]


def test_a_run_tells_people_what_goes_wrong_and_that_all_is_well() -> None:
    told = ran("simulation", "chaos", "2", *SHORT, "--no-disks")
    assert told.returncode == 0, told.stderr
    lines = [line.split() for line in told.stdout.splitlines()]
    for line in (["seed", "2"], ["nodes", "8"], ["disks", "False"], ["tiny", "True"]):
        assert line in lines
    assert told.stdout.splitlines()[-1].startswith("All is well, ")


@pytest.mark.parametrize(
    ("option", "changed"),
    [
        ("--nodes=30", {"nodes": 30}),
        ("--hours=2.5", {"hours": 2.5}),
        ("--loss=0.25", {"loss": 0.25}),
        ("--churn=0", {"churn_s": 0.0}),
        ("--attack=forget", {"attack": Attack.FORGET}),
        ("--latency=skewed", {"latency": "skewed"}),
        ("--no-faults", {"faults": False}),
        ("--no-disks", {"disks": False}),
        ("--no-tiny", {"tiny": False}),
        ("--every=0.5", {"every_s": 0.5}),
        ("--json", {}),
    ],
)
def test_each_option_of_chaos_reaches_the_scenario(
    asked: list[Scenario], option: str, changed: dict[str, Any]
) -> None:
    assert CliRunner().invoke(main, ["4", option]).exit_code == 0
    assert asked == [Scenario(seed=4, **changed)]


@pytest.mark.parametrize("option", ["--nodes=7", "--hours=-1", "--loss=1.1", "--every=0"])
def test_what_cannot_be_run_is_refused(asked: list[Scenario], option: str) -> None:
    assert CliRunner().invoke(main, ["4", option]).exit_code == 2
    assert asked == []


def test_the_command_for_a_replay_parses_back_to_its_scenario(asked: list[Scenario]) -> None:
    drawn = [Scenario.drawn(seed, nodes=8 + seed, hours=1 / (seed + 3)) for seed in range(60)]
    assert {scenario.attack for scenario in drawn} == {None, *Attack}
    for scenario in drawn:
        CliRunner().invoke(main, shlex.split(chaos_commands.replay(scenario))[1:])
    assert asked == drawn


def test_a_broken_rule_is_told_with_its_story_and_the_command_that_replays_it(
    asked: list[Scenario],
) -> None:
    told = CliRunner().invoke(main, ["7", "--no-tiny"])
    assert told.exit_code == 1
    again = f"Again: {chaos_commands.replay(Scenario(seed=7, tiny=False))}"
    assert told.stdout.splitlines()[-4:] == ["so", "it was", "", again]
    told = CliRunner().invoke(main, ["7", "--json"])
    assert told.exit_code == 1
    assert json.loads(told.stdout)["violation"] == "2. invented value: 7"
    assert len(asked) == 2


def test_a_campaign_is_the_same_whatever_the_number_of_processes() -> None:
    sizes = ("--seeds=2", *SHORT)
    told = figures("simulation", "campaign", *sizes, "--jobs=2")
    assert (told["seeds"], told["violations"]) == (2, 0)
    assert told["operations"] > 5
    assert told["datagrams"] > 1000
    assert told["virtual_hours"] >= 0.1
    alone = figures("simulation", "campaign", *sizes, "--jobs=1")
    assert alone | {"elapsed_s": 0} == told | {"elapsed_s": 0}
    others = figures("simulation", "campaign", *sizes, "--jobs=2", "--first=2")
    assert others["digest"] != told["digest"]


def test_a_campaign_names_each_seed_that_fails_and_how_to_run_it_again(
    asked: list[Scenario],
) -> None:
    told = CliRunner().invoke(
        main, ["campaign", "--seeds=4", "--first=10", "--nodes=9", "--hours=0.5", "--json"]
    )
    assert told.exit_code == 1
    assert json.loads(told.stdout)["violations"] == 2
    drawn = [Scenario.drawn(seed, nodes=9, hours=0.5) for seed in range(10, 14)]
    assert sorted(asked, key=lambda scenario: scenario.seed) == drawn
    for scenario in drawn:
        is_told = f"seed {scenario.seed}: 2. invented value: 7" in told.stderr
        assert is_told == (chaos_commands.replay(scenario) in told.stderr) == scenario.seed % 2


@pytest.mark.usefixtures("asked")
def test_rare_paths_are_demanded_of_long_campaigns_or_when_asked_for() -> None:
    calm = CliRunner().invoke(main, ["campaign", "--seeds=1", "--first=2"])
    assert (calm.exit_code, "never taken: " in calm.stderr) == (0, False)
    strict = CliRunner().invoke(main, ["campaign", "--seeds=1", "--first=2", "--marks"])
    assert (strict.exit_code, strict.stderr.count("never taken: ")) == (1, len(Rare))
    count = chaos_commands.SEEDS_FOR_ALL_MARKS
    for seeds, demanded in ((count - 1, 0), (count, len(Rare))):
        told = CliRunner().invoke(main, ["campaign", f"--seeds={seeds}"])
        assert told.stderr.count("never taken: ") == demanded
