"""What is painted on the face: the colour of the skin, its pores and lines, lips, brows, stubble and freckles.

Everything is painted into a chart, a flat picture of the face: the model's mean face, unrolled onto a cylinder.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Floats
from tools.assets.images import blurred, draw_dot, draw_line, fill

SCALE = 40
"""Pixels of the chart for a centimetre."""
HALF_WIDTH, TOP, BOTTOM = 18.0, 15.0, -20.0
RADIUS = 10.0
SIZE = (int((TOP - BOTTOM) * SCALE), int(2 * HALF_WIDTH * SCALE))

RGB = tuple[float, float, float]

UPPER_LIP = ((-2.62, -3.52), (-1.7, -2.82), (-0.73, -2.42), (0, -2.52), (0.73, -2.42), (1.7, -2.82), (2.62, -3.52))
LOWER_LIP = ((2.62, -3.52), (1.85, -4.12), (1.03, -4.42), (0, -4.5), (-1.03, -4.42), (-1.85, -4.12), (-2.62, -3.52))
"""The outlines of the lips in the mean face, x and y."""
LIP_Z = 11.0
BROW = ((1.15, 5.3, 10.8), (1.9, 5.62, 10.6), (2.9, 5.88, 10.25), (3.9, 5.86, 9.75), (4.9, 5.45, 9.0), (5.6, 4.85, 7.9))
"""The middle line of an eyebrow in the mean face, from the nose outwards."""


class Skin(NamedTuple):
    """The look of a face. Colours are linear; amounts go from 0 to 1."""

    base: RGB
    flush: RGB
    lip: RGB
    brow: RGB
    freckles: float = 0.0
    stubble: float = 0.0
    age: float = 0.0
    brow_width: float = 0.5
    brow_amount: float = 0.9
    shadow: float = 0.0
    """Make-up on the lids."""
    lip_gloss: float = 0.3
    seed: int = 1


class Maps(NamedTuple):
    """A painted chart: ``colour`` (H, W, 3) linear, ``detail`` (H, W, 4): slopes across and up, gloss, lip."""

    colour: Floats
    detail: Floats


def chart(rest: Floats) -> Floats:
    """Return the pixels (..., 2) of the chart that show points (..., 3) of the mean face."""
    across = RADIUS * np.arctan2(rest[..., 0], np.maximum(rest[..., 2], -5.0) + 0.5)
    x, y = (across + HALF_WIDTH) * SCALE, (TOP - rest[..., 1]) * SCALE
    return np.asarray(np.stack([x, y], -1), np.float32)


def noise(size: tuple[int, ...], cell: float, seed: int) -> Floats:
    """Return smooth noise (H, W) with a mean of 0 and a deviation of 1; ``cell`` is the size of its spots in pixels."""
    rng = np.random.default_rng(seed)
    height, width = size[:2]
    small = rng.standard_normal((int(height / cell) + 4, int(width / cell) + 4)).astype(np.float32)
    large = cv2.resize(small, (int(small.shape[1] * cell), int(small.shape[0] * cell)), interpolation=cv2.INTER_CUBIC)
    part = large[:height, :width]
    return np.asarray((part - part.mean()) / (part.std() + 1e-6), np.float32)


def spot(x: float, y: float, z: float, wide: float, tall: float) -> Floats:
    """Return a soft spot (H, W) around a point of the mean face; its radii in cm."""
    cx, cy = chart(np.array([x, y, z], np.float32))
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    return np.asarray(
        np.exp(-(((columns - cx) / (wide * SCALE)) ** 2) - ((rows - cy) / (tall * SCALE)) ** 2), np.float32
    )


def line_mask(points: NDArray[Any], width: float, blur: float) -> Floats:
    """Return a soft line (H, W) through points (N, 3) of the mean face; ``width`` and ``blur`` in cm."""
    mask = np.zeros(SIZE, np.float32)
    pixels = chart(np.asarray(points, np.float32))
    draw_line(mask, pixels, 1.0, width * SCALE)
    return blurred(mask, max(blur * SCALE, 0.3))


def smooth_curve(points: NDArray[Any], count: int) -> Floats:
    """Return ``count`` points on a Catmull-Rom spline through ``points`` (N, D)."""
    points = np.asarray(points, np.float32)
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    at = np.linspace(0, len(points) - 1 - 1e-6, count)
    i, t = at.astype(int), (at % 1)[:, None]
    a, b, c, d = (padded[i + k] for k in range(4))
    return np.asarray(
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3), np.float32
    )


def lip_mask() -> Floats:
    """Return how much of each pixel of the chart is lip, (H, W)."""
    outline = np.concatenate([smooth_curve(np.array(UPPER_LIP), 60), smooth_curve(np.array(LOWER_LIP), 60)])
    depth = LIP_Z + 0.6 - 0.24 * outline[:, 0] ** 2
    pixels = chart(np.concatenate([outline, depth[:, None]], 1).astype(np.float32))
    mask = np.zeros(SIZE, np.float32)
    fill(mask, pixels)
    return blurred(mask, 2.6)


def both(function: Floats) -> Floats:
    """Return a mask of the picture's right half, mirrored onto the left one."""
    return np.maximum(function, function[:, ::-1])


