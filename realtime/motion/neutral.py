"""The driver's face at rest: how it is chosen and improved on, and the pose from which head motion counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose, own_pose, pose_against, rotation_matrix, rotation_vector
from engines.face.perspective import seen_turn
from engines.face.topology import (
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LOWER_LIDS,
    MIRROR,
    MOUTH_CORNERS,
    UPPER_LIDS,
)
from engines.types import FaceState, Points
from realtime.motion.settings import NeutralMode

CALIBRATION_NS = 500_000_000
"""``calibrate`` takes the mean of the faces seen in this time as the neutral."""
SEAT_NS = 1_500_000_000
"""Who was away sits again after this time: until then, to be elsewhere is no motion of the face."""
EASE_S = 0.35
"""Time constant with which a new neutral takes over from the last."""

DRIFT = np.array([0.0015, 0.003, 0.003], np.float32)
"""How fast the pose at rest follows a better neutral: radians, face scales and a logarithm of size, a second.

A face at rest may change in a moment, and nobody sees it. A head that turns while its driver does not is seen at once.
"""
ARRIVED = 2e-4
"""When nothing of a neutral or of its pose is further than this from where it goes, in face scales or radians, it has
arrived."""
JUDGE_NS = 60_000_000
"""How often a face is judged as a neutral."""
EYES_UP, EYES_DOWN = np.float32(0.1), np.float32(0.033)
"""How fast what counts as open eyes follows eyes that are wider or narrower, in openings a second."""
USUAL_S = 10.0
"""Over what time a driver's usual face is averaged."""
FACING, FACING_END = np.radians(5.0), np.radians(15.0)
"""A head that is turned by more than the first is hardly at rest, and by more than the second surely not."""

_LIP_MIDDLE = np.array([INNER_UPPER_LIP[4], INNER_LOWER_LIP[4]])


def eye_openings(shape: Points) -> NDArray[np.float32]:
    """How far each eye is open, (2,) float32: mean gap between the lids over the width of the eye."""
    openings = []
    for corners, upper, lower in zip(EYE_CORNERS, UPPER_LIDS, LOWER_LIDS, strict=True):
        gap = np.linalg.norm((shape[lower] - shape[upper])[2:5, :2], axis=1).mean()
        openings.append(gap / max(float(np.linalg.norm(shape[corners[0]] - shape[corners[1]])), 1e-6))
    return np.array(openings, np.float32)


def mouth_opening(shape: Points) -> float:
    """How far the lips are apart over the width of the mouth."""
    gap = float(np.abs(shape[INNER_LOWER_LIP[3:6], 1] - shape[INNER_UPPER_LIP[3:6], 1]).mean())
    return gap / max(float(np.linalg.norm(shape[MOUTH_CORNERS[0]] - shape[MOUTH_CORNERS[1]])), 1e-6)


def corner_drop(shape: Points) -> float:
    """How far the corners of the mouth lie below the middle of the lips; under 0 in a smile."""
    return float(shape[MOUTH_CORNERS, 1].mean() - shape[_LIP_MIDDLE, 1].mean())


def _middle(size: tuple[int, int]) -> NDArray[np.float32]:
    return np.array([size[0] / 2, size[1] / 2, 0], np.float32)


def in_sides(pose: Pose, size: tuple[int, int]) -> Pose:
    """A pose in pixels as one in shorter sides of the picture, from its middle; ``size`` is its width and height.

    Cameras that change their resolution mostly keep the middle of what they see and, in turning or in taking off the
    sides, how much of it the shorter side holds.
    """
    side = float(min(size))
    return Pose(
        pose.rotation, np.asarray((pose.origin - _middle(size)) / np.float32(side), np.float32), pose.scale / side
    )


