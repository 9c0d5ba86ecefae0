"""How long until a daemon can be asked, and what importing the package adds to a bare interpreter.

The daemon starts in a folder where it has run before, so it has its key, on loopback, in a private
network, where it knows nobody; a first start, which is not counted, makes the key and the store. It
is there when its control socket answers `status` for the first time. Byte code of modules is kept,
as it is where the package has been installed.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kademlia_node.cli.options import ENVIRONMENT, SECRET_VARIABLE
from kademlia_node.daemon.client import connected
from kademlia_node.errors import NoDaemon
from kademlia_node.net import loop
from scripts.benchmarks.timing import Figures, spread

SECRET: Final = bytes(range(32))
LOOK_S: Final = 0.002  # between two attempts to reach it
START_MAX_S: Final = 60.0


def measure_start(folder: Path, *, rounds: int) -> Figures:
    """Milliseconds; `answers` is how many of the daemons said that they were who they had been."""
    variables = _variables(folder)
    first, _ = _started(folder, variables)
    starts, bare_ms, import_ms = [], [], []
    for _ in range(rounds):
        starts.append(_started(folder, variables))
        bare_ms.append(_interpreter_ms("pass", variables))
        import_ms.append(_interpreter_ms("import kademlia_node", variables) - bare_ms[-1])
    return {
        "rounds": rounds,
        "answers": sum(status["id"] == first["id"] for status, _ in starts),
        "daemon_ms": spread([took_ms for _, took_ms in starts]),
        "import_ms": spread(import_ms),
        "bare_interpreter_ms": spread(bare_ms),
    }


def _variables(folder: Path) -> dict[str, str]:
    """Our environment, without what would change a daemon; byte code is kept in the folder."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith((ENVIRONMENT, "PYTHON"))}
    return ours | {SECRET_VARIABLE: SECRET.hex(), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def _started(folder: Path, variables: dict[str, str]) -> tuple[Figures, float]:
    """What a daemon says first, and after how many milliseconds; then it is stopped."""
    began = time.perf_counter()
    with _daemon(folder, variables) as process:
        status, at = loop.run(_first_status(folder / "control.sock", process))
    return status, 1000 * (at - began)


async def _first_status(socket: Path, process: subprocess.Popen[bytes]) -> tuple[Figures, float]:
    async with connected(socket) as daemon, asyncio.timeout(START_MAX_S):
        while True:
            try:
                status: dict[str, Any] = await daemon.status()
            except NoDaemon:
                if process.poll() is not None:
                    raise SystemExit(f"the daemon ended with {process.returncode}") from None
                await asyncio.sleep(LOOK_S)
            else:
                return status, time.perf_counter()


@contextmanager
def _daemon(folder: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    options = ("--folder", str(folder), "--host", "127.0.0.1", "--no-lan", "--log-level", "error")
    with subprocess.Popen(
        [sys.executable, "-m", "kademlia_node", "run", *options],
        env=variables,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
            process.terminate()
            process.wait()
        finally:
            process.kill()


def _interpreter_ms(program: str, variables: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=variables)
    return 1000 * (time.perf_counter() - began)
