"""A private network of several programs: who has the secret is a member, others get no answer.

In one folder, with `kademlia_node` installed:

    umask 077
    python -c 'import secrets; print(secrets.token_hex(32))' > secret
    python examples/private_network.py serve --secret-file secret > first &       # prints an invite
    until grep -qs . first; do sleep 0.2; done
    python examples/private_network.py serve --secret-file secret --join "$(cat first)" > second &
    until grep -qs . second; do sleep 0.2; done
    python examples/private_network.py set --secret-file secret "$(cat first)" colour blue
    python examples/private_network.py get --secret-file secret "$(cat second)" colour    # blue
    python examples/private_network.py get --secret-file secret "$(cat first)" size \
        || echo "exit code $?"                                                    # 1: not found

    python -c 'import secrets; print(secrets.token_hex(32))' > other
    python examples/private_network.py get --secret-file other "$(cat first)" colour \
        || echo "exit code $?"                                                    # 1: not let in
    kill $(jobs -p)

`set` and `get` are programs of their own: each joins, does one thing, and leaves. What was set
stays with the nodes that serve, for two days; only the node of a program that lives on renews it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import click

from kademlia_node import KademliaError, Network, Node, SetupError, read_secret

LOOPBACK = "127.0.0.1"  # on several machines: an address that the others can reach


def read_network(_: click.Context, __: click.Parameter, path: Path) -> Network:
    """The network is its secret; the name only tells it from others that have the same one."""
    try:
        return Network.private(read_secret(path), name="example")
    except SetupError as error:
        raise click.BadParameter(str(error)) from error


in_network = click.option(
    "--secret-file",
    "network",
    required=True,
    type=click.Path(path_type=Path),
    callback=read_network,
    help="64 hexadecimal digits, the same for all members.",
)


@contextmanager
def in_one_line() -> Iterator[None]:
    """What goes wrong is said, with exit code 1: not found, not stored, no invite."""
    try:
        yield
    except (KademliaError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@click.group()
def main() -> None:
    """A private network: serve, set and get."""


@main.command()
@in_network
@click.option("--join", help="The invite of a member; without it, this is the first one.")
def serve(network: Network, join: str | None) -> None:
    """Be a node until Ctrl-C or SIGTERM; prints the invite by which others join."""
    with in_one_line():
        asyncio.run(be_a_node(network, [join] if join else []))


async def be_a_node(network: Network, bootstrap: list[str]) -> None:
    """Store what members write, and answer them."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Node(network=network, host=LOOPBACK, bootstrap=bootstrap) as node:
        click.echo(node.invite)
        await stop.wait()


@asynccontextmanager
async def guest(network: Network, invite: str) -> AsyncIterator[Node]:
    """A node that stores nothing and soon leaves; raises ClickException if it is not let in."""
    bootstrap = [invite]
    async with Node(network=network, host=LOOPBACK, bootstrap=bootstrap, server=False) as node:
        if not (await node.status()).joined:
            raise click.ClickException(f"{invite} does not answer: is it up, with this secret?")
        yield node


@main.command("set")
@in_network
@click.argument("invite")
@click.argument("name")
@click.argument("value")
def set_value(network: Network, invite: str, name: str, value: str) -> None:
    """Set NAME to VALUE for all members; prints who has it."""

    async def write() -> None:
        async with guest(network, invite) as node:
            receipt = await node.set(name, value.encode())
            click.echo(receipt.summary())

    with in_one_line():
        asyncio.run(write())


@main.command()
@in_network
@click.argument("invite")
@click.argument("name")
def get(network: Network, invite: str, name: str) -> None:
    """Print the value of NAME, whoever set it."""

    async def read() -> None:
        async with guest(network, invite) as node:
            click.echo(await node.get(name))

    with in_one_line():
        asyncio.run(read())


if __name__ == "__main__":
    main()
