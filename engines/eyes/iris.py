"""Finds the irises of a portrait: where its eyes are open, and which ellipse in them has a dark rim."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.opening import CURVE, Opening
from engines.types import Floats, Image

Bools = NDArray[np.bool_]

REACH_SIDE, REACH_UP, REACH_DOWN = 0.25, 0.6, 0.45
"""How far a window reaches beyond the opening of an eye, in eye widths."""
ANGLES, SEEN_ANGLES = 48, 10
"""At how many angles the rim of an iris is looked at, and at how many of them it must be visible."""
EVEN = 0.75
"""The share of the visible rim that must show the step of brightness."""
RIM_STEP, LEAST_STEP = 0.12, 18.0
"""The smallest step of brightness at the rim of an iris, as a share of the white's and in grey levels; marble and many
drawings have less, and keep their eye as it is."""
LONE_STEP = 40.0
"""The smallest step of an iris where the other one was not found."""
SIZES = np.linspace(0.85, 1.6, 11, dtype=np.float32)
TALLS = np.array([1.0, 1.2, 1.4], np.float32)
"""The widths of an iris over that of its landmarks, and the heights over the width, that are tried."""
DARK_EDGE = 0.25
"""How much darker than what is beyond them lashes are, as a share."""
_GRID = np.linspace(0, 1, CURVE)


@dataclass(frozen=True, slots=True)
class Iris:
    """An iris as an upright ellipse in a window, pixels."""

    x: float
    y: float
    across: float
    """Half of its width."""
    down: float
    """Half of its height; drawn eyes are often taller than wide."""
    size: float = 1.0
    """Its width over that of the landmarks."""
    step: float = 0.0
    """How much darker it is than the white, in grey levels."""

    def radius(self, x: Floats, y: Floats) -> Floats:
        """Return how far points are from the middle, 1 at the rim."""
        return np.asarray(np.hypot((x - self.x) / self.across, (y - self.y) / self.down), np.float32)


@dataclass(frozen=True, slots=True)
class EyeWindow:
    """The part of a portrait around an eye, and where its pixels are in the eye's opening."""

    corner: NDArray[np.intp]
    """(2,) the place of its first pixel in the portrait."""
    pixels: Floats
    """(h, w, 3)."""
    light: Floats
    """(h, w) brightness."""
    x: Floats
    y: Floats
    """(h, w) places in the window."""
    along: Floats
    """(h, w) between the corners of the eye, 0 to 1."""
    from_upper: Floats
    from_lower: Floats
    """(h, w) how far below the upper and above the lower edge of the opening, pixels."""
    length: float
    landmarks: Iris
    """The iris as the landmarks have it."""

    @staticmethod
    def around(image: Image, opening: Opening, iris: Floats) -> EyeWindow:
        """Return the window around an opening. ``iris``: (3,) centre and radius of the landmarks, pixels."""
        ends = opening.ends.reshape(2, 2)
        axis = ends[1] - ends[0]
        length = max(float(np.hypot(*axis)), 4.0)
        unit = axis / length
        low = ends.min(axis=0) - length * np.array([REACH_SIDE, REACH_UP])
        high = ends.max(axis=0) + length * np.array([REACH_SIDE, REACH_DOWN])
        height, width = image.shape[:2]
        # a window of an eye at the image's edge keeps a few pixels
        corner = np.clip(np.floor(low), 0, (width - 4, height - 4)).astype(np.intp)
        end = np.clip(np.ceil(high), corner + 4, (width, height)).astype(np.intp)
        pixels = image[corner[1] : end[1], corner[0] : end[0]].astype(np.float32)
        x, y = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (pixels.shape[1], pixels.shape[0])))
        dx, dy = x + corner[0] - ends[0, 0], y + corner[1] - ends[0, 1]
        along = (unit[0] * dx + unit[1] * dy) / length
        below = -unit[1] * dx + unit[0] * dy
        upper, lower = (np.interp(along, _GRID, edge).astype(np.float32) for edge in (opening.upper, opening.lower))
        light = cv2.GaussianBlur(pixels, (0, 0), 0.7).mean(axis=2)
        left, top, radius = (float(v) for v in iris - np.append(corner, 0))
        seen = Iris(left, top, radius, radius)
        return EyeWindow(corner, pixels, light, x, y, along, below - upper, lower - below, length, seen)

    def inside(self, margin: Floats) -> Bools:
        """Return a mask (h, w) of the eyeball clear of lids, and of lashes over ``margin`` (CURVE,), pixels."""
        bottom = np.maximum(0.08 * (self.from_upper + self.from_lower), 0.8)
        top = np.maximum(self.spread(margin), np.maximum(0.08 * (self.from_upper + self.from_lower), 1.0))
        level = (self.along > 0.04) & (self.along < 0.96)
        return np.asarray(level & (self.from_upper > top) & (self.from_lower > bottom))

    def spread(self, table: Floats) -> Floats:
        """Return the value at each pixel of a table over the length of the opening, (h, w)."""
        return np.asarray(np.interp(self.along, _GRID, table), np.float32)


