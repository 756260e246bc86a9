"""What a guest's link opens over HTTP, and that it opens nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest
from aiortc import rtcicetransport

from realtime.server.models import AddedLink, LinkList, LocalNetwork
from realtime.webrtc.process import auth, ice
from realtime.webrtc.process.guests import local_network
from realtime.webrtc.process.guests.link_routes import MAX_BODY
from realtime.webrtc.process.guests.routes import PAGE_FILES
from realtime.webrtc.process.http_server import PAGE, HttpServer
from realtime.webrtc.process.peer_registry import PeerRegistry
from realtime.webrtc.settings import ServerSettings
from tests.support.waiting import soon
from tests.support.webrtc import (
    FRAGMENT,
    OFFER,
    SDP,
    WATCH_OFFER,
    FakeMainProcess,
    HttpFixture,
    is_problem,
    with_server,
)

OWNER = {"Authorization": "Bearer t"}
PUBLIC = {("GET", "/guest/static/{path}"), ("GET", "/guest/{token}"), ("POST", "/sign-in"), ("GET", "/")}
"""What needs no token: files of the page, the guest's page, and signing in (whose token is checked)."""
WATCHING = {
    ("POST", "/guest/{token}/whep"),
    ("OPTIONS", "/guest/{token}/whep"),
    *((method, "/guest/{token}/peer/{id}") for method in ("DELETE", "PATCH", "OPTIONS")),
}


@pytest.fixture(autouse=True)
def quick_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtcicetransport, "Connection", vars(rtcicetransport)["Connection"])
    ice.install(ServerSettings(gather_timeout_s=0.1))


async def _session(server: HttpFixture) -> tuple[str, str]:
    """Publish, and return the session and its watch secret."""
    headers = {**SDP, **OWNER}
    status, answered, _ = await server.request("POST", "/whip", data=OFFER, headers=headers)
    assert status == 201
    session = answered["Location"].rpartition("/")[2]
    return session, server.registry.publishers[session].watch


async def _link(server: HttpFixture, session: str, **values: Any) -> dict[str, Any]:
    link: dict[str, Any]
    status, _, link = await server.request("POST", f"/api/links?session={session}", json=values, headers=OWNER)
    assert status == 201
    AddedLink.model_validate(link)
    return link


def _every_route(page: Path) -> list[tuple[str, str]]:
    async def read() -> list[tuple[str, str]]:
        settings = ServerSettings(port=0)
        app = HttpServer(settings, PeerRegistry(settings, FakeMainProcess()), page).app()
        routes = [(route.method, route.resource) for route in app.router.routes()]
        return sorted({(method, resource.canonical) for method, resource in routes if resource is not None})

    return asyncio.run(read())


