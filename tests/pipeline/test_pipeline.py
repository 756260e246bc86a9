from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engines.errors import BusyError, CommandError, GeneratorError, SinkLost, SourceMissing, TrackerError, UsageError
from engines.face.topology import MIRROR
from engines.types import FaceState, Image, Mask, Motion, Portrait
from realtime.capture.source import Source
from realtime.core.frames import Frame, PixelFormat
from realtime.motion.motion_transfer import MotionTransfer
from realtime.pipeline.settings import Limits
from realtime.portraits.portrait import PortraitPicture
from tests.support.driver import ExactModel
from tests.support.faces import at_pixels, shape_of
from tests.support.fakes import (
    CAMERA,
    SIZE,
    FakeGenerator,
    FakeSink,
    FakeSource,
    FakeTracker,
    driving,
    is_generated,
    portrait,
)
from tests.support.run import FakeRun, running
from tests.support.waiting import until


class Blocking:
    """Blocks the tracker in a frame until the test sets ``proceed``."""

    def __init__(self) -> None:
        self.busy, self.proceed = threading.Event(), threading.Event()

    def __call__(self, _: Frame) -> None:
        self.busy.set()
        self.proceed.wait(5)


def test_a_driving_frame_is_answered_by_a_generated_frame() -> None:
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink]) as run:
        source.feed(1)
        frame = sink.wait_for(is_generated)
        source.end()
        run.over()
    stamps = frame.stamps
    assert stamps.captured <= stamps.tracked <= stamps.generated
    assert run.stop_signal.error is None
    assert source.closed.is_set()
    assert sink.closed.is_set()
    assert run.pipeline.counts.faces == 1
    assert run.pipeline.age.count == 1


def test_a_slate_is_shown_until_everything_is_ready() -> None:
    proceed = threading.Event()

    def load() -> PortraitPicture:
        proceed.wait(5)
        return portrait()

    source, sink = FakeSource(), FakeSink()
    with running(source, [sink], loaders=[load]):
        sink.wait_for(2)
        assert not any(is_generated(frame) for frame in sink.frames)
        proceed.set()
        source.feed(1)
        sink.wait_for(is_generated)
    assert not sink.shows(CAMERA)


def test_a_recording_begins_with_the_first_generated_frame() -> None:
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink], recording=True):
        source.feed(1)
        sink.wait_for(1)
    assert all(is_generated(frame) for frame in sink.frames)


def test_i420_is_converted_once_for_all_sinks() -> None:
    source = FakeSource()
    seen: list[list[Frame]] = [[], []]
    sinks = [FakeSink(f"planes {i}", PixelFormat.I420, during=seen[i].append) for i in range(2)]
    colour = FakeSink("colour", PixelFormat.RGB)
    with running(source, [*sinks, colour]):
        source.feed(1)
        generated = colour.wait_for(is_generated)
        planes = [sink.wait_for(lambda frame: frame.stamps == generated.stamps) for sink in sinks]
    assert planes[0].pixels.shape == (96, 64)
    # BT.601, limited range, of (30, 160, 60)
    assert abs(int(planes[0].pixels[0, 0]) - 110) <= 2
    one, two = (next(frame for frame in frames if frame.stamps == generated.stamps) for frames in seen)
    assert np.shares_memory(one.pixels, two.pixels)


def test_a_slow_sink_does_not_delay_a_fast_one() -> None:
    proceed = threading.Event()

    def hang(_: Frame) -> None:
        proceed.wait(10)

    slow, fast = FakeSink("slow", during=hang), FakeSink("fast")
    source = FakeSource()
    with running(source, [slow, fast]) as run:
        for seq in range(20):
            source.feed(1, start=seq)
            fast.wait_for(lambda frame, seq=seq: frame.seq == seq and is_generated(frame))  # type: ignore[misc]
        assert slow.frames == []
        dropped = run.pipeline.dropped
        proceed.set()
    assert dropped["slow"] >= 18
    assert dropped["fast"] == 0


