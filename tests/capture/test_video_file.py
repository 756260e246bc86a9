"""Test video files of every kind."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import SourceEnded, SourceMissing
from realtime.capture.source import Source
from realtime.capture.video_file import VideoFile, fit_into
from realtime.core.frames import Frame, PixelFormat
from tests.support import clips
from tests.support.fakes import FakeClock

SIZE = (64, 48)
NS = 1_000_000_000


def play(path: Path, pace: Literal["live", "max"] = "max") -> list[Frame]:
    """Return every frame of a file, without waiting."""
    clock = FakeClock()
    source = VideoFile(path, pace=pace, now_ns=clock, sleep=clock.sleep)
    frames = list(remaining(source))
    source.close()
    return frames


def remaining(source: Source) -> Iterator[Frame]:
    while True:
        try:
            yield source.read()
        except SourceEnded:
            return


def open_file(path: Path) -> VideoFile:
    return VideoFile(path, pace="max")


def error_of(path: Path) -> SourceMissing:
    """Return the error that opening a file raises."""
    with pytest.raises(SourceMissing) as caught:
        open_file(path)
    return caught.value


# Frames of files


def test_pace_max_returns_every_frame_in_order(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "a.mp4", (clips.grey(i, SIZE) for i in range(25)), rate=25)
    source = open_file(path)
    assert (source.size, source.fps, source.live, source.frames) == (SIZE, 25.0, False, 25)
    assert source.name == "a.mp4, 64x48 h264 at 25 fps"
    frames = list(remaining(source))
    source.close()
    assert [clips.level(frame.pixels) for frame in frames] == [i % 4 for i in range(25)]
    assert [frame.seq for frame in frames] == list(range(25))
    assert [frame.time_ns for frame in frames] == pytest.approx([i * NS / 25 for i in range(25)], abs=1e6)
    assert frames[0].pixels.shape == (48, 64, 3)
    assert frames[0].pixels.dtype == np.uint8
    assert frames[0].pixels.flags.c_contiguous
    assert frames[0].format is PixelFormat.RGB
    assert source.notes == ()


def test_frames_own_their_pixels(tmp_path: Path) -> None:
    first, second, *_ = play(clips.write_video(tmp_path / "a.mp4", (clips.grey(i, SIZE) for i in range(4))))
    before = second.pixels.copy()
    first.pixels[:] = 0
    assert np.array_equal(second.pixels, before)


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
def test_rotated_files_are_read_upright(tmp_path: Path, rotation: int) -> None:
    turned = np.ascontiguousarray(np.rot90(clips.quarters((80, 48)), -rotation // 90))
    path = clips.write_video(tmp_path / "phone.mp4", [turned] * 3, rotation=rotation)
    source = open_file(path)
    assert source.size == (80, 48)
    assert clips.corners(source.read().pixels) == "rgbw"
    source.close()


@pytest.mark.parametrize(
    ("mirror", "rotation", "seen"),
    [("across", 0, "grwb"), ("down", 0, "bwrg"), ("across", 90, "wgbr"), ("down", 90, "rbgw")],
)
def test_mirrored_files_are_mirrored(tmp_path: Path, mirror: str, rotation: int, seen: str) -> None:
    pictures = [clips.quarters((80, 48))] * 3
    path = clips.write_video(tmp_path / "selfie.mp4", pictures, rotation=rotation, mirror=mirror)
    source = open_file(path)
    assert source.size == ((48, 80) if rotation else (80, 48))
    assert clips.corners(source.read().pixels) == seen
    source.close()


def test_frames_have_square_pixels(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "dv.mp4", [clips.quarters(SIZE)] * 3, pixel_aspect=Fraction(3, 2))
    source = open_file(path)
    assert source.size == (96, 48)
    source.close()


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("odd.mkv", "ffv1", "yuv420p"),
        ("alpha.mov", "png", "rgba"),
        ("ten.mkv", "ffv1", "yuv420p10le"),
        ("grey.mkv", "ffv1", "gray"),
        ("motion.avi", "mjpeg", "yuvj420p"),
    ],
)
def test_odd_sizes_and_formats_are_read(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    size = (63, 47)
    path = clips.write_video(tmp_path / name, (clips.grey(i, size) for i in range(5)), codec=codec, pix_fmt=pix_fmt)
    frames = play(path)
    assert [frame.pixels.shape for frame in frames] == [(47, 63, 3)] * 5
    assert [clips.level(frame.pixels) for frame in frames] == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(("size", "matrix"), [((64, 48), "ITU601"), ((1280, 720), "ITU709")])
def test_the_default_colour_matrix_depends_on_the_size(tmp_path: Path, size: tuple[int, int], matrix: str) -> None:
    frames = play(clips.write_video(tmp_path / "a.mp4", [clips.quarters(size)] * 2, matrix=matrix))
    assert np.abs(frames[0].pixels[5, 5].astype(int) - (220, 20, 20)).max() < 12


def test_the_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.010, 0.050, 0.3, 0.31, 0.9]
    path = clips.write_video(tmp_path / "vfr.mkv", (clips.grey(i, SIZE) for i in range(6)), times=times)
    assert [frame.time_ns / NS for frame in play(path)] == pytest.approx(times, abs=1e-3)


def test_times_start_at_zero(tmp_path: Path) -> None:
    times = [7.0, 7.1, 7.2]
    path = clips.write_video(tmp_path / "late.mkv", (clips.grey(i, SIZE) for i in range(3)), times=times)
    assert [frame.time_ns / NS for frame in play(path)] == pytest.approx([0, 0.1, 0.2], abs=1e-3)


def test_joined_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    part = clips.write_video(tmp_path / "part.ts", (clips.grey(i, SIZE) for i in range(40)), rate=25)
    path = tmp_path / "joined.ts"
    path.write_bytes(3 * part.read_bytes())
    times = [frame.time_ns / NS for frame in play(path)]
    assert times == pytest.approx([i / 25 for i in range(120)], abs=1e-3)


def test_a_jump_in_the_timestamps_is_removed(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 90000.0, 90000.04, 90000.08]
    path = clips.write_video(tmp_path / "leap.mkv", (clips.grey(i, SIZE) for i in range(6)), times=times, rate=25)
    source = open_file(path)
    assert [frame.time_ns / NS for frame in remaining(source)] == pytest.approx([i / 25 for i in range(6)], abs=1e-3)
    assert source.notes == ()
    source.close()


def test_a_long_pause_is_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 60.0, 60.04, 600.0]
    path = clips.write_video(tmp_path / "slides.mkv", (clips.grey(i, SIZE) for i in range(5)), times=times)
    assert [frame.time_ns / NS for frame in play(path)] == pytest.approx(times, abs=1e-3)


def test_a_file_that_lacks_frames_of_its_rate_is_not_called_truncated(tmp_path: Path) -> None:
    times = [i / 30 for i in range(60) if i % 4]
    pictures = (clips.grey(i, SIZE) for i in range(len(times)))
    source = open_file(clips.write_video(tmp_path / "dropping.mkv", pictures, times=times, rate=30))
    assert len(list(remaining(source))) == len(times)
    assert source.notes == ()
    assert source.frames == pytest.approx(len(times), abs=1)
    source.close()


def test_the_steps_of_a_clock_are_not_taken_for_a_frame_rate(tmp_path: Path) -> None:
    path = clips.write_video(
        tmp_path / "ms.mkv", (clips.grey(i, SIZE) for i in range(5)), times=[0, 1, 2, 3, 4], rate=1000
    )
    source = open_file(path)
    assert source.fps == 30
    source.close()


def test_frames_of_another_size_are_fitted_into_the_first_size(tmp_path: Path) -> None:
    parts = [
        clips.write_video(tmp_path / f"{width}.ts", (clips.grey(i, (width, 48)) for i in range(8)))
        for width in (64, 32)
    ]
    path = tmp_path / "changing.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = play(path)
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}
    assert len(frames) >= 14
    edge = frames[-1].pixels[:, :12]
    assert edge.max() == 0, "a narrower frame has black beside it"
    assert all(late.time_ns > early.time_ns for early, late in pairwise(frames))


@given(st.integers(1, 200), st.integers(1, 200), st.tuples(st.integers(1, 200), st.integers(1, 200)))
def test_fitting_never_distorts_by_more_than_a_pixel(width: int, height: int, size: tuple[int, int]) -> None:
    fitted = fit_into(np.full((height, width, 3), 200, np.uint8), size)
    assert fitted.shape == (size[1], size[0], 3)
    inside = fitted[..., 0] > 0
    wide, high = int(inside.any(axis=0).sum()), int(inside.any(axis=1).sum())
    scale = min(size[0] / width, size[1] / height)
    assert abs(wide - max(1, width * scale)) <= 1
    assert abs(high - max(1, height * scale)) <= 1


# The pace of files


def test_pace_live_waits_for_each_frame(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "a.mp4", (clips.grey(i, SIZE) for i in range(6)), rate=10)
    clock = FakeClock()
    source = VideoFile(path, pace="live", now_ns=clock, sleep=clock.sleep)
    assert source.live
    begun = clock.now
    for index, frame in enumerate(remaining(source)):
        assert frame.time_ns == pytest.approx(index * NS / 10, abs=1e6)
        assert frame.stamps.captured == begun + frame.time_ns
        assert clock.now >= frame.stamps.captured
    source.close()


def test_pace_live_returns_the_newest_frame_that_is_due(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "a.mp4", (clips.grey(i, SIZE) for i in range(20)), rate=10)
    clock = FakeClock()
    source = VideoFile(path, pace="live", now_ns=clock, sleep=clock.sleep)
    assert source.read().time_ns == 0
    clock.sleep(0.95)
    late = source.read()
    assert late.time_ns == pytest.approx(0.9 * NS, abs=1e6)
    assert clips.level(late.pixels) == 9 % 4
    assert late.seq == 1
    assert source.read().time_ns == pytest.approx(1.0 * NS, abs=1e6)
    clock.sleep(60)
    assert source.read().time_ns == pytest.approx(1.9 * NS, abs=1e6)
    with pytest.raises(SourceEnded):
        source.read()
    source.close()


def test_pace_live_repeats_a_frame_that_is_shown_long(tmp_path: Path) -> None:
    times = [0.0, 0.1, 3.0]
    path = clips.write_video(tmp_path / "slow.mkv", (clips.grey(i, SIZE) for i in range(3)), times=times)
    clock = FakeClock()
    source = VideoFile(path, pace="live", now_ns=clock, sleep=clock.sleep)
    shown, before = [], clock.now
    for frame in remaining(source):
        assert clock.now - before <= 0.2 * NS, "the tracker loses a face that it seldom sees"
        before = clock.now
        shown.append((clips.level(frame.pixels), frame.time_ns))
    source.close()
    assert [level for level, _ in shown][:2] == [0, 1]
    assert shown[-1][0] == 2
    assert len(shown) > 5
    assert all(late[1] > early[1] for early, late in pairwise(shown))


# Damaged files, and paths that are not videos


def test_a_truncated_file_is_read_up_to_its_end(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(60))
    whole = clips.write_video(tmp_path / "whole.mp4", noise, movflags="faststart")
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = open_file(path)
    frames = list(remaining(source))
    assert 10 < len(frames) < 60
    with pytest.raises(SourceEnded):
        source.read()
    assert len(source.notes) == 1
    assert "truncated" in source.notes[0] or "damaged" in source.notes[0]
    source.close()


def test_damaged_frames_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noise = (rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(60))
    path = clips.write_video(tmp_path / "hit.mkv", noise, codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = bytes(6000)
    path.write_bytes(data)
    assert len(play(path)) > 40


def test_damage_that_the_decoder_conceals_is_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noise = (rng.integers(0, 255, (96, 128, 3), dtype=np.uint8) for _ in range(60))
    path = clips.write_video(tmp_path / "hit.mkv", noise, codec="mpeg4")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 50] = bytes(50)
    path.write_bytes(data)
    source = open_file(path)
    assert len(list(remaining(source))) == 60
    assert len(source.notes) == 1
    assert "hit.mkv is damaged: 1 frames" in source.notes[0]
    source.close()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "video-empty"),
        (b"rubbish " * 500, "video-unreadable"),
        (bytes(range(256)) * 64, "video-unreadable"),
    ],
)
def test_a_file_that_is_not_a_video_is_an_error(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    error = error_of(path)
    assert error.code == code
    assert str(path) in error.found
    assert error.cure


@pytest.mark.parametrize("sound_first", [False, True])
def test_there_are_no_notes_on_a_complete_file_with_sound(tmp_path: Path, sound_first: bool) -> None:
    path = clips.write_with_sound(tmp_path / "a.mkv", seconds=1, beep_at=0.5, sound_first=sound_first)
    source = open_file(path)
    assert len(list(remaining(source))) == 30
    assert source.notes == ()
    source.close()


def test_a_truncated_file_with_sound_is_noted(tmp_path: Path) -> None:
    whole = clips.write_with_sound(tmp_path / "whole.mkv", seconds=20, beep_at=1.0)
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = open_file(path)
    list(remaining(source))
    assert len(source.notes) == 1
    assert "truncated" in source.notes[0] or "damaged" in source.notes[0]
    source.close()


def test_a_text_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("what there is to do\n" * 400)
    assert error_of(path).code == "video-is-text"


@pytest.mark.parametrize("name", ["face.png", "face.jpg", "face.bmp"])
def test_a_still_picture_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert cv2.imwrite(str(path), clips.quarters(SIZE))
    error = error_of(path)
    assert error.code == "video-is-image"
    assert "--portrait" in error.cure


def test_a_video_of_one_frame_is_noted(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "one.gif", [clips.grey(0, SIZE)], codec="gif", pix_fmt="rgb8")
    source = open_file(path)
    assert len(list(remaining(source))) == 1
    assert "single frame" in source.notes[0]
    source.close()


def test_a_file_without_its_index_is_an_error(tmp_path: Path) -> None:
    whole = clips.write_video(tmp_path / "whole.mp4", (clips.grey(i, SIZE) for i in range(30)))
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[:-200])
    assert error_of(path).code == "video-unreadable"


def test_a_file_with_audio_only_is_an_error(tmp_path: Path) -> None:
    assert error_of(clips.write_tone(tmp_path / "song.m4a")).code == "video-no-video-stream"


def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    whole = clips.write_video(tmp_path / "whole.mp4", [clips.grey(0, SIZE)], movflags="faststart")
    data = whole.read_bytes()
    path = tmp_path / "none.mp4"
    path.write_bytes(data[: data.index(b"mdat") + 4])
    assert error_of(path).code == "video-no-frames"


def test_a_path_that_is_not_a_file_is_an_error(tmp_path: Path) -> None:
    assert error_of(tmp_path / "nothing.mp4").code == "video-missing"
    assert error_of(tmp_path).code == "video-is-folder"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in the file system")
def test_a_pipe_is_an_error_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert error_of(tmp_path / "pipe").code == "video-not-a-file"


def test_close_is_idempotent_and_reading_afterwards_raises(tmp_path: Path) -> None:
    source = open_file(clips.write_video(tmp_path / "a.mp4", (clips.grey(i, SIZE) for i in range(3))))
    source.close()
    source.close()
    with pytest.raises(SourceEnded):
        source.read()


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files through /proc")
def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    good = clips.write_video(tmp_path / "a.mp4", (clips.grey(i, SIZE) for i in range(3)))
    bad = clips.write_tone(tmp_path / "song.m4a")
    open_file(good).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        open_file(good).close()
        with pytest.raises(SourceMissing):
            open_file(bad)
    assert len(os.listdir("/proc/self/fd")) <= before
