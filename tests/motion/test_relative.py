"""The neutral, smoothing, and what becomes of a face that is lost: scripted drivers, known to the point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.face.head import rotation_matrix, rotation_vector, turn_angles
from engines.face.perspective import seen_turn
from engines.face.topology import MIRROR
from engines.types import FaceState, Motion, Points
from realtime.motion.neutral import Neutral, RestPose
from realtime.motion.neutral_estimator import CALIBRATION_NS, corner_drop, eye_openings, mouth_opening
from realtime.motion.relative import HOLD_NS, REST_NS, RETURN_NS, MotionTransfer
from realtime.motion.settings import NeutralMode
from tests.support.faces import FRAME_NS, SIZE, at_pixels, doing, lids, lips, seen, shape_of, turned

START_NS = 5_000_000_000
NOISE = 0.003
"""What landmarks of a still face move by, in head units."""


@pytest.fixture(scope="module")
def calm(driver_face: FaceState) -> Points:
    """The driver's face at rest."""
    return shape_of(driver_face)


@dataclass
class Driver:
    """Acts at a time in seconds: what the face does, how the head is turned (degrees), where it is."""

    calm: Points
    face: Callable[[float], dict[str, Any]] = lambda _: {}
    turn: Callable[[float], tuple[float, float, float]] = lambda _: (0, 0, 0)
    place: Callable[[float], tuple[float, float, float]] = lambda _: (320, 210, 70)
    present: Callable[[float], bool] = lambda _: True
    noise: float = 0.0

    def at(self, seconds: float) -> FaceState | None:
        if not self.present(seconds):
            return None
        shape = doing(self.calm, **self.face(seconds))
        shake = np.random.default_rng(round((seconds + 10) * 1000)).normal(0, self.noise, shape.shape)
        x, y, scale = self.place(seconds)
        pose = turned(np.radians(self.turn(seconds)), (x, y), scale)
        return seen(shape + shake.astype(np.float32), pose, time_ns=START_NS + round(seconds * 1e9))

    def drive(self, transfer: MotionTransfer, times: Iterable[float]) -> list[Motion]:
        return [transfer.update(self.at(seconds), START_NS + round(seconds * 1e9)) for seconds in times]


def seconds(start: float, end: float, fps: float = 30) -> NDArray[np.float64]:
    return np.arange(round((end - start) * fps)) / fps + start


def change(motion: Motion) -> Points:
    """What the expression is, the neutral taken out."""
    return np.asarray(motion.expression - motion.neutral, np.float32)


def turn(motion: Motion) -> NDArray[np.float32]:
    """Degrees about the axes."""
    return np.asarray(np.degrees(rotation_vector(motion.rotation)), np.float32)


def assert_at_rest(motion: Motion, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(motion.rotation, np.eye(3), atol=atol)
    np.testing.assert_allclose(motion.translation, 0, atol=atol)
    assert motion.scale == pytest.approx(1, abs=atol)
    np.testing.assert_allclose(motion.expression, motion.neutral, atol=10 * atol)


def ramp(at: float, over: float) -> Callable[[float], float]:
    """1 before a time, 0 after, smooth between."""

    def value(now: float) -> float:
        share = min(max((now - at) / over, 0), 1)
        return 1 - share * share * (3 - 2 * share)

    return value


# --- the neutral


def test_before_any_face_there_is_rest() -> None:
    transfer = MotionTransfer()
    for time_ns in (0, START_NS, START_NS + FRAME_NS):
        motion = transfer.update(None, time_ns)
        assert_at_rest(motion)
        assert motion.face is None


@pytest.mark.parametrize("start_ns", [0, START_NS])
def test_the_first_face_is_the_neutral_in_mode_first(calm: Points, start_ns: int) -> None:
    """Whatever it does, and where its head is turned to. The time of a file's first frame is 0."""
    face = seen(doing(calm, jaw=0.2, smile=0.1), turned((0.1, 0.3, -0.1), (200, 180), 50), time_ns=start_ns)
    motion = MotionTransfer("first").update(face, start_ns)
    assert_at_rest(motion, atol=2e-4)
    assert motion.face is face


def test_in_mode_first_the_neutral_stays(calm: Points) -> None:
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 * ramp(1, 0.3)(now)}, noise=NOISE)
    motions = driver.drive(MotionTransfer("first"), seconds(0, 5))
    np.testing.assert_array_equal(motions[-1].neutral, motions[0].neutral)
    assert lips(motions[-1].neutral) > 0.2


