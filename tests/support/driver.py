"""Scripted drivers, whose landmarks are known, and measures of the motion that they cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.face.coefficients import CoefficientModel, canonical_shape
from engines.face.head import rotation_vector
from engines.face.topology import MIRROR
from engines.types import LANDMARKS, FaceState, Floats, Motion, Points
from realtime.motion.motion_transfer import MotionTransfer
from realtime.motion.settings import NeutralMode
from tests.support.faces import SIZE, at_pixels, face_state, head_pose, with_expression

START_NS = 5_000_000_000
"""The time_ns of second 0."""
NOISE = 0.003
"""Standard deviation of the landmarks of a still face, in head units."""


@dataclass
class Driver:
    """A driver scripted by functions of time in seconds: expression, turn in degrees, position and scale."""

    calm: Points
    face: Callable[[float], dict[str, Any]] = lambda _: {}
    turn: Callable[[float], tuple[float, float, float]] = lambda _: (0, 0, 0)
    place: Callable[[float], tuple[float, float, float]] = lambda _: (320, 210, 70)
    present: Callable[[float], bool] = lambda _: True
    noise: float = 0.0

    def at(self, seconds: float) -> FaceState | None:
        """Return the tracked face at a time in seconds, or None while the driver is absent."""
        if not self.present(seconds):
            return None
        shape = with_expression(self.calm, **self.face(seconds))
        noise = np.random.default_rng(round((seconds + 10) * 1000)).normal(0, self.noise, shape.shape)
        x, y, scale = self.place(seconds)
        pose = head_pose(np.radians(self.turn(seconds)), (x, y), scale)
        return face_state(shape + noise.astype(np.float32), pose, time_ns=START_NS + round(seconds * 1e9))

    def drive(self, transfer: MotionTransfer, times: Iterable[float]) -> list[Motion]:
        """Feed the faces at these times in seconds to ``transfer``. Return the motions."""
        return [transfer.update(self.at(seconds), START_NS + round(seconds * 1e9)) for seconds in times]


class ExactModel(CoefficientModel):
    """Reads the expression of scripted drivers without error: a code is the difference from the driver's calm face.

    Of several drivers, and of these in flipped images, it is the one whose calm face is the nearest.
    """

    def __init__(self, *calm: Points) -> None:
        nothing = np.zeros(0, np.float32)
        super().__init__(np.zeros(0, np.intp), nothing, (), np.zeros((LANDMARKS * 3, 0), np.float32))
        faces = [face for each in map(face_state, calm) for face in (each, mirrored(each))]
        object.__setattr__(self, "_calm", [canonical_shape(face.pixels()) for face in faces])

    def read(self, shape: Points) -> Floats:
        codes: list[Floats] = [(shape - calm).reshape(-1) for calm in self._calm]  # type: ignore[attr-defined]
        return min(codes, key=lambda code: float(np.square(code).sum()))

    def is_plausible(self, code: Floats) -> bool:
        return bool(np.isfinite(code).all())

    def displacement(self, code: Floats) -> Points:
        return code.reshape(LANDMARKS, 3)


def transfer_for(calm: Points, mode: NeutralMode = "auto") -> MotionTransfer:
    """Return a motion transfer to a portrait with the driver's calm face. Expressions are read without error."""
    transfer = MotionTransfer(mode, model=ExactModel(calm))
    transfer.set_portrait(face_state(calm))
    return transfer


def frame_times(start: float, end: float, fps: float = 30) -> NDArray[np.float64]:
    """Return the times of the frames from ``start`` until ``end``, in seconds."""
    return np.arange(round((end - start) * fps)) / fps + start


def change(motion: Motion) -> Points:
    """Return the expression minus the neutral."""
    return np.asarray(motion.expression - motion.neutral, np.float32)


def turn(motion: Motion) -> NDArray[np.float32]:
    """Return the rotation vector in degrees."""
    return np.asarray(np.degrees(rotation_vector(motion.rotation)), np.float32)


def assert_at_rest(motion: Motion, atol: float = 1e-6) -> None:
    """Assert that a motion leaves the portrait as it is."""
    np.testing.assert_allclose(motion.rotation, np.eye(3), atol=atol)
    np.testing.assert_allclose(motion.translation, 0, atol=atol)
    assert motion.scale == pytest.approx(1, abs=atol)
    np.testing.assert_allclose(motion.expression, motion.neutral, atol=10 * atol)


def ramp(at: float, over: float) -> Callable[[float], float]:
    """Return a function that is 1 before a time and eases to 0 within ``over`` seconds."""

    def value(now: float) -> float:
        share = min(max((now - at) / over, 0), 1)
        return 1 - share * share * (3 - 2 * share)

    return value


def mirrored(face: FaceState) -> FaceState:
    """Return the face as seen in the horizontally flipped image."""
    pixels = face.pixels()[MIRROR] * np.array([-1, 1, 1], np.float32) + np.array([SIZE[0], 0, 0], np.float32)
    return at_pixels(pixels, time_ns=face.time_ns)
