"""What is put on every synthetic frame before it leaves: the label, if there is one, and the watermark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engines.marking import mark_raster
from engines.marking.label import draw_label
from engines.marking.payload import Payload
from engines.marking.watermark import TileWatermark, Watermark
from engines.types import Image


@dataclass(frozen=True, slots=True)
class Marking:
    """How frames are marked."""

    payload: Payload
    """What the watermark says."""
    language: str | None = "en"
    """The language of the label, one of ``engines.marking.label.WORDS``; None for no label."""


class FrameMarks:
    """Marks frames of one size. ``watermark`` takes the place of the program's own."""

    def __init__(self, size: tuple[int, int], marking: Marking, watermark: Watermark | None = None) -> None:
        width, height = size
        self._labelled, self._marked = (np.empty((height, width, 3), np.uint8) for _ in range(2))
        self._label = None if marking.language is None else draw_label(size, marking.language)
        self._watermark = TileWatermark(size, marking.payload) if watermark is None else watermark

    def mark(self, image: Image) -> Image:
        """Return a marked copy of an image, (H, W, 3) uint8 RGB, valid until the next call.

        The generator may build its next image on the last one, so it is not written to.
        """
        np.copyto(self._labelled, image)
        if (label := self._label) is not None:
            mark_raster.blend_label(self._labelled, label.colours, label.alpha, label.left, label.top)
        self._watermark.embed(self._labelled, self._marked)
        return self._marked
