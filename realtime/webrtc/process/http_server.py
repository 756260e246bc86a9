"""The HTTP server of the media process: the page, WHIP and WHEP, and the API, which the main process answers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from engines.errors import AccessDenied, ReenactError, RequestError
from realtime.core.problem import internal_error
from realtime.webrtc.process.api_routes import ApiRoutes
from realtime.webrtc.process.auth import COOKIE, HEADERS, Authenticator
from realtime.webrtc.process.connection_limit import ConnectionLimit
from realtime.webrtc.process.page_routes import PageRoutes, denied_response
from realtime.webrtc.process.peer_registry import PeerRegistry
from realtime.webrtc.process.peer_routes import PeerRoutes
from realtime.webrtc.process.responses import MAX_UPLOAD, http_exception_response, problem_response
from realtime.webrtc.settings import ServerSettings

PAGE = Path(__file__).parents[1] / "page"
MAX_QUERY = 2048
LINGER_S = 1.0
"""How long the rest of a refused body is still read, so that its sender reads the answer."""
_KEEPALIVE_S = 30
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
logger = logging.getLogger(__name__)


class HttpServer:
    """Serves a PeerRegistry over HTTP. Every request passes access control first, and every error is answered here."""

    def __init__(self, settings: ServerSettings, registry: PeerRegistry, page: Path = PAGE) -> None:
        self._authenticator = Authenticator(settings)
        self._routes = (
            PageRoutes(settings, self._authenticator, page),
            PeerRoutes(settings, registry),
            ApiRoutes(registry.main_process),
        )
        self._connection_limit = ConnectionLimit()
        self._runner: web.AppRunner | None = None

    def app(self) -> web.Application:
        """Return the application, for a runner or a test."""
        app = web.Application(middlewares=[self._middleware], client_max_size=MAX_UPLOAD)
        app.on_response_prepare.append(_add_headers)
        for routes in self._routes:
            routes.add_to(app.router)
        return app

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket."""
        self._runner = web.AppRunner(
            self.app(), access_log=None, keepalive_timeout=_KEEPALIVE_S, shutdown_timeout=0.5, lingering_time=LINGER_S
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._connection_limit.start(listener, self._runner.server)

    async def close(self) -> None:
        """Stop serving and close all connections."""
        await self._connection_limit.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Check access, and answer errors."""
        self._connection_limit.request_received(request.transport)
        try:
            self._check_access(request)
        except AccessDenied as error:
            response = denied_response(request, error)
            response.force_close()  # or clients without access could hold connections that others need
            return response
        try:
            if len(request.query_string) > MAX_QUERY:
                expected = f"{MAX_QUERY} characters at most"
                raise RequestError("query-too-long", "a query that is too long", expected, "shorten it", status=414)
            return await handler(request)
        except AccessDenied as error:
            return denied_response(request, error)
        except ReenactError as error:
            return problem_response(error)
        except web.HTTPException as error:
            return http_exception_response(error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            logger.exception("cannot answer %s %s", request.method, request.path)
            return problem_response(internal_error())

    def _check_access(self, request: web.Request) -> None:
        """Raise AccessDenied for a request that must not be answered."""
        headers = request.headers
        navigation = request.method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"
        site = headers.get("Sec-Fetch-Site")
        self._authenticator.check_origin(headers.get("Host"), headers.get("Origin"), site, navigation=navigation)
        if request.path == "/sign-in" or (request.path == "/" and "token" in request.query):
            # these routes check the token that they are given
            return
        cookie = request.cookies.get(COOKIE)
        self._authenticator.check_token(headers.get("Authorization"), cookie, request.remote or "")


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.popall("Server", None)
