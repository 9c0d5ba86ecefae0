"""The options that the commands share: named as those of `kademlia-node`, and with their meaning.

Each can be set in the environment, too: --network as FILE_INDEX_NETWORK, and so on.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from examples.file_index.station import Joining
from kademlia_node import Network, read_secret

ENVIRONMENT: Final = "FILE_INDEX_"
PATH: Final = click.Path(path_type=Path)


def default_folder() -> Path:
    """`file-index` in the user's data home (XDG Base Directory Specification)."""
    home = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local" / "share") / "file-index"


def option(*names: str, **attributes: Any) -> Callable[[Any], Any]:
    """As click's, with the environment variable of its name."""
    variable = ENVIRONMENT + max(names, key=len).lstrip("-").upper().replace("-", "_")
    return click.option(*names, envvar=variable, **attributes)


folder_option = option(
    "--folder",
    type=PATH,
    default=default_folder,
    help="State: key, ledger and records.  [default: in the XDG data home]",
)
by_daemon = option(
    "--daemon",
    type=PATH,
    metavar="FOLDER",
    help="Let the daemon (`kademlia-node run`) of this data folder share, in its own network.",
)
at_port = option("--port", type=click.IntRange(0, 65535), default=0, help="UDP port; 0: any.")
in_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
JOINING: Final = (
    folder_option,
    option("--network", help="Name of the network.  [default: open, or private with a secret]"),
    option("--secret-file", type=PATH, help="Secret of a private network: 64 hexadecimal digits."),
    option("--copies", type=click.IntRange(1, 20), help="Nodes that keep each record."),
    option("--puzzle-bits", type=click.IntRange(0, 32), help="Work behind a node ID."),
    option(
        "--bootstrap",
        multiple=True,
        metavar="ADDRESS",
        help="Where to knock: HOST:PORT or kad://KEY@HOST:PORT. Can be repeated.",
    ),
    option("--host", default="0.0.0.0", show_default=True, help="Numeric address to bind."),  # noqa: S104 - a peer is there to be reached
)
NODE_OPTIONS: Final = (
    *("network", "secret_file", "copies", "puzzle_bits"),
    *("bootstrap", "host", "port"),
)
"""What a daemon has settled for itself."""


def joins(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a node, as its parameter `joining`; see `at_port`, too."""

    @functools.wraps(command)
    def wrapped(
        *,
        network: str | None,
        secret_file: Path | None,
        copies: int | None,
        puzzle_bits: int | None,
        bootstrap: tuple[str, ...],
        host: str,
        port: int = 0,
        **rest: Any,
    ) -> None:
        if rest.get("daemon") is not None:
            _refuse_typed(NODE_OPTIONS)
        if secret_file is None:
            bits = 16 if puzzle_bits is None else puzzle_bits
            agreed = Network.open(network or "open", copies=copies or 20, puzzle_bits=bits)
        else:
            secret = read_secret(secret_file)
            agreed = Network.private(secret, name=network or "private", copies=copies or 5)
        command(joining=Joining(agreed, bootstrap, host, port), **rest)

    return functools.reduce(lambda made, one: one(made), reversed(JOINING), wrapped)


def _refuse_typed(names: Iterable[str]) -> None:
    """With --daemon nobody would heed these; what is in the environment is for other commands."""
    source_of = click.get_current_context().get_parameter_source
    typed = [name for name in names if source_of(name) is ParameterSource.COMMANDLINE]
    if typed:
        flags = ", ".join("--" + name.replace("_", "-") for name in typed)
        raise click.UsageError(f"the daemon has a node already: leave out {flags}")
