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

from engines.face.procrustes import similarity
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
    RIGID,
    RIGID_WEIGHTS,
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

_FACE_SIDES = OVAL[[8, 28]]
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


@compiled()
def _closure(openings: Any, neutral: Any, own: Any) -> Any:
    """Return how far lids with these openings are closed, (2,) float32, see ``Expression``.

    ``neutral`` are the openings of the driver's neutral and ``own`` those without expression; all are (2,).
    """
    closure = np.zeros(2, np.float32)
    for eye in range(2):
        open_eye = max(own[eye], OPEN_EYE)
        closed = SHUT * open_eye
        # the neutral for a portrait with half closed eyes has them half closed too, and little room to close further
        room = max(neutral[eye] - closed, 0.35 * (open_eye - closed))
        if neutral[eye] > 0.02:
            closure[eye] = min(max(VIVID_LIDS * (1 - (openings[eye] - closed) / room), -0.5), 1.0)
    return closure


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


@compiled()
def _sameness(shape: Any, neutral: Any) -> Any:
    """Return 1 if two faces, both (478, 3), are the same face with the same expression, 0 if not, or between."""
    target, source = np.empty((RIGID.shape[0], 3), np.float32), np.empty((RIGID.shape[0], 3), np.float32)
    for i in range(RIGID.shape[0]):
        target[i], source[i] = shape[RIGID[i]], neutral[RIGID[i]]
    rotation, scale, origin = similarity(target, source, RIGID_WEIGHTS)
    total = 0.0
    for i in range(LANDMARKS):
        for k in range(3):
            x, y, z = neutral[i, 0], neutral[i, 1], neutral[i, 2]
            along = rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z
            total += (scale * along + origin[k] - shape[i, k]) ** 2
    distance = np.sqrt(total / (3 * LANDMARKS))
    return min(max((OTHER_FACE - distance) / (OTHER_FACE - SAME_FACE), 0.0), 1.0)


@compiled()
def _scale_motion(own: Any, neutral: Any, pliant: Any, across: float, mouth: float, lower: float, scale: Any) -> None:
    """Write the factor of the driver's displacement for each point to ``scale``; all arrays are (478, 3) or (478, 1).

    across, mouth, lower: how much wider the face and the mouth are and how much higher the chin is than the driver's.
    """
    same = np.float32(_sameness(own, neutral))
    for i in range(LANDMARKS):
        below = min(max((own[i, 1] - own[NOSE_TIP, 1]) / 0.5, 0.0), 1.0)
        share = pliant[i, 0] + same * (1 - pliant[i, 0])
        scale[i, 0] = min(max(across + 0.5 * (mouth - across) * below, 0.7), 1.4) * share
        scale[i, 1] = (1 + (min(max(lower, 0.7), 1.4) - 1) * below) * share
        scale[i, 2] = share


@compiled()
def _measures(shape: Any) -> Any:
    """Return measures of smile, mouth width, brows and jaw, (4,) float32, in face scales."""
    measures = np.zeros(4, np.float32)
    right, left = MOUTH_CORNERS[0], MOUTH_CORNERS[1]
    upper, lower = shape[INNER_UPPER_LIP[4], 1], shape[INNER_LOWER_LIP[4], 1]
    measures[0] = 0.5 * (upper + lower) - 0.5 * (shape[right, 1] + shape[left, 1])
    square = 0.0
    for k in range(3):
        square += (shape[left, k] - shape[right, k]) ** 2
    measures[1] = max(np.sqrt(square), 1e-6)
    for i in range(BROWS.shape[0]):
        measures[2] -= shape[BROWS[i], 1] / BROWS.shape[0]
    measures[3] = lower - shape[NOSE_BASE, 1]
    return measures


@compiled()
def _move_face(
    own: Any, expression: Any, neutral: Any, scale: Any, near_corners: Any, near_brows: Any, own_measures: Any,
    rest: Any, shape: Any,
) -> Any:  # fmt: skip
    """Write a portrait's face without the gaps of lids and lips to ``shape``; return what the jaw drops further.

    All but the measures (4,) are (478, 3) or (478, 1) float32. Displacements alone leave a portrait with low brows
    frowning when the driver's brows are up, and one with drooping corners of the mouth unsmiling when the driver grins.
    So the difference between the two resting faces is made up for as an expression grows.
    """
    now = _measures(expression)
    moves, active = np.empty(4, np.float32), np.empty(4, np.float32)
    for k in range(4):
        moves[k] = min(max(rest[k] - own_measures[k], CATCH_UP_LIMITS[k, 0]), CATCH_UP_LIMITS[k, 1])
        active[k] = min(max((now[k] - rest[k]) / CATCH_UP_REACH[k], np.float32(0)), np.float32(1))
    active[0] = active[1] = max(active[0], active[1])
    moves *= active
    for i in range(own.shape[0]):
        for k in range(3):
            shape[i, k] = own[i, k] + (expression[i, k] - neutral[i, k]) * scale[i, k]
        shape[i, 0] += np.float32(0.5) * moves[1] * near_corners[i, 0] * np.sign(own[i, 0])
        shape[i, 1] -= moves[0] * near_corners[i, 0] + moves[2] * near_brows[i, 0]
    return moves[3]


