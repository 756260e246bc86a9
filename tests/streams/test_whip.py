"""A WHIP client against servers that answer as they should not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from engines.errors import ReenactError
from realtime.streams import whip
from realtime.streams.target import Target
from realtime.streams.whip import WhipConnection
from realtime.webrtc.settings import ServerSettings
from realtime.webrtc.video.codecs import Codecs
from realtime.webrtc.video.shared_encoding import Stream

TOKEN = "SECRET"


@asynccontextmanager
async def serving(handler: object) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/whip"
    finally:
        await runner.cleanup()


async def error_of(url: str) -> ReenactError:
    settings = ServerSettings()
    connection = WhipConnection(Target("whip", url, TOKEN), Stream("stream"), Codecs(settings), settings)
    try:
        with pytest.raises(ReenactError) as caught:
            await connection.open()
        assert TOKEN not in str(caught.value)
        return caught.value
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ({"status": 401}, "stream-unauthorized"),
        ({"status": 403}, "stream-unauthorized"),
        ({"status": 404}, "stream-not-found"),
        ({"status": 500}, "stream-server-error"),
        ({"status": 422}, "stream-no-common-codec"),
        ({"status": 200, "text": "<html>", "content_type": "text/html"}, "stream-bad-answer"),
        ({"status": 201, "text": "v=0\r\nnonsense", "content_type": "application/sdp"}, "stream-bad-answer"),
        ({"status": 307}, "stream-redirected"),
        ({"status": 307, "headers": {"Location": "http://127.0.0.2:1/whip"}}, "stream-redirected"),
        ({"status": 307, "headers": {"Location": "file:///etc/passwd"}}, "stream-redirected"),
        ({"status": 307, "headers": {"Location": "/whip"}}, "stream-redirected"),
    ],
    ids=str,
)
def test_each_bad_answer_has_its_code(reply: dict[str, object], code: str) -> None:
    async def check() -> None:
        async def handler(_: web.Request) -> web.Response:
            return web.Response(**reply)  # type: ignore[arg-type]

        async with serving(handler) as url:
            assert (await error_of(url)).code == code

    asyncio.run(check())


def test_a_redirect_on_the_same_server_is_followed_with_the_token() -> None:
    seen: list[tuple[str, str | None]] = []

    async def check() -> None:
        async def handler(request: web.Request) -> web.Response:
            seen.append((request.path, request.headers.get("Authorization")))
            if request.path == "/whip":
                return web.Response(status=307, headers={"Location": "/other"})
            return web.Response(status=404)

        async with serving(handler) as url:
            assert (await error_of(url)).code == "stream-not-found"

    asyncio.run(check())
    assert seen == [("/whip", f"Bearer {TOKEN}"), ("/other", f"Bearer {TOKEN}")]


def test_no_answer_and_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whip, "_ANSWER_S", 0.3)

    async def check() -> None:
        taken: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/whip"
        assert (await error_of(url)).code == "stream-no-answer"
        server.close()
        for writer in taken:
            writer.close()
        assert (await error_of(url)).code == "stream-unreachable"

    asyncio.run(check())
