"""Real nodes with no bootstrap, on a real link: multicast DNS over loopback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from random import SystemRandom

import pytest

from kademlia_node.core.network import Network
from kademlia_node.errors import NotRunning, SetupError
from kademlia_node.node.node import Node
from tests.net.links import needs_multicast

LONG_S = 20.0  # no test takes so long unless something hangs


def a_network() -> Network:
    """One of its own for each test: others use the same link."""
    return Network.private(SystemRandom().randbytes(32))


@pytest.mark.net
@needs_multicast
async def test_two_nodes_find_each_other_and_a_stranger_finds_nobody() -> None:
    ours, theirs = a_network(), a_network()
    async with (
        Node(network=ours, host="127.0.0.1", lan=True) as alice,
        Node(network=theirs, host="127.0.0.1", lan=True) as eve,
        Node(network=ours, host="127.0.0.1", lan=True) as bob,
    ):
        async with asyncio.timeout(LONG_S):
            while not (alice.contacts() and bob.contacts()):  # noqa: ASYNC110 - tells nobody
                await asyncio.sleep(0.01)
        await alice.set("colour", b"blue")
        assert await bob.get("colour") == b"blue"
        assert eve.contacts() == []


@pytest.mark.net
async def test_a_node_that_wants_a_link_and_lacks_the_package_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    node = Node(network=a_network(), host="127.0.0.1", lan=True)
    with pytest.raises(SetupError, match=r"pip install 'kademlia-node\[lan\]'"):
        await node.start()
    with pytest.raises(NotRunning):
        await node.status()


def test_a_node_without_a_link_needs_no_package_and_no_multicast() -> None:
    script = """if True:
        import asyncio, sys
        sys.modules["zeroconf"] = sys.modules["ifaddr"] = None
        from kademlia_node import Network, Node

        async def main():
            async with Node(network=Network.private(bytes(32)), host="127.0.0.1") as node:
                print((await node.status()).role)

        asyncio.run(main())
    """
    shown = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, check=True, timeout=LONG_S
    )
    assert shown.stdout == "server\n"
