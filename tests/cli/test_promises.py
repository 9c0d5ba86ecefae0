from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kademlia_node.core.network import Network
from kademlia_node.daemon.views import Json, value_of
from kademlia_node.settings import VALUE_BYTES_MAX
from tests.cli.commands import Two, done, failed, in_json, kad
from tests.daemon.running import SECRET, daemon, through

pytestmark = pytest.mark.net


@asynccontextmanager
async def four(folders: Path) -> AsyncIterator[tuple[Json, list[tuple[str, str]]]]:
    """Daemons that keep 3 copies: what the first one said, and how a verb reaches each."""
    network, paths = Network.private(SECRET, copies=3), [folders / name for name in "abcd"]
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(daemon(paths[0], network=network))
        for path in paths[1:]:
            await stack.enter_async_context(daemon(path, network=network, bootstrap=through(first)))
        yield first, [("--folder", str(path)) for path in paths]


# --- Large values ---------------------------------------------------------------------------------


async def test_a_value_may_be_as_long_as_a_record_may(
    two: Two, way: tuple[str, ...], tmp_path: Path
) -> None:
    value = random.Random(1).randbytes(VALUE_BYTES_MAX)
    file = tmp_path / "file"
    file.write_bytes(value)
    key = (await done("put", str(file), *way)).strip()
    assert (await kad("get", key, *two.a)).stdout_bytes == value
    assert (await kad("get", key, *way)).stdout_bytes == value
    await done("set", "n", "-", *way, stdin=value)
    assert (await kad("get", "n", *two.a)).stdout_bytes == value
    await done("announce", "t", "-", *way, stdin=value)
    assert value_of(await in_json("find", "t", *two.a)) == value


async def test_a_long_value_is_with_all_its_holders_when_a_joining_put_returns(
    tmp_path: Path,
) -> None:
    async with four(tmp_path) as (first, folders):
        join = ("--bootstrap", first["address"], "--copies", "3")
        receipt = await in_json("put", "-", *join, stdin=bytes(VALUE_BYTES_MAX))
        assert len(receipt["replicas"]) >= 3
        held = [(await in_json("status", *folder))["stored_bytes"] for folder in folders]
        assert sum(size >= VALUE_BYTES_MAX for size in held) >= 3


# --- What the caller is promised ------------------------------------------------------------------


async def test_a_write_is_done_when_so_many_have_it(two: Two, way: tuple[str, ...]) -> None:
    for verb in (["put", "--text", "x"], ["set", "n", "v"], ["announce", "t", "v"]):
        assert len((await in_json(*verb, "--acks", "2", *way))["replicas"]) == 2
    assert await done("get", "n", "--reads", "2", *way) == "v"


async def test_a_write_tells_how_long_it_is_to_live(two: Two, way: tuple[str, ...]) -> None:
    def lives_s(receipt: Any) -> float:
        return float(receipt["expires"] - time.time())

    for verb in (["put", "--text", "x"], ["set", "n", "v"], ["announce", "t", "v"]):
        assert 590 < lives_s(await in_json(*verb, "--ttl", "600", *way)) <= 600
    for place in (["n"], ["--topic", "t"]):
        assert 290 < lives_s(await in_json("withdraw", *place, "--ttl", "300", *way)) <= 600
    if way == two.b:
        kept = [json.loads(line) for line in (await done("published", "--json", *way)).splitlines()]
        assert [one["ttl_s"] for one in kept if one["kind"] == "blob"] == [600]


async def test_a_reader_chooses_how_many_holders_must_agree(tmp_path: Path) -> None:
    async with four(tmp_path) as (_, folders):

        async def requests_of_a_read(*options: str) -> float:
            await done("get", "n", *options, *folders[0])
            cost = (await in_json("status", *folders[0]))["operations"]["get"]
            total: float = cost["count"] * cost["requests_each"]
            return total

        await done("set", "n", "v", *folders[0])
        one = await requests_of_a_read("--reads", "1")
        both = await requests_of_a_read("--reads", "3")
        assert both - one > one


async def test_what_too_few_took_exits_with_1_and_says_who_has_it(
    two: Two, way: tuple[str, ...]
) -> None:
    for verb in (["put", "--text", "x"], ["set", "n", "v"], ["announce", "t", "v"]):
        assert "fewer than 3 acknowledged it" in await failed(*verb, "--acks", "3", *way, code=1)
    result = await kad("set", "n", "w", "--acks", "3", "--json", *way)
    assert result.exit_code == 1
    view = json.loads(result.stdout)
    assert (view["error"], len(view["receipt"]["replicas"])) == ("PartlyStored", 2)
    assert await done("get", "n", *two.a) == "w"


# --- What is kept alive ---------------------------------------------------------------------------


async def test_what_a_daemon_keeps_alive_is_listed(two: Two) -> None:
    assert await done("published", *two.a) == ""
    blob = (await done("put", "--text", "x", *two.a)).strip()
    entry = await in_json("set", "colour", "blue", *two.a)
    topic = (await done("announce", "t", "value", "--slot", "s", *two.a)).strip()
    rows = [line.split("\t") for line in (await done("published", *two.a)).splitlines()]
    assert sorted(row[:3] + row[4:5] for row in rows) == [
        ["blob", blob, "", "1"],
        ["entry", entry["key"], "colour", "4"],
        ["topic", topic, "s", "5"],
    ]
    lines = (await done("published", "--json", *two.a)).splitlines()
    named = next(one for one in map(json.loads, lines) if one["kind"] == "entry")
    assert (named["seq"], named["expires"]) == (entry["seq"], entry["expires"])
    assert named["renew_at"] < named["expires"]
    await done("withdraw", "colour", *two.a)
    assert len((await done("published", *two.a)).splitlines()) == 2


async def test_a_forgotten_blob_is_kept_alive_no_longer(two: Two) -> None:
    key = (await done("put", "--text", "x", *two.a)).strip()
    assert await done("forget", key, *two.a) == ""
    assert await done("published", *two.a) == ""
    assert await done("get", key, *two.b) == "x"  # until it expires
    assert "not kept alive" in await failed("forget", key, *two.a, code=1)
    await done("put", "--text", "x", *two.a)
    assert await in_json("forget", key, *two.a) == {"key": key, "forgotten": True}


# --- What it costs --------------------------------------------------------------------------------


async def test_what_an_operation_costs_is_shown(two: Two) -> None:
    await done("put", "--text", "x", *two.a)
    assert (await in_json("status", *two.a))["operations"]["put"]["count"] == 1
    status = dict(line.split("\t") for line in (await done("status", *two.a)).splitlines())
    assert status["operation put"].startswith("1, each ")
    assert not [field for field in status if field.startswith("counter operation")]
    result = await kad("trace", "colour", *two.a)
    assert "; 1 request, 1 round trip; nearest: " in result.stderr
