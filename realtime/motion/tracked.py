"""Faces that another program has tracked: coefficients and the turn of the head, without a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from engines.face.coefficients import MIRRORED, NAMES, READ
from engines.face.head import from_turn_angles
from engines.face.rig import shipped_rig
from engines.types import LANDMARKS, FaceState, Floats, Motion, Points
from realtime.core.frames import Frame
from realtime.motion.direction import BLINKS, close_lids
from realtime.tracking.settings import Driver

_NO_LANDMARKS = np.zeros((LANDMARKS, 3), np.float32)
_FLIP = np.array([1, -1, -1], np.float32)


def tracked_face(coefficients: Floats, turn: Floats, seq: int, time_ns: int) -> FaceState:
    """Return the face with these coefficients, (52,), and turn of the head, (3,) radians, see ``FaceState.turn``."""
    return FaceState(seq, time_ns, _NO_LANDMARKS, (640, 480), expression=coefficients, turn=turn, steady=True)


def mirrored(face: FaceState) -> FaceState:
    """Return a tracked face as it would be seen in the horizontally flipped picture."""
    assert face.expression is not None
    assert face.turn is not None
    return replace(face, expression=face.expression[MIRRORED], turn=face.turn * _FLIP)


_REST_LIMIT = np.array([0.3 if name.startswith(("eye", "brow")) else 0.1 for name in NAMES], np.float32)
"""How much of each coefficient may be the face at rest: trackers read a little of everything, most around eyes."""
FALL, RISE = 4.0, 0.01
"""How fast the rest follows lower and higher coefficients, shares and units per second."""
_TURN_LIMIT = np.float32(0.3)
"""How far a head may be turned at rest, radians: a camera stands above, below or aside."""


class FaceListener(Protocol):
    """Is given every face of the driver, on the thread that tracks."""

    def add(self, face: FaceState) -> None:
        """Take a face in, without waiting. Raises SinkLost."""

    def close(self) -> None:
        """Release everything. Idempotent. Raises SinkLost if what was written could not be finished."""


class CoefficientMotion:
    """Turns coefficients into motion by the rig, on the portrait's own face: its expression is what rest looks like.

    The face at rest is what its coefficients fall to, and the head's turn in the first frame.
    """

    def __init__(self) -> None:
        self._rest: Floats | None = None
        self._rest_turn = np.zeros(3, np.float32)
        self._fixed = False
        self._calibrating = False
        self._time_ns = 0

    def calibrate(self) -> None:
        """Take the next face for one at rest, for good."""
        self._calibrating = True

    def _learn(self, coefficients: Floats, turn: Floats, time_ns: int) -> Floats:
        """Return the coefficients of the face at rest, (52,)."""
        passed = min(max(time_ns - self._time_ns, 0) / 1e9, 0.5)
        self._time_ns = time_ns
        if self._calibrating:
            self._rest, self._rest_turn, self._fixed, self._calibrating = coefficients, turn, True, False
        elif self._rest is None:
            self._rest = np.minimum(coefficients, _REST_LIMIT)
            self._rest_turn = np.clip(turn, -_TURN_LIMIT, _TURN_LIMIT)
        elif not self._fixed:
            away = coefficients - self._rest
            step = np.where(away < 0, away * min(FALL * passed, 1), np.minimum(away, RISE * passed))
            self._rest = np.minimum(self._rest + step, _REST_LIMIT).astype(np.float32)
        return self._rest

    def motion(self, face: FaceState, own: Points) -> Motion:
        """Return the motion of a tracked face for a portrait whose face is ``own``, (478, 3)."""
        assert face.expression is not None
        assert face.turn is not None
        coefficients = (face.expression - self._learn(face.expression, face.turn, face.time_ns))[:READ]
        np.maximum(coefficients, 0, out=coefficients)
        blinks = coefficients[BLINKS]
        coefficients[BLINKS] = 0
        shape = own + shipped_rig().displacement(coefficients)
        close_lids(shape, blinks)
        rotation = from_turn_angles(np.asarray(face.turn - self._rest_turn, np.float32))
        return Motion(rotation, np.zeros(2, np.float32), 1.0, own, np.asarray(shape, np.float32), own)


class NoTracker:
    """Stands for a tracker where the source has tracked the face itself."""

    name = "none: the source tracks the face"

    def __init__(self) -> None:
        self.driver: Driver = "auto"

    def track(self, frame: Frame) -> FaceState | None:
        """Return the face that the source has found."""
        return frame.face

    def reset(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
