"""The inside of the driver's mouth: the only part of the driving image that a portrait ever shows.

It is kept from one image to the next, so that a face that the tracker loses for a moment keeps its mouth.
"""

from __future__ import annotations

import numpy as np

from engines.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, MOUTH_CORNERS
from engines.mesh.features import skin_colour
from engines.mesh.lens import Lens, lens_box
from engines.mesh.mouth_cover import MouthCover
from engines.types import Image, Motion, Points

MARGIN = 2.0
"""Pixels around the lips that are copied as well, as interpolation reads the next one."""
NEAR_EDGE = 0.15
"""The distance to the image's edge, in widths of the mouth, below which a painted mouth replaces it.

Lips beyond the edge are only guessed, and the pixels there are no mouth.
"""
_INNER_LIPS = np.concatenate([MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP])
_EMPTY: Image = np.zeros((0, 0, 3), np.uint8)


class DriverMouth:
    """The driver's mouth as it was last seen, in an image of its own."""

    def __init__(self) -> None:
        self.image = _EMPTY
        """(h, w, 3) uint8: the mouth and a margin; valid until the next ``update``."""
        self.lens = Lens(np.zeros(4, np.float32), np.zeros(2, np.float32), np.zeros(2, np.float32))
        """The opening between the lips in that image."""
        self.skin = np.ones(3, np.float32)
        """The colour of the driver's cheeks, (3,) float32."""
        self._memory = np.empty(0, np.uint8)
        self._opacity = 0.0
        self._flipped = False
        self._cover = MouthCover()
        self._driver_id = 0

    def update(self, motion: Motion, driving: Image | None) -> float:
        """Take in a frame, of which the mouth is copied, and return the opacity of this mouth.

        It is 1 while the face is in the image or held, and falls to 0 as the motion eases to rest, the lips leave the
        image or something covers them.
        """
        if motion.face is not None and driving is not None:
            pixels = motion.face.pixels()
            self._opacity = _inside(pixels, driving)
            self._flipped = motion.flipped
            if motion.face.driver_id != self._driver_id:
                self._driver_id = motion.face.driver_id
                self._cover.reset()
            if self._opacity > 0:
                self._copy(pixels, driving)
                self._opacity *= self._cover.visibility(pixels, driving, self.skin, motion.face.time_ns)
        elif motion.presence == 0 or motion.flipped != self._flipped:
            self.reset()
        return self._opacity * motion.presence

    def reset(self) -> None:
        """Show nothing of it until the next face is seen."""
        self._opacity = 0.0
        self._cover.reset()

    def _copy(self, pixels: Points, driving: Image) -> None:
        height, width = driving.shape[:2]
        lens = Lens.of(pixels, MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP)
        left, top, right, bottom = lens_box(lens.ends, lens.upper, lens.lower, (0, 0, width, height), MARGIN)
        shape = (bottom - top, right - left, 3)
        if self._memory.size < shape[0] * shape[1] * 3:
            self._memory = np.empty(2 * shape[0] * shape[1] * 3, np.uint8)
        self.image = self._memory[: shape[0] * shape[1] * 3].reshape(shape)
        np.copyto(self.image, driving[top:bottom, left:right])
        lens.ends[:] -= (left, top, left, top)
        self.lens = lens
        self.skin = skin_colour(driving, pixels)


def _inside(pixels: Points, driving: Image) -> float:
    """Return 1 if the lips are well inside of the image, falling to 0 as they reach its edge."""
    lips = pixels[_INNER_LIPS, :2]
    last = np.array([driving.shape[1] - 1, driving.shape[0] - 1], np.float32)
    room = float(min(lips.min(), (last - lips).min()))
    width = float(np.hypot(*(lips[1] - lips[0])))
    return min(max(room / max(NEAR_EDGE * width, 1.0), 0.0), 1.0)