@pytest.mark.parametrize(
    "start",
    [
        {"jaw": 0.35},
        {"jaw": 0.3, "shut": 0.7},
        {"jaw": 0.2, "smile": 0.1, "brows": 0.1},
    ],
    ids="+".join,
)
def test_a_bad_start_is_mended_by_itself(calm: Points, start: dict[str, float]) -> None:
    """A driver who begins in the middle of a word and later listens."""
    fading = ramp(0.8, 0.4)
    driver = Driver(
        calm,
        face=lambda now: {name: amount * fading(now) for name, amount in start.items()},
        turn=lambda now: (0, 12 * fading(now), 0),
        noise=NOISE,
    )
    motions = driver.drive(MotionTransfer("auto"), seconds(0, 4.5))
    assert np.abs(motions[0].neutral - calm).max() > 0.05
    neutral = motions[-1].neutral
    assert np.abs(neutral - calm).max() < 8 * NOISE
    assert lips(neutral) < 0.02
    np.testing.assert_allclose(lids(neutral), lids(calm), rtol=0.1)
    assert np.abs(turn(motions[-1])).max() < 3


def test_a_good_neutral_survives_talk_and_blinks(calm: Points) -> None:
    driver = Driver(
        calm,
        face=lambda now: {
            "jaw": 0.2 * abs(np.sin(9 * now)) * (now > 1),
            "smile": 0.1 * (now % 5 > 3.5),
            "shut": 0.7 * (now % 2 < 0.15) * (now > 1),
        },
        turn=lambda now: (4 * np.sin(now), 12 * np.sin(0.7 * now) * (now > 1), 0),
        noise=NOISE,
    )
    motions = driver.drive(MotionTransfer("auto"), seconds(0, 15))
    assert max(np.abs(motion.neutral - calm).max() for motion in motions) < 0.05


def test_a_neutral_that_is_mended_makes_no_jump(calm: Points) -> None:
    fading = ramp(1, 0.5)
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * fading(now), "smile": 0.1 * fading(now)},
        turn=lambda now: (0, 14 * fading(now), 0),
        place=lambda now: (320 + 60 * fading(now), 210, 70 - 8 * fading(now)),
        noise=NOISE,
    )
    motions = driver.drive(MotionTransfer("auto"), seconds(0, 5))
    assert np.abs(motions[0].neutral - motions[-1].neutral).max() > 0.1
    for before, after in pairwise(motions):
        assert np.abs(after.neutral - before.neutral).max() < 0.05
        assert np.abs(change(after) - change(before)).max() < 0.06
        assert np.abs(turn(after) - turn(before)).max() < 2.5
        assert np.abs(after.translation - before.translation).max() < 0.15
        assert abs(after.scale - before.scale) < 0.03


def test_a_better_neutral_does_not_turn_a_head_that_is_held_still(calm: Points) -> None:
    """The face at rest is mended in a moment; the pose that motion counts from follows too slowly to be seen."""
    fading = ramp(2, 0.5)
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * fading(now)},
        turn=lambda now: (6 * fading(now), 0, 7 * fading(now)),
        noise=NOISE,
    )
    motions = driver.drive(MotionTransfer("auto"), seconds(0, 8))
    assert lips(motions[-1].neutral) < 0.02
    after = np.array([turn(motion) for motion in motions[90:]])
    assert np.ptp(after, axis=0).max() < 1.5
    assert np.abs(after[-1] - after[0]).max() < 1


def test_the_pose_at_rest_does_follow_in_the_end(calm: Points) -> None:
    """A crooked start is not held against the driver for ever."""
    fading = ramp(1, 0.5)
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 * fading(now)}, turn=lambda now: (0, 0, 7 * fading(now)))
    transfer = MotionTransfer("auto")
    early = np.abs(turn(driver.drive(transfer, seconds(0, 4))[-1])).max()
    late = np.abs(turn(driver.drive(transfer, seconds(4, 120, fps=5))[-1])).max()
    assert early > 2
    assert late < 0.5


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_pose_at_rest_that_has_arrived_is_left_alone(
    calm: Points, calibrated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs nothing any more, as long as no better one comes."""
    moves: list[RestPose] = []
    real = RestPose.towards

    def counted(self: RestPose, other: RestPose, weights: NDArray[np.float32]) -> RestPose:
        moves.append(other)
        return real(self, other, weights)

    monkeypatch.setattr(RestPose, "towards", counted)
    fading = ramp(1, 0.5)
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 * fading(now)}, turn=lambda now: (0, 0, 7 * fading(now)))
    transfer = MotionTransfer("auto")
    driver.drive(transfer, seconds(0, 4))
    if calibrated:
        transfer.calibrate()
    driver.drive(transfer, seconds(4, 120, fps=5))
    assert moves
    moves.clear()
    driver.drive(transfer, seconds(120, 122))
    assert moves == []


def test_a_driver_who_pulls_faces_for_long_keeps_a_calm_neutral(calm: Points) -> None:
    """Eyes torn open and brows up for seconds on end are no reason to call the calm face half asleep."""
    driver = Driver(
        calm,
        face=lambda now: {"shut": -0.5 * (now > 1), "brows": 0.1 * (now > 1), "jaw": 0.1 * (now > 1)},
        noise=NOISE,
    )
    motions = driver.drive(MotionTransfer("auto"), seconds(0, 6))
    assert max(np.abs(motion.neutral - calm).max() for motion in motions) < 0.05


def test_a_head_that_starts_turned_away_is_not_taken_for_straight(calm: Points) -> None:
    """In mode auto turns count from the camera's axis when the first face is turned from it."""
    driver = Driver(calm, turn=lambda _: (0, 25, 0))
    motion = driver.drive(MotionTransfer("auto"), [0.0])[0]
    assert turn(motion)[1] == pytest.approx(25, abs=3)


def test_calibration_takes_half_a_second_of_faces(calm: Points) -> None:
    """And is their mean: a blink in it counts for little, noise for less."""
    transfer = MotionTransfer("auto")
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.05, "shut": 0.6 if 2.2 < now < 2.27 else 0.0},
        turn=lambda _: (5, 10, 0),
        noise=NOISE,
    )
    driver.drive(transfer, seconds(0, 2))
    assert not transfer.calibrating
    transfer.calibrate()
    took = 0
    for now in seconds(2, 4):
        driver.drive(transfer, [now])
        if not transfer.calibrating:
            break
        took += 1
    assert took * FRAME_NS == pytest.approx(CALIBRATION_NS, abs=1.5 * FRAME_NS)
    motions = driver.drive(transfer, seconds(3, 6))
    expected = doing(calm, jaw=0.05)
    assert np.abs(motions[-1].neutral - expected).max() < 0.05
    assert np.abs(motions[-1].neutral - expected).mean() < NOISE
    assert np.abs(turn(motions[-1])).max() < 1


