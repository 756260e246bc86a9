"""The program's own sinks where browsers drive: which session they show, and what they count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engines.types import Motion
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.delivery_thread import OpenedSink
from realtime.pipeline.settings import Limits
from realtime.server.shared_sinks import SharedSinks
from tests.support.fake_server import FakeServer, closing
from tests.support.fakes import CAMERA, PORTRAIT, SIZE, FakeSink, is_generated
from tests.support.waiting import until


class ServerWithSinks:
    """A server with sinks of its own: ``camera`` stands for a virtual camera and ``file`` for a recording."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.camera, self.file = FakeSink("camera"), FakeSink("file")
        self.stop_signal = StopSignal()
        sinks = [OpenedSink("camera", self.camera), OpenedSink("file", self.file, recording=True)]
        limits = limits or Limits()
        self.shared_sinks = SharedSinks(
            sinks, size=SIZE, limits=limits, stop_signal=self.stop_signal, notice=lambda _: None
        )
        self.server = FakeServer(self.shared_sinks)
        self.shared_sinks.start()

    def feed(self, key: str) -> None:
        self.server.link.sources[key].feed()

    def set(self, key: str, command: str) -> None:
        assert self.server.control(key, command, True)["ok"]

    def ages(self) -> int:
        """Return how many frames an age was recorded for, over both sinks."""
        return self.shared_sinks.age.count


@contextmanager
def serving(limits: Limits | None = None) -> Iterator[ServerWithSinks]:
    made = ServerWithSinks(limits)
    try:
        with closing(made.server):
            yield made
    finally:
        closed = made.shared_sinks.close(3)
    assert closed, "some thread did not end in time"


def test_own_sinks_show_the_first_browser_and_then_the_next() -> None:
    with serving() as made:
        server, camera = made.server, made.camera
        camera.wait_for(1)  # the slate
        assert not camera.shows(PORTRAIT)
        server.open("a")
        server.drive("a")
        camera.wait_for(is_generated)
        assert made.shared_sinks.parts is not None
        server.open("b")
        server.drive("b")
        server.disconnect("a")
        seen = made.shared_sinks.counts.frames

        def is_shown() -> bool:
            made.feed("b")
            return made.shared_sinks.counts.frames > seen

        until(is_shown, "the second session is not shown")
        assert not camera.shows(CAMERA)
    assert camera.closed.is_set()
    assert made.file.closed.is_set()


def test_the_run_ends_when_its_number_of_frames_is_reached() -> None:
    with serving(Limits(frames=2)) as made:
        made.server.open("a")
        made.server.drive("a", 10)
        assert made.stop_signal.over.wait(5)
        assert made.stop_signal.complete
    assert made.shared_sinks.finished(3)


def test_the_run_ends_after_its_duration_without_a_session() -> None:
    sink, stop_signal = FakeSink(), StopSignal()
    now = [1_000_000_000]
    shared_sinks = SharedSinks(
        [OpenedSink("fake", sink)],
        size=SIZE,
        limits=Limits(duration_ns=60_000_000_000),
        stop_signal=stop_signal,
        notice=lambda _: None,
        clock=lambda: now[0],
    )
    now[0] += 59_000_000_000
    shared_sinks.start()
    sink.wait_for(3)
    assert not stop_signal.over.is_set()
    now[0] += 1_000_000_000
    assert stop_signal.over.wait(5)
    assert stop_signal.complete
    assert shared_sinks.finished(3)


def test_the_age_without_sinks_of_its_own_is_that_of_the_selected_session() -> None:
    stop_signal = StopSignal()
    shared_sinks = SharedSinks([], size=SIZE, limits=Limits(), stop_signal=stop_signal, notice=lambda _: None)
    server = FakeServer(shared_sinks)
    shared_sinks.start()
    with closing(server):
        assert shared_sinks.recent_age == (0, 0)
        server.open("a")
        server.drive("a")
        until(lambda: shared_sinks.recent_age[0] > 0, "no age is reported")
    assert shared_sinks.close(3)


def test_a_recording_contains_no_notices_of_start_and_failure() -> None:
    with serving() as made:
        server = made.server
        server.open("a")
        made.camera.wait_for(lambda frame: not is_generated(frame))
        server.drive("a")
        made.file.wait_for(is_generated)

        def fail(_: Motion) -> None:
            raise ValueError("boom")

        server.generators[0].during = fail
        made.feed("a")
        server.link.wait_for_error("a")
        server.disconnect("a")
    assert all(is_generated(frame) for frame in made.file.frames)
    assert any(not is_generated(frame) for frame in made.camera.frames)


def test_only_frames_are_counted() -> None:
    with serving() as made:
        server = made.server
        server.open("a")
        server.link.wait_for(lambda: server.link.pushed["a"])
        made.camera.wait_for(3)
        assert made.shared_sinks.counts.frames == 0
        server.drive("a")
        session = server.application.sessions.get("a")
        server.disconnect("a")
        assert session is not None
        assert session.pipeline is not None
        dropped = session.pipeline.dropped["local"]
        assert 0 < made.shared_sinks.counts.frames <= session.pipeline.counts.frames
        assert made.shared_sinks.counts.frames + dropped >= session.pipeline.counts.frames


def test_faces_are_counted_for_frames_that_were_driven_by_one() -> None:
    with serving() as made:
        server, counts = made.server, made.shared_sinks.counts
        server.open("a")
        server.drive("a")
        until(lambda: counts.faces)
        server.trackers[0].present = False

        def without() -> bool:
            frames, faces = counts.frames, counts.faces
            made.feed("a")
            until(lambda: counts.frames > frames)
            return counts.faces == faces

        until(without, "faces are counted where there is none")
        ages, faces = made.ages(), counts.faces
        for _ in range(3):
            assert without()
        assert (made.ages(), counts.faces) == (ages, faces)


def test_held_frames_and_slates_of_a_session_have_neither_face_nor_age() -> None:
    for command in ("set_frozen", "set_slate"):
        with serving() as made:
            server, counts = made.server, made.shared_sinks.counts
            server.open("a")
            server.drive("a")
            until(lambda counts=counts: counts.faces)  # type: ignore[misc]
            made.set("a", command)

            def held(made: ServerWithSinks = made) -> bool:
                """Return True if three more frames have neither."""
                frames, faces, ages = made.shared_sinks.counts.frames, made.shared_sinks.counts.faces, made.ages()
                sent = len(made.file.frames)
                made.feed("a")
                until(lambda: made.shared_sinks.counts.frames >= frames + 3 and len(made.file.frames) >= sent + 3)
                return (made.shared_sinks.counts.faces, made.ages()) == (faces, ages)

            until(held, f"{command} counts as a face")
            assert held()
