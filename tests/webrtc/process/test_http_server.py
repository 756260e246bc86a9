"""The HTTP server, with a main process in memory: access control, every route, and that no request breaks it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest
from aiortc import RTCRtpReceiver, rtcicetransport
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.errors import BusyError, NotFoundError, RequestError, ServerFull
from realtime.core import problem
from realtime.core.protocol import MAIN_STREAM
from realtime.webrtc.callbacks import MONITORING_PATHS
from realtime.webrtc.ipc.frame_ring import create_ring
from realtime.webrtc.ipc.messages import Message
from realtime.webrtc.process import api_routes, ice, peer_registry
from realtime.webrtc.process.api_routes import MAX_BODY
from realtime.webrtc.process.auth import HEADERS, MAX_WRONG_TOKENS
from realtime.webrtc.process.control_channel import MAX_MESSAGE
from realtime.webrtc.process.page_routes import MAX_FORM
from realtime.webrtc.process.peer_routes import MAX_SDP
from realtime.webrtc.process.responses import MAX_UPLOAD, read_body
from realtime.webrtc.process.sdp import MAX_CANDIDATES
from realtime.webrtc.settings import IceServer, ServerSettings
from tests.support.waiting import soon
from tests.support.webrtc import FRAGMENT, OFFER, SDP, HttpFixture, is_problem, with_server

PAGE = {"index.html": "<!doctype html>page", "app.js": "go()", "deep/style.css": "a{}"}


@pytest.fixture(autouse=True)
def quick_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the media process's ICE connection, for this module only."""
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
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/nothing"),
]


