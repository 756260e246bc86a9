"""Test the performer: its script, that a tracker measures the script's values in its pictures, and its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.errors import TrackerError
from engines.face.head import own_pose, pose_against, rotation_vector
from engines.face.topology import BROWS, CHIN, EYE_CORNERS, INNER_LOWER_LIP, INNER_UPPER_LIP, MOUTH_CORNERS
from engines.types import FaceState, Image, Points
from realtime.capture.performer import Act, Performer, PerformerSource, script
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.tracking.tracker import Tracker, open_tracker
from tests.support.faces import eye_gaps, shape_of
from tests.support.fakes import FakeClock

NS = 1_000_000_000
SIZE = (512, 512)
FRAMES, SECONDS = 300, 40.0

moments = st.floats(0, 3600)


def values(act: Act) -> NDArray[np.float64]:
    """Return all numbers of an act in one array."""
    return np.concatenate([np.ravel(part) for part in astuple(act)])


# The script


@given(moments)
def test_an_act_depends_on_the_time_only(moment: float) -> None:
    act = script(moment)
    script(moment + 1.234)
    assert script(moment) == act


@given(moments)
def test_every_act_is_within_the_range_of_a_face(moment: float) -> None:
    act = script(moment)
    for amount in (act.jaw, act.smile, act.pucker, act.blink, act.brows):
        assert 0 <= amount <= 1
    assert np.abs(act.gaze).max() <= 0.2
    assert np.abs(act.turn).max() <= np.radians(20)


@given(st.floats(-10, 1.5))
def test_the_script_begins_with_a_neutral_face(moment: float) -> None:
    np.testing.assert_array_equal(values(script(moment)), 0)


@given(moments)
def test_the_script_moves_without_jumps(moment: float) -> None:
    assert np.abs(values(script(moment + 1e-4)) - values(script(moment))).max() < 0.02


def test_the_script_contains_every_movement_within_half_a_minute() -> None:
    acts = [script(moment) for moment in np.arange(0, 30, 1 / 30)]
    for name in ("jaw", "smile", "blink", "brows"):
        amounts = [getattr(act, name) for act in acts]
        assert max(amounts) > 0.6, name
        assert min(amounts) < 0.05, name
    assert max(act.pucker for act in acts) > 0.2
    assert np.ptp([act.gaze for act in acts], axis=0).min() > 0.05
    assert (np.degrees(np.ptp([act.turn for act in acts], axis=0)) > (8, 25, 5)).all()


def test_the_performer_blinks_at_a_human_rate() -> None:
    shut = [script(moment).blink > 0.5 for moment in np.arange(0, 60, 0.01)]
    blinks = sum(after and not before for before, after in pairwise(shut))
    assert 12 <= blinks <= 30
    assert 0.005 < np.mean(shut) < 0.08


# The pictures


@pytest.fixture(scope="module")
def performer() -> Iterator[Performer]:
    try:
        opened = Performer(SIZE)
    except TrackerError as error:
        pytest.skip(f"{error}: {error.cure}")
    yield opened
    opened.close()
    opened.close()


@pytest.fixture(scope="module")
def tracker() -> Iterator[Tracker]:
    opened = open_tracker(None)
    yield opened
    opened.close()


def frame(pixels: Image, seq: int = 0, seconds: float = 0.0) -> Frame:
    return Frame(pixels, PixelFormat.RGB, seq, Stamps(0), round(seconds * NS))


def track_alone(tracker: Tracker, performer: Performer, act: Act) -> Points:
    """Return the landmarks of an act in pixels, (478, 3), without any earlier frames."""
    tracker.reset()
    face = tracker.track(frame(performer.picture(act)))
    assert face is not None
    return face.pixels()


def test_a_picture_is_a_new_array_and_reproducible(performer: Performer) -> None:
    act = script(7.3)
    first = performer.picture(act)
    assert first.shape == (512, 512, 3)
    assert first.dtype == np.uint8
    kept = first.copy()
    other = performer.picture(script(9.1))
    np.testing.assert_array_equal(first, kept)
    assert (other != first).any()
    np.testing.assert_array_equal(performer.picture(act), first)


def test_turns_have_the_documented_directions(performer: Performer, tracker: Tracker) -> None:
    """Component 0 lowers the nose, 1 turns it to the left in the picture, 2 tilts the head clockwise."""
    rest = track_alone(tracker, performer, Act())

    def nose(pixels: Points) -> NDArray[np.float32]:
        return np.asarray((pixels[4] - pixels[[33, 263]].mean(axis=0))[:2], np.float32)

    for sign in (-1, 1):
        nod, shake, tilt = (
            track_alone(tracker, performer, Act(turn=(a * sign, b * sign, c * sign)))
            for a, b, c in ((0.2, 0, 0), (0, 0.25, 0), (0, 0, 0.15))
        )
        assert sign * (nose(nod) - nose(rest))[1] > 2
        assert sign * (nose(shake) - nose(rest))[0] < -4
        right_eye, left_eye = tilt[33], tilt[263]
        assert sign * (left_eye - right_eye)[1] > 8


class Session(NamedTuple):
    """Acts, and the faces that the tracker found in their pictures."""

    acts: list[Act]
    faces: list[FaceState | None]

    def measured(self) -> tuple[list[Act], Points, NDArray[np.float32]]:
        """Return the acts with a face, their shapes (N, 478, 3), and their turns (N, 3) relative to the first."""
        first = self.faces[0]
        assert first is not None
        neutral, rest = shape_of(first), own_pose(first.pixels()).rotation
        acts, shapes, turns = [], [], []
        for act, face in zip(self.acts, self.faces, strict=True):
            if face is not None:
                pose = pose_against(face.pixels(), neutral)
                acts.append(act)
                shapes.append(pose.unproject(face.pixels()))
                turns.append(rotation_vector(pose.rotation @ rest.T))
        return acts, np.array(shapes), np.array(turns)


@pytest.fixture(scope="module")
def session(performer: Performer, tracker: Tracker) -> Session:
    """Track forty seconds of the script, which takes most of the time of this module."""
    tracker.reset()
    moments = np.arange(FRAMES) * SECONDS / FRAMES
    acts = [script(moment) for moment in moments.tolist()]
    faces = [
        tracker.track(frame(performer.picture(act), seq, moment))
        for seq, (act, moment) in enumerate(zip(acts, moments.tolist(), strict=True))
    ]
    return Session(acts, faces)


def correlation(known: list[float], measured: NDArray[np.float32]) -> float:
    return float(np.corrcoef(known, measured)[0, 1])


def test_the_face_is_found_in_the_pictures(session: Session) -> None:
    assert sum(face is not None for face in session.faces) >= 0.99 * FRAMES


def test_the_values_of_the_script_are_measured(session: Session) -> None:
    acts, shapes, turns = session.measured()
    gap = (shapes[:, INNER_LOWER_LIP[3:6], 1] - shapes[:, INNER_UPPER_LIP[3:6], 1]).mean(axis=1)
    assert correlation([act.jaw for act in acts], gap) > 0.88
    assert correlation([act.jaw for act in acts], shapes[:, CHIN, 1].mean(axis=1)) > 0.9
    openness = np.array([eye_gaps(shape).mean() for shape in shapes])
    assert correlation([act.blink for act in acts], openness) < -0.9
    assert correlation([act.smile for act in acts], -shapes[:, MOUTH_CORNERS, 1].mean(axis=1)) > 0.7
    assert correlation([act.brows for act in acts], -shapes[:, BROWS, 1].mean(axis=1)) > 0.7
    pupils = shapes[:, [468, 473], 0] - np.stack([shapes[:, ends, 0].mean(axis=1) for ends in EYE_CORNERS], axis=1)
    assert correlation([act.gaze[0] for act in acts], pupils.mean(axis=1)) > 0.7
    for axis, least in enumerate((0.8, 0.97, 0.95)):
        known = [act.turn[axis] for act in acts]
        assert correlation(known, turns[:, axis]) > least
        assert 0.6 < turns[:, axis].std() / np.std(known) < 1.3


# The source


@pytest.fixture(scope="module")
def sources(request: pytest.FixtureRequest) -> Iterator[tuple[PerformerSource, PerformerSource, FakeClock]]:
    """Provide a paced and an unpaced source, and their clock."""
    request.getfixturevalue("performer")  # skips where there are no models
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


def test_frame_i_shows_the_script_at_i_through_fps(sources: tuple[PerformerSource, PerformerSource, FakeClock]) -> None:
    """Check it after frames were left out, too."""
    paced, _, clock = sources
    known = Performer((160, 120))
    for pause in (0, NS, NS // 7):
        clock.now += pause
        shown = paced.read()
        np.testing.assert_array_equal(shown.pixels, known.picture(script(shown.seq / 25)))
    known.close()
