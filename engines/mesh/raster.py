"""The inner loops of the mesh generator, compiled by numba. They release the GIL.

They write into the caller's buffers and allocate nothing of an image's size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.jit import compiled

Floats = NDArray[np.float32]


@compiled(fastmath=True)
def draw_mesh(target: Any, source: Any, triangles: Any, x0: int, y0: int, step: int, backward: Any, depth: Any) -> None:
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
        for y in range(low_y, high_y + 1):
            wb = wb_dx * (low_x - ax) + wb_dy * (y - ay)
            wc = wc_dx * (low_x - ax) + wc_dy * (y - ay)
            for x in range(low_x, high_x + 1):
                if wb >= -1e-4 and wc >= -1e-4 and wb + wc <= 1.0001:
                    near = z + wb * z_b + wc * z_c
                    if near < depth[y, x]:
                        depth[y, x] = near
                        backward[y, x, 0] = sx + wb * sx_b + wc * sx_c
                        backward[y, x, 1] = sy + wb * sy_b + wc * sy_c
                wb += wb_dx
                wc += wc_dx


@compiled(fastmath=True)
def blend_over(out: Any, layer: Any, mask: Any, left: int, top: int) -> None:
    """Blend a layer over an image.

    out: (H, W, 3) uint8, written to; layer: (h, w, 3) uint8, whose first pixel lies at (left, top); mask: (h, w) uint8.
    A mask of up to 127 shows nothing of the layer, 255 all of it.
    """
    for y in range(layer.shape[0]):
        for x in range(layer.shape[1]):
            share = 2 * int(mask[y, x]) - 255
            if share <= 0:
                continue
            for c in range(3):
                under = int(out[top + y, left + x, c])
                out[top + y, left + x, c] = under + ((int(layer[y, x, c]) - under) * share + 127) // 255


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


@compiled(fastmath=True)
def trace_edge(points: Any, first: int, last: int, along_edge: Any, table: Any) -> None:
    """Sample one edge of a lens (see ``lens_box``) at even steps between its corners.

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


@compiled(fastmath=True)
def lens_box(lens: Any, upper: Any, lower: Any, box: Any, margin: float) -> tuple[int, int, int, int]:
    """Return the pixels that a lens may touch, within ``box``: left, top, right, bottom, the last two exclusive.

    A lens is the opening between two lids or lips. lens: (4,) float32, its two corners (x0, y0, x1, y1) in pixels;
    upper and lower: (K,) float32, how far below the line between the corners each edge is, over its length, in
    pixels.
    """
    length = max(np.hypot(lens[2] - lens[0], lens[3] - lens[1]), 1e-3)
    ux, uy = (lens[2] - lens[0]) / length, (lens[3] - lens[1]) / length
    left, top, right, bottom = 1e9, 1e9, -1e9, -1e9
    last = upper.shape[0] - 1
    for k in range(last + 1):
        along = length * k / last
        for table in (upper, lower):
            x, y = lens[0] + ux * along - uy * table[k], lens[1] + uy * along + ux * table[k]
            left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
    return (
        int(max(left - margin, box[0])),
        int(max(top - margin, box[1])),
        int(min(right + margin + 2, box[2])),
        int(min(bottom + margin + 2, box[3])),
    )


@compiled(fastmath=True, inline="always")
def _between_lids(
    x: float,
    y: float,
    lens: Any,
    upper: Any,
    lower: Any,
    ux: float,
    uy: float,
    length: float,
    middle: float,
    stretch: float,
) -> Any:
    """Return where to read a portrait's eye for a point of it, never beyond the lids, where there is skin.

    ux, uy, length: the direction and length of the line between the corners of ``lens``; middle: how far below it the
    iris is; stretch: how much taller than in the portrait the eye is open.
    """
    along = min(max((ux * (x - lens[0]) + uy * (y - lens[1])) / length, 0.02), 0.98)
    below = middle + (-uy * (x - lens[0]) + ux * (y - lens[1]) - middle) / stretch
    first, last = look_up(upper, along), look_up(lower, along)
    edge = min(1.2, 0.3 * (last - first))
    below = min(max(below, first + edge), max(last - edge, first + edge))
    return lens[0] + ux * along * length - uy * below, lens[1] + uy * along * length + ux * below