def _blend(colour: Floats, other: RGB, amount: Floats) -> Floats:
    mixed = colour + (np.array(other, np.float32) - colour) * np.clip(amount, 0, 1)[..., None]
    return np.asarray(mixed, np.float32)


def _colours(skin: Skin, lips: Floats) -> Floats:
    base, flush = np.array(skin.base, np.float32), np.array(skin.flush, np.float32)
    red = (
        0.55 * both(spot(4.6, 0.4, 8.6, 2.4, 1.9))
        + 0.5 * spot(0, 0.3, 13, 1.5, 1.3)
        + 0.25 * spot(0, -6.9, 10.5, 1.8, 1.2)
    )
    red += 0.7 * both(spot(8.3, 2.5, 1.0, 4.0, 3.4)) + 0.35 * both(spot(3.2, 2.35, 9.3, 1.9, 0.55))
    red += 0.05 * noise(SIZE, 30, skin.seed) + 0.05 * noise(SIZE, 8, skin.seed + 1)
    colour = base + (flush - base) * np.clip(red, 0, 1)[..., None]
    colour = colour * np.exp(0.035 * noise(SIZE, 60, skin.seed + 2) + 0.03 * noise(SIZE, 5, skin.seed + 3))[..., None]
    hollow = (
        both(spot(2.5, 2.3, 9.6, 1.5, 0.6)) * (0.14 + 0.25 * skin.age) + both(spot(3.1, 4.45, 9.3, 1.9, 0.6)) * 0.16
    )
    colour = colour * (1 - hollow[..., None] * np.array([0.55, 0.8, 0.75]))
    if skin.shadow:
        lid = both(spot(3.3, 4.3, 9.3, 1.7, 0.55)) * skin.shadow
        colour = _blend(colour.astype(np.float32), tuple(0.45 * base * np.array([1, 0.8, 0.85])), lid)
    if skin.freckles:
        colour = colour * (1 - _freckles(skin)[..., None] * np.array([0.25, 0.42, 0.5]))
    if skin.age > 0.5:
        spots = np.clip(noise(SIZE, 16, skin.seed + 9) - 2.0, 0, 0.6) * (skin.age - 0.4)
        colour = colour * (1 - 0.6 * spots[..., None] * np.array([0.7, 0.9, 1.0]))
    if skin.stubble:
        beard = beard_area() * skin.stubble * (0.75 + 0.25 * np.clip(noise(SIZE, 2.2, skin.seed + 4), -2, 2))
        colour = colour * (1 - 0.6 * beard[..., None] * np.array([1.0, 0.92, 0.84]))
    lip_tone = np.array(skin.lip, np.float32) * np.exp(0.06 * noise(SIZE, 6, skin.seed + 5))[..., None]
    return np.asarray(colour + (lip_tone - colour) * (0.92 * lips)[..., None], np.float32)


def _freckles(skin: Skin) -> Floats:
    rng = np.random.default_rng(skin.seed + 11)
    mask = np.zeros(SIZE, np.float32)
    for _ in range(int(2600 * skin.freckles)):
        x, y = rng.normal(0, 3.6), rng.normal(1.4, 2.1)
        radius = abs(rng.normal(0.0, 0.028)) + 0.018
        at = chart(np.array([x, y, 11 - 0.1 * x * x], np.float32))
        strength = float(rng.uniform(0.12, 0.6))
        draw_dot(mask, at, strength, radius * SCALE)
    return blurred(mask, 0.9)


def beard_area() -> Floats:
    """Return where a beard grows, (H, W): cheeks, jaw, chin and above the lip."""
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    x, y = np.abs(columns / SCALE - HALF_WIDTH), TOP - rows / SCALE
    upper = -2.1 + 0.02 * x + 0.33 * np.maximum(x - 3.0, 0) ** 1.15
    upper = np.where(x < 2.2, -1.55, upper)
    edge = 1 / (1 + np.exp(np.clip((y - upper) / 0.22, -30, 30)))
    side = 1 / (1 + np.exp(np.clip((x - 11.6) / 0.25, -30, 30)))
    low = 1 / (1 + np.exp(np.clip((-8.6 + 0.12 * x - y) / 0.4, -30, 30)))
    below_lip = 1 - np.exp(-((x / 1.9) ** 2) - ((y + 5.0) / 0.5) ** 2) * 0.6
    mouth = 1 - np.exp(-(((x / 2.75) ** 2 + ((y + 3.5) / 1.02) ** 2) ** 2))
    return blurred((edge * side * low * below_lip * mouth).astype(np.float32), 6)


