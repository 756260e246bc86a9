"""Chooses the part of an image that is shown, framed as a portrait photographer would, and resamples it."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import ALL_EYE_CORNERS
from engines.types import Image, Points

Area = tuple[int, int, int, int]
"""Left, top, right and bottom, the latter two exclusive."""

FACE_SHARE = 0.45
"""Height of the face, hairline to chin, as a share of the frame's height."""
HEAD_WIDTH = 0.85
"""The largest share of the frame's width that the head takes. In a narrow frame the face is smaller."""
EYE_LINE = 0.42
"""How far down the frame the eyes are, as a share of its height."""
HAIR = 0.45
"""How far hair reaches above the face, in face heights."""
SIDES = 0.22
"""How far hair and ears reach out at the sides, in face heights."""
CHIN_ROOM = 0.12
"""Room wanted below the chin, in face heights."""
WHOLE_COST = 0.9
"""Up to this cost a picture that has the frame's own shape is shown whole: its pixels, or its composition, are kept."""
_STEPS = 33
"""Steps of the grid of crops along each of its three axes."""


class HeadCrop(NamedTuple):
    """The part of an image that fills the frame. It may reach beyond the image."""

    left: float
    """Left edge in pixels of the image."""
    top: float
    """Top edge in pixels of the image."""
    scale: float
    """Pixels of the frame per pixel of the image."""

    def covered(self, image: tuple[int, int], size: tuple[int, int]) -> Area:
        """Return the area of a frame of ``size`` that an image of that width and height covers."""
        x0, x1 = _covered(self.left, self.scale, image[0], size[0])
        y0, y1 = _covered(self.top, self.scale, image[1], size[1])
        return x0, y0, x1, y1


class RatedCrop(NamedTuple):
    """A crop, and how far it is from what a photographer would choose."""

    crop: HeadCrop
    cost: float
    """0 for the usual framing; beyond 1.5 the head is too large, cut or far off the middle."""


def choose_crop(
    points: Points, image_size: tuple[int, int], size: tuple[int, int], *, sides: bool = True, above: bool = True
) -> RatedCrop:
    """Return the part of an image of ``image_size`` (width, height) that is to fill a frame of ``size``.

    ``points`` are the face's landmarks in the image, (478, 2 or 3) float32 pixels. Among a grid of crops the one of the
    lowest cost is returned. It costs to have the face larger or smaller than usual, the eyes off their line, the head
    off the middle or cut, or parts of the frame that the image does not cover, which the returned cost leaves out.

    No crop reaches below the image, as nothing could continue a neck; with ``sides`` they may reach beyond its sides,
    with ``above`` beyond its top. One that reaches nowhere beyond may be larger than usual without limit. An image in
    the shape of the frame is shown whole unless that costs more than ``WHOLE_COST``.
    """
    width, height = size
    wide_image, tall_image = image_size
    rating = _Rating.of(points, image_size, size)
    if abs(wide_image * height - tall_image * width) <= 0.5 * max(size):
        at = np.array([width / wide_image]), np.zeros(1), np.zeros(1)
        cost = float(rating.cost(*at)[0])
        if cost <= WHOLE_COST:
            return RatedCrop(HeadCrop(0.0, 0.0, width / wide_image), cost)

    # the grid: (n, 1, 1) scales, (n, n, 1) left edges, (n, 1, n) top edges
    least = max(0.0 if sides else width / wide_image, 0.0 if above else height / tall_image)
    smallest = max(0.3 * height / rating.face, least)
    scale = np.geomspace(smallest, max(0.64 * height / rating.face, smallest), _STEPS)[:, None, None]
    wide, tall = width / scale, height / scale
    left = rating.middle - wide * np.linspace(0.3, 0.7, _STEPS)[None, :, None]
    top = rating.eyes - tall * np.linspace(0.26, 0.56, _STEPS)[None, None, :]
    if not sides:
        left = np.clip(left, 0, np.maximum(wide_image - wide, 0))
    top = np.minimum(top, tall_image - tall)
    if not above:
        top = np.maximum(top, 0)

    costs = rating.cost(scale, left, top)
    missing = 1 - _covered_share(left, wide, wide_image) * _covered_share(top, tall, tall_image)
    beyond = np.maximum(-top, 0) / tall  # the continuation shows most above the hair
    a, b, c = np.unravel_index(int(np.argmin(costs + missing * 2.5 + beyond * 6)), costs.shape)
    crop = HeadCrop(float(left[a, b, 0]), float(top[a, 0, c]), float(scale[a, 0, 0]))
    return RatedCrop(crop, float(costs[a, b, c]))


