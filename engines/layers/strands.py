"""Finds strands of hair around a matte that is too coarse for them."""

from __future__ import annotations

import cv2
import numpy as np

from engines.layers.background import push_pull, smoothed
from engines.types import Image, Mask

REACH = 0.05
"""How far from the matte strands are searched for, as a share of the shorter side."""
SURE, BARELY = 8.0, 4.0
"""How many times its usual deviation a pixel has to differ from the background to be a strand wholly, and at all."""
CALM = 4.0
"""Up to this deviation, in grey levels, a background is calm enough to tell strands from it."""
FAINT = 0.1
"""What covers a pixel by no more than this share is no strand."""
LEAST = 6.0
"""The least deviation that is taken for usual, in grey levels."""


def with_strands(image: Image, matte: Mask) -> Mask:
    """Return the matte (H, W) with strands that differ from a smooth background near it, of an RGB image.

    Where the background is busy, nothing can be told from it and nothing is added.
    """
    reach = max(3, round(REACH * min(matte.shape)))
    near = cv2.dilate(matte, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    known = (~near).astype(np.float32)
    if known.mean() < 0.02 or not (matte > 250).any():
        return matte
    behind = push_pull(image, known)
    inside = push_pull(image, (matte > 250).astype(np.float32))
    pixels = image.astype(np.float32)
    # how far the background itself lies from its own smooth continuation, nearby
    smooth = smoothed(pixels, reach / 2)
    deviation = np.abs(pixels - smooth).mean(axis=2) * known
    usual = smoothed(deviation, reach) / np.maximum(smoothed(known, reach), 1e-3)
    usual = np.maximum(1.5 * usual, LEAST)
    towards = inside - behind
    length = np.maximum(np.linalg.norm(towards, axis=2), 1)
    along = ((pixels - behind) * towards).sum(axis=2) / length
    calm = np.clip(2 - usual / CALM, 0, 1)
    sure = calm * np.clip((along / usual * 2 - BARELY) / (SURE - BARELY), 0, 1)
    share = np.clip(along / length, 0, 1) * sure
    share[~near] = 0
    # a strand is thin: what is broad is something else
    broad = cv2.morphologyEx(share, cv2.MORPH_OPEN, np.ones((reach // 2 * 2 + 1,) * 2, np.uint8))
    # and covers its pixels more than the shade does that a background has beside its own continuation
    share = np.clip((share - broad - FAINT) / (1 - FAINT), 0, 1)
    return np.maximum(matte, (share * 255 + 0.5).astype(np.uint8))