def test_a_published_frame_is_not_overwritten_while_a_sink_holds_it() -> None:
    """A slow sink sees the same frame at the end of its ``send`` as at the beginning."""
    proceed = threading.Event()
    torn: list[bool] = []

    def look_twice(frame: Frame) -> None:
        before = frame.pixels.copy()
        assert not frame.pixels.flags.writeable
        proceed.wait(5)
        torn.append(not np.array_equal(before, frame.pixels))

    slow, fast, source = FakeSink("slow", during=look_twice), FakeSink("fast"), FakeSource()
    with running(source, [slow, fast]) as run:
        for seq in range(30):
            source.feed(1, start=seq)
            fast.wait_for(lambda frame, seq=seq: frame.seq == seq and is_generated(frame))  # type: ignore[misc]
        proceed.set()
        source.end()
        run.over()
    assert torn
    assert not any(torn)
    assert run.pipeline.publisher.pool.made <= 8


def test_a_face_that_is_lost_sends_no_camera_pixel() -> None:
    source, sink, tracker, generator = FakeSource(), FakeSink(), FakeTracker(), FakeGenerator()
    with running(source, [sink], tracker=tracker, generator=generator) as run:
        source.feed(1)
        sink.wait_for(is_generated)
        tracker.present = False
        for seq in range(1, 6):
            source.feed(1, start=seq)
            sink.wait_for(lambda frame, seq=seq: frame.seq == seq)  # type: ignore[misc]
        source.end()
        run.over()
    assert not sink.shows(CAMERA)
    assert generator.driven[-5:] == [("one", False)] * 5
    assert run.pipeline.counts.frames >= 6
    assert run.pipeline.counts.faces == 1
    assert run.pipeline.age.count == 1


@pytest.mark.parametrize("lossless", [False, True])
def test_a_file_without_a_face_is_reported(lossless: bool) -> None:
    source, sink, tracker = FakeSource(frames=1), FakeSink(), FakeTracker()
    tracker.present = False
    with running(source, [sink], tracker=tracker, lossless=lossless) as run:
        source.feed(1)
        sink.wait_for(is_generated)
        source.end()
        run.over()
        run.pipeline.compute.join(5)
    assert [text for text in run.said if "no face in fake source" in text]


def test_a_lost_camera_comes_back_and_the_portrait_idles_meanwhile() -> None:
    first, second, sink = FakeSource(), FakeSource(), FakeSink()
    plugged_in = threading.Event()

    def reopen() -> Source:
        if not plugged_in.is_set():
            raise SourceMissing("camera-missing", "no camera")
        return second

    with running(first, [sink], reopen_source=reopen) as run:
        run.sources.append(second)
        first.feed(1)
        last = sink.wait_for(is_generated)
        first.lose()
        idle = sink.wait_for(lambda frame: frame.time_ns > last.time_ns and is_generated(frame))
        sink.wait_for(lambda frame: frame.time_ns > idle.time_ns and is_generated(frame))
        plugged_in.set()
        second.feed(1, start=100)
        sink.wait_for(lambda frame: frame.seq == 100 and is_generated(frame))
    assert not sink.shows(CAMERA)
    assert first.closed.is_set()
    assert second.closed.is_set()
    assert any("unplugged" in line for line in run.said)
    assert any("is back" in line for line in run.said)
    times = [frame.time_ns for frame in sink.frames if is_generated(frame)]
    assert times == sorted(set(times))


def test_a_file_that_fails_ends_the_run_with_its_error() -> None:
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink]) as run:
        source.lose()
        run.over()
    assert "unplugged" in str(run.stop_signal.error)


@pytest.mark.parametrize("lossless", [False, True])
def test_a_tracker_that_fails_sends_no_camera_pixel(lossless: bool) -> None:
    def fail(frame: Frame) -> None:
        if frame.seq >= 2:
            raise TrackerError("tracker-broken", "the tracker broke")

    source, sink = FakeSource(), FakeSink()
    with running(source, [sink], tracker=FakeTracker(during=fail), lossless=lossless) as run:
        source.feed(5)
        run.over()
    assert str(run.stop_signal.error) == "the tracker broke"
    assert sink.frames
    assert not sink.shows(CAMERA)


@pytest.mark.parametrize("lossless", [False, True])
def test_a_generator_that_fails_leaves_a_slate_behind(lossless: bool) -> None:
    calls = iter(range(100))

    def fail(_: Motion) -> None:
        if next(calls) == 6:
            raise GeneratorError("generator-broken", "the generator broke")

    source, sink = FakeSource(), FakeSink()
    with running(source, [sink], generator=FakeGenerator(during=fail), lossless=lossless) as run:
        source.feed(5)
        run.over()
        sink.closed.wait(5)
    assert str(run.stop_signal.error) == "the generator broke"
    assert not is_generated(sink.frames[-1])
    assert not sink.shows(CAMERA)


