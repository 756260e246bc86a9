"""The eyes of a portrait: what is prepared of them, and how they are drawn between their lids."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engines.eyes import eye_raster
from engines.eyes.eye_texture import EyeTexture, eye_textures
from engines.face.head import Pose
from engines.face.opening import CURVE, Opening, trace_edge
from engines.face.topology import EYE_CORNERS, IRISES, LOWER_LID_FOLDS, LOWER_LIDS, UPPER_LID_FOLDS, UPPER_LIDS, Indices
from engines.types import LANDMARKS, Floats, Image, Points

LID_LININGS = (LANDMARKS + np.arange(7), LANDMARKS + 7 + np.arange(7))
"""Points on each lower lid that are fetched from the skin above the upper one.

Between the lids the mesh thus shows more of the upper lid: as it closes, no white of the eye is squeezed into the slit.
The eyeball is drawn there separately.
"""
LINING = 0.3
"""Where on the upper lid these points are fetched, from its edge (0) to its fold (1)."""

EYES = tuple(
    tuple(
        np.ascontiguousarray(part[:: 1 if eye == 0 else -1])
        for part in (EYE_CORNERS[eye], UPPER_LIDS[eye], LOWER_LIDS[eye])
    )
    for eye in range(2)
)
"""Corners, upper and lower lid of each eye, from left to right in the image."""
FOLDS = tuple(np.ascontiguousarray(UPPER_LID_FOLDS[eye][:: 1 if eye == 0 else -1]) for eye in range(2))
"""The fold above each upper lid, from left to right."""


@dataclass(frozen=True, slots=True)
class PortraitEye:
    """An eye as the portrait shows it."""

    opening: Opening
    texture: EyeTexture
    frame: Points
    """(3, 3): three points of the socket in the head frame, which the eyeball moves with."""
    frame_px: Floats
    """(3, 2): the same in the portrait, pixels."""


def portrait_eyes(image: Image, pixels: Points, pose: Pose, shape: Points) -> tuple[PortraitEye, PortraitEye]:
    """Return the right and the left eye of the portrait. ``shape``: the landmarks in the head frame, (478, 3)."""
    measured = []
    for index, (ends, upper, lower) in enumerate(EYES):
        iris = pixels[IRISES[index]]
        radius = max(float(np.linalg.norm(iris[1:, :2] - iris[0, :2], axis=1).mean()), 1.0)
        fold = np.empty(CURVE, np.float32)
        trace_edge(pixels, ends[0], ends[1], FOLDS[index], fold)
        measured.append((Opening.of(pixels, ends, upper, lower), fold, np.append(iris[0, :2], radius)))
    textures = eye_textures(image, measured)
    right, left = (
        PortraitEye(opening, texture, *_socket(EYES[index][0], pose, shape))
        for index, ((opening, _, _), texture) in enumerate(zip(measured, textures, strict=True))
    )
    return right, left


def _socket(ends: Indices, pose: Pose, shape: Points) -> tuple[Points, Floats]:
    """Return ``frame`` and ``frame_px`` of an eye with these corners."""
    a, b = shape[ends[0]], shape[ends[1]]
    third = (a + b) / 2 + np.array([0, 0.5 * np.linalg.norm(b - a), 0], np.float32)
    frame = np.stack([a, b, third]).astype(np.float32)
    return frame, np.ascontiguousarray(pose.project(frame)[:, :2])


def line_lids(fetch: Floats, source: Floats, closure: Floats) -> None:
    """Fetch the gap between lids that nearly meet from the upper lid, and that between open lids from the eye.

    fetch: (N, 2) where the mesh reads the portrait; source: the same for this frame, written to; closure: (2,).
    """
    for eye in range(2):
        eye_raster.line_lid(
            fetch, source, LOWER_LIDS[eye], LID_LININGS[eye], LOWER_LID_FOLDS[eye], float(closure[eye])
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class EyeState:
    """Where an eye is in the output, and what it does."""

    opening: Opening
    to_own: Floats
    """(2, 3) float32: from output pixel to portrait pixel with the head's motion alone."""
    move: Floats
    """(2,) float32: how far the iris moves, pixels of the portrait."""
    fold: Floats
    """The fold above the upper lid, as an edge of the opening."""
    closure: float
    """As in ``engines.mesh.expression.Expression``."""


def eye_state(
    index: int, eye: PortraitEye, own: Pose, pose: Pose, points: Points, rigid: Floats, gaze: Floats, closure: float
) -> EyeState:
    """Return the state of an eye, 0 the right one, 1 the left one.

    own: the portrait's pose, and pose that of the frame; points: (N, 3) the mesh in the output, pixels; rigid: (478, 3)
    its landmarks without expression; gaze: (2,) in face scales.
    """
    to_own, move = np.empty((2, 3), np.float32), np.empty(2, np.float32)
    eye_raster.follow_eye(
        eye.frame, eye.frame_px, EYE_CORNERS[index], own.rotation, own.scale, pose.rotation, pose.origin, pose.scale,
        points, rigid, gaze, to_own, move,
    )  # fmt: skip
    opening, fold = Opening.of(points, *EYES[index]), np.empty(CURVE, np.float32)
    trace_edge(points, EYES[index][0][0], EYES[index][0][1], FOLDS[index], fold)
    return EyeState(opening, to_own, move, fold, closure)


def fill_eye(out: Image, box: tuple[int, int, int, int], image: Image, eye: PortraitEye, state: EyeState) -> None:
    """Draw an eyeball between its lids, and the upper lid over it as it shuts, into ``box`` of ``out``."""
    opening, own, closure, texture = state.opening, eye.opening, max(state.closure, 0.0), eye.texture
    feather = max(1.2, 0.004 * image.shape[0])
    eye_raster.draw_eye(
        out, box, texture.white, texture.disc, texture.corner, opening.ends, opening.upper, opening.lower,
        texture.margin, state.to_own, state.move, texture.shadow, closure, _moved(texture, state), feather,
    )  # fmt: skip
    if closure > 0:
        eye_raster.draw_lid(
            out, box, image, texture.lid, texture.grain, texture.corner, opening.ends, opening.upper, opening.lower,
            state.fold, own.ends, own.upper, own.lower, texture.fold, texture.lash, state.to_own, closure, texture.line,
        )  # fmt: skip


def _moved(texture: EyeTexture, state: EyeState) -> float:
    """Return how far an iris has left its place in the opening of its eye, 0 to 1."""
    radius = texture.iris.across if texture.iris else state.opening.ends[2] - state.opening.ends[0]
    moved = max(math.hypot(*state.move.tolist()) / (0.3 * max(float(radius), 1.0)), -state.closure / 0.2)
    return min(moved, 1.0)
