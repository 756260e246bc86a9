"""What face landmark models have in common: the interface, a detected face, and the square around a face."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.face.topology import OUTER_EYE_CORNERS
from engines.types import Image, Points

MIN_FACE_PIXELS = 16.0
"""A face whose longer side has fewer pixels shows no expression."""

BLANK_IMAGE: Image = np.zeros((64, 64, 3), np.uint8)
"""An image without a face, for a model's first run."""

_RIGHT_EYE, _LEFT_EYE = OUTER_EYE_CORNERS.tolist()


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """One face that a model has found in an image. ``None`` stands for what the model does not estimate."""

    landmarks: Points
    """(478, 3) float32, normalised as in FaceState."""
    presence: float = 1.0
    """How certain the model is that it sees a face, in [0, 1]."""
    head_matrix: NDArray[np.float32] | None = None
    """(4, 4) float32, as in FaceState."""
    expression: NDArray[np.float32] | None = None
    """(52,) float32, as in FaceState."""

    def is_plausible(self, size: tuple[int, int]) -> bool:
        """Return True if the landmarks are finite, mostly inside the image, and not absurdly close together.

        ``size`` is the image's width and height in pixels.
        """
        if not np.isfinite(self.landmarks).all():
            return False
        points = self.landmarks[:, :2]
        inside = ((points >= 0) & (points <= 1)).all(axis=1)
        extent = np.ptp(points, axis=0) * size
        return bool(inside.mean() > 0.5 and extent.max() >= MIN_FACE_PIXELS)


class FaceBox(NamedTuple):
    """A square around a face, in pixels."""

    x: float
    """The centre."""
    y: float
    """The centre."""
    side: float
    roll: float = 0.0
    """How far the line between the eyes is turned clockwise, in radians."""


Choose = Callable[[Sequence[FaceBox]], Sequence[FaceBox]]
"""Returns those of an image's faces that may be followed, the best first."""


def largest_first(boxes: Sequence[FaceBox]) -> Sequence[FaceBox]:
    """Return all boxes, the largest first."""
    return sorted(boxes, key=lambda box: -box.side)


class LandmarkModel(Protocol):
    """A model that finds faces and their landmarks in a sequence of images. Used by one thread at a time."""

    def detect(self, image: Image, time_ns: int = 0, choose: Choose = largest_first) -> list[DetectedFace]:
        """Return the plausible faces in an RGB image (H, W, 3) uint8 taken at ``time_ns``.

        The search starts where faces were in the previous image. If a face is no longer there, the whole image is
        searched in the same call, and ``choose`` says which of the faces there may be returned.
        """

    def follow(self, box: FaceBox) -> None:
        """Start the next search at the face in ``box``, in pixels of the last image, instead."""

    def reset(self) -> None:
        """Forget where faces were: the next image is searched as a whole."""

    def close(self) -> None:
        """Release the model. Idempotent."""


def bounding_box(landmarks: Points, size: tuple[int, int]) -> FaceBox:
    """Return the square around normalised landmarks (478, 3) in an image of ``size``, (width, height) in pixels."""
    points = landmarks[:, :2] * np.array(size, np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = ((low + high) / 2).tolist()
    across, down = (points[_LEFT_EYE] - points[_RIGHT_EYE]).tolist()
    return FaceBox(x, y, float((high - low).max()), math.atan2(down, across))
