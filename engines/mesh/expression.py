"""Transfer the driver's expression to a portrait with other proportions. Head frame throughout.

Most of the face takes the driver's displacement, scaled by the proportions of the two faces. For lids and lips it does
not matter how far a point moves but whether the gap closes, so there the gaps are transferred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.face.head import pose_against
from engines.face.topology import (
    BROWS,
    CHIN,
    CHIN_TIP,
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LOWER_LID_FOLDS,
    LOWER_LIDS,
    LOWER_LIP_MIDDLE,
    LOWER_LIP_ROWS,
    MOUTH_CORNERS,
    NOSE_BASE,
    NOSE_TIP,
    OUTER_MOUTH_CORNERS,
    OVAL,
    UPPER_LID_FOLDS,
    UPPER_LIDS,
    UPPER_LIP_ROWS,
    Indices,
)
from engines.jit import compiled
from engines.mesh.brows import Brows
from engines.types import LANDMARKS, Motion, Points

SHUT = 0.15
"""The share of an open eye's gap that the landmarks of a closed eye still show; in between they follow the lids."""
LIPS_MEET = 0.025
"""The largest gap that the landmarks of closed lips still show, as a share of the mouth's width."""
OPEN_EYE = 0.18
"""The smallest gap of an eye at rest, over its width: a neutral with less caught a blink."""
WINK = 0.2
"""The difference of the two eyes' closure at which it begins to count as a wink; at twice of it, it does."""
GAZE_LIMIT = np.array([0.22, 0.12], np.float32)
"""How far an iris may move from its place in the portrait, as shares of the eye's width, across and down."""

VIVID_LIDS = 1.12
"""A factor for lids: trackers shrink blinks towards an average face, and this undoes the measured loss."""
CATCH_UP_REACH = np.array([0.08, 0.15, 0.08, 0.15], np.float32)
"""The motion of smile, mouth width, brows and jaw at which all of the difference between the faces is made up for."""
CATCH_UP_LIMITS = np.array([[0, 0.12], [0, 0.2], [0, 0.1], [0, 0.1]], np.float32)
"""The smallest and largest difference that is made up for."""
PLIANT_LIPS, PLIANT_BROWS, PLIANT_EYES = 0.45, 0.35, 0.3
"""How far from lips, brows and eyes the skin moves with them, in face scales.

Motion elsewhere, on the nose, the temples or the cheekbones, is noise and the turning head. Transferred to a different
face, it would look like a second turn of the head.
"""
SAME_FACE, OTHER_FACE = 0.006, 0.016
"""Below the first distance from the driver's neutral, the portrait shows the driver and the whole face follows. Above
the second it shows another face. Root mean square distances, in face scales.
"""
MOUTH_BOW = np.sin(np.linspace(0, np.pi, 11)[1:-1]).astype(np.float32)
"""The shape of an opening over the points of the inner lips, widest in the middle."""

_LIPS = np.concatenate([MOUTH_CORNERS, OUTER_MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP])
_EYES = np.concatenate([*UPPER_LIDS, *LOWER_LIDS, *IRISES])
_ENDS, _UPPER, _LOWER = np.stack(EYE_CORNERS), np.stack(UPPER_LIDS), np.stack(LOWER_LIDS)
_UPPER_FOLDS, _LOWER_FOLDS, _IRISES = np.stack(UPPER_LID_FOLDS), np.stack(LOWER_LID_FOLDS), np.stack(IRISES)
_PUPILS = np.ascontiguousarray(_IRISES[:, 0])
_UPPER_ROWS, _LOWER_ROWS = np.stack(UPPER_LIP_ROWS), np.stack(LOWER_LIP_ROWS)
_UPPER_SHARES, _LOWER_SHARES = (0.95, 0.85, 0.7), (0.98, 0.95, 0.9)
"""The share of the inner lips' motion that each row of the lips takes, from the inside out."""


@dataclass(frozen=True, slots=True)
class Expression:
    """The target of a portrait's face, in its own head frame."""

    shape: Points
    """(478, 3) float32."""
    gaze: NDArray[np.float32]
    """(2, 2) float32: how far each iris moves, across and down, in face scales."""
    closure: NDArray[np.float32]
    """(2,) float32: 0 is as in the portrait, 1 closed, negative wider open than in the portrait."""
    lips: float
    """The driver's part of the gap between the lips, over the width of the mouth."""


def _width(shape: Points, ends: NDArray[np.intp]) -> float:
    """Return the distance between two points, never 0."""
    return max(math.dist(shape[ends[0]].tolist(), shape[ends[1]].tolist()), 1e-6)


