"""`scripts/simulate SEED`, a run in which everything goes wrong, and `campaign`, many of them.

What goes wrong is in `kademlia_node.sim.scenario`, what must hold all the same in `sim.rules`.
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
from typing import Any, Final, Protocol, TypeVar

import click

from kademlia_node.rare import Rare
from kademlia_node.sim import LATENCIES
from kademlia_node.sim.attack import Attack
from kademlia_node.sim.chaos import HOUR_S, run_scenario
from kademlia_node.sim.healing import HEAL_MAX_S, HEAL_MIN_S
from kademlia_node.sim.scenario import NODES_MIN, Result, Scenario

DEFAULTS: Final = Scenario(seed=0)
SWITCHES: Final = ("faults", "disks", "tiny")
SEEDS_FOR_ALL_MARKS: Final = 100  # fewer runs cannot be expected to take every rare path
HOURS: Final = click.FloatRange(0, 24 * 365)  # nobody waits for more
NODES: Final = click.IntRange(NODES_MIN)
SEED: Final = click.IntRange(0)

Command = TypeVar("Command", bound=Callable[..., Any])


class Option(Protocol):
    """Adds an option to a command."""

    def __call__(self, command: Command, /) -> Command:
        """The command, with it."""
        ...


EPILOG: Final = """\b
Attacks, by a fifth as many nodes:
  collude          name nobody but each other, show nothing
  false-addresses  the same, and honest keys where nobody is
  sybil-hide       nearest to a key, say that nothing is there
  sybil-lie        nearest to a key, show something else
  flood            open sessions from false and from true addresses
  replay           send again what was sent
  lengths          claim other lengths, offer what never comes
  forget           acknowledge, and keep nothing
  eclipse          surround a node that joins through them

