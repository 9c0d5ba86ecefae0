"""Commands against two daemons that know each other, in the loop of a test."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from kademlia_node.cli.main import main
from tests.daemon.running import SECRET

ENVIRONMENT = {"KADEMLIA_NODE_SECRET": SECRET.hex()}


async def kad(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
    """Run one command in a thread, while the daemons run in the test's own loop."""
    runner = CliRunner(env=ENVIRONMENT if env is None else env)
    result = await asyncio.to_thread(runner.invoke, main, arguments, input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


async def done(*arguments: str, stdin: bytes = b"") -> str:
    result = await kad(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


async def in_json(*arguments: str, stdin: bytes = b"") -> Any:
    return json.loads(await done(*arguments, "--json", stdin=stdin))


async def failed(*arguments: str, code: int, env: dict[str, str] | None = None) -> str:
    """What a command that must fail says: one line on stderr, and nothing on stdout."""
    result = await kad(*arguments, env=env)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.startswith("kademlia-node: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


class Two:
    """Two daemons that know each other. `a` and `b` are how a verb reaches each."""

    def __init__(self, folders: Path, ready: list[dict[str, Any]]) -> None:
        self.ready = ready
        self.a, self.b = (("--folder", str(folders / name)) for name in "ab")
        self.address, self.address_b = (one["address"] for one in ready)