@pytest.mark.parametrize("mode", ["auto", "first"])
def test_what_was_calibrated_is_not_improved_upon(calm: Points, mode: NeutralMode) -> None:
    """A person who calibrates with a smile wants that."""
    transfer = MotionTransfer(mode)
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * ramp(2, 0.5)(now)}, noise=NOISE)
    driver.drive(transfer, seconds(0, 0.5))
    transfer.calibrate()
    driver.drive(transfer, seconds(0.5, 1.9))
    motions = driver.drive(transfer, seconds(1.9, 8))
    assert corner_drop(motions[-1].neutral) < corner_drop(calm) - 0.06


def test_calibration_waits_for_a_face(calm: Points) -> None:
    transfer = MotionTransfer()
    transfer.calibrate()
    driver = Driver(calm, present=lambda now: now >= 3, noise=NOISE)
    driver.drive(transfer, seconds(0, 3))
    assert transfer.calibrating
    motions = driver.drive(transfer, seconds(3, 5))
    assert not transfer.calibrating
    assert np.abs(motions[-1].neutral - calm).max() < 6 * NOISE


def test_calibration_begins_anew_with_a_face_that_comes_back(calm: Points) -> None:
    """Three frames of before and one of the way back to the chair are no neutral."""
    transfer = MotionTransfer()
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now < 3)}, present=lambda now: not 2.1 <= now < 12)
    driver.drive(transfer, seconds(0, 2))
    transfer.calibrate()
    driver.drive(transfer, seconds(2, 12.4))
    assert transfer.calibrating
    motions = driver.drive(transfer, seconds(12.4, 15))
    assert not transfer.calibrating
    assert np.abs(motions[-1].neutral - calm).max() < 0.01


@pytest.mark.parametrize("pause", [0.6, 10.0])
def test_calibration_begins_anew_after_a_pause_without_pictures(calm: Points, pause: float) -> None:
    transfer = MotionTransfer()
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now < 2.2)})
    driver.drive(transfer, seconds(0, 2))
    transfer.calibrate()
    driver.drive(transfer, seconds(2, 2.1))
    driver.drive(transfer, 2.1 + pause + seconds(0, 0.4))
    assert transfer.calibrating
    motions = driver.drive(transfer, 2.1 + pause + seconds(0.4, 3))
    assert not transfer.calibrating
    assert np.abs(motions[-1].neutral - calm).max() < 0.01


def test_calibration_ends_where_the_clock_goes_back(calm: Points) -> None:
    """A file that begins again, or a camera with a clock of its own in the place of another."""
    transfer = MotionTransfer()
    driver = Driver(calm)
    driver.drive(transfer, seconds(100, 101))
    transfer.calibrate()
    driver.drive(transfer, seconds(101, 101.2))
    driver.drive(transfer, seconds(0, 0.4))
    assert transfer.calibrating
    driver.drive(transfer, seconds(0.4, 0.6))
    assert not transfer.calibrating


def test_calibration_ends_at_a_frame_a_second(calm: Points) -> None:
    transfer = MotionTransfer()
    driver = Driver(calm)
    driver.drive(transfer, seconds(0, 3, fps=1))
    transfer.calibrate()
    driver.drive(transfer, seconds(3, 5, fps=1))
    assert not transfer.calibrating


# --- relative motion


