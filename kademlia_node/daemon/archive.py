"""Backups of a daemon's store, made and put back while its node runs (`store.backup`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from kademlia_node.core.identity import Identity
from kademlia_node.core.suite import STANDARD
from kademlia_node.node.node import Node
from kademlia_node.store.backup import (
    BackupReport,
    RestoreReport,
    create_backup,
    restore_backup,
)
from kademlia_node.store.disk import DiskStore

BLOB_AUTHOR: Final = b""  # whoever has a blob may renew it


class Archive:
    """Backups of the store of a node that is running.

    What is refused on the way shows in the counters of its status.
    """

    def __init__(self, node: Node, store: DiskStore, *, wall: Callable[[], float]) -> None:
        self._node = node
        self._store = store
        self._wall = wall

    async def backup(self, path: Path) -> BackupReport:
        """See `create_backup`."""
        report = await create_backup(
            self._store,
            path,
            network_tag=self._node.network.tag,
            wall=self._wall(),
            verify=STANDARD.verify,
        )
        self._count("backup", report.refused)
        return report

    async def restore(self, path: Path) -> RestoreReport:
        """See `restore_backup`."""
        network = self._node.network
        ours = {BLOB_AUTHOR, self._node.public_key}
        if network.secret is not None:
            ours.add(Identity.commons(network).public_key)
        report = await restore_backup(
            self._store,
            path,
            network_tag=network.tag,
            wall=self._wall(),
            verify=STANDARD.verify,
            may_renew=ours.__contains__,
            on_filed=self._node.on_filed,
        )
        self._count("restore", report.refused)
        return report

    def _count(self, where: str, refused: dict[str, int]) -> None:
        for reason, times in refused.items():
            self._node.count(f"bad_record_{where}_{reason}", times)
