"""Crops an image to the head, framed as a portrait photographer would."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import ALL_EYE_CORNERS
from engines.types import Image, Points

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
JOIN = 0.04
"""Width of the band inside an image's edge over which its continuation fades in, as a share of the shorter side."""
STRIP = 0.08
"""Width of the strip along an image's edge that its continuation is made of, as a share of the shorter side."""
TRIM = 6
"""Pixels of the frame left off the edge of an image that has to be continued there."""


class HeadCrop(NamedTuple):
    """The part of an image that fills the frame. It may reach beyond the image."""

    left: float
    """Left edge in pixels of the image."""
    top: float
    """Top edge in pixels of the image."""
    scale: float
    """Pixels of the frame per pixel of the image."""


def choose_crop(points: Points, image_size: tuple[int, int], size: tuple[int, int]) -> HeadCrop:
    """Return the part of an image of ``image_size`` (width, height) that is to fill a frame of ``size``.

    ``points`` are the face's landmarks in the image, (478, 2 or 3) float32 pixels. Among a grid of crops the one of the
    lowest cost is returned. It costs to have the face larger or smaller than usual, the eyes off their line, the head
    off the middle or cut, or parts of the frame that the image does not cover.
    """
    width, height = size
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    face = float(high[1] - low[1])
    eyes = float(points[ALL_EYE_CORNERS, 1].mean())
    middle = float((low[0] + high[0]) / 2)
    head = (low[0] - SIDES * face, low[1] - HAIR * face, high[0] + SIDES * face, high[1] + CHIN_ROOM * face)

    # the grid: (40, 1, 1) scales, (40, 41, 1) left edges, (40, 1, 41) top edges
    share = np.geomspace(0.3, 0.64, 40)[:, None, None]
    scale = share * height / face
    wide, tall = width / scale, height / scale
    left = middle - wide * np.linspace(0.3, 0.7, 41)[None, :, None]
    top = eyes - tall * np.linspace(0.26, 0.56, 41)[None, None, :]

    usual = min(FACE_SHARE, HEAD_WIDTH * width / (head[2] - head[0]) * face / height)
    off_size = np.log(share / usual) ** 2 * 9
    off_line = ((eyes - top) / tall - EYE_LINE) ** 2 * 30
    off_middle = ((middle - left) / wide - 0.5) ** 2 * 30
    missing = 1 - _covered_share(left, wide, image_size[0]) * _covered_share(top, tall, image_size[1])
    above = np.maximum(-top, 0) / tall  # the continuation shows most above the hair
    cut = (
        _left_out(left, wide, max(head[0], 0.0), min(head[2], image_size[0]))
        + _left_out(top, tall, max(head[1], 0.0), min(head[3], image_size[1]))
    ) / face
    cost = off_size + off_line + off_middle + missing * 2.5 + above * 6 + cut * 6
    a, b, c = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return HeadCrop(float(left[a, b, 0]), float(top[a, 0, c]), float(scale[a, 0, 0]))


def crop_head(image: Image, crop: HeadCrop, size: tuple[int, int]) -> Image:
    """Return the crop of an RGB image as a new (height, width, 3) uint8 image of ``size`` (width, height).

    Where the crop reaches beyond the image, the image is continued: mirrored, stretched and increasingly blurred.
    """
    tall, wide = image.shape[:2]
    x0, x1 = _covered(crop.left, crop.scale, wide, size[0])
    y0, y1 = _covered(crop.top, crop.scale, tall, size[1])
    part = _resampled(image, crop, (x0, y0, x1, y1))
    if part.shape[:2] == (size[1], size[0]):
        return part
    # scans and cut-outs often have a dark or bright line along their edge, which the continuation would widen to a band
    x0, y0, x1, y1 = (
        x0 + TRIM * (x0 > 0),
        y0 + TRIM * (y0 > 0),
        x1 - TRIM * (x1 < size[0]),
        y1 - TRIM * (y1 < size[1]),
    )
    part = _resampled(image, crop, (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))
    return _continued(part, x0, y0, size)


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


def _resampled(image: Image, crop: HeadCrop, area: tuple[int, int, int, int]) -> Image:
    """Return the pixels of ``area``, (left, top, right, bottom) in the frame, all of which the image covers."""
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


def _continued(part: Image, x: int, y: int, size: tuple[int, int]) -> Image:
    """Return a frame of ``size`` with ``part`` at (x, y), continued over the rest."""
    width, height = size
    tall, wide = part.shape[:2]
    strip = STRIP * min(size)
    rows, columns = _mirrored(y, tall, height, strip), _mirrored(x, wide, width, strip)
    frame = np.ascontiguousarray(part[rows][:, columns])
    join = JOIN * min(size)
    across = np.arange(width, dtype=np.float32)
    down = np.arange(height, dtype=np.float32)
    depth = np.hypot(
        _depth(across, x, x + wide, width, join)[None, :], _depth(down, y, y + tall, height, join)[:, None]
    )
    steps = (0.0, 1.0, 2.5, 6.0)
    softness = np.interp(depth / join, steps, np.arange(len(steps))).astype(np.float32)
    result: NDArray[Any] = frame.astype(np.float32)
    for step in range(1, len(steps)):
        share = np.clip(softness - (step - 1), 0, 1)
        result = cv2.blendLinear(_blurred(frame, join * steps[step] * 0.5), result, share, 1 - share)
    return np.asarray(np.clip(result + 0.5, 0, 255), np.uint8)


def _mirrored(start: int, length: int, frame: int, strip: float) -> NDArray[np.intp]:
    """Return, for each position of the frame along one axis, the position in the part that shows there, (frame,).

    Beyond an edge the positions run back into the part, slower and slower, and stop ``strip`` pixels from the edge, so
    that what lies further in, above all the head, does not show twice.
    """
    position = np.arange(frame, dtype=np.float64) - start
    strip = min(strip, length / 2)
    before = strip * -np.expm1(np.minimum(position, 0) / strip)
    behind = strip * -np.expm1(-np.maximum(position - (length - 1), 0) / strip)
    shown = np.clip(np.clip(position, 0, length - 1) + before - behind, 0, length - 1)
    return np.asarray(shown.round(), np.intp)


def _depth(along: NDArray[np.float32], low: int, high: int, frame: int, join: float) -> NDArray[np.float32]:
    """Return how deep positions lie in the continuation on either side, counted from ``join`` inside the part."""
    before = low + join - along if low > 0 else np.zeros_like(along)
    behind = along - (high - join) if high < frame else np.zeros_like(along)
    return np.asarray(np.maximum(np.maximum(before, behind), 0), np.float32)


def _blurred(frame: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    """Return the frame under a Gaussian blur. A wide blur is computed at a smaller size, which looks the same."""
    height, width = frame.shape[:2]
    factor = max(1, int(sigma / 4))
    size = (max(1, width // factor), max(1, height // factor))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), max(sigma / factor, 0.5)).astype(np.float32)
    return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
