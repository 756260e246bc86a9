"""The neutral estimated of scripted drivers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from engines.face.head import pose_against
from engines.face.topology import MIRROR, MOUTH_CORNERS
from engines.types import Motion, Points
from realtime.motion.motion_transfer import MotionTransfer
from realtime.motion.neutral_estimator import CALIBRATION_NS
from realtime.motion.settings import NeutralMode
from tests.support.driver import (
    NOISE,
    START_NS,
    Driver,
    ExactModel,
    assert_at_rest,
    change,
    frame_times,
    mirrored,
    ramp,
    transfer_for,
    turn,
)
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


STARTS: list[dict[str, Any]] = [
    {"jaw": 0.3},
    {"jaw": 0.2, "smile": 0.1},
    {"jaw": 0.2, "shut": 0.7},
    {"brows": 0.12, "smile": 0.08},
]


def error(motion: Motion, calm: Points) -> Points:
    """Return by how much the neutral of a motion differs from a face, whatever the pose of the two, head units."""
    return np.asarray(pose_against(motion.neutral, calm).unproject(motion.neutral) - calm, np.float32)


def distance(motion: Motion, calm: Points) -> float:
    """Return the root mean square of ``error``."""
    return float(np.sqrt(np.square(error(motion, calm)).mean()))


def farthest(motions: list[Motion], calm: Points) -> float:
    """Return the largest ``error`` of any landmark in any motion."""
    return max(float(np.abs(error(motion, calm)).max()) for motion in motions)


def shipped_transfer(calm: Points) -> MotionTransfer:
    """Return a motion transfer to a portrait with the driver's calm face, by the model that ships."""
    transfer = MotionTransfer("auto")
    transfer.set_portrait(face_state(calm))
    return transfer


@pytest.mark.parametrize("start", STARTS, ids="+".join)
def test_the_neutral_of_a_driver_who_keeps_an_expression_is_calm(calm: Points, start: dict[str, Any]) -> None:
    """From the first frame on, and without a better frame ever coming."""
    driver = Driver(calm, face=lambda _: start, noise=NOISE)
    assert farthest(driver.drive(transfer_for(calm), frame_times(0, 2)), calm) < 5e-3


@pytest.mark.parametrize("start", STARTS, ids="+".join)
def test_the_shipped_model_knows_a_part_of_an_expression_that_is_kept(calm: Points, start: dict[str, Any]) -> None:
    driver = Driver(calm, face=lambda _: start, noise=NOISE)
    motions = driver.drive(shipped_transfer(calm), frame_times(0, 2))
    there = float(np.sqrt(((with_expression(calm, **start) - calm) ** 2).mean()))
    assert distance(motions[0], calm) < 0.8 * there
    assert distance(motions[-1], calm) < 0.8 * there


@pytest.mark.parametrize("start", STARTS, ids="+".join)
@pytest.mark.parametrize(("transfer", "most"), [(transfer_for, 5e-3), (shipped_transfer, 0.08)])
def test_the_neutral_of_a_driver_who_begins_with_an_expression_is_calm(
    calm: Points, start: dict[str, Any], transfer: Callable[[Points], MotionTransfer], most: float
) -> None:
    """A driver who begins in the middle of a word and later listens."""
    fading = ramp(0.8, 0.4)
    driver = Driver(
        calm,
        face=lambda now: {name: amount * fading(now) for name, amount in start.items()},
        turn=lambda now: (0, 12 * fading(now), 0),
        noise=NOISE,
    )
    motions = driver.drive(transfer(calm), frame_times(0, 4.5))
    assert farthest(motions[-1:], calm) < most
    assert mouth_gap(motions[-1].neutral) == pytest.approx(mouth_gap(calm), abs=0.02 + most)
    np.testing.assert_allclose(eye_gaps(motions[-1].neutral), eye_gaps(calm), rtol=0.1 + most)
    assert np.abs(turn(motions[-1])).max() < 3


@pytest.mark.parametrize(("transfer", "most"), [(transfer_for, 5e-3), (shipped_transfer, 0.08)])
def test_a_good_neutral_survives_talk_and_blinks(
    calm: Points, transfer: Callable[[Points], MotionTransfer], most: float
) -> None:
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
    assert farthest(driver.drive(transfer(calm), frame_times(0, 15)), calm) < most


