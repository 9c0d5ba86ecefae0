"""The main job, shown on real processes: records outlive the nodes that were told of them.

Starts daemons on loopback, announces the files of the Python standard library from several of them,
kills some without warning (the bootstrap node first), starts two fresh ones that know one survivor,
and finds every entry from those.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kademlia_node.daemon.client import ControlClient, connected
from kademlia_node.daemon.views import value_of

COPIES = 5
KILLED_PER_NODE = 6 / 25
ANNOUNCERS = 8  # daemons that publish; the last ones started, some of which are killed
AT_ONCE = 8  # requests under way: the machine runs all the daemons, too
STARTING_AT_ONCE = 4
START_TIMEOUT_S = 60.0

Job = TypeVar("Job")
Tick = Callable[[], None]


@dataclass(slots=True, eq=False)
class Daemon:
    """One `kademlia-node run` of ours, and a client of its control socket."""

    id: str
    invite: str
    folder: Path
    process: subprocess.Popen[bytes]
    client: ControlClient

    def end(self, how: signal.Signals) -> None:
        """Send a signal and wait until the process is gone; kill one that does not go."""
        self.process.send_signal(how)
        try:
            self.process.wait(timeout=START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _kill(self.process)


@dataclass(slots=True)
class Network:
    """The daemons that are running, in the order of their start."""

    folder: Path
    rng: random.Random
    clients: AsyncExitStack
    daemons: list[Daemon] = field(default_factory=list)
    started: int = 0

    async def grow(self, count: int, *, bootstrap: str | None, tick: Tick) -> None:
        """Start `count` more that know at most one member."""

        async def start(_: int) -> None:
            self.daemons.append(await self._start(bootstrap))
            tick()

        await each(range(count), start, at_once=STARTING_AT_ONCE)

    async def _start(self, bootstrap: str | None) -> Daemon:
        folder = self.folder / f"node-{self.started:02}"
        self.started += 1
        folder.mkdir()
        command = [sys.executable, "-m", "kademlia_node", "run", "--folder", str(folder)]
        command += ["--host", "127.0.0.1", "--network", "demo", "--copies", str(COPIES)]
        command += ["--secret-file", str(self.folder / "secret")]
        command += ["--bootstrap", bootstrap] if bootstrap else []
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)  # noqa: ASYNC220 - to be killed in any loop
        try:
            ready = await _first_line(process, log=folder / "log")
            client = await self.clients.enter_async_context(connected(Path(ready["control"])))
        except BaseException:  # also when all of this is stopped
            _kill(process)
            raise
        return Daemon(ready["id"], ready["invite"], folder, process, client)

    def kill(self, victims: Iterable[Daemon], *, tick: Tick) -> None:
        """SIGKILL: no goodbye, no hand-over."""
        for victim in victims:
            victim.end(signal.SIGKILL)
            self.daemons.remove(victim)
            tick()


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


async def _first_line(process: subprocess.Popen[bytes], *, log: Path) -> dict[str, str]:
    """What a daemon says when it is ready."""
    assert process.stdout is not None
    line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), START_TIMEOUT_S)
    if not line:
        raise click.ClickException(await asyncio.to_thread(log.read_text))
    ready: dict[str, str] = json.loads(line)
    return ready


async def each(
    jobs: Iterable[Job], do: Callable[[Job], Awaitable[None]], *, at_once: int = AT_ONCE
) -> None:
    """Do all jobs, `at_once` of them at a time."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await do(job)

    async with asyncio.TaskGroup() as workers:
        for _ in range(at_once):
            workers.create_task(work())


def standard_library(count: int) -> dict[str, bytes]:
    """What is announced: for each of the first file names of the library, content hash and size."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    by_name = {path.name: path for path in reversed(paths)}
    if len(by_name) < count:
        raise click.UsageError(f"the standard library here has only {len(by_name)} file names")
    return {name: _described(by_name[name]) for name in sorted(by_name)[:count]}


def _described(path: Path) -> bytes:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return json.dumps({"sha256": digest, "size": len(content)}).encode()


@dataclass(slots=True)
class Result:
    """What came of it. `explained`: entries all of whose replicas happened to be killed."""

    nodes: int
    killed: int
    copies: int = COPIES
    stored: int = 0
    replicas: float = 0.0
    found: int = 0
    lost: int = 0
    explained: int = 0
    expected_lost: float = 0.0
    lookup_ms: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


async def tell(network: Network, result: Result, files: dict[str, bytes], bars: Progress) -> None:
    """The whole story, from the first daemon to the last lookup."""
    bar = bars.add_task("start daemons", total=result.nodes)
    await network.grow(1, bootstrap=None, tick=lambda: bars.advance(bar))
    first = network.daemons[0]
    await network.grow(result.nodes - 1, bootstrap=first.invite, tick=lambda: bars.advance(bar))

    bar = bars.add_task("announce files", total=len(files))
    held_by = await announce(network, files, tick=lambda: bars.advance(bar))
    result.stored = sum(bool(holders) for holders in held_by.values())
    result.replicas = round(fmean(len(holders) for holders in held_by.values()), 2)

    bar = bars.add_task("kill, the bootstrap node first", total=result.killed)
    victims = [first, *network.rng.sample(network.daemons[1:], result.killed - 1)]
    network.kill(victims, tick=lambda: bars.advance(bar))
    reckon(result, held_by, {victim.id for victim in victims})

    bar = bars.add_task("start fresh ones", total=2)
    survivor = network.rng.choice(network.daemons)
    known = len(network.daemons)
    await network.grow(2, bootstrap=survivor.invite, tick=lambda: bars.advance(bar))

    bar = bars.add_task("find every file from those", total=len(files))
    await find(network.daemons[known:], result, files, tick=lambda: bars.advance(bar))


async def announce(network: Network, files: dict[str, bytes], *, tick: Tick) -> dict[str, set[str]]:
    """One topic entry per file name, from several daemons; who holds each, by node ID."""
    held_by: dict[str, set[str]] = {}
    announcers = network.daemons[-ANNOUNCERS:]

    async def one(job: tuple[int, str]) -> None:
        place, name = job
        daemon = announcers[place % len(announcers)]
        receipt = await daemon.client.announce(name, files[name], slot="", acks=None)
        held_by[name] = {replica["id"] for replica in receipt["replicas"]}
        tick()

    await each(enumerate(files), one)
    return held_by


def reckon(result: Result, held_by: dict[str, set[str]], killed: set[str]) -> None:
    """What so many copies promise, and what really happened to each entry's replicas."""
    everything = math.comb(result.nodes, len(killed))
    for holders in held_by.values():
        if len(holders) <= len(killed):
            unlucky = math.comb(result.nodes - len(holders), len(killed) - len(holders))
            result.expected_lost += unlucky / everything
        result.explained += holders <= killed
    result.expected_lost = round(result.expected_lost, 3)


