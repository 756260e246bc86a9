"""Sound that comes with live frames: where it lies in the recording, and that it has no gaps or steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from realtime.core.frames import Frame, PixelFormat
from realtime.core.sound import SAMPLE_RATE, SoundPacket
from realtime.sinks.live_sound import MAX_SLIP, LiveSound, SoundTimeline
from realtime.sinks.recording import Recording
from tests.support import clips
from tests.support.clips import i420
from tests.support.sound import NS, claps_in, opus_claps

SIZE = (96, 64)
START = 1_234 * NS + 230_000_000
PART = 960


def tone(count: int = PART, at: int = 0) -> Any:
    return np.tile(np.sin((np.arange(count) + at) * (2 * np.pi * 440 / SAMPLE_RATE)), (2, 1)).astype(np.float32)


def test_sound_that_follows_closely_is_stretched_by_what_cannot_be_heard() -> None:
    timeline = SoundTimeline()
    placed = [timeline.place(tone(at=0), 0)]
    # a clock that runs 0.3 % too fast
    for index in range(1, 500):
        placed.append(timeline.place(tone(at=index * PART), round(index * PART * 1.003)))
        assert abs(timeline.position - round((index + 1) * PART * 1.003)) < 20
    assert all(abs(each.shape[1] - PART) <= 5 for each in placed[1:])
    whole = np.concatenate(placed, axis=1)[0, 200:]
    assert np.abs(np.diff(whole)).max() < 0.07, "no step"


def test_missing_sound_is_silence_and_fades() -> None:
    timeline = SoundTimeline()
    first = timeline.place(tone(), 0)
    rest = timeline.place(tone(), 4 * PART)
    whole = np.concatenate((first, rest), axis=1)
    assert whole.shape == (2, 5 * PART)
    assert not whole[:, PART + 200 : 4 * PART].any()
    assert np.abs(np.diff(whole[0])).max() < 0.1


def test_sound_that_is_much_too_late_is_cut() -> None:
    timeline = SoundTimeline()
    timeline.place(tone(10 * PART), 0)
    assert timeline.place(tone(), 0).shape == (2, 0)
    assert timeline.position == 10 * PART
    assert timeline.place(tone(4 * PART), 10 * PART - MAX_SLIP - 1).shape[1] == 4 * PART - MAX_SLIP - 1


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_a_recording_has_each_clap_at_its_time(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    sink = Recording(path, size=SIZE, fps=30, hears=True)
    # it begins 0.4 s before the first frame
    packets = opus_claps(START - 400_000_000, seconds=5.0)
    for index in range(120):
        time_ns = START + index * NS // 30
        while packets and packets[0].time_ns < time_ns + 60_000_000:
            sink.hear(packets.pop(0))
        frame = i420(clips.grey(index, SIZE), index, time_ns)
        sink.send(frame if suffix == "mp4" else opaque(frame))
    sink.close()
    found = claps_in(path)
    assert found == pytest.approx([0.27 + 0.5 * index for index in range(8)], abs=0.003)


def opaque(frame: Frame) -> Frame:
    """Return the frame with an alpha."""
    alpha = np.full((frame.pixels.shape[0] * 2 // 3, frame.pixels.shape[1]), 255, np.uint8)
    return replace(frame, pixels=np.concatenate((frame.pixels, alpha)), format=PixelFormat.I420A)


def test_without_sound_there_is_silence_as_long_as_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sink = Recording(path, size=SIZE, fps=30, hears=True)
    for index in range(60):
        sink.send(i420(clips.grey(index, SIZE), index, START + index * NS // 30))
    sink.close()
    with av.open(str(path)) as container:
        (track,) = container.streams.audio
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(track)], axis=1)
    assert samples.shape[1] / SAMPLE_RATE == pytest.approx(2.0, abs=0.05)
    assert np.abs(samples).max() < 1e-4


def test_packets_that_are_no_opus_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    with av.open(str(path), "w") as container:
        sound = LiveSound(container, "aac")
        sound.hear(SoundPacket(b"", START))
        sound.hear(SoundPacket(b"\xff" * 700, START))
        sound.finish(START, START + NS)
    with av.open(str(path)) as container:
        assert container.streams.audio
