"""Routes of peers: WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from engines.errors import NotFoundError, RequestError
from realtime.webrtc.process.guests.links import GuestLink
from realtime.webrtc.process.guests.local_network import FROM_LOCAL_NETWORK
from realtime.webrtc.process.peer_registry import PeerRegistry
from realtime.webrtc.process.peers import Peer
from realtime.webrtc.process.responses import path_from, read_body
from realtime.webrtc.process.sdp import Offer, ice_links, read_fragment, read_offer
from realtime.webrtc.settings import ServerSettings

MAX_SDP = 128 << 10
_SDP, _FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_PeerHandler = Callable[[web.Request, str, Peer], Awaitable[web.StreamResponse]]


class PeerRoutes:
    """Opens, trickles and closes publishers and viewers. ``Location`` and ``Link`` are relative references."""

    def __init__(self, settings: ServerSettings, registry: PeerRegistry) -> None:
        self._settings = settings
        self._registry = registry

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_route("POST", "/whip", self._publish)
        router.add_route("POST", "/whep", self._watch)
        router.add_route("POST", "/whep/{watch}", self._watch)
        for path in ("/whip", "/whep", "/whep/{watch}"):
            router.add_route("OPTIONS", path, self._endpoint_options)
        peers: tuple[tuple[str, Mapping[str, Peer]], ...] = (
            ("/whip/{id}", self._registry.publishers),
            ("/whep/peer/{id}", self._registry.viewers),
        )
        for path, members in peers:
            router.add_route("DELETE", path, _with_peer(members, self.delete))
            router.add_route("PATCH", path, _with_peer(members, self.patch))
            router.add_route("OPTIONS", path, peer_options)

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        offer = await _read_offer(request, "sendonly")
        publisher, answer = await self._registry.publish(offer)
        watch = path_from(request, f"whep/{publisher.watch}")
        return self._created(request, f"whip/{publisher.session}", publisher, answer, [f'<{watch}>; rel="watch"'])

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        offer = await _read_offer(request, "recvonly")
        identity, viewer, answer = await self._registry.watch(request.match_info.get("watch"), offer)
        return self._created(request, f"whep/peer/{identity}", viewer, answer, [])

    async def watch_as_guest(self, request: web.Request, link: GuestLink, path: str) -> web.StreamResponse:
        """Open a viewer of what a link allows. ``path`` is that of its address, without its id."""
        offer = await _read_offer(request, "recvonly")
        local = FROM_LOCAL_NETWORK in request.app
        identity, viewer, answer = await self._registry.watch_as_guest(link, offer, from_local_network=local)
        return self._answered(f"{path}/{identity}", viewer, answer, [])

    def _created(self, request: web.Request, path: str, peer: Peer, answer: str, links: list[str]) -> web.Response:
        return self._answered(path_from(request, path), peer, answer, links)

    def _answered(self, location: str, peer: Peer, answer: str, links: list[str]) -> web.Response:
        headers = {"Location": location, "ETag": peer.etag, "Accept-Patch": _FRAGMENT}
        response = web.Response(status=201, body=answer.encode(), content_type=_SDP, headers=headers)
        for link in links:
            response.headers.add("Link", link)
        self._add_ice_servers(response)
        return response

    async def delete(self, _: web.Request, identity: str, __: Peer) -> web.StreamResponse:
        """Begin to close a peer."""
        self._registry.end(identity)
        return web.Response(status=200)

    async def patch(self, request: web.Request, _: str, peer: Peer) -> web.StreamResponse:
        """Trickle candidates (RFC 9725 section 4.3.2); a restart of ICE is declined (section 4.3.3)."""
        _check_content_type(request, _FRAGMENT)
        candidates, ufrags = read_fragment(await read_body(request, MAX_SDP))
        matches = [each.strip() for each in ",".join(request.headers.getall("If-Match", ())).split(",")]
        expected, cure = "the ETag of the session", "send If-Match with it"
        if not any(matches):
            raise RequestError("if-match-missing", "no If-Match", expected, cure, status=428)
        if peer.etag not in matches and matches != ["*"]:
            raise RequestError("if-match-failed", "another If-Match", expected, cure, status=412)
        if not ufrags <= peer.ufrags:
            raise RequestError(
                "ice-restart",
                "a restart of ICE",
                "candidates of this session",
                "open a new session instead",
                status=422,
            )
        peer.add_candidates(candidates)
        return web.Response(status=204, headers={"ETag": peer.etag})

    async def _endpoint_options(self, _: web.Request) -> web.StreamResponse:
        return self.endpoint_options()

    def endpoint_options(self) -> web.Response:
        """Tell which offers are accepted, and the ICE servers to use before the offer (RFC 9725 section 4.6)."""
        response = web.Response(status=204, headers={"Allow": "OPTIONS, POST", "Accept-Post": _SDP})
        self._add_ice_servers(response)
        return response

    def _add_ice_servers(self, response: web.Response) -> None:
        for link in ice_links(self._settings.ice_servers):
            response.headers.add("Link", link)


async def peer_options(_: web.Request) -> web.StreamResponse:
    """Tell what can be asked of a peer."""
    return web.Response(status=204, headers={"Allow": "DELETE, OPTIONS, PATCH", "Accept-Patch": _FRAGMENT})


def _with_peer(peers: Mapping[str, Peer], handle: _PeerHandler) -> _Handler:
    """Return a handler that looks up the peer of the path."""

    async def handler(request: web.Request) -> web.StreamResponse:
        identity = request.match_info["id"]
        peer = peers.get(identity)
        if peer is None:
            raise NotFoundError("peer-not-found", "no such publisher or viewer", "one that is open", "open a new one")
        return await handle(request, identity, peer)

    return handler


async def _read_offer(request: web.Request, direction: str) -> Offer:
    _check_content_type(request, _SDP)
    return read_offer(await read_body(request, MAX_SDP), direction)


def _check_content_type(request: web.Request, expected: str) -> None:
    if request.content_type != expected:
        found = f"content of type {request.content_type[:80]}"
        raise RequestError("content-type-unsupported", found, expected, "send such content", status=415)
