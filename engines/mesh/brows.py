"""Moves brows as a whole, and the skin around them as far as they leave it room.

Landmarks of brows and forehead are tracked one by one. Moved one by one, the upper row of a brow that is raised runs
over the forehead above it, and the brow is stretched or shown twice. Here both rows of a brow take the same motion, and
the skin takes less and less of it up to the outline of the face and down to the fold of the lid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
from engines.types import Points

Floats = NDArray[np.float32]

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
        motion = 0.5 * (shape[_UPPER] - self._shape[_UPPER] + shape[_LOWER] - self._shape[_LOWER])
        down = motion[:, 1]
        motion[:, 1] = np.where(down < 0, self._up * np.tanh(down / self._up), self._down * np.tanh(down / self._down))
        shape[self._points] = self._shape[self._points] + self._weights @ motion


def _curve(shape: Points, points: Indices) -> Floats:
    """Return how far down a line through some points is at the x of each point of the shape, (478,)."""
    order = points[np.argsort(shape[points, 0])]
    return np.interp(shape[:, 0], shape[order, 0], shape[order, 1]).astype(np.float32)
