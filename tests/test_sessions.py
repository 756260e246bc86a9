"""Browsers' sessions: who gets in, that nothing crosses between two, and that nothing is left behind."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from engines.errors import PortraitError, SourceMissing
from engines.types import Image, Motion
from realtime.backstage import Backstage
from realtime.capacity import Capacity
from realtime.config import load
from realtime.daemon import Outgoing
from realtime.ending import Ending
from realtime.frames import PixelFormat
from realtime.lobby import Lobby
from realtime.media import Media
from realtime.motion import MotionTransfer
from realtime.portraits import PortraitPicture
from realtime.sinks import Sink
from realtime.stages import Limits
from realtime.webrtc.desk import ApiReply, ApiRequest, Granted, Refused
from tests.fakes import CAMERA, PORTRAIT, SIZE, FakeGenerator, FakeSink, FakeSource, FakeTracker, picture, portrait

CONFIG = load({"camera": "webrtc", "size": "64x64", "sessions": 2})


class FakeLink:
    """A media process in memory: publishers' sources are fed by the test, viewers' pictures are kept."""

    address = "http://test/"

    def __init__(self) -> None:
        self.sources: dict[str, FakeSource] = defaultdict(FakeSource)
        self.sinks: dict[str, FakeSink] = defaultdict(lambda: FakeSink(pixel_format=PixelFormat.I420))
        self.pushed: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.ended: list[str] = []
        self.closed = False
        self.heard = threading.Condition()
        self.missing: set[str] = set()

    def start(self) -> str:
        return self.address

    def source(self, session: str, _fps: float, _timeout_s: float = 15.0) -> FakeSource:
        if session in self.missing:
            raise SourceMissing("the publisher has sent no picture for 15 s", cure="see that its camera is on")
        return self.sources[session]

    def sink(self, stream: str, _size: tuple[int, int], _fps: float) -> Sink:
        return self.sinks[stream]

    def push(self, session: str, message: dict[str, Any]) -> None:
        json.dumps(message, allow_nan=False)
        with self.heard:
            self.pushed[session].append(message)
            self.heard.notify_all()

    def end(self, session: str) -> None:
        with self.heard:
            self.ended.append(session)
            self.heard.notify_all()

    def stats(self) -> dict[str, Any]:
        return {"viewers": 3, "sessions": {"a": {"viewers": 1, "dropped": 4}}, "loop_lag_ms": 0.5}

    def close(self, _timeout: float = 1.0) -> None:
        self.closed = True

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self.heard:
            assert self.heard.wait_for(condition, 5)


class House:
    """A media server over fakes."""

    def __init__(self, lobby: Lobby | None = None, limit: int | None = 2, measured: int = 7) -> None:
        self.link = FakeLink()
        self.trackers: list[FakeTracker] = []
        self.generators: list[FakeGenerator] = []
        self.during: Callable[[Motion], None] | None = None
        self.said: list[str] = []
        self.came = threading.Event()
        config = CONFIG if limit == 2 else CONFIG.model_copy(update={"sessions": limit})
        self.measured = threading.Event()

        def measure(busy: int) -> Capacity:
            self.measured.set()
            return Capacity(measured - busy, 10.0)

        self.media = Media(config, lambda _: self.link, self._prepare, measure, notice=self._say)
        if lobby is not None:
            self.media.house(lobby)
        self.media.start()
        self.media.begin(None)

    def _say(self, text: str) -> None:
        self.said.append(text)
        self.came.set()

    def _prepare(self, _: Any, ending: Ending, tell: Callable[[str], None]) -> Backstage:
        def tracker() -> FakeTracker:
            self.trackers.append(FakeTracker())
            return self.trackers[-1]

        def generator() -> FakeGenerator:
            self.generators.append(FakeGenerator(self.during))
            return self.generators[-1]

        loaders = [lambda: portrait("one"), lambda: portrait("two")]
        return Backstage(tracker, generator, MotionTransfer, loaders, mirror=False, failed=ending.fail, notice=tell)

    def open(self, key: str) -> Granted | Refused:
        return self.media.open(key, f"watch-{key}")

    def drive(self, key: str, count: int = 3) -> None:
        """Feed frames until one has come out as a generated picture."""
        source, sink = self.link.sources[key], self.link.sinks[key]
        assert source.reading.wait(5)
        seq = len(sink.frames)
        while not any(_is_generated(frame.pixels) for frame in sink.frames):
            source.feed(1, seq)
            seq += 1
            threading.Event().wait(0.01)
        source.feed(count, seq)

    def ask(self, method: str, path: str, session: str | None = None, body: bytes = b"", **query: str) -> ApiReply:
        return self.media.request(ApiRequest(method, path, query, body, "", session))

    def get(self, path: str, session: str | None = None) -> Any:
        return json.loads(self.ask("GET", path, session).body)

    def control(self, session: str | None, command: str, value: object = None) -> Any:
        message = {"v": 1, "command": command} | ({} if value is None else {"value": value})
        return json.loads(self.media.control(session, json.dumps(message).encode()))


def _is_generated(pixels: Image) -> bool:
    import cv2

    rgb = cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_I420)
    return bool(np.abs(rgb.astype(int) - np.array(PORTRAIT)).max() < 12)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    for source in made.link.sources.values():
        source.end()
    made.media.close(3)


def test_a_browser_is_answered_with_its_portrait(house: House) -> None:
    assert isinstance(house.open("a"), Granted)
    house.drive("a")
    while not any(message.get("state", {}).get("face") == "found" for message in house.link.pushed["a"]):
        house.link.sources["a"].feed()
        house.came.wait(0.01)
    state = house.get("/api/state", "a")
    assert (state["session"], state["watch"], state["portraits"]) == ("a", "watch-a", 2)
    assert state["viewers"] == 1
    assert state["dropped"]["network"] == 4
    assert set(state["stages_ms"]) == {"track", "generate", "send"}


def test_one_too_many_is_refused_and_let_in_when_somebody_leaves(house: House) -> None:
    assert isinstance(house.open("a"), Granted)
    assert isinstance(house.open("b"), Granted)
    refused = house.open("c")
    assert isinstance(refused, Refused)
    assert refused.retry_after_s > 0
    assert "2 browsers at a time" in refused.why
    house.media.closed("a")
    house.link.sources["a"].end()
    house.link.wait_for(lambda: "a" in house.link.ended)
    while len(house.media.sessions) == 2:
        house.came.wait(0.01)
    assert isinstance(house.open("c"), Granted)


def test_settings_and_portraits_do_not_cross(house: House) -> None:
    for key in ("a", "b"):
        house.open(key)
        house.drive(key)
    for _ in range(3):
        house.link.sources["a"].feed(2)
    feeding = threading.Event()

    def keep_feeding() -> None:
        while not feeding.wait(0.005):
            house.link.sources["a"].feed()
            house.link.sources["b"].feed()

    thread = threading.Thread(target=keep_feeding)
    thread.start()
    try:
        assert house.control("a", "gain", 2.5)["ok"]
        assert house.control("a", "portrait", "two")["ok"]
        assert house.control("a", "mirror", True)["said"] == "mirrored"
        assert house.control("b", "portrait", 5)["error"]["found"] == "the portrait '5'"
    finally:
        feeding.set()
        thread.join()
    a, b = house.get("/api/state", "a"), house.get("/api/state", "b")
    assert (a["gain"], a["portrait"]["index"], a["mirror"]) == (2.5, 1, True)
    assert (b["gain"], b["portrait"]["index"], b["mirror"]) == (1.0, 0, False)


def test_nothing_of_a_closed_session_stays_in_memory(house: House) -> None:
    daemons = []
    for key in ("a", "b"):
        house.open(key)
        house.drive(key)
        session = house.media.sessions.get(key)
        assert session is not None
        assert session.daemon is not None
        daemons.append(weakref.ref(session.daemon))
        del session
        house.media.closed(key)
        house.link.sources[key].end()
    house.link.wait_for(lambda: set(house.link.ended) == {"a", "b"})
    house.media.close(3)
    gc.collect()
    assert [daemon() for daemon in daemons] == [None, None]


def test_no_camera_picture_reaches_a_viewer(house: House) -> None:
    import cv2

    house.open("a")
    house.drive("a", 5)
    house.media.closed("a")
    house.link.sources["a"].end()
    assert house.link.sinks["a"].closed.wait(5)
    for frame in house.link.sinks["a"].frames:
        rgb = cv2.cvtColor(frame.pixels, cv2.COLOR_YUV2RGB_I420)
        assert np.abs(rgb.astype(int) - np.array(CAMERA)).sum(axis=-1).min() > 60


def test_a_publisher_that_sends_nothing_is_told_and_leaves_nothing(house: House) -> None:
    house.link.missing.add("a")
    house.open("a")
    house.link.wait_for(lambda: any("error" in message for message in house.link.pushed["a"]))
    assert house.link.pushed["a"][-1]["error"]["cure"] == "see that its camera is on"
    house.media.closed("a")
    house.link.wait_for(lambda: "a" in house.link.ended)
    while len(house.media.sessions):
        house.came.wait(0.01)
    assert house.media.sessions.failed == 1


def test_one_that_fails_harms_nobody_else(house: House) -> None:
    house.open("good")
    house.drive("good")

    def fail(_: Motion) -> None:
        raise ValueError("boom")

    house.during = fail
    house.open("bad")
    house.link.sources["bad"].feed(3)
    house.link.wait_for(lambda: any("error" in message for message in house.link.pushed["bad"]))
    before = len(house.link.sinks["good"].frames)
    house.link.sources["good"].feed(1)
    house.link.sinks["good"].wait_for(before + 1)
    house.media.closed("bad")
    assert len(house.link.sinks["good"].frames) > before


def test_the_end_of_a_session_closes_what_it_opened(house: House) -> None:
    threads = threading.active_count()
    house.open("a")
    house.drive("a")
    house.media.closed("a")
    house.link.sources["a"].end()
    house.link.wait_for(lambda: "a" in house.link.ended)
    while len(house.media.sessions):
        house.came.wait(0.01)
    assert house.trackers[0].closed
    assert house.generators[0].closed
    assert house.link.sources["a"].closed.is_set()
    assert house.link.sinks["a"].closed.is_set()
    for thread in threading.enumerate():
        if thread.name in ("session", "capture", "compute", "sink webrtc"):
            thread.join(5)
    assert threading.active_count() <= threads


def test_closing_the_house_ends_everybody() -> None:
    house = House()
    house.open("a")
    house.link.sources["a"].end()
    house.media.close(3)
    assert house.link.closed
    assert not house.media.sessions.all()
    assert isinstance(house.open("b"), Refused)


def test_what_the_machine_sustains_is_the_limit_where_nobody_says() -> None:
    house = House(limit=None)
    while house.media.limit == 1:
        house.came.wait(0.01)
    assert house.media.limit == 7
    assert any("7 at a time" in text for text in house.said)
    house.media.close(1)


# --- the program's own sinks


def test_own_sinks_show_the_first_browser_and_then_the_next() -> None:
    sink = FakeSink()
    ending = Ending()
    lobby = Lobby(
        [Outgoing("fake", sink, None, False)], size=SIZE, limits=Limits(), ending=ending, notice=lambda _: None
    )
    house = House(lobby)
    lobby.start()
    sink.wait_for(1)  # the card
    assert not sink.shows(PORTRAIT)
    house.open("a")
    house.drive("a")
    sink.wait_for(lambda frame: bool((frame.pixels == np.array(PORTRAIT)).all()))
    assert lobby.crew is not None
    house.open("b")
    house.drive("b")
    house.media.closed("a")
    house.link.sources["a"].end()
    house.link.wait_for(lambda: "a" in house.link.ended)
    while len(house.media.sessions) == 2:
        house.came.wait(0.01)
    seen = lobby.ledger.frames
    house.link.sources["b"].feed(3)
    while lobby.ledger.frames == seen:
        house.link.sources["b"].feed(1)
        house.came.wait(0.01)
    assert not sink.shows(CAMERA)
    house.link.sources["b"].end()
    house.media.close(3)
    assert lobby.close(3)
    assert sink.closed.is_set()


def test_own_sinks_have_enough_when_the_limit_is_reached() -> None:
    ending = Ending()
    sink = FakeSink()
    lobby = Lobby(
        [Outgoing("fake", sink, None, False)], size=SIZE, limits=Limits(frames=2), ending=ending, notice=lambda _: None
    )
    house = House(lobby)
    lobby.start()
    house.open("a")
    house.drive("a", 10)
    assert ending.over.wait(5)
    assert ending.complete
    house.link.sources["a"].end()
    house.media.close(3)
    assert lobby.finished(3)


# --- requests


def test_the_state_without_a_session_is_the_programs(house: House) -> None:
    state = house.get("/api/state")
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
def test_every_request_has_its_answer(house: House, method: str, path: str, session: str | None, status: int) -> None:
    reply = house.ask(method, path, session)
    assert reply.status == status
    if status >= 400:
        assert set(json.loads(reply.body)["error"]) == {"found", "expected", "cure"}


def test_portraits_are_listed_shown_and_sent(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.open("a")
    house.drive("a")
    while len(house.get("/api/portraits", "a")["portraits"]) < 2:
        house.came.wait(0.01)
    first = house.get("/api/portraits", "a")["portraits"][0]
    assert first == {"index": 0, "name": "one", "picture": "/api/portraits/0.jpg?session=a"}
    shown = house.ask("GET", "/api/portraits/0.jpg", "a")
    assert (shown.status, shown.content_type) == (200, "image/jpeg")
    assert house.ask("GET", "/api/portraits/999999999999999.jpg", "a").status == 404
    bad = house.ask("POST", "/api/portraits", "a", b"no picture")
    assert bad.status == 400
    assert "not a picture" in json.loads(bad.body)["error"]["found"]
    monkeypatch.setattr("realtime.media.receive_portrait", lambda _, name, *__: portrait(name))
    sent = house.ask("POST", "/api/portraits", "a", b"a picture", name="mine\n")
    assert sent.status == 201
    assert json.loads(sent.body) | {"notes": []} == {"v": 1, "index": 2, "name": "mine", "notes": []}


def test_portraits_can_be_seen_before_going_live(house: House) -> None:
    failures: list[BaseException] = []

    def fail() -> PortraitPicture:
        raise PortraitError("no face was found in x.png")

    house.media.preview([lambda: portrait("one"), lambda: portrait("two"), fail], failures.append)
    while not failures:
        house.came.wait(0.01)
    assert [each["name"] for each in house.get("/api/portraits")["portraits"]] == ["one", "two"]
    assert house.ask("GET", "/api/portraits/1.jpg").content_type == "image/jpeg"
    assert house.ask("GET", "/api/portraits/2.jpg").status == 404


def test_metrics_only_count_up(house: House) -> None:
    def value(name: str) -> float:
        lines = house.ask("GET", "/metrics").body.decode().splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))

    house.open("a")
    house.drive("a")
    name = 'reenact_frames_total{run="session"}'
    while not (during := value(name)):
        house.came.wait(0.01)
    house.media.closed("a")
    house.link.sources["a"].end()
    while len(house.media.sessions):
        house.came.wait(0.01)
    assert value(name) >= during > 0
    assert value("reenact_sessions ") == 0
    assert value('reenact_session_outcomes_total{outcome="opened"}') == 1
    assert value('reenact_stage_seconds_count{run="session",stage="generate"}') >= during - 1
    assert "a" not in house.media.counts()


def test_a_control_message_for_nobody_is_answered(house: House) -> None:
    assert house.control(None, "next")["error"]["found"] == "no run to control"
    assert house.control("nobody", "next")["error"]["found"] == "no session of that name"
    assert picture(CAMERA).shape == (64, 64, 3)
