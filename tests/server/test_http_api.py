"""The HTTP API: state, portraits, uploads, control, health and readiness, and how errors are answered."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image as Pillow

from engines.errors import BusyError, PortraitError
from realtime.core import problem
from realtime.portraits.consent import VARIABLE
from realtime.portraits.portrait import PortraitPicture
from realtime.portraits.settings import Fit
from realtime.portraits.upload_reader import UploadReader
from realtime.server.models import Problem
from realtime.webrtc.callbacks import ApiReply
from tests.support.fake_server import FakeServer, closing
from tests.support.fakes import portrait
from tests.support.waiting import until


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with closing(FakeServer()) as made:
        yield made


def code(reply: ApiReply) -> str:
    """Return the code of an error, and check that the answer is a problem document."""
    assert reply.content_type == problem.CONTENT_TYPE
    document = Problem.model_validate_json(reply.body)
    assert document.status == reply.status
    return document.code


def test_the_state_without_a_session_is_that_of_the_program(server: FakeServer) -> None:
    state = server.get("/api/state")
    assert state["program"] == "reenact"
    assert state["main"] is None
    assert state["sessions"] == {"open": 0, "limit": 2}


@pytest.mark.parametrize(
    ("method", "path", "session", "status"),
    [
        ("GET", "/healthz", None, 200),
        ("GET", "/readyz", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/api/control", None, 200),
        ("GET", "/api/state", "unknown", 404),
        ("GET", "/api/portraits", "unknown", 404),
        ("GET", "/api/portraits", None, 200),
        ("GET", "/api/portraits/0.jpg", None, 404),
        ("GET", "/api/portraits/x.jpg", None, 404),
        ("GET", "/api/nothing", None, 404),
        ("DELETE", "/api/state", None, 404),
        ("POST", "/api/portraits", "unknown", 404),
    ],
)
def test_every_request_is_answered(
    server: FakeServer, method: str, path: str, session: str | None, status: int
) -> None:
    assert server.application.started.wait(5)
    reply = server.request(method, path, session)
    assert reply.status == status
    if status >= 400:
        assert code(reply) in ("session-not-found", "path-not-found", "portrait-not-found")


# --- control


@pytest.mark.parametrize(
    ("session", "command", "status", "expected"),
    [
        ("starting", {"command": "set_slate", "value": True}, 200, None),
        ("unknown", {"command": "next_portrait"}, 404, "session-not-found"),
        (None, {"command": "next_portrait"}, 404, "run-not-found"),
        ("starting", {"command": "dance"}, 400, "command-unknown"),
    ],
)
def test_a_command_is_answered_by_a_reply_or_a_problem_with_its_id(
    server: FakeServer, session: str | None, command: dict[str, Any], status: int, expected: str | None
) -> None:
    server.link.silent.add("starting")
    server.open("starting")
    reply = server.request("POST", "/api/control", session, json.dumps({"v": 1, "id": 7, **command}).encode())
    assert reply.status == status
    body = json.loads(reply.body)
    assert body["id"] == 7
    if expected is None:
        assert body.keys() == {"v", "id", "ok", "said"}
    else:
        assert code(reply) == expected


def test_a_command_that_may_succeed_later_is_answered_with_retry_after() -> None:
    with closing(FakeServer(camera="0")) as server:
        reply = server.request("POST", "/api/control", None, b'{"v": 1, "command": "next_portrait"}')
        assert (reply.status, code(reply)) == (503, "run-starting")
        assert reply.headers == {"Retry-After": "1"}


# --- portraits


def test_portraits_are_listed_shown_and_added(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.open("a")
    server.drive("a")
    until(lambda: len(server.get("/api/portraits", "a")["portraits"]) == 2)
    first = server.get("/api/portraits", "a")["portraits"][0]
    assert first == {"index": 0, "name": "one", "picture": "/api/portraits/0.jpg?session=a"}
    shown = server.request("GET", "/api/portraits/0.jpg", "a")
    assert (shown.status, shown.content_type) == (200, "image/jpeg")
    assert server.request("GET", "/api/portraits/999999999999999.jpg", "a").status == 404
    assert code(server.request("POST", "/api/portraits", "a", b"no picture")) == "portrait-bad-format"
    monkeypatch.setattr(UploadReader, "read", lambda _self, _data, name, _fit: portrait(name))
    added = server.request("POST", "/api/portraits", "a", b"a picture", name="mine\n")
    assert added.status == 201
    assert json.loads(added.body) == {"v": 1, "index": 2, "name": "mine", "notes": []}
    assert server.get("/api/state", "a")["portrait"]["index"] == 2
    assert not [message for message in server.link.pushed["a"] if "3 of 3" in message.get("notice", "")]


def test_an_upload_needs_an_answer_about_the_right_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(UploadReader, "read", lambda _self, _data, name, _fit: portrait(name))
    with closing(FakeServer(consent=None)) as server:
        server.open("a")
        server.drive("a")
        until(lambda: len(server.get("/api/portraits", "a")["portraits"]) == 2)
        reply = server.request("POST", "/api/portraits", "a", b"a picture")
        assert (reply.status, code(reply)) == (400, "consent-missing")
        reply = server.request("POST", "/api/portraits", "a", b"a picture", consent="perhaps")
        assert (reply.status, code(reply)) == (400, "consent-unknown")
        assert len(server.get("/api/portraits", "a")["portraits"]) == 2
        assert server.request("POST", "/api/portraits", "a", b"a picture", consent="agreed").status == 201
        monkeypatch.setenv(VARIABLE, "self")
        assert server.request("POST", "/api/portraits", "a", b"a picture").status == 201


def test_an_upload_is_fitted_as_its_query_says(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[Fit] = []

    def read(_self: UploadReader, _data: bytes, name: str, fit: Fit) -> PortraitPicture:
        fits.append(fit)
        return portrait(name)

    monkeypatch.setattr(UploadReader, "read", read)
    server.open("a")
    server.drive("a")
    for query in ({}, {"fit": "blur"}):
        assert server.request("POST", "/api/portraits", "a", b"a picture", **query).status == 201
    assert fits == ["auto", "blur"]
    reply = server.request("POST", "/api/portraits", "a", b"a picture", fit="stretch")
    assert (reply.status, code(reply)) == (400, "portrait-bad-fit")


def test_an_image_becomes_the_background(server: FakeServer) -> None:
    server.open("a")
    server.drive("a")
    assert server.get("/api/state", "a")["background"] == "keep"
    file = io.BytesIO()
    Pillow.new("RGB", (600, 400), (20, 40, 60)).save(file, "PNG")
    reply = server.request("POST", "/api/background", "a", file.getvalue())
    assert reply.status == 201
    assert json.loads(reply.body) == {"v": 1, "name": "image:1"}
    assert server.get("/api/state", "a")["background"] == "image:1"
    assert code(server.request("POST", "/api/background", "a", b"no picture")) == "portrait-bad-format"
    server.request("POST", "/api/control", "a", b'{"v": 1, "command": "set_background", "value": "blur"}')
    assert server.get("/api/state", "a")["background"] == "blur"


def test_portraits_can_be_seen_before_a_session_is_open(server: FakeServer) -> None:
    failures: list[BaseException] = []

    def fail() -> PortraitPicture:
        raise PortraitError("portrait-no-face", "no face was found in x.png")

    server.application.load_previews([lambda: portrait("one"), lambda: portrait("two"), fail], failures.append)
    until(lambda: failures)
    assert [each["name"] for each in server.get("/api/portraits")["portraits"]] == ["one", "two"]
    assert server.request("GET", "/api/portraits/1.jpg").content_type == "image/jpeg"
    assert server.request("GET", "/api/portraits/2.jpg").status == 404


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(server: FakeServer) -> None:
    server.open("a")
    server.drive("a")
    packed = io.BytesIO()
    Pillow.new("1", (6500, 6500)).save(packed, "PNG")
    reply = server.request("POST", "/api/portraits", "a", packed.getvalue(), name="big.png")
    assert (reply.status, code(reply)) == (400, "portrait-too-large")


def test_an_upload_is_refused_while_others_are_read(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_self: UploadReader, _data: bytes, _name: str, _fit: Fit) -> PortraitPicture:
        raise BusyError("upload-busy", "2 pictures are being read")

    monkeypatch.setattr(UploadReader, "read", read)
    server.open("a")
    server.drive("a")
    reply = server.request("POST", "/api/portraits", "a", b"a picture")
    assert (reply.status, code(reply)) == (503, "upload-busy")


def test_an_upload_to_a_session_that_ends_meanwhile_is_refused(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.open("a")
    server.drive("a")

    def read(_self: UploadReader, _data: bytes, name: str, _fit: Fit) -> PortraitPicture:
        server.disconnect("a")
        return portrait(name)

    monkeypatch.setattr(UploadReader, "read", read)
    reply = server.request("POST", "/api/portraits", "a", b"a picture")
    assert (reply.status, code(reply)) == (404, "session-not-found")
