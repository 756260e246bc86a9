"""The pose that a portrait takes for the motion of a driver, within what a mesh can show."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engines.face.head import Pose, angles_of, project, rotation_of
from engines.face.perspective import rigid_rotation, unit_of
from engines.face.topology import RIGID, RIGID_CANONICAL, RIGID_WEIGHTS
from engines.jit import compiled
from engines.types import LANDMARKS, Motion, Points

PIVOT = np.array([0.0, 0.7, 1.1], np.float32)
"""The point that a head turns about, in the head frame: behind and below the eyes, at the top of the neck."""
TURN_KNEE, TURN_LIMIT = math.radians(24.0), math.radians(34.0)
"""Head turns are kept up to the knee and compressed towards the limit beyond it: a mesh has no far side."""
ASIDE, ASIDE_COSTS, ASIDE_KNEE = math.radians(10.0), 2.0, math.radians(4.0)
"""The yaw from which a portrait looks aside, how much each degree more lowers the knee of turning it back, and the
lowest knee.

The far side of such a portrait is hardly visible: turned to the viewer, a sliver of it would cover half a face.
"""
TURN_PASSES = 2
"""How often a turn is corrected for perspective; the second pass leaves less than a tenth of a degree."""
SHIFT_LIMIT = 0.4
"""How far the head may move in the image, in face scales."""
SCALE_LIMIT = 0.12
"""How much the head's size may change, as a natural logarithm."""


def target_pose(motion: Motion, own: Pose, shape: Points, seen: Points, size: tuple[int, int]) -> Pose:
    """Return the pose of a portrait for a motion.

    own, shape: its pose, and its face in the head frame, (478, 3); seen: (3,) the angles at which a camera sees it;
    size: its width and height. The head turns about the neck until a camera sees it turned by the driver's angles, in
    the perspective of the place that it moves to.
    """
    scale = own.scale * math.exp(SCALE_LIMIT * math.tanh(math.log(motion.scale) / SCALE_LIMIT))
    rotation, origin = _turned(
        own.rotation, own.origin, own.scale, shape, seen, motion.rotation, motion.translation, scale, *size,
        unit_of(size[1]),
    )  # fmt: skip
    return Pose(rotation, origin, scale)


@compiled()
def _turned(
    own_rotation: Any, own_origin: Any, own_scale: float, shape: Any, own_seen: Any, driver_rotation: Any,
    translation: Any, scale: float, width: int, height: int, unit: float,
) -> Any:  # fmt: skip
    """Return the rotation (3, 3) and the origin (3,) of the pose, float32."""
    start, driver = angles_of(own_rotation), angles_of(driver_rotation)
    pivot, reach, origin = np.empty(3, np.float32), np.empty(2, np.float32), np.empty(3, np.float32)
    pixels = np.empty((LANDMARKS, 3), np.float32)
    for k in range(3):
        arm = own_rotation[k, 0] * PIVOT[0] + own_rotation[k, 1] * PIVOT[1] + own_rotation[k, 2] * PIVOT[2]
        pivot[k] = own_scale * arm + own_origin[k]
    for k in range(2):
        # the driver's translation is that of the eyes, which turning about the neck has moved already
        moved = own_scale * SHIFT_LIMIT * np.tanh(translation[k] / SHIFT_LIMIT)
        reach[k] = own_origin[k] + moved - pivot[k]
    limit = np.float32(SHIFT_LIMIT * own_scale)
    turn, rotation = _limited(driver, own_seen[1]), own_rotation
    for look in range(TURN_PASSES + 1):
        rotation = rotation_of(start + turn)
        for k in range(3):
            arm = rotation[k, 0] * PIVOT[0] + rotation[k, 1] * PIVOT[1] + rotation[k, 2] * PIVOT[2]
            origin[k] = pivot[k] - scale * arm
            if k < 2:
                origin[k] += limit * np.tanh((reach[k] + own_scale * arm) / limit)
        if look < TURN_PASSES:
            project(shape, rotation, origin, scale, pixels)
            seen = angles_of(rigid_rotation(pixels, RIGID, RIGID_CANONICAL, RIGID_WEIGHTS, width, height, unit))
            turn = _limited(turn + (driver - (seen - own_seen)), own_seen[1])
    return rotation, origin


@compiled()
def _limited(turn: Any, aside: float) -> Any:
    """Return turn angles (3,) radians within what a mesh can show of a portrait whose own yaw is ``aside``, radians."""
    angle = np.sqrt(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2])
    limited = turn * np.float32(_kept_share(angle, TURN_KNEE))
    if limited[1] * aside < 0:
        knee = max(TURN_KNEE - ASIDE_COSTS * max(abs(aside) - ASIDE, 0.0), ASIDE_KNEE)
        limited[1] *= np.float32(_kept_share(abs(limited[1]), knee))
    return limited


@compiled()
def _kept_share(angle: float, knee: float) -> float:
    """Return the share of an angle that is kept: all of it up to the knee, less and less beyond."""
    if angle <= knee:
        return 1.0
    room = knee * (TURN_LIMIT / TURN_KNEE - 1)
    return float((knee + room * np.tanh((angle - knee) / room)) / angle)


def compile_all() -> None:
    """Compile every loop here, or load it from numba's cache, so that the first frame does not wait for it."""
    shape = np.random.default_rng(0).normal(size=(LANDMARKS, 3)).astype(np.float32)
    rest = np.eye(3, dtype=np.float32)
    motion = Motion(rest, np.zeros(2, np.float32), 1.0, shape, shape)
    target_pose(motion, Pose(rest, np.zeros(3, np.float32), 1.0), shape, np.zeros(3, np.float32), (2, 2))
