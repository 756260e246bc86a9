"""The neutral estimated of scripted drivers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.face.topology import MIRROR
from engines.types import Points
from realtime.motion.neutral import Neutral, RestPose
from realtime.motion.neutral_estimator import CALIBRATION_NS, corner_drop, eye_openings, mouth_opening
from realtime.motion.relative import MotionTransfer
from realtime.motion.settings import NeutralMode
from tests.support.driver import NOISE, START_NS, Driver, assert_at_rest, change, frame_times, mirrored, ramp, turn
from tests.support.faces import FRAME_NS, eye_gaps, face_state, head_pose, mouth_gap, with_expression


def test_before_any_face_the_portrait_is_at_rest() -> None:
    transfer = MotionTransfer()
    for time_ns in (0, START_NS, START_NS + FRAME_NS):
        motion = transfer.update(None, time_ns)
        assert_at_rest(motion)
        assert motion.face is None


@pytest.mark.parametrize("start_ns", [0, START_NS])
def test_the_first_face_is_the_neutral_in_mode_first(calm: Points, start_ns: int) -> None:
    """Whatever its expression and pose. The time of a file's first frame is 0."""
    face = face_state(
        with_expression(calm, jaw=0.2, smile=0.1), head_pose((0.1, 0.3, -0.1), (200, 180), 50), time_ns=start_ns
    )
    motion = MotionTransfer("first").update(face, start_ns)
    assert_at_rest(motion, atol=2e-4)
    assert motion.face is face


def test_in_mode_first_the_neutral_stays(calm: Points) -> None:
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 * ramp(1, 0.3)(now)}, noise=NOISE)
    motions = driver.drive(MotionTransfer("first"), frame_times(0, 5))
    np.testing.assert_array_equal(motions[-1].neutral, motions[0].neutral)
    assert mouth_gap(motions[-1].neutral) > 0.2


@pytest.mark.parametrize(
    "start",
    [
        {"jaw": 0.35},
        {"jaw": 0.3, "shut": 0.7},
        {"jaw": 0.2, "smile": 0.1, "brows": 0.1},
    ],
    ids="+".join,
)
def test_a_bad_first_neutral_is_replaced(calm: Points, start: dict[str, float]) -> None:
    """A driver who begins in the middle of a word and later listens."""
    fading = ramp(0.8, 0.4)
    driver = Driver(
        calm,
        face=lambda now: {name: amount * fading(now) for name, amount in start.items()},
        turn=lambda now: (0, 12 * fading(now), 0),
        noise=NOISE,
    )
    motions = driver.drive(MotionTransfer("auto"), frame_times(0, 4.5))
    assert np.abs(motions[0].neutral - calm).max() > 0.05
    neutral = motions[-1].neutral
    assert np.abs(neutral - calm).max() < 8 * NOISE
    assert mouth_gap(neutral) < 0.02
    np.testing.assert_allclose(eye_gaps(neutral), eye_gaps(calm), rtol=0.1)
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
    motions = driver.drive(MotionTransfer("auto"), frame_times(0, 15))
    assert max(np.abs(motion.neutral - calm).max() for motion in motions) < 0.05


def test_replacing_the_neutral_makes_no_jump(calm: Points) -> None:
    fading = ramp(1, 0.5)
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * fading(now), "smile": 0.1 * fading(now)},
        turn=lambda now: (0, 14 * fading(now), 0),
        place=lambda now: (320 + 60 * fading(now), 210, 70 - 8 * fading(now)),
        noise=NOISE,
    )
    motions = driver.drive(MotionTransfer("auto"), frame_times(0, 5))
    assert np.abs(motions[0].neutral - motions[-1].neutral).max() > 0.1
    for before, after in pairwise(motions):
        assert np.abs(after.neutral - before.neutral).max() < 0.05
        assert np.abs(change(after) - change(before)).max() < 0.06
        assert np.abs(turn(after) - turn(before)).max() < 2.5
        assert np.abs(after.translation - before.translation).max() < 0.15
        assert abs(after.scale - before.scale) < 0.03


def test_a_better_neutral_does_not_turn_a_head_that_is_held_still(calm: Points) -> None:
    """The shape at rest is replaced in a moment; the rest pose follows too slowly to be noticed."""
    fading = ramp(2, 0.5)
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * fading(now)},
        turn=lambda now: (6 * fading(now), 0, 7 * fading(now)),
        noise=NOISE,
    )
    motions = driver.drive(MotionTransfer("auto"), frame_times(0, 8))
    assert mouth_gap(motions[-1].neutral) < 0.02
    after = np.array([turn(motion) for motion in motions[90:]])
    assert np.ptp(after, axis=0).max() < 1.5
    assert np.abs(after[-1] - after[0]).max() < 1