@given(
    st.tuples(*[st.floats(-25, 25)] * 3),
    st.tuples(st.floats(200, 440), st.floats(150, 300), st.floats(40, 110)),
    st.tuples(*[st.floats(-15, 15)] * 3),
    st.floats(30, 150),
)
def test_motion_is_that_against_the_neutral(
    calm: Points,
    wanted: tuple[float, float, float],
    place: tuple[float, float, float],
    first: tuple[float, float, float],
    scale: float,
) -> None:
    """Wherever the driver sits, and however the camera is turned: what counts is the difference."""
    transfer = MotionTransfer("first")
    expression = doing(calm, jaw=0.2, smile=0.05)
    begin = turned(np.radians(first), (320, 210), scale)
    start = seen(calm, begin, time_ns=START_NS)
    transfer.update(start, START_NS)
    then = START_NS + 600_000_000  # after such a gap nothing is smoothed
    extra = rotation_matrix(np.radians(wanted).astype(np.float32))
    now = replace(turned((0, 0, 0), place[:2], place[2]), rotation=extra @ begin.rotation)
    face = seen(expression, now, time_ns=then)
    motion = transfer.update(face, then)
    turned_by = seen_turn(face.pixels(), face.size) - seen_turn(start.pixels(), start.size)
    np.testing.assert_allclose(turn_angles(motion.rotation), turned_by, atol=1e-4)
    np.testing.assert_allclose(
        motion.translation, (np.array(place[:2]) - (320, 210)) / scale, atol=0.05 * (1 + 70 / scale)
    )
    assert motion.scale == pytest.approx(place[2] / scale, rel=0.02)
    np.testing.assert_allclose(change(motion), expression - calm, atol=0.02)


def drive_once(transfer: MotionTransfer, calm: Points) -> Motion:
    """A talking, turned, shifted driver, after a neutral."""
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.2 * (now > 0)},
        turn=lambda now: (0, 15.0 * (now > 0), 5.0 * (now > 0)),
        place=lambda now: (320 + 30 * (now > 0), 210, 70 + 7 * (now > 0)),
    )
    return driver.drive(transfer, [0, 0.6])[-1]


def test_a_region_leaves_the_other_alone(calm: Points) -> None:
    everything = drive_once(MotionTransfer("first"), calm)
    pose = drive_once(MotionTransfer("first", "pose"), calm)
    expression = drive_once(MotionTransfer("first", "expression"), calm)
    np.testing.assert_allclose(change(pose), 0, atol=1e-6)
    np.testing.assert_allclose(pose.rotation, everything.rotation, atol=1e-6)
    np.testing.assert_array_equal(pose.translation, everything.translation)
    assert pose.scale == everything.scale
    np.testing.assert_allclose(expression.rotation, np.eye(3), atol=1e-6)
    np.testing.assert_array_equal(expression.translation, 0)
    assert expression.scale == 1
    np.testing.assert_array_equal(expression.expression, everything.expression)


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.5])
def test_gain_is_of_the_expression(calm: Points, gain: float) -> None:
    plain = drive_once(MotionTransfer("first"), calm)
    scaled = drive_once(MotionTransfer("first", gain=gain), calm)
    np.testing.assert_allclose(change(scaled), gain * change(plain), atol=1e-5)
    np.testing.assert_allclose(scaled.rotation, plain.rotation, atol=1e-6)
    np.testing.assert_allclose(scaled.translation, plain.translation, atol=1e-6)


def test_gain_and_region_may_change_on_the_way(calm: Points) -> None:
    transfer = MotionTransfer("first")
    before = drive_once(transfer, calm)
    transfer.gain, transfer.region = 2.0, "expression"
    held = transfer.update(None, START_NS + 650_000_000)
    np.testing.assert_allclose(change(held), 2 * change(before), atol=1e-5)
    np.testing.assert_allclose(held.rotation, np.eye(3), atol=1e-6)


# --- a face that is lost


def size_of(motion: Motion) -> float:
    """How far from rest."""
    return float(np.abs(change(motion)).max() + np.abs(turn(motion)).max() / 20 + np.abs(motion.translation).max())


@pytest.fixture
def lost(calm: Points) -> list[tuple[float, Motion]]:
    """A driver away from neutral who is gone from 2 s until 4 s: seconds and motions."""
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * (1 - ramp(0.5, 0.5)(now))},
        turn=lambda now: (0, 15 * (1 - ramp(0.5, 0.5)(now)), 0),
        place=lambda now: (320 + 30 * (1 - ramp(0.5, 0.5)(now)), 210, 70),
        present=lambda now: not 2 <= now < 4,
        noise=NOISE,
    )
    times = seconds(0, 6)
    return list(zip(times.tolist(), driver.drive(MotionTransfer("first"), times), strict=True))