@compiled()
def _eye_widths(shape: Any) -> Any:
    """Return the distance between the corners of each eye, (2,) float32, never 0."""
    widths = np.empty(2, np.float32)
    for eye in range(2):
        square = 0.0
        for k in range(3):
            square += (shape[_ENDS[eye, 1], k] - shape[_ENDS[eye, 0], k]) ** 2
        widths[eye] = max(np.sqrt(square), 1e-6)
    return widths


@compiled()
def _openings(shape: Any) -> Any:
    """Return the mean gap of each eye's lids over its width, (2,) float32."""
    openings = _eye_widths(shape)
    for eye in range(2):
        gap = 0.0
        for i in range(2, 5):
            gap += (shape[_LOWER[eye, i], 1] - shape[_UPPER[eye, i], 1]) / 3
        openings[eye] = gap / openings[eye]
    return openings


@compiled()
def _gaze(shape: Any) -> Any:
    """Return where each iris is between the corners of its eye, in eye widths, (2, 2) float32."""
    widths = _eye_widths(shape)
    gaze = np.empty((2, 2), np.float32)
    for eye in range(2):
        for k in range(2):
            middle = 0.5 * (shape[_ENDS[eye, 0], k] + shape[_ENDS[eye, 1], k])
            gaze[eye, k] = (shape[_PUPILS[eye], k] - middle) / widths[eye]
    return gaze


@compiled()
def _close_lids(shape: Any, own: Any, gaps: Any, closure: Any) -> None:
    """Close the lids in ``shape``, wherever their eye has moved to from ``own``; both (478, 3).

    gaps: (2, 7, 3), from each upper lid to the lower one in the portrait; closure: (2,).
    """
    for eye in range(2):
        for k in range(3):
            first, second = _ENDS[eye, 0], _ENDS[eye, 1]
            offset = 0.5 * (shape[first, k] - own[first, k] + shape[second, k] - own[second, k])
            for i in range(7):
                # a lid slides over a ball, and the upper one covers nearly all of the way
                shift = gaps[eye, i, k] * closure[eye]
                upper, lower = _UPPER[eye, i], _LOWER[eye, i]
                shape[upper, k] = own[upper, k] + offset + np.float32(0.9) * shift
                shape[lower, k] = own[lower, k] + offset - np.float32(0.1) * shift
                fold = _UPPER_FOLDS[eye, i]
                shape[fold, k] = 0.5 * (shape[fold, k] + own[fold, k] + offset) + np.float32(0.4) * shift
                fold = _LOWER_FOLDS[eye, i]
                shape[fold, k] = 0.5 * (shape[fold, k] + own[fold, k] + offset) - np.float32(0.05) * shift
            for i in range(5):
                shape[_IRISES[eye, i], k] = own[_IRISES[eye, i], k] + offset


@compiled()
def _part_lips(
    shape: Any, own: Any, driver: Any, neutral: Any, resting: float, shut: float, scale: float, drop: float
) -> float:
    """Part the lips in ``shape`` by the driver's gaps, all (478, 3), and return the mean gap in the middle.

    resting: the share in which the gap of ``own`` replaces that of ``neutral``, 0 to 1; shut: the gap that closed lips
    still show; scale: a factor of the driver's gaps; drop: added to the gap in the middle.
    """
    middle, moved = 0.0, 0.0
    for i in range(9):
        upper, lower = INNER_UPPER_LIP[i], INNER_LOWER_LIP[i]
        rest = resting * max(neutral[lower, 1] - neutral[upper, 1] - shut, 0.0) * scale
        gap = max(driver[lower, 1] - driver[upper, 1] - shut, 0.0) * scale + drop * MOUTH_BOW[i] - rest
        error = gap + resting * (own[lower, 1] - own[upper, 1]) - (shape[lower, 1] - shape[upper, 1])
        shape[upper, 1] -= 0.3 * error
        shape[lower, 1] += 0.7 * error
        for row in range(3):
            shape[_UPPER_ROWS[row, i], 1] -= 0.3 * _UPPER_SHARES[row] * error
            shape[_LOWER_ROWS[row, i], 1] += 0.7 * _LOWER_SHARES[row] * error
        if 3 <= i < 6:
            middle += gap / 3
            moved += error / 3
    for i in range(CHIN.shape[0]):
        shape[CHIN[i], 1] += 0.7 * 0.7 * moved
    return middle


