"""Motion relative to the neutral, smoothing, and the motion while a face is lost, of scripted drivers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.face.coefficients import CoefficientModel, shipped
from engines.face.head import rotation_matrix, rotation_vector, turn_angles
from engines.face.perspective import seen_turn
from engines.face.topology import MIRROR
from engines.types import FaceState, Motion, Points
from realtime.motion.motion_transfer import HOLD_NS, REST_NS, RETURN_NS, MotionTransfer
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
from tests.support.faces import SIZE, at_pixels, eye_gaps, face_state, head_pose, with_expression

# --- relative motion


@pytest.mark.parametrize(
    ("model", "most"),
    [
        pytest.param(ExactModel, 0.02, id="exact"),
        # half of what the shipped model does not know of a scripted expression counts
        pytest.param(lambda _: shipped(), 0.08, id="shipped"),
    ],
)
@given(
    st.tuples(*[st.floats(-25, 25)] * 3),
    st.tuples(st.floats(200, 440), st.floats(150, 300), st.floats(40, 110)),
    st.tuples(*[st.floats(-15, 15)] * 3),
    st.floats(30, 150),
)
def test_motion_is_relative_to_the_neutral(
    calm: Points,
    model: Callable[[Points], CoefficientModel],
    most: float,
    wanted: tuple[float, float, float],
    place: tuple[float, float, float],
    first: tuple[float, float, float],
    scale: float,
) -> None:
    """Wherever the driver sits and however the camera is turned."""
    transfer = MotionTransfer("first", model=model(calm))
    expression = with_expression(calm, jaw=0.2, smile=0.05)
    begin = head_pose(np.radians(first), (320, 210), scale)
    start = face_state(calm, begin, time_ns=START_NS)
    transfer.update(start, START_NS)
    then = START_NS + 600_000_000  # after such a gap nothing is smoothed
    extra = rotation_matrix(np.radians(wanted).astype(np.float32))
    now = replace(head_pose((0, 0, 0), place[:2], place[2]), rotation=extra @ begin.rotation)
    face = face_state(expression, now, time_ns=then)
    motion = transfer.update(face, then)
    turned_by = seen_turn(face.pixels(), face.size) - seen_turn(start.pixels(), start.size)
    np.testing.assert_allclose(turn_angles(motion.rotation), turned_by, atol=1e-4)
    np.testing.assert_allclose(
        motion.translation, (np.array(place[:2]) - (320, 210)) / scale, atol=0.05 * (1 + 70 / scale)
    )
    assert motion.scale == pytest.approx(place[2] / scale, rel=0.02)
    np.testing.assert_allclose(change(motion), expression - calm, atol=most)


def drive_once(transfer: MotionTransfer, calm: Points) -> Motion:
    """Return the motion of a driver who talks, has turned and has moved after the neutral."""
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.2 * (now > 0)},
        turn=lambda now: (0, 15.0 * (now > 0), 5.0 * (now > 0)),
        place=lambda now: (320 + 30 * (now > 0), 210, 70 + 7 * (now > 0)),
    )
    return driver.drive(transfer, [0, 0.6])[-1]


def test_a_region_leaves_out_the_others(calm: Points) -> None:
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
def test_gain_multiplies_the_expression_only(calm: Points, gain: float) -> None:
    plain = drive_once(MotionTransfer("first"), calm)
    scaled = drive_once(MotionTransfer("first", gain=gain), calm)
    np.testing.assert_allclose(change(scaled), gain * change(plain), atol=1e-5)
    np.testing.assert_allclose(scaled.rotation, plain.rotation, atol=1e-6)
    np.testing.assert_allclose(scaled.translation, plain.translation, atol=1e-6)


def test_gain_and_region_may_change_at_any_time(calm: Points) -> None:
    transfer = MotionTransfer("first")
    before = drive_once(transfer, calm)
    transfer.gain, transfer.region = 2.0, "expression"
    held = transfer.update(None, START_NS + 650_000_000)
    np.testing.assert_allclose(change(held), 2 * change(before), atol=1e-5)
    np.testing.assert_allclose(held.rotation, np.eye(3), atol=1e-6)


# --- a face that is lost


def size_of(motion: Motion) -> float:
    """Return a measure of the distance from rest."""
    return float(np.abs(change(motion)).max() + np.abs(turn(motion)).max() / 20 + np.abs(motion.translation).max())


@pytest.fixture
def lost(calm: Points) -> list[tuple[float, Motion]]:
    """Times in seconds and motions of a driver who is away from the neutral, and out of the image from 2 s to 4 s."""
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * (1 - ramp(0.5, 0.5)(now))},
        turn=lambda now: (0, 15 * (1 - ramp(0.5, 0.5)(now)), 0),
        place=lambda now: (320 + 30 * (1 - ramp(0.5, 0.5)(now)), 210, 70),
        present=lambda now: not 2 <= now < 4,
        noise=NOISE,
    )
    times = frame_times(0, 6)
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


def test_a_lost_face_eases_to_rest_within_a_second(lost: list[tuple[float, Motion]]) -> None:
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


def test_presence_is_the_share_of_the_motion_that_is_left(lost: list[tuple[float, Motion]]) -> None:
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


def test_a_short_loss_is_hardly_noticed(calm: Points) -> None:
    """Trackers lose a face for a frame or two at every quick turn."""
    always = Driver(calm, turn=lambda now: (0, 12 * np.sin(2 * now), 0))
    gaps = replace(always, present=lambda now: now % 1 < 0.9)
    times = frame_times(0, 4)
    pairs = zip(always.drive(MotionTransfer("first"), times), gaps.drive(MotionTransfer("first"), times), strict=True)
    assert max(np.abs(turn(one) - turn(other)).max() for one, other in pairs) < 4


def test_a_face_that_flickers_never_makes_a_jump(calm: Points) -> None:
    rng = np.random.default_rng(2)
    shown = {round(now * 30): bool(rng.random() < 0.4) for now in frame_times(0, 10)}
    driver = Driver(
        calm,
        face=lambda _: {"jaw": 0.3},
        turn=lambda _: (0, 12, 0),
        present=lambda now: now < 0.2 or (int(now) % 3 != 2 and shown[round(now * 30)]),
    )
    transfer = MotionTransfer("first")
    Driver(calm).drive(transfer, [-1.0])
    sizes = [size_of(motion) for motion in driver.drive(transfer, frame_times(0, 10))]
    assert np.abs(np.diff(sizes[15:])).max() < 0.35 * max(sizes)


def other_side(calm: Points, back: float) -> Driver:
    """Return a driver who turns with an open mouth, is lost at 1 s, and returns turned the other way, mouth closed."""
    return Driver(
        calm,
        face=lambda now: {"jaw": 0.3 * (0 < now < 1)},
        turn=lambda now: (0, (18 if now < 1 else -18) * (now > 0), 0),
        place=lambda now: (320 + (20 if now < 1 else -20) * (now > 0), 210, 70),
        present=lambda now: not 1 <= now < back,
    )


def steps(motions: list[Motion]) -> NDArray[np.float64]:
    """Return how far each motion is from the one before, (n - 1, 3): degrees, expression, translation."""
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
def test_a_face_found_again_in_another_pose_makes_no_jump(calm: Points, back: float) -> None:
    """However little the portrait has eased to rest by then."""
    transfer = MotionTransfer("first")
    motions = other_side(calm, back).drive(transfer, frame_times(0, 3.5))
    whole = steps([motions[29], motions[-1]])[0]
    assert whole[0] > 30
    assert (steps(motions[29:]).max(axis=0) < 0.25 * whole).all()
    there = motions[round((back + RETURN_NS / 1e9) * 30) + 1]
    assert (steps([there, motions[-1]])[0] < 0.02 * whole).all()


def test_a_face_lost_again_while_easing_in_makes_no_jump(calm: Points) -> None:
    driver = other_side(calm, 1.5)
    flickering = replace(driver, present=lambda now: now < 1 or 1.5 <= now < 1.6 or 1.7 <= now < 1.75 or now >= 2.2)
    motions = flickering.drive(MotionTransfer("first"), frame_times(0, 3.5))
    whole = steps([motions[29], motions[-1]])[0]
    assert (steps(motions[29:]).max(axis=0) < 0.25 * whole).all()


def test_mirroring_while_easing_in_makes_no_jump(calm: Points) -> None:
    driver = other_side(calm, 1.5)
    straight, flipped = MotionTransfer("first"), MotionTransfer("first")
    driver.drive(straight, frame_times(0, 1.6))
    driver.drive(flipped, frame_times(0, 1.6))
    flipped.mirror()
    for now in 1.6 + frame_times(0, 0.5):
        face = driver.at(now)
        assert face is not None
        one, other = straight.update(face, face.time_ns), flipped.update(mirrored(face), face.time_ns)
        np.testing.assert_allclose(turn(other), turn(one) * (1, -1, -1), atol=0.5)
        np.testing.assert_allclose(change(other), change(one)[MIRROR] * (-1, 1, 1), atol=0.02)


# --- a driver who was away


@pytest.mark.parametrize("calibrated", [False, True])
def test_after_an_absence_the_new_position_is_at_rest(calm: Points, calibrated: bool) -> None:
    """The shape and the turn at rest are kept. Motion counts again once the driver sits."""

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
    transfer = transfer_for(calm)
    if calibrated:
        driver.drive(transfer, frame_times(0, 1))
        transfer.calibrate()
        driver.drive(transfer, frame_times(1, 3))
    else:
        driver.drive(transfer, frame_times(0, 3))
    sitting_down = driver.drive(transfer, frame_times(3, 6.5))[-45:]
    assert max(np.abs(motion.translation).max() for motion in sitting_down) < 1
    faces = driver.at(0), driver.at(7)
    turned_by = np.subtract(*(seen_turn(face.pixels(), face.size) for face in reversed(faces) if face is not None))
    for motion in driver.drive(transfer, frame_times(6.5, 8)):
        np.testing.assert_allclose(motion.translation, 0, atol=0.1)
        assert motion.scale == pytest.approx(1, rel=0.03)
        np.testing.assert_allclose(turn_angles(motion.rotation), turned_by, atol=0.02)
    moved = driver.drive(transfer, frame_times(8, 9))[-1]
    np.testing.assert_allclose(moved.translation, (0.4, 0), atol=0.1)


@pytest.mark.parametrize(("mode", "back"), [("auto", 2.5), ("first", 4)])
def test_a_short_loss_or_the_mode_first_keeps_the_rest_position(calm: Points, mode: NeutralMode, back: float) -> None:
    driver = Driver(
        calm,
        place=lambda now: (320 + 40 * (now >= 2), 210, 70),
        present=lambda now: not 2 <= now < back,
    )
    motion = driver.drive(transfer_for(calm, mode), frame_times(0, 8))[-1]
    assert motion.translation[0] == pytest.approx(40 / 70, abs=0.05)


# --- another image size


@pytest.mark.parametrize("mode", ["auto", "first"])
@pytest.mark.parametrize("size", [(320, 240), (1280, 960), (1280, 720), (240, 320)], ids=str)
def test_an_image_of_another_size_changes_nothing(calm: Points, mode: NeutralMode, size: tuple[int, int]) -> None:
    """As when a camera is reopened or a browser sends smaller frames: the driver has not moved."""
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.1 * (now > 0.5)},
        turn=lambda now: (0, 10 * (now > 0.5), 0),
        place=lambda now: (320 + 30 * (now > 0.5), 250, 70),
    )
    transfer = transfer_for(calm, mode)
    before = driver.drive(transfer, frame_times(0, 3))[-1]
    times = 3 + frame_times(0, 3)
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
    """Return the face as seen by a camera of another size with the same view along its shorter side."""
    pixels = face.pixels() - np.array([SIZE[0] / 2, SIZE[1] / 2, 0], np.float32)
    pixels = pixels * np.float32(min(size) / min(SIZE)) + np.array([size[0] / 2, size[1] / 2, 0], np.float32)
    return at_pixels(pixels, time_ns=face.time_ns, size=size)


# --- mirroring


@pytest.mark.parametrize("mode", ["auto", "first"])
def test_after_mirroring_the_mirrored_driver_gives_the_mirrored_motion(calm: Points, mode: NeutralMode) -> None:
    driver = Driver(
        calm,
        face=lambda now: {"jaw": 0.1 + 0.1 * np.sin(5 * now), "smile": 0.05},
        turn=lambda now: (5, 10 * np.sin(now), 3),
        place=lambda now: (250 + 20 * now, 200, 70),
        noise=NOISE,
    )
    # without a portrait: it is not flipped, and turns count from its own
    straight, flipped = (MotionTransfer(mode, model=ExactModel(calm)) for _ in range(2))
    driver.drive(straight, frame_times(0, 2))
    driver.drive(flipped, frame_times(0, 2))
    flipped.mirror()
    straight.mirror()
    straight.mirror()  # twice: the smoother starts again in both
    flip = np.array([-1, 1, 1], np.float32)
    for now in frame_times(2, 4):
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


def test_mirroring_before_any_face_changes_nothing(calm: Points) -> None:
    transfer = transfer_for(calm)
    transfer.mirror()
    assert_at_rest(transfer.update(face_state(calm, time_ns=START_NS), START_NS), atol=1e-3)


def test_a_held_motion_is_mirrored(calm: Points) -> None:
    driver = Driver(calm, turn=lambda now: (0, 15.0 * (now > 0), 0))
    transfer = MotionTransfer("first")
    before = driver.drive(transfer, frame_times(0, 1))[-1]
    transfer.mirror()
    held = transfer.update(None, START_NS + 1_033_000_000)
    assert turn(held)[1] == pytest.approx(-turn(before)[1], abs=1)


# --- smoothing and time


def test_noise_on_a_still_face_is_reduced(calm: Points) -> None:
    noise = 0.002
    driver = Driver(calm, turn=lambda _: (3, 5, 0), noise=noise)
    motions = driver.drive(MotionTransfer("first"), frame_times(0, 6))[60:]
    shapes = np.array([change(motion) for motion in motions])
    assert shapes.std(axis=0).mean() < 0.75 * noise
    assert np.diff(shapes, axis=0).std() < 0.55 * np.sqrt(2) * noise
    assert np.array([turn(motion) for motion in motions]).std(axis=0).max() < 0.03


def test_a_quick_blink_gets_through(calm: Points) -> None:
    """Without blinks a portrait stares."""
    driver = Driver(calm, face=lambda now: {"shut": 0.7 * (1 <= now < 1.13)})
    motions = driver.drive(transfer_for(calm, "first"), frame_times(0, 2))
    least = min(eye_gaps(motion.expression).max() for motion in motions)
    assert least < 0.5 * eye_gaps(calm).min()


def test_a_quick_turn_lags_little(calm: Points) -> None:
    driver = Driver(calm, turn=lambda now: (0, 20 * np.sin(2 * np.pi * now), 0))
    times = frame_times(0, 3)
    yaw = np.array([turn(motion)[1] for motion in driver.drive(MotionTransfer("first"), times)])
    lags = [
        np.corrcoef(yaw[30:], 20 * np.sin(2 * np.pi * (times[30:] - lag)))[0, 1] for lag in (0, 1 / 30, 2 / 30, 0.1)
    ]
    assert int(np.argmax(lags)) <= 1
    assert np.ptp(yaw[30:]) > 35


def test_landmarks_smoothed_by_the_tracker_are_not_smoothed_again(calm: Points) -> None:
    driver = Driver(calm, face=lambda now: {"shut": 0.7 * (now >= 1)}, turn=lambda now: (0, 10 * (now >= 1), 0))
    motions = {}
    for steady in (False, True):
        transfer = MotionTransfer("first")
        faces = [replace(face, steady=steady) for face in map(driver.at, frame_times(0, 2)) if face is not None]
        motions[steady] = [transfer.update(face, face.time_ns) for face in faces]
    at_once, late = motions[True][30], motions[False][30]
    np.testing.assert_allclose(at_once.expression, motions[True][-1].expression, atol=1e-5)
    np.testing.assert_allclose(turn(at_once), turn(motions[True][-1]), atol=1e-3)
    assert np.abs(late.expression - motions[False][-1].expression).max() > 1e-3


def test_dropped_frames_hardly_change_the_motion(calm: Points) -> None:
    """Filters and easing depend on time, not on frames."""
    driver = Driver(
        calm,
        face=lambda now: {
            "jaw": 0.3 * ramp(1, 0.4)(now) + 0.1 * (1 + np.sin(4 * now)) * (now > 3),
            "smile": 0.05 * (1 - ramp(4, 0.5)(now)),
        },
        turn=lambda now: (3 * np.sin(2 * now), 10 * np.sin(1.3 * now), 0),
    )
    all_times = frame_times(0, 7)
    every = driver.drive(MotionTransfer("auto"), all_times)[::2]
    second = driver.drive(MotionTransfer("auto"), all_times[::2])
    for one, other in zip(every, second, strict=True):
        assert np.abs(change(one) - change(other)).max() < 0.09
        assert np.abs(turn(one) - turn(other)).max() < 4
    means = [np.abs(change(one) - change(other)).mean() for one, other in zip(every, second, strict=True)]
    assert float(np.mean(means)) < 0.005


# --- another driver


def test_another_person_is_eased_in_from_what_was_shown(calm: Points) -> None:
    """Neither the head nor the mouth jumps, and the new face is relative to its own neutral."""
    transfer = MotionTransfer()
    talking = with_expression(calm, jaw=0.3)
    here, there = head_pose((0, 0.2, 0), (200, 200), 60), head_pose((0, -0.2, 0.1), (450, 260), 90)
    motions = []
    for step in range(120):
        time_ns = START_NS + step * 33_000_000
        face = (
            face_state(talking, here, time_ns=time_ns) if step < 60 else face_state(calm * 1.05, there, time_ns=time_ns)
        )
        motions.append(transfer.update(replace(face, driver_id=int(step >= 60)), time_ns))
    for before, after in pairwise(motions):
        assert np.abs(change(after) - change(before)).max() < 0.06
        assert np.abs(turn_angles(after.rotation) - turn_angles(before.rotation)).max() < 0.06
        assert np.abs(after.translation - before.translation).max() < 0.1
    assert np.abs(motions[-1].translation).max() < 0.2
