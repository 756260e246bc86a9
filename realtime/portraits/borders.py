"""Finds the lines that scans and cut-outs have along their edges: dark or bright, some pixels wide."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Image

WIDEST = 8
"""Widest border that is looked for, in pixels."""
_BEHIND = 24
"""Lines behind it that it is compared with."""
_STEP = 5.0
"""The least step at a border's inner edge, in levels; it also has to exceed that of any line behind it."""
_EVEN = 0.6
"""The least share of a line that steps in the same direction: an edge in the picture crosses only a part of it."""


def trim_borders(image: Image) -> tuple[slice, slice]:
    """Return the rows and the columns of an RGB image that lie inside the borders along its four edges."""
    height, width = image.shape[:2]
    deep = WIDEST + _BEHIND
    if min(height, width) < 3 * deep:
        return slice(0, height), slice(0, width)
    left = _border(image[:, :deep].transpose(1, 0, 2))
    right = _border(image[:, -deep:][:, ::-1].transpose(1, 0, 2))
    top, bottom = _border(image[:deep]), _border(image[-deep:][::-1])
    return slice(top, height - bottom), slice(left, width - right)


def _border(strip: NDArray[np.uint8]) -> int:
    """Return how many of the first lines of a strip (lines, N, 3) are a border."""
    short = cv2.resize(np.ascontiguousarray(strip), (256, len(strip)), interpolation=cv2.INTER_AREA)
    steps = np.diff(short.astype(np.float32).mean(axis=2), axis=0)  # (lines - 1, 256)
    size = np.median(np.abs(steps), axis=1)
    even = np.abs(np.sign(np.where(np.abs(steps) < 1, 0, steps)).mean(axis=1))
    usual = max(_STEP, 3 * float(size[WIDEST:].max()))
    found = np.flatnonzero((size[:WIDEST] > usual) & (even[:WIDEST] > _EVEN))
    # the line behind the last step is blended with the border where the image was scaled
    return int(found[-1]) + 2 if len(found) else 0
