"""A layer of a portrait: its pixels, as the inner loops read them, and the buffers that it is warped with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.layers.layer_raster import ALL, BLOCK, NOTHING, SOME, WHOLE
from engines.layers.mesh_raster import FAR
from engines.types import Bytes, Floats, Image, Mask

Pixels = NDArray[np.uint32]

_NEIGHBOURS = np.ones((3, 3), np.uint8)
_SHARES = np.array([max(round(255 * min(n, 25) / 25) + WHOLE - 255, 0) for n in range(256)], np.uint8)
"""How far a mesh covers a sample that so many of the 25 samples near it belong to, 0 to WHOLE."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The pixels of a layer, see ``engines.layers.layer_raster``."""

    pixels: tuple[Pixels, int, int]
    """(h * w,), height and width."""
    kinds: Bytes
    """(h / BLOCK, w / BLOCK), rounded up."""

    @staticmethod
    def of(colours: Image, opacity: Mask) -> Layer:
        """Return the layer with these colours (h, w, 3), not premultiplied, and this opacity (h, w)."""
        share = opacity.astype(np.uint32)
        pixels: Pixels = share << np.uint32(24)
        for channel in range(3):
            premultiplied = (colours[..., channel].astype(np.uint32) * share + np.uint32(127)) // np.uint32(255)
            pixels |= premultiplied << np.uint32(8 * channel)
        height, width = opacity.shape
        return Layer((pixels.ravel(), height, width), _kinds(opacity))

    def shows(self, corners: Floats) -> NDArray[np.bool_]:
        """Return which polygons (n, k, 2), in pixels of the layer, may have some of it near them, (n,)."""
        rows, columns = self.kinds.shape
        seen = cv2.integral((self.kinds != NOTHING).astype(np.uint8))
        # a block more on each side
        low = np.clip(np.floor(corners.min(axis=1) / BLOCK).astype(int) - 1, 0, (columns - 1, rows - 1))
        high = np.clip(np.floor(corners.max(axis=1) / BLOCK).astype(int) + 2, low + 1, (columns, rows))
        (left, top), (right, bottom) = low.T, high.T
        count = seen[bottom, right] - seen[top, right] - seen[bottom, left] + seen[top, left]
        return np.asarray(count > 0)


def _kinds(opacity: Mask) -> Bytes:
    """Return for each block of a layer what is in it and the blocks around it."""
    height, width = opacity.shape
    padded = cv2.copyMakeBorder(opacity, 0, -height % BLOCK, 0, -width % BLOCK, cv2.BORDER_REPLICATE)
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK)
    most = cv2.dilate(blocks.max(axis=(1, 3)), _NEIGHBOURS)
    least = cv2.erode(blocks.min(axis=(1, 3)), _NEIGHBOURS)
    return np.where(most == 0, NOTHING, np.where(least == 255, ALL, SOME)).astype(np.uint8)


class WarpBuffers:
    """The backward map of a layer, sampled at every ``step``-th pixel, with its depth and coverage."""

    __slots__ = ("_coverage", "_memory", "backward", "depth", "step")

    def __init__(self, height: int, width: int, step: int) -> None:
        """Allocate buffers for an area of at most this size in pixels."""
        samples = (-(-height // step) + 1) * (-(-width // step) + 1)
        self.step = step
        self._memory = np.empty(samples * 2, np.float32), np.empty(samples, np.float32)
        self._coverage = np.empty((2, samples), np.uint8)
        self.resize(height, width)

    def resize(self, height: int, width: int) -> WarpBuffers:
        """Set the size of the area, which must fit the allocated memory, and return the buffers themselves."""
        rows, columns = -(-height // self.step) + 1, -(-width // self.step) + 1
        backward, depth = self._memory
        self.backward = backward[: rows * columns * 2].reshape(rows, columns, 2)
        self.depth = depth[: rows * columns].reshape(rows, columns)
        return self

    def coverage(self) -> Bytes:
        """Return how far a mesh covers each sample, 0 to WHOLE, with a soft edge."""
        coverage, eroded = self._coverage[:, : self.depth.size].reshape(2, *self.depth.shape)
        np.less(self.depth, FAR, out=coverage.view(np.bool_))
        # the interpolated map is valid where all neighbours of a sample are
        cv2.erode(coverage, _NEIGHBOURS, eroded)
        # as shares of the 25 samples near each
        cv2.boxFilter(eroded, -1, (5, 5), coverage, normalize=False)
        # the outer half of the blur reaches samples that the mesh does not cover
        return np.asarray(cv2.LUT(coverage, _SHARES, eroded), np.uint8)
