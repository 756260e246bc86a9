"""Folds and shading that go with an expression: what a warp alone cannot show.

A smile draws a fold from nose to mouth, lifts the cheek and wrinkles the skin beside the eye; raised brows draw lines
on the forehead, and drawn ones between them. Each is a map over the face that makes it darker in a crease and lighter
beside it, as strong as the picture has detail of its own: a flat drawing gets none.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import (
    BROW_LOWER_ROWS,
    BROW_UPPER_ROWS,
    EYE_CORNERS,
    FOREHEAD_TOP,
    LOWER_LID_FOLDS,
    MOUTH_CORNERS,
    OVAL,
)
from engines.jit import compiled
from engines.mesh.far_side import NO_FAR_SKIN, FarSkin
from engines.types import Floats, Image, Points

NASOLABIAL = ((129, 203, 206, 216, 212), (358, 423, 426, 436, 432))
"""Landmarks along the fold from the wing of the nose to beside the mouth, right and left."""
APPLES = (50, 280)
"""The landmark in the middle of each cheek."""
FOLD, CROWS_FEET, CHEEK, FOREHEAD, FROWN = 0.26, 0.14, 0.06, 0.08, 0.16
"""How much darker, as a share, each crease is at its deepest, and how much lighter a lifted cheek."""
FLAT, DETAILED = 0.0025, 0.0065
"""The detail of the cheeks, as a share of their brightness, at which nothing and all of this is drawn."""
STEPS = 24
"""The number of steps of each amount; between two frames of the same step nothing is computed."""
_LINE = 24
_NOSE, _MID = 4, 168
_UPPER = np.concatenate(BROW_UPPER_ROWS)
_INNER = np.array([rows[side][0] for rows in (BROW_UPPER_ROWS, BROW_LOWER_ROWS) for side in range(2)])


@dataclass(frozen=True, slots=True)
class FaceShading:
    """The shading of one portrait: smile of the right and of the left side, raised brows, drawn brows."""

    where: NDArray[np.int64]
    """(n,) the pixels that may change, as indices into a layer."""
    maps: Floats
    """(4, n) float32: the change of each, as a share of the light."""

    @staticmethod
    def of(image: Image, pixels: Points, corner: tuple[int, int], shape: tuple[int, ...]) -> FaceShading:
        """Prepare a portrait with these landmarks (478, 2 or more) for its layer of ``shape`` from ``corner`` on."""
        points = pixels[:, :2] - np.array(corner, np.float32)
        unit = float(np.linalg.norm(pixels[EYE_CORNERS[0][0], :2] - pixels[EYE_CORNERS[1][0], :2]))
        strength = _strength(image, pixels, unit)
        maps = np.stack([
            _smile(points, 0, unit, shape), _smile(points, 1, unit, shape), _forehead(points, unit, shape),
            _frown(points, unit, shape),
        ])  # fmt: skip
        maps *= np.float32(strength) * _within(points, shape)
        where = np.flatnonzero(np.abs(maps).max(axis=0).ravel() > 0.004)
        return FaceShading(where.astype(np.int64), np.ascontiguousarray(maps.reshape(4, -1)[:, where]))


NO_SHADING = FaceShading(np.zeros(0, np.int64), np.zeros((4, 0), np.float32))


class ShadedLayer:
    """The pixels of a portrait's face, shaded as the expression needs and smoothed where they are stretched."""

    def __init__(self, pixels: NDArray[np.uint32], shading: FaceShading, far: FarSkin = NO_FAR_SKIN) -> None:
        """``pixels``: see ``engines.layers.layer.Layer``; they are copied."""
        self._portrait = pixels
        self._own = pixels.copy() if len(far.where) else pixels
        self._far = far
        self._unfolded = 0
        self._shading = shading
        self._steps = (0, 0, 0, 0)
        self.pixels = pixels.copy()
        """As given."""

    def update(self, shape: Points, own: Points, unfolded: float = 0.0) -> None:
        """Shade the pixels for an expression. ``shape`` and ``own``: with and without it, (478, 3) in head units.

        ``unfolded``: how far the far side of the face is unfolded, 0 to 1.
        """
        step = round(STEPS * unfolded)
        if step != self._unfolded and len(self._far.where):
            self._unfolded = step
            mix(self.pixels, self._own, self._portrait, self._far.where, self._far.pixels, step / STEPS)
            self._steps = (-1, -1, -1, -1)
        a, b, c, d = (round(STEPS * amount) for amount in _amounts(shape, own))
        steps = a, b, c, d
        if steps != self._steps and len(self._shading.where):
            self._steps = steps
            shares = np.array(steps, np.float32) / STEPS
            shade(self.pixels.reshape(-1), self._own.reshape(-1), self._shading.where, self._shading.maps, shares)


@compiled()
def _share(value: float, full: float) -> float:
    """Return a value as a share of ``full``, 0 to 1."""
    return min(max(value / full, 0.0), 1.0)


