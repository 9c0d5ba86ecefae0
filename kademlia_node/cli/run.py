"""`kademlia-node run`: be a node, until told to stop."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click

from kademlia_node.cli.options import (
    daemon_options,
    make_network,
    network_options,
    option,
    read_by,
)
from kademlia_node.core.contact import Address, parse_address
from kademlia_node.core.invite import Invite, parse_invite
from kademlia_node.store.schema import Durability

LEVELS = ["debug", "info", "warning", "error"]


def parse_listen_address(text: str) -> Address:
    """A numeric HOST:PORT to listen at; port 0 takes any free one. Raises ValueError."""
    host, _, port = text.rpartition(":")
    return Address(parse_address(f"{host}:1").host, 0) if port == "0" else parse_address(text)


@click.command()
@daemon_options
@option("--host", default="0.0.0.0", show_default=True, help="Numeric address to listen at.")  # noqa: S104 - a peer is there to be reached
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="UDP port; 0 takes any free one.",
)
@option(
    "--bootstrap",
    multiple=True,
    type=read_by(parse_invite),
    metavar="ADDRESS",
    help="Where to knock: HOST:PORT or kad://KEY@HOST:PORT. Can be repeated.",
)
@network_options
@option(
    "--server/--client",
    default=None,
    help="Store for others or do not.  [default: as soon as strangers can reach us]",
)
@option(
    "--control-tcp",
    type=read_by(parse_listen_address),
    metavar="HOST:PORT",
    help="Serve the control API here, too, for who has the token in the folder.",
)
@option(
    "--durability",
    type=click.Choice([level.value for level in Durability]),
    default=Durability.PROCESS.value,
    show_default=True,
    help="What a stored record survives: the end of the process, or a power failure, too; then"
    " each write waits for the disk.",
)
@option(
    "--lan/--no-lan",
    default=None,
    help="Find members on the same link by multicast DNS, and be found there.  [default: in a"
    " private network, unless at loopback, if zeroconf is installed]",
)
@option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
def run(
    *,
    folder: Path,
    control: Path | None,
    host: str,
    port: int,
    bootstrap: tuple[Invite, ...],
    network: str | None,
    secret_file: Path | None,
    copies: int | None,
    puzzle_bits: int | None,
    server: bool | None,
    control_tcp: Address | None,
    durability: str,
    lan: bool | None,
    log_level: str,
) -> None:
    """Run a node until SIGTERM or SIGINT.

    When it is ready it prints one line of JSON: id, address, invite and control socket.
    """
    from kademlia_node.daemon import service  # noqa: PLC0415 - imports an HTTP server

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kademlia_node").setLevel(log_level.upper())
    plan = service.Plan(
        folder=folder,
        network=make_network(
            network, secret_file=secret_file, copies=copies, puzzle_bits=puzzle_bits
        ),
        host=host,
        port=port,
        bootstrap=bootstrap,
        server=server,
        control=control,
        control_tcp=control_tcp,
        durability=Durability(durability),
        lan=lan,
    )
    service.run(plan, on_ready=_say_ready)


def _say_ready(ready: dict[str, Any]) -> None:
    click.echo(json.dumps(ready))
