from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.commands import done, failed, in_json, kad
from tests.daemon.running import QUICK, daemon

pytestmark = pytest.mark.net


def tamper(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


async def test_it_is_made_verified_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the daemon is not told where: the path goes there in full
    async with daemon(tmp_path / "a"):
        await done("set", "colour", "blue", "--folder", "a")
        created = await done("backup", "create", "b.db", "--folder", "a")
    assert "records\t1\n" in created
    assert await done("backup", "verify", "b.db") == created
    async with daemon(tmp_path / "b"):
        assert "restored\t1\n" in await done("backup", "restore", "b.db", "--folder", "b")
        assert await done("get", "colour", "--folder", "b") == "blue"


async def test_in_json_it_is_the_report(tmp_path: Path) -> None:
    folder, file = ("--folder", str(tmp_path / "a")), str(tmp_path / "b.db")
    async with daemon(tmp_path / "a"):
        created = await in_json("backup", "create", file, *folder)
        assert await in_json("backup", "verify", file) == created
        assert created["records"] == 0
        assert len(created["hash"]) == 64
        assert (await in_json("backup", "restore", file, *folder))["refused"] == {}


async def test_what_is_doubtful_is_exit_code_1(tmp_path: Path) -> None:
    folder, file = ("--folder", str(tmp_path / "a")), str(tmp_path / "b.db")
    async with daemon(tmp_path / "a"):
        await done("set", "colour", "blue", *folder)
        await done("backup", "create", file, *folder)
        tamper(tmp_path / "b.db", "UPDATE record SET value = CAST('grey' AS BLOB)")
        verified = await kad("backup", "verify", file)
        restored = await kad("backup", "restore", file, *folder, "--json")
    assert (verified.exit_code, restored.exit_code) == (1, 1)
    assert "refused wrong_value\t1\n" in verified.stdout
    assert "differs\thash\n" in verified.stdout
    assert "not what it says of itself: hash" in verified.stderr
    assert json.loads(restored.stdout)["refused"] == {"wrong_value": 1}
    assert "1 record" in restored.stderr


async def test_what_the_store_has_no_room_for_is_exit_code_1(tmp_path: Path) -> None:
    folder, file = ("--folder", str(tmp_path / "a")), str(tmp_path / "b.db")
    async with daemon(tmp_path / "a"):
        await done("put", "--text", "v", *folder)
        await done("backup", "create", file, *folder)
    full = replace(QUICK, store_bytes_max=0)
    async with daemon(tmp_path / "b", settings=full):
        result = await kad("backup", "restore", file, "--folder", str(tmp_path / "b"))
    assert result.exit_code == 1
    assert "over_quota\t1\n" in result.stdout
    assert "the store is full: 1 record" in result.stderr


async def test_what_another_key_wrote_is_told_and_no_fault(tmp_path: Path) -> None:
    a, b = ("--folder", str(tmp_path / "a")), ("--folder", str(tmp_path / "b"))
    file = str(tmp_path / "b.db")
    async with daemon(tmp_path / "a"):
        await done("set", "colour", "blue", "--own", *a)
        await done("backup", "create", file, *a)
        ours = await kad("backup", "restore", file, *a)
    async with daemon(tmp_path / "b"):
        result = await kad("backup", "restore", file, *b)
    assert (ours.exit_code, ours.stderr) == (0, "")
    assert "not_ours\t0\n" in ours.stdout
    assert result.exit_code == 0
    assert "not_ours\t1\n" in result.stdout
    assert "will not renew it: 1 publication;" in result.stderr


async def test_what_does_not_work_is_one_line(tmp_path: Path) -> None:
    folder, file = ("--folder", str(tmp_path / "a")), str(tmp_path / "b.db")
    assert "no daemon answers" in await failed("backup", "create", file, *folder, code=3)
    assert "no daemon answers" in await failed("backup", "restore", file, *folder, code=3)
    assert "no such file" in await failed("backup", "verify", file, code=2)
    async with daemon(tmp_path / "a"):
        await done("backup", "create", file, *folder)
        assert "exists" in await failed("backup", "create", file, *folder, code=2)
        missing = str(tmp_path / "missing.db")
        assert "no such file" in await failed("backup", "restore", missing, *folder, code=2)
    assert "backup --help" in await failed("backup", code=2)
    assert "backup create --help" in await failed("backup", "create", code=2)


async def test_the_help_says_what_is_not_in_it() -> None:
    for arguments in (("backup", "--help"), ("backup", "create", "--help")):
        assert "secret key" in " ".join((await done(*arguments)).split())
