"""Decoded frames: their format and their time on our clock."""

from __future__ import annotations

import numpy as np
import pytest

from realtime.webrtc.settings import MAX_PIXELS
from realtime.webrtc.video.decoded_frames import SenderClock, planes_of


def test_the_times_of_frames_do_not_jitter_with_their_packets() -> None:
    clock, rng = SenderClock(), np.random.default_rng(0)
    times = [
        clock.to_monotonic(number * 3000, 10**9 + number * 33_333_333 + int(rng.exponential(8e6)))
        for number in range(300)
    ]
    steps = np.diff(times[30:]) / 1e6
    assert abs(steps - 33.33).max() < 2
    assert (np.diff(times) > 0).all()


def test_a_sender_that_restarts_its_clock_is_followed() -> None:
    clock = SenderClock()
    clock.to_monotonic(90_000 * 100, 10**9)
    after = clock.to_monotonic(0, 2 * 10**9)
    assert abs(after - 2 * 10**9) < 1e6


@pytest.mark.parametrize("size", [(320, 240), (321, 241), (16, 16), (2560, 1440), (1080, 1920)])
@pytest.mark.parametrize("kind", ["yuv420p", "yuvj420p", "yuv444p"])
def test_any_decoded_frame_becomes_i420_of_even_size(size: tuple[int, int], kind: str) -> None:
    from av import VideoFrame

    frame = VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 90, np.uint8), "rgb24").reformat(format=kind)
    planes = planes_of(frame)
    assert planes is not None
    (height, width), (rows, columns) = planes[0].shape, planes[1].shape
    assert (rows, columns) == (height / 2, width / 2)
    assert width * height <= MAX_PIXELS
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)
    assert abs(int(planes[0][height // 2, width // 2]) - 94) < 3


def test_a_frame_that_is_too_small_is_dropped() -> None:
    from av import VideoFrame

    assert planes_of(VideoFrame(8, 8, "yuv420p")) is None
