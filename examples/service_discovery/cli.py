"""The commands, and the one place where errors become exit codes: 0 done, 1 nobody, 2 usage."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import click

from examples.service_discovery import web
from examples.service_discovery.demonstration import Plan, Report, demonstrate
from examples.service_discovery.instance import Instance
from examples.service_discovery.registering import RECORD_TTL_S, Registration
from examples.service_discovery.resolving import NoInstance, Resolver, listed
from examples.service_discovery.station import Joining
from kademlia_node import KademliaError, Network, Node, read_secret

ENVIRONMENT: Final = "SERVICE_DISCOVERY_"
EXPECTED: Final = (NoInstance, KademliaError, ValueError, OSError)
FIND_S: Final = 10.0  # a first instance is waited for


class Commands(click.Group):
    """A group whose commands end well or in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click."""
        try:
            return super().invoke(ctx)
        except (*EXPECTED, ExceptionGroup) as raised:
            error: BaseException = raised
            while isinstance(error, ExceptionGroup):  # of a task, and those beside it
                error = error.exceptions[0]
            if not isinstance(error, EXPECTED):
                raise
            click.echo(f"service-discovery: {error}", err=True)
            raise click.exceptions.Exit(1 if isinstance(error, NoInstance) else 2) from None


def printable(text: str) -> str:
    """The lines of an answer, with nothing in them that a terminal obeys: they are strangers'."""
    kept = (c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)
    return "".join(kept)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def option(*names: str, **attributes: Any) -> Callable[[Any], Any]:
    """As click's, with the environment variable of its name."""
    variable = ENVIRONMENT + max(names, key=len).lstrip("-").upper().replace("-", "_")
    return click.option(*names, envvar=variable, **attributes)