def brightness(window: EyeWindow) -> float:
    """Return how bright the white of an eye is, in grey levels."""
    middle = (window.from_upper > 0.1 * window.length) & (window.from_lower > 1)
    inside = window.inside(np.full(CURVE, 1.0, np.float32))
    clear = inside & middle if (inside & middle).sum() > 12 else inside
    return float(np.percentile(window.light[clear], 75)) if clear.any() else 128.0


def lashes_within(window: EyeWindow, gap: Floats) -> Floats:
    """Return how far lashes reach into an opening from its upper edge, (CURVE,) pixels; ``gap``: its height."""
    bright = brightness(window)
    depths = np.full(CURVE, np.nan)
    for k in range(3, CURVE - 3):
        reach = 0.4 * float(gap[k])
        place, light = _profile(window, _GRID[k], reach)
        iris = window.landmarks
        # over the iris, the dark of lashes cannot be told from that of the pupil
        if len(place) and abs(place[:, 0].mean() - iris.x) > 1.2 * iris.across:
            depths[k] = _dark_depth(place[:, 1], light, bright)
    return np.clip(_smooth(depths), 0, 0.4 * gap)


def lashes_above(window: EyeWindow, fold: Floats) -> Floats:
    """Return how far lashes reach up from the edge of the upper lid, (CURVE,) pixels; ``fold``: that to its fold."""
    depths = np.full(CURVE, np.nan)
    for k in range(3, CURVE - 3):
        place, light = _profile(window, _GRID[k], -0.8 * float(fold[k]))
        if len(place) > 2:
            depths[k] = _dark_depth(-place[:, 1], light, float(np.percentile(light, 80)))
    return np.clip(_smooth(depths), 1.0, np.maximum(0.7 * fold, 1.0))


def _profile(window: EyeWindow, along: float, reach: float) -> tuple[Floats, Floats]:
    """Return x and the distance below the upper edge of pixels (n, 2) at a place, up to ``reach``, and their light."""
    near = np.abs(window.along - along) < 0.8 / window.length
    low, high = min(reach, 0.0), max(reach, 0.0)
    near &= (window.from_upper >= low - 0.5) & (window.from_upper <= high + 0.5)
    return np.stack([window.x[near], window.from_upper[near]], axis=1), window.light[near]


def _dark_depth(depth: Floats, light: Floats, clear: float) -> float:
    """Return how deep it is dark, from a depth of 0 on; 0 if there is nothing dark against ``clear``."""
    if not len(depth) or float(light.min()) > (1 - DARK_EDGE) * clear:
        return 0.0
    dark = light < 0.65 * float(light.min()) + 0.35 * clear
    return float(depth[dark].max()) + 0.5


def _smooth(depths: NDArray[np.float64]) -> Floats:
    """Return depths with gaps filled in and steps rounded, (CURVE,)."""
    known = np.flatnonzero(np.isfinite(depths))
    if not len(known):
        return np.zeros(CURVE, np.float32)
    filled = np.interp(_GRID, _GRID[known], depths[known]).astype(np.float32)
    return np.asarray(cv2.blur(filled.reshape(1, -1), (5, 1), borderType=cv2.BORDER_REPLICATE).ravel(), np.float32)


