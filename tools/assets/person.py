"""Modelled people: what one looks like, and their pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from engines.types import Floats, Image
from tools.assets.clothes import around, garment, glasses
from tools.assets.face_model import Surface, normals
from tools.assets.hair import Brows, Haircut, Lashes, Strands, distance_field, grow_beard, grow_hair
from tools.assets.images import looked_up
from tools.assets.light import Lamp, Studio
from tools.assets.raster import Camera
from tools.assets.scene import Drawn, HeadMesh, Look, draw_head, posed
from tools.assets.shade import Eyes
from tools.assets.skin import RGB, Maps, Skin, beard_area, chart, noise, paint_skin
from tools.assets.strands import draw_strands, hair_shadows, shade_strands

DAYLIGHT = Studio(
    (
        Lamp(-40, 38, 17, (6.0, 5.6, 5.2)),
        Lamp(55, 12, 24, (1.1, 1.2, 1.4)),
        Lamp(145, 28, 18, (4.0, 4.1, 4.4)),
    ),
    (0.34, 0.37, 0.42),
    (0.22, 0.19, 0.17),
)
"""A large window on the left, a faint light from the right, a rim of light from behind."""


class Garment(NamedTuple):
    """What is worn: crew, roll or wide; its colour, knit (0: smooth) and folds."""

    cut: str = "crew"
    colour: RGB = (0.05, 0.08, 0.12)
    knit: float = 0.25
    folds: float = 0.12
    size: float = 1.0


PLAIN, BROWN, NEAR = Garment(), Eyes(), Camera(y=0.3, span=42.0)


def _as_it_is(surface: Surface) -> Surface:
    return surface


@dataclass(frozen=True)
class Person:
    """A modelled person. ``identity`` is in standard deviations of the model's modes; ``face`` ARKit coefficients."""

    identity: dict[int, float]
    skin: Skin
    hair: Haircut | None
    garment: Garment = PLAIN
    eyes: Eyes = BROWN
    face: dict[str, float] = field(default_factory=dict)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    glasses: str = ""
    beard: Haircut | None = None
    lashes: float = 0.7
    brow_grey: float = 0.0
    studio: Studio = DAYLIGHT
    camera: Camera = NEAR
    reshape: Callable[[Surface], Surface] = _as_it_is
    """Changes the head's proportions, for drawings."""


class Quality(NamedTuple):
    """What a picture costs: directions of light, samples along a pixel's side, share of the hairs."""

    directions: int = 160
    samples: int = 3
    density: float = 1.0


class Layers(NamedTuple):
    """A picture before it is finished, each at the size of its samples: ``image`` (H, W, 3) linear light.

    ``cover`` (H, W) is how much of a pixel is covered, ``hair`` how much of it is any hair, ``mass`` that of the
    head.
    """

    image: Floats
    cover: Floats
    hair: Floats
    mass: Floats
    drawn: Drawn


class Sitter:
    """A person made ready to be drawn many times."""

    def __init__(self, mesh: HeadMesh, person: Person, size: tuple[int, int], quality: Quality) -> None:
        """Paint the skin, grow the hair and dress; ``size`` is the picture's height and width."""
        self.mesh, self.person, self.quality = mesh, person, quality
        self.size = size[0] * quality.samples, size[1] * quality.samples
        self.neutral = self.surface({}).points
        self.hair = self._grow_hair()
        skin = person.skin
        self.brows = Brows(
            mesh, skin.brow, int(420 * skin.brow_amount) + 1, skin.brow_width, person.brow_grey, skin.seed
        )
        self.lashes = Lashes(mesh, 75, person.lashes, skin.seed + 1)
        self.look = self._look()
        self.cloth = _cloth(person.garment, self.size, person.camera)

    def _grow_hair(self) -> Strands | None:
        cut, density = self.person.hair, self.quality.density
        self.body = distance_field(self.mesh.subdivision.smooth(self.neutral), self.mesh.fine)
        if cut is None:
            return None
        cut = cut._replace(strands=int(cut.strands * density), width=cut.width / density**0.5)
        return grow_hair(self.mesh, self.neutral, self.body, cut)

    def _look(self) -> Look:
        person = self.person
        worn = person.garment
        extras = [around(garment(worn.cut, worn.size, worn.folds, person.skin.seed), self.body, 0.3)]
        if person.glasses:
            extras.append(glasses(self.mesh.model, self.neutral, person.glasses))
        maps = paint_skin(person.skin)
        return Look(maps, person.eyes, person.studio, person.camera, tuple(extras), directions=self.quality.directions)

    def surface(self, face: dict[str, float]) -> Surface:
        """Return the head with ARKit coefficients, looking ahead."""
        return self.person.reshape(self.mesh.model.head(self.person.identity, face))

    def draw(self, face: dict[str, float], turn: tuple[float, float, float]) -> Layers:
        """Return the sitter with ARKit coefficients ``face``, the head turned as in ``scene.rotation``."""
        surface = self.surface(face)
        points, camera = surface.points, self.person.camera
        groups = [self.brows.strands(points, normals(points, self.mesh.coarse)), self.lashes.strands(points)]
        if self.person.beard:
            groups.append(self._beard(points))
        hair = self.hair if self.hair is not None else groups[0]
        groups = [_turned(strands, turn) for strands in [hair, *groups]]
        sparse = _sparse(groups[0])
        shadow = sparse.points, sparse.width
        drawn = draw_head(self.mesh, surface, turn, self.look, self.size, shadow, self.cloth)
        cover = drawn.cover.astype(np.float32)
        hairs = np.zeros_like(cover)
        mass = hairs
        head = posed(points, self.mesh.follow, turn)
        shadows = hair_shadows(sparse, self.person.studio, head, self.mesh.coarse)
        for number, strands in enumerate(groups):
            if number == 0 and self.hair is None:
                continue
            lit = shade_strands(strands, shadows, camera)
            draw_strands(drawn.image, cover, hairs, drawn.buffers.depth, strands, lit, camera)
            if number == 0:
                mass = hairs.copy()
        return Layers(drawn.image, cover, hairs, mass, drawn)

    def _beard(self, points: Floats) -> Strands:
        cut = self.person.beard
        assert cut is not None
        at = chart(self.mesh.model.neutral)
        area = looked_up(beard_area(), at)
        area = np.where(self.mesh.model.neutral[:, 2] > 0, area, 0)
        cut = cut._replace(strands=int(cut.strands * self.quality.density), width=cut.width / self.quality.density**0.5)
        return grow_beard(self.mesh, points, cut, area)


