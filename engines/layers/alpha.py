"""Draws how much of each pixel of an output is head and body: the layers once more, white over black."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.layers import layer_raster
from engines.layers.cutout import Cutout
from engines.types import Floats, Image, Mask

_WHITE = np.uint32(1 << 24 | 1 << 16 | 1 << 8 | 1)
"""A premultiplied white of opacity 1 in the four lanes of a layer's pixel."""


class AlphaDrawing:
    """The alpha of a portrait's outputs. Its buffers are allocated once for all of them."""

    def __init__(self, cutout: Cutout) -> None:
        """``cutout`` has a background behind head and body."""
        self._cutout = cutout
        (body, tall, wide), (face, *size) = cutout.body.pixels, cutout.face.pixels
        white = (body >> 24) * _WHITE
        self._body = white, tall, wide
        self._face = (face >> 24) * _WHITE, *size
        height, width = cutout.behind.shape[:2]
        columns, rows = cutout.beyond
        still = (white.reshape(tall, wide)[rows : rows + height, columns : columns + width] & 255).astype(np.uint8)
        self._still: Image = np.repeat(still[..., None], 3, axis=2)
        self._black = np.zeros_like(self._still)
        self._out = self._still.copy()
        self._alpha = still
        self._hidden = np.zeros((1, 1), np.uint8)

    def draw(
        self,
        body: tuple[Floats, NDArray[np.uint8], tuple[int, int, int, int]],
        face: tuple[Floats, NDArray[np.uint8], tuple[int, int]] | None,
    ) -> Mask:
        """Return the alpha (H, W) of an output; the next call overwrites it.

        ``body`` and ``face`` are what the output was drawn with by ``layer_raster``: the backward maps, what each cell
        shows or the coverage, and the places. ``face`` is None where no face was drawn.
        """
        backward, shows, place = body
        height, width = self._alpha.shape
        kinds, everything = self._cutout.body.kinds, (0, 0, width, height)
        shown = np.empty_like(shows)
        layer_raster.draw_body(
            self._out, self._still, self._black, self._body, kinds, backward, shown, place, everything, self._hidden
        )
        if face is not None:
            backward, cover, at = face
            layer_raster.draw_face(self._out, self._face, self._cutout.face.kinds, backward, cover, at)
        np.copyto(self._alpha, self._out[..., 0])
        return self._alpha