@pytest.mark.parametrize(("transfer", "most"), [(transfer_for, 5e-3), (shipped_transfer, 0.08)])
def test_a_driver_who_grimaces_for_long_keeps_a_calm_neutral(
    calm: Points, transfer: Callable[[Points], MotionTransfer], most: float
) -> None:
    """Eyes wide open and brows raised for seconds do not make the calm face look closed-eyed."""
    driver = Driver(
        calm,
        face=lambda now: {"shut": -0.5 * (now > 1), "brows": 0.1 * (now > 1), "jaw": 0.1 * (now > 1)},
        noise=NOISE,
    )
    assert farthest(driver.drive(transfer(calm), frame_times(0, 6)), calm) < most


@pytest.mark.parametrize(("transfer", "share"), [(transfer_for, 0.98), (shipped_transfer, 0.6)])
def test_a_mood_does_not_move_the_neutral(
    calm: Points, transfer: Callable[[Points], MotionTransfer], share: float
) -> None:
    """A driver who smiles for a minute still smiles."""
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now > 2)}, noise=NOISE)
    motions = driver.drive(transfer(calm), frame_times(0, 62, fps=10))
    corners = [float(change(motion)[MOUTH_CORNERS, 1].mean()) for motion in motions]
    assert corners[25] < -0.05
    assert corners[-1] < share * corners[25]


@pytest.mark.parametrize(("transfer", "most"), [(transfer_for, 1.0), (shipped_transfer, 1.5)])
def test_a_better_neutral_does_not_turn_a_head_that_is_held_still(
    calm: Points, transfer: Callable[[Points], MotionTransfer], most: float
) -> None:
    """The shape at rest is replaced in a moment; the rest pose follows too slowly to be noticed."""
    fading = ramp(2, 0.5)
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * fading(now)},
        turn=lambda now: (6 * fading(now), 0, 7 * fading(now)),
        noise=NOISE,
    )
    motions = driver.drive(transfer(calm), frame_times(0, 8))
    after = np.array([turn(motion) for motion in motions[90:]])
    assert np.ptp(after, axis=0).max() < 1.5
    assert np.abs(after[-1] - after[0]).max() < most


def test_a_tilted_start_is_forgotten(calm: Points) -> None:
    """It tilts the portrait while it lasts, and hardly the other way afterwards."""
    fading = ramp(1, 0.5)
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 * fading(now)}, turn=lambda now: (0, 0, 7 * fading(now)))
    transfer = transfer_for(calm)
    motions = driver.drive(transfer, frame_times(0, 4))
    assert abs(turn(motions[0])[2]) > 5
    assert np.abs(turn(motions[-1])).max() < 1
    late = np.abs(turn(driver.drive(transfer, frame_times(4, 120, fps=5))[-1])).max()
    assert late < 0.5


def test_the_neutral_has_the_expression_of_the_portrait(calm: Points) -> None:
    """A portrait with parted lips closes them when the driver does."""
    parted = with_expression(calm, jaw=0.25)
    transfer = transfer_for(calm)
    transfer.set_portrait(face_state(parted))
    motions = Driver(calm, noise=NOISE).drive(transfer, frame_times(0, 1))
    assert farthest(motions, parted) < 5e-3
    assert mouth_gap(motions[-1].expression) == pytest.approx(mouth_gap(calm), abs=0.02)


def test_the_shipped_model_puts_a_portraits_parted_lips_into_the_neutral(calm: Points) -> None:
    transfer = MotionTransfer("auto")
    transfer.set_portrait(face_state(with_expression(calm, jaw=0.25)))
    motions = Driver(calm, noise=NOISE).drive(transfer, frame_times(0, 1))
    assert mouth_gap(motions[-1].neutral) > mouth_gap(calm) + 0.08
    assert mouth_gap(motions[-1].expression) < mouth_gap(motions[-1].neutral) - 0.08


def test_another_portrait_has_its_own_neutral_at_once(calm: Points) -> None:
    transfer = transfer_for(calm)
    driver = Driver(calm, noise=NOISE)
    driver.drive(transfer, frame_times(0, 1))
    parted = with_expression(calm, jaw=0.25)
    transfer.set_portrait(face_state(parted))
    assert farthest(driver.drive(transfer, frame_times(1, 1.05)), parted) < 5e-3
    transfer.set_portrait(face_state(calm))
    assert farthest(driver.drive(transfer, frame_times(1.1, 1.15)), calm) < 5e-3


