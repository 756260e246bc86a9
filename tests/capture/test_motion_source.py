"""A recorded motion as a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.errors import SourceEnded, SourceMissing
from engines.face.coefficients import NAMES
from realtime.capture.motion_source import MotionSource, parse_motion
from realtime.capture.source import open_source
from realtime.motion.motion_file import MotionRecorder
from realtime.motion.tracked import tracked_face

COUNT, FPS = 60, 30


@pytest.fixture
def take(tmp_path: Path) -> Path:
    """A motion of two seconds, in which ``jawOpen`` says which frame it is."""
    path = tmp_path / "take.csv"
    recorder = MotionRecorder(path)
    for number in range(COUNT):
        coefficients = np.zeros(len(NAMES), np.float32)
        coefficients[NAMES.index("jawOpen")] = number / 100
        recorder.add(tracked_face(coefficients, np.zeros(3, np.float32), number, round(number / FPS * 1e9)))
    recorder.close()
    return path


def number(source: MotionSource) -> int:
    face = source.read().face
    assert face is not None
    assert face.expression is not None
    return round(float(face.expression[NAMES.index("jawOpen")]) * 100)


class Clock:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


def test_it_is_played_once_and_whole_as_fast_as_it_is_read(take: Path) -> None:
    source = open_source(f"motion:{take}", size=None, fps=None, pace="max")
    assert isinstance(source, MotionSource)
    assert not source.live
    frames = [source.read() for _ in range(COUNT)]
    assert [frame.seq for frame in frames] == list(range(COUNT))
    assert all(frame.tracked for frame in frames)
    with pytest.raises(SourceEnded):
        source.read()


def test_live_it_keeps_its_own_rate_and_begins_anew(take: Path) -> None:
    clock = Clock()
    source = MotionSource(take, now_ns=clock, sleep=clock.sleep)
    seen, times = [], []
    for _ in range(COUNT + 5):
        seen.append(number(source))
        times.append(clock.now)
    assert seen == [*range(COUNT), *range(5)]
    np.testing.assert_allclose(np.diff(times), 1e9 / FPS, rtol=0.02)


def test_frames_whose_time_has_passed_are_left_out(take: Path) -> None:
    clock = Clock()
    source = MotionSource(take, now_ns=clock, sleep=clock.sleep)
    assert number(source) == 0
    clock.sleep(10.5 / FPS)
    assert number(source) == 10
    assert source.skipped == 9
    clock.sleep(2.0)
    last = number(source)
    assert last in (10, 11)
    assert source.skipped == 9 + COUNT + last - 11


def test_a_gap_in_the_recording_is_a_face_that_is_lost_for_that_long(tmp_path: Path) -> None:
    recorder = MotionRecorder(tmp_path / "take.csv")
    times = [start + number / FPS for start in (0, 30) for number in range(FPS)]
    for second in times:
        face = tracked_face(np.zeros(len(NAMES), np.float32), np.zeros(3, np.float32), 0, round(second * 1e9))
        recorder.add(face)
    recorder.close()
    clock = Clock()
    source = MotionSource(tmp_path / "take.csv", now_ns=clock, sleep=clock.sleep)
    start, frames, waits = clock.now, [], []
    while clock.now < start + 30.99e9:
        before = clock.now
        frames.append(source.read())
        waits.append((clock.now - before) / 1e9)
    assert max(waits) <= 1
    faces = [(frame.time_ns - start) / 1e9 for frame in frames if frame.face is not None]
    np.testing.assert_allclose(faces, times, atol=0.02)
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert source.skipped == 0


def test_it_begins_at_any_second(take: Path) -> None:
    path, start = parse_motion(f"motion:{take}@1.0")
    assert number(MotionSource(path, start, paced=False)) == FPS
    assert parse_motion("motion:a@b.csv") == (Path("a@b.csv"), 0.0)
    with pytest.raises(SourceMissing) as caught:
        MotionSource(take, 60.0)
    assert caught.value.code == "motion-bad-start"
