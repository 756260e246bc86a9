"""The inner loops of the mesh generator, compiled by numba. They release the GIL.

They write into the caller's buffers and allocate nothing of an image's size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.jit import compiled

FAR = np.float32(1e30)
"""A depth behind everything; finite, as fastmath loops must not meet infinities."""
_WIDE = 6
"""Triangles that are at least so many samples wide are looked at row by row where they begin and end."""


@compiled(fastmath=True)
def draw_mesh(
    target: Any, source: Any, triangles: Any, x0: float, y0: float, step: int, backward: Any, depth: Any
) -> None:
    """Rasterise a mesh into a backward map, nearest first.

    target: (N, 3) float32, pixels, z away from the viewer; source: (N, 2) float32, pixels; triangles: (T, 3) int32.
    backward: (h, w, 2) float32, the source of each sample of the output; sample (i, j) stands for the output pixel
    (x0 + step * j + (step - 1) / 2, y0 + step * i + (step - 1) / 2). depth: (h, w) float32.
    Both are written where a triangle covers a sample and is not hidden.
    """
    height, width = depth.shape
    inverse = np.float32(1.0 / step)
    half = np.float32((step - 1) * 0.5)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = (target[a, 0] - x0 - half) * inverse, (target[a, 1] - y0 - half) * inverse
        bx, by = (target[b, 0] - x0 - half) * inverse, (target[b, 1] - y0 - half) * inverse
        cx, cy = (target[c, 0] - x0 - half) * inverse, (target[c, 1] - y0 - half) * inverse
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-6:
            continue
        low_y = max(0, int(np.ceil(min(ay, by, cy) - 1e-3)))
        high_y = min(height - 1, int(np.floor(max(ay, by, cy) + 1e-3)))
        low_x = max(0, int(np.ceil(min(ax, bx, cx) - 1e-3)))
        high_x = min(width - 1, int(np.floor(max(ax, bx, cx) + 1e-3)))
        if low_y > high_y or low_x > high_x:
            continue
        scale = np.float32(1.0) / area
        # barycentric weights as planes: w = base + dx * x + dy * y
        wb_dx, wb_dy = (cy - ay) * scale, -(cx - ax) * scale
        wc_dx, wc_dy = -(by - ay) * scale, (bx - ax) * scale
        sx, sy, z = source[a, 0], source[a, 1], target[a, 2]
        sx_b, sx_c = source[b, 0] - source[a, 0], source[c, 0] - source[a, 0]
        sy_b, sy_c = source[b, 1] - source[a, 1], source[c, 1] - source[a, 1]
        z_b, z_c = target[b, 2] - z, target[c, 2] - z
        wide = high_x - low_x >= _WIDE
        for y in range(low_y, high_y + 1):
            b_at, c_at = wb_dx * (low_x - ax) + wb_dy * (y - ay), wc_dx * (low_x - ax) + wc_dy * (y - ay)
            first, last = _ends(b_at, wb_dx, c_at, wc_dx, low_x, high_x) if wide else (low_x, high_x)
            wb = wb_dx * (first - ax) + wb_dy * (y - ay)
            wc = wc_dx * (first - ax) + wc_dy * (y - ay)
            for x in range(first, last + 1):
                if wb >= -1e-4 and wc >= -1e-4 and wb + wc <= 1.0001:
                    near = z + wb * z_b + wc * z_c
                    if near < depth[y, x]:
                        depth[y, x] = near
                        backward[y, x, 0] = sx + wb * sx_b + wc * sx_c
                        backward[y, x, 1] = sy + wb * sy_b + wc * sy_c
                wb += wb_dx
                wc += wc_dx


@compiled(fastmath=True, inline="always")
def _ends(b_at: Any, b_slope: Any, c_at: Any, c_slope: Any, low: int, high: int) -> tuple[int, int]:
    """Return the first and the last sample of a row, from ``low`` to ``high``, that a triangle may cover.

    b_at, c_at: the weights of two corners at ``low``; b_slope, c_slope: their change from one sample to the next.
    """
    first, last = _span(b_at, b_slope, low, low, high)
    first, last = _span(c_at, c_slope, low, first, last)
    return _span(1 - b_at - c_at, -b_slope - c_slope, low, first, last)


@compiled(fastmath=True, inline="always")
def _span(at: Any, slope: Any, low: int, first: int, last: int) -> tuple[int, int]:
    """Return the part of ``first`` to ``last`` in which a weight may be positive, a sample more on each side.

    at: the weight at ``low``; slope: its change from one sample to the next.
    """
    if abs(slope) > 1e-6:
        crossing = low + min(max(-at / slope, -1e6), 1e6)
        if slope > 0:
            first = max(first, int(np.floor(crossing)) - 1)
        else:
            last = min(last, int(np.ceil(crossing)) + 1)
    return first, last


@compiled()
def bounds(points: Any) -> tuple[float, float, float, float]:
    """Return the smallest x and y and the largest x and y of points (N, 2 or more)."""
    left = right = points[0, 0]
    top = bottom = points[0, 1]
    for i in range(1, points.shape[0]):
        left, right = min(left, points[i, 0]), max(right, points[i, 0])
        top, bottom = min(top, points[i, 1]), max(bottom, points[i, 1])
    return left, top, right, bottom


@compiled()
def limit_cover(cover: Any, shares: Any, whole: float) -> None:
    """Lower a coverage (h, w) uint8 to ``whole`` times the first of each two shares, (h, w, 2) float32 in [0, 1]."""
    for i in range(cover.shape[0]):
        for j in range(cover.shape[1]):
            cover[i, j] = min(int(cover[i, j]), int(shares[i, j, 0] * np.float32(whole)))


def compile_all() -> None:
    """Compile every function here, or load it from numba's cache, so that the first frame does not wait for it."""
    points = np.zeros((3, 3), np.float32)
    maps, depth = np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32)
    for corner in (0, 0.0):
        draw_mesh(points, points[:, :2].copy(), np.zeros((1, 3), np.int32), corner, corner, 2, maps, depth)
    bounds(points)
    limit_cover(np.zeros((1, 1), np.uint8), maps, 1)
