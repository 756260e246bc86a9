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
from engines.face.head import Pose, from_turn_angles, turn_angles
from engines.face.perspective import seen_turn
from engines.face.topology import (
    LOWER_LIDS,
    OVAL,
)
from engines.generator import MOUTHS, REGIONS_OF
from engines.mesh import eye_raster, lens, mouth_raster, raster
from engines.mesh.eyes import eye_state, fill_eye, line_lids
from engines.mesh.features import (
    FACE_TRIANGLES,
    FIRST_RING,
    RING_TRIANGLES,
    RING_UP,
    MeshFeatures,
)
from engines.mesh.mouth import Mouth
from engines.types import LANDMARKS, FaceState, Image, Mask, Motion, Points, Portrait

Floats = NDArray[np.float32]

STEP, AROUND_STEP = 2, 4
"""The backward maps of the face and of its surroundings are sampled at every 2nd and every 4th pixel."""
PIVOT = np.array([0.0, 0.7, 1.1], np.float32)
"""The point that a head turns about, in the head frame: behind and below the eyes, at the top of the neck."""
TURN_KNEE, TURN_LIMIT = math.radians(24.0), math.radians(34.0)
"""Head turns are kept up to the knee and compressed towards the limit beyond it: a mesh has no far side."""
ASIDE, ASIDE_COSTS, ASIDE_KNEE = math.radians(10.0), 1.3, math.radians(4.0)
"""The yaw from which a portrait looks aside, how much each degree more lowers the knee of turning it back, and the
lowest knee.

The far side of such a portrait is hardly visible: turned to the viewer, a sliver of it would cover half a face.
"""
HAIRLINE_TURN = np.radians((2.0, 12.0)).tolist()
"""The turns between which the outline is fetched more and more from clear of the hair, radians."""
TURN_PASSES = 2
"""How often a turn is corrected for perspective; the second pass leaves less than a tenth of a degree."""
SHIFT_LIMIT = 0.4
"""How far the head may move in the image, in face scales."""
SCALE_LIMIT = 0.12
"""How much the head's size may change, as a natural logarithm."""
_LOWER_LIDS = np.concatenate(LOWER_LIDS)
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_NO_MAP = np.empty(0, np.int16)


class Refiner(Protocol):
    """Changes a frame after it was warped. The thread that drives makes all calls."""

    def refine(self, out: Image, image: Image, own: Points, now: Points, mouth: str) -> None:
        """Change ``out`` (H, W, 3) in place.

        ``image``: the portrait, of the same size; ``own``: its landmarks, (478, 3) pixels; both are the same objects
        for all frames of a portrait. ``now``: the landmarks in ``out``, likewise. ``mouth``: one of ``MOUTHS``,
        ``neural`` too where the driver's mouth is covered or not seen.
        """

    def close(self) -> None:
        """Release everything. Idempotent."""


