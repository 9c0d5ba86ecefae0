from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kademlia_node.core.contact import Address, Contact
from kademlia_node.core.identity import Identity
from kademlia_node.core.invite import parse_invite
from kademlia_node.core.memory import KnownPeer, Memory
from kademlia_node.core.network import Network
from kademlia_node.daemon.folder import SOCKET_PATH_BYTES_MAX, Folder
from kademlia_node.daemon.service import Plan, speaks_on_links
from kademlia_node.errors import SetupError
from kademlia_node.node.node import Node
from tests.daemon.running import NETWORK, QUICK, daemon, silent_port, through, until

pytestmark = pytest.mark.net

HARD = Network.open(puzzle_bits=24)  # no key solves it by accident


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def a_folder(path: Path) -> Folder:
    """One that has been lived in, so that it has a key."""
    path.mkdir()
    Folder(path).write_key(Identity.generate(random.Random(1)))
    return Folder(path)


async def refusal(folder: Path, **plan: Any) -> str:
    with pytest.raises(SetupError) as refused:
        async with daemon(folder, **plan):
            pass
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def test_key_and_control_socket_are_for_their_owner_alone(tmp_path: Path) -> None:
    async with daemon(tmp_path / "a") as ready:
        assert mode_of(tmp_path / "a" / "key") == 0o600
        assert mode_of(Path(ready["control"])) == 0o600
    assert not (tmp_path / "a" / "control.sock").exists()


async def test_a_restart_keeps_the_identity(tmp_path: Path) -> None:
    async with daemon(tmp_path) as first:
        pass
    async with daemon(tmp_path) as second:
        assert second["id"] == first["id"]


async def test_the_key_is_in_no_log_and_in_nothing_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with daemon(tmp_path) as ready:
        pass
    seed = (tmp_path / "key").read_text().split()[-1]
    assert len(seed) == 64
    assert seed not in caplog.text + json.dumps(ready)
    assert ready["invite"] in caplog.text


async def test_a_second_daemon_on_the_folder_is_told_who_has_it(tmp_path: Path) -> None:
    async with daemon(tmp_path):
        assert f"in use by process {os.getpid()}" in await refusal(tmp_path)


