from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from kademlia_node.core.identity import Identity
from kademlia_node.core.network import Network
from kademlia_node.core.record import Record, make_blob, make_entry
from kademlia_node.daemon.folder import Folder
from kademlia_node.daemon.node_verbs import NodeVerbs
from kademlia_node.errors import SetupError
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.store.base import Published
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.schema import Durability
from tests.daemon.running import NETWORK, daemon
from tests.daemon.test_control import Answer, Client, client_of, lone

pytestmark = pytest.mark.net


async def ask(client: Client, verb: str, path: Path | str) -> Answer:
    return await client.ask("POST", f"/v1/{verb}", json={"path": str(path)})


def tamper(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


async def test_a_new_daemon_with_a_backup_has_the_records_of_the_old(tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    async with lone(tmp_path / "a") as client:
        await client.ask("PUT", "/v1/names/colour", data=b"blue")
        status, made = await ask(client, "backup", backup)
        assert (status, made["records"], made["refused"]) == (200, 1, {})
        await client.ask("PUT", "/v1/names/colour", data=b"red")
        assert (await ask(client, "restore", backup))[1]["restored"] == 0
        assert (await client.get("/v1/names/colour"))[1]["text"] == "red"
    async with lone(tmp_path / "b") as client:
        status, report = await ask(client, "restore", backup)
        assert (status, report["restored"]) == (200, 1)
        assert (await client.get("/v1/names/colour"))[1]["text"] == "blue"


async def test_what_is_refused_shows_in_the_counters(tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    async with lone(tmp_path / "a") as client:
        for name in "ab":
            await client.ask("PUT", f"/v1/names/{name}", data=b"v")
        await ask(client, "backup", backup)
        tamper(backup, "UPDATE record SET value = CAST('w' AS BLOB)")
        status, report = await ask(client, "restore", backup)
        assert (status, report["refused"]) == (200, {"wrong_value": 2})
        counters = (await client.get("/v1/status"))[1]["counters"]
        assert counters["bad_record_restore_wrong_value"] == 2


async def test_damage_in_the_store_shows_in_the_counters(tmp_path: Path) -> None:
    async with lone(tmp_path / "a") as client:
        await client.ask("POST", "/v1/blobs", data=b"v")
    tamper(tmp_path / "a" / "store.db", "UPDATE record SET value = CAST('w' AS BLOB)")
    async with lone(tmp_path / "a") as client:
        assert (await ask(client, "backup", tmp_path / "backup.db"))[1]["refused"]
        counters = (await client.get("/v1/status"))[1]["counters"]
        assert counters["bad_record_backup_wrong_value"] == 1


async def test_bad_paths_are_400(tmp_path: Path) -> None:
    async with lone(tmp_path / "a") as client:
        for verb in ("backup", "restore"):
            for path in ("relative.db", ""):
                status, view = await ask(client, verb, path)
                assert (status, view["error"]) == (400, "ValueError")
            bodies: list[object] = [[], {}, {"path": 7}, "text"]
            for body in bodies:
                status, view = await client.ask("POST", f"/v1/{verb}", json=body)
                assert (status, view["error"]) == (400, "ValueError")
        assert (await ask(client, "backup", tmp_path / "a" / "key"))[1]["error"] == "SetupError"
        assert (await ask(client, "restore", tmp_path / "a" / "key"))[1]["error"] == "SetupError"


async def test_a_backup_of_another_network_is_refused(tmp_path: Path) -> None:
    async with lone(tmp_path / "a") as client:
        await ask(client, "backup", tmp_path / "backup.db")
    async with lone(tmp_path / "b", network=Network.open("other", puzzle_bits=0)) as client:
        status, view = await ask(client, "restore", tmp_path / "backup.db")
    assert status == 400
    assert "another network" in view["detail"]


async def keep_alive(folder: Path, records: list[Record]) -> None:
    """Publications of a node that is not running."""
    store = await DiskStore.open(Folder(folder).store_path, own_id=bytes(32), settings=Settings())
    for record in records:
        await store.publications.keep(Published(record, renew_at=float(record.header.expires)))
    await store.close()


@pytest.mark.parametrize(
    ("network", "renewed"),
    [(NETWORK, 3), (Network.open(puzzle_bits=0), 2)],
    ids=["private", "open"],
)
async def test_a_node_keeps_alive_again_what_it_can_renew(
    tmp_path: Path, network: Network, renewed: int
) -> None:
    """Blobs, its own entries and, in a private network, those of the commons."""
    own, stranger = (Identity.generate(random.Random(seed)) for seed in (1, 2))
    expires = int(time.time()) + 3600

    def entry_of(author: Identity) -> Record:
        return make_entry(
            author.signing, b"n", value=b"v", seq=1, expires=expires, network_tag=network.tag
        )

    tmp_path.joinpath("a").mkdir()
    Folder(tmp_path / "a").write_key(own)
    records = [entry_of(author) for author in (own, stranger, Identity.commons(NETWORK))]
    await keep_alive(tmp_path / "a", [*records, make_blob(b"b", expires=expires)])
    async with lone(tmp_path / "a", network=network) as client:
        made = (await ask(client, "backup", tmp_path / "backup.db"))[1]
        assert (made["publications"], made["refused"]) == (4, {})
    (tmp_path / "a" / "store.db").unlink()
    async with lone(tmp_path / "a", network=network) as client:
        report = (await ask(client, "restore", tmp_path / "backup.db"))[1]
    assert (report["publications"], report["not_ours"]) == (renewed, 4 - renewed)


async def test_a_node_without_a_disk_has_nothing_to_back_up(tmp_path: Path) -> None:
    async with Node(network=NETWORK, host="127.0.0.1", server=False) as node:
        for verb in (NodeVerbs(node).backup, NodeVerbs(node).restore):
            with pytest.raises(SetupError, match="nothing on disk"):
                await verb(str(tmp_path / "backup.db"))


async def test_records_can_be_made_to_survive_a_power_failure(tmp_path: Path) -> None:
    async with daemon(tmp_path, durability=Durability.POWER) as ready, client_of(ready) as client:
        assert (await client.ask("PUT", "/v1/names/n", data=b"v"))[0] == 200