class Leak(FakeGenerator):
    """Returns the driving frame, which no generator may."""

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        return super().drive(portrait, motion, driving) if driving is None else driving[:]


def test_a_generator_that_returns_the_driving_frame_is_stopped() -> None:
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink], generator=Leak()) as run:
        source.feed(1)
        run.over()
        sink.closed.wait(5)
    assert isinstance(run.stop_signal.error, GeneratorError)
    assert not sink.shows(CAMERA)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_portrait_that_cannot_be_used_ends_the_run_before_the_first_frame(good: int, lossless: bool) -> None:
    def load() -> PortraitPicture:
        raise ValueError("bad portrait")

    source, sink, generator = FakeSource(), FakeSink(), FakeGenerator()
    source.feed(3)
    loaders = [*[portrait] * good, load]
    with running(source, [sink], generator=generator, loaders=loaders, lossless=lossless) as run:
        run.over()
        assert str(run.stop_signal.error) == "bad portrait"
        assert not run.pipeline.counts.frames
    assert not generator.driven
    assert generator.closed
    assert not sink.shows(CAMERA)


def test_a_run_stops_during_a_blocked_read() -> None:
    source, sink = FakeSource(), FakeSink()
    run = FakeRun(source, [sink])
    source.feed(1)
    sink.wait_for(is_generated)
    source.reading.clear()
    assert not run.pipeline.close(timeout=0.5), "the read is still blocked"
    assert sink.closed.is_set()
    source.end()
    assert source.closed.wait(5)


def test_a_sink_that_hangs_does_not_keep_the_run_from_ending() -> None:
    proceed = threading.Event()

    def hang(_: Frame) -> None:
        proceed.wait(10)

    hangs = FakeSink("hangs", during=hang)
    fine, source = FakeSink("fine"), FakeSource()
    run = FakeRun(source, [hangs, fine])
    source.feed(1)
    fine.wait_for(is_generated)
    source.end()
    assert not run.pipeline.close(timeout=0.5)
    assert fine.closed.is_set()
    proceed.set()
    assert hangs.closed.wait(5)


def test_a_sink_that_is_lost_comes_back() -> None:
    again = FakeSink("again")
    broken = threading.Event()

    def break_off(_: Frame) -> None:
        if broken.is_set():
            raise SinkLost("sink-gone", "the device is gone")

    first, other, source = FakeSink("first", during=break_off), FakeSink("other"), FakeSource()
    with running(source, [first, other], reopen_sink=lambda: again) as run:
        source.feed(1)
        first.wait_for(is_generated)
        broken.set()
        feed_until(lambda: again.frames, source, other)
        again.wait_for(is_generated)
    assert any("the device is gone" in line for line in run.said)
    assert first.closed.is_set()
    assert run.stop_signal.error is None


def test_a_recording_that_fails_leaves_the_others_running() -> None:
    def full(_: Frame) -> None:
        raise SinkLost("sink-full", "the disk is full")

    full_disk, fine, source = FakeSink("full", during=full), FakeSink("fine"), FakeSource()
    with running(source, [full_disk, fine]) as run:
        source.feed(1)
        fine.wait_for(is_generated)
        full_disk.closed.wait(5)
        source.feed(1, start=1)
        fine.wait_for(lambda frame: frame.seq == 1 and is_generated(frame))
        assert not run.stop_signal.over.is_set()
    assert [str(delivery.error) for delivery in run.pipeline.deliveries] == ["the disk is full", "None"]


def test_a_run_without_a_sink_left_ends() -> None:
    def full(_: Frame) -> None:
        raise SinkLost("sink-full", "the disk is full")

    source = FakeSource()
    with running(source, [FakeSink(during=full), FakeSink(during=full)]) as run:
        source.feed(1)
        run.over()
    assert str(run.stop_signal.error) == "the disk is full"
    assert sum(run.pipeline.dropped.values()) >= 2, "what each sink was lost on"


def test_frames_that_come_too_fast_are_dropped_and_counted() -> None:
    blocking = Blocking()
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink], tracker=FakeTracker(during=blocking)) as run:
        source.feed(1)
        assert blocking.busy.wait(5)
        source.feed(4, start=1)
        source.end()
        run.pipeline.capture.join(5)
        blocking.proceed.set()
        run.over()
    assert run.pipeline.dropped["capture"] == 3
    assert [frame.seq for frame in sink.frames if is_generated(frame)][-1] == 4