async def test_an_occupied_port_is_said_and_the_folder_let_go(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert f"port {port}: the port is taken" in await refusal(tmp_path, port=port)
    async with daemon(tmp_path):
        pass


async def test_a_key_that_does_not_solve_the_puzzle_cannot_serve_there(tmp_path: Path) -> None:
    a_folder(tmp_path / "a")
    said = await refusal(tmp_path / "a", network=HARD)
    assert "24-bit puzzle" in said
    assert "move the key away" in said


async def test_a_client_needs_no_puzzle(tmp_path: Path) -> None:
    a_folder(tmp_path / "a")
    async with daemon(tmp_path / "a", network=HARD, server=False):
        pass


async def test_making_a_key_that_takes_long_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with daemon(tmp_path, network=Network.open(puzzle_bits=8)):
        assert "making a key" in caplog.text


async def test_peers_are_saved_at_the_end_and_are_the_way_back(tmp_path: Path) -> None:
    async with daemon(tmp_path / "a") as a:
        async with daemon(tmp_path / "b", bootstrap=through(a)):
            pass
        assert [
            str(peer.contact.address) for peer in Folder(tmp_path / "b").read_memory().peers
        ] == [a["address"]]
        async with daemon(tmp_path / "b"):  # no bootstrap
            await peers_of(a, count=1)


async def test_peers_are_saved_while_it_runs(tmp_path: Path) -> None:
    often = replace(QUICK, save_peers_s=0.02)
    async with (
        daemon(tmp_path / "a") as a,
        daemon(tmp_path / "b", bootstrap=through(a), settings=often),
    ):
        saved = tmp_path / "b" / "peers.json"
        saved.unlink()
        await until(saved.exists)


async def test_who_lost_everyone_still_remembers_them(tmp_path: Path) -> None:
    gone = Identity.generate(random.Random(3))
    folder = a_folder(tmp_path / "a")
    peer = KnownPeer(Contact(gone.public_key, Address("127.0.0.1", silent_port())))
    folder.write_memory(Memory((peer,)))
    async with daemon(folder.path):
        pass
    assert len(folder.read_memory().peers) == 1


async def test_an_unreachable_bootstrap_is_said_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = silent_port()
    bootstrap = (parse_invite(f"127.0.0.1:{port}"),)
    async with daemon(tmp_path / "a", bootstrap=bootstrap) as a:
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert f"bootstrap 127.0.0.1:{port}" in warnings[0]
        async with daemon(tmp_path / "b", bootstrap=through(a)):  # it answers others meanwhile
            await peers_of(a, count=1)


async def test_a_bootstrap_that_comes_later_is_found(tmp_path: Path) -> None:
    port = silent_port()
    bootstrap = (parse_invite(f"127.0.0.1:{port}"),)
    async with (
        daemon(tmp_path / "a", bootstrap=bootstrap) as a,
        daemon(tmp_path / "b", port=port),
    ):
        await peers_of(a, count=1)


async def test_it_can_be_stopped_while_it_still_knocks(tmp_path: Path) -> None:
    bootstrap = (parse_invite(f"127.0.0.1:{silent_port()}"),)
    patient = replace(QUICK, timeout_s=60.0)
    starting = asyncio.create_task(
        daemon(tmp_path, bootstrap=bootstrap, settings=patient).__aenter__()
    )
    await until((tmp_path / "key").exists)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    async with daemon(tmp_path):
        pass


async def test_a_stale_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with daemon(tmp_path) as ready:
        assert ready["control"] == str(path)


async def test_a_control_path_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    assert "is in the way" in await refusal(tmp_path / "a", control=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    async with daemon(tmp_path / "a") as a:
        said = await refusal(tmp_path / "b", control=Path(a["control"]))
        assert "another daemon answers" in said
        assert (tmp_path / "a" / "control.sock").exists()


async def test_a_control_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    long = tmp_path / ("x" * SOCKET_PATH_BYTES_MAX)
    assert "too long" in await refusal(tmp_path / "a", control=long)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "missing" / "sock", tmp_path / "file" / "sock"):
        assert "cannot make the socket" in await refusal(tmp_path / "a", control=path)


async def test_the_control_socket_can_be_elsewhere(tmp_path: Path) -> None:
    async with daemon(tmp_path / "a", control=tmp_path / "elsewhere") as ready:
        assert ready["control"] == str(tmp_path / "elsewhere")
        assert mode_of(tmp_path / "elsewhere") == 0o600
        assert not (tmp_path / "a" / "control.sock").exists()


async def peers_of(ready: dict[str, Any], *, count: int) -> None:
    """Wait until a daemon knows so many peers; a lookup by a stranger tells."""
    async with Node(network=NETWORK, bootstrap=[ready["address"]], server=False) as stranger:
        while True:
            closest, _ = await stranger.lookup(bytes(32))
            if len(closest) == count + 1:
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize(
    ("network", "host", "lan", "speaks"),
    [
        (NETWORK, "0.0.0.0", None, "if installed"),
        (NETWORK, "192.168.1.2", None, "if installed"),
        (NETWORK, "127.0.0.1", None, "never"),
        (NETWORK, "::1", None, "never"),
        (Network.open(), "0.0.0.0", None, "never"),
        (NETWORK, "0.0.0.0", False, "never"),
        (Network.open(), "127.0.0.1", True, "always"),
    ],
)
def test_a_daemon_speaks_on_its_links_as_its_operator_would_expect(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: bool,
    network: Network,
    host: str,
    lan: bool | None,
    speaks: str,
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "zeroconf", None)
    plan = Plan(folder=tmp_path, network=network, host=host, lan=lan)
    assert speaks_on_links(plan) is (speaks == "always" or (speaks == "if installed" and installed))


async def test_a_daemon_that_cannot_speak_on_its_links_lets_go_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "zeroconf", None)
        assert "kademlia-node[lan]" in await refusal(tmp_path, lan=True)
    async with daemon(tmp_path):
        pass
