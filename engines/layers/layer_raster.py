"""The inner loops that draw a warped layer over what lies behind it, compiled by numba. They release the GIL.

A layer's pixels are (h, w) int64: red, green, blue and opacity in 16 bits each, from the lowest, so that one product
weighs all four without reaching the sign; the colours are premultiplied with the opacity. A layer is drawn in cells of
``step`` pixels, between whose corners the backward map is interpolated. ``kinds`` says for each block of ``BLOCK``
pixels of a layer what is near it: NOTHING, SOME of the layer, or ALL of it. They write into the caller's buffers and
allocate nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.jit import compiled

BLOCK = 8
NOTHING, SOME, ALL = 0, 1, 2
DRAWN, BEHIND, ORIGINAL = 0, 1, 2
"""What a cell shows: something that was drawn, only what is behind the layer, or the portrait as it was given."""
WHOLE = 128
"""The coverage of a sample that a layer covers wholly."""
NOWHERE = -1e6
"""What the backward map holds where the mesh does not cover a sample."""
_LANES = 0x00FF00FF00FF00FF
_ROUND = 0x0040004000400040
_STILL = 0.01
"""A cell whose corners are fetched from within this many pixels of their own place stands still."""


@compiled(inline="always")
def _sample(layer: Any, x: float, y: float) -> Any:
    """Return a bilinear sample of a layer, clamped to it, with its four lanes."""
    height, width = layer.shape
    fixed_x = int(min(max(x, 0.0), width - 1.01) * 128)
    fixed_y = int(min(max(y, 0.0), height - 1.01) * 128)
    column, row = fixed_x >> 7, fixed_y >> 7
    fx, fy = fixed_x & 127, fixed_y & 127
    first, second = layer[row, column], layer[row, column + 1]
    upper = ((first * (128 - fx) + second * fx + _ROUND) >> 7) & _LANES
    first, second = layer[row + 1, column], layer[row + 1, column + 1]
    lower = ((first * (128 - fx) + second * fx + _ROUND) >> 7) & _LANES
    return ((upper * (128 - fy) + lower * fy + _ROUND) >> 7) & _LANES


@compiled(inline="always")
def _kind(kinds: Any, x: float, y: float) -> Any:
    """Return what is near a point of a layer."""
    row = min(max(int(y) // BLOCK, 0), kinds.shape[0] - 1)
    column = min(max(int(x) // BLOCK, 0), kinds.shape[1] - 1)
    return kinds[row, column]


@compiled(inline="always")
def _put(out: Any, under: Any, y: int, x: int, value: int) -> None:
    """Write a pixel of a layer over a pixel of ``under``."""
    opacity = (value >> 48) & 255
    if opacity == 255:
        out[y, x, 0] = value & 255
        out[y, x, 1] = (value >> 16) & 255
        out[y, x, 2] = (value >> 32) & 255
    else:
        rest = 255 - opacity
        for c in range(3):
            behind = (int(under[y, x, c]) * rest * 257 + 32768) >> 16
            out[y, x, c] = min(((value >> (16 * c)) & 255) + behind, 255)


@compiled()
def draw_body(
    out: Any, original: Any, behind: Any, layer: Any, kinds: Any, backward: Any, shows: Any, place: Any, fresh: Any
) -> None:  # fmt: skip
    """Draw a layer over what is behind it, leaving alone the cells that have not changed.

    out: (H, W, 3) uint8, written to; original: the portrait, behind: what is behind the layer, both of that size. layer
    and kinds: see above. backward: (rows, columns, 2) float32, where in the layer the output's pixel
    (left + step * column, top + step * row) is fetched. shows: (rows - 1, columns - 1) uint8, what each cell of ``out``
    shows, written to. place: left, top, step, and the columns and rows by which the layer reaches beyond the portrait.
    fresh: left, top, right, bottom of the pixels of ``out`` that are drawn in any case.
    """
    left, top, step, beyond_x, beyond_y = place
    height, width = out.shape[:2]
    share = np.float32(1.0 / step)
    for i in range(backward.shape[0] - 1):
        first_y, last_y = top + step * i, min(top + step * i + step, height)
        for j in range(backward.shape[1] - 1):
            first_x, last_x = left + step * j, min(left + step * j + step, width)
            ax, ay = backward[i, j, 0], backward[i, j, 1]
            bx, by = backward[i, j + 1, 0], backward[i, j + 1, 1]
            cx, cy = backward[i + 1, j, 0], backward[i + 1, j, 1]
            dx, dy = backward[i + 1, j + 1, 0], backward[i + 1, j + 1, 1]
            x, y = first_x + beyond_x, first_y + beyond_y
            off = max(abs(ax - x), abs(ay - y), abs(bx - x - step), abs(by - y))
            off = max(off, abs(cx - x), abs(cy - y - step), abs(dx - x - step), abs(dy - y - step))
            near = max(_kind(kinds, ax, ay), _kind(kinds, bx, by), _kind(kinds, cx, cy), _kind(kinds, dx, dy))
            now = DRAWN
            if off < _STILL:
                now = ORIGINAL
            elif near == NOTHING:
                now = BEHIND
            apart = first_x >= fresh[2] or last_x <= fresh[0] or first_y >= fresh[3] or last_y <= fresh[1]
            if now != DRAWN:
                if apart and shows[i, j] == now:
                    continue
                for py in range(first_y, last_y):
                    for px in range(first_x, last_x):
                        for c in range(3):
                            out[py, px, c] = original[py, px, c] if now == ORIGINAL else behind[py, px, c]
            else:
                for py in range(first_y, last_y):
                    v = (py - first_y) * share
                    sx, sy = ax + v * (cx - ax), ay + v * (cy - ay)
                    step_x = (bx + v * (dx - bx) - sx) * share
                    step_y = (by + v * (dy - by) - sy) * share
                    for px in range(first_x, last_x):
                        _put(out, behind, py, px, _sample(layer, sx, sy))
                        sx += step_x
                        sy += step_y
            shows[i, j] = now if apart else DRAWN


@compiled()
def draw_face(out: Any, layer: Any, kinds: Any, backward: Any, cover: Any, place: Any) -> None:
    """Draw a layer over an image where ``cover`` says so.

    out: (H, W, 3) uint8, written to. layer, kinds, backward: as in ``draw_body``; cover: (rows, columns) uint8, how
    much of the layer is seen at each sample, WHOLE at most; samples at NOWHERE are not read. place: left, top, step;
    the pixel at (left, top) lies in ``out``.
    """
    left, top, step = place
    height, width = out.shape[:2]
    share = np.float32(1.0 / step)
    for i in range(backward.shape[0] - 1):
        first_y, last_y = top + step * i, min(top + step * i + step, height)
        for j in range(backward.shape[1] - 1):
            # floats: the difference of two bytes would be one as well
            one, two = np.float32(cover[i, j]), np.float32(cover[i, j + 1])
            three, four = np.float32(cover[i + 1, j]), np.float32(cover[i + 1, j + 1])
            if one + two + three + four == 0:
                continue
            ax, ay = backward[i, j, 0], backward[i, j, 1]
            bx, by = backward[i, j + 1, 0], backward[i, j + 1, 1]
            cx, cy = backward[i + 1, j, 0], backward[i + 1, j, 1]
            dx, dy = backward[i + 1, j + 1, 0], backward[i + 1, j + 1, 1]
            if min(ax, bx, cx, dx) <= NOWHERE or _kind(kinds, ax, ay) == NOTHING:
                continue
            first_x, last_x = left + step * j, min(left + step * j + step, width)
            full = one + two + three + four == 4 * WHOLE
            for py in range(first_y, last_y):
                v = (py - first_y) * share
                sx, sy = ax + v * (cx - ax), ay + v * (cy - ay)
                step_x = (bx + v * (dx - bx) - sx) * share
                step_y = (by + v * (dy - by) - sy) * share
                for px in range(first_x, last_x):
                    value = _sample(layer, sx, sy)
                    if not full:
                        u = (px - first_x) * share
                        upper, lower = one + u * (two - one), three + u * (four - three)
                        seen = int(upper + v * (lower - upper) + np.float32(0.5))
                        value = ((value * seen + _ROUND) >> 7) & _LANES
                    _put(out, out, py, px, value)
                    sx += step_x
                    sy += step_y


def compile_all() -> None:
    """Compile every function here, or load it from numba's cache, so that the first frame does not wait for it."""
    image = np.zeros((2, 2, 3), np.uint8)
    layer, kinds = np.zeros((2, 2), np.int64), np.zeros((1, 1), np.uint8)
    backward, shows = np.zeros((2, 2, 2), np.float32), np.zeros((1, 1), np.uint8)
    draw_body(image, image, image, layer, kinds, backward, shows, (0, 0, 4, 0, 0), (0, 0, 0, 0))
    draw_face(image, layer, kinds, backward, np.zeros((2, 2), np.uint8), (0, 0, 2))
