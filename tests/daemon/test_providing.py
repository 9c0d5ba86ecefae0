"""What is said of the files that a daemon provides, and when."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kademlia_node.core.key import Key
from kademlia_node.core.manifest import Manifest
from kademlia_node.daemon.kept import Kept
from kademlia_node.daemon.providing import Providing
from kademlia_node.errors import SetupError
from kademlia_node.node.files import SharedFiles
from kademlia_node.node.node import Node
from tests.node.providers import CONTENT, touch, write


class Saying:
    """A node that notes what it is to say, and is reached where the test wants."""

    def __init__(self) -> None:
        self.invite = "kad://here"
        self.said: list[tuple[str, Key]] = []
        self.lifetimes: list[int | None] = []
        self.is_mute = False

    async def provide_many(
        self, manifests: list[Manifest], *, ttl_s: int | None
    ) -> list[SimpleNamespace]:
        for manifest in manifests:
            self._say("provide", manifest.key)
            self.lifetimes.append(ttl_s)
        return [SimpleNamespace(replicas=["somebody"]) for _ in manifests]

    async def unprovide(self, key: Key, *, ttl_s: int | None) -> None:
        self._say("unprovide", key)
        self.lifetimes.append(ttl_s)

    async def forget(self, key: Key) -> bool:
        self.said.append(("forget", key))
        return True

    def count(self, event: str, times: int = 1) -> None:
        """Nobody looks."""

    def _say(self, what: str, key: Key) -> None:
        if self.is_mute:
            raise SetupError("nobody knows where we are")
        self.said.append((what, key))


class House:
    """A folder, a file, and a node that says what `providing` wants said."""

    def __init__(self, path: Path) -> None:
        self.home = path / "home"
        self.home.mkdir()
        self.source = path / "source"
        write(self.source, CONTENT)
        self.start()

    def start(self) -> None:
        self.node = Saying()
        kept, node = Kept(self.home / "provided"), cast("Node", self.node)
        self.providing = Providing(node, SharedFiles(), kept=kept, home=self.home)

    async def provide(self) -> Key:
        file, _ = await self.providing.provide(self.source)
        self.node.said.clear()
        return file.manifest.key


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def states(house: House) -> list[Any]:
    return [one["state"] for one in house.providing.provided()]


async def test_the_list_is_on_the_disk_before_the_network_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: before.append(len(house.node.said)))
    file, _ = await house.providing.provide(house.source)
    assert before == [0, 0]  # of the file, and of its name
    await house.providing.unprovide(file.manifest.key)
    assert before == [0, 0, 2]


async def test_what_the_network_knows_is_not_said_again(house: House) -> None:
    await house.provide()
    assert await house.providing.look_after()
    assert house.node.said == []


async def test_at_the_start_all_is_said_once(house: House) -> None:
    key = await house.provide()
    house.start()
    assert states(house) == ["waiting"]
    for _ in range(2):
        assert await house.providing.look_after()
        assert house.node.said == [("provide", key)]
    assert states(house) == ["announced"]


async def test_a_lifetime_is_that_of_all_that_is_said_of_a_file(house: House) -> None:
    file, _ = await house.providing.provide(house.source, ttl_s=600)
    house.start()
    await house.providing.look_after()
    touch(house.source)
    await house.providing.look_after()
    assert house.node.lifetimes == [600, 600]
    await house.providing.unprovide(file.manifest.key, ttl_s=700)
    assert house.node.lifetimes == [600, 600, 700]


async def test_another_address_is_announced(house: House) -> None:
    key = await house.provide()
    house.node.invite = "kad://there"
    await house.providing.look_after()
    assert house.node.said == [("provide", key)]


async def test_a_file_that_changes_is_withdrawn_once_and_announced_when_it_is_itself_again(
    house: House,
) -> None:
    key = await house.provide()
    touch(house.source)
    for _ in range(2):
        assert await house.providing.look_after()
        assert house.node.said == [("unprovide", key)]
    assert states(house) == ["changed"]
    touch(house.source, later_s=-1)
    await house.providing.look_after()
    assert house.node.said[1:] == [("provide", key)]


async def test_what_cannot_be_said_is_logged_once_and_tried_again(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    key = await house.provide()
    house.start()
    house.node.is_mute = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert not await house.providing.look_after()
    assert len(caplog.records) == 1
    house.node.is_mute = False
    assert await house.providing.look_after()
    assert house.node.said == [("provide", key)]


async def test_a_file_that_cannot_be_announced_leaves_nothing_behind(house: House) -> None:
    house.node.is_mute = True
    with pytest.raises(SetupError):
        await house.providing.provide(house.source)
    assert states(house) == []
    assert [what for what, _ in house.node.said] == ["forget"]
    house.start()
    assert states(house) == []


async def test_what_cannot_be_withdrawn_stays(house: House) -> None:
    key = await house.provide()
    house.node.is_mute = True
    with pytest.raises(SetupError):
        await house.providing.unprovide(key)
    assert states(house) == ["announced"]
    house.start()
    assert states(house) == ["waiting"]