class SkippingSource(FakeSource):
    """Skips two frames before each that it returns."""

    skipped = 0

    def read(self) -> Frame:
        frame = super().read()
        self.skipped += 2
        return frame


def test_skipped_frames_count_as_dropped_once_the_run_has_begun() -> None:
    source, again, sink = SkippingSource(), SkippingSource(), FakeSink()
    with running(source, [sink], reopen_source=lambda: again, lossless=True) as run:
        run.sources.append(again)
        source.feed(3)
        source.lose()
        again.feed(2)
        again.end()
        run.over()
    assert run.pipeline.dropped["capture"] == 4 + 4, "at first it is what piled up before the run began"


def test_at_the_highest_pace_nothing_is_dropped_and_the_order_is_kept() -> None:
    source, tracker = FakeSource(frames=200), FakeTracker()
    sinks = [FakeSink("one"), FakeSink("two")]
    with running(source, sinks, tracker=tracker, lossless=True) as run:
        source.feed(200)
        source.end()
        run.over()
    for sink in sinks:
        assert [frame.seq for frame in sink.frames if is_generated(frame)] == list(range(200))
    assert sum(run.pipeline.dropped.values()) == 0
    assert run.pipeline.counts.frames == 200
    assert tracker.closed


def test_at_the_highest_pace_a_frame_without_a_face_is_answered_too() -> None:
    source, sink, tracker = FakeSource(), FakeSink(), FakeTracker()
    tracker.present = False
    with running(source, [sink], tracker=tracker, lossless=True) as run:
        source.feed(10)
        source.end()
        run.over()
    assert [frame.seq for frame in sink.frames if is_generated(frame)] == list(range(10))
    assert run.pipeline.counts.faces == 0


@pytest.mark.parametrize("lossless", [False, True])
def test_a_run_ends_at_its_limit_of_frames(lossless: bool) -> None:
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink], limits=Limits(frames=3), lossless=lossless, recording=True) as run:
        for seq in range(3):
            source.feed(1, start=seq)
            sink.wait_for(seq + 1)
        run.over()
        source.end()
    assert len(sink.frames) == 3
    assert run.stop_signal.reason == "done"


def command(run: FakeRun, source: FakeSource, name: str, seq: int) -> None:
    """Post a command; the next frame follows it."""
    run.pipeline.commands.post(name)
    source.feed(1, start=seq)


def feed_until(condition: Callable[[], object], source: FakeSource, sink: FakeSink, start: int = 1) -> int:
    """Feed frames one by one, each after the answer to the one before, until it is true. Return the next number."""
    numbers = itertools.count(start)

    def fed() -> bool:
        if condition():
            return True
        seq = next(numbers)
        source.feed(1, start=seq)
        sink.wait_for(lambda frame: frame.seq == seq)
        return False

    until(fed)
    return next(numbers)


def test_freeze_and_slate() -> None:
    source, sink, generator = FakeSource(), FakeSink(), FakeGenerator()
    with running(source, [sink], generator=generator) as run:
        source.feed(1)
        shown = sink.wait_for(is_generated)
        command(run, source, "set_frozen", 1)
        held = sink.wait_for(lambda frame: frame.time_ns > shown.time_ns)
        assert is_generated(held)
        driven = len(generator.driven)
        command(run, source, "set_slate", 2)
        card = sink.wait_for(lambda frame: frame.time_ns > held.time_ns)
        assert not is_generated(card)
        assert len(generator.driven) == driven
        command(run, source, "set_slate", 3)
        command(run, source, "set_frozen", 4)
        sink.wait_for(lambda frame: frame.seq == 4 and is_generated(frame))
        assert len(generator.driven) > driven
    assert not sink.shows(CAMERA)
    assert [line for line in run.said if "frozen" in line or "slate" in line] == ["frozen", "slate", "slate removed"]


