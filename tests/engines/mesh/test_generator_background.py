"""A custom background behind the mesh generator's portrait, and its alpha."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.layers import mesh_raster
from engines.layers.layer import Layer
from engines.mesh.generator import MeshGenerator
from engines.types import FaceState, Image, Motion
from realtime.portraits.background import before, open_background
from realtime.portraits.portrait import PortraitPicture
from tests.support.faces import make_motion, shape_of

GREEN = (0, 255, 0)


@pytest.fixture(scope="module")
def turned(driver_face: FaceState) -> Motion:
    return make_motion(shape_of(driver_face), rotation=np.radians([0.0, 8.0, 12.0]))


def shown(picture: PortraitPicture, name: str, motion: Motion) -> tuple[Image, MeshGenerator]:
    """Return the output before a background, and its generator."""
    generator = MeshGenerator("painted")
    placed, behind = before(picture, open_background(name))
    portrait = generator.prepare(placed.name, placed.image, placed.face, placed.matte, behind)
    return generator.drive(portrait, motion, None).copy(), generator


def test_a_head_that_turns_uncovers_the_new_background(portrait_picture: PortraitPicture, turned: Motion) -> None:
    image, generator = shown(portrait_picture, "#00ff00", turned)
    alpha = generator.alpha()
    assert alpha is not None
    assert (alpha == 0).mean() > 0.1
    assert (image[alpha == 0] == GREEN).all()


def test_the_alpha_is_that_of_the_output(portrait_picture: PortraitPicture, turned: Motion) -> None:
    """The same output over black and over white differs by what is transparent."""
    black, generator = shown(portrait_picture, "black", turned)
    white, _ = shown(portrait_picture, "white", turned)
    alpha = generator.alpha()
    assert alpha is not None
    told = 255 - (white.astype(int) - black).mean(axis=2)
    off = np.abs(told - alpha)
    assert np.percentile(off, 99) < 6
    assert off.mean() < 1


def test_the_alpha_moves_with_the_head(
    portrait_picture: PortraitPicture, driver_face: FaceState, turned: Motion
) -> None:
    _, generator = shown(portrait_picture, "transparent", turned)
    moved = generator.alpha()
    assert moved is not None
    moved = moved.copy()
    placed, behind = before(portrait_picture, open_background("transparent"))
    portrait = generator.prepare(placed.name, placed.image, placed.face, placed.matte, behind)
    generator.drive(portrait, make_motion(shape_of(driver_face)), None)
    still = generator.alpha()
    assert still is not None
    assert placed.matte is not None
    assert np.abs(still.astype(int) - placed.matte).mean() < 1
    assert (np.abs(moved.astype(int) - still) > 128).mean() > 0.005


def test_a_portrait_without_a_matte_has_no_alpha(portrait_picture: PortraitPicture, turned: Motion) -> None:
    generator = MeshGenerator("painted")
    portrait = generator.prepare("plain", portrait_picture.image, portrait_picture.face)
    generator.drive(portrait, turned, None)
    assert generator.alpha() is None


def test_triangles_that_lie_in_the_background_need_not_be_drawn(
    portrait_picture: PortraitPicture, driver_face: FaceState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few of them are drawn where there is a matte, and the output is the same as with all."""
    shape = shape_of(driver_face)
    turns = [make_motion(shape, rotation=np.radians(angles)) for angles in ([0, 0, 0], [12, -25, 8], [-15, 20, -12])]

    def outputs() -> tuple[list[Image], int]:
        generator, drawn = MeshGenerator("painted"), []
        draw = mesh_raster.draw_mesh

        def noting(
            points: NDArray[np.float32], source: NDArray[np.float32], triangles: NDArray[np.int32], *others: Any
        ) -> None:
            drawn.append(len(triangles))
            draw(points, source, triangles, *others)

        with monkeypatch.context() as patch:
            patch.setattr(mesh_raster, "draw_mesh", noting)
            picture = portrait_picture
            portrait = generator.prepare(picture.name, picture.image, picture.face, picture.matte)
            images = [generator.drive(portrait, turn, None).copy() for turn in turns]
        return images, sum(drawn)

    some, few = outputs()
    monkeypatch.setattr(Layer, "shows", lambda _, corners: np.ones(len(corners), bool))
    every, all_of_them = outputs()
    assert few < all_of_them
    for left, right in zip(some, every, strict=True):
        np.testing.assert_array_equal(left, right)
