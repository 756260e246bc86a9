"""Shades of the background are not taken for strands of hair."""

from __future__ import annotations

import cv2
import numpy as np

from engines.layers.strands import with_strands
from engines.types import Image, Mask

SIZE = 512


def head_before(background: Image) -> tuple[Image, Mask]:
    """Return a dark disc before a background, and its matte."""
    image, matte = background.copy(), np.zeros((SIZE, SIZE), np.uint8)
    for canvas, colour in ((image, (20, 40, 40)), (matte, (255,))):
        cv2.circle(canvas, (256, 330), 150, colour, -1, cv2.LINE_AA)
        cv2.rectangle(canvas, (40, 440), (470, 511), colour, -1)
    return image, matte


def test_the_shade_of_a_background_towards_its_corners_is_no_strand() -> None:
    """It became a part of the body, and a lighter patch beside the shoulders when the head moved."""
    down, across = np.indices((SIZE, SIZE)) / SIZE - 0.4
    shade = np.clip(150 - 120 * (down**2 + across**2), 0, 255)
    image, matte = head_before(np.repeat(shade[..., None], 3, axis=2).astype(np.uint8))
    np.testing.assert_array_equal(with_strands(image, matte), matte)