@pytest.mark.parametrize("transfer", [transfer_for, shipped_transfer])
def test_the_neutral_changes_without_a_jump(calm: Points, transfer: Callable[[Points], MotionTransfer]) -> None:
    fading = ramp(1, 0.5)
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * fading(now), "smile": 0.1 * fading(now)},
        turn=lambda now: (0, 14 * fading(now), 0),
        place=lambda now: (320 + 60 * fading(now), 210, 70 - 8 * fading(now)),
        noise=NOISE,
    )
    motions = driver.drive(transfer(calm), frame_times(0, 5))
    for before, after in pairwise(motions):
        assert np.abs(after.neutral - before.neutral).max() < 0.05
        assert np.abs(change(after) - change(before)).max() < 0.06
        assert np.abs(turn(after) - turn(before)).max() < 2.5
        assert np.abs(after.translation - before.translation).max() < 0.15
        assert abs(after.scale - before.scale) < 0.03


def test_another_driver_gets_a_neutral_of_their_own(calm: Points) -> None:
    """A driver with another face takes the seat: within a few seconds the neutral is that of the new one."""
    other = calm * np.array([1.15, 0.88, 1.0], np.float32)
    transfer = MotionTransfer("auto", model=ExactModel(calm, other))
    Driver(calm, noise=NOISE).drive(transfer, frame_times(0, 20))
    motions = Driver(other, noise=NOISE).drive(transfer, frame_times(20, 26))
    assert distance(motions[-1], other) < 0.6 * distance(motions[0], other)


def test_the_portrait_looks_at_the_viewer_when_the_driver_looks_at_the_camera(calm: Points) -> None:
    """Also a portrait that was painted looking a little aside, and a driver who begins looking away."""
    transfer = MotionTransfer("auto")
    transfer.set_portrait(face_state(calm, head_pose((0, np.radians(5), 0))))
    driver = Driver(calm, turn=lambda now: (0, 20 * ramp(0.5, 0.4)(now), 0))
    motions = driver.drive(transfer, frame_times(0, 2))
    assert turn(motions[0])[1] > 10
    assert turn(motions[-1])[1] < -2


def test_ones_own_portrait_that_looks_aside_is_turned_as_ones_own_head_is(calm: Points) -> None:
    """A driver who holds the head as the portrait does leaves it as it is, also where another's would be composed."""
    transfer = MotionTransfer("auto")
    transfer.set_portrait(face_state(calm, head_pose((0, np.radians(18), 0))))
    motions = Driver(calm, turn=lambda _: (0, 18, 0)).drive(transfer, frame_times(0, 1))
    assert abs(turn(motions[0])[1]) < 2
    assert abs(turn(motions[-1])[1]) < 2


def test_a_portrait_that_looks_aside_stays_composed(calm: Points) -> None:
    transfer = MotionTransfer("auto")
    transfer.set_portrait(face_state(calm, head_pose((0, np.radians(28), 0))))
    motions = Driver(calm).drive(transfer, frame_times(0, 1))
    assert abs(turn(motions[-1])[1]) < 2.5


def test_a_camera_that_stands_aside_is_learned_slowly(calm: Points) -> None:
    transfer = transfer_for(calm)
    driver = Driver(calm, turn=lambda _: (0, 12, 0))
    motions = driver.drive(transfer, frame_times(0, 180, fps=5))
    turns = np.array([turn(motion)[1] for motion in motions])
    assert turns[0] > 8
    assert turns[-1] < 0.7 * turns[0]
    assert np.abs(np.diff(turns)).max() < 0.1


def test_a_head_that_starts_turned_away_is_not_at_rest(calm: Points) -> None:
    """In mode auto turns count from the camera's axis when the first face is turned from it."""
    driver = Driver(calm, turn=lambda _: (0, 25, 0))
    motion = driver.drive(MotionTransfer("auto"), [0.0])[0]
    assert turn(motion)[1] > 18


def test_calibration_averages_half_a_second_of_faces(calm: Points) -> None:
    """A blink within it has little weight, and noise less."""
    transfer = transfer_for(calm)
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
    assert distance(motions[-1], expected) < NOISE
    assert farthest(motions[-1:], expected) < 0.02
    assert np.abs(turn(motions[-1])).max() < 1


