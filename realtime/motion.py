"""From the driver's face to what the portrait shall do: smoothing, and motion relative to the driver's neutral.

Reenactment is relative: the portrait moves as the driver moves away from the driver's own neutral face, so the driver's
looks stay the driver's (Zakharov et al. 2019 call the alternative identity leakage). Everything here is geometry on 478
points and takes well under a millisecond.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engines.camera import seen_turn
from engines.head import from_turn_angles, rotation_matrix, rotation_vector
from engines.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, IRISES, LOWER_LIDS, MIRROR, UPPER_LIDS
from engines.types import LANDMARKS, FaceState, Motion, Points
from realtime.neutral import NeutralKeeper, NeutralMode
from realtime.smoothing import OneEuro

Region = Literal["all", "expression", "pose", "lips", "eyes"]

HOLD_NS = 200_000_000
"""A face that is lost keeps its last motion this long: most losses are a blink of the tracker."""
REST_NS = 700_000_000
"""Then it eases to rest in this time."""
RETURN_NS = 250_000_000
"""A face that is found again is taken up in this time."""

_QUICK = np.concatenate([*UPPER_LIDS, *LOWER_LIDS, *IRISES, INNER_UPPER_LIP, INNER_LOWER_LIP])


class _Smoother:
    """One-euro filters over pose and expression: strong on a still face, quick on a moving one."""

    def __init__(self) -> None:
        # units: radians, face scales (some 80 mm), face scales
        self._turn = OneEuro(2.5, 80.0, 3.0)
        self._place = OneEuro(2.0, 60.0, 3.0)
        cutoff = np.full((LANDMARKS, 1), 2.5, np.float32)
        beta = np.full((LANDMARKS, 1), 60.0, np.float32)
        cutoff[_QUICK], beta[_QUICK] = 3.0, 100.0
        self._shape = OneEuro(cutoff, beta, 3.0)

    def reset(self) -> None:
        self._turn.reset()
        self._place.reset()
        self._shape.reset()

    def __call__(
        self, turn: NDArray[np.float32], place: NDArray[np.float32], shape: Points, time_ns: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], Points]:
        return self._turn(turn, time_ns), self._place(place, time_ns), self._shape(shape, time_ns)


class MotionTransfer:
    """Turns what the tracker sees into what the portrait does. One thread owns it."""

    def __init__(self, neutral: NeutralMode = "auto", region: Region = "all", gain: float = 1.0) -> None:
        self.region: Region = region
        self.gain = gain
        self._mode: NeutralMode = neutral
        self._keeper = NeutralKeeper(neutral)
        self._smoother = _Smoother()
        self._live = _REST
        self._flipped = False
        self._presence = 0.0
        self._seen_ns = 0
        self._time_ns = 0

    @property
    def calibrating(self) -> bool:
        """Whether a new neutral is being taken."""
        return self._keeper.calibrating

    def calibrate(self) -> None:
        """Take the driver's face of the next half second as the neutral."""
        self._keeper.calibrate()

    def mirror(self) -> None:
        """Go on with a driving picture that is flipped left to right from now on."""
        self._flipped = not self._flipped
        self._keeper.mirror()
        self._smoother.reset()
        flip = np.array([-1, 1, 1], np.float32)
        self._live = replace(
            self._live,
            rotation=self._live.rotation * flip[:, None] * flip[None, :],
            translation=self._live.translation * flip[:2],
            neutral=self._live.neutral[MIRROR] * flip,
            expression=self._live.expression[MIRROR] * flip,
        )

    def update(self, face: FaceState | None, time_ns: int) -> Motion:
        """The motion for the frame shown at ``time_ns`` (the frame's own time).

        Without a face the last motion is held for a moment and then eased to rest; a face that comes back is eased in.
        """
        elapsed = max(0, time_ns - self._time_ns)
        self._time_ns = time_ns
        if face is not None:
            if self._presence == 0:
                self._smoother.reset()
            first = self._seen_ns == 0
            self._seen_ns = time_ns
            self._live = self._observe(face)
            self._presence = 1.0 if first else min(1.0, self._presence + elapsed / RETURN_NS)
        elif time_ns - self._seen_ns > HOLD_NS:
            self._presence = max(0.0, self._presence - elapsed / REST_NS)
        motion = self._limit(self._live)
        weight = self._presence * self._presence * (3 - 2 * self._presence)
        if weight < 1:
            motion = _scaled(motion, weight, weight)
        share = self._keeper.rest_share if face is not None else 0.0
        return replace(
            motion,
            face=face,
            gain=self.gain,
            region=self.region,
            rest_share=share,
            presence=weight,
            flipped=self._flipped,
        )

    def _observe(self, face: FaceState) -> Motion:
        pixels = face.pixels()
        neutral, pose, shape = self._keeper.update(face, pixels)
        rest = self._keeper.rest
        turn = seen_turn(pixels, face.size) - rest.turn
        moved = (pose.origin[:2] - rest.origin) / rest.scale
        place = np.array([moved[0], moved[1], np.log(pose.scale / rest.scale)], np.float32)
        # the change against the neutral is what is smoothed: easing over to another one stays smooth as well
        change = shape - neutral.shape
        if not face.steady:  # smoothed a second time, it would only be late
            turn, place, change = self._smoother(turn, place, change, face.time_ns)
        return Motion(
            rotation=from_turn_angles(turn),
            translation=place[:2],
            scale=float(np.exp(place[2])),
            neutral=neutral.shape,
            expression=np.asarray(neutral.shape + change, np.float32),
        )

    def _limit(self, motion: Motion) -> Motion:
        return _scaled(
            motion,
            0.0 if self.region == "expression" else 1.0,
            0.0 if self.region == "pose" else self.gain,
        )


def _scaled(motion: Motion, pose: float, expression: float) -> Motion:
    """The motion with its head pose and its expression taken that many times."""
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


_NOWHERE = np.zeros((LANDMARKS, 3), np.float32)
_REST = Motion(np.eye(3, dtype=np.float32), np.zeros(2, np.float32), 1.0, _NOWHERE, _NOWHERE)
