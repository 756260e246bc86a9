"""Adds the invisible watermark to frames of one size."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from engines.marking import mark_raster
from engines.marking.mark_raster import BLOCK
from engines.marking.pattern import DEFAULT_KEY, tile, tile_side
from engines.marking.payload import Payload
from engines.types import Image

STRENGTHS = tuple(float(each) for each in np.geomspace(0.86, 1.52, 6))
"""Standard deviations of the pattern in levels of luma, from a flat picture's to a busy one's."""
_SHARE = 0.008
"""The loss of SSIM that a block may have: the pattern's variance over ``2 * variance + 58.5`` of the picture there
(Wang et al., IEEE Trans. Image Processing 13, 2004, equation 13 with the pattern independent of the picture)."""
_STABLE = 58.5
"""The constant C2 of SSIM for pictures of eight bits."""


class Watermark(Protocol):
    """A watermark that is added to frames; what finds it again is a ``Detector``."""

    def embed(self, image: Image, out: Image) -> None:
        """Write ``image`` with the watermark into ``out``, which does not overlap it; both (H, W, 3) uint8 RGB."""
        ...


class TileWatermark:
    """The watermark of ``engines.marking.pattern``, as strong in each block of the frame as the picture hides it.

    The pattern does not change over time, so a still picture does not flicker; a detector adds up the frames.
    """

    def __init__(self, size: tuple[int, int], payload: Payload, key: str = DEFAULT_KEY) -> None:
        width, height = size
        rows, columns = -(-height // BLOCK), -(-width // BLOCK)
        side = tile_side(size)
        pattern = tile(payload, side, key)
        pattern = np.concatenate([pattern, pattern[:, :BLOCK]], axis=1)
        at_level = np.rint(np.array(STRENGTHS, np.float32)[:, None, None] * pattern)
        at_level = np.repeat(at_level, 3, axis=2)
        self._rising = np.clip(at_level, 0, 255).astype(np.uint8)
        self._falling = np.clip(-at_level, 0, 255).astype(np.uint8)
        between = np.sqrt(np.array(STRENGTHS[:-1]) * np.array(STRENGTHS[1:]))
        # a block's activity is about the standard deviation of what is in it
        self._limits = np.sqrt(np.maximum(between**2 / _SHARE - _STABLE, 0) / 2).astype(np.float32)
        self._roots = np.sqrt(np.arange(256, dtype=np.float32))
        self._activity = np.zeros((rows, columns), np.float32)
        self._levels = np.zeros((rows, columns), np.uint8)

    def embed(self, image: Image, out: Image) -> None:
        """Write ``image`` with the watermark into ``out``, which does not overlap it; both (H, W, 3) uint8 RGB."""
        mark_raster.measure_activity(image, self._roots, self._activity)
        mark_raster.choose_levels(self._activity, self._limits, self._levels)
        height = image.shape[0]
        flat = image.reshape(height, -1), out.reshape(height, -1)
        mark_raster.add_pattern(flat[0], self._rising, self._falling, self._levels, flat[1])