@pytest.mark.parametrize("mode", ["auto", "first"])
def test_a_calibrated_neutral_is_not_replaced(calm: Points, mode: NeutralMode) -> None:
    """A user who calibrates with a smile wants that."""
    transfer = transfer_for(calm, mode)
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * ramp(2, 0.5)(now)}, noise=NOISE)
    driver.drive(transfer, frame_times(0, 0.5))
    transfer.calibrate()
    driver.drive(transfer, frame_times(0.5, 1.9))
    motions = driver.drive(transfer, frame_times(1.9, 8))
    assert farthest(motions, with_expression(calm, smile=0.1)) < 0.02


@pytest.mark.parametrize("mode", ["auto", "first"])
def test_a_chosen_neutral_is_kept_with_another_portrait(calm: Points, mode: NeutralMode) -> None:
    """The driver is at rest with the face that was chosen, whatever portrait is shown."""
    transfer = transfer_for(calm, mode)
    driver = Driver(calm, face=lambda _: {"smile": 0.1})
    driver.drive(transfer, frame_times(0, 0.5))
    if mode == "auto":
        transfer.calibrate()
        driver.drive(transfer, frame_times(0.5, 3))
    transfer.set_portrait(face_state(with_expression(calm, jaw=0.25)))
    motions = driver.drive(transfer, frame_times(3, 4))
    assert farthest(motions, with_expression(calm, smile=0.1)) < 5e-3
    for motion in motions:
        np.testing.assert_allclose(change(motion), 0, atol=5e-3)


@pytest.mark.parametrize("portrait", [{}, {"shut": (0.8, 0.0), "jaw": 0.1}], ids=["calm", "winking"])
def test_a_chosen_neutral_is_mirrored_with_the_image(calm: Points, portrait: dict[str, Any]) -> None:
    """The portrait is not: its expression has no part in what was chosen."""
    transfer = transfer_for(calm, "first")
    transfer.set_portrait(face_state(with_expression(calm, **portrait)))
    driver = Driver(calm, face=lambda _: {"smile": 0.1})
    driver.drive(transfer, frame_times(0, 0.5))
    transfer.mirror()
    faces = [face for face in map(driver.at, frame_times(0.5, 3)) if face is not None]
    motions = [transfer.update(mirrored(face), face.time_ns) for face in faces]
    flip = np.array([-1, 1, 1], np.float32)
    assert farthest(motions, with_expression(calm, smile=0.1)[MIRROR] * flip) < 5e-3
    for motion in motions:
        np.testing.assert_allclose(change(motion), 0, atol=5e-3)


# --- the neutral of generators that keep their own


def shares(motions: list[Motion]) -> list[float]:
    return [motion.rest_share for motion in motions]


@pytest.mark.parametrize("mode", ["auto", "first"])
def test_the_first_frame_is_the_neutral_of_networks(calm: Points, mode: NeutralMode) -> None:
    driver = Driver(calm)
    motions = driver.drive(transfer_for(calm, mode), frame_times(0, 1))
    assert shares(motions) == [1.0, *[0.0] * 29]


def test_a_frame_nearer_to_the_portraits_expression_is_the_better_neutral_of_networks(calm: Points) -> None:
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 if now < 0.5 or now >= 1 else 0.0}, noise=NOISE)
    motions = driver.drive(transfer_for(calm), frame_times(0, 2))
    given = [step for step, share in enumerate(shares(motions)) if share > 0]
    assert given[:2] == [0, 15]
    assert max(given) < 30
    assert set(shares(motions)) == {0.0, 1.0}


def test_in_mode_first_no_later_frame_is_the_neutral_of_networks(calm: Points) -> None:
    """Neither a better one nor one with another portrait."""
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 * (now < 0.5)}, noise=NOISE)
    transfer = transfer_for(calm, "first")
    assert shares(driver.drive(transfer, frame_times(0, 1))) == [1.0, *[0.0] * 29]
    transfer.set_portrait(face_state(with_expression(calm, jaw=0.25)))
    assert not any(shares(driver.drive(transfer, frame_times(1, 2))))
    transfer.set_portrait(None)
    assert not any(shares(driver.drive(transfer, frame_times(2, 3))))


