"""The slate: what is shown at start-up, on request and after a failure."""

from __future__ import annotations

import cv2
import numpy as np

from engines.types import Image

_TOP, _BOTTOM = np.array([38, 44, 56], np.float32), np.array([22, 26, 34], np.float32)
_INK, _QUIET = (226, 230, 236), (134, 146, 164)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw(size: tuple[int, int], text: str) -> Image:
    """Return a slate of that width and height with one line of text, (H, W, 3) uint8 RGB.

    The text is ASCII, which is all that OpenCV's stroke fonts have; it shrinks until it fits.
    """
    width, height = size
    shade = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    column = _TOP * (1 - shade) + _BOTTOM * shade
    card = np.ascontiguousarray(np.broadcast_to(column, (height, width, 3)).round().astype(np.uint8))
    radius = max(4, min(width, height) // 14)
    centre = (width // 2, round(height * 0.4))
    thick = max(1, radius // 8)
    cv2.ellipse(card, centre, (round(radius * 0.8), radius), 0, 0, 360, _QUIET, thick, cv2.LINE_AA)
    for side in (-1, 1):
        eye = (centre[0] + side * round(radius * 0.32), centre[1] - radius // 6)
        cv2.circle(card, eye, max(1, radius // 9), _QUIET, -1, cv2.LINE_AA)
    smile = (centre[0], centre[1] + radius // 5)
    cv2.ellipse(card, smile, (radius * 2 // 5, radius // 3), 0, 20, 160, _QUIET, thick, cv2.LINE_AA)
    _write(card, text, round(height * 0.6))
    return card


def _write(card: Image, text: str, baseline: int) -> None:
    height, width = card.shape[:2]
    scale = min(width, height) / 600
    (wide, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    scale *= min(1.0, 0.9 * width / max(wide, 1))
    thickness = max(1, round(scale * 1.6))
    (wide, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    cv2.putText(card, text, ((width - wide) // 2, baseline), _FONT, scale, _INK, thickness, cv2.LINE_AA)