def test_a_command_that_timed_out_is_not_carried_out() -> None:
    blocking = Blocking()
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink], tracker=FakeTracker(during=blocking)) as run:
        source.feed(1)
        assert blocking.busy.wait(5)
        with pytest.raises(BusyError):
            run.pipeline.commands.ask("set_frozen", timeout_s=0.01)
        assert run.pipeline.commands.post("set_mirror")
        blocking.proceed.set()
        source.feed(2, start=1)
        sink.wait_for(lambda frame: frame.seq == 2)
        assert run.pipeline.parts is not None
        assert run.pipeline.parts.observer.mirror
        assert not run.pipeline.parts.animator.frozen


def test_portraits_are_switched_when_they_are_prepared() -> None:
    proceed = threading.Event()

    class Slow(FakeGenerator):
        def prepare(
            self, name: str, image: Image, face: FaceState, matte: Mask | None = None, behind: Image | None = None
        ) -> Portrait:
            assert name == "one" or proceed.wait(5)
            return super().prepare(name, image, face, matte, behind)

    source, sink, generator = FakeSource(), FakeSink(), Slow()
    with running(source, [sink], generator=generator, loaders=[portrait, lambda: portrait("two")]) as run:
        source.feed(1)
        sink.wait_for(is_generated)
        command(run, source, "next_portrait", 1)
        sink.wait_for(lambda frame: frame.seq == 1)
        assert generator.driven[-1] == ("one", True), "the loop does not wait for a portrait"
        proceed.set()
        seq = feed_until(lambda: generator.driven[-1][0] == "two", source, sink, 2)
        command(run, source, "previous_portrait", seq)
        sink.wait_for(lambda frame: frame.seq == seq)
        assert generator.driven[-1][0] == "one"


def test_a_background_is_changed_while_frames_go_on() -> None:
    proceed = threading.Event()
    shades: list[int] = []

    class Slow(FakeGenerator):
        def prepare(
            self, name: str, image: Image, face: FaceState, matte: Mask | None = None, behind: Image | None = None
        ) -> Portrait:
            assert behind is None or proceed.wait(5)
            shades.append(-1 if behind is None else int(behind[0, 0, 1]))
            return super().prepare(f"{name} {len(shades)}", image, face, matte, behind)

    def cut_out() -> PortraitPicture:
        picture = portrait()
        return replace(picture, matte=np.full(picture.image.shape[:2], 255, np.uint8))

    source, sink, generator = FakeSource(), FakeSink(), Slow()
    with running(source, [sink], generator=generator, loaders=[cut_out]) as run:
        source.feed(1)
        sink.wait_for(is_generated)
        run.pipeline.commands.post("set_background", "#004400")
        source.feed(1, start=1)
        sink.wait_for(lambda frame: frame.seq == 1)
        assert generator.driven[-1] == ("one 1", True), "the loop does not wait for the background"
        proceed.set()
        feed_until(lambda: generator.driven[-1][0] == "one 2", source, sink, 2)
        assert shades == [-1, 0x44]


def test_a_background_that_is_not_known_is_refused() -> None:
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink]) as run:
        source.feed(1)
        sink.wait_for(is_generated)
        for value, code in (("../secret.png", "background-not-found"), ("transparent", "background-not-available")):
            assert run.pipeline.parts is not None
            with pytest.raises(UsageError) as caught:
                run.pipeline.parts.animator.set_background(value)
            assert caught.value.code == code


class LopsidedTracker(FakeTracker):
    """Tracks one face, mirrored in a frame whose bright half is on the right."""

    def __init__(self, face: FaceState) -> None:
        super().__init__()
        self.pixels: list[Image] = []
        self._face = face

    def track(self, frame: Frame) -> FaceState:
        self.pixels.append(frame.pixels)
        landmarks = self._face.landmarks
        if frame.pixels[0, 0, 0] < frame.pixels[0, -1, 0]:
            landmarks = landmarks[MIRROR] * np.array([-1, 1, 1], np.float32) + np.array([1, 0, 0], np.float32)
        return replace(self._face, seq=frame.seq, time_ns=frame.time_ns, landmarks=landmarks, code=None)


