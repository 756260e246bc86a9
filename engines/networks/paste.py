"""Paste the networks' square output into the whole portrait, without a seam."""

from __future__ import annotations

import cv2
import numpy as np

from engines.networks.crop import Window
from engines.types import Image

EDGE = 0.12
"""The share of the square's side that fades, at each edge."""


class Paste:
    """A portrait and the place of its square. What is the same for all frames is computed once."""

    def __init__(self, image: Image, window: Window, size: int) -> None:
        """``image`` (h, w, 3) is copied; ``size`` is the side of the networks' output, in pixels."""
        height, width = image.shape[:2]
        self.out: Image = image.copy()
        self.own: Image = window.cut(image, np.zeros((size, size, 3), np.uint8))
        """The portrait's own square, (size, size, 3)."""
        matrix = window.matrix(size)
        inverse = cv2.invertAffineTransform(matrix)
        corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], np.float32) @ inverse.T
        left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int).tolist()
        right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, (width, height)).astype(int).tolist()
        self._rows, self._columns = slice(top, bottom), slice(left, right)
        self._size = max(right - left, 0), max(bottom - top, 0)
        self._inverse = np.asarray(inverse - np.array([[0, 0, left], [0, 0, top]]), np.float32)
        self._background = np.ascontiguousarray(image[self._rows, self._columns])
        weight = cv2.warpAffine(_fade(size), self._inverse, self._size) if all(self._size) else np.zeros((0, 0))
        self._weight = np.asarray(weight, np.float32)
        self._background_weight = 1 - self._weight
        self._warped = np.empty_like(self._background)
        self._blended = np.empty_like(self._background)

    def blend_in(self, square: Image) -> Image:
        """Return the portrait with ``square`` (size, size, 3) in it; the next call overwrites the result."""
        if not all(self._size):
            return self.out
        cv2.warpAffine(square, self._inverse, self._size, self._warped, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
        cv2.blendLinear(self._warped, self._background, self._weight, self._background_weight, self._blended)
        self.out[self._rows, self._columns] = self._blended
        return self.out


def _fade(size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return weights (size, size) that are 1 in the middle of a square and fall smoothly to 0 at its edges."""
    away = (np.arange(size, dtype=np.float32) + 0.5) / size
    near = np.clip(np.minimum(away, 1 - away) / EDGE, 0, 1)
    smooth = near * near * (3 - 2 * near)
    return np.asarray(smooth[:, None] * smooth[None, :], np.float32)
