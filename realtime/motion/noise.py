"""How noisy the tracker's landmarks are, by points of the face that no expression moves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.jit import compiled
from engines.types import LANDMARKS, Points
from realtime.motion.one_euro import GAP_NS, Noise

STIFF = np.array([10, 109, 67, 338, 297, 151, 108, 337, 9, 8, 168, 6, 197, 195, 5, 4, 127, 356], np.intp)
"""Forehead, bridge of the nose and temples."""
CLEAN = 0.0013
"""Standard deviation of their coordinates in good light, in face scales, pose taken out."""
FALLS_S, RISES_S = 0.3, 3.0
"""Time constants with which the estimate follows less and more noise: it stays near the least of the last seconds."""
JUMPY, STEADY = 1.1, 1.25
"""The noise that first differences show over what second ones do: 1 for noise alone, 1.2 for a point that wanders, more
for one that moves. Beyond the second the estimate does not rise."""
MOST = 8.0
"""Times of ``CLEAN`` at the most: more is no noise."""
HALF = 4
"""Samples whose mean is compared with that of as many before, to see whether anything moves."""
MOVES = 6.0
"""A face moves if its displacement exceeds this many times what white noise would produce."""
STILL_S = 0.5
"""After how long without motion a face counts as still."""


class NoiseMeter:
    """Estimates the noise of landmarks from their second differences.

    The second difference of a signal that moves evenly is that of its noise, whose variance is six times the noise's.
    The points are looked at in the head frame: a moving head does not count, and neither does an expression.
    """

    def __init__(self) -> None:
        self._noise = CLEAN
        self._before: list[NDArray[np.float32]] = []
        self._window = np.zeros((2 * HALF, LANDMARKS, 2), np.float32)
        self._count = 0
        """How many samples the window has had."""
        self._stillness = 0.0
        self._time_ns = 0
        # compiled now, and not with the first faces
        points = np.zeros((LANDMARKS, 3), np.float32)[STIFF, :2]
        _differences(points, points, points)
        _moved(self._window, 0)

    def update(self, shape: Points, time_ns: int) -> Noise:
        """Take a face into account, (478, 3) in the head frame. Return how noisy and how still it is."""
        points = shape[STIFF, :2]
        elapsed_ns = time_ns - self._time_ns
        self._time_ns = time_ns
        if not 0 < elapsed_ns <= GAP_NS:
            self._before, self._count = [], 0
        if len(self._before) == 2:
            first, middle = self._before
            moves, bends = _differences(points, middle, first)
            seen = bends / math.sqrt(6)
            constant, share = FALLS_S, 1.0
            if seen > self._noise:
                drawn = moves / math.sqrt(2) / seen
                constant, share = RISES_S, min(max((STEADY - drawn) / (STEADY - JUMPY), 0.0), 1.0)
            weight = share * (1 - math.exp(-elapsed_ns / 1e9 / constant))
            self._noise += weight * (min(seen, MOST * CLEAN) - self._noise)
        self._before = [*self._before[-1:], points]
        self._watch(shape, elapsed_ns / 1e9)
        return Noise(self._noise / CLEAN, self._stillness)

    def _watch(self, shape: Points, seconds: float) -> None:
        """See whether the face moves; a head that turns is seen by its own filter."""
        self._window[self._count % len(self._window)] = shape[:, :2]
        self._count += 1
        if self._count < len(self._window):
            self._stillness = 0.0
            return
        expected = self._noise * math.sqrt(2 / HALF)
        if _moved(self._window, self._count % len(self._window)) > MOVES * expected:
            self._stillness = 0.0
        else:
            self._stillness = min(1.0, self._stillness + seconds / STILL_S)


@compiled()
def _differences(last: Any, middle: Any, first: Any) -> tuple[float, float]:
    """Return the root mean squares of the last first differences and of the second ones of three samples (N, 2)."""
    moves, bends = 0.0, 0.0
    for i in range(last.shape[0]):
        for k in range(last.shape[1]):
            moves += (last[i, k] - middle[i, k]) ** 2
            bends += (last[i, k] - 2 * middle[i, k] + first[i, k]) ** 2
    return np.sqrt(moves / last.size), np.sqrt(bends / last.size)


@compiled()
def _moved(window: Any, oldest: int) -> Any:
    """Return by how much the means of the older and the newer half of a window (n, N, 2) differ, root mean square."""
    size, total = window.shape[0], 0.0
    for i in range(window.shape[1]):
        for k in range(window.shape[2]):
            change = 0.0
            for at in range(size):
                value = window[(oldest + at) % size, i, k]
                change += value if at >= size // 2 else -value
            total += (change / (size // 2)) ** 2
    return np.sqrt(total / (window.shape[1] * window.shape[2]))
