"""Carries the driver's expression over to a portrait of other proportions. Head frame throughout.

Most of the face takes the driver's displacement, scaled by how the two faces compare. Lids and lips are different:
there what matters is not how far a point moved but whether the gap closes, so gaps are carried over as gaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.face.topology import (
    BROWS,
    CHIN,
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LOWER_LID_FOLDS,
    LOWER_LIDS,
    LOWER_LIP_ROWS,
    MOUTH_CORNERS,
    OUTER_MOUTH_CORNERS,
    OVAL,
    UPPER_LID_FOLDS,
    UPPER_LIDS,
    UPPER_LIP_ROWS,
    Indices,
)
from engines.jit import compiled
from engines.types import LANDMARKS, Motion, Points

SHUT = 0.30
"""Landmarks of a shut eye still show this share of the open eye's gap."""
LIPS_MEET = 0.025
"""Landmarks of shut lips still show up to this gap, as a share of the mouth's width."""
OPEN_EYE = 0.18
"""No eye at rest has a smaller gap over its width than this: a neutral that says so caught a blink."""
GAZE_LIMIT = np.array([0.22, 0.12], np.float32)
"""How far an iris may move from where it is painted, as shares of the eye's width, across and down."""

VIVID_LIDS, VIVID_JAW = 1.25, 1.3
"""Trackers shrink what they see towards an average face; these undo what Face Mesh was measured to lose."""
CATCH_UP_REACH = np.array([0.08, 0.15, 0.08, 0.15], np.float32)
"""How far smile, width of the mouth, brows and jaw of the driver go until all of a difference is made up for."""
CATCH_UP_LIMITS = np.array([[0, 0.12], [0, 0.2], [0, 0.1], [0, 0.1]], np.float32)
"""The least and the most that is made up for."""
PLIANT_LIPS, PLIANT_BROWS, PLIANT_EYES = 0.45, 0.35, 0.3
"""How far from lips, brows and lids skin still goes with them, head units.

What a tracker sees move elsewhere, on the nose, the temples or the cheekbones, is the turning head and noise. Carried
over, it would look like a turn of the portrait's head on top of the turn that is carried over already.
"""
MOUTH_BOW = np.sin(np.linspace(0, np.pi, 11)[1:-1]).astype(np.float32)
"""An opening that is widest in the middle, over the points of the inner lips."""

_LIPS = np.concatenate([MOUTH_CORNERS, OUTER_MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP])
_EYES = np.concatenate([*UPPER_LIDS, *LOWER_LIDS, *IRISES])
_ENDS, _UPPER, _LOWER = np.stack(EYE_CORNERS), np.stack(UPPER_LIDS), np.stack(LOWER_LIDS)
_UPPER_FOLDS, _LOWER_FOLDS, _IRISES = np.stack(UPPER_LID_FOLDS), np.stack(LOWER_LID_FOLDS), np.stack(IRISES)
_PUPILS = np.ascontiguousarray(_IRISES[:, 0])
_UPPER_ROWS, _LOWER_ROWS = np.stack(UPPER_LIP_ROWS), np.stack(LOWER_LIP_ROWS)
_UPPER_SHARES, _LOWER_SHARES = (0.95, 0.85, 0.7), (0.98, 0.95, 0.9)
"""How much of the inner lips' way each row of the lips goes with them, from the inside out."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What a portrait's face shall look like, in its own head frame."""

    shape: Points
    """(478, 3) float32."""
    gaze: NDArray[np.float32]
    """(2, 2) float32: how far each iris moves, across and down, in head units."""
    closure: NDArray[np.float32]
    """(2,) float32: 0 as painted, 1 shut, under 0 wider open than painted."""
    lips: float
    """Gap between the lips over the width of the mouth, as far as it is the driver's."""


def _width(shape: Points, ends: NDArray[np.intp]) -> float:
    return max(math.dist(shape[ends[0]].tolist(), shape[ends[1]].tolist()), 1e-6)


@compiled()
def _eye_widths(shape: Any) -> Any:
    """(2,) float32, never 0."""
    widths = np.empty(2, np.float32)
    for eye in range(2):
        square = 0.0
        for k in range(3):
            square += (shape[_ENDS[eye, 1], k] - shape[_ENDS[eye, 0], k]) ** 2
        widths[eye] = max(np.sqrt(square), 1e-6)
    return widths


@compiled()
def _openings(shape: Any) -> Any:
    """Mean gap of each eye's lids over its width, (2,) float32."""
    openings = _eye_widths(shape)
    for eye in range(2):
        gap = 0.0
        for i in range(2, 5):
            gap += (shape[_LOWER[eye, i], 1] - shape[_UPPER[eye, i], 1]) / 3
        openings[eye] = gap / openings[eye]
    return openings


@compiled()
def _gaze(shape: Any) -> Any:
    """Where each iris is between the corners of its eye, in eye widths, (2, 2) float32."""
    widths = _eye_widths(shape)
    gaze = np.empty((2, 2), np.float32)
    for eye in range(2):
        for k in range(2):
            middle = 0.5 * (shape[_ENDS[eye, 0], k] + shape[_ENDS[eye, 1], k])
            gaze[eye, k] = (shape[_PUPILS[eye], k] - middle) / widths[eye]
    return gaze


