"""From the driver's face to what the portrait shall do: smoothing, and motion relative to the driver's neutral.

Reenactment is relative: the portrait moves as the driver moves away from the driver's own neutral face, so the driver's
looks stay the driver's (Zakharov et al. 2019 call the alternative identity leakage). Everything here is geometry on 478
points and takes well under a millisecond.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engines.face.head import from_turn_angles, rotation_matrix, rotation_vector
from engines.face.perspective import seen_turn
from engines.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, IRISES, LOWER_LIDS, MIRROR, UPPER_LIDS
from engines.types import LANDMARKS, FaceState, Motion, Points
from realtime.motion.neutral import NeutralKeeper
from realtime.motion.one_euro import OneEuro
from realtime.motion.settings import NeutralMode, Region

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
        self._whole = 1.0  # the presence at which it was shown as it is
        self._left = _REST  # what was shown when the face was found again, and how far from it that has come
        self._back = 1.0
        self._flipped = False
        self._presence = 0.0
        self._seen_ns: int | None = None
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
        self._live, self._left = _mirrored(self._live), _mirrored(self._left)

    def update(self, face: FaceState | None, time_ns: int) -> Motion:
        """The motion for the frame shown at ``time_ns`` (the frame's own time).

        Without a face the last motion is held for a moment and then eased to rest; a face that comes back is eased in.
        """
        elapsed = max(0, time_ns - self._time_ns)
        if face is not None:
            self._take_up(face, time_ns, elapsed)
        elif self._seen_ns is not None and time_ns - self._seen_ns > HOLD_NS:
            self._presence = max(0.0, self._presence - elapsed / REST_NS)
        self._time_ns = time_ns
        motion = self._limit(self._shown())
        share = self._keeper.rest_share if face is not None else 0.0
        return replace(
            motion,
            face=face,
            gain=self.gain,
            region=self.region,
            rest_share=share,
            presence=_smooth(self._presence),
            flipped=self._flipped,
        )

    def _take_up(self, face: FaceState, time_ns: int, elapsed: int) -> None:
        """Go on with a face; one that was lost for more than a moment is come to from what is shown by now."""
        if self._seen_ns is None:
            self._presence = 1.0
        elif self._time_ns != self._seen_ns and (self._presence == 0 or time_ns - self._seen_ns > HOLD_NS):
            self._left, self._back = self._shown(), 0.0
            self._smoother.reset()
            self._keeper.found_again(time_ns, away=self._presence == 0)
        self._seen_ns = time_ns
        self._presence = min(1.0, self._presence + elapsed / RETURN_NS)
        self._back = min(1.0, self._back + elapsed / RETURN_NS)
        self._whole = _smooth(self._presence)
        live = self._observe(face)
        self._live = live if self._back == 1 else _between(self._left, live, _smooth(self._back))

    def _shown(self) -> Motion:
        """The motion of the last face, as much of it as is left."""
        left = _smooth(self._presence) / max(self._whole, 1e-6)
        return _scaled(self._live, left, left)

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


def _smooth(share: float) -> float:
    """The share in [0, 1] of a way that begins and ends gently."""
    return share * share * (3 - 2 * share)


def _mirrored(motion: Motion) -> Motion:
    """The motion of the same driver in the flipped picture."""
    flip = np.array([-1, 1, 1], np.float32)
    return replace(
        motion,
        rotation=motion.rotation * flip[:, None] * flip[None, :],
        translation=motion.translation * flip[:2],
        neutral=motion.neutral[MIRROR] * flip,
        expression=motion.expression[MIRROR] * flip,
    )


def _between(start: Motion, end: Motion, share: float) -> Motion:
    """Part of the way from one motion to another, whose neutral it has; 0 is the first, 1 the other."""
    weight = np.float32(share)
    turn = rotation_vector(end.rotation @ start.rotation.T)
    change, to = start.expression - start.neutral, end.expression - end.neutral
    return replace(
        end,
        rotation=rotation_matrix(turn * weight) @ start.rotation,
        translation=np.asarray(start.translation + weight * (end.translation - start.translation), np.float32),
        scale=float(start.scale * (end.scale / start.scale) ** share),
        expression=np.asarray(end.neutral + change + weight * (to - change), np.float32),
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
