"""The inner loops that draw the inside of a mouth, compiled by numba. They release the GIL and allocate no image."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.face.opening import axis, look_up, opening_box, ramp, sample
from engines.jit import compiled
from engines.layers.mesh_raster import FAR
from engines.mesh.mouth_light import TOOTH

TOOTH_TINT = TOOTH / TOOTH.mean()
LIKE_TOOTH = 0.6
"""The share of a white tooth's colour in that of a driver's, as far as the light on it is not known."""
FLESH_FROM, FLESH_WIDTH = 0.005, 0.085
"""By how much the red of flesh is above that of a tooth at least, as a share of the lightness, and how much more of it
makes it flesh for certain."""
LIGHT_FROM, RED_FROM, RAMP = 0.68, 0.12, 0.25
"""What is lighter than this share of white is flesh only where it is redder than this; both over a ramp."""
LEAST_RED, MOST_RED = 0.75, 1.2
"""How red flesh is at least and at most, over the flesh of the picture."""

DRIVER_SHADOW, CORNER_SHADOW = 0.35, 0.6
"""The darkest shadows of the lips and of the corners that are added to what is copied of a driver, as shares."""


@compiled(fastmath=True)
def draw_lips(out: Any, left: int, top: int, layer: Any, shares: Any, backward: Any, depth: Any) -> None:
    """Blend lips over an image by a backward map.

    out: (H, W, 3) uint8, written to; left, top: its pixel at the map's first sample; layer: (h, w, 6) uint8, as in
    ``engines.mesh.lip_removal.RemovedLips``; shares: (3,) float32, of each of its opacities; backward: (m, n, 2)
    float32, pixels of the layer; depth: (m, n) float32, both as ``engines.layers.mesh_raster.draw_mesh`` writes them.
    """
    last_row, last_column = layer.shape[0] - 1.001, layer.shape[1] - 1.001
    for i in range(depth.shape[0]):
        for j in range(depth.shape[1]):
            if depth[i, j] >= FAR:
                continue
            x = min(max(backward[i, j, 0], 0.0), last_column)
            y = min(max(backward[i, j, 1], 0.0), last_row)
            column, row = int(x), int(y)
            fx, fy = x - column, y - row
            a, b, c, d = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
            alpha = 0.0
            for k in range(3):
                if shares[k] <= 0:
                    continue
                opacity = (
                    a * layer[row, column, 3 + k] + b * layer[row, column + 1, 3 + k]
                    + c * layer[row + 1, column, 3 + k] + d * layer[row + 1, column + 1, 3 + k]
                ) / 255  # fmt: skip
                alpha += opacity * shares[k]
            if alpha <= 0:
                continue
            for k in range(3):
                value = (
                    a * layer[row, column, k] + b * layer[row, column + 1, k] + c * layer[row + 1, column, k]
                    + d * layer[row + 1, column + 1, k]
                )  # fmt: skip
                under = out[top + i, left + j, k]
                out[top + i, left + j, k] = np.uint8(under + alpha * (value - under) + 0.5)


@compiled(fastmath=True)
def read_opening(image: Any, ends: Any, upper: Any, lower: Any, inside: Any) -> None:
    """Copy what is between open lips, and nothing else of an image.

    image: (H, W, 3) uint8; ends, upper, lower: as in ``engines.face.opening.opening_box``; inside: (h, w, 3)
    uint8, written to: its columns from one corner to the other, its rows from the upper lip to the lower one.
    """
    length, ux, uy = axis(ends)
    rows, columns = inside.shape[0], inside.shape[1]
    for j in range(columns):
        along = min(max((j + 0.5) / columns, 0.04), 0.96)
        first, last = look_up(upper, along), look_up(lower, along)
        for i in range(rows):
            below = first + (0.06 + 0.88 * (i + 0.5) / rows) * max(last - first, 0.0)
            x = ends[0] + ux * along * length - uy * below
            y = ends[1] + uy * along * length + ux * below
            for c in range(3):
                inside[i, j, c] = np.uint8(sample(image, x, y, c) + 0.5)


@compiled(fastmath=True)
def lip_edges(inside: Any, lips: Any, lightness: Any, tint: float, most: float, edges: Any, span: Any) -> None:
    """Find the share of each column at which the upper lip ends and the lower one begins.

    Landmarks lie on lips that are rounded. A column that is of their colour as far as ``most`` of its height is left as
    it is: that is the tongue.

    inside: (h, w, 3) uint8, what is between the landmarks; lips: (2, 3) float32, the colours of both; lightness: (2,)
    lower and upper factor of the lip's lightness within which a pixel may be lip; tint: largest difference in
    chromaticity. edges: (2, K) float32, written to; span: (2,) float32, written to: the shares of the width at which
    the lips part and meet again.
    """
    rows, columns, count = inside.shape[0], inside.shape[1], edges.shape[1]
    found = np.empty((2, count), np.float32)
    first, last = count, -1
    for lip in range(2):
        mean = max((lips[lip, 0] + lips[lip, 1] + lips[lip, 2]) / 3, 1.0)
        for k in range(count):
            column = min((2 * k + 1) * columns // (2 * count), columns - 1)
            height = 0
            while height < rows:
                row = height if lip == 0 else rows - 1 - height
                light = max(
                    (float(inside[row, column, 0]) + inside[row, column, 1] + inside[row, column, 2]) / 3, 1.0
                )  # fmt: skip
                apart = 0.0
                for c in range(3):
                    apart = max(apart, abs(inside[row, column, c] / light - lips[lip, c] / mean))
                if apart >= tint or light <= lightness[0] * mean or light >= lightness[1] * mean:
                    break
                height += 1
            found[lip, k] = height / rows if height <= most * rows else 0.0
            if height < rows:
                first, last = min(first, k), max(last, k)
    # a mouth that is of the lips' colour nearly everywhere shows the tongue
    parted = last - first >= 0.3 * count
    span[0], span[1] = (first / count, (last + 1) / count) if parted else (0.0, 1.0)
    for k in range(count):
        before, after = max(k - 1, 0), min(k + 1, count - 1)
        edges[0, k] = (found[0, before] + found[0, k] + found[0, after]) / 3
        edges[1, k] = 1 - (found[1, before] + found[1, k] + found[1, after]) / 3


@compiled(fastmath=True)
def _flatness(edge: Any, length: float) -> Any:
    """Return how far it is to an edge of an opening over how far it is straight up or down, for each of its samples.

    edge: (K,) float32, pixels; length: between the corners, pixels. Near the corners of a round mouth, edges are steep.
    """
    flatness = np.empty(edge.shape[0], np.float32)
    last = edge.shape[0] - 1
    for k in range(last + 1):
        before, after = max(k - 1, 0), min(k + 1, last)
        slope = (edge[after] - edge[before]) * last / ((after - before) * length)
        flatness[k] = 1 / np.sqrt(1 + slope * slope)
    return flatness


@compiled(fastmath=True, inline="always")
def _share(above: float, below: float, gap: float, feather: float) -> Any:
    """Return how much is seen of the inside so far from the upper and the lower edge of an opening, 0 to 1.

    gap: how far the edges are from each other there; all in pixels.
    """
    # landmarks of lips lie on the lips, half a pixel from what is seen as their edge
    over = min(0.5 * feather, 1.0, max(0.35 * gap, 0.0))
    return ramp((above + over) / feather) * ramp((below + over) / feather)


@compiled(fastmath=True, inline="always")
def _shade(
    out: Any, x: int, y: int, colour: Any, tint: Any, own: float, light: float, grain: float, alpha: Any
) -> None:
    """Blend a colour over a pixel, in a tint, with a share of its own colour, darkened and with grain."""
    mean = (colour[0] + colour[1] + colour[2]) / 3
    rough = 1 + grain
    for c in range(3):
        value = min(max(tint[c] * (mean + own * (colour[c] - mean)) * light * rough, 0.0), 255.0)
        out[y, x, c] = np.uint8(out[y, x, c] + alpha * (value - out[y, x, c]) + 0.5)


@compiled(fastmath=True, inline="always")
def _recolour(colour: Any, white: float, flesh: Any) -> None:
    """Change a colour (3,) in white light to that of a white tooth or of the picture's flesh, whichever it is.

    What whitens teeth in a picture of the driver, whose camera and light have colours of their own, leaves flesh grey.
    white: the lightness of white; flesh: as in ``engines.mesh.mouth_light.MouthLight``.
    """
    mean = max((colour[0] + colour[1] + colour[2]) / 3, np.float32(1e-3))
    red = colour[0] / mean - TOOTH_TINT[0]
    white_share = ramp((mean / white - LIGHT_FROM) / RAMP) * (1 - ramp((red - RED_FROM) / RAMP))
    share = ramp((red - FLESH_FROM) / FLESH_WIDTH) * (1 - white_share)
    natural = max(flesh[0] - 1, np.float32(1e-3))
    amount = share * min(max(red / natural, LEAST_RED), MOST_RED)
    for c in range(3):
        tooth = TOOTH_TINT[c] + (1 - LIKE_TOOTH) * (colour[c] / mean - TOOTH_TINT[c])
        colour[c] = mean * (share + amount * (flesh[c] - 1) + (1 - share) * tooth)


@compiled(fastmath=True)
def fill_opening(
    out: Any, box: Any, ends: Any, upper: Any, lower: Any, inside: Any, edges: Any, span: Any, gains: Any, by_skin: Any,
    white: float, flesh: Any, tint: Any, own: float, grain: Any, opacity: float, feather: float,
) -> None:  # fmt: skip
    """Fill open lips with what ``read_opening`` copied, in the colours of the picture.

    out: (H, W, 3) uint8, written to within box: left, top, right, bottom, which lies in it, the last two exclusive.
    ends, upper, lower: the opening; inside: (h, w, 3) uint8; edges, span: what ``lip_edges`` has found in it. gains,
    by_skin: (3,) float32, factors of each channel, see ``engines.mesh.mouth_light.DriverLight``; white, flesh,
    tint, own: as in ``engines.mesh.mouth_light.MouthLight``;
    grain: (n, n) float32, as a share of the lightness; feather: the width of the soft edge, pixels.
    """
    left, top, right, bottom = opening_box(ends, upper, lower, box, feather)
    length, ux, uy = axis(ends)
    rows, columns, side = inside.shape[0], inside.shape[1], grain.shape[0]
    flat = _flatness(upper, length), _flatness(lower, length)
    colour = np.empty(3, np.float32)
    for y in range(top, bottom):
        for x in range(left, right):
            along = (ux * (x - ends[0]) + uy * (y - ends[1])) / length
            if along <= 0 or along >= 1:
                continue
            below = -uy * (x - ends[0]) + ux * (y - ends[1])
            first, last = look_up(upper, along), look_up(lower, along)
            above, beneath = (below - first) * look_up(flat[0], along), (last - below) * look_up(flat[1], along)
            alpha = opacity * _share(above, beneath, last - first, feather)
            if alpha <= 0:
                continue
            part = min(max((below - first) / max(last - first, 1e-3), 0.0), 1.0)
            there = span[0] + along * (span[1] - span[0])
            start, end = look_up(edges[0], there), look_up(edges[1], there)
            row, column = (start + part * (end - start)) * rows - 0.5, there * columns - 0.5
            for c in range(3):
                colour[c] = gains[c] * sample(inside, column, row, c)
            _recolour(colour, white, flesh)
            for c in range(3):
                colour[c] *= by_skin[c]
            # lips and cheeks cast a shadow on what is behind them, most of which the picture of the driver has already
            deep = ramp(0.3 + (below - first) / (0.1 * length)) * ramp(0.5 + (last - below) / (0.08 * length))
            corners = ramp(0.15 + 6 * along) * ramp(0.15 + 6 * (1 - along))
            light = (1 - DRIVER_SHADOW * (1 - deep)) * (1 - CORNER_SHADOW * (1 - corners))
            rough = grain[int(abs(below)) % side, int(along * length) % side]
            _shade(out, x, y, colour, tint, own, light, rough, alpha)


@compiled(fastmath=True)
def draw_model(
    out: Any, box: Any, ends: Any, upper: Any, lower: Any, texture: Any, maps: Any, depths: Any, front: float,
    unit: float, cavity: Any, white: float, tint: Any, own: float, grain: Any, opacity: float, feather: float,
) -> None:  # fmt: skip
    """Fill open lips with a model of teeth, gums and tongue.

    Arguments as in ``fill_opening``, and: texture: (h, w, 4) uint8, in white light, the last channel is the opacity;
    maps: (3, m, n, 2) float32 and depths: (3, m, n) float32, what ``engines.layers.mesh_raster.draw_mesh`` has written
    of each surface in the pixels of box, from back to front; front: the depth of the foremost teeth, pixels; unit:
    pixels in a centimetre; cavity: (3,) the colour of the depth, over white; white: the lightness of white.
    """
    left, top, right, bottom = box
    length, ux, uy = axis(ends)
    side = grain.shape[0]
    flat = _flatness(upper, length), _flatness(lower, length)
    colour = np.empty(3, np.float32)
    for y in range(top, bottom):
        for x in range(left, right):
            along = (ux * (x - ends[0]) + uy * (y - ends[1])) / length
            if along <= 0 or along >= 1:
                continue
            below = -uy * (x - ends[0]) + ux * (y - ends[1])
            first, last = look_up(upper, along), look_up(lower, along)
            above, beneath = (below - first) * look_up(flat[0], along), (last - below) * look_up(flat[1], along)
            alpha = opacity * _share(above, beneath, last - first, feather)
            if alpha <= 0:
                continue
            for c in range(3):
                colour[c] = cavity[c] * white
            for k in range(3):
                depth = depths[k, y - top, x - left]
                if depth >= FAR:
                    continue
                column, row = maps[k, y - top, x - left, 0], maps[k, y - top, x - left, 1]
                share = sample(texture, column, row, 3) / 255
                # the deeper in the mouth, the less light there is
                away = max(depth - front, 0.0) / unit / 3.2
                lit = white / 255 / (1 + away * away)
                for c in range(3):
                    colour[c] += share * (sample(texture, column, row, c) * lit - colour[c])
            deep = ramp(0.35 + (below - first) / (0.1 * length)) * ramp(0.5 + (last - below) / (0.08 * length))
            light = 0.3 + 0.7 * deep * ramp(0.1 + 4 * along) * ramp(0.1 + 4 * (1 - along))
            rough = grain[int(abs(below)) % side, int(along * length) % side]
            _shade(out, x, y, colour, tint, own, light, rough, alpha)


def compile_all() -> None:
    """Compile every function here, or load it from numba's cache, so that the first frame does not wait for it."""
    image = np.zeros((2, 2, 3), np.uint8)
    edge, ends, three = np.zeros(2, np.float32), np.zeros(4, np.float32), np.ones(3, np.float32)
    box = (0, 0, 2, 2)
    maps, depth = np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32)
    draw_lips(image, 0, 0, np.zeros((2, 2, 6), np.uint8), three, maps, depth)
    two = np.zeros(2, np.float32)
    read_opening(image, ends, edge, edge, image)
    lip_edges(image, np.zeros((2, 3), np.float32), (0.5, 2.0), 0.1, 0.5, np.zeros((2, 2), np.float32), two)
    edges, grain = np.zeros((2, 2), np.float32), np.zeros((1, 1), np.float32)
    fill_opening(image, box, ends, edge, edge, image, edges, two, three, three, 1.0, three, three, 1.0, grain, 0.0, 1.0)
    draw_model(
        image, box, ends, edge, edge, np.zeros((2, 2, 4), np.uint8), np.zeros((3, 2, 2, 2), np.float32),
        np.zeros((3, 2, 2), np.float32), 0.0, 1.0, three, 1.0, three, 1.0, grain, 0.0, 1.0,
    )  # fmt: skip
