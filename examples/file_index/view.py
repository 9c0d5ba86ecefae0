"""What people see. Data goes to stdout, talk and progress to stderr; rich only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click

from kademlia_node import Progress

INSTANTS: Final = ("last_scan",)  # fields of a status in seconds since 1970


def printable(text: str) -> str:
    """The text on one line, with nothing in it that a terminal obeys: some of it is strangers'."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def talk(line: str) -> None:
    """A line for people only."""
    click.echo(printable(line), err=True)


def show_json(value: Any) -> None:
    """One line of JSON."""
    click.echo(json.dumps(value))


def size_text(size: int) -> str:
    """Bytes in the largest unit of which there is one."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    return f"{size} GiB"


def is_watched() -> bool:
    """Whether what goes to stdout is shown on a terminal: there, tables are shown whole."""
    return sys.stdout.isatty()


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under titles; fields between tabs where nobody looks."""
    lines = [[printable(str(field)) for field in row] for row in rows]
    if not is_watched():
        for line in lines:
            click.echo("\t".join(line))
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, seldom needed
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415 - what strangers wrote is no markup

    table = Table(*columns)
    for line in lines:
        table.add_row(*map(Text, line))
    Console().print(table)


def show_fields(fields: Mapping[str, Any]) -> None:
    """A line for each that says something, and for each one of a list; instants in UTC."""
    rows: list[tuple[str, object]] = []
    for name, said in fields.items():
        if isinstance(said, bool):
            rows.append((name, "yes" if said else "no"))
        elif name in INSTANTS:
            rows.append((name, datetime.fromtimestamp(said, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")))
        elif said != "":
            rows += [(name, one) for one in (said if isinstance(said, list) else [said])]
    show_table(("", ""), rows)


class Meter:
    """A bar on a terminal, or nothing. Made by `meter`."""

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar
        self._tasks: dict[str, Any] = {}

    def step(self, what: str, done: int, total: int | None) -> None:
        """So much is done; of None nobody knows how much there is."""
        if self._bar is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=None)
        is_open = total is None or done < total
        self._bar.update(self._tasks[what], completed=done, total=total, visible=is_open)

    def fetched(self, progress: Progress) -> None:
        """So many bytes are here."""
        self.step("fetching", progress.done_bytes, progress.total_bytes)


@contextmanager
def meter(*, of_bytes: bool = False) -> Iterator[Meter]:
    """A meter for the length of a block: of bytes with rate and time left, or of things."""
    if not sys.stderr.isatty():
        yield Meter()
        return
    from rich import progress  # noqa: PLC0415 - slow to import, seldom needed
    from rich.console import Console  # noqa: PLC0415

    columns: list[Any] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
    if of_bytes:
        columns += [progress.DownloadColumn(), progress.TransferSpeedColumn()]
    else:
        columns.append(progress.MofNCompleteColumn())
    columns.append(progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Meter(bar)
