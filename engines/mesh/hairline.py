"""Find where hair hangs over the outline of a face.

The outline that a tracker finds runs along the cheek behind a lock of hair, where the mesh is seen nearly edge-on: a
few pixels of hair lie on a strip that becomes as broad as a finger when the head turns. So a turned face fetches its
outline from the skin just inside of that hair, and the hair hangs over it as part of the body's layer.
"""

from __future__ import annotations

import cv2
import numpy as np

from engines.face.topology import EYE_CORNERS, LOWER_LIDS, OVAL, UPPER_LIDS
from engines.types import LANDMARKS, Floats, Image, Points

REACH = 0.14
"""How far inwards from the outline the image is examined, in widths of the face."""
MAX_DEPTH = 0.06
"""The largest depth, in widths of the face."""
MARGIN = 0.012
"""How far inside the edge of the hair the skin is clear of it, in widths of the face."""
DARK, TINTED = 0.6, 0.05
"""A sample is not skin if it is darker than this share of the skin near it, or its tint differs by more."""
SECTOR = 0.2
"""Eyes and brows within this angle of a point of the outline, radians, limit its depth."""
_FEATURES = np.concatenate([*EYE_CORNERS, *UPPER_LIDS, *LOWER_LIDS, [46, 53, 63, 70, 105, 276, 283, 293, 300, 334]])
_SAMPLES = 28
_RUN = 3
"""Samples of skin in succession that make the edge of the skin; fewer are a gap between hairs."""


def hair_depths(image: Image, pixels: Points) -> Floats:
    """Return how far inside each point of a face's outline its skin ends because hair hangs over it, (36,) pixels.

    ``image`` is the portrait and ``pixels`` its landmarks, (478, 2 or more). Mostly zero.
    """
    oval = np.asarray(pixels[OVAL, :2], np.float32)
    centre = (oval[0] + oval[18]) / 2
    width = float(np.linalg.norm(oval[8] - oval[28]))
    return np.minimum(_covered(image, oval, centre, width), 0.75 * _room(pixels, oval, centre))


def hairline_shifts(pixels: Points, depths: Floats) -> Floats:
    """Return how far to shift where each landmark is fetched from, (478, 2) float32 pixels, mostly zero.

    ``pixels``: landmarks, (478, 2 or more); ``depths``: as ``hair_depths`` returns them. Points near a part of the
    outline that is not skin are shifted inwards, those on the outline most, so that none overtakes another.
    """
    moved = np.zeros((LANDMARKS, 2), np.float32)
    if not depths.any():
        return moved
    oval = np.asarray(pixels[OVAL, :2], np.float32)
    centre = (oval[0] + oval[18]) / 2
    outward = np.asarray(pixels[: LANDMARKS - 10, :2], np.float32) - centre
    angles, radii = np.arctan2(outward[:, 1], outward[:, 0]), np.hypot(outward[:, 0], outward[:, 1])
    rim = oval - centre
    around = np.arctan2(rim[:, 1], rim[:, 0])
    edge = np.interp(angles, around, np.hypot(rim[:, 0], rim[:, 1]), period=2 * np.pi)
    depth = np.interp(angles, around, depths, period=2 * np.pi)
    room = np.minimum(_room(pixels, oval, centre), np.linalg.norm(oval[8] - oval[28]))
    # fading over more than the depth, none overtakes another
    band = np.minimum(2 * depth, np.interp(angles, around, room, period=2 * np.pi))
    share = np.clip(1 - (edge - radii) / np.maximum(band, 1), 0, 1)
    inwards = -outward / np.maximum(radii, 1)[:, None]
    moved[: LANDMARKS - 10] = (share * depth)[:, None] * inwards
    return moved


def _room(pixels: Points, oval: Floats, centre: Floats) -> Floats:
    """Return the distance from each point of the outline to an eye or brow on the way to the centre, (36,) pixels."""
    rim, marks = oval - centre, np.asarray(pixels[_FEATURES, :2], np.float32) - centre
    apart = np.arctan2(rim[:, 1], rim[:, 0])[:, None] - np.arctan2(marks[:, 1], marks[:, 0])
    beside = np.abs((apart + np.pi) % (2 * np.pi) - np.pi) > SECTOR
    room = np.hypot(rim[:, 0], rim[:, 1])[:, None] - np.hypot(marks[:, 0], marks[:, 1])
    return np.asarray(np.maximum(np.where(beside, np.inf, room).min(axis=1), 0), np.float32)


def _covered(image: Image, oval: Floats, centre: Floats, width: float) -> Floats:
    """Return how deep hair hangs over each point of the outline, (36,) pixels; 0 where the outline is skin."""
    inwards = centre - oval
    inwards /= np.maximum(np.linalg.norm(inwards, axis=1, keepdims=True), 1)
    depths = np.linspace(0, REACH * width, _SAMPLES, dtype=np.float32)
    at = oval[:, None] + depths[:, None] * inwards[:, None]
    smooth = cv2.GaussianBlur(image, (0, 0), max(0.004 * width, 0.3))
    seen = cv2.remap(smooth, at, np.empty(0, np.int16), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colours = seen.astype(np.float32) + 1
    light = colours.mean(axis=2)
    tint = colours / colours.sum(axis=2, keepdims=True)
    skin = (light > DARK * np.percentile(light, 75, axis=1, keepdims=True)) & (
        np.abs(tint - np.median(tint, axis=1, keepdims=True)).max(axis=2) < TINTED
    )
    runs = np.logical_and.reduce([skin[:, start : _SAMPLES - _RUN + start + 1] for start in range(_RUN)])
    # the first skin from outside; where there is none, as under a fringe, the image is left as it is
    first = np.argmax(runs, axis=1)
    depth = np.where(runs.any(axis=1) & (first > 0), depths[first] + MARGIN * width, 0)
    widest = np.maximum(depth, np.maximum(np.roll(depth, 1), np.roll(depth, -1)))
    even = (np.roll(widest, 1) + widest + np.roll(widest, -1)) / 3
    return np.asarray(np.minimum(even, MAX_DEPTH * width), np.float32)
