"""Browsers' sessions: their limit, that they do not influence each other, and that they release everything."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from engines.errors import ServerFull
from engines.types import Motion
from realtime.core.background_task import BackgroundTask
from realtime.pipeline.commands import MAX_WAITING
from realtime.pipeline.pipeline import Pipeline
from realtime.server.metrics import RunFigures
from realtime.server.sessions import Session, Sessions
from tests.support.fake_server import CONFIG, FakeLink, FakeServer, closing, is_generated
from tests.support.fakes import CAMERA, FakeSource
from tests.support.waiting import until


class WaitingLink(FakeLink):
    """Opens no source before a publisher has ``sent`` its first frame."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = threading.Event()

    def source(self, session: str, _fps: float, _timeout_s: float = 15.0) -> FakeSource:
        assert self.sent.wait(5)
        return super().source(session, _fps, _timeout_s)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with closing(FakeServer()) as made:
        yield made


def test_a_browser_gets_its_portrait_and_the_state(server: FakeServer) -> None:
    server.open("a")
    server.drive("a")

    def face_found() -> bool:
        server.link.sources["a"].feed()
        return any(message.get("state", {}).get("face") == "found" for message in server.link.pushed["a"])

    until(face_found, "the state does not say that the face was found")
    state = server.get("/api/state", "a")
    assert (state["session"], state["watch"], state["portraits"]) == ("a", "watch-a", 2)
    assert state["viewers"] == 1
    assert state["dropped"]["network"] == 4
    assert set(state["stages_ms"]) == {"track", "generate", "send"}


def test_a_session_above_the_limit_is_refused_until_another_ends(server: FakeServer) -> None:
    server.open("a")
    server.open("b")
    with pytest.raises(ServerFull) as caught:
        server.open("c")
    assert caught.value.code == "server-full"
    assert caught.value.retry_after_s
    assert "--sessions" in caught.value.expected
    server.disconnect("a")
    assert "a" in server.link.ended
    server.open("c")


def test_settings_made_before_the_first_frame_apply_to_it() -> None:
    link = WaitingLink()
    with closing(FakeServer(link=link)) as server:
        server.open("a")
        for command, value in (("set_slate", True), ("set_mouth", "painted"), ("set_gain", 2.5), ("set_portrait", 1)):
            assert server.control("a", command, value)["ok"]
        assert server.control("a", "set_gain", 99)["error"]["code"] == "command-bad-value"
        link.sent.set()
        source, sink = link.sources["a"], link.sinks["a"]
        assert source.reading.wait(5)
        source.feed(5)
        until(lambda: server.get("/api/state", "a")["frames"] > 3)
        assert not any(is_generated(frame.pixels) for frame in sink.frames)
        state = server.get("/api/state", "a")
        assert (state["slate"], state["gain"], state["portrait"]["index"]) == (True, 2.5, 1)
        link.wait_for(lambda: {"notice": "slate", "v": 1} in link.pushed["a"])


def test_the_number_of_commands_that_wait_for_the_first_frame_is_bounded() -> None:
    link = WaitingLink()
    with closing(FakeServer(link=link)) as server:
        server.open("a")
        replies = [server.control("a", "next_portrait") for _ in range(MAX_WAITING + 1)]
        assert [reply["ok"] for reply in replies] == [True] * MAX_WAITING + [False]
        link.sent.set()


def test_settings_and_portraits_belong_to_one_session(server: FakeServer) -> None:
    for key in ("a", "b"):
        server.open(key)
        server.drive(key)
    assert server.control("a", "set_gain", 2.5)["ok"]
    assert server.control("a", "set_portrait", "two")["ok"]
    assert server.control("a", "set_mirror", True)["said"] == "mirrored"
    assert server.control("b", "set_portrait", 5)["error"]["code"] == "portrait-not-found"
    a, b = server.get("/api/state", "a"), server.get("/api/state", "b")
    assert (a["gain"], a["portrait"]["index"], a["mirror"]) == (2.5, 1, True)
    assert (b["gain"], b["portrait"]["index"], b["mirror"]) == (1.0, 0, False)


def test_nothing_of_a_closed_session_stays_in_memory(server: FakeServer) -> None:
    pipelines = []
    for key in ("a", "b"):
        server.open(key)
        server.drive(key)
        session = server.application.sessions.get(key)
        assert session is not None
        assert session.pipeline is not None
        pipelines.append(weakref.ref(session.pipeline))
        del session
        server.application.closed(key)
        server.link.sources[key].end()
    server.link.wait_for(lambda: set(server.link.ended) == {"a", "b"})
    server.application.close(3)
    gc.collect()
    assert [pipeline() for pipeline in pipelines] == [None, None]


