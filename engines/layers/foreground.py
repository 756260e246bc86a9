"""Estimates the colours of head and body where their edge is soft and the background shines through."""

from __future__ import annotations

import numpy as np

from engines.layers.background import push_pull
from engines.types import Image, Mask

CERTAIN = 250
"""From this value on a pixel of the matte shows nothing of the background."""


def foreground(image: Image, matte: Mask, behind: Image) -> Image:
    """Return the colours of what ``matte`` (H, W) covers, (H, W, 3), without those of the background ``behind``.

    Where much of a pixel is foreground, its colour follows from image = matte * colour + (1 - matte) * behind; where
    little is, from the certain foreground near it.
    """
    certain = (matte >= CERTAIN).astype(np.float32)
    if not certain.any():
        return image.copy()
    near = push_pull(image, certain)
    share = (matte.astype(np.float32) / 255)[..., None]
    solved = behind + (image.astype(np.float32) - behind) / np.maximum(share, 0.05)
    trust = np.clip((share - 0.1) / 0.5, 0, 1)
    colours = near + trust * (np.clip(solved, 0, 255) - near)
    return np.where(certain[..., None] > 0, image, np.clip(colours + 0.5, 0, 255).astype(np.uint8))
