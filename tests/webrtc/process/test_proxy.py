"""The server behind a reverse proxy that serves it under a path of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from realtime.webrtc.process.http_server import PAGE
from tests.support.webrtc import FRAGMENT, OFFER, SDP, WATCH_OFFER, HttpFixture, with_server

PREFIX = "/portrait"
BROWSER = {"Accept": "text/html"}


@asynccontextmanager
async def proxy(target: str) -> AsyncIterator[str]:
    """Serve the target below ``PREFIX`` and nothing elsewhere, and return the new address of its page."""

    async def forward(request: web.Request) -> web.Response:
        path = request.rel_url.raw_path.removeprefix(PREFIX)
        url = URL(target + path, encoded=True).with_query(request.query)
        headers = {name: value for name, value in request.headers.items() if name != "Content-Length"}
        body = await request.read()
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer,
        ):
            response_headers = answer.headers.copy()
            for name in ("Content-Length", "Transfer-Encoding"):
                response_headers.popall(name, None)
            return web.Response(status=answer.status, body=await answer.read(), headers=response_headers)

    app = web.Application()
    app.router.add_route("*", PREFIX + "/{path:.*}", forward)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{PREFIX}/"
    finally:
        await runner.cleanup()


def behind_proxy(check: Callable[[aiohttp.ClientSession, URL], Awaitable[None]], page: Path = PAGE) -> None:
    async def run(server: HttpFixture) -> None:
        jar = aiohttp.CookieJar(unsafe=True)
        async with proxy(server.address) as address, aiohttp.ClientSession(cookie_jar=jar) as http:
            async with asyncio.timeout(20):
                await check(http, URL(address))

    with_server(page, run, token="right", gather_timeout_s=0.1)


@pytest.mark.parametrize("path", ["", "?watch=a%26b", "api/state", "api/portraits/0.jpg"])
def test_the_form_signs_in_below_the_path(path: str) -> None:
    async def check(http: aiohttp.ClientSession, page: URL) -> None:
        async with http.get(page.join(URL(path)), headers=BROWSER) as answer:
            assert answer.status == 401
            action = (await answer.text()).partition('action="')[2].partition('"')[0].replace("&amp;", "&")
            form = answer.url.join(URL(action, encoded=True))
        assert form.path == f"{PREFIX}/sign-in"
        async with http.post(form, data={"token": "right"}, allow_redirects=False) as answer:
            assert answer.status == 303
            target = answer.url.join(URL(answer.headers["Location"], encoded=True))
            assert target.path == page.path
            assert target.query == page.join(URL(path)).query
            assert "Path=" not in answer.headers["Set-Cookie"], "the browser knows the path"
        async with http.get(target) as answer:
            assert answer.status == 200
        async with http.get(page.join(URL("api/state"))) as answer:
            assert answer.status == 200

    behind_proxy(check)


def test_a_link_with_the_token_stays_below_the_path() -> None:
    async def check(http: aiohttp.ClientSession, page: URL) -> None:
        async with http.get(page.with_query(token="right", watch="x"), headers=BROWSER) as answer:
            assert answer.status == 200
            assert answer.url == page.with_query(watch="x")

    behind_proxy(check)


def test_sessions_are_opened_patched_and_deleted_below_the_path() -> None:
    async def check(http: aiohttp.ClientSession, page: URL) -> None:
        await http.get(page.with_query(token="right"))
        async with http.post(page.join(URL("whip")), data=OFFER, headers=SDP) as answer:
            assert answer.status == 201
            publisher, etag = answer.url.join(URL(answer.headers["Location"])), answer.headers["ETag"]
            link = next(each for each in answer.headers.getall("Link") if 'rel="watch"' in each)
            watch = answer.url.join(URL(link[1:].partition(">")[0]))
        async with http.post(watch, data=WATCH_OFFER, headers=SDP) as answer:
            # the session has no sink, but a viewer may connect before it has
            assert answer.status == 201
            viewer = answer.url.join(URL(answer.headers["Location"]))
        for peer in (publisher, viewer):
            assert peer.path.startswith(f"{PREFIX}/wh")
        fragment = "a=ice-ufrag:abcd\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"
        async with http.patch(publisher, data=fragment, headers=FRAGMENT | {"If-Match": etag}) as answer:
            assert answer.status == 204
        for peer in (viewer, publisher):
            assert (await http.delete(peer)).status == 200

    behind_proxy(check)
