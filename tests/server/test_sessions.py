"""Browsers' sessions: who gets in, that nothing crosses between two, and that nothing is left behind."""

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
from realtime.pipeline.commands import MOST_WAITING
from realtime.pipeline.pipeline import Pipeline
from realtime.server.metrics import Tally
from realtime.server.sessions import Session, Sessions
from tests.support.fake_server import CONFIG, FakeLink, FakeServer, is_generated, living
from tests.support.fakes import CAMERA, FakeSource
from tests.support.waiting import until


class WaitingLink(FakeLink):
    """Gives no source before a publisher has ``sent`` its first picture."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = threading.Event()

    def source(self, session: str, _fps: float, _timeout_s: float = 15.0) -> FakeSource:
        assert self.sent.wait(5)
        return super().source(session, _fps, _timeout_s)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with living(FakeServer()) as made:
        yield made


def test_a_browser_is_answered_with_its_portrait(server: FakeServer) -> None:
    server.open("a")
    server.drive("a")

    def told() -> bool:
        server.link.sources["a"].feed()
        return any(message.get("state", {}).get("face") == "found" for message in server.link.pushed["a"])

    until(told, "its page is not told that the face was found")
    state = server.get("/api/state", "a")
    assert (state["session"], state["watch"], state["portraits"]) == ("a", "watch-a", 2)
    assert state["viewers"] == 1
    assert state["dropped"]["network"] == 4
    assert set(state["stages_ms"]) == {"track", "generate", "send"}


def test_one_too_many_is_refused_and_let_in_when_somebody_leaves(server: FakeServer) -> None:
    server.open("a")
    server.open("b")
    with pytest.raises(ServerFull) as caught:
        server.open("c")
    assert caught.value.retry_after_s
    assert "2 browsers at a time, as --sessions says" in caught.value.found
    server.send_away("a")
    assert "a" in server.link.ended
    server.open("c")


def test_what_is_set_before_the_first_picture_holds_from_it_on() -> None:
    link = WaitingLink()
    with living(FakeServer(link=link)) as server:
        server.open("a")
        for command, value in (("set_slate", True), ("set_mouth", "painted"), ("set_gain", 2.5), ("set_portrait", 1)):
            assert server.control("a", command, value)["ok"]
        assert server.control("a", "set_gain", 99)["error"]["found"] == "the value '99' for set_gain"
        link.sent.set()
        source, sink = link.sources["a"], link.sinks["a"]
        assert source.reading.wait(5)
        source.feed(5)
        until(lambda: server.get("/api/state", "a")["frames"] > 3)
        assert not any(is_generated(frame.pixels) for frame in sink.frames)
        state = server.get("/api/state", "a")
        assert (state["slate"], state["gain"], state["portrait"]["index"]) == (True, 2.5, 1)
        link.wait_for(lambda: {"notice": "slate", "v": 1} in link.pushed["a"])


def test_only_so_many_commands_wait_for_the_first_picture() -> None:
    link = WaitingLink()
    with living(FakeServer(link=link)) as server:
        server.open("a")
        replies = [server.control("a", "next_portrait") for _ in range(MOST_WAITING + 1)]
        assert [reply["ok"] for reply in replies] == [True] * MOST_WAITING + [False]
        link.sent.set()


def test_settings_and_portraits_do_not_cross(server: FakeServer) -> None:
    for key in ("a", "b"):
        server.open(key)
        server.drive(key)
    assert server.control("a", "set_gain", 2.5)["ok"]
    assert server.control("a", "set_portrait", "two")["ok"]
    assert server.control("a", "set_mirror", True)["said"] == "mirrored"
    assert server.control("b", "set_portrait", 5)["error"]["found"] == "the portrait '5'"
    a, b = server.get("/api/state", "a"), server.get("/api/state", "b")
    assert (a["gain"], a["portrait"]["index"], a["mirror"]) == (2.5, 1, True)
    assert (b["gain"], b["portrait"]["index"], b["mirror"]) == (1.0, 0, False)


def test_nothing_of_a_closed_session_stays_in_memory(server: FakeServer) -> None:
    daemons = []
    for key in ("a", "b"):
        server.open(key)
        server.drive(key)
        session = server.media.sessions.get(key)
        assert session is not None
        assert session.pipeline is not None
        daemons.append(weakref.ref(session.pipeline))
        del session
        server.media.closed(key)
        server.link.sources[key].end()
    server.link.wait_for(lambda: set(server.link.ended) == {"a", "b"})
    server.media.close(3)
    gc.collect()
    assert [pipeline() for pipeline in daemons] == [None, None]


def test_no_camera_picture_reaches_a_viewer(server: FakeServer) -> None:
    server.open("a")
    server.drive("a", 5)
    server.send_away("a")
    assert server.link.sinks["a"].closed.wait(5)
    for frame in server.link.sinks["a"].frames:
        rgb = cv2.cvtColor(frame.pixels, cv2.COLOR_YUV2RGB_I420)
        assert np.abs(rgb.astype(int) - np.array(CAMERA)).sum(axis=-1).min() > 60


def test_a_publisher_that_sends_nothing_is_told_and_leaves_nothing(server: FakeServer) -> None:
    server.link.missing.add("a")
    server.open("a")
    server.link.wait_for(lambda: any("error" in message for message in server.link.pushed["a"]))
    assert server.link.pushed["a"][-1]["error"]["cure"] == "see that its camera is on"
    server.send_away("a")
    assert "a" in server.link.ended
    assert server.media.sessions.failed == 1


def test_one_that_fails_harms_nobody_else(server: FakeServer) -> None:
    server.open("good")
    server.drive("good")

    def fail(_: Motion) -> None:
        raise ValueError("boom")

    server.during = fail
    server.open("bad")
    server.link.sources["bad"].feed(3)
    server.link.wait_for(lambda: any("error" in message for message in server.link.pushed["bad"]))
    before = len(server.link.sinks["good"].frames)
    server.link.sources["good"].feed(1)
    server.link.sinks["good"].wait_for(before + 1)
    server.media.closed("bad")
    assert len(server.link.sinks["good"].frames) > before


def test_the_end_of_a_session_closes_what_it_opened(server: FakeServer) -> None:
    threads = threading.active_count()
    server.open("a")
    server.drive("a")
    server.send_away("a")
    assert "a" in server.link.ended
    assert server.trackers[0].closed
    assert server.generators[0].closed
    assert server.link.sources["a"].closed.is_set()
    assert server.link.sinks["a"].closed.is_set()
    for thread in threading.enumerate():
        if thread.name in ("session", "capture", "compute", "sink webrtc"):
            thread.join(5)
    assert threading.active_count() <= threads


def test_closing_the_house_ends_everybody() -> None:
    server = FakeServer()
    server.open("a")
    server.link.sources["a"].end()
    server.media.close(3)
    assert server.link.closed
    assert not server.media.sessions.all()
    with pytest.raises(ServerFull):
        server.open("b")


def test_a_browser_that_comes_while_the_house_closes_ends_with_it(server: FakeServer) -> None:
    def enter(_: Session) -> None:
        closing.start()
        closing.wait(0.1)

    sessions = Sessions(CONFIG, server.prepare, enter=enter)
    sessions.link = server.link
    closing = BackgroundTask("close", lambda: sessions.close(3))
    server.link.sources["a"].end()
    sessions.open("a", "watch-a")
    assert closing.result(), "some session did not end"
    assert not sessions.all()
    assert "a" in server.link.ended
    with pytest.raises(ServerFull) as caught:
        sessions.open("b", "watch-b")
    assert caught.value.found == "the program is ending"


def test_what_the_machine_sustains_is_the_limit_where_nobody_says() -> None:
    with living(FakeServer(limit=None, measured=2)) as server:
        server.open("a")
        with pytest.raises(ServerFull) as caught:
            server.open("b")
        assert "one browser at a time until it is measured" in caught.value.found
        server.let_measure.set()
        until(lambda: server.media.limit == 2)
        until(lambda: any("2 at a time" in text for text in server.said))
        server.open("b")
        with pytest.raises(ServerFull) as caught:
            server.open("c")
        assert "2 browsers at a time, which is what this machine sustains" in caught.value.found


# --- figures


def test_figures_are_those_of_all_sessions_and_stay_when_they_end(server: FakeServer) -> None:
    frames = faces = 0
    for key in ("secret-a", "secret-b"):
        server.open(key)
        server.drive(key)
        session = server.media.sessions.get(key)
        # to ask is not to count
        assert figure(server, 'reenact_frames_total{run="session"}') > frames
        server.send_away(key)
        assert session is not None
        assert session.pipeline is not None
        frames += session.pipeline.ledger.frames
        faces += session.pipeline.ledger.faces
        assert session.pipeline.ledger.faces > 0
        for _ in range(2):
            assert figure(server, 'reenact_frames_total{run="session"}') == frames
            assert figure(server, 'reenact_faces_total{run="session"}') == faces
            assert figure(server, 'reenact_stage_seconds_count{run="session",stage="generate"}') == faces
    assert figure(server, "reenact_sessions") == 0
    assert figure(server, 'reenact_session_outcomes_total{outcome="opened"}') == 2
    assert b"secret" not in server.ask("GET", "/metrics").body


def test_a_session_that_ends_is_never_counted_twice(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[BackgroundTask[int]] = []
    add = Tally.add

    def add_and_ask(tally: Tally, pipeline: Pipeline) -> None:
        add(tally, pipeline)
        if threading.current_thread().name == "session":
            asked.append(BackgroundTask("scrape", lambda: server.media.tallies()["session"].frames))
            asked[-1].start()
            asked[-1].wait(0.1)

    monkeypatch.setattr(Tally, "add", add_and_ask)
    server.open("a")
    server.drive("a")
    server.send_away("a")
    (scrape,) = asked
    assert scrape.result() == server.media.tallies()["session"].frames > 0


def figure(server: FakeServer, name: str) -> float:
    """What ``GET /metrics`` says of it."""
    for line in server.ask("GET", "/metrics").body.decode().splitlines():
        found, _, value = line.rpartition(" ")
        if found == name:
            return float(value)
    raise AssertionError(f"there is no {name}")