@compiled()
def _amounts(shape: Any, own: Any) -> Any:
    """Return how far each map is shown, 0 to 1, for landmarks with and without an expression, (478, 3), head units."""
    smiles = [0.0, 0.0]
    for side in range(2):
        corner = MOUTH_CORNERS[side]
        out, up = (2 * side - 1) * (shape[corner, 0] - own[corner, 0]), own[corner, 1] - shape[corner, 1]
        smiles[side] = _share(0.5 * out + up - 0.02, 0.14)
    raised = 0.0
    for i in range(_UPPER.shape[0]):
        raised += (own[_UPPER[i], 1] - shape[_UPPER[i], 1]) / _UPPER.shape[0]
    drawn = 0.0
    for i in range(4):
        # right, left, right, left
        drawn += (0.25 - 0.5 * (i & 1)) * (shape[_INNER[i], 0] - own[_INNER[i], 0])
        drawn += 0.25 * (shape[_INNER[i], 1] - own[_INNER[i], 1])
    return smiles[0], smiles[1], _share(raised - 0.03, 0.15), _share(drawn - 0.03, 0.12)


@compiled()
def mix(pixels: Any, own: Any, portrait: Any, where: Any, other: Any, share: float) -> None:
    """Write pixels of a layer, mixed with ``other`` (n,) at the places ``where`` (n,), to ``pixels`` and ``own``.

    These and ``portrait`` are (h * w,) uint32, as in ``shade``.
    """
    for i in range(where.shape[0]):
        first, second, made = np.int64(portrait[where[i]]), np.int64(other[i]), np.int64(0)
        for c in range(4):
            one, two = np.float32((first >> (8 * c)) & 0xFF), np.float32((second >> (8 * c)) & 0xFF)
            made |= np.int64(one + np.float32(share) * (two - one) + np.float32(0.5)) << (8 * c)
        pixels[where[i]] = own[where[i]] = made


@compiled()
def shade(pixels: Any, own: Any, where: Any, maps: Any, shares: Any) -> None:
    """Write ``own`` pixels of a layer, lighter or darker at the places ``where`` (n,), to ``pixels``.

    Both are (h * w,) uint32, premultiplied as in ``engines.layers.layer.Layer``; maps: (k, n) float32; shares: (k,).
    """
    for i in range(where.shape[0]):
        value = np.int64(own[where[i]])
        factor = np.float32(1)
        for k in range(shares.shape[0]):
            factor += shares[k] * maps[k, i]
        opacity = value >> 24
        made = opacity << 24
        for c in range(3):
            light = np.int64(np.float32((value >> (8 * c)) & 0xFF) * factor + np.float32(0.5))
            made |= min(light, opacity) << (8 * c)
        pixels[where[i]] = made


def _strength(image: Image, pixels: Points, unit: float) -> float:
    """Return how strong folds are, 0 to 1, by the detail that the cheeks of the picture have."""
    light = image.astype(np.float32).mean(axis=2)
    detail = np.abs(cv2.GaussianBlur(light, (0, 0), 0.005 * unit) - cv2.GaussianBlur(light, (0, 0), 0.02 * unit))
    shares = []
    for apple in APPLES:
        mask = np.zeros(light.shape, np.uint8)
        x, y = (round(float(v)) for v in pixels[apple, :2])
        cv2.circle(mask, (x, y), max(round(0.15 * unit), 2), (1,), -1)
        cheek = mask > 0
        # a cheek beyond the edge of the picture shows nothing
        shares.append(float(np.median(detail[cheek]) / max(float(light[cheek].mean()), 1.0)) if cheek.any() else 0.0)
    # an edge of a shadow across one cheek is no detail
    return _share(min(shares) - FLAT, DETAILED - FLAT)


