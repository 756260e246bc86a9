"""The lips as a layer: nothing of them stays behind when the mouth becomes small, and nothing is lost at rest."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.face.head import own_pose
from engines.face.topology import LIP_ROWS, MOUTH_CORNERS, OUTER_MOUTH_CORNERS
from engines.mesh.generator import MeshGenerator
from engines.mesh.lip_removal import fill_skin
from engines.mesh.lips import LipLayer, PortraitLips
from engines.types import FaceState, Image, Points
from realtime.portraits.portrait import PortraitPicture
from tests.support.faces import make_motion, polygon_mask, shape_of, with_expression

_OUTLINE = np.concatenate([LIP_ROWS[0][-1], LIP_ROWS[1][-1][::-1]])


@pytest.fixture(scope="module")
def lips(portrait_picture: PortraitPicture) -> PortraitLips:
    pixels = portrait_picture.face.pixels()
    pose = own_pose(pixels)
    return PortraitLips.of(portrait_picture.image, pixels, pose, pose.unproject(pixels))


@pytest.fixture(params=["portrait_picture", "driver_picture"])
def picture(request: pytest.FixtureRequest) -> PortraitPicture:
    """Each of the pictures that ship."""
    value = request.getfixturevalue(request.param)
    assert isinstance(value, PortraitPicture)
    return value


def with_long_line(picture: PortraitPicture) -> PortraitPicture:
    """Return the picture with the line of its lips drawn on beyond the corners, as in drawings and at smiling lips."""
    ends = picture.face.pixels()[OUTER_MOUTH_CORNERS, :2]
    first, last = ends[0] + 0.1 * (ends[0] - ends[1]), ends[1] + 0.1 * (ends[1] - ends[0])
    image = picture.image.copy()
    points = np.rint([first, ends[0], ends[1], last]).astype(np.int32)
    cv2.polylines(image, [points], False, (50, 20, 20), 2, cv2.LINE_AA)
    return replace(picture, image=image)


def pursed(picture: PortraitPicture, driver: FaceState, jaw: float = 0.0) -> Image:
    """Return the portrait with its mouth half as wide."""
    generator = MeshGenerator("painted")
    portrait = generator.prepare(picture.name, picture.image, picture.face)
    neutral = shape_of(driver)
    motion = make_motion(neutral, with_expression(neutral, purse=0.7, jaw=jaw))
    return generator.drive(portrait, motion, None).copy()


def wide_open(picture: PortraitPicture, driver: FaceState) -> Image:
    """Return the portrait with its jaw dropped."""
    generator = MeshGenerator("painted")
    portrait = generator.prepare(picture.name, picture.image, picture.face)
    neutral = shape_of(driver)
    return generator.drive(portrait, make_motion(neutral, with_expression(neutral, jaw=0.5)), None).copy()


def beside_corners(image: Image, face: FaceState, first: float = 0.36) -> NDArray[np.float64]:
    """Return how much darker than what is above and below it the line through the corners of the mouth is.

    From ``first`` mouth widths beside its middle outwards, as shares of the lightness there, (2,).
    """
    ends = face.pixels()[OUTER_MOUTH_CORNERS, :2]
    across = ends[1] - ends[0]
    right, down = across, np.array([-across[1], across[0]])
    light = cv2.GaussianBlur(image, (3, 3), 0).astype(np.float32).mean(axis=2)
    found = []
    for sign in (-1, 1):
        along = ends.mean(axis=0) + sign * np.linspace(first, 0.6, 24)[:, None] * right
        profile = along[:, None] + np.linspace(-0.14, 0.14, 57)[None, :, None] * down
        values = cv2.remap(light, profile.astype(np.float32), np.empty(0, np.int16), cv2.INTER_LINEAR)
        beside = np.minimum(values[:, 0], values[:, -1])
        found.append(((beside - values[:, 8:49].min(axis=1)) / beside).mean())
    return np.array(found)


@pytest.mark.parametrize("jaw", [0.0, 0.2])
def test_pursed_lips_leave_no_line_where_the_corners_were(
    picture: PortraitPicture, driver_face: FaceState, jaw: float
) -> None:
    drawn = with_long_line(picture)
    before = beside_corners(drawn.image, picture.face)
    left_behind = beside_corners(pursed(drawn, driver_face, jaw), picture.face)
    # shading beside the mouth counts as well, but a line is several times as dark
    assert (left_behind < 0.5 * before).all(), (left_behind, before)


def test_no_block_is_left_beside_a_wide_mouth(picture: PortraitPicture, driver_face: FaceState) -> None:
    """The line of shut lips beyond the corners would be stretched as high as the jaw is dropped."""
    drawn = with_long_line(picture)
    before = beside_corners(drawn.image, picture.face, 0.51)
    left_behind = beside_corners(wide_open(drawn, driver_face), picture.face, 0.51)
    assert (left_behind < 0.5 * before).all(), (left_behind, before)


def test_at_rest_lips_and_skin_are_the_portrait(portrait_picture: PortraitPicture, lips: PortraitLips) -> None:
    left, top = lips.corner
    height, width = lips.skin.shape[:2]
    part = portrait_picture.image[top : top + height, left : left + width].astype(float)
    opacity = lips.lips[..., 3:4].astype(float) / 255
    both = lips.skin + opacity * (lips.lips[..., :3] - lips.skin.astype(float))
    assert np.abs(both - part).max() <= 1
    assert not opacity[[0, -1]].any()
    assert not opacity[:, [0, -1]].any()


def test_beneath_the_lips_there_is_skin(portrait_picture: PortraitPicture, lips: PortraitLips) -> None:
    """It is as light and as little red as the skin around the lips."""
    skin = lips.without_lips(portrait_picture.image).astype(float)
    pixels = portrait_picture.face.pixels()
    outline = pixels[_OUTLINE]
    inside = polygon_mask(outline, portrait_picture.face.size)
    around = polygon_mask(outline, portrait_picture.face.size, grow=14) & ~polygon_mask(
        outline, portrait_picture.face.size, grow=8
    )
    redness = skin[..., 0] / skin.sum(axis=2)
    assert abs(redness[inside].mean() - redness[around].mean()) < 0.02
    assert skin[inside].mean() == pytest.approx(skin[around].mean(), rel=0.1)
    assert np.percentile(skin[inside].mean(axis=1), 2) > 0.7 * skin[around].mean()


def test_filled_skin_goes_on_as_the_skin_around_it() -> None:
    """A slope stays a slope, with the grain of what is around."""
    rng = np.random.default_rng(0)
    slope = np.broadcast_to(np.linspace(90, 170, 120)[None, :, None], (90, 120, 3))
    picture = np.clip(slope + rng.normal(0, 4, slope.shape), 0, 255).astype(np.uint8)
    hole = np.zeros((90, 120), np.uint8)
    cv2.ellipse(hole, (60, 45), (30, 18), 0, 0, 360, (255,), -1)
    painted = picture.copy()
    painted[hole > 0] = (200, 20, 30)
    filled = fill_skin(painted, hole, 1.5).astype(float)
    inner = cv2.erode(hole, np.ones((5, 5), np.uint8)) > 0
    assert np.abs(cv2.GaussianBlur(filled, (0, 0), 4) - slope)[inner].max() < 6
    grain = (filled - cv2.GaussianBlur(filled, (0, 0), 2))[inner].std()
    assert 0.5 < grain / (picture - cv2.GaussianBlur(picture.astype(float), (0, 0), 2))[inner].std() < 1.3
    np.testing.assert_array_equal(filled[hole == 0], picture[hole == 0])


@pytest.mark.parametrize("shift", [(0.0, 0.0), (900.0, 0.0), (-900.0, 40.0), (0.0, -2000.0), (150.0, 120.0)])
def test_lips_anywhere_are_drawn_inside_the_box_only(
    portrait_picture: PortraitPicture, lips: PortraitLips, shift: tuple[float, float]
) -> None:
    pixels: Points = portrait_picture.face.pixels()
    pose = own_pose(pixels)
    out = np.zeros((512, 512, 3), np.uint8)
    moved = pixels + np.array([*shift, 0], np.float32)
    LipLayer(lips).draw(out, (60, 70, 500, 490), moved.astype(np.float32), pose.unproject(pixels), pose)
    inside = out[70:490, 60:500]
    assert inside.any() == (shift in ((0.0, 0.0), (150.0, 120.0)))
    out[70:490, 60:500] = 0
    assert not out.any()


def test_a_mouth_without_width_is_drawn(portrait_picture: PortraitPicture, lips: PortraitLips) -> None:
    pixels: Points = portrait_picture.face.pixels()
    pose = own_pose(pixels)
    shape = pose.unproject(pixels)
    for row in (*LIP_ROWS[0], *LIP_ROWS[1]):
        shape[row] = shape[MOUTH_CORNERS[0]]
    out = np.zeros((512, 512, 3), np.uint8)
    LipLayer(lips).draw(out, (0, 0, 512, 512), pose.project(shape), shape, pose)
    assert (out.any(axis=2)).sum() < 4000
