"""Cropping to the head: properties that hold for any image, face and frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.face.topology import ALL_EYE_CORNERS
from engines.types import Image, Points
from realtime.portraits.head_crop import FACE_SHARE, HeadCrop, choose_crop, crop_head

sizes = st.sampled_from([(1280, 720), (512, 512), (720, 1280), (640, 480), (320, 240)])
pictures = st.tuples(st.integers(200, 1600), st.integers(200, 1600))


def face(x: float, y: float, height: float) -> Points:
    """Return landmarks of a face of that height with its middle at (x, y) and its eyes at their usual height."""
    spread = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 3)).astype(np.float32)
    spread[0], spread[1], spread[2], spread[3] = (0, -0.5, 0), (0, 0.5, 0), (-0.5, 0, 0), (0.5, 0, 0)
    spread[ALL_EYE_CORNERS, 1] = -0.13
    points: Points = spread * np.array([0.75 * height, height, height], np.float32)
    return points + np.array([x, y, 0], np.float32)


def gradient(width: int, height: int) -> Image:
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.dstack([red, green, 255 - red]).astype(np.uint8)


@settings(deadline=None, max_examples=60)
@given(pictures, sizes, st.floats(0.2, 0.8), st.floats(0.25, 0.75), st.floats(0.1, 0.7))
def test_the_face_is_whole_and_of_a_usual_size(
    picture: tuple[int, int], size: tuple[int, int], across: float, down: float, share: float
) -> None:
    points = face(across * picture[0], down * picture[1], share * min(picture))
    crop = choose_crop(points, picture, size)
    placed = (points[:, :2] - (crop.left, crop.top)) * crop.scale
    assert (placed > 0).all()
    assert (placed < size).all()
    assert 0.28 < np.ptp(placed[:, 1]) / size[1] < 0.66
    assert 0.25 < placed[ALL_EYE_CORNERS, 1].mean() / size[1] < 0.57


@pytest.mark.parametrize("size", [(1280, 720), (512, 512), (640, 480)])
def test_a_roomy_picture_gives_the_usual_portrait(size: tuple[int, int]) -> None:
    points = face(2000, 1500, 500)
    crop = choose_crop(points, (4000, 3000), size)
    placed = (points[:, :2] - (crop.left, crop.top)) * crop.scale
    assert np.ptp(placed[:, 1]) / size[1] == pytest.approx(FACE_SHARE, abs=0.02)
    assert placed[ALL_EYE_CORNERS, 1].mean() / size[1] == pytest.approx(0.42, abs=0.02)
    assert placed[2:4, 0].mean() == pytest.approx(size[0] / 2, abs=0.02 * size[0])
    assert crop.left >= 0
    assert crop.top >= 0
    assert crop.left + size[0] / crop.scale <= 4000
    assert crop.top + size[1] / crop.scale <= 3000


@settings(deadline=None, max_examples=40)
@given(pictures, sizes, st.floats(-300, 300), st.floats(-300, 300), st.floats(0.3, 3))
def test_the_frame_has_exactly_its_size(
    picture: tuple[int, int], size: tuple[int, int], left: float, top: float, scale: float
) -> None:
    left = min(left, picture[0] - 20)
    top = min(top, picture[1] - 20)
    crop = HeadCrop(max(left, 20 - size[0] / scale), max(top, 20 - size[1] / scale), scale)
    image = crop_head(gradient(*picture), crop, size)
    assert image.shape == (size[1], size[0], 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 1.7, 3.0])
def test_nothing_is_distorted_or_shifted(scale: float) -> None:
    picture = gradient(1500, 1500)
    crop = HeadCrop(400.3, 350.7, scale)
    image = crop_head(picture, crop, (200, 160)).astype(float)
    x, y = np.meshgrid(np.arange(200) + 0.5, np.arange(160) + 0.5)
    np.testing.assert_allclose(image[..., 0], (crop.left + x / scale) / 1500 * 255, atol=1.5)
    np.testing.assert_allclose(image[..., 1], (crop.top + y / scale) / 1500 * 255, atol=1.5)


def test_a_continued_picture_has_no_seam_and_no_bars() -> None:
    picture = np.random.default_rng(0).integers(90, 140, (400, 300, 3)).astype(np.uint8)
    image = crop_head(picture, HeadCrop(-200, 20, 1.0), (700, 360)).astype(float)
    assert image.min() > 80
    columns = image.mean(axis=(0, 2))
    assert np.abs(np.diff(columns)).max() < 6
    inside = image[:, 200 + 40 : 500 - 40]
    np.testing.assert_array_equal(inside, picture[20:380, 40:260])


def test_the_inside_of_the_picture_does_not_show_twice() -> None:
    picture = np.full((400, 300, 3), 100, np.uint8)
    picture[150:250, 60:240] = (255, 0, 0)
    image = crop_head(picture, HeadCrop(-300, 0, 1.0), (900, 400))
    assert np.abs(image[:, :290].astype(int) - 100).max() < 12
    assert np.abs(image[:, 610:].astype(int) - 100).max() < 12
