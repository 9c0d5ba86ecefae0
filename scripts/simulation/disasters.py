"""What befalls many nodes at once: a third of them dies, all lose power, the network is cut in two.

Each experiment writes records, does the one thing, and looks what is left, what comes back by
itself, and how soon.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Final

import click

from kademlia_node.core.network import Network
from kademlia_node.node.node import Node
from kademlia_node.sim import Swarm
from kademlia_node.sim.chaos import HOUR_S
from kademlia_node.sim.survey import judged_lookup
from kademlia_node.sim.swarm import SECRET
from scripts.simulation.weather import (
    POSITIVE,
    SETTLED_S,
    Figures,
    Weather,
    say,
    sent_bytes,
    simulate,
    weather_options,
)
from scripts.simulation.written import WRITTEN_S, Written, put, read_back, write_all

RESTORED_H: Final = (1, 2)  # hours after nodes were killed, when copies are counted again
SERVED_S: Final = 60.0  # after which all must be well again
HEALED_S: Final = (SERVED_S, 600.0)  # looks after a partition has healed
SLOT_S: Final = 10.0  # in which traffic is counted
FIRST_SLOTS: Final = 30  # "the first minutes" are five
HOUR_SLOTS: Final = 360
BATCHES: Final = 4  # of writes during a partition, the first right after the cut
AWAY_S: Final = 600.0
NEWCOMERS: Final = 10

records_option = click.option(
    "--records", type=click.IntRange(1), default=2000, help="How many are written."
)


# --- Some are killed ------------------------------------------------------------------------------


@click.command(short_help="A share of the nodes dies at once.")
@weather_options(nodes=1000, latency="k", settle_s=SETTLED_S)
@records_option
@click.option("--share", type=click.FloatRange(0, 0.99), default=0.3, help="Of the nodes.")
@click.option("--copies", type=click.IntRange(1), default=5, help="Of each record.")
def kill(weather: Weather, *, records: int, share: float, copies: int) -> None:
    """A share of the nodes crashes for good; what is found at once, and when are copies restored?

    Every other blob is read at once by random survivors, whose share found is held against that of
    records of which some copy survives, 1 - share ** copies; `sigma_3` is three standard deviations
    of it. On the others, which nobody reads, the living copies are counted; `full` is the share of
    the survivors among them that have all copies.
    """

    async def experiment(swarm: Swarm) -> Figures:
        rng, now = random.Random(weather.seed), asyncio.get_running_loop().time
        written = await write_all(swarm.nodes, range(records), writes=[put])
        await asyncio.sleep(WRITTEN_S)
        digests = [one.item.key.digest for one in written]
        before = await _living_copies(swarm)
        killed_at = now()
        await _crash(swarm, rng.sample(swarm.nodes, round(share * weather.nodes)))
        at_once = await _living_copies(swarm)
        reads = await read_back(swarm, written[::2], rng=rng)
        read_s, dead = now() - killed_at, share**copies
        left = [digest for digest in digests[1::2] if at_once[digest]]
        restored = [{"after_h": 0, **_counted(at_once, left, copies=copies)}]
        for hours in RESTORED_H:
            await asyncio.sleep(max(0.0, killed_at + hours * HOUR_S - now()))
            living = await _living_copies(swarm)
            restored.append({"after_h": hours, **_counted(living, left, copies=copies)})
        return {
            "records": len(written),
            "share": share,
            "copies": copies,
            "copies_before": fmean(before[digest] for digest in digests),
            "survived": sum(at_once[digest] > 0 for digest in digests) / len(digests),
            "found": reads.found,
            "expected": 1 - dead,
            "sigma_3": 3 * (dead * (1 - dead) / max(1, len(written[::2]))) ** 0.5,
            "read_s": read_s,
            "restored": restored,
        }

    simulate(weather, experiment, network=Network.private(SECRET, copies=copies))


async def _crash(swarm: Swarm, nodes: Sequence[Node]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for node in nodes:
            tasks.create_task(swarm.crash(node))


async def _living_copies(swarm: Swarm) -> Counter[bytes]:
    """How many running nodes hold each digest."""
    living: Counter[bytes] = Counter()
    for node in swarm.alive:
        living.update(await swarm.machine(node).disk.keys(wall=swarm.network.wall()))
    return living


def _counted(living: Counter[bytes], left: Sequence[bytes], *, copies: int) -> Figures:
    counts = [living[digest] for digest in left] or [0]
    return {
        "copies_mean": fmean(counts),
        "full": sum(count >= copies for count in counts) / len(counts),
        "lost_since": sum(count == 0 for count in counts) / len(counts),
    }


# --- All are restarted ----------------------------------------------------------------------------


@click.command(short_help="All nodes lose power at once, and start again.")
@weather_options(nodes=1000, latency="k", settle_s=SETTLED_S)
@records_option
def cold(weather: Weather, *, records: int) -> None:
    """All crash and restart at once, with their disks, through the peers that they remember.

    They do so twice: once to be watched in peace for an hour, once to be read from after 60 s.
    Traffic is counted in slots of ten seconds, with all headers. The two ratios hold the busiest
    slot, and the busiest minute, of the first five minutes against the mean of the hour after them.
    """

    async def experiment(swarm: Swarm) -> Figures:
        rng, now = random.Random(weather.seed), asyncio.get_running_loop().time
        written = await write_all(swarm.nodes, range(records))
        await asyncio.sleep(WRITTEN_S)
        await _crash(swarm, swarm.nodes)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_slots(swarm, FIRST_SLOTS + HOUR_SLOTS))
            tasks.create_task(_restart(swarm))
        say("watched for an hour")
        slots = watching.result()
        first, mean = slots[:FIRST_SLOTS], fmean(slots[FIRST_SLOTS:])
        minutes = [fmean(first[at : at + 6]) for at in range(0, FIRST_SLOTS, 6)]
        await _crash(swarm, swarm.nodes)
        restarted_at = now()
        await _restart(swarm)
        restart_s = now() - restarted_at
        await asyncio.sleep(max(0.0, restarted_at + SERVED_S - now()))
        reads = await read_back(swarm, written, rng=rng)
        return {
            "records": len(written),
            "restart_s": restart_s,
            "found": reads.found,
            "missed": reads.missed,
            "gone_shown": reads.gone_shown,
            "read_s": now() - restarted_at - SERVED_S,
            "first_bytes_per_node_s": fmean(first) / SLOT_S / weather.nodes,
            "then_bytes_per_node_s": mean / SLOT_S / weather.nodes,
            "peak_slot_ratio": max(first) / mean,
            "peak_minute_ratio": max(minutes) / mean,
        }

    simulate(weather, experiment)


async def _restart(swarm: Swarm) -> None:
    async with asyncio.TaskGroup() as tasks:
        for node in swarm.nodes:
            tasks.create_task(swarm.restart(node, bootstrap=False))


async def _slots(swarm: Swarm, count: int) -> list[int]:
    """The bytes that are sent in each slot from now on."""
    totals = [sent_bytes(swarm)]
    for _ in range(count):
        await asyncio.sleep(SLOT_S)
        totals.append(sent_bytes(swarm))
    return [after - before for before, after in pairwise(totals)]


# --- The network is cut in two --------------------------------------------------------------------


@click.command(short_help="A partition for hours, with writes on both sides.")
@weather_options(nodes=200, latency="k", settle_s=SETTLED_S)
@records_option
@click.option("--hours", type=POSITIVE, default=2.0, help="Virtual hours that it lasts.")
def split(weather: Weather, *, records: int, hours: float) -> None:
    """Every other node is cut off from all others, while both sides write; then it heals.

    Half of the records is written by each side, in four batches, one quarter of the time apart.
    Looks follow after a minute and after ten: `exact` is the share of the nodes whose lookup of a
    random target finds exactly the k closest of all; records are read by nodes of either side.
    """

    async def experiment(swarm: Swarm) -> Figures:
        rng, now = random.Random(weather.seed), asyncio.get_running_loop().time
        sides = swarm.nodes[::2], swarm.nodes[1::2]
        cut = swarm.network.partition([node.address for node in sides[0]])
        began = now()
        written: tuple[list[Written], list[Written]] = ([], [])
        for batch in range(BATCHES):
            await asyncio.sleep(max(0.0, began + batch * hours * HOUR_S / BATCHES - now()))
            first, last = batch * records // BATCHES, (batch + 1) * records // BATCHES
            middle = (first + last) // 2
            async with asyncio.TaskGroup() as tasks:
                for side, numbers in enumerate((range(first, middle), range(middle, last))):
                    tasks.create_task(_write(sides[side], numbers, into=written[side]))
        await asyncio.sleep(max(0.0, began + hours * HOUR_S - now()))
        healed_at, looks = now(), []
        cut.heal()
        for after_s in HEALED_S:
            await asyncio.sleep(max(0.0, healed_at + after_s - now()))
            look: Figures = {"after_s": after_s, "exact": await _exact(swarm, rng)}
            for name, one_side in zip("ab", written, strict=True):
                reads = await read_back(swarm, one_side, rng=rng)
                look |= {f"found_{name}": reads.found, f"gone_shown_{name}": reads.gone_shown}
            looks.append(look)
        return {"hours": hours, "records": sum(map(len, written)), "looks": looks}

    simulate(weather, experiment)


async def _write(nodes: Sequence[Node], numbers: range, *, into: list[Written]) -> None:
    into += await write_all(nodes, numbers)


async def _exact(swarm: Swarm, rng: random.Random) -> float:
    """The share of the nodes whose lookup finds exactly the closest there are: of one network."""
    async with asyncio.TaskGroup() as tasks:
        looking = [
            tasks.create_task(judged_lookup(swarm, node, rng.randbytes(32))) for node in swarm.alive
        ]
    outcomes = [look.result() for look in looking]
    return fmean(outcome is not None and outcome.exact for outcome in outcomes)


# --- The first are gone ---------------------------------------------------------------------------


@click.command(short_help="All seeds are gone, while half of the others restart.")
@weather_options(nodes=200, latency="k", settle_s=SETTLED_S)
@click.option("--hours", type=POSITIVE, default=24.0, help="Virtual hours without the seeds.")
@click.option("--seeds", type=click.IntRange(1), default=10, help="The first nodes, which go.")
@click.option("--records", type=click.IntRange(1), default=500, help="How many are written.")
def seedless(weather: Weather, *, hours: float, seeds: int, records: int) -> None:
    """The first nodes crash, and stay away; half of the others restart some time meanwhile.

    Those are away for ten minutes, and rejoin through the peers that they remember. In the end
    newcomers join, each through some node; `exact` is as in `split`.
    """
    if seeds >= weather.nodes:
        raise click.UsageError("give fewer --seeds than --nodes")

    async def experiment(swarm: Swarm) -> Figures:
        rng, now = random.Random(weather.seed), asyncio.get_running_loop().time
        others = swarm.nodes[seeds:]
        written = await write_all(others, range(records))
        await asyncio.sleep(WRITTEN_S)
        end = now() + hours * HOUR_S
        await _crash(swarm, swarm.nodes[:seeds])
        restarting = rng.sample(others, len(others) // 2)
        async with asyncio.TaskGroup() as tasks:
            for node in restarting:
                after_s = rng.uniform(0, max(0.0, end - now() - AWAY_S))
                tasks.create_task(_stop_and_restart(swarm, node, after_s=after_s))
        await asyncio.sleep(max(0.0, end - now()))
        before, newcomers = await _exact(swarm, rng), await swarm.grow(NEWCOMERS)
        await asyncio.sleep(SERVED_S)
        after = await _exact(swarm, rng)
        reads = await read_back(swarm, written, rng=rng)
        return {
            "hours": hours,
            "seeds": seeds,
            "restarted": len(restarting),
            "running": len(swarm.alive),
            "exact": before,
            "newcomers_joined": sum([(await node.status()).joined for node in newcomers]),
            "exact_with_newcomers": after,
            "records": len(written),
            "found": reads.found,
            "gone_shown": reads.gone_shown,
        }

    simulate(weather, experiment)


async def _stop_and_restart(swarm: Swarm, node: Node, *, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await swarm.stop(node)
    await asyncio.sleep(AWAY_S)
    await swarm.restart(node, bootstrap=False)
