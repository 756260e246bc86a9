"""How a camera sees a head turned.

A face near the camera looks turned when it is merely off centre, and its nearer parts look larger. Reading a head's
angles as if light came in parallel mistakes both for turning: on a webcam by a third of the angle. MediaPipe's face
geometry takes the camera for a pinhole and recovers the face's distance from its size; this is the same reading, in the
axes of this package.
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
"""The angle of view assumed, from the top to the bottom of the picture: MediaPipe's, and near that of most webcams."""


def seen_turn(pixels: Points, size: tuple[int, int]) -> NDArray[np.float32]:
    """The angles of ``turn_angles`` at which a camera sees a head, (3,) float32 radians.

    ``pixels``: (468 or more, 3) float32 landmarks, ``size`` the width and height of the picture they are in. Zero is
    the canonical face looking straight ahead.
    """
    width, height = size
    unit = 2 * math.tan(FIELD / 2) / height
    return turn_angles(_rotation(pixels, RIGID, RIGID_CANONICAL, RIGID_WEIGHTS, width, height, unit))


@compiled()
def _rotation(pixels: Any, rigid: Any, canonical: Any, weights: Any, width: int, height: int, unit: float) -> Any:
    """(3, 3) float64. ``unit``: the size of a pixel on a picture held one unit in front of the camera."""
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
    # how large the face is says how far away it is; a second look takes the perspective at that distance into account
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
