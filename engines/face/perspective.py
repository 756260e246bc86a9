"""Measure how far a head is turned, as a pinhole camera sees it.

A face near the camera looks turned when it is off centre, and its nearer parts look larger. With a parallel projection
both would be mistaken for turning: on a webcam by a third of the angle. MediaPipe's face geometry assumes a pinhole
camera and finds the face's distance from its size; this is the same computation, in the axes of this package.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.face.head import turn_angles
from engines.face.procrustes import similarity
from engines.face.topology import RIGID, RIGID_CANONICAL, RIGID_WEIGHTS
from engines.jit import compiled
from engines.types import Points

FIELD = math.radians(63)
"""The assumed vertical angle of view: MediaPipe's, and close to that of most webcams."""


def seen_turn(pixels: Points, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the ``turn_angles`` at which a camera sees a head, (3,) float32 radians.

    ``pixels``: (468 or more, 3) float32 landmarks; ``size``: width and height of their image. Zero is the canonical
    face looking straight ahead.
    """
    width, height = size
    found = rigid_rotation(pixels, RIGID, RIGID_CANONICAL, RIGID_WEIGHTS, width, height, unit_of(height))
    return turn_angles(found)


def unit_of(height: int) -> float:
    """Return the size of a pixel of an image this high in an image plane one unit in front of the camera."""
    return 2 * math.tan(FIELD / 2) / height


@compiled()
def rigid_rotation(pixels: Any, rigid: Any, canonical: Any, weights: Any, width: int, height: int, unit: float) -> Any:
    """Return the rotation of a head as a camera sees it, (3, 3) float64. ``unit``: see ``unit_of``."""
    middle = 0.0
    for i in range(468):
        middle += pixels[i, 2]
    middle /= 468
    count = rigid.shape[0]
    flat, points = np.empty((count, 3)), np.empty((count, 3))
    for i in range(count):
        flat[i, 0] = (pixels[rigid[i], 0] - 0.5 * width) * unit
        flat[i, 1] = (pixels[rigid[i], 1] - 0.5 * height) * unit
        flat[i, 2] = (pixels[rigid[i], 2] - middle) * unit
    # the size of the face gives its distance; a second pass uses the perspective at that distance
    scale = similarity(flat, canonical, weights)[1]
    rotation = np.eye(3)
    for look in range(2):
        for i in range(count):
            depth = (flat[i, 2] + 1.0) / scale
            points[i, 0], points[i, 1], points[i, 2] = flat[i, 0] * depth, flat[i, 1] * depth, depth
        rotation, again, _ = similarity(points, canonical, weights)
        if look == 0:
            scale *= again
    return rotation
