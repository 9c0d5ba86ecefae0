"""The verbs as a client of a daemon's control API, over its Unix socket.

    async with connected(folder / "control.sock") as daemon:
        receipt = await daemon.set("colour", b"blue")

For programs and for the command line alike; the other implementation of `verbs.Verbs`, which says
what can be asked. Answers are plain values, shaped in `views`. Names and topics go percent-encoded,
whatever is in them. What the daemon refuses comes out as `Refused`; nobody at the socket is
`NoDaemon`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from kademlia_node.daemon.folder import check_socket_path
from kademlia_node.daemon.views import Json, OnView
from kademlia_node.errors import NoDaemon, Refused
from kademlia_node.node.announcing import Announcement

__all__ = ["ControlClient", "Json", "NoDaemon", "Refused", "connected"]

PART_BYTES: Final = 30_000  # of a request for many things; the last one of it may be 90 KB long
PATIENT: Final = aiohttp.ClientTimeout(total=None)  # a million signatures take some minutes


@asynccontextmanager
async def connected(socket: Path) -> AsyncIterator[ControlClient]:
    """A client of the daemon at this socket.

    Each of its verbs raises NoDaemon when none answers. It may be asked again: a daemon that was
    started anew answers.

    Raises:
        SetupError: no socket can have this path.
    """
    check_socket_path(socket)
    connector = aiohttp.UnixConnector(str(socket))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield ControlClient(session, socket)


@contextmanager
def _missing(socket: Path) -> Iterator[None]:
    """Say who is not there."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise NoDaemon(
            f"no daemon answers at {socket} ({error.os_error.strerror}): start one with"
            "  kademlia-node run"
        ) from error
    except aiohttp.ClientPayloadError as error:
        raise NoDaemon(f"the daemon at {socket} has stopped in the middle of it") from error
    except aiohttp.ClientError as error:
        raise NoDaemon(f"the daemon at {socket} went away: {error}") from error


