from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from kademlia_node.cli.main import main
from kademlia_node.cli.run import parse_listen_address
from kademlia_node.core.contact import Address
from tests.daemon.running import LONG_S, SECRET, silent_port
from tests.net.links import needs_multicast

pytestmark = pytest.mark.net

ENVIRONMENT = {"KADEMLIA_NODE_SECRET": SECRET.hex(), "KADEMLIA_NODE_HOST": "127.0.0.1"}
COMMAND = (sys.executable, "-m", "kademlia_node")


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command as a process of its own, to its end."""
    return subprocess.run(
        (*COMMAND, *arguments),
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )


class Process:
    """A daemon that is a process of its own. `ready` is the line it printed."""

    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            (*COMMAND, "run", *arguments),
            env=os.environ | ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.popen.stdout.readline())

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, and what else it printed to stdout and stderr."""
        self.popen.send_signal(number)
        out, err = self.popen.communicate(timeout=LONG_S)
        return self.popen.returncode, out, err


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    running = Process(*arguments)
    try:
        yield running
    finally:
        if running.popen.poll() is None:
            running.popen.kill()
            running.popen.communicate(timeout=LONG_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with process("--folder", str(tmp_path)) as running:
        code, out, err = running.end(number)
    assert (code, out) == (0, "")
    assert running.ready["invite"] in err
    assert "Traceback" not in err
    assert not (tmp_path / "control.sock").exists()


def test_a_daemon_leaves_for_good_with_exit_code_0(tmp_path: Path) -> None:
    a, b, c = (("--folder", str(tmp_path / name)) for name in "abc")
    with process(*a) as first, process(*b, "--bootstrap", first.ready["address"]) as second:
        assert call("set", "shape", "round", *b).returncode == 0
        left = call("leave", "--json", *b)
        assert (left.returncode, left.stderr) == (0, "")
        assert json.loads(left.stdout) == {"handed_over": 1, "left_behind": 0, "told": 1}
        out, _ = second.popen.communicate(timeout=LONG_S)
        assert (second.popen.returncode, out) == (0, "")
        assert call("peers", *a).stdout == ""
        assert call("get", "shape", *a).stdout == "round"
        said = call("leave", "--within", "1", *a)
        assert (said.returncode, said.stdout) == (0, "")
        assert said.stderr == "left: 0 records handed over, 1 left behind; 0 peers told\n"
        first.popen.communicate(timeout=LONG_S)
        assert first.popen.returncode == 0
    assert call("leave", *c).returncode == 3


def test_a_killed_daemon_comes_back_as_itself_with_its_records_and_peers(tmp_path: Path) -> None:
    a, b = (("--folder", str(tmp_path / name)) for name in "ab")
    with process(*a) as first:
        with process(*b, "--bootstrap", first.ready["address"]) as killed:
            assert call("set", "shape", "round", *b).returncode == 0
            killed.end(signal.SIGKILL)
        assert (tmp_path / "b" / "control.sock").exists()
        with process(*b) as again:  # no bootstrap; the lock is free, the socket is stale
            assert again.ready["id"] == killed.ready["id"]
            assert first.ready["address"] in call("peers", *b).stdout
            assert "records\t1\n" in call("status", *b).stdout
            assert call("set", "colour", "blue", *b).returncode == 0
            assert call("get", "colour", *a).stdout == "blue"


def test_a_second_daemon_and_a_taken_port_are_one_line_each(tmp_path: Path) -> None:
    a, b = (("--folder", str(tmp_path / name)) for name in "ab")
    with process(*a) as running:
        again = call("run", *a)
        assert (again.returncode, again.stdout) == (2, "")
        assert f"in use by process {running.popen.pid}" in again.stderr
        port = running.ready["address"].rpartition(":")[2]
        taken = call("run", *b, "--port", port)
        assert (taken.returncode, taken.stdout) == (2, "")
        assert taken.stderr.startswith("kademlia-node: cannot listen on 127.0.0.1")
        assert (again.stderr + taken.stderr).count("\n") == 2


def test_it_knocks_on_at_a_silent_bootstrap_and_says_so_once(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{silent_port()}"
    with process("--folder", str(tmp_path), "--bootstrap", nowhere) as running:
        here = running.ready["address"]
        assert call("ping", here, "--bootstrap", here).returncode == 0  # it answers others
        code, _, err = running.end()
    assert code == 0
    assert err.count(nowhere) == 1


def test_a_reader_that_closes_the_pipe_is_no_traceback(tmp_path: Path) -> None:
    with process("--folder", str(tmp_path)):
        reading = subprocess.Popen(
            (*COMMAND, "status", "--folder", str(tmp_path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert reading.stdout is not None
        reading.stdout.close()
        reading.wait(LONG_S)
        assert reading.stderr is not None
        assert "Traceback" not in reading.stderr.read()
        reading.stderr.close()


def answers(path: Path) -> bool:
    """Whether a daemon answers at this socket; by then it has said that it is ready."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(LONG_S)
        if asking.connect_ex(str(path)) != 0:
            return False
        asking.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        return b"200 OK" in asking.recv(1024)


def test_run_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """In this process, where coverage sees it; hence the thread that sends us the signal."""
    path = tmp_path / "sock"

    def stop_when_it_answers() -> None:
        until = time.monotonic() + LONG_S
        while not (answers(path) and has_told()) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    def has_told() -> bool:
        """It answers a moment before it says so; meanwhile stdout is in the runner's memory."""
        return b"\n" in cast("io.BytesIO", sys.stdout.buffer).getvalue()

    threading.Thread(target=stop_when_it_answers).start()
    arguments = ["run", "--folder", str(tmp_path), "--control", str(path), "--port", "0"]
    arguments += ["--durability", "power"]
    result = CliRunner(env=ENVIRONMENT).invoke(main, arguments)
    assert result.exit_code == 0, result.output
    ready = json.loads(result.stdout)
    assert ready.keys() == {"id", "address", "invite", "control"}
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "65536"], "--port"),
        (["--host", "localhost"], "no numeric host"),
        (["--bootstrap", "nowhere"], "HOST:PORT"),
        (["--control-tcp", "localhost:1"], "localhost"),
        (["--puzzle-bits", "3"], "no puzzle"),
        (["--log-level", "loud"], "--log-level"),
        (["--durability", "eternal"], "--durability"),
    ],
)
def test_bad_options_are_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    command = ["run", "--folder", str(tmp_path), *arguments]
    result = CliRunner(env=ENVIRONMENT).invoke(main, command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_broken_key_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("not a key")
    (tmp_path / "key").chmod(0o600)
    result = CliRunner(env=ENVIRONMENT).invoke(main, ["run", "--folder", str(tmp_path)])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "is no key file" in result.stderr


def test_an_address_to_listen_at_may_leave_the_port_open() -> None:
    assert parse_listen_address("127.0.0.1:0") == Address("127.0.0.1", 0)
    assert parse_listen_address("[::1]:8080") == Address("::1", 8080)
    with pytest.raises(ValueError, match="localhost"):
        parse_listen_address("localhost:0")


def test_help_names_the_verbs_in_an_order_for_readers() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout.partition("Commands:")[2]
    verbs = [line.split()[0] for line in shown.splitlines() if line.strip()]
    wanted = (
        "run status peers put get set announce find watch withdraw ping trace id provide fetch"
        " provided unprovide published forget backup leave"
    )
    assert verbs == wanted.split()


def test_help_and_version_need_no_heavy_library() -> None:
    script = (
        "import sys; from kademlia_node.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(sorted({'aiohttp', 'rich', 'prometheus_client', 'zeroconf'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, check=True, timeout=LONG_S
    )
    assert shown.stdout.endswith("[]\n")
    assert call("--version").stdout.startswith("kademlia-node, version ")


@pytest.mark.parametrize(
    ("asked", "environment"), [(["--lan"], {}), ([], {"KADEMLIA_NODE_LAN": "1"})]
)
def test_a_link_that_is_asked_for_needs_a_package_and_says_which(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[str],
    environment: dict[str, str],
) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    command = ["run", "--folder", str(tmp_path), *asked]
    result = CliRunner(env=ENVIRONMENT | environment).invoke(main, command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "pip install 'kademlia-node[lan]'" in result.stderr


@needs_multicast
def test_two_daemons_with_no_bootstrap_find_each_other_on_their_link(tmp_path: Path) -> None:
    a, b = (("--folder", str(tmp_path / name)) for name in "ab")
    network = ("--network", f"test {os.getpid()}")  # other tests share the link and the secret
    with process(*a, *network, "--lan") as first, process(*b, *network, "--lan") as second:
        until = time.monotonic() + LONG_S
        while second.ready["address"] not in call("peers", *a).stdout:
            assert time.monotonic() < until
        assert call("set", "shape", "round", *b).returncode == 0
        assert call("get", "shape", *a).stdout == "round"
        assert [one.end()[0] for one in (first, second)] == [0, 0]