def find_irises(windows: list[EyeWindow], inside: list[Bools]) -> list[Iris | None]:
    """Return the iris in each eye. ``inside``: masks (h, w) of where the eyeball is visible.

    Both have the size of the one that is seen better. Where only one is found, the other is where its landmarks are,
    and where that one is faint, there is none.
    """
    found = [_fit(window, mask, SIZES) for window, mask in zip(windows, inside, strict=True)]
    clear = max((iris for iris in found if iris is not None), key=lambda iris: iris.step, default=None)
    if clear is None or (None in found and clear.step < LONE_STEP):
        return [None for _ in windows]
    result: list[Iris | None] = []
    for iris, window, mask in zip(found, windows, inside, strict=True):
        if iris is not None and abs(iris.size - clear.size) < 0.06:
            result.append(iris)
        else:
            alike = _fit(window, mask, np.array([clear.size], np.float32))
            result.append(alike or _assumed(window.landmarks, clear))
    return result


def _assumed(landmarks: Iris, clear: Iris) -> Iris:
    """Return an iris at its landmarks, in the shape of the other one."""
    across = landmarks.across * clear.size
    return replace(clear, x=landmarks.x, y=landmarks.y, across=across, down=across * clear.down / clear.across)


def _fit(window: EyeWindow, inside: Bools, sizes: Floats) -> Iris | None:
    """Return the ellipse whose rim has the largest step of brightness, or None if that is too small."""
    near = window.landmarks
    shifts = np.linspace(-0.3, 0.3, 7)
    best = _best_rim(window.light, inside, near, _grid(shifts, shifts, sizes, TALLS))
    if best is None:
        return None
    fine = np.linspace(-0.06, 0.06, 5)
    nudge = fine if len(sizes) > 1 else np.zeros(1)
    refined = _best_rim(window.light, inside, near, best[1] + _grid(fine, fine, nudge, np.zeros(1)))
    step, (x, y, size, tall) = refined or best
    if step < max(RIM_STEP * brightness(window), LEAST_STEP):
        return None
    across = near.across * float(size)
    place = near.x + float(x) * near.across, near.y + float(y) * near.across
    return Iris(*place, across, across * float(tall), float(size), step)


def _grid(*axes: NDArray[Any]) -> Floats:
    """Return all combinations of values, (n, axes) float32."""
    return np.asarray(np.stack([a.ravel() for a in np.meshgrid(*axes)], axis=1), np.float32)


def _best_rim(light: Floats, inside: Bools, near: Iris, tried: Floats) -> tuple[float, Floats] | None:
    """Return the step of brightness at the best rim and its row of ``tried`` (n, 4), or None if no rim is visible.

    A row is an ellipse: shift across and down, and width, in radii of ``near``; height over width.
    """
    angle = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False, dtype=np.float32)
    shown = inside.astype(np.uint8)

    def sample(at: float) -> tuple[Floats, Floats]:
        across = tried[:, 2:3] * near.across * at
        x = near.x + tried[:, 0:1] * near.across + across * np.cos(angle)
        y = near.y + tried[:, 1:2] * near.across + across * tried[:, 3:4] * np.sin(angle)
        at_x, at_y = x.astype(np.float32), y.astype(np.float32)
        return (
            np.asarray(cv2.remap(light, at_x, at_y, cv2.INTER_LINEAR), np.float32),
            np.asarray(cv2.remap(shown, at_x, at_y, cv2.INTER_NEAREST), np.float32),
        )

    (within, seen_in), (beyond, seen_out) = sample(0.86), sample(1.16)
    seen = (seen_in > 0) & (seen_out > 0)
    count = np.maximum(seen.sum(axis=1), 1)
    step = np.where(seen, beyond - within, 0).sum(axis=1) / count
    # the rim of an iris is dark all along, a carved line or a shadow is so in a part
    even = (seen & (beyond - within > 0.4 * step[:, None])).sum(axis=1) / count
    # a rim that is hardly visible, or far from the landmarks, has to be the clearer
    trust = np.minimum(count / (0.4 * ANGLES), 1) ** 0.5
    away = 3 * (tried[:, 0] ** 2 + tried[:, 1] ** 2) + 1.5 * (tried[:, 2] - 1) ** 2 + 0.4 * (tried[:, 3] - 1)
    score = np.where((count >= SEEN_ANGLES) & (even > EVEN), step * trust * (1 - away), -1.0)
    index = int(score.argmax())
    return (float(step[index]), tried[index]) if score[index] > 0 else None
