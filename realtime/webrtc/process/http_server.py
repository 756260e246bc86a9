"""HTTP: WHIP (RFC 9725), WHEP (draft-ietf-wish-whep), the page, and everything else passed on to the daemon."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import mimetypes
import socket
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from yarl import URL

from engines.errors import ReenactError
from realtime.core.problem import headers
from realtime.webrtc.callbacks import WATCHES
from realtime.webrtc.process.auth import COOKIE, HEADERS, UNKNOWN, WRONG, AccessDenied, Gate
from realtime.webrtc.process.connection_limit import ConnectionLimit
from realtime.webrtc.process.hub import CallbackError, FullError, Hub
from realtime.webrtc.process.peers import MAX_MESSAGE, Peer
from realtime.webrtc.process.request_limit import RequestLimit
from realtime.webrtc.process.sdp import Offer, SdpError, ice_links, read_fragment, read_offer
from realtime.webrtc.settings import ServerSettings

PAGE = Path(__file__).parents[1] / "page"
MAX_SDP = 128 << 10
MAX_UPLOAD = 16 << 20
MAX_BODY = 64 << 10
MAX_QUERY = 2048
LINGER_S = 1.0
"""For how long the rest of a body that was refused is still taken in, so that its sender reads the answer."""
_BODY_S = 20.0
_UPLOAD_S, _SILENCE_S = 120.0, 10.0
"""For how long an upload may take, and come to nothing in between: over a slow line 16 MB are minutes."""
_DESK_S = 15.0
_HEALTH_S = 2.0
_MOST_REQUESTS, _SHARE = 16, 6
"""Requests to the daemon at the same time, and those of one client, by which not all its threads are kept busy."""
_MOST_WATCHES, _WATCH_SHARE = 8, 4
"""The same for /healthz and /metrics, which are answered beside them."""
_WAIT_S = 2.0
"""For how long they wait for their turn."""
_MOST_UPLOADS, _UPLOAD_SHARE = 4, 3
"""Bodies of uploads that are held at the same time, each of 16 MB at most, and those of one client."""
_MOST_PASSED, _PASS_SHARE = 2, 1
"""Those of them that are passed on and decoded at the same time, which takes as much again."""
_PASS_WAIT_S = 10.0
"""For how long they wait for their turn: what took minutes to come is not sent again for the sake of seconds."""
_SDP, _FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SIGN_IN = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>reenact: sign in</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"></head><body><main>
<h1>reenact</h1><form method="post" action="/sign-in"><p><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus></p>
<p><button>Sign in</button></p></form>
<p>It is what the program was started with: <code>--token</code>.</p></main></body></html>
"""
logger = logging.getLogger(__name__)


