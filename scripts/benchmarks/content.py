"""A content drawn from three processes by a fourth, over real sockets that lose datagrams.

When a third of it is there one holder is killed, at half the reader is; a new reader goes on where
that one was. The file that comes out has to be the one that went in.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kademlia_node import Network, Node
from kademlia_node.core.contact import Address
from kademlia_node.core.key import Key
from kademlia_node.net import loop
from kademlia_node.net.transport import Listen, OnRefused, Receive, Transport, ignore_refusal
from kademlia_node.net.udp import listen as listen_udp
from kademlia_node.node.download import part_of
from kademlia_node.node.files import SharedFiles
from kademlia_node.settings import Settings

NETWORK = Network.private(b"a benchmark keeps to its own net", copies=3)
LOOK_S = 0.02  # between two looks at how far it is
Figures = dict[str, Any]


def measure_content(folder: Path, *, size: int, loss: float) -> Figures:
    """Make a file, share it in three processes, fetch it in a fourth."""
    source, target = folder / "source", folder / "target"
    rng = random.Random(1)
    with source.open("wb") as file:
        for start in range(0, size, 2**20):
            file.write(rng.randbytes(min(2**20, size - start)))
    with _process("hold", source, loss) as first:
        known = json.loads(_line(first))
        more = ("hold", source, loss, known["invite"])
        with _process(*more) as second, _process(*more) as third:
            for holder in (second, third):
                _line(holder)
            return _fetch_twice([first, second, third], target, loss, known) | {
                "size_mb": size / 1e6,
                "loss": loss,
                "hash_equal": _hash(source) == _hash(target),
            }


def _fetch_twice(
    holders: list[subprocess.Popen[str]], target: Path, loss: float, known: Figures
) -> Figures:
    part = part_of(target, bytes.fromhex(known["manifest"]))
    size = known["size"]
    started = time.perf_counter()
    with _process("fetch", target, loss, known["invite"], known["key"]) as reader:
        _wait_for(part, size // 3, reader)
        holders[-1].kill()
        _wait_for(part, size // 2, reader)
        cpu_s = _cpu_s(reader)
        reader.kill()
    kept = part.stat().st_size
    with _process("fetch", target, loss, known["invite"], known["key"]) as reader:
        told = json.loads(_line(reader))
    took_s = time.perf_counter() - started
    return {
        "mb_per_s": size / 1e6 / took_s,
        "took_s": took_s,
        "reader_cpu_s": cpu_s + told["cpu_s"],
        "holders_cpu_s": sum(_cpu_s(holder) for holder in holders[:-1]),
        "file_mb_when_killed": kept / 1e6,
        "pieces_fetched_after_it": told["pieces"],
        "pieces": known["pieces"],
    }


def _wait_for(part: Path, size: int, reader: subprocess.Popen[str]) -> None:
    """Until so many bytes are on the disk; pieces come nearly in order."""
    while not part.exists() or part.stat().st_blocks * 512 < size:
        if reader.poll() is not None:
            raise SystemExit(f"the reader ended with {reader.returncode}")
        time.sleep(LOOK_S)


def _cpu_s(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """One of the processes below; it is killed when the block ends."""
    command = [sys.executable, __file__, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


# --- In the processes -----------------------------------------------------------------------------


class _Lossy:
    """A transport that loses some of what it is given to send."""

    def __init__(self, transport: Transport, *, loss: float, rng: random.Random) -> None:
        self._transport = transport
        self._loss = loss
        self._rng = rng
        self.address = transport.address
        self.close = transport.close
        self.on_refused: OnRefused = ignore_refusal

    def send(self, datagram: bytes, address: Address) -> None:
        """Or do not."""
        if self._rng.random() >= self._loss:
            self._transport.send(datagram, address)


def _listen_lossy(loss: float) -> Listen:
    async def listen(host: str, port: int, receive: Receive) -> Transport:
        transport = await listen_udp(host, port, receive, settings=Settings())
        return _Lossy(transport, loss=loss, rng=random.Random(os.getpid()))

    return listen


async def _hold(source: Path, loss: float, *bootstrap: str) -> None:
    files = SharedFiles()
    manifest = await files.add(source)
    async with Node(
        network=NETWORK,
        host="127.0.0.1",
        bootstrap=bootstrap,
        content=files,
        listen=_listen_lossy(loss),
    ) as node:
        receipt = await node.provide(manifest)
        ready = {
            "invite": str(node.invite),
            "key": str(receipt.key),
            "manifest": manifest.hash.hex(),
            "size": manifest.length,
            "pieces": len(manifest.pieces),
        }
        print(json.dumps(ready), flush=True)
        await asyncio.Event().wait()


async def _fetch(target: Path, loss: float, invite: str, key: str) -> None:
    async with Node(
        network=NETWORK, host="127.0.0.1", bootstrap=[invite], listen=_listen_lossy(loss)
    ) as node:
        await node.fetch(Key.parse(key), target)
        pieces = (await node.status()).counters.get("pieces_fetched", 0)
        print(json.dumps({"cpu_s": time.process_time(), "pieces": pieces}), flush=True)


if __name__ == "__main__":
    role, path, share, *rest = sys.argv[1:]
    loop.run((_hold if role == "hold" else _fetch)(Path(path), float(share), *rest))
