from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from statistics import fmean
from typing import Any

import pytest

from kademlia_node import SetupError
from kademlia_node.node.node import Node
from kademlia_node.sim import Churn, FixedLatency, Swarm, run  # noqa: F401 - `run` is for the program below

LAN = FixedLatency(0.02)
HOUR_S = 3600.0


async def churned(seed: int) -> str:
    """The digest of ten minutes in which most of eight nodes come and go, on a bad network."""
    async with Swarm(nodes=8, seed=seed, loss=0.02) as swarm:
        async with swarm.churn(mean_session_s=120.0, mean_absence_s=60.0) as churn:
            await asyncio.sleep(600.0)
        assert churn.crashes * churn.stops * churn.returns > 0
        return swarm.network.trace_digest()


def weibull(swarm: Swarm, **options: Any) -> Churn:
    """Sessions of a minute on average, half of which end within 14.4 s."""
    usual: dict[str, Any] = {"mean_session_s": 60.0, "mean_absence_s": 20.0, "session_shape": 0.5}
    return swarm.churn(spare=swarm.nodes[:1], **usual | options)


async def test_nodes_come_and_go_at_the_rates_that_were_set() -> None:
    running = []
    async with Swarm(nodes=5, seed=1, latency=LAN) as swarm:
        here = swarm.nodes[:1]
        async with swarm.churn(mean_session_s=60.0, mean_absence_s=20.0, spare=here) as churn:
            for _ in range(360):
                await asyncio.sleep(10.0)
                running.append(len(swarm.alive))
    departures = churn.stops + churn.crashes
    expected = 4 * HOUR_S / 80
    assert abs(departures - expected) < 3 * expected**0.5
    assert abs(churn.crashes - departures / 2) < 1.5 * departures**0.5
    assert departures - 4 <= churn.returns <= departures
    assert fmean(running) == pytest.approx(1 + 4 * 60 / 80, rel=0.1)


async def test_weibull_sessions_have_their_mean_though_half_of_them_are_short() -> None:
    lengths: list[float] = []
    seen: set[int] = set()
    async with Swarm(nodes=5, seed=1, latency=LAN) as swarm:

        async def on_departure(node: Node) -> None:
            machine = swarm.machine(node)
            assert machine.up_since is not None
            if machine.number in seen:  # the first of each node was in its midst
                lengths.append(asyncio.get_running_loop().time() - machine.up_since)
            seen.add(machine.number)

        async with weibull(swarm, on_departure=on_departure) as churn:
            await asyncio.sleep(2 * HOUR_S)
    assert len(lengths) == churn.stops + churn.crashes - len(seen)
    assert fmean(lengths) == pytest.approx(60.0, rel=0.3)
    assert fmean(length < 14.4 for length in lengths) == pytest.approx(0.5, abs=0.1)


async def test_who_runs_at_the_beginning_is_in_the_midst_of_a_weibull_session() -> None:
    async with Swarm(nodes=81, seed=1, latency=LAN) as swarm:
        async with weibull(swarm, mean_absence_s=1e6) as churn:
            await asyncio.sleep(30.0)
        departures = churn.stops + churn.crashes
    assert departures == pytest.approx(80 * 0.264, abs=3 * (80 * 0.264 * 0.736) ** 0.5)


async def test_who_is_spared_never_leaves_and_who_returns_has_its_records() -> None:
    async with Swarm(nodes=8, seed=3, latency=LAN) as swarm:
        here = swarm.nodes[0]
        receipt = await here.put(b"value")
        before = {node.id for node in await swarm.holders(receipt.key)}
        async with swarm.churn(mean_session_s=60.0, mean_absence_s=60.0, spare=[here]) as churn:
            await asyncio.sleep(600.0)
        assert churn.crashes > 5
        assert churn.stops > 5
        for node in swarm.nodes:
            if node not in swarm.alive:
                await swarm.restart(node)
        assert swarm.nodes[0] is here
        assert before <= {node.id for node in await swarm.holders(receipt.key)}
        assert await here.get(receipt.key) == b"value"


