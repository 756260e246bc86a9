"""What a guest reaches: the page of a link, the files of that page, and watching (WHEP). Nothing else."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from engines.errors import AccessDenied, NotFoundError
from realtime.webrtc.process.page_routes import file_response
from realtime.webrtc.process.peer_registry import PeerRegistry
from realtime.webrtc.process.peer_routes import PeerRoutes, peer_options
from realtime.webrtc.process.responses import path_from

PREFIX = "/guest/"
"""Every path of a guest begins with it, and no other does."""
PAGE_FILES = (
    "errors.js",
    "guest/guest.js",
    "icon.svg",
    "interruptions.js",
    "modes.js",
    "network/connection.js",
    "network/link_headers.js",
    "network/player.js",
    "network/retry.js",
    "network/server.js",
    "state.js",
    "stats.js",
    "style.css",
    "view.js",
    "words.js",
    "words/de.js",
    "words/en.js",
    "words/es.js",
    "words/fr.js",
    "words/language.js",
    "words/zh.js",
)
"""The files that a guest's page is made of. They are the same for everyone and need no link."""
_PAGE = "guest/index.html"
_NO_LINK = '<body data-mode="watch" data-link="">'


class GuestRoutes:
    """Serves those who have a link. The link is checked with every request, and grants one stream."""

    def __init__(self, registry: PeerRegistry, peers: PeerRoutes, page: Path) -> None:
        self._registry = registry
        self._peers = peers
        self._page = page

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        for method in ("GET", "HEAD"):
            router.add_route(method, PREFIX + "static/{path:.+}", self._static)
            router.add_route(method, PREFIX + "{token}", self._index)
        router.add_route("POST", PREFIX + "{token}/whep", self._watch)
        router.add_route("OPTIONS", PREFIX + "{token}/whep", self._options)
        for method in ("DELETE", "PATCH", "OPTIONS"):
            router.add_route(method, PREFIX + "{token}/peer/{id}", self._peer)

    async def _index(self, request: web.Request) -> web.StreamResponse:
        """Return the page. Where the link does not open anything, the page says why, and what to do."""
        status, code = 200, ""
        try:
            self._registry.guests.check(request.match_info["token"])
        except AccessDenied as error:
            status, code = error.status, error.code
        text = (self._page / _PAGE).read_text("utf-8").replace(_NO_LINK, _NO_LINK.replace('""', f'"{code}"'))
        response = web.Response(status=status, text=text, content_type="text/html")
        return response if status == 200 else _closing(response)

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return _closing(file_response(self._page, request.match_info["path"], PAGE_FILES))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        token = request.match_info["token"]
        link = self._registry.guests.check(token)
        return await self._peers.watch_as_guest(request, link, path_from(request, f"guest/{token}/peer"))

    async def _options(self, request: web.Request) -> web.StreamResponse:
        self._registry.guests.check(request.match_info["token"])
        return self._peers.endpoint_options()

    async def _peer(self, request: web.Request) -> web.StreamResponse:
        """Answer for a viewer that was opened through the same link."""
        link = self._registry.guests.check(request.match_info["token"])
        identity = request.match_info["id"]
        viewer = self._registry.viewers.get(identity)
        if viewer is None or viewer.link != link:
            raise NotFoundError("peer-not-found", "no such publisher or viewer", "one that is open", "open a new one")
        if request.method == "OPTIONS":
            return await peer_options(request)
        if request.method == "PATCH":
            return await self._peers.patch(request, identity, viewer)
        return await self._peers.delete(request, identity, viewer)


def _closing(response: web.Response) -> web.Response:
    """Return an answer after which the connection is closed: those without a link hold none that others need."""
    response.force_close()
    return response