def _closure(
    openings: NDArray[np.float32], neutral: NDArray[np.float32], own: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return how far lids with these openings are closed, see ``Expression``.

    ``neutral`` are the openings of the driver's neutral and ``own`` those without expression; all are (2,).
    """
    open_eye = np.maximum(own, OPEN_EYE)
    closed = SHUT * open_eye
    # the neutral for a portrait with half closed eyes has them half closed too, and little room to close them further
    room = np.maximum(neutral - closed, 0.35 * (open_eye - closed))
    closure = VIVID_LIDS * (1 - (openings - closed) / room)
    return np.clip(np.where(neutral > 0.02, closure, 0.0), -0.5, 1.0).astype(np.float32)


def _resting(motion: Motion) -> float:
    """Return how much of the portrait's own lids and lips is kept, whatever the driver's neutral: 0 to 1.

    They are as open as the driver's, also in the driver's neutral, except where the driver does not move them.
    """
    return 1.0 if motion.region == "pose" else 1 - motion.presence * min(motion.gain, 1.0)


def _nearness(shape: Points, points: Indices, reach: float) -> NDArray[np.float32]:
    """Return how near each point of a shape (478, 3) is to one of ``points``: 1 at it, 1/e at ``reach``; (478, 1)."""
    away = np.stack([np.hypot(*(shape - shape[point]).T[:2]) for point in points]).min(axis=0)
    return np.asarray(np.exp(-((away / reach) ** 2))[:, None], np.float32)


def _pliant(shape: Points) -> NDArray[np.float32]:
    """Return how far each point of a face moves with its expression, (478, 1) float32, see ``PLIANT_LIPS``."""
    under_nose = np.clip((shape[:, 1:2] - shape[NOSE_BASE, 1]) / 0.3 + 0.3, 0, 1)
    areas = ((_LIPS, PLIANT_LIPS), (BROWS, PLIANT_BROWS), (_EYES, PLIANT_EYES))
    near = [_nearness(shape, points, reach) for points, reach in areas]
    pliant = np.maximum.reduce([under_nose, *near])
    pliant[np.concatenate(IRISES)] = 1
    return np.asarray(pliant, np.float32)


def _sameness(shape: Points, neutral: Points) -> float:
    """Return 1 if two faces, both (478, 3), are the same face with the same expression, 0 if not, or between."""
    apart = pose_against(shape, neutral).project(neutral) - shape
    distance = math.sqrt(float(np.mean(apart * apart)))
    return min(max((OTHER_FACE - distance) / (OTHER_FACE - SAME_FACE), 0.0), 1.0)


def _measures(shape: Points) -> NDArray[np.float32]:
    """Return measures of smile, mouth width, brows and jaw, (4,) float32, in face scales."""
    lips = 0.5 * (shape[INNER_UPPER_LIP[4], 1] + shape[INNER_LOWER_LIP[4], 1])
    return np.array(
        [
            lips - shape[MOUTH_CORNERS, 1].mean(),
            _width(shape, MOUTH_CORNERS),
            -shape[BROWS, 1].mean(),
            shape[INNER_LOWER_LIP[4], 1] - shape[NOSE_BASE, 1],
        ],
        np.float32,
    )


class ExpressionTransfer:
    """Transfers expressions to one portrait; holds what depends on the portrait alone."""

    def __init__(self, shape: Points) -> None:
        """``shape`` is the portrait's own face, (478, 3) float32 in its head frame; it is kept, and not written to."""
        self._shape = shape
        self._mouth_width = _width(shape, MOUTH_CORNERS)
        self._eye_widths = _eye_widths(shape)[:, None]
        self._lid_gaps = shape[_LOWER] - shape[_UPPER]
        self._near_corners = _nearness(shape, MOUTH_CORNERS, 0.3)
        self._near_brows = _nearness(shape, BROWS, 0.2)
        self._pliant = _pliant(shape)
        self._measures = _measures(shape)
        self._brows = Brows(shape)
        self._drop = 0.0
        self._neutral: Points | None = None
        self._rest_measures = self._measures
        self._rest_openings = self._own_openings = self._rest_closure = np.zeros(2, np.float32)
        self._rest_gaze = np.zeros((2, 2), np.float32)
        self._rest_mouth = self._mouth_width
        self._scale = np.ones((LANDMARKS, 3), np.float32)

    def apply(self, motion: Motion) -> Expression:
        """Return the portrait's face for one frame."""
        if self._neutral is not motion.neutral:
            self._set_neutral(motion.neutral, motion.own)
        shape = self._shape + (motion.expression - motion.neutral) * self._scale
        self._catch_up(shape, motion)
        self._brows.move(shape)
        closure = self._close_eyes(shape, motion)
        lips = self._open_lips(shape, motion)
        gaze = self._turn_eyes(motion, closure)
        return Expression(shape, gaze, closure, lips)

    def _set_neutral(self, neutral: Points, own: Points | None) -> None:
        """Compute what depends on the driver's neutral alone, which changes seldom."""
        self._neutral = neutral
        self._scale = self._proportions(neutral)
        self._rest_measures = _measures(neutral)
        self._rest_openings, self._rest_gaze = _openings(neutral), _gaze(neutral)
        self._own_openings = self._rest_openings if own is None else _openings(own)
        self._rest_closure = _closure(self._rest_openings, self._rest_openings, self._own_openings)
        self._rest_mouth = _width(neutral, MOUTH_CORNERS)

    def _proportions(self, neutral: Points) -> NDArray[np.float32]:
        """Return the factor of the driver's displacement for each point, (478, 3)."""
        across = _width(self._shape, OVAL[[8, 28]]) / _width(neutral, OVAL[[8, 28]])
        mouth = self._mouth_width / _width(neutral, MOUTH_CORNERS)
        own_chin, chin = (float(shape[CHIN_TIP, 1] - shape[NOSE_BASE, 1]) for shape in (self._shape, neutral))
        lower = own_chin / max(chin, 1e-6)
        scale = np.ones((LANDMARKS, 3), np.float32)
        below = np.clip((self._shape[:, 1] - self._shape[NOSE_TIP, 1]) / 0.5, 0, 1)
        scale[:, 0] = np.clip(across + (0.5 * (across + mouth) - across) * below, 0.7, 1.4)
        scale[:, 1] = 1 + (np.clip(lower, 0.7, 1.4) - 1) * below
        return scale * (self._pliant + np.float32(_sameness(self._shape, neutral)) * (1 - self._pliant))

    def _catch_up(self, shape: Points, motion: Motion) -> None:
        """Make up for the difference between the two resting faces as an expression grows.

        Displacements alone leave a portrait with low brows frowning when the driver's brows are up, and one with
        drooping corners of the mouth unsmiling when the driver grins.
        """
        rest, now, own = self._rest_measures, _measures(motion.expression), self._measures
        short = np.clip(rest - own, *CATCH_UP_LIMITS.T)
        active = np.clip((now - rest) / CATCH_UP_REACH, 0, 1)
        active[:2] = active[:2].max()
        lift, widen, raise_brows, drop = short * active
        shape[:, 1] -= lift * self._near_corners[:, 0]
        shape[:, 0] += 0.5 * widen * self._near_corners[:, 0] * np.sign(self._shape[:, 0])
        shape[:, 1] -= raise_brows * self._near_brows[:, 0]
        self._drop = float(drop)

    def _close_eyes(self, shape: Points, motion: Motion) -> NDArray[np.float32]:
        """Close the lids in ``shape`` as far as the driver's are, and return the closure, (2,)."""
        closure = _closure(_openings(motion.expression), self._rest_openings, self._own_openings)
        closure -= np.float32(_resting(motion)) * self._rest_closure
        # one eye is often tracked less well than the other: a small difference is halved, a wink is left as it is
        apart = closure - closure.mean()
        wink = min(max((float(np.abs(apart[0] - apart[1])) - WINK) / WINK, 0.0), 1.0)
        closure = closure.mean() + np.float32(0.5 + 0.5 * wink) * apart
        # lids that nearly meet are closed: a rim of white under the lashes looks like fainting
        nearly = np.clip((closure - 0.6) / 0.3, 0, 1)
        closure = np.minimum(closure * (1 + np.float32(0.2) * nearly * nearly), 1)
        _close_lids(shape, self._shape, self._lid_gaps, closure)
        return np.asarray(closure, np.float32)

    def _open_lips(self, shape: Points, motion: Motion) -> float:
        """Part the lips in ``shape`` by the driver's gap, and return the gap over the mouth's width."""
        scale = float(self._scale[LOWER_LIP_MIDDLE, 1])
        gap = _part_lips(
            shape, self._shape, motion.expression, motion.neutral, _resting(motion), LIPS_MEET * self._rest_mouth,
            scale, self._drop,
        )  # fmt: skip
        return float(gap) / self._mouth_width

    def _turn_eyes(self, motion: Motion, closure: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far the irises move, (2, 2); both eyes look the same way."""
        move = (_gaze(motion.expression) - self._rest_gaze).mean(axis=0)
        limited = GAZE_LIMIT * np.tanh(move / GAZE_LIMIT)
        seen = 1 - np.clip(closure, 0, 1)[:, None] ** 2
        return np.asarray(limited * self._eye_widths * seen, np.float32)
