"""The inner loops that draw eyes and lashes, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.jit import compiled
from engines.mesh.lens import lens_box, look_up, ramp, sample


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
    image = np.zeros((2, 2, 3), np.uint8)
    edge, ends = np.zeros(2, np.float32), np.zeros(4, np.float32)
    iris, gaze, to_own = np.ones(3, np.float32), np.zeros(2, np.float32), np.zeros((2, 3), np.float32)
    box = (0, 0, 2, 2)
    draw_eye(image, box, image, ends, edge, edge, ends, edge, edge, to_own, iris, gaze, 1.0, 0.0, 1.0)
    draw_lashes(image, box, image, ends, edge, edge, ends, edge, 0.0, 1.0)
