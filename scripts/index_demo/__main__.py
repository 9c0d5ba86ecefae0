"""The file index shown on real processes: found at once, and gone when it is gone.

Starts daemons on loopback and six processes that share overlapping parts of a real tree, then
searches, fetches a film from three of whom one is killed and one lies half-way, lets two fall
silent, removes a file, and lets a sharer come back to find everything due for renewal.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from scripts._demo import running
from scripts.index_demo.figures import Result, Size
from scripts.index_demo.sharers import ending
from scripts.index_demo.story import Story

SHARERS = 6


async def demo(size: Size, *, seed: int, say: Console) -> Result:
    """Run it all."""
    started = time.perf_counter()
    result = Result(nodes=size.nodes, sharers=SHARERS)
    async with running(keep=False, seed=seed, say=say) as network:
        story = Story(network, size, result, rng=random.Random(seed), say=say)
        with ending(story.sharers):
            await story.tell(SHARERS)
    result.seconds = round(time.perf_counter() - started, 1)
    return result


def table(result: Result) -> Table:
    """The result for people."""
    shown = Table(title="The file index", show_header=False)
    for name, value in asdict(result).items():
        if value is not None:
            shown.add_row(name.replace("_", " "), str(value))
    return shown


@click.command(context_settings={"show_default": True})
@click.option("--nodes", type=click.IntRange(7, 100), default=20, help="Daemons and sharers.")
@click.option("--files", type=click.IntRange(60), help="So many of the files there are.")
@click.option("--queries", type=click.IntRange(10), default=200, help="Searches to measure.")
@click.option("--film", type=click.IntRange(2), default=50, help="MiB of the file to fetch.")
@click.option("--lease", type=click.IntRange(240), default=240, help="Of sharers, in seconds.")
@click.option("--renewals", type=click.IntRange(60), default=1200, help="Seconds to watch them.")
@click.option("--brief", is_flag=True, help="Do not wait for leases to end, nor for renewals.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--seed", default=1, help="Decides who shares what, and what is searched for.")
def main(
    *,
    nodes: int,
    files: int | None,
    queries: int,
    film: int,
    lease: int,
    renewals: int,
    brief: bool,
    as_json: bool,
    seed: int,
) -> None:
    """Show the file index with members that die, lie and fall silent.

    The files are those of the Python standard library and /usr/share/doc.
    """
    say = Console(stderr=True)
    size = Size(nodes, files, queries, film * 2**20, lease, renewals, is_brief=brief)
    result = asyncio.run(demo(size, seed=seed, say=say))
    if as_json:
        print(json.dumps(asdict(result)))
    else:
        Console().print(table(result))
    for broken in result.broken():
        say.print(broken)
    sys.exit(bool(result.broken()))


if __name__ == "__main__":
    main(prog_name="scripts/demo_index")