def _sparse(strands: Strands, every: int = 4) -> Strands:
    """Return fewer, wider strands that throw the same shadow."""
    return Strands(
        strands.points[::every], strands.width[::every] * every, strands.colour[::every], strands.gloss[::every]
    )


def _turned(strands: Strands, turn: tuple[float, float, float]) -> Strands:
    """Return strands that follow the head, their ends on the shoulders less."""
    flat = strands.points.reshape(-1, 3)
    follow = np.clip((flat[:, 1] + 16) / 9, 0, 1)
    return strands._replace(points=posed(flat, follow.astype(np.float32), turn).reshape(strands.points.shape))


def _cloth(worn: Garment, size: tuple[int, int], camera: Camera) -> Maps:
    """Return a garment's colour and slopes, painted in the picture's pixels: it does not move."""
    height, width = size
    scale = height / camera.span
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / scale
    detail = np.zeros((height, width, 4), np.float32)
    middle = np.abs(columns - width / scale / 2)
    rib = columns + 0.02 * middle * np.sin(rows * 0.7)
    stitch = np.abs((rows * 1.9 + 0.35 * np.abs((rib * 2.6) % 1 - 0.5) * 2) % 1 - 0.5)
    detail[..., 0] = worn.knit * 0.5 * np.sin(rib * 2 * np.pi * 2.6)
    detail[..., 1] = worn.knit * (stitch - 0.25)
    tone = 1 + 0.02 * noise(size, scale * 0.25, 5) + 0.25 * worn.knit * (stitch - 0.25)
    tone += 0.12 * worn.knit * np.cos(rib * 2 * np.pi * 2.6)
    colour = np.array(worn.colour, np.float32) * tone[..., None]
    return Maps(np.maximum(colour, 0.001).astype(np.float32), detail)


def reduced(image: Floats, samples: int) -> Floats:
    """Return the mean of each block of ``samples`` by ``samples`` pixels."""
    height, width = image.shape[0] // samples, image.shape[1] // samples
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def tone_map(image: Floats, exposure: float = 0.8, dither: float = 1.0) -> Image:
    """Return linear light as sRGB, (H, W, 3) uint8: Narkowicz's fit of the ACES curve."""
    v = image * exposure
    v = np.clip(v * (2.51 * v + 0.03) / (v * (2.43 * v + 0.59) + 0.14), 0.0, 1.0)
    srgb = np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)
    grain = np.random.default_rng(1).uniform(0.0, 1.0, (*image.shape[:2], 1)) * dither + 0.5 * (1 - dither)
    return np.clip(srgb * 255.0 + grain, 0.0, 255.0).astype(np.uint8)


def backdrop(size: tuple[int, int], lit: RGB, shade: RGB, at: tuple[float, float] = (-0.15, -0.1)) -> Floats:
    """Return a wall (H, W, 3) that is lit around a point: fractions of the height from the middle."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (x + 0.5 - width / 2) / height, (y + 0.5) / height - 0.5
    glow = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 0.30)[..., None]
    return np.asarray((np.array(shade) + (np.array(lit) - np.array(shade)) * glow), np.float32)


def over(layers: Layers, wall: Floats) -> Floats:
    """Return a sitter in front of a wall (H, W, 3); strands were drawn over black where nothing was behind."""
    uncovered = (1 - layers.cover)[..., None]
    return np.asarray(layers.image + wall * uncovered, np.float32)
