"""Tells whether something is in front of the driver's mouth: a hand, a cup or a microphone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.face.topology import AROUND_MOUTH, INNER_LOWER_LIP, INNER_UPPER_LIP, MOUTH_CORNERS
from engines.jit import compiled
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
_DEPTHS = np.array([0.3, 0.5, 0.7], np.float32)


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
        between, around, opening = _colours(image, pixels, skin)
        if opening > MIN_OPENING:
            self._inside = 1 - _ramp(float(_like_skin(between)), SKIN_SHARES)
        seen = min(self._inside, self._outside(around))
        self._visible = min(seen, self._visible + elapsed_ns / UNCOVER_NS)
        return self._visible

    def _outside(self, around: NDArray[np.float32]) -> float:
        """Return 1 if what is around the mouth is skin or what it was before, 0 if most of it is covered."""
        if self._around is None:
            self._around = around
            return 1.0
        visible = 1 - _ramp(float(_changed(around, self._around)), AROUND_CHANGES)
        if visible == 1:
            self._around += np.float32(ADAPTATION) * (around - self._around)
        return visible


@compiled()
def _colours(image: Any, pixels: Any, skin: Any) -> Any:
    """Return the colours between the lips (27, 3) and around them (11, 3) over ``skin`` (3,), and how far they part.

    The last is in widths of the mouth.
    """
    last_x, last_y = image.shape[1] - 1, image.shape[0] - 1
    lips, depths = INNER_UPPER_LIP.shape[0], _DEPTHS.shape[0]
    inside = lips * depths
    colours = np.empty((inside + AROUND_MOUTH.shape[0], 3), np.float32)
    for i in range(colours.shape[0]):
        if i < inside:
            upper, lower, depth = INNER_UPPER_LIP[i % lips], INNER_LOWER_LIP[i % lips], _DEPTHS[i // lips]
        else:
            upper = lower = AROUND_MOUTH[i - inside]
            depth = np.float32(0)
        x = pixels[upper, 0] + depth * (pixels[lower, 0] - pixels[upper, 0])
        y = pixels[upper, 1] + depth * (pixels[lower, 1] - pixels[upper, 1])
        column, row = int(min(max(x, 0), last_x)), int(min(max(y, 0), last_y))
        for c in range(3):
            colours[i, c] = image[row, column, c] / max(skin[c], np.float32(1))
    gap, width = 0.0, 1e-6
    for k in range(2):
        width = max(width, abs(pixels[MOUTH_CORNERS[1], k] - pixels[MOUTH_CORNERS[0], k]))
        for i in range(lips):
            gap = max(gap, abs(pixels[INNER_LOWER_LIP[i], k] - pixels[INNER_UPPER_LIP[i], k]))
    return colours[:inside], colours[inside:], gap / width


@compiled()
def _like_skin(colours: Any) -> float:
    """Return the share of colours (n, 3), in those of the cheeks, that are of skin."""
    alike = 0
    for i in range(colours.shape[0]):
        light = (colours[i, 0] + colours[i, 1] + colours[i, 2]) / 3
        chroma = np.float32(0)
        for c in range(3):
            chroma = max(chroma, abs(colours[i, c] / max(light, np.float32(1e-3)) - 1))
        if SKIN_LIGHTNESS[0] < light < SKIN_LIGHTNESS[1] and chroma < SKIN_CHROMA:
            alike += 1
    return alike / int(colours.shape[0])


@compiled()
def _changed(around: Any, before: Any) -> Any:
    """Return by how much most colours (n, 3) differ from what they were, or from skin if that is less."""
    change, unlike = np.empty(around.shape[0], np.float32), np.empty(around.shape[0], np.float32)
    for i in range(around.shape[0]):
        apart, skin, light = np.float32(0), np.float32(0), np.float32(0)
        for c in range(3):
            apart = max(apart, abs(around[i, c] - before[i, c]))
            skin = max(skin, abs(around[i, c] - 1))
            light += before[i, c] / 3
        change[i], unlike[i] = apart / max(light, np.float32(0.2)), skin
    return min(np.median(change), np.median(unlike))


def _ramp(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(max((value - low) / (high - low), 0.0), 1.0)


def compile_all() -> None:
    """Compile every loop here, or load it from numba's cache, for read-only images too."""
    image, pixels, skin = np.zeros((1, 1, 3), np.uint8), np.zeros((478, 3), np.float32), np.ones(3, np.float32)
    for _ in range(2):
        between, around, _opening = _colours(image, pixels, skin)
        image.flags.writeable = False
    _like_skin(between)
    _changed(around, around)
    _changed(around, around.copy())