def lopsided(seq: int) -> Frame:
    """A driving frame whose left half is bright."""
    frame = driving(seq)
    frame.pixels[:, : SIZE[0] // 2, 0], frame.pixels[:, SIZE[0] // 2 :, 0] = 200, 100
    return frame


def test_mirror(driver_face: FaceState) -> None:
    """The frame is flipped, and the driver's neutral with it: the portrait's motion is mirrored."""
    motions: list[Motion] = []
    source, sink, tracker = FakeSource(), FakeSink(), LopsidedTracker(driver_face)
    with running(
        source,
        [sink],
        tracker=tracker,
        generator=FakeGenerator(during=motions.append),
        loaders=[lambda: replace(portrait(), face=at_pixels(driver_face.pixels() / 10, size=SIZE))],
        motion=lambda: MotionTransfer(model=ExactModel(shape_of(driver_face))),
    ) as run:
        source.fed.put(lopsided(1))
        sink.wait_for(is_generated)
        run.pipeline.commands.post("set_mirror")
        source.fed.put(lopsided(2))
        sink.wait_for(lambda frame: frame.seq == 2 and is_generated(frame))
    assert np.array_equal(tracker.pixels[1], tracker.pixels[0][:, ::-1])
    assert tracker.resets == 1
    assert run.said[:1] == ["mirrored"]
    before, after = (next(each for each in motions if each.face and each.face.seq == seq) for seq in (1, 2))
    flip = np.array([-1, 1, 1])
    np.testing.assert_allclose(after.neutral, before.neutral[MIRROR] * flip, atol=1e-3)
    np.testing.assert_allclose(after.expression, before.expression[MIRROR] * flip, atol=1e-2)
    # turns count from the portrait's own, which is half a degree aside and not flipped
    np.testing.assert_allclose(after.rotation, before.rotation * flip[:, None] * flip, atol=1.5e-2)


def test_gain() -> None:
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink]) as run:
        source.feed(1)
        sink.wait_for(is_generated)
        for name in ("increase_gain", "increase_gain", "decrease_gain", "calibrate"):
            run.pipeline.commands.post(name)
        source.feed(1, start=1)
        sink.wait_for(lambda frame: frame.seq == 1)
        parts = run.pipeline.compute.parts
        assert parts is not None
        assert parts.animator.motion.gain == pytest.approx(1.1)


def test_quit() -> None:
    source = FakeSource()
    with running(source, [FakeSink()]) as run:
        command(run, source, "quit", 0)
        run.over()
        source.end()
    assert run.stop_signal.reason == "quit"


# --- changing the generator


