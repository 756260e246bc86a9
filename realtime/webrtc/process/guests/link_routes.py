"""Routes of those who share: they make, list and revoke links, and let the local network in."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from engines.errors import NotFoundError, RequestError
from realtime.core.protocol import MAIN_STREAM, VERSION
from realtime.webrtc.process.guests.links import LIFETIME_S, MAX_LIFETIME_S, MIN_LIFETIME_S, GuestLink
from realtime.webrtc.process.guests.local_network import LocalNetwork
from realtime.webrtc.process.peer_registry import PeerRegistry
from realtime.webrtc.process.responses import read_body

MAX_BODY = 1024
_LIFETIMES = f"an integer, {MIN_LIFETIME_S} to {MAX_LIFETIME_S}"


class LinkRoutes:
    """Serves the owner of a stream: who has a session's secret, or for the main run the token of the server."""

    def __init__(self, registry: PeerRegistry, local_network: LocalNetwork) -> None:
        self._registry = registry
        self._local_network = local_network

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes, before those that are passed to the main process."""
        for method in ("GET", "HEAD"):
            router.add_route(method, "/api/links", self._list)
        router.add_route("POST", "/api/links", self._create)
        router.add_route("DELETE", "/api/links/{id}", self._revoke)
        router.add_route("POST", "/api/local-network", self._open)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        stream = self._stream(request)
        links = [self._describe(link) for link in self._registry.guests.of(stream)]
        return _json({"links": links, "local_network": self._local_network.state()})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        stream = self._stream(request)
        lifetime_s = (await _read_values(request)).get("expires_in_s", LIFETIME_S)
        if not isinstance(lifetime_s, int) or isinstance(lifetime_s, bool):
            raise RequestError("guest-link-bad-lifetime", "another value of expires_in_s", _LIFETIMES, "send that")
        link = self._registry.guests.create(stream, lifetime_s)
        return _json(self._describe(link), 201)

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        self._registry.guests.revoke(self._stream(request), request.match_info["id"])
        self._registry.end_guests()
        return web.Response(status=204)

    async def _open(self, request: web.Request) -> web.StreamResponse:
        """Let guests in from the local network, or not any more."""
        wanted = (await _read_values(request)).get("open")
        if not isinstance(wanted, bool):
            raise RequestError("local-network-bad-value", "no value of open", "true or false", "send one of these")
        if wanted:
            await self._local_network.open()
        else:
            await self._local_network.close()
            self._registry.end_guests(lambda viewer: viewer.from_local_network)
        return _json(self._local_network.state())

    def _stream(self, request: web.Request) -> str:
        """Return the stream that a request is about. Raises NotFoundError."""
        session = request.query.get("session")
        if session is None and self._registry.settings.main_run:
            return MAIN_STREAM
        if session is None:
            raise NotFoundError("run-not-found", "no main run, as browsers drive", "a session", "add ?session=SESSION")
        if session not in self._registry.publishers:
            raise NotFoundError("session-not-found", "no session of that name", "one that is open", "open a new one")
        return session

    def _describe(self, link: GuestLink) -> dict[str, Any]:
        guests = self._registry.guests
        return {
            "id": link.id,
            "path": f"/guest/{guests.token(link)}",
            "expires_in_s": guests.expires_in_s(link),
            "viewers": sum(viewer.link == link for viewer in self._registry.viewers.values()),
        }


async def _read_values(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of a request; an empty one for an empty body. Raises RequestError."""
    body = await read_body(request, MAX_BODY)
    try:
        values = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise RequestError("json-bad", "a body that is no JSON object", "a JSON object", "see docs/api.md")
    return values


def _json(values: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response({"v": VERSION, **values}, status=status)