@dataclass(frozen=True, slots=True)
class Neutral:
    """The driver at rest: the shape of the face, and the pose from which head motion counts."""

    shape: Points
    """(478, 3) float32 in the head frame."""
    pose: Pose
    """In shorter sides of the picture, from its middle: pictures of another size change nothing."""

    @staticmethod
    def of(face: FaceState) -> Neutral:
        """The face as it is."""
        pixels = face.pixels()
        pose = own_pose(pixels)
        return Neutral(pose.unproject(pixels), in_sides(pose, face.size))

    def facing(self) -> Neutral:
        """The same, with the head's turn counted from the camera's axis where the head is turned away from it."""
        turn = rotation_vector(self.pose.rotation)
        tilt = float(np.linalg.norm(turn))
        share = float(np.clip((FACING_END - tilt) / (FACING_END - FACING), 0, 1))
        return replace(self, pose=replace(self.pose, rotation=rotation_matrix(turn * np.float32(share))))

    def towards(self, other: Neutral, weight: float) -> Neutral:
        """Part of the way to another neutral; ``weight`` 0 is this one, 1 the other."""
        turn = rotation_vector(other.pose.rotation @ self.pose.rotation.T)
        pose = Pose(
            rotation_matrix(turn * np.float32(weight)) @ self.pose.rotation,
            np.asarray(self.pose.origin + weight * (other.pose.origin - self.pose.origin), np.float32),
            float(self.pose.scale * (other.pose.scale / self.pose.scale) ** weight),
        )
        shape = np.asarray(self.shape + np.float32(weight) * (other.shape - self.shape), np.float32)
        return Neutral(shape, pose)

    def distance(self, other: Neutral) -> float:
        """The furthest that anything is from the other: points and head in face scales, turn in radians."""
        turn = rotation_vector(other.pose.rotation @ self.pose.rotation.T)
        moved = (other.pose.origin - self.pose.origin) / self.pose.scale
        grown = np.log(other.pose.scale / self.pose.scale)
        shape = other.shape - self.shape
        return float(max(np.abs(part).max() for part in (turn, moved, grown, shape)))

    def mirrored(self) -> Neutral:
        """The same neutral in the flipped picture."""
        flip = np.array([-1, 1, 1], np.float32)
        rotation = self.pose.rotation * flip[:, None] * flip[None, :]
        return Neutral(self.shape[MIRROR] * flip, Pose(rotation, self.pose.origin * flip, self.pose.scale))


@dataclass(frozen=True, slots=True)
class Rest:
    """The pose of the driver's head from which its motion counts."""

    turn: NDArray[np.float32]
    """(3,) float32 radians: the angles at which the camera sees it, see ``engines.face.perspective``."""
    origin: NDArray[np.float32]
    """(2,) float32: between the eyes, in shorter sides of the picture from its middle."""
    scale: float
    """Shorter sides a face scale."""

    @staticmethod
    def of(neutral: Neutral, size: tuple[int, int]) -> Rest:
        """That of a neutral in a picture of that width and height."""
        pose = neutral.pose
        pixels = pose.project(neutral.shape) * np.float32(min(size)) + _middle(size)
        return Rest(seen_turn(pixels, size), pose.origin[:2], pose.scale)

    def towards(self, other: Rest, weights: NDArray[np.float32]) -> Rest:
        """Part of the way to another: (3,) float32 in [0, 1] for turn, origin and scale."""
        turn, origin, scale = weights
        return Rest(
            np.asarray(self.turn + turn * (other.turn - self.turn), np.float32),
            np.asarray(self.origin + origin * (other.origin - self.origin), np.float32),
            float(self.scale * (other.scale / self.scale) ** scale),
        )

    def follow(self, other: Rest, seconds: float) -> Rest:
        """As far towards another as may be gone in that time without being seen; the other itself once there."""
        weights = np.minimum(DRIFT * np.float32(seconds) / np.maximum(self.distance(other), 1e-9), 1)
        return other if weights.min() == 1 else self.towards(other, weights)

    def distance(self, other: Rest) -> NDArray[np.float32]:
        """How far another is, (3,) float32: radians, face scales and a logarithm of size."""
        moved = np.linalg.norm(other.origin - self.origin) / self.scale
        grown = abs(np.log(other.scale / self.scale))
        return np.array([np.abs(other.turn - self.turn).max(), moved, grown], np.float32)

    def mirrored(self) -> Rest:
        """The same in the flipped picture."""
        turn, origin = self.turn * np.array([1, -1, -1], np.float32), self.origin * np.array([-1, 1], np.float32)
        return Rest(turn, origin, self.scale)


