"""A node as a service: it lives in a folder, is known by its key, and remembers its peers.

`serve` holds the folder, the node and the control API together until it is cancelled; `run` does
that in a fresh event loop until SIGTERM or SIGINT. What the node does is its own business; where
flags come from is the command line's.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from kademlia_node.core.contact import Address, is_loopback
from kademlia_node.core.identity import Identity
from kademlia_node.core.ids import solves_puzzle
from kademlia_node.core.invite import Invite
from kademlia_node.core.network import Network
from kademlia_node.daemon.archive import Archive
from kademlia_node.daemon.control import Control
from kademlia_node.daemon.drain import Drain
from kademlia_node.daemon.folder import Folder, locked
from kademlia_node.daemon.kept import Kept
from kademlia_node.daemon.listen import listen_tcp, listen_unix
from kademlia_node.daemon.providing import Providing
from kademlia_node.daemon.views import Json
from kademlia_node.errors import SetupError
from kademlia_node.net import link, loop
from kademlia_node.node.files import SharedFiles
from kademlia_node.node.life import find_identity
from kademlia_node.node.node import Node
from kademlia_node.settings import Settings
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.schema import Durability

log = logging.getLogger(__name__)

DRAINING_S: Final = 10.0  # what is under way when we are to end; systemd would kill after 90 s
END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
PUZZLE_WORTH_A_WORD: Final = 8  # bits; beyond, making a key takes long enough to be announced


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to run. `server` and `bootstrap` as for `Node`.

    Attributes:
        folder: The data folder; made if need be.
        control: Path of the control socket; None: in the folder.
        control_tcp: Where to serve the control API over TCP, too; None: nowhere.
        durability: What records that were acknowledged survive.
        lan: Whether to find members on the same link; None: see `speaks_on_links`.
    """

    folder: Path
    network: Network
    host: str = "0.0.0.0"  # noqa: S104 - a peer is there to be reached
    port: int = 0
    bootstrap: tuple[Invite, ...] = ()
    server: bool | None = None
    control: Path | None = None
    control_tcp: Address | None = None
    durability: Durability = Durability.PROCESS
    lan: bool | None = None


def speaks_on_links(plan: Plan) -> bool:
    """Whether to find members on the same link, where nobody has decided.

    So it is if the network is private, whose operator wants its members together, and the package
    for it was installed; a daemon at loopback is to be left alone.
    """
    if plan.lan is not None:
        return plan.lan
    return plan.network.secret is not None and not is_loopback(plan.host) and link.is_installed()


def run(plan: Plan, *, on_ready: Callable[[Json], None]) -> None:
    """Serve until SIGTERM or SIGINT; a second one of these ends the process at once."""

    async def until_signalled() -> None:
        serving = asyncio.create_task(serve(plan, on_ready=on_ready))
        own_loop = asyncio.get_running_loop()

        def end() -> None:
            for number in END_SIGNALS:
                own_loop.remove_signal_handler(number)
            serving.cancel()

        for number in END_SIGNALS:
            own_loop.add_signal_handler(number, end)
        with suppress(asyncio.CancelledError):
            await serving
        log.info("stopped")

    loop.run(until_signalled())


async def _make_node(
    plan: Plan, folder: Folder, *, identity: Identity, settings: Settings, rng: random.Random
) -> tuple[Node, Archive, Providing]:
    """The node of this folder, with its peers, its records and the files that it provides."""
    lan = link.multicast(settings) if speaks_on_links(plan) else False
    store = await DiskStore.open(
        folder.store_path,
        own_id=identity.id,
        settings=plan.network.adapt(settings),
        durability=plan.durability,
    )
    files = SharedFiles()
    node = Node(
        network=plan.network,
        bootstrap=plan.bootstrap,
        host=plan.host,
        port=plan.port,
        identity=identity,
        server=plan.server,
        store=store,
        content=files,
        memory=folder.read_memory(),
        lan=lan,
        settings=settings,
        rng=rng,
    )
    archive = Archive(node, store, wall=time.time)  # noqa: TID251 - the shell's wall clock
    kept = Kept(folder.provided_path)
    return node, archive, Providing(node, files, kept=kept, home=folder.path)


