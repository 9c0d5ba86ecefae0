"""The control API: the verbs as HTTP and JSON, over a Unix socket or, when asked for, over TCP.

Whoever may open the socket (mode 0600) may do everything, which includes to have files read and
written as the daemon's user; over TCP a bearer token stands in for that. Refuses to know what the
verbs do. Driven by `listen`, which serves its application. An error is
`{"error": kind, "detail": text, ...}` with a fitting status.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from aiohttp import web

from kademlia_node.daemon.archive import Archive
from kademlia_node.daemon.drain import Drain
from kademlia_node.daemon.follow import follow, go_on
from kademlia_node.daemon.metrics import CONTENT_TYPE, exposition
from kademlia_node.daemon.node_verbs import NodeVerbs
from kademlia_node.daemon.providing import Providing
from kademlia_node.daemon.views import error_view
from kademlia_node.errors import (
    Conflict,
    Incomplete,
    KademliaError,
    NoAnswer,
    NotAgreed,
    NotFound,
    NotStored,
    RemoteError,
    SetupError,
    ValueTooLarge,
)
from kademlia_node.node.announcing import Announcement
from kademlia_node.node.node import Node

BODY_BYTES_MAX: Final = 128 * 2**10  # twice the largest value of the protocol
NUMBER_DIGITS_MAX: Final = 20  # of 64 bits

STATUSES: Final[list[tuple[type[Exception], int]]] = [  # the first that fits
    (NotFound, 404),
    (Conflict, 409),
    (ValueTooLarge, 413),
    (NotStored, 503),
    (NotAgreed, 503),
    (Incomplete, 503),
    (NoAnswer, 504),
    (RemoteError, 502),
    (SetupError, 400),  # a host name nobody knows
    (ValueError, 400),
]
PROBES: Final = {"/livez", "/readyz"}  # these tell nothing, and who asks may have no token
WATCH: Final = "/v1/watch/"
ANY_TEXT: Final = r"[\s\S]*"  # names and topics may be empty and hold slashes and line ends

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """The routes of one node's API.

    Args:
        node: has been started.
        needs_peers: whether it is ready only once it has joined.
        archive: of its store.
        providing: what it provides.
        drain: knows what is under way, and whether the daemon ends.
        token: what a request must bear; None: nothing.
    """

    def __init__(
        self,
        node: Node,
        *,
        needs_peers: bool,
        archive: Archive,
        providing: Providing,
        drain: Drain,
        token: str | None = None,
    ) -> None:
        self._node = node
        self._drain = drain
        self._verbs = NodeVerbs(node, archive=archive, providing=providing)
        self._needs_peers = needs_peers
        self._token = token

    def app(self) -> web.Application:
        """The application, for aiohttp to serve."""
        app = web.Application(
            client_max_size=BODY_BYTES_MAX,
            middlewares=[explain_errors, self._check_token, self._count_in],
        )
        app.add_routes(self._routes())
        return app

    def _routes(self) -> list[web.RouteDef]:
        key, name, topic, target = (
            f"{{{part}:{ANY_TEXT}}}" for part in ("key", "name", "topic", "target")
        )
        return [
            web.get("/livez", self._livez),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
            web.get("/v1/id", self._id),
            web.get("/v1/status", self._status),
            web.get("/v1/peers", self._peers),
            web.post("/v1/blobs", self._put),
            web.get(f"/v1/blobs/{key}", self._get_blob),
            web.delete(f"/v1/blobs/{key}", self._forget),
            web.get("/v1/publications", self._published),
            web.put(f"/v1/names/{name}", self._set),
            web.get(f"/v1/names/{name}", self._get_name),
            web.delete(f"/v1/names/{name}", self._withdraw_name),
            web.post(f"/v1/topics/{topic}", self._announce),
            web.get(f"/v1/topics/{topic}", self._find),
            web.delete(f"/v1/topics/{topic}", self._withdraw_entry),
            web.post("/v1/announcements", self._announce_many),
            web.post("/v1/withdrawals", self._withdraw_many),
            web.get(f"{WATCH}topics/{topic}", self._watch_topic),
            web.get(f"{WATCH}names/{name}", self._watch_name),
            web.post("/v1/contents", self._provide),
            web.get("/v1/contents", self._provided),
            web.delete(f"/v1/contents/{key}", self._unprovide),
            web.post(f"/v1/contents/{key}/fetch", self._fetch),
            web.post("/v1/ping", self._ping),
            web.get(f"/v1/trace/{target}", self._trace),
            web.post("/v1/backup", self._backup),
            web.post("/v1/restore", self._restore),
            web.post("/v1/leave", self._leave),
        ]

    @web.middleware
    async def _check_token(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._token is not None and request.path not in PROBES:
            borne = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(borne, f"Bearer {self._token}".encode()):
                raise web.HTTPUnauthorized(
                    headers={"WWW-Authenticate": "Bearer"},
                    text="the token of the daemon's folder is needed: Authorization: Bearer TOKEN",
                )
        return await handler(request)

    @web.middleware
    async def _count_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A daemon that ends begins nothing new, and finishes what it has begun."""
        if request.path in PROBES:
            return await handler(request)
        if self._drain.begun:
            raise web.HTTPServiceUnavailable(text="this daemon is ending and does nothing new")
        if request.path.startswith(WATCH):  # it has no end to wait for
            return await handler(request)
        with self._drain.serving():
            return await handler(request)

    # --- About the node ---------------------------------------------------------------------------

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._drain.begun:
            return web.Response(status=503, text="this daemon is ending\n")
        if self._needs_peers and not (await self._node.status()).joined:
            return web.Response(status=503, text="no peer was reached yet\n")
        return web.Response(text="ok\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        status = await self._node.status()
        return web.Response(body=exposition(status), headers={"Content-Type": CONTENT_TYPE})

    async def _id(self, _: web.Request) -> web.Response:
        return web.json_response(await self._verbs.identity())

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(await self._verbs.status())

    async def _peers(self, _: web.Request) -> web.Response:
        return web.json_response(await self._verbs.peers())

    # --- Blobs and names --------------------------------------------------------------------------

    async def _put(self, request: web.Request) -> web.Response:
        receipt = await self._verbs.put(await request.read(), **_how(request))
        return web.json_response(receipt)

    async def _get_blob(self, request: web.Request) -> web.Response:
        return web.json_response(await self._verbs.get_blob(request.match_info["key"]))

    async def _forget(self, request: web.Request) -> web.Response:
        return web.json_response(await self._verbs.forget(request.match_info["key"]))

    async def _published(self, request: web.Request) -> web.StreamResponse:
        return await go_on(request, self._verbs.published())

    async def _set(self, request: web.Request) -> web.Response:
        receipt = await self._verbs.set(
            request.match_info["name"],
            await request.read(),
            own=_flag(request, "own"),
            expect_seq=_number(request, "expect_seq"),
            **_how(request),
        )
        return web.json_response(receipt)

    async def _get_name(self, request: web.Request) -> web.Response:
        record = await self._verbs.get_name(
            request.match_info["name"],
            author=request.query.get("author"),
            own=_flag(request, "own"),
            reads=_number(request, "reads"),
        )
        return web.json_response(record)

    async def _withdraw_name(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        receipt = await self._verbs.withdraw_name(
            name, own=_flag(request, "own"), ttl_s=_number(request, "ttl_s")
        )
        return web.json_response(receipt)

    # --- Topics -----------------------------------------------------------------------------------

    async def _announce(self, request: web.Request) -> web.Response:
        receipt = await self._verbs.announce(
            request.match_info["topic"],
            await request.read(),
            slot=request.query.get("slot", ""),
            **_how(request),
        )
        return web.json_response(receipt)

    async def _announce_many(self, request: web.Request) -> web.Response:
        announcements = [
            Announcement(topic, b64decode(value, validate=True), slot)
            for topic, slot, value in await _rows(request, "topic", "slot", "value")
        ]
        ttl_s = _number(request, "ttl_s")
        return web.json_response(await self._verbs.announce_many(announcements, ttl_s=ttl_s))

    async def _withdraw_many(self, request: web.Request) -> web.Response:
        entries = [(topic, slot) for topic, slot in await _rows(request, "topic", "slot")]
        ttl_s = _number(request, "ttl_s")
        return web.json_response(await self._verbs.withdraw_many(entries, ttl_s=ttl_s))

    async def _find(self, request: web.Request) -> web.StreamResponse:
        return await go_on(request, self._verbs.find(request.match_info["topic"]))

    async def _withdraw_entry(self, request: web.Request) -> web.Response:
        topic, slot = request.match_info["topic"], request.query.get("slot", "")
        ttl_s = _number(request, "ttl_s")
        return web.json_response(await self._verbs.withdraw_entry(topic, slot=slot, ttl_s=ttl_s))

    # --- Contents ---------------------------------------------------------------------------------

    async def _provide(self, request: web.Request) -> web.StreamResponse:
        body = await _fields(request, "path", meaning="ABSOLUTE PATH OF A FILE")
        path, key, ttl_s = body["path"], body.get("key"), _whole(body, "ttl_s", unit="seconds")
        if key is not None and not isinstance(key, str):
            raise ValueError("key is the text of a key")
        return await follow(request, partial(self._verbs.provide, path, key=key, ttl_s=ttl_s))

    async def _provided(self, _: web.Request) -> web.Response:
        return web.json_response(await self._verbs.provided())

    async def _unprovide(self, request: web.Request) -> web.Response:
        key, ttl_s = request.match_info["key"], _number(request, "ttl_s")
        return web.json_response(await self._verbs.unprovide(key, ttl_s=ttl_s))

    async def _fetch(self, request: web.Request) -> web.StreamResponse:
        body = await _fields(request, "path", meaning="ABSOLUTE PATH OF THE FILE TO BE")
        path, length_max = body["path"], _whole(body, "length_max", unit="bytes")
        key = request.match_info["key"]
        return await follow(request, partial(self._verbs.fetch, key, path, length_max=length_max))

    async def _watch_topic(self, request: web.Request) -> web.StreamResponse:
        return await go_on(request, self._verbs.watch_topic(request.match_info["topic"]))

    async def _watch_name(self, request: web.Request) -> web.StreamResponse:
        name, author = request.match_info["name"], request.query.get("author")
        changes = self._verbs.watch_name(name, author=author, own=_flag(request, "own"))
        return await go_on(request, changes)

    # --- Peers ------------------------------------------------------------------------------------

    async def _ping(self, request: web.Request) -> web.Response:
        peer = await _field(request, "peer", meaning="HOST:PORT or kad://KEY@HOST:PORT")
        return web.json_response(await self._verbs.ping(peer))

    async def _trace(self, request: web.Request) -> web.Response:
        target = request.match_info["target"]
        return web.json_response(await self._verbs.trace(target, own=_flag(request, "own")))

    # --- Backups ----------------------------------------------------------------------------------

    async def _backup(self, request: web.Request) -> web.Response:
        path = await _field(request, "path", meaning="ABSOLUTE PATH OF A NEW FILE")
        return web.json_response(await self._verbs.backup(path))

    async def _restore(self, request: web.Request) -> web.Response:
        path = await _field(request, "path", meaning="ABSOLUTE PATH OF A BACKUP")
        return web.json_response(await self._verbs.restore(path))

    # --- The end ----------------------------------------------------------------------------------

    async def _leave(self, request: web.Request) -> web.Response:
        within_s = _number(request, "within_s")
        self._drain.begin()
        try:
            return web.json_response(await self._verbs.leave(within_s))
        finally:
            self._drain.on_left()


@web.middleware
async def explain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what was raised on purpose into a status and a JSON body."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        unknown = isinstance(error, web.HTTPNotFound)
        detail = f"this API has no path {request.path!r}" if unknown else error.text
        body = {"error": type(error).__name__, "detail": detail}
        headers = {k: v for k, v in error.headers.items() if not k.startswith("Content-")}
        return web.json_response(body, status=error.status, headers=headers)
    except (KademliaError, ValueError) as error:
        status = next((code for kind, code in STATUSES if isinstance(error, kind)), 500)
        return web.json_response(error_view(error), status=status)


async def _json(request: web.Request) -> Any:
    """The JSON of a body; raises ValueError if it is none, however it fails to be."""
    try:
        return await request.json()
    except (ValueError, RecursionError, LookupError) as error:  # no JSON, too deep, no charset
        raise ValueError(f"the body is no JSON: {error}") from error


async def _fields(request: web.Request, name: str, *, meaning: str) -> dict[str, Any]:
    """The fields of a JSON body; the one of this name is a text."""
    body = await _json(request)
    if not isinstance(body, dict) or not isinstance(body.get(name), str):
        raise ValueError(f'the body must be {{"{name}": "{meaning}"}}')  # noqa: TRY004 - a 400
    return body


async def _field(request: web.Request, name: str, *, meaning: str) -> str:
    """The text of a field of a JSON body."""
    return str((await _fields(request, name, meaning=meaning))[name])


def _whole(body: dict[str, Any], name: str, *, unit: str) -> int | None:
    """A whole number among the fields of a body, or None; its size is for the verb to judge."""
    number = body.get(name)
    if number is not None and type(number) is not int:  # a bool is an int
        raise ValueError(f"{name} is a whole number of {unit}")
    return number


async def _rows(request: web.Request, *names: str) -> list[list[str]]:
    """The texts of these fields, of each object in a JSON list."""
    body, rows = await _json(request), list[list[str]]()
    for row in body if isinstance(body, list) else [None]:
        texts = [row.get(name) for name in names] if isinstance(row, dict) else [None]
        rows.append([text for text in texts if isinstance(text, str)])
        if len(rows[-1]) < len(names):
            raise ValueError(f"the body must be a list of objects with text: {', '.join(names)}")
    return rows


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "0")
    if text not in {"0", "1"}:
        raise ValueError(f"{name} is 0 or 1")
    return text == "1"


def _how(request: web.Request) -> dict[str, int | None]:
    """What every write takes."""
    return {name: _number(request, name) for name in ("acks", "ttl_s")}


def _number(request: web.Request, name: str) -> int | None:
    """A whole number of the query, or None; how large it may be is for the verb to say."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
        raise ValueError(f"{name} is a whole number of at most {NUMBER_DIGITS_MAX} digits")
    return int(text)