class GeneratorFactory:
    """Creates generators by name once ``go`` is set; raises ``error`` if there is one."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.made: dict[str, FakeGenerator] = {}
        self.error: Exception | None = None

    def __call__(self, name: str) -> FakeGenerator:
        assert self.go.wait(5)
        if self.error is not None:
            raise self.error
        self.made[name] = FakeGenerator()
        return self.made[name]


def test_the_generator_changes_without_a_gap() -> None:
    source, sink, first, factory = FakeSource(), FakeSink(), FakeGenerator(), GeneratorFactory()
    with running(source, [sink], generator=first, generator_named=factory, loaders=[lambda: portrait("one")]) as run:
        source.feed()
        sink.wait_for(is_generated)
        assert run.pipeline.commands.post("set_generator", "fomm")
        seen = len(sink.frames)
        source.feed(3, start=1)
        sink.wait_for(seen + 3)
        assert not first.closed  # it goes on while the other is made ready
        factory.go.set()
        feed_until(lambda: "fomm" in factory.made and factory.made["fomm"].driven and first.closed, source, sink, 10)
        assert factory.made["fomm"].portraits == ["one"]
        assert not sink.closed.is_set()
        assert not sink.shows(CAMERA)


class WithMouths(FakeGenerator):
    """Has a choice of mouths, as the mesh."""

    mouths = ("driver", "painted")
    mouth = "driver"


def change(run: FakeRun, source: FakeSource, sink: FakeSink, name: str) -> None:
    """Set the generator and feed frames until it is in use."""
    said = len(run.said)
    assert run.pipeline.commands.post("set_generator", name)
    for index in range(1000):
        source.feed(1, start=10 + index)
        sink.wait_for(len(sink.frames) + 1)
        if any("the generator is now" in text for text in run.said[said:]):
            return
    pytest.fail("the generator did not change")


def test_the_choice_of_the_mouth_outlives_the_generator() -> None:
    source, sink, first = FakeSource(), FakeSink(), WithMouths()
    made = iter((FakeGenerator(), last := WithMouths()))
    with running(source, [sink], generator=first, generator_named=lambda _: next(made)) as run:
        source.feed()
        sink.wait_for(is_generated)
        assert run.pipeline.commands.post("set_mouth", "painted")
        change(run, source, sink, "fomm")
        change(run, source, sink, "mesh")
        assert last.mouth == "painted"


def test_the_choice_to_refine_is_toggled_and_outlives_the_generator() -> None:
    source, sink, first, last = FakeSource(), FakeSink(), FakeGenerator(), FakeGenerator()
    first.refined = last.refined = True
    made = iter((FakeGenerator(), last))
    with running(source, [sink], generator=first, generator_named=lambda _: next(made)) as run:
        source.feed()
        sink.wait_for(is_generated)
        assert run.pipeline.commands.post("set_refined", None)
        change(run, source, sink, "fomm")
        assert first.refined is False
        change(run, source, sink, "mesh")
        assert last.refined is False


def test_the_portrait_stays_the_same_with_another_generator() -> None:
    source, sink, second = FakeSource(), FakeSink(), FakeGenerator()
    loaders = [lambda: portrait("one"), lambda: portrait("two")]
    with running(source, [sink], generator_named=lambda _: second, loaders=loaders) as run:
        source.feed()
        sink.wait_for(is_generated)
        assert run.pipeline.commands.post("set_portrait", 1)
        change(run, source, sink, "fomm")
        assert {name for name, _ in second.driven} == {"two"}


def test_regions_that_a_generator_lacks_are_refused_and_end_nothing() -> None:
    source, sink, factory = FakeSource(), FakeSink(), GeneratorFactory()
    with running(source, [sink], generator_named=factory) as run:
        source.feed()
        sink.wait_for(is_generated)

        def ask(name: str, value: str) -> str:
            said = len(run.said)
            assert run.pipeline.commands.post(name, value)
            for _ in range(1000):
                source.feed()
                sink.wait_for(len(sink.frames) + 1)
                if len(run.said) > said:
                    break
            return run.said[said]

        assert "expected all, expression or pose" in ask("set_region", "lips")
        assert ask("set_region", "pose") == "region pose"
        assert "expected all" in ask("set_generator", "fomm")
        assert ask("set_region", "all") == "region all"
        assert "preparing the generator fomm" in ask("set_generator", "fomm")
        assert "expected all" in ask("set_region", "pose")
        factory.go.set()


@pytest.mark.parametrize(
    ("command", "value", "undo"),
    [("set_expression", {"smile": 0.5}, {"smile": 0}), ("set_mix", {"mouth": "fixed"}, {"mouth": "added"})],
)
def test_a_generator_that_cannot_do_what_is_set_is_refused(command: str, value: Any, undo: Any) -> None:
    source, first, factory = FakeSource(), FakeGenerator(), GeneratorFactory()
    first.name = "mesh"
    factory.go.set()
    with running(source, [FakeSink()], generator=first, generator_named=factory) as run:
        parts = until(lambda: run.pipeline.parts)
        assert parts is not None
        handler = parts.command_handler
        handler.carry_out(command, value)
        with pytest.raises(CommandError) as caught:
            handler.carry_out("set_generator", "fomm")
        assert caught.value.code == "expression-not-available"
        handler.carry_out(command, undo)
        handler.carry_out("set_generator", "fomm")


def test_a_generator_that_cannot_be_created_leaves_the_old_one() -> None:
    source, sink, first, factory = FakeSource(), FakeSink(), FakeGenerator(), GeneratorFactory()
    factory.error = GeneratorError("weights-missing", "there are no weights for fomm", cure="fetch them")
    factory.go.set()
    with running(source, [sink], generator=first, generator_named=factory) as run:
        source.feed()
        sink.wait_for(is_generated)
        assert run.pipeline.commands.post("set_generator", "fomm")
        feed_until(lambda: any("no weights for fomm" in text for text in run.said), source, sink)
        assert not first.closed


def test_a_run_with_one_portrait_advises_what_its_user_can_do() -> None:
    source, sink = FakeSource(), FakeSink()
    with running(source, [sink], cures={"portrait-only-one": "give --portrait several times"}) as run:
        source.feed()
        sink.wait_for(is_generated)
        run.pipeline.commands.post("next_portrait")
        feed_until(lambda: any(text.endswith("; give --portrait several times") for text in run.said), source, sink)
        assert run.pipeline.parts is not None
        with pytest.raises(CommandError) as caught:
            run.pipeline.parts.command_handler.carry_out("next_portrait")
    assert (caught.value.code, caught.value.cure) == ("portrait-only-one", "add a picture")