@compiled()
def _close_lids(shape: Any, own: Any, gaps: Any, closure: Any) -> None:
    """Set the lids in ``shape`` so far shut, wherever their eye was carried to from ``own``; both (478, 3).

    gaps: (2, 7, 3), from each upper lid to the lower one as painted; closure: (2,).
    """
    for eye in range(2):
        for k in range(3):
            first, second = _ENDS[eye, 0], _ENDS[eye, 1]
            carried = 0.5 * (shape[first, k] - own[first, k] + shape[second, k] - own[second, k])
            for i in range(7):
                # a lid is a sheet over a ball: the upper one does nearly all of the way
                shift = gaps[eye, i, k] * closure[eye]
                upper, lower = _UPPER[eye, i], _LOWER[eye, i]
                shape[upper, k] = own[upper, k] + carried + np.float32(0.9) * shift
                shape[lower, k] = own[lower, k] + carried - np.float32(0.1) * shift
                fold = _UPPER_FOLDS[eye, i]
                shape[fold, k] = 0.5 * (shape[fold, k] + own[fold, k] + carried) + np.float32(0.4) * shift
                fold = _LOWER_FOLDS[eye, i]
                shape[fold, k] = 0.5 * (shape[fold, k] + own[fold, k] + carried) - np.float32(0.05) * shift
            for i in range(5):
                shape[_IRISES[eye, i], k] = own[_IRISES[eye, i], k] + carried


@compiled()
def _part_lips(
    shape: Any, own: Any, driver: Any, neutral: Any, resting: float, shut: float, scale: float, drop: float
) -> float:
    """Part the lips in ``shape`` by the driver's gaps, all (478, 3); returns the mean gap in the middle.

    resting: how far the gap of ``neutral`` gives way to that of ``own``, 0 to 1; shut: the gap that shut lips still
    show; scale: of the driver's gaps; drop: added to the gap in the middle.
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


def _closure(openings: NDArray[np.float32], neutral: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far lids with these openings are shut, by the driver's at rest; all (2,), see ``Expression``."""
    ratio = np.where(neutral > 0.02, openings / np.maximum(neutral, OPEN_EYE), 1.0)
    return np.clip(VIVID_LIDS * (1 - ratio) / (1 - SHUT), -0.5, 1.0).astype(np.float32)


def _resting(motion: Motion) -> float:
    """How much of the portrait's face rests as it was painted, whatever the driver's neutral: 0 to 1.

    Lids and lips do as the driver's do, also in the driver's neutral. Where the driver has no say, they rest.
    """
    return 1.0 if motion.region == "pose" else 1 - motion.presence * min(motion.gain, 1.0)


def _near(shape: Points, points: Indices, reach: float) -> NDArray[np.float32]:
    """How near every point of a shape (478, 3) is to one of ``points``: 1 at it, 1/e at ``reach``; (478, 1) float32."""
    away = np.stack([np.hypot(*(shape - shape[point]).T[:2]) for point in points]).min(axis=0)
    return np.asarray(np.exp(-((away / reach) ** 2))[:, None], np.float32)


def _pliant(shape: Points) -> NDArray[np.float32]:
    """How much every point of a face goes with its expression, (478, 1) float32; see ``PLIANT_LIPS``."""
    under_nose = np.clip((shape[:, 1:2] - shape[2, 1]) / 0.3 + 0.3, 0, 1)
    near = (_near(shape, _LIPS, PLIANT_LIPS), _near(shape, BROWS, PLIANT_BROWS), _near(shape, _EYES, PLIANT_EYES))
    pliant = np.maximum.reduce([under_nose, *near])
    pliant[np.concatenate(IRISES)] = 1
    return np.asarray(pliant, np.float32)


def _marks(shape: Points) -> NDArray[np.float32]:
    """How far smile, width of the mouth, brows and jaw are along their way, (4,) float32, head units."""
    lips = 0.5 * (shape[INNER_UPPER_LIP[4], 1] + shape[INNER_LOWER_LIP[4], 1])
    return np.array(
        [
            lips - shape[MOUTH_CORNERS, 1].mean(),
            _width(shape, MOUTH_CORNERS),
            -shape[BROWS, 1].mean(),
            shape[INNER_LOWER_LIP[4], 1] - shape[2, 1],
        ],
        np.float32,
    )


