"""The folder in which a daemon lives: its key, the lock that makes it the only one, its peers.

    key             32-byte seed of the identity, as text; mode 0600
    lock            held (flock) while a daemon runs; holds its process ID
    peers.json      the peers that were known last, and how many nodes there seemed to be
    provided/       the files that are provided (`kept`)
    control.sock    where the verbs reach the daemon
    control.token   bearer token of the control API over TCP, if that was asked for; mode 0600

Refuses to know what a daemon does with them. Driven by `locked`, which alone gives write access;
`Folder(path)` by itself is for readers. Whatever stands in the way is a SetupError of one line.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from kademlia_node.core.identity import Identity
from kademlia_node.core.memory import Memory
from kademlia_node.errors import SetupError
from kademlia_node.secret import parse_secret, read_private

log = logging.getLogger(__name__)

KEY_HEADER: Final = "kademlia-node key 1"  # what the file is, and the version of its form
SOCKET_PATH_BYTES_MAX: Final = 107  # sun_path of Linux, less its closing zero byte (unix(7))


def default_folder() -> Path:
    """`kademlia-node` in the user's data home (XDG Base Directory Specification)."""
    home = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not home.is_absolute():
        home = Path.home() / ".local" / "share"
    return home / "kademlia-node"


class Folder:
    """A data folder. Reading what is not there gives None, or nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key_path = path / "key"
        self.lock_path = path / "lock"
        self.peers_path = path / "peers.json"
        self.store_path = path / "store.db"
        self.provided_path = path / "provided"
        self.socket_path = path / "control.sock"
        self.token_path = path / "control.token"

    def read_key(self) -> Identity | None:
        """The identity whose key is kept here.

        Raises:
            SetupError: the key cannot be read, others can read it, or it is no key.
        """
        text = read_private(self.key_path)
        if text is None:
            return None
        try:
            return _parse_key(text)
        except ValueError:  # whatever it says of the seed stays unsaid
            raise SetupError(
                f"{self.key_path} is no key file of this program: restore it from a backup, or"
                " move it away to become a new node"
            ) from None

    def write_key(self, identity: Identity) -> None:
        """Keep the identity."""
        write_private(self.key_path, f"{KEY_HEADER}\n{identity.seed.hex()}\n")

    def token(self, rng: random.Random) -> str:
        """The bearer token of the control API; made when first asked for."""
        kept = read_private(self.token_path)
        if kept is None:
            kept = rng.randbytes(32).hex()
            write_private(self.token_path, kept + "\n")
        return kept.strip()

    def read_memory(self) -> Memory:
        """The peers of the last run. A broken list is set aside: it is a help, not a need."""
        try:
            return Memory.from_json(self.peers_path.read_text("utf-8"))
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError):
            aside = self.peers_path.with_suffix(".broken")
            log.warning("%s is no list of peers: moved to %s", self.peers_path, aside.name)
            with suppress(OSError):
                self.peers_path.replace(aside)
            return Memory()

    def write_memory(self, memory: Memory) -> None:
        """Keep it for the next run. Failing to do so is logged and nothing more."""
        try:
            write_private(self.peers_path, memory.to_json())
        except SetupError as error:
            log.warning("the peers could not be saved: %s", error)


@contextmanager
def locked(path: Path) -> Iterator[Folder]:
    """The folder at `path`, made if need be, and ours alone until the block ends.

    Raises:
        SetupError: another process has it, or it cannot be made or written.
    """
    folder = Folder(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SetupError(f"cannot use the folder {path}: {error.strerror}") from error
    try:
        _take(lock, path)
        yield folder
    finally:
        os.close(lock)  # the kernel lets go of the lock, as it does when we are killed


def check_socket_path(path: Path) -> None:
    """Raise SetupError if no Unix socket can have this path."""
    excess = len(os.fsencode(path)) - SOCKET_PATH_BYTES_MAX
    if excess > 0:
        raise SetupError(f"the socket path {path} is {excess} bytes too long: choose a shorter one")


def _take(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        raise SetupError(
            f"the folder {path} is in use by process {holder}: stop that, or choose another folder"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def write_private(path: Path, text: str, *, durable: bool = False) -> None:
    """Replace a file, whole or not at all; nobody else can read it at any instant.

    Args:
        path: Of the file.
        text: All of it.
        durable: Return when a power cut cannot undo it any more.

    Raises:
        SetupError: it cannot be written.
    """
    fresh = path.with_suffix(".new")
    try:
        fresh.unlink(missing_ok=True)  # left by a killed process, with who knows which mode
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)
        if durable:
            _sync_names(path.parent)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}") from error


def remove_durably(path: Path) -> None:
    """Remove a file, if it is there, so that a power cut cannot bring it back.

    Raises:
        SetupError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
        _sync_names(path.parent)
    except OSError as error:
        raise SetupError(f"cannot remove {path}: {error.strerror}") from error


def _sync_names(folder: Path) -> None:
    """Have the disk hold which files are in a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parse_key(text: str) -> Identity:
    header, _, seed = text.strip().partition("\n")
    if header != KEY_HEADER:
        raise ValueError("no key file")
    return Identity(parse_secret(seed))
