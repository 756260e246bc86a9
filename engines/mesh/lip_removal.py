"""Find the lips of a portrait, and fill in the skin beneath them.

A mouth that becomes smaller than in the picture uncovers skin that the picture does not show. It is filled in with a
membrane (the solution of Laplace's equation; Pérez et al., "Poisson Image Editing", 2003) and the grain of the skin
around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import LIP_ROWS
from engines.types import Floats, Image, Points

Mask = NDArray[np.uint8]

MARGIN, CORNER, CORNER_MARGIN = 0.04, 0.13, 0.18
"""How far lips reach beyond their landmarks, how far the shade of a corner reaches around it, and how far beyond it the
line of the lips is searched, in mouth widths."""
SOFT = 0.045
"""The width of the soft edge around the lips, in mouth widths."""
PURSED_MARGIN, PURSED_SOFT = 0.008, 0.03
"""The same two for pursed lips, which leave the skin beside them where it is."""
PARTED_COLUMNS = slice(2, -2)
"""The columns of the lips' outline around which parted lips reach as far as shut ones do."""
PARTED_CORNER = 0.01, 0.08
"""How far from the corners parted lips begin and are whole, in mouth widths."""
LINE = 0.06
"""How much darker than what is near it the line beyond a corner is, as a share of white."""
GRAIN = 0.012
"""The grain finer than this is copied, in mouth widths; at least a pixel."""
_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class RemovedLips:
    """The lips of a portrait and what lies beneath them, both cut out of the image."""

    corner: tuple[int, int]
    """Left and top of the part that was cut out, pixels."""
    skin: Image
    """(h, w, 3) uint8: the skin without lips, the same as the portrait where ``opacity`` is below 255."""
    lips: Image
    """(h, w, 6) uint8: the portrait, the opacity of lips as wide as in it, which is 0 at the edge, that of pursed lips,
    and that of lips that are wide apart, without the line and the shade beyond their corners."""


def remove_lips(image: Image, pixels: Points, ring: Points) -> RemovedLips:
    """Return the lips of a portrait, (H, W, 3) uint8, and what lies beneath them.

    ``pixels``: landmarks (478, 2 or more); ``ring``: (N, 2), an outline around the lips that they must lie in.
    """
    outline = np.concatenate([LIP_ROWS[0][-1], LIP_ROWS[1][-1][::-1]])
    width = max(float(np.hypot(*(pixels[outline[0], :2] - pixels[outline[10], :2]))), 4.0)
    height, columns = image.shape[:2]
    reach = 0.15 * width + 4
    left, top = (int(v) for v in np.clip(ring.min(axis=0) - reach, 0, (columns - 8, height - 8)))
    right, bottom = (int(v) for v in np.clip(ring.max(axis=0) + reach, (left + 8, top + 8), (columns, height)))
    part = np.ascontiguousarray(image[top:bottom, left:right])
    corner = np.array([left, top], np.float32)
    soft = max(SOFT * width, 1.5)
    allowed = _filled(ring - corner, part.shape[:2])
    allowed = cv2.erode(allowed, _disc(soft + 1.5)).astype(np.uint8)
    hole = cv2.min(_lips(part, pixels[outline, :2] - corner, width), allowed).astype(np.uint8)
    inner = _filled(pixels[outline, :2] - corner, part.shape)
    middle = np.concatenate([LIP_ROWS[0][-1][PARTED_COLUMNS], LIP_ROWS[1][-1][PARTED_COLUMNS][::-1]])
    around = cv2.min(cv2.dilate(_filled(pixels[middle, :2] - corner, part.shape), _disc(MARGIN * width)), hole)
    pursed = _soft(inner, PURSED_MARGIN * width, max(PURSED_SOFT * width, 1.0))
    parted = cv2.max(pursed, _soft(np.asarray(around, np.uint8), 1.5, soft))
    parted = _faded(np.asarray(parted, np.uint8), pixels[outline[[0, 10]], :2] - corner, width)
    lips = np.dstack([part, _soft(hole, 1.5, soft), pursed, parted])
    return RemovedLips((left, top), fill_skin(part, hole, max(GRAIN * width, 1.0)), np.ascontiguousarray(lips))


def _filled(points: Points, shape: tuple[int, ...]) -> Mask:
    """Return a mask of this shape, 255 inside an outline (N, 2)."""
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], (255,))
    return mask


def _soft(mask: Mask, margin: float, soft: float) -> Mask:
    """Return a mask that falls to 0 over ``soft`` pixels, from ``margin`` pixels beyond the given one."""
    away = cv2.distanceTransform(255 - mask, cv2.DIST_L2, 5)
    share = np.clip(1 - (away - margin) / soft, 0, 1)
    return np.asarray(np.rint(255 * share * share * (3 - 2 * share)), np.uint8)


