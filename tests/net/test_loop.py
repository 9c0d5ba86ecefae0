from __future__ import annotations

import asyncio
import importlib
import sys

import pytest

from kademlia_node.net import loop


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.mark.net
def test_main_runs_on_uvloop_and_its_result_comes_back() -> None:
    assert type(loop.run(running_loop())).__module__ == "uvloop"


@pytest.mark.net
def test_without_uvloop_main_runs_on_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "uvloop", None)
        importlib.reload(loop)
        assert isinstance(loop.run(running_loop()), asyncio.SelectorEventLoop)
    importlib.reload(loop)
