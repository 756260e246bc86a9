"""The pose from which head motion counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose

DRIFT = np.array([0.0015, 0.003, 0.003], np.float32)
"""How fast the rest pose follows a better one, per second: radians, face scales, and the logarithm of size.

The shape at rest may change in a moment without being noticed. A head that turns while its driver does not is noticed
at once.
"""


def to_sides(pose: Pose, size: tuple[int, int]) -> Pose:
    """Convert a pose from pixels to shorter sides of the image, measured from its middle.

    ``size`` is the image's width and height in pixels. A camera that changes its resolution usually keeps the middle of
    its view and, where it rotates or crops the image, how much of the view the shorter side holds.
    """
    side = float(min(size))
    origin = np.asarray((pose.origin - _middle(size)) / np.float32(side), np.float32)
    return Pose(pose.rotation, origin, pose.scale / side)


def _middle(size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the middle of an image as (3,) float32 pixels."""
    return np.array([size[0] / 2, size[1] / 2, 0], np.float32)


@dataclass(frozen=True, slots=True)
class RestPose:
    """The pose of the driver's head from which its motion counts.

    It follows what the driver usually does so slowly that it is not seen.
    """

    turn: NDArray[np.float32]
    """(3,) float32 radians: the angles at which the camera sees the head, see ``engines.face.perspective``."""
    origin: NDArray[np.float32]
    """(2,) float32: the point between the eyes, in shorter sides of the image from its middle."""
    scale: float
    """Length of a face scale in shorter sides of the image."""

    def towards(self, other: RestPose, weights: NDArray[np.float32]) -> RestPose:
        """Return a pose between this one and another. ``weights``, (3,) in [0, 1], are for turn, origin and scale."""
        turn, origin, scale = weights
        return RestPose(
            np.asarray(self.turn + turn * (other.turn - self.turn), np.float32),
            np.asarray(self.origin + origin * (other.origin - self.origin), np.float32),
            float(self.scale * (other.scale / self.scale) ** scale),
        )

    def drift(self, other: RestPose, seconds: float, *, faster: float = 0.0) -> RestPose:
        """Return this pose moved towards another at the speed of ``DRIFT``, or the other itself once it is reached.

        ``faster`` is added to the speed of the turn, radians per second.
        """
        speed = DRIFT + np.array([faster, 0, 0], np.float32)
        weights = np.minimum(speed * np.float32(seconds) / np.maximum(self.distance(other), 1e-9), 1)
        return other if weights.min() == 1 else self.towards(other, weights)

    def distance(self, other: RestPose) -> NDArray[np.float32]:
        """Return the distance to another pose, (3,) float32: radians, face scales, and the logarithm of size."""
        moved = np.linalg.norm(other.origin - self.origin) / self.scale
        grown = abs(np.log(other.scale / self.scale))
        return np.array([np.abs(other.turn - self.turn).max(), moved, grown], np.float32)

    def mirrored(self) -> RestPose:
        """Return this pose as seen in the horizontally flipped image."""
        turn, origin = self.turn * np.array([1, -1, -1], np.float32), self.origin * np.array([-1, 1], np.float32)
        return RestPose(turn, origin, self.scale)
