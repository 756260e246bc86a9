"""How noisy the tracker's landmarks are, by points of the face that no expression moves."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engines.types import Points
from realtime.motion.one_euro import GAP_NS

STIFF = np.array([10, 109, 67, 338, 297, 151, 108, 337, 9, 8, 168, 6, 197, 195, 5, 4, 127, 356], np.intp)
"""Forehead, bridge of the nose and temples."""
CLEAN = 0.0013
"""Standard deviation of their coordinates in good light, in face scales, pose taken out."""
FALLS_S, RISES_S = 0.3, 3.0
"""Time constants with which the estimate follows less and more noise: it stays near the least of the last seconds."""
MOST = 8.0
"""Times of ``CLEAN`` at the most: more is no noise."""


class NoiseMeter:
    """Estimates the noise of landmarks from their second differences.

    The second difference of a signal that moves evenly is that of its noise, whose variance is six times the noise's.
    The points are looked at in the head frame: a moving head does not count, and neither does an expression.
    """

    def __init__(self) -> None:
        self._noise = CLEAN
        self._before: list[NDArray[np.float32]] = []
        self._time_ns = 0

    def update(self, shape: Points, time_ns: int) -> float:
        """Take a face into account, (478, 3) in the head frame. Return its noise over that in good light."""
        points = shape[STIFF, :2]
        elapsed_ns = time_ns - self._time_ns
        self._time_ns = time_ns
        if not 0 < elapsed_ns <= GAP_NS:
            self._before = []
        if len(self._before) == 2:
            first, middle = self._before
            seen = math.sqrt(float(np.mean((points - 2 * middle + first) ** 2)) / 6)
            constant = FALLS_S if seen < self._noise else RISES_S
            self._noise += (1 - math.exp(-elapsed_ns / 1e9 / constant)) * (min(seen, MOST * CLEAN) - self._noise)
        self._before = [*self._before[-1:], points]
        return self._noise / CLEAN
