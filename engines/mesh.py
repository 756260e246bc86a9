"""The generator that needs no weights: a portrait warped by its own face mesh.

The 478 landmarks of the portrait are moved as the driver's moved, and rings of points around the face with them, which
fade into a background that stays still. Both meshes are rasterised into backward maps, the face with a depth test, and
the face is laid over what is around it. Eyes and mouth are then drawn into their openings: a lid that falls covers the
iris, and parted lips have an inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engines import raster
from engines.errors import GeneratorError
from engines.head import Pose, from_turn_angles, own_pose, turn_angles
from engines.topology import (
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LOWER_LID_FOLDS,
    LOWER_LIDS,
    MOUTH_CORNERS,
    OVAL,
    TRIANGLES,
    UPPER_LID_FOLDS,
    UPPER_LIDS,
    Indices,
)
from engines.transfer import ExpressionTransfer
from engines.types import LANDMARKS, FaceState, Image, Motion, Points, Portrait

Floats = NDArray[np.float32]

STEP, AROUND_STEP = 2, 4
"""The backward maps of the face and of what is around it are computed at every so manieth pixel each way."""
PIVOT = np.array([0.0, 0.7, 1.1], np.float32)
"""Where a head turns, in the head frame: behind and below the eyes, at the top of the neck."""
RING_UP = (0.7, 1.0, 1.2, 1.48, 1.72, 2.0)
RING_DOWN = (0.7, 1.0, 1.12, 1.3, 1.55, 1.9)
"""How far out each ring lies above and below the face, in multiples of the outline around its centre.

The innermost ones lie under the face: where a turning face draws back its edge, there is something behind.
"""
RING_FOLLOWS = (1.0, 1.0, 1.0, 0.92, 0.5, 0.0)
"""How much of the head's motion each ring takes; hair follows, the background does not."""
RING_STRETCHES = (1.0, 1.0, 0.6, 0.25, 0.05, 0.0)
"""How much of the outline's own change (a dropped jaw) each ring takes."""
TURN_KNEE, TURN_LIMIT = np.radians(24.0), np.radians(34.0)
"""Head turns are carried over as they are up to the knee and never beyond the limit: a mesh has no far side."""
SHIFT_LIMIT = 0.4
"""How far the head may move in the picture, in face scales."""
SCALE_LIMIT = 0.12
"""How much larger or smaller (natural logarithm) the head may become."""
LID_LININGS = (LANDMARKS + np.arange(7), LANDMARKS + 7 + np.arange(7))
"""Points that lie on each lower lid but are fetched from the skin above the upper one.

What the mesh puts between the lids is thus more of the upper lid: as it falls, no white of the eye is squeezed into the
slit. The eyeball is drawn there by itself.
"""
FIRST_RING = LANDMARKS + 14
LINING = 0.3
"""How far from its edge towards its fold an upper lid is fetched for that."""
CURVE = 33
SKIN = np.array([50, 280, 205, 425, 117, 346, 101, 330, 36, 266], np.intp)
"""Cheeks, where the colour of skin is read."""


@dataclass(frozen=True, slots=True)
class Lens:
    """An opening between two lids or lips, as ``engines.raster`` takes it."""

    ends: Floats
    upper: Floats
    lower: Floats

    @staticmethod
    def of(points: Floats, ends: Indices, upper: Indices, lower: Indices) -> Lens:
        """From landmarks in pixels (N, 2 or more); upper and lower run from the first of the ends to the second."""
        lens = Lens(np.empty(4, np.float32), np.empty(CURVE, np.float32), np.empty(CURVE, np.float32))
        lens.ends[:2], lens.ends[2:] = points[ends[0], :2], points[ends[1], :2]
        raster.trace_edge(points, ends[0], ends[1], upper, lens.upper)
        raster.trace_edge(points, ends[0], ends[1], lower, lens.lower)
        return lens


_LOWER_LIDS = np.concatenate(LOWER_LIDS)
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_NO_MAP = np.empty(0, np.int16)
_EYES = tuple(
    tuple(
        np.ascontiguousarray(part[:: 1 if eye == 0 else -1])
        for part in (EYE_CORNERS[eye], UPPER_LIDS[eye], LOWER_LIDS[eye])
    )
    for eye in range(2)
)
"""Corners, upper and lower lid of each eye, from left to right in the picture."""


@dataclass(frozen=True, slots=True)
class _Eye:
    lens: Lens
    iris: Floats
    """(3,) centre and radius in the portrait, pixels."""
    frame: Points
    """(3, 3): three points of the socket in the head frame, which carry the eyeball."""
    frame_px: Floats
    """(3, 2): the same in the portrait's picture."""