class ExpressionTransfer:
    """Carries expressions to one portrait; holds what depends on the portrait alone."""

    def __init__(self, shape: Points) -> None:
        """``shape`` is the portrait's own face, (478, 3) float32 in its head frame; kept, not written to."""
        self._shape = shape
        self._mouth_width = _width(shape, MOUTH_CORNERS)
        self._eye_widths = _eye_widths(shape)[:, None]
        self._lid_gaps = shape[_LOWER] - shape[_UPPER]
        self._near_corners = _near(shape, MOUTH_CORNERS, 0.3)
        self._near_brows = _near(shape, BROWS, 0.2)
        self._pliant = _pliant(shape)
        self._marks = _marks(shape)
        self._drop = 0.0
        self._neutral: Points | None = None
        self._rest_marks = self._marks
        self._rest_openings = self._rest_closure = np.zeros(2, np.float32)
        self._rest_gaze = np.zeros((2, 2), np.float32)
        self._rest_mouth = self._mouth_width
        self._scale = np.ones((LANDMARKS, 3), np.float32)

    def __call__(self, motion: Motion) -> Expression:
        """The portrait's face for one frame."""
        if self._neutral is not motion.neutral:
            self._learn(motion.neutral)
        shape = self._shape + (motion.expression - motion.neutral) * self._scale
        self._catch_up(shape, motion)
        closure = self._shut_eyes(shape, motion)
        lips = self._meet_lips(shape, motion)
        gaze = self._turn_eyes(motion, closure)
        return Expression(shape, gaze, closure, lips)

    def _learn(self, neutral: Points) -> None:
        """Keep what depends on the driver's neutral alone: it changes seldom."""
        self._neutral = neutral
        self._scale = self._proportions(neutral)
        self._rest_marks, self._rest_openings, self._rest_gaze = _marks(neutral), _openings(neutral), _gaze(neutral)
        self._rest_closure = _closure(self._rest_openings, self._rest_openings)
        self._rest_mouth = _width(neutral, MOUTH_CORNERS)

    def _proportions(self, neutral: Points) -> NDArray[np.float32]:
        """How much of a displacement of the driver each point takes, (478, 3)."""
        across = _width(self._shape, OVAL[[8, 28]]) / _width(neutral, OVAL[[8, 28]])
        mouth = self._mouth_width / _width(neutral, MOUTH_CORNERS)
        lower = (self._shape[152, 1] - self._shape[2, 1]) / max(float(neutral[152, 1] - neutral[2, 1]), 1e-6)
        scale = np.ones((LANDMARKS, 3), np.float32)
        below = np.clip((self._shape[:, 1] - self._shape[4, 1]) / 0.5, 0, 1)
        scale[:, 0] = np.clip(across + (0.5 * (across + mouth) - across) * below, 0.7, 1.4)
        scale[:, 1] = 1 + (np.clip(lower, 0.7, 1.4) - 1) * below
        return scale * self._pliant

    def _catch_up(self, shape: Points, motion: Motion) -> None:
        """Let a portrait whose resting face lies further from an expression arrive there as the driver does.

        Displacements alone leave a portrait with low brows frowning when the driver's brows are up, and one with
        drooping corners of the mouth unsmiling when the driver grins. As an expression grows, the difference between
        the two resting faces is made up for.
        """
        rest, now, own = self._rest_marks, _marks(motion.expression), self._marks
        short = np.clip(rest - own, *CATCH_UP_LIMITS.T)
        active = np.clip((now - rest) / CATCH_UP_REACH, 0, 1)
        active[:2] = active[:2].max()
        lift, widen, raise_brows, drop = short * active
        shape[:, 1] -= lift * self._near_corners[:, 0]
        shape[:, 0] += 0.5 * widen * self._near_corners[:, 0] * np.sign(self._shape[:, 0])
        shape[:, 1] -= raise_brows * self._near_brows[:, 0]
        self._drop = float(drop)

    def _shut_eyes(self, shape: Points, motion: Motion) -> NDArray[np.float32]:
        """Set the lids in ``shape`` as far shut as the driver's are."""
        closure = _closure(_openings(motion.expression), self._rest_openings)
        closure -= np.float32(_resting(motion)) * self._rest_closure
        # one eye's lids are often seen less well than the other's; a wink is still a wink
        closure = closure.mean() + np.float32(0.5) * (closure - closure.mean())
        # lids that nearly meet do meet: a rim of white under the lashes looks like a faint
        nearly = np.clip((closure - 0.5) / 0.4, 0, 1)
        closure = np.minimum(closure * (1 + np.float32(0.2) * nearly * nearly), 1)
        _close_lids(shape, self._shape, self._lid_gaps, closure)
        return np.asarray(closure, np.float32)

    def _meet_lips(self, shape: Points, motion: Motion) -> float:
        """Part the lips in ``shape`` by the driver's gap; returns it over the mouth's width."""
        scale = float(self._scale[14, 1]) * VIVID_JAW
        gap = _part_lips(
            shape, self._shape, motion.expression, motion.neutral, _resting(motion), LIPS_MEET * self._rest_mouth,
            scale, self._drop,
        )  # fmt: skip
        return float(gap) / self._mouth_width

    def _turn_eyes(self, motion: Motion, closure: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far the irises move, (2, 2); both eyes look the same way."""
        move = (_gaze(motion.expression) - self._rest_gaze).mean(axis=0)
        limited = GAZE_LIMIT * np.tanh(move / GAZE_LIMIT)
        seen = 1 - np.clip(closure, 0, 1)[:, None] ** 2
        return np.asarray(limited * self._eye_widths * seen, np.float32)
