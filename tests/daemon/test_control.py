from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kademlia_node.core.contact import Address
from kademlia_node.core.invite import key_text
from kademlia_node.core.key import blob_key, topic_key
from kademlia_node.core.network import Network
from kademlia_node.daemon.client import connected
from kademlia_node.daemon.control import BODY_BYTES_MAX
from kademlia_node.daemon.views import value_of
from kademlia_node.errors import Refused
from kademlia_node.node.announcing import Announcement
from kademlia_node.settings import VALUE_BYTES_MAX
from tests.daemon.running import daemon, silent_port, through

pytestmark = pytest.mark.net

Answer = tuple[int, Any]
WRITES = [("POST", "/v1/blobs"), ("PUT", "/v1/names/n"), ("POST", "/v1/topics/t")]


class Client:
    """Asks one daemon over HTTP; answers are (status, JSON or text)."""

    def __init__(self, session: aiohttp.ClientSession, base: str = "http://daemon") -> None:
        self._session = session
        self._base = base

    async def ask(self, method: str, path: str, **extra: Any) -> Answer:
        async with self._session.request(method, self._base + path, **extra) as response:
            if response.content_type == "application/json":
                return response.status, await response.json()
            return response.status, await response.text()

    async def get(self, path: str, **extra: Any) -> Answer:
        return await self.ask("GET", path, **extra)


@asynccontextmanager
async def client_of(ready: dict[str, Any]) -> AsyncIterator[Client]:
    connector = aiohttp.UnixConnector(ready["control"])
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(session)


@asynccontextmanager
async def lone(folder: Path, **plan: Any) -> AsyncIterator[Client]:
    """A client of a daemon that is alone, and so keeps everything itself."""
    async with daemon(folder, **plan) as ready, client_of(ready) as client:
        yield client


