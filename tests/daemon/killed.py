"""A daemon, as a process of its own, that is killed while several writers keep it busy.

`live` is one life of it: start, look for what was promised, write, SIGKILL. `Books` hold what was
promised. A write that got no answer may have happened or not; the next life shows which it was, and
so it has to stay. Refuses to know where the daemon's records are: all goes over the control socket.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Kind, blob_key, entry_key, topic_key
from kademlia_node.daemon.client import ControlClient, connected
from kademlia_node.daemon.views import Json, value_of
from kademlia_node.errors import NoDaemon, Refused
from kademlia_node.settings import INLINE_BYTES_MAX, VALUE_BYTES_MAX
from tests.daemon.running import LONG_S, NETWORK, SECRET

WRITERS = 8
SLOTS = 12  # names of each writer, and entries in its topic; they are written again and again
ACKS_MAX = 120  # of one life: some 0.3 s
KILLED_WITHIN_S = 0.010  # after the last of those: a few commits
LARGE_SHARE = 1 / 8  # of all values, that are as long as can be
UNDO_SHARE = 1 / 4  # of all writes, that withdraw or forget
OLDER_CHECKED = 30  # places in each life beside those that the life before wrote to
COMMONS = Identity.commons(NETWORK).public_key


@dataclass(frozen=True, slots=True)
class Place:
    """Where one record can be; `slot` is the name of an entry, `key` a text."""

    kind: Kind
    key: str
    slot: str = ""
    topic: str = ""


@dataclass(slots=True)
class Promise:
    """What may be the case at one place: one thing, or several after a write without an answer.

    Attributes:
        values: what may be read; None: nothing.
        listed: whether it may be among the publications.
        seq: of the last version that was acknowledged.
    """

    values: set[bytes | None] = field(default_factory=lambda: {None})
    listed: set[bool] = field(default_factory=lambda: {False})
    seq: int = 0


# --- The verbs ------------------------------------------------------------------------------------


def named(name: str) -> Place:
    return Place(Kind.ENTRY, str(entry_key(COMMONS, name.encode())), name)


def topical(topic: str, slot: str) -> Place:
    return Place(Kind.TOPIC, str(topic_key(topic.encode())), slot, topic)


async def write(client: ControlClient, place: Place, value: bytes) -> Json:
    match place.kind:
        case Kind.BLOB:
            return await client.put(value, acks=None)
        case Kind.ENTRY:
            return await client.set(place.slot, value, own=False, expect_seq=None, acks=None)
        case Kind.TOPIC:
            return await client.announce(place.topic, value, slot=place.slot, acks=None)


async def undo(client: ControlClient, place: Place) -> Json:
    match place.kind:
        case Kind.BLOB:
            return await client.forget(place.key)
        case Kind.ENTRY:
            return await client.withdraw_name(place.slot, own=False)
        case Kind.TOPIC:
            return await client.withdraw_entry(place.topic, slot=place.slot)


async def read(client: ControlClient, place: Place) -> bytes | None:
    """The value there; None if there is none."""
    if place.kind is Kind.TOPIC:
        entries = {entry["slot"]: value_of(entry) async for entry in client.find(place.topic)}
        return entries.get(place.slot)
    try:
        if place.kind is Kind.BLOB:
            return value_of(await client.get_blob(place.key))
        return value_of(await client.get_name(place.slot, author=None, own=False, reads=None))
    except Refused as error:
        if error.view["error"] == "NotFound":
            return None
        raise


# --- What was promised ----------------------------------------------------------------------------


class Books:
    """What the daemon of one folder owes its writers.

    Attributes:
        own_id: whom it has said to be; empty before the first life.
        acknowledged: how many writes.
    """

    def __init__(self) -> None:
        self.own_id = ""
        self.acknowledged = 0
        self._promises: dict[Place, Promise] = {}
        self._touched: set[Place] = set()  # in the last life

    def everywhere(self) -> list[Place]:
        return list(self._promises)

    def some(self, rng: random.Random) -> list[Place]:
        """Where the last life wrote, and a few others."""
        older = [place for place in self._promises if place not in self._touched]
        return [*self._touched, *rng.sample(older, min(len(older), OLDER_CHECKED))]

    async def write(self, client: ControlClient, place: Place, value: bytes | None) -> None:
        """One write, or with None its undoing; entered before it is sent, and as acknowledged."""
        promise = self._promises.setdefault(place, Promise())
        self._touched.add(place)
        # A blob that is forgotten is still there; what has an author and is withdrawn is not.
        forgets = place.kind is Kind.BLOB and value is None
        values, listed = promise.values if forgets else {value}, {value is not None}
        promise.values, promise.listed = promise.values | values, promise.listed | listed
        if value is None:
            answer = await undo(client, place)
        else:
            answer = await write(client, place, value)
        if "replicas" in answer:
            assert self.own_id in {replica["id"] for replica in answer["replicas"]}
            promise.seq = answer["seq"]
        promise.values, promise.listed = values, listed
        self.acknowledged += 1

    async def check(self, client: ControlClient, places: Iterable[Place]) -> None:
        """The whole list of publications, and what can be read at some places."""
        await self._check_publications(client)
        for place in places:
            promise, value = self._promises[place], await read(client, place)
            found = "nothing" if value is None else f"{len(value)} bytes"
            assert value in promise.values, f"{place}: {found}, not what was acknowledged"
            promise.values = {value}
        self._touched.clear()

    async def _check_publications(self, client: ControlClient) -> None:
        listed = {(one["key"], one["slot"]): one["seq"] async for one in client.published()}
        for place, promise in self._promises.items():
            seq = listed.pop((place.key, place.slot), None)
            is_listed = seq is not None
            assert is_listed in promise.listed, f"{place}: in the list of publications: {is_listed}"
            assert seq is None or seq >= promise.seq, f"{place}: an old version is kept alive"
            promise.listed = {is_listed}
        assert not listed, f"published by nobody: {listed}"


# --- The daemon -----------------------------------------------------------------------------------


async def live(folder: Path, books: Books, rng: random.Random) -> None:
    """Start, check what the life before was promised, write until killed."""
    async with asyncio.timeout(LONG_S), running(folder, books) as (process, client):
        await books.check(client, books.some(rng))
        left, loop = rng.randint(1, ACKS_MAX), asyncio.get_running_loop()

        def on_ack() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                # Every other time at once: what was answered too early shows best then.
                delay_s = max(0.0, rng.uniform(-KILLED_WITHIN_S, KILLED_WITHIN_S))
                loop.call_later(delay_s, process.kill)

        async with asyncio.TaskGroup() as writers:
            for number in range(WRITERS):
                own_rng = random.Random(rng.randbytes(16))
                writers.create_task(keep_writing(client, books, number, own_rng, on_ack=on_ack))
        assert await process.wait() == -signal.SIGKILL, "the daemon ended by itself"


async def look_back(folder: Path, books: Books) -> None:
    """Check all that any life was promised."""
    async with asyncio.timeout(LONG_S), running(folder, books) as (_, client):
        await books.check(client, books.everywhere())


async def keep_writing(
    client: ControlClient,
    books: Books,
    number: int,
    rng: random.Random,
    *,
    on_ack: Callable[[], None],
) -> None:
    """Write to places of our own, one after the other, until the daemon is gone."""
    blobs: list[Place] = []
    with suppress(NoDaemon):
        while True:
            place, value = next_write(number, blobs, rng)
            await books.write(client, place, value)
            on_ack()


def next_write(number: int, blobs: list[Place], rng: random.Random) -> tuple[Place, bytes | None]:
    """A place of this writer and what to write there; None: undo it. Blobs are noted as made."""
    long = rng.random() < LARGE_SHARE
    value = rng.randbytes(VALUE_BYTES_MAX if long else rng.randrange(16, INLINE_BYTES_MAX))
    kind, undoes = rng.choice(list(Kind)), rng.random() < UNDO_SHARE
    if kind is Kind.ENTRY:
        return named(f"{number}-{rng.randrange(SLOTS)}"), None if undoes else value
    if kind is Kind.TOPIC:
        return topical(f"topic {number}", str(rng.randrange(SLOTS))), None if undoes else value
    if undoes and blobs:
        return rng.choice(blobs), None
    blobs.append(Place(Kind.BLOB, str(blob_key(value))))
    return blobs[-1], value


@asynccontextmanager
async def running(folder: Path, books: Books) -> AsyncIterator[tuple[Process, ControlClient]]:
    """The daemon of this folder, which is still itself; killed in the end if it lives still."""
    process = await start(folder)
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        assert line, f"it did not start: {(folder / 'log').read_text()}"
        assert not aside(folder), f"a store that was sound is set aside: {aside(folder)}"
        ready = json.loads(line)
        assert ready["id"] == (books.own_id or ready["id"])
        books.own_id = ready["id"]
        async with connected(Path(ready["control"])) as client:
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def start(folder: Path, *options: str) -> Process:
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET.hex())
    command = [sys.executable, "-m", "kademlia_node", "run", "--folder", str(folder)]
    command += ["--host", "127.0.0.1", "--network", NETWORK.name, "--secret-file", str(secret)]
    command += options
    with (folder / "log").open("wb") as log:
        return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=log)


def aside(folder: Path) -> list[Path]:
    """Stores that were found damaged."""
    return list(folder.glob("store.db.corrupt-*"))
