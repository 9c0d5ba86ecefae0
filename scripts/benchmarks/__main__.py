"""Measure on this machine. Figures of different machines, or of a busy one, do not compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import click

from kademlia_node.settings import VALUE_BYTES_MAX
from scripts.benchmarks.codec import measure_codec
from scripts.benchmarks.content import measure_content
from scripts.benchmarks.lookup import measure_lookup
from scripts.benchmarks.network import Verb, Work, measure_network
from scripts.benchmarks.rivals import compare, describe, installed
from scripts.benchmarks.routing import measure_routing
from scripts.benchmarks.served import Plan, measure_served
from scripts.benchmarks.session import measure_session
from scripts.benchmarks.start import measure_start
from scripts.benchmarks.store import measure_store
from scripts.benchmarks.timing import Pace

Figures = dict[str, Any]
SHARE = click.FloatRange(0, 0.9)
SECONDS = click.FloatRange(0, min_open=True)


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Measure on this machine."""


def _printing(measure: Callable[..., Figures]) -> Callable[..., None]:
    """Let a command print the figures it returns, in text or as JSON."""

    @wraps(measure)
    def wrapped(*, as_json: bool, **options: Any) -> None:
        with TemporaryDirectory(prefix="kademlia-bench-") as folder:
            figures = measure(Path(folder), **options)
        if as_json:
            print(json.dumps(figures))
            return
        width = max(map(len, figures))
        for name, figure in figures.items():
            print(f"{name:>{width}}  {_shown(figure)}")

    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(wrapped)


def _shown(figure: Any) -> str:
    if isinstance(figure, dict):
        return "  ".join(f"{name} {_shown(part):>9}" for name, part in figure.items())
    if figure is None:
        return "none"
    return f"{figure:,.2f}" if isinstance(figure, float) else str(figure)


@main.command()
@click.option("--records", type=click.IntRange(1), default=1_000_000, help="Records of 100 bytes.")
@click.option("--reads", type=click.IntRange(1), default=200_000, help="Random gets among them.")
@click.option("--at-once", type=click.IntRange(1), default=64, help="Operations under way.")
@click.option("--durability", type=click.Choice(["process", "power"]), default="process")
@_printing
def store(folder: Path, *, records: int, reads: int, at_once: int, durability: str) -> Figures:
    """A disk store full of small records: puts, gets, start-up, memory, size."""
    return measure_store(
        folder, records=records, reads=reads, at_once=at_once, durability=durability
    )


@main.command()
@click.option("--size", type=click.IntRange(1), default=100 * 2**20, help="Bytes of the content.")
@click.option(
    "--loss", type=click.FloatRange(0, 0.5), default=0.02, help="Share of datagrams lost."
)
@_printing
def content(folder: Path, *, size: int, loss: float) -> Figures:
    """A content fetched from three processes over loopback; a holder and the reader are killed."""
    return measure_content(folder, size=size, loss=loss)


def _work_options(command: Callable[..., None]) -> Callable[..., None]:
    """What many nodes in one process are given to do."""
    for option in (
        click.option("--nodes", type=click.IntRange(2), default=32, help="In one process."),
        click.option("--values", type=click.IntRange(1), default=500, help="How many are written."),
        click.option("--value-bytes", type=click.IntRange(1, VALUE_BYTES_MAX), default=100),
        click.option("--at-once", type=click.IntRange(1), default=16, help="Operations under way."),
        click.option("--killed", type=SHARE, default=0.0, help="Share dead before the reads."),
        click.option("--seed", type=int, default=1),
    ):
        command = option(command)
    return command


@main.command()
@_work_options
@click.option("--copies", type=click.IntRange(1, 20), default=20, help="Of each value.")
@click.option("--verb", type=click.Choice(get_args(Verb)), default="put", help="Blobs or entries.")
@click.option("--settle", "settle_s", type=click.FloatRange(0), default=1.0, help="Seconds first.")
@click.option("--walking", is_flag=True, help="Walk for each, to compare.")
@_printing
def network(_folder: Path, **work: Any) -> Figures:
    """Nodes in one process on loopback: writes, reads by nodes without a copy, memory.

    The same nodes then read the same again: they keep no copy, but know a holder.
    """
    asked = Work(**work)
    _leave_a_reader(asked, copies=asked.copies, or_else="give fewer --copies")
    return measure_network(asked)


