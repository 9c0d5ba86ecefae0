"""`scripts/simulate SEED`, a run in which everything goes wrong, and `campaign`, many of them.

What goes wrong, and what must hold all the same, is in `kademlia_node.sim.chaos`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from functools import partial
from typing import Any, Final

import click

from kademlia_node.rare import Rare
from kademlia_node.sim import LATENCIES
from kademlia_node.sim.attack import Attack
from kademlia_node.sim.chaos import HEAL_MIN_S, HOUR_S, Outcome, Scenario, run_scenario

DEFAULTS: Final = Scenario(seed=0)
HOURS_MAX: Final = 24 * 365.0  # nobody waits for more
SWITCHES: Final = ("faults", "disks", "tiny")
SEEDS_FOR_ALL_MARKS: Final = 100  # fewer runs cannot be expected to take every rare path


@click.command()
@click.argument("seed", type=click.IntRange(0))
@click.option("--nodes", type=click.IntRange(8), default=DEFAULTS.nodes, help="Honest ones.")
@click.option(
    "--hours", type=click.FloatRange(0, HOURS_MAX), default=DEFAULTS.hours, help="Of chaos."
)
@click.option("--loss", type=click.FloatRange(0, 1), default=DEFAULTS.loss, help="Besides faults.")
@click.option(
    "--churn", "churn_s", type=click.FloatRange(0), default=DEFAULTS.churn_s,
    help="Mean session in seconds; 0: none.",
)  # fmt: skip
@click.option("--attack", type=click.Choice([attack.value for attack in Attack]))
@click.option("--latency", type=click.Choice(list(LATENCIES)), default=DEFAULTS.latency)
@click.option("--faults/--no-faults", default=True, help="Partitions, silent peers, clocks ...")
@click.option("--disks/--no-disks", default=True, help="Disks that fail and forget.")
@click.option("--tiny/--no-tiny", default=True, help="A random half of the limits is tiny.")
@click.option(
    "--every", "every_s", type=click.FloatRange(0, min_open=True), default=DEFAULTS.every_s,
    help="Mean seconds between two operations.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def chaos(*, attack: str | None, as_json: bool, **options: Any) -> None:
    """Everything goes wrong, and nothing may be false; then all must be well again."""
    scenario = Scenario(attack=Attack(attack) if attack else None, **options)
    if not as_json:
        print("\n".join(f"{name:>10}  {value}" for name, value in _options(scenario).items()))
    expected_s = scenario.hours * HOUR_S + HEAL_MIN_S
    label = f"{expected_s:.0f} virtual seconds or more"
    began = time.process_time()
    with click.progressbar(length=int(expected_s), label=label, file=sys.stderr) as bar:
        outcome = run_scenario(scenario, on_progress=lambda now: bar.update(int(now) - bar.pos))
    if as_json:
        print(json.dumps(_figures(outcome)))
    else:
        _tell(outcome, time.process_time() - began)
    sys.exit(outcome.violation is not None)


def _tell(outcome: Outcome, cpu_s: float) -> None:
    if outcome.violation is not None:
        print("\n".join(outcome.story))
        print(f"\nAgain: {replay(outcome.scenario)}")
        return
    done, failed = outcome.done.total(), outcome.failed.total()
    print(
        f"All is well, {outcome.healed_after_s:.0f} s after the chaos. Operations: {done} done,"
        f" {failed} failed as they may. {outcome.datagrams} datagrams in {cpu_s:.1f} s of CPU,"
        f" digest {outcome.digest}."
    )


def _options(scenario: Scenario) -> dict[str, object]:
    attack = scenario.attack.value if scenario.attack else None
    return asdict(scenario) | {"attack": attack}


def _figures(outcome: Outcome) -> dict[str, object]:
    rare = {path.name: outcome.rare[path] for path in Rare if outcome.rare[path]}
    figures = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    return figures | {"scenario": _options(outcome.scenario), "rare": rare}


def replay(scenario: Scenario) -> str:
    """The one command that runs it again."""
    words = ["scripts/simulate", str(scenario.seed)]
    for name, value in _options(scenario).items():
        option = "--" + name.removesuffix("_s")
        if name in SWITCHES:
            words.append(option if value else option.replace("--", "--no-"))
        elif name != "seed" and value is not None:
            words += [option, str(value)]
    return shlex.join(words)


# --- Many seeds -----------------------------------------------------------------------------------


@click.command()
@click.option("--seeds", "count", type=click.IntRange(1), default=20, help="How many runs.")
@click.option("--first", type=click.IntRange(0), default=1, help="Seed of the first.")
@click.option("--nodes", type=click.IntRange(8), default=DEFAULTS.nodes, help="Of each run.")
@click.option(
    "--hours", type=click.FloatRange(0, HOURS_MAX), default=DEFAULTS.hours, help="Of each chaos."
)
@click.option("--jobs", type=click.IntRange(1), help="Processes; by default one for each core.")
@click.option(
    "--marks/--no-marks", default=None,
    help="Whether every rare path must have been taken.",
    show_default=f"from {SEEDS_FOR_ALL_MARKS} seeds on",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def campaign(
    *, count: int, first: int, nodes: int, hours: float, jobs: int | None, marks: bool | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Runs of chaos with seeds in a row; each seed draws what goes wrong, too."""
    began = time.monotonic()
    run = partial(_run_seed, nodes=nodes, hours=hours)
    outcomes = list(_outcomes(run, range(first, first + count), jobs=jobs))
    broken = [outcome for outcome in outcomes if outcome.violation is not None]
    rare = sum((outcome.rare for outcome in outcomes), Counter[Rare]())
    never = [path for path in Rare if not rare[path]]
    for outcome in broken:
        say = f"seed {outcome.scenario.seed}: {outcome.violation}\n  {replay(outcome.scenario)}"
        print(say, file=sys.stderr)
    demanded = marks if marks is not None else count >= SEEDS_FOR_ALL_MARKS
    if demanded:
        for path in never:
            print(f"never taken: {path.name}, {path.value}", file=sys.stderr)
    figures = {
        "seeds": count,
        "violations": len(broken),
        "never_taken": [path.name for path in never],
        "virtual_hours": round(sum(outcome.virtual_s for outcome in outcomes) / HOUR_S, 1),
        "operations": sum(outcome.done.total() for outcome in outcomes),
        "datagrams": sum(outcome.datagrams for outcome in outcomes),
        "elapsed_s": round(time.monotonic() - began, 1),
        "digest": hashlib.sha256(" ".join(o.digest for o in outcomes).encode()).hexdigest(),
    }
    if as_json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:>13}  {value}" for name, value in figures.items()))
    sys.exit(bool(broken or (demanded and never)))


def _run_seed(seed: int, *, nodes: int, hours: float) -> Outcome:
    return run_scenario(Scenario.drawn(seed, nodes=nodes, hours=hours))


def _outcomes(
    run: Callable[[int], Outcome], seeds: range, *, jobs: int | None
) -> Iterator[Outcome]:
    """Of all seeds, in their order, with a bar that moves."""
    with (
        ProcessPoolExecutor(jobs or os.cpu_count()) as pool,
        click.progressbar(
            pool.map(run, seeds), length=len(seeds), label="seeds", file=sys.stderr
        ) as bar,
    ):
        yield from bar
