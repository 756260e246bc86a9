"""Fit a similarity transform between two sets of points. Compiled, as it is needed several times a frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.jit import compiled

_SWEEPS = 12
"""Jacobi sweeps over a 4x4 matrix; six reach the precision of a double, whatever the points."""


@compiled()
def similarity(target: Any, source: Any, weights: Any) -> Any:
    """Fit ``target = scale * rotation @ source + origin`` by weighted least squares.

    target, source: (N, 3) floats; weights: (N,), positive. Return the rotation (3, 3) float64, always a proper one, the
    scale, and the origin (3,) float64. Horn, "Closed-form solution of absolute orientation using unit quaternions",
    1987; the scale is Umeyama's, 1991.
    """
    total = 0.0
    to, of = np.zeros(3), np.zeros(3)
    for i in range(target.shape[0]):
        total += weights[i]
        for k in range(3):
            to[k] += weights[i] * target[i, k]
            of[k] += weights[i] * source[i, k]
    to /= total
    of /= total
    m = np.zeros((3, 3))
    spread = 0.0
    for i in range(target.shape[0]):
        for k in range(3):
            away = source[i, k] - of[k]
            spread += weights[i] * away * away
            for j in range(3):
                m[j, k] += weights[i] * (target[i, j] - to[j]) * away
    rotation = _rotation(m)
    scale = 0.0
    for j in range(3):
        for k in range(3):
            scale += rotation[j, k] * m[j, k]
    scale /= max(spread, 1e-30)
    origin = np.empty(3)
    for j in range(3):
        origin[j] = to[j] - scale * (rotation[j, 0] * of[0] + rotation[j, 1] * of[1] + rotation[j, 2] * of[2])
    return rotation, scale, origin


@compiled()
def _rotation(m: Any) -> Any:
    """Return the proper rotation R with the largest trace of ``R.T @ m``, by Horn's matrix."""
    a = np.empty((4, 4))
    a[0, 0] = m[0, 0] + m[1, 1] + m[2, 2]
    a[1, 1] = m[0, 0] - m[1, 1] - m[2, 2]
    a[2, 2] = m[1, 1] - m[0, 0] - m[2, 2]
    a[3, 3] = m[2, 2] - m[0, 0] - m[1, 1]
    a[0, 1] = a[1, 0] = m[2, 1] - m[1, 2]
    a[0, 2] = a[2, 0] = m[0, 2] - m[2, 0]
    a[0, 3] = a[3, 0] = m[1, 0] - m[0, 1]
    a[1, 2] = a[2, 1] = m[0, 1] + m[1, 0]
    a[1, 3] = a[3, 1] = m[0, 2] + m[2, 0]
    a[2, 3] = a[3, 2] = m[1, 2] + m[2, 1]
    vectors = np.eye(4)
    for _ in range(_SWEEPS):
        off = 0.0
        for p in range(3):
            for q in range(p + 1, 4):
                off += a[p, q] * a[p, q]
        if off < 1e-30 * (a[0, 0] ** 2 + a[1, 1] ** 2 + a[2, 2] ** 2 + a[3, 3] ** 2):
            break
        for p in range(3):
            for q in range(p + 1, 4):
                if a[p, q] == 0.0:
                    continue
                theta = (a[q, q] - a[p, p]) / (2.0 * a[p, q])
                t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
                if theta < 0:
                    t = -t
                c = 1.0 / np.sqrt(t * t + 1.0)
                s = t * c
                for k in range(4):
                    first, second = a[k, p], a[k, q]
                    a[k, p], a[k, q] = c * first - s * second, s * first + c * second
                for k in range(4):
                    first, second = a[p, k], a[q, k]
                    a[p, k], a[q, k] = c * first - s * second, s * first + c * second
                    first, second = vectors[k, p], vectors[k, q]
                    vectors[k, p], vectors[k, q] = c * first - s * second, s * first + c * second
    best = 0
    for k in range(1, 4):
        if a[k, k] > a[best, best]:
            best = k
    w, x, y, z = vectors[0, best], vectors[1, best], vectors[2, best], vectors[3, best]
    result = np.empty((3, 3))
    result[0, 0], result[0, 1], result[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    result[1, 0], result[1, 1], result[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    result[2, 0], result[2, 1], result[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    return result
