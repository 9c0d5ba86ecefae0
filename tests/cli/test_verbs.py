from __future__ import annotations

import asyncio
import json
import random
import socket
from pathlib import Path

import pytest

from kademlia_node.core.identity import Identity
from kademlia_node.core.invite import key_text
from kademlia_node.core.key import blob_key, topic_key
from kademlia_node.core.network import Network
from kademlia_node.daemon.folder import Folder
from kademlia_node.settings import VALUE_BYTES_MAX
from tests.cli.commands import ENVIRONMENT, Two, done, failed, in_json, kad
from tests.daemon.running import SECRET, daemon, silent_port, through

pytestmark = pytest.mark.net

ODD = ["", ".", "..", "a/b", "//", "?", "#", "%2F", "{name}", "line\nend", "naïve ☃", " ", "&own=1"]


# --- Writing and reading, either way --------------------------------------------------------------


async def test_what_is_set_one_way_is_got_another(two: Two, way: tuple[str, ...]) -> None:
    key = await done("set", "colour", "blue", *way)
    assert key.startswith("entry-")
    assert await done("get", "colour", *two.a) == "blue"
    await done("set", "colour", "red", *two.a)
    assert await done("get", "colour", *way) == "red"


async def test_a_blob_is_got_by_its_key_byte_for_byte(
    two: Two, way: tuple[str, ...], tmp_path: Path
) -> None:
    value = b"\x00\xff\r\n\n"
    file = tmp_path / "file"
    file.write_bytes(value)
    key = (await done("put", str(file), *way)).strip()
    assert key == str(blob_key(value))
    assert (await kad("get", key, *two.a)).stdout_bytes == value
    assert await done("get", key, "-o", str(tmp_path / "copy"), *way) == ""
    assert (tmp_path / "copy").read_bytes() == value


async def test_values_come_from_stdin_too(way: tuple[str, ...]) -> None:
    assert (await done("put", "-", *way, stdin=b"piped")).strip() == str(blob_key(b"piped"))
    assert (await done("put", "--text", "typed", *way)).strip() == str(blob_key(b"typed"))
    await done("set", "n", "-", *way, stdin=b"piped too")
    assert await done("get", "n", *way) == "piped too"


async def test_announcements_of_different_authors_stand_side_by_side(
    two: Two, way: tuple[str, ...]
) -> None:
    await done("announce", "t", "by a", *two.a)
    await done("announce", "t", "one", "--slot", "1", *way)
    await done("announce", "t", "two", "--slot", "2", *way)
    assert sorted((await done("find", "t", *two.a)).splitlines()) == ["by a", "one", "two"]
    await done("withdraw", "--topic", "t", "--slot", "1", *way)
    assert sorted((await done("find", "t", *way)).splitlines()) == ["by a", "two"]


async def test_what_is_watched_is_shown(two: Two, way: tuple[str, ...]) -> None:
    await done("announce", "t", "one", *two.a)
    await done("announce", "t", "two", *two.b)
    await done("set", "colour", "blue", *two.a)
    shown = await done("watch", "--topic", "t", "--count", "2", "--json", *way)
    changes = [json.loads(line) for line in shown.splitlines()]
    told = {(change["kind"], change["text"]) for change in changes}
    assert told == {("set", "one"), ("set", "two")}
    assert await done("watch", "colour", "--count", "1", *way) == "blue\n"


@pytest.mark.parametrize("wrong", [(), ("a", "--topic", "t"), ("--topic", "t", "--own")])
async def test_one_thing_is_watched_at_a_time(two: Two, wrong: tuple[str, ...]) -> None:
    await failed("watch", *wrong, *two.a, code=2)


async def test_a_withdrawn_name_is_gone(two: Two, way: tuple[str, ...]) -> None:
    await done("set", "colour", "blue", *two.a)
    await done("withdraw", "colour", *way)
    said = await failed("get", "colour", *two.a, code=1)
    assert "colour was withdrawn by its author" in said


async def test_what_is_written_as_oneself_is_read_by_author(
    two: Two, way: tuple[str, ...], tmp_path: Path
) -> None:
    await done("set", "colour", "mine", "--own", *way)
    await failed("get", "colour", *two.a, code=1)
    assert await done("get", "colour", "--own", *way) == "mine"
    held = await in_json("trace", "colour", "--own", *way)
    assert "value" in {step["outcome"] for step in held["steps"]}
    folder = way[-1]
    author = (await in_json("id", "--folder", folder))["public_key"]
    assert await done("get", "colour", "--author", author, *two.a) == "mine"


