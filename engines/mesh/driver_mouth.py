"""The inside of the driver's mouth: the only part of the driving image that a portrait ever shows.

It is kept from one image to the next, so that a face that the tracker loses for a moment keeps its mouth.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.face.opening import Opening
from engines.face.topology import INNER_LOWER_LIP, INNER_UPPER_LIP, MOUTH_CORNERS
from engines.jit import compiled
from engines.mesh import mouth_raster
from engines.mesh.mouth_cover import MouthCover
from engines.mesh.mouth_light import DriverLight, lip_colours, sclera_colour, skin_colour
from engines.types import Image, Motion, Points

SIZE = (48, 128)
"""Rows and columns in which a mouth is kept."""
NEAR_EDGE = 0.15
"""The distance to the image's edge, in widths of the mouth, below which a painted mouth replaces it.

Lips beyond the edge are only guessed, and the pixels there are no mouth.
"""
_INNER_LIPS = np.concatenate([MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP])
LIP_LIGHTNESS, LIP_TINT = (0.72, 1.5), 0.09
"""What looks like a lip is as light as the lips, within these factors, and of their tint, within this difference."""
MOST_LIP = 0.45
"""The largest share of the height between the lips' landmarks that may still be lip, at each edge."""
EDGE_SHARE = 0.4
"""The share of a frame in the edges that are remembered."""
LIGHT_EVERY = 4
"""The light changes slowly: it is looked at in every 4th frame, after the first few."""
_GRID = (slice(1, None, 4), slice(4, None, 8))
_COLUMNS = 16


class DriverMouth:
    """The driver's mouth as it was last seen, in an image of its own."""

    def __init__(self) -> None:
        self.inside: Image = np.zeros((*SIZE, 3), np.uint8)
        """(48, 128, 3) uint8: what is between the lips, see ``mouth_raster.read_opening``."""
        self.edges = np.repeat(np.array([[0], [1]], np.float32), _COLUMNS, axis=1)
        """(2, 16) float32: the share of each column at which the lips end and begin again."""
        self.span = np.array([0, 1], np.float32)
        """(2,) float32: the shares of the width at which they part and meet again."""
        self.light = DriverLight()
        self.skin = np.ones(3, np.float32)
        """The colour of the driver's cheeks, (3,) float32."""
        self._found = self.edges.copy(), self.span.copy()
        self._frames = 0
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
            self._opacity = float(_inside(pixels, driving.shape[1], driving.shape[0]))
            self._flipped = motion.flipped
            if motion.face.driver_id != self._driver_id:
                self._driver_id = motion.face.driver_id
                self._cover.reset()
                self.light.reset()
                self._frames = 0
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
        opening = Opening.of(pixels, MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP)
        mouth_raster.read_opening(driving, opening.ends, opening.upper, opening.lower, self.inside)
        self.skin = skin_colour(driving, pixels)
        lips = lip_colours(driving, pixels)
        edges, span = self._found
        mouth_raster.lip_edges(self.inside, lips, LIP_LIGHTNESS, LIP_TINT, MOST_LIP, edges, span)
        share = np.float32(1.0 if self._frames == 0 else EDGE_SHARE)
        self.edges += share * (edges - self.edges)
        self.span += share * (span - self.span)
        if self._frames % LIGHT_EVERY == 0 or self._frames < 2 * LIGHT_EVERY:
            samples = self.inside[_GRID].reshape(-1, 3).astype(np.float32)
            self.light.update(self.skin, sclera_colour(driving, pixels), samples)
        self._frames += 1


@compiled()
def _inside(pixels: Any, width: int, height: int) -> Any:
    """Return 1 if the lips are well inside of an image of this size, falling to 0 as they reach its edge."""
    room = 1e9
    for i in range(_INNER_LIPS.shape[0]):
        x, y = pixels[_INNER_LIPS[i], 0], pixels[_INNER_LIPS[i], 1]
        room = min(room, x, y, width - 1 - x, height - 1 - y)
    right, left = _INNER_LIPS[0], _INNER_LIPS[1]
    wide = np.hypot(pixels[left, 0] - pixels[right, 0], pixels[left, 1] - pixels[right, 1])
    return min(max(room / max(NEAR_EDGE * wide, 1.0), 0.0), 1.0)


def compile_all() -> None:
    """Compile the loop here, or load it from numba's cache."""
    _inside(np.zeros((478, 3), np.float32), 2, 2)