JOINING: Final = (
    option(
        "--secret-file",
        type=click.Path(path_type=Path),
        required=True,
        help="Of the private network: 64 hexadecimal digits. Who has it can register instances.",
    ),
    option("--network", default="services", show_default=True, help="Name of the network."),
    option(
        "--bootstrap",
        multiple=True,
        metavar="ADDRESS",
        help="Where to knock: HOST:PORT or kad://KEY@HOST:PORT. Can be repeated.",
    ),
    option(
        "--host",
        default="127.0.0.1",
        show_default=True,
        help="Numeric address of this machine at which others reach it.",
    ),
)
lease_option = option(
    "--lease",
    "lease_s",
    type=click.IntRange(3, RECORD_TTL_S),
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="For how long an instance is listed that has died.",
)
in_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def joins(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a node, as its parameter `joining`."""

    @functools.wraps(command)
    def wrapped(
        *, secret_file: Path, network: str, bootstrap: tuple[str, ...], host: str, **rest: Any
    ) -> None:
        agreed = Network.private(read_secret(secret_file), name=network)
        command(joining=Joining(agreed, bootstrap, host), **rest)

    return functools.reduce(lambda made, one: one(made), reversed(JOINING), wrapped)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Services that find each other, with no registry that could be down.

    Exit codes: 0 done, 1 no instance, 2 bad usage or set-up.
    """


# --- Being an instance ----------------------------------------------------------------------------


@main.command()
@click.argument("name")
@joins
@lease_option
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of HTTP; 0: any.")
def serve(*, name: str, joining: Joining, lease_s: int, port: int) -> None:
    """Serve as an instance of NAME until SIGTERM.

    Prints its URL and the invite of its node, with a tab between, when it is registered.
    """

    async def main() -> None:
        async with joining.member() as node, web.serving(name, host=joining.host, port=port) as url:
            await _stay_registered(node, name, url, health=url + web.HEALTH, lease_s=lease_s)

    asyncio.run(main())


@main.command()
@click.argument("name")
@click.argument("url")
@joins
@lease_option
@click.option("--health", default=web.HEALTH, show_default=True, help="Path of the health check.")
def register(*, name: str, url: str, joining: Joining, lease_s: int, health: str) -> None:
    """Register the HTTP service at URL, which another program serves, as an instance of NAME.

    As long as its health check is answered with 200, and until SIGTERM. Prints what `serve` does.
    """

    async def main() -> None:
        async with joining.member() as node:
            check = url.rstrip("/") + health
            await _stay_registered(node, name, url, health=check, lease_s=lease_s)

    asyncio.run(main())


async def _stay_registered(node: Node, name: str, url: str, *, health: str, lease_s: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    line = f"{url}\t{node.invite}"

    def say(is_listed: bool) -> None:  # noqa: FBT001
        if is_listed:
            click.echo(line)
        elif not stop.is_set():
            click.echo(f"{url} is not healthy: withdrawn", err=True)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        registration = Registration(
            node,
            name,
            url,
            is_healthy=partial(web.is_well, session, health),
            lease_s=lease_s,
            on_listed=say,
        )
        keeping = tasks.create_task(registration.keep())
        await stop.wait()
        keeping.cancel()


# --- Being a client -------------------------------------------------------------------------------


@main.command("list")
@click.argument("name")
@joins
@in_json
def list_instances(*, name: str, joining: Joining, as_json: bool) -> None:
    """List the instances of NAME that live."""

    async def main() -> list[Instance]:
        async with joining.guest() as node:
            return await listed(node, name)

    found = sorted(asyncio.run(main()), key=lambda instance: instance.url)
    for instance in found:
        shown = {"url": instance.url, "until": round(instance.until, 3)}
        click.echo(json.dumps(shown) if as_json else instance.url)
    if not found:
        raise NoInstance(name, tried=0)


@main.command()
@click.argument("name")
@joins
@click.option("--path", default="/", show_default=True, help="Of the request.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Requests.")
def call(*, name: str, joining: Joining, path: str, count: int) -> None:
    """Ask instances of NAME by HTTP, one request after the other; prints the answers."""

    async def main() -> None:
        async with (
            joining.guest() as node,
            aiohttp.ClientSession() as session,
            asyncio.TaskGroup() as tasks,
        ):
            resolver = Resolver(node, name)
            following = tasks.create_task(resolver.follow())
            try:
                await resolver.has_instance(within_s=FIND_S)
                for _ in range(count):
                    answer = await resolver.call(lambda url: web.fetch(session, url + path))
                    click.echo(printable(answer), nl=False)
            finally:
                following.cancel()

    asyncio.run(main())


# --- Watching them die ----------------------------------------------------------------------------


@main.command("demonstrate")
@click.option("--seconds", "lasts_s", type=click.FloatRange(1), default=120.0, show_default=True)
@click.option("--instances", type=click.IntRange(3, 32), default=6, show_default=True)
@click.option("--callers", type=click.IntRange(1, 64), default=8, show_default=True)
@click.option(
    "--kill-every", "kill_every_s", type=click.FloatRange(0.5), default=5.0, show_default=True,
    metavar="SECONDS", help="On average; another instance is started in place of each.",
)  # fmt: skip
@lease_option
@click.option("--seed", default=1, show_default=True, help="Decides who is killed, and when.")
@in_json
def show(*, lasts_s: float, as_json: bool, **plan: Any) -> None:
    """Kill instances at random while clients go on asking, and sum up.

    All are processes of this machine, started and ended here. Exit code 1: a request failed because
    of discovery, as no instance was known though some lived, or a dead one was handed out after the
    end of its lease.
    """
    report = asyncio.run(demonstrate(Plan(lasts_s=lasts_s, **plan), say=_say))
    if as_json:
        sums = {"failed_by_discovery": report.failed_by_discovery}
        click.echo(json.dumps(dataclasses.asdict(report) | sums))
    else:
        for label, shown in _told(report):
            click.echo(f"{label:48}{shown}")
    if report.failed_by_discovery:
        raise click.exceptions.Exit(1)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _told(report: Report) -> list[tuple[str, str]]:
    return [
        ("instances started", f"{report.started}"),
        ("instances killed", f"{report.killed}"),
        ("requests", f"{report.requests}"),
        ("  answered by the first instance asked", f"{report.answered_at_once}"),
        ("  answered by another one", f"{report.answered_after_retry}"),
        ("  failed after all were tried", f"{report.failed}"),
        ("  failed because of discovery", f"{report.failed_by_discovery}"),
        ("    no instance was known to live", f"{report.none_known}"),
        ("    a dead one was handed out after its lease", f"{report.handed_out_late}"),
        ("the list was read", f"{report.readings} times"),
        ("the longest that it had a dead one", f"{report.listed_dead_s_max} s"),
        ("p50 / p99 of a request", f"{report.p50_ms} / {report.p99_ms} ms"),
    ]
