"""A frame around a picture of another shape."""

from __future__ import annotations

import numpy as np

from engines.types import Image, Mask, Window


class Mount:
    """A still frame (H, W, 3), in a window of which a picture is shown. Used by one thread."""

    def __init__(self, frame: Image, window: Window) -> None:
        """Copies the frame."""
        self.frame = frame.copy()
        self.window = window
        self._shown = frame.copy()
        alpha = window.alpha((frame.shape[1], frame.shape[0]))
        self._corners = [(area, alpha[area]) for area in _corners(window)]

    def show(self, picture: Image) -> Image:
        """Return the frame with a picture of the window's size in it; the next call overwrites the result."""
        left, top, right, bottom, _ = self.window
        self._shown[top:bottom, left:right] = picture
        for area, alpha in self._corners:
            self._shown[area] = _blended(self._shown[area], self.frame[area], alpha)
        return self._shown

    def alpha(self, alpha: Mask) -> Mask:
        """Return the alpha (H, W) of the frame for that of the picture: nothing is seen outside the window."""
        left, top, right, bottom, _ = self.window
        whole = np.zeros(self.frame.shape[:2], np.uint8)
        whole[top:bottom, left:right] = alpha
        return whole


def _corners(window: Window) -> tuple[tuple[slice, slice], ...]:
    """Return the squares that hold the window's round corners."""
    left, top, right, bottom, radius = window
    columns = (slice(left, left + radius), slice(right - radius, right))
    rows = (slice(top, top + radius), slice(bottom - radius, bottom))
    return tuple((across, along) for across in rows for along in columns)


def _blended(over: Image, under: Image, alpha: Mask) -> Image:
    """Return ``over`` by its alpha (H, W) on ``under``, both (H, W, 3)."""
    share = alpha[..., None].astype(np.uint16)
    return np.asarray((over * share + under * (255 - share) + 127) // 255, np.uint8)
