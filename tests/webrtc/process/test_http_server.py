"""The HTTP side, in memory up to the daemon: who is let in, what is answered, and that nothing breaks it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiortc import RTCRtpReceiver, rtcicetransport
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.errors import ReenactError, ServerFull
from realtime.webrtc.ipc.messages import Message
from realtime.webrtc.process import http_server as servers
from realtime.webrtc.process import hub, ice
from realtime.webrtc.process.auth import HEADERS, WRONG_TOKENS
from realtime.webrtc.process.http_server import LINGER_S, MAX_BODY, MAX_SDP, MAX_UPLOAD, MediaServer
from realtime.webrtc.process.hub import CallbackError, FullError, Hub
from realtime.webrtc.process.peers import MAX_MESSAGE
from realtime.webrtc.process.request_limit import RequestLimit
from realtime.webrtc.process.sdp import MOST_CANDIDATES
from realtime.webrtc.settings import IceServer, ServerSettings
from tests.support.waiting import soon

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
PAGE = {"index.html": "<!doctype html>page", "app.js": "go()", "deep/style.css": "a{}"}


class FakeLine:
    """The daemon, in memory: grants unless told otherwise, and answers with what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], bytes]] = []
        self.told: list[dict[str, Any]] = []
        self.refusal: ReenactError | None = None
        self.reply = b'{"v":1,"ok":true}'
        self.status = 200
        self.error: CallbackError | None = None

    async def ask(self, what: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
        assert timeout_s > 0
        self.asked.append((what, values, body))
        if self.error is not None:
            raise self.error
        if what == "open":
            if self.refusal is not None:
                raise self.refusal
            return Message({})
        if what == "control":
            return Message({}, self.reply)
        return Message({"status": self.status, "type": "application/json"}, json.dumps(values).encode())

    def tell(self, values: dict[str, Any]) -> None:
        self.told.append(values)


class Fixture:
    """A server on loopback, and a client of it."""

    def __init__(self, line: FakeLine, hub: Hub, http: aiohttp.ClientSession, address: str) -> None:
        self.line, self.hub, self.http, self.address = line, hub, http, address

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        """Status, headers, and JSON where it is any, else text."""
        options.setdefault("allow_redirects", False)
        async with asyncio.timeout(10), self.http.request(method, self.address + path, **options) as reply:
            text = (await reply.read()).decode("utf-8", "replace")
            is_json = reply.content_type == "application/json" and text
            return reply.status, reply.headers, json.loads(text) if is_json else text


def run(page: Path, check: Callable[[Fixture], Awaitable[None]], **options: Any) -> None:
    """Serve with these settings while ``check`` runs."""

    async def serve() -> None:
        chosen, line = ServerSettings(**{"port": 0, **options}), FakeLine()
        house = Hub(chosen, line)
        runner = web.AppRunner(MediaServer(chosen, house, page).app(), access_log=None, lingering_time=LINGER_S)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        jar = aiohttp.CookieJar(unsafe=True)
        try:
            async with aiohttp.ClientSession(cookie_jar=jar) as http:
                await check(Fixture(line, house, http, f"http://127.0.0.1:{port}"))
        finally:
            await house.close()
            await runner.cleanup()

    asyncio.run(serve())


@pytest.fixture(autouse=True)
def quick_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the media process has it, but for this file only."""
    monkeypatch.setattr(rtcicetransport, "Connection", vars(rtcicetransport)["Connection"])
    ice.install(ServerSettings(gather_timeout_s=0.1))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    for name, text in PAGE.items():
        path = tmp_path / "page" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path / "page"


def is_problem(body: Any) -> bool:
    return (
        isinstance(body, dict)
        and body["v"] == 1
        and body["error"].keys() == {"found", "expected", "cure"}
        and all(isinstance(text, str) and text for text in body["error"].values())
    )


ENDPOINTS = [
    ("GET", "/"),
    ("GET", "/static/app.js"),
    ("POST", "/whip"),
    ("OPTIONS", "/whip"),
    ("DELETE", "/whip/x"),
    ("PATCH", "/whip/x"),
    ("OPTIONS", "/whip/x"),
    ("POST", "/whep"),
    ("POST", "/whep/x"),
    ("DELETE", "/whep/peer/x"),
    ("PATCH", "/whep/peer/x"),
    ("GET", "/api/state"),
    ("POST", "/api/control"),
    ("GET", "/api/portraits"),
    ("POST", "/api/portraits"),
    ("GET", "/api/portraits/0.jpg"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/nothing"),
]


def test_every_endpoint_asks_for_the_token(page: Path) -> None:
    async def check(server: Fixture) -> None:
        for method, path in ENDPOINTS:
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                status, answered, body = await server.ask(method, path, headers=headers)
                assert status == 401, (method, path)
                assert is_problem(body)
                assert answered["WWW-Authenticate"].startswith("Bearer")
            status, _, _ = await server.ask(method, path, headers={"Authorization": "Bearer t"})
            assert status not in (401, 403, 429, 500), (method, path)
        assert not any(what == "open" for what, _, _ in server.line.asked)

    run(page, check, token="t")


def test_every_endpoint_refuses_other_sites_and_names(page: Path) -> None:
    async def check(server: Fixture) -> None:
        for method, path in ENDPOINTS:
            for headers in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Host": "evil.example"},
                {"Sec-Fetch-Site": "cross-site"},
            ):
                status, answered, body = await server.ask(method, path, headers=headers)
                assert status == 403, (method, path, headers)
                assert is_problem(body)
                assert not any(name.startswith("Access-Control") for name in answered)
        own = {"Origin": server.address}
        status, _, _ = await server.ask("GET", "/api/state", headers=own)
        assert status == 200
        status, _, _ = await server.ask(
            "GET", "/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        )
        assert status == 200

    run(page, check)


def test_every_answer_carries_the_security_headers(page: Path) -> None:
    async def check(server: Fixture) -> None:
        for method, path in ENDPOINTS:
            _, answered, _ = await server.ask(method, path)
            assert all(answered[name] == value for name, value in HEADERS.items()), (method, path)
            assert "Server" not in answered

    run(page, check)


def test_a_link_with_the_token_signs_in_and_does_not_keep_it(page: Path) -> None:
    async def check(server: Fixture) -> None:
        status, headers, body = await server.ask("GET", "/", headers={"Accept": "text/html"})
        assert (status, headers["Content-Type"]) == (401, "text/html; charset=utf-8")
        assert 'action="/sign-in"' in body
        status, headers, _ = await server.ask("GET", "/?token=nope", headers={"Accept": "text/html"})
        assert status == 401
        assert "Set-Cookie" not in headers
        status, headers, _ = await server.ask("GET", "/?watch=a%26b&token=right")
        assert (status, headers["Location"]) == (303, "/?watch=a%26b")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "right" not in cookie
        status, _, body = await server.ask("GET", "/")
        assert (status, body) == (200, PAGE["index.html"])

    run(page, check, token="right")


def test_the_form_signs_in(page: Path) -> None:
    async def check(server: Fixture) -> None:
        status, _, _ = await server.ask("POST", "/sign-in", data={"token": "wrong"})
        assert status == 401
        browser = {"Accept": "text/html"}
        status, _, body = await server.ask("POST", "/sign-in", data={"token": "wrong"}, headers=browser)
        assert (status, "That was not the token" in body) == (401, True)
        status, _, body = await server.ask("GET", "/", headers=browser)
        assert (status, "That was not the token" in body) == (401, False)
        status, _, _ = await server.ask("POST", "/sign-in", data=b"\xff" * 10)
        assert status == 401
        status, headers, _ = await server.ask("POST", "/sign-in", data={"token": "right"})
        assert (status, headers["Location"]) == (303, "/")
        status, _, _ = await server.ask("GET", "/api/state")
        assert status == 200

    run(page, check, token="right")


def test_a_person_who_has_to_wait_is_told_in_the_form(page: Path) -> None:
    async def check(server: Fixture) -> None:
        browser = {"Accept": "text/html"}
        for number in range(WRONG_TOKENS):
            await server.ask("POST", "/sign-in", data={"token": f"wrong {number}"}, headers=browser)
        status, headers, body = await server.ask("POST", "/sign-in", data={"token": "right"}, headers=browser)
        assert (status, "Set-Cookie" in headers) == (429, False)
        assert "too many wrong tokens from this address: wait" in body
        assert 0 < int(headers["Retry-After"]) <= 60
        status, _, body = await server.ask("POST", "/sign-in", data={"token": "right"})
        assert status == 429
        assert is_problem(body)

    run(page, check, token="right")


def test_the_page_is_served_and_nothing_beside_it(page: Path) -> None:
    async def check(server: Fixture) -> None:
        for path, name in (
            ("/", "index.html"),
            ("/static/app.js", "app.js"),
            ("/static/deep/style.css", "deep/style.css"),
        ):
            status, _, body = await server.ask("GET", path)
            assert (status, body) == (200, PAGE[name])
        for path in (
            "/static/..%2fsecret.txt",
            "/static/%2e%2e/secret.txt",
            "/static//etc/passwd",
            "/static/deep",
            "/x",
        ):
            status, _, body = await server.ask("GET", path)
            assert status == 404, path
            assert is_problem(body)

    run(page, check)


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/healthz", "/api/state", "/static/none"])
def test_head_is_answered_as_get_without_the_body(page: Path, path: str) -> None:
    async def check(server: Fixture) -> None:
        status, headers, _ = await server.ask("GET", path)
        bare, same, body = await server.ask("HEAD", path)
        assert (bare, body) == (status, "")
        for name in ("Content-Type", "Content-Length"):
            assert same[name] == headers[name]

    run(page, check)


@pytest.mark.parametrize("path", ["/whip", "/whep", "/whep/x"])
def test_options_say_what_is_taken(page: Path, path: str) -> None:
    async def check(server: Fixture) -> None:
        status, headers, _ = await server.ask("OPTIONS", path)
        assert (status, headers["Accept-Post"], headers["Allow"]) == (204, "application/sdp", "OPTIONS, POST")

    run(page, check)


def test_ice_servers_are_told_before_an_offer_too(page: Path) -> None:
    async def check(server: Fixture) -> None:
        for path in ("/whip", "/whep", "/whep/x"):
            _, headers, _ = await server.ask("OPTIONS", path)
            stun, turn = headers.getall("Link")
            assert stun == '<stun:127.0.0.1:9>; rel="ice-server"'
            assert turn.startswith('<turn:127.0.0.1:9>; rel="ice-server"; username=')

    turn = IceServer("turn:127.0.0.1:9", secret="s")
    run(page, check, ice_servers=(IceServer("stun:127.0.0.1:9"), turn), gather_timeout_s=0.1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"data": b"v=0"}, 415),
        ({"data": b"v=0", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"data": b"hello", "headers": SDP}, 400),
        ({"data": b"", "headers": SDP}, 400),
        ({"data": bytes(MAX_SDP + 1), "headers": SDP}, 413),
        ({"data": b"v=0\r\nm=video 9 X 96\r\na=fingerprint:x\r\n", "headers": SDP}, 400),
    ],
)
def test_what_is_no_offer_is_refused_and_leaves_nothing(page: Path, options: dict[str, Any], expected: int) -> None:
    async def check(server: Fixture) -> None:
        status, _, body = await server.ask("POST", "/whip", **options)
        assert status == expected
        assert is_problem(body)
        assert not server.hub.publishers
        opened = [values["session"] for what, values, _ in server.line.asked if what == "open"]
        assert opened == [values["session"] for values in server.line.told]

    run(page, check)


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


def test_a_full_house_says_when_to_come_again(page: Path) -> None:
    async def check(server: Fixture) -> None:
        server.line.refusal = ServerFull("server-full", "4 sessions are open already", retry_after_s=7.2)
        status, headers, body = await server.ask("POST", "/whip", data=OFFER, headers=SDP)
        assert (status, headers["Retry-After"]) == (503, "8")
        assert body["error"]["found"] == "4 sessions are open already"
        assert not server.hub.publishers

    run(page, check)


def test_a_program_that_does_not_answer_is_told(page: Path) -> None:
    async def check(server: Fixture) -> None:
        server.line.error = CallbackError("the program has not answered for 10 s")
        for method, path in (("POST", "/whip"), ("GET", "/api/state"), ("GET", "/healthz"), ("POST", "/api/control")):
            status, _, body = await server.ask(method, path, data=OFFER, headers=SDP)
            assert status == 503
            assert is_problem(body)

    run(page, check)


def test_a_session_is_created_patched_and_deleted(page: Path) -> None:
    async def check(server: Fixture) -> None:
        status, headers, body = await server.ask("POST", "/whip", data=OFFER, headers=SDP)
        assert (status, headers["Content-Type"]) == (201, "application/sdp")
        location, etag = headers["Location"], headers["ETag"]
        assert location.startswith("/whip/")
        assert headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
        links = headers.getall("Link")
        assert any('rel="watch"' in link for link in links)
        assert any('rel="ice-server"' in link and "stun:127.0.0.1" in link for link in links)
        assert "a=recvonly" in body
        assert "a=candidate:" in body
        session = location.removeprefix("/whip/")
        assert session not in "".join(links), "whoever may watch may not control"

        fragment = "a=ice-ufrag:abcd\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"
        for extra, expected in (
            ({"If-Match": etag}, 204),
            ({}, 428),
            ({"If-Match": ""}, 428),
            ({"If-Match": '"other"'}, 412),
            ({"If-Match": f"W/{etag}"}, 412),
            ({"If-Match": '"other", "*"'}, 412),
            ({"If-Match": f'"other",  {etag}'}, 204),
            ({"If-Match": "*"}, 204),
        ):
            status, _, _ = await server.ask("PATCH", location, data=fragment, headers=FRAGMENT | extra)
            assert status == expected
        match = {"If-Match": etag}
        for data, more, expected in (
            (fragment.replace("abcd", "efgh"), FRAGMENT, 422),
            ("a=candidate:broken\r\n", FRAGMENT, 400),
            (fragment.replace(" 9 ", " 99999 "), FRAGMENT, 400),
            (fragment.replace(" 9 ", " -1 "), FRAGMENT, 400),
            ("\xff", FRAGMENT, 400),
            (fragment, SDP, 415),
        ):
            status, _, problem = await server.ask("PATCH", location, data=data.encode("latin-1"), headers=more | match)
            assert status == expected
            assert is_problem(problem)
        status, _, _ = await server.ask("GET", location)
        assert status == 405
        status, _, _ = await server.ask("DELETE", location)
        assert status == 200
        status, _, _ = await server.ask("DELETE", location)
        assert status == 404
        await soon(lambda: server.line.told)
        assert server.line.told[0] == {"say": "closed", "session": session}

    run(page, check, ice_servers=(IceServer("stun:127.0.0.1:9"),), gather_timeout_s=0.1)


def test_there_is_an_end_to_the_candidates_of_a_session(page: Path) -> None:
    async def check(server: Fixture) -> None:
        _, headers, _ = await server.ask("POST", "/whip", data=OFFER, headers=SDP)
        match = FRAGMENT | {"If-Match": headers["ETag"]}
        for count, expected in ((MOST_CANDIDATES - 1, 204), (1, 204), (1, 422)):
            lines = [f"a=candidate:{at} 1 udp 1 127.0.0.1 {9 + at} typ host\r\n" for at in range(count)]
            status, _, body = await server.ask("PATCH", headers["Location"], data="".join(lines), headers=match)
            assert status == expected
        assert is_problem(body)

    run(page, check)


def test_no_server_outside_is_contacted_by_default(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_: type) -> list[Any]:
        raise AssertionError("a public STUN server would be asked")

    monkeypatch.setattr(rtcicetransport.RTCIceGatherer, "getDefaultIceServers", classmethod(ask))

    async def check(server: Fixture) -> None:
        status, headers, _ = await server.ask("POST", "/whip", data=OFFER, headers=SDP)
        assert status == 201
        assert "ice-server" not in ", ".join(headers.getall("Link"))

    run(page, check)


def test_there_is_an_end_to_publishers_on_their_way(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MOST_PUBLISHERS", 1)

    async def check(server: Fixture) -> None:
        for expected in (201, 503):
            status, _, _ = await server.ask("POST", "/whip", data=OFFER, headers=SDP)
            assert status == expected

    run(page, check)


def test_codecs_nobody_has_are_said(page: Path) -> None:
    async def check(server: Fixture) -> None:
        status, _, body = await server.ask("POST", "/whip", data=OFFER.replace(b"H264/", b"H265/"), headers=SDP)
        assert status == 422
        assert "codec" in body["error"]["found"]
        assert server.line.told

    run(page, check)


def test_a_peer_lets_go_of_everything_though_closing_fails(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise AttributeError("a bug")

    async def check(server: Fixture) -> None:
        status, headers, _ = await server.ask("POST", "/whip", data=OFFER, headers=SDP)
        assert status == 201
        (publisher,) = server.hub.publishers.values()
        transport = publisher._transceiver.receiver.transport.transport
        assert transport.state != "closed"
        monkeypatch.setattr(RTCRtpReceiver, "stop", fail)
        await server.ask("DELETE", headers["Location"])
        while not server.line.told:
            await asyncio.sleep(0)
        # a look for a way that is under way fails of being closed, and may say so last
        assert transport.state in ("closed", "failed")

    run(page, check)


def test_a_place_to_watch_is_kept_for_every_session(page: Path) -> None:
    async def check(server: Fixture) -> None:
        async def publish() -> str:
            _, headers, _ = await server.ask("POST", "/whip", data=OFFER, headers=SDP)
            return str(headers["Link"].partition("<")[2].partition(">")[0])

        async def watch(path: str) -> tuple[int, str]:
            offer = OFFER.replace(b"sendonly", b"recvonly")
            status, headers, _ = await server.ask("POST", path, data=offer, headers=SDP)
            return status, headers.get("Location", "")

        one, other = await publish(), await publish()
        assert sorted([(await watch(one))[0] for _ in range(3)]) == [201, 201, 503]
        status, location = await watch(other)
        assert status == 201
        assert (await watch(other))[0] == 503
        assert (await server.ask("DELETE", location))[0] == 200
        while server.hub.viewers.keys() & {location.rpartition("/")[2]}:
            await asyncio.sleep(0)
        assert [(await watch(other))[0] for _ in range(2)] == [201, 503]
        paths = [await publish() for _ in range(2)]
        at_once = await asyncio.gather(*(watch(path) for path in paths))
        assert [status for status, _ in at_once] == [201, 201]

    run(page, check, max_viewers=1)


def test_nothing_to_watch_is_not_found(page: Path) -> None:
    async def check(server: Fixture) -> None:
        offer = OFFER.replace(b"sendonly", b"recvonly")
        for path in ("/whep", "/whep/unknown", "/whep/%ff"):
            status, _, body = await server.ask("POST", path, data=offer, headers=SDP)
            assert status == 404
            assert is_problem(body)

    run(page, check)


def test_the_rest_is_passed_on_within_bounds(page: Path) -> None:
    async def check(server: Fixture) -> None:
        status, _, body = await server.ask("GET", "/api/portraits/0.jpg?session=S&size=3")
        assert status == 200
        assert body == {
            "method": "GET",
            "path": "/api/portraits/0.jpg",
            "type": "application/octet-stream",
            "session": "S",
            "query": {"size": "3"},
        }
        for path, size, expected in (
            ("/api/portraits", MAX_UPLOAD, 200),
            ("/api/portraits", MAX_UPLOAD + 1, 413),
            ("/api/other", MAX_BODY + 1, 413),
            ("/api/control", 5000, 413),
        ):
            status, _, body = await server.ask("POST", path, data=io.BytesIO(bytes(size)))
            assert status == expected
        status, _, _ = await server.ask("GET", "/api/state?" + "a" * 3000)
        assert status == 414

    run(page, check)


def test_more_pictures_at_a_time_than_memory_is_there_for_are_sent_away_unread(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_WAIT_S", 0.05)

    async def check(server: Fixture) -> None:
        gate, began = asyncio.Event(), asyncio.Semaphore(0)

        async def slowly() -> AsyncIterator[bytes]:
            yield b"a"
            began.release()
            await gate.wait()
            yield b"b"

        sending = [asyncio.ensure_future(server.ask("POST", "/api/portraits", data=slowly())) for _ in range(3)]
        for _ in sending:
            await began.acquire()
        status = 0
        async with asyncio.timeout(10):
            while status != 503:  # until the first three have got as far as the server
                status, headers, body = await server.ask("POST", "/api/portraits", data=b"picture")
        assert headers["Retry-After"] == "1"
        assert is_problem(body)
        if sys.platform == "linux":  # where all of 127.0.0.0/8 is this machine
            connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
            async with aiohttp.ClientSession(connector=connector) as other:
                assert (await other.post(server.address + "/api/portraits", data=b"picture")).status == 200
        gate.set()
        assert [answer[0] for answer in await asyncio.gather(*sending)] == [200] * 3
        assert (await server.ask("POST", "/api/portraits", data=b"picture"))[0] == 200

    run(page, check)


def test_one_clients_pictures_are_passed_on_one_after_the_other(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(server: Fixture) -> None:
        answer, together, at_work = server.line.ask, asyncio.Event(), 0

        async def slowly(what: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
            nonlocal at_work
            at_work += 1
            if at_work > 1:
                together.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(together.wait(), 0.1)
            at_work -= 1
            return await answer(what, values, body, timeout_s=timeout_s)

        monkeypatch.setattr(server.line, "ask", slowly)
        sending = [server.ask("POST", "/api/portraits", data=b"picture") for _ in range(3)]
        assert [answer[0] for answer in await asyncio.gather(*sending)] == [200] * 3
        assert not together.is_set()

    run(page, check)


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time can be moved on."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


@pytest.mark.parametrize(
    ("pauses_s", "comes"), [([9.0] * 13, True), ([9.0] * 14, False), ([0.1, 11.0, 0.1], False), ([11.0], False)]
)
def test_an_upload_may_be_slow_but_neither_stop_nor_last_for_ever(pauses_s: list[float], comes: bool) -> None:
    async def check() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for pause_s in pauses_s:
                clock.ahead_s += pause_s
                for _ in range(3):  # for the loop to notice
                    await asyncio.sleep(0)
                yield b"a"

        request: Any = SimpleNamespace(content_length=None, content=SimpleNamespace(iter_any=pieces))
        upload = servers.read_body(request, MAX_UPLOAD, servers._UPLOAD_S, servers._SILENCE_S)
        if comes:
            assert await upload == b"a" * len(pauses_s)
        else:
            with pytest.raises(servers.ProblemError) as caught:
                await upload
            assert caught.value.status == 408
            assert caught.value.problem["expected"] == "all of it in 120 s, more every 10 s"

    clock = Clock()
    with asyncio.Runner(loop_factory=lambda: clock) as runner:
        runner.run(check())


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/sign-in", MAX_MESSAGE), ("/api/control", MAX_MESSAGE), ("/api/x", MAX_BODY), ("/whip", MAX_SDP)],
)
def test_a_body_without_a_length_is_read_no_further_than_its_limit(page: Path, path: str, limit: int) -> None:
    async def check(server: Fixture) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 4096
                yield bytes(4096)

        async with asyncio.timeout(10):
            reply = await server.http.post(server.address + path, data=endless(), headers=SDP)
            assert reply.status == 413
            reply.close()
        # what is on its way between the two is not ours to bound
        assert sent < limit + (8 << 20)

    run(page, check)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"Content-Length: 50\r\n\r\n" + b"a=1&b" * 10,
    ],
)
def test_a_body_that_cannot_be_read_is_the_senders_mistake(page: Path, lines: bytes) -> None:
    async def check(server: Fixture) -> None:
        host = server.address.removeprefix("http://")
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(b"POST /sign-in HTTP/1.1\r\nConnection: close\r\nHost: " + host.encode() + b"\r\n" + lines)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert is_problem(json.loads(answer.partition(b"\r\n\r\n")[2]))

    run(page, check, token="t")


@pytest.mark.parametrize("patient", [False, True])
def test_one_client_leaves_room_for_others_and_for_health(
    page: Path, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    monkeypatch.setattr(servers, "_WAIT_S", 10.0 if patient else 0.01)

    async def check(server: Fixture) -> None:
        gate, answer = asyncio.Event(), server.line.ask

        async def slowly(what: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
            if values.get("path") == "/api/control":
                await gate.wait()
            return await answer(what, values, body, timeout_s=timeout_s)

        monkeypatch.setattr(server.line, "ask", slowly)
        asking = {asyncio.ensure_future(server.ask("POST", "/api/control")) for _ in range(20)}
        async with asyncio.timeout(10):
            while len(refused := [task for task in asking if task.done()]) < (0 if patient else 20 - 6):
                await asyncio.wait(asking.difference(refused), return_when=asyncio.FIRST_COMPLETED)
        assert all(task.result()[0] == 503 for task in refused)
        for path in ("/healthz", "/metrics"):
            assert (await server.ask("GET", path))[0] == 200
        gate.set()
        assert {answer[0] for answer in await asyncio.gather(*asking.difference(refused))} == {200}

    run(page, check)


def test_a_place_is_given_back_and_one_client_has_its_share() -> None:
    async def check() -> None:
        places = RequestLimit(3, 2, "requests")
        async with places.take("a"), places.take("a"):
            with pytest.raises(FullError, match="requests"):
                await places.take("a").__aenter__()
            async with places.take("b"):
                with pytest.raises(FullError):
                    await places.take("c").__aenter__()
            async with places.take("c"):
                pass
        async with places.take("a"):
            pass

    asyncio.run(check())


def test_commands_are_passed_on_and_answered_as_the_daemon_does(page: Path) -> None:
    async def check(server: Fixture) -> None:
        for server.line.status in (200, 404, 503):
            status, _, _ = await server.ask("POST", "/api/control?session=S", data=b'{"command":"next_portrait"}')
            assert status == server.line.status
        what, values, body = server.line.asked[-1]
        assert (what, body) == ("request", b'{"command":"next_portrait"}')
        assert (values["method"], values["path"], values["session"]) == ("POST", "/api/control", "S")

    run(page, check)


PATHS = st.one_of(
    st.sampled_from([path for _, path in ENDPOINTS]),
    st.text(st.characters(codec="latin-1", min_codepoint=32), max_size=20).map(lambda text: f"/{text}"),
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
TYPES = st.sampled_from(["application/sdp", "application/trickle-ice-sdpfrag", "application/json", "text/plain", "x"])
BODIES = st.one_of(
    st.binary(max_size=100),
    st.lists(st.sampled_from(OFFER.split(b"\r\n")), max_size=25).map(b"\r\n".join),
    st.tuples(st.integers(0, len(OFFER)), st.binary(max_size=8)).map(
        lambda cut: OFFER[: cut[0]] + cut[1] + OFFER[cut[0] + 4 :]
    ),
)
REQUESTS = st.lists(st.tuples(METHODS, PATHS, TYPES, BODIES, st.text(max_size=8)), min_size=1, max_size=15)


@given(REQUESTS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_request_breaks_or_holds_up_the_server(page: Path, requests: list[tuple[str, str, str, bytes, str]]) -> None:
    async def check(server: Fixture) -> None:
        for method, path, kind, data, value in requests:
            headers = {"Content-Type": kind, "If-Match": "".join(filter(str.isalnum, value.encode().hex())) or "*"}
            status, _, body = await server.ask(method, path, data=data, headers=headers, params={"session": value})
            assert status < 500
            assert status < 400 or method == "HEAD" or is_problem(body)

    run(page, check, gather_timeout_s=0.1)
