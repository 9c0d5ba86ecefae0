"""`kademlia-node leave`: the daemon goes for good, which is more than to stop it."""

from __future__ import annotations

from pathlib import Path

import click

from kademlia_node.cli import view
from kademlia_node.cli.access import Access
from kademlia_node.cli.options import daemon_options, in_json
from kademlia_node.node.receipt import counted
from kademlia_node.settings import Settings


@click.command()
@click.option(
    "--within",
    "within_s",
    type=click.IntRange(0),
    metavar="SECONDS",
    help=f"Hand records over for so long at most.  [default: {Settings().leave_s:.0f}]",
)
@daemon_options
@in_json
def leave(*, within_s: int | None, folder: Path, control: Path | None, as_json: bool) -> None:
    """Have the daemon leave the network for good.

    It hands what it holds to the nodes that should hold it now, tells its peers, and ends. What it
    has published is renewed no longer, and so expires; nothing is withdrawn. Its folder stays:
    delete it, or `run` again to come back. To stop it for a while, send it SIGTERM instead.
    """
    departure = Access(folder=folder, control=control).ask(lambda verbs: verbs.leave(within_s))
    if as_json:
        view.show_json(departure)
    else:
        view.talk(
            f"left: {counted(departure['handed_over'], 'record')} handed over,"
            f" {departure['left_behind']} left behind; {counted(departure['told'], 'peer')} told"
        )
