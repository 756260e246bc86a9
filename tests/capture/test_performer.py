"""Test the performer: its clip, that a tracker measures in it what its truth says, and its source."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import TrackerError
from engines.face.coefficients import NAMES
from engines.face.head import own_pose, pose_against, rotation_vector
from engines.face.topology import BROWS, CHIN, INNER_LOWER_LIP, INNER_UPPER_LIP, MOUTH_CORNERS
from engines.types import FaceState, Image, Points
from realtime.capture.performer import FPS, FRAMES, PERFORMER, Performer, PerformerSource, Truth, read_truth
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.tracking.tracker import Tracker, open_tracker
from tests.support.faces import eye_gaps, shape_of
from tests.support.fakes import FakeClock

NS = 1_000_000_000
SIZE = (640, 480)


# The truth


@pytest.fixture(scope="module")
def truth() -> Truth:
    return read_truth()


def values(truth: Truth) -> NDArray[np.float32]:
    """Return all numbers of the truth, (FRAMES, 55)."""
    return np.concatenate([truth.coefficients, truth.turns], axis=1)


def test_there_is_truth_for_every_frame(truth: Truth) -> None:
    assert truth.names == NAMES
    assert truth.coefficients.shape == (FRAMES, 52)
    assert truth.turns.shape == (FRAMES, 3)
    assert truth.coefficients.min() >= 0
    assert truth.coefficients.max() <= 1
    assert np.abs(truth.turns).max() <= np.radians(20)


def test_the_performer_begins_calm_and_looks_ahead(truth: Truth) -> None:
    still = slice(0, FPS // 2)
    assert truth.coefficients[still].max() < 0.2
    np.testing.assert_array_equal(truth.turns[still], 0)


def test_the_loop_has_no_seam(truth: Truth) -> None:
    """From the last frame to the first one it moves no further than elsewhere."""
    numbers = values(truth)
    steps = np.abs(np.diff(np.concatenate([numbers, numbers[:1]]), axis=0)).max(axis=1)
    assert steps[-1] <= np.median(steps)
    assert steps.max() < 0.35, "a blink takes three frames to close"


def test_the_clip_contains_every_movement(truth: Truth) -> None:
    for name in ("jawOpen", "mouthSmile", "eyeBlink", "browInnerUp", "mouthPucker", "mouthFunnel"):
        assert truth.of(name).max() > 0.3, name
        assert truth.of(name).min() < 0.2, name
    assert (np.degrees(np.ptp(truth.turns, axis=0)) > (8, 25, 8)).all()


def test_the_performer_blinks_at_a_human_rate(truth: Truth) -> None:
    shut = (truth.of("eyeBlink") > 0.5).tolist()
    blinks = sum(after and not before for before, after in pairwise(shut))
    assert 12 <= blinks * 60 * FPS / FRAMES <= 30
    assert 0.005 < np.mean(shut) < 0.1


# The pictures


def test_the_clip_is_small() -> None:
    assert PERFORMER.stat().st_size < 3 << 20


@pytest.fixture(scope="module")
def performer() -> Iterator[Performer]:
    opened = Performer(SIZE)
    yield opened
    opened.close()
    opened.close()


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    try:
        opened = open_tracker(None)
    except TrackerError as error:
        pytest.skip(f"{error}: {error.cure}")
    yield opened
    opened.close()


def frame(pixels: Image, seq: int = 0, seconds: float = 0.0) -> Frame:
    return Frame(pixels, PixelFormat.RGB, seq, Stamps(0), round(seconds * NS))


def test_a_picture_is_a_new_array_and_reproducible(performer: Performer) -> None:
    """Also after frames were left out, and after the clip went back to its start."""
    first = performer.picture(7.3)
    assert first.shape == (480, 640, 3)
    assert first.dtype == np.uint8
    kept = first.copy()
    other = performer.picture(9.1)
    np.testing.assert_array_equal(first, kept)
    assert (other != first).any()
    np.testing.assert_array_equal(performer.picture(7.3), first)
    np.testing.assert_array_equal(performer.picture(7.3 + 2 * FRAMES / FPS), first)
    performer.picture(7.0)
    performer.picture(7.2)
    np.testing.assert_array_equal(performer.picture(7.3), first)


@pytest.mark.parametrize("size", [(512, 512), (1280, 720), (720, 1280), (320, 240), (161, 121)])
def test_a_picture_has_any_size_and_is_not_distorted(size: tuple[int, int]) -> None:
    """The face keeps its place: the picture is cut from the middle of the clip."""
    scaled = Performer(size)
    picture = scaled.picture(0.0)
    scaled.close()
    width, height = size
    assert picture.shape == (height, width, 3)
    backdrop, skin = (
        picture[height // 20, width // 20].astype(int),
        picture[round(height * 0.5), width // 2].astype(int),
    )
    assert backdrop[0] < backdrop[2], "the wall is bluish"
    assert skin[0] > skin[2] + 20, "the face is not"


def test_the_last_picture_leads_to_the_first(performer: Performer) -> None:
    pictures = [performer.picture(number / FPS).astype(np.float32) for number in (-2, -1, 0, 1)]
    steps = [float(np.abs(after - before).mean()) for before, after in pairwise(pictures)]
    assert steps[1] < 1.5


class Session(NamedTuple):
    """The faces that the tracker found in every frame of the clip."""

    faces: list[FaceState | None]

    def measured(self) -> tuple[Points, NDArray[np.float32]]:
        """Return the shapes (FRAMES, 478, 3), and the turns (FRAMES, 3) relative to the first frame."""
        found = [face for face in self.faces if face is not None]
        neutral, rest = shape_of(found[0]), own_pose(found[0].pixels()).rotation
        poses = [pose_against(face.pixels(), neutral) for face in found]
        shapes = [pose.unproject(face.pixels()) for pose, face in zip(poses, found, strict=True)]
        return np.array(shapes), np.array([rotation_vector(pose.rotation @ rest.T) for pose in poses])


@pytest.fixture(scope="module")
def session(performer: Performer, tracker: Tracker) -> Session:
    """Track the whole clip, which takes most of the time of this module."""
    tracker.reset()
    moments = [number / FPS for number in range(FRAMES)]
    return Session([tracker.track(frame(performer.picture(at), seq, at)) for seq, at in enumerate(moments)])


def correlation(known: NDArray[np.float32], measured: NDArray[np.float32]) -> float:
    return float(np.corrcoef(known, measured)[0, 1])


def test_the_face_is_found_in_every_frame(session: Session) -> None:
    assert sum(face is not None for face in session.faces) == FRAMES


def test_the_tracker_measures_the_truth(session: Session, truth: Truth) -> None:
    shapes, turns = session.measured()
    gap = (shapes[:, INNER_LOWER_LIP[3:6], 1] - shapes[:, INNER_UPPER_LIP[3:6], 1]).mean(axis=1)
    assert correlation(truth.of("jawOpen"), gap) > 0.85
    assert correlation(truth.of("jawOpen"), shapes[:, CHIN, 1].mean(axis=1)) > 0.85
    openness = np.array([eye_gaps(shape).mean() for shape in shapes])
    assert correlation(truth.of("eyeBlink"), openness) < -0.85
    spread = shapes[:, MOUTH_CORNERS[1], 0] - shapes[:, MOUTH_CORNERS[0], 0]
    assert correlation(truth.of("mouthSmile") - truth.of("mouthPucker"), spread) > 0.8
    assert correlation(truth.of("browInnerUp"), -shapes[:, BROWS, 1].mean(axis=1)) > 0.7
    for axis, least in enumerate((0.85, 0.98, 0.95)):
        known = truth.turns[:, axis]
        assert correlation(known, turns[:, axis]) > least
        assert 0.6 < turns[:, axis].std() / np.std(known) < 1.3


# The source


@pytest.fixture(scope="module")
def sources() -> Iterator[tuple[PerformerSource, PerformerSource, FakeClock]]:
    """Provide a paced and an unpaced source, and their clock."""
    clock = FakeClock()
    paced = PerformerSource((160, 120), 25, now_ns=clock, sleep=clock.sleep)
    unpaced = PerformerSource((160, 120), 25, paced=False, now_ns=clock, sleep=clock.sleep)
    yield paced, unpaced, clock
    for source in (paced, unpaced):
        source.close()
        source.close()


def test_a_source_describes_itself(sources: tuple[PerformerSource, PerformerSource, FakeClock]) -> None:
    paced, unpaced, _ = sources
    assert paced.live
    assert not unpaced.live
    for source in (paced, unpaced):
        assert source.size == (160, 120)
        assert source.fps == 25
        assert source.frames is None
        assert "performer" in source.name
        assert "160x120" in source.name


def test_a_paced_source_keeps_the_time_of_a_camera_and_leaves_out_frames_that_are_late(
    sources: tuple[PerformerSource, PerformerSource, FakeClock],
) -> None:
    source, _, clock = sources
    start = clock.now
    frames = [source.read() for _ in range(5)]
    assert [frame.seq for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time_ns - start for frame in frames] == [index * NS // 25 for index in range(5)]
    assert all(frame.stamps.captured == frame.time_ns for frame in frames)
    assert frames[0].format is PixelFormat.RGB
    assert frames[0].pixels.shape == (120, 160, 3)

    # a reader that comes in the middle of a frame gets the rest of its time
    clock.now = start + 5 * NS // 25 - NS // 100
    assert source.read().seq == 5
    assert clock.now == start + 5 * NS // 25

    # a reader that was away for a second
    clock.now += NS
    late = source.read()
    assert late.seq == 30
    assert late.time_ns == clock.now
    slept = len(clock.slept)
    following = source.read()
    assert following.seq == 31
    assert len(clock.slept) == slept + 1
    assert following.time_ns - start == 31 * NS // 25


def test_an_unpaced_source_returns_every_frame_without_waiting(
    sources: tuple[PerformerSource, PerformerSource, FakeClock],
) -> None:
    _, source, clock = sources
    slept = len(clock.slept)
    frames = []
    for _ in range(30):
        frames.append(source.read())
        clock.now += NS // 3
    assert len(clock.slept) == slept
    assert [frame.seq for frame in frames] == list(range(30))
    assert [frame.time_ns for frame in frames] == [index * NS // 25 for index in range(30)]


def test_frame_i_shows_the_clip_at_i_through_fps(sources: tuple[PerformerSource, PerformerSource, FakeClock]) -> None:
    """Check it after frames were left out, too."""
    paced, _, clock = sources
    known = Performer((160, 120))
    for pause in (0, NS, NS // 7):
        clock.now += pause
        shown = paced.read()
        np.testing.assert_array_equal(shown.pixels, known.picture(shown.seq / 25))
    known.close()
