"""Moves brows as a whole, and the skin around them as far as they leave it room.

Landmarks of brows and forehead are tracked one by one. Moved one by one, the upper row of a brow that is raised runs
over the forehead above it, and the brow is stretched or shown twice. Here both rows of a brow take the same motion, and
the skin takes less and less of it up to the outline of the face and down to the fold of the lid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.face.topology import (
    BROW_LOWER_ROWS,
    BROW_UPPER_ROWS,
    EYE_CORNERS,
    IRISES,
    LOWER_LIDS,
    OVAL,
    UPPER_LID_FOLDS,
    UPPER_LIDS,
    Indices,
)
from engines.jit import compiled
from engines.types import Floats, Points

ROOM_UP, ROOM_DOWN = 0.65, 0.6
"""How far brows may move towards the outline of the face and towards the lids, as a share of the distance."""
NEAR = 0.12
"""How far along the brow its motion is averaged, in face scales."""
BESIDE = 0.15
"""How far beyond the ends of the brows the skin moves with them, in face scales."""

_UPPER, _LOWER = np.concatenate(BROW_UPPER_ROWS), np.concatenate(BROW_LOWER_ROWS)
_FOLDS = np.concatenate([*UPPER_LID_FOLDS, *EYE_CORNERS])
_TOP = OVAL[np.r_[27:36, 0:10]]
_OTHERS = np.concatenate([OVAL, *EYE_CORNERS, *UPPER_LIDS, *LOWER_LIDS, *IRISES, *UPPER_LID_FOLDS])


class Brows:
    """The brows of one portrait and the skin that moves with them."""

    def __init__(self, shape: Points) -> None:
        """``shape`` is the portrait's own face, (478, 3) float32 in its head frame; it is kept."""
        self._shape = shape
        upper, lower = _curve(shape, _UPPER), _curve(shape, _LOWER)
        top, fold = _curve(shape, _TOP), _curve(shape, _FOLDS)
        x, y = shape[:, 0], shape[:, 1]
        share = np.where(
            y < upper,
            (y - top) / np.maximum(upper - top, 1e-3),
            np.where(y <= lower, 1, (fold - y) / np.maximum(fold - lower, 1e-3)),
        )
        ends = shape[_UPPER, 0].min(), shape[_UPPER, 0].max()
        beside = np.maximum(np.maximum(ends[0] - x, x - ends[1]), 0)
        share = np.clip(share, 0, 1) * np.exp(-((beside / BESIDE) ** 2))
        self._points = np.setdiff1d(np.flatnonzero(y < fold), _OTHERS)
        near = np.exp(-(((x[self._points, None] - shape[_UPPER, 0]) / NEAR) ** 2)) + 1e-9
        near /= near.sum(axis=1, keepdims=True)
        # a row of a brow is half of its motion
        self._weights = (share[self._points, None] * near).astype(np.float32)
        self._up = np.maximum(ROOM_UP * (upper - top)[_UPPER], 1e-3).astype(np.float32)
        self._down = np.maximum(ROOM_DOWN * (fold - lower)[_UPPER], 1e-3).astype(np.float32)

    def move(self, shape: Points) -> None:
        """Replace the motion of brows and forehead in ``shape``, (478, 3)."""
        move_skin(shape, self._shape, self._points, self._weights, self._up, self._down)


@compiled()
def move_skin(shape: Any, own: Any, points: Any, weights: Any, up: Any, down: Any) -> None:
    """Move ``points`` (n,) of a shape by the motion of its brows.

    shape, own: (478, 3) with the brows' motion and without; weights: (n, 10) of each point of the brows; up, down:
    (10,) how far each may go.
    """
    count = _UPPER.shape[0]
    motion = np.empty((count, 3), np.float32)
    for i in range(count):
        for k in range(3):
            upper, lower = _UPPER[i], _LOWER[i]
            motion[i, k] = 0.5 * (shape[upper, k] - own[upper, k] + shape[lower, k] - own[lower, k])
        room = up[i] if motion[i, 1] < 0 else down[i]
        motion[i, 1] = room * np.tanh(motion[i, 1] / room)
    for i in range(points.shape[0]):
        for k in range(3):
            moved = np.float32(0)
            for j in range(count):
                moved += weights[i, j] * motion[j, k]
            shape[points[i], k] = own[points[i], k] + moved


def _curve(shape: Points, points: Indices) -> Floats:
    """Return how far down a line through some points is at the x of each point of the shape, (478,)."""
    order = points[np.argsort(shape[points, 0])]
    return np.interp(shape[:, 0], shape[order, 0], shape[order, 1]).astype(np.float32)