def test_no_frame_of_the_camera_reaches_a_viewer(server: FakeServer) -> None:
    server.open("a")
    server.drive("a", 5)
    server.disconnect("a")
    assert server.link.sinks["a"].closed.wait(5)
    for frame in server.link.sinks["a"].frames:
        rgb = cv2.cvtColor(frame.pixels, cv2.COLOR_YUV2RGB_I420)
        assert np.abs(rgb.astype(int) - np.array(CAMERA)).sum(axis=-1).min() > 60


def test_a_publisher_that_sends_no_video_gets_the_error_and_its_session_ends(server: FakeServer) -> None:
    server.link.silent.add("a")
    server.open("a")
    assert server.link.wait_for_error("a")["code"] == "publisher-silent"
    server.disconnect("a")
    assert "a" in server.link.ended
    assert server.application.sessions.failed == 1


def test_a_bug_in_a_session_is_logged_and_ends_no_other_session(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.open("good")
    server.drive("good")
    bug = ValueError("boom")

    def fail(_: Motion) -> None:
        raise bug

    server.during = fail
    server.open("bad")
    server.link.sources["bad"].feed(3)
    assert server.link.wait_for_error("bad")["code"] == "internal-error"
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [bug]
    before = len(server.link.sinks["good"].frames)
    server.link.sources["good"].feed(1)
    server.link.sinks["good"].wait_for(before + 1)
    server.disconnect("bad")
    until(lambda: any("failed: ValueError" in notice for notice in server.notices))


def test_the_end_of_a_session_closes_what_it_opened(server: FakeServer) -> None:
    threads = threading.active_count()
    server.open("a")
    server.drive("a")
    server.disconnect("a")
    assert "a" in server.link.ended
    assert server.trackers[0].closed
    assert server.generators[0].closed
    assert server.link.sources["a"].closed.is_set()
    assert server.link.sinks["a"].closed.is_set()
    for thread in threading.enumerate():
        if thread.name in ("session", "capture", "compute", "sink webrtc"):
            thread.join(5)
    assert threading.active_count() <= threads


def test_closing_the_service_ends_every_session() -> None:
    server = FakeServer()
    server.open("a")
    server.link.sources["a"].end()
    server.application.close(3)
    assert server.link.closed
    assert not server.application.sessions.all()
    with pytest.raises(ServerFull):
        server.open("b")


def test_a_session_that_is_opened_while_the_sessions_are_closed_ends_with_them(server: FakeServer) -> None:
    def attach(_: Session) -> None:
        close.start()
        close.wait(0.1)

    sessions = Sessions(CONFIG, server.make_loader, attach=attach)
    sessions.link = server.link
    close = BackgroundTask("close", lambda: sessions.close(3))
    server.link.sources["a"].end()
    sessions.open("a", "watch-a")
    assert close.result(), "some session did not end"
    assert not sessions.all()
    assert "a" in server.link.ended
    with pytest.raises(ServerFull) as caught:
        sessions.open("b", "watch-b")
    assert caught.value.code == "server-closing"


# --- figures


def test_the_metrics_add_up_all_sessions_and_keep_those_that_have_ended(server: FakeServer) -> None:
    frames = faces = 0
    for key in ("secret-a", "secret-b"):
        server.open(key)
        server.drive(key)
        session = server.application.sessions.get(key)
        # reading the metrics changes nothing
        assert figure(server, 'reenact_frames_total{run="session"}') > frames
        server.disconnect(key)
        assert session is not None
        assert session.pipeline is not None
        frames += session.pipeline.counts.frames
        faces += session.pipeline.counts.faces
        assert session.pipeline.counts.faces > 0
        for _ in range(2):
            assert figure(server, 'reenact_frames_total{run="session"}') == frames
            assert figure(server, 'reenact_faces_total{run="session"}') == faces
            assert figure(server, 'reenact_stage_seconds_count{run="session",stage="generate"}') == faces
    assert figure(server, "reenact_sessions") == 0
    assert figure(server, 'reenact_session_outcomes_total{outcome="opened"}') == 2
    assert b"secret" not in server.request("GET", "/metrics").body


def test_a_session_that_ends_is_never_counted_twice(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    scrapes: list[BackgroundTask[int]] = []
    add = RunFigures.add

    def add_and_scrape(figures: RunFigures, pipeline: Pipeline) -> None:
        add(figures, pipeline)
        if threading.current_thread().name == "session":
            scrapes.append(BackgroundTask("scrape", lambda: server.application.run_figures()["session"].frames))
            scrapes[-1].start()
            scrapes[-1].wait(0.1)

    monkeypatch.setattr(RunFigures, "add", add_and_scrape)
    server.open("a")
    server.drive("a")
    server.disconnect("a")
    (scrape,) = scrapes
    assert scrape.result() == server.application.run_figures()["session"].frames > 0


def figure(server: FakeServer, name: str) -> float:
    """Return a value from ``GET /metrics``."""
    for line in server.request("GET", "/metrics").body.decode().splitlines():
        found, _, value = line.rpartition(" ")
        if found == name:
            return float(value)
    raise AssertionError(f"no metric {name}")