@pytest.mark.parametrize("mode", ["auto", "first"])
@pytest.mark.parametrize("from_the_start", [True, False])
def test_the_mean_of_a_calibration_is_the_neutral_of_networks(
    calm: Points, mode: NeutralMode, from_the_start: bool
) -> None:
    """Of all its frames alike, and nothing after it: not another face, nor one with another portrait."""
    driver = Driver(calm, face=lambda now: {"jaw": 0.3 * (now > 1.7)}, noise=NOISE)
    transfer = transfer_for(calm, mode)
    if not from_the_start:
        driver.drive(transfer, frame_times(0, 1))
    transfer.calibrate()
    collected = []
    for now in frame_times(1, 2):
        if not transfer.calibrating:
            break
        collected += shares(driver.drive(transfer, [now]))
    assert collected == pytest.approx([1 / count for count in range(1, len(collected) + 1)])
    assert len(collected) * FRAME_NS == pytest.approx(CALIBRATION_NS, abs=1.5 * FRAME_NS)
    assert not any(shares(driver.drive(transfer, frame_times(1.6, 3))))
    transfer.set_portrait(face_state(with_expression(calm, jaw=0.25)))
    assert not any(shares(driver.drive(transfer, frame_times(3, 4))))


def test_another_portrait_takes_a_new_neutral_of_networks(calm: Points) -> None:
    """Unless the user has chosen one: the frame that was the nearest to the portrait may not be any more."""
    transfer = transfer_for(calm)
    driver = Driver(calm)
    driver.drive(transfer, frame_times(0, 1))
    transfer.set_portrait(face_state(with_expression(calm, jaw=0.25)))
    assert shares(driver.drive(transfer, frame_times(1, 1.5))) == [1.0, *[0.0] * 14]


@pytest.mark.parametrize("mode", ["auto", "first"])
def test_another_driver_gives_networks_a_new_neutral(calm: Points, mode: NeutralMode) -> None:
    transfer = transfer_for(calm, mode)
    driver = Driver(calm)
    driver.drive(transfer, frame_times(0, 1))
    transfer.calibrate()
    driver.drive(transfer, frame_times(1, 2))
    faces = [replace(face, driver_id=1) for face in map(driver.at, frame_times(2, 3)) if face is not None]
    assert shares([transfer.update(face, face.time_ns) for face in faces]) == [1.0, *[0.0] * 29]


# --- calibration at the edges


def test_calibration_waits_for_a_face(calm: Points) -> None:
    transfer = transfer_for(calm)
    transfer.calibrate()
    driver = Driver(calm, present=lambda now: now >= 3, noise=NOISE)
    driver.drive(transfer, frame_times(0, 3))
    assert transfer.calibrating
    motions = driver.drive(transfer, frame_times(3, 5))
    assert not transfer.calibrating
    assert distance(motions[-1], calm) < 2 * NOISE


def test_calibration_starts_again_with_a_face_that_returns(calm: Points) -> None:
    """Frames from before the absence and from the way back to the seat are not used."""
    transfer = transfer_for(calm)
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now < 3)}, present=lambda now: not 2.1 <= now < 12)
    driver.drive(transfer, frame_times(0, 2))
    transfer.calibrate()
    driver.drive(transfer, frame_times(2, 12.4))
    assert transfer.calibrating
    motions = driver.drive(transfer, frame_times(12.4, 15))
    assert not transfer.calibrating
    assert farthest(motions[-1:], calm) < 5e-3


@pytest.mark.parametrize("pause", [0.6, 10.0])
def test_calibration_starts_again_after_a_pause_without_frames(calm: Points, pause: float) -> None:
    transfer = transfer_for(calm)
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now < 2.2)})
    driver.drive(transfer, frame_times(0, 2))
    transfer.calibrate()
    driver.drive(transfer, frame_times(2, 2.1))
    driver.drive(transfer, 2.1 + pause + frame_times(0, 0.4))
    assert transfer.calibrating
    motions = driver.drive(transfer, 2.1 + pause + frame_times(0.4, 3))
    assert not transfer.calibrating
    assert farthest(motions[-1:], calm) < 5e-3


def test_calibration_ends_although_the_clock_goes_back(calm: Points) -> None:
    """As when a file starts again, or another camera with its own clock takes over."""
    transfer = transfer_for(calm)
    driver = Driver(calm)
    driver.drive(transfer, frame_times(100, 101))
    transfer.calibrate()
    driver.drive(transfer, frame_times(101, 101.2))
    driver.drive(transfer, frame_times(0, 0.4))
    assert transfer.calibrating
    driver.drive(transfer, frame_times(0.4, 0.6))
    assert not transfer.calibrating


