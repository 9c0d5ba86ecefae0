"""`kademlia-node published` and `forget`: what a daemon keeps alive, and how it stops.

For a daemon only: the node of a verb that joins for itself keeps nothing alive.
"""

from __future__ import annotations

from pathlib import Path

import click

from kademlia_node.cli import view
from kademlia_node.cli.access import Access
from kademlia_node.cli.options import daemon_options, in_json
from kademlia_node.daemon.verbs import Verbs
from kademlia_node.errors import Refused


@click.command()
@daemon_options
@in_json
def published(folder: Path, control: Path | None, *, as_json: bool) -> None:
    """List what the daemon keeps alive.

    Kind, key, slot, number of the version, bytes, when it expires and when it is renewed. With
    --json, one object a line.
    """

    async def show_all(verbs: Verbs) -> None:
        if as_json:
            async for publication in verbs.published():
                view.show_line(publication)
        else:
            view.show_publications([one async for one in verbs.published()])

    Access(folder=folder, control=control).ask(show_all)


@click.command()
@click.argument("key")
@daemon_options
@in_json
def forget(key: str, *, folder: Path, control: Path | None, as_json: bool) -> None:
    """Stop renewing the blob KEY.

    It expires within two days unless somebody else renews it. A name or an entry of a topic is
    withdrawn instead.
    """
    answer = Access(folder=folder, control=control).ask(lambda verbs: verbs.forget(key))
    if not answer["forgotten"]:
        raise Refused({"error": "NotFound", "detail": f"{key} is not kept alive by this node"})
    if as_json:
        view.show_json(answer)
    else:
        view.talk(f"{key} is renewed no longer")