class _Layer:
    """Buffers for one warped layer: the coarse backward map, its depth and coverage, the full map, and the image."""

    __slots__ = ("_coverage", "_memory", "_pixels", "_step", "coarse", "depth", "full", "image")

    def __init__(self, height: int, width: int, step: int) -> None:
        """Allocate buffers for an image of at most this size in pixels; the coarse map has every ``step``-th."""
        samples = -(-height // step) * -(-width // step)
        self._step = step
        self._memory = (
            np.empty(samples * 2, np.float32),
            np.empty(samples, np.float32),
            np.empty(samples * 2 * step * step, np.float32),
        )
        self._coverage = np.empty((2, samples), np.uint8)
        self._pixels = np.empty(height * width * 3, np.uint8)
        self.resize(height, width)

    def resize(self, height: int, width: int) -> _Layer:
        """Set the size of the image, which must fit the allocated memory, and return the layer itself."""
        step = self._step
        rows, columns = -(-height // step), -(-width // step)
        coarse, depth, full = self._memory
        self.coarse = coarse[: rows * columns * 2].reshape(rows, columns, 2)
        self.depth = depth[: rows * columns].reshape(rows, columns)
        self.full = full[: rows * columns * 2 * step * step].reshape(rows * step, columns * step, 2)
        self.image = self._pixels[: height * width * 3].reshape(height, width, 3)
        return self

    def remap(self, source: Image, out: Image, margin: int = 0) -> None:
        """Interpolate the coarse map and fetch every pixel of ``out`` from ``source``.

        ``margin``: pixels by which the map reaches beyond ``out`` on each side. Without a margin the outermost pixels
        lie outside the samples, and are fetched from a pixel or two away.
        """
        height, width = out.shape[:2]
        cv2.resize(self.coarse, None, self.full, self._step, self._step, cv2.INTER_LINEAR)
        full = self.full[margin : margin + height, margin : margin + width]
        cv2.remap(source, full, _NO_MAP, cv2.INTER_LINEAR, out, cv2.BORDER_REPLICATE)

    def write_mask(self, out: NDArray[np.uint8]) -> None:
        """Write to ``out`` (H, W) how far the mesh covers each pixel, 0 to 255, with a soft edge."""
        coverage, eroded = self._coverage[:, : self.depth.size].reshape(2, *self.depth.shape)
        np.less(self.depth, raster.FAR, out=coverage.view(np.bool_))
        coverage *= np.uint8(255)
        # the interpolated map is valid where all neighbours of a sample are
        cv2.erode(coverage, _NEIGHBOURS, eroded)
        cv2.blur(eroded, (3, 3), coverage)
        cv2.resize(coverage, out.shape[::-1], out, interpolation=cv2.INTER_LINEAR)


class MeshGenerator:
    """Warps a portrait by its face mesh, see ``engines.generator.Generator``."""

    name = "mesh"
    random_weights = False
    regions = REGIONS_OF["mesh"]
    mouths = MOUTHS

    def __init__(self, mouth: str = "driver") -> None:
        """Raises CommandError if ``mouth`` is not among ``MOUTHS``."""
        self.label = self.name
        self._mouth = Mouth()
        self.set_mouth(mouth)
        for kernels in (lens, raster, eye_raster, mouth_raster):
            kernels.compile_all()
        self._current: Portrait | None = None
        self._out: Image = np.zeros((0, 0, 3), np.uint8)
        self._around = _Layer(1, 1, AROUND_STEP)
        self._face = _Layer(1, 1, STEP)
        self._mask: Image = np.zeros(0, np.uint8)
        self._target: Floats = np.zeros((0, 3), np.float32)
        self._source: Floats = np.zeros((0, 2), np.float32)
        self._own: Points = np.zeros((0, 3), np.float32)
        self.refiner: Refiner | None = None
        """Changes every frame after it was warped; None leaves it as it is."""

    def prepare(self, name: str, image: Image, face: FaceState, matte: Mask | None = None) -> Portrait:  # noqa: ARG002
        """See ``Generator.prepare``."""
        features = MeshFeatures.of(image, face, AROUND_STEP)
        return Portrait(name, (image.shape[1], image.shape[0]), features)

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        """See ``Generator.drive``."""
        features: MeshFeatures = portrait.features
        if self._current is not portrait:
            self._set_portrait(portrait)
        pose = _target_pose(motion, features)
        rigid = pose.project(features.shape)[:, :2]
        target = features.transfer.apply(motion)
        self._place_points(features, pose, target.shape, rigid)
        line_lids(features.fetch, self._source, target.closure)
        self._shift_hairline(features, pose)
        self._warp(features)
        self._mouth.draw(self._out, self._target, pose, target, motion, driving)
        for index, eye in enumerate(features.eyes):
            gaze, closure = target.gaze[index], float(target.closure[index])
            state = eye_state(index, eye, features.pose, pose, self._target, rigid, gaze, closure)
            fill_eye(self._out, features.box, features.image, eye, state)
        if self.refiner is not None:
            self.refiner.refine(self._out, features.image, self._own, self._target[:LANDMARKS], self._mouth.seen)
        left, top, right, bottom = features.box
        # an extreme motion folds the rings over their own edge
        cv2.copyTo(features.patch, features.outside, self._out[top:bottom, left:right])
        return self._out

    @property
    def mouth(self) -> str:
        """See ``Generator.mouth``."""
        return self._mouth.kind

    def set_mouth(self, mouth: str) -> None:
        """See ``Generator.set_mouth``."""
        if mouth not in self.mouths:
            expected = one_of(self.mouths)
            raise CommandError("mouth-unknown", f"the mouth {mouth!r}", expected, f"choose {expected}")
        self._mouth.kind = mouth

    def close(self) -> None:
        """See ``Generator.close``."""
        self._current = None
        if self.refiner is not None:
            self.refiner.close()

    def _set_portrait(self, portrait: Portrait) -> None:
        """Allocate the buffers for a portrait."""
        features: MeshFeatures = portrait.features
        self._current = portrait
        self._out = features.image.copy()
        height, width = features.patch.shape[:2]
        self._around = _Layer(height + 2 * AROUND_STEP, width + 2 * AROUND_STEP, AROUND_STEP)
        self._face = _Layer(height, width, STEP)
        self._mask = np.empty(height * width, np.uint8)
        self._target = np.empty((len(features.source), 3), np.float32)
        self._source = features.fetch.copy()
        self._mouth.set_portrait(features)
        self._own = features.pose.project(features.shape)

    def _place_points(self, features: MeshFeatures, pose: Pose, shape: Points, rigid: Floats) -> None:
        """Compute the points of the mesh in the output. ``rigid``: the landmarks without expression, (478, 2)."""
        target = self._target
        target[:LANDMARKS] = pose.project(shape)
        target[LANDMARKS:FIRST_RING] = target[_LOWER_LIDS]
        still = features.source[FIRST_RING:]
        moved = pose.project(features.rings)
        target[FIRST_RING:, :2] = still + features.follows * (moved[:, :2] - still)
        dropped = np.tile(target[OVAL, :2] - rigid[OVAL], (len(RING_UP), 1))
        target[FIRST_RING:, :2] += features.stretches * dropped
        target[FIRST_RING:, 2] = 0

    def _shift_hairline(self, features: MeshFeatures, pose: Pose) -> None:
        """Fetch the outline from clear of the hair over it, the more the head is turned."""
        hairline = features.hairline
        if len(hairline):
            # the angle of the turn about any axis but the line of sight, from the direction of the nose
            nose = math.acos(min(1.0, float(pose.rotation[:, 2] @ features.pose.rotation[:, 2])))
            share = np.float32(min(max(nose - HAIRLINE_TURN[0], 0) / (HAIRLINE_TURN[1] - HAIRLINE_TURN[0]), 1))
            own = features.fetch[hairline]
            self._source[hairline] = own + share * (features.hairline_turned - own)

    def _warp(self, features: MeshFeatures) -> None:
        """Draw the surroundings of the face, then the face over them with a soft edge."""
        left, top, right, bottom = features.box
        source, target = self._source, self._target
        corner = np.array([left, top], np.float32)
        target[:, :2] -= corner
        around = self._around
        np.copyto(around.coarse, features.identity)
        around.depth.fill(raster.FAR)
        edge = -AROUND_STEP
        raster.draw_mesh(target, source, RING_TRIANGLES, edge, edge, AROUND_STEP, around.coarse, around.depth)
        around.remap(features.patch, self._out[top:bottom, left:right], AROUND_STEP)

        points = target[: LANDMARKS - 10, :2]
        low = np.maximum(points.min(axis=0) - 2 * STEP, 0).astype(int) // STEP * STEP
        high = np.minimum(points.max(axis=0) + 2 * STEP, (right - left, bottom - top)).astype(int)
        width, height = (int(n) for n in high - low)
        if width >= STEP and height >= STEP:
            face = self._face.resize(height, width)
            face.depth.fill(raster.FAR)
            face.coarse.fill(0)
            x, y = int(low[0]), int(low[1])
            raster.draw_mesh(target, source, FACE_TRIANGLES, x, y, STEP, face.coarse, face.depth)
            face.remap(features.lipless, face.image)
            mask = self._mask[: height * width].reshape(height, width)
            face.write_mask(mask)
            raster.blend_over(self._out, face.image, mask, left + x, top + y)
        target[:, :2] += corner


def _target_pose(motion: Motion, features: MeshFeatures) -> Pose:
    """Return the portrait's pose for a motion, within what a mesh can show.

    The head turns about the neck until a camera sees it turned by the driver's angles, in the perspective of the place
    that it moves to.
    """
    own = features.pose
    height, width = features.image.shape[:2]
    start, driver = turn_angles(own.rotation), turn_angles(motion.rotation)
    scale = own.scale * math.exp(SCALE_LIMIT * math.tanh(math.log(motion.scale) / SCALE_LIMIT))
    pivot = own.project(PIVOT[None])[0]
    # the driver's translation is that of the eyes, which turning about the neck has moved already
    reach = own.origin[:2] + own.scale * SHIFT_LIMIT * np.tanh(motion.translation / SHIFT_LIMIT) - pivot[:2]
    limit = np.float32(SHIFT_LIMIT * own.scale)

    def turned(turn: Floats) -> Pose:
        rotation = from_turn_angles(start + turn)
        arm = rotation @ PIVOT
        origin = pivot - np.float32(scale) * arm
        origin[:2] += limit * np.tanh((reach + np.float32(own.scale) * arm[:2]) / limit)
        return Pose(rotation, origin, scale)

    aside = float(features.seen[1])
    turn = _limited(driver, aside)
    for _ in range(TURN_PASSES):
        seen = seen_turn(turned(turn).project(features.shape), (width, height)) - features.seen
        turn = _limited(turn + (driver - seen), aside)
    return turned(turn)


def _limited(turn: Floats, aside: float) -> Floats:
    """Return turn angles (3,) radians within what a mesh can show of a portrait whose own yaw is ``aside``, radians."""
    turn = turn * np.float32(_kept_share(math.hypot(*turn.tolist()), TURN_KNEE))
    if turn[1] * aside < 0:
        turn[1] *= _kept_share(
            abs(float(turn[1])), max(TURN_KNEE - ASIDE_COSTS * max(abs(aside) - ASIDE, 0), ASIDE_KNEE)
        )
    return np.asarray(turn, np.float32)


def _kept_share(angle: float, knee: float) -> float:
    """Return the share of an angle that is kept: all of it up to the knee, less and less beyond."""
    if angle <= knee:
        return 1.0
    room = knee * (TURN_LIMIT / TURN_KNEE - 1)
    return (knee + room * math.tanh((angle - knee) / room)) / angle
