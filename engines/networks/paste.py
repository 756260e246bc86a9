"""The networks' square put back into the whole portrait, without a seam."""

from __future__ import annotations

import cv2
import numpy as np

from engines.networks.crop import Window
from engines.types import Image

EDGE = 0.12
"""How much of the square's side fades, at each edge."""


class Paste:
    """One portrait and where its square lies. All that is the same for every frame is computed here."""

    def __init__(self, image: Image, window: Window, size: int) -> None:
        """``image`` (h, w, 3) is copied; ``size`` is the side of the square that the networks make, in pixels."""
        height, width = image.shape[:2]
        self.out: Image = image.copy()
        self.own: Image = window.cut(image, np.zeros((size, size, 3), np.uint8))
        """The portrait's own square."""
        matrix = window.matrix(size)
        back = cv2.invertAffineTransform(matrix)
        corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], np.float32) @ back.T
        left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int).tolist()
        right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, (width, height)).astype(int).tolist()
        self._rows, self._columns = slice(top, bottom), slice(left, right)
        self._size = max(right - left, 0), max(bottom - top, 0)
        self._back = np.asarray(back - np.array([[0, 0, left], [0, 0, top]]), np.float32)
        self._below = np.ascontiguousarray(image[self._rows, self._columns])
        weight = cv2.warpAffine(_fade(size), self._back, self._size) if all(self._size) else np.zeros((0, 0))
        self._weight = np.asarray(weight, np.float32)
        self._rest = 1 - self._weight
        self._moved = np.empty_like(self._below)
        self._mixed = np.empty_like(self._below)

    def lay(self, square: Image) -> Image:
        """The portrait with ``square`` (size, size, 3) in it; written over by the next call."""
        if not all(self._size):
            return self.out
        cv2.warpAffine(square, self._back, self._size, self._moved, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
        cv2.blendLinear(self._moved, self._below, self._weight, self._rest, self._mixed)
        self.out[self._rows, self._columns] = self._mixed
        return self.out


def _fade(size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """1 in the middle of a square, falling smoothly to 0 at its edges."""
    away = (np.arange(size, dtype=np.float32) + 0.5) / size
    near = np.clip(np.minimum(away, 1 - away) / EDGE, 0, 1)
    smooth = near * near * (3 - 2 * near)
    return np.asarray(smooth[:, None] * smooth[None, :], np.float32)
