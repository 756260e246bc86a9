"""The generator that needs no weights: it warps a portrait by the portrait's own face mesh.

The 478 landmarks of the portrait move as the driver's do, and rings of points around the face move with them, less and
less towards the still background. Both meshes are rasterised into backward maps, the face with a depth test, and the
face is blended over its surroundings. Eyes and mouth are then drawn into their openings: a lid that closes covers the
iris, and parted lips have an inside.
"""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import CommandError, one_of
from engines.eyes import eye_raster
from engines.eyes.eyes import eye_state, fill_eye, line_lids
from engines.face import head, limited_pose, opening
from engines.face.head import Pose
from engines.face.topology import (
    LOWER_LIDS,
)
from engines.generator import MOUTHS, REGIONS_OF, WARPED_MOUTHS
from engines.layers import layer_raster, mesh_raster
from engines.layers.alpha import AlphaDrawing
from engines.layers.layer import WarpBuffers
from engines.layers.layer_raster import BODY_STEP, FACE_STEP
from engines.mesh import (
    driver_mouth,
    expression,
    lips,
    mouth_cover,
    mouth_light,
    mouth_raster,
    shading,
    surround,
)
from engines.mesh.features import (
    FACE_TRIANGLES,
    RING_TRIANGLES,
    MeshFeatures,
)
from engines.mesh.mouth import Mouth
from engines.mesh.shading import NO_SHADING, ShadedLayer
from engines.mesh.surround import CURTAIN_SEEN, CURTAIN_TRIANGLES, RAYS
from engines.types import LANDMARKS, FaceState, Floats, Image, Mask, Motion, Points, Portrait

HAIRLINE_TURN = np.radians((2.0, 12.0)).tolist()
"""The turns between which the outline is fetched more and more from clear of the hair, radians."""
UNFOLDING_TURN = np.radians((5.0, 13.0)).tolist()
"""The turns to the viewer between which a far side is unfolded more and more, radians."""
_KERNELS = (
    head, limited_pose, opening, mesh_raster, surround, expression, layer_raster, eye_raster, lips, mouth_light,
    mouth_cover, driver_mouth, mouth_raster, shading,
)  # fmt: skip
"""The modules whose loops a frame needs."""
_LOWER_LIDS = np.concatenate(LOWER_LIDS)


class Refiner(Protocol):
    """Changes a frame after it was warped. The thread that drives makes all calls."""

    makes_mouths: bool
    """Whether it makes up the inside of a mouth."""
    enabled: bool
    """Whether it changes frames; may be set between two of them."""

    def refine(self, out: Image, image: Image, own: Points, now: Points, mouth: str) -> None:
        """Change ``out`` (H, W, 3) in place.

        ``image``: the portrait, of the same size; ``own``: its landmarks, (478, 3) pixels; both are the same objects
        for all frames of a portrait. ``now``: the landmarks in ``out``, likewise. ``mouth``: one of ``MOUTHS``,
        ``neural`` too where the driver's mouth is covered or not seen.
        """

    def close(self) -> None:
        """Release everything. Idempotent."""


