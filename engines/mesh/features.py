"""What the mesh generator computes of a portrait: its face in 3-D, the rings around it, its eyes and lips."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose, own_pose
from engines.face.perspective import seen_turn
from engines.face.topology import (
    CHEEKS,
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LOWER_LIDS,
    MOUTH_CORNERS,
    OVAL,
    TRIANGLES,
    UPPER_LID_FOLDS,
    UPPER_LIDS,
    Indices,
)
from engines.mesh.expression import ExpressionTransfer
from engines.mesh.eyes import LID_LININGS, LINING, PortraitEye, portrait_eye
from engines.mesh.hairline import hairline_shifts
from engines.mesh.lens import Lens
from engines.mesh.lips import PortraitLips
from engines.mesh.mouth_light import MouthLight
from engines.types import LANDMARKS, FaceState, Image, Points

Floats = NDArray[np.float32]

RING_UP = (0.7, 1.0, 1.2, 1.48, 1.72, 2.0)
RING_DOWN = (0.7, 1.0, 1.12, 1.3, 1.55, 1.9)
"""The radius of each ring above and below the face, in multiples of the face's outline.

The innermost rings lie under the face, so that there is something behind the edge of a face that turns away.
"""
RING_FOLLOWS = (1.0, 1.0, 1.0, 0.92, 0.5, 0.0)
"""The share of the head's motion that each ring follows: hair moves with the head, the background does not."""
RING_STRETCHES = (1.0, 1.0, 0.6, 0.25, 0.05, 0.0)
"""The share of the outline's own change, such as a dropped jaw, that each ring follows."""
RING_LIMITS = (np.inf, np.inf, np.inf, 1.5, 1.75, 1.97)
"""The largest radius of each ring, in multiples of the convex hull of all landmarks.

The outline of a face that looks aside lies to one side of the hull's middle: without a limit, the rings that move with
the head would reach beyond the head on the other side.
"""
FIRST_RING = LANDMARKS + 14


@dataclass(frozen=True, slots=True)
class MeshFeatures:
    """What the mesh generator computes of a portrait."""

    image: Image
    pose: Pose
    shape: Points
    """(478, 3) in the head frame."""
    source: Floats
    """(478 + 14 + rings, 2) pixels: landmarks, linings of the lids, rings."""
    seen: Floats
    """(3,) the angles at which a camera sees the head, radians; see ``engines.face.perspective``."""
    rings: Points
    """(rings, 3) in the head frame."""
    follows: Floats
    """(rings, 1)."""
    stretches: Floats
    """(rings, 1)."""
    transfer: ExpressionTransfer
    eyes: tuple[PortraitEye, PortraitEye]
    own_lips: float
    light: MouthLight
    box: tuple[int, int, int, int]
    """The part of the image that may change: left, top, right, bottom; the last two exclusive."""
    identity: Floats
    """The backward map of a still image, in pixels from the box's corner.

    It has every ``step``-th pixel of the box, and one sample more on each side.
    """
    patch: Image
    """The image within the box."""
    outside: NDArray[np.uint8]
    """A mask of the box's size: 255 beyond the outermost ring, where nothing changes, and 0 within."""
    fetch: Floats
    """``source`` relative to the box's corner."""
    hairline: Indices
    """The landmarks that hair hangs over, see ``engines.mesh.hairline``."""
    hairline_turned: Floats
    """(hairline, 2): where a turned face fetches them, relative to the box's corner."""
    lips: PortraitLips
    lipless: Image
    """``patch`` without lips."""

    @staticmethod
    def of(image: Image, face: FaceState, step: int) -> MeshFeatures:
        """Compute the features of a portrait in which ``face`` was found; ``identity`` has every ``step``-th pixel."""
        image = np.array(image, np.uint8, order="C")
        pixels = face.pixels()
        pose = own_pose(pixels)
        shape = pose.unproject(pixels)
        rings_px, follows, stretches = _rings(pixels)
        height, width = image.shape[:2]
        box = _box(rings_px[-len(OVAL) :, :2], width, height)
        columns, rows = (
            np.arange(-(-(high - low) // step) + 2, dtype=np.float32) * step + (step - 1) / 2 - step
            for low, high in (box[::2], box[1::2])
        )
        mouth = Lens.of(pixels, MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP)
        linings = [
            pixels[edge] + LINING * (pixels[fold] - pixels[edge])
            for edge, fold in zip(UPPER_LIDS, UPPER_LID_FOLDS, strict=True)
        ]
        source = np.concatenate([pixels, *linings, rings_px])[:, :2].astype(np.float32)
        fetch = source - np.array(box[:2], np.float32)
        shift = hairline_shifts(image, pixels)
        hairline = np.flatnonzero(np.abs(shift).max(axis=1) > 0.1)
        lips = PortraitLips.of(image, pixels, pose, shape)
        return MeshFeatures(
            image=image,
            pose=pose,
            shape=shape,
            seen=seen_turn(pixels, (width, height)),
            source=source,
            fetch=fetch,
            hairline=hairline,
            hairline_turned=fetch[hairline] + shift[hairline],
            rings=pose.unproject(rings_px),
            follows=follows,
            stretches=stretches,
            transfer=ExpressionTransfer(shape),
            eyes=(portrait_eye(0, pixels, pose, shape), portrait_eye(1, pixels, pose, shape)),
            own_lips=float((mouth.lower - mouth.upper).mean() / np.hypot(*(mouth.ends[2:] - mouth.ends[:2]))),
            light=MouthLight.of(image, pixels),
            box=box,
            patch=np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]]),
            lips=lips,
            lipless=np.ascontiguousarray(lips.without_lips(image)[box[1] : box[3], box[0] : box[2]]),
            outside=_outside(rings_px[-len(OVAL) :, :2], box),
            identity=np.ascontiguousarray(np.stack(np.meshgrid(columns, rows), axis=-1)),
        )