def test_a_lost_face_is_held_for_a_moment(lost: list[tuple[float, Motion]]) -> None:
    last = next(motion for now, motion in reversed(lost) if now < 2)
    held = [motion for now, motion in lost if 2 <= now < 2 + HOLD_NS / 1e9 - 0.05]
    assert len(held) >= 3
    for motion in held:
        np.testing.assert_array_equal(motion.expression, last.expression)
        np.testing.assert_array_equal(motion.rotation, last.rotation)
        assert motion.face is None
        assert motion.presence == 1


def test_then_it_eases_to_rest_within_a_second(lost: list[tuple[float, Motion]]) -> None:
    assert (HOLD_NS + REST_NS) / 1e9 < 1
    gone = [(now, size_of(motion)) for now, motion in lost if 2 <= now < 4]
    sizes = [size for _, size in gone]
    assert (np.diff(sizes) <= 1e-6).all()
    assert np.abs(np.diff(sizes)).max() < 0.12 * sizes[0]
    for now, motion in lost:
        if 3 <= now < 4:
            assert_at_rest(motion)
            assert motion.face is None
            assert motion.presence == 0


def test_presence_tells_how_much_of_the_motion_is_left(lost: list[tuple[float, Motion]]) -> None:
    whole = next(motion for now, motion in reversed(lost) if now < 2)
    for now, motion in lost:
        if 2 <= now < 4:
            np.testing.assert_allclose(change(motion), motion.presence * change(whole), atol=1e-5)
            np.testing.assert_allclose(turn(motion), motion.presence * turn(whole), atol=1e-3)


def test_a_face_found_again_is_eased_in(lost: list[tuple[float, Motion]]) -> None:
    full = size_of(lost[-1][1])
    back = [(now, size_of(motion)) for now, motion in lost if now >= 4]
    sizes = [0.0, *(size for _, size in back)]
    assert np.abs(np.diff(sizes)).max() < 0.35 * full
    for now, size in back:
        if now > 4 + RETURN_NS / 1e9 + 0.05:
            assert size == pytest.approx(full, rel=0.15)
    for now, motion in lost:
        assert (motion.face is None) == (2 <= now < 4)


def test_a_short_loss_is_hardly_seen(calm: Points) -> None:
    """Trackers lose a face for a frame or two at every quick turn."""
    always = Driver(calm, turn=lambda now: (0, 12 * np.sin(2 * now), 0))
    gaps = replace(always, present=lambda now: now % 1 < 0.9)
    times = seconds(0, 4)
    pairs = zip(always.drive(MotionTransfer("first"), times), gaps.drive(MotionTransfer("first"), times), strict=True)
    assert max(np.abs(turn(one) - turn(other)).max() for one, other in pairs) < 4


def test_a_face_that_flickers_never_makes_a_jump(calm: Points) -> None:
    rng = np.random.default_rng(2)
    shown = {round(now * 30): bool(rng.random() < 0.4) for now in seconds(0, 10)}
    driver = Driver(
        calm,
        face=lambda _: {"jaw": 0.3},
        turn=lambda _: (0, 12, 0),
        present=lambda now: now < 0.2 or (int(now) % 3 != 2 and shown[round(now * 30)]),
    )
    transfer = MotionTransfer("first")
    Driver(calm).drive(transfer, [-1.0])
    sizes = [size_of(motion) for motion in driver.drive(transfer, seconds(0, 10))]
    assert np.abs(np.diff(sizes[15:])).max() < 0.35 * max(sizes)


def other_side(calm: Points, back: float) -> Driver:
    """Looks one way with the mouth open, is lost at 1 s, and looks the other way with it shut from then on."""
    return Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * (0 < now < 1)},
        turn=lambda now: (0, (18 if now < 1 else -18) * (now > 0), 0),
        place=lambda now: (320 + (20 if now < 1 else -20) * (now > 0), 210, 70),
        present=lambda now: not 1 <= now < back,
    )


def steps(motions: list[Motion]) -> NDArray[np.float64]:
    """How far each motion is from the one before, (n - 1, 3): degrees, expression, translation."""
    return np.array(
        [
            (
                np.abs(np.degrees(rotation_vector(after.rotation @ before.rotation.T))).max(),
                np.abs(change(after) - change(before)).max(),
                np.abs(after.translation - before.translation).max(),
            )
            for before, after in pairwise(motions)
        ]
    )


@pytest.mark.parametrize("back", [1.25, 1.4, 1.7, 2.5])
def test_a_face_found_again_in_another_pose_is_come_to_without_a_jump(calm: Points, back: float) -> None:
    """However little the portrait had eased to rest by then."""
    transfer = MotionTransfer("first")
    motions = other_side(calm, back).drive(transfer, seconds(0, 3.5))
    whole = steps([motions[29], motions[-1]])[0]
    assert whole[0] > 30
    assert (steps(motions[29:]).max(axis=0) < 0.25 * whole).all()
    there = motions[round((back + RETURN_NS / 1e9) * 30) + 1]
    assert (steps([there, motions[-1]])[0] < 0.02 * whole).all()


