"""Fills the background where head and body hid it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Image, Mask

Floats = NDArray[np.float32]

CLEAR = 0.012
"""How far from the matte the background is taken to be free of its colours, as a share of the shorter side."""
LEAST = 0.003
"""Of the image, this share has to be background; from less nothing can be concluded."""


def fill_background(image: Image, matte: Mask) -> Image:
    """Return an RGB image (H, W, 3) with what ``matte`` (H, W) covers replaced by a continuation of the rest.

    Pixels that the matte does not touch stay exactly as they are. Where there is no background the image itself is
    returned.
    """
    margin = max(1, round(CLEAR * min(matte.shape)))
    hidden = cv2.dilate((matte > 0).astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    if 1 - hidden.mean() < LEAST:
        return image.copy()
    smooth = push_pull(image, 1 - hidden.astype(np.float32))
    filled = np.asarray(np.clip(smooth + 0.5, 0, 255), np.uint8)
    # the seam lies between the margin and the matte, where both images are background
    share = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), margin / 2)
    share = np.where(matte > 0, 1, np.clip(2 * share - 1, 0, 1))[..., None]
    return np.asarray(image + share * (filled.astype(np.float32) - image) + 0.5, np.uint8)


def push_pull(image: Image, known: Floats) -> Floats:
    """Return an image (H, W, 3) float32 in which unknown pixels are interpolated from ever coarser levels.

    known: (H, W) in [0, 1]. Gortler et al., "The Lumigraph", 1996, section 3.5.
    """
    levels = [(image.astype(np.float32) * known[..., None], known)]
    while min(levels[-1][1].shape) > 1:
        colours, weight = (cv2.pyrDown(of) for of in levels[-1])
        levels.append((np.asarray(colours, np.float32), np.asarray(weight, np.float32)))
    colours, weight = levels.pop()
    below = colours / np.maximum(weight, 1e-6)[..., None]
    while levels:
        colours, weight = levels.pop()
        coarse = cv2.pyrUp(below, dstsize=weight.shape[::-1]).reshape(colours.shape)
        share = np.clip(2 * weight, 0, 1)[..., None]
        own = colours / np.maximum(weight, 1e-6)[..., None]
        below = np.asarray(coarse + share * (own - coarse), np.float32)
    return np.asarray(below, np.float32)
