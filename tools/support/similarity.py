"""The structural similarity of two pictures."""

from __future__ import annotations

import cv2
import numpy as np

from engines.types import Floats

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""The constants of SSIM for pictures of 0 to 255."""


def ssim_map(first: Floats, second: Floats) -> Floats:
    """Return the SSIM of two grey pictures at every pixel, (H, W) float32, both (H, W) from 0 to 255.

    The window is a Gaussian of 11 pixels (Wang et al., 2004).
    """

    def mean(x: Floats) -> Floats:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5), np.float32)

    a, b = mean(first), mean(second)
    aa, bb, ab = mean(first * first) - a * a, mean(second * second) - b * b, mean(first * second) - a * b
    top = (2 * a * b + _C1) * (2 * ab + _C2)
    return np.asarray(top / ((a * a + b * b + _C1) * (aa + bb + _C2)), np.float32)
