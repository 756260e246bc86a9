"""Folds that go with an expression, measured against the same expression of a picture that has none."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.face.topology import BROW_UPPER_ROWS, FOREHEAD_TOP
from engines.mesh.generator import MeshGenerator
from engines.mesh.shading import NASOLABIAL, FaceShading, ShadedLayer
from engines.types import FaceState, Image, Points
from realtime.portraits.portrait import PortraitPicture
from tests.support.faces import make_motion, shape_of, with_expression


@pytest.fixture(scope="module")
def neutral(driver_face: FaceState) -> Points:
    return shape_of(driver_face)


@pytest.fixture(scope="module")
def textured(portrait_picture: PortraitPicture) -> PortraitPicture:
    """Return a face of one colour with the grain of a photograph."""
    noise = np.random.default_rng(0).normal(0, 6, portrait_picture.image.shape[:2])[..., None]
    image = np.clip(150 + cv2.GaussianBlur(noise, (0, 0), 0.8)[..., None] * 2, 0, 255)
    return replace(portrait_picture, image=np.repeat(image, 3, axis=2).astype(np.uint8), matte=None)


def shading_of(picture: PortraitPicture) -> FaceShading:
    return FaceShading.of(picture.image, picture.face.pixels(), (0, 0), picture.image.shape[:2])


def packed_grey(grey: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the pixels of an opaque layer with these grey levels."""
    return (255 << 24 | grey << 16 | grey << 8 | grey).astype(np.uint32)


def shaded(picture: PortraitPicture, neutral: Points, **expression: float) -> Image:
    """Return the grey levels of the picture's pixels as they are shaded for an expression."""
    grey = picture.image[..., 0].astype(np.int64)
    packed = packed_grey(grey)
    layer = ShadedLayer(packed, shading_of(picture))
    layer.update(with_expression(neutral, **expression), neutral)  # type: ignore[arg-type]
    return np.asarray(layer.pixels & 255, np.uint8)


def darkest(change: Image, points: Points) -> float:
    """Return how much darker the darkest of the pixels around some points is."""
    x, y = np.rint(points[:, :2]).astype(int).T
    return float(
        min(change[row - 4 : row + 5, column - 4 : column + 5].min() for column, row in zip(x, y, strict=True))
    )


def test_a_smile_draws_the_folds_beside_the_mouth(textured: PortraitPicture, neutral: Points) -> None:
    change = shaded(textured, neutral, smile=0.15).astype(int) - textured.image[..., 0]
    pixels = textured.face.pixels()
    for fold in NASOLABIAL:
        assert darkest(change, pixels[list(fold[1:4])]) < -12
    assert change.max() > 2
    chin = np.rint(pixels[152, :2]).astype(int)
    assert not change[chin[1] - 15 : chin[1], chin[0] - 5 : chin[0] + 5].any()


def test_raised_brows_draw_lines_on_the_forehead(textured: PortraitPicture, neutral: Points) -> None:
    change = shaded(textured, neutral, brows=0.2).astype(int) - textured.image[..., 0]
    pixels = textured.face.pixels()
    brows = pixels[np.concatenate(BROW_UPPER_ROWS), :2].mean(axis=0)
    column = change[int(pixels[FOREHEAD_TOP, 1]) : int(brows[1]), int(brows[0])]
    dark = column < -3
    assert (np.diff(dark.astype(int)) == 1).sum() == 3
    assert column.min() > -25


def test_one_side_smiles_alone(textured: PortraitPicture, neutral: Points) -> None:
    both = with_expression(neutral, smile=0.15)
    right = np.where(neutral[:, :1] < 0, both, neutral)
    grey = textured.image[..., 0].astype(np.int64)
    layer = ShadedLayer(packed_grey(grey), shading_of(textured))
    layer.update(right, neutral)
    change = np.abs((layer.pixels & 255).astype(np.int64) - grey)
    middle = int(textured.face.pixels()[4, 0])
    assert change[:, :middle].sum() > 20 * max(int(change[:, middle:].sum()), 1)


def test_back_at_rest_nothing_is_left(textured: PortraitPicture, neutral: Points) -> None:
    grey = textured.image[..., 0].astype(np.int64)
    packed = packed_grey(grey)
    layer = ShadedLayer(packed, shading_of(textured))
    layer.update(with_expression(neutral, smile=0.2, brows=0.2), neutral)
    assert (layer.pixels != packed).any()
    layer.update(neutral, neutral)
    np.testing.assert_array_equal(layer.pixels, packed)


def test_a_flat_drawing_gets_no_folds(portrait_picture: PortraitPicture, neutral: Points) -> None:
    flat = replace(portrait_picture, image=np.full_like(portrait_picture.image, 150), matte=None)
    assert len(shading_of(flat).where) == 0
    np.testing.assert_array_equal(shaded(flat, neutral, smile=0.2), 150)


def test_no_channel_is_brighter_than_its_opacity(textured: PortraitPicture, neutral: Points) -> None:
    """The colours of a layer are premultiplied: more would glow at soft edges."""
    packed = np.full(textured.image.shape[:2], 100 << 24 | 99 << 16 | 98 << 8 | 100, np.uint32)
    layer = ShadedLayer(packed, shading_of(textured))
    layer.update(with_expression(neutral, smile=0.2, brows=0.2), neutral)
    assert (layer.pixels >> 24 == 100).all()
    for channel in range(3):
        assert ((layer.pixels >> (8 * channel)) & 0xFF).max() <= 100


def test_the_generator_shows_them(textured: PortraitPicture, neutral: Points) -> None:
    generator = MeshGenerator("painted")
    portrait = generator.prepare("textured", textured.image, textured.face)
    smiling = make_motion(neutral, with_expression(neutral, smile=0.2))
    out = generator.drive(portrait, smiling, None)
    smooth = cv2.GaussianBlur(out[..., 0].astype(np.float32), (0, 0), 1.5)
    x, y = textured.face.pixels()[206, :2].astype(int)
    assert smooth[y - 25 : y + 25, x - 25 : x + 25].min() < 150 - 12
