"""Browsers' sessions: who gets in, that nothing crosses between two, and that nothing is left behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from engines.types import Motion
from realtime.core.background_task import Task
from realtime.pipeline.commands import MOST_WAITING
from realtime.pipeline.pipeline import Daemon
from realtime.server.metrics import Tally
from realtime.server.sessions import Session, Sessions
from realtime.webrtc.callbacks import Granted, Refused
from tests.support.fake_server import CONFIG, FakeLink, House, is_generated, living
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
def house() -> Iterator[House]:
    with living(House()) as made:
        yield made


def test_a_browser_is_answered_with_its_portrait(house: House) -> None:
    assert isinstance(house.open("a"), Granted)
    house.drive("a")

    def told() -> bool:
        house.link.sources["a"].feed()
        return any(message.get("state", {}).get("face") == "found" for message in house.link.pushed["a"])

    until(told, "its page is not told that the face was found")
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
    assert "2 browsers at a time, as --sessions says" in refused.why
    house.send_away("a")
    assert "a" in house.link.ended
    assert isinstance(house.open("c"), Granted)


def test_what_is_set_before_the_first_picture_holds_from_it_on() -> None:
    link = WaitingLink()
    with living(House(link=link)) as house:
        house.open("a")
        for command, value in (("slate", True), ("mouth", "painted"), ("gain", 2.5), ("portrait", 1)):
            assert house.control("a", command, value)["ok"]
        assert house.control("a", "gain", 99)["error"]["found"] == "the value '99' for gain"
        link.sent.set()
        source, sink = link.sources["a"], link.sinks["a"]
        assert source.reading.wait(5)
        source.feed(5)
        until(lambda: house.get("/api/state", "a")["frames"] > 3)
        assert not any(is_generated(frame.pixels) for frame in sink.frames)
        state = house.get("/api/state", "a")
        assert (state["slate"], state["gain"], state["portrait"]["index"]) == (True, 2.5, 1)
        link.wait_for(lambda: {"notice": "slate", "v": 1} in link.pushed["a"])


def test_only_so_many_commands_wait_for_the_first_picture() -> None:
    link = WaitingLink()
    with living(House(link=link)) as house:
        house.open("a")
        replies = [house.control("a", "next") for _ in range(MOST_WAITING + 1)]
        assert [reply["ok"] for reply in replies] == [True] * MOST_WAITING + [False]
        link.sent.set()


def test_settings_and_portraits_do_not_cross(house: House) -> None:
    for key in ("a", "b"):
        house.open(key)
        house.drive(key)
    assert house.control("a", "gain", 2.5)["ok"]
    assert house.control("a", "portrait", "two")["ok"]
    assert house.control("a", "mirror", True)["said"] == "mirrored"
    assert house.control("b", "portrait", 5)["error"]["found"] == "the portrait '5'"
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
    house.open("a")
    house.drive("a", 5)
    house.send_away("a")
    assert house.link.sinks["a"].closed.wait(5)
    for frame in house.link.sinks["a"].frames:
        rgb = cv2.cvtColor(frame.pixels, cv2.COLOR_YUV2RGB_I420)
        assert np.abs(rgb.astype(int) - np.array(CAMERA)).sum(axis=-1).min() > 60


def test_a_publisher_that_sends_nothing_is_told_and_leaves_nothing(house: House) -> None:
    house.link.missing.add("a")
    house.open("a")
    house.link.wait_for(lambda: any("error" in message for message in house.link.pushed["a"]))
    assert house.link.pushed["a"][-1]["error"]["cure"] == "see that its camera is on"
    house.send_away("a")
    assert "a" in house.link.ended
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
    house.send_away("a")
    assert "a" in house.link.ended
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


def test_a_browser_that_comes_while_the_house_closes_ends_with_it(house: House) -> None:
    def enter(_: Session) -> None:
        closing.start()
        closing.wait(0.1)

    sessions = Sessions(CONFIG, house.prepare, enter=enter)
    sessions.link = house.link
    closing = Task("close", lambda: sessions.close(3))
    house.link.sources["a"].end()
    sessions.open("a", "watch-a")
    assert closing.result(), "some session did not end"
    assert not sessions.all()
    assert "a" in house.link.ended
    refused = sessions.open("b", "watch-b")
    assert isinstance(refused, Refused)
    assert refused.why == "the program is ending"


def test_what_the_machine_sustains_is_the_limit_where_nobody_says() -> None:
    with living(House(limit=None, measured=2)) as house:
        house.open("a")
        refused = house.open("b")
        assert isinstance(refused, Refused)
        assert "one browser at a time until it is measured" in refused.why
        house.let_measure.set()
        until(lambda: house.media.limit == 2)
        until(lambda: any("2 at a time" in text for text in house.said))
        assert isinstance(house.open("b"), Granted)
        refused = house.open("c")
        assert isinstance(refused, Refused)
        assert "2 browsers at a time, which is what this machine sustains" in refused.why


# --- figures


def test_figures_are_those_of_all_sessions_and_stay_when_they_end(house: House) -> None:
    frames = faces = 0
    for key in ("secret-a", "secret-b"):
        house.open(key)
        house.drive(key)
        session = house.media.sessions.get(key)
        # to ask is not to count
        assert figure(house, 'reenact_frames_total{run="session"}') > frames
        house.send_away(key)
        assert session is not None
        assert session.daemon is not None
        frames += session.daemon.ledger.frames
        faces += session.daemon.ledger.faces
        assert session.daemon.ledger.faces > 0
        for _ in range(2):
            assert figure(house, 'reenact_frames_total{run="session"}') == frames
            assert figure(house, 'reenact_faces_total{run="session"}') == faces
            assert figure(house, 'reenact_stage_seconds_count{run="session",stage="generate"}') == faces
    assert figure(house, "reenact_sessions") == 0
    assert figure(house, 'reenact_session_outcomes_total{outcome="opened"}') == 2
    assert b"secret" not in house.ask("GET", "/metrics").body


def test_a_session_that_ends_is_never_counted_twice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Task[int]] = []
    add = Tally.add

    def add_and_ask(tally: Tally, daemon: Daemon) -> None:
        add(tally, daemon)
        if threading.current_thread().name == "session":
            asked.append(Task("scrape", lambda: house.media.tallies()["session"].frames))
            asked[-1].start()
            asked[-1].wait(0.1)

    monkeypatch.setattr(Tally, "add", add_and_ask)
    house.open("a")
    house.drive("a")
    house.send_away("a")
    (scrape,) = asked
    assert scrape.result() == house.media.tallies()["session"].frames > 0


def figure(house: House, name: str) -> float:
    """What ``GET /metrics`` says of it."""
    for line in house.ask("GET", "/metrics").body.decode().splitlines():
        found, _, value = line.rpartition(" ")
        if found == name:
            return float(value)
    raise AssertionError(f"there is no {name}")
