"""Openings between two lids or lips, and what the loops that fill them share; compiled by numba."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.face.topology import Indices
from engines.jit import compiled
from engines.types import Floats

CURVE = 33
"""Samples of an edge of an opening."""


@compiled(fastmath=True, inline="always")
def sample(image: Any, x: float, y: float, channel: int) -> Any:
    """Return a bilinear sample, clamped to the image."""
    height, width = image.shape[0], image.shape[1]
    x = min(max(x, 0.0), width - 1.001)
    y = min(max(y, 0.0), height - 1.001)
    column, row = int(x), int(y)
    fx, fy = x - column, y - row
    top = image[row, column, channel] * (1 - fx) + image[row, column + 1, channel] * fx
    bottom = image[row + 1, column, channel] * (1 - fx) + image[row + 1, column + 1, channel] * fx
    return top * (1 - fy) + bottom * fy


@compiled(fastmath=True, inline="always")
def look_up(table: Any, at: float) -> Any:
    """Interpolate linearly in a table over [0, 1]."""
    last = table.shape[0] - 1
    at = min(max(at, 0.0), 1.0) * last
    index = min(int(at), last - 1)
    part = at - index
    return table[index] * (1 - part) + table[index + 1] * part


@compiled(fastmath=True, inline="always")
def ramp(x: float) -> float:
    """Return a smooth step from 0 at 0 to 1 at 1."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


@compiled(fastmath=True, inline="always")
def axis(ends: Any) -> tuple[Any, Any, Any]:
    """Return the length of the line between the ends of an opening, pixels, and its direction."""
    length = max(np.hypot(ends[2] - ends[0], ends[3] - ends[1]), 1e-3)
    return length, (ends[2] - ends[0]) / length, (ends[3] - ends[1]) / length


@compiled(fastmath=True)
def trace_edge(points: Any, first: int, last: int, along_edge: Any, table: Any) -> None:
    """Sample one edge of an opening (see ``opening_box``) at even steps between its corners.

    points: (N, 2 or more) float32, pixels; first and last: the corners; along_edge: (n,) the points between, in order;
    table: (K,) float32, written to.
    """
    x0, y0 = points[first, 0], points[first, 1]
    length = max(np.hypot(points[last, 0] - x0, points[last, 1] - y0), 1e-3)
    ux, uy = (points[last, 0] - x0) / length, (points[last, 1] - y0) / length
    steps = table.shape[0] - 1
    before, before_below, filled = 0.0, 0.0, 0
    for k in range(along_edge.shape[0] + 1):
        if k < along_edge.shape[0]:
            dx, dy = points[along_edge[k], 0] - x0, points[along_edge[k], 1] - y0
            along = min(max((ux * dx + uy * dy) / length, before), 1.0)
            below = ux * dy - uy * dx
        else:
            along, below = 1.0, 0.0
        while filled <= steps and filled <= along * steps:
            part = (filled / steps - before) / max(along - before, 1e-6)
            table[filled] = before_below + (below - before_below) * min(part, 1.0)
            filled += 1
        before, before_below = along, below
    while filled <= steps:
        table[filled] = 0.0
        filled += 1
    # straight pieces between landmarks would be visible as corners
    left = table[0]
    for k in range(1, steps):
        here = table[k]
        table[k] = 0.25 * left + 0.5 * here + 0.25 * table[k + 1]
        left = here


@compiled()
def trace(points: Any, corners: Any, upper: Any, lower: Any, ends: Any, upper_table: Any, lower_table: Any) -> None:
    """Sample both edges of an opening between two corners, see ``trace_edge``. ends: (4,) float32, written to."""
    for k in range(2):
        ends[2 * k], ends[2 * k + 1] = points[corners[k], 0], points[corners[k], 1]
    trace_edge(points, corners[0], corners[1], upper, upper_table)
    trace_edge(points, corners[0], corners[1], lower, lower_table)


@compiled(fastmath=True)
def opening_box(ends: Any, upper: Any, lower: Any, box: Any, margin: float) -> tuple[int, int, int, int]:
    """Return the pixels that an opening may touch, within ``box``: left, top, right, bottom, the last two exclusive.

    ends: (4,) float32, its two corners (x0, y0, x1, y1) in pixels; upper and lower: (K,) float32, how far below the
    line between the corners each edge is, over its length, in pixels.
    """
    length, ux, uy = axis(ends)
    left, top, right, bottom = 1e9, 1e9, -1e9, -1e9
    last = upper.shape[0] - 1
    for k in range(last + 1):
        along = length * k / last
        for table in (upper, lower):
            x, y = ends[0] + ux * along - uy * table[k], ends[1] + uy * along + ux * table[k]
            left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
    return (
        int(max(left - margin, box[0])),
        int(max(top - margin, box[1])),
        int(min(right + margin + 2, box[2])),
        int(min(bottom + margin + 2, box[3])),
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """An opening between two lids or lips, see ``opening_box``."""

    ends: Floats
    upper: Floats
    lower: Floats

    @staticmethod
    def of(points: Floats, ends: Indices, upper: Indices, lower: Indices) -> Opening:
        """Return an opening of landmarks in pixels (N, 2 or more); both edges run from the first end to the second."""
        opening = Opening(np.empty(4, np.float32), np.empty(CURVE, np.float32), np.empty(CURVE, np.float32))
        trace(points, ends, upper, lower, opening.ends, opening.upper, opening.lower)
        return opening


def compile_all() -> None:
    """Compile the functions here that are called from Python, or load them from numba's cache."""
    ends, edge = np.zeros(4, np.float32), np.zeros(2, np.float32)
    points, at = np.zeros((3, 3), np.float32), np.zeros(2, np.intp)
    trace_edge(points, 0, 1, at[:1], edge)
    trace(points, at, at, at, ends, edge, edge)
    opening_box(ends, edge, edge, (0, 0, 2, 2), 1.0)
