"""The inner loops that draw a warped layer over what lies behind it, compiled by numba. They release the GIL.

A layer's pixels are int64: red, green, blue and opacity in 16 bits each, from the lowest, so that one product weighs
all four without reaching the sign; the colours are premultiplied with the opacity. A layer is drawn in cells of
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
_STILL = 0.06
"""A cell whose corners are fetched from within this many pixels of their own place stands still."""


@compiled(inline="always")
def _sample(pixels: Any, width: int, x: int, y: int) -> Any:
    """Return a bilinear sample of a layer of this width, with its four lanes; x and y in 1/65536 pixels, inside it."""
    at = np.uint64((y >> 16) * width + (x >> 16))
    fx, fy = (x >> 9) & 127, (y >> 9) & 127
    upper = ((pixels[at] * (128 - fx) + pixels[at + np.uint64(1)] * fx + _ROUND) >> 7) & _LANES
    at += np.uint64(width)
    lower = ((pixels[at] * (128 - fx) + pixels[at + np.uint64(1)] * fx + _ROUND) >> 7) & _LANES
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
    rest = 255 - ((value >> 48) & 255)
    for c in range(3):
        behind = (int(under[y, x, c]) * rest * 257 + 32768) >> 16
        out[y, x, c] = min(((value >> (16 * c)) & 255) + behind, 255)


@compiled(inline="always")
def _draw_cell(
    out: Any, under: Any, layer: Any, corners: Any, first_x: int, first_y: int, last_x: int, last_y: int, step: int,
    covers: Any, solid: bool,
) -> None:  # fmt: skip
    """Draw the pixels of a cell.

    corners: where its upper left, upper right, lower left and lower right corner are fetched, x and y each; covers: how
    far the layer covers each of them; solid: whether it hides what is under it.
    """
    pixels, height, width = layer
    share = np.float32(1.0 / step)
    most_x, most_y = width - np.float32(1.1), height - np.float32(1.1)
    ax, ay = min(max(corners[0], 0.0), most_x), min(max(corners[1], 0.0), most_y)
    bx, by = min(max(corners[2], 0.0), most_x), min(max(corners[3], 0.0), most_y)
    cx, cy = min(max(corners[4], 0.0), most_x), min(max(corners[5], 0.0), most_y)
    dx, dy = min(max(corners[6], 0.0), most_x), min(max(corners[7], 0.0), most_y)
    full = covers[0] + covers[1] + covers[2] + covers[3] >= 4 * WHOLE
    fixed = np.float32(65536.0)
    for y in range(first_y, last_y):
        v = (y - first_y) * share
        left_x, left_y = ax + v * (cx - ax), ay + v * (cy - ay)
        x_at, y_at = int(left_x * fixed), int(left_y * fixed)
        step_x = int((bx + v * (dx - bx) - left_x) * share * fixed)
        step_y = int((by + v * (dy - by) - left_y) * share * fixed)
        if solid and full:
            for x in range(first_x, last_x):
                value = _sample(pixels, width, x_at, y_at)
                out[y, x, 0] = value & 255
                out[y, x, 1] = (value >> 16) & 255
                out[y, x, 2] = (value >> 32) & 255
                x_at += step_x
                y_at += step_y
        elif full:
            for x in range(first_x, last_x):
                _put(out, under, y, x, _sample(pixels, width, x_at, y_at))
                x_at += step_x
                y_at += step_y
        else:
            near, far = covers[0] + v * (covers[2] - covers[0]), covers[1] + v * (covers[3] - covers[1])
            for x in range(first_x, last_x):
                seen = int(near + (x - first_x) * share * (far - near) + np.float32(0.5))
                value = ((_sample(pixels, width, x_at, y_at) * seen + _ROUND) >> 7) & _LANES
                _put(out, under, y, x, value)
                x_at += step_x
                y_at += step_y


@compiled(inline="always")
def _copy_cell(out: Any, image: Any, first_x: int, first_y: int, last_x: int, last_y: int) -> None:
    """Copy the pixels of a cell."""
    for y in range(first_y, last_y):
        for x in range(first_x, last_x):
            for c in range(3):
                out[y, x, c] = image[y, x, c]


@compiled()
def draw_body(
    out: Any, original: Any, behind: Any, layer: Any, kinds: Any, backward: Any, shows: Any, place: Any, fresh: Any,
    hidden: Any,
) -> None:  # fmt: skip
    """Draw a layer over what is behind it, leaving alone the cells that have not changed.

    out: (H, W, 3) uint8, written to; original: the portrait, behind: what is behind the layer, both of that size.
    layer: its pixels (h * w,), height and width. kinds: see above. backward: (rows, columns, 2) float32, where in the
    layer the output's pixel (left + step * column, top + step * row) is fetched. shows: (rows - 1, columns - 1) uint8,
    what each cell of ``out`` shows, written to. place: left, top, step, and the columns and rows by which the layer
    reaches beyond the portrait. fresh: left, top, right, bottom of the pixels of ``out`` that are drawn in any case.
    hidden: (m, n) uint8, not 0 for cells from ``fresh``'s corner on that another layer will cover wholly.
    """
    left, top, step, beyond_x, beyond_y = place
    height, width = out.shape[:2]
    whole = np.float32(WHOLE)
    for i in range(backward.shape[0] - 1):
        first_y, last_y = top + step * i, min(top + step * i + step, height)
        hidden_row = (first_y - fresh[1]) // step
        for j in range(backward.shape[1] - 1):
            first_x, last_x = left + step * j, min(left + step * j + step, width)
            hidden_column = (first_x - fresh[0]) // step
            known = 0 <= hidden_row < hidden.shape[0] and 0 <= hidden_column < hidden.shape[1]
            if known and hidden[hidden_row, hidden_column]:
                shows[i, j] = DRAWN
                continue
            ax, ay = backward[i, j, 0], backward[i, j, 1]
            bx, by = backward[i, j + 1, 0], backward[i, j + 1, 1]
            cx, cy = backward[i + 1, j, 0], backward[i + 1, j, 1]
            dx, dy = backward[i + 1, j + 1, 0], backward[i + 1, j + 1, 1]
            x, y = first_x + beyond_x, first_y + beyond_y
            off = max(abs(ax - x), abs(ay - y), abs(bx - x - step), abs(by - y))
            off = max(off, abs(cx - x), abs(cy - y - step), abs(dx - x - step), abs(dy - y - step))
            kind = _kind(kinds, ax, ay), _kind(kinds, bx, by), _kind(kinds, cx, cy), _kind(kinds, dx, dy)
            nothing = max(kind[0], kind[1], kind[2], kind[3]) == NOTHING
            now = ORIGINAL if off < _STILL else BEHIND if nothing else DRAWN
            apart = first_x >= fresh[2] or last_x <= fresh[0] or first_y >= fresh[3] or last_y <= fresh[1]
            if now != DRAWN:
                if apart and shows[i, j] == now:
                    continue
                _copy_cell(out, original if now == ORIGINAL else behind, first_x, first_y, last_x, last_y)
            else:
                corners, covers = (ax, ay, bx, by, cx, cy, dx, dy), (whole, whole, whole, whole)
                solid = min(kind[0], kind[1], kind[2], kind[3]) == ALL
                _draw_cell(out, behind, layer, corners, first_x, first_y, last_x, last_y, step, covers, solid)
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
            if min(ax, bx, cx, dx) <= NOWHERE:
                continue
            kind = _kind(kinds, ax, ay), _kind(kinds, bx, by), _kind(kinds, cx, cy), _kind(kinds, dx, dy)
            if max(kind[0], kind[1], kind[2], kind[3]) == NOTHING:
                continue
            solid = min(kind[0], kind[1], kind[2], kind[3]) == ALL
            first_x, last_x = left + step * j, min(left + step * j + step, width)
            corners, covers = (ax, ay, bx, by, cx, cy, dx, dy), (one, two, three, four)
            _draw_cell(out, out, layer, corners, first_x, first_y, last_x, last_y, step, covers, solid)


@compiled()
def find_hidden(kinds: Any, backward: Any, cover: Any, hidden: Any) -> None:
    """Find the cells of twice the step that a layer drawn with these arguments of ``draw_face`` covers wholly.

    hidden: (m, n) uint8, written to: not 0 where all samples of cell (i, j), from (2 * i, 2 * j) on, are covered.
    """
    rows, columns = cover.shape
    for i in range(hidden.shape[0]):
        for j in range(hidden.shape[1]):
            found = 2 * i + 2 < rows and 2 * j + 2 < columns
            if found:
                x, y = backward[2 * i + 1, 2 * j + 1, 0], backward[2 * i + 1, 2 * j + 1, 1]
                found = x > NOWHERE and _kind(kinds, x, y) == ALL
            if found:
                for row in range(2 * i, 2 * i + 3):
                    for column in range(2 * j, 2 * j + 3):
                        found = found and cover[row, column] == WHOLE
            hidden[i, j] = found


def compile_all() -> None:
    """Compile every function here, or load it from numba's cache, so that the first frame does not wait for it."""
    image = np.zeros((2, 2, 3), np.uint8)
    layer, kinds = (np.zeros(4, np.int64), 2, 2), np.zeros((1, 1), np.uint8)
    backward, byte = np.zeros((2, 2, 2), np.float32), np.zeros((1, 1), np.uint8)
    draw_body(image, image, image, layer, kinds, backward, byte, (0, 0, 4, 0, 0), (0, 0, 0, 0), byte.copy())
    cover = np.zeros((2, 2), np.uint8)
    draw_face(image, layer, kinds, backward, cover, (0, 0, 2))
    find_hidden(kinds, backward, cover, byte)