def _leave_a_reader(work: Work, *, copies: int, or_else: str) -> None:
    """Refuse work in which all nodes keep a copy of all values."""
    if work.nodes <= copies:
        raise click.UsageError(
            f"{work.nodes} nodes would all keep one of the {copies} copies, and nobody could read:"
            f" give --nodes above {copies}, or {or_else}"
        )


@main.command()
@_work_options
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Where they are set up, see scripts/rivals/README.md.",
)
@click.option("--only", multiple=True, help="This rival, not all; give it again for another one.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Of each, with one of ours.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each rival.")
def rivals(folder: Path, *, only: tuple[str, ...], rounds: int, as_json: bool, **work: Any) -> None:
    """Other programs at the same work, in turn with ours: medians, and ratios with their range."""
    asked, there = Work(**work), installed(folder)
    if only:
        there = [rival for rival in there if rival.name in only]
    if not there or len(there) < len(set(only)):
        names = ", ".join(rival.name for rival in installed(folder))
        raise click.UsageError(f"{folder} has of these: {names or 'none'}")
    most = max(there, key=lambda rival: rival.copies)
    _leave_a_reader(asked, copies=most.copies, or_else=f"take {most.name} out of {folder}")
    say = partial(click.echo, err=True)
    for told in compare(there, folder, asked, rounds=rounds, say=say):
        click.echo(json.dumps(told) if as_json else describe(told))


@main.command()
@click.option("--rounds", type=click.IntRange(1), default=3, help="Of each, in turn.")
@click.option("--seconds", type=SECONDS, default=2.0, help="Of each measurement.")
@click.option("--at-once", type=click.IntRange(1), default=64, help="Requests under way.")
@click.option("--contacts", type=click.IntRange(1, 64), default=31, help="In the node's table.")
@click.option("--lean", is_flag=True, help="Ask with less effort, so that who answers is busier.")
@_printing
def served(_folder: Path, **plan: Any) -> Figures:
    """Requests a second that a node answers on loopback, and its CPU for each; and bare echoes."""
    return measure_served(Plan(**plan))


@main.command()
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of each, in turn.")
@_printing
def start(folder: Path, *, rounds: int) -> Figures:
    """Milliseconds until a daemon answers at its control socket, and to import the package."""
    return measure_start(folder, rounds=rounds)


# --- The pure core --------------------------------------------------------------------------------


def _paced(measure: Callable[..., Figures]) -> Callable[..., None]:
    """Microseconds per operation, best and median of several repeats; and how many of these."""

    @wraps(measure)
    def wrapped(_folder: Path, *, repeats: int, repeat_s: float, **options: Any) -> Figures:
        return measure(Pace(repeats=repeats, repeat_s=repeat_s), **options)

    command = _printing(wrapped)
    for option in (
        click.option("--seconds", "repeat_s", type=SECONDS, default=0.05, help="Of each repeat."),
        click.option("--repeats", type=click.IntRange(1), default=7, help="Of each operation."),
    ):
        command = option(command)
    return command


@main.command()
@_paced
def codec(pace: Pace) -> Figures:
    """Messages to bytes and back: microseconds for each kind."""
    return measure_codec(pace)


@main.command()
@_paced
def session(pace: Pace) -> Figures:
    """Sealing, opening, handshakes and signatures: microseconds of each."""
    return measure_session(pace)


@main.command()
@click.option("--contacts", type=click.IntRange(1), default=10_000, help="That it has heard of.")
@_paced
def routing(pace: Pace, *, contacts: int) -> Figures:
    """A routing table: microseconds to hear of a contact, to name 20, to see who is due."""
    return measure_routing(pace, contacts=contacts)


@main.command()
@click.option("--nodes", type=click.IntRange(2), default=1_000, help="In memory.")
@_paced
def lookup(pace: Pace, *, nodes: int) -> Figures:
    """Lookups whose answers are there at once: microseconds per answer heard, and in all."""
    return measure_lookup(pace, nodes=nodes)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
