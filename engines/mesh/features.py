"""What the mesh generator computes of a portrait: its face in 3-D, the rings around it, its eyes and lips."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.eyes.eyes import LID_LININGS, LINING, PortraitEye, portrait_eyes
from engines.face.head import Pose, own_pose
from engines.face.opening import Opening
from engines.face.perspective import seen_turn
from engines.face.topology import (
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LOWER_LIDS,
    MOUTH_CORNERS,
    OVAL,
    TRIANGLES,
    UPPER_LID_FOLDS,
    UPPER_LIDS,
)
from engines.layers.cutout import Cutout
from engines.mesh.expression import ExpressionTransfer
from engines.mesh.far_side import FarSkin, unfolding
from engines.mesh.hairline import hair_depths, hairline_shifts
from engines.mesh.lips import PortraitLips
from engines.mesh.mouth_light import MouthLight
from engines.mesh.shading import FaceShading
from engines.mesh.surround import RAYS, Surround, ring_triangles, surround
from engines.types import LANDMARKS, FaceState, Floats, Image, Mask, Points


@dataclass(frozen=True, slots=True)
class MeshFeatures:
    """What the mesh generator computes of a portrait."""

    image: Image
    pose: Pose
    shape: Points
    """(478, 3) in the head frame."""
    seen: Floats
    """(3,) the angles at which a camera sees the head, radians; see ``engines.face.perspective``."""
    surround: Surround
    """The mesh around the face, in pixels."""
    rings: Points
    """Its points in the head frame."""
    near: Points
    """Its ``near`` in the head frame."""
    transfer: ExpressionTransfer
    eyes: tuple[PortraitEye, PortraitEye]
    own_lips: float
    light: MouthLight
    box: tuple[int, int, int, int]
    """The part of the image that may change: left, top, right, bottom; the last two exclusive."""
    still: Mask | None
    """255 where nothing may change, (H, W); see ``Cutout.still``."""
    cutout: Cutout
    shading: FaceShading
    fetch: Floats
    """(478 + 14, 2) where landmarks and the linings of the lids are fetched, pixels from the face layer's corner."""
    hairline: Floats
    """(478, 2) how far a face that is turned shifts where it fetches its landmarks, see ``engines.mesh.hairline``."""
    unfolded: Floats
    """(478, 2) the same for a face whose far side is turned to the viewer, see ``engines.mesh.far_side``."""
    far_skin: FarSkin
    shifted: NDArray[np.bool_]
    """(478,) the landmarks that one of them shifts."""
    lips: PortraitLips

    @staticmethod
    def of(image: Image, face: FaceState, matte: Mask | None, behind: Image | None = None) -> MeshFeatures:
        """Compute the features of a portrait in which ``face`` was found.

        ``matte`` and ``behind`` are as in ``Generator.prepare``.
        """
        image = np.array(image, np.uint8, order="C")
        pixels = face.pixels()
        pose = own_pose(pixels)
        shape = pose.unproject(pixels)
        height, width = image.shape[:2]
        far = unfolding(pixels, shape)
        # an outline that crosses the face says nothing of hair
        depths = np.where(far[OVAL].any(axis=1), np.float32(0), hair_depths(image, pixels))
        around = surround(pixels, depths, matte, (width, height))
        lips = PortraitLips.of(image, pixels, pose, shape)
        hairline = hairline_shifts(pixels, depths)
        cutout = Cutout.of(image, matte, _outline(pixels, far), lips.without_lips(image), behind)
        mouth = Opening.of(pixels, MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP)
        linings = [
            pixels[edge] + LINING * (pixels[fold] - pixels[edge])
            for edge, fold in zip(UPPER_LIDS, UPPER_LID_FOLDS, strict=True)
        ]
        unfolded = np.where(far.any(axis=1, keepdims=True), far, hairline)
        source = np.concatenate([pixels, *linings])[:, :2].astype(np.float32)
        return MeshFeatures(
            image=image,
            pose=pose,
            shape=shape,
            seen=seen_turn(pixels, (width, height)),
            hairline=hairline,
            unfolded=unfolded,
            far_skin=FarSkin.of(
                pixels, far, shape, np.array(cutout.corner, np.float32), cutout.face.pixels[0], cutout.face.pixels[1:]
            ),
            shifted=hairline.any(axis=1) | unfolded.any(axis=1),
            fetch=source - np.array(cutout.corner, np.float32),
            surround=around,
            rings=pose.unproject(around.points),
            near=pose.unproject(around.near),
            transfer=ExpressionTransfer(shape),
            eyes=portrait_eyes(image, pixels, pose, shape),
            own_lips=float((mouth.lower - mouth.upper).mean() / np.hypot(*(mouth.ends[2:] - mouth.ends[:2]))),
            light=MouthLight.of(image, pixels),
            box=cutout.box(around.points[:, :2]),
            still=cutout.still(around.points[-RAYS:, :2]),
            cutout=cutout,
            shading=FaceShading.of(image, pixels, cutout.corner, cutout.face.pixels[1:]),
            lips=lips,
        )


def _outline(pixels: Points, unfolded: Floats) -> Floats:
    """Return the outline of the face's layer, (n, 2) pixels. unfolded: see ``engines.mesh.far_side.unfolding``."""
    if unfolded.any():
        # the outline of the far side lies behind its cheek, which belongs to the face too
        hull = cv2.convexHull(np.ascontiguousarray(pixels[: LANDMARKS - 10, :2], np.float32))
        return np.asarray(hull[:, 0], np.float32)
    return np.asarray(pixels[OVAL, :2], np.float32)


def _face_triangles() -> NDArray[np.int32]:
    """Return the triangles of the face, those between the lids attached to ``LID_LININGS`` instead of the lower lid."""
    triangles = TRIANGLES.copy()
    for eye in range(2):
        lids = np.concatenate([EYE_CORNERS[eye], UPPER_LIDS[eye], LOWER_LIDS[eye]])
        between = np.isin(triangles, lids).all(axis=1)
        for lower, lining in zip(LOWER_LIDS[eye], LID_LININGS[eye], strict=True):
            triangles[between] = np.where(triangles[between] == lower, lining, triangles[between])
    return triangles


FACE_TRIANGLES = _face_triangles()
RING_TRIANGLES = ring_triangles()
