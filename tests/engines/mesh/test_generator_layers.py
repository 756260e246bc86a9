"""The layers of a moving portrait: a background that stands still, soft edges, and nothing torn."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from engines.face.topology import OVAL
from engines.mesh.generator import MeshGenerator
from engines.types import FaceState, Image, Mask, Points
from realtime.portraits.portrait import PortraitPicture
from tests.support.faces import make_motion, shape_of, with_expression

GREEN = np.array([20, 235, 40], np.uint8)


@pytest.fixture(scope="module")
def neutral(driver_face: FaceState) -> Points:
    return shape_of(driver_face)


@pytest.fixture(scope="module")
def matte(portrait_picture: PortraitPicture) -> Mask:
    assert portrait_picture.matte is not None
    return portrait_picture.matte


def before(picture: PortraitPicture, behind: Image) -> PortraitPicture:
    """Return the portrait before another background."""
    assert picture.matte is not None
    share = picture.matte[..., None] / 255
    image = np.asarray(picture.image * share + behind * (1 - share) + 0.5, np.uint8)
    return replace(picture, image=image)


def show(
    picture: PortraitPicture, neutral: Points, degrees: tuple[float, float, float], jaw: float = 0.0
) -> tuple[Image, Image]:
    """Return the portrait at rest and with its head turned about the axes of the image."""
    generator = MeshGenerator("painted")
    portrait = generator.prepare(picture.name, picture.image, picture.face, picture.matte)
    rest = generator.drive(portrait, make_motion(neutral), None).copy()
    expression = with_expression(neutral, jaw=jaw)
    return rest, generator.drive(portrait, make_motion(neutral, expression, rotation=np.radians(degrees)), None).copy()


def bars(size: int, period: int = 16) -> Image:
    """Return a fence: upright bars with soft edges."""
    wave = 128 + 90 * np.sin(2 * np.pi * np.arange(size) / period)
    return np.ascontiguousarray(np.broadcast_to(wave[None, :, None], (size, size, 3)).astype(np.uint8))


@pytest.mark.parametrize("roll", [-15, 15])
def test_a_fence_behind_a_head_that_tilts_stays_straight(
    portrait_picture: PortraitPicture, neutral: Points, matte: Mask, roll: float
) -> None:
    """Where the phase of the bars in a row says that they are, beside the head as it was."""
    fence = bars(512)
    _, out = show(before(portrait_picture, fence), neutral, (0, 0, roll))
    beyond = cv2.dilate(matte, np.ones((25, 25), np.uint8)) == 0
    columns = np.arange(512)
    checked, worst = 0, 0.0
    for row in range(0, 400, 4):
        for first in range(0, 512 - 48, 16):
            part = slice(first, first + 48)
            # what the head moved over is no fence
            if not beyond[row, part].all() or np.abs(out[row, part].astype(int) - fence[row, part]).max() > 60:
                continue
            wave = np.exp(-2j * np.pi * columns[part] / 16)
            turn = np.angle((out[row, part, 1] - 128.0) @ wave) - np.angle((fence[row, part, 1] - 128.0) @ wave)
            worst = max(worst, abs((turn + np.pi) % (2 * np.pi) - np.pi) * 16 / (2 * np.pi))
            checked += 1
    assert checked > 100
    assert worst <= 0.5


def test_far_from_the_head_nothing_changes(portrait_picture: PortraitPicture, neutral: Points, matte: Mask) -> None:
    rest, out = show(portrait_picture, neutral, (0, 20, 10))
    far = cv2.dilate(matte, np.ones((161, 161), np.uint8)) == 0
    assert far.any()
    np.testing.assert_array_equal(out[far], portrait_picture.image[far])
    np.testing.assert_array_equal(rest[matte == 0], portrait_picture.image[matte == 0])


def test_hair_moves_with_the_head_and_the_lower_edge_stands_still(
    portrait_picture: PortraitPicture, neutral: Points
) -> None:
    """A mark on the hair moves with one on the forehead, as they do on one head."""
    top = np.rint(portrait_picture.face.pixels()[OVAL[0], :2]).astype(int)
    image = portrait_picture.image.copy()
    marks = [top - np.array([0, 30]), top + np.array([0, 24])]
    colours = [GREEN, GREEN[::-1]]
    for mark, colour in zip(marks, colours, strict=True):
        cv2.circle(image, mark.tolist(), 6, colour.tolist(), -1)
    rest, out = show(replace(portrait_picture, image=image), neutral, (0, 0, 12))
    moved = [
        np.argwhere(np.abs(out.astype(int) - colour).max(axis=2) < 60).mean(axis=0)[::-1] - mark
        for mark, colour in zip(marks, colours, strict=True)
    ]
    far, near = (float(np.linalg.norm(move)) for move in moved)
    assert near > 8
    assert 1.0 < far / near < 1.6
    assert np.abs(out[-2:].astype(int) - rest[-2:]).mean() < 1


@pytest.mark.parametrize("degrees", [(0, 0, 15), (0, 20, 0), (12, -12, 0)])
def test_no_halo_of_the_old_background_moves_along(
    portrait_picture: PortraitPicture, neutral: Points, degrees: tuple[float, float, float]
) -> None:
    """Before green, what is neither green nor as dark as hair beside the moved hair would be a halo."""
    flat = np.full((512, 512, 3), GREEN, np.uint8)
    _, out = show(before(portrait_picture, flat), neutral, degrees)
    _, other = show(before(portrait_picture, np.full_like(flat, (230, 20, 235))), neutral, degrees)
    difference = out.astype(int) - other
    # a pixel shows its background by the share that the two differ by; what does not must not be green at all
    share = np.clip(difference[..., 1] / (235 - 20), 0, 1)
    hair = (share < 0.02) & (np.arange(512)[:, None] < 330)
    greenish = out[..., 1].astype(int) - np.maximum(out[..., 0], out[..., 2])
    assert (greenish[hair] > 40).mean() < 0.002


def test_a_wide_mouth_and_a_turn_tear_nothing_at_the_borders(
    portrait_picture: PortraitPicture, neutral: Points
) -> None:
    """A picture cropped so close that the head touches all borders keeps covering them."""
    face = portrait_picture.face
    full = np.full((512, 512), 255, np.uint8)
    tight = replace(portrait_picture, matte=full, face=face)
    rest, out = show(tight, neutral, (10, 10, 10), jaw=0.4)
    for border in (np.s_[:3], np.s_[:, :3], np.s_[:, -3:]):
        assert out[border].astype(int).min() > 0.3 * rest[border].astype(int).min() - 12
