"""Makes the pictures of the gallery: draws the sitter, then paints the drawing in the picture's style."""

from __future__ import annotations

import numpy as np

from engines.types import Floats, Image
from tools.assets.drawing import charcoal, watercolour
from tools.assets.face_model import EYE
from tools.assets.gallery import Picture
from tools.assets.illustration import illustrate
from tools.assets.images import blurred
from tools.assets.oil import Brushes, oil
from tools.assets.person import Layers, Person, Quality, Sitter, backdrop, over, reduced, tone_map
from tools.assets.scene import HeadMesh
from tools.assets.statue import Statue, carve


def make_picture(mesh: HeadMesh, picture: Picture, size: tuple[int, int], quality: Quality) -> Image:
    """Return a picture of the gallery, (H, W, 3) uint8 sRGB; ``size`` is its height and width."""
    sitter = picture.sitter
    samples = quality.samples
    large = size[0] * samples, size[1] * samples
    wall = backdrop(large, *picture.wall)
    if isinstance(sitter, Statue):
        light, cover = carve(mesh, sitter, large, quality.directions)
        return tone_map(reduced(np.where(cover[..., None] > 0, light, wall), samples), picture.exposure)
    drawn = Sitter(mesh, sitter, size, quality)
    layers = drawn.draw(sitter.face, sitter.turn)
    if picture.palette is not None:
        return _eight_bits(reduced(illustrate(drawn, layers, drawn.surface(sitter.face), picture.palette), samples))
    plain = tone_map(reduced(over(layers, wall), samples), picture.exposure)
    return plain if picture.style == "photograph" else _painted(picture, plain, layers, samples)


def _painted(picture: Picture, plain: Image, layers: Layers, samples: int) -> Image:
    assert isinstance(picture.sitter, Person)
    image = plain.astype(np.float32) / 255
    cover, seed = reduced(layers.cover, samples), picture.sitter.skin.seed
    if picture.style == "charcoal":
        return _eight_bits(charcoal(image, cover, seed=seed))
    detail = _detail(layers, samples)
    if picture.style == "watercolour":
        return _eight_bits(watercolour(image, cover, detail, seed=seed))
    return _eight_bits(oil(image, detail, Brushes(seed=seed)))


def _detail(layers: Layers, samples: int) -> Floats:
    """Return 1 (H, W) on eyes, lashes, brows and the line of the lips, softly; less on the lips."""
    buffers = layers.drawn.buffers
    rest = buffers.rest
    eyes = (buffers.kind == EYE).astype(np.float32)
    hairs = np.clip(layers.hair - layers.mass, 0, 1) * (rest[..., 1] > 2)
    lips = (np.abs(rest[..., 0]) < 2.8) & (rest[..., 1] < -2.2) & (rest[..., 1] > -4.7) & (rest[..., 2] > 8)
    fine = reduced(np.maximum(np.maximum(eyes, hairs), 0.6 * lips).astype(np.float32), samples)
    soft = blurred(fine, 5 * fine.shape[0] / 960)
    return np.asarray(np.clip(soft * 1.4, 0, 1), np.float32)


def _eight_bits(image: Floats) -> Image:
    return np.asarray(np.clip(image * 255 + 0.5, 0, 255), np.uint8)
