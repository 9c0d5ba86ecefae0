"""Other peers and this one at the same work, in turn, on the same machine in the same run.

Each is started anew for each round, in a process of its own, and does what `network` does: so many
nodes on loopback, values written by one and read by another that keeps no copy, every one compared.
Between two rounds of a rival there is one of ours with as many copies. What counts are ratios of
neighbouring rounds: a machine that is slow for a minute is slow for both.

The harnesses of the others are in `scripts/rivals`, with how to set each up; none of their code is.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from scripts.benchmarks.network import Work, measure_network

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
        "bmuller, uvloop",
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
THEIRS: Final = {  # names of figures: ours, and theirs
    "writes_per_s": "put_ops_s",
    "reads_per_s": "get_ops_s",
    "write_p99_ms": "put_p99_ms",
    "read_p99_ms": "get_p99_ms",
    "write_cpu_ms": "cpu_s_per_put",
    "read_cpu_ms": "cpu_s_per_get",
    "mb_per_node": "rss_mb_per_node",
}
SECONDS: Final = {"cpu_s_per_put", "cpu_s_per_get"}


def installed(rivals: Path) -> list[Rival]:
    """Those that are set up in this folder."""
    return [rival for rival in RIVALS if (rivals / rival.needs).is_dir()]


def compare(
    rivals: Path, work: Work, *, rounds: int, say: Callable[[str], None]
) -> Iterator[Figures]:
    """Of each rival: the medians of its rounds and of ours, and what ours are in terms of them."""
    for rival in installed(rivals):
        ours, theirs = [], []
        for number in range(rounds):
            say(f"{rival.name}, round {number + 1} of {rounds}")
            told = _run(rival, rivals, work, port=20_000 + 1_000 * number)
            if told is None:
                say(f"{rival.name} failed or took too long")
                break
            theirs.append(told)
            ours.append(_run_ours(work, copies=rival.copies))
        if len(theirs) == rounds:
            yield {"rival": rival.name, "copies": rival.copies, **_ratios(ours, theirs)}


def describe(told: Figures) -> str:
    """The same for people: a line for each figure."""
    lines = [f"{told['rival']}, {told['copies']} copies: ours, theirs, ours / theirs (range)"]
    for name in THEIRS:
        one = told[name]
        lines.append(
            f"{name:>14} {one['ours']:12,.2f} {one['theirs']:12,.2f}"
            f"   {one['ratio']:.2f} ({one['from']:.2f} to {one['to']:.2f})"
        )
    found = told["found"]
    lines.append(f"{'found':>14} {found['ours']:12.4f} {found['theirs']:12.4f}")
    return "\n".join(lines)


def _run_ours(work: Work, *, copies: int) -> Figures:
    told = measure_network(Work(**{**_fields(work), "copies": copies}))
    assert told["written"] == 1.0, "a write of ours failed"
    return told


def _fields(work: Work) -> Figures:
    return {name: getattr(work, name) for name in Work.__slots__}


def _run(rival: Rival, rivals: Path, work: Work, *, port: int) -> Figures | None:
    options = {
        "nodes": work.nodes,
        "values": work.values,
        "value-size": work.value_bytes,
        "concurrency": work.at_once,
        "seed": work.seed,
        "base-port": port,
        "fault": round(100 * work.killed),
    }
    command = [*rival.line(rivals), "--json", "--nonholder"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "RIVALS": str(rivals)}
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=RUN_MAX_S,
        )
    except subprocess.TimeoutExpired:
        return None
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return None
    told: Figures = json.loads(lines[-1])
    return {
        ours: told[theirs] * (1000 if theirs in SECONDS else 1) for ours, theirs in THEIRS.items()
    } | {"found": told["get_found"]}


def _ratios(ours: list[Figures], theirs: list[Figures]) -> Figures:
    """Medians of ours and of theirs, and of ours / theirs, with its range over the rounds."""
    figures: Figures = {}
    for name in THEIRS:
        ratios = [a[name] / b[name] for a, b in zip(ours, theirs, strict=True)]
        figures[name] = {
            "ours": median(told[name] for told in ours),
            "theirs": median(told[name] for told in theirs),
            "ratio": median(ratios),
            "from": min(ratios),
            "to": max(ratios),
        }
    figures["found"] = {
        "ours": min(told["found"] for told in ours),
        "theirs": min(told["found"] for told in theirs),
    }
    return figures