def test_a_face_lost_again_on_the_way_back_makes_no_jump_either(calm: Points) -> None:
    driver = other_side(calm, 1.5)
    flickering = replace(driver, present=lambda now: now < 1 or 1.5 <= now < 1.6 or 1.7 <= now < 1.75 or now >= 2.2)
    motions = flickering.drive(MotionTransfer("first"), seconds(0, 3.5))
    whole = steps([motions[29], motions[-1]])[0]
    assert (steps(motions[29:]).max(axis=0) < 0.25 * whole).all()


def test_a_picture_mirrored_on_the_way_back_makes_no_jump_in_its_mirror(calm: Points) -> None:
    driver = other_side(calm, 1.5)
    straight, flipped = MotionTransfer("first"), MotionTransfer("first")
    driver.drive(straight, seconds(0, 1.6))
    driver.drive(flipped, seconds(0, 1.6))
    flipped.mirror()
    for now in 1.6 + seconds(0, 0.5):
        face = driver.at(now)
        assert face is not None
        one, other = straight.update(face, face.time_ns), flipped.update(mirrored(face), face.time_ns)
        np.testing.assert_allclose(turn(other), turn(one) * (1, -1, -1), atol=0.5)
        np.testing.assert_allclose(change(other), change(one)[MIRROR] * (-1, 1, 1), atol=0.02)


# --- a driver who was away


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_new_seat_is_where_the_head_is_at_rest(calm: Points, calibrated: bool) -> None:
    """The face at rest stays, and so does how the head is turned there; what moves after sitting down counts."""

    def place(now: float) -> tuple[float, float, float]:
        if now < 3:
            return 320, 210, 70
        landing = ramp(5, 0.8)(now)  # comes in from the side
        return 480 + 100 * landing + 20 * (now >= 8), 260 - 40 * landing, 50

    driver = Driver(
        calm,
        turn=lambda now: (0, 8.0 * (now >= 5), 0),
        place=place,
        present=lambda now: not 3 <= now < 5,
    )
    transfer = MotionTransfer("auto")
    if calibrated:
        driver.drive(transfer, seconds(0, 1))
        transfer.calibrate()
        driver.drive(transfer, seconds(1, 3))
    else:
        driver.drive(transfer, seconds(0, 3))
    sitting_down = driver.drive(transfer, seconds(3, 6.5))[-45:]
    assert max(np.abs(motion.translation).max() for motion in sitting_down) < 1
    faces = driver.at(0), driver.at(7)
    turned_by = np.subtract(*(seen_turn(face.pixels(), face.size) for face in reversed(faces) if face is not None))
    for motion in driver.drive(transfer, seconds(6.5, 8)):
        np.testing.assert_allclose(motion.translation, 0, atol=0.1)
        assert motion.scale == pytest.approx(1, rel=0.03)
        np.testing.assert_allclose(turn_angles(motion.rotation), turned_by, atol=0.02)
    moved = driver.drive(transfer, seconds(8, 9))[-1]
    np.testing.assert_allclose(moved.translation, (0.4, 0), atol=0.1)


@pytest.mark.parametrize(("mode", "back"), [("auto", 2.5), ("first", 4)])
def test_a_short_loss_is_no_new_seat_and_in_mode_first_no_loss_is(calm: Points, mode: NeutralMode, back: float) -> None:
    driver = Driver(
        calm,
        place=lambda now: (320 + 40 * (now >= 2), 210, 70),
        present=lambda now: not 2 <= now < back,
    )
    motion = driver.drive(MotionTransfer(mode), seconds(0, 8))[-1]
    assert motion.translation[0] == pytest.approx(40 / 70, abs=0.05)


# --- another picture


@pytest.mark.parametrize("mode", ["auto", "first"])
@pytest.mark.parametrize("size", [(320, 240), (1280, 960), (1280, 720), (240, 320)], ids=str)
def test_a_picture_of_another_size_changes_nothing(calm: Points, mode: NeutralMode, size: tuple[int, int]) -> None:
    """The camera is found again, or a browser sends smaller pictures: the driver has not moved."""
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.1 * (now > 0.5)},
        turn=lambda now: (0, 10 * (now > 0.5), 0),
        place=lambda now: (320 + 30 * (now > 0.5), 250, 70),
    )
    transfer = MotionTransfer(mode)
    before = driver.drive(transfer, seconds(0, 3))[-1]
    times = 3 + seconds(0, 3)
    for now in times:
        face = driver.at(now)
        assert face is not None
        motion = transfer.update(at_size(face, size), face.time_ns)
        np.testing.assert_allclose(motion.translation, before.translation, atol=0.02)
        assert motion.scale == pytest.approx(before.scale, rel=0.02)
        np.testing.assert_allclose(change(motion), change(before), atol=0.02)
        if min(size) == size[1]:
            np.testing.assert_allclose(turn(motion), turn(before), atol=0.2)


