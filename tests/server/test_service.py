"""What the media process asks of the daemon: state, portraits, metrics, control; and who serves the main run."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator

import pytest
from PIL import Image as Pillow

from engines.errors import BusyError, PortraitError, SinkMissing
from realtime.portraits.portrait import PortraitPicture
from realtime.portraits.upload_reader import UploadReader
from realtime.server.service import MAIN
from tests.support.fake_server import FakeLink, FakeServer, living
from tests.support.fakes import driving, portrait
from tests.support.waiting import until


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with living(FakeServer()) as made:
        yield made


def test_the_state_without_a_session_is_the_programs(server: FakeServer) -> None:
    state = server.get("/api/state")
    assert state["program"] == "reenact"
    assert state["main"] is None
    assert state["sessions"] == {"open": 0, "limit": 2}


@pytest.mark.parametrize(
    ("method", "path", "session", "status"),
    [
        ("GET", "/healthz", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/api/control", None, 200),
        ("GET", "/api/state", "nobody", 404),
        ("GET", "/api/portraits", "nobody", 404),
        ("GET", "/api/portraits", None, 200),
        ("GET", "/api/portraits/0.jpg", None, 404),
        ("GET", "/api/portraits/x.jpg", None, 404),
        ("GET", "/api/nothing", None, 404),
        ("DELETE", "/api/state", None, 404),
        ("POST", "/api/portraits", "nobody", 404),
    ],
)
def test_every_request_has_its_answer(
    server: FakeServer, method: str, path: str, session: str | None, status: int
) -> None:
    reply = server.ask(method, path, session)
    assert reply.status == status
    if status >= 400:
        assert set(json.loads(reply.body)["error"]) == {"code", "found", "expected", "cure"}


def test_portraits_are_listed_shown_and_sent(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.open("a")
    server.drive("a")
    until(lambda: len(server.get("/api/portraits", "a")["portraits"]) == 2)
    first = server.get("/api/portraits", "a")["portraits"][0]
    assert first == {"index": 0, "name": "one", "picture": "/api/portraits/0.jpg?session=a"}
    shown = server.ask("GET", "/api/portraits/0.jpg", "a")
    assert (shown.status, shown.content_type) == (200, "image/jpeg")
    assert server.ask("GET", "/api/portraits/999999999999999.jpg", "a").status == 404
    bad = server.ask("POST", "/api/portraits", "a", b"no picture")
    assert bad.status == 400
    assert json.loads(bad.body)["error"]["code"] == "portrait-bad-format"
    monkeypatch.setattr("realtime.server.service.UploadReader.read", lambda _self, _data, name: portrait(name))
    sent = server.ask("POST", "/api/portraits", "a", b"a picture", name="mine\n")
    assert sent.status == 201
    assert json.loads(sent.body) | {"notes": []} == {"v": 1, "index": 2, "name": "mine", "notes": []}
    assert server.get("/api/state", "a")["portrait"]["index"] == 2
    assert not [message for message in server.link.pushed["a"] if "3 of 3" in message.get("notice", "")]


def test_portraits_can_be_seen_before_going_live(server: FakeServer) -> None:
    failures: list[BaseException] = []

    def fail() -> PortraitPicture:
        raise PortraitError("no face was found in x.png")

    server.media.preview([lambda: portrait("one"), lambda: portrait("two"), fail], failures.append)
    until(lambda: failures)
    assert [each["name"] for each in server.get("/api/portraits")["portraits"]] == ["one", "two"]
    assert server.ask("GET", "/api/portraits/1.jpg").content_type == "image/jpeg"
    assert server.ask("GET", "/api/portraits/2.jpg").status == 404


def test_a_control_message_for_nobody_is_answered(server: FakeServer) -> None:
    assert server.control(None, "next_portrait")["error"]["found"] == "no run to control"
    assert server.control("nobody", "next_portrait")["error"]["found"] == "no session of that name"


# --- pictures that are sent


def test_a_picture_of_many_pixels_is_refused_before_it_is_decoded(server: FakeServer) -> None:
    server.open("a")
    server.drive("a")
    packed = io.BytesIO()
    Pillow.new("1", (6500, 6500)).save(packed, "PNG")
    reply = server.ask("POST", "/api/portraits", "a", packed.getvalue(), name="big.png")
    assert reply.status == 400
    assert json.loads(reply.body)["error"]["code"] == "portrait-too-large"


def test_an_upload_is_answered_503_while_others_are_read(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_self: UploadReader, _data: bytes, _name: str) -> PortraitPicture:
        raise BusyError("upload-busy", "2 pictures are being read")

    monkeypatch.setattr("realtime.server.service.UploadReader.read", read)
    server.open("a")
    server.drive("a")
    reply = server.ask("POST", "/api/portraits", "a", b"a picture")
    assert reply.status == 503
    assert json.loads(reply.body)["error"]["code"] == "upload-busy"


def test_a_picture_for_a_session_that_ends_meanwhile_is_for_nobody(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.open("a")
    server.drive("a")

    def read(_self: UploadReader, _data: bytes, name: str) -> PortraitPicture:
        server.send_away("a")
        return portrait(name)

    monkeypatch.setattr("realtime.server.service.UploadReader.read", read)
    reply = server.ask("POST", "/api/portraits", "a", b"a picture")
    assert reply.status == 404
    assert json.loads(reply.body)["error"]["found"] == "no session of that name"


# --- the media process


class LateLink(FakeLink):
    """A media process that is known to serve, and then does not start."""

    def __init__(self) -> None:
        super().__init__()
        self.fail = threading.Event()

    def start(self) -> str:
        assert self.fail.wait(5)
        raise SinkMissing("the media process is not ready after 30 s")


def test_pictures_go_nowhere_until_the_media_process_is_there_and_fail_when_it_cannot_be_had() -> None:
    link = LateLink()
    with living(FakeServer(link=link)) as server:
        sink = server.media.main_sink(30.0)
        sink.send(driving())
        assert not link.sinks
        link.fail.set()
        assert server.media.started.wait(5)
        with pytest.raises(SinkMissing, match="not ready"):
            sink.send(driving())
        sink.close()


def test_a_media_process_that_cannot_be_had_keeps_the_house_from_opening() -> None:
    link = LateLink()
    link.address = ""
    link.fail.set()
    with pytest.raises(SinkMissing, match="not ready"):
        FakeServer(link=link)


def test_the_viewers_of_the_main_run_are_served_once_there_is_a_media_process() -> None:
    with living(FakeServer()) as server:
        sink = server.media.main_sink(30.0)
        assert server.media.started.wait(5)
        until(lambda: MAIN in server.link.sinks)
        sink.send(driving())
        assert len(server.link.sinks[MAIN].frames) == 1
        sink.close()
        assert server.link.sinks[MAIN].closed.is_set()
