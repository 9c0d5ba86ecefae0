"""The options that commands share, and what becomes of them.

Each can be given as an environment variable as well, KADEMLIA_NODE_ and its name. The exception is
a verb's --bootstrap: set once for `run`, it would turn every verb away from the daemon.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from kademlia_node.cli.access import Access
from kademlia_node.core.invite import parse_invite
from kademlia_node.core.network import Network
from kademlia_node.daemon.folder import default_folder
from kademlia_node.errors import NoDaemon, SetupError
from kademlia_node.node.arguments import COUNT_MAX
from kademlia_node.secret import parse_secret, read_secret
from kademlia_node.settings import EXPIRY_DEFAULT_S, TOMBSTONE_S
from kademlia_node.store.base import TTL_MIN_S

ENVIRONMENT: Final = "KADEMLIA_NODE_"
SECRET_VARIABLE: Final = ENVIRONMENT + "SECRET"
JSON_KEY: Final = "kademlia_node.json"  # in click's meta: whether --json was given

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


def read_by(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parameter type: a function whose ValueError says what is wrong, for click to say."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


PATH: Final = click.Path(path_type=Path)


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """As click's, with the environment variable of its name."""
    longest = max(names, key=len).partition("/")[0].lstrip("-")
    attributes.setdefault("envvar", ENVIRONMENT + longest.upper().replace("-", "_"))
    return click.option(*names, **attributes)


def grouped(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator, in this order in the help."""

    def decorate(command: Command) -> Command:
        for one in reversed(options):
            command = one(command)
        return command

    return decorate


def _remember_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001
    ctx.meta[JSON_KEY] = value
    return value


in_json = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_remember_json, help="Print JSON."
)

daemon_options = grouped(
    option(
        "--folder",
        type=PATH,
        default=default_folder,
        help="Data folder: key, peers and control socket.  [default: in the XDG data home]",
    ),
    option("--control", type=PATH, help="Control socket, if it is not in the folder."),
)

network_options = grouped(
    option("--network", help="Name of the network.  [default: open, or private with a secret]"),
    option(
        "--secret-file",
        type=PATH,
        help=f"Secret of a private network: 64 hexadecimal digits. Or set {SECRET_VARIABLE}.",
    ),
    option("--copies", type=click.IntRange(1, 20), help="Nodes that keep each record."),
    option(
        "--puzzle-bits", type=click.IntRange(0, 32), help="Work behind a node ID, open networks."
    ),
)


def _ttl_option(*, meaning: str) -> Callable[[Command], Command]:
    """For how long a record lives; a daemon whose own minimum is longer refuses what is less."""
    seconds = click.IntRange(TTL_MIN_S, EXPIRY_DEFAULT_S)
    return click.option("--ttl", "ttl_s", type=seconds, metavar="SECONDS", help=meaning)


ttl_option = _ttl_option(
    meaning="How long it is there once its daemon has died; a daemon renews it at half of that."
    f"  [default: {EXPIRY_DEFAULT_S}]"
)
writing_options = grouped(
    click.option(
        "--acks",
        type=click.IntRange(1, COUNT_MAX),
        metavar="N",
        help="Be done when N nodes have it; a daemon then goes on with the others. If fewer take"
        " it: exit code 1 and no key, though those have it and a daemon renews it; --json shows"
        " who.",
    ),
    ttl_option,
)
withdrawal_ttl_option = _ttl_option(
    meaning="How long the tombstone lasts, at least as long as what it deletes; what is written"
    f" there next lasts no less.  [default: {TOMBSTONE_S}]"
)


def make_network(
    name: str | None, *, secret_file: Path | None, copies: int | None, puzzle_bits: int | None
) -> Network:
    """The network that these options name; what is None has its default.

    Raises:
        SetupError: the secret cannot be had.
        ValueError: they contradict each other.
    """
    secret = _read_secret(secret_file)
    if secret is None:
        bits = 16 if puzzle_bits is None else puzzle_bits
        return Network.open(name or "open", copies=copies or 20, puzzle_bits=bits)
    if puzzle_bits:
        raise ValueError("a private network has no puzzle: leave out --puzzle-bits")
    return Network.private(secret, name=name or "private", copies=copies or 5)


def _read_secret(path: Path | None) -> bytes | None:
    if path is not None:
        return read_secret(path)
    text = os.environ.get(SECRET_VARIABLE)
    if text is None:
        return None
    try:
        return parse_secret(text.strip())
    except ValueError as error:
        raise SetupError(f"the secret in {SECRET_VARIABLE} cannot be used: {error}") from None


def reaches_a_node(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options by which it finds a node, as its parameter `access`."""

    @functools.wraps(command)
    def wrapped(
        *,
        folder: Path,
        control: Path | None,
        bootstrap: tuple[Any, ...],
        network: str | None,
        secret_file: Path | None,
        copies: int | None,
        puzzle_bits: int | None,
        **rest: Any,
    ) -> None:
        joins = None
        if bootstrap:
            joins = make_network(
                network, secret_file=secret_file, copies=copies, puzzle_bits=puzzle_bits
            )
        else:
            _refuse_in_vain("network", "secret_file", "copies", "puzzle_bits")
        access = Access(folder=folder, control=control, bootstrap=bootstrap, network=joins)
        try:
            command(access=access, **rest)
        except NoDaemon as error:
            if bootstrap:
                raise
            raise NoDaemon(f"{error},  or join for this once with --bootstrap") from error

    joining = click.option(
        "--bootstrap",
        multiple=True,
        type=read_by(parse_invite),
        metavar="ADDRESS",
        help="Ask no daemon; join here as a short-lived client. HOST:PORT or kad://KEY@HOST:PORT.",
    )
    return grouped(daemon_options, joining, network_options)(wrapped)


def _refuse_in_vain(*names: str) -> None:
    """The daemon's network is the daemon's choice: do not let a flag pass that changes nothing."""
    ctx = click.get_current_context()
    for name in names:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "--" + name.replace("_", "-")
            raise click.UsageError(f"{flag} goes with --bootstrap: a daemon has its own network")
