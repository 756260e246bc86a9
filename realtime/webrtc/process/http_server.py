"""The HTTP server of the media process: the page, WHIP and WHEP, and the API, which the main process answers."""

from __future__ import annotations

import socket
from pathlib import Path

from aiohttp import web

from realtime.webrtc.process.api_routes import ApiRoutes
from realtime.webrtc.process.auth import COOKIE, Authenticator
from realtime.webrtc.process.connection_limit import ConnectionLimit, tls_context
from realtime.webrtc.process.guests.link_routes import LinkRoutes
from realtime.webrtc.process.guests.local_network import LocalNetwork
from realtime.webrtc.process.guests.routes import PREFIX, GuestRoutes
from realtime.webrtc.process.middleware import add_headers, checking
from realtime.webrtc.process.page_routes import PageRoutes
from realtime.webrtc.process.peer_registry import PeerRegistry
from realtime.webrtc.process.peer_routes import PeerRoutes
from realtime.webrtc.process.responses import MAX_UPLOAD
from realtime.webrtc.settings import ServerSettings

PAGE = Path(__file__).parents[1] / "page"
LINGER_S = 1.0
"""How long the rest of a refused body is still read, so that its sender reads the answer."""
_KEEPALIVE_S = 30


class HttpServer:
    """Serves a PeerRegistry over HTTP. Every request passes access control first, and every error is answered here."""

    def __init__(self, settings: ServerSettings, registry: PeerRegistry, page: Path = PAGE) -> None:
        self._authenticator = Authenticator(settings)
        peers = PeerRoutes(settings, registry)
        guests = GuestRoutes(registry, peers, page)
        tls = tls_context(settings)
        self._local_network = LocalNetwork(settings, guests.add_to, tls)
        self._routes = (
            PageRoutes(settings, self._authenticator, page),
            peers,
            guests,
            LinkRoutes(registry, self._local_network),
            ApiRoutes(registry.main_process),
        )
        self._connection_limit = ConnectionLimit(tls)
        self._runner: web.AppRunner | None = None

    def app(self) -> web.Application:
        """Return the application, for a runner or a test."""
        app = web.Application(
            middlewares=[checking(self._check_access, self._connection_limit)], client_max_size=MAX_UPLOAD
        )
        app.on_response_prepare.append(add_headers)
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
        self._local_network.served_at(listener.getsockname()[1])
        self._connection_limit.start(listener, self._runner.server)

    async def close(self) -> None:
        """Stop serving and close all connections."""
        await self._local_network.close()
        await self._connection_limit.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _check_access(self, request: web.Request) -> None:
        """Raise AccessDenied for a request that must not be answered."""
        headers = request.headers
        self._authenticator.check_request_origin(request.method, headers)
        if request.path == "/sign-in" or (request.path == "/" and "token" in request.query) or _is_for_guests(request):
            # these routes check the token, or the link, that they are given
            return
        cookie = request.cookies.get(COOKIE)
        self._authenticator.check_token(headers.get("Authorization"), cookie, request.remote or "")


def _is_for_guests(request: web.Request) -> bool:
    """Return whether the route that answers a request is one of the guests'."""
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical.startswith(PREFIX)