class ProblemError(Exception):
    """A request that is not answered as it was meant, as it is told: HTTP status, found, expected, cure."""

    def __init__(
        self, status: int, found: str, expected: str, cure: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(found)
        self.status = status
        self.problem = {"found": found, "expected": expected, "cure": cure}
        self.headers = headers or {}

    def response(self) -> web.Response:
        """JSON, the same everywhere."""
        body = json.dumps({"v": 1, "error": self.problem})
        return web.Response(status=self.status, text=body, content_type="application/json", headers=self.headers)


class MediaServer:
    """The HTTP side of a Hub."""

    def __init__(self, settings: ServerSettings, hub: Hub, page: Path = PAGE) -> None:
        self.settings = settings
        self.hub = hub
        self.gate = Gate(settings)
        self._page = page
        self._requests = RequestLimit(_MOST_REQUESTS, _SHARE, "requests", _WAIT_S)
        self._watches = RequestLimit(_MOST_WATCHES, _WATCH_SHARE, "requests", _WAIT_S)
        self._uploads = RequestLimit(_MOST_UPLOADS, _UPLOAD_SHARE, "pictures sent", _WAIT_S)
        self._passed = RequestLimit(_MOST_PASSED, _PASS_SHARE, "pictures sent", _PASS_WAIT_S)
        self._connection_limit = ConnectionLimit()
        self._runner: web.AppRunner | None = None

    def app(self) -> web.Application:
        """The application, for a runner or a test."""
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_UPLOAD)
        app.on_response_prepare.append(_add_headers)
        add = app.router.add_route
        for method in ("GET", "HEAD"):
            # the body of an answer to HEAD is left out by aiohttp
            add(method, "/", self._index)
            add(method, "/static/{path:.+}", self._static)
        add("POST", "/sign-in", self._sign_in)
        add("POST", "/whip", self._whip)
        add("POST", "/whep", self._whep)
        add("POST", "/whep/{watch}", self._whep)
        for path, peers in (("/whip/{id}", self.hub.publishers), ("/whep/peer/{id}", self.hub.viewers)):
            add("DELETE", path, self._peer_handler(peers, self._delete))
            add("PATCH", path, self._peer_handler(peers, self._patch))
        for path in ("/whip", "/whep", "/whep/{watch}"):
            add("OPTIONS", path, self._endpoint_options)
        for path in ("/whip/{id}", "/whep/peer/{id}"):
            add("OPTIONS", path, _options("DELETE, OPTIONS, PATCH", {"Accept-Patch": _FRAGMENT}))
        add("POST", "/api/control", self._control)
        add("POST", "/api/portraits", self._upload)
        for path in ("/api/{rest:.+}", "/healthz", "/metrics"):
            add("GET", path, self._callbacks)
            add("HEAD", path, self._callbacks)
        for method in ("POST", "PUT", "DELETE"):
            add(method, "/api/{rest:.+}", self._callbacks)
        return app

    async def start(self, listener: socket.socket) -> None:
        """Serve on a socket that listens."""
        self._runner = web.AppRunner(
            self.app(), access_log=None, keepalive_timeout=30, shutdown_timeout=0.5, lingering_time=LINGER_S
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._connection_limit.open(listener, self._runner.server)

    async def close(self) -> None:
        """Serve no more."""
        await self._connection_limit.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        self._connection_limit.heard(request.transport)
        try:
            denied = self._denied(request)
            if denied is not None:
                refusal = _refusal(request, denied)
                refusal.force_close()  # or whoever may not ask could hold connections that others need
                return refusal
            if len(request.query_string) > MAX_QUERY:
                raise ProblemError(414, "a query of great length", f"{MAX_QUERY} characters at most", "shorten it")
            return await handler(request)
        except ProblemError as error:
            return error.response()
        except SdpError as error:
            found, _, expected = str(error).removeprefix("found ").partition(", expected ")
            cure = "send the offer of a WHIP or WHEP client"
            return ProblemError(error.status, found, expected or "an offer", cure).response()
        except FullError as error:
            wait = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
            return ProblemError(503, str(error), "room for one more", "try again a little later", wait).response()
        except CallbackError as error:
            return ProblemError(503, str(error), "an answer", "try again", {"Retry-After": "5"}).response()
        except ReenactError as error:
            problem = ProblemError(error.status, error.found, error.expected, error.cure, headers(error))
            return problem.response()
        except web.HTTPException as error:
            return _http_problem(error).response()
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            logger.exception("while answering %s %s", request.method, request.path)
            return ProblemError(500, "a failure of the program", "an answer", "see what it has printed").response()

    def _denied(self, request: web.Request) -> AccessDenied | None:
        headers = request.headers
        visit = request.method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"
        site = headers.get("Sec-Fetch-Site")
        denied = self.gate.place(headers.get("Host"), headers.get("Origin"), site, visit=visit)
        if denied is not None:
            return denied
        if request.path == "/sign-in" or (request.path == "/" and "token" in request.query):
            # these check the token that they are given
            return None
        return self.gate.token(headers.get("Authorization"), request.cookies.get(COOKIE), request.remote or "")

    async def _index(self, request: web.Request) -> web.StreamResponse:
        if "token" in request.query:
            watch = request.query.get("watch")
            there = "/" if watch is None else str(request.rel_url.with_query(watch=watch))
            return self._enter(request, request.query["token"], there)
        return self._file("index.html")

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, MAX_MESSAGE)
        try:
            form = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
        except ValueError:
            raise ProblemError(400, "a form of many fields", "the field token", "send that alone") from None
        watch = request.query.get("watch")
        there = "/" if watch is None else str(URL("/").with_query(watch=watch))
        return self._enter(request, form.get("token", [""])[0], there)

    def _enter(self, request: web.Request, token: str, there: str) -> web.Response:
        denied = self.gate.sign_in(token, request.remote or "")
        if denied is not None:
            return _refusal(request, denied)
        response = web.Response(status=303, headers={"Location": there})
        if self.settings.token is not None:
            secure = request.scheme == "https" or request.headers.get("X-Forwarded-Proto") == "https"
            response.set_cookie(
                COOKIE,
                self.gate.cookie(),
                httponly=True,
                samesite="Strict",
                secure=secure,
                max_age=30 * 86400,
                path="/",
            )
        return response

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return self._file(request.match_info["path"])

    def _file(self, name: str) -> web.Response:
        # only what is in the folder: the name is looked for among them, never joined to a path
        files = {path.relative_to(self._page).as_posix(): path for path in self._page.rglob("*") if path.is_file()}
        path = files.get(name)
        if path is None or path.suffix == ".py":
            raise ProblemError(404, f"no file {name[:80]!r}", "a file of the page", "open / instead")
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        text = kind.startswith("text/") or kind in ("application/javascript", "application/json", "image/svg+xml")
        return web.Response(body=path.read_bytes(), content_type=kind, charset="utf-8" if text else None)

    async def _endpoint_options(self, _: web.Request) -> web.StreamResponse:
        """What is taken, and of which ICE servers a client may know before its offer (RFC 9725 section 4.6)."""
        response = web.Response(status=204, headers={"Allow": "OPTIONS, POST", "Accept-Post": _SDP})
        self._tell_ice_servers(response)
        return response

    def _tell_ice_servers(self, response: web.Response) -> None:
        for link in ice_links(self.settings.ice_servers):
            response.headers.add("Link", link)

    async def _whip(self, request: web.Request) -> web.StreamResponse:
        offer = await _read_offer(request, "sendonly")
        publisher, answer = await self.hub.publish(offer)
        links = [f'</whep/{publisher.watch}>; rel="watch"']
        return self._created(f"/whip/{publisher.session}", publisher, answer, links)

    async def _whep(self, request: web.Request) -> web.StreamResponse:
        offer = await _read_offer(request, "recvonly")
        try:
            identity, viewer, answer = await self.hub.watch(request.match_info.get("watch"), offer)
        except KeyError:
            raise ProblemError(
                404, "nothing to watch here", "a stream that is live", "start it, or ask for a new link"
            ) from None
        return self._created(f"/whep/peer/{identity}", viewer, answer, [])

    def _created(self, location: str, peer: Peer, answer: str, links: list[str]) -> web.Response:
        headers = {"Location": location, "ETag": peer.etag, "Accept-Patch": _FRAGMENT}
        response = web.Response(status=201, body=answer.encode(), content_type=_SDP, headers=headers)
        for link in links:
            response.headers.add("Link", link)
        self._tell_ice_servers(response)
        return response

    def _peer_handler(
        self, peers: Any, handle: Callable[[web.Request, str, Peer], Awaitable[web.StreamResponse]]
    ) -> _Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            identity = request.match_info["id"]
            peer = peers.get(identity)
            if peer is None:
                raise ProblemError(404, "no such session", "one that is open", "open a new one")
            return await handle(request, identity, peer)

        return handler

    async def _delete(self, _: web.Request, identity: str, __: Peer) -> web.StreamResponse:
        self.hub.end(identity)
        return web.Response(status=200)

    async def _patch(self, request: web.Request, _: str, peer: Peer) -> web.StreamResponse:
        """Trickle (RFC 9725 section 4.3.2); a restart of ICE is declined (section 4.3.3)."""
        if request.content_type != _FRAGMENT:
            raise ProblemError(415, f"content of type {request.content_type[:80]}", _FRAGMENT, "send such a fragment")
        candidates, ufrags = read_fragment(await read_body(request, MAX_SDP))
        matches = [each.strip() for each in ",".join(request.headers.getall("If-Match", ())).split(",")]
        if not any(matches):
            raise ProblemError(428, "no If-Match", "the ETag of the session", "send If-Match with it")
        if peer.etag not in matches and matches != ["*"]:
            raise ProblemError(412, "another If-Match", "the ETag of the session", "send If-Match with it")
        if not ufrags <= peer.ufrags:
            raise ProblemError(422, "a restart of ICE", "candidates of this session", "open a new session instead")
        peer.trickle(candidates)
        return web.Response(status=204, headers={"ETag": peer.etag})

    async def _control(self, request: web.Request) -> web.StreamResponse:
        return await self._pass_on(request, await read_body(request, MAX_MESSAGE))

    async def _callbacks(self, request: web.Request) -> web.StreamResponse:
        return await self._pass_on(request, await read_body(request, MAX_BODY))

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        client = request.remote or ""
        async with self._uploads.take(client):
            body = await read_body(request, MAX_UPLOAD, _UPLOAD_S, _SILENCE_S)
            async with self._passed.take(client):
                return await self._pass_on(request, body)

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        query = dict(request.query)
        method = "GET" if request.method == "HEAD" else request.method
        values: dict[str, Any] = {"method": method, "path": request.path, "type": request.content_type}
        values["session"] = query.pop("session") if "session" in query else None
        values["query"] = query
        places = self._watches if request.path in WATCHES else self._requests
        timeout_s = _HEALTH_S if request.path == "/healthz" else _DESK_S
        async with places.take(request.remote or ""):
            reply = await self.hub.line.ask("request", values, body, timeout_s=timeout_s)
        return web.Response(
            status=reply.values["status"], body=reply.body, headers={"Content-Type": reply.values["type"]}
        )