@compiled()
def _closures(openings: Any, neutral: Any, own: Any, resting: float, rest: Any) -> Any:
    """Return how far lids are closed, (2,) float32: as ``_closure``, which has its arguments, and then as one sees it.

    rest: the closure of ``neutral``, of which the share ``resting`` is taken away.
    """
    closure = _closure(openings, neutral, own) - np.float32(resting) * rest
    mean = np.float32(0.5) * (closure[0] + closure[1])
    # one eye is often tracked less well than the other: a small difference is halved, a wink is left as it is
    wink = min(max((abs(closure[0] - closure[1]) - WINK) / WINK, 0.0), 1.0)
    for eye in range(2):
        value = mean + np.float32(0.5 + 0.5 * wink) * (closure[eye] - mean)
        # lids that nearly meet are closed: a rim of white under the lashes looks like fainting
        nearly = min(max((value - 0.6) / 0.3, 0.0), 1.0)
        closure[eye] = min(value * (1 + 0.2 * nearly * nearly), 1.0)
    return closure


@compiled()
def _turned_eyes(gaze: Any, rest: Any, widths: Any, closure: Any) -> Any:
    """Return how far the irises move, (2, 2) float32: both eyes look the same way. widths: (2, 1)."""
    turned = np.empty((2, 2), np.float32)
    for k in range(2):
        move = 0.5 * (gaze[0, k] - rest[0, k] + gaze[1, k] - rest[1, k])
        limited = GAZE_LIMIT[k] * np.tanh(move / GAZE_LIMIT[k])
        for eye in range(2):
            shut = min(max(closure[eye], 0.0), 1.0)
            turned[eye, k] = limited * widths[eye, 0] * (1 - shut * shut)
    return turned


class ExpressionTransfer:
    """Transfers expressions to one portrait; holds what depends on the portrait alone."""

    def __init__(self, shape: Points) -> None:
        """``shape`` is the portrait's own face, (478, 3) float32 in its head frame; it is kept, and not written to."""
        self._shape = shape
        self._mouth_width = _width(shape, MOUTH_CORNERS)
        self._face_width = _width(shape, _FACE_SIDES)
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
        shape = np.empty_like(self._shape)
        self._drop = _move_face(
            self._shape, motion.expression, motion.neutral, self._scale, self._near_corners, self._near_brows,
            self._measures, self._rest_measures, shape,
        )  # fmt: skip
        self._brows.move(shape)
        closure = self._close_eyes(shape, motion)
        lips = self._open_lips(shape, motion)
        gaze = self._turn_eyes(motion, closure)
        return Expression(shape, gaze, closure, lips)

    def _set_neutral(self, neutral: Points, own: Points | None) -> None:
        """Compute what depends on the driver's neutral alone, which changes seldom."""
        self._neutral = neutral
        self._set_proportions(neutral)
        self._rest_measures = _measures(neutral)
        self._rest_openings, self._rest_gaze = _openings(neutral), _gaze(neutral)
        self._own_openings = self._rest_openings if own is None else _openings(own)
        self._rest_closure = _closure(self._rest_openings, self._rest_openings, self._own_openings)
        self._rest_mouth = _width(neutral, MOUTH_CORNERS)

    def _set_proportions(self, neutral: Points) -> None:
        """Compute the factor of the driver's displacement for each point."""
        across = self._face_width / _width(neutral, _FACE_SIDES)
        mouth = self._mouth_width / _width(neutral, MOUTH_CORNERS)
        own_chin, chin = (float(shape[CHIN_TIP, 1] - shape[NOSE_BASE, 1]) for shape in (self._shape, neutral))
        lower = own_chin / max(chin, 1e-6)
        _scale_motion(self._shape, neutral, self._pliant, across, mouth, lower, self._scale)

    def _close_eyes(self, shape: Points, motion: Motion) -> NDArray[np.float32]:
        """Close the lids in ``shape`` as far as the driver's are, and return the closure, (2,)."""
        openings = _openings(motion.expression)
        closure: NDArray[np.float32] = _closures(
            openings, self._rest_openings, self._own_openings, _resting(motion), self._rest_closure
        )
        _close_lids(shape, self._shape, self._lid_gaps, closure)
        return closure

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
        turned: NDArray[np.float32] = _turned_eyes(
            _gaze(motion.expression), self._rest_gaze, self._eye_widths, closure
        )  # fmt: skip
        return turned


def compile_all() -> None:
    """Compile every loop here, or load it from numba's cache, so that the first frame does not wait for it."""
    shape = np.zeros((LANDMARKS, 3), np.float32)
    motion = Motion(np.eye(3, dtype=np.float32), np.zeros(2, np.float32), 1.0, shape, shape.copy())
    ExpressionTransfer(np.random.default_rng(0).normal(size=shape.shape).astype(np.float32)).apply(motion)