def _faded(mask: Mask, ends: Points, width: float) -> Mask:
    """Return a mask (h, w) that falls to 0 towards both corners of a mouth, (2, 2) pixels."""
    rows, columns = np.indices(mask.shape, np.float32)
    away = np.minimum(*(np.hypot(columns - x, rows - y) for x, y in ends)) / width
    share = np.clip((away - PARTED_CORNER[0]) / (PARTED_CORNER[1] - PARTED_CORNER[0]), 0, 1)
    return np.asarray(np.rint(mask * share * share * (3 - 2 * share)), np.uint8)


def _disc(radius: float) -> Mask:
    size = 2 * round(radius) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _lips(part: Image, outline: Points, width: float) -> Mask:
    """Return a mask of the lips inside ``outline`` (22, 2), with the dark line that goes on beyond their corners."""
    lips = cv2.dilate(_filled(outline, part.shape), _disc(MARGIN * width))
    zone = np.zeros(part.shape[:2], np.uint8)
    for end in (outline[0], outline[10]):
        x, y = (round(float(v)) for v in end)
        cv2.circle(zone, (x, y), max(1, round(CORNER_MARGIN * width)), (255,), -1)
        cv2.circle(lips, (x, y), max(1, round(CORNER * width)), (255,), -1)
    light = cv2.GaussianBlur(part, (0, 0), max(0.01 * width, 0.6)).astype(np.float32).mean(axis=2)
    near = cv2.GaussianBlur(light, (0, 0), 0.08 * width)
    dark = ((near - light > LINE * 255) & (zone > 0)).astype(np.uint8) * 255
    both = cv2.max(lips, dark)
    # of what is dark near a corner, only what touches the lips is their line
    labels = np.asarray(cv2.connectedComponents(both)[1])
    line = np.isin(labels, np.unique(labels[lips > 0])) & (both > 0)
    grown = cv2.dilate(line.astype(np.uint8) * 255, _disc(0.02 * width + 1))
    return np.asarray(cv2.max(lips, grown), np.uint8)


def fill_skin(part: Image, hole: Mask, grain: float) -> Image:
    """Fill the hole, where the mask is not 0, in a part of a picture (h, w, 3).

    ``grain``: the grain finer than this is copied from the other side of the hole's edge, pixels.
    """
    inside = hole > 0
    if not inside.any() or inside.all():
        return part
    smooth = cv2.GaussianBlur(part, (0, 0), grain).astype(np.float32)
    known = part.astype(np.float32)
    # a blurred edge would carry the colour of the lips into the membrane
    rim = cv2.dilate(hole, np.ones((3, 3), np.uint8)) > 0
    filled = _membrane(np.where(rim[..., None], known, smooth), inside)
    rough = known - smooth
    # grain, and no edges of what is near, such as nostrils
    limit = 3 * float(np.median(np.abs(rough[~rim]))) if not rim.all() else 0.0
    noise = np.clip(_mirrored(rough, hole, grain), -limit, limit)
    return np.asarray(np.where(inside[..., None], np.clip(filled + noise + 0.5, 0, 255), known), np.uint8)


def _membrane(values: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return values (h, w, 3) with those inside replaced by a solution of Laplace's equation."""
    height, width = inside.shape
    if min(height, width) > 12:
        weight = (~inside).astype(np.float32)
        half = ((width + 1) // 2, (height + 1) // 2)
        share = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
        mean = cv2.resize(values * weight[..., None], half, interpolation=cv2.INTER_AREA)
        coarse = _membrane(mean / np.maximum(share, 1e-3)[..., None], share < 0.05)
        start = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        start = np.broadcast_to(values[~inside].mean(axis=0), values.shape) if (~inside).any() else values
    result = np.where(inside[..., None], start, values).astype(np.float32)
    kernel = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
    for _ in range(_ROUNDS):
        np.copyto(result, cv2.filter2D(result, -1, kernel, borderType=cv2.BORDER_REPLICATE), where=inside[..., None])
    return result


def _mirrored(noise: Floats, hole: Mask, grain: float) -> Floats:
    """Return noise (h, w, 3) with that inside the hole fetched from the other side of the hole's nearest edge."""
    height, width = hole.shape
    _, labels = cv2.distanceTransformWithLabels(hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    places = np.zeros((int(labels.max()) + 1, 2), np.float32)
    rows, columns = np.nonzero(hole == 0)
    places[labels[rows, columns]] = np.stack([columns, rows], axis=1)
    nearest = places[labels]
    here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    away = nearest - here
    length = np.maximum(np.hypot(away[..., 0], away[..., 1]), 1e-3)[..., None]
    # beyond the rim, where the blur has taken in the lips
    there = np.clip(nearest + away * (1 + 3 * grain / length), 0, (width - 1, height - 1)).astype(np.float32)
    flat = cv2.remap(noise, there, np.empty(0, np.int16), cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.where((hole > 0)[..., None], flat, noise), np.float32)
