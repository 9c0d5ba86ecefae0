"""What the verbs show: data on stdout, talk on stderr.

The only importer of rich, and only when it is a terminal that is written to; otherwise tables are
lines of tab-separated fields, so that they can be cut and sorted, and progress is not shown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from kademlia_node.cli.failure import printable
from kademlia_node.daemon.views import Json, OnView, value_of
from kademlia_node.node.receipt import counted


def show_json(value: Any) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2))


def show_line(value: Any) -> None:
    """One line of JSON in a stream of them."""
    click.echo(json.dumps(value))


def talk(line: str) -> None:
    """A line for people only."""
    click.echo(printable(line), err=True)


@contextmanager
def progress(doing: str) -> Iterator[OnView]:
    """A line on the terminal that tells how far something has come, and is gone in the end."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

    said = TextColumn("{task.description}", markup=False)
    screen = Console(stderr=True)
    with Progress(said, BarColumn(), DownloadColumn(), console=screen, transient=True) as bar:
        task = bar.add_task(printable(doing), total=None)

        def show(view: Json) -> None:
            bar.update(task, completed=view["done_bytes"], total=view["total_bytes"])

        yield show


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under column titles; without titles where nobody looks at them."""
    lines = [[printable(str(field)) for field in row] for row in rows]
    if not sys.stdout.isatty():
        for line in lines:
            click.echo("\t".join(line))
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, seldom needed
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415 - what strangers wrote is no markup

    table = Table(*columns, show_header=any(columns))
    for line in lines:
        table.add_row(*(Text(field) for field in line))
    Console().print(table)


def show_receipt(receipt: Json) -> None:
    """The key; and for people, who holds it."""
    click.echo(receipt["key"])
    talk(receipt["summary"])


def show_entry(entry: Json) -> None:
    """The value of a topic entry, on a line of its own."""
    value = value_of(entry)
    if sys.stdout.isatty():
        click.echo(printable(value.decode("utf-8", "backslashreplace")))
    else:
        click.echo(value)


def show_change(change: Json) -> None:
    """The value that was set, on a line of its own; what is gone is talk."""
    if change["kind"] == "set":
        show_entry(change)
    else:
        slot = f" {change['slot']}" if change["slot"] else ""
        talk(f"{change['kind']}: {change['author']}{slot}")


def show_status(status: Json) -> None:
    """One line per field; counters and chores that are there."""
    rows: list[tuple[str, object]] = []
    for name, field in status.items():
        match name:
            case "counters":
                rows += [(f"counter {event}", count) for event, count in field.items()]
            case "operations":
                rows += [(f"operation {verb}", _costs(cost)) for verb, cost in field.items()]
            case "chores":
                rows += [(f"chore {chore}", _runs(ran)) for chore, ran in field.items()]
            case "unreachable":
                rows += [("unreachable", bootstrap) for bootstrap in field]
            case _:
                rows.append((name, _plain(field)))
    show_table(("", ""), rows)


def show_backup(report: Json) -> None:
    """One line per field; and what was refused, by reason."""
    rows: list[tuple[str, object]] = []
    for name, field in report.items():
        match name:
            case "refused":
                rows += [(f"refused {reason}", times) for reason, times in field.items()]
            case "differs":
                rows += [("differs", what) for what in field]
            case _:
                rows.append((name, field))
    show_table(("", ""), rows)


def show_publications(publications: Iterable[Json]) -> None:
    """What a node keeps alive; times in UTC."""
    columns = ("kind", "key", "slot", "seq", "bytes", "expires", "renewed at")
    rows = [
        (
            one["kind"],
            one["key"],
            one["slot"],
            one["seq"],
            one["value_bytes"],
            _instant(one["expires"]),
            _instant(one["renew_at"]),
        )
        for one in publications
    ]
    show_table(columns, rows)


def show_contents(contents: Iterable[Json]) -> None:
    """The files that a daemon provides."""
    columns = ("key", "bytes", "state", "path")
    show_table(columns, [(one["key"], one["size"], one["state"], one["path"]) for one in contents])


def show_peers(peers: Iterable[Json]) -> None:
    """Who is in the routing table."""
    show_table(("node", "invite"), [(peer["id"][:16], peer["invite"]) for peer in peers])


def show_trace(trace: Json) -> None:
    """Every node that was asked, in order; and for people, how it ended."""
    columns = ("asked at ms", "answered", "path", "hop", "node", "address", "outcome")
    rows = [
        (
            step["asked_ms"],
            _plain(step["answered_ms"]),
            step["path"],
            step["hop"],
            step["id"][:16],
            step["address"],
            step["outcome"] + (" (slow)" if step["slow"] else ""),
        )
        for step in trace["steps"]
    ]
    show_table(columns, rows)
    nearest = ", ".join(contact["id"][:8] for contact in trace["closest"][:3])
    cost = f"{counted(trace['requests'], 'request')}, {counted(trace['round_trips'], 'round trip')}"
    talk(f"{trace['target'][:16]}: {trace['summary']}; {cost}; nearest: {nearest or 'nobody'}")


def _plain(field: object) -> object:
    if isinstance(field, bool):
        return "yes" if field else "no"
    if isinstance(field, float):
        return round(field, 1)
    return "-" if field is None else field


def _instant(wall: float) -> str:
    return datetime.fromtimestamp(wall, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _costs(cost: Json) -> str:
    each = f"{cost['requests_each']:.1f} requests and {cost['round_trips_each']:.1f} round trips"
    return f"{cost['count']}, each {each}"


def _runs(chore: Json) -> str:
    runs, age_s = counted(chore["runs"], "run"), chore["last_run_s_ago"]
    did = "" if chore["last_run_did"] is None else f": did {chore['last_run_did']}"
    return runs if age_s is None else f"{runs}, the last {age_s:.0f} s ago{did}"