@dataclass(frozen=True, slots=True)
class _Features:
    """What the mesh generator keeps of a portrait."""

    image: Image
    pose: Pose
    shape: Points
    """(478, 3) in the head frame."""
    source: Floats
    """(478 + 14 + rings, 2) pixels: landmarks, linings of the lids, rings."""
    rings: Points
    """(rings, 3) in the head frame."""
    follows: Floats
    """(rings, 1)."""
    stretches: Floats
    """(rings, 1)."""
    transfer: ExpressionTransfer
    eyes: tuple[_Eye, _Eye]
    own_lips: float
    skin: Floats
    """(3,) mean colour of the cheeks."""
    box: tuple[int, int, int, int]
    """What may change: left, top, right, bottom."""
    identity: Floats
    """The backward map of a still picture over the box, every AROUND_STEP pixels, from the box's corner."""
    patch: Image
    """The picture within the box."""
    fetch: Floats
    """``source`` from the box's corner."""


class _Layer:
    """Buffers for one warped layer: a coarse backward map, its depth, the map in full, and the picture."""

    __slots__ = ("_memory", "_pixels", "_step", "coarse", "depth", "full", "picture")

    def __init__(self, height: int, width: int, step: int) -> None:
        """``height`` and ``width`` of the largest picture, in pixels; the coarse map has every ``step``-th."""
        samples = -(-height // step) * -(-width // step)
        self._step = step
        self._memory = (
            np.empty(samples * 2, np.float32),
            np.empty(samples, np.float32),
            np.empty(samples * 2 * step * step, np.float32),
        )
        self._pixels = np.empty(height * width * 3, np.uint8)
        self.part(height, width)

    def part(self, height: int, width: int) -> _Layer:
        """Use as much of the memory as a picture of that size takes; it must not be larger than the whole."""
        step = self._step
        rows, columns = -(-height // step), -(-width // step)
        coarse, depth, full = self._memory
        self.coarse = coarse[: rows * columns * 2].reshape(rows, columns, 2)
        self.depth = depth[: rows * columns].reshape(rows, columns)
        self.full = full[: rows * columns * 2 * step * step].reshape(rows * step, columns * step, 2)
        self.picture = self._pixels[: height * width * 3].reshape(height, width, 3)
        return self

    def look_up(self, image: Image, out: Image) -> None:
        """Interpolate the coarse map and fetch every pixel of ``out`` from ``image``."""
        height, width = out.shape[:2]
        cv2.resize(self.coarse, None, self.full, self._step, self._step, cv2.INTER_LINEAR)
        cv2.remap(image, self.full[:height, :width], _NO_MAP, cv2.INTER_LINEAR, out, cv2.BORDER_REPLICATE)


class MeshGenerator:
    """Warps a portrait by its face mesh. Not thread-safe: one thread owns it."""

    name = "mesh"

    def __init__(self, mouth: str = "driver") -> None:
        if mouth not in ("driver", "painted"):
            raise GeneratorError(f"no mouth is called {mouth!r}", cure="choose driver or painted")
        raster.load()
        self.mouth = mouth
        self._for: Portrait | None = None
        self._out: Image = np.zeros((0, 0, 3), np.uint8)
        self._around = _Layer(1, 1, AROUND_STEP)
        self._face = _Layer(1, 1, STEP)
        self._cover: Image = np.zeros(0, np.uint8)
        self._target: Floats = np.zeros((0, 3), np.float32)
        self._source: Floats = np.zeros((0, 2), np.float32)
        self._tint: Floats | None = None

    def prepare(self, name: str, image: Image, face: FaceState) -> Portrait:
        """See ``Generator.prepare``."""
        image = np.array(image, np.uint8, order="C")
        pixels = face.pixels()
        pose = own_pose(pixels)
        shape = pose.unproject(pixels)
        rings_px, follows, stretches = _rings(pixels)
        height, width = image.shape[:2]
        box = _box(rings_px[-len(OVAL) :, :2], width, height)
        columns, rows = (
            np.arange(-(-(high - low) // AROUND_STEP), dtype=np.float32) * AROUND_STEP + (AROUND_STEP - 1) / 2
            for low, high in (box[::2], box[1::2])
        )
        lips = Lens.of(pixels, MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP)
        linings = [
            pixels[edge] + LINING * (pixels[fold] - pixels[edge])
            for edge, fold in zip(UPPER_LIDS, UPPER_LID_FOLDS, strict=True)
        ]
        source = np.concatenate([pixels, *linings, rings_px])[:, :2].astype(np.float32)
        features = _Features(
            image=image,
            pose=pose,
            shape=shape,
            source=source,
            fetch=source - np.array(box[:2], np.float32),
            rings=pose.unproject(rings_px),
            follows=follows,
            stretches=stretches,
            transfer=ExpressionTransfer(shape),
            eyes=(_eye(0, pixels, pose, shape), _eye(1, pixels, pose, shape)),
            own_lips=float((lips.lower - lips.upper).mean() / np.hypot(*(lips.ends[2:] - lips.ends[:2]))),
            skin=_skin(image, pixels),
            box=box,
            patch=np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]]),
            identity=np.ascontiguousarray(np.stack(np.meshgrid(columns, rows), axis=-1)),
        )
        return Portrait(name, (width, height), features)

    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:
        """See ``Generator.drive``."""
        features: _Features = portrait.features
        if self._for is not portrait:
            self._take(portrait)
        pose = _limited(motion, features.pose)
        wanted = features.transfer(motion)
        self._place(features, pose, wanted.shape)
        self._line_lids(features, wanted.closure)
        self._warp(features)
        target = self._target
        if wanted.lips > 0:
            self._fill_mouth(features, motion, driving, wanted.lips)
        for eye in range(2):
            self._fill_eye(features, eye, pose, wanted.gaze[eye], float(wanted.closure[eye]), target)
        return self._out

    def close(self) -> None:
        """See ``Generator.close``."""
        self._for = None

    def _take(self, portrait: Portrait) -> None:
        features: _Features = portrait.features
        self._for = portrait
        self._out = features.image.copy()
        height, width = features.patch.shape[:2]
        self._around = _Layer(height, width, AROUND_STEP)
        self._face = _Layer(height, width, STEP)
        self._cover = np.empty(height * width, np.uint8)
        self._target = np.empty((len(features.source), 3), np.float32)
        self._source = features.fetch.copy()
        self._tint = None

    def _place(self, features: _Features, pose: Pose, shape: Points) -> None:
        """Where every point of the mesh is in the output."""
        target = self._target
        target[:LANDMARKS] = pose.project(shape)
        target[LANDMARKS:FIRST_RING] = target[_LOWER_LIDS]
        still = features.source[FIRST_RING:]
        moved = pose.project(features.rings)
        target[FIRST_RING:, :2] = still + features.follows * (moved[:, :2] - still)
        rigid = pose.project(features.shape[OVAL])
        dropped = np.tile(target[OVAL, :2] - rigid[:, :2], (len(RING_UP), 1))
        target[FIRST_RING:, :2] += features.stretches * dropped
        target[FIRST_RING:, 2] = 0

    def _line_lids(self, features: _Features, closure: Floats) -> None:
        """Fetch what lies between lids that nearly meet from the upper one, and from the eye where they do not."""
        for eye in range(2):
            share = np.float32(np.clip((closure[eye] - 0.6) / 0.3, 0, 1))
            lower, lining = features.fetch[LOWER_LIDS[eye]], features.fetch[LID_LININGS[eye]]
            fold = features.fetch[LOWER_LID_FOLDS[eye]]
            self._source[LID_LININGS[eye]] = lower + share * (lining - lower)
            # landmarks of a lower lid lie a little inside the eye
            self._source[LOWER_LIDS[eye]] = lower + share * np.float32(0.15) * (fold - lower)

    def _warp(self, features: _Features) -> None:
        """The picture around the face, then the face over it with a soft edge."""
        left, top, right, bottom = features.box
        source, target = self._source, self._target
        corner = np.array([left, top], np.float32)
        target[:, :2] -= corner
        around = self._around
        np.copyto(around.coarse, features.identity)
        around.depth.fill(np.inf)
        raster.draw_mesh(target, source, RING_TRIANGLES, 0, 0, AROUND_STEP, around.coarse, around.depth)
        around.look_up(features.patch, self._out[top:bottom, left:right])

        points = target[: LANDMARKS - 10, :2]
        low = np.maximum(points.min(axis=0) - 2 * STEP, 0).astype(int) // STEP * STEP
        high = np.minimum(points.max(axis=0) + 2 * STEP, (right - left, bottom - top)).astype(int)
        width, height = (int(n) for n in high - low)
        if width >= STEP and height >= STEP:
            face = self._face.part(height, width)
            face.depth.fill(np.inf)
            face.coarse.fill(0)
            x, y = int(low[0]), int(low[1])
            raster.draw_mesh(target, source, FACE_TRIANGLES, x, y, STEP, face.coarse, face.depth)
            face.look_up(features.patch, face.picture)
            # the map is good where all of a sample's neighbours are
            covered = cv2.erode(np.isfinite(face.depth).view(np.uint8) * np.uint8(255), _NEIGHBOURS)
            covered = cv2.blur(covered, (3, 3))
            cover = self._cover[: height * width].reshape(height, width)
            cv2.resize(covered, (width, height), cover, interpolation=cv2.INTER_LINEAR)
            raster.lay_over(self._out, face.picture, cover, left + x, top + y)
        target[:, :2] += corner

    def _fill_eye(
        self, features: _Features, index: int, pose: Pose, gaze: Floats, closure: float, target: Floats
    ) -> None:
        eye = features.eyes[index]
        lens = Lens.of(target, *_EYES[index])
        now = np.ascontiguousarray(pose.project(eye.frame)[:, :2] + self._carried(features, pose, index))
        to_own = cv2.getAffineTransform(now, eye.frame_px).astype(np.float32)
        move = (features.pose.rotation @ np.array([gaze[0], gaze[1], 0], np.float32))[:2] * features.pose.scale
        stretch = 1 - min(closure, 0.0)
        feather = max(1.2, 0.004 * features.image.shape[0])
        raster.draw_eye(
            self._out, features.image, lens.ends, lens.upper, lens.lower, eye.lens.ends, eye.lens.upper,
            eye.lens.lower, to_own, eye.iris, move.astype(np.float32), stretch, max(closure, 0.0), feather,
        )  # fmt: skip
        shut = float(np.clip((closure - 0.6) / 0.3, 0, 1))
        if shut > 0:
            raster.draw_lashes(
                self._out, features.image, lens.ends, lens.upper, lens.lower, eye.lens.ends, eye.lens.upper, shut,
                1.25 * STEP,
            )  # fmt: skip

    def _carried(self, features: _Features, pose: Pose, index: int) -> Floats:
        """How far expression alone moved the corners of an eye, (2,) pixels."""
        ends = EYE_CORNERS[index]
        rigid = pose.project(features.shape[ends])[:, :2]
        return np.asarray((self._target[ends, :2] - rigid).mean(axis=0), np.float32)

    def _fill_mouth(self, features: _Features, motion: Motion, driving: Image | None, lips: float) -> None:
        lens = Lens.of(self._target, MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP)
        opacity = float(np.clip((lips - 0.01) / 0.03, 0, 1))
        if features.own_lips > 0.06:
            # a portrait that shows its teeth keeps them until it is asked to open wider
            opacity *= float(np.clip((lips / features.own_lips - 1.15) / 0.5, 0, 1))
        if opacity <= 0:
            return
        feather = max(1.5, 0.006 * features.image.shape[0])
        if self.mouth == "driver" and driving is not None and motion.face is not None:
            pixels = motion.face.pixels()
            its = Lens.of(pixels, MOUTH_CORNERS, INNER_UPPER_LIP, INNER_LOWER_LIP)
            skin = _skin(driving, pixels)
            tint = np.clip(features.skin / np.maximum(skin, 8), 0.4, 1.8).astype(np.float32)
            self._tint = tint if self._tint is None else self._tint + np.float32(0.1) * (tint - self._tint)
            raster.draw_mouth_from(
                self._out, lens.ends, lens.upper, lens.lower, driving, its.ends, its.upper, its.lower,
                self._tint, opacity, feather,
            )  # fmt: skip
            return
        light = float(features.skin.mean()) / 190
        tone = features.skin / max(float(features.skin.max()), 1.0)
        teeth = np.asarray(np.array([232, 226, 214], np.float32) * min(light, 1.05) * (0.6 + 0.4 * tone), np.float32)
        gum = np.asarray(np.array([168, 84, 84], np.float32) * light, np.float32)
        cavity = np.asarray(np.array([52, 20, 22], np.float32) * light, np.float32)
        raster.paint_mouth(self._out, lens.ends, lens.upper, lens.lower, teeth, gum, cavity, opacity, feather)


def _limited(motion: Motion, own: Pose) -> Pose:
    """The portrait's pose for a motion, within what a mesh can show."""
    turn = turn_angles(motion.rotation)
    angle = float(np.linalg.norm(turn))
    if angle > TURN_KNEE:
        room = TURN_LIMIT - TURN_KNEE
        turn = turn * np.float32((TURN_KNEE + room * np.tanh((angle - TURN_KNEE) / room)) / angle)
    rotation = from_turn_angles(turn_angles(own.rotation) + turn)
    scale = own.scale * float(np.exp(SCALE_LIMIT * np.tanh(np.log(motion.scale) / SCALE_LIMIT)))
    shift = SHIFT_LIMIT * np.tanh(motion.translation / SHIFT_LIMIT)
    pivot = own.project(PIVOT[None])[0]
    # the driver's translation is that of the eyes, and turning about the neck has moved them already
    eyes = pivot - own.scale * rotation @ PIVOT
    lean = own.origin[:2] + own.scale * shift - eyes[:2]
    lean = SHIFT_LIMIT * own.scale * np.tanh(lean / (SHIFT_LIMIT * own.scale))
    origin = pivot - scale * rotation @ PIVOT
    origin[:2] += 0.5 * lean
    return Pose(rotation, origin.astype(np.float32), scale)


def _rings(pixels: Points) -> tuple[Points, Floats, Floats]:
    """Rings of points around the face: (6 * 36, 3) pixels, how much each follows the head, and the jaw."""
    oval = pixels[OVAL]
    centre = (pixels[OVAL[0]] + pixels[OVAL[18]]) / 2
    down = (oval[:, 1:2] - centre[1]) / max(float(np.abs(oval[:, 1] - centre[1]).max()), 1.0)
    depth = pixels[[234, 454], 2].mean()
    share = np.clip(0.5 + 0.5 * down, 0, 1)
    rings, follows, stretches = [], [], []
    for up_factor, down_factor, follow, stretch in zip(RING_UP, RING_DOWN, RING_FOLLOWS, RING_STRETCHES, strict=True):
        factor = up_factor + (down_factor - up_factor) * share
        ring = centre + factor * (oval - centre)
        # hair and neck are as deep as the ears
        ring[:, 2] = oval[:, 2] + np.clip((factor[:, 0] - 1) / 0.5, 0, 1) * (depth - oval[:, 2])
        rings.append(ring)
        follows.append(np.full((len(OVAL), 1), follow))
        stretches.append(np.full((len(OVAL), 1), stretch))
    return (
        np.concatenate(rings).astype(np.float32),
        np.concatenate(follows).astype(np.float32),
        np.concatenate(stretches).astype(np.float32),
    )


def _face_triangles() -> NDArray[np.int32]:
    """The triangles of the face, with those between the lids hung between the upper lid and ``LID_LININGS``."""
    triangles = TRIANGLES.copy()
    for eye in range(2):
        lids = np.concatenate([EYE_CORNERS[eye], UPPER_LIDS[eye], LOWER_LIDS[eye]])
        between = np.isin(triangles, lids).all(axis=1)
        for lower, lining in zip(LOWER_LIDS[eye], LID_LININGS[eye], strict=True):
            triangles[between] = np.where(triangles[between] == lower, lining, triangles[between])
    return triangles


def _ring_triangles() -> NDArray[np.int32]:
    """Two triangles for each gap between the rings, (360, 3) int32."""
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
    left, top = np.floor(outline.min(axis=0)).astype(int) - 2
    right, bottom = np.ceil(outline.max(axis=0)).astype(int) + 3
    return max(int(left), 0), max(int(top), 0), min(int(right), width), min(int(bottom), height)


def _eye(index: int, pixels: Points, pose: Pose, shape: Points) -> _Eye:
    ends, upper, lower = _EYES[index]
    iris = pixels[IRISES[index]]
    radius = float(np.linalg.norm(iris[1:, :2] - iris[0, :2], axis=1).mean())
    a, b = shape[ends[0]], shape[ends[1]]
    third = (a + b) / 2 + np.array([0, 0.5 * np.linalg.norm(b - a), 0], np.float32)
    frame = np.stack([a, b, third]).astype(np.float32)
    return _Eye(
        Lens.of(pixels, ends, upper, lower),
        np.array([iris[0, 0], iris[0, 1], max(radius, 1.0)], np.float32),
        frame,
        np.ascontiguousarray(pose.project(frame)[:, :2]),
    )


def _skin(image: Image, pixels: Points) -> Floats:
    """Mean colour of the cheeks, (3,) float32."""
    height, width = image.shape[:2]
    columns = np.clip(pixels[SKIN, 0], 0, width - 1).astype(np.intp)
    rows = np.clip(pixels[SKIN, 1], 0, height - 1).astype(np.intp)
    return np.asarray(image[rows, columns].mean(axis=0), np.float32)
