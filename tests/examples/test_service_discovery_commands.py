"""What the README of service_discovery tells people to type, typed; and what is refused."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from examples.service_discovery import web
from examples.service_discovery.cli import main
from examples.service_discovery.instance import Instance, topic_of
from examples.service_discovery.resolving import Unreachable
from kademlia_node import Network, Node, read_secret
from tests.sessions import typed

ROOT = Path(__file__).parents[2]
README = (ROOT / "examples" / "service_discovery" / "README.md").read_text("utf-8")


@pytest.mark.net
def test_the_commands_of_the_readme_run_and_so_does_the_demonstration(tmp_path: Path) -> None:
    (session,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    stdout, stderr = typed(session, at=ROOT, within_s=180, work=str(tmp_path))
    a, b = ((tmp_path / name).read_text().split("\t")[0] for name in "ab")
    lines = stdout.splitlines()
    listed = [json.loads(line) for line in lines if line.startswith("{")]
    assert {one["url"] for one in listed} == {a, b}
    answers = [line for line in lines if line.startswith("greeter at ")]
    assert set(answers[:6] + answers[7:]) <= {f"greeter at {url}" for url in (a, b)}
    assert answers[6] == f"greeter at {b}"  # called by its other name
    assert answers[7:] == [f"greeter at {a}"] * 6
    assert f"{b} is not healthy: withdrawn" in stderr
    assert "no instance of other" in stderr
    assert "Traceback" not in stderr
    sums = dict(re.findall(r"^ *(\w.*?)  +(\d+)$", stdout, re.MULTILINE))
    assert int(sums["instances killed"]) >= 1
    assert int(sums["instances started"]) >= 3
    assert int(sums["answered by the first instance asked"]) > 50
    assert (sums["failed because of discovery"], sums["failed after all were tried"]) == ("0", "0")


@pytest.mark.net
def test_the_program_of_the_readme_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, timeout=60
    )
    assert ran.stdout.startswith(b"greeter at http://127.0.0.1:")


# --- HTTP -----------------------------------------------------------------------------------------


@pytest.mark.net
async def test_a_service_answers_and_is_well_until_it_is_gone() -> None:
    async with aiohttp.ClientSession() as session:
        async with web.serving("greeter", host="127.0.0.1") as url:
            assert await web.fetch(session, url) == f"greeter at {url}\n"
            assert await web.is_well(session, url + web.HEALTH)
            assert not await web.is_well(session, url + "/nothing")
            assert "404" in await web.fetch(session, url + "/nothing")
        assert not await web.is_well(session, url + web.HEALTH)
        with pytest.raises(Unreachable, match=url):
            await web.fetch(session, url)


Handler = Callable[[aiohttp.web.Request], Awaitable[aiohttp.web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """An instance that answers as a test says; yields the URL."""
    app = aiohttp.web.Application()
    app.add_routes([aiohttp.web.get("/", handler)])
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def body(content: bytes, **headers: str) -> Handler:
    async def answer(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(body=content, headers={"Content-Type": "text/plain", **headers})

    return answer


@pytest.mark.net
@pytest.mark.parametrize("status", sorted(web.UNABLE))
async def test_who_says_that_it_cannot_is_not_asked_for_more(status: int) -> None:
    async def refuse(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=status)

    async with answering(refuse) as url, aiohttp.ClientSession() as session:
        with pytest.raises(Unreachable, match=str(status)):
            await web.fetch(session, url)


@pytest.mark.net
@pytest.mark.parametrize("charset", ["utf-8", "bogus", "hex"])
async def test_what_is_no_text_breaks_nobody(charset: str) -> None:
    handler = body(b"\xff\xfe.", **{"Content-Type": f"text/plain; charset={charset}"})
    async with answering(handler) as url, aiohttp.ClientSession() as session:
        assert await web.fetch(session, url) == "\ufffd\ufffd."


@pytest.mark.net
async def test_only_so_much_of_an_answer_is_taken() -> None:
    whole = b"x" * web.ANSWER_BYTES_MAX
    async with aiohttp.ClientSession() as session:
        async with answering(body(whole)) as url:
            assert await web.fetch(session, url) == whole.decode()
        async with answering(body(whole + b"x")) as url:
            with pytest.raises(Unreachable, match="more than 65536 bytes"):
                await web.fetch(session, url)


@pytest.mark.net
async def test_an_answer_that_has_no_end_is_not_waited_for() -> None:
    async def go_on(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        response = aiohttp.web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(bytes(4096))
        return response

    async with answering(go_on) as url, aiohttp.ClientSession() as session:
        with pytest.raises(Unreachable, match="more than 65536 bytes"):
            await web.fetch(session, url)


@pytest.mark.net
async def test_what_is_packed_is_not_unpacked() -> None:
    packed = zlib.compress(bytes(2**24))
    handler = body(packed, **{"Content-Encoding": "deflate"})
    async with answering(handler) as url, aiohttp.ClientSession() as session:
        assert len(await web.fetch(session, url)) <= len(packed)


@pytest.mark.net
@pytest.mark.parametrize("host", ["a" * 64, "a..b"])
async def test_an_instance_with_no_name_of_a_host_is_unreachable(host: str) -> None:
    url = Instance(f"http://{host}:1", 1.0).url
    async with aiohttp.ClientSession() as session:
        with pytest.raises(Unreachable, match=re.escape(host)):
            await web.fetch(session, url)


@pytest.mark.net
async def test_a_terminal_obeys_no_instance(tmp_path: Path) -> None:
    secret = secret_in(tmp_path)
    said = b"\x1b]0;title\x07\x1b[2J\r\xe2\x80\xaeone\ttwo\n\xc3\xbc\n"
    network = Network.private(read_secret(secret), name="services")
    async with Node(network=network, host="127.0.0.1") as node, answering(body(said)) as url:
        value = Instance(url, 4e9).pack()
        await node.announce(topic_of("greeter"), value)
        words = ["call", "greeter", "--secret-file", str(secret), "--bootstrap", str(node.invite)]
        called = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.service_discovery", *words),
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        stdout, _ = await asyncio.wait_for(called.communicate(), 60)
    lines = stdout.decode()
    assert lines == "\\x1b]0;title\\x07\\x1b[2J\\r\\u202eone\ttwo\nü\n"


# --- Refused --------------------------------------------------------------------------------------


def secret_in(folder: Path, *, text: str = "5e" * 32, mode: int = 0o600) -> Path:
    secret = folder / "secret"
    secret.write_text(text)
    secret.chmod(mode)
    return secret


@pytest.mark.net
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["list", "x"], 2, "give a --bootstrap"),
        (["list", "x", "--bootstrap", "nowhere"], 2, "HOST:PORT"),
        (["register", "x", "ftp://h"], 2, "no URL of HTTP"),
        (["serve", "x", "--lease", "241"], 2, "--lease"),
        (["serve", "x", "--host", "no address"], 2, ""),
    ],
)
def test_what_cannot_be_done_ends_in_one_line(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    ended = CliRunner().invoke(main, [*words, "--secret-file", str(secret_in(tmp_path))])
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert said in ended.stderr