def at_size(face: FaceState, size: tuple[int, int]) -> FaceState:
    """The face as a camera sees it whose picture holds as much in its shorter side, about the same middle."""
    pixels = face.pixels() - np.array([SIZE[0] / 2, SIZE[1] / 2, 0], np.float32)
    pixels = pixels * np.float32(min(size) / min(SIZE)) + np.array([size[0] / 2, size[1] / 2, 0], np.float32)
    return at_pixels(pixels, time_ns=face.time_ns, size=size)


# --- mirroring


def mirrored(face: FaceState) -> FaceState:
    """The face as it is seen in the flipped picture."""
    pixels = face.pixels()[MIRROR] * np.array([-1, 1, 1], np.float32) + np.array([SIZE[0], 0, 0], np.float32)
    return at_pixels(pixels, time_ns=face.time_ns)


@pytest.mark.parametrize("mode", ["auto", "first"])
def test_after_mirroring_the_mirrored_driver_gives_the_mirrored_motion(calm: Points, mode: NeutralMode) -> None:
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.1 + 0.1 * np.sin(5 * now), "smile": 0.05},
        turn=lambda now: (5, 10 * np.sin(now), 3),
        place=lambda now: (250 + 20 * now, 200, 70),
        noise=NOISE,
    )
    straight, flipped = MotionTransfer(mode), MotionTransfer(mode)
    driver.drive(straight, seconds(0, 2))
    driver.drive(flipped, seconds(0, 2))
    flipped.mirror()
    straight.mirror()
    straight.mirror()  # there and back: the smoother starts afresh in both
    flip = np.array([-1, 1, 1], np.float32)
    for now in seconds(2, 4):
        face = driver.at(now)
        assert face is not None
        one = straight.update(face, face.time_ns)
        other = flipped.update(mirrored(face), face.time_ns)
        np.testing.assert_allclose(turn(other), turn(one) * (1, -1, -1), atol=0.1)
        np.testing.assert_allclose(other.translation, one.translation * flip[:2], atol=2e-3)
        assert other.scale == pytest.approx(one.scale, rel=1e-3)
        np.testing.assert_allclose(other.neutral, one.neutral[MIRROR] * flip, atol=5e-3)
        np.testing.assert_allclose(change(other), change(one)[MIRROR] * flip, atol=5e-3)
        assert other.flipped
        assert not one.flipped


def test_mirroring_before_any_face_is_no_trouble(calm: Points) -> None:
    transfer = MotionTransfer()
    transfer.mirror()
    assert_at_rest(transfer.update(seen(calm, time_ns=START_NS), START_NS), atol=1e-3)


def test_a_calibration_goes_on_when_the_picture_is_mirrored(calm: Points) -> None:
    """With what it has seen, as it is in the flipped picture."""
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now > 1)}, turn=lambda now: (0, 10 * (now > 1), 0))
    transfer = MotionTransfer()
    driver.drive(transfer, seconds(0, 2))
    transfer.calibrate()
    driver.drive(transfer, seconds(2, 2.3))
    transfer.mirror()
    motions = []
    for now in 2.3 + seconds(0, 3):
        assert transfer.calibrating or now > 2.45
        face = driver.at(now)
        assert face is not None
        motions.append(transfer.update(mirrored(face), face.time_ns))
    assert not transfer.calibrating
    flip = np.array([-1, 1, 1], np.float32)
    np.testing.assert_allclose(motions[-1].neutral, doing(calm, smile=0.1)[MIRROR] * flip, atol=0.02)
    assert_at_rest(motions[-1], atol=5e-3)


def test_a_neutral_mirrored_twice_is_the_same(calm: Points) -> None:
    neutral = Neutral.from_face(seen(calm, turned((0.1, 0.2, 0.3), (200, 150))))
    twice = neutral.mirrored().mirrored()
    np.testing.assert_allclose(twice.shape, neutral.shape, atol=1e-6)
    np.testing.assert_allclose(twice.pose.rotation, neutral.pose.rotation, atol=1e-6)
    np.testing.assert_allclose(twice.pose.origin, neutral.pose.origin, atol=1e-3)


# --- smoothing and time


def test_a_still_face_is_calmer_than_it_was_seen(calm: Points) -> None:
    noise = 0.002
    driver = Driver(calm, turn=lambda _: (3, 5, 0), noise=noise)
    motions = driver.drive(MotionTransfer("first"), seconds(0, 6))[60:]
    shapes = np.array([change(motion) for motion in motions])
    assert shapes.std(axis=0).mean() < 0.75 * noise
    assert np.diff(shapes, axis=0).std() < 0.55 * np.sqrt(2) * noise
    assert np.array([turn(motion) for motion in motions]).std(axis=0).max() < 0.03


def test_a_quick_blink_still_gets_through(calm: Points) -> None:
    """Smoothing that eats blinks makes a portrait stare."""
    driver = Driver(calm, face=lambda now: {"shut": 0.7 * (1 <= now < 1.13)})
    motions = driver.drive(MotionTransfer("first"), seconds(0, 2))
    least = min(lids(motion.expression).max() for motion in motions)
    assert least < 0.5 * lids(calm).min()


