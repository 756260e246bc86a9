"""The measures of fidelity, on tracks with a known answer and on real faces where they are available."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.errors import ReenactError, SourceMissing, TrackerError, UsageError
from engines.types import LANDMARKS
from tools.fidelity import main
from tools.fidelity_suite.measures import SCORED, Background, compare, jitter, measure
from tools.fidelity_suite.reference_tracker import (
    CHANNELS,
    ReferenceTracker,
    Track,
    cache_dir,
    head_angles,
    track_clip,
)
from tools.fidelity_suite.sheet import MOMENTS, Sheet, moments
from tools.fidelity_suite.suite import chosen_pairs, parse_size, still_frames
from tools.support.files import read_frames

Values = NDArray[Any]

FRAMES = 60


def track(values: Values) -> Track:
    landmarks = np.zeros((len(values), LANDMARKS, 2), np.float32)
    landmarks[np.isnan(values[:, 0])] = np.nan
    return Track(values.astype(np.float32), landmarks, (64, 64))


def waves(scale: float = 10.0) -> Values:
    """Return values in which every channel moves in its own way."""
    time = np.arange(FRAMES)[:, None] / FRAMES
    return scale * np.sin(2 * np.pi * time * (1 + np.arange(len(CHANNELS))))


@given(gain=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_gain_is_the_factor_and_r_ignores_factor_and_shift(gain: float, shift: float) -> None:
    found = compare(track(waves()), track(gain * waves() + shift))
    for channel in found.channels:
        assert channel.r == pytest.approx(1, abs=1e-3)
        assert channel.gain == pytest.approx(gain, rel=1e-3)
    assert found.mean_r == pytest.approx(1, abs=1e-3)


def test_an_opposite_output_differs_from_one_that_does_not_move() -> None:
    assert compare(track(waves()), track(-waves())).mean_r == pytest.approx(-1, abs=1e-3)
    frozen = compare(track(waves()), track(np.zeros_like(waves())))
    assert math.isnan(frozen["yaw"].r)
    assert frozen["yaw"].gain == 0
    assert frozen.mean_r == 0


def test_a_channel_in_which_the_driver_is_still_is_left_out() -> None:
    values = waves()
    values[:, CHANNELS.index("smile")] *= 1e-4
    spoilt = values.copy()
    spoilt[:, CHANNELS.index("smile")] = np.random.default_rng(0).normal(size=FRAMES)
    found = compare(track(values), track(spoilt))
    assert [channel.name for channel in found.channels if channel.still] == ["smile"]
    assert found.mean_r == pytest.approx(1, abs=1e-3)


def test_frames_without_a_face_are_counted_and_left_out() -> None:
    values, lost = waves(), waves()
    lost[10:13] = np.nan
    found = compare(track(values), track(lost))
    assert (found.frames, found.driver_found, found.output_found) == (FRAMES, FRAMES, FRAMES - 3)
    assert found["yaw"].r == pytest.approx(1, abs=1e-3)


def test_videos_of_different_length_are_compared_over_what_they_share() -> None:
    found = compare(track(waves()), track(waves()[:40]))
    assert (found.frames, found.driver_frames, found.output_frames) == (40, FRAMES, 40)


def test_a_comparison_without_faces_has_null_in_json() -> None:
    values = np.full_like(waves(), np.nan)
    summary = compare(track(values), track(values)).summary()
    assert json.loads(json.dumps(summary, allow_nan=False))["mean_r"] is None


@given(yaw=st.floats(-80, 80), pitch=st.floats(-80, 80), roll=st.floats(-80, 80), scale=st.floats(0.1, 20))
def test_head_angles_undo_the_rotation(yaw: float, pitch: float, roll: float, scale: float) -> None:
    def turn(axis: list[float], degrees: float) -> Values:
        return np.asarray(cv2.Rodrigues(np.radians(degrees) * np.array(axis))[0])

    head = np.eye(4)
    head[:3, :3] = scale * turn([0, 0, 1.0], roll) @ turn([0, 1.0, 0], yaw) @ turn([1.0, 0, 0], pitch)
    assert head_angles(head) == pytest.approx((yaw, pitch, roll), abs=1e-6)


def square_face(centre: tuple[float, float], half: float) -> Values:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half + centre
    return np.resize(corners, (LANDMARKS, 2)).astype(np.float32)


def test_the_background_is_what_lies_outside_the_head_at_rest_and_now() -> None:
    rest = np.full((100, 200, 3), 90, np.uint8)
    moved = rest.copy()
    moved[30:70, 30:70] = 255
    background = Background(rest, square_face((50, 50), 12))
    background.add(moved, square_face((50, 50), 12))
    assert background.psnr == math.inf
    moved[:, 150:] = 100
    background.add(moved, square_face((50, 50), 12))
    assert 28 < background.worst < background.psnr < 40
    follows = Background(rest, square_face((50, 50), 12))
    follows.add(moved, square_face((175, 50), 50))
    assert follows.psnr == math.inf


def test_a_picture_that_is_all_head_has_no_background() -> None:
    rest = np.zeros((100, 100, 3), np.uint8)
    background = Background(rest, square_face((50, 50), 50))
    background.add(rest, square_face((50, 50), 50))
    assert math.isnan(background.psnr)


def test_jitter_is_the_deviation_in_pixels() -> None:
    values = waves()
    landmarks = np.zeros((FRAMES, LANDMARKS, 2), np.float32)
    landmarks[::2, :, 0] = 2
    assert jitter(Track(values.astype(np.float32), landmarks, (64, 64))) == pytest.approx(1)


def test_the_sheet_shows_the_extremes_of_the_driver() -> None:
    driver = track(waves())
    chosen = moments(driver)
    assert set(chosen) == set(MOMENTS)
    assert driver.channel("yaw")[chosen["turned right"]] == driver.channel("yaw").max()
    assert driver.channel("yaw")[chosen["turned left"]] == driver.channel("yaw").min()
    sheet = Sheet(chosen)
    assert sheet.image() is None
    for index in range(FRAMES):
        sheet.add(index, np.zeros((40, 80, 3), np.uint8), np.full((50, 50, 3), 200, np.uint8))
    image = sheet.image()
    assert image is not None
    assert image.shape == (1200, 1200, 3)


def test_a_driver_without_a_face_has_no_moments() -> None:
    assert moments(track(np.full_like(waves(), np.nan))) == {}


def test_still_frames_differ_by_noise_alone_and_are_the_same_every_time() -> None:
    image = np.full((20, 20, 3), 128, np.uint8)
    first, second = list(still_frames(image, 4)), list(still_frames(image, 4))
    assert np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])
    assert np.mean(first) == pytest.approx(128, abs=0.5)


@pytest.mark.parametrize("text", ["", "512", "x", "0x5", "5x0", "-5x5", "5x5x5", "a x b"])
def test_a_wrong_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert caught.value.code == "fidelity-bad-size"


def test_a_file_that_is_not_a_video_is_an_error(tmp_path: Path, own_cache: Path) -> None:
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(b"\0rubbish" * 100)
    with pytest.raises(SourceMissing) as caught:
        list(read_frames(rubbish))
    assert caught.value.code == "video-unreadable"
    with pytest.raises(SourceMissing) as caught:
        measure(tmp_path / "nothing.mp4", rubbish, tmp_path / "model")
    assert caught.value.code == "video-missing"
    assert "nothing.mp4" in caught.value.found
    assert not own_cache.exists()


def test_a_bundle_that_is_missing_or_damaged_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrackerError) as caught:
        ReferenceTracker(tmp_path / "nothing.task")
    assert caught.value.code == "tracker-model-missing"
    assert "tools.models fetch" in caught.value.cure
    rubbish = tmp_path / "rubbish.task"
    rubbish.write_bytes(b"rubbish")
    with pytest.raises(TrackerError) as caught:
        ReferenceTracker(rubbish)
    assert caught.value.code == "tracker-model-unreadable"


def test_pairs_of_the_suite_are_chosen_by_name_and_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as wrong:
        chosen_pairs(tmp_path, 12, "no such name")
    assert wrong.value.code == "fidelity-pair-unknown"
    with pytest.raises(SourceMissing) as missing:
        chosen_pairs(tmp_path, 1, "")
    assert missing.value.code == "suite-file-missing"


def shortened(clip: Path, path: Path, count: int) -> Path:
    writer = None
    for image in read_frames(clip, count):
        if writer is None:
            size = image.shape[1::-1]
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, size)
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert writer is not None
    writer.release()
    return path


def test_a_clip_agrees_with_itself_and_is_tracked_once(
    clips: Path,
    face_landmarker: Path,
    tmp_path: Path,
    own_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = shortened(clips / "lp__d12.mp4", tmp_path / "driver.mp4", 40)
    report, picture = tmp_path / "report.json", tmp_path / "sheet.png"
    words = f"{clip} {clip} --model {face_landmarker} --json {report} --sheet {picture} --plot {tmp_path}/plot.png"
    assert main([*words.split(), "--still"]) == 0
    assert "mean r over the six (*): 1.000" in capsys.readouterr().out
    figures = json.loads(report.read_text())
    assert figures["output_found"] == figures["frames"] == 40
    assert set(SCORED) <= set(figures["channels"])
    assert cv2.imread(str(picture)) is not None
    (entry,) = cache_dir().glob("*.npz")
    assert own_cache in entry.parents
    entry.write_bytes(b"not a cache")
    again = track_clip(clip, face_landmarker)
    assert len(again) == 40
    assert again.found.all()
    assert np.array_equal(track_clip(clip, face_landmarker).values, again.values)


def test_a_sheet_that_is_empty_or_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    from tools.fidelity_suite.sheet import write

    with pytest.raises(ReenactError) as caught:
        write(Sheet({}), tmp_path / "sheet.png")
    assert caught.value.code == "sheet-empty"
    sheet = Sheet({"all": 0})
    sheet.add(0, np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ReenactError) as caught:
        write(sheet, tmp_path / "no" / "sheet.png")
    assert caught.value.code == "sheet-not-writable"