\b
Latency, as round trips:
  lan     1 ms
  wan     156 ms
  k       log-normal, median 156 ms, fixed for each pair of hosts
  w       five regions of the world, 10 to 320 ms
  skewed  as k, with one direction slower than the other"""


def _number(*names: str, kind: click.ParamType[Any], default: object, text: str) -> Option:
    return click.option(*names, type=kind, default=default, help=text)


def _name(flag: str, names: list[str], *, default: str | None, text: str) -> Option:
    return click.option(flag, type=click.Choice(names), default=default, metavar="NAME", help=text)


@click.command(epilog=EPILOG, short_help="A run of chaos: `scripts/simulate SEED` for short.")
@click.argument("seed", type=SEED)
@_number("--nodes", kind=NODES, default=DEFAULTS.nodes, text="Number of honest nodes.")
@_number("--hours", kind=HOURS, default=DEFAULTS.hours, text="Virtual hours of chaos.")
@_number(
    "--loss",
    kind=click.FloatRange(0, 1),
    default=DEFAULTS.loss,
    text="Share of datagrams lost, beside the faults.",
)
@_number(
    "--churn",
    "churn_s",
    kind=click.FloatRange(0),
    default=DEFAULTS.churn_s,
    text="Mean session of a node, in seconds; 0: nobody leaves.",
)
@_name("--attack", [attack.value for attack in Attack], default=None, text="See below.")
@_name("--latency", list(LATENCIES), default=DEFAULTS.latency, text="See below.")
@click.option("--faults/--no-faults", default=True, help="Partitions, silent peers, clocks ...")
@click.option("--disks/--no-disks", default=True, help="Disks that fail and forget.")
@click.option("--tiny/--no-tiny", default=True, help="A random half of the limits is tiny.")
@_number(
    "--every",
    "every_s",
    kind=click.FloatRange(0, min_open=True),
    default=DEFAULTS.every_s,
    text="Mean seconds between two operations.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def chaos(*, attack: str | None, as_json: bool, **options: Any) -> None:
    """Everything goes wrong, and nothing may be false; then all must be well again."""
    scenario = Scenario(attack=Attack(attack) if attack else None, **options)
    if not as_json:
        print("\n".join(f"{name:>10}  {value}" for name, value in _options(scenario).items()))
    chaos_s, began = scenario.hours * HOUR_S, time.process_time()
    label = f"{chaos_s:.0f} virtual seconds of chaos, {HEAL_MIN_S:.0f} to {HEAL_MAX_S:.0f} of peace"
    length = int(chaos_s + HEAL_MAX_S)
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        result = run_scenario(scenario, on_progress=lambda now: bar.update(int(now) - bar.pos))
        bar.update(length - bar.pos)
    if as_json:
        print(json.dumps(_figures(result)))
    else:
        _tell(result, time.process_time() - began)
    sys.exit(result.violation is not None)


def _tell(result: Result, cpu_s: float) -> None:
    if result.violation is not None:
        print("\n".join(result.story))
        print(f"\nAgain: {replay(result.scenario)}")
        return
    done, failed = result.done.total(), result.failed.total()
    print(
        f"All is well, {result.healed_after_s:.0f} s after the chaos. Operations: {done} done,"
        f" {failed} failed as they may. {result.datagrams} datagrams in {cpu_s:.1f} s of CPU,"
        f" digest {result.digest}."
    )


def _options(scenario: Scenario) -> dict[str, object]:
    attack = scenario.attack.value if scenario.attack else None
    return asdict(scenario) | {"attack": attack}


def _figures(result: Result) -> dict[str, object]:
    rare = {path.name: result.rare[path] for path in Rare if result.rare[path]}
    figures = {field.name: getattr(result, field.name) for field in fields(result)}
    return figures | {"scenario": _options(result.scenario), "rare": rare}


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


@click.command(short_help="Many runs of chaos, on all cores.")
@_number("--seeds", "count", kind=click.IntRange(1), default=20, text="Number of runs.")
@_number("--first", kind=SEED, default=1, text="Seed of the first.")
@_number("--nodes", kind=NODES, default=DEFAULTS.nodes, text="Honest nodes in each run.")
@_number("--hours", kind=HOURS, default=DEFAULTS.hours, text="Virtual hours of chaos in each.")
@click.option("--jobs", type=click.IntRange(1), help="Processes; by default one for each core.")
@click.option(
    "--marks/--no-marks",
    default=None,
    help="Whether every rare path must have been taken.",
    show_default=f"from {SEEDS_FOR_ALL_MARKS} seeds on",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def campaign(
    *, count: int, first: int, nodes: int, hours: float, jobs: int | None, marks: bool | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Runs of chaos with seeds in a row; each seed draws what goes wrong, too."""
    began = time.monotonic()
    run = partial(_run_seed, nodes=nodes, hours=hours)
    results = list(_results(run, range(first, first + count), jobs=jobs))
    broken = [result for result in results if result.violation is not None]
    rare = sum((result.rare for result in results), Counter[Rare]())
    never = [path for path in Rare if not rare[path]]
    for result in broken:
        say = f"seed {result.scenario.seed}: {result.violation}\n  {replay(result.scenario)}"
        print(say, file=sys.stderr)
    demanded = marks if marks is not None else count >= SEEDS_FOR_ALL_MARKS
    if demanded:
        for path in never:
            print(f"never taken: {path.name}, {path.value}", file=sys.stderr)
    figures = {
        "seeds": count,
        "violations": len(broken),
        "rare_paths_taken": f"{len(Rare) - len(never)} of {len(Rare)}",
        "virtual_hours": round(sum(result.virtual_s for result in results) / HOUR_S, 1),
        "operations": sum(result.done.total() for result in results),
        "datagrams": sum(result.datagrams for result in results),
        "elapsed_s": round(time.monotonic() - began, 1),
        "digest": hashlib.sha256(" ".join(r.digest for r in results).encode()).hexdigest(),
    }
    if as_json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:>16}  {value}" for name, value in figures.items()))
    sys.exit(bool(broken or (demanded and never)))


def _run_seed(seed: int, *, nodes: int, hours: float) -> Result:
    return run_scenario(Scenario.drawn(seed, nodes=nodes, hours=hours))


def _results(run: Callable[[int], Result], seeds: range, *, jobs: int | None) -> Iterator[Result]:
    """Of all seeds, in their order, with a bar that moves."""
    with (
        ProcessPoolExecutor(jobs or os.cpu_count()) as pool,
        click.progressbar(
            pool.map(run, seeds), length=len(seeds), label="seeds", file=sys.stderr
        ) as bar,
    ):
        yield from bar