def test_a_quick_turn_lags_little(calm: Points) -> None:
    driver = Driver(calm, turn=lambda now: (0, 20 * np.sin(2 * np.pi * now), 0))
    times = seconds(0, 3)
    yaw = np.array([turn(motion)[1] for motion in driver.drive(MotionTransfer("first"), times)])
    lags = [
        np.corrcoef(yaw[30:], 20 * np.sin(2 * np.pi * (times[30:] - lag)))[0, 1] for lag in (0, 1 / 30, 2 / 30, 0.1)
    ]
    assert int(np.argmax(lags)) <= 1
    assert np.ptp(yaw[30:]) > 35


def test_what_the_tracker_has_smoothed_comes_at_once(calm: Points) -> None:
    driver = Driver(calm, face=lambda now: {"shut": 0.7 * (now >= 1)}, turn=lambda now: (0, 10 * (now >= 1), 0))
    motions = {}
    for steady in (False, True):
        transfer = MotionTransfer("first")
        faces = [replace(face, steady=steady) for face in map(driver.at, seconds(0, 2)) if face is not None]
        motions[steady] = [transfer.update(face, face.time_ns) for face in faces]
    at_once, late = motions[True][30], motions[False][30]
    np.testing.assert_allclose(at_once.expression, motions[True][-1].expression, atol=1e-5)
    np.testing.assert_allclose(turn(at_once), turn(motions[True][-1]), atol=1e-3)
    assert np.abs(late.expression - motions[False][-1].expression).max() > 1e-3


def test_dropped_frames_hardly_change_the_motion(calm: Points) -> None:
    """Filters and easing go by time, not by frames."""
    driver = Driver(
        calm,
        face=lambda now: {
            "jaw": 0.3 * ramp(1, 0.4)(now) + 0.1 * (1 + np.sin(4 * now)) * (now > 3),
            "smile": 0.05 * (1 - ramp(4, 0.5)(now)),
        },
        turn=lambda now: (3 * np.sin(2 * now), 10 * np.sin(1.3 * now), 0),
    )
    all_times = seconds(0, 7)
    every = driver.drive(MotionTransfer("auto"), all_times)[::2]
    second = driver.drive(MotionTransfer("auto"), all_times[::2])
    for one, other in zip(every, second, strict=True):
        assert np.abs(change(one) - change(other)).max() < 0.09
        assert np.abs(turn(one) - turn(other)).max() < 4
    means = [np.abs(change(one) - change(other)).mean() for one, other in zip(every, second, strict=True)]
    assert float(np.mean(means)) < 0.005


def test_faces_are_measured_as_they_are_made(calm: Points) -> None:
    assert mouth_opening(doing(calm, jaw=0.3)) - mouth_opening(calm) == pytest.approx(0.28, abs=0.03)
    np.testing.assert_allclose(eye_openings(doing(calm, shut=0.5)), 0.5 * eye_openings(calm), rtol=0.05)
    assert corner_drop(doing(calm, smile=0.1)) == pytest.approx(corner_drop(calm) - 0.1, abs=0.03)


@pytest.mark.parametrize("start", [{"shut": 0.7}, {"smile": 0.12}], ids="+".join)
def test_a_neutral_taken_in_the_middle_of_an_expression_is_mended(calm: Points, start: dict[str, float]) -> None:
    fading = ramp(0.8, 0.4)

    def face(now: float) -> dict[str, Any]:
        return {name: amount * fading(now) for name, amount in start.items()}

    driver = Driver(calm, face=face, turn=lambda _: (8, 0, 0), noise=NOISE)
    motions = driver.drive(MotionTransfer("auto"), seconds(0, 12))
    assert np.abs(motions[-1].neutral - calm).max() < 0.06


def test_a_neutral_has_arrived_only_when_its_pose_has(calm: Points) -> None:
    fading = ramp(0.5, 0.4)
    driver = Driver(
        calm, turn=lambda now: (0, 14 * fading(now), 0), place=lambda now: (320 + 60 * fading(now), 210, 70)
    )
    motions = driver.drive(MotionTransfer("auto"), seconds(0, 3))
    assert max(np.abs(turn(after) - turn(before)).max() for before, after in pairwise(motions)) < 2.5
    assert max(np.abs(after.translation - before.translation).max() for before, after in pairwise(motions)) < 0.15


def test_a_motion_that_is_held_is_mirrored_too(calm: Points) -> None:
    driver = Driver(calm, turn=lambda now: (0, 15.0 * (now > 0), 0))
    transfer = MotionTransfer("first")
    before = driver.drive(transfer, seconds(0, 1))[-1]
    transfer.mirror()
    held = transfer.update(None, 5_000_000_000 + 1_033_000_000)
    assert turn(held)[1] == pytest.approx(-turn(before)[1], abs=1)