async def find(fresh: list[Daemon], result: Result, files: dict[str, bytes], *, tick: Tick) -> None:
    """Ask nodes that never heard of any of it, and compare hash and size."""
    times_ms: list[float] = []

    async def one(job: tuple[int, str]) -> None:
        place, name = job
        started = time.perf_counter()
        client = fresh[place % len(fresh)].client
        values = [value_of(entry) async for entry in client.find(name)]
        times_ms.append((time.perf_counter() - started) * 1000)
        result.found += files[name] in values
        tick()

    await each(enumerate(files), one)
    result.lost = len(files) - result.found
    times_ms.sort()
    for name, share in (("p50", 0.50), ("p90", 0.90), ("p99", 0.99)):
        result.lookup_ms[name] = round(times_ms[int(share * (len(times_ms) - 1))], 1)


def table(result: Result) -> Table:
    """The result for people."""
    shown = Table(title="What became of the entries", show_header=False)
    for label, text in (
        ("daemons", f"{result.nodes}, of which {result.killed} were killed, and 2 fresh"),
        ("stored", f"{result.stored} entries, {result.replicas} replicas each"),
        ("found by the fresh ones", str(result.found)),
        ("lost", str(result.lost)),
        ("loss that chance explains", f"{result.expected_lost} expected, {result.explained} drawn"),
        ("lookup p50 / p90 / p99", " / ".join(f"{ms} ms" for ms in result.lookup_ms.values())),
        ("took", f"{result.seconds} s"),
    ):
        shown.add_row(label, text)
    return shown


@asynccontextmanager
async def running(*, keep: bool, seed: int, say: Console) -> AsyncIterator[Network]:
    """A folder with a secret; afterwards, unless they are kept, no daemon and no folder.

    That holds when we are stopped by SIGTERM, too.
    """
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sys.exit, 128 + signal.SIGTERM)
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="kad-"))
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(rng.randbytes(32).hex())
    async with AsyncExitStack() as clients:
        network = Network(folder, rng, clients)
        try:
            yield network
        finally:
            if keep and network.daemons:
                say.print(f"kept: {len(network.daemons)} daemons; for one of them, try")
                say.print(f"  kademlia-node status --folder {network.daemons[-1].folder}")
                pids = " ".join(str(daemon.process.pid) for daemon in network.daemons)
                say.print(f"stop them with:  kill {pids}; rm -r {folder}", soft_wrap=True)
            else:
                for daemon in network.daemons:
                    daemon.process.terminate()
                for daemon in network.daemons:
                    daemon.end(signal.SIGTERM)
                shutil.rmtree(folder)


async def demo(*, nodes: int, files: int, keep: bool, seed: int, say: Console) -> Result:
    """Run it all."""
    started = time.perf_counter()
    result = Result(nodes, killed=max(1, round(nodes * KILLED_PER_NODE)))
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn())
    async with running(keep=keep, seed=seed, say=say) as network:
        with Progress(*columns, TimeElapsedColumn(), console=say) as bars:
            await tell(network, result, standard_library(files), bars)
    result.seconds = round(time.perf_counter() - started, 1)
    return result


@click.command(context_settings={"show_default": True})
@click.option("--nodes", type=click.IntRange(3, 100), default=25, help="Daemons to start with.")
@click.option("--files", type=click.IntRange(1), default=600, help="File names to announce.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--keep", is_flag=True, help="Leave the daemons running afterwards.")
@click.option("--seed", default=1, help="Decides who is killed.")
def main(*, nodes: int, files: int, as_json: bool, keep: bool, seed: int) -> None:
    """Show that records outlive the nodes that were told of them."""
    say = Console(stderr=True)
    result = asyncio.run(demo(nodes=nodes, files=files, keep=keep, seed=seed, say=say))
    if as_json:
        print(json.dumps(asdict(result)))
    else:
        Console().print(table(result))
    if result.lost > result.explained or result.stored < files:
        say.print(f"{result.lost - result.explained} entries were lost that had a living replica")
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="scripts/demo")
