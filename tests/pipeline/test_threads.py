"""The threads of a run, one by one or together, where their neighbours are at the test's command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engines.errors import SinkLost, SinkMissing, SourceMissing
from realtime.capture.source import Source
from realtime.core.frames import Frame, Stamps
from realtime.core.latency import Ledger
from realtime.core.stop_signal import StopSignal
from realtime.pipeline import threads
from realtime.pipeline.commands import Commands
from realtime.pipeline.publisher import FramePublisher
from realtime.pipeline.threads import ComputeThread, DeliveryThread, Limits
from realtime.sinks.sink import Sink
from tests.support.fakes import PORTRAIT, SIZE, FakeSink, FakeSource, driving, is_generated, picture
from tests.support.run import running


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(threads, "LAST_DELAY_S", 0.002)


class Desk:
    """A publisher, a sink and the delivery between them."""

    def __init__(self, sink: Sink, reopen: Callable[[], Sink] | None = None) -> None:
        self.said: list[str] = []
        self.failed: list[bool] = []
        self.stop_signal = StopSignal()
        self.publisher = FramePublisher(SIZE)
        box = self.publisher.attach(sink.format, recording=False)
        self.delivery = DeliveryThread(
            "desk", sink, box, reopen, self.stop_signal, self.said.append, lambda: self.failed.append(True)
        )
        self.delivery.start()

    def show(self, seq: int, *, face: bool = True) -> None:
        now = time.monotonic_ns()
        self.publisher.show(picture(PORTRAIT), None, seq=seq, time_ns=now, stamps=Stamps(now), face=face)

    def close(self) -> None:
        self.publisher.close()
        self.delivery.join(5)
        assert not self.delivery.is_alive()


def test_a_run_that_stops_while_a_sink_is_away_leaves_it_closed() -> None:
    tried, sends = threading.Event(), []

    def gone(frame: Frame) -> None:
        sends.append(frame.seq)
        raise SinkLost("the device is gone")

    def reopen() -> Sink:
        tried.set()
        raise SinkMissing("there is no device")

    sink = FakeSink(during=gone)
    desk = Desk(sink, reopen)
    desk.show(1)
    assert tried.wait(5)
    desk.show(2)  # waits for the sink to come back
    desk.stop_signal.stop("quit")
    desk.close()
    assert sends == [1], "nothing more is sent to a sink that is closed"
    assert desk.said == ["the device is gone; trying to get it back"]
    assert sink.closed.is_set()
    assert (desk.delivery.error, desk.failed) == (None, [])
    assert desk.publisher.pool.made <= 3


def test_a_picture_on_which_a_sink_is_lost_is_dropped() -> None:
    back = threading.Event()

    def gone(_: Frame) -> None:
        raise SinkLost("the device is gone")

    again = FakeSink()

    def reopen() -> Sink:
        back.set()
        return again

    desk = Desk(FakeSink(during=gone), reopen)
    desk.show(1)
    assert back.wait(5)
    desk.show(2)
    again.wait_for(1)
    desk.close()
    assert (desk.delivery.sent, desk.delivery.dropped) == (1, 1)


def test_age_is_that_of_generated_pictures_of_a_face() -> None:
    sink = FakeSink()
    desk = Desk(sink)
    desk.show(1)
    sink.wait_for(1)
    desk.publisher.hold(time.monotonic_ns())
    sink.wait_for(2)
    desk.publisher.slate("back in a moment", time.monotonic_ns())
    sink.wait_for(3)
    desk.show(2, face=False)
    sink.wait_for(4)
    desk.close()
    assert desk.delivery.sent == desk.delivery.sending.count == 4
    assert desk.delivery.age.count == 1


class OldSource(FakeSource):
    """Its first frames, those before ``NEW``, have waited in the driver since before anything was ready."""

    NEW = 100

    def read(self) -> Frame:
        frame = super().read()
        captured = frame.time_ns if frame.seq >= self.NEW else frame.time_ns - 10**10
        return Frame(frame.pixels, frame.format, frame.seq, Stamps(captured), captured)


def test_what_was_captured_before_all_was_ready_is_left_out() -> None:
    source, sink = OldSource(), FakeSink()
    with running(source, [sink]) as run:
        while not run.pipeline.ledger.starting:
            source.feed(1)
            sink.wait_for(len(sink.frames) + 1)
            assert not any(is_generated(frame) for frame in sink.frames)
        source.feed(1, start=OldSource.NEW)
        sink.wait_for(is_generated)
    assert {frame.seq for frame in sink.frames if is_generated(frame)} == {OldSource.NEW}
    assert run.pipeline.dropped["starting"] >= 1


def test_a_camera_that_is_away_shows_no_face() -> None:
    source, sink = FakeSource(), FakeSink()

    def reopen() -> Source:
        raise SourceMissing("no camera")

    with running(source, [sink], reopen_source=reopen) as run:
        source.feed(1)
        last = sink.wait_for(is_generated)
        assert run.pipeline.parts is not None
        assert run.pipeline.parts.animator.face_found
        source.lose()
        sink.wait_for(lambda frame: frame.time_ns > last.time_ns and is_generated(frame))
        assert not run.pipeline.parts.animator.face_found


# --- patience, idling and limits


NS = 1_000_000_000


class SlowInbox:
    """A mailbox that is given one frame and then none; notes how long each ``get`` would have waited."""

    def __init__(self, empty: int) -> None:
        self.closed = False
        self.waited: list[float] = []
        self.now = 0
        self._empty = empty

    def get(self, timeout: float) -> Frame | None:
        if not self.waited:
            self.waited.append(0.0)
            return driving()
        self.waited.append(timeout)
        self.now += round(timeout * NS)
        self.closed = len(self.waited) > self._empty
        return None

    def close(self) -> None:
        self.closed = True


def waits(source_fps: float, fps: float) -> list[float]:
    """How long it waits in seconds: for the first frame that stays away, and for those after it."""
    inbox, source = SlowInbox(5), FakeSource()
    source.fps = source_fps
    capture = SimpleNamespace(source=source, inbox=inbox, go=SimpleNamespace(set=lambda: None))
    parts: Any = SimpleNamespace(
        desk=None,
        observer=SimpleNamespace(observe=lambda frame: frame),
        animator=SimpleNamespace(show=lambda _: None, idle=lambda: None),
        close=lambda: None,
    )
    compute = ComputeThread(
        lambda _: parts,
        cast(Any, capture),
        cast(Any, SimpleNamespace(slate=lambda *_, **__: None, close=lambda: None)),
        Ledger(),
        Commands(),
        stop_signal := StopSignal(),
        lambda _: None,
        fps=fps,
        limits=Limits(),
        lossless=False,
        clock=lambda: inbox.now,
    )
    compute.run()
    assert stop_signal.error is None
    return inbox.waited[1:]


@pytest.mark.parametrize(
    ("source_fps", "fps", "patience", "period"),
    [
        (30, 30, 0.25, 1 / 30),
        (3, 30, 1.0, 1 / 30),
        (30, 5, 0.6, 1 / 5),
        (1000, 1000, 0.25, 1 / 60),
        (0, 30, 0.25, 1 / 30),
    ],
)
def test_idling(source_fps: float, fps: float, patience: float, period: float) -> None:
    first, *rest = waits(source_fps, fps)
    assert first == pytest.approx(patience)
    assert rest == pytest.approx([period] * len(rest), rel=1e-3)


def test_how_many_frames_there_will_be() -> None:
    assert Limits().of(None, 30) is None
    assert Limits().of(75, 30) == 75
    assert Limits(frames=30).of(75, 30) == 30
    assert Limits(frames=30).of(None, 30) == 30
    assert Limits(frames=90).of(75, 30) == 75
    assert Limits(duration_ns=NS // 2).of(75, 25) == 13
