"""The driver's neutral: the shape of the face at rest, and the pose from which head motion counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose, own_pose, rotation_matrix, rotation_vector
from engines.face.perspective import seen_turn
from engines.face.topology import MIRROR
from engines.types import FaceState, Points

FRONTAL, FRONTAL_END = np.radians(5.0), np.radians(15.0)
"""A head that is turned by less than the first angle is taken to be at rest; by more than the second, not at all."""
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
class Neutral:
    """A driver's face at rest, as seen in one frame or averaged over several."""

    shape: Points
    """(478, 3) float32 in the head frame."""
    pose: Pose
    """In shorter sides of the image, from its middle, so that it holds for images of any size."""

    @staticmethod
    def from_face(face: FaceState) -> Neutral:
        """Return the neutral of a driver whose face at rest is ``face``."""
        pixels = face.pixels()
        pose = own_pose(pixels)
        return Neutral(pose.unproject(pixels), to_sides(pose, face.size))

    def facing_camera(self) -> Neutral:
        """Return this neutral with its rotation reduced, to none if the head is turned by ``FRONTAL_END`` or more.

        The rotation of a nearly frontal head is kept: it is how the driver sits. A larger one is taken for a turn away
        from rest, so that head motion counts from the camera's axis.
        """
        turn = rotation_vector(self.pose.rotation)
        tilt = float(np.linalg.norm(turn))
        share = float(np.clip((FRONTAL_END - tilt) / (FRONTAL_END - FRONTAL), 0, 1))
        return replace(self, pose=replace(self.pose, rotation=rotation_matrix(turn * np.float32(share))))

    def towards(self, other: Neutral, weight: float) -> Neutral:
        """Return the neutral between this one (``weight`` 0) and another (1)."""
        turn = rotation_vector(other.pose.rotation @ self.pose.rotation.T)
        pose = Pose(
            rotation_matrix(turn * np.float32(weight)) @ self.pose.rotation,
            np.asarray(self.pose.origin + weight * (other.pose.origin - self.pose.origin), np.float32),
            float(self.pose.scale * (other.pose.scale / self.pose.scale) ** weight),
        )
        shape = np.asarray(self.shape + np.float32(weight) * (other.shape - self.shape), np.float32)
        return Neutral(shape, pose)

    def distance(self, other: Neutral) -> float:
        """Return the largest difference to another neutral: of points and position in face scales, of turn in radians,
        or of the logarithm of size.
        """
        turn = rotation_vector(other.pose.rotation @ self.pose.rotation.T)
        moved = (other.pose.origin - self.pose.origin) / self.pose.scale
        grown = np.log(other.pose.scale / self.pose.scale)
        shape = other.shape - self.shape
        return float(max(np.abs(part).max() for part in (turn, moved, grown, shape)))

    def mirrored(self) -> Neutral:
        """Return this neutral as seen in the horizontally flipped image."""
        flip = np.array([-1, 1, 1], np.float32)
        rotation = self.pose.rotation * flip[:, None] * flip[None, :]
        return Neutral(self.shape[MIRROR] * flip, Pose(rotation, self.pose.origin * flip, self.pose.scale))


@dataclass(frozen=True, slots=True)
class RestPose:
    """The pose of the driver's head from which its motion counts.

    It starts as the pose of the neutral, and follows a better neutral more slowly than the shape does.
    """

    turn: NDArray[np.float32]
    """(3,) float32 radians: the angles at which the camera sees the head, see ``engines.face.perspective``."""
    origin: NDArray[np.float32]
    """(2,) float32: the point between the eyes, in shorter sides of the image from its middle."""
    scale: float
    """Length of a face scale in shorter sides of the image."""

    @staticmethod
    def from_neutral(neutral: Neutral, size: tuple[int, int]) -> RestPose:
        """Return the pose of a neutral in an image of ``size`` (width, height)."""
        pose = neutral.pose
        pixels = pose.project(neutral.shape) * np.float32(min(size)) + _middle(size)
        return RestPose(seen_turn(pixels, size), pose.origin[:2], pose.scale)

    def towards(self, other: RestPose, weights: NDArray[np.float32]) -> RestPose:
        """Return a pose between this one and another. ``weights``, (3,) in [0, 1], are for turn, origin and scale."""
        turn, origin, scale = weights
        return RestPose(
            np.asarray(self.turn + turn * (other.turn - self.turn), np.float32),
            np.asarray(self.origin + origin * (other.origin - self.origin), np.float32),
            float(self.scale * (other.scale / self.scale) ** scale),
        )

    def drift(self, other: RestPose, seconds: float) -> RestPose:
        """Return this pose moved towards another at the speed of ``DRIFT``, or the other itself once it is reached."""
        weights = np.minimum(DRIFT * np.float32(seconds) / np.maximum(self.distance(other), 1e-9), 1)
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
