from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from engines.errors import SourceMissing
from realtime.capture.source import Source
from realtime.core.frames import Frame, Stamps
from realtime.core.latency import FrameCounts
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.commands import Commands
from realtime.pipeline.compute_thread import ComputeThread
from realtime.pipeline.settings import RunHooks, RunSettings
from tests.support.fakes import SIZE, FakeSink, FakeSource, driving, is_generated
from tests.support.run import running


class OldSource(FakeSource):
    """A source whose frames before ``NEW`` were captured before the run was ready."""

    NEW = 100

    def read(self) -> Frame:
        frame = super().read()
        captured = frame.time_ns if frame.seq >= self.NEW else frame.time_ns - 10**10
        return Frame(frame.pixels, frame.format, frame.seq, Stamps(captured), captured)


def test_frames_that_were_captured_before_the_run_was_ready_are_dropped() -> None:
    source, sink = OldSource(), FakeSink()
    with running(source, [sink]) as run:
        while not run.pipeline.counts.starting:
            source.feed(1)
            sink.wait_for(len(sink.frames) + 1)
            assert not any(is_generated(frame) for frame in sink.frames)
        source.feed(1, start=OldSource.NEW)
        sink.wait_for(is_generated)
    assert {frame.seq for frame in sink.frames if is_generated(frame)} == {OldSource.NEW}
    assert run.pipeline.dropped["starting"] >= 1


def test_a_lost_camera_has_no_face() -> None:
    source, sink = FakeSource(), FakeSink()

    def reopen() -> Source:
        raise SourceMissing("camera-missing", "no camera")

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
    """A mailbox with one frame and then none; records how long each ``get`` would have waited, in seconds."""

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
    """Return how long the thread waits for each frame after the first, in seconds."""
    inbox, source = SlowInbox(5), FakeSource()
    source.fps = source_fps
    capture = SimpleNamespace(source=source, inbox=inbox, start_reading=SimpleNamespace(set=lambda: None))
    parts: Any = SimpleNamespace(
        observer=SimpleNamespace(observe=lambda frame: frame),
        animator=SimpleNamespace(show=lambda _: None, idle=lambda: None),
        close=lambda: None,
    )
    compute = ComputeThread(
        cast(Any, SimpleNamespace(status="starting", assemble=lambda *_, **__: parts)),
        cast(Any, capture),
        cast(Any, SimpleNamespace(slate=lambda *_, **__: None, close=lambda: None)),
        FrameCounts(),
        Commands(),
        stop_signal := StopSignal(),
        RunSettings(SIZE, fps),
        RunHooks(lambda _: None, clock=lambda: inbox.now),
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