@dataclass(slots=True)
class _Best:
    """The best neutral seen so far, how far it was turned away, and how fast the face was moving."""

    neutral: Neutral
    rest: Rest
    tilt: float = 0.0
    speed: float = 0.0
    chosen: bool = False
    """By the person: not to be improved upon."""


class NeutralKeeper:
    """Keeps the driver's neutral, and improves it by itself in the mode ``auto``.

    The first good frame is a guess, and a bad one where somebody starts in the middle of a word. So each frame is
    judged for how calm, frontal, shut-mouthed and open-eyed it is; a clearly better one becomes the target, to
    which the neutral in use eases over.
    """

    MARGIN, STEP = 0.8, 0.03
    """A neutral is replaced only by one that costs less than this share of it, less this much: noise is no better."""

    def __init__(self, mode: NeutralMode) -> None:
        self._mode = mode
        self._best: _Best | None = None
        self._current: Neutral | None = None
        self._rest: Rest | None = None
        self._usual: Points | None = None
        self._open_eyes = np.zeros(2, np.float32)
        self._last_shape: Points | None = None
        self._time_ns = 0
        self._judged_ns = -JUDGE_NS
        self._share = 0.0
        self._back_ns: int | None = None
        self._collected: list[Neutral] | None = None
        self._collect_until = 0

    @property
    def rest_share(self) -> float:
        """How much of the neutral the last frame became; see ``Motion.rest_share``."""
        return self._share

    @property
    def rest(self) -> Rest:
        """The pose from which head motion counts. There is one after the first ``update``."""
        assert self._rest is not None
        return self._rest

    @property
    def calibrating(self) -> bool:
        """Whether frames are being collected for a new neutral."""
        return self._collected is not None

    def calibrate(self) -> None:
        """Take the faces of the next half second as the neutral."""
        self._collected = []

    def found_again(self, time_ns: int, *, away: bool) -> None:
        """The face was lost for more than a moment until ``time_ns``: a calibration begins anew.

        ``away``: for so long that it may have come back to another seat, which is where it is at rest from now on.
        """
        if away and self._mode == "auto":
            self._back_ns = time_ns
        if self.calibrating:
            self.calibrate()

    def mirror(self) -> None:
        """Go on in the flipped picture."""
        if self._current is not None:
            self._current = self._current.mirrored()
            self._rest = self.rest.mirrored()
        if self._best is not None:
            self._best = replace(self._best, neutral=self._best.neutral.mirrored(), rest=self._best.rest.mirrored())
        if self._collected is not None:
            self._collected = [neutral.mirrored() for neutral in self._collected]
        self._usual = self._last_shape = None
        self._open_eyes = self._open_eyes[::-1].copy()

    def update(self, face: FaceState, pixels: Points) -> tuple[Neutral, Pose, Points]:
        """Take in a frame; return the neutral in use, and the face's pose and shape (478, 3) against it.

        ``pixels`` are the face's own; the pose is in shorter sides of the picture, as the neutral's.
        """
        self._share = 0.0
        if self._current is None or self._best is None:
            neutral = Neutral.of(face) if self._mode == "first" else Neutral.of(face).facing()
            self._rest = Rest.of(neutral, face.size)
            self._current, self._best, self._share = neutral, _Best(neutral, self._rest), 1.0
            self._open_eyes = eye_openings(neutral.shape)
        pose = pose_against(pixels, self._current.shape)
        shape = pose.unproject(pixels)
        passed = face.time_ns - self._time_ns
        elapsed = np.clip(passed / 1e9, 1e-3, 0.5)
        self._time_ns = face.time_ns
        if self._collected is not None:
            self._collect(self._collected, face, passed)
        elif self._mode == "auto" and not 0 <= face.time_ns - self._judged_ns < JUDGE_NS:
            self._judge(face, pose, shape)
        weight = 1 - float(np.exp(-elapsed / EASE_S))
        if self._back_ns is not None:
            self._sit(in_sides(pose, face.size), face.time_ns, weight)
        self._settle(float(elapsed), weight)
        if self._current is self._best.neutral:
            return self._current, in_sides(pose, face.size), shape
        self._current = self._current.towards(self._best.neutral, weight)
        if self._current.distance(self._best.neutral) < ARRIVED:
            self._current = self._best.neutral
        pose = pose_against(pixels, self._current.shape)
        return self._current, in_sides(pose, face.size), pose.unproject(pixels)

    def _settle(self, elapsed: float, weight: float) -> None:
        """Bring the pose at rest nearer to the best neutral's: at once if the person chose it, otherwise unseen."""
        assert self._best is not None
        if self._rest is self._best.rest:
            return
        if self._best.chosen:
            self._rest = self.rest.towards(self._best.rest, np.full(3, weight, np.float32))
            if self._rest.distance(self._best.rest).max() < ARRIVED:
                self._rest = self._best.rest
        else:
            self._rest = self.rest.follow(self._best.rest, elapsed)

    def _sit(self, pose: Pose, time_ns: int, weight: float) -> None:
        """Have the head be at rest where it is, turned as before, until it sits."""
        assert self._best is not None
        assert self._back_ns is not None
        if not 0 <= time_ns - self._back_ns < SEAT_NS:
            self._back_ns = None
            return
        here = replace(self.rest, origin=pose.origin[:2], scale=pose.scale)
        self._rest = self.rest.towards(here, np.array([0, weight, weight], np.float32))
        self._best.rest = replace(self._best.rest, origin=self._rest.origin, scale=self._rest.scale)

    def _collect(self, collected: list[Neutral], face: FaceState, passed: int) -> None:
        """Have the face, seen that many nanoseconds after the last one, be part of the neutral."""
        # at a frame a second two have to do; after several, such a pause is not between one frame and the next
        if passed < 0 or (passed > CALIBRATION_NS and len(collected) > 1):
            collected.clear()
        if not collected:
            self._collect_until = face.time_ns + CALIBRATION_NS
        collected.append(Neutral.of(face))
        self._share = 1 / len(collected)
        if face.time_ns < self._collect_until:
            return
        mean, count = collected[0], 1
        for neutral in collected[1:]:
            count += 1
            mean = mean.towards(neutral, 1 / count)
        self._best, self._collected = _Best(mean, Rest.of(mean, face.size), chosen=True), None

    def _judge(self, face: FaceState, pose: Pose, shape: Points) -> None:
        assert self._best is not None
        if self._best.chosen:
            return
        elapsed = float(np.clip((face.time_ns - self._judged_ns) / 1e9, 1e-3, 0.5))
        self._judged_ns = face.time_ns
        # three quarters of what is seen lie under it in the end: a startled look does not set the mark
        openings = eye_openings(shape)
        self._open_eyes = np.clip(openings, self._open_eyes - EYES_DOWN * elapsed, self._open_eyes + EYES_UP * elapsed)
        tilt, speed = float(np.linalg.norm(rotation_vector(pose.rotation))), 0.0
        if self._usual is None or self._last_shape is None:
            self._usual, self._best.tilt = shape, tilt
        else:
            self._usual = self._usual + np.float32(1 - np.exp(-elapsed / USUAL_S)) * (shape - self._usual)
            speed = float(np.abs(shape - self._last_shape).mean()) / elapsed
        self._last_shape = shape
        # the best one is judged again too, by what has been learnt of the driver since
        best = self._cost(self._best.neutral.shape, self._best.tilt, self._best.speed)
        if self._cost(shape, tilt, speed) < best * self.MARGIN - self.STEP:
            neutral, self._share = Neutral.of(face).facing(), 1.0
            self._best = _Best(neutral, Rest.of(neutral, face.size), tilt, speed)

    def _cost(self, shape: Points, tilt: float, speed: float) -> float:
        """How far a face is from calm, frontal, shut-mouthed, open-eyed and usual."""
        assert self._usual is not None
        eyes = eye_openings(shape)
        closed = float(1 - (eyes / np.maximum(self._open_eyes, 1e-6)).min())
        change = shape - self._usual
        # brows and gaze are few of the points: squares let them count
        unusual = float(np.sqrt((change * change).mean()))
        smiling = max(-corner_drop(shape), 0.0)
        # a driver may pull faces for as long as it takes to become usual: it counts for no more than a slight turn
        still = tilt + 0.3 * speed + min(3.0 * unusual, 0.2)
        return still + 2.0 * mouth_opening(shape) + 1.5 * max(closed - 0.15, 0.0) + 2.0 * smiling