def test_every_route_requires_the_token(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        for method, path in ENDPOINTS:
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                status, answered, body = await server.request(method, path, headers=headers)
                assert status == 401, (method, path)
                assert is_problem(body)
                assert answered["WWW-Authenticate"].startswith("Bearer")
            status, _, _ = await server.request(method, path, headers={"Authorization": "Bearer t"})
            assert status not in (401, 403, 429, 500), (method, path)
        assert not any(callback == "open" for callback, _, _ in server.main_process.calls)

    with_server(page, check, token="t")


def test_every_route_refuses_other_sites_and_hosts(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        for method, path in ENDPOINTS:
            for headers in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Host": "evil.example"},
                {"Sec-Fetch-Site": "cross-site"},
            ):
                status, answered, body = await server.request(method, path, headers=headers)
                assert status == 403, (method, path, headers)
                assert is_problem(body)
                assert not any(name.startswith("Access-Control") for name in answered)
        own = {"Origin": server.address}
        status, _, _ = await server.request("GET", "/api/state", headers=own)
        assert status == 200
        status, _, _ = await server.request(
            "GET", "/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        )
        assert status == 200

    with_server(page, check)


def test_every_answer_has_the_security_headers(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        for method, path in ENDPOINTS:
            _, answered, _ = await server.request(method, path)
            assert all(answered[name] == value for name, value in HEADERS.items()), (method, path)
            assert "Server" not in answered

    with_server(page, check)


def test_a_link_with_the_token_is_exchanged_for_a_cookie(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        status, headers, body = await server.request("GET", "/", headers={"Accept": "text/html"})
        assert (status, headers["Content-Type"]) == (401, "text/html; charset=utf-8")
        assert 'action="sign-in"' in body
        status, headers, _ = await server.request("GET", "/?token=nope", headers={"Accept": "text/html"})
        assert status == 401
        assert "Set-Cookie" not in headers
        status, headers, _ = await server.request("GET", "/?watch=a%26b&token=right")
        assert (status, headers["Location"]) == (303, "./?watch=a%26b")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "right" not in cookie
        status, _, body = await server.request("GET", "/")
        assert (status, body) == (200, PAGE["index.html"])

    with_server(page, check, token="right")


def test_the_form_signs_in(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        status, _, _ = await server.request("POST", "/sign-in", data={"token": "wrong"})
        assert status == 401
        browser = {"Accept": "text/html"}
        status, _, body = await server.request("POST", "/sign-in", data={"token": "wrong"}, headers=browser)
        assert (status, 'role="alert"' in body) == (401, True)
        status, _, body = await server.request("GET", "/", headers=browser)
        assert (status, 'role="alert"' in body) == (401, False)
        status, _, _ = await server.request("POST", "/sign-in", data=b"\xff" * 10)
        assert status == 401
        status, headers, _ = await server.request("POST", "/sign-in", data={"token": "right"})
        assert (status, headers["Location"]) == (303, "./")
        status, _, _ = await server.request("GET", "/api/state")
        assert status == 200

    with_server(page, check, token="right")


def test_the_form_tells_a_user_to_wait_after_too_many_wrong_tokens(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        browser = {"Accept": "text/html"}
        for number in range(MAX_WRONG_TOKENS):
            await server.request("POST", "/sign-in", data={"token": f"wrong {number}"}, headers=browser)
        status, headers, body = await server.request("POST", "/sign-in", data={"token": "right"}, headers=browser)
        assert (status, "Set-Cookie" in headers) == (429, False)
        assert 'role="alert"' in body
        assert f"wait {headers['Retry-After']} s" in body
        assert 0 < int(headers["Retry-After"]) <= 60
        status, _, body = await server.request("POST", "/sign-in", data={"token": "right"})
        assert status == 429
        assert is_problem(body)

    with_server(page, check, token="right")


def test_only_files_of_the_page_are_served(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        for path, name in (
            ("/", "index.html"),
            ("/static/app.js", "app.js"),
            ("/static/deep/style.css", "deep/style.css"),
        ):
            status, _, body = await server.request("GET", path)
            assert (status, body) == (200, PAGE[name])
        for path in (
            "/static/..%2fsecret.txt",
            "/static/%2e%2e/secret.txt",
            "/static//etc/passwd",
            "/static/deep",
            "/x",
        ):
            status, _, body = await server.request("GET", path)
            assert status == 404, path
            assert is_problem(body)

    with_server(page, check)


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/healthz", "/api/state", "/static/none"])
def test_head_is_answered_as_get_without_the_body(page: Path, path: str) -> None:
    async def check(server: HttpFixture) -> None:
        status, headers, _ = await server.request("GET", path)
        bare, same, body = await server.request("HEAD", path)
        assert (bare, body) == (status, "")
        for name in ("Content-Type", "Content-Length"):
            assert same[name] == headers[name]

    with_server(page, check)


@pytest.mark.parametrize("path", ["/whip", "/whep", "/whep/x"])
def test_options_name_the_accepted_type(page: Path, path: str) -> None:
    async def check(server: HttpFixture) -> None:
        status, headers, _ = await server.request("OPTIONS", path)
        assert (status, headers["Accept-Post"], headers["Allow"]) == (204, "application/sdp", "OPTIONS, POST")

    with_server(page, check)


def test_options_name_the_ice_servers(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        for path in ("/whip", "/whep", "/whep/x"):
            _, headers, _ = await server.request("OPTIONS", path)
            stun, turn = headers.getall("Link")
            assert stun == '<stun:127.0.0.1:9>; rel="ice-server"'
            assert turn.startswith('<turn:127.0.0.1:9>; rel="ice-server"; username=')

    turn = IceServer("turn:127.0.0.1:9", secret="s")
    with_server(page, check, ice_servers=(IceServer("stun:127.0.0.1:9"), turn), gather_timeout_s=0.1)


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
def test_a_bad_offer_is_refused_and_leaves_nothing_behind(page: Path, options: dict[str, Any], expected: int) -> None:
    async def check(server: HttpFixture) -> None:
        status, _, body = await server.request("POST", "/whip", **options)
        assert status == expected
        assert is_problem(body)
        assert not server.registry.publishers
        opened = [values["session"] for callback, values, _ in server.main_process.calls if callback == "open"]
        assert opened == [values["session"] for values in server.main_process.sent]

    with_server(page, check)


def test_a_full_server_says_when_to_retry(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        server.main_process.open_error = ServerFull("server-full", "4 sessions", cure="wait", retry_after_s=7.2)
        status, headers, body = await server.publish()
        assert (status, headers["Retry-After"]) == (503, "8")
        assert headers["Content-Type"] == problem.CONTENT_TYPE
        assert is_problem(body)
        assert body["code"] == "server-full"
        assert not server.registry.publishers

    with_server(page, check)


def test_a_silent_main_process_is_answered_503(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        server.main_process.error = BusyError("main-process-silent", "no answer for 10 s", cure="retry")
        for method, path in (("POST", "/whip"), ("GET", "/api/state"), ("GET", "/healthz"), ("POST", "/api/control")):
            status, _, body = await server.request(method, path, data=OFFER, headers=SDP)
            assert status == 503
            assert is_problem(body)

    with_server(page, check)


def test_a_session_is_created_patched_and_deleted(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        status, headers, body = await server.publish()
        assert (status, headers["Content-Type"]) == (201, "application/sdp")
        location, etag = "/" + headers["Location"], headers["ETag"]
        assert location.startswith("/whip/")
        assert headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
        links = headers.getall("Link")
        assert any('rel="watch"' in link for link in links)
        assert any('rel="ice-server"' in link and "stun:127.0.0.1" in link for link in links)
        assert "a=recvonly" in body
        assert "a=candidate:" in body
        session = location.removeprefix("/whip/")
        assert session not in "".join(links), "viewers must not control"

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
            status, _, _ = await server.request("PATCH", location, data=fragment, headers=FRAGMENT | extra)
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
            status, _, body = await server.request("PATCH", location, data=data.encode("latin-1"), headers=more | match)
            assert status == expected
            assert is_problem(body)
        status, _, _ = await server.request("GET", location)
        assert status == 405
        status, _, _ = await server.request("DELETE", location)
        assert status == 200
        status, _, _ = await server.request("DELETE", location)
        assert status == 404
        await soon(lambda: server.main_process.sent)
        assert server.main_process.sent[0] == {"kind": "closed", "session": session}

    with_server(page, check, ice_servers=(IceServer("stun:127.0.0.1:9"),), gather_timeout_s=0.1)


def test_the_candidates_of_a_session_are_limited(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        _, headers, _ = await server.publish()
        match = FRAGMENT | {"If-Match": headers["ETag"]}
        for count, expected in ((MAX_CANDIDATES - 1, 204), (1, 204), (1, 422)):
            lines = [f"a=candidate:{at} 1 udp 1 127.0.0.1 {9 + at} typ host\r\n" for at in range(count)]
            status, _, body = await server.request(
                "PATCH", "/" + headers["Location"], data="".join(lines), headers=match
            )
            assert status == expected
        assert is_problem(body)

    with_server(page, check)


def test_no_server_outside_is_contacted_by_default(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: type) -> list[Any]:
        raise AssertionError("a public STUN server would be contacted")

    monkeypatch.setattr(rtcicetransport.RTCIceGatherer, "getDefaultIceServers", classmethod(fail))

    async def check(server: HttpFixture) -> None:
        status, headers, _ = await server.publish()
        assert status == 201
        assert "ice-server" not in ", ".join(headers.getall("Link"))

    with_server(page, check)


def test_publishers_are_limited(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_registry, "MAX_PUBLISHERS", 1)

    async def check(server: HttpFixture) -> None:
        status, _, _ = await server.publish()
        assert status == 201
        status, _, body = await server.publish()
        assert status == 503
        assert body["code"] == "publishers-full"

    with_server(page, check)


def test_an_offer_without_a_common_codec_is_refused(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        status, _, body = await server.request("POST", "/whip", data=OFFER.replace(b"H264/", b"H265/"), headers=SDP)
        assert status == 422
        assert body["code"] == "sdp-no-common-codec"
        assert server.main_process.sent

    with_server(page, check)


def test_a_peer_releases_everything_even_if_closing_a_part_fails(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise AttributeError("a bug")

    async def check(server: HttpFixture) -> None:
        status, headers, _ = await server.publish()
        assert status == 201
        (publisher,) = server.registry.publishers.values()
        transport = publisher._transceiver.receiver.transport.transport
        assert transport.state != "closed"
        monkeypatch.setattr(RTCRtpReceiver, "stop", fail)
        await server.request("DELETE", "/" + headers["Location"])
        while not server.main_process.sent:
            await asyncio.sleep(0)
        # a connectivity check in progress fails when it is closed, and may set the state last
        assert transport.state in ("closed", "failed")

    with_server(page, check)


def test_the_first_viewer_of_every_session_is_not_counted(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        async def publish() -> str:
            _, headers, _ = await server.publish()
            return "/" + str(headers["Link"].partition("<")[2].partition(">")[0])

        async def watch(path: str) -> tuple[int, str]:
            status, headers, _ = await server.watch(path)
            return status, urljoin(path, headers.get("Location", ""))

        one, other = await publish(), await publish()
        assert sorted([(await watch(one))[0] for _ in range(3)]) == [201, 201, 503]
        status, location = await watch(other)
        assert status == 201
        assert (await watch(other))[0] == 503
        assert (await server.request("DELETE", location))[0] == 200
        while server.registry.viewers.keys() & {location.rpartition("/")[2]}:
            await asyncio.sleep(0)
        assert [(await watch(other))[0] for _ in range(2)] == [201, 503]
        paths = [await publish() for _ in range(2)]
        at_once = await asyncio.gather(*(watch(path) for path in paths))
        assert [status for status, _ in at_once] == [201, 201]

    with_server(page, check, max_viewers=1)


def test_an_unknown_stream_is_not_found(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        for path in ("/whep", "/whep/unknown", "/whep/%ff"):
            status, _, body = await server.watch(path)
            assert status == 404
            assert is_problem(body)
            assert body["code"] == "stream-not-found"

    with_server(page, check, main_run=False)


def test_a_main_run_that_has_not_started_is_answered_with_a_time_to_retry(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        status, headers, body = await server.watch()
        assert (status, headers["Retry-After"], body["code"]) == (503, "1", "stream-not-started")
        assert is_problem(body)
        ring = create_ring(100)
        server.registry.handle(Message({"kind": "sink", "stream": MAIN_STREAM}, b"", (ring.memory, ring.wake_read)))
        assert (await server.watch())[0] == 201
        os.close(ring.wake_write)

    with_server(page, check)


def test_a_bug_is_answered_500_and_logged_with_its_traceback(page: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def check(server: HttpFixture) -> None:
        server.main_process.error = KeyError("a bug")
        status, headers, body = await server.request("GET", "/api/state")
        assert (status, body["code"]) == (500, "internal-error")
        assert is_problem(body)
        assert "Retry-After" not in headers
        assert "KeyError: 'a bug'" in caplog.text

    with_server(page, check)


def test_the_error_of_a_callback_is_the_answer(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        server.main_process.error = NotFoundError("portrait-not-found", "no portrait 9", "one of 2", "choose another")
        status, headers, body = await server.request("GET", "/api/portraits/9.jpg")
        assert (status, headers["Content-Type"]) == (404, problem.CONTENT_TYPE)
        assert (body["code"], body["title"]) == ("portrait-not-found", "no portrait 9, expected one of 2")

    with_server(page, check)


def test_api_requests_are_forwarded_within_limits(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        status, _, body = await server.request("GET", "/api/portraits/0.jpg?session=S&size=3")
        assert status == 200
        assert body == {
            "method": "GET",
            "path": "/api/portraits/0.jpg",
            "content_type": "application/octet-stream",
            "session": "S",
            "query": {"size": "3"},
        }
        for path, size, expected in (
            ("/api/portraits", MAX_UPLOAD, 200),
            ("/api/portraits", MAX_UPLOAD + 1, 413),
            ("/api/other", MAX_BODY + 1, 413),
            ("/api/control", 5000, 413),
        ):
            status, _, body = await server.request("POST", path, data=io.BytesIO(bytes(size)))
            assert status == expected
        status, _, _ = await server.request("GET", "/api/state?" + "a" * 3000)
        assert status == 414

    with_server(page, check)


def test_uploads_above_the_limit_are_refused_unread(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_routes, "_WAIT_S", 0.05)

    async def check(server: HttpFixture) -> None:
        proceed, began = asyncio.Event(), asyncio.Semaphore(0)

        async def slowly() -> AsyncIterator[bytes]:
            yield b"a"
            began.release()
            await proceed.wait()
            yield b"b"

        sending = [asyncio.ensure_future(server.request("POST", "/api/portraits", data=slowly())) for _ in range(3)]
        for _ in sending:
            await began.acquire()
        status = 0
        async with asyncio.timeout(10):
            while status != 503:  # until the first three have got as far as the server
                status, headers, body = await server.request("POST", "/api/portraits", data=b"picture")
        assert headers["Retry-After"] == "1"
        assert is_problem(body)
        if sys.platform == "linux":  # where all of 127.0.0.0/8 is this machine
            connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
            async with aiohttp.ClientSession(connector=connector) as other:
                assert (await other.post(server.address + "/api/portraits", data=b"picture")).status == 200
        proceed.set()
        assert [answer[0] for answer in await asyncio.gather(*sending)] == [200] * 3
        assert (await server.request("POST", "/api/portraits", data=b"picture"))[0] == 200

    with_server(page, check)


def test_uploads_of_one_client_are_forwarded_one_by_one(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(server: HttpFixture) -> None:
        answer, together, at_work = server.main_process.call, asyncio.Event(), 0

        async def slowly(callback: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
            nonlocal at_work
            at_work += 1
            if at_work > 1:
                together.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(together.wait(), 0.1)
            at_work -= 1
            return await answer(callback, values, body, timeout_s=timeout_s)

        monkeypatch.setattr(server.main_process, "call", slowly)
        sending = [server.request("POST", "/api/portraits", data=b"picture") for _ in range(3)]
        assert [answer[0] for answer in await asyncio.gather(*sending)] == [200] * 3
        assert not together.is_set()

    with_server(page, check)


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time can be moved on."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


@pytest.mark.parametrize(
    ("pauses_s", "comes"), [([9.0] * 13, True), ([9.0] * 14, False), ([0.1, 11.0, 0.1], False), ([11.0], False)]
)
def test_an_upload_may_be_slow_within_its_time_limits(pauses_s: list[float], comes: bool) -> None:
    async def check() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for pause_s in pauses_s:
                clock.ahead_s += pause_s
                for _ in range(3):  # for the loop to notice
                    await asyncio.sleep(0)
                yield b"a"

        request: Any = SimpleNamespace(content_length=None, content=SimpleNamespace(iter_any=pieces))
        upload = read_body(request, MAX_UPLOAD, api_routes._UPLOAD_TIMEOUT_S, api_routes._UPLOAD_SILENCE_S)
        if comes:
            assert await upload == b"a" * len(pauses_s)
        else:
            with pytest.raises(RequestError) as caught:
                await upload
            assert (caught.value.code, caught.value.status) == ("body-timeout", 408)

    clock = Clock()
    with asyncio.Runner(loop_factory=lambda: clock) as runner:
        runner.run(check())


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/sign-in", MAX_FORM), ("/api/control", MAX_MESSAGE), ("/api/x", MAX_BODY), ("/whip", MAX_SDP)],
)
def test_a_body_without_a_length_is_read_up_to_its_limit(page: Path, path: str, limit: int) -> None:
    async def check(server: HttpFixture) -> None:
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

    with_server(page, check)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"Content-Length: 50\r\n\r\n" + b"a=1&b" * 10,
    ],
)
def test_an_unreadable_body_is_answered_400(page: Path, lines: bytes) -> None:
    async def check(server: HttpFixture) -> None:
        host = server.address.removeprefix("http://")
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(b"POST /sign-in HTTP/1.1\r\nConnection: close\r\nHost: " + host.encode() + b"\r\n" + lines)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert is_problem(json.loads(answer.partition(b"\r\n\r\n")[2]))

    with_server(page, check, token="t")


@pytest.mark.parametrize("patient", [False, True])
def test_one_client_leaves_room_for_others_and_for_monitoring(
    page: Path, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    monkeypatch.setattr(api_routes, "_WAIT_S", 10.0 if patient else 0.01)

    async def check(server: HttpFixture) -> None:
        proceed, answer = asyncio.Event(), server.main_process.call

        async def slowly(callback: str, values: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> Message:
            if values.get("path") == "/api/control":
                await proceed.wait()
            return await answer(callback, values, body, timeout_s=timeout_s)

        monkeypatch.setattr(server.main_process, "call", slowly)
        asking = {asyncio.ensure_future(server.request("POST", "/api/control")) for _ in range(20)}
        async with asyncio.timeout(10):
            while len(refused := [task for task in asking if task.done()]) < (0 if patient else 20 - 6):
                await asyncio.wait(asking.difference(refused), return_when=asyncio.FIRST_COMPLETED)
        assert all(task.result()[0] == 503 for task in refused)
        for path in MONITORING_PATHS:
            assert (await server.request("GET", path))[0] == 200
        proceed.set()
        assert {answer[0] for answer in await asyncio.gather(*asking.difference(refused))} == {200}

    with_server(page, check)


def test_commands_are_forwarded_with_their_status(page: Path) -> None:
    async def check(server: HttpFixture) -> None:
        for server.main_process.status in (200, 404, 503):
            status, _, _ = await server.request("POST", "/api/control?session=S", data=b'{"command":"next_portrait"}')
            assert status == server.main_process.status
        callback, values, body = server.main_process.calls[-1]
        assert (callback, body) == ("request", b'{"command":"next_portrait"}')
        assert (values["method"], values["path"], values["session"]) == ("POST", "/api/control", "S")

    with_server(page, check)


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
def test_no_request_breaks_or_blocks_the_server(page: Path, requests: list[tuple[str, str, str, bytes, str]]) -> None:
    async def check(server: HttpFixture) -> None:
        for method, path, kind, data, value in requests:
            headers = {"Content-Type": kind, "If-Match": "".join(filter(str.isalnum, value.encode().hex())) or "*"}
            status, _, body = await server.request(method, path, data=data, headers=headers, params={"session": value})
            assert status < 500
            assert status < 400 or method == "HEAD" or is_problem(body)

    with_server(page, check, gather_timeout_s=0.1)
