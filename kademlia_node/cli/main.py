"""The command `kademlia-node`: its verbs, and the one place where errors become exit codes."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import click

from kademlia_node.cli import view
from kademlia_node.cli.backup import backup
from kademlia_node.cli.contents import fetch, provide, provided, unprovide
from kademlia_node.cli.failure import EXIT_CODES, EXIT_SETUP, view_of
from kademlia_node.cli.keeping import forget, published
from kademlia_node.cli.leave import leave
from kademlia_node.cli.options import JSON_KEY
from kademlia_node.cli.run import run
from kademlia_node.cli.verbs import VERBS
from kademlia_node.daemon.views import Json
from kademlia_node.errors import KademliaError

PROGRAM: Final = "kademlia-node"


class Commands(click.Group):
    """A group whose commands end well or in one line: nobody is shown a traceback or a usage."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of definition, which is one for readers."""
        return list(self.commands)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """See click; here what stands before the verb is read."""
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            return _end(_usage_view(error))

    def invoke(self, ctx: click.Context) -> Any:
        """See click; here the verb is read and run."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            return _end(_usage_view(error), as_json=ctx.meta.get(JSON_KEY, False))
        except (KademliaError, ValueError) as error:
            return _end(view_of(error), as_json=ctx.meta.get(JSON_KEY, False))


def _usage_view(error: click.UsageError) -> Json:
    path = error.ctx.command_path if error.ctx else PROGRAM
    return {"error": "Usage", "detail": f"{error.format_message()} (see {path} --help)"}


def _end(failure: Json, *, as_json: bool = False) -> NoReturn:
    """Say what went wrong, on stdout as well if JSON is read there, and exit."""
    if as_json:
        view.show_json(failure)
    view.talk(f"{PROGRAM}: {failure['detail']}")
    raise click.exceptions.Exit(EXIT_CODES.get(failure["error"], EXIT_SETUP))


@click.group(
    cls=Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
def main() -> None:
    """A Kademlia peer: signed records, findable without any server.

    Start a node with `run`; the other verbs talk to it, or with --bootstrap join for themselves.
    The options of `run`, and those that all verbs share, may be set in the environment, too:
    --folder as KADEMLIA_NODE_FOLDER, and so on.

    Exit codes: 0 done, 1 not found or not stored as asked, 2 bad usage or set-up, 3 nobody to ask.
    """


CONTENTS: Final = (provide, fetch, provided, unprovide)

for verb in (run, *VERBS, *CONTENTS, published, forget, backup, leave):
    main.add_command(verb)
