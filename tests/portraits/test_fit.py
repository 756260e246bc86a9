"""Fitting pictures of any shape: what ``auto`` takes, and what holds for each way."""

from __future__ import annotations

import numpy as np
import pytest

from engines.types import FaceState, Image, Mask
from realtime.portraits.fit import FittedPicture, fit_picture
from realtime.portraits.settings import Fit
from tests.support.pictures import bust, in_picture

SIZES = [(1280, 720), (640, 480), (512, 512), (360, 640)]


def fitted(image: Image, size: tuple[int, int], fit: Fit) -> FittedPicture:
    """Fit a picture that ``bust`` has drawn; its matte is what is blue."""
    height, width = image.shape[:2]
    _, _, points = bust(width, height)

    def blue(picture: Image, face: FaceState) -> Mask:
        assert face.size == (picture.shape[1], picture.shape[0])
        return np.where(picture[..., 2] > picture[..., 0].astype(int) + 20, 255, 0).astype(np.uint8)

    return fit_picture(image, in_picture(points, (width, height)), size, fit, blue)


def shown(result: FittedPicture) -> Image:
    """Return the frame as it is shown."""
    return result.image if result.mount is None else result.mount.show(result.image).copy()


def busy(image: Image) -> Image:
    """Return the picture with a background full of structures."""
    x, y = np.meshgrid(np.arange(image.shape[1]), np.arange(image.shape[0]))
    stripes = np.where((x // 12 + y // 16) % 2, 60, 0)[..., None]
    background = image[..., 2:] <= image[..., :1].astype(int) + 20
    return np.asarray(image - np.where(background, stripes, 0), np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", ["auto", "crop", "extend", "blur"])
def test_the_frame_has_its_size_and_the_face_is_where_the_head_is(size: tuple[int, int], fit: Fit) -> None:
    result = fitted(bust(400, 500)[0], size, fit)
    assert shown(result).shape == (size[1], size[0], 3)
    assert result.face.size == (result.image.shape[1], result.image.shape[0])
    assert result.matte is not None
    assert result.matte.shape == result.image.shape[:2]
    middle = result.face.pixels()[:, :2].mean(axis=0).round().astype(int)
    assert result.matte[middle[1], middle[0]] == 255
    np.testing.assert_allclose(result.image[middle[1], middle[0]].astype(int), (40, 60, 110), atol=14)


@pytest.mark.parametrize("size", SIZES)
def test_auto_continues_a_plain_background_and_frames_a_busy_one(size: tuple[int, int]) -> None:
    plain = bust(400, 500)[0]
    assert fitted(plain, (1280, 720), "auto").fit == "extend"
    assert fitted(busy(plain), (1280, 720), "auto").fit == "blur"
    whole = fitted(bust(size[0] * 2, size[1] * 2)[0], size, "auto")
    assert whole.fit in ("crop", "extend")


def test_a_border_of_a_scan_is_not_seen() -> None:
    image = bust(400, 500)[0]
    image[:, :3], image[:, -3:], image[:3], image[-3:] = 255, 255, 255, 255
    for fit in ("crop", "extend", "blur"):
        assert (shown(fitted(image, (1280, 720), fit)) > 240).all(axis=2).sum() == 0, fit


def test_a_card_has_its_own_edge_and_a_still_dark_ground() -> None:
    result = fitted(busy(bust(400, 500)[0]), (1280, 720), "blur")
    assert result.mount is not None
    image = shown(result)
    left, top, right, bottom, radius = result.mount.window
    assert top > 0
    assert bottom < 720
    ground = np.concatenate([image[:, : left - 60], image[:, right + 60 :]], axis=1).astype(float)
    assert ground.mean() < 100
    assert np.abs(np.diff(ground, axis=0)).max() < 8, "the ground is blurred"
    corner = image[top : top + radius // 6, left : left + radius // 6].astype(float)
    assert corner.mean() < ground.mean() + 30, "the corner is round"
    columns = image[360, left - 6 : left + 6].astype(float).mean(axis=1)
    assert np.abs(np.diff(columns)).max() > 12, "the edge is crisp"


def test_nothing_moves_beyond_the_edge_of_a_card() -> None:
    result = fitted(busy(bust(400, 500)[0]), (1280, 720), "blur")
    assert result.mount is not None
    still = shown(result)
    outside = result.mount.window.alpha((1280, 720)) == 0
    moved = result.mount.show(np.full_like(result.image, 255)).copy()
    np.testing.assert_array_equal(moved[outside], still[outside])
    assert (moved[~outside] != still[~outside]).any(axis=1).mean() > 0.99
    np.testing.assert_array_equal(shown(result), still)


def test_the_chin_is_never_followed_by_a_blur() -> None:
    for fit in ("crop", "extend"):
        result = fitted(bust(400, 400)[0], (1280, 720), fit)
        assert result.mount is None
        bottom = result.image[-3:, 600:680].astype(float)
        np.testing.assert_allclose(bottom, np.broadcast_to((40.0, 60.0, 110.0), bottom.shape), atol=14)