async def test_pings_and_traces_say_how_long_and_whom(two: Two, way: tuple[str, ...]) -> None:
    assert (await done("ping", two.address, *way)).endswith(" ms\n")
    await done("set", "colour", "blue", *two.a)
    lines = (await done("trace", "colour", *way)).splitlines()
    assert any(two.address in line.split("\t") for line in lines)


async def test_misses_and_silence_exit_with_1(way: tuple[str, ...]) -> None:
    await failed("get", "nothing", *way, code=1)
    await failed("get", str(blob_key(b"nobody has it")), *way, code=1)
    assert "nothing is announced under 'nothing'" in await failed("find", "nothing", *way, code=1)


async def test_a_silent_peer_exits_with_1(two: Two) -> None:
    assert "nobody answers" in await failed("ping", f"127.0.0.1:{silent_port()}", *two.a, code=1)


@pytest.mark.parametrize("odd", ODD)
async def test_any_text_can_be_a_name_a_topic_and_a_slot(two: Two, odd: str) -> None:
    await done("set", "--own", *two.a, "--", odd, odd)
    await done("announce", "--slot", odd, *two.a, "--", odd, odd)
    author = (await in_json("id", *two.a))["public_key"]
    record = await in_json("get", "--author", author, *two.b, odd)
    assert (record["slot"], record["text"]) == (odd, odd)
    entry = await in_json("find", *two.b, odd)
    assert (entry["slot"], entry["text"]) == (odd, odd)
    assert (await in_json("trace", *two.b, odd))["steps"]
    await done("withdraw", "--own", *two.a, odd)
    await done("withdraw", "--topic", odd, "--slot", odd, *two.a)
    await failed("find", *two.b, odd, code=1)


# --- In JSON --------------------------------------------------------------------------------------


async def test_every_verb_speaks_json(two: Two, way: tuple[str, ...]) -> None:
    assert len((await in_json("put", "--text", "x", *way))["replicas"]) == 2
    assert (await in_json("set", "n", "v", *way))["seq"] > 0
    assert (await in_json("announce", "t", "v", *way))["key"].startswith("topic-")
    assert (await in_json("get", "n", *way))["text"] == "v"
    assert (await in_json("find", "t", *way))["text"] == "v"
    assert (await in_json("ping", two.address, *way))["peer"] == two.address
    trace = await in_json("trace", "n", *way)
    assert {contact["address"] for contact in trace["closest"]} <= {two.address, two.address_b}
    assert (await in_json("withdraw", "n", *way))["key"].startswith("entry-")
    assert (await in_json("status", *way))["network"] == "private"
    assert two.address in {peer["address"] for peer in await in_json("peers", *way)}
    assert (await in_json("id", *two.a))["invite"] == two.ready[0]["invite"]


async def test_an_error_is_json_as_well(way: tuple[str, ...]) -> None:
    result = await kad("get", "nothing", "--json", *way)
    assert result.exit_code == 1
    view = json.loads(result.stdout)
    assert (view["error"], view["trace"]["target"] != "") == ("NotFound", True)
    assert result.stderr.count("\n") == 1


async def test_a_lost_update_shows_the_current_value(way: tuple[str, ...]) -> None:
    seq = (await in_json("set", "n", "first", "--expect-seq", "0", *way))["seq"]
    result = await kad("set", "n", "second", "--expect-seq", "0", "--json", *way)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["current"]["text"] == "first"
    await done("set", "n", "second", "--expect-seq", str(seq), *way)


# --- About the node -------------------------------------------------------------------------------


async def test_status_peers_and_id_are_lines_of_fields(two: Two) -> None:
    status = dict(line.split("\t") for line in (await done("status", *two.a)).splitlines())
    assert (status["peers"], status["joined"], status["role"]) == ("1", "yes", "server")
    assert (await done("peers", *two.a)).split("\t")[1].strip() == two.ready[1]["invite"]
    assert (await done("id", *two.a)).strip() == two.ready[0]["invite"]


