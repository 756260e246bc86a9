"""Crop a face for the networks: upright, at one size, a little above its middle.

The published networks were trained on crops of the kind made here: turned so that the line from the eyes to the mouth
is vertical, 2.3 times as large as the face, its middle an eighth of the face higher (LivePortrait, arXiv 2407.03168).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import EYE_CORNERS, MOUTH_CORNERS
from engines.types import Image, Points

SCALE = 2.3
"""Side of the crop over the longer side of the face."""
UP = 0.125
"""How far the crop's middle lies above the face's, in faces."""
_EYES = np.concatenate(EYE_CORNERS)

MOVED, GROWN, TURNED = 0.10, 0.12, math.radians(8)
"""A stable crop stands still until the face has moved so far in it: a share of the crop's side, of its size, and an
angle. Smaller motion is the driver's and must not be removed."""
CATCH_UP_S = 0.4
"""Time constant with which the crop then follows."""
ARRIVED = 0.02
"""When it is so near, in the same measures, it stands still again."""


@dataclass(frozen=True, slots=True)
class Window:
    """A square in an image, possibly turned."""

    x: float
    y: float
    side: float
    """Pixels."""
    angle: float
    """Radians, clockwise."""

    def matrix(self, size: int) -> NDArray[np.float32]:
        """Return the affine map (2, 3) from the image to a crop of ``size`` pixels, pixel centres to pixel centres."""
        scale = size / self.side
        cos, sin = scale * math.cos(self.angle), scale * math.sin(self.angle)
        middle = (size - 1) / 2
        return np.array(
            [[cos, sin, middle - cos * self.x - sin * self.y], [-sin, cos, middle + sin * self.x - cos * self.y]],
            np.float32,
        )

    def cut(self, image: Image, out: Image) -> Image:
        """Crop an image into ``out`` (size, size, 3) and return it; what lies outside repeats the nearest edge."""
        size = out.shape[0]
        cv2.warpAffine(image, self.matrix(size), (size, size), out, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
        return out

    def mirrored(self, width: int) -> Window:
        """Return the same square in the flipped image of this width."""
        return Window(width - self.x, self.y, self.side, -self.angle)

    def resized(self, old: tuple[int, int], new: tuple[int, int]) -> Window:
        """Return the same square in an image of another width and height, scaled about the centre."""
        factor = min(new) / min(old)
        x, y = (to / 2 + factor * (at - of / 2) for at, of, to in zip((self.x, self.y), old, new, strict=True))
        return Window(x, y, factor * self.side, self.angle)

    def difference(self, other: Window) -> tuple[float, float, float]:
        """Return how far another one is from it: place over side, size as a natural logarithm, angle."""
        turn = math.remainder(other.angle - self.angle, 2 * math.pi)
        place = math.hypot(other.x - self.x, other.y - self.y) / self.side
        return place, abs(math.log(other.side / self.side)), abs(turn)

    def towards(self, other: Window, weight: float) -> Window:
        """Return the window that is ``weight`` of the way to another."""
        turn = math.remainder(other.angle - self.angle, 2 * math.pi)
        return Window(
            self.x + weight * (other.x - self.x),
            self.y + weight * (other.y - self.y),
            self.side * (other.side / self.side) ** weight,
            self.angle + weight * turn,
        )


def to_tensor(crop: Image, out: NDArray[np.float32]) -> None:
    """Convert a crop (n, n, 3) into ``out`` (1, 3, n, n) float32 in [0, 1], as the networks take it."""
    np.multiply(crop.transpose(2, 0, 1)[None], np.float32(1 / 255), out=out, casting="unsafe")


def crop_window(pixels: Points) -> Window:
    """Return the crop of a face with these landmarks, (468 or more, 2 or 3) pixels."""
    eyes, mouth = pixels[_EYES, :2].mean(axis=0), pixels[MOUTH_CORNERS, :2].mean(axis=0)
    down = mouth - eyes
    down = down / max(float(np.linalg.norm(down)), 1e-6)
    right = np.array([down[1], -down[0]])
    along = pixels[:468, :2] @ np.stack([right, down], axis=1)
    low, high = along.min(axis=0), along.max(axis=0)
    face = max(float((high - low).max()), 1.0)
    middle = (low + high) / 2 - np.array([0, UP * face])
    x, y = (middle @ np.stack([right, down])).tolist()
    return Window(x, y, SCALE * face, math.atan2(right[1], right[0]))


class StableCrop:
    """The crop of a live face, which stands still while the face is well inside and follows one that moves away.

    A crop that moved with every landmark would make the head pulsate. Time is real time.
    """

    def __init__(self) -> None:
        self._window: Window | None = None
        self._time_ns = 0
        self._following = False

    def update(self, pixels: Points, time_ns: int) -> Window:
        """Return the crop for a face seen at ``time_ns``."""
        wanted = crop_window(pixels)
        elapsed = (time_ns - self._time_ns) / 1e9
        self._time_ns = time_ns
        if self._window is None or not 0 <= elapsed <= 2:
            self._window, self._following = wanted, False
            return wanted
        place, size, turn = self._window.difference(wanted)
        if place > MOVED or size > GROWN or turn > TURNED:
            self._following = True
        elif max(place, size, turn) < ARRIVED:
            self._following = False
        if self._following:
            self._window = self._window.towards(wanted, 1 - math.exp(-elapsed / CATCH_UP_S))
        return self._window

    def mirror(self, width: int) -> None:
        """Continue in the flipped image of this width."""
        if self._window is not None:
            self._window = self._window.mirrored(width)

    def resize(self, old: tuple[int, int], new: tuple[int, int]) -> None:
        """Continue in an image of another width and height."""
        if self._window is not None:
            self._window = self._window.resized(old, new)

    def reset(self) -> None:
        """Forget the crop: the next face gets a new one."""
        self._window = None
