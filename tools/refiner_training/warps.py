"""The program's own warps of one frame of a clip to the face of another frame of it, and their crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.face.coefficients import canonical_shape
from engines.face.head import from_turn_angles, pose_against
from engines.face.perspective import seen_turn
from engines.mesh.generator import MeshGenerator
from engines.mesh.refine_crops import Region, crop, frame_of, to_crop
from engines.types import FaceState, Floats, Image, Motion, Points, Portrait
from tools.refiner_training.clips import FACE_SHARE, SIDE, Shot

SETTLED = 2
"""How often a driver's frame is shown before the one that counts."""
ROUNDS = 3
"""How often a motion is corrected until the warp's landmarks lie on the true ones."""
DAMPED = np.float32(0.85)
UNIT_PIXELS = 0.29 * FACE_SHARE * SIDE
"""Pixels of a face scale in a cut frame: it is about 0.29 of the height of a face."""


@dataclass(frozen=True, slots=True)
class Warp:
    """A warped frame and its landmarks, (478, 3) pixels."""

    image: Image
    pixels: Points


class Warper:
    """Drives a portrait made of one frame of a clip by others of it, through the interface of the generator."""

    makes_mouths = False
    enabled = True

    def __init__(self, mouth: str = "painted") -> None:
        """``mouth``: one of ``engines.generator.WARPED_MOUTHS``."""
        self._generator = MeshGenerator(mouth, self)
        self._mouth = mouth
        self.image: Image = np.zeros((0, 0, 3), np.uint8)
        """The portrait, as the generator hands it to a refiner."""
        self.own: Points = np.zeros((0, 3), np.float32)
        """Its landmarks, likewise, (478, 3) pixels."""
        self._now: Points = np.zeros((0, 3), np.float32)
        self._portrait: Portrait | None = None
        self._source: Shot | None = None
        self._seen: Sequence[tuple[Image, FaceState]] = ()

    def refine(self, out: Image, image: Image, own: Points, now: Points, mouth: str) -> None:  # noqa: ARG002
        """Keep the landmarks of the frame; see ``engines.mesh.generator.Refiner``."""
        self.image, self.own, self._now = image, own, now.copy()

    def close(self) -> None:
        """Do nothing; see ``engines.mesh.generator.Refiner``."""

    def set_source(self, shot: Shot) -> None:
        """Make ``shot`` the portrait."""
        self._source = shot
        self._portrait = self._generator.prepare("source", shot.image, shot.face())

    def set_mouth(self, mouth: str) -> None:
        """Choose how an open mouth is filled."""
        self._generator.set_mouth(mouth)

    def watch(self, seen: Sequence[tuple[Image, FaceState]]) -> None:
        """Let the generator see a new driver's pictures and faces before the next mouth of this driver is shown."""
        self._seen = seen

    def fit(self, target: Shot) -> Motion:
        """Return the motion that lays the portrait's landmarks onto those of ``target``.

        The transfer of expressions changes what it is asked for, so the motion is corrected by what comes of it.
        """
        motion = self._first_motion(target)
        true = canonical_shape(target.pixels)
        for _ in range(ROUNDS):
            self.warp(motion)
            away = true - canonical_shape(self._now)
            motion = _with_expression(motion, motion.expression + DAMPED * away)
        return motion

    def warp(
        self, motion: Motion, noise: Floats | None = None, driving: Image | None = None, face: FaceState | None = None
    ) -> Warp:
        """Return the portrait with a motion applied.

        ``noise``: added to the expression, (478, 3) head units; ``driving`` and ``face``: the driver's picture, whose
        mouth is shown, and the face in it.
        """
        assert self._portrait is not None
        if noise is not None:
            motion = _with_expression(motion, motion.expression + noise)
        if face is not None:
            # the light on a driver is known after a while, and the edges of the lips after some frames
            for picture, other in (*self._seen, *[(driving, face)] * SETTLED):
                self._generator.drive(self._portrait, _with_face(motion, other), picture)
            self._seen = ()
            motion = _with_face(motion, face)
        image = self._generator.drive(self._portrait, motion, driving).copy()
        return Warp(image, self._now)

    def _first_motion(self, target: Shot) -> Motion:
        source = self._source
        assert source is not None
        neutral, expression = canonical_shape(source.pixels), canonical_shape(target.pixels)
        start, end = pose_against(source.pixels, neutral), pose_against(target.pixels, neutral)
        turn = seen_turn(target.pixels, (SIDE, SIDE)) - seen_turn(source.pixels, (SIDE, SIDE))
        return Motion(
            rotation=from_turn_angles(turn),
            translation=np.asarray((end.origin[:2] - start.origin[:2]) / start.scale, np.float32),
            scale=float(end.scale / start.scale),
            neutral=neutral,
            expression=expression,
        )


def _with_expression(motion: Motion, expression: Floats) -> Motion:
    return Motion(
        motion.rotation, motion.translation, motion.scale, motion.neutral, np.asarray(expression, np.float32),
        face=motion.face,
    )  # fmt: skip


def _with_face(motion: Motion, face: FaceState) -> Motion:
    return Motion(motion.rotation, motion.translation, motion.scale, motion.neutral, motion.expression, face=face)


def landmark_noise(random: np.random.Generator, sigma: float) -> Floats:
    """Return noise of landmarks, (478, 3) head units, of ``sigma`` pixels in a frame of ``SIDE`` pixels."""
    return np.asarray(random.normal(0, sigma / UNIT_PIXELS, (478, 3)), np.float32)


@dataclass(frozen=True, slots=True)
class Cut:
    """A crop of a frame, (size, size, 3), and the landmarks in its samples, (478, 2)."""

    image: Image
    points: Floats


def cut(image: Image, pixels: Points, region: Region, margin: int = 0) -> Cut:
    """Return the crop of a region with ``margin`` samples more on each side; landmarks are without the margin."""
    frame = frame_of(pixels, region)
    points = to_crop(pixels, frame)
    frame[:, 2] -= frame[:, :2] @ np.full(2, margin, np.float32)
    return Cut(crop(image, frame, region.size + 2 * margin), points)