def test_the_rest_pose_follows_in_the_end(calm: Points) -> None:
    """A tilted start does not tilt the portrait for ever."""
    fading = ramp(1, 0.5)
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 * fading(now)}, turn=lambda now: (0, 0, 7 * fading(now)))
    transfer = MotionTransfer("auto")
    early = np.abs(turn(driver.drive(transfer, frame_times(0, 4))[-1])).max()
    late = np.abs(turn(driver.drive(transfer, frame_times(4, 120, fps=5))[-1])).max()
    assert early > 2
    assert late < 0.5


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_rest_pose_that_has_arrived_is_not_moved_again(
    calm: Points, calibrated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then costs no time until a better neutral comes."""
    moves: list[RestPose] = []
    real = RestPose.towards

    def counted(self: RestPose, other: RestPose, weights: NDArray[np.float32]) -> RestPose:
        moves.append(other)
        return real(self, other, weights)

    monkeypatch.setattr(RestPose, "towards", counted)
    fading = ramp(1, 0.5)
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 * fading(now)}, turn=lambda now: (0, 0, 7 * fading(now)))
    transfer = MotionTransfer("auto")
    driver.drive(transfer, frame_times(0, 4))
    if calibrated:
        transfer.calibrate()
    driver.drive(transfer, frame_times(4, 120, fps=5))
    assert moves
    moves.clear()
    driver.drive(transfer, frame_times(120, 122))
    assert moves == []


def test_a_driver_who_pulls_faces_for_long_keeps_a_calm_neutral(calm: Points) -> None:
    """Eyes wide open and brows raised for seconds do not make the calm face look closed-eyed."""
    driver = Driver(
        calm,
        face=lambda now: {"shut": -0.5 * (now > 1), "brows": 0.1 * (now > 1), "jaw": 0.1 * (now > 1)},
        noise=NOISE,
    )
    motions = driver.drive(MotionTransfer("auto"), frame_times(0, 6))
    assert max(np.abs(motion.neutral - calm).max() for motion in motions) < 0.05


def test_a_head_that_starts_turned_away_is_not_at_rest(calm: Points) -> None:
    """In mode auto turns count from the camera's axis when the first face is turned from it."""
    driver = Driver(calm, turn=lambda _: (0, 25, 0))
    motion = driver.drive(MotionTransfer("auto"), [0.0])[0]
    assert turn(motion)[1] == pytest.approx(25, abs=3)


def test_calibration_averages_half_a_second_of_faces(calm: Points) -> None:
    """A blink within it has little weight, and noise less."""
    transfer = MotionTransfer("auto")
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.05, "shut": 0.6 if 2.2 < now < 2.27 else 0.0},
        turn=lambda _: (5, 10, 0),
        noise=NOISE,
    )
    driver.drive(transfer, frame_times(0, 2))
    assert not transfer.calibrating
    transfer.calibrate()
    took = 0
    for now in frame_times(2, 4):
        driver.drive(transfer, [now])
        if not transfer.calibrating:
            break
        took += 1
    assert took * FRAME_NS == pytest.approx(CALIBRATION_NS, abs=1.5 * FRAME_NS)
    motions = driver.drive(transfer, frame_times(3, 6))
    expected = with_expression(calm, jaw=0.05)
    assert np.abs(motions[-1].neutral - expected).max() < 0.05
    assert np.abs(motions[-1].neutral - expected).mean() < NOISE
    assert np.abs(turn(motions[-1])).max() < 1


@pytest.mark.parametrize("mode", ["auto", "first"])
def test_a_calibrated_neutral_is_not_replaced(calm: Points, mode: NeutralMode) -> None:
    """A user who calibrates with a smile wants that."""
    transfer = MotionTransfer(mode)
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * ramp(2, 0.5)(now)}, noise=NOISE)
    driver.drive(transfer, frame_times(0, 0.5))
    transfer.calibrate()
    driver.drive(transfer, frame_times(0.5, 1.9))
    motions = driver.drive(transfer, frame_times(1.9, 8))
    assert corner_drop(motions[-1].neutral) < corner_drop(calm) - 0.06


def test_calibration_waits_for_a_face(calm: Points) -> None:
    transfer = MotionTransfer()
    transfer.calibrate()
    driver = Driver(calm, present=lambda now: now >= 3, noise=NOISE)
    driver.drive(transfer, frame_times(0, 3))
    assert transfer.calibrating
    motions = driver.drive(transfer, frame_times(3, 5))
    assert not transfer.calibrating
    assert np.abs(motions[-1].neutral - calm).max() < 6 * NOISE


def test_calibration_starts_again_with_a_face_that_returns(calm: Points) -> None:
    """Frames from before the absence and from the way back to the seat are not used."""
    transfer = MotionTransfer()
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now < 3)}, present=lambda now: not 2.1 <= now < 12)
    driver.drive(transfer, frame_times(0, 2))
    transfer.calibrate()
    driver.drive(transfer, frame_times(2, 12.4))
    assert transfer.calibrating
    motions = driver.drive(transfer, frame_times(12.4, 15))
    assert not transfer.calibrating
    assert np.abs(motions[-1].neutral - calm).max() < 0.01


