"""Routes that the main process answers: the API, uploads, and what monitoring asks for."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from realtime.core.protocol import MAX_PICTURES_READ
from realtime.webrtc.callbacks import MONITORING_PATHS
from realtime.webrtc.process.control_channel import MAX_MESSAGE
from realtime.webrtc.process.main_process_connection import MainProcess
from realtime.webrtc.process.request_limit import RequestLimit
from realtime.webrtc.process.responses import MAX_UPLOAD, read_body

MAX_BODY = 64 << 10
_UPLOAD_TIMEOUT_S, _UPLOAD_SILENCE_S = 120.0, 10.0
"""The limits of an upload in total and between two pieces: over a slow line 16 MB take minutes."""
_CALL_TIMEOUT_S = 15.0
_HEALTH_TIMEOUT_S = 2.0
_MAX_REQUESTS, _REQUESTS_PER_CLIENT = 16, 6
"""Requests to the main process at the same time: one client must not occupy all of its threads."""
_MAX_MONITORING, _MONITORING_PER_CLIENT = 8, 4
"""The same for MONITORING_PATHS, which are answered beside the others."""
_WAIT_S = 2.0
"""How long a request waits to be below these limits."""
_MAX_UPLOADS, _UPLOADS_PER_CLIENT = 4, 3
"""Uploads held in memory at the same time, each of up to 16 MB."""
_FORWARDED_PER_CLIENT = 1
"""Of the MAX_PICTURES_READ uploads that are forwarded and decoded at the same time."""
_FORWARD_WAIT_S = 10.0
"""How long an upload waits to be forwarded: one that took minutes must not be repeated to save seconds."""


class ApiRoutes:
    """Forwards requests to the main process, within limits."""

    def __init__(self, main_process: MainProcess) -> None:
        self._main_process = main_process
        self._requests = RequestLimit(_MAX_REQUESTS, _REQUESTS_PER_CLIENT, "requests", _WAIT_S)
        self._monitoring = RequestLimit(_MAX_MONITORING, _MONITORING_PER_CLIENT, "requests", _WAIT_S)
        self._uploads = RequestLimit(_MAX_UPLOADS, _UPLOADS_PER_CLIENT, "uploads", _WAIT_S)
        self._forwarded = RequestLimit(MAX_PICTURES_READ, _FORWARDED_PER_CLIENT, "uploads", _FORWARD_WAIT_S)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_route("POST", "/api/control", self._control)
        router.add_route("POST", "/api/portraits", self._upload)
        router.add_route("POST", "/api/background", self._upload)
        for path in ("/api/{rest:.+}", *MONITORING_PATHS):
            router.add_route("GET", path, self._request)
            router.add_route("HEAD", path, self._request)
        for method in ("POST", "PUT", "DELETE"):
            router.add_route(method, "/api/{rest:.+}", self._request)

    async def _control(self, request: web.Request) -> web.StreamResponse:
        return await self._forward(request, await read_body(request, MAX_MESSAGE))

    async def _request(self, request: web.Request) -> web.StreamResponse:
        return await self._forward(request, await read_body(request, MAX_BODY))

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        address = request.remote or ""
        async with self._uploads.acquire(address):
            body = await read_body(request, MAX_UPLOAD, _UPLOAD_TIMEOUT_S, _UPLOAD_SILENCE_S)
            async with self._forwarded.acquire(address):
                return await self._forward(request, body)

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        """Return the main process's answer. Raises BusyError, and what ``ServerCallbacks.request`` raises."""
        query = dict(request.query)
        session = query.pop("session", None)
        values: dict[str, Any] = {
            "method": "GET" if request.method == "HEAD" else request.method,
            "path": request.path,
            "content_type": request.content_type,
            "session": session,
            "query": query,
        }
        monitoring = request.path in MONITORING_PATHS
        limit = self._monitoring if monitoring else self._requests
        timeout_s = _HEALTH_TIMEOUT_S if monitoring and request.path != "/metrics" else _CALL_TIMEOUT_S
        async with limit.acquire(request.remote or ""):
            reply = await self._main_process.call("request", values, body, timeout_s=timeout_s)
        headers = {"Content-Type": reply.values["content_type"], **reply.values["headers"]}
        return web.Response(status=reply.values["status"], body=reply.body, headers=headers)
