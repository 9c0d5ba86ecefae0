"""A disk store full of small records: each phase in a process of its own, so memory is its own."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kademlia_node.core.key import blob_key
from kademlia_node.core.record import make_blob
from kademlia_node.net import loop
from kademlia_node.settings import EXPIRY_DEFAULT_S, Settings
from kademlia_node.store.base import Outcome
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.schema import Durability

VALUE_BYTES = 100
ROOMY = replace(Settings(), store_bytes_max=2**40)
WALL = 1_800_000_000.0
Figures = dict[str, Any]


def measure_store(
    folder: Path, *, records: int, reads: int, at_once: int, durability: str
) -> Figures:
    """Fill a store, open it anew, read from it."""
    options = {"records": records, "reads": reads, "at_once": at_once, "durability": durability}
    filled = _in_a_process(folder, "fill", options)
    opened = _in_a_process(folder, "read", options)
    size_mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    return {**options, "value_bytes": VALUE_BYTES, "file_mb": size_mb, **filled, **opened}


def _in_a_process(folder: Path, phase: str, options: Figures) -> Figures:
    command = [sys.executable, __file__, str(folder), phase, json.dumps(options)]
    ran = subprocess.run(command, capture_output=True, check=True, text=True)
    figures: Figures = json.loads(ran.stdout)
    return figures


def _value(number: int) -> bytes:
    return b"%0100d" % number


def _memory_mb() -> float:
    """Resident now, of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def _at_once(count: int, numbers: range, work: Callable[[int], Awaitable[None]]) -> float:
    """Do the work for all numbers, `count` at a time; how many a second."""

    async def lane(mine: range) -> None:
        for number in mine:
            await work(number)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for first in range(count):
            tasks.create_task(lane(numbers[first::count]))
    return len(numbers) / (time.perf_counter() - started)


async def _fill(store: DiskStore, options: Figures) -> Figures:
    async def put(number: int) -> None:
        record = make_blob(_value(number), expires=int(WALL) + EXPIRY_DEFAULT_S)
        answer = await store.put(record, charged_to=b"", wall=WALL)
        assert answer.outcome is Outcome.STORED

    return {"puts_per_s": await _at_once(options["at_once"], range(options["records"]), put)}


async def _read(store: DiskStore, options: Figures) -> Figures:
    rng = random.Random(1)
    numbers = [rng.randrange(options["records"]) for _ in range(options["reads"])]
    opened_mb = _memory_mb()

    async def get(place: int) -> None:
        key = blob_key(_value(numbers[place])).digest
        (record,) = await store.get(key, wall=WALL)
        assert record.value == _value(numbers[place])

    gets = await _at_once(options["at_once"], range(len(numbers)), get)
    alone = await _at_once(1, range(min(5000, len(numbers))), get)
    return {
        "gets_per_s": gets,
        "gets_per_s_one_by_one": alone,
        "memory_opened_mb": opened_mb,
        "memory_after_reads_mb": _memory_mb(),
    }


async def _main(folder: Path, phase: str, options: Figures) -> Figures:
    before_mb, started = _memory_mb(), time.perf_counter()
    store = await DiskStore.open(
        folder / "store.db",
        own_id=bytes(32),
        settings=ROOMY,
        durability=Durability(options["durability"]),
    )
    opening_s = time.perf_counter() - started
    figures = await (_fill if phase == "fill" else _read)(store, options)
    await store.close()
    if phase == "read":
        figures = {"start_up_s": opening_s, "memory_before_mb": before_mb, **figures}
    return figures


if __name__ == "__main__":
    print(json.dumps(loop.run(_main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])))))