@compiled(fastmath=True)
def draw_eye(
    out: Any, box: Any, image: Any, lens: Any, upper: Any, lower: Any, own_lens: Any, own_upper: Any, own_lower: Any,
    to_own: Any, iris: Any, gaze: Any, stretch: float, closure: float, feather: float,
) -> None:  # fmt: skip
    """Draw the eyeball between the lids, blended over the mesh.

    out: (H, W, 3) uint8, written to within box: left, top, right, bottom, which lies in it, the last two exclusive.
    image: (H, W, 3) uint8, the portrait. lens, upper, lower: the opening now, as in ``lens_box``; own_*: the one in the
    portrait. to_own: (2, 3) float32, output pixel to portrait pixel with the head's motion alone. iris: (3,) float32,
    centre and radius in the portrait; gaze: (2,) float32, how far it moves there, pixels.
    stretch: how much taller than in the portrait the eye is open, 1 or more. closure: from 0, as in the portrait, to 1,
    closed. feather: width of the soft edge, pixels.
    """
    left, top, right, bottom = lens_box(lens, upper, lower, box, feather)
    length = max(np.hypot(lens[2] - lens[0], lens[3] - lens[1]), 1e-3)
    ux, uy = (lens[2] - lens[0]) / length, (lens[3] - lens[1]) / length
    own_length = max(np.hypot(own_lens[2] - own_lens[0], own_lens[3] - own_lens[1]), 1e-3)
    ox, oy = (own_lens[2] - own_lens[0]) / own_length, (own_lens[3] - own_lens[1]) / own_length
    # the sclera beside the iris stretches and shrinks over this many radii, enough not to fold over
    fall = max(1.0, 2.2 * np.hypot(gaze[0], gaze[1]) / iris[2])
    centre_below = -oy * (iris[0] - own_lens[0]) + ox * (iris[1] - own_lens[1])
    for y in range(top, bottom):
        for x in range(left, right):
            along = (ux * (x - lens[0]) + uy * (y - lens[1])) / length
            if along <= 0 or along >= 1:
                continue
            below = -uy * (x - lens[0]) + ux * (y - lens[1])
            from_top = below - look_up(upper, along)
            from_bottom = look_up(lower, along) - below
            # a slit is narrower than the feather, and must not show what the mesh squeezed into it
            gap = from_top + from_bottom
            soft = min(feather, 0.35 * max(gap, 0.0) + 0.2)
            alpha = ramp(from_top / soft) * ramp(from_bottom / soft)
            # lashes cover the last slit
            slit = 1 - ramp((gap / length - 0.03) / 0.09)
            alpha *= 1 - closure * slit
            if alpha <= 0:
                continue
            px = to_own[0, 0] * x + to_own[0, 1] * y + to_own[0, 2]
            py = to_own[1, 0] * x + to_own[1, 1] * y + to_own[1, 2]
            distance = np.hypot(px - iris[0] - gaze[0], py - iris[1] - gaze[1]) / iris[2]
            share = 1 - ramp((distance - 1) / fall)
            px -= gaze[0] * share
            py -= gaze[1] * share
            px, py = _between_lids(px, py, own_lens, own_upper, own_lower, ox, oy, own_length, centre_below, stretch)
            light = 1 - 0.3 * closure * (1 - ramp(from_top / (0.18 * length)))
            light *= 1 - 0.6 * closure * slit
            for c in range(3):
                value = sample(image, px, py, c) * light
                out[y, x, c] = np.uint8(out[y, x, c] + alpha * (value - out[y, x, c]) + 0.5)


@compiled(fastmath=True)
def draw_lashes(
    out: Any, box: Any, image: Any, lens: Any, upper: Any, lower: Any, own_lens: Any, own_upper: Any, opacity: float,
    reach: float,
) -> None:  # fmt: skip
    """Draw the edge of the upper lid over the line where closed lids meet.

    There the source jumps from one side of the eye to the other, and the interpolated coarse map shows what lies
    between: the eye. Arguments as in ``draw_eye``; reach: distance from the line to draw at, pixels.
    """
    left, top, right, bottom = lens_box(lens, upper, lower, box, reach + 1)
    length = max(np.hypot(lens[2] - lens[0], lens[3] - lens[1]), 1e-3)
    ux, uy = (lens[2] - lens[0]) / length, (lens[3] - lens[1]) / length
    own_length = max(np.hypot(own_lens[2] - own_lens[0], own_lens[3] - own_lens[1]), 1e-3)
    ox, oy = (own_lens[2] - own_lens[0]) / own_length, (own_lens[3] - own_lens[1]) / own_length
    for y in range(top, bottom):
        for x in range(left, right):
            along = (ux * (x - lens[0]) + uy * (y - lens[1])) / length
            if along <= 0 or along >= 1:
                continue
            first, last = look_up(upper, along), look_up(lower, along)
            off = -uy * (x - lens[0]) + ux * (y - lens[1]) - 0.5 * (first + last)
            alpha = opacity * ramp(reach + 0.5 * abs(last - first) - abs(off)) * ramp(9 * along) * ramp(9 - 9 * along)
            if alpha <= 0:
                continue
            own_below = look_up(own_upper, along) + min(off, 0.0) - 0.5
            px = own_lens[0] + ox * along * own_length - oy * own_below
            py = own_lens[1] + oy * along * own_length + ox * own_below
            for c in range(3):
                value = sample(image, px, py, c)
                out[y, x, c] = np.uint8(out[y, x, c] + alpha * (value - out[y, x, c]) + 0.5)


def compile_all() -> None:
    """Compile every function here, or load it from numba's cache, so that the first frame does not wait for it."""
    points = np.zeros((3, 3), np.float32)
    image = np.zeros((2, 2, 3), np.uint8)
    edge, ends = np.zeros(2, np.float32), np.zeros(4, np.float32)
    three, two = np.ones(3, np.float32), np.zeros(2, np.float32)
    maps, depth = np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32)
    draw_mesh(points, points[:, :2].copy(), np.zeros((1, 3), np.int32), 0, 0, 2, maps, depth)
    trace_edge(points, 0, 1, np.zeros(1, np.intp), edge)
    blend_over(image, image, np.zeros((2, 2), np.uint8), 0, 0)
    to_own = np.zeros((2, 3), np.float32)
    box = (0, 0, 2, 2)
    lens_box(ends, edge, edge, box, 1.0)
    draw_eye(image, box, image, ends, edge, edge, ends, edge, edge, to_own, three, two, 1.0, 0.0, 1.0)
    draw_lashes(image, box, image, ends, edge, edge, ends, edge, 0.0, 1.0)
