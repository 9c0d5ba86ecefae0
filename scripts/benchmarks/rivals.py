"""Other peers and this one at the same work, in turn, on the same machine in the same run.

Each is started anew for each round, in a process of its own, and does what `network` does: so many
nodes on loopback, values written by one and read by another that keeps no copy, every one compared.
Between two rounds of a rival there is one of ours with as many copies and the same seed, which is
another one in each round. What counts are ratios of neighbouring rounds: a machine that is slow for
a minute is slow for both. Only what was written is read, so a ratio of reads says nothing where
`written` differs; what a harness does not tell is None.

The harnesses of the others are in `scripts/rivals`, with how to set each up; none of their code is.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from scripts.benchmarks.network import Failed, Work, measure_network

HARNESSES: Final = Path(__file__).parent.parent / "rivals"
RUN_MAX_S: Final = 560.0
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rival:
    """A program to measure ourselves against, where it is set up, and its copies of a value."""

    name: str
    copies: int
    needs: str  # in the folder of the rivals
    command: tuple[str, ...]  # {rivals} stands for that folder

    def line(self, rivals: Path) -> list[str]:
        """The command to start it."""
        first, harness, *options = self.command
        return [first.format(rivals=rivals), *_harness(harness), *options]


def _harness(name: str) -> list[str]:
    """A harness's path, behind what node needs to know for it."""
    path = str(HARNESSES / name)
    return ["--expose-gc", path] if name.endswith(".js") else [path]


RIVALS: Final = (
    Rival(
        "bmuller",
        20,
        "venv-bmuller",
        ("{rivals}/venv-bmuller/bin/python", "bench_bmuller.py", "--uvloop"),
    ),
    Rival("bittorrent-dht", 20, "node-bt", ("node", "bench_bittorrent_dht.js")),
    Rival("hyperdht", 20, "node-hyper", ("node", "bench_hyperdht.js")),
    Rival(
        "py-libp2p",
        20,
        "venv-pylibp2p",
        ("{rivals}/venv-pylibp2p/bin/python", "bench_pylibp2p.py"),
    ),
    Rival("OpenDHT", 8, "venv-opendht", ("{rivals}/venv-opendht/bin/python", "bench_opendht.py")),
    Rival(
        "libtorrent",
        8,
        "venv-libtorrent",
        ("{rivals}/venv-libtorrent/bin/python", "bench_libtorrent.py"),
    ),
)
COSTS: Final = {  # names of figures, ours and theirs, whose ratio is told
    "writes_per_s": "put_ops_s",
    "reads_per_s": "get_ops_s",
    "write_p50_ms": "put_p50_ms",
    "write_p99_ms": "put_p99_ms",
    "read_p50_ms": "get_p50_ms",
    "read_p99_ms": "get_p99_ms",
    "write_cpu_ms": "cpu_s_per_put",
    "read_cpu_ms": "cpu_s_per_get",
    "mb_per_node": "rss_mb_per_node",
}
TERMS: Final = {  # the same, for what has to be alike before costs compare; the least of all rounds
    "contacts_min": "min_contacts",
    "written": "put_ok",
    "copies_mean": "put_replicas_mean",
    "dead": "dead",
    "reads_tried": "get_tried",
    "found": "get_found",
}
SECONDS: Final = {"cpu_s_per_put", "cpu_s_per_get"}


def installed(rivals: Path) -> list[Rival]:
    """Those that are set up in this folder."""
    return [rival for rival in RIVALS if (rivals / rival.needs).is_dir()]