async def serve(
    plan: Plan,
    *,
    on_ready: Callable[[Json], None],
    settings: Settings | None = None,
    rng: random.Random | None = None,
) -> None:
    """Be a node until cancelled, or until it has left; then stop it and let go of the folder.

    It begins nothing new then, and what is under way has `DRAINING_S` to finish; peers are saved.

    Args:
        plan: What is to run.
        on_ready: Told once, when all sockets are open and the first attempt to join is over:
            `id`, `address`, `invite`, `control` and, over TCP, `control_tcp`.
        settings: Of the node; also how often peers are saved and provided files looked after.
        rng: The source of chance, keys included.

    Raises:
        SetupError: something stands in the way: the folder, the key, an address.
    """
    settings, rng = settings or Settings(), rng or random.SystemRandom()
    with locked(plan.folder) as folder:
        identity = await own_identity(
            folder, network=plan.network, rng=rng, server=plan.server is not False
        )
        node, archive, providing = await _make_node(
            plan, folder, identity=identity, settings=settings, rng=rng
        )
        drain = Drain()
        async with node, AsyncExitStack() as stack:
            control = partial(
                Control,
                node,
                needs_peers=bool(plan.bootstrap),
                archive=archive,
                providing=providing,
                drain=drain,
            )
            ready = await _open_control(
                node, plan, control=control, folder=folder, stack=stack, rng=rng
            )
            stack.callback(_save_peers, node, folder)
            stack.push_async_callback(drain.finish, within_s=DRAINING_S)
            _save_peers(node, folder)  # whoever joined once finds back, though it be killed now
            await _tell(node, ready)
            on_ready(ready)
            async with asyncio.TaskGroup() as tasks:
                looking = tasks.create_task(providing.keep(every_s=settings.save_peers_s))
                while not await drain.left_within(settings.save_peers_s):
                    _save_peers(node, folder)
                looking.cancel()


async def own_identity(
    folder: Folder, *, network: Network, rng: random.Random, server: bool = True
) -> Identity:
    """The identity of a folder that is ours, made on first use.

    Raises:
        SetupError: the key file is refused, or a server could not be known by this key in this
            network.
    """
    bits = network.puzzle_bits
    identity = folder.read_key()
    if identity is None:
        if bits >= PUZZLE_WORTH_A_WORD:
            log.info("making a key for the network %r: this takes some seconds", network.name)
        identity = await find_identity(rng, puzzle_bits=bits)
        folder.write_key(identity)
    elif server and not solves_puzzle(identity.id, bits=bits):
        raise SetupError(
            f"the key in {folder.key_path} does not solve the {bits}-bit puzzle of the network"
            f" {network.name!r}: use another folder, or move the key away to have a new one made"
        )
    return identity


async def _open_control(
    node: Node,
    plan: Plan,
    *,
    control: Callable[..., Control],
    folder: Folder,
    stack: AsyncExitStack,
    rng: random.Random,
) -> Json:
    """Open the sockets of the control API; returns what scripts want to know of them all."""
    path = plan.control or folder.socket_path
    await stack.enter_async_context(listen_unix(control().app(), path))
    ready: Json = {
        "id": node.id.hex(),
        "address": str(node.address),
        "invite": str(node.invite),
        "control": str(path.absolute()),
    }
    if plan.control_tcp is not None:
        app = control(token=folder.token(rng)).app()
        where = await stack.enter_async_context(listen_tcp(app, plan.control_tcp))
        ready["control_tcp"] = str(where)
    return ready


async def _tell(node: Node, ready: Json) -> None:
    """Two kinds of lines for people: we are here, and who of the bootstrap was not."""
    status = await node.status()
    for silent in status.unreachable:
        log.warning("bootstrap %s; it will be tried again", silent)
    log.info("listening on %s as %s", ready["address"], ready["invite"])


def _save_peers(node: Node, folder: Folder) -> None:
    """Remember whom we know; having lost everyone is no reason to forget them."""
    memory = node.memory()
    if memory.peers:
        folder.write_memory(memory)
