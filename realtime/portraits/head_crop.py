"""Cutting a head out of a picture in a given shape, as a portrait photographer would frame it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Image, Points

FACE_SHARE = 0.45
"""The face's height, hairline to chin, in the frame's."""
HEAD_WIDTH = 0.85
"""The most of the frame's width that a head takes: in a narrow frame the face is smaller."""
EYE_LINE = 0.42
"""How far down the frame the eyes are."""
HAIR = 0.45
"""How far hair reaches above the face, in face heights."""
SIDES = 0.22
"""How far hair and ears reach out at the sides, in face heights."""
CHIN = 0.12
"""What is wanted below the chin, in face heights."""
JOIN = 0.04
"""Over what part of the frame's smaller side a continued picture turns soft, inside its own edge."""

STRIP = 0.08
"""How much of the frame's smaller side the continuation is made of, from the picture's edge inwards."""

RIM = 6
"""Pixels of the frame that are left off the edge of a picture that has to be continued there."""


class Window(NamedTuple):
    """What part of a picture fills the frame; it may reach beyond the picture."""

    left: float
    top: float
    scale: float
    """Pixels of the frame for each of the picture."""


def choose_window(points: Points, picture: tuple[int, int], size: tuple[int, int]) -> Window:
    """Choose the part of a picture of ``picture`` (width, height) pixels that is to fill a frame of ``size``.

    ``points`` are the face's landmarks in the picture, (478, 2 or 3) float32 pixels. Of many placements the one with
    the least fault is taken: a face of another size than usual, eyes off their line, a head off the middle or cut,
    and parts of the frame for which there is no picture.
    """
    width, height = size
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    face = float(high[1] - low[1])
    eyes = float(points[[33, 133, 263, 362], 1].mean())
    middle = float((low[0] + high[0]) / 2)
    head = (low[0] - SIDES * face, low[1] - HAIR * face, high[0] + SIDES * face, high[1] + CHIN * face)

    share = np.geomspace(0.3, 0.64, 40)[:, None, None]
    scale = share * height / face
    wide, tall = width / scale, height / scale
    left = middle - wide * np.linspace(0.3, 0.7, 41)[None, :, None]
    top = eyes - tall * np.linspace(0.26, 0.56, 41)[None, None, :]

    usual = min(FACE_SHARE, HEAD_WIDTH * width / (head[2] - head[0]) * face / height)
    off_size = np.log(share / usual) ** 2 * 9
    off_line = ((eyes - top) / tall - EYE_LINE) ** 2 * 30
    off_middle = ((middle - left) / wide - 0.5) ** 2 * 30
    missing = 1 - _span(left, wide, picture[0]) * _span(top, tall, picture[1])
    above = np.maximum(-top, 0) / tall  # where a smear is seen most: over the hair
    cut = (
        _beyond(left, wide, max(head[0], 0.0), min(head[2], picture[0]))
        + _beyond(top, tall, max(head[1], 0.0), min(head[3], picture[1]))
    ) / face
    fault = off_size + off_line + off_middle + missing * 2.5 + above * 6 + cut * 6
    a, b, c = np.unravel_index(int(np.argmin(fault)), fault.shape)
    return Window(float(left[a, b, 0]), float(top[a, 0, c]), float(scale[a, 0, 0]))


def cut_window(picture: Image, window: Window, size: tuple[int, int]) -> Image:
    """Return the window's part of an RGB picture as a new (height, width, 3) image.

    Where the window reaches beyond the picture, the picture goes on there: mirrored, stretched, ever softer.
    """
    tall, wide = picture.shape[:2]
    x0, x1 = _covered(window.left, window.scale, wide, size[0])
    y0, y1 = _covered(window.top, window.scale, tall, size[1])
    part = _resampled(picture, window, (x0, y0, x1, y1))
    if part.shape[:2] == (size[1], size[0]):
        return part
    # Scans and cut-outs often have a dark or bright line along their edge, which would be drawn out into a band.
    x0, y0, x1, y1 = (
        x0 + RIM * (x0 > 0),
        y0 + RIM * (y0 > 0),
        x1 - RIM * (x1 < size[0]),
        y1 - RIM * (y1 < size[1]),
    )
    part = _resampled(picture, window, (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))
    return _continued(part, x0, y0, size)


def _span(start: NDArray[np.float64], length: NDArray[np.float64], picture: int) -> NDArray[np.float64]:
    """What share of a stretch lies in the picture."""
    inside = np.minimum(start + length, picture) - np.maximum(start, 0)
    return np.asarray(np.maximum(inside, 0) / length)


def _beyond(start: NDArray[np.float64], length: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """How much of low to high a stretch leaves out, in pixels of the picture."""
    return np.asarray(np.maximum(start - low, 0) + np.maximum(high - start - length, 0))


def _covered(start: float, scale: float, picture: int, frame: int) -> tuple[int, int]:
    """From where to where the picture covers the frame along one axis, in whole pixels of the frame."""
    low = math.ceil(-start * scale - 0.01)
    high = math.floor((picture - start) * scale + 0.01)
    return min(max(low, 0), frame - 1), max(min(high, frame), 1)


def _resampled(picture: Image, window: Window, place: tuple[int, int, int, int]) -> Image:
    """The pixels of the frame from (left, top) to (right, bottom) of ``place``, all of which the picture covers."""
    x0, y0, x1, y1 = place
    left, top, scale = window
    if scale < 1:
        tall, wide = picture.shape[:2]
        columns = slice(max(round(left + x0 / scale), 0), min(round(left + x1 / scale), wide))
        rows = slice(max(round(top + y0 / scale), 0), min(round(top + y1 / scale), tall))
        smaller = cv2.resize(picture[rows, columns], (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        return np.asarray(smaller, np.uint8)
    there = np.array(
        [
            [scale, 0, (0.5 - left) * scale - 0.5 - x0],  # pixels are centred on halves
            [0, scale, (0.5 - top) * scale - 0.5 - y0],
        ]
    )
    larger = cv2.warpAffine(
        picture, there, (x1 - x0, y1 - y0), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(larger, np.uint8)


def _continued(part: Image, x: int, y: int, size: tuple[int, int]) -> Image:
    """Put ``part`` at (x, y) of a frame, and let it go on over the rest of it."""
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
    """For each position of a frame along one axis, the position in the part that shows there.

    Beyond an edge the way back into the part gets ever slower and ends ``strip`` pixels in, so that whatever lies
    further in, the head above all, does not show twice.
    """
    position = np.arange(frame, dtype=np.float64) - start
    strip = min(strip, length / 2)
    before = strip * -np.expm1(np.minimum(position, 0) / strip)
    behind = strip * -np.expm1(-np.maximum(position - (length - 1), 0) / strip)
    shown = np.clip(np.clip(position, 0, length - 1) + before - behind, 0, length - 1)
    return np.asarray(shown.round(), np.intp)


def _depth(along: NDArray[np.float32], low: int, high: int, frame: int, join: float) -> NDArray[np.float32]:
    """How deep positions are in the continued part on either side, counted from ``join`` inside the picture."""
    before = low + join - along if low > 0 else np.zeros_like(along)
    behind = along - (high - join) if high < frame else np.zeros_like(along)
    return np.asarray(np.maximum(np.maximum(before, behind), 0), np.float32)


def _blurred(frame: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur; a wide one at a smaller size, where it costs little and looks the same."""
    height, width = frame.shape[:2]
    factor = max(1, int(sigma / 4))
    size = (max(1, width // factor), max(1, height // factor))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), max(sigma / factor, 0.5)).astype(np.float32)
    return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