def _fill(path: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        path = path.replace("{" + name + "}", value)
    return path


def test_a_guest_reaches_watching_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    # or every answer would be 429 after a while, also to what is right
    monkeypatch.setattr(auth, "MAX_WRONG_TOKENS", 10**6)
    routes = _every_route(PAGE)
    assert len(routes) > 30

    async def check(server: HttpFixture) -> None:
        session, watch = await _session(server)
        link = await _link(server, session)
        token = link["path"].rpartition("/")[2]
        _, answered, _ = await server.request("POST", f"{link['path']}/whep", data=WATCH_OFFER, headers=SDP)
        viewer = answered["Location"].rpartition("/")[2]
        calls = len(server.main_process.calls)
        for method, canonical in routes:
            if (method, canonical) in PUBLIC | WATCHING or (method, canonical) == ("HEAD", "/guest/{token}"):
                continue
            if method == "HEAD" and ("GET", canonical) in PUBLIC:
                continue
            for guess in (token, link["id"], watch, session):
                path = _fill(
                    canonical, {"id": viewer, "watch": watch, "rest": "state", "token": token, "path": "app.js"}
                )
                for where in (path, f"{path}?session={session}", f"{path}?token={guess}"):
                    headers = {"Authorization": f"Bearer {guess}", "Cookie": f"reenact={guess}"}
                    status, _, _ = await server.request(method, where, headers=headers)
                    assert status == 401, (method, where)
        # nothing of all that has reached the main process, or ended anything
        assert len(server.main_process.calls) == calls
        assert viewer in server.registry.viewers
        assert session in server.registry.publishers
        for path in (
            "/guest/../api/state",
            "/guest/x/../../api/state",
            f"/guest/{token}/api/state",
            f"/guest/{token}/../../",
        ):
            status, _, _ = await server.request("GET", path)
            assert status in (401, 404), path

    with_server(PAGE, check, token="t")


def test_a_guest_watches_one_session_and_closes_only_its_own_view() -> None:
    async def check(server: HttpFixture) -> None:
        one, _ = await _session(server)
        other, _ = await _session(server)
        link, second = await _link(server, one), await _link(server, one, expires_in_s=60)
        status, headers, _ = await server.request("POST", f"{link['path']}/whep", data=WATCH_OFFER, headers=SDP)
        assert status == 201
        address = urljoin(f"{link['path']}/whep", headers["Location"])
        assert address.startswith(f"{link['path']}/peer/")
        viewer = server.registry.viewers[address.rpartition("/")[2]]
        assert viewer.stream.name == one != other
        elsewhere = f"{second['path']}/peer/{address.rpartition('/')[2]}"
        for method in ("DELETE", "PATCH", "OPTIONS"):
            status, _, body = await server.request(method, elsewhere, headers=FRAGMENT)
            assert (status, body["code"]) == (404, "peer-not-found")
        status, _, _ = await server.request("OPTIONS", address)
        assert status == 204
        status, _, _ = await server.request("PATCH", address, data=b"", headers=FRAGMENT)
        assert status == 428
        status, _, listed = await server.request("GET", f"/api/links?session={one}", headers=OWNER)
        assert [each["viewers"] for each in LinkList.model_validate(listed).model_dump()["links"]] == [1, 0]
        status, _, _ = await server.request("DELETE", address)
        assert status == 200
        await soon(lambda: not server.registry.viewers, "the viewer is not closed")

    with_server(PAGE, check, token="t", main_run=False)


def test_a_revoked_link_disconnects_who_came_through_it() -> None:
    async def check(server: HttpFixture) -> None:
        session, watch = await _session(server)
        link, kept = await _link(server, session), await _link(server, session)
        for path in (f"{link['path']}/whep", f"{kept['path']}/whep", f"/whep/{watch}"):
            status, _, _ = await server.request("POST", path, data=WATCH_OFFER, headers={**SDP, **OWNER})
            assert status == 201
        assert len(server.registry.viewers) == 3
        status, _, _ = await server.request("DELETE", f"/api/links/{link['id']}?session={session}", headers=OWNER)
        assert status == 204
        await soon(lambda: len(server.registry.viewers) == 2, "the guest is not disconnected")
        status, _, body = await server.request("POST", f"{link['path']}/whep", data=WATCH_OFFER, headers=SDP)
        assert (status, body["code"]) == (410, "guest-link-revoked")
        server.registry.end(session)
        await soon(lambda: not server.registry.viewers, "the session has not ended")
        status, _, body = await server.request("POST", f"{kept['path']}/whep", data=WATCH_OFFER, headers=SDP)
        assert (status, body["code"]) == (410, "guest-link-revoked")

    with_server(PAGE, check, token="t")


def test_guests_do_not_take_the_place_of_the_one_who_drives() -> None:
    async def check(server: HttpFixture) -> None:
        session, watch = await _session(server)
        link = await _link(server, session)
        for expected in (201, 503):
            status, _, _ = await server.request("POST", f"{link['path']}/whep", data=WATCH_OFFER, headers=SDP)
            assert status == expected
        status, _, _ = await server.request("POST", f"/whep/{watch}", data=WATCH_OFFER, headers={**SDP, **OWNER})
        assert status == 201

    with_server(PAGE, check, token="t", max_viewers=1)


def test_a_link_that_opens_nothing_gets_a_page_that_says_so() -> None:
    async def check(server: HttpFixture) -> None:
        session, _ = await _session(server)
        link = await _link(server, session)
        status, headers, text = await server.request("GET", link["path"])
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert 'data-link=""' in text
        status, _, _ = await server.request("DELETE", f"/api/links/{link['id']}?session={session}", headers=OWNER)
        for path, code in ((link["path"], "guest-link-revoked"), (link["path"][:-1], "guest-link-wrong")):
            status, headers, text = await server.request("GET", path)
            assert status in (404, 410)
            assert headers["Content-Type"].startswith("text/html")
            assert f'data-link="{code}"' in text
            assert "WWW-Authenticate" not in headers
        for name in PAGE_FILES:
            status, _, _ = await server.request("GET", f"/guest/static/{name}")
            assert status == 200, name
        for name in ("app.js", "index.html", "../app.js", "guest/index.html", "%2e%2e/app.js"):
            status, _, _ = await server.request("GET", f"/guest/static/{name}")
            assert status in (401, 404), name

    with_server(PAGE, check, token="t")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "json-bad"),
        (b"{", "json-bad"),
        (b'{"expires_in_s": "1"}', "guest-link-bad-lifetime"),
        (b'{"expires_in_s": true}', "guest-link-bad-lifetime"),
        (b'{"expires_in_s": 1}', "guest-link-bad-lifetime"),
        (b'{"expires_in_s": 1e99}', "guest-link-bad-lifetime"),
        (b" " * (MAX_BODY + 1), "body-too-large"),
    ],
)
def test_bad_requests_for_links_are_refused(body: bytes, code: str) -> None:
    async def check(server: HttpFixture) -> None:
        status, _, answer = await server.request("POST", "/api/links", data=body)
        assert status in (400, 413)
        assert is_problem(answer)
        assert answer["code"] == code

    with_server(PAGE, check)


