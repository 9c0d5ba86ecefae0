"""Processes that share: the command `file_index share`, started, watched and ended by its PID."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from examples.file_index.ledger import open_ledger
from kademlia_node import Network, read_secret
from kademlia_node.core.invite import parse_invite
from scripts._demo import COPIES, START_TIMEOUT_S

NETWORK_NAME: Final = "demo"
LOOK_S: Final = 0.5


@dataclass(slots=True, eq=False)
class Sharer:
    """One process of ours that shares folders; `home` holds its state."""

    number: int
    home: Path
    folders: list[Path]
    secret: Path
    bootstrap: str
    lease_s: int
    files: int = 0
    invite: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    silent_since: float = 0.0

    @property
    def author(self) -> bytes:
        """By which key it is known to those who search."""
        key = parse_invite(self.invite).public_key
        assert key is not None
        return key

    @property
    def state(self) -> Path:
        """What it keeps on disk."""
        return self.home / "state"

    async def start(self) -> None:
        """Until it has said where it is reached."""
        self.home.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "examples.file_index", "share", *map(str, self.folders)]
        command += ["--yes", "--folder", str(self.state), "--lease", str(self.lease_s)]
        command += ["--network", NETWORK_NAME, "--copies", str(COPIES), "--host", "127.0.0.1"]
        command += ["--secret-file", str(self.secret), "--bootstrap", self.bootstrap]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)  # noqa: ASYNC220 - it ends with us
        assert self.process.stdout is not None
        line = await asyncio.wait_for(
            asyncio.to_thread(self.process.stdout.readline), START_TIMEOUT_S
        )
        if not line:
            raise click.ClickException((self.home / "log").read_text().strip())
        self.invite = line.decode().strip()

    def end(self, how: signal.Signals) -> None:
        """Send a signal and wait until the process is gone."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.communicate(timeout=START_TIMEOUT_S)
            self.process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """For a moment it does nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    async def announced(self, *, within_s: float) -> int:
        """Wait until all it has is announced; returns how many entries that are."""
        until = time.monotonic() + within_s
        while True:
            facts = self.facts()
            is_done = facts.get("invite") == self.invite and not facts.get("trouble")
            if is_done and facts["announced"] >= self.files:
                return int(facts["entries"])
            if time.monotonic() > until or self.process is None or self.process.poll() is not None:
                raise click.ClickException(f"sharer {self.number} has not announced all: {facts}")
            await asyncio.sleep(LOOK_S)

    def facts(self) -> dict[str, Any]:
        """What it says of itself, as `file_index status` shows it."""
        with open_ledger(self.state) as ledger:
            return {"announced": ledger.count()[2], **ledger.facts()}

    def let_time_pass(self) -> int:
        """While it is stopped: everything it publishes is due for renewal. Returns how much."""
        assert self.process is None
        with closing(sqlite3.connect(self.state / "store.db", isolation_level=None)) as connection:
            due = connection.execute("UPDATE publication SET renew_at = ?", (time.time(),))
            return due.rowcount


def network_of(secret: Path) -> Network:
    """The network in which all this happens."""
    return Network.private(read_secret(secret), name=NETWORK_NAME, copies=COPIES)


@contextmanager
def ending(sharers: list[Sharer]) -> Iterator[None]:
    """Afterwards none of these runs any more."""
    try:
        yield
    finally:
        for sharer in sharers:
            sharer.end(signal.SIGKILL)