class _Rating(NamedTuple):
    """What the framing of a face is rated by, in pixels of the image."""

    image: tuple[int, int]
    size: tuple[int, int]
    face: float
    """The height of the face."""
    eyes: float
    middle: float
    head: tuple[float, float, float, float]
    """Left, top, right and bottom of the head."""

    @staticmethod
    def of(points: Points, image: tuple[int, int], size: tuple[int, int]) -> _Rating:
        """Return the rating of crops of an image for a frame; arguments as of ``choose_crop``."""
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        face = float(high[1] - low[1])
        head = (low[0] - SIDES * face, low[1] - HAIR * face, high[0] + SIDES * face, high[1] + CHIN_ROOM * face)
        middle = float((low[0] + high[0]) / 2)
        return _Rating(image, size, face, float(points[ALL_EYE_CORNERS, 1].mean()), middle, head)

    def cost(
        self, scale: NDArray[np.float64], left: NDArray[np.float64], top: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the cost of crops, see ``RatedCrop``, in the shape that the three arrays have together."""
        width, height = self.size
        head, face = self.head, self.face
        share = scale * face / height
        wide, tall = width / scale, height / scale
        usual = min(FACE_SHARE, HEAD_WIDTH * width / (head[2] - head[0]) * face / height)
        off_size = np.log(share / usual) ** 2 * 9
        off_line = ((self.eyes - top) / tall - EYE_LINE) ** 2 * 30
        off_middle = ((self.middle - left) / wide - 0.5) ** 2 * 30
        cut = (
            _left_out(left, wide, max(head[0], 0.0), min(head[2], self.image[0]))
            + _left_out(top, tall, max(head[1], 0.0), min(head[3], self.image[1]))
        ) / face
        return np.asarray(off_size + off_line + off_middle + cut * 6)


def resample(image: Image, crop: HeadCrop, area: Area) -> Image:
    """Return the pixels of an ``area`` of the frame, all of which the image has to cover, (H, W, 3) or (H, W) uint8."""
    x0, y0, x1, y1 = area
    left, top, scale = crop
    if scale < 1:
        tall, wide = image.shape[:2]
        columns = slice(max(round(left + x0 / scale), 0), min(round(left + x1 / scale), wide))
        rows = slice(max(round(top + y0 / scale), 0), min(round(top + y1 / scale), tall))
        smaller = cv2.resize(image[rows, columns], (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        return np.asarray(smaller, np.uint8)
    to_frame = np.array(
        [
            [scale, 0, (0.5 - left) * scale - 0.5 - x0],  # pixels are centred on halves
            [0, scale, (0.5 - top) * scale - 0.5 - y0],
        ]
    )
    larger = cv2.warpAffine(
        image, to_frame, (x1 - x0, y1 - y0), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(larger, np.uint8)


def _covered_share(start: NDArray[np.float64], length: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """Return the share of intervals [start, start + length] that lies in [0, limit]."""
    inside = np.minimum(start + length, limit) - np.maximum(start, 0)
    return np.asarray(np.maximum(inside, 0) / length)


def _left_out(start: NDArray[np.float64], length: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return how much of [low, high] lies outside intervals [start, start + length], in the same unit."""
    return np.asarray(np.maximum(start - low, 0) + np.maximum(high - start - length, 0))


def _covered(start: float, scale: float, image: int, frame: int) -> tuple[int, int]:
    """Return the first and the last (exclusive) pixel of the frame that the image covers along one axis.

    ``start`` is the crop's left or top edge; ``image`` and ``frame`` are lengths in pixels.
    """
    low = math.ceil(-start * scale - 0.01)
    high = math.floor((image - start) * scale + 0.01)
    return min(max(low, 0), frame - 1), max(min(high, frame), 1)
