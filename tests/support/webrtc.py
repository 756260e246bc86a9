"""The media process without its main process, and its HTTP server in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from engines.errors import ReenactError
from realtime.webrtc.ipc.messages import Message
from realtime.webrtc.process.http_server import LINGER_S, HttpServer
from realtime.webrtc.process.peer_registry import PeerRegistry
from realtime.webrtc.settings import ServerSettings

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
OFFER = b"\r\n".join(
    [
        b"v=0",
        b"o=- 1 1 IN IP4 127.0.0.1",
        b"s=-",
        b"t=0 0",
        b"a=ice-ufrag:abcd",
        b"a=ice-pwd:abcdefghijklmnopqrstuv",
        b"a=fingerprint:sha-256 " + b":".join([b"AB"] * 32),
        b"a=setup:actpass",
        b"m=video 9 UDP/TLS/RTP/SAVPF 96",
        b"c=IN IP4 0.0.0.0",
        b"a=mid:0",
        b"a=sendonly",
        b"a=rtcp-mux",
        b"a=rtpmap:96 H264/90000",
        b"a=fmtp:96 packetization-mode=1;profile-level-id=42e01f",
        b"",
    ]
)
"""The offer of a publisher."""
WATCH_OFFER = OFFER.replace(b"sendonly", b"recvonly")
"""The offer of a viewer."""


class FakeMainProcess:
    """A main process in memory. It opens every session and answers a request with the request itself."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any], bytes]] = []
        self.sent: list[dict[str, Any]] = []
        """The messages without a reply."""
        self.reply = b'{"v":1,"ok":true}'
        """The reply to control messages."""
        self.status = 200
        self.error: Exception | None = None
        """Raised by every call."""
        self.open_error: ReenactError | None = None
        self.send_error: Exception | None = None

    async def call(self, callback: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
        assert timeout_s > 0
        self.calls.append((callback, values, body))
        if self.error is not None:
            raise self.error
        if callback == "open":
            if self.open_error is not None:
                raise self.open_error
            return Message({})
        if callback == "control":
            return Message({}, self.reply)
        return Message(
            {"status": self.status, "content_type": "application/json", "headers": {}}, json.dumps(values).encode()
        )

    def send(self, values: dict[str, Any], _body: bytes = b"") -> None:
        if self.send_error is not None:
            raise self.send_error
        self.sent.append(values)


class HttpFixture:
    """A media server on loopback, and a client of it."""

    def __init__(
        self, main_process: FakeMainProcess, registry: PeerRegistry, http: aiohttp.ClientSession, address: str
    ) -> None:
        self.main_process, self.registry, self.http, self.address = main_process, registry, http, address

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        """Return status, headers, and the body: parsed if it is JSON, else as text."""
        options.setdefault("allow_redirects", False)
        async with asyncio.timeout(10), self.http.request(method, self.address + path, **options) as reply:
            text = (await reply.read()).decode("utf-8", "replace")
            is_json = reply.content_type in ("application/json", "application/problem+json") and text
            return reply.status, reply.headers, json.loads(text) if is_json else text

    async def publish(self) -> tuple[int, Any, Any]:
        """Send a publisher's offer."""
        return await self.request("POST", "/whip", data=OFFER, headers=SDP)

    async def watch(self, path: str = "/whep") -> tuple[int, Any, Any]:
        """Send a viewer's offer."""
        return await self.request("POST", path, data=WATCH_OFFER, headers=SDP)


def with_server(page: Path, check: Callable[[HttpFixture], Awaitable[None]], **options: Any) -> None:
    """Serve with these settings while ``check`` runs."""

    async def serve() -> None:
        settings, main_process = ServerSettings(**{"port": 0, **options}), FakeMainProcess()
        registry = PeerRegistry(settings, main_process)
        runner = web.AppRunner(HttpServer(settings, registry, page).app(), access_log=None, lingering_time=LINGER_S)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        jar = aiohttp.CookieJar(unsafe=True)
        try:
            async with aiohttp.ClientSession(cookie_jar=jar) as http:
                await check(HttpFixture(main_process, registry, http, f"http://127.0.0.1:{port}"))
        finally:
            await registry.close()
            await runner.cleanup()

    asyncio.run(serve())


def is_problem(body: Any) -> bool:
    """Return whether a body is an error as every client gets it."""
    return (
        isinstance(body, dict)
        and body.keys() == {"title", "status", "code", "found", "expected", "cure"}
        and all(isinstance(body[name], str) for name in ("title", "code", "found", "expected", "cure"))
        and bool(body["code"] and body["found"] and body["cure"])
    )
