"""Faces that another program has tracked move the portrait by their coefficients."""

from __future__ import annotations

import numpy as np

from engines.face.coefficients import NAMES
from engines.face.head import turn_angles
from engines.face.rig import shipped_rig
from engines.types import FaceState
from realtime.motion.motion_transfer import MotionTransfer
from realtime.motion.tracked import mirrored, tracked_face
from tests.support.faces import eye_gaps, face_state, mouth_gap

CALM = shipped_rig().face
FRAME = 33_333_333


def face(time_ns: int = 0, turn: tuple[float, float, float] = (0, 0, 0), **values: float) -> FaceState:
    coefficients = np.zeros(len(NAMES), np.float32)
    for name, value in values.items():
        coefficients[NAMES.index(name)] = value
    return tracked_face(coefficients, np.array(turn, np.float32), 0, time_ns)


def transfer() -> MotionTransfer:
    done = MotionTransfer()
    done.set_portrait(face_state(CALM))
    return done


def test_coefficients_and_turn_are_those_of_the_other_program_at_once() -> None:
    moved = transfer()
    moved.update(face(), 0)
    motion = moved.update(face(FRAME, turn=(0.1, -0.2, 0.05), jawOpen=0.5), FRAME)
    assert mouth_gap(motion.expression) > mouth_gap(motion.neutral) + 0.15
    np.testing.assert_allclose(turn_angles(motion.rotation), (0.1, -0.2, 0.05), atol=1e-5)


def test_a_blink_of_one_eye_shuts_that_eye() -> None:
    moved = transfer()
    moved.update(face(), 0)
    motion = moved.update(face(FRAME, eyeBlinkLeft=1.0), FRAME)
    right, left = eye_gaps(motion.expression) / eye_gaps(motion.neutral)
    assert left < 0.3
    assert right > 0.95


def test_calibrating_takes_the_next_face_as_at_rest() -> None:
    moved = transfer()
    moved.update(face(jawOpen=0.3, turn=(0, 0.3, 0)), 0)
    moved.calibrate()
    motion = moved.update(face(FRAME, jawOpen=0.3, turn=(0, 0.3, 0)), FRAME)
    np.testing.assert_allclose(motion.expression, motion.neutral, atol=1e-5)
    np.testing.assert_allclose(motion.rotation, np.eye(3), atol=1e-5)


def test_what_a_tracker_reads_of_a_face_at_rest_leaves_the_portrait_as_it_is() -> None:
    moved = transfer()
    rest = face(turn=(0.2, 0, 0), eyeSquintLeft=0.25, eyeLookDownLeft=0.2, browDownLeft=0.2, mouthPressLeft=0.05)
    motion = moved.update(rest, 0)
    np.testing.assert_allclose(motion.expression, motion.neutral, atol=1e-4)
    np.testing.assert_allclose(motion.rotation, np.eye(3), atol=1e-5)


def test_a_face_that_begins_with_a_blink_is_at_rest_once_the_eyes_are_open() -> None:
    moved = transfer()
    moved.update(face(eyeBlinkLeft=1.0, eyeBlinkRight=1.0), 0)
    for frame in range(1, 60):
        moved.update(face(frame * FRAME), frame * FRAME)
    motion = moved.update(face(60 * FRAME, eyeBlinkLeft=1.0, eyeBlinkRight=1.0), 60 * FRAME)
    assert (eye_gaps(motion.expression) < 0.3 * eye_gaps(motion.neutral)).all()


def test_silence_eases_to_rest() -> None:
    moved = transfer()
    moved.update(face(jawOpen=0.8), 0)
    for frame in range(1, 60):
        motion = moved.update(None, frame * FRAME)
    np.testing.assert_allclose(motion.expression, motion.neutral, atol=1e-4)


def test_a_mirrored_face_winks_with_the_other_eye() -> None:
    other = mirrored(face(turn=(0.1, 0.2, 0.3), eyeBlinkLeft=1.0))
    assert other.expression is not None
    assert other.turn is not None
    assert other.expression[NAMES.index("eyeBlinkRight")] == 1
    np.testing.assert_allclose(other.turn, (0.1, -0.2, -0.3), atol=1e-6)