def _rings(pixels: Points) -> tuple[Points, Floats, Floats]:
    """Return rings of points around the face, (6 * 36, 3) pixels, and how far each follows the head and the outline."""
    oval = pixels[OVAL]
    centre = (pixels[OVAL[0]] + pixels[OVAL[18]]) / 2
    down = (oval[:, 1:2] - centre[1]) / max(float(np.abs(oval[:, 1] - centre[1]).max()), 1.0)
    depth = pixels[CHEEKS, 2].mean()
    share = np.clip(0.5 + 0.5 * down, 0, 1)
    hull = np.asarray(cv2.convexHull(np.ascontiguousarray(pixels[:, :2], np.float32)), np.float32)[:, 0]
    middle = (hull.min(axis=0) + hull.max(axis=0)) / 2
    rings, follows, stretches = [], [], []
    for up_factor, down_factor, limit, follow, stretch in zip(
        RING_UP, RING_DOWN, RING_LIMITS, RING_FOLLOWS, RING_STRETCHES, strict=True
    ):
        factor = up_factor + (down_factor - up_factor) * share
        ring = centre + factor * (oval - centre)
        away = ring[:, :2] - middle
        ring[:, :2] = middle + away * np.minimum(limit / _hull_scales(away, hull - middle), 1)[:, None]
        # hair and neck are assumed to be as deep as the ears
        ring[:, 2] = oval[:, 2] + np.clip((factor[:, 0] - 1) / 0.5, 0, 1) * (depth - oval[:, 2])
        rings.append(ring)
        follows.append(np.full((len(OVAL), 1), follow))
        stretches.append(np.full((len(OVAL), 1), stretch))
    return (
        np.concatenate(rings).astype(np.float32),
        np.concatenate(follows).astype(np.float32),
        np.concatenate(stretches).astype(np.float32),
    )


def _hull_scales(points: Floats, hull: Floats) -> Floats:
    """Return the factor by which a convex hull (M, 2) around the origin must grow to reach each of ``points``; (N,)."""
    along = np.roll(hull, -1, axis=0) - hull
    normals = np.stack([along[:, 1], -along[:, 0]], axis=1)
    reach = (normals * hull).sum(axis=1)
    edges = np.abs(reach) > 1e-6
    return np.asarray(np.maximum((points @ normals[edges].T / reach[edges]).max(axis=1), 1e-6), np.float32)


def _face_triangles() -> NDArray[np.int32]:
    """Return the triangles of the face, those between the lids attached to ``LID_LININGS`` instead of the lower lid."""
    triangles = TRIANGLES.copy()
    for eye in range(2):
        lids = np.concatenate([EYE_CORNERS[eye], UPPER_LIDS[eye], LOWER_LIDS[eye]])
        between = np.isin(triangles, lids).all(axis=1)
        for lower, lining in zip(LOWER_LIDS[eye], LID_LININGS[eye], strict=True):
            triangles[between] = np.where(triangles[between] == lower, lining, triangles[between])
    return triangles


def _ring_triangles() -> NDArray[np.int32]:
    """Return two triangles for each gap between the rings, (360, 3) int32."""
    count = len(OVAL)
    rows = [FIRST_RING + ring * count + np.arange(count) for ring in range(len(RING_UP))]
    triangles = []
    for inner, outer in pairwise(rows):
        after_inner, after_outer = np.roll(inner, -1), np.roll(outer, -1)
        triangles.append(np.stack([inner, outer, after_inner], axis=1))
        triangles.append(np.stack([after_inner, outer, after_outer], axis=1))
    return np.asarray(np.concatenate(triangles), np.int32)


FACE_TRIANGLES = _face_triangles()
RING_TRIANGLES = _ring_triangles()


def _box(outline: Floats, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the pixels around an outline, the last two exclusive."""
    left, top = np.floor(outline.min(axis=0)).astype(int) - 2
    right, bottom = np.ceil(outline.max(axis=0)).astype(int) + 3
    return max(int(left), 0), max(int(top), 0), min(int(right), width), min(int(bottom), height)


def _outside(outline: Floats, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return a mask of the box's size: 255 outside of the outline, 0 inside."""
    left, top, right, bottom = box
    outside = np.full((bottom - top, right - left), 255, np.uint8)
    cv2.fillPoly(outside, [np.rint(outline - (left, top)).astype(np.int32)], (0,))
    return outside