@pytest.mark.parametrize("crash_share", [0.0, 1.0])
async def test_the_share_of_crashes_is_as_set(crash_share: float) -> None:
    async with (
        Swarm(nodes=6, seed=2, latency=LAN) as swarm,
        swarm.churn(mean_session_s=60.0, mean_absence_s=60.0, crash_share=crash_share) as churn,
    ):
        await asyncio.sleep(600.0)
    assert (churn.crashes > 0, churn.stops > 0) == (crash_share == 1.0, crash_share == 0.0)


@pytest.mark.parametrize("loss_share", [0.0, 0.4, 1.0])
async def test_a_share_of_the_crashes_costs_the_disk_as_well(loss_share: float) -> None:
    async with Swarm(nodes=6, seed=2, latency=LAN) as swarm:
        for node in swarm.nodes:
            await node.put(node.id)
        async with swarm.churn(
            mean_session_s=60.0, mean_absence_s=10.0, crash_share=1.0, loss_share=loss_share
        ) as churn:
            await asyncio.sleep(1200.0)
        told = [event.text for event in swarm.diary.between(0.0, float("inf"))]
        machines = [swarm.machine(node) for node in swarm.nodes]
    lost = [text.split()[1] for text in told if text.endswith("loses its disk")]
    assert churn.crashes > 60
    assert len(lost) == pytest.approx(loss_share * churn.crashes, rel=0.3)
    assert {str(m.number) for m in machines if m.store_since > 60.0} == set(lost)


async def test_after_the_block_nobody_comes_or_goes() -> None:
    async with Swarm(nodes=6, seed=2, latency=LAN) as swarm:
        async with swarm.churn(mean_session_s=60.0, mean_absence_s=60.0):
            await asyncio.sleep(250.0)
        left = swarm.alive
        assert 0 < len(left) < 6
        await asyncio.sleep(HOUR_S)
        assert swarm.alive == left


async def test_who_is_away_at_the_start_returns_as_well() -> None:
    async with Swarm(nodes=4, seed=2, latency=LAN) as swarm:
        await swarm.stop(swarm.nodes[2])
        async with swarm.churn(mean_session_s=1e9, mean_absence_s=60.0) as churn:
            await asyncio.sleep(HOUR_S)
        assert (churn.returns, churn.stops + churn.crashes) == (1, 0)
        assert len(swarm.alive) == 4


async def test_a_failure_inside_the_block_comes_out_as_it_is() -> None:
    async with Swarm(nodes=4, seed=2, latency=LAN) as swarm:
        with pytest.raises(ZeroDivisionError):
            async with swarm.churn(mean_session_s=60.0):
                raise ZeroDivisionError


async def test_a_return_that_fails_is_told_at_the_end() -> None:
    async def with_a_squatter(swarm: Swarm) -> None:
        here = swarm.nodes[0]
        await swarm.stop(here)
        async with swarm.churn(mean_absence_s=60.0, spare=swarm.nodes[1:]):
            await swarm.network.listen(*here.address, lambda *_: None)
            await asyncio.sleep(HOUR_S)

    async with Swarm(nodes=3, seed=2, latency=LAN) as swarm:
        with pytest.raises(ExceptionGroup) as told:
            await with_a_squatter(swarm)
        assert told.group_contains(SetupError, match="is in use")


@pytest.mark.net  # starts processes, which virtual time cannot wait for
def test_one_seed_is_one_run_whatever_the_hash_seed() -> None:
    def digest(hash_seed: str, seed: int = 1) -> str:
        program = f"from {__name__} import churned, run; print(run(churned({seed})))"
        path = os.pathsep.join(sys.path)
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        command = [sys.executable, "-c", program]
        ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        return ran.stdout.decode()

    assert digest("1") == digest("2")
    assert digest("1") != digest("1", seed=2)