def _within(points: Points, shape: tuple[int, ...]) -> Floats:
    """Return where the face is, softly clear of its outline and mouth, (h, w) 0 to 1."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.rint(points[OVAL]).astype(np.int32)], (255,))
    away = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    reach = 0.1 * float(np.ptp(points[OVAL, 0]))
    return np.clip(away / reach, 0, 1).astype(np.float32)


def _smile(points: Points, side: int, unit: float, shape: tuple[int, ...]) -> Floats:
    """Return the fold beside the mouth, the cheek above it and the lines beside the eye, (h, w)."""
    fold = points[list(NASOLABIAL[side])]
    outwards = np.sign(points[APPLES[side], 0] - points[_NOSE, 0])
    made = -FOLD * _crease(fold, 0.035 * unit, 0.014 * unit, outwards, shape)
    apple = points[APPLES[side]] + (points[LOWER_LID_FOLDS[side][3]] - points[APPLES[side]]) * np.float32(0.25)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    blob = np.exp(-(((columns - apple[0]) / (0.17 * unit)) ** 2) - ((rows - apple[1]) / (0.11 * unit)) ** 2)
    made += CHEEK * blob
    corner = points[EYE_CORNERS[side][0]]
    length = 0.17 * unit
    for angle in (-0.45, 0.05, 0.5):
        way = np.array([outwards * np.cos(angle), np.sin(angle)], np.float32)
        middle = corner + way * np.float32(0.09 * unit)
        bend = np.array([0, 0.02 * unit * np.sign(angle)], np.float32)
        line = np.stack([middle, middle + 0.5 * length * way + 0.3 * bend, middle + length * way + bend])
        made -= CROWS_FEET * _crease(line.astype(np.float32), 0.012 * unit, 0.01 * unit, 0, shape)
    return np.asarray(made, np.float32)


def _forehead(points: Points, unit: float, shape: tuple[int, ...]) -> Floats:
    """Return the lines of a forehead below raised skin, (h, w)."""
    brows = np.concatenate([BROW_UPPER_ROWS[0][::-1], BROW_UPPER_ROWS[1]])
    top = points[FOREHEAD_TOP] - points[_MID]
    along = points[brows[-1]] - points[brows[0]]
    along = along / max(float(np.hypot(*along)), 1e-3)
    room = float(np.hypot(*top)) - 0.15 * unit
    made = np.zeros(shape, np.float32)
    for share, width in ((0.34, 0.9), (0.52, 1.0), (0.7, 0.8)):
        line = points[brows] + top / max(float(np.hypot(*top)), 1e-3) * np.float32(share * room)
        # the brow's own bow is flatter higher up
        middle = line.mean(axis=0)
        flat = middle + ((line - middle) @ along)[:, None] * along
        line = middle + width * (flat + (1 - share) * (line - flat) - middle)
        made -= FOREHEAD * _crease(line.astype(np.float32), 0.016 * unit, 0.014 * unit, 0, shape)
    return made


def _frown(points: Points, unit: float, shape: tuple[int, ...]) -> Floats:
    """Return the two lines between brows that are drawn together, (h, w)."""
    made = np.zeros(shape, np.float32)
    middle = 0.5 * (points[BROW_UPPER_ROWS[0][0]] + points[BROW_UPPER_ROWS[1][0]])
    down = points[_MID] - points[FOREHEAD_TOP]
    down = down / max(float(np.hypot(*down)), 1e-3)
    for row in BROW_UPPER_ROWS:
        foot = middle + 0.42 * (points[row[0]] - middle)
        line = np.stack([foot - 0.09 * unit * down, foot, foot + 0.07 * unit * down])
        made -= FROWN * _crease(line.astype(np.float32), 0.018 * unit, 0.01 * unit, 0, shape)
    return made


def _crease(line: Points, width: float, least: float, light: float, shape: tuple[int, ...]) -> Floats:
    """Return how deep a crease along points (n, 2) is, (h, w): 1 at its middle, 0 at its ends and away from it.

    width: pixels; ``light``: the side, -1 or 1 in x, on which the skin beside it is lighter, 0 for both.
    """
    steps = np.linspace(0, len(line) - 1, _LINE)
    at = np.arange(len(line))
    curve = np.stack([np.interp(steps, at, line[:, k]) for k in range(2)], axis=1)
    kernel = np.array([0.25, 0.5, 0.25])
    for _ in range(3):
        curve[1:-1] = sum(weight * curve[k : len(curve) - 2 + k] for k, weight in enumerate(kernel))
    fade = np.sin(np.linspace(0.08, 1, _LINE) * np.pi * 0.96) ** 0.8
    sigma = max(width, least, 0.7)
    deep = _stroke(curve, fade, sigma, shape)
    normal = np.array([light * 2.2 * sigma, 0.0]) if light else np.array([0.0, -2.0 * sigma])
    ridge = _stroke(curve + normal, fade, 1.5 * sigma, shape)
    return np.asarray(deep - 0.4 * ridge, np.float32)


def _stroke(curve: NDArray[np.float64], fade: NDArray[np.float64], sigma: float, shape: tuple[int, ...]) -> Floats:
    """Return a soft line along a curve (n, 2) as strong as ``fade`` (n,), (h, w), at most 1."""
    drawn = np.zeros(shape, np.float32)
    for (a, b), strength in zip(pairwise(curve), fade[:-1], strict=True):
        ends = [tuple(int(v) for v in np.rint(16 * p)) for p in (a, b)]
        cv2.line(drawn, ends[0], ends[1], (float(strength),), 1, cv2.LINE_8, 4)
    blurred = cv2.GaussianBlur(drawn, (0, 0), sigma)
    return np.asarray(blurred * np.float32(np.sqrt(2 * np.pi) * sigma), np.float32).clip(0, 1)


def compile_all() -> None:
    """Compile every loop here, or load it from numba's cache."""
    points = np.zeros((478, 3), np.float32)
    _amounts(points, points)
    pixels, nothing = np.zeros(1, np.uint32), np.zeros(0, np.int64)
    mix(pixels, pixels, pixels, nothing, pixels[:0], 0.0)
    shade(pixels, pixels, nothing, np.zeros((4, 0), np.float32), np.zeros(4, np.float32))
