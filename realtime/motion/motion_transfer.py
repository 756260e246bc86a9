"""Turns the driver's face into the motion of the portrait: smoothed, and relative to the driver's neutral.

The portrait moves as the driver's face moves away from its own neutral, so that the driver's identity is not
transferred (Zakharov et al. 2019 call the alternative identity leakage). All of this is geometry on 478 points, which
takes well under a millisecond.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engines.face.coefficients import CoefficientModel
from engines.face.head import from_turn_angles, rotation_matrix, rotation_vector
from engines.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, IRISES, LOWER_LIDS, MIRROR, UPPER_LIDS
from engines.generator import Region
from engines.types import LANDMARKS, FaceState, Motion, Points
from realtime.motion.direction import Direction
from realtime.motion.neutral_estimator import NeutralEstimator
from realtime.motion.noise import NoiseMeter
from realtime.motion.one_euro import Noise, OneEuro
from realtime.motion.settings import NeutralMode
from realtime.motion.tracked import CoefficientMotion

HOLD_NS = 200_000_000
"""After the face is lost, its last motion is held for this time: most losses last a frame or two."""
REST_NS = 700_000_000
"""The motion then eases to rest in this time."""
RETURN_NS = 250_000_000
"""When the face is found again, its motion eases in over this time."""

_QUICK_POINTS = np.concatenate([*UPPER_LIDS, *LOWER_LIDS, *IRISES, INNER_UPPER_LIP, INNER_LOWER_LIP])
"""Landmarks that are smoothed less than others, so that blinks and speech get through."""


class _Smoother:
    """One-euro filters over pose and expression: strong on a still face, weak on a moving one."""

    def __init__(self) -> None:
        # units: radians for the turn, face scales (about 80 mm) for position and shape
        self._turn = OneEuro(2.5, 80.0, 3.0, clean=0.0012)
        self._position = OneEuro(2.0, 60.0, 3.0, clean=0.0012)
        cutoff = np.full((LANDMARKS, 1), 2.5, np.float32)
        beta = np.full((LANDMARKS, 1), 60.0, np.float32)
        cutoff[_QUICK_POINTS], beta[_QUICK_POINTS] = 3.0, 100.0
        self._shape = OneEuro(cutoff, beta, 3.0, clean=0.0018)

    def reset(self) -> None:
        self._turn.reset()
        self._position.reset()
        self._shape.reset()

    def smooth(
        self, turn: NDArray[np.float32], position: NDArray[np.float32], shape: Points, time_ns: int, noise: Noise
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], Points]:
        return (
            self._turn(turn, time_ns, noise),
            self._position(position, time_ns, noise),
            self._shape(shape, time_ns, noise),
        )


class MotionTransfer:
    """Turns the tracker's FaceStates into the Motion of the portrait. Used by one thread only.

    ``region`` and ``gain`` may be changed at any time; they take effect with the next ``update``.
    """

    def __init__(
        self,
        neutral: NeutralMode = "auto",
        region: Region = "all",
        gain: float = 1.0,
        *,
        model: CoefficientModel | None = None,
        direction: Direction | None = None,
    ) -> None:
        """``model`` reads the expression of faces without a code, and knows what codes do; None for the shipped one.

        ``direction`` is what the user adds to the driver's motion.
        """
        self.direction = direction or Direction()
        self.region: Region = region
        self.gain = gain
        self._estimator = NeutralEstimator(neutral, model)
        self._coefficients = CoefficientMotion()
        self._smoother = _Smoother()
        self._noise = NoiseMeter()
        self._last_motion = _REST_MOTION  # of the last face, before it fades with the presence
        self._last_presence = 1.0  # the eased presence when that face was seen
        self._return_motion = _REST_MOTION  # what was shown when the face was found again
        self._return_share = 1.0  # how far the motion has come from there to that of the face
        self._flipped = False
        self._presence = 0.0
        self._driver_id: int | None = None
        self._seen_ns: int | None = None
        self._time_ns = 0

    @property
    def calibrating(self) -> bool:
        """True while a calibration collects frames."""
        return self._estimator.calibrating

    def calibrate(self) -> None:
        """Use the driver's face of the next half second as the neutral; of one that was tracked elsewhere the next."""
        self._estimator.calibrate()
        self._coefficients.calibrate()

    def set_portrait(self, face: FaceState | None) -> None:
        """Match the driver's neutral to the face of another portrait; None if nothing is known of it."""
        self._estimator.set_portrait(face)
        self.direction.set_portrait(face)
        self._smoother.reset()

    def begin_again(self) -> None:
        """Treat the next face as another driver's, as that of a camera that was turned; it is eased in."""
        self._driver_id = None

    def mirror(self) -> None:
        """Continue with driving images that are horizontally flipped from now on."""
        self._flipped = not self._flipped
        self._estimator.mirror()
        self._smoother.reset()
        self._last_motion, self._return_motion = _mirrored(self._last_motion), _mirrored(self._return_motion)

    def update(self, face: FaceState | None, time_ns: int) -> Motion:
        """Return the motion for the frame of ``time_ns``, in which ``face`` was found.

        Without a face the last motion is held for ``HOLD_NS`` and then eased to rest. A face that returns is eased in,
        and so is another driver's face.
        """
        elapsed_ns = max(0, time_ns - self._time_ns)
        if face is not None:
            self._follow(face, time_ns, elapsed_ns)
        elif self._seen_ns is not None and time_ns - self._seen_ns > HOLD_NS:
            self._presence = max(0.0, self._presence - elapsed_ns / REST_NS)
        self._time_ns = time_ns
        motion = self._with_region_and_gain(self._faded_motion())
        rest_share = self._estimator.rest_share if face is not None else 0.0
        motion = replace(
            motion,
            face=face,
            gain=self.gain,
            region=self.region,
            rest_share=rest_share,
            presence=_smoothstep(self._presence),
            flipped=self._flipped,
        )
        return self.direction.apply(motion, time_ns)

    def _follow(self, face: FaceState, time_ns: int, elapsed_ns: int) -> None:
        """Update the motion from a face. After a loss of more than a moment, start from the motion shown by then.

        Start from there too if the face is another driver's.
        """
        if self._seen_ns is None:
            self._presence = 1.0
        elif face.driver_id != self._driver_id:
            self._return_motion, self._return_share = self._faded_motion(), 0.0
            self._smoother.reset()
            self._estimator.begin_again()
        elif self._time_ns != self._seen_ns and (self._presence == 0 or time_ns - self._seen_ns > HOLD_NS):
            self._return_motion, self._return_share = self._faded_motion(), 0.0
            self._smoother.reset()
            self._estimator.found_again(time_ns, away=self._presence == 0)
        self._seen_ns, self._driver_id = time_ns, face.driver_id
        self._presence = min(1.0, self._presence + elapsed_ns / RETURN_NS)
        self._return_share = min(1.0, self._return_share + elapsed_ns / RETURN_NS)
        self._last_presence = _smoothstep(self._presence)
        motion = self._relative_motion(face)
        self._last_motion = (
            motion
            if self._return_share == 1
            else _interpolated(self._return_motion, motion, _smoothstep(self._return_share))
        )

    def _faded_motion(self) -> Motion:
        """Return the motion of the last face, faded by how much the presence has fallen since."""
        share = _smoothstep(self._presence) / max(self._last_presence, 1e-6)
        return _scaled(self._last_motion, share, share)

    def _relative_motion(self, face: FaceState) -> Motion:
        """Return the motion of a face relative to the driver's neutral."""
        if face.turn is not None:
            return self._coefficients.motion(face, self.direction.face)
        reading = self._estimator.update(face, face.pixels())
        neutral, pose, rest = reading.neutral, reading.pose, self._estimator.rest
        turn = reading.turn - rest.turn
        moved = (pose.origin[:2] - rest.origin) / rest.scale
        position = np.array([moved[0], moved[1], np.log(pose.scale / rest.scale)], np.float32)
        # the change against the neutral is smoothed, not the shape: it stays smooth while the neutral changes
        change = reading.shape - neutral
        if not face.steady:
            noise = self._noise.update(reading.seen, face.time_ns)
            turn, position, change = self._smoother.smooth(turn, position, change, face.time_ns, noise)
        return Motion(
            rotation=from_turn_angles(turn),
            translation=position[:2],
            scale=float(np.exp(position[2])),
            neutral=neutral,
            expression=np.asarray(neutral + change, np.float32),
            own=reading.own,
        )

    def _with_region_and_gain(self, motion: Motion) -> Motion:
        return _scaled(
            motion,
            0.0 if self.region == "expression" else 1.0,
            0.0 if self.region == "pose" else self.gain,
        )