def test_calibration_ends_at_one_frame_per_second(calm: Points) -> None:
    transfer = transfer_for(calm)
    driver = Driver(calm)
    driver.drive(transfer, frame_times(0, 3, fps=1))
    transfer.calibrate()
    driver.drive(transfer, frame_times(3, 5, fps=1))
    assert not transfer.calibrating


def test_a_calibration_goes_on_when_the_image_is_mirrored(calm: Points) -> None:
    """With the collected faces flipped."""
    driver = Driver(calm, face=lambda now: {"smile": 0.1 * (now > 1)}, turn=lambda now: (0, 10 * (now > 1), 0))
    transfer = transfer_for(calm)
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
    assert distance(motions[-1], with_expression(calm, smile=0.1)[MIRROR] * flip) < 0.01
    assert_at_rest(motions[-1], atol=5e-3)


def test_a_portrait_whose_expression_cannot_be_read_is_taken_for_a_calm_one(calm: Points) -> None:
    """Its landmarks are no face: the neutral is a face all the same."""
    transfer = MotionTransfer("auto")
    rubbish = np.random.default_rng(0).normal(0, 1, calm.shape).astype(np.float32)
    transfer.set_portrait(face_state(rubbish))
    motions = Driver(calm, noise=NOISE).drive(transfer, frame_times(0, 1))
    assert distance(motions[-1], calm) < 0.05
    assert np.abs(turn(motions[-1])).max() < 15


def other_person(calm: Points) -> Points:
    """Return a face that has other proportions."""
    return np.asarray(calm * np.array([1.1, 0.94, 1.1], np.float32), np.float32)


@pytest.mark.parametrize(("same", "least", "most"), [(True, 0.0, 0.002), (False, 0.01, 0.2)])
def test_on_ones_own_portrait_the_neutral_is_its_face(calm: Points, same: bool, least: float, most: float) -> None:
    """However much of the driver's expression the shipped model leaves unexplained."""
    driver = Driver(calm if same else other_person(calm), face=lambda _: {"brows": 0.02, "smile": 0.02})
    motion = driver.drive(shipped_transfer(calm), frame_times(0, 2))[-1]
    assert least <= distance(motion, calm) < most


def test_the_rest_turn_follows_sooner_while_the_head_turns(calm: Points) -> None:
    """A driver who begins with a bowed head: what the rest has to make up for is not seen in a head that moves."""

    def left_over(nod: float) -> float:
        """Return by how many degrees the pitch at rest is wrong after five seconds."""
        bowed = ramp(0.3, 0.3)
        driver = Driver(calm, turn=lambda now: (-20 + 20 * bowed(now) + nod * np.sin(8 * now), 0, 0))
        transfer = MotionTransfer("auto")
        transfer.set_portrait(face_state(other_person(calm)))
        motions = driver.drive(transfer, frame_times(0, 5))
        first, last = (float(np.mean([turn(motion)[0] for motion in part])) for part in (motions[15:39], motions[-24:]))
        return last - first

    assert abs(left_over(8)) > 1.5 * abs(left_over(0.2))


def test_a_calibration_waits_for_a_face_that_moves(calm: Points) -> None:
    """A painting before the camera is no rest of the user's."""
    transfer = transfer_for(calm)
    painting, driver = Driver(calm, face=lambda _: {"jaw": 0.2}), Driver(calm)

    def show(who: Driver, start: float, end: float, *, picture: bool) -> Motion:
        for now in frame_times(start, end):
            face = who.at(now)
            assert face is not None
            motion = transfer.update(replace(face, is_picture=picture, driver_id=int(not picture)), face.time_ns)
        return motion

    show(painting, 0, 1, picture=True)
    transfer.calibrate()
    show(painting, 1, 3, picture=True)
    assert transfer.calibrating
    motion = show(driver, 3, 5, picture=False)
    assert not transfer.calibrating
    assert distance(motion, calm) < 2e-3


def test_a_face_that_reads_as_bowed_rests_as_it_is_on_a_portrait_of_its_own(calm: Points) -> None:
    """A drawing of a face may read as bowed by 20 degrees while it looks ahead."""
    bowed = head_pose((math.radians(-22), 0.0, 0.0), (320, 210), 70)
    transfer = MotionTransfer("auto")
    transfer.set_portrait(face_state(calm, bowed))
    motions = Driver(calm, turn=lambda _: (-22, 0, 0)).drive(transfer, frame_times(0, 1))
    assert max(abs(turn(motion)[0]) for motion in motions) < 1.0
