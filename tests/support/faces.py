"""Faces made by calculation: shapes with a given expression, and faces in a given pose."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose, own_pose, rotation_matrix
from engines.face.topology import (
    BROW_LOWER_ROWS,
    BROW_UPPER_ROWS,
    CHIN,
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LOWER_LIDS,
    LOWER_LIP_ROWS,
    MOUTH_CORNERS,
    UPPER_LIDS,
)
from engines.types import FaceState, Motion, Points

SIZE = (640, 480)
FRAME_NS = 33_333_333


def shape_of(face: FaceState) -> Points:
    """Return a face's landmarks in its own head frame, (478, 3)."""
    pixels = face.pixels()
    return own_pose(pixels).unproject(pixels)


def distance(shape: Points, ends: NDArray[np.intp]) -> float:
    """Return the distance between two landmarks."""
    return float(np.linalg.norm(shape[ends[1]] - shape[ends[0]]))


def eye_gaps(shape: Points) -> NDArray[np.float32]:
    """Return the gap between each eye's lids over the eye's width, (2,)."""
    gaps = [
        (shape[low, 1] - shape[up, 1])[2:5].mean() / distance(shape, ends)
        for ends, up, low in zip(EYE_CORNERS, UPPER_LIDS, LOWER_LIDS, strict=True)
    ]
    return np.array(gaps, np.float32)


def mouth_gap(shape: Points) -> float:
    """Return the gap between the lips over the mouth's width."""
    gap = (shape[INNER_LOWER_LIP, 1] - shape[INNER_UPPER_LIP, 1])[3:6].mean()
    return float(gap) / distance(shape, MOUTH_CORNERS)


def with_expression(
    shape: Points,
    *,
    jaw: float = 0.0,
    smile: float = 0.0,
    brows: float = 0.0,
    shut: float | tuple[float, float] = 0.0,
    purse: float = 0.0,
    gaze: tuple[float, float] = (0, 0),
) -> Points:
    """Return the shape with an expression.

    The lips are parted by ``jaw`` mouth widths. The corners of the mouth are moved out and up by ``smile`` head units,
    the brows up by ``brows`` head units. The lids are closed by the share ``shut``, of both eyes or of right and left.
    The irises are moved by ``gaze`` eye widths, to the right and down in the image. The lips are made narrower by the
    share ``purse``.
    """
    done = shape.copy()
    drop = jaw * distance(shape, MOUTH_CORNERS) * np.sin(np.linspace(0, np.pi, 11))[1:-1].astype(np.float32)
    for row in (INNER_LOWER_LIP, *LOWER_LIP_ROWS):
        done[row, 1] += drop
    done[CHIN, 1] += 0.8 * drop.max()
    for corner, side in zip(MOUTH_CORNERS, (-1, 1), strict=True):
        near = np.exp(-(((shape[:, :2] - shape[corner, :2]) ** 2).sum(axis=1)) / 0.3**2)
        done[:, :2] += smile * near[:, None] * np.array([side, -1], np.float32)
    done[np.concatenate([*BROW_UPPER_ROWS, *BROW_LOWER_ROWS]), 1] -= brows
    middle = shape[MOUTH_CORNERS, :2].mean(axis=0)
    away = (shape[:, :2] - middle) / distance(shape, MOUTH_CORNERS)
    done[:, 0] -= purse * (shape[:, 0] - middle[0]) * np.exp(-((away / (0.6, 0.5)) ** 4).sum(axis=1))
    shares = np.broadcast_to(np.asarray(shut, np.float32), 2)
    for ends, up, low, iris, share in zip(EYE_CORNERS, UPPER_LIDS, LOWER_LIDS, IRISES, shares, strict=True):
        done[up] += share * (shape[low] - shape[up])
        done[iris, :2] += np.array(gaze, np.float32) * np.float32(distance(shape, ends))
    return done


def head_pose(rotation: Iterable[float] = (0, 0, 0), at: tuple[float, float] = (320, 210), scale: float = 70.0) -> Pose:
    """Return the pose of a head at ``at`` in the image, turned by a rotation vector in radians."""
    return Pose(
        rotation_matrix(np.array(list(rotation), np.float32)), np.array([*at, 0], np.float32), scale
    )  # fmt: skip


def face_state(shape: Points, pose: Pose | None = None, *, time_ns: int = 0, size: tuple[int, int] = SIZE) -> FaceState:
    """Return the FaceState of a tracker without error."""
    return at_pixels((pose or head_pose()).project(shape), time_ns=time_ns, size=size)


def at_pixels(pixels: Points, *, time_ns: int = 0, size: tuple[int, int] = SIZE) -> FaceState:
    """Return the FaceState with its landmarks at these pixels, (478, 3)."""
    return FaceState(0, time_ns, pixels / np.array([size[0], size[1], size[0]], np.float32), size)


def polygon_mask(points: Points, size: tuple[int, int], grow: int = 0) -> NDArray[np.bool_]:
    """Return a mask (H, W) of the pixels inside an outline (N, 2 or more), grown by ``grow`` pixels."""
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(mask, [np.rint(points[:, :2]).astype(np.int32)], (1,))
    return cv2.dilate(mask, np.ones((2 * grow + 1, 2 * grow + 1), np.uint8)).astype(bool)


def inner_lips(face: FaceState) -> Points:
    """Return the outline of the opening between the lips, (20, 3) pixels."""
    outline = np.concatenate(
        [MOUTH_CORNERS[:1], INNER_UPPER_LIP, MOUTH_CORNERS[1:], INNER_LOWER_LIP[::-1]]
    )  # fmt: skip
    return np.asarray(face.pixels()[outline], np.float32)


def make_motion(
    neutral: Points,
    expression: Points | None = None,
    *,
    rotation: Iterable[float] = (0, 0, 0),
    face: FaceState | None = None,
) -> Motion:
    """Return the motion of a driver with this neutral and expression, the head turned by a rotation vector."""
    return Motion(
        rotation=rotation_matrix(np.array(list(rotation), np.float32)),
        translation=np.zeros(2, np.float32),
        scale=1.0,
        neutral=neutral,
        expression=neutral if expression is None else expression,
        face=face,
    )