class MeshGenerator:
    """Warps a portrait by its face mesh, see ``engines.generator.Generator``."""

    name = "mesh"
    random_weights = False
    regions = REGIONS_OF["mesh"]

    def __init__(self, mouth: str = "driver", refiner: Refiner | None = None) -> None:
        """Raises CommandError if ``mouth`` is not among ``mouths``.

        ``refiner`` changes every frame after it was warped; it belongs to the generator from now on.
        """
        self.label = self.name
        self.refiner = refiner
        self.mouths = MOUTHS if refiner is not None and refiner.makes_mouths else WARPED_MOUTHS
        self._mouth = Mouth()
        self.set_mouth(mouth)
        for kernels in _KERNELS:
            kernels.compile_all()
        self._current: Portrait | None = None
        self._out: Image = np.zeros((0, 0, 3), np.uint8)
        self._body = WarpBuffers(1, 1, BODY_STEP)
        self._face = WarpBuffers(1, 1, FACE_STEP)
        self._hair = WarpBuffers(1, 1, FACE_STEP)
        self._curtain: Floats = np.zeros((2 * RAYS + 1, 3), np.float32)
        self._shows = np.zeros((1, 1), np.uint8)
        self._undrawn: Floats = np.zeros((1, 1, 2), np.float32)
        """What the backward map of head and body holds where the mesh does not reach."""
        self._ring_triangles = RING_TRIANGLES
        self._hidden: Mask = np.zeros((1, 1), np.uint8)
        self._last_face = (0, 0, 0, 0)
        self._target: Floats = np.zeros((0, 3), np.float32)
        self._rings: Floats = np.zeros((0, 3), np.float32)
        self._source: Floats = np.zeros((0, 2), np.float32)
        self._own: Points = np.zeros((0, 3), np.float32)
        self._rigid, self._changed = np.empty((2, LANDMARKS, 3), np.float32)
        self._moved: Points = np.zeros((0, 3), np.float32)
        self._shifted = np.zeros(0, np.intp)
        self._unshifted: Floats = np.zeros((0, 2), np.float32)
        self._shifts = self._unshifted, self._unshifted
        self._alpha: AlphaDrawing | None = None
        self._hangs = False
        self._body_source: Floats = np.zeros((0, 2), np.float32)
        self._shaded = ShadedLayer(np.zeros(0, np.uint32), NO_SHADING)
        self._drawn_face: tuple[Floats, NDArray[np.uint8], tuple[int, int]] | None = None

    def prepare(
        self, name: str, image: Image, face: FaceState, matte: Mask | None = None, behind: Image | None = None
    ) -> Portrait:
        """See ``Generator.prepare``."""
        features = MeshFeatures.of(image, face, matte, behind)
        return Portrait(name, (image.shape[1], image.shape[0]), features)

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        """See ``Generator.drive``."""
        features: MeshFeatures = portrait.features
        if self._current is not portrait:
            self._set_portrait(portrait)
        pose = limited_pose.target_pose(motion, features.pose, features.shape, features.seen, portrait.size)
        rigid = self._rigid
        pose.project_into(features.shape, rigid)
        target = features.transfer.apply(motion)
        self._place_points(features, pose, target.shape, rigid)
        line_lids(features.fetch, self._source, target.closure)
        self._shaded.update(target.shape, features.shape, self._shift_fetched(features, pose))
        self._warp(features)
        self._mouth.draw(self._out, self._target, pose, target, motion, driving)
        for index, eye in enumerate(features.eyes):
            gaze, closure = target.gaze[index], float(target.closure[index])
            state = eye_state(index, eye, features.pose, pose, self._target, rigid, gaze, closure)
            fill_eye(self._out, features.box, features.image, eye, state)
        if self.refiner is not None:
            self.refiner.refine(self._out, features.image, self._own, self._target[:LANDMARKS], self._mouth.seen)
        if features.still is not None:
            cv2.copyTo(features.image, features.still, self._out)
        return self._out

    def alpha(self) -> Mask | None:
        """See ``Generator.alpha``."""
        if self._current is None or self._current.features.still is not None:
            return None
        features: MeshFeatures = self._current.features
        if self._alpha is None:
            self._alpha = AlphaDrawing(features.cutout)
        left, top, _, _ = features.box
        place = (left, top, *features.cutout.beyond)
        return self._alpha.draw((self._body.backward, self._shows, place), self._drawn_face)

    @property
    def mouth(self) -> str:
        """See ``Generator.mouth``."""
        return self._mouth.kind

    def set_mouth(self, mouth: str) -> None:
        """See ``Generator.set_mouth``."""
        if mouth not in self.mouths:
            expected = one_of(self.mouths)
            if mouth in MOUTHS:
                found = f"the mouth {mouth}, without a network that makes one up"
                cure = f"choose {expected}, or train the networks and turn them on with --refine on"
                raise CommandError("mouth-needs-network", found, expected, cure)
            raise CommandError("mouth-unknown", f"the mouth {mouth!r}", expected, f"choose {expected}")
        self._mouth.kind = mouth

    @property
    def refined(self) -> bool | None:
        """See ``Generator.refined``."""
        return None if self.refiner is None else self.refiner.enabled

    def set_refined(self, on: bool) -> None:
        """See ``Generator.set_refined``."""
        if self.refiner is None:
            found = f"the generator {self.label}"
            expected = "the mesh with networks that repair its frames"
            raise CommandError("refiner-not-available", found, expected, "start the program with --refine on")
        self.refiner.enabled = on

    def close(self) -> None:
        """See ``Generator.close``."""
        self._current = None
        if self.refiner is not None:
            self.refiner.close()

    def _set_portrait(self, portrait: Portrait) -> None:
        """Allocate the buffers for a portrait."""
        features: MeshFeatures = portrait.features
        self._current = portrait
        self._alpha = None
        self._out = features.image.copy()
        height, width = features.image.shape[:2]
        left, top, right, bottom = features.box
        self._body = WarpBuffers(bottom - top, right - left, BODY_STEP)
        rows, columns = self._body.depth.shape
        self._shows = np.full((rows - 1, columns - 1), layer_raster.ORIGINAL, np.uint8)
        self._face = WarpBuffers(height, width, FACE_STEP)
        self._hair = WarpBuffers(height, width, FACE_STEP)
        self._body_source = features.surround.points[:, :2] + np.array(features.cutout.beyond, np.float32)
        self._undrawn = features.cutout.identity(features.box, BODY_STEP)
        self._ring_triangles = RING_TRIANGLES
        if features.still is None:
            # most of what surrounds the head is background, which is not drawn
            self._undrawn.fill(layer_raster.NOWHERE)
            corners = self._body_source[RING_TRIANGLES]
            self._ring_triangles = np.ascontiguousarray(RING_TRIANGLES[features.cutout.body.shows(corners)])
        self._hidden = np.empty((height // BODY_STEP + 1, width // BODY_STEP + 1), np.uint8)
        self._last_face = (0, 0, 0, 0)
        self._target = np.empty((len(features.fetch), 3), np.float32)
        self._rings = np.empty((len(features.rings), 3), np.float32)
        self._moved = np.empty((len(features.rings) + len(features.near), 3), np.float32)
        self._source = features.fetch.copy()
        self._shifted = np.flatnonzero(features.shifted)
        self._shifts = features.hairline[self._shifted], features.unfolded[self._shifted]
        self._unshifted = features.fetch[self._shifted]
        self._hangs = not bool(features.surround.bare.all())
        self._mouth.set_portrait(features)
        self._shaded = ShadedLayer(features.cutout.face.pixels[0], features.shading, features.far_skin)
        self._own = features.pose.project(features.shape)

    def _place_points(self, features: MeshFeatures, pose: Pose, shape: Points, rigid: Floats) -> None:
        """Compute the points of the mesh in the output. ``rigid``: the landmarks without expression, (478, 3)."""
        target, moved = self._target, self._moved
        pose.project_into(shape, target[:LANDMARKS])
        target[LANDMARKS:] = target[_LOWER_LIDS]
        np.subtract(target[:LANDMARKS], rigid, out=self._changed)
        pose.project_into(features.rings, moved[: len(features.rings)])
        pose.project_into(features.near, moved[len(features.rings) :])
        features.surround.place(
            moved[: len(features.rings)], moved[len(features.rings) :], self._changed, self._rings
        )  # fmt: skip

    def _shift_fetched(self, features: MeshFeatures, pose: Pose) -> float:
        """Fetch the outline of a turned head from clear of the hair, and a far side that comes into view from the skin
        that the portrait shows of it. Return how far that side is unfolded, 0 to 1.
        """
        shifts, unfolded = self._shifts
        if not len(self._shifted):
            return 0.0
        now, own = pose.rotation[:, 2], features.pose.rotation[:, 2]
        # the angle of the turn about any axis but the line of sight, from the direction of the nose
        shifts = np.float32(np.interp(math.acos(min(1.0, float(now @ own))), HAIRLINE_TURN, (0, 1))) * shifts
        # by how much the nose, seen from above, has come nearer to the line of sight
        side = math.copysign(1, own[0])
        towards = math.asin(min(1.0, side * float(own[0]))) - math.asin(max(-1.0, min(1.0, side * float(now[0]))))
        share = float(np.interp(towards, UNFOLDING_TURN, (0, 1)))
        shifts += np.float32(share) * (unfolded - shifts)
        self._source[self._shifted] = self._unshifted + shifts
        return share

    def _warp(self, features: MeshFeatures) -> None:
        """Draw head and body over what is behind them, then the face over both with a soft edge."""
        cutout, target = features.cutout, self._target
        height, width = features.image.shape[:2]
        first_x, first_y, last_x, last_y = mesh_raster.bounds(target[:LANDMARKS])
        x, y = (int(max(first - 4 * FACE_STEP, 0)) // BODY_STEP * BODY_STEP for first in (first_x, first_y))
        right, bottom = int(min(last_x + 4 * FACE_STEP, width)), int(min(last_y + 4 * FACE_STEP, height))
        if right - x < FACE_STEP or bottom - y < FACE_STEP:
            x, y, right, bottom = 0, 0, FACE_STEP, FACE_STEP
        face = self._face.resize(bottom - y, right - x)
        face.depth.fill(mesh_raster.FAR)
        face.backward.fill(layer_raster.NOWHERE)
        half = (FACE_STEP - 1) / 2
        mesh_raster.draw_mesh(
            target, self._source, FACE_TRIANGLES, x - half, y - half, FACE_STEP, face.backward, face.depth
        )
        cover = face.coverage()
        if self._hangs:
            hair = self._hair.resize(bottom - y, right - x)
            hair.depth.fill(mesh_raster.FAR)
            hair.backward.fill(0)
            features.surround.curtain(self._rings, self._curtain)
            mesh_raster.draw_mesh(
                self._curtain, CURTAIN_SEEN, CURTAIN_TRIANGLES, x - half, y - half, FACE_STEP, hair.backward, hair.depth
            )
            mesh_raster.limit_cover(cover, hair.backward, layer_raster.WHOLE)
        layer = cutout.face
        hidden = self._hidden[: (bottom - y) // BODY_STEP, : (right - x) // BODY_STEP]
        layer_raster.find_hidden(layer.kinds, face.backward, cover, hidden)
        self._draw_body(features, (x, y, right, bottom), hidden)
        place = (x, y)
        layer_raster.draw_face(
            self._out, (self._shaded.pixels, *layer.pixels[1:]), layer.kinds, face.backward, cover, place
        )
        self._drawn_face = (face.backward, cover, place)

    def _draw_body(self, features: MeshFeatures, face: tuple[int, int, int, int], hidden: Mask) -> None:
        """Draw head and body into the box.

        face: left, top, right and bottom of the face; hidden: the cells of it, of BODY_STEP, that will be covered.
        """
        last, self._last_face = self._last_face, face
        # what was drawn over the body in the last frame has to go, even where the body did not move
        self._shows[slice(*_cells(last, features.box, 1)), slice(*_cells(last, features.box, 0))] = layer_raster.DRAWN
        cutout, body = features.cutout, self._body
        left, top, _, _ = features.box
        np.copyto(body.backward, self._undrawn)
        body.depth.fill(mesh_raster.FAR)
        half = (BODY_STEP - 1) / 2
        mesh_raster.draw_mesh(
            self._rings,
            self._body_source,
            self._ring_triangles,
            left - half,
            top - half,
            BODY_STEP,
            body.backward,
            body.depth,
        )
        layer, place = cutout.body, (left, top, *cutout.beyond)
        layer_raster.draw_body(
            self._out,
            features.image,
            cutout.behind,
            layer.pixels,
            layer.kinds,
            body.backward,
            self._shows,
            place,
            face,
            hidden,
        )


def _cells(area: tuple[int, int, int, int], box: tuple[int, int, int, int], axis: int) -> tuple[int, int]:
    """Return the first and the last, exclusive, of a box's cells of BODY_STEP that an area covers along an axis."""
    first, last = area[axis] - box[axis], area[axis + 2] - box[axis]
    return max(first // BODY_STEP, 0), max(-(-last // BODY_STEP), 0)