def _smoothstep(share: float) -> float:
    """Return a share in [0, 1] eased at both ends: 3 s^2 - 2 s^3."""
    return share * share * (3 - 2 * share)


def _mirrored(motion: Motion) -> Motion:
    """Return the motion of the same driver in the horizontally flipped image."""
    flip = np.array([-1, 1, 1], np.float32)
    return replace(
        motion,
        rotation=motion.rotation * flip[:, None] * flip[None, :],
        translation=motion.translation * flip[:2],
        neutral=motion.neutral[MIRROR] * flip,
        expression=motion.expression[MIRROR] * flip,
        own=None if motion.own is None else motion.own[MIRROR] * flip,
    )


def _interpolated(start: Motion, end: Motion, share: float) -> Motion:
    """Return the motion between ``start`` (``share`` 0) and ``end`` (1), relative to the neutral of ``end``."""
    weight = np.float32(share)
    turn = rotation_vector(end.rotation @ start.rotation.T)
    start_change, end_change = start.expression - start.neutral, end.expression - end.neutral
    return replace(
        end,
        rotation=rotation_matrix(turn * weight) @ start.rotation,
        translation=np.asarray(start.translation + weight * (end.translation - start.translation), np.float32),
        scale=float(start.scale * (end.scale / start.scale) ** share),
        expression=np.asarray(end.neutral + start_change + weight * (end_change - start_change), np.float32),
    )


def _scaled(motion: Motion, pose: float, expression: float) -> Motion:
    """Return the motion with its head pose and its expression multiplied by these factors."""
    if pose == 1 and expression == 1:
        return motion
    change = motion.expression - motion.neutral
    return replace(
        motion,
        rotation=rotation_matrix(rotation_vector(motion.rotation) * np.float32(pose)),
        translation=np.asarray(motion.translation * np.float32(pose), np.float32),
        scale=float(motion.scale**pose),
        expression=np.asarray(motion.neutral + np.float32(expression) * change, np.float32),
    )


_NO_SHAPE = np.zeros((LANDMARKS, 3), np.float32)
_REST_MOTION = Motion(np.eye(3, dtype=np.float32), np.zeros(2, np.float32), 1.0, _NO_SHAPE, _NO_SHAPE)
