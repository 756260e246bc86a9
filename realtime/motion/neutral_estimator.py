"""Estimates the driver's neutral over all frames seen so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose, pose_against, rotation_vector
from engines.face.topology import (
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LOWER_LIDS,
    LOWER_LIP_MIDDLE,
    MOUTH_CORNERS,
    UPPER_LIDS,
    UPPER_LIP_MIDDLE,
)
from engines.types import NEUTRAL_EASE_S, FaceState, Points
from realtime.motion.neutral import Neutral, RestPose, to_sides
from realtime.motion.settings import NeutralMode

CALIBRATION_NS = 500_000_000
"""A calibration takes the mean of the faces seen in this time."""
SETTLE_NS = 1_500_000_000
"""A driver who returns takes this long to sit down. Until then a change of position is not motion of the face."""
ARRIVED = 2e-4
"""A neutral or rest pose this close to its target has arrived, in face scales or radians."""
SCORE_INTERVAL_NS = 60_000_000
"""How often a frame is scored as a neutral."""
EYES_RISE, EYES_FALL = np.float32(0.1), np.float32(0.033)
"""How fast the estimate of open eyes follows wider and narrower eyes, in eye openings per second."""
AVERAGE_S = 10.0
"""Time constant of the driver's average face."""

_LIP_MIDDLES = np.array([UPPER_LIP_MIDDLE, LOWER_LIP_MIDDLE])


def eye_openings(shape: Points) -> NDArray[np.float32]:
    """Return how far each eye is open, (2,) float32: mean gap between the lids over the width of the eye."""
    openings = []
    for corners, upper, lower in zip(EYE_CORNERS, UPPER_LIDS, LOWER_LIDS, strict=True):
        gap = np.linalg.norm((shape[lower] - shape[upper])[2:5, :2], axis=1).mean()
        openings.append(gap / max(float(np.linalg.norm(shape[corners[0]] - shape[corners[1]])), 1e-6))
    return np.array(openings, np.float32)


def mouth_opening(shape: Points) -> float:
    """Return how far the lips are apart over the width of the mouth."""
    gap = float(np.abs(shape[INNER_LOWER_LIP[3:6], 1] - shape[INNER_UPPER_LIP[3:6], 1]).mean())
    return gap / max(float(np.linalg.norm(shape[MOUTH_CORNERS[0]] - shape[MOUTH_CORNERS[1]])), 1e-6)


def corner_drop(shape: Points) -> float:
    """Return how far the corners of the mouth lie below the middle of the lips, in face scales; negative in a smile."""
    return float(shape[MOUTH_CORNERS, 1].mean() - shape[_LIP_MIDDLES, 1].mean())


@dataclass(slots=True)
class _BestNeutral:
    """The best neutral seen so far: the target that the neutral in use approaches."""

    neutral: Neutral
    rest: RestPose
    tilt: float = 0.0
    """Angle by which the head was turned away, in radians."""
    speed: float = 0.0
    """How fast the face was moving, in face scales per second."""
    calibrated: bool = False
    """True if the user has calibrated it: it is then not replaced by a better one."""


