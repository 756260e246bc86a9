"""Tells whether something is in front of the driver's mouth: a hand, a cup or a microphone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.face.topology import AROUND_MOUTH, INNER_LOWER_LIP, INNER_UPPER_LIP, MOUTH_CORNERS
from engines.types import Image, Points

SKIN_SHARES = (0.8, 0.95)
"""The inside of a mouth is a hand if more of it than this looks like skin: for certain above the second."""
SKIN_LIGHTNESS = (0.7, 1.35)
"""What looks like skin is as light as the cheeks, within these factors."""
SKIN_CHROMA = 0.15
"""What looks like skin has the cheeks' colour within this share of its lightness."""
MIN_OPENING = 0.06
"""Lips that are less apart than this, in widths of the mouth, show too little of what is between them to judge."""
AROUND_CHANGES = (0.35, 0.5)
"""The skin around the mouth is covered if most of it differs by more than this from what it was: certainly above."""
ADAPTATION = 0.02
"""The share of a frame in what is remembered of the skin around the mouth."""
UNCOVER_NS = 400_000_000
"""The mouth is shown again within this time."""
_DEPTHS = np.array([0.3, 0.5, 0.7], np.float32)[:, None, None]


class MouthCover:
    """How much of the driver's mouth may be shown, by the colours between the lips and around them.

    A hand is of the cheeks' colour where the inside of a mouth is dark, red or white. A cup or a microphone differs
    from the cheeks, and from what was seen around the mouth before, such as a beard.
    """

    def __init__(self) -> None:
        self._around: NDArray[np.float32] | None = None
        self._time_ns = 0
        self._inside = 1.0
        self._visible = 1.0

    def reset(self) -> None:
        """Forget the face."""
        self._around = None
        self._inside = self._visible = 1.0

    def visibility(self, pixels: Points, image: Image, skin: NDArray[np.float32], time_ns: int) -> float:
        """Return how much of the mouth may be shown, in [0, 1]: at once less, and more again by and by.

        ``pixels`` are the face's landmarks in pixels of the RGB ``image``, ``skin`` (3,) is the colour of its cheeks.
        """
        elapsed_ns = max(0, time_ns - self._time_ns)
        self._time_ns = time_ns
        upper, lower = pixels[INNER_UPPER_LIP, :2], pixels[INNER_LOWER_LIP, :2]
        between = (upper + _DEPTHS * (lower - upper)).reshape(-1, 2)
        points = np.concatenate([between, pixels[AROUND_MOUTH, :2]])
        colours = _colours(image, points) / np.maximum(skin, 1)
        right, left = pixels[MOUTH_CORNERS, :2]
        if np.abs(lower - upper).max() > MIN_OPENING * np.abs(left - right).max():
            self._inside = _mouth_like(colours[: len(between)])
        seen = min(self._inside, self._outside(colours[len(between) :]))
        self._visible = min(seen, self._visible + elapsed_ns / UNCOVER_NS)
        return self._visible

    def _outside(self, around: NDArray[np.float32]) -> float:
        """Return 1 if what is around the mouth is skin or what it was before, 0 if most of it is covered."""
        if self._around is None:
            self._around = around
            return 1.0
        change = np.abs(around - self._around).max(axis=1) / np.maximum(self._around.mean(axis=1), 0.2)
        unlike_skin = np.abs(around - 1).max(axis=1)
        visible = 1 - _ramp(float(min(np.median(change), np.median(unlike_skin))), AROUND_CHANGES)
        if visible == 1:
            self._around += np.float32(ADAPTATION) * (around - self._around)
        return visible


def _colours(image: Image, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colours at points (n, 2) of an image, (n, 3) float32."""
    height, width = image.shape[:2]
    x = np.clip(points[:, 0], 0, width - 1).astype(np.intp)
    y = np.clip(points[:, 1], 0, height - 1).astype(np.intp)
    return image[y, x].astype(np.float32)


def _mouth_like(colours: NDArray[np.float32]) -> float:
    """Return 1 if colours (n, 3), in those of the cheeks, are of the inside of a mouth, 0 if they are of skin."""
    lightness = colours.mean(axis=1)
    chroma = np.abs(colours / np.maximum(lightness, 1e-3)[:, None] - 1).max(axis=1)
    alike = (lightness > SKIN_LIGHTNESS[0]) & (lightness < SKIN_LIGHTNESS[1]) & (chroma < SKIN_CHROMA)
    return 1 - _ramp(float(alike.mean()), SKIN_SHARES)


def _ramp(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(max((value - low) / (high - low), 0.0), 1.0)
