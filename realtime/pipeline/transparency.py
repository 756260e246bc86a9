"""What is transparent in a generated image, and the colours of what is not."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Image, Mask

COARSE = 8
"""The colours of transparent pixels are spread at a size this many times smaller."""
LEAST = 12
"""From this alpha on a pixel's own colour is known."""
SPREAD = 2.5
"""How wide they are spread, in pixels of that size."""


@dataclass(frozen=True, slots=True)
class Transparency:
    """How an image was composed over a key colour."""

    alpha: Mask
    """(H, W): how much of each pixel is the subject."""
    key: tuple[int, int, int]
    """The colour behind it, RGB."""


def straight_colours(image: Image, transparency: Transparency) -> Image:
    """Return the subject's own colours (H, W, 3), not multiplied by the alpha and without the key colour.

    Where nothing is seen of the subject, its nearest colours go on, as encoders mix the colours of neighbours.
    """
    alpha, key = transparency.alpha, np.array(transparency.key, np.float32)
    height, width = alpha.shape
    small = (max(1, width // COARSE), max(1, height // COARSE))
    share = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255
    premultiplied = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.float32) - (1 - share) * key
    weighted: NDArray[np.float32] = np.concatenate([premultiplied, share], axis=2)
    coarse = cv2.GaussianBlur(weighted, (0, 0), SPREAD)
    coarse = coarse + np.float32(1e-3) * cv2.blur(coarse, (2 * (small[0] // 4) + 1, 2 * (small[1] // 4) + 1))
    near = np.clip(coarse[..., :3] / np.maximum(coarse[..., 3:], 1e-6) + 0.5, 0, 255).astype(np.uint8)
    colours = np.asarray(cv2.resize(near, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    cv2.copyTo(image, (alpha == 255).astype(np.uint8), colours)
    soft = np.flatnonzero((alpha > LEAST) & (alpha < 255))
    seen = alpha.reshape(-1)[soft].astype(np.float32)[:, None] / 255
    flat = colours.reshape(-1, 3)
    own = (image.reshape(-1, 3)[soft] - (1 - seen) * key) / seen
    trust = np.clip((seen - LEAST / 255) / 0.3, 0, 1)
    flat[soft] = np.clip(flat[soft] + trust * (own - flat[soft]) + 0.5, 0, 255).astype(np.uint8)
    return colours