class ControlClient:
    """See `Verbs`; done by a daemon."""

    def __init__(self, session: aiohttp.ClientSession, socket: Path) -> None:
        self._session = session
        self._socket = socket

    async def identity(self) -> Json:
        """See `Verbs`."""
        return await self._call("GET", "id")

    async def status(self) -> Json:
        """See `Verbs`."""
        return await self._call("GET", "status")

    async def peers(self) -> list[Json]:
        """See `Verbs`."""
        peers: list[Json] = await self._request("GET", "peers")
        return peers

    async def put(self, value: bytes, *, acks: int | None = None, ttl_s: int | None = None) -> Json:
        """See `Verbs`."""
        return await self._call("POST", "blobs", query={"acks": acks, "ttl_s": ttl_s}, body=value)

    async def get_blob(self, key: str) -> Json:
        """See `Verbs`."""
        return await self._call("GET", "blobs", key)

    async def forget(self, key: str) -> Json:
        """See `Verbs`."""
        return await self._call("DELETE", "blobs", key)

    async def published(self) -> AsyncGenerator[Json, None]:
        """See `Verbs`."""
        async for publication in self._lines("publications"):
            yield publication

    async def set(
        self,
        name: str,
        value: bytes,
        *,
        own: bool = False,
        expect_seq: int | None = None,
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> Json:
        """See `Verbs`."""
        query = {"own": int(own), "expect_seq": expect_seq, "acks": acks, "ttl_s": ttl_s}
        return await self._call("PUT", "names", name, query=query, body=value)

    async def get_name(
        self, name: str, *, author: str | None = None, own: bool = False, reads: int | None = None
    ) -> Json:
        """See `Verbs`."""
        query = {"own": int(own), "author": author, "reads": reads}
        return await self._call("GET", "names", name, query=query)

    async def announce(
        self,
        topic: str,
        value: bytes,
        *,
        slot: str = "",
        acks: int | None = None,
        ttl_s: int | None = None,
    ) -> Json:
        """See `Verbs`."""
        query = {"slot": slot, "acks": acks, "ttl_s": ttl_s}
        return await self._call("POST", "topics", topic, query=query, body=value)

    async def announce_many(
        self, announcements: Iterable[Announcement], *, ttl_s: int | None = None
    ) -> list[Json]:
        """See `Verbs`. Some go at a time: if these are refused, those before them were not."""
        entries = [
            {"topic": one.topic, "slot": one.slot, "value": b64encode(one.value).decode()}
            for one in announcements
        ]
        return await self._in_parts("announcements", entries, ttl_s=ttl_s)

    async def withdraw_many(
        self, entries: Iterable[tuple[str, str]], *, ttl_s: int | None = None
    ) -> list[Json]:
        """See `Verbs`, and `announce_many`."""
        named = [{"topic": topic, "slot": slot} for topic, slot in entries]
        return await self._in_parts("withdrawals", named, ttl_s=ttl_s)

    async def find(self, topic: str) -> AsyncGenerator[Json, None]:
        """See `Verbs`."""
        async for entry in self._lines("topics", topic):
            yield entry

    async def watch_topic(self, topic: str) -> AsyncGenerator[Json, None]:
        """See `Verbs`."""
        async for change in self._lines("watch", "topics", topic, timeout=PATIENT):
            yield change

    async def watch_name(
        self, name: str, *, author: str | None = None, own: bool = False
    ) -> AsyncGenerator[Json, None]:
        """See `Verbs`."""
        query = {"own": int(own), "author": author}
        async for change in self._lines("watch", "names", name, query=query, timeout=PATIENT):
            yield change

    async def withdraw_name(
        self, name: str, *, own: bool = False, ttl_s: int | None = None
    ) -> Json:
        """See `Verbs`."""
        query = {"own": int(own), "ttl_s": ttl_s}
        return await self._call("DELETE", "names", name, query=query)

    async def withdraw_entry(self, topic: str, *, slot: str = "", ttl_s: int | None = None) -> Json:
        """See `Verbs`."""
        query = {"slot": slot, "ttl_s": ttl_s}
        return await self._call("DELETE", "topics", topic, query=query)

    async def provide(
        self,
        path: str,
        *,
        key: str | None = None,
        ttl_s: int | None = None,
        on_progress: OnView | None = None,
    ) -> Json:
        """See `Verbs`."""
        body = json.dumps({"path": path, "key": key, "ttl_s": ttl_s}).encode()
        return await self._follow("contents", body=body, on_progress=on_progress)

    async def unprovide(self, key: str, *, ttl_s: int | None = None) -> Json:
        """See `Verbs`."""
        return await self._call("DELETE", "contents", key, query={"ttl_s": ttl_s})

    async def provided(self) -> list[Json]:
        """See `Verbs`."""
        contents: list[Json] = await self._request("GET", "contents")
        return contents

    async def fetch(
        self,
        key: str,
        path: str,
        *,
        length_max: int | None = None,
        on_progress: OnView | None = None,
    ) -> Json:
        """See `Verbs`."""
        body = json.dumps({"path": path, "length_max": length_max}).encode()
        return await self._follow("contents", key, "fetch", body=body, on_progress=on_progress)

    async def ping(self, peer: str) -> Json:
        """See `Verbs`."""
        return await self._call("POST", "ping", body=json.dumps({"peer": peer}).encode())

    async def trace(self, target: str, *, own: bool = False) -> Json:
        """See `Verbs`."""
        return await self._call("GET", "trace", target, query={"own": int(own)})

    async def backup(self, path: str) -> Json:
        """See `Verbs`."""
        return await self._call("POST", "backup", body=_path_body(path), timeout=PATIENT)

    async def restore(self, path: str) -> Json:
        """See `Verbs`."""
        return await self._call("POST", "restore", body=_path_body(path), timeout=PATIENT)

    async def leave(self, within_s: float | None = None) -> Json:
        """See `Verbs`."""
        return await self._call("POST", "leave", query={"within_s": within_s}, timeout=PATIENT)

    async def _call(self, method: str, *path: str, **content: Any) -> Json:
        answer: Json = await self._request(method, *path, **content)
        return answer

    async def _in_parts(
        self, what: str, entries: Sequence[Json], *, ttl_s: int | None
    ) -> list[Json]:
        """Ask for many things in as many requests as it takes."""
        receipts: list[Json] = []
        query, part, size = {"ttl_s": ttl_s}, list[str](), 0
        for number, entry in enumerate(entries, 1):
            part.append(json.dumps(entry))
            size += len(part[-1])
            if size >= PART_BYTES or number == len(entries):
                body = f"[{','.join(part)}]".encode()
                receipts += await self._request(
                    "POST", what, query=query, body=body, timeout=PATIENT
                )
                part, size = [], 0
        return receipts

    async def _lines(
        self, *path: str, query: dict[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[Json]:
        with _missing(self._socket):
            async with self._session.get(_url(*path, query=query), **options) as response:
                await _check(response)
                async for line in response.content:
                    if not line.strip():  # sent only to see whether we are there
                        continue
                    view: Json = json.loads(line)
                    if "error" in view:
                        raise Refused(view)
                    yield view

    async def _follow(self, *path: str, body: bytes, on_progress: OnView | None) -> Json:
        """Hear how far it is, line by line; the last line is the answer (`daemon.follow`)."""
        with _missing(self._socket):
            async with self._session.post(_url(*path), data=body, timeout=PATIENT) as response:
                await _check(response)
                async for line in response.content:
                    view: Json = json.loads(line)
                    if "error" in view:
                        raise Refused(view)
                    if "done_bytes" not in view:
                        return view
                    if on_progress is not None:
                        on_progress(view)
            raise aiohttp.ClientPayloadError("it ended without an answer")

    async def _request(
        self,
        method: str,
        *path: str,
        query: dict[str, Any] | None = None,
        body: bytes | None = None,
        **options: Any,
    ) -> Any:
        url = _url(*path, query=query)
        with _missing(self._socket):
            async with self._session.request(method, url, data=body, **options) as response:
                await _check(response)
                return await response.json()


def _path_body(path: str) -> bytes:
    return json.dumps({"path": path}).encode()


def _url(*path: str, query: dict[str, Any] | None = None) -> URL:
    """The host stands for nothing. Encoded here, so that nobody normalises `..` and `//` away.

    What is None in the query is left out.
    """
    steps = "/".join(quote(step, safe="") for step in path)
    said = {name: value for name, value in (query or {}).items() if value is not None}
    text = f"http://daemon/v1/{steps}"
    return URL(f"{text}?{urlencode(said)}" if said else text, encoded=True)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    if response.content_type == "application/json":
        raise Refused(await response.json())
    # What aiohttp itself refuses before any of our code sees it, such as a URL beyond 8 KB.
    raise Refused({"error": "BadRequest", "detail": f"the daemon refused: {response.reason}"})