WRINKLES = (
    # points, width, depth, age from which it shows
    (((1.75, -0.3, 11.0), (2.4, -1.5, 10.7), (2.95, -2.6, 10.2), (3.2, -3.6, 9.7)), 0.30, 0.055, 0.0),
    (((1.5, 2.9, 9.6), (2.3, 2.25, 9.8), (3.3, 2.05, 9.6), (4.2, 2.3, 8.9)), 0.25, 0.035, 0.1),
    (((4.9, 3.5, 8.2), (5.5, 3.7, 7.6), (6.1, 4.1, 6.9)), 0.10, 0.025, 0.4),
    (((4.9, 3.2, 8.2), (5.6, 3.0, 7.6), (6.3, 3.0, 6.8)), 0.10, 0.025, 0.4),
    (((4.8, 2.9, 8.3), (5.5, 2.4, 7.7), (6.1, 2.1, 7.1)), 0.10, 0.02, 0.5),
    (((2.75, -3.8, 9.9), (3.0, -4.8, 9.6), (2.9, -5.7, 9.5)), 0.2, 0.035, 0.5),
    (((0.55, 5.0, 11.3), (0.6, 5.9, 11.1), (0.55, 6.7, 11.0)), 0.12, 0.03, 0.5),
    (((0, 7.6, 11.0), (1.8, 7.9, 10.6), (3.6, 7.8, 9.8), (5.0, 7.2, 8.8)), 0.16, 0.03, 0.4),
    (((0, 8.6, 10.9), (1.9, 8.95, 10.4), (3.8, 8.8, 9.5), (5.2, 8.2, 8.4)), 0.16, 0.032, 0.4),
    (((0, 9.6, 10.5), (1.9, 9.9, 10.0), (3.6, 9.7, 9.2)), 0.16, 0.025, 0.5),
    (((-0.1, -5.0, 11.0), (0.8, -5.05, 10.9), (1.6, -4.9, 10.6)), 0.25, 0.03, 0.3),
)


def _height(skin: Skin, lips: Floats) -> Floats:
    pores = 0.0011 * noise(SIZE, 2.1, skin.seed + 6) + 0.0016 * noise(SIZE, 4.5, skin.seed + 7)
    height = pores * (1 + 0.8 * skin.age) + 0.002 * noise(SIZE, 14, skin.seed + 8)
    for points, width, depth, since in WRINKLES:
        amount = np.clip((skin.age - since) / 0.5, 0, 1.3) if since else 0.25 + skin.age
        if amount > 0:
            curve = smooth_curve(np.array(points), 40)
            curve[:, 1] += 0.05 * np.sin(curve[:, 0] * 5 + skin.seed)
            groove = line_mask(curve, width * 0.3, width * 0.55)
            height = height - both(groove / max(groove.max(), 1e-6)) * depth * amount
    rng = np.random.default_rng(skin.seed + 12)
    furrows = np.zeros(SIZE, np.float32)
    for _ in range(110):
        x, y = rng.uniform(-2.4, 2.4), rng.uniform(-4.4, -2.5)
        lean = x * 0.12 + rng.normal(0, 0.05)
        a = chart(np.array([[x, y, LIP_Z], [x + lean * 0.5, y - 0.45, LIP_Z]], np.float32))
        draw_line(furrows, a, float(rng.uniform(0.3, 1)), 1)
    height = height - 0.010 * blurred(furrows, 1.4) * lips
    return np.asarray(height, np.float32)


def paint_skin(skin: Skin) -> Maps:
    """Return the painted chart of a face."""
    lips = lip_mask()
    colour = _colours(skin, lips)
    colour = _paint_brows(colour, skin)
    height = _height(skin, lips) * SCALE
    across, up = np.gradient(height, axis=1), -np.gradient(height, axis=0)
    gloss = (
        0.55
        + 0.35 * spot(0, 1.5, 12.5, 1.3, 2.6)
        + 0.2 * spot(0, 8.2, 10.8, 4.5, 2.0)
        - 0.15 * both(spot(5, -3, 8, 3, 3))
    )
    gloss = gloss + 0.12 * noise(SIZE, 3, skin.seed + 10) - 0.25 * skin.stubble * beard_area()
    gloss = gloss + lips * (0.3 + skin.lip_gloss)
    detail = np.stack([across, up, gloss, lips], -1)
    return Maps(np.maximum(colour, 0.002).astype(np.float32), detail.astype(np.float32))


def _paint_brows(colour: Floats, skin: Skin) -> Floats:
    """Paint the shade of the brows beneath their hairs."""
    curve = smooth_curve(np.array(BROW), 60)
    mask = np.zeros(SIZE, np.float32)
    for k in range(len(curve) - 1):
        along = k / (len(curve) - 2)
        wide = skin.brow_width * (0.9 - 0.65 * max(along - 0.45, 0) / 0.55) * min(1, 0.55 + along * 3)
        part = chart(curve[k : k + 2].astype(np.float32))
        draw_line(mask, part, 1.0, wide * SCALE)
    mask = both(blurred(mask, 4))
    mask = mask * (0.85 + 0.1 * np.clip(noise(SIZE, 2.5, skin.seed + 13), -2, 2))
    return _blend(colour, skin.brow, mask * 0.55 * skin.brow_amount)
