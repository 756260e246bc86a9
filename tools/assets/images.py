"""OpenCV on float images, with types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Floats

_BITS = 4
"""Fractional bits of the coordinates that are drawn at."""


def blurred(image: NDArray[Any], sigma: float) -> Floats:
    """Return an image blurred by a Gaussian; ``sigma`` in pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def resampled(image: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> Floats:
    """Return the values at the pixels ``x`` and ``y`` (H, W), interpolated; the edge is repeated."""
    x, y = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def looked_up(image: Floats, pixels: NDArray[Any]) -> Floats:
    """Return the values (N,) or (N, C) at ``pixels`` (N, 2), as ``resampled``."""
    count, row = len(pixels), 1024
    padded = np.zeros((-(-count // row) * row, 2), np.float32)
    padded[:count] = pixels
    found = resampled(image, padded[:, 0].reshape(-1, row), padded[:, 1].reshape(-1, row))
    return found.reshape(len(padded), *image.shape[2:])[:count]


def fixed(pixels: NDArray[Any]) -> NDArray[np.int32]:
    """Return pixels (N, 2) in the fixed point that OpenCV draws at."""
    return np.asarray(np.rint(pixels * 2**_BITS), np.int32)


def draw_line(image: Floats, pixels: NDArray[Any], value: float | Sequence[float], width: float) -> None:
    """Draw a line through pixels (N, 2) into an image (H, W) or (H, W, 3)."""
    values = [float(value)] if isinstance(value, int | float) else list(value)
    cv2.polylines(image, [fixed(pixels)], False, values, max(1, round(width)), cv2.LINE_AA, _BITS)


def fill(image: Floats, pixels: NDArray[Any], value: float = 1.0) -> None:
    """Fill the outline through pixels (N, 2) in an image (H, W)."""
    cv2.fillPoly(image, [fixed(pixels)], [value], cv2.LINE_AA, _BITS)


def draw_dot(image: Floats, pixel: NDArray[Any], value: float, radius: float) -> None:
    """Draw a filled circle into an image (H, W)."""
    x, y = fixed(pixel).tolist()
    cv2.circle(image, (x, y), round(radius * 2**_BITS), [value], -1, cv2.LINE_AA, _BITS)


def grey(image: Floats) -> Floats:
    """Return the luma (H, W) of an image (H, W, 3)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
