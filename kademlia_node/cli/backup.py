"""`kademlia-node backup`: the store of a daemon in one file, and back.

A backup is made and restored by the daemon, which goes on meanwhile; it is verified here, by anyone
who has the file.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from kademlia_node.cli import view
from kademlia_node.cli.access import Access
from kademlia_node.cli.options import PATH, daemon_options, in_json
from kademlia_node.core.suite import STANDARD
from kademlia_node.daemon.views import Json, backup_view
from kademlia_node.node.receipt import counted
from kademlia_node.store.backup import verify_backup

EXIT_DOUBT: Final = 1  # something was refused or left out, or the file contradicts itself

file_argument = click.argument("file", type=PATH)


@click.group("backup", no_args_is_help=False)
def backup() -> None:
    """Save the daemon's records in one file, or put them back.

    A backup holds records and what is kept alive, and no secret key: copy the file `key` of the
    data folder apart, and keep it to yourself. With another key a node is another one, which cannot
    renew what this one wrote.

    Exit codes: 0 all is well, 1 something was refused or differs, 2 bad usage or set-up, 3 nobody
    to ask.
    """


@backup.command()
@file_argument
@daemon_options
@in_json
def create(file: Path, *, folder: Path, control: Path | None, as_json: bool) -> None:
    """Save all records in FILE, which must not exist, and verify them.

    The secret key is not among them: copy the file `key` of the data folder apart.
    """
    access = Access(folder=folder, control=control)
    report = access.ask(lambda verbs: verbs.backup(str(file.absolute())))
    _show(report, as_json=as_json)


@backup.command()
@file_argument
@in_json
def verify(file: Path, *, as_json: bool) -> None:
    """Check every signature and value in FILE. No daemon is needed."""
    wall = time.time()  # noqa: TID251 - the shell's wall clock enters here
    report = verify_backup(file.absolute(), wall=wall, verify=STANDARD.verify)
    _show(backup_view(report), as_json=as_json)


@backup.command()
@file_argument
@daemon_options
@in_json
def restore(file: Path, *, folder: Path, control: Path | None, as_json: bool) -> None:
    """Put the records in FILE into the daemon's store.

    Nothing newer is overwritten. What this node or the network's commons wrote is kept alive again;
    how much was written with other keys, and will expire unless they renew it, is told.
    """
    access = Access(folder=folder, control=control)
    report = access.ask(lambda verbs: verbs.restore(str(file.absolute())))
    if strangers := report["not_ours"]:
        view.talk(
            f"written with another key, so this node will not renew it:"
            f" {counted(strangers, 'publication')}; with the file `key` of the node that did,"
            " restore again"
        )
    _show(report, as_json=as_json)


def _show(report: Json, *, as_json: bool) -> None:
    """Print a report; what is doubtful in it decides the exit code."""
    view.show_json(report) if as_json else view.show_backup(report)
    doubts = []
    if differing := report.get("differs"):
        doubts.append(f"it is not what it says of itself: {', '.join(differing)}")
    if refused := sum(report["refused"].values()):
        doubts.append(f"refused, as nobody should believe it: {counted(refused, 'record')}")
    if left_out := report.get("over_quota"):
        doubts.append(f"left out, as the store is full: {counted(left_out, 'record')}")
    for doubt in doubts:
        view.talk(doubt)
    if doubts:
        raise click.exceptions.Exit(EXIT_DOUBT)