def compare(
    chosen: Sequence[Rival], rivals: Path, work: Work, *, rounds: int, say: Callable[[str], None]
) -> Iterator[Figures]:
    """Of each rival: the medians of its rounds and of ours, and what ours are in terms of them.

    A round that fails, theirs or ours, is the last one; a rival without any other is left out.
    """
    for rival in chosen:
        ours, theirs = list[Figures](), list[Figures]()
        for number in range(rounds):
            say(f"{rival.name}, round {number + 1} of {rounds}")
            turn = replace(work, copies=rival.copies, seed=work.seed + number)
            try:
                told = _run(rival, rivals, turn, port=20_000 + 1_000 * (number % 10))
                own = measure_network(turn)
            except Failed as failed:
                say(f"{rival.name}, round {number + 1} does not count: {failed.message}")
                break
            theirs.append(told)
            ours.append(own)
        if theirs:
            known = {"rival": rival.name, "copies": rival.copies}
            yield known | {"rounds": len(theirs), "rounds_asked": rounds} | _ratios(ours, theirs)
        else:
            say(f"{rival.name} is left out")


def describe(told: Figures) -> str:
    """The same for people: a line for each figure."""
    counted = f"{told['rounds']} of {told['rounds_asked']} rounds"
    lines = [f"{told['rival']}, {told['copies']} copies, {counted}: ours, theirs, ratio (range)"]
    for name in COSTS:
        one = told[name]
        ratio, least, most = (_shown(one[part], ".2f") for part in ("ratio", "from", "to"))
        lines.append(f"{_pair(name, one, ',.2f')}   {ratio} ({least} to {most})")
    lines += [_pair(name, told[name], ",.4g") for name in TERMS]
    return "\n".join(lines)


def _pair(name: str, one: Figures, form: str) -> str:
    return f"{name:>14} {_shown(one['ours'], form):>12} {_shown(one['theirs'], form):>12}"


def _shown(figure: float | None, form: str) -> str:
    return "none" if figure is None else format(figure, form)


def _run(rival: Rival, rivals: Path, work: Work, *, port: int) -> Figures:
    command = [*rival.line(rivals), "--json", "--nonholder", *_options(work, port=port)]
    try:
        ran = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "RIVALS": str(rivals)},
            timeout=RUN_MAX_S,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"its harness took more than {RUN_MAX_S:.0f} s") from None
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise Failed(f"its harness ended with {ran.returncode} and without figures")
    told: Figures = json.loads(lines[-1])
    return {ours: _figure(told, theirs) for ours, theirs in (COSTS | TERMS).items()}


def _options(work: Work, *, port: int) -> Iterator[str]:
    """What a harness is asked to do."""
    options = {
        "nodes": work.nodes,
        "values": work.values,
        "value-size": work.value_bytes,
        "concurrency": work.at_once,
        "seed": work.seed,
        "base-port": port,
        "settle": work.settle_s,
        "dead": work.deaths,
    }
    for name, value in options.items():
        yield from (f"--{name}", str(value))


def _figure(told: Figures, name: str) -> float | None:
    """In our unit; None if it was not told."""
    figure: float | None = told.get(name)
    return 1000 * figure if figure is not None and name in SECONDS else figure


def _ratios(ours: list[Figures], theirs: list[Figures]) -> Figures:
    """Medians of ours and of theirs, and of ours / theirs, with its range over the rounds."""
    figures: Figures = {}
    for name in COSTS:
        both = [(a[name], b[name]) for a, b in zip(ours, theirs, strict=True)]
        ratios = [a / b for a, b in both if a is not None and b]
        figures[name] = {
            "ours": _of(median, [a for a, _ in both]),
            "theirs": _of(median, [b for _, b in both]),
            "ratio": _of(median, ratios),
            "from": _of(min, ratios),
            "to": _of(max, ratios),
        }
    for name in TERMS:
        figures[name] = {
            "ours": _of(min, [told[name] for told in ours]),
            "theirs": _of(min, [told[name] for told in theirs]),
        }
    return figures


def _of(
    choose: Callable[[Sequence[float]], float], figures: Sequence[float | None]
) -> float | None:
    """The median, least or most of those that were told; None of none."""
    there = [figure for figure in figures if figure is not None]
    return choose(there) if there else None