class NeutralEstimator:
    """Estimates the driver's neutral, and in the mode ``auto`` improves it with every frame.

    The first frame is a guess, and a bad one if the driver starts in the middle of a word. So frames are scored for how
    still, frontal, closed-mouthed and open-eyed the face is. A clearly better one becomes the target that the neutral
    in use approaches.
    """

    COST_FACTOR, COST_MARGIN = 0.8, 0.03
    """A neutral is replaced by one of less than this factor of its cost, minus this margin, so not because of noise."""

    def __init__(self, mode: NeutralMode) -> None:
        self._mode = mode
        self._best: _BestNeutral | None = None
        self._current: Neutral | None = None
        self._rest: RestPose | None = None
        self._average_shape: Points | None = None
        self._open_eyes = np.zeros(2, np.float32)
        self._last_shape: Points | None = None
        self._time_ns = 0
        self._scored_ns = -SCORE_INTERVAL_NS
        self._rest_share = 0.0
        self._returned_ns: int | None = None
        self._collected: list[Neutral] | None = None
        self._collect_until_ns = 0

    @property
    def rest_share(self) -> float:
        """Share of the last frame in the neutral, see ``Motion.rest_share``."""
        return self._rest_share

    @property
    def rest(self) -> RestPose:
        """The pose from which head motion counts. Available after the first ``update``."""
        assert self._rest is not None
        return self._rest

    @property
    def calibrating(self) -> bool:
        """True while frames are collected for a calibration."""
        return self._collected is not None

    def calibrate(self) -> None:
        """Use the mean of the faces of the next ``CALIBRATION_NS`` as the neutral, and do not improve it afterwards."""
        self._collected = []

    def found_again(self, time_ns: int, *, away: bool) -> None:
        """Note that the face was lost for more than a moment until ``time_ns``. A calibration then starts again.

        ``away`` is True if the driver was away for so long that the seat may be another one. Its position then becomes
        that of the rest pose.
        """
        if away and self._mode == "auto":
            self._returned_ns = time_ns
        if self.calibrating:
            self.calibrate()

    def mirror(self) -> None:
        """Continue with images that are horizontally flipped from now on."""
        if self._current is not None:
            self._current = self._current.mirrored()
            self._rest = self.rest.mirrored()
        if self._best is not None:
            self._best = replace(self._best, neutral=self._best.neutral.mirrored(), rest=self._best.rest.mirrored())
        if self._collected is not None:
            self._collected = [neutral.mirrored() for neutral in self._collected]
        self._average_shape = self._last_shape = None
        self._open_eyes = self._open_eyes[::-1].copy()

    def update(self, face: FaceState, pixels: Points) -> tuple[Neutral, Pose, Points]:
        """Take a frame into account. Return the neutral in use, and the face's pose and shape relative to it.

        ``pixels`` are the face's landmarks, (478, 3). The pose is in shorter sides of the image, as the neutral's is;
        the shape is (478, 3) in the head frame.
        """
        self._rest_share = 0.0
        if self._current is None or self._best is None:
            neutral = Neutral.from_face(face) if self._mode == "first" else Neutral.from_face(face).facing_camera()
            self._rest = RestPose.from_neutral(neutral, face.size)
            self._current, self._best, self._rest_share = neutral, _BestNeutral(neutral, self._rest), 1.0
            self._open_eyes = eye_openings(neutral.shape)
        pose = pose_against(pixels, self._current.shape)
        shape = pose.unproject(pixels)
        passed_ns = face.time_ns - self._time_ns
        elapsed_s = np.clip(passed_ns / 1e9, 1e-3, 0.5)
        self._time_ns = face.time_ns
        if self._collected is not None:
            self._collect(self._collected, face, passed_ns)
        elif self._mode == "auto" and not 0 <= face.time_ns - self._scored_ns < SCORE_INTERVAL_NS:
            self._score(face, pose, shape)
        weight = 1 - float(np.exp(-elapsed_s / NEUTRAL_EASE_S))
        if self._returned_ns is not None:
            self._follow_seat(to_sides(pose, face.size), face.time_ns, weight)
        self._move_rest(float(elapsed_s), weight)
        if self._current is self._best.neutral:
            return self._current, to_sides(pose, face.size), shape
        self._current = self._current.towards(self._best.neutral, weight)
        if self._current.distance(self._best.neutral) < ARRIVED:
            self._current = self._best.neutral
        pose = pose_against(pixels, self._current.shape)
        return self._current, to_sides(pose, face.size), pose.unproject(pixels)

    def _move_rest(self, elapsed_s: float, weight: float) -> None:
        """Move the rest pose towards the best neutral's: quickly if the user calibrated it, else too slowly to see."""
        assert self._best is not None
        if self._rest is self._best.rest:
            return
        if self._best.calibrated:
            self._rest = self.rest.towards(self._best.rest, np.full(3, weight, np.float32))
            if self._rest.distance(self._best.rest).max() < ARRIVED:
                self._rest = self._best.rest
        else:
            self._rest = self.rest.drift(self._best.rest, elapsed_s)

    def _follow_seat(self, pose: Pose, time_ns: int, weight: float) -> None:
        """Move the rest pose to the position of the head, keeping its turn, until the driver has settled."""
        assert self._best is not None
        assert self._returned_ns is not None
        if not 0 <= time_ns - self._returned_ns < SETTLE_NS:
            self._returned_ns = None
            return
        here = replace(self.rest, origin=pose.origin[:2], scale=pose.scale)
        self._rest = self.rest.towards(here, np.array([0, weight, weight], np.float32))
        self._best.rest = replace(self._best.rest, origin=self._rest.origin, scale=self._rest.scale)

    def _collect(self, collected: list[Neutral], face: FaceState, passed_ns: int) -> None:
        """Add a face, seen ``passed_ns`` after the last one, to a calibration. Finish it after ``CALIBRATION_NS``."""
        # at one frame per second two must suffice; a pause after more frames than that is an interruption
        if passed_ns < 0 or (passed_ns > CALIBRATION_NS and len(collected) > 1):
            collected.clear()
        if not collected:
            self._collect_until_ns = face.time_ns + CALIBRATION_NS
        collected.append(Neutral.from_face(face))
        self._rest_share = 1 / len(collected)
        if face.time_ns < self._collect_until_ns:
            return
        mean, count = collected[0], 1
        for neutral in collected[1:]:
            count += 1
            mean = mean.towards(neutral, 1 / count)
        rest = RestPose.from_neutral(mean, face.size)
        self._best, self._collected = _BestNeutral(mean, rest, calibrated=True), None

    def _score(self, face: FaceState, pose: Pose, shape: Points) -> None:
        """Update what is known of the driver's face, and replace the best neutral if this frame is a better one."""
        assert self._best is not None
        if self._best.calibrated:
            return
        elapsed_s = float(np.clip((face.time_ns - self._scored_ns) / 1e9, 1e-3, 0.5))
        self._scored_ns = face.time_ns
        # by these rates the estimate approaches the third quartile of the openings: a startled look does not set it
        openings = eye_openings(shape)
        self._open_eyes = np.clip(
            openings, self._open_eyes - EYES_FALL * elapsed_s, self._open_eyes + EYES_RISE * elapsed_s
        )
        tilt, speed = float(np.linalg.norm(rotation_vector(pose.rotation))), 0.0
        if self._average_shape is None or self._last_shape is None:
            self._average_shape, self._best.tilt = shape, tilt
        else:
            weight = np.float32(1 - np.exp(-elapsed_s / AVERAGE_S))
            self._average_shape = self._average_shape + weight * (shape - self._average_shape)
            speed = float(np.abs(shape - self._last_shape).mean()) / elapsed_s
        self._last_shape = shape
        # the best neutral is scored again too, by what has been learnt about the driver since
        best_cost = self._cost(self._best.neutral.shape, self._best.tilt, self._best.speed)
        if self._cost(shape, tilt, speed) < best_cost * self.COST_FACTOR - self.COST_MARGIN:
            neutral, self._rest_share = Neutral.from_face(face).facing_camera(), 1.0
            self._best = _BestNeutral(neutral, RestPose.from_neutral(neutral, face.size), tilt, speed)

    def _cost(self, shape: Points, tilt: float, speed: float) -> float:
        """Return how far a face is from still, frontal, closed-mouthed, open-eyed and usual."""
        assert self._average_shape is not None
        eyes = eye_openings(shape)
        closed = float(1 - (eyes / np.maximum(self._open_eyes, 1e-6)).min())
        change = shape - self._average_shape
        # brows and irises are few of the points: squaring keeps them from being averaged away
        unusual = float(np.sqrt((change * change).mean()))
        smiling = max(-corner_drop(shape), 0.0)
        # an expression may be held for so long that it becomes the average: this counts no more than a slight turn
        not_at_rest = tilt + 0.3 * speed + min(3.0 * unusual, 0.2)
        return not_at_rest + 2.0 * mouth_opening(shape) + 1.5 * max(closed - 0.15, 0.0) + 2.0 * smiling