async def read_body(request: web.Request, limit: int, within_s: float = _BODY_S, silence_s: float = _BODY_S) -> bytes:
    """The body: ``limit`` bytes within ``within_s``, never ``silence_s`` without one. Raises ProblemError."""
    problem = ProblemError(413, "a body of too many bytes", f"{limit} at most", "send less")
    if (request.content_length or 0) > limit:
        raise problem
    body = bytearray()
    now = asyncio.get_running_loop().time
    until = now() + within_s
    try:
        async with asyncio.timeout_at(min(until, now() + silence_s)) as patience:
            # in pieces: request.read() would take up to the limit of uploads, whoever sends it
            async for piece in request.content.iter_any():
                patience.reschedule(min(until, now() + silence_s))
                body += piece
                if len(body) > limit:
                    raise problem
    except TimeoutError:
        expected = f"all of it in {within_s:g} s" + (f", more every {silence_s:g} s" if silence_s < within_s else "")
        raise ProblemError(408, "a body that does not come", expected, "send it again") from None
    except (web.RequestPayloadError, ValueError) as error:
        logger.debug("body refused", exc_info=error)
        raise ProblemError(400, "a body that cannot be read", "one as its headers say", "send it again") from None
    return bytes(body)


async def _read_offer(request: web.Request, direction: str) -> Offer:
    if request.content_type != _SDP:
        raise ProblemError(415, f"content of type {request.content_type[:80]}", _SDP, "send an SDP offer")
    return read_offer(await read_body(request, MAX_SDP), direction)