def test_links_are_for_streams_that_there_are() -> None:
    async def check(server: HttpFixture) -> None:
        for method, path in (("GET", "/api/links"), ("POST", "/api/links"), ("DELETE", "/api/links/x")):
            for query, code in (("", "run-not-found"), ("?session=x", "session-not-found")):
                status, _, body = await server.request(method, path + query)
                assert (status, body["code"]) == (404, code)

    with_server(PAGE, check, main_run=False)


def test_the_local_network_gets_what_guests_get(monkeypatch: pytest.MonkeyPatch) -> None:
    # another address of this machine stands for one in a network
    monkeypatch.setattr(local_network, "local_addresses", lambda: ["127.0.0.2"])
    routes = _every_route(PAGE)

    async def check(server: HttpFixture) -> None:
        session, _ = await _session(server)
        link = await _link(server, session)
        status, _, answer = await server.request("POST", "/api/local-network", json={"open": True})
        assert status == 200
        state = LocalNetwork.model_validate(answer)
        assert (state.state, len(state.addresses)) == ("open", 1)
        # a second time changes nothing
        assert (await server.request("POST", "/api/local-network", json={"open": True}))[2] == answer
        outside = HttpFixture(server.main_process, server.registry, server.http, state.addresses[0].rstrip("/"))
        for method, canonical in routes:
            if not canonical.startswith("/guest/"):
                path = _fill(canonical, {"rest": "state", "path": "app.js"})
                status, _, _ = await outside.request(method, f"{path}?session={session}", headers=OWNER)
                assert status == 404, (method, path)
        status, _, _ = await outside.request("GET", link["path"], headers={"Host": "any.example"})
        assert status == 200
        evil = {**SDP, "Origin": "http://evil.example"}
        status, _, _ = await outside.request("POST", f"{link['path']}/whep", data=WATCH_OFFER, headers=evil)
        assert status == 403
        for each in (outside, server):
            status, _, _ = await each.request("POST", f"{link['path']}/whep", data=WATCH_OFFER, headers=SDP)
            assert status == 201
        status, _, answer = await server.request("POST", "/api/local-network", json={"open": False})
        assert (status, answer["state"], answer["addresses"]) == (200, "closed", [])
        # those from outside are disconnected, those on this computer are not
        await soon(lambda: len(server.registry.viewers) == 1, "guests of the network stay")
        with pytest.raises(aiohttp.ClientConnectorError):
            await outside.request("GET", link["path"])

    with_server(PAGE, check)


def test_the_local_network_is_let_in_only_where_that_is_needed_and_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_network, "local_addresses", list)

    async def refused(server: HttpFixture) -> str:
        status, _, body = await server.request("POST", "/api/local-network", json={"open": True}, headers=OWNER)
        assert status == 409
        return str(body["code"])

    async def none(server: HttpFixture) -> None:
        assert await refused(server) == "local-network-none"
        status, _, body = await server.request("POST", "/api/local-network", json={"open": 1})
        assert (status, body["code"]) == (400, "local-network-bad-value")
        status, _, _ = await server.request(
            "POST", "/api/local-network", json={"open": True}, headers={"Origin": "http://evil.example"}
        )
        assert status == 403

    async def served(server: HttpFixture) -> None:
        assert await refused(server) == "local-network-served"
        _, _, listed = await server.request("GET", "/api/links", headers=OWNER)
        assert listed["local_network"]["state"] == "served"

    with_server(PAGE, none)
    with_server(PAGE, served, host="0.0.0.0", token="t")


def test_addresses_are_those_of_private_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["8.8.8.8", "192.168.1.7", "169.254.3.3", "10.0.0.2", "127.0.0.1", "100.64.0.1"]
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda **_: found)
    monkeypatch.setattr(local_network, "_outgoing_address", lambda: "10.0.0.2")
    assert local_network.local_addresses() == ["10.0.0.2", "192.168.1.7"]


def test_the_page_of_a_guest_is_made_of_the_files_that_guests_get() -> None:
    needed, open_ones = {"icon.svg", "style.css"}, ["guest/guest.js"]
    while open_ones:
        name = open_ones.pop()
        needed.add(name)
        lines = (PAGE / name).read_text("utf-8").splitlines()
        imported = [line.split(" from ")[1].strip('";') for line in lines if line.startswith("import ")]
        imported += [line.split('import("')[1].split('"')[0] for line in lines if '=> import("' in line]
        paths = [(PAGE / name).parent.joinpath(each).resolve().relative_to(PAGE).as_posix() for each in imported]
        open_ones += [path for path in paths if path not in needed]
    assert needed == set(PAGE_FILES)