async def test_a_silent_bootstrap_stands_in_the_status(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{silent_port()}"
    async with daemon(tmp_path, bootstrap=through({"address": nowhere})):
        lines = (await done("status", "--folder", str(tmp_path))).splitlines()
    assert any(line.startswith(f"unreachable\t{nowhere}") for line in lines)


async def test_without_a_daemon_the_key_file_says_who_we_are(tmp_path: Path) -> None:
    identity = Identity.generate(random.Random(1))
    Folder(tmp_path).write_key(identity)
    result = await kad("id", "--folder", str(tmp_path))
    assert result.stdout.strip() == key_text(identity.public_key)
    assert "no daemon runs" in result.stderr
    assert (await in_json("id", "--folder", str(tmp_path)))["invite"] is None


async def test_a_trace_takes_keys_ids_and_names(two: Two) -> None:
    node_id = two.ready[1]["id"]
    assert (await in_json("trace", node_id, *two.a))["target"] == node_id
    key = blob_key(b"x")
    assert (await in_json("trace", str(key), *two.a))["target"] == key.digest.hex()
    invite = two.ready[1]["invite"]
    assert (await in_json("trace", invite, *two.a))["target"] == node_id


async def test_a_trace_shows_who_holds_a_key_or_a_name(two: Two) -> None:
    key = (await done("put", "--text", "x", *two.a)).strip()
    await done("set", "colour", "blue", *two.a)
    for target in (key, "colour"):
        steps = (await in_json("trace", target, *two.a))["steps"]
        assert [(s["address"], s["outcome"]) for s in steps] == [(two.address_b, "value")]


async def test_an_author_may_be_given_by_the_invite(two: Two) -> None:
    await done("set", "colour", "mine", "--own", *two.a)
    assert await done("get", "colour", "--author", two.ready[0]["invite"], *two.b) == "mine"


@pytest.mark.parametrize("verb", [[], ["get"], ["run"]])
async def test_help_has_a_short_name(verb: list[str]) -> None:
    assert await done(*verb, "-h") == await done(*verb, "--help")


# --- Nobody to ask --------------------------------------------------------------------------------


async def test_without_a_daemon_every_verb_exits_with_3(tmp_path: Path) -> None:
    folder = ("--folder", str(tmp_path))
    for verb in (["status"], ["get", "n"], ["published"], ["put", "--text", "x"], ["id"]):
        assert "no daemon answers" in await failed(*verb, *folder, code=3)


async def test_a_daemon_that_goes_away_in_the_middle_is_none(tmp_path: Path) -> None:
    path = tmp_path / "rude.sock"

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(hang_up, path):
        assert "went away" in await failed("get", "n", "--control", str(path), code=3)


async def test_a_bootstrap_that_does_not_answer_is_nobody_to_ask(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{silent_port()}"
    assert nowhere in await failed("get", "n", "--bootstrap", nowhere, code=3)


async def test_what_is_too_long_for_a_url_is_refused_in_one_line(two: Two) -> None:
    assert "the daemon refused" in await failed("find", "t" * 10_000, *two.a, code=2)


# --- Bad usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing command"),
        (["--bad"], "No such option"),
        (["frobnicate"], "No such command"),
        (["get"], "Missing argument"),
        (["put"], "either FILE or --text"),
        (["put", "/dev/null", "--text", "x"], "either FILE or --text"),
        (["put", "/no/such/file"], "No such file"),
        (["put", "/"], "directory"),
        (["put", "--text", "x" * (VALUE_BYTES_MAX + 1)], "bytes"),
        (["put", "/dev/zero"], f"at most {VALUE_BYTES_MAX} bytes"),
        (["put", "/proc/self/mem"], "cannot read"),
        (["withdraw"], "either NAME or --topic"),
        (["withdraw", "n", "--topic", "t"], "either NAME or --topic"),
        (["withdraw", "n", "--slot", "s"], "--slot goes with --topic"),
        (["withdraw", "--topic", "t", "--own"], "--own goes with NAME"),
        (["withdraw", str(blob_key(b"x"))], "a blob cannot be set or withdrawn"),
        (["withdraw", str(blob_key(b"x"))], "kademlia-node forget"),
        (["forget", str(topic_key(b"x"))], "what has an author is withdrawn"),
        (["forget", "colour"], "is no key"),
        (["put", "--text", "x", "--acks", "0"], "--acks"),
        (["set", "n", "v", "--acks", "61"], "--acks"),
        (["announce", "t", "v", "--acks", "x"], "--acks"),
        (["put", "--text", "x", "--ttl", "239"], "--ttl"),
        (["set", "n", "v", "--ttl", "172801"], "--ttl"),
        (["announce", "t", "v", "--ttl", "5m"], "--ttl"),
        (["withdraw", "n", "--ttl", "0"], "--ttl"),
        (["get", "n", "--reads", "0"], "--reads"),
        (["get", str(blob_key(b"x")), "--reads", "3"], "go with a name"),
        (["set", str(blob_key(b"x")), "v"], "a blob cannot be set or withdrawn"),
        (["withdraw", str(topic_key(b"x"))], "give the name or the topic"),
        (["get", "n", "--own", "--author", "a" * 52], "either --own or --author"),
        (["get", str(blob_key(b"x")), "--own"], "go with a name"),
        (["get", "n", "--author", "h:1"], "is no public key"),
        (["trace", "0" * 64, "--own"], "own goes with a name"),
        (["trace", "kad://zz@h:1"], "is no public key"),
        (["ping", "nowhere"], "HOST:PORT"),
        (["ping", "::1:4000"], "brackets"),
        (["get", "n", "--author", "zz"], "is no public key"),
        (["get", f"{blob_key(b'x')}"[:-1] + "7"], "mistyped"),
        (["get", "\udcff"], "UTF-8"),
        (["get", "n" * 65], "at most 64"),
        (["set", "n", "v", "--expect-seq", "-1"], "--expect-seq"),
        (["get", "n", "--network", "other"], "--network goes with --bootstrap"),
        (["get", "n", "--bootstrap", "nowhere"], "HOST:PORT"),
        (["get", "n", "--bootstrap", "h:1", "--puzzle-bits", "8"], "no puzzle"),
        (["get", "n", "--bootstrap", "h:1", "--network", "x" * 65], "1 to 64 bytes"),
        (["get", "n", "--bootstrap", "h:1", "--copies", "21"], "--copies"),
        (["get", "n", "--bootstrap", "h:1", "--secret-file", "/no/file"], "openssl rand -hex 32"),
        (["get", "n", "-o", "/no/such/folder/file"], "cannot write"),
    ],
)
async def test_bad_usage_is_one_line_and_exits_with_2(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    async with daemon(tmp_path / "a"):
        env = ENVIRONMENT | {"KADEMLIA_NODE_FOLDER": str(tmp_path / "a")}
        await kad("set", "n", "v", env=env)
        assert said in await failed(*arguments, code=2, env=env)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ("00" * 32, 0o644, "chmod 600"),
        ("00" * 31, 0o600, "64 hexadecimal digits"),
        ("", 0o600, "64 hexadecimal digits"),
    ],
)
async def test_a_secret_file_that_cannot_be_used_says_why(
    tmp_path: Path, content: str, mode: int, said: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    file.chmod(mode)
    join = ("--bootstrap", "127.0.0.1:1", "--secret-file", str(file))
    assert said in await failed("get", "n", *join, code=2)


async def test_a_secret_file_opens_the_network(two: Two, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET.hex() + "\n")
    file.chmod(0o600)
    join = ("--bootstrap", two.address, "--secret-file", str(file))
    result = await kad("set", "n", "v", *join, env={})
    assert result.exit_code == 0
    assert await done("get", "n", *two.a) == "v"


async def test_a_folder_in_use_lends_its_key_to_nobody(two: Two) -> None:
    join = ("--bootstrap", two.address_b)
    assert "in use by process" in await failed("announce", "t", "v", *join, *two.a, code=2)
    await done("set", "n", "v", *join, *two.a)  # the commons writes: who we are does not matter


# --- Open networks --------------------------------------------------------------------------------


async def test_on_an_open_network_names_are_written_with_the_folders_key(tmp_path: Path) -> None:
    async with daemon(tmp_path / "a", network=Network.open("test", puzzle_bits=0)) as a:
        join = ("--bootstrap", a["address"], "--network", "test", "--puzzle-bits", "0")
        own = ("--folder", str(tmp_path / "own"))
        assert (await kad("set", "n", "mine", *join, *own, env={})).exit_code == 0
        assert (await kad("get", "n", *join, *own, env={})).stdout == "mine"
        assert (await kad("trace", "n", *join, *own, env={})).exit_code == 0
        other = ("--folder", str(tmp_path / "other"))
        assert (await kad("get", "n", *join, *other, env={})).exit_code == 1


async def test_an_ipv6_bootstrap_is_reached(tmp_path: Path) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    async with daemon(tmp_path / "a", host="::1") as a:
        assert a["address"].startswith("[::1]:")
        await done("set", "n", "v", "--bootstrap", a["address"])
        assert await done("get", "n", "--bootstrap", a["address"]) == "v"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
