"""Many nodes in one process on loopback: what a write and a read take, and what a node weighs.

What one node has written another one reads that keeps no copy of it, and every value is compared.
Then the same nodes read the same again (`reread`). No node keeps what it has read: it only knows
whom to ask, so that a second reading is a request like the first. The network is so many processes'
worth of work for one: figures are of all nodes together. It runs in a process of its own, so that
its memory is its own.

A phase in which there is nothing to do has figures that are None.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import click

from kademlia_node import Network, Node
from kademlia_node.core.identity import Identity
from kademlia_node.core.key import Key
from kademlia_node.net import loop
from kademlia_node.net.transport import Receive, Transport
from kademlia_node.net.udp import listen as listen_udp
from kademlia_node.node.receipt import Receipt
from kademlia_node.settings import Settings
from kademlia_node.store.memory import MemoryStore

HOST: Final = "127.0.0.1"
JOINING: Final = 4  # nodes at a time
JOINED_MAX_S: Final = 60.0
OPERATION_MAX_S: Final = 60.0
BARE: Final = "import asyncio, json; print(open('/proc/self/statm').read().split()[1])"

Verb = Literal["put", "set"]
Figures = dict[str, Any]


class Failed(click.ClickException):
    """The process that was to do the work ended without figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is done; sizes in bytes, `killed` a share of the nodes."""

    nodes: int = 32
    values: int = 500
    value_bytes: int = 100
    at_once: int = 16
    copies: int = 20
    verb: Verb = "put"
    killed: float = 0.0
    settle_s: float = 1.0
    walking: bool = False  # never trust what is known anyway (`Settings.ask_known_first`)
    seed: int = 1

    @property
    def deaths(self) -> int:
        """How many of the nodes die."""
        return round(self.killed * self.nodes)


def measure_network(work: Work) -> Figures:
    """Do it in a process of its own, whose complaints go to our stderr.

    Raises:
        Failed: it ended with an error.
    """
    command = [sys.executable, "-m", "scripts.benchmarks.network", json.dumps(asdict(work))]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if ran.returncode:
        raise Failed(f"the process with the nodes ended with {ran.returncode}")
    figures: Figures = json.loads(ran.stdout)
    return asdict(work) | figures


@dataclass(slots=True)
class _Peer:
    """A node, with what a benchmark may know of it and other nodes may not."""

    node: Node
    store: MemoryStore
    sockets: list[Transport] = field(default_factory=list)

    async def die(self) -> None:
        """Fall silent without a word."""
        for socket in self.sockets:
            await socket.close()

    async def counted(self, name: str) -> int:
        """What its node has counted under this name."""
        return (await self.node.status()).counters.get(name, 0)


@dataclass(slots=True)
class _Written:
    """One value, who has written it, and what came of that."""

    value: bytes
    name: str
    writer: _Peer
    reader: _Peer | None = None
    receipt: Receipt | None = None
    is_found: bool = False

    @property
    def key(self) -> Key:
        assert self.receipt is not None
        return self.receipt.key

    async def is_kept_by_reader(self) -> bool:
        """Whether its reader has been given a copy meanwhile, which it would read."""
        assert self.reader is not None
        return bool(await self.reader.store.get(self.key.digest, wall=time.time()))


# --- The network ----------------------------------------------------------------------------------


async def _grow(work: Work) -> list[_Peer]:
    rng = random.Random(work.seed)
    network = Network.open("a benchmark", copies=work.copies, puzzle_bits=0)
    settings = Settings(ask_known_first=not work.walking)
    peers = [_peer(network, settings, rng, bootstrap=[])]
    await peers[0].node.start()
    known = [str(peers[0].node.invite)]
    while len(peers) < work.nodes:
        count = min(JOINING, work.nodes - len(peers))
        joining = [_peer(network, settings, rng, bootstrap=known) for _ in range(count)]
        await asyncio.gather(*[peer.node.start() for peer in joining])
        peers += joining
    await asyncio.gather(*[_know(peer, min(work.nodes - 1, 20)) for peer in peers])
    return peers


async def _know(peer: _Peer, count: int) -> None:
    """Until it knows so many others."""
    async with asyncio.timeout(JOINED_MAX_S):
        while len(peer.node.contacts()) < count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def _peer(
    network: Network, settings: Settings, rng: random.Random, *, bootstrap: list[str]
) -> _Peer:
    identity, sockets = Identity.generate(rng), list[Transport]()
    store = MemoryStore(identity.id, settings=settings)

    async def listen(host: str, port: int, receive: Receive) -> Transport:
        sockets.append(await listen_udp(host, port, receive, settings=settings))
        return sockets[-1]

    node = Node(
        network=network,
        host=HOST,
        identity=identity,
        store=store,
        listen=listen,
        bootstrap=bootstrap,
        settings=settings,
        rng=random.Random(rng.getrandbits(64)),
    )
    return _Peer(node, store, sockets)


async def _choose_readers(
    written: Sequence[_Written], living: Sequence[_Peer], rng: random.Random
) -> None:
    """Of those who are left, one that keeps no copy; of none if all do."""
    kept = [set(await peer.store.keys(wall=time.time())) for peer in living]
    for one in written:
        strangers = [
            peer
            for peer, keys in zip(living, kept, strict=True)
            if peer is not one.writer and one.key.digest not in keys
        ]
        one.reader = rng.choice(strangers) if strangers else None


# --- The work -------------------------------------------------------------------------------------


async def _measure(work: Work, bare_mb: float) -> Figures:
    began = time.perf_counter()
    peers = await _grow(work)
    figures: Figures = {"join_s": time.perf_counter() - began}
    await asyncio.sleep(work.settle_s)
    figures["contacts_min"] = min(len(peer.node.contacts()) for peer in peers)
    rng = random.Random(work.seed)
    written = [
        _Written(rng.randbytes(work.value_bytes), f"name {number}", rng.choice(peers))
        for number in range(work.values)
    ]
    phase = partial(_phase, peers=peers, at_once=work.at_once)
    figures |= await phase("write", written, _write_as(work.verb))
    taken = [one for one in written if one.receipt is not None]
    figures["written"] = len(taken) / len(written)
    figures["copies_mean"] = _mean([len(one.receipt.replicas) for one in taken if one.receipt])
    dead = rng.sample(peers, work.deaths)
    figures["dead"] = len(dead)
    await asyncio.gather(*[peer.die() for peer in dead])
    await _choose_readers(taken, [peer for peer in peers if peer not in dead], rng)
    asked = [one for one in taken if one.reader is not None]
    if not asked:
        print(_why_nothing_is_read(taken), file=sys.stderr)
    figures |= await phase("read", asked, _read_as(work.verb))
    figures["found"] = _mean([one.is_found for one in asked])
    gc.collect()
    figures["mb_per_node"] = (_memory_mb() - bare_mb) / len(peers)
    again = [one for one in asked if not await one.is_kept_by_reader()]
    figures |= await phase("reread", again, _read_as(work.verb))
    figures["reread_found"] = _mean([one.is_found for one in again])
    await asyncio.gather(*[peer.node.stop() for peer in peers])
    return figures


def _why_nothing_is_read(taken: Sequence[_Written]) -> str:
    if not taken:
        return "nothing was written, so nothing is read: figures of reads are null"
    return "no node without a copy is left, so nothing is read: figures of reads are null"


def _write_as(verb: Verb) -> Callable[[_Written], Awaitable[object]]:
    async def put(one: _Written) -> None:
        one.receipt = await one.writer.node.put(one.value)

    async def set_(one: _Written) -> None:
        one.receipt = await one.writer.node.set(one.name, one.value, own=True)

    return {"put": put, "set": set_}[verb]


def _read_as(verb: Verb) -> Callable[[_Written], Awaitable[object]]:
    async def read(one: _Written) -> None:
        assert one.reader is not None
        one.is_found = False
        if verb == "put":
            value = await one.reader.node.get(one.key, default=None)
        else:
            author = one.writer.node.public_key
            value = await one.reader.node.get(one.name, author=author, default=None)
        one.is_found = value == one.value

    return read


async def _phase(
    name: str,
    jobs: Sequence[_Written],
    work: Callable[[_Written], Awaitable[object]],
    peers: Sequence[_Peer],
    *,
    at_once: int,
) -> Figures:
    """Do all jobs, some at once: what they took. One that fails has nothing to show, see above."""
    took_s, left, failed = list[float](), iter(jobs), 0

    async def lane() -> None:
        nonlocal failed
        for job in left:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(OPERATION_MAX_S):
                    await work(job)
            except Exception as error:  # noqa: BLE001 - it is counted as not written, not found
                failed += 1
                print(f"{name}: {error!r}", file=sys.stderr)
            took_s.append(time.perf_counter() - started)

    sent = sum([await peer.counted("datagrams_sent") for peer in peers])
    cpu_s, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*[lane() for _ in range(at_once)])
    all_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    sent = sum([await peer.counted("datagrams_sent") for peer in peers]) - sent
    figures = _costs(name, sorted(took_s), all_s=all_s, cpu_s=cpu_s, sent=sent)
    return figures | {f"{name}s_tried": len(jobs), f"{name}s_failed": failed}


def _costs(name: str, took_s: Sequence[float], *, all_s: float, cpu_s: float, sent: int) -> Figures:
    """The figures of a phase, from how long each of its jobs took, the shortest first."""
    count = len(took_s)
    names = [f"{name}{of}" for of in ("s_per_s", "_p50_ms", "_p99_ms", "_cpu_ms", "_datagrams")]
    if not count:
        return dict.fromkeys(names)
    p50_ms, p99_ms = 1000 * took_s[count // 2], 1000 * took_s[int(0.99 * count)]
    costs = [count / all_s, p50_ms, p99_ms, 1000 * cpu_s / count, sent / count]
    return dict(zip(names, costs, strict=True))


def _mean(numbers: Sequence[float]) -> float | None:
    """None of none."""
    return sum(numbers) / len(numbers) if numbers else None


def _memory_mb() -> float:
    """Resident now, of this process."""
    return _mb(int(Path("/proc/self/statm").read_text().split()[1]))


def _mb(pages: int) -> float:
    return pages * resource.getpagesize() / 1e6


def _bare_mb() -> float:
    """Resident of an interpreter that has done nothing yet."""
    ran = subprocess.run([sys.executable, "-c", BARE], capture_output=True, check=True, text=True)
    return _mb(int(ran.stdout))


if __name__ == "__main__":
    told = loop.run(_measure(Work(**json.loads(sys.argv[1])), _bare_mb()))
    print(json.dumps(told))
