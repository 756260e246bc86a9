"""The performer: a script whose values come back when a tracker looks, and a source that keeps a camera's time."""

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

NS = 1_000_000_000
SIZE = (512, 512)
FRAMES, SECONDS = 300, 40.0

moments = st.floats(0, 3600)


def values(act: Act) -> NDArray[np.float64]:
    """All numbers of an act in a row."""
    return np.concatenate([np.ravel(part) for part in astuple(act)])


# --- the script


@given(moments)
def test_what_it_does_depends_on_the_time_alone(moment: float) -> None:
    act = script(moment)
    script(moment + 1.234)
    assert script(moment) == act


@given(moments)
def test_it_does_nothing_that_a_face_cannot_do(moment: float) -> None:
    act = script(moment)
    for amount in (act.jaw, act.smile, act.pucker, act.blink, act.brows):
        assert 0 <= amount <= 1
    assert np.abs(act.gaze).max() <= 0.2
    assert np.abs(act.turn).max() <= np.radians(20)


@given(st.floats(-10, 1.5))
def test_it_begins_with_a_calm_face(moment: float) -> None:
    """From which whoever is driven by it takes the neutral."""
    np.testing.assert_array_equal(values(script(moment)), 0)


@given(moments)
def test_it_moves_without_jumps(moment: float) -> None:
    assert np.abs(values(script(moment + 1e-4)) - values(script(moment))).max() < 0.02


def test_it_does_everything_within_half_a_minute() -> None:
    acts = [script(moment) for moment in np.arange(0, 30, 1 / 30)]
    for name in ("jaw", "smile", "blink", "brows"):
        amounts = [getattr(act, name) for act in acts]
        assert max(amounts) > 0.6, name
        assert min(amounts) < 0.05, name
    assert max(act.pucker for act in acts) > 0.2
    assert np.ptp([act.gaze for act in acts], axis=0).min() > 0.05
    assert (np.degrees(np.ptp([act.turn for act in acts], axis=0)) > (8, 25, 5)).all()


def test_it_blinks_as_people_do() -> None:
    shut = [script(moment).blink > 0.5 for moment in np.arange(0, 60, 0.01)]
    blinks = sum(after and not before for before, after in pairwise(shut))
    assert 12 <= blinks <= 30
    assert 0.005 < np.mean(shut) < 0.08


# --- its pictures


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


def look(tracker: Tracker, performer: Performer, act: Act) -> Points:
    """The landmarks of an act that is seen out of the blue, in pixels."""
    tracker.reset()
    face = tracker.track(frame(performer.picture(act)))
    assert face is not None
    return face.pixels()


def test_a_picture_is_the_callers_own_and_repeats(performer: Performer) -> None:
    act = script(7.3)
    first = performer.picture(act)
    assert first.shape == (512, 512, 3)
    assert first.dtype == np.uint8
    kept = first.copy()
    other = performer.picture(script(9.1))
    np.testing.assert_array_equal(first, kept)
    assert (other != first).any()
    np.testing.assert_array_equal(performer.picture(act), first)


def test_turns_go_where_they_say(performer: Performer, tracker: Tracker) -> None:
    """The first lowers the nose, the second turns it to the left in the picture, the third tilts clockwise."""
    rest = look(tracker, performer, Act())

    def nose(pixels: Points) -> NDArray[np.float32]:
        return np.asarray((pixels[4] - pixels[[33, 263]].mean(axis=0))[:2], np.float32)

    for sign in (-1, 1):
        nod, shake, tilt = (
            look(tracker, performer, Act(turn=(a * sign, b * sign, c * sign)))
            for a, b, c in ((0.2, 0, 0), (0, 0.25, 0), (0, 0, 0.15))
        )
        assert sign * (nose(nod) - nose(rest))[1] > 2
        assert sign * (nose(shake) - nose(rest))[0] < -4
        right_eye, left_eye = tilt[33], tilt[263]
        assert sign * (left_eye - right_eye)[1] > 8


class Session(NamedTuple):
    """Acts, and what the tracker saw of them."""

    acts: list[Act]
    faces: list[FaceState | None]

    def seen(self) -> tuple[list[Act], Points, NDArray[np.float32]]:
        """Acts with a face; their shapes (N, 478, 3) and turns (N, 3) against the first."""
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
    """Forty seconds of the script; this is what takes long here."""
    tracker.reset()
    moments = np.arange(FRAMES) * SECONDS / FRAMES
    acts = [script(moment) for moment in moments.tolist()]
    faces = [
        tracker.track(frame(performer.picture(act), seq, moment))
        for seq, (act, moment) in enumerate(zip(acts, moments.tolist(), strict=True))
    ]
    return Session(acts, faces)


def correlation(known: list[float], seen: NDArray[np.float32]) -> float:
    return float(np.corrcoef(known, seen)[0, 1])


def test_the_face_is_found_in_its_pictures(session: Session) -> None:
    assert sum(face is not None for face in session.faces) >= 0.99 * FRAMES


def test_known_values_come_back(session: Session) -> None:
    acts, shapes, turns = session.seen()
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


# --- the source


class Clock:
    """Time that passes only when somebody sleeps or says so."""

    def __init__(self) -> None:
        self.now = 5 * NS
        self.slept: list[float] = []

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += round(seconds * NS)


@pytest.fixture(scope="module")
def sources(request: pytest.FixtureRequest) -> Iterator[tuple[PerformerSource, PerformerSource, Clock]]:
    """A paced and an unpaced one."""
    request.getfixturevalue("performer")  # skips where there are no models
    clock = Clock()
    paced = PerformerSource((160, 120), 25, now_ns=clock, sleep=clock.sleep)
    unpaced = PerformerSource((160, 120), 25, paced=False, now_ns=clock, sleep=clock.sleep)
    yield paced, unpaced, clock
    for source in (paced, unpaced):
        source.close()
        source.close()


def test_a_source_says_what_it_is(sources: tuple[PerformerSource, PerformerSource, Clock]) -> None:
    paced, unpaced, _ = sources
    assert paced.live
    assert not unpaced.live
    for source in (paced, unpaced):
        assert source.size == (160, 120)
        assert source.fps == 25
        assert source.frames is None
        assert "performer" in source.name
        assert "160x120" in source.name


def test_a_paced_source_keeps_a_cameras_time_and_skips_what_nobody_read(
    sources: tuple[PerformerSource, PerformerSource, Clock],
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

    # nobody reads for a second
    clock.now += NS
    late = source.read()
    assert late.seq == 30
    assert late.time_ns == clock.now
    slept = len(clock.slept)
    following = source.read()
    assert following.seq == 31
    assert len(clock.slept) == slept + 1
    assert following.time_ns - start == 31 * NS // 25


def test_an_unpaced_source_leaves_nothing_out_and_waits_for_nobody(
    sources: tuple[PerformerSource, PerformerSource, Clock],
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


def test_frames_show_the_script(sources: tuple[PerformerSource, PerformerSource, Clock]) -> None:
    """Also after frames were left out: frame i shows the script at i / fps."""
    paced, _, clock = sources
    known = Performer((160, 120))
    for pause in (0, NS, NS // 7):
        clock.now += pause
        shown = paced.read()
        np.testing.assert_array_equal(shown.pixels, known.picture(script(shown.seq / 25)))
    known.close()
