"""`kademlia-node provide`, `unprovide`, `provided` and `fetch`: files of any length.

Who provides a file goes on serving it, so that is for a daemon alone; anybody fetches.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import click

from kademlia_node.cli import view
from kademlia_node.cli.access import Access
from kademlia_node.cli.options import PATH, daemon_options, in_json, reaches_a_node, ttl_option
from kademlia_node.daemon.verbs import Verbs
from kademlia_node.daemon.views import Json
from kademlia_node.errors import NoDaemon, Refused

WHY_A_DAEMON: Final = "somebody has to go on serving the file, which a daemon does"


def _refuse_bootstrap(_: click.Context, __: click.Parameter, value: Any) -> None:
    if value:
        raise click.UsageError(
            f"{WHY_A_DAEMON}: start one with  kademlia-node run,  and leave out --bootstrap"
        )


@click.command()
@click.argument("paths", metavar="PATH...", type=PATH, nargs=-1, required=True)
@click.option(
    "--bootstrap", multiple=True, hidden=True, expose_value=False, callback=_refuse_bootstrap
)
@ttl_option
@daemon_options
@in_json
def provide(
    paths: tuple[Path, ...], *, folder: Path, control: Path | None, ttl_s: int | None, as_json: bool
) -> None:
    """Serve files from now on, and print their keys.

    Each is read once, and announced; it stays where it is. The daemon serves it until `unprovide`,
    also when it is started again, unless the file is changed or gone. With --json, one object a
    line. If one of several files fails, those before it are provided.
    """

    async def provide_all(verbs: Verbs) -> None:
        for path in paths:
            with view.progress(f"reading {path.name}") as on_progress:
                receipt = await verbs.provide(
                    str(path.absolute()), ttl_s=ttl_s, on_progress=on_progress
                )
            view.show_line(receipt) if as_json else view.show_receipt(receipt)

    try:
        Access(folder=folder, control=control).ask(provide_all)
    except NoDaemon as error:
        raise NoDaemon(f"{error};  {WHY_A_DAEMON}") from error


@click.command()
@click.argument("key")
@daemon_options
@in_json
def unprovide(key: str, *, folder: Path, control: Path | None, as_json: bool) -> None:
    """Serve the content KEY no longer, and withdraw its announcement.

    The file stays where it is.
    """
    answer = Access(folder=folder, control=control).ask(lambda verbs: verbs.unprovide(key))
    if not answer["unprovided"]:
        raise Refused({"error": "NotFound", "detail": f"{key} is not provided by this node"})
    if as_json:
        view.show_json(answer)
    else:
        view.talk(f"{key} is provided no longer")


@click.command()
@daemon_options
@in_json
def provided(folder: Path, control: Path | None, *, as_json: bool) -> None:
    """List the files that the daemon provides.

    Key, bytes, state and path. The state is `announced`; `waiting`, until the network can be told;
    `changed` or `gone`: such a file is not served. Provide it again, under its new key, or
    `unprovide` the old one.
    """
    contents = Access(folder=folder, control=control).ask(lambda verbs: verbs.provided())
    view.show_json(contents) if as_json else view.show_contents(contents)


@click.command()
@click.argument("key")
@click.argument("path", type=PATH, required=False)
@click.option(
    "--length-max",
    type=click.IntRange(0),
    metavar="BYTES",
    help="Refuse a content that is longer; anybody can name a long one.",
)
@reaches_a_node
@in_json
def fetch(
    access: Access, *, key: str, path: Path | None, length_max: int | None, as_json: bool
) -> None:
    """Fetch the content KEY into a file, and print its path.

    PATH is by default KEY in the current folder. It comes from all who provide it, and every piece
    is verified. What is broken off (exit code 1: nobody gives the rest) is kept beside it, and the
    next attempt goes on there.
    """
    target = str((path or Path(key)).absolute())

    async def fetch_it(verbs: Verbs) -> Json:
        with view.progress(f"fetching {key}") as on_progress:
            return await verbs.fetch(key, target, length_max=length_max, on_progress=on_progress)

    answer = access.ask(fetch_it)
    if as_json:
        view.show_json(answer)
    else:
        click.echo(os.fsencode(answer["path"]))
        view.talk(f"{answer['size']} bytes")