@pytest.mark.parametrize("pause", [0.6, 10.0])
def test_calibration_starts_again_after_a_pause_without_frames(calm: Points, pause: float) -> None:
    transfer = MotionTransfer()
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now < 2.2)})
    driver.drive(transfer, frame_times(0, 2))
    transfer.calibrate()
    driver.drive(transfer, frame_times(2, 2.1))
    driver.drive(transfer, 2.1 + pause + frame_times(0, 0.4))
    assert transfer.calibrating
    motions = driver.drive(transfer, 2.1 + pause + frame_times(0.4, 3))
    assert not transfer.calibrating
    assert np.abs(motions[-1].neutral - calm).max() < 0.01


def test_calibration_ends_although_the_clock_goes_back(calm: Points) -> None:
    """As when a file starts again, or another camera with its own clock takes over."""
    transfer = MotionTransfer()
    driver = Driver(calm)
    driver.drive(transfer, frame_times(100, 101))
    transfer.calibrate()
    driver.drive(transfer, frame_times(101, 101.2))
    driver.drive(transfer, frame_times(0, 0.4))
    assert transfer.calibrating
    driver.drive(transfer, frame_times(0.4, 0.6))
    assert not transfer.calibrating


def test_calibration_ends_at_one_frame_per_second(calm: Points) -> None:
    transfer = MotionTransfer()
    driver = Driver(calm)
    driver.drive(transfer, frame_times(0, 3, fps=1))
    transfer.calibrate()
    driver.drive(transfer, frame_times(3, 5, fps=1))
    assert not transfer.calibrating


def test_a_calibration_goes_on_when_the_image_is_mirrored(calm: Points) -> None:
    """With the collected faces flipped."""
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now > 1)}, turn=lambda now: (0, 10 * (now > 1), 0))
    transfer = MotionTransfer()
    driver.drive(transfer, frame_times(0, 2))
    transfer.calibrate()
    driver.drive(transfer, frame_times(2, 2.3))
    transfer.mirror()
    motions = []
    for now in 2.3 + frame_times(0, 3):
        assert transfer.calibrating or now > 2.45
        face = driver.at(now)
        assert face is not None
        motions.append(transfer.update(mirrored(face), face.time_ns))
    assert not transfer.calibrating
    flip = np.array([-1, 1, 1], np.float32)
    np.testing.assert_allclose(motions[-1].neutral, with_expression(calm, smile=0.1)[MIRROR] * flip, atol=0.02)
    assert_at_rest(motions[-1], atol=5e-3)


def test_a_neutral_mirrored_twice_is_the_same(calm: Points) -> None:
    neutral = Neutral.from_face(face_state(calm, head_pose((0.1, 0.2, 0.3), (200, 150))))
    twice = neutral.mirrored().mirrored()
    np.testing.assert_allclose(twice.shape, neutral.shape, atol=1e-6)
    np.testing.assert_allclose(twice.pose.rotation, neutral.pose.rotation, atol=1e-6)
    np.testing.assert_allclose(twice.pose.origin, neutral.pose.origin, atol=1e-3)


@pytest.mark.parametrize("start", [{"shut": 0.7}, {"smile": 0.12}], ids="+".join)
def test_a_first_neutral_with_an_expression_is_replaced(calm: Points, start: dict[str, float]) -> None:
    fading = ramp(0.8, 0.4)

    def face(now: float) -> dict[str, Any]:
        return {name: amount * fading(now) for name, amount in start.items()}

    driver = Driver(calm, face=face, turn=lambda _: (8, 0, 0), noise=NOISE)
    motions = driver.drive(MotionTransfer("auto"), frame_times(0, 12))
    assert np.abs(motions[-1].neutral - calm).max() < 0.06


def test_a_neutral_has_arrived_only_when_its_pose_has(calm: Points) -> None:
    fading = ramp(0.5, 0.4)
    driver = Driver(
        calm, turn=lambda now: (0, 14 * fading(now), 0), place=lambda now: (320 + 60 * fading(now), 210, 70)
    )
    motions = driver.drive(MotionTransfer("auto"), frame_times(0, 3))
    assert max(np.abs(turn(after) - turn(before)).max() for before, after in pairwise(motions)) < 2.5
    assert max(np.abs(after.translation - before.translation).max() for before, after in pairwise(motions)) < 0.15


def test_measures_of_a_face_agree_with_its_expression(calm: Points) -> None:
    assert mouth_opening(with_expression(calm, jaw=0.3)) - mouth_opening(calm) == pytest.approx(0.28, abs=0.03)
    np.testing.assert_allclose(eye_openings(with_expression(calm, shut=0.5)), 0.5 * eye_openings(calm), rtol=0.05)
    assert corner_drop(with_expression(calm, smile=0.1)) == pytest.approx(corner_drop(calm) - 0.1, abs=0.03)
