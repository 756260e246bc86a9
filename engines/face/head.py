"""The head frame, which is a face's own axes, and the pose of a head in an image.

The origin is between the eyes; x points to the right in the image of a frontal face, y down, z away from the viewer;
one unit, the face scale, is the root mean square distance of the rigid points from their centre, so that faces of
different sizes compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.face.procrustes import similarity
from engines.face.topology import EYE_CORNERS, MIRROR, OVAL, RIGID, RIGID_WEIGHTS
from engines.jit import compiled
from engines.types import Points

Rotation = NDArray[np.float32]
"""(3, 3) float32."""

_ALL_CORNERS = np.concatenate(EYE_CORNERS)
# MediaPipe numbers the points of the right half first
_LEFT = np.flatnonzero(MIRROR[:468] < np.arange(468))
_FOREHEAD, _CHIN = OVAL[0], OVAL[18]


@dataclass(frozen=True, slots=True)
class Pose:
    """The pose of a head in an image: ``pixels = scale * rotation @ point + origin``."""

    rotation: Rotation
    """(3, 3) float32, head to image axes."""
    origin: NDArray[np.float32]
    """(3,) float32, pixels."""
    scale: float
    """Pixels per unit."""

    def project(self, points: Points) -> Points:
        """Return points of the head frame (N, 3) in pixels, (N, 3)."""
        return np.asarray((points @ self.rotation.T) * np.float32(self.scale) + self.origin, np.float32)

    def project_into(self, points: Points, out: Points) -> None:
        """Write points of the head frame (N, 3) in pixels to ``out``, (N, 3); both float32 without gaps."""
        project(points, self.rotation, self.origin, self.scale, out)

    def unproject(self, pixels: Points) -> Points:
        """Return points in pixels (N, 3) in the head frame, (N, 3)."""
        return np.asarray(((pixels - self.origin) @ self.rotation) / np.float32(self.scale), np.float32)


@compiled()
def project(points: Any, rotation: Any, origin: Any, scale: float, out: Any) -> None:
    """Write ``scale * rotation @ point + origin`` of each of the points (N, 3) to ``out``, (N, 3)."""
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for k in range(3):
            along = rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z
            out[i, k] = along * np.float32(scale) + origin[k]


def own_pose(pixels: Points) -> Pose:
    """Return the pose of a face (478, 3) in pixels, found from its symmetry alone.

    The x axis is the mean direction between mirrored points; y runs from forehead to chin.
    """
    x = (pixels[_LEFT] - pixels[MIRROR[_LEFT]]).sum(axis=0)
    x /= np.linalg.norm(x)
    y = pixels[_CHIN] - pixels[_FOREHEAD]
    y = y - x * (x @ y)
    y /= np.linalg.norm(y)
    rotation = np.stack([x, y, np.cross(x, y)], axis=1).astype(np.float32)
    rigid = pixels[RIGID]
    centre = np.average(rigid, axis=0, weights=RIGID_WEIGHTS)
    spread = np.average(((rigid - centre) ** 2).sum(axis=1), weights=RIGID_WEIGHTS)
    return Pose(rotation, pixels[_ALL_CORNERS].mean(axis=0).astype(np.float32), float(np.sqrt(spread)))


def pose_against(pixels: Points, shape: Points) -> Pose:
    """Return the pose that best fits ``shape`` (478, 3; head frame) to a face in pixels, by its rigid points.

    See ``engines.face.procrustes``.
    """
    rotation, scale, origin = similarity(pixels[RIGID], shape[RIGID], RIGID_WEIGHTS)
    return Pose(rotation.astype(np.float32), origin.astype(np.float32), float(scale))


def rotation_vector(rotation: Rotation) -> NDArray[np.float32]:
    """Return the axis times the angle in radians, (3,) float32, of a rotation by less than half a turn."""
    angle = float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    axis = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]],
        np.float32,
    )
    factor = 0.5 if angle < 1e-4 else angle / (2 * np.sin(angle))
    return np.asarray(axis * np.float32(factor), np.float32)


def rotation_matrix(vector: NDArray[np.float32]) -> Rotation:
    """Return the rotation by ``vector``, axis times angle in radians, with Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-8:
        return np.eye(3, dtype=np.float32)
    x, y, z = (float(v) / angle for v in vector)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross), np.float32)


def turn_angles(rotation: Rotation) -> NDArray[np.float32]:
    """Return a rotation as angles about x, y and z in radians, (3,) float32: about x first, about z last.

    Added to the angles of a head, they nod, shake and tilt it about its own axes, whichever way it faces.
    """
    found: NDArray[np.float32] = angles_of(np.ascontiguousarray(rotation))
    return found


@compiled()
def angles_of(rotation: Any) -> Any:
    """Return the ``turn_angles`` of a rotation (3, 3)."""
    angles = np.empty(3, np.float32)
    angles[0] = np.arctan2(rotation[2, 1], rotation[2, 2])
    angles[1] = np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0]))
    angles[2] = np.arctan2(rotation[1, 0], rotation[0, 0])
    return angles


def from_turn_angles(angles: NDArray[np.float32]) -> Rotation:
    """Return the rotation with these ``turn_angles``, the second of which is within a quarter turn."""
    made: Rotation = rotation_of(np.asarray(angles, np.float32))
    return made


@compiled()
def rotation_of(angles: Any) -> Any:
    """Return the rotation (3, 3) with these ``turn_angles``, (3,) float32."""
    rotation = np.empty((3, 3), np.float32)
    sx, sy, sz = np.sin(angles[0]), np.sin(angles[1]), np.sin(angles[2])
    cx, cy, cz = np.cos(angles[0]), np.cos(angles[1]), np.cos(angles[2])
    rotation[0, 0], rotation[0, 1], rotation[0, 2] = cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx
    rotation[1, 0], rotation[1, 1], rotation[1, 2] = sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx
    rotation[2, 0], rotation[2, 1], rotation[2, 2] = -sy, cy * sx, cy * cx
    return rotation


def compile_all() -> None:
    """Compile the loop over points here, or load it from numba's cache."""
    points = np.zeros((1, 3), np.float32)
    Pose(np.eye(3, dtype=np.float32), points[0], 1.0).project_into(points, points)
