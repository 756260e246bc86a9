"""Test webcams that come and go."""

from __future__ import annotations

import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest

from engines.errors import SourceLost, SourceMissing
from realtime.capture import webcam
from tests.support.cameras import FakeCapture, plug_in

SIZE = (64, 48)
NS = 1_000_000_000


def test_a_webcam_returns_rgb_and_describes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, FakeCapture("frame", "frame"))
    source = webcam.Webcam(0)
    assert (source.size, source.fps, source.live, source.frames) == (SIZE, 25.0, True, None)
    assert source.name.endswith("64x48 YUYV at 25 fps")
    first, second = source.read(), source.read()
    assert first.pixels[0, 0].tolist() == [0, 0, 200]
    assert (first.seq, second.seq) == (0, 1)
    assert first.stamps.captured == first.time_ns < second.time_ns
    source.close()


@pytest.mark.parametrize("stamp_ms", [0.0, 1e15])
def test_a_webcam_ignores_timestamps_of_another_clock(monkeypatch: pytest.MonkeyPatch, stamp_ms: float) -> None:
    plug_in(monkeypatch, FakeCapture("frame", stamp_ms=stamp_ms))
    monkeypatch.setattr("time.monotonic_ns", lambda: 100 * NS)
    source = webcam.Webcam(0)
    assert source.read().time_ns == 100 * NS
    source.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only V4L2 stamps frames on the monotonic clock")
def test_a_webcam_uses_the_timestamps_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, FakeCapture("frame", stamp_ms=99_900.0))
    monkeypatch.setattr("time.monotonic_ns", lambda: 100 * NS)
    source = webcam.Webcam(0)
    assert source.read().time_ns == 99_900_000_000
    source.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only V4L2 stamps frames on the monotonic clock")
def test_a_webcam_skips_frames_that_waited_in_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = plug_in(monkeypatch, FakeCapture(*["frame"] * 6, stamp_ms=99_900.0))
    now = [100 * NS]
    monkeypatch.setattr("time.monotonic_ns", lambda: now[0])
    source = webcam.Webcam(0)
    now[0] += 5 * NS
    source.read()
    assert len(camera.script) == 3, "the frame from opening and two from the driver's buffers"
    assert source.skipped == 2
    source.close()


class LateCapture(FakeCapture):
    """A camera whose frames are 300 ms old when they come; waiting for one and converting it take time."""

    def __init__(self, count: int, waiting_ms: int, converting_ms: int) -> None:
        super().__init__(*["frame"] * count)
        self.now = 100 * NS
        self._times_ns = waiting_ms * NS // 1000, converting_ms * NS // 1000

    def grab(self) -> bool:
        self.now += self._times_ns[0]
        return super().grab()

    def get(self, key: int) -> float:
        return self.now / 1e6 - 300 if key == cv2.CAP_PROP_POS_MSEC else super().get(key)

    def retrieve(self) -> tuple[bool, np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None]:
        self.now += self._times_ns[1]
        return super().retrieve()


@pytest.mark.skipif(sys.platform != "linux", reason="only V4L2 stamps frames on the monotonic clock")
@pytest.mark.parametrize(("waiting_ms", "converting_ms"), [(33, 5), (0, 40)])
def test_a_webcam_whose_frames_are_always_late_keeps_its_rate(
    monkeypatch: pytest.MonkeyPatch, waiting_ms: int, converting_ms: int
) -> None:
    camera = LateCapture(11, waiting_ms, converting_ms)
    plug_in(monkeypatch, camera)
    monkeypatch.setattr("time.monotonic_ns", lambda: camera.now)
    source = webcam.Webcam(0)
    times = [source.read().time_ns for _ in range(10)]
    assert [late - early for early, late in pairwise(times)] == [(waiting_ms + converting_ms) * NS // 1000] * 9
    assert source.skipped == 0
    source.close()


def test_a_webcam_skips_broken_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, FakeCapture("broken", "frame", "broken", "broken", "frame"))
    source = webcam.Webcam(0)
    assert [source.read().seq, source.read().seq] == [0, 1]
    assert source.skipped == 3
    source.close()


def test_a_webcam_accepts_frames_in_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, FakeCapture("frame", "frame")).flat = True
    source = webcam.Webcam(0)
    assert source.read().pixels.shape == (48, 64, 3)
    source.close()


def test_a_webcam_that_stops_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = plug_in(monkeypatch, FakeCapture("frame", "gone"))
    source = webcam.Webcam(0)
    source.read()
    with pytest.raises(SourceLost) as caught:
        source.read()
    assert caught.value.code in ("camera-unplugged", "camera-stopped")
    assert caught.value.cure
    source.close()
    source.close()
    assert camera.released
    with pytest.raises(SourceLost):
        source.read()


def test_a_webcam_that_sends_no_frames_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = plug_in(monkeypatch, FakeCapture("gone"))
    with pytest.raises(SourceMissing) as caught:
        webcam.Webcam(0)
    assert caught.value.code == "camera-no-frames"
    assert camera.released