def _options(allow: str, headers: dict[str, str]) -> _Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=204, headers={"Allow": allow} | headers)

    return handler


def _refusal(request: web.Request, denied: AccessDenied) -> web.Response:
    """A person gets the form, a program JSON."""
    headers = {} if denied.retry_after_s is None else {"Retry-After": str(denied.retry_after_s)}
    if denied.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="reenact"'
    reads = request.method in ("GET", "POST") and "text/html" in request.headers.get("Accept", "")
    if reads and denied.status in (401, 429):
        watch = request.query.get("watch")
        there = "/sign-in" if watch is None else escape(str(URL("/sign-in").with_query(watch=watch)))
        form = SIGN_IN.replace('"/sign-in"', f'"{there}"')
        if denied is not UNKNOWN:
            why = "That was not the token" if denied is WRONG else f"There were {denied.found}: {denied.cure}"
            form = form.replace("<p><button>", f'<p role="alert">{why}.</p>\n<p><button>')
        return web.Response(status=denied.status, text=form, content_type="text/html", headers=headers)
    return ProblemError(denied.status, denied.found, denied.expected, denied.cure, headers).response()


def _http_problem(error: web.HTTPException) -> ProblemError:
    found = {404: "no such address", 405: "a method that this address does not know", 413: "a body of too many bytes"}
    expected = {404: "/, /whip, /whep or /api/...", 413: f"{MAX_UPLOAD} at most"}
    headers = {}
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = expected[405] = ", ".join(sorted(error.allowed_methods))
    status = error.status
    return ProblemError(
        status, found.get(status, error.reason), expected.get(status, "something else"), "see the README", headers
    )


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.popall("Server", None)