async def test_the_first_of_a_network_lives_and_is_ready(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        assert await client.get("/livez") == (200, "ok\n")
        assert await client.get("/readyz") == (200, "ok\n")


async def test_who_is_to_join_is_ready_once_it_has(tmp_path: Path) -> None:
    async with daemon(tmp_path / "a", bootstrap=nowhere()) as a, client_of(a) as client:
        assert (await client.get("/livez"))[0] == 200
        assert await client.get("/readyz") == (503, "no peer was reached yet\n")
        async with daemon(tmp_path / "b", bootstrap=through(a)):
            assert (await client.get("/readyz"))[0] == 200


def nowhere() -> Any:
    return through({"address": f"127.0.0.1:{silent_port()}"})


async def test_metrics_are_in_the_text_format(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        status, text = await client.get("/metrics")
    assert status == 200
    assert "\nkademlia_node_peers 0.0\n" in text


async def test_a_blob_goes_in_as_a_body_and_comes_back(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        status, receipt = await client.ask("POST", "/v1/blobs", data=b"\x00\xff")
        assert (status, receipt["key"]) == (200, str(blob_key(b"\x00\xff")))
        status, record = await client.get(f"/v1/blobs/{receipt['key']}")
        assert (status, value_of(record)) == (200, b"\x00\xff")


async def test_a_miss_is_404_and_tells_the_trace(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        status, view = await client.get("/v1/names/nothing")
    assert (status, view["error"]) == (404, "NotFound")
    assert view["trace"]["steps"] == []


async def test_a_lost_update_is_409_and_shows_the_current_value(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        await client.ask("PUT", "/v1/names/n?expect_seq=0", data=b"first")
        status, view = await client.ask("PUT", "/v1/names/n?expect_seq=0", data=b"second")
    assert (status, view["error"], view["current"]["text"]) == (409, "Conflict", "first")


async def test_what_nobody_takes_is_503_with_the_receipt(tmp_path: Path) -> None:
    async with lone(tmp_path, server=False) as client:  # a client stores nothing itself
        status, view = await client.ask("POST", "/v1/blobs", data=b"x")
    assert (status, view["error"], view["receipt"]["replicas"]) == (503, "NotStored", [])


async def test_what_is_written_for_a_short_time_is_kept_alive_for_that(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        for method, path in WRITES:
            _, receipt = await client.ask(method, f"{path}?ttl_s=600", data=b"x")
            assert 590 < receipt["expires"] - time.time() <= 600
        _, lines = await client.get("/v1/publications")
        assert [json.loads(line)["ttl_s"] for line in lines.splitlines()] == [600] * 3
        for path in ("/v1/names/n", "/v1/topics/t"):
            _, receipt = await client.ask("DELETE", f"{path}?ttl_s=600")
            assert receipt["expires"] - time.time() <= 600


async def test_what_too_few_take_is_503_with_the_receipt(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        for method, path in WRITES:
            status, view = await client.ask(method, f"{path}?acks=2", data=b"x")
            assert (status, view["error"]) == (503, "PartlyStored")
            assert len(view["receipt"]["replicas"]) == 1
            assert (await client.ask(method, f"{path}?acks=1", data=b"x"))[0] == 200
        assert (await client.get("/v1/names/n?reads=1"))[1]["text"] == "x"


async def test_a_value_of_64_kib_goes_in_and_comes_back(tmp_path: Path) -> None:
    value = bytes(range(256)) * (VALUE_BYTES_MAX // 256)
    async with lone(tmp_path) as client:
        assert (await client.ask("PUT", "/v1/names/n", data=value))[0] == 200
        assert value_of((await client.get("/v1/names/n"))[1]) == value


async def test_publications_are_lines_and_blobs_are_deleted_from_them(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        assert await client.get("/v1/publications") == (200, "")
        for method, path in WRITES:
            await client.ask(method, path, data=b"x")
        _, lines = await client.get("/v1/publications")
        kinds = [json.loads(line)["kind"] for line in lines.splitlines()]
        assert sorted(kinds) == ["blob", "entry", "topic"]
        key = str(blob_key(b"x"))
        for forgotten in (True, False):
            answer = await client.ask("DELETE", f"/v1/blobs/{key}")
            assert answer == (200, {"key": key, "forgotten": forgotten})
        _, lines = await client.get("/v1/publications")
        assert len(lines.splitlines()) == 2
        status, receipt = await client.get("/v1/blobs/" + key)
        assert (status, receipt["text"]) == (200, "x")


async def test_a_value_too_large_is_413_whatever_its_size(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        large = await client.ask("POST", "/v1/blobs", data=bytes(VALUE_BYTES_MAX + 1))
        huge = await client.ask("POST", "/v1/blobs", data=bytes(BODY_BYTES_MAX + 1))
    assert (large[0], large[1]["error"]) == (413, "ValueTooLarge")
    assert (huge[0], huge[1]["error"]) == (413, "HTTPRequestEntityTooLarge")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/blobs/blob-abc", b""),
        ("GET", f"/v1/blobs/{topic_key(b't')}", b""),
        ("GET", "/v1/names/n?author=zz", b""),
        ("GET", "/v1/names/n?author=h:1", b""),
        ("GET", f"/v1/names/n?own=1&author={'a' * 52}", b""),
        ("GET", f"/v1/trace/{'0' * 64}?own=1", b""),
        ("GET", "/v1/trace/n?own=yes", b""),
        ("GET", f"/v1/names/{'n' * 65}", b""),
        ("PUT", "/v1/names/n?own=yes", b"v"),
        ("PUT", "/v1/names/n?expect_seq=-1", b"v"),
        ("PUT", "/v1/names/n?expect_seq=x", b"v"),
        ("PUT", f"/v1/names/n?expect_seq={1 << 64}", b"v"),
        ("POST", f"/v1/topics/t?slot={'s' * 65}", b"v"),
        ("POST", "/v1/blobs?acks=0", b"v"),
        ("PUT", "/v1/names/n?acks=61", b"v"),
        ("POST", "/v1/topics/t?acks=x", b"v"),
        ("POST", f"/v1/blobs?acks={'1' * 5000}", b"v"),
        ("POST", "/v1/blobs?ttl_s=239", b"v"),
        ("PUT", "/v1/names/n?ttl_s=172801", b"v"),
        ("POST", "/v1/topics/t?ttl_s=600.0", b"v"),
        ("DELETE", "/v1/names/n?ttl_s=1", b""),
        ("DELETE", "/v1/topics/t?ttl_s=x", b""),
        ("GET", "/v1/names/n?reads=0", b""),
        ("GET", "/v1/names/n?reads=", b""),
        ("DELETE", "/v1/blobs/colour", b""),
        ("DELETE", f"/v1/blobs/{topic_key(b't')}", b""),
        ("POST", "/v1/ping", b"{"),
        ("POST", "/v1/ping", b"[]"),
        ("POST", "/v1/ping", b'{"peer": 4}'),
        ("POST", "/v1/ping", b'{"peer": "nowhere"}'),
        ("POST", "/v1/ping", b'{"peer": "no.such.host.invalid:4000"}'),
    ],
)
async def test_a_bad_request_is_400_and_says_why(
    tmp_path: Path, method: str, path: str, body: bytes
) -> None:
    async with lone(tmp_path) as client:
        status, view = await client.ask(method, path, data=body)
    assert status == 400
    assert view["error"] in {"ValueError", "SetupError"}
    assert view["detail"]


async def test_what_is_not_there_is_told_in_json_too(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        status, view = await client.get("/v1/nothing?x=1")
        assert (status, view["error"]) == (404, "HTTPNotFound")
        assert view["detail"] == "this API has no path '/v1/nothing'"
        assert (await client.ask("POST", "/v1/status"))[1]["error"] == "HTTPMethodNotAllowed"


async def test_a_silent_peer_is_504(tmp_path: Path) -> None:
    body = json.dumps({"peer": f"127.0.0.1:{silent_port()}"})
    async with lone(tmp_path) as client:
        status, view = await client.ask("POST", "/v1/ping", data=body)
    assert (status, view["error"]) == (504, "NoAnswer")


async def test_a_topic_is_a_stream_of_lines(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        assert await client.get("/v1/topics/t") == (200, "")
        for slot in ("a", "b"):
            await client.ask("POST", f"/v1/topics/t?slot={slot}", data=slot.encode())
        _, lines = await client.get("/v1/topics/t")
        assert sorted(json.loads(line)["slot"] for line in lines.splitlines()) == ["a", "b"]
        assert (await client.ask("DELETE", "/v1/topics/t?slot=a"))[0] == 200
        _, lines = await client.get("/v1/topics/t")
        assert [json.loads(line)["text"] for line in lines.splitlines()] == ["b"]


async def test_many_entries_are_announced_and_withdrawn_in_parts(tmp_path: Path) -> None:
    many = [Announcement("t", bytes(600), str(number)) for number in range(200)]
    many.append(Announcement("t", bytes(VALUE_BYTES_MAX), "long"))
    async with daemon(tmp_path) as ready, connected(Path(ready["control"])) as client:
        receipts = await client.announce_many(many, ttl_s=600)
        assert len(receipts) == 201
        assert all(len(receipt["replicas"]) == 1 for receipt in receipts)
        assert "trace" not in receipts[0]
        published = [one async for one in client.published()]
        assert {one["ttl_s"] for one in published} == {600}
        assert {one["slot"] for one in published} == {one.slot for one in many}
        assert hashlib.sha256(bytes(600)).hexdigest() in {one["value_hash"] for one in published}
        await client.withdraw_many([("t", one.slot) for one in many[1:]], ttl_s=600)
        assert [entry["slot"] async for entry in client.find("t")] == ["0"]
        assert await client.announce_many([]) == []


async def test_entries_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    async with lone(tmp_path) as client:
        for path, body in (
            ("/v1/announcements", {"topic": "t"}),
            ("/v1/announcements", [{"topic": "t", "slot": ""}]),
            ("/v1/announcements", [{"topic": "t", "slot": "", "value": "!"}]),
            ("/v1/withdrawals", [{"topic": "t", "slot": 1}]),
            ("/v1/withdrawals", ["t"]),
        ):
            status, view = await client.ask("POST", path, json=body)
            assert (status, view["error"]) == (400, "ValueError"), body


BLOB = blob_key(b"")
TAKE_JSON = ["announcements", "withdrawals", "contents", f"contents/{BLOB}/fetch", "ping"]
TAKE_JSON += ["backup", "restore"]


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        (b"", "utf-8"),
        (b"null", "utf-8"),
        (b"4", "utf-8"),
        (b'"path"', "utf-8"),
        (b'["path"]', "utf-8"),
        (b"\xff\xfe", "utf-8"),
        (b"[" * 50_000, "utf-8"),
        (b'{"path":' * 15_000, "utf-8"),
        (b"1" * 5000, "utf-8"),
        (b"{}", "bogus"),
        (b"{}", "hex"),
        (b"{}", "undefined"),
    ],
)
async def test_a_body_that_is_not_the_json_it_should_be_is_400_and_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes, charset: str
) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    async with lone(tmp_path) as client:
        for path in TAKE_JSON:
            status, view = await client.ask("POST", f"/v1/{path}", data=body, headers=headers)
            assert (status, view["error"]) == (400, "ValueError"), path
            assert "body" in view["detail"]
    assert "Traceback" not in caplog.text


async def test_how_long_a_value_lives_can_be_said(tmp_path: Path) -> None:
    async with daemon(tmp_path) as ready, connected(Path(ready["control"])) as client:
        await client.set("n", b"value", ttl_s=600)
        await client.announce("t", b"value", ttl_s=601)
        assert {one["ttl_s"] async for one in client.published()} == {600, 601}
        short = await client.withdraw_name("n", ttl_s=700)
        usual = await client.withdraw_entry("t")
        assert usual["expires"] - short["expires"] > 12 * 24 * 3600
        with pytest.raises(Refused, match="ttl_s is between"):
            await client.set("n", b"value", ttl_s=1)


async def test_changes_come_as_they_happen_until_the_daemon_ends(tmp_path: Path) -> None:
    async with daemon(tmp_path) as ready, connected(Path(ready["control"])) as client:
        changes = client.watch_topic("t")
        await client.announce("t", b"one")
        assert (await anext(changes))["text"] == "one"
        await client.announce("t", b"two")
        assert (await anext(changes))["text"] == "two"
        await client.withdraw_entry("t")
        assert (await anext(changes))["kind"] == "withdrawn"
        name = client.watch_name("n", own=True)
        await client.set("n", b"value", own=True)
        assert (await anext(name))["text"] == "value"
        await client.leave()
        assert await anext(changes, None) is None


async def test_what_cannot_be_watched_is_refused_at_once(tmp_path: Path) -> None:
    async with daemon(tmp_path) as ready, connected(Path(ready["control"])) as client:
        for views in (
            client.watch_name("n", author="nonsense"),
            client.watch_name("n" * 300),
            client.watch_name("n", author=key_text(b"\1" * 32), own=True),
        ):
            with pytest.raises(Refused) as caught:
                await anext(views)
            assert caught.value.view["error"] in {"ValueError", "MalformedMessage"}


async def test_over_tcp_the_token_of_the_folder_is_needed(tmp_path: Path) -> None:
    where = Address("127.0.0.1", 0)
    async with daemon(tmp_path, control_tcp=where) as ready, aiohttp.ClientSession() as session:
        client = Client(session, f"http://{ready['control_tcp']}")
        assert (await client.get("/livez"))[0] == 200
        assert (await client.get("/readyz"))[0] == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "\u00e4"}):
            status, view = await client.get("/v1/id", headers=headers)
            assert (status, view["error"]) == (401, "HTTPUnauthorized")
        token = (tmp_path / "control.token").read_text().strip()
        status, view = await client.get("/v1/id", headers={"Authorization": f"Bearer {token}"})
        assert (status, view["id"]) == (200, ready["id"])


async def test_an_occupied_tcp_port_is_said(tmp_path: Path) -> None:
    async with daemon(tmp_path / "a", control_tcp=Address("127.0.0.1", 0)) as a:
        host, _, port = a["control_tcp"].rpartition(":")
        with pytest.raises(Exception, match="cannot serve the control API on"):
            async with daemon(tmp_path / "b", control_tcp=Address(host, int(port))):
                pass


async def test_on_an_open_network_a_name_is_its_authors(tmp_path: Path) -> None:
    network = Network.open(puzzle_bits=0)
    async with (
        daemon(tmp_path / "a", network=network) as a,
        daemon(tmp_path / "b", network=network, bootstrap=through(a)) as b,
        client_of(a) as by_a,
        client_of(b) as by_b,
    ):
        await by_a.ask("PUT", "/v1/names/n", data=b"of a")
        assert (await by_b.get("/v1/names/n"))[0] == 404
        author = (await by_a.get("/v1/id"))[1]["public_key"]
        assert (await by_b.get(f"/v1/names/n?author={author}"))[1]["text"] == "of a"
