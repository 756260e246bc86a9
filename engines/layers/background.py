"""Fills the background where head and body hid it."""

from __future__ import annotations

import cv2
import numpy as np

from engines.types import Floats, Image, Mask

CLEAR = 0.012
"""How far from the matte the background is taken to be free of its colours, as a share of the shorter side."""
TEXTURE = 0.03
"""What is smaller than this is texture, as a share of the shorter side."""
LEAST = 0.003
"""Of the image, this share has to be background; from less nothing can be concluded."""


def fill_background(image: Image, matte: Mask) -> Image:
    """Return an RGB image (H, W, 3) with what ``matte`` (H, W) covers replaced by a continuation of the rest.

    Pixels further than ``CLEAR`` from the matte stay exactly as they are. Where there is no background, or nothing
    hides it, a copy of the image is returned.
    """
    margin = max(1, round(CLEAR * min(matte.shape)))
    hidden = cv2.dilate((matte > 0).astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    if not hidden.any() or 1 - hidden.mean() < LEAST:
        return image.copy()
    known = 1 - hidden.astype(np.float32)
    filled = push_pull(image, known) + _mirrored_texture(image, known)
    filled = np.clip(filled, 0, 255)
    # the seam lies between the margin and the matte, where both images are background
    share = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), margin / 2)
    share = np.where(matte > 0, 1, np.clip(2 * share - 1, 0, 1))[..., None]
    return np.asarray(image + share * (filled - image) + 0.5, np.uint8)


def smoothed(image: Floats, sigma: float) -> Floats:
    """Return an image (H, W) or (H, W, 3) blurred by about ``sigma`` pixels, at the resolution that this needs."""
    height, width = image.shape[:2]
    step = max(1, int(sigma / 3))
    small = cv2.resize(image, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _mirrored_texture(image: Image, known: Floats) -> Floats:
    """Return how the texture of an image continues into what is unknown, (H, W, 3) float32, without its colours.

    Each unknown pixel takes that of its mirror image beyond the edge of what is known, and beyond the image that of the
    mirror image there. The edge is smoothed for this, or its steps would shatter the texture. What is fetched from what
    is unknown has none, and where the mirror images of two edges meet there is less and less.
    """
    sigma = TEXTURE * min(known.shape)
    weight = np.maximum(smoothed(known, sigma), 1e-3)[..., None]
    smooth = smoothed(image * known[..., None], sigma) / weight
    texture = (image - smooth) * known[..., None]
    inside, outside = (
        cv2.distanceTransform(of.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) for of in (known < 1, known >= 1)
    )
    depth = np.asarray(cv2.GaussianBlur(inside - outside, (0, 0), sigma), np.float32)
    inwards_x, inwards_y = (cv2.Sobel(depth, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0))
    steep = np.hypot(inwards_x, inwards_y)
    twice = 2 * np.maximum(depth, 0) / np.maximum(steep, 0.1) ** 2
    down, across = (of.astype(np.float32) for of in np.indices(known.shape))
    x, y = across - twice * inwards_x, down - twice * inwards_y
    fetched = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    # it ends softly: at the edge of an image a shade is texture too, and would end in a line
    there = np.asarray(cv2.remap(known, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.float32)
    share = np.minimum(there, smoothed(there, sigma)) * np.clip((steep - 0.5) / 0.4, 0, 1)
    return np.asarray(fetched * share[..., None], np.float32)


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
