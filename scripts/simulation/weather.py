"""What all simulations share: their options, a swarm that has settled, the printing of figures.

An experiment is a coroutine from a swarm to its figures. Its command takes the options of
`weather_options` and hands both to `simulate`, which adds what every run tells: the weather, what
it cost this machine, its digest.
"""

from __future__ import annotations

import asyncio
import functools
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import click

from kademlia_node.core.network import Network
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.sim import LATENCIES, Swarm, run
from kademlia_node.sim.churn import EXPONENTIAL, Churn
from kademlia_node.sim.latency import LatencyModel

HEADER_BYTES: Final = 28  # of each datagram: 20 of IPv4, 8 of UDP
SETTLED_S: Final = 360.0  # by then each node has estimated the size of the network
POSITIVE: Final = click.FloatRange(0, min_open=True)

Figures = dict[str, object]
Experiment = Callable[[Swarm], Awaitable[Figures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What every simulation is given."""

    seed: int
    nodes: int
    loss: float
    latency: str
    settle_s: float
    as_json: bool

    def model(self) -> LatencyModel:
        """How long datagrams take."""
        return LATENCIES[self.latency](self.seed)


def weather_options(
    *, nodes: int, latency: str, settle_s: float, with_loss: bool = True
) -> Callable[[Any], Any]:
    """The options of every command, with its own defaults; they arrive as `weather`.

    Args:
        nodes: By default.
        latency: By default, a name of `LATENCIES`.
        settle_s: By default.
        with_loss: Whether `--loss` is among them; else nothing is lost, unless the command says so.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapped(
            *, seed: int, nodes: int, latency: str, settle_s: float, as_json: bool,
            loss: float = 0.0, **rest: Any,
        ) -> None:  # fmt: skip
            weather = Weather(
                seed=seed,
                nodes=nodes,
                loss=loss,
                latency=latency,
                settle_s=settle_s,
                as_json=as_json,
            )
            command(weather, **rest)

        seconds = click.FloatRange(0)
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
            click.option(
                "--settle",
                "settle_s",
                type=seconds,
                default=settle_s,
                help="Virtual seconds first.",
            ),
            click.option("--latency", type=click.Choice(list(LATENCIES)), default=latency),
            *([loss_option()] if with_loss else []),
            click.option("--nodes", type=click.IntRange(2), default=nodes, help="How many nodes."),
            click.argument("seed", type=int, default=1),
        ):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def loss_option(*, several: bool = False) -> Callable[[Any], Any]:
    """`--loss`, as `loss`; or as `losses`, a tuple, where it may be given several times."""
    share = click.FloatRange(0, 1)
    if several:
        text = "Share of datagrams lost; give several to have them in turn."
        return click.option(
            "--loss", "losses", type=share, multiple=True, default=(0.0,), help=text
        )
    return click.option("--loss", type=share, default=0.0, help="Share of datagrams lost.")


def churn_options(*, session_s: float) -> Callable[[Any], Any]:
    """`--churn` as `session_s`, with its default; `--away` as `absence_s`."""
    session = click.option(
        "--churn",
        "session_s",
        type=click.FloatRange(0),
        default=session_s,
        help="Mean seconds that a node runs; 0: all stay.",
    )
    absence = click.option(
        "--away",
        "absence_s",
        type=POSITIVE,
        default=600.0,
        help="Mean seconds until it is back.",
    )
    return lambda command: session(absence(command))


def churning(
    swarm: Swarm,
    *,
    session_s: float,
    absence_s: float,
    staying: Sequence[Node] = (),
    shape: float = EXPONENTIAL,
    on_departure: Callable[[Node], Awaitable[None]] | None = None,
) -> Churn:
    """The churn that `churn_options` ask for."""
    return swarm.churn(
        mean_session_s=session_s or 1.0,
        mean_absence_s=absence_s,
        session_shape=shape,
        on_departure=on_departure,
        spare=staying if session_s else swarm.nodes,
    )


def sent_bytes(swarm: Swarm) -> int:
    """All that was ever sent, with the headers of IPv4 and UDP."""
    sent = swarm.network.sent
    return sent.size_bytes + HEADER_BYTES * sent.datagrams


def simulate(
    weather: Weather,
    experiment: Experiment,
    *,
    settings: Settings | None = None,
    network: Network | None = None,
) -> None:
    """Run it in a swarm that has settled, and print its figures."""

    async def main() -> Figures:
        bill = _Bill()
        async with Swarm(
            nodes=0,
            seed=weather.seed,
            loss=weather.loss,
            latency=weather.model(),
            settings=settings,
            network=network,
        ) as swarm:
            await _grow(swarm, weather.nodes)
            bill.on_joined(weather.nodes)
            await asyncio.sleep(weather.settle_s)
            figures = await experiment(swarm)
            return {
                **{k: v for k, v in asdict(weather).items() if k != "as_json"},
                **figures,
                "virtual_s": round(asyncio.get_running_loop().time(), 3),
                **bill.figures(swarm.network.sent.datagrams),
                "digest": swarm.network.trace_digest(),
            }

    figures = run(main())
    if weather.as_json:
        print(json.dumps(figures))
    else:
        _print_aligned(figures)


def say(text: str) -> None:
    """Tell of progress, apart from the figures."""
    print(text, file=sys.stderr, flush=True)


async def _grow(swarm: Swarm, nodes: int) -> None:
    while len(swarm.nodes) < nodes:
        await swarm.grow(min(nodes - len(swarm.nodes), max(1, nodes // 10)))
        say(f"{len(swarm.nodes)} nodes joined, {time.process_time():.0f} s of CPU")


class _Bill:
    """What a simulation costs this machine."""

    def __init__(self) -> None:
        self._began = time.process_time()
        self._rss_bytes = _rss_bytes_max()
        self._joining_cpu_s = 0.0
        self._nodes = self._joined_rss_bytes = 0

    def on_joined(self, nodes: int) -> None:
        """All nodes are there."""
        self._joining_cpu_s = time.process_time() - self._began
        self._nodes, self._joined_rss_bytes = nodes, _rss_bytes_max()

    def figures(self, datagrams: int) -> Figures:
        """All of it, up to now."""
        cpu_s = time.process_time() - self._began
        return {
            "datagrams": datagrams,
            "joining_cpu_s": round(self._joining_cpu_s, 1),
            "cpu_s": round(cpu_s, 1),
            "datagrams_per_cpu_s": round(datagrams / cpu_s),
            "rss_mib": round(_rss_bytes_max() / 2**20, 1),
            "nodes_per_gib": self._nodes_per_gib(self._joined_rss_bytes),
            "nodes_per_gib_at_end": self._nodes_per_gib(_rss_bytes_max()),
        }

    def _nodes_per_gib(self, rss_bytes: int) -> int | None:
        grown = rss_bytes - self._rss_bytes
        return round(self._nodes * 2**30 / grown) if grown else None  # they fitted in what we had


def _rss_bytes_max() -> int:
    """The most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


def _print_aligned(figures: Figures) -> None:
    """A line for each figure; a list of figures gives a column for each of its members."""
    lines: list[tuple[str, list[object]]] = []
    for name, figure in figures.items():
        if isinstance(figure, list):
            lines += [(inner, [column[inner] for column in figure]) for inner in figure[0]]
        else:
            lines.append((name, [figure]))
    width = max(len(name) for name, _ in lines)
    for name, cells in lines:
        print(f"{name:>{width}}  {'  '.join(map(_shown, cells))}".rstrip())


def _shown(figure: object) -> str:
    if figure is None:
        return f"{'-':<9}"
    return f"{figure:<9.4f}" if isinstance(figure, float) else f"{figure!s:<9}"
