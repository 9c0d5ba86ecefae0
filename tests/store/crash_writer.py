"""Writes to a disk store in process after process, each of them killed at a random instant.

    python -m tests.store.crash_writer FOLDER kill|torn LIVES SEED

A life is a child process: it opens the store, looks for everything the life before was promised,
then puts records from several coroutines at once and tells its parent of each acknowledgement,
until SIGKILL. With `torn` it also gets a limit on the size of files (RLIMIT_FSIZE), drawn at
random: a write to the log or the database that crosses it is carried out up to that very byte, and
fails. After some refusals the limit is lifted and the life goes on. At the end of a file's lives
all that was ever acknowledged must be there. Tells {"lives": n, "acknowledged": n, "full": n}.

What this shows: the end of a process loses nothing, wherever it falls, nor does a write that was
cut short. What it does not: the end of the machine. Pages that the kernel holds survive SIGKILL;
whether they were flushed in order, as `Durability.POWER` asks, no test on one machine can see.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kademlia_node.core.record import Record
from kademlia_node.store.base import FIRST, Outcome, place_of
from kademlia_node.store.disk import DiskStore
from tests.store.records import ALICE, OWN_ID, PREFIX, ROOMY, WALL, blob, entry

LIVES_PER_FILE = 50  # else reading what the others left takes most of a life
WRITERS = 8
SLOTS = 20
REFUSALS_MAX = 5
LIFE_S_MAX = 0.060
FULL = 2**32 - 1  # told to the parent instead of a number
MESSAGE = struct.Struct(">I")  # shorter than PIPE_BUF: written whole or not at all


def record_number(number: int) -> Record:
    """A blob if odd, else the version `number` of one of a few entries; some are large."""
    value = random.Random(number).randbytes(20_000 if number % 16 == 0 else 100)
    if number % 2:
        return blob(value)
    return entry(value, author=ALICE, slot=bytes([number // 2 % SLOTS]), seq=number)


@dataclass
class Tally:
    """What a parent hears from its children."""

    acknowledged: list[int] = field(default_factory=list)
    full: int = 0

    def hear(self, messages: bytes) -> None:
        for (number,) in MESSAGE.iter_unpack(messages):
            if number == FULL:
                self.full += 1
            else:
                self.acknowledged.append(number)


# --- The child ------------------------------------------------------------------------------------


async def check(store: DiskStore, numbers: Iterable[int]) -> None:
    """Every record is there, or a later version of it."""
    assert store.set_aside is None
    for number in numbers:
        promised = record_number(number)
        key, author, slot = place_of(promised)
        found = await store.get_one(key, author=author, slot=slot, wall=WALL)
        assert found is not None, f"record {number} was acknowledged and is lost"
        assert found.header.version >= promised.header.version, f"record {number} is back"
        assert found.header.seq > promised.header.seq or found == promised


async def check_the_books(store: DiskStore) -> None:
    """What the ledger says is what is there."""
    records, after = 0, FIRST
    while page := await store.page(after, limit=500, wall=WALL):
        records, after = records + len(page), place_of(page[-1])
    assert (await store.usage()).records == records


async def live(
    path: Path, *, promised: Iterable[int], first: int, limit: int | None, pipe: int
) -> None:
    """One life: look, then write until killed."""
    store = await DiskStore.open(path, own_id=OWN_ID, settings=ROOMY)
    await check(store, promised)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    numbers, refusals = itertools.count(first), 0

    async def write() -> None:
        nonlocal refusals
        for number in numbers:
            answer = await store.put(record_number(number), charged_to=PREFIX, wall=WALL)
            if answer.outcome is Outcome.STORED:
                os.write(pipe, MESSAGE.pack(number))
            elif answer.outcome is Outcome.FULL:
                os.write(pipe, MESSAGE.pack(FULL))
                refusals += 1
                if refusals == REFUSALS_MAX:
                    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(write())


# --- The parent -----------------------------------------------------------------------------------


def give_a_life(
    path: Path, *, promised: Iterable[int], first: int, limit: int | None, lasts_s: float
) -> bytes:
    """Fork, wait, kill; returns what the child said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            asyncio.run(live(path, promised=promised, first=first, limit=limit, pipe=writing))
        except BaseException:  # noqa: BLE001 - told, and taken by nobody else
            traceback.print_exc()
        finally:
            os._exit(1)  # nobody is to end before being killed; what forked us is not ours to end
    os.close(writing)
    time.sleep(lasts_s)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as messages:
        said = messages.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "a child ended by itself"
    return said


def limit_for(path: Path, rng: random.Random) -> int:
    """Somewhere in the longer of the two files, or a little behind it."""
    log = path.with_name(path.name + "-wal")
    sizes = [file.stat().st_size for file in (path, log) if file.exists()]
    return rng.randrange(max(sizes, default=0) + 100_000)


def main(folder: Path, how: str, lives: int, seed: int) -> None:
    rng = random.Random(seed)
    total = Tally()
    for begun in range(0, lives, LIVES_PER_FILE):
        path = folder / f"store-{begun}.db"
        tally, promised = Tally(), list[int]()
        for life in range(min(LIVES_PER_FILE, lives - begun)):
            known = len(tally.acknowledged)
            said = give_a_life(
                path,
                promised=promised,
                first=1 + life * 1_000_000,
                limit=limit_for(path, rng) if how == "torn" else None,
                lasts_s=rng.uniform(0.0, LIFE_S_MAX),
            )
            tally.hear(said)
            promised = tally.acknowledged[known:] or promised
        asyncio.run(look_back(path, tally.acknowledged))
        total.acknowledged += tally.acknowledged
        total.full += tally.full
    acknowledged = len(total.acknowledged)
    json.dump({"lives": lives, "acknowledged": acknowledged, "full": total.full}, sys.stdout)


async def look_back(path: Path, acknowledged: list[int]) -> None:
    store = await DiskStore.open(path, own_id=OWN_ID, settings=ROOMY)
    await check(store, acknowledged)
    await check_the_books(store)
    await store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
