"""The inner loops that draw a warped layer over what lies behind it, compiled by numba. They release the GIL.

A layer's pixels are uint32: red, green, blue and opacity in 8 bits each, from the lowest; the colours are premultiplied
with the opacity. A layer is drawn in square cells of pixels, between whose corners the backward map is interpolated.
``kinds`` says for each block of ``BLOCK`` pixels of a layer what is near it: NOTHING, SOME of the layer, or ALL of it.

The cells of a row that are drawn are sampled together, in one loop without a branch that compilers turn into vector
instructions. So places are integers, in 1/65536 pixels of the layer, and two channels share a product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.jit import compiled

BODY_STEP, FACE_STEP = 4, 2
"""The backward maps of head and body and of the face are sampled at every 4th and every 2nd pixel."""
BLOCK = 8
DRAWN, BEHIND, ORIGINAL = 0, 1, 2
"""What a cell shows: something that was drawn, only what is behind the layer, or the portrait as it was given."""
WHOLE = 128
"""The coverage of a sample that a layer covers wholly."""
NOWHERE = -1e6
"""What the backward map holds where the mesh does not cover a sample."""
NOTHING, SOME, ALL = 0, 2, 6
"""What is near a block of a layer: its marks, of the ones below, ``_IS_SEEN`` and ``_IS_SOLID``."""
_STILL = 0.06
"""A cell whose corners are fetched from within this many pixels of their own place stands still."""
_IS_STILL, _IS_SEEN, _IS_SOLID, _IS_KNOWN = 1, 2, 4, 8
"""Marks of a corner of cells: it stands still; some of the layer is near where it is fetched, or all of it; the mesh
covers it."""
_FIXED = np.float32(65536)
_LANES, _ROUND, _HALF, _CARRY = (np.uint32(value) for value in (0x00FF00FF, 0x00400040, 0x00800080, 0x00010001))
_SEVEN, _EIGHT, _REST, _FULL = (np.uint32(value) for value in (7, 8, 127, 128))


@compiled(separate=True, fastmath=True)
def _find_corners(row: Any, most_x: Any, most_y: Any, xs: Any, ys: Any) -> None:
    """Compute where in a layer the corners of a row of the backward map (n, 2) are fetched.

    most_x, most_y: the largest places; xs, ys: (n,) int32, written to.
    """
    for j in range(row.shape[0]):
        x, y = max(row[j, 0], np.float32(0)), max(row[j, 1], np.float32(0))
        xs[j] = np.int32(np.float32(min(x, most_x) * _FIXED))
        ys[j] = np.int32(np.float32(min(y, most_y) * _FIXED))


@compiled(separate=True, fastmath=True)
def _mark_corners(row: Any, kinds: Any, own_x: Any, own_y: Any, step: int, xs: Any, ys: Any, marks: Any) -> None:
    """Find what is where the corners of a row of the backward map (n, 2) are fetched.

    own_x, own_y: where the first is when it stands still; xs, ys: (n,) int32, of ``_find_corners``; marks: (n,) uint8,
    written to.
    """
    still, nowhere = np.float32(_STILL), np.float32(NOWHERE)
    for j in range(row.shape[0]):
        off_x, off_y = np.float32(row[j, 0] - (own_x + np.float32(step * j))), np.float32(row[j, 1] - own_y)
        mark = np.uint8(_IS_STILL) if abs(off_x) < still and abs(off_y) < still else np.uint8(0)
        marks[j] = mark | (np.uint8(_IS_KNOWN) if row[j, 0] > nowhere else np.uint8(0))
    for j in range(row.shape[0]):
        marks[j] |= kinds[np.uint32((ys[j] >> 16) // BLOCK), np.uint32((xs[j] >> 16) // BLOCK)]


@compiled(separate=True)
def _find_places(count: int, step: int, upper: Any, lower: Any, places: Any) -> None:
    """Interpolate between the corners of ``count`` cells.

    upper, lower: (2, n) int32, one coordinate of the left and of the right corners above and below; places: (n,) int32,
    written to: of the first pixel of every cell, of the second one, and so on.
    """
    bits = step >> 1
    for v in range(step):
        for u in range(step):
            first = (v * step + u) * count
            for m in range(count):
                left = np.int32(upper[0, m] + np.int32(v) * ((lower[0, m] - upper[0, m]) >> np.int32(bits)))
                right = np.int32(upper[1, m] + np.int32(v) * ((lower[1, m] - upper[1, m]) >> np.int32(bits)))
                places[first + m] = np.int32(left + np.int32(u) * (np.int32(right - left) >> np.int32(bits)))


@compiled(separate=True)
def _sample(pixels: Any, width: int, count: int, xs: Any, ys: Any, samples: Any) -> None:
    """Sample a layer of this width bilinearly. xs, ys: (n,) int32 places inside it; samples: (n,) uint32, written to.

    Every step is cast back to 32 bits, as numba widens it and vectors would be half as long.
    """
    below = np.int32(width)
    for k in range(count):
        x, y = xs[k], ys[k]
        at = np.int32(np.int32(np.int32(y >> np.int32(16)) * below) + np.int32(x >> np.int32(16)))
        right, down = np.uint32(np.uint32(x >> np.int32(9)) & _REST), np.uint32(np.uint32(y >> np.int32(9)) & _REST)
        left, up = np.uint32(_FULL - right), np.uint32(_FULL - down)
        a, b = pixels[np.uint32(at)], pixels[np.uint32(at + np.int32(1))]
        c, d = pixels[np.uint32(at + below)], pixels[np.uint32(at + below + np.int32(1))]
        even, odd = _mixed(a & _LANES, left, b & _LANES, right), _mixed(_odd(a), left, _odd(b), right)
        even = _mixed(even, up, _mixed(c & _LANES, left, d & _LANES, right), down)
        odd = _mixed(odd, up, _mixed(_odd(c), left, _odd(d), right), down)
        samples[k] = np.uint32(even | np.uint32(odd << _EIGHT))


@compiled(inline="always")
def _mixed(first: Any, share: Any, second: Any, rest: Any) -> Any:
    """Return two channels, 8 of each 16 bits, mixed of two pixels by shares of 128."""
    both = np.uint32(np.uint32(np.uint32(first * share) + np.uint32(second * rest)) + _ROUND)
    return np.uint32(np.uint32(both >> _SEVEN) & _LANES)


@compiled(inline="always")
def _odd(pixel: Any) -> Any:
    """Return green and opacity of a pixel, where red and blue were."""
    return np.uint32(np.uint32(pixel >> _EIGHT) & _LANES)


@compiled(separate=True)
def _blend(samples: Any, unders: Any, count: int) -> None:
    """Blend pixels of a layer, (n,) uint32, over others, (n,) uint32 of which the highest 8 bits are 0."""
    for k in range(count):
        value, under = samples[k], unders[k]
        rest = np.uint32(np.uint32(255) - np.uint32(value >> np.uint32(24)))
        even = _over(np.uint32(value & _LANES), np.uint32(under & _LANES), rest)
        odd = _over(_odd(value), _odd(under), rest)
        samples[k] = np.uint32(even | np.uint32(odd << _EIGHT))


@compiled(inline="always")
def _over(value: Any, under: Any, rest: Any) -> Any:
    """Return two channels, 8 of each 16 bits, over a share ``rest`` of 255 of those under them, 255 at most."""
    behind = np.uint32(np.uint32(under * rest) + _HALF)
    # divided by 255
    behind = np.uint32(np.uint32(behind + np.uint32(np.uint32(behind >> _EIGHT) & _LANES)) >> _EIGHT)
    both = np.uint32(value + np.uint32(behind & _LANES))
    full = np.uint32(np.uint32(both >> _EIGHT) & _CARRY)
    return np.uint32(np.uint32(both | np.uint32(full * np.uint32(255))) & _LANES)


@compiled(inline="always")
def _pixel(image: Any, y: int, x: int) -> Any:
    """Return a pixel of an image as one of a layer, without opacity."""
    red, green, blue = np.uint32(image[y, x, 0]), np.uint32(image[y, x, 1]), np.uint32(image[y, x, 2])
    return np.uint32(red | np.uint32(green << _EIGHT) | np.uint32(blue << np.uint32(16)))


@compiled(inline="always")
def _copy_cell(out: Any, image: Any, first_x: int, first_y: int, last_x: int, last_y: int) -> None:
    """Copy the pixels of a cell."""
    for y in range(first_y, last_y):
        for x in range(first_x, last_x):
            for c in range(3):
                out[y, x, c] = image[y, x, c]


@compiled(inline="always")
def _scratch(columns: int, step: int) -> tuple[Any, ...]:
    """Return memory for rows of this many corners: places and marks of two rows, cells, places, samples, unders."""
    corners, marks = np.empty((2, 2, columns), np.int32), np.empty((2, columns), np.uint8)
    places, samples = np.empty((6, columns * step * step), np.int32), np.empty(columns * step * step, np.uint32)
    return corners, marks, np.empty(columns, np.int32), places, samples, np.empty(columns * step * step, np.uint32)


@compiled(inline="always")
def _put(out: Any, y: int, x: int, value: Any) -> None:
    """Write a pixel of a layer that hides what is under it."""
    out[y, x, 0] = value & 255
    out[y, x, 1] = (value >> 8) & 255
    out[y, x, 2] = (value >> 16) & 255


@compiled()
def _sample_cells(
    pixels: Any, width: int, step: int, cells: Any, count: int, corners: Any, upper: int, lower: int, places: Any,
    samples: Any,
) -> None:  # fmt: skip
    """Sample ``count`` cells of a row.

    cells: (n,) int32, their columns; corners: (2, 2, n) int32, x and y of the corners of two rows, of which upper and
    lower are the first and the second; places: (6, m) int32, overwritten; samples: (m,) uint32, written to: the first
    pixel of every cell, the second one, and so on.
    """
    for k in range(2):
        for m in range(count):
            j = cells[m]
            places[2, m], places[3, m] = corners[upper, k, j], corners[upper, k, j + 1]
            places[4, m], places[5, m] = corners[lower, k, j], corners[lower, k, j + 1]
        _find_places(count, step, places[2:4], places[4:6], places[k])
    _sample(pixels, width, count * step * step, places[0], places[1], samples)


@compiled()
def _choose_cells(
    out: Any, original: Any, behind: Any, marks: Any, shows: Any, left: int, top: int, fresh: Any, hidden: Any,
    cells: Any,
) -> tuple[int, int]:  # fmt: skip
    """Find the cells of a row that are drawn, and copy those that are not and have changed.

    marks: (2, n) uint8, of the row's corners; shows: (n - 1,) uint8; left, top: its first pixel; cells: (n,) int32,
    written to: the columns of those that are drawn, first of those that the layer does not hide wholly. Return the
    numbers of these and of all.
    """
    height, width = out.shape[:2]
    last_y = min(top + BODY_STEP, height)
    hidden_row = (top - fresh[1]) // BODY_STEP
    apart_row = top >= fresh[3] or last_y <= fresh[1]
    soft, solid = 0, cells.shape[0]
    for j in range(shows.shape[0]):
        every = marks[0, j] & marks[0, j + 1] & marks[1, j] & marks[1, j + 1]
        some = marks[0, j] | marks[0, j + 1] | marks[1, j] | marks[1, j + 1]
        drawn = every & _IS_KNOWN and some & _IS_SEEN
        now = ORIGINAL if every & _IS_STILL else DRAWN if drawn else BEHIND
        x = left + BODY_STEP * j
        last_x = min(x + BODY_STEP, width)
        apart = apart_row or x >= fresh[2] or last_x <= fresh[0]
        if apart and now != DRAWN and shows[j] == now:
            continue
        if not apart:
            hidden_column = (x - fresh[0]) // BODY_STEP
            known = 0 <= hidden_row < hidden.shape[0] and 0 <= hidden_column < hidden.shape[1]
            if known and hidden[hidden_row, hidden_column]:
                shows[j] = DRAWN
                continue
        if now == DRAWN and every & _IS_SOLID:
            solid -= 1
            cells[solid] = j
        elif now == DRAWN:
            cells[soft] = j
            soft += 1
        else:
            _copy_cell(out, original if now == ORIGINAL else behind, x, top, last_x, last_y)
        shows[j] = now if apart else DRAWN
    count = soft + cells.shape[0] - solid
    for k in range(soft, count):
        cells[k] = cells[solid + k - soft]
    return soft, count


@compiled()
def draw_body(
    out: Any, original: Any, behind: Any, layer: Any, kinds: Any, backward: Any, shows: Any, place: Any, fresh: Any,
    hidden: Any,
) -> None:  # fmt: skip
    """Draw a layer over what is behind it, leaving alone the cells that have not changed.

    out: (H, W, 3) uint8, written to; original: the portrait, behind: what is behind the layer, both of that size.
    layer: its pixels (h * w,), height and width. kinds: see above. backward: (rows, columns, 2) float32, where in the
    layer the output's pixel (left + BODY_STEP * column, top + BODY_STEP * row) is fetched, or NOWHERE, where only what
    is behind is seen. shows: (rows - 1,
    columns - 1) uint8, what each cell of ``out`` shows, written to. place: left, top, and the columns and rows by which
    the layer reaches beyond the portrait. fresh: left, top, right, bottom of the pixels of ``out`` that are drawn in
    any case. hidden: (m, n) uint8, not 0 for cells from ``fresh``'s corner on that another layer will cover wholly.
    """
    pixels, tall, wide = layer
    left, top, beyond_x, beyond_y = place
    step = BODY_STEP
    height, width = out.shape[:2]
    rows, columns = backward.shape[:2]
    corners, marks, cells, places, samples, unders = _scratch(columns, step)
    most_x, most_y = np.float32(wide - 1.1), np.float32(tall - 1.1)
    own_x, own_y = np.float32(left + beyond_x), top + beyond_y
    for i in range(-1, rows - 1):
        two, one = i & 1, 1 - (i & 1)
        low, lower = backward[i + 1], corners[two]
        _find_corners(low, most_x, most_y, lower[0], lower[1])
        _mark_corners(low, kinds, own_x, np.float32(own_y + step * (i + 1)), step, lower[0], lower[1], marks[two])
        if i < 0:
            continue
        first_y = top + step * i
        soft, count = _choose_cells(out, original, behind, marks, shows[i], left, first_y, fresh, hidden, cells)
        _sample_cells(pixels, wide, step, cells, count, corners, one, two, places, samples)
        for v in range(min(step, height - first_y)):
            for u in range(step):
                at = samples[(v * step + u) * count :]
                for m in range(soft):
                    unders[m] = _pixel(behind, first_y + v, min(left + step * cells[m] + u, width - 1))
                _blend(at, unders, soft)
        for m in range(count):
            x = left + step * cells[m]
            for v in range(min(step, height - first_y)):
                for u in range(min(step, width - x)):
                    _put(out, first_y + v, x + u, samples[(v * step + u) * count + m])


@compiled()
def draw_face(out: Any, layer: Any, kinds: Any, backward: Any, cover: Any, place: Any) -> None:
    """Draw a layer over an image where ``cover`` says so.

    out: (H, W, 3) uint8, written to. layer, kinds, backward: as in ``draw_body``, of FACE_STEP; cover: (rows, columns)
    uint8, how much of the layer is seen at each sample, WHOLE at most; samples at NOWHERE are not read. place: left,
    top; the pixel there lies in ``out``.
    """
    pixels, tall, wide = layer
    left, top = place
    step = FACE_STEP
    rows, columns = backward.shape[:2]
    corners, marks, cells, places, samples, unders = _scratch(columns, step)
    most_x, most_y = np.float32(wide - 1.1), np.float32(tall - 1.1)
    for i in range(-1, rows - 1):
        two, one = i & 1, 1 - (i & 1)
        low, lower = backward[i + 1], corners[two]
        _find_corners(low, most_x, most_y, lower[0], lower[1])
        _mark_corners(low, kinds, np.float32(0), np.float32(0), step, lower[0], lower[1], marks[two])
        if i < 0:
            continue
        soft, solid = 0, columns
        for j in range(columns - 1):
            every = marks[0, j] & marks[0, j + 1] & marks[1, j] & marks[1, j + 1]
            some = marks[0, j] | marks[0, j + 1] | marks[1, j] | marks[1, j + 1]
            covered = int(cover[i, j]) + cover[i, j + 1] + cover[i + 1, j] + cover[i + 1, j + 1]
            if covered == 0 or not every & _IS_KNOWN or not some & _IS_SEEN:
                continue
            if covered == 4 * WHOLE and every & _IS_SOLID:
                solid -= 1
                cells[solid] = j
            else:
                cells[soft] = j
                soft += 1
        count = soft + columns - solid
        for k in range(soft, count):
            cells[k] = cells[solid + k - soft]
        _sample_cells(pixels, wide, step, cells, count, corners, one, two, places, samples)
        _put_face(out, cover[i : i + 2], left, top + step * i, cells[:count], soft, samples, unders)


@compiled()
def _put_face(
    out: Any, cover: Any, left: int, top: int, cells: Any, soft: int, samples: Any, unders: Any
) -> None:  # fmt: skip
    """Write the cells of a row of the face, as ``_sample_cells`` has sampled them, over what is there.

    cover: (2, n) uint8, of the row's corners; left, top: its first pixel; cells: (m,) int32, of which the first
    ``soft`` do not hide what is under them; unders: (m,) uint32, overwritten.
    """
    height, width = out.shape[:2]
    step, count = FACE_STEP, cells.shape[0]
    for v in range(min(step, height - top)):
        for u in range(step):
            at = samples[(v * step + u) * count :]
            for m in range(soft):
                j = cells[m]
                near, far = (
                    cover[0, j] * (step - v) + cover[1, j] * v,
                    cover[0, j + 1] * (step - v) + cover[1, j + 1] * v,
                )
                seen = (near * (step - u) + far * u + step * step // 2) // (step * step)
                at[m] = _faded(at[m], np.uint32(seen))
                unders[m] = _pixel(out, top + v, min(left + step * j + u, width - 1))
            _blend(at, unders, soft)
    for m in range(count):
        x = left + step * cells[m]
        for v in range(min(step, height - top)):
            for u in range(min(step, width - x)):
                _put(out, top + v, x + u, samples[(v * step + u) * count + m])


@compiled(inline="always")
def _faded(value: Any, share: Any) -> Any:
    """Return a share of 128 of a pixel of a layer."""
    nothing = np.uint32(0)
    odd = _mixed(_odd(value), share, nothing, nothing)
    return np.uint32(_mixed(np.uint32(value & _LANES), share, nothing, nothing) | np.uint32(odd << _EIGHT))


@compiled(inline="always")
def _kind(kinds: Any, x: float, y: float) -> Any:
    """Return what is near a point of a layer."""
    row = min(max(int(y) // BLOCK, 0), kinds.shape[0] - 1)
    column = min(max(int(x) // BLOCK, 0), kinds.shape[1] - 1)
    return kinds[row, column]


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
    layer, kinds = (np.zeros(4, np.uint32), 2, 2), np.zeros((1, 1), np.uint8)
    backward, byte = np.zeros((2, 2, 2), np.float32), np.zeros((1, 1), np.uint8)
    draw_body(image, image, image, layer, kinds, backward, byte, (0, 0, 0, 0), (0, 0, 0, 0), byte.copy())
    cover = np.zeros((2, 2), np.uint8)
    draw_face(image, layer, kinds, backward, cover, (0, 0))
    find_hidden(kinds, backward, cover, byte)
