"""Measure on this machine. Figures of different machines, or of a busy one, do not compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from scripts._bench_content import measure_content
from scripts._bench_store import measure_store

Figures = dict[str, Any]


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
            shown = f"{figure:,.2f}" if isinstance(figure, float) else figure
            print(f"{name:>{width}}  {shown}")

    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(wrapped)


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


if __name__ == "__main__":
    main(prog_name="scripts/bench")
